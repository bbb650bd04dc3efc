"""A second reader for quotes from PDFs: what pdfplumber (pdfminer) finds in a box of the stored file.

It shares no code with the parser. A quote agrees when, white space aside, it equals the characters whose
centre lies in the box, read line by line (or column by column for vertical writing).

    python bench/citations.py FILE.pdf...     every line, block and run of lines of these files
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pdfplumber

from hagane.core.types import Blob, Box, Document
from hagane.sources.pdf import PdfParser

_NOT_WRITTEN = re.compile(r"[\s\x00\u00ad\ufeff\u200b]+")


_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}


def squeeze(text: str) -> str:
    """Without white space and signs that are not printed; ligatures (one glyph, several letters) spelled out."""
    return _NOT_WRITTEN.sub("", text).translate(_LIGATURES)


def shown_chars(page: Any) -> list[dict[str, Any]]:
    """pdfplumber's characters, moved from the media box to the page as shown (its crop box)."""
    across, down = _cut_off(page)
    left, top = page.mediabox[0] + across, page.mediabox[1] + down
    return [
        {**c, "cx": (c["x0"] + c["x1"]) / 2 - left, "cy": (c["top"] + c["bottom"]) / 2 - top, "at": at}
        for at, c in enumerate(page.chars)
    ]


def _cut_off(page: Any) -> tuple[float, float]:
    """What the crop box takes away at the left and at the top of the page as shown. (pdfplumber's own
    `cropbox` is not turned with the page.)"""
    mx0, my0, mx1, my1 = page.page_obj.mediabox
    cx0, cy0, cx1, cy1 = page.page_obj.cropbox or page.page_obj.mediabox
    cx0, cy0, cx1, cy1 = max(cx0, mx0), max(cy0, my0), min(cx1, mx1), min(cy1, my1)
    return {
        0: (cx0 - mx0, my1 - cy1),
        90: (cy0 - my0, cx0 - mx0),
        180: (mx1 - cx1, cy0 - my0),
        270: (my1 - cy1, mx1 - cx1),
    }[page.rotation]


def inside(chars: Sequence[dict[str, Any]], box: Box) -> list[dict[str, Any]]:
    return [c for c in chars if box[0] <= c["cx"] <= box[2] and box[1] <= c["cy"] <= box[3]]


def readings(chars: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The ways to read these characters: lines across, columns down, turned writing, order of the file."""
    yield _in_lines(chars, "cy", "cx", 1, 1)
    yield "".join(c["text"] for c in chars)
    yield _in_lines(chars, "cx", "cy", -1, 1)
    yield _in_lines(chars, "cy", "cx", -1, -1)
    yield _in_lines(chars, "cx", "cy", 1, -1)


def _in_lines(chars: Sequence[dict[str, Any]], across: str, along: str, down: int, forth: int) -> str:
    lines: list[list[dict[str, Any]]] = []
    for c in sorted(chars, key=lambda c: down * c[across]):
        if lines and abs(c[across] - lines[-1][-1][across]) < 0.35 * max(c["size"], 1):
            lines[-1].append(c)
        else:
            lines.append([c])
    return "".join(c["text"] for line in lines for c in sorted(line, key=lambda c: (forth * c[along], c["at"])))


def agrees(quote: str, chars: Sequence[dict[str, Any]], box: Box) -> bool:
    found = inside(chars, box)
    want = squeeze(quote)
    return any(squeeze(text) == want for text in readings(found))


def blob_of(path: Path) -> Blob:
    data = path.read_bytes()
    return Blob(str(path), path.name, len(data), hashlib.sha256(data).hexdigest())


def quotes(document: Document) -> Iterator[tuple[int, str, Box]]:
    """(page, quote, box) of every line, every block and the runs of up to four lines inside a block."""
    for block in document.blocks:
        lines = block.lines
        runs = {(i, j) for i in range(len(lines)) for j in range(i + 1, min(i + 4, len(lines)) + 1)} | {(0, len(lines))}
        for i, j in sorted(runs):
            part = lines[i:j]
            box = (
                min(line.box[0] for line in part), min(line.box[1] for line in part),
                max(line.box[2] for line in part), max(line.box[3] for line in part),
            )  # fmt: skip
            yield part[0].page, document.text[part[0].start : part[-1].end], box


def check(path: Path) -> tuple[int, list[tuple[int, str, str]]]:
    """(quotes checked, [(page, quote, what the second reader finds)] of those that differ)."""
    wrong: list[tuple[int, str, str]] = []
    n = 0
    documents = [part for part in PdfParser().read(blob_of(path)) if isinstance(part, Document)]
    with pdfplumber.open(path) as pdf:
        chars = {page.page_number: shown_chars(page) for page in pdf.pages}
    for document in documents:
        for page, quote, box in quotes(document):
            n += 1
            if not agrees(quote, chars[page], box):
                wrong.append((page, quote, _in_lines(inside(chars[page], box), "cy", "cx", 1, 1)))
    return n, wrong


def main(paths: Sequence[str]) -> int:
    failed = 0
    for name in paths:
        n, wrong = check(Path(name))
        failed += len(wrong)
        print(f"{n - len(wrong)}/{n}\t{name}")
        for page, quote, found in wrong[:5]:
            print(f"  p{page} {quote[:70]!r} != {found[:70]!r}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
