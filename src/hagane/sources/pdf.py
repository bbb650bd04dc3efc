"""PDF to one Document: text with boxes, tables, columns, vertical writing; scanned pages through OCR.

Reads with pdfium. Boxes are points of the page as shown, origin top left.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from ..core.errors import SourceError
from ..core.text import one_line
from ..core.types import Aside, Blob, Box, Document
from .pdf_blocks import Sheet, write
from .pdf_chars import View, chars, give_width, rules
from .pdf_layout import page_items

if TYPE_CHECKING:
    from .ocr import OcrEngine, Scan

NEEDS_OCR = "needs_ocr"
_MAX_BYTES = 1 << 30
_MAX_PAGES = 5_000
_OCR_DPI = 200
_MAX_PIXELS = 40_000_000  # of a rendered page; larger ones are rendered coarser
_POOR_TITLE = re.compile(
    r"microsoft (word|excel|powerpoint)|untitled|無題|名称未設定|^\(?(anonymous|unspecified)\)?$|\.(docx?|xlsx?|pptx?|pdf|indd|tex|html?)$"
    r"|^(?=.*[\d_])[A-Za-z0-9_\-]+$",  # scan_20261102
    re.I,
)


class PdfParser:
    """Parser of `application/pdf`. Without an engine, a file with scanned pages is set aside as
    `needs_ocr` (detail: how many pages), so that the caller may route it to an OCR worker."""

    def __init__(self, ocr: OcrEngine | None = None, *, max_pages: int = _MAX_PAGES) -> None:
        self._ocr = ocr
        self._max_pages = max_pages

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """Raises: SourceError damaged, encrypted, too_large, empty."""
        with _opened(blob) as pdf:
            if len(pdf) > self._max_pages:
                raise SourceError(f"{len(pdf)} pages, more than {self._max_pages}", reason="too_large")
            scanned = [at for at in range(len(pdf)) if _is_scanned_at(pdf, at)]
            if scanned and self._ocr is None:
                yield Aside("", NEEDS_OCR, f"{len(scanned)} of {len(pdf)} pages")
                return
            yield self._document(pdf, blob, frozenset(scanned))

    def _document(self, pdf: Any, blob: Blob, scanned: frozenset[int]) -> Document:
        sheets: list[Sheet] = []
        scans: list[Scan] = []
        for at in range(len(pdf)):
            try:
                page = pdf[at]
            except pdfium.PdfiumError:
                sheets.append(Sheet(at + 1, 0, 0, ()))
                continue
            if at in scanned:
                sheet, scan = self._read_scan(page, at + 1)
                scans.append(scan)
            else:
                sheet = _read_page(page, at + 1)
            sheets.append(sheet)
            page.close()
        written = write(sheets)
        if not written.text.strip():
            raise SourceError("no text on any page", reason="empty", hint="nothing to read in this file")
        meta = _meta(pdf)
        if scans:
            from .ocr import ocr_meta

            meta.update(ocr_meta(scans), ocr_pages=",".join(str(at + 1) for at in sorted(scanned)))
        return Document(
            name="", media="application/pdf", title=_title(meta.pop("title", ""), written.blocks, blob.path),
            text=written.text, blocks=written.blocks, pages=len(pdf), meta=meta,
        )  # fmt: skip

    def _read_scan(self, page: Any, number: int) -> tuple[Sheet, Scan]:
        assert self._ocr is not None
        width, height = page.get_size()
        scale = _scale(width, height, _OCR_DPI)
        image = page.render(scale=scale).to_numpy()
        scan = self._ocr.read(image, scale=1 / scale)
        return Sheet(number, width, height, scan.items, scanned=True), scan


def _read_page(page: Any, number: int) -> Sheet:
    view = View(page)
    give_width(page)
    textpage = page.get_textpage()
    try:
        items = page_items(chars(textpage, view), rules(page, view), view)
    finally:
        textpage.close()
    return Sheet(number, view.width, view.height, items)


@contextmanager
def _opened(blob: Blob) -> Iterator[Any]:
    if blob.size > _MAX_BYTES:
        raise SourceError(f"{blob.size} bytes, more than {_MAX_BYTES}", reason="too_large")
    try:  # pdfium looks for the file behind a link; one that lies in memory has no other name
        pdf = pdfium.PdfDocument(Path(blob.file).read_bytes() if blob.file.startswith("/proc/") else blob.file)
    except pdfium.PdfiumError as cause:
        code = getattr(cause, "err_code", None)
        if code == raw.FPDF_ERR_PASSWORD or "assword" in str(cause):
            raise SourceError(
                "the PDF asks for a password", reason="encrypted", hint="save it without a password"
            ) from cause
        raise SourceError("not a readable PDF", reason="damaged", hint="open and save it again") from cause
    except (OSError, ValueError) as cause:
        raise SourceError("the PDF cannot be opened", reason="unreadable") from cause
    try:
        if len(pdf) == 0:
            raise SourceError("a PDF without pages", reason="empty")
        yield pdf
    finally:
        pdf.close()


def needs_ocr(blob: Blob) -> bool:
    """Has the PDF pages that can only be read by OCR? Cheap: looks at text counts and image sizes.
    Raises: SourceError as the parser."""
    with _opened(blob) as pdf:
        return any(_is_scanned_at(pdf, at) for at in range(min(len(pdf), _MAX_PAGES)))


def _is_scanned_at(pdf: Any, at: int) -> bool:
    try:
        page = pdf[at]
    except pdfium.PdfiumError:
        return False
    try:
        return _is_scanned(page)
    finally:
        page.close()


def _is_scanned(page: Any) -> bool:
    """A picture covers most of the page and there is hardly any readable text."""
    width, height = page.get_size()
    if width * height < 72 * 72 or _picture_share(page) < 0.4:
        return False
    textpage = page.get_textpage()
    try:
        text = textpage.get_text_range(0, min(textpage.count_chars(), 4000)) if textpage.count_chars() else ""
    finally:
        textpage.close()
    signs = [char for char in text if not char.isspace()]
    if len(signs) < 20:
        return True
    garbage = sum(char in "\ufffd\x00" or "\ue000" <= char <= "\uf8ff" or ord(char) < 32 for char in signs)
    return garbage > 0.3 * len(signs)


def _picture_share(page: Any) -> float:
    """How much of the page its pictures cover, at most 1 (overlaps counted twice)."""
    x0, y0, x1, y1 = page.get_bbox()
    area = max(1.0, (x1 - x0) * (y1 - y0))
    covered = 0.0
    for at, thing in enumerate(page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=4)):
        if at > 2000:
            break
        left, bottom, right, top = thing.get_bounds()
        covered += max(0.0, min(right, x1) - max(left, x0)) * max(0.0, min(top, y1) - max(bottom, y0))
    return min(1.0, covered / area)


def _meta(pdf: Any) -> dict[str, str]:
    """title, author, created, modified, attachments: what the file says of itself."""
    said: Mapping[str, str] = pdf.get_metadata_dict(skip_empty=True)
    meta = {}
    for name, key in (("title", "Title"), ("author", "Author"), ("subject", "Subject"), ("keywords", "Keywords")):
        value = one_line(said.get(key, "").replace("\x00", ""), limit=300)
        if value and not _POOR_TITLE.search(value):
            meta[name] = value
    for name, key in (("created", "CreationDate"), ("modified", "ModDate")):
        date = iso_date(said.get(key, ""))
        if date:
            meta[name] = date
    attached = pdf.count_attachments()
    if attached > 0:
        meta["attachments"] = str(attached)
    return meta


def iso_date(text: str) -> str:
    """`D:20241231235959+09'00'` to `2024-12-31T23:59:59+09:00`; "" when it is no PDF date.
    Source: ISO 32000-1, 7.9.4."""
    found = re.match(r"(?:D:)?(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:([-+])(\d{2})'?(\d{2})?|(Z))?", text)
    if not found:
        return ""
    year, month, day, hour, minute, second, sign, zone_h, zone_m, utc = found.groups()
    date = f"{year}-{month or '01'}-{day or '01'}"
    if hour is None:
        return date
    zone = f"{sign}{zone_h}:{zone_m or '00'}" if sign else ("+00:00" if utc else "")
    return f"{date}T{hour}:{minute or '00'}:{second or '00'}{zone}"


def _title(said: str, blocks: Any, path: str) -> str:
    """The file's own title if it is one, else its title or first heading, else the file's name."""
    stem = PurePosixPath(path.replace("\\", "/")).stem
    if len(said) > 1 and not _POOR_TITLE.search(said) and said != stem and "\ufffd" not in said:
        return said
    for kind in ("title", "heading"):
        for block in blocks:
            if block.kind == kind and block.place.page == 1:
                return one_line(block.text, limit=120)
    return stem


def _scale(width: float, height: float, dpi: float) -> float:
    scale = dpi / 72
    pixels = width * height * scale * scale
    return scale if pixels <= _MAX_PIXELS else scale * (_MAX_PIXELS / pixels) ** 0.5


def render_page(blob: Blob, page: int, *, dpi: int = 150, box: Box | None = None) -> bytes:
    """A page (counted from 1) as PNG bytes, or only the part of it inside `box` (points, as shown).
    Raises: SourceError; ValueError for a page that the file does not have."""
    with _opened(blob) as pdf:
        if not 1 <= page <= len(pdf):
            raise ValueError(f"page {page} of {len(pdf)}")
        sheet = pdf[page - 1]
        width, height = sheet.get_size()
        scale = _scale(width, height, dpi)
        crop = (0.0, 0.0, 0.0, 0.0)
        if box is not None:
            x0, y0, x1, y1 = max(0.0, box[0]), max(0.0, box[1]), min(width, box[2]), min(height, box[3])
            if x1 - x0 < 1 or y1 - y0 < 1:
                raise ValueError(f"box {box} is outside the page")
            crop = (x0, height - y1, width - x1, y0)
        image = sheet.render(scale=scale, crop=crop).to_pil()
        stream = io.BytesIO()
        image.save(stream, "PNG")
        return stream.getvalue()


def page_size(blob: Blob, page: int) -> tuple[float, float]:
    """Width and height of a page (counted from 1) as shown, in points. Raises: as `render_page`."""
    with _opened(blob) as pdf:
        if not 1 <= page <= len(pdf):
            raise ValueError(f"page {page} of {len(pdf)}")
        width, height = pdf[page - 1].get_size()
        return width, height
