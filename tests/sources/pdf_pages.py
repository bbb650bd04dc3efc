"""PDFs written by hand for tests: a few objects, fonts that every reader knows (nothing embedded)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from hagane.core.types import Blob

_LATIN = "<< /Type /Font /Subtype /Type1 /BaseFont /{} /Encoding /WinAnsiEncoding >>"
_JAPANESE = (
    "<< /Type /Font /Subtype /Type0 /BaseFont /KozMinPr6N-Regular-{0} /Encoding /{0} /DescendantFonts [3 0 R] >>"
)
_FONTS = {
    "F1": _LATIN.format("Helvetica"),
    "F2": _LATIN.format("Helvetica-Bold"),
    "JH": _JAPANESE.format("UniJIS-UCS2-H"),
    "JV": _JAPANESE.format("UniJIS-UCS2-V"),
}
_DESCENDANT = (
    "<< /Type /Font /Subtype /CIDFontType0 /BaseFont /KozMinPr6N-Regular /DW 1000 "
    "/CIDSystemInfo << /Registry (Adobe) /Ordering (Japan1) /Supplement 6 >> "
    "/FontDescriptor << /Type /FontDescriptor /FontName /KozMinPr6N-Regular /Flags 4 /FontBBox [-437 -340 1147 1317] "
    "/ItalicAngle 0 /Ascent 880 /Descent -120 /CapHeight 742 /StemV 80 >> >>"
)


def show(text: str, x: float, y: float, *, size: float = 10, font: str = "JH", turn: str = "1 0 0 1") -> str:
    """Content-stream operators that print `text` with its baseline at (x, y)."""
    if font.startswith("J"):
        written = f"<{text.encode('utf-16-be').hex()}>"
    else:
        written = "(" + text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") + ")"
    return f"BT /{font} {size} Tf {turn} {x} {y} Tm {written} Tj ET\n"


def rule(x0: float, y0: float, x1: float, y1: float) -> str:
    return f"0.5 w {x0} {y0} m {x1} {y1} l S\n"


def pdf_bytes(pages: Sequence[str], *, extra: str = "", info: str = "", encrypt: str = "") -> bytes:
    """A PDF with these content streams; `extra` goes into each page (MediaBox, CropBox, Rotate)."""
    box = "" if "/MediaBox" in extra else "/MediaBox [0 0 400 600] "
    fonts = " ".join(f"/{name} {value}" for name, value in _FONTS.items())
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", _DESCENDANT, f"<< /Font << {fonts} >> >>"]
    kids = []
    for content in pages:
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
        stream = len(objects)
        objects.append(f"<< /Type /Page /Parent 2 0 R {box}{extra} /Resources 4 0 R /Contents {stream} 0 R >>")
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    trailer = "/Root 1 0 R"
    for key, value in (("Info", info), ("Encrypt", encrypt)):
        if value:
            objects.append(value)
            trailer += f" /{key} {len(objects)} 0 R"
    return _file(objects, trailer)


def _file(objects: Sequence[str], trailer: str) -> bytes:
    out = b"%PDF-1.7\n"
    offsets = []
    for number, value in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{value}\nendobj\n".encode("latin-1")
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n" + "".join(f"{at:010d} 00000 n \n" for at in offsets)
    ids = "/ID [<00112233445566778899aabbccddeeff> <00112233445566778899aabbccddeeff>]"
    end = f"trailer\n<< /Size {len(objects) + 1} {trailer} {ids} >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + (table + end).encode("latin-1")


def blob(path: Path, data: bytes | None = None) -> Blob:
    """The file (written first when `data` is given) as a parser receives it."""
    if data is not None:
        path.write_bytes(data)
    data = path.read_bytes()
    return Blob(str(path), path.name, len(data), hashlib.sha256(data).hexdigest())
