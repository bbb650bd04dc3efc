"""Worksheets and CSV: merged cells, headers, formats, places; cells read again by openpyxl."""

from __future__ import annotations

import datetime as dt
import io

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_files import SENTENCE, xlsx, zipped

from hagane.core.text import squeeze
from hagane.sources.grid import Cell, table_rows
from hagane.sources.numfmt import shown_number
from hagane.sources.sheets import layout, records


def book(*sheets: list) -> bytes:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for number, rows in enumerate(sheets, 1):
        sheet = made.create_sheet(f"表{number}")
        for row in rows:
            sheet.append(row)
    buffer = io.BytesIO()
    made.save(buffer)
    return buffer.getvalue()


def said(document, kind: str = "row") -> list[str]:
    return [block.spoken for block in document.blocks if block.kind == kind]


def openpyxl_text(data: bytes, cell: str) -> str:
    """What openpyxl finds at "表!A1:C1", dates as ISO."""
    name, _, reference = cell.rpartition("!")
    area = openpyxl.load_workbook(io.BytesIO(data))[name][reference]
    cells = area[0] if isinstance(area, tuple) else (area,)
    values = [c.value for c in cells if c.value is not None]
    return "".join(str(v).removesuffix(" 00:00:00") if isinstance(v, dt.datetime) else str(v) for v in values)


def test_merged_cells_speak_in_every_row_they_cover(one):
    rows = said(one("価格.xlsx", xlsx()))
    assert (
        rows[2]
        == f"区分: ノートPC、品名: 標準、法人価格 / 税抜: 150,000円、法人価格 / 税込: 165,000円、備考: {SENTENCE}"
    )
    assert rows[3] == "区分: ノートPC、品名: 上位、法人価格 / 税抜: 200,000円、法人価格 / 税込: 220,000円"


def test_text_is_what_stands_in_the_cells_and_places_lead_there(one):
    data = xlsx()
    document = one("価格.xlsx", data)
    rows = [block for block in document.blocks if block.place.cell]
    assert rows[-1].place.cell == "価格表!B5:D5"
    assert rows[-1].text == "上位\t200000\t220000"
    for block in rows:
        assert squeeze(block.text) == squeeze(openpyxl_text(data, block.place.cell))
        assert block.place.page == 1


def test_title_above_the_table_is_a_heading_and_the_documents_title(one):
    document = one("価格.xlsx", xlsx())
    assert said(document, "heading") == ["価格表", "製品価格表（2026年度）"]
    assert document.title == "製品価格表（2026年度）"


def test_two_tables_on_a_sheet_have_their_own_headers_and_notes_are_text(one):
    rows = [
        ["価格"],
        ["品名", "単価"],
        ["ペン", 100],
        ["※ 税抜の価格である。"],
        [],
        ["割引"],
        ["数量", "率"],
        [10, 0.5],
    ]
    document = one("表.xlsx", book(rows))
    assert said(document) == ["品名、単価", "品名: ペン、単価: 100", "数量、率", "数量: 10、率: 0.5"]
    assert said(document, "paragraph") == ["※ 税抜の価格である。"]
    assert said(document, "heading") == ["表1", "価格", "割引"]


def test_a_blank_row_inside_a_table_keeps_its_header(one):
    rows = [["品名", "単価", "在庫"], ["ペン", 100, 5], [], ["紙", 500, 7]]
    assert said(one("表.xlsx", book(rows)))[-1] == "品名: 紙、単価: 500、在庫: 7"


def test_labels_beside_values_read_as_pairs(one):
    rows = [["会社名", "北斗精機株式会社"], ["所在地", "札幌市中央区"]]
    assert said(one("表.xlsx", book(rows))) == ["会社名: 北斗精機株式会社", "所在地: 札幌市中央区"]


def test_values_keep_their_kind(one):
    rows = [
        ["名", "値"],
        ["整数", 5],
        ["小数", 5.25],
        ["真", True],
        ["日", dt.datetime(2026, 4, 1)],
        ["時", dt.datetime(2026, 4, 1, 9, 30)],
        ["式", "=1+1"],
    ]
    texts = [block.text.split("\t")[1] for block in one("表.xlsx", book(rows)).blocks if block.kind == "row"][1:]
    assert texts == ["5", "5.25", "True", "2026-04-01", "2026-04-01 09:30:00", "=1+1"]


def test_hidden_sheets_are_read_and_marked(one):
    made = openpyxl.load_workbook(io.BytesIO(book([["a", 1]], [["品名", "値"], ["隠し", 2]])))
    made["表2"].sheet_state = "hidden"
    buffer = io.BytesIO()
    made.save(buffer)
    document = one("表.xlsx", buffer.getvalue())
    assert document.meta["hidden_sheets"] == "表2"
    assert "品名: 隠し、値: 2" in said(document)
    assert document.pages == 2


