"""Verbs of the source viewer: a cited place of a document version, its page as a picture, the original.

Each looks up the label first and is on record. What may not be seen looks like what does not exist.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hagane.core.errors import NotFoundError, SourceError
from hagane.core.types import Block, Box, Document, Principal
from hagane.ledger.records import Record, Version

from .documents import Shown, show
from .rendering import Picture
from .wire import Project

DPI = 110
SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
N_BLOCKS = 250  # of a long text at a time
N_BEFORE = 40  # blocks shown in front of the marked one
N_CHARS = 120_000
_ID = re.compile(r"d_[0-9a-f]{16}")
_VERSION = re.compile(r"[0-9a-f]{12}")
_CELLS = re.compile(r"([A-Z]{1,3})(\d{1,7})(?::([A-Z]{1,3})(\d{1,7}))?")


@dataclass(frozen=True, slots=True)
class Spot:
    """What a citation points at. Only what the format has is set."""

    page: int | None = None
    start: int | None = None
    end: int | None = None
    cell: str | None = None
    box: Box | None = None
    at: int | None = None  # first block, or row of a sheet, to show: turning pages of a long text

    def marks(self, start: int | None, end: int | None) -> bool:
        """Whether the characters from `start` to `end` meet the marked ones."""
        if start is None or end is None or self.start is None or self.end is None or self.start >= self.end:
            return False
        return start < self.end and end > self.start


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text, marked or not."""

    text: str
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """A block as it is shown: its text in parts, or (kind "table") rows of cells."""

    kind: str
    parts: tuple[Part, ...] = ()
    level: int = 0
    rows: tuple[tuple[Part, ...], ...] = ()
    left_out: str | None = None  # why it is not searched


@dataclass(frozen=True, slots=True)
class SheetCell:
    """A cell of a worksheet with its spans."""

    text: str = ""
    rows: int = 1
    columns: int = 1
    marked: bool = False
    strong: bool = False
    number: bool = False


@dataclass(frozen=True, slots=True)
class SheetView:
    """Some rows of a worksheet: column letters, then (row number, cells)."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[SheetCell, ...]], ...]
    before: int | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A place of a document version. `kind` says what is set: page (picture), sheet, or text (items)."""

    document: str
    path: str
    title: str
    media: str
    label: str
    version: Version
    versions: tuple[Version, ...]
    kind: str
    page: int
    pages: int
    spot: Spot
    width: float = 0.0
    height: float = 0.0
    boxes: tuple[Box, ...] = ()
    sheet: SheetView | None = None
    items: tuple[Item, ...] = ()
    before: int | None = None  # where the blocks in front of these begin
    after: int | None = None
    failed: bool = False  # the picture could not be made; the text is shown
    meta: dict[str, str] = field(default_factory=dict)


def view(project: Project, document: str, *, by: Principal, version: str | None = None, spot: Spot | None = None) -> View:
    """The place `spot` of a document, in the current version or the one of an old citation.
    Raises: NotFoundError, also for what `by` may not see; RefusedError when it was set aside."""
    spot = spot or Spot()
    shown = _shown(project, document, by=by, version=version)
    doc = shown.document
    page = _page_of(doc, spot)
    made = View(
        document=shown.record.id, path=shown.version.path, title=doc.title, media=doc.media, label=str(shown.version.label),
        version=shown.version, versions=tuple(shown.versions), kind="text", page=page, pages=doc.pages, spot=spot,
        meta={key: doc.meta[key] for key in ("date", "author", "from") if doc.meta.get(key)},
    )  # fmt: skip
    try:
        if _is_pictured(doc.media):
            picture = _picture(project, shown, page, by=by)
            made = replace(made, kind="page", width=picture.width, height=picture.height, boxes=_boxes(doc, spot, page))
        elif doc.media == SHEET:
            return replace(made, kind="sheet", sheet=_sheet(project, shown, page, spot, by=by))
    except SourceError:
        made = replace(made, failed=True)
    return _with_text(made, shown)


def page_image(
    project: Project, document: str, page: int, *, by: Principal, version: str | None = None, dpi: int = DPI
) -> bytes:
    """A page as PNG. Raises: as `view`; SourceError when it cannot be shown."""
    shown = _shown(project, document, by=by, version=version, page=page)
    if not _is_pictured(shown.document.media) or not 1 <= page <= shown.document.pages:
        raise NotFoundError("there is no such page")
    return _picture(project, shown, page, by=by, dpi=dpi).png


