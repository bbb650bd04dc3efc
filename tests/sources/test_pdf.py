"""PDF to blocks: reading order, headings, tables, vertical writing, running titles, what is set aside."""

from __future__ import annotations

import io
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from hagane.core.errors import SourceError
from hagane.core.types import Aside, Document
from hagane.sources.ocr import Scan
from hagane.sources.ocr_order import Found, in_order
from hagane.sources.pdf import NEEDS_OCR, PdfParser, iso_date, needs_ocr, render_page

sys.path.insert(0, str(Path(__file__).parent))
from pdf_pages import blob, pdf_bytes, rule, show


def parsed(path: Path, *pages: str, **options: str) -> Document:
    (document,) = PdfParser().read(blob(path / "文書.pdf", pdf_bytes(pages, **options)))
    assert isinstance(document, Document)
    for block in document.blocks:
        assert block.text == document.text[block.place.start : block.place.end]
        for line in block.lines:
            assert block.place.start <= line.start < line.end <= block.place.end
            assert line.page == block.place.page
    return document


def texts(document: Document, kind: str | None = None) -> list[str]:
    return [block.text for block in document.blocks if kind is None or block.kind == kind]


def test_lines_of_a_paragraph_are_joined_and_keep_their_boxes(tmp_path):
    """Japanese lines join without a blank, or no sentence would be found across the line break."""
    document = parsed(
        tmp_path,
        show("この規程は、社員が業務のために立て替えた費用の範囲、上限額、", 40, 530)
        + show("承認および精算の手続を定める。", 40, 516)
        + show("次の段落です。", 50, 502),
    )
    assert texts(document) == [
        "この規程は、社員が業務のために立て替えた費用の範囲、上限額、承認および精算の手続を定める。",
        "次の段落です。",
    ]
    first, second = document.blocks[0].lines
    assert document.text[second.start : second.end] == "承認および精算の手続を定める。"
    assert first.box[3] <= second.box[3]
    assert first.box[0] == pytest.approx(40, abs=0.1)
    assert document.blocks[0].place.box == pytest.approx((40, 61.2, 340, 85.2), abs=0.1)


def test_english_lines_are_joined_with_a_blank(tmp_path):
    page = show("Employees may work from home up to", 40, 500, font="F1") + show(
        "three days a week.", 40, 488, font="F1"
    )
    assert texts(parsed(tmp_path, page + show("在宅勤務", 40, 400))) == [
        "Employees may work from home up to three days a week.",
        "在宅勤務",
    ]


def test_numbered_articles_and_large_print_become_headings(tmp_path):
    document = parsed(
        tmp_path,
        show("経費規程", 160, 560, size=18)
        + show("第1章 総則", 40, 530, size=12)
        + show("第1条（目的）", 40, 500)
        + show("会社は、経費の取扱いをこの規程で定める。", 40, 486)
        + show("１．１ 用語", 40, 460),
    )
    assert [(b.kind, b.level) for b in document.blocks] == [
        ("title", 0), ("heading", 1), ("heading", 3), ("paragraph", 0), ("heading", 2),
    ]  # fmt: skip
    assert document.title == "経費規程"


def test_two_columns_are_read_one_after_the_other(tmp_path):
    def column(x: int, name: str) -> str:
        return "".join(show(f"{name}段の第{i}行の文がここまで続く", x, 500 - 14 * i, size=9) for i in range(8))

    page = show("表題はここ", 40, 540, size=16) + column(210, "右") + column(40, "左")
    text = parsed(tmp_path, page).text
    assert text.index("表題") < text.index("左段の第0行") < text.index("左段の第7行") < text.index("右段の第0行")


def test_vertical_columns_are_read_from_the_right(tmp_path):
    page = "".join(
        show(text, x, 560, font="JV")
        for text, x in (("三行目で終わる。", 310), ("縦書きの一行目です。", 350), ("二行目は左に続きます。", 330))
    )
    document = parsed(tmp_path, page)
    assert document.text.replace("\n", "") == "縦書きの一行目です。二行目は左に続きます。三行目で終わる。"
    assert document.blocks[0].lines[0].box[0] > document.blocks[0].lines[1].box[0]


def test_signs_set_one_below_the_other_are_a_column(tmp_path):
    """Many programs write vertical text sign by sign in a font made for lines across."""
    page = "".join(
        show(sign, x, 560 - 11 * at)
        for x, column in ((300, "創立六十周年"), (280, "記念式典の案内"))
        for at, sign in enumerate(column)
    )
    assert parsed(tmp_path, page).text.replace("\n", "") == "創立六十周年記念式典の案内"


