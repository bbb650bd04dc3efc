"""DOCX and PPTX: structure out of raw XML; python-docx as second reader."""

from __future__ import annotations

import io

import pytest
from sample_files import SENTENCE, docx, pptx, shape, w_p

from hagane.core.text import squeeze

STYLES = (
    '<w:root><w:style w:styleId="1"><w:name w:val="見出し 1"/></w:style>'
    '<w:style w:styleId="a2"><w:name w:val="heading 2"/></w:style>'
    '<w:style w:styleId="mine"><w:name w:val="社内見出し"/><w:basedOn w:val="1"/></w:style>'
    '<w:style w:styleId="T"><w:name w:val="表題"/></w:style></w:root>'
)
NUMBERING = (
    '<w:root><w:abstractNum w:abstractNumId="0">'
    '<w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="decimalFullWidth"/><w:lvlText w:val="第%1条"/></w:lvl>'
    '<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="decimalEnclosedCircle"/><w:lvlText w:val="%2"/></w:lvl>'
    '</w:abstractNum><w:num w:numId="5"><w:abstractNumId w:val="0"/></w:num></w:root>'
)


def style(name: str) -> str:
    return f'<w:pStyle w:val="{name}"/>'


def numbered(level: int) -> str:
    return f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="5"/></w:numPr>'


def test_headings_by_japanese_and_inherited_styles_and_outline(one):
    body = (
        w_p("出張旅費規程", style("T")) + w_p("総則", style("1")) + w_p("目的", style("a2")) + w_p("細則", style("mine"))
        + w_p("別の見出し", '<w:outlineLvl w:val="2"/>') + w_p(SENTENCE)
    )  # fmt: skip
    document = one("規程.docx", docx(body, {"styles": ("styles.xml", STYLES)}))
    assert [(b.kind, b.level) for b in document.blocks] == [
        ("title", 0), ("heading", 1), ("heading", 2), ("heading", 1), ("heading", 3), ("paragraph", 0)
    ]  # fmt: skip
    assert document.title == "出張旅費規程"


def test_headings_that_are_only_written_as_such_are_found(one):
    bold = "<w:p><w:r><w:rPr><w:b/></w:rPr><w:t>適用の範囲</w:t></w:r></w:p>"
    document = one(
        "規程.docx", docx(w_p("第1条（目的）") + w_p(SENTENCE) + bold + w_p("第2条の規定により、これを定める。"))
    )
    assert [b.kind for b in document.blocks] == ["heading", "paragraph", "heading", "paragraph"]


def test_automatic_numbers_are_read_aloud(one):
    """第1条 stands nowhere in the file's text; whoever asks for it must find it."""
    body = w_p("目的", numbered(0)) + w_p("国内", numbered(1)) + w_p("国外", numbered(1)) + w_p("範囲", numbered(0))
    document = one("規程.docx", docx(body, {"numbering": ("numbering.xml", NUMBERING)}))
    assert [b.spoken for b in document.blocks] == ["第１条 目的", "① 国内", "② 国外", "第２条 範囲"]
    assert [b.text for b in document.blocks] == ["目的", "国内", "国外", "範囲"]
    assert [b.level for b in document.blocks] == [0, 1, 1, 0]


def _table(*rows: str) -> str:
    return "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in rows) + "</w:tbl>"


