"""A second PDF reader finds, in the box of every line and block, what the parser says stands there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(Path(__file__).parent)]
from citations import check  # noqa: E402
from pdf_pages import blob, pdf_bytes, show  # noqa: E402

# Where the two readers do not see the same signs, and why.
APART = {
    "011-google-doc-document_google-doc-document.pdf": "flags: pdfminer gives private-use signs, pdfium leaves them out",
    "015-arabic_habibi.pdf": "Arabic in logical order with ligatures; pdfminer gives the order on paper",
    "015-arabic_habibi-oneline-cmap.pdf": "as above",
    "015-arabic_habibi-rotated.pdf": "as above",
}
SET_ASIDE = {
    "005-libreoffice-writer-password_libreoffice-writer-password.pdf": "encrypted",
    "007-imagemagick-images_imagemagick-ASCII85Decode.pdf": "empty",
    "007-imagemagick-images_imagemagick-CCITTFaxDecode.pdf": "empty",
    "007-imagemagick-images_imagemagick-lzw.pdf": "empty",
}


def page() -> str:
    return (
        show("この規程は、社員の経費について", 140, 420)
        + show("範囲と手続を定める。", 140, 406)
        + show("Travel expenses are paid within 30 days.", 140, 380, font="F1")
        + show("縦の注記です。", 340, 420, font="JV")
        + show("横倒しの注記", 370, 260, turn="0 1 -1 0")
    )


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize(
    "boxes", ["", "/MediaBox [0 0 420 600] /CropBox [100 200 400 500] ", "/MediaBox [50 80 450 680] "]
)
def test_boxes_fit_on_turned_and_cropped_pages(tmp_path, rotation, boxes):
    """Vertical fonts are left out of turned pages: the second reader does not turn their boxes."""
    content = page() if rotation == 0 else page().replace("/JV", "/JH")
    path = tmp_path / "頁.pdf"
    blob(path, pdf_bytes([content], extra=f"{boxes}/Rotate {rotation}"))
    n, wrong = check(path)
    assert n >= 5
    assert wrong == []


def test_a_wrong_quote_would_be_noticed(tmp_path, monkeypatch):
    """The check itself can fail: moved boxes are found."""
    import citations

    path = tmp_path / "頁.pdf"
    blob(path, pdf_bytes([page()]))
    real = citations.quotes
    monkeypatch.setattr(
        citations, "quotes", lambda d: ((p, q, (b[0], b[1] + 12, b[2], b[3] + 12)) for p, q, b in real(d))
    )
    assert len(check(path)[1]) >= 3


def company_pdfs() -> list[Path]:
    return sorted((ROOT / "examples").rglob("*.pdf"))


@pytest.mark.parametrize("path", company_pdfs(), ids=lambda path: path.name)
def test_every_line_of_the_demo_documents_agrees(path):
    assert check(path)[1] == []


@pytest.mark.long
def test_every_line_of_the_real_files_agrees(shared):
    """A file that is in neither list agrees in all its lines, blocks and runs of lines."""
    from hagane.core.errors import SourceError

    total = 0
    for path in sorted((shared / "data" / "files").rglob("*.pdf")):
        if path.name in SET_ASIDE:
            with pytest.raises(SourceError) as caught:
                check(path)
            assert caught.value.reason == SET_ASIDE[path.name], path.name
            continue
        n, wrong = check(path)
        assert path.name in APART or wrong == [], (path.name, wrong[:3])
        total += n
    assert total > 2000
