"""Tables of every format: spans resolved, headers found, rows read aloud."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ..core.errors import SourceError
from .build import Builder, fold

_MOST_CELLS = 3_000_000  # covered positions of one table; spans beyond are an attack
_NUMBER = re.compile(
    r"[-+−▲△¥$€£￥(]*\d[\d,.]*\)?\s*(?:%|％|円|千円|百万円|億円|万円|ドル|個|名|人|件|日|時間|分|回|台|本|枚|年|ヶ月|か月|kg|km|GB|MB)?"
)
_YEAR = re.compile(r"(?:19|20)\d{2}(?:年度?)?")
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One cell where it stands; `shown` as a person sees it, `text` verbatim."""

    row: int
    column: int
    text: str
    rows: int = 1
    columns: int = 1
    shown: str | None = None
    is_header: bool = False  # the format says so (th, header row)
    is_strong: bool = False  # bold or filled
    is_number: bool | None = None  # None: judged by the text

    @property
    def said(self) -> str:
        return self.text if self.shown is None else self.shown

    @property
    def numeric(self) -> bool:
        return bool(_NUMBER.fullmatch(self.text.strip())) if self.is_number is None else self.is_number


@dataclass(frozen=True, slots=True)
class GridRow:
    """One row: its own cells verbatim, and what it says with headers and merged values."""

    row: int
    first: int  # columns of the outermost own cells with text
    last: int
    text: str
    reading: str
    is_header: bool


@cache
def header_words() -> frozenset[str]:
    """Lower-cased words that head columns: header_words.txt."""
    table = files("hagane.sources").joinpath("header_words.txt").read_text(encoding="utf-8")
    return frozenset(line.strip().lower() for line in table.splitlines() if line.strip() and not line.startswith("#"))


class Grid:
    """Cells with their spans resolved: `at[row][column]` is the cell that covers the place."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.at: dict[int, dict[int, Cell]] = {}
        n_covered = 0
        last_row = max((cell.row for cell in cells), default=0)
        for cell in cells:
            rows = min(cell.rows, last_row - cell.row + 1)
            n_covered += rows * cell.columns
            if n_covered > _MOST_CELLS:
                raise SourceError("its table spans are absurd", reason="hostile")
            for row in range(cell.row, cell.row + rows):
                line = self.at.setdefault(row, {})
                for column in range(cell.column, cell.column + cell.columns):
                    if column not in line or not line[column].said:
                        line[column] = cell
        self.rows = sorted({cell.row for cell in cells})

    def distinct(self, row: int) -> list[Cell]:
        """The different cells with text that cover `row`, left to right."""
        found: dict[int, Cell] = {}
        for _, cell in sorted(self.at.get(row, {}).items()):
            if cell.said:
                found[id(cell)] = cell
        return list(found.values())


def table_rows(
    cells: Sequence[Cell], *, n_header: int | None = None, names: dict[int, str] | None = None
) -> list[GridRow]:
    """Each row that has text of its own. `n_header`: rows of the header, guessed when None;
    `names`: column headers known from elsewhere."""
    grid = Grid(cells)
    if n_header is None:
        n_header = count_header(grid)
    names = names or column_names(grid, n_header)
    own: dict[int, list[Cell]] = {}
    for cell in cells:
        if cell.text:
            own.setdefault(cell.row, []).append(cell)
    made = []
    for index, row in enumerate(grid.rows):
        here = sorted(own.get(row, ()), key=lambda cell: cell.column)
        if not here:
            continue
        is_header = index < n_header
        reading = "、".join(cell.said for cell in here) if is_header else spoken_row(grid, row, names)
        text = "\t".join(cell.text for cell in here)
        made.append(GridRow(row, here[0].column, here[-1].column, text, reading, is_header))
    return made


def add_table(made: Builder, cells: Sequence[Cell], *, n_header: int | None = None, page: int | None = None) -> None:
    """Appends a table's rows to a document being built."""
    for row in table_rows(cells, n_header=n_header):
        made.add("row", row.text, reading=row.reading, page=page)


