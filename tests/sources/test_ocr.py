"""OCR: reading order of what was found, pictures of all kinds, and the real models on the demo's scan."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from PIL import Image

from hagane.core.errors import SourceError
from hagane.sources.ocr import ImageParser, OcrEngine, Scan
from hagane.sources.ocr_order import Found, in_order
from hagane.sources.pdf import PdfParser
from hagane.sources.pdf_layout import lines_of

sys.path.insert(0, str(Path(__file__).parent))
from pdf_pages import blob

ROOT = Path(__file__).resolve().parents[2]


def across(text: str, x: float, y: float, *, size: float = 20, tilt: float = 0.0) -> Found:
    return turned(text, x, y, size * len(text), size, tilt)


def down(text: str, x: float, y: float, *, size: float = 20, tilt: float = 0.0) -> Found:
    return turned(text, x, y, size, size * len(text), tilt)


def turned(text: str, x: float, y: float, width: float, height: float, tilt: float) -> Found:
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    cos, sin = math.cos(tilt), math.sin(tilt)
    return Found(text, tuple((px * cos - py * sin, px * sin + py * cos) for px, py in corners), 0.95)


def read(*found: Found) -> list[str]:
    return [line.text for line in lines_of(in_order(found))]


def test_columns_come_from_right_to_left():
    """The detector gives them from left to right."""
    columns = [
        down("三行目です。終わり", 100, 50),
        down("二行目に続きます。", 140, 50),
        down("一行目の縦書き", 180, 50),
    ]
    assert read(*columns) == ["一行目の縦書き", "二行目に続きます。", "三行目です。終わり"]


def test_two_tiers_of_columns_are_read_one_after_the_other():
    upper = [down("上段の縦書きの行", 300 - 40 * i, 50) for i in range(4)]
    lower = [down("下段の縦書きの行", 300 - 40 * i, 300) for i in range(4)]
    assert read(*lower, *upper) == ["上段の縦書きの行"] * 4 + ["下段の縦書きの行"] * 4


def test_ruby_is_left_out():
    assert read(down("春は曙やうやう白く", 100, 50), down("あけぼの", 121, 92, size=9)) == ["春は曙やうやう白く"]
    assert read(across("霧ヶ瀬計器の歴史", 50, 100), across("きりがせ", 52, 89, size=9)) == ["霧ヶ瀬計器の歴史"]


def test_small_print_that_is_no_ruby_stays():
    got = read(across("霧ヶ瀬計器の歴史", 50, 100), across("第3版", 52, 88, size=9))
    assert sorted(got) == ["第3版", "霧ヶ瀬計器の歴史"]


def test_a_tilted_page_keeps_its_lines_apart():
    """At 3 degrees the right end of a line stands lower than the left end of the next one."""
    tilt = math.radians(3)
    lines = [
        across(f"第{i}行の左側はここまで", 50, 100 + 26 * i, tilt=tilt) for i in range(5)
    ] + [across(f"第{i}行の右側", 300, 100 + 26 * i, tilt=tilt) for i in range(5)]  # fmt: skip
    assert read(*lines) == [f"第{i}行の左側はここまで\t第{i}行の右側" for i in range(5)] or read(*lines) == [
        f"第{i}行の左側はここまで 第{i}行の右側" for i in range(5)
    ]


def test_an_open_book_is_two_pages():
    left = [across("左の頁の文がここに続いていきます", 50, 100 + 30 * i) for i in range(6)]
    right = [across("右の頁の文がここに続いていきます", 560, 90 + 31 * i) for i in range(6)]
    got = read(*[piece for pair in zip(right, left, strict=True) for piece in pair])
    assert got == ["左の頁の文がここに続いていきます"] * 6 + ["右の頁の文がここに続いていきます"] * 6


class Fake(OcrEngine):
    """Says how large the pictures were and what colour their first pixel has."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def read(self, image, *, scale=1.0):
        self.seen.append((image.shape, tuple(int(v) for v in image[0, 0])))
        return Scan(in_order([across("休業のお知らせ", 10, 10)]), 0.9, 7, 0)


@pytest.mark.parametrize(("ending", "media"), [
    ("png", "image/png"), ("jpeg", "image/jpeg"), ("tiff", "image/tiff"),
    ("webp", "image/webp"), ("bmp", "image/bmp"), ("gif", "image/gif"),
])  # fmt: skip
def test_each_kind_of_picture_is_read(tmp_path, ending, media):
    path = tmp_path / f"掲示.{ending}"
    Image.new("RGB", (60, 40), (255, 255, 255)).save(path)
    (document,) = ImageParser(Fake()).read(blob(path))
    assert document.media == media
    assert document.text == "休業のお知らせ"
    assert document.blocks[0].place.box == (10, 10, 150, 30)
    assert document.meta["ocr_confidence"] == "0.900"