def _tc(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{w_p(text)}</w:tc>"


def test_tables_resolve_merged_cells(one):
    body = _table(
        "<w:trPr><w:tblHeader/></w:trPr>" + _tc("役職") + _tc("日当", '<w:gridSpan w:val="2"/>'),
        "<w:trPr><w:tblHeader/></w:trPr>" + _tc("") + _tc("国内") + _tc("国外"),
        _tc("部長", '<w:vMerge w:val="restart"/>') + _tc("3,000円") + _tc("8,000円"),
        _tc("", "<w:vMerge/>") + _tc("2,500円") + _tc("7,000円"),
    )
    rows = [b for b in one("規程.docx", docx(body)).blocks if b.kind == "row"]
    assert rows[2].spoken == "役職: 部長、日当 / 国内: 3,000円、日当 / 国外: 8,000円"
    assert rows[3].spoken == "役職: 部長、日当 / 国内: 2,500円、日当 / 国外: 7,000円"
    assert rows[3].text == "2,500円\t7,000円"


def test_tracked_changes_show_what_will_be(one):
    body = "<w:p><w:r><w:t>上限は</w:t></w:r><w:del><w:r><w:delText>1万円</w:delText></w:r></w:del><w:ins><w:r><w:t>2万円</w:t></w:r></w:ins><w:r><w:t>とする。</w:t></w:r></w:p>"
    assert one("規程.docx", docx(body)).text == "上限は2万円とする。"


def test_boxes_footnotes_comments_and_margins_are_read(one):
    box = (
        "<w:p><w:r><w:t>本文</w:t></w:r><w:r><w:pict><w:txbxContent>"
        + w_p("枠の中の文")
        + "</w:txbxContent></w:pict></w:r></w:p>"
    )
    marked = '<w:p><w:r><w:t>注のある文</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r><w:r><w:commentReference w:id="0"/></w:r></w:p>'
    parts = {
        "footnotes": ("footnotes.xml", f'<w:root><w:footnote w:id="2">{w_p("税込とする")}</w:footnote></w:root>'),
        "comments": ("comments.xml", f'<w:root><w:comment w:id="0">{w_p("要確認")}</w:comment></w:root>'),
        "header": ("header1.xml", f"<w:root>{w_p('社外秘')}</w:root>"),
        "footer": ("footer1.xml", f"<w:root>{w_p('総務部')}</w:root>"),
    }
    document = one("規程.docx", docx(box + marked, parts))
    assert [(b.kind, b.spoken) for b in document.blocks] == [
        ("header", "社外秘"), ("paragraph", "本文"), ("paragraph", "枠の中の文"), ("paragraph", "注のある文"),
        ("paragraph", "脚注: 税込とする"), ("paragraph", "コメント: 要確認"), ("footer", "総務部"),
    ]  # fmt: skip


def test_pages_are_known_only_where_word_left_its_breaks(one):
    broken = "<w:p><w:r><w:lastRenderedPageBreak/><w:t>二頁目の文。</w:t></w:r></w:p>"
    assert [b.place.page for b in one("a.docx", docx(w_p("一頁目の文。") + broken)).blocks] == [1, 2]
    assert [b.place.page for b in one("a.docx", docx(w_p("一頁目の文。"))).blocks] == [None]


def test_python_docx_finds_the_same_text(one):
    """A file by another hand, read again by another hand."""
    library = pytest.importorskip("docx")
    made = library.Document()
    made.add_heading("出張旅費規程", 1)
    made.add_paragraph(SENTENCE)
    made.add_paragraph("第一の項目", style="List Bullet")
    table = made.add_table(2, 2)
    for place, text in (((0, 0), "項目"), ((0, 1), "金額"), ((1, 0), "日当"), ((1, 1), "3,000円")):
        table.cell(*place).text = text
    buffer = io.BytesIO()
    made.save(buffer)
    document = one("規程.docx", buffer.getvalue())
    again = library.Document(io.BytesIO(buffer.getvalue()))
    there = [p.text for p in again.paragraphs] + ["".join(c.text for c in row.cells) for row in again.tables[0].rows]
    assert [squeeze(b.text) for b in document.blocks] == [squeeze(text) for text in there if text]
    assert [b.kind for b in document.blocks] == ["heading", "paragraph", "list_item", "row", "row"]
    assert document.blocks[-1].spoken == "項目: 日当、金額: 3,000円"


def test_slides_are_pages_with_titles_first_and_notes_last(one):
    group = f"<p:grpSp>{shape('グループの中', 'body')}</p:grpSp>"
    document = one("説明.pptx", pptx(group + shape("旅費の見直し", "title"), notes="ここで質問を受ける"))
    assert [(b.kind, b.spoken, b.place.page) for b in document.blocks] == [
        ("heading", "旅費の見直し", 1), ("paragraph", "グループの中", 1), ("paragraph", "発表者ノート: ここで質問を受ける", 1)
    ]  # fmt: skip
    assert document.title == "旅費の見直し"


def test_tables_on_slides_read_with_headers(one):
    def tc(text: str, given: str = "") -> str:
        return f"<a:tc {given}><a:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></a:txBody></a:tc>"

    rows = [
        tc("地域") + tc("四半期", 'gridSpan="2"') + tc("", 'hMerge="1"'),
        tc("東日本", 'rowSpan="2"') + tc("100") + tc("120"),
        tc("", 'vMerge="1"') + tc("90") + tc("95"),
    ]
    table = "".join(f"<a:tr>{row}</a:tr>" for row in rows)
    frame = f'<p:graphicFrame><a:graphic><a:graphicData><a:tbl><a:tblPr firstRow="1"/>{table}</a:tbl></a:graphicData></a:graphic></p:graphicFrame>'
    said = [b.spoken for b in one("表.pptx", pptx(frame)).blocks]
    assert said[1:] == ["地域: 東日本、四半期: 100、四半期: 120", "地域: 東日本、四半期: 90、四半期: 95"]