ROWS = [("品名", "数量", "単価"), ("ノートPC", "2", "150,000"), ("机", "10", "30,000")]


def cells(*, step: float) -> str:
    return "".join(
        show(cell, 44 + at * 100, 486 - step * row) for row, line in enumerate(ROWS) for at, cell in enumerate(line)
    )


def test_ruled_table_rows_are_read_with_their_headers(tmp_path):
    grid = "".join(rule(40, y, 340, y) for y in (500, 480, 460, 440))
    grid += "".join(rule(x, 440, x, 500) for x in (40, 140, 240, 340))
    document = parsed(tmp_path, grid + cells(step=20))
    assert [b.kind for b in document.blocks] == ["row"] * 3
    assert document.blocks[0].reading is None
    assert document.blocks[1].reading == "品名: ノートPC、数量: 2、単価: 150,000"
    assert document.blocks[2].text.split() == ["机", "10", "30,000"]


def test_table_without_rules_is_found_by_alignment(tmp_path):
    document = parsed(tmp_path, show("備品の一覧は次のとおり。", 40, 520) + cells(step=18))
    assert [b.reading for b in document.blocks if b.kind == "row"] == [
        None, "品名: ノートPC、数量: 2、単価: 150,000", "品名: 机、数量: 10、単価: 30,000",
    ]  # fmt: skip


def test_a_cell_merged_over_two_rows_is_read_in_both(tmp_path):
    grid = "".join(rule(40, y, 240, y) for y in (500, 480, 440)) + rule(140, 460, 240, 460)
    grid += "".join(rule(x, 440, x, 500) for x in (40, 140, 240))
    page = grid + "".join(
        show(text, x, y)
        for text, x, y in (
            ("部署", 44, 486),
            ("担当", 144, 486),
            ("総務部", 44, 466),
            ("佐藤", 144, 466),
            ("鈴木", 144, 446),
        )
    )
    assert [b.reading for b in parsed(tmp_path, page).blocks][1:] == [
        "部署: 総務部、担当: 佐藤", "部署: 総務部、担当: 鈴木",
    ]  # fmt: skip


def test_running_titles_and_page_numbers_are_marked(tmp_path):
    pages = [
        show("就業規則 社外秘", 40, 580) + show(f"{n}頁目の本文がここにあります。", 40, 400) + show(f"- {n} -", 200, 20)
        for n in (1, 2, 3)
    ]
    document = parsed(tmp_path, *pages)
    assert texts(document, "header") == ["就業規則 社外秘"] * 3
    assert texts(document, "footer") == ["- 1 -", "- 2 -", "- 3 -"]
    assert len(texts(document, "paragraph")) == 3
    assert document.pages == 3


def test_list_items_are_blocks_of_their_own(tmp_path):
    page = "".join(
        show(text, x, 500 - 14 * at)
        for at, (text, x) in enumerate(
            [
                ("・駐車違反などの反則金。これは会社の経費とは認めない", 40),
                ("ものとする。", 50),
                ("・社員同士の懇親会の費用", 40),
                ("（1）私物の修理代", 40),
            ]
        )
    )
    assert texts(parsed(tmp_path, page), "list_item") == [
        "・駐車違反などの反則金。これは会社の経費とは認めないものとする。", "・社員同士の懇親会の費用", "（1）私物の修理代",
    ]  # fmt: skip


def test_meta_and_title_come_from_the_file(tmp_path):
    info = "<< /Title <FEFF7D4C8CBB898F7A0B> /Author (Soumu) /CreationDate (D:20240401090000+09'00') >>"
    document = parsed(tmp_path, show("本文です。", 40, 500), info=info)
    assert document.title == "経費規程"
    assert document.meta == {"author": "Soumu", "created": "2024-04-01T09:00:00+09:00"}


def test_a_title_that_is_a_file_name_gives_way(tmp_path):
    document = parsed(tmp_path, show("本文です。", 40, 500), info="<< /Title (scan_20261102) >>")
    assert document.title == "文書"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("D:20241231235959Z", "2024-12-31T23:59:59+00:00"),
        ("D:20130116", "2013-01-16"),
        ("2013", "2013-01-01"),
        ("D:20100401120000+09'00'", "2010-04-01T12:00:00+09:00"),
        ("昨日", ""),
    ],
)
def test_dates_become_iso(said, meant):
    assert iso_date(said) == meant