def test_transparent_pictures_are_read_on_white_and_turned_photos_upright(tmp_path):
    clear = tmp_path / "透明.png"
    Image.new("RGBA", (30, 20), (0, 0, 0, 0)).save(clear)
    turned_photo = tmp_path / "写真.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.new("RGB", (30, 20), (255, 255, 255)).save(turned_photo, exif=exif)
    fake = Fake()
    list(ImageParser(fake).read(blob(clear)))
    list(ImageParser(fake).read(blob(turned_photo)))
    assert [shape for shape, _ in fake.seen] == [(20, 30, 3), (30, 20, 3)]
    assert fake.seen[0][1] == (255, 255, 255)


def test_every_page_of_a_tiff_is_a_page(tmp_path):
    path = tmp_path / "二枚.tiff"
    first, second = Image.new("L", (60, 40), 255), Image.new("1", (50, 70), 1)
    first.save(path, save_all=True, append_images=[second])
    (document,) = ImageParser(Fake()).read(blob(path))
    assert document.pages == 2
    assert [b.place.page for b in document.blocks] == [1, 2]


def test_broken_and_huge_pictures_are_set_aside(tmp_path):
    broken = blob(tmp_path / "壊れ.png", b"\x89PNG\r\n\x1a\n" + b"\x00" * 50)
    with pytest.raises(SourceError) as caught:
        list(ImageParser(Fake()).read(broken))
    assert caught.value.reason == "damaged"
    huge = tmp_path / "巨大.png"
    Image.new("1", (13_000, 12_000), 1).save(huge)
    with pytest.raises(SourceError) as caught:
        list(ImageParser(Fake()).read(blob(huge)))
    assert caught.value.reason == "too_large"


def test_an_empty_picture_says_that_it_is_empty(tmp_path):
    path = tmp_path / "白紙.png"
    Image.new("L", (200, 100), 255).save(path)
    with pytest.raises(SourceError) as caught:
        list(ImageParser().read(blob(path)))
    assert caught.value.reason == "empty"


def test_the_demo_scan_is_read_by_the_shipped_models():
    """Real models, no network: the notice of the power cut, slightly tilted, with a stamp."""
    (path,) = (ROOT / "examples").rglob("停電のお知らせ.pdf")
    (document,) = PdfParser(OcrEngine()).read(blob(path))
    assert document.title == "全館停電のお知らせ"
    assert "・席のパソコンは、退社時に必ず電源を切り、コンセントを抜いてください" in document.text
    assert "16日（月）午前7時に再開します" in document.text
    assert float(document.meta["ocr_confidence"]) > 0.9


def overlap(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The share of `other` that `box` covers."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return max(0.0, width) * max(0.0, height) / ((other[2] - other[0]) * (other[3] - other[1]))


@pytest.mark.long
@pytest.mark.parametrize(("name", "most"), [
    ("tategaki2026-04-24-094138.png", 0.16),  # handwritten, vertical
    ("digidepo_11048278_po_geppo1803_00021.jpg", 0.07),  # printed, vertical, 12 pixels a sign
    ("digidepo_2531162_0024.jpg", 0.09),  # handwritten, an open book
    ("digidepo_3048008_0025.jpg", 0.06),  # printed 1953, an open book with a table
])  # fmt: skip
def test_scans_of_the_diet_library_are_read(shared, name, most):
    """Signs missing or too many against the library's own reading (a multiset: figures are in another order)."""
    import re
    import unicodedata
    from collections import Counter

    path = shared / "data" / "files" / "ndl" / name
    (document,) = ImageParser(OcrEngine()).read(blob(path))
    reading = path.with_suffix(".xml").read_text(encoding="utf-8")
    lines = re.findall(
        r'X="(\d+)" Y="(\d+)" WIDTH="(\d+)" HEIGHT="(\d+)" CONF="[^"]*" PRED_CHAR_CNT="[^"]*" ORDER="\d+" STRING="([^"]*)"',
        reading,
    )
    key = {text: re.sub(r"\s", "", unicodedata.normalize("NFKC", text)) for *_, text in lines}
    want = Counter("".join(key[text] for *_, text in lines))
    got = Counter(re.sub(r"\s", "", unicodedata.normalize("NFKC", document.text)))
    assert sum((want - got).values()) / sum(want.values()) <= most
    ours = {
        re.sub(r"\s", "", unicodedata.normalize("NFKC", document.text[line.start : line.end])): line.box
        for block in document.blocks
        for line in block.lines
    }
    n_same = 0
    for x, y, width, height, text in lines:
        if key[text] in ours and len(key[text]) > 3:
            n_same += 1
            there = (int(x), int(y), int(x) + int(width), int(y) + int(height))
            assert overlap(ours[key[text]], there) > 0.75, text
    assert n_same >= 1
