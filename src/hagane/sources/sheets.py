"""Worksheets and CSV: where tables begin and end on a sheet, and which rows are titles and notes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..core.types import Aside, Blob, Block, BlockKind, Document, Place
from .build import Builder, fold, sliced
from .decode import decode
from .files import read_bytes
from .grid import Cell, Grid, column_names, count_header, is_value, table_rows
from .limits import Limits

_LONGEST_TITLE = 60
_NOTE = ("※", "＊", "*", "注", "備考", "(注", "（注")
_DELIMITERS = (",", "\t", ";", "|")


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a sheet as a block to be: kind, place, verbatim text, reading."""

    kind: BlockKind
    row: int
    first: int
    last: int
    text: str
    reading: str
    level: int = 0


def layout(cells: Sequence[Cell]) -> Iterator[Item]:
    """The rows of a sheet in order: titles, tables with their headers, notes.

    Blank rows part tables; a part without a header of its own goes on under the one before it.
    """
    names: dict[int, str] = {}
    regions = [part for region in _regions(cells) for part in _side_by_side(region)]
    for number, region in enumerate(regions):
        is_last = number + 1 == len(regions)
        titles, body, notes = _split(region)
        for line in titles:
            yield _single(line, is_title=bool(body) or (not is_last and len(titles) <= 2))
        if body:
            grid = Grid(body)
            n_header = count_header(grid) or _lone_header(grid, regions[number + 1 : number + 2])
            known = {} if n_header or titles else names
            names = column_names(grid, n_header) if n_header else _fitting(known, grid)
            yield from _table(body, grid, n_header, names)
        for line in notes:
            yield _single(line, is_title=False)
        if not body and titles:
            names = {}


def _table(body: Sequence[Cell], grid: Grid, n_header: int, names: dict[int, str]) -> Iterator[Item]:
    width = max(cell.column + cell.columns for cell in body) - min(cell.column for cell in body)
    for row in table_rows(body, n_header=n_header, names=names):
        line = grid.distinct(row.row)
        alone = len(line) == 1 and row.first == row.last and line[0].row == row.row
        if alone and not row.is_header and width >= 3 and not line[0].numeric:
            cell = line[0]
            if cell.said.startswith(_NOTE) or cell.columns * 2 >= width or cell.is_strong:
                yield _single(line, is_title=not cell.said.startswith(_NOTE))
                continue
        yield Item("row", row.row, row.first, row.last, row.text, row.reading)


def _single(line: Sequence[Cell], *, is_title: bool) -> Item:
    cell = line[0]
    short = len(cell.said) <= _LONGEST_TITLE and not cell.said.rstrip().endswith("。") and not cell.numeric
    titled = is_title and short and not cell.said.startswith((*_NOTE, "（", "("))
    kind: BlockKind = "heading" if titled else "paragraph"
    return Item(kind, cell.row, cell.column, cell.column, cell.text, fold(cell.said), 2 if titled else 0)