def original(project: Project, document: str, *, by: Principal, version: str | None = None) -> tuple[str, bytes]:
    """The file's name and its bytes as they were read. Of a container only when everything in it may be read.
    Raises: NotFoundError, SourceError, StorageError."""
    _check_ids(document, version)
    project.require_synced()
    record = project.ledger.documents.find(document, clearance=by.clearance)
    wanted = version or record.version
    project.ledger.audit.record("download", principal=by.name, document=record.id, version=wanted or None)
    sha256 = project.ledger.documents.version(wanted, clearance=by.clearance).sha256 if wanted else record.sha256
    if wanted and project.ledger.documents.version(wanted, clearance=by.clearance).document != record.id:
        raise NotFoundError(f"no version {version!r}")
    data = _bytes(project, record, sha256, by=by)
    return record.path.rpartition("/")[2], data


def _shown(project: Project, document: str, *, by: Principal, version: str | None, page: int | None = None) -> Shown:
    _check_ids(document, version)
    return show(project, document, by=by, version=version)


def _check_ids(document: str, version: str | None) -> None:
    if not _ID.fullmatch(document):  # a path may fit several documents; the viewer goes by ids
        raise NotFoundError("there is no such document")
    if version is not None and not _VERSION.fullmatch(version):
        raise NotFoundError("there is no such version")


def _bytes(project: Project, record: Record, sha256: str, *, by: Principal) -> bytes:
    """The original's bytes; for a part of a container the part's own."""
    ledger = project.ledger
    part, root = _part_of(project, record, by=by)
    if not part and not ledger.documents.may_read_whole(record.id, clearance=by.clearance):
        raise NotFoundError("the original is not kept")
    data = ledger.blobs.open(sha256)
    return project.renderer.part(data, path=root, part=part) if part else data


def _part_of(project: Project, record: Record, *, by: Principal) -> tuple[str, str]:
    """The name of `record` inside its file ("" for the file itself), and the file's path."""
    top = record
    while top.parent:
        above = project.ledger.documents.get([top.parent], clearance=by.clearance).get(top.parent)
        if above is None:
            raise NotFoundError("the original is not kept")
        top = above
    return record.path[len(top.path) + 2 :], top.path


def _is_pictured(media: str) -> bool:
    return media == "application/pdf" or media.startswith("image/")


def _picture(project: Project, shown: Shown, page: int, *, by: Principal, dpi: int = DPI) -> Picture:
    known = project.renderer.known(shown.version.id, page, dpi)
    if known is not None:
        return known
    part, root = _part_of(project, shown.record, by=by)
    data = project.ledger.blobs.open(shown.version.sha256)
    return project.renderer.page(shown.version.id, data, path=root, part=part, page=page, dpi=dpi)


def _page_of(document: Document, spot: Spot) -> int:
    page = spot.page
    if page is None and spot.start is not None:
        inside = (b for b in document.blocks if spot.marks(b.place.start, b.place.end) and b.place.page)
        page = next((b.place.page for b in inside), None)
    page = page or 1
    if not 1 <= page <= max(1, document.pages):
        raise NotFoundError(f"there is no page {page}; the last one is {document.pages}")
    return page


def _boxes(document: Document, spot: Spot, page: int) -> tuple[Box, ...]:
    """The printed lines that are marked on `page`; the cited box where there are none."""
    lines = [line for block in document.blocks if spot.marks(block.place.start, block.place.end) for line in block.lines]
    found = tuple(line.box for line in lines if line.page == page and spot.marks(line.start, line.end))
    return found or ((spot.box,) if spot.box and spot.page in (None, page) else ())


# --- text


def _with_text(made: View, shown: Shown) -> View:
    """`made` with the text of its page, or with a part of a long text around the mark."""
    document, spot = shown.document, made.spot
    numbered = list(enumerate(document.blocks))
    if document.pages > 1 or made.kind == "page":
        numbered = [(at, b) for at, b in numbered if (b.place.page or 1) == made.page]
    first = spot.at if spot.at is not None else _first_shown(numbered, spot)
    first = max(0, min(first, len(numbered) - 1))
    some, n_chars = [], 0
    for at, block in numbered[first : first + N_BLOCKS]:
        n_chars += len(block.text)
        if some and n_chars > N_CHARS:
            break
        some.append((at, block))
    end = first + len(some)
    items = tuple(_items(some, shown, spot))
    return replace(made, items=items, before=max(0, first - N_BLOCKS) if first else None, after=end if end < len(numbered) else None)


