"""Tables: ruled grids, and rows of aligned cells without rules; each row gets a reading with its headers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..core.types import Box
from .pdf_chars import Rule
from .pdf_lines import Segment, bands, glue, is_cjk

_NEAR = 2.5  # points: rules nearer than this are one
_NUMBER = re.compile(r"[\s¥$€%+\-−△▲,.\d０-９()/:年月日円個台名件人]+")


@dataclass(slots=True)
class Grid:
    """A ruled table: its column and row borders and which border pieces are drawn."""

    xs: list[float]
    ys: list[float]
    flat: list[Rule]
    upright: list[Rule]

    @property
    def box(self) -> Box:
        return self.xs[0], self.ys[0], self.xs[-1], self.ys[-1]

    def has_floor(self, row: int, column: int) -> bool:
        """Is the border under the cell drawn?"""
        y, x = self.ys[row + 1], (self.xs[column] + self.xs[column + 1]) / 2
        return any(abs(r.y0 - y) <= _NEAR and r.x0 - 1 <= x <= r.x1 + 1 for r in self.flat)

    def has_wall(self, row: int, column: int) -> bool:
        """Is the border to the right of the cell drawn?"""
        x, y = self.xs[column + 1], (self.ys[row] + self.ys[row + 1]) / 2
        return any(abs(r.x0 - x) <= _NEAR and r.y0 - 1 <= y <= r.y1 + 1 for r in self.upright)


@dataclass(slots=True)
class Row:
    """One row: its printed lines, each the segments of one band, and the text of each cell."""

    lines: list[list[Segment]]
    cells: list[str]
    bold: bool = False


@dataclass(slots=True)
class Table:
    rows: list[Row] = field(default_factory=list)
    ruled: bool = False
    names: list[str] | None = None  # of the columns
    named: bool = False  # the first row holds the names


def _clusters(values: Sequence[float]) -> list[float]:
    found: list[list[float]] = []
    for value in sorted(values):
        if found and value - found[-1][-1] <= _NEAR:
            found[-1].append(value)
        else:
            found.append([value])
    return [sum(group) / len(group) for group in found]


def grids(rules: Sequence[Rule]) -> list[Grid]:
    """Rules that touch each other and part a rectangle into at least two columns and two cells."""
    if len(rules) > 6000:
        return []
    groups = _touching(rules)
    found: list[Grid] = []
    for group in groups:
        flat = [rule for rule in group if rule.is_flat]
        upright = [rule for rule in group if not rule.is_flat]
        xs, ys = _clusters([r.x0 for r in upright]), _clusters([r.y0 for r in flat])
        if len(xs) >= 3 and len(ys) >= 2:
            found.append(Grid(xs, ys, flat, upright))
    found.sort(key=lambda g: (g.box[2] - g.box[0]) * (g.box[3] - g.box[1]), reverse=True)
    kept: list[Grid] = []
    for grid in found:
        if not any(_inside(grid.box, other.box) for other in kept):
            kept.append(grid)
    return kept


def _inside(inner: Box, outer: Box) -> bool:
    return (
        inner[0] >= outer[0] - 1 and inner[1] >= outer[1] - 1 and inner[2] <= outer[2] + 1 and inner[3] <= outer[3] + 1
    )


def _touching(rules: Sequence[Rule]) -> list[list[Rule]]:
    """Connected components of rules; a sweep over x keeps it far from quadratic."""
    order = sorted(range(len(rules)), key=lambda i: rules[i].x0)
    parent = list(range(len(rules)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    active: list[int] = []
    for i in order:
        rule = rules[i]
        active = [j for j in active if rules[j].x1 >= rule.x0 - _NEAR]
        for j in active:
            other = rules[j]
            if other.y0 <= rule.y1 + _NEAR and rule.y0 <= other.y1 + _NEAR:
                parent[root(i)] = root(j)
        active.append(i)
    groups: dict[int, list[Rule]] = {}
    for i, rule in enumerate(rules):
        groups.setdefault(root(i), []).append(rule)
    return list(groups.values())


def cell_text(parts: Sequence[Segment]) -> str:
    """The lines of one cell as one text."""
    text = ""
    for band in bands(parts):
        for part in band:
            text += glue(text, part.text) + part.text
    return text.strip()


def ruled_table(grid: Grid, parts: Sequence[Segment]) -> Table | None:
    """The segments inside a grid as rows; a merged cell is read in every row that it covers."""
    n_rows, n_columns = len(grid.ys) - 1, len(grid.xs) - 1
    owner = _merged_cells(grid, n_rows, n_columns)
    content: dict[tuple[int, int], list[Segment]] = {}
    printed: list[list[Segment]] = [[] for _ in range(n_rows)]
    for part in parts:
        row = _slot(grid.ys, (part.v0 + part.v1) / 2)
        column = _slot(grid.xs, (part.u0 + part.u1) / 2)
        content.setdefault(owner[row][column], []).append(part)
        printed[row].append(part)
    if len(content) < 2 or len({cell[1] for cell in content}) < 2:
        return None
    text = {cell: cell_text(segments) for cell, segments in content.items()}
    table = Table(ruled=True)
    for row in range(n_rows):
        if not printed[row]:
            continue
        lines = bands(printed[row])
        if _is_unresolved(grid, lines):
            table.rows += [Row([band], [part.text for part in band]) for band in lines]
            continue
        cells: list[str] = []
        for column in range(n_columns):
            cell = owner[row][column]
            written = text.get(cell, "")
            repeated = column > 0 and owner[row][column - 1] == cell
            far = cell[0] != row and len(written) > 40  # a long text is not a label of the rows beside it
            cells.append("" if far or (repeated and row > 0) else written)
        table.rows.append(Row(lines, cells, all(part.bold for part in printed[row])))
    if len({len(row.cells) for row in table.rows}) > 1:
        return table  # some rows are not resolved by the grid: no names
    table = _without_empty_columns(table)
    table.names = headers(table)
    table.named = table.names is not None
    return table


def _is_unresolved(grid: Grid, lines: Sequence[Sequence[Segment]]) -> bool:
    """Does the grid frame several rows of finer cells as one?"""
    n_parts = sum(len(band) for band in lines)
    n_cells = sum(len({_slot(grid.xs, (part.u0 + part.u1) / 2) for part in band}) for band in lines)
    return len(lines) >= 2 and n_parts > 1.3 * n_cells


def _slot(borders: Sequence[float], value: float) -> int:
    for at in range(len(borders) - 2):
        if value < borders[at + 1]:
            return at
    return len(borders) - 2


def _merged_cells(grid: Grid, n_rows: int, n_columns: int) -> list[list[tuple[int, int]]]:
    """For each slot of the grid, the first slot of the cell that it belongs to."""
    owner = [[(row, column) for column in range(n_columns)] for row in range(n_rows)]
    if n_rows * n_columns > 4000:
        return owner
    for row in range(n_rows):
        for column in range(n_columns):
            if column and not grid.has_wall(row, column - 1):
                owner[row][column] = owner[row][column - 1]
            elif row and not grid.has_floor(row - 1, column):
                owner[row][column] = owner[row - 1][column]
    return owner


def _without_empty_columns(table: Table) -> Table:
    used = [c for c in range(len(table.rows[0].cells)) if any(row.cells[c] for row in table.rows)]
    for row in table.rows:
        row.cells = [row.cells[c] for c in used]
    return table


def open_table(lines: Sequence[Sequence[Segment]], gutters: Sequence[float]) -> Table:
    """Bands of aligned segments as rows. `gutters` are places between the columns. A line that leaves
    the first column empty and stands close below goes on in the cells above it."""
    table = Table()
    last_bottom, heights = 0.0, [part.height for band in lines for part in band]
    height = sorted(heights)[len(heights) // 2]
    for band in lines:
        cells: list[list[Segment]] = [[] for _ in range(len(gutters) + 1)]
        for part in band:
            cells[sum(1 for g in gutters if (part.u0 + part.u1) / 2 > g)].append(part)
        top = min(part.v0 for part in band)
        goes_on = table.rows and not cells[0] and top - last_bottom < 0.45 * height
        texts = [cell_text(cell) for cell in cells]
        if goes_on and any(table.rows[-1].cells[0:1]):
            row = table.rows[-1]
            row.lines.append(list(band))
            row.cells = [a + glue(a, b) + b for a, b in zip(row.cells, texts, strict=True)]
        else:
            table.rows.append(Row([list(band)], texts, all(part.bold for part in band)))
        last_bottom = max(part.v1 for part in band)
    return table


def headers(table: Table) -> list[str] | None:
    """The cells of the first row when they name the columns, else None."""
    if len(table.rows) < 2:
        return None
    first, rest = table.rows[0], table.rows[1:]
    filled = [cell for cell in first.cells if cell]
    if len(filled) < max(2, len(first.cells) - 1) or any(_NUMBER.fullmatch(cell) for cell in filled):
        return None
    if any(len(cell) > 30 or cell[-1] in ":：" for cell in filled) or (
        len(set(filled)) < len(filled) and len(filled) < 3
    ):
        return None
    numbers = any(_NUMBER.fullmatch(cell) for row in rest for cell in row.cells if cell)
    differs = first.bold and not all(row.bold for row in rest)
    pairs = len(first.cells) == 2 and not differs and not numbers and not table.ruled
    return None if pairs else first.cells


def reading(row: Row, names: Sequence[str] | None) -> str | None:
    """`品名: ノートPC、単価: 150000`; None when the row's text says it all."""
    if names is None or len(names) != len(row.cells):
        cells = [cell for at, cell in enumerate(row.cells) if cell and (not at or cell != row.cells[at - 1])]
        mark = "、" if any(is_cjk(char) for cell in cells for char in cell) else ", "
        return mark.join(cells) if len(cells) > 1 else None
    pairs = [f"{name}: {cell}" if name else cell for name, cell in zip(names, row.cells, strict=True) if cell]
    mark = "、" if any(is_cjk(char) for pair in pairs for char in pair) else ", "
    return mark.join(pairs)