def _regions(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """Runs of rows without a blank row between them."""
    region: list[Cell] = []
    reached = -1
    for cell in sorted((c for c in cells if c.text), key=lambda c: (c.row, c.column)):
        if region and cell.row > reached + 1:
            yield region
            region = []
        region.append(cell)
        reached = max(reached, cell.row + cell.rows - 1)
    if region:
        yield region


def _side_by_side(region: list[Cell]) -> list[list[Cell]]:
    """Tables beside each other, parted by a blank column, each two or more rows and columns."""
    covered = sorted({c for cell in region for c in range(cell.column, cell.column + min(cell.columns, 500))})
    groups: list[list[int]] = []
    for column in covered:
        if groups and column == groups[-1][-1] + 1:
            groups[-1].append(column)
        else:
            groups.append([column])
    if len(groups) < 2:
        return [region]
    parts = [[cell for cell in region if group[0] <= cell.column <= group[-1]] for group in groups]
    for part in parts:
        wide = len({cell.column for cell in part}) >= 2
        if not wide or len({cell.row for cell in part}) < 2 or not count_header(Grid(_split(part)[1] or part)):
            return [region]
    return parts


def _split(region: list[Cell]) -> tuple[list[list[Cell]], list[Cell], list[list[Cell]]]:
    """Rows of a single text above the table, the table, rows of a single text below it."""
    grid = Grid(region)
    rows = grid.rows
    own: dict[int, list[Cell]] = {}
    for cell in region:
        own.setdefault(cell.row, []).append(cell)
    first, last = 0, len(rows)
    while first < last and _is_single(grid, own, rows[first]):
        first += 1
    while last > first and _is_single(grid, own, rows[last - 1]) and _is_note(own[rows[last - 1]][0]):
        last -= 1
    body = [cell for cell in region if first < last and rows[first] <= cell.row <= rows[last - 1]]
    return [own[row] for row in rows[:first]], body, [own[row] for row in rows[last:]]


def _is_single(grid: Grid, own: dict[int, list[Cell]], row: int) -> bool:
    """True when a row holds one text and nothing reaches into it."""
    return len(own[row]) == 1 and grid.distinct(row) == own[row]


def _is_note(cell: Cell) -> bool:
    return not cell.numeric and (cell.said.startswith(_NOTE) or len(cell.said) > 15)


def _lone_header(grid: Grid, following: Sequence[list[Cell]]) -> int:
    """How many rows of `grid` are the header of the part behind a blank row; 0 when that has its own."""
    rows = grid.rows
    if not following or len(rows) > 3 or any(is_value(cell) for row in rows for cell in grid.distinct(row)):
        return 0
    below = Grid(_split(following[0])[1])
    if count_header(below) or not any(is_value(cell) for row in below.rows[:3] for cell in below.distinct(row)):
        return 0
    return len(rows) if _fitting(column_names(grid, len(rows)), below) else 0


def _fitting(names: dict[int, str], grid: Grid) -> dict[int, str]:
    """Known headers, when the columns of this part lie under them."""
    here = {column for row in grid.rows for column in grid.at[row]}
    return names if len(here) >= 2 and here <= names.keys() else {}


def column_letters(column: int) -> str:
    """1 -> A, 27 -> AA."""
    letters = ""
    while column > 0:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def add_sheet(made: Builder, name: str, cells: Sequence[Cell], *, page: int) -> None:
    """Appends one worksheet, rows and columns counted from 1: its name, then its rows with their cells."""
    items = list(layout(cells))
    if not items:
        return
    made.add("heading", name, level=1, page=page)
    for item in items:
        first, last = (f"{column_letters(column)}{item.row}" for column in (item.first, item.last))
        cell = f"{name}!{first}" if first == last else f"{name}!{first}:{last}"
        made.add(item.kind, item.text, level=item.level, reading=item.reading, page=page, cell=cell)


class CsvParser:
    """CSV and TSV: the document's text is the decoded file, each row a slice of it."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError empty, too_large, unsupported."""
        text, codec = decode(read_bytes(blob))
        delimiter = sniff(text)
        cells: list[Cell] = []
        spans: list[tuple[int, int]] = []
        for number, (start, end) in enumerate(records(text)):
            spans.append((start, end))
            for column, value in enumerate(_fields(text[start:end], delimiter)):
                if shown := fold(value):
                    cells.append(Cell(number, column, shown))
        blocks = []
        for item in layout(cells):
            start, end = spans[item.row]
            piece = text[start:end]
            start += len(piece) - len(piece.lstrip())
            piece = piece.strip()
            place = Place(start=start, end=start + len(piece))
            blocks.append(Block(item.kind, piece, place, item.level, None if item.reading == piece else item.reading))
        media = "text/tab-separated-values" if delimiter == "\t" else "text/csv"
        yield sliced(blob, text, blocks, media=media, limits=self._limits, meta={"encoding": codec})


def sniff(text: str) -> str:
    """The delimiter under which most of the first rows agree on the number of columns."""
    sample = [text[start:end] for start, end in _first(records(text), 50)]
    best, score = ",", 0.0
    for delimiter in _DELIMITERS:
        widths = [len(_fields(line, delimiter)) for line in sample if line.strip()]
        usual = max(set(widths), key=widths.count, default=1)
        agreed = widths.count(usual) / max(1, len(widths)) * (1 + min(usual, 20) / 100)
        if usual > 1 and agreed > score:
            best, score = delimiter, agreed
    return best


def _first(found: Iterator[tuple[int, int]], n: int) -> Iterator[tuple[int, int]]:
    for _, item in zip(range(n), found, strict=False):
        yield item


def records(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each record; quoted fields may hold line ends. A quote that never closes
    ends with its line, so that one typing error does not swallow the file."""
    at, n = 0, len(text)
    while at < n:
        end = text.find("\n", at)
        end = n if end < 0 else end
        if text.count('"', at, end) % 2:
            closed = _closing(text, at, end)
            end = closed if closed >= 0 else end
        yield at, end
        at = end + 1


def _closing(text: str, at: int, end: int) -> int:
    n_quotes = text.count('"', at, end)
    for _ in range(200):
        following = text.find("\n", end + 1)
        following = len(text) if following < 0 else following
        n_quotes += text.count('"', end, following)
        end = following
        if n_quotes % 2 == 0:
            return end
        if end >= len(text):
            break
    return -1


def _fields(line: str, delimiter: str) -> list[str]:
    escape = "\\" if f"\\{delimiter}" in line else None
    try:
        return next(csv.reader([line], delimiter=delimiter, escapechar=escape, skipinitialspace=True), [])
    except csv.Error:  # a field beyond the module's limit, or a stray quote
        return line.split(delimiter)