def _first_shown(numbered: Sequence[tuple[int, Block]], spot: Spot) -> int:
    marked = next((n for n, (_, block) in enumerate(numbered) if spot.marks(block.place.start, block.place.end)), 0)
    return max(0, marked - N_BEFORE) if marked > N_BLOCKS - N_BEFORE else 0


def _items(some: Sequence[tuple[int, Block]], shown: Shown, spot: Spot) -> Iterator[Item]:
    rows: list[tuple[Part, ...]] = []
    delimiter = _delimiter(shown.document)
    for at, block in some:
        marked = spot.marks(block.place.start, block.place.end) or (spot.start is None and spot.cell is not None and block.place.cell == spot.cell)
        if block.kind == "row":
            rows.append(tuple(Part(text, marked) for text in _cells_of(block.text, delimiter)))
            continue
        if rows:
            yield Item("table", rows=tuple(rows))
            rows = []
        yield Item(block.kind, _parts(block, spot), block.level, left_out=shown.dropped.get(at))
    if rows:
        yield Item("table", rows=tuple(rows))


def _parts(block: Block, spot: Spot) -> tuple[Part, ...]:
    start = block.place.start
    if start is None or not spot.marks(start, block.place.end):
        return (Part(block.text),)
    a, b = max(0, (spot.start or 0) - start), min(len(block.text), (spot.end or 0) - start)
    parts = (Part(block.text[:a]), Part(block.text[a:b], True), Part(block.text[b:]))
    return tuple(part for part in parts if part.text)


def _delimiter(document: Document) -> str:
    if document.media in ("text/csv", "text/tab-separated-values"):
        from hagane.sources.sheets import sniff

        return sniff(document.text[:100_000])
    return "\t"


def _cells_of(text: str, delimiter: str) -> list[str]:
    """A row's text in cells: tabs, the delimiter of a CSV file, or the bars of a Markdown table."""
    if delimiter == "\t" and "\t" not in text and text.lstrip().startswith("|"):
        return [cell.strip() for cell in text.strip().strip("|").split("|")]
    try:
        return next(csv.reader([text], delimiter=delimiter)) if delimiter != "\t" else text.split("\t")
    except (csv.Error, StopIteration):
        return [text]


# --- worksheets


def _sheet(project: Project, shown: Shown, page: int, spot: Spot, *, by: Principal) -> SheetView:
    marked = _range_of(spot.cell) if spot.page in (None, page) else None
    row = spot.at or (marked[0] if marked else 1)
    part, root = _part_of(project, shown.record, by=by)
    data = project.ledger.blobs.open(shown.version.sha256)
    given = project.renderer.sheet(data, path=root, part=part, page=page, row=row)
    return _laid_out(given, marked)


def _laid_out(given: dict[str, Any], marked: tuple[int, int, int, int] | None) -> SheetView:
    cells = given["cells"]
    first_column = min((c[1] for c in cells), default=1)
    last_column = max((c[1] + c[3] - 1 for c in cells), default=1)
    own = {(c[0], c[1]): c for c in cells}
    covered = {(r, k) for c in cells for r in range(c[0], c[0] + c[2]) for k in range(c[1], c[1] + c[3])} - set(own)
    rows = []
    for row in range(given["first"], given["end"] + 1):
        line = []
        for column in range(first_column, last_column + 1):
            if (row, column) in covered:
                continue
            cell = own.get((row, column))
            _, _, n_rows, n_columns, text, strong, number = cell or (row, column, 1, 1, "", False, False)
            hit = marked is not None and _meets((row, column, row + n_rows - 1, column + n_columns - 1), marked)
            line.append(SheetCell(text, n_rows, n_columns, hit, strong, number))
        rows.append((row, tuple(line)))
    from hagane.sources.sheets import column_letters

    return SheetView(
        given["name"],
        tuple(column_letters(column) for column in range(first_column, last_column + 1)),
        tuple(rows),
        before=max(1, given["first"] - 200) if given["first"] > 1 else None,
        after=given["end"] + 1 if given["end"] < given["last"] else None,
    )


def _range_of(cell: str | None) -> tuple[int, int, int, int] | None:
    """Top, left, bottom, right of "Sheet!B3:D3"; None for what is no such place."""
    found = _CELLS.fullmatch((cell or "").rpartition("!")[2])
    if found is None:
        return None
    left, top, right, bottom = found.groups()
    return int(top), _number(left), int(bottom or top), _number(right or left)


def _number(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number


def _meets(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] <= other[2] and one[2] >= other[0] and one[1] <= other[3] and one[3] >= other[1]