def spoken_row(grid: Grid, row: int, names: dict[int, str]) -> str:
    """ "品名: ノートPC、単価: 150,000円": merged values included, each once."""
    covered: dict[int, tuple[Cell, list[int]]] = {}
    for column, cell in sorted(grid.at.get(row, {}).items()):
        if cell.said:
            covered.setdefault(id(cell), (cell, []))[1].append(column)
    if not any(names.values()) and len(covered) == 2:
        (key, _), (value, _) = covered.values()
        return f"{fold(key.said).rstrip(':：')}: {fold(value.said)}"
    said = []
    for cell, columns in covered.values():
        heads = list(dict.fromkeys(names[c] for c in columns if names.get(c)))
        name = "・".join(heads) if len(heads) <= 4 else f"{heads[0]}〜{heads[-1]}"
        value = fold(cell.said)
        said.append(f"{name}: {value}" if name and name != value else value)
    return "、".join(said)


def column_names(grid: Grid, n_header: int) -> dict[int, str]:
    """Column to its header; several rows joined as "法人価格 / 税抜"."""
    names: dict[int, list[str]] = {}
    for row in grid.rows[:n_header]:
        for column, cell in grid.at.get(row, {}).items():
            said = fold(cell.said)
            if said and said not in names.setdefault(column, []):
                names[column].append(said)
    return {column: " / ".join(parts) for column, parts in names.items()}


def count_header(grid: Grid) -> int:
    """How many leading rows are the header; 0 when there is none."""
    rows = grid.rows
    if not rows or not grid.at:
        return 0
    n_marked = 0
    while n_marked < len(rows) and (line := grid.distinct(rows[n_marked])) and all(c.is_header for c in line):
        n_marked += 1
    if n_marked:
        return n_marked if n_marked < len(rows) else min(1, len(rows) - 1)
    n = _deep(grid)
    return n if n < len(rows) and _is_header(grid, n) else 0


def _deep(grid: Grid) -> int:
    """How many rows the header would have if there is one: spans of its cells decide."""
    rows = grid.rows
    n = 1
    while n < len(rows):
        line = grid.distinct(rows[n - 1])
        reaches = any(cell.row + cell.rows > rows[n] for cell in line if cell.row >= rows[0])
        below = [cell for cell in grid.distinct(rows[n]) if cell.row == rows[n]]
        split = any(cell.columns > 1 and cell.row == rows[n - 1] and _divides(cell, below) for cell in line)
        if not below or not (reaches or split) or any(is_value(cell) for cell in below):
            break
        n += 1
    return n


def _divides(head: Cell, below: Sequence[Cell]) -> bool:
    inside = [cell for cell in below if head.column <= cell.column < head.column + head.columns]
    return len(inside) > 1


def is_value(cell: Cell) -> bool:
    return cell.numeric and not _YEAR.fullmatch(cell.text.strip())


def _is_header(grid: Grid, n: int) -> bool:
    rows = grid.rows
    heads = [cell for row in rows[:n] for cell in grid.distinct(row)]
    last = grid.distinct(rows[n - 1])
    if len(last) < 2 or any(is_value(cell) or len(cell.said) > _LONGEST_NAME for cell in heads):
        return False
    body = rows[n : n + 12]
    if n > 1 or (all(c.is_strong for c in last) and not all(c.is_strong for c in grid.distinct(body[0]))):
        return True
    if sum(cell.said.strip().lower() in header_words() for cell in last) * 2 >= len(last):
        return True
    widest = max(len(grid.distinct(row)) for row in body)
    if len(last) < widest:
        return False
    for head in last:
        below = [grid.at.get(row, {}).get(head.column) for row in body]
        values = [cell for cell in below if cell is not None and cell.said and cell is not head]
        if values and sum(is_value(cell) for cell in values) * 2 > len(values) and not head.numeric:
            return len(last) > 2 or head is not last[0]
    names = [cell.said for cell in last]
    return len(last) >= 3 and len(set(names)) == len(names) and all(len(name) <= 20 for name in names)