def _raw_sheet(data: str, strings: str = "") -> bytes:
    """A workbook around the XML of one sheet."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    rel = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    links = f'<Relationship Id="r1" Type="{rel}/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="r2" Type="{rel}/sharedStrings" Target="sharedStrings.xml"/>'
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "xl/workbook.xml": f'<workbook {main} xmlns:r="{rel}"><sheets><sheet name="表" sheetId="1" r:id="r1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{links}</Relationships>',
            "xl/worksheets/sheet1.xml": f"<worksheet {main}>{data}</worksheet>",
            "xl/sharedStrings.xml": f"<sst {main}>{strings}</sst>",
        }
    )


def test_a_million_empty_rows_are_nothing(one):
    cells = '<row r="1"><c r="A1" t="inlineStr"><is><t>上限</t></is></c><c r="B1"><v>15000</v></c></row>'
    rows = (
        "".join(f'<row r="{n}"/>' for n in range(2, 300_000)) + '<row r="1048576"><c r="XFD1048576"><v>7</v></c></row>'
    )
    document = one("表.xlsx", _raw_sheet(f'<dimension ref="A1:XFD1048576"/><sheetData>{cells}{rows}</sheetData>'))
    assert [block.place.cell for block in document.blocks if block.kind != "heading"] == ["表!A1:B1", "表!XFD1048576"]


def test_absurd_merges_are_hostile(everything):
    spans = "".join(f'<mergeCell ref="{a}1:XFD1048576"/>' for a in ("A", "B", "C"))
    cells = "".join(f'<c r="{a}1"><v>1</v></c>' for a in ("A", "B", "C")) + '<c r="D1048576"><v>1</v></c>'
    found = everything(
        "表.xlsx", _raw_sheet(f'<sheetData><row r="1">{cells}</row></sheetData><mergeCells>{spans}</mergeCells>')
    )
    assert len(found) == 1


def test_furigana_beside_a_name_is_not_part_of_it(one):
    strings = '<si><t>山田</t><rPh sb="0" eb="2"><t>ヤマダ</t></rPh></si><si><r><t>総</t></r><r><t>務</t></r></si>'
    data = _raw_sheet(
        '<sheetData><row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row></sheetData>', strings
    )
    assert said(one("表.xlsx", data)) == ["山田: 総務"]


@pytest.mark.parametrize(
    ("value", "code", "shown"),
    [
        (150000, "#,##0", "150,000"),
        (150000, '#,##0"円"', "150,000円"),
        (1234.5, "¥#,##0.00", "¥1,234.50"),
        (0.1, "0%", "10%"),
        (0.125, "0.0%", "12.5%"),
        (-5, "#,##0;▲#,##0", "▲5"),
        (-1500, '[Red]"△"#,##0', "-△1,500"),
        (0, '#,##0;-#,##0;"-"', "-"),
        (12345678, "#,##0,", "12,346"),
        (5, "000", "005"),
        (1.5, "0.00E+00", "1.5"),
        (3, "General", "3"),
    ],
)
def test_numbers_are_shown_as_their_format_shows_them(value, code, shown):
    assert shown_number(value, code) == shown


def test_a_csv_in_cp932_reads_with_headers_and_slices(one):
    text = '品名,単価,説明\nペン,100,"赤、\n青の二色"\n紙,500,白\n'
    document = one("価格.csv", text.encode("cp932"))
    assert document.text == text
    assert said(document)[1:] == ["品名: ペン、単価: 100、説明: 赤、青の二色", "品名: 紙、単価: 500、説明: 白"]
    assert document.blocks[1].text == 'ペン,100,"赤、\n青の二色"'
    assert document.meta["encoding"] == "cp932"


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_the_delimiter_is_found(one, delimiter):
    rows = [["品名", "単価", "数"], ["ペン、赤", "1.5", "2"], ["紙", "3.5", "4"]]
    document = one("表.csv", "\n".join(delimiter.join(row) for row in rows).encode())
    assert said(document)[-1] == "品名: 紙、単価: 3.5、数: 4"


def test_a_quote_that_never_closes_costs_one_line(one):
    document = one("表.csv", '品名,単価,数\n"ペン,100,1\n紙,500,2\n'.encode() + b"x,1,2\n" * 300)
    assert len(document.blocks) == 303


@given(text=st.text(alphabet='鋼製品,"\n\t;a1 ', max_size=200))
def test_records_cover_every_character_once(text):
    spans = list(records(text))
    assert "\n".join(text[start:end] for start, end in spans) in (text, text.removesuffix("\n"))


cells = st.builds(
    Cell,
    st.integers(0, 12),
    st.integers(0, 6),
    st.sampled_from(["品名", "単価", "100", "2,000", "※ 注", "2026", "鋼", ""]),
    st.integers(1, 3),
    st.integers(1, 3),
)


@given(found=st.lists(cells, max_size=30, unique_by=lambda cell: (cell.row, cell.column)))
def test_every_cell_is_said_exactly_once_in_text(found):
    """Whatever a sheet looks like, its layout neither loses nor repeats a cell."""
    texts = [piece for item in layout(found) for piece in item.text.split("\t")]
    assert sorted(texts) == sorted(cell.text for cell in found if cell.text)
    assert [item.row for item in layout(found) if item.row < 0] == []


def test_a_header_of_years_is_a_header():
    rows = [["項目", "2024", "2025"], ["売上", "100", "120"]]
    grid = [Cell(r, c, text) for r, row in enumerate(rows) for c, text in enumerate(row)]
    assert table_rows(grid)[1].reading == "項目: 売上、2024: 100、2025: 120"