def reason(path: Path, data: bytes) -> str:
    with pytest.raises(SourceError) as caught:
        list(PdfParser().read(blob(path / "だめ.pdf", data)))
    return caught.value.reason


def test_unreadable_files_are_set_aside_with_their_reason(tmp_path):
    locked = "<< /Filter /Standard /V 1 /R 2 /P -4 /O <" + "11" * 32 + "> /U <" + "22" * 32 + "> >>"
    assert reason(tmp_path, b"%PDF-1.4\n\x00\xff" * 20) == "damaged"
    assert reason(tmp_path, pdf_bytes([show("秘密", 40, 500)], encrypt=locked)) == "encrypted"
    assert reason(tmp_path, pdf_bytes([""])) == "empty"


def test_too_many_pages_are_too_large(tmp_path):
    data = pdf_bytes([show("頁", 40, 500)] * 3)
    with pytest.raises(SourceError) as caught:
        list(PdfParser(max_pages=2).read(blob(tmp_path / "大.pdf", data)))
    assert caught.value.reason == "too_large"


def scan_bytes() -> bytes:
    image = Image.new("L", (400, 560), 255)
    ImageDraw.Draw(image).rectangle((40, 60, 300, 90), fill=0)
    stream = io.BytesIO()
    image.save(stream, "PDF", resolution=72)
    return stream.getvalue()


class FakeOcr:
    """Reads every page as the same two lines."""

    def read(self, image, *, scale=1.0):
        lines = [("全館停電のお知らせ", 60), ("総務部", 120)]
        found = [
            Found(text, ((40, y), (240, y), (240, y + 20), (40, y + 20)), 0.9 - at * 0.2)
            for at, (text, y) in enumerate(lines)
        ]
        return Scan(in_order(found), 0.85, 12, 1)


def test_a_scan_without_an_engine_asks_for_ocr(tmp_path):
    scan = blob(tmp_path / "掲示.pdf", scan_bytes())
    assert needs_ocr(scan)
    assert list(PdfParser().read(scan)) == [Aside("", NEEDS_OCR, "1 of 1 pages")]
    assert not needs_ocr(blob(tmp_path / "文.pdf", pdf_bytes([show("文字がある", 40, 500)])))


def test_a_scan_is_read_by_the_engine_and_says_so(tmp_path):
    (document,) = PdfParser(FakeOcr()).read(blob(tmp_path / "掲示.pdf", scan_bytes()))
    assert texts(document) == ["全館停電のお知らせ", "総務部"]
    assert document.blocks[0].place.box == (40, 60, 240, 80)
    assert document.meta["ocr"] == "rapidocr"
    assert document.meta["ocr_pages"] == "1"
    assert document.meta["ocr_confidence"] == "0.850"
    assert document.meta["ocr_doubtful_lines"] == "1"


def dark(png: bytes) -> int:
    return sum(1 for value in Image.open(io.BytesIO(png)).convert("L").tobytes() if value < 100)


def test_a_page_and_a_part_of_it_can_be_drawn(tmp_path):
    page = blob(tmp_path / "図.pdf", pdf_bytes([show("図", 40, 500) + "100 300 50 20 re f"]))
    whole = render_page(page, 1, dpi=72)
    assert Image.open(io.BytesIO(whole)).size == (400, 600)
    assert dark(render_page(page, 1, dpi=72, box=(100, 280, 150, 300))) == 50 * 20
    assert dark(render_page(page, 1, dpi=72, box=(200, 280, 250, 300))) == 0
    with pytest.raises(ValueError, match="page 2 of 1"):
        render_page(page, 2)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.tuples(
            st.text(alphabet="第一条経費精算はをにABC123（）、。", min_size=1, max_size=14),
            st.integers(10, 250),
            st.integers(1, 28).map(lambda step: step * 20),
            st.sampled_from([8.0, 10.0, 16.0]),
        ),
        min_size=1,
        max_size=25,
        unique_by=lambda line: line[2],
    ),
    column=st.text(alphabet="縦書きの注記です、。", max_size=20),
)
def test_no_sign_is_lost_or_invented_wherever_lines_stand(tmp_path, lines, column):
    """Columns, tables, margins: layout may order signs in any way, but it keeps each of them."""
    page = "".join(show(text, x, y, size=size) for text, x, y, size in lines)
    page += show(column, 385, 580, font="JV") if column else ""
    want = Counter("".join(text for text, *_ in lines) + column)
    got = Counter(parsed(tmp_path, page).text)
    del got["\n"], got["\t"], got[" "]
    assert got == want
