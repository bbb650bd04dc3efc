"""Small files of every kind, written here byte by byte or by a second hand (openpyxl, python-docx).

Each holds SENTENCE somewhere, so that one question can be put to all of them.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping

SENTENCE = "出張旅費の上限は一日あたり15,000円とする。"
ASCII_SENTENCE = "HAGANE TRAVEL LIMIT 15000 YEN"
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
_P = 'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'


def zipped(members: Mapping[str, bytes | str]) -> bytes:
    """A ZIP of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in members.items():
            package.writestr(name, data)
    return buffer.getvalue()


def _rels(*links: tuple[str, str, str]) -> str:
    inner = "".join(f'<Relationship Id="{key}" Type="{_R}/{kind}" Target="{target}"/>' for key, kind, target in links)
    return (
        f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{inner}</Relationships>'
    )


def docx(body: str, parts: Mapping[str, tuple[str, str]] | None = None) -> bytes:
    """A DOCX around the XML `body`; `parts`: kind of relation -> (name below word/, XML)."""
    links = [(f"rId{n}", kind, name) for n, (kind, (name, _)) in enumerate((parts or {}).items(), 1)]
    members = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "_rels/.rels": _rels(("rId1", "officeDocument", "word/document.xml")),
        "word/document.xml": f'<?xml version="1.0"?><w:document {_W} xmlns:r="{_R}"><w:body>{body}</w:body></w:document>',
        "word/_rels/document.xml.rels": _rels(*links),
    }
    for name, xml in (parts or {}).values():
        members[f"word/{name}"] = xml.replace("<w:root", f"<w:root {_W}")
    return zipped(members)


def w_p(text: str, properties: str = "") -> str:
    """A Word paragraph."""
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def pptx(shapes: str, notes: str = "") -> bytes:
    """A PPTX of one slide holding the XML `shapes`."""
    members = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "_rels/.rels": _rels(("rId1", "officeDocument", "ppt/presentation.xml")),
        "ppt/presentation.xml": f'<p:presentation {_P} xmlns:r="{_R}"><p:sldIdLst><p:sldId id="256" r:id="rId7"/></p:sldIdLst></p:presentation>',
        "ppt/_rels/presentation.xml.rels": _rels(("rId7", "slide", "slides/slide1.xml")),
        "ppt/slides/slide1.xml": _slide(shapes),
    }
    if notes:
        members["ppt/slides/_rels/slide1.xml.rels"] = _rels(("rId1", "notesSlide", "../notesSlides/notesSlide1.xml"))
        members["ppt/notesSlides/notesSlide1.xml"] = _slide(shape(notes, "body"))
    return zipped(members)


def _slide(shapes: str) -> str:
    return f"<p:sld {_P} {_A}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:sld>"


def shape(text: str, role: str) -> str:
    """A placeholder shape with one paragraph."""
    return (
        f'<p:sp><p:nvSpPr><p:nvPr><p:ph type="{role}"/></p:nvPr></p:nvSpPr>'
        f"<p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
    )


def xlsx() -> bytes:
    """A price list with merged cells, written by openpyxl."""
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "価格表"
    for row in (
        ["製品価格表（2026年度）"],
        ["区分", "品名", "法人価格", None, "備考"],
        [None, None, "税抜", "税込", None],
        ["ノートPC", "標準", 150000, 165000, SENTENCE],
        [None, "上位", 200000, 220000, None],
    ):
        sheet.append(row)
    for span in ("A1:E1", "A2:A3", "B2:B3", "C2:D2", "E2:E3", "A4:A5"):
        sheet.merge_cells(span)
    for row in sheet["C4:D5"]:
        for cell in row:
            cell.number_format = '#,##0"円"'
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def storage(streams: Mapping[str, bytes]) -> bytes:
    """An OLE storage (version 3). Names with / make storages; every stream is padded to 4,096 bytes, so no mini stream.

    Source: MS-CFB.
    """
    names: list[tuple[str, ...]] = [()]
    for path in streams:
        parts = tuple(path.split("/"))
        names.extend(parts[: n + 1] for n in range(len(parts)) if parts[: n + 1] not in names)
    n_directory = -(-len(names) // 4)
    sector, starts, body = n_directory, {}, b""
    chain = [*range(1, n_directory), 0xFFFFFFFE]
    for path, data in streams.items():
        padded = data + b"\0" * (max(4096, -(-len(data) // 512) * 512) - len(data))
        count = len(padded) // 512
        starts[tuple(path.split("/"))] = (sector, len(padded))
        chain += [*range(sector + 1, sector + count), 0xFFFFFFFE]
        sector += count
        body += padded
    n_fat = -(-(len(chain) + 4) // 128)
    chain += [0xFFFFFFFD] * n_fat
    fat = struct.pack(f"<{n_fat * 128}I", *chain, *[0xFFFFFFFF] * (n_fat * 128 - len(chain)))
    fat_at = [len(chain) - n_fat + n for n in range(n_fat)]
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 16 + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + b"\0" * 6
    header += struct.pack("<IIIIIIIII", 0, n_fat, 0, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)
    header += struct.pack("<109I", *fat_at, *[0xFFFFFFFF] * (109 - n_fat))
    return header + _directory(names, starts, n_directory) + body + fat


def _directory(
    names: list[tuple[str, ...]], starts: Mapping[tuple[str, ...], tuple[int, int]], n_sectors: int
) -> bytes:
    made = b""
    none = 0xFFFFFFFF
    for name in names:
        siblings = _children(names, name[:-1]) if name else []
        after = siblings[siblings.index(name) + 1 :][:1] if name else []
        children = _children(names, name)
        right = names.index(after[0]) if after else none
        child = names.index(children[0]) if children else none
        start, size = starts.get(name, (0xFFFFFFFE if not name else 0, 0))
        label = (name[-1] if name else "Root Entry").encode("utf-16-le") + b"\0\0"
        kind = 5 if not name else 2 if name in starts else 1
        made += label.ljust(64, b"\0") + struct.pack("<HBBIII", len(label), kind, 1, none, right, child)
        made += b"\0" * 36 + struct.pack("<IQ", start, size)
    empty = b"\0" * 64 + struct.pack("<HBBIII", 0, 0, 0, none, none, none) + b"\0" * 48
    return made + empty * (n_sectors * 4 - len(names))


def _children(names: list[tuple[str, ...]], above: tuple[str, ...]) -> list[tuple[str, ...]]:
    found = [name for name in names if name and name[:-1] == above]
    return sorted(found, key=lambda name: (len(name[-1]), name[-1].upper()))


def xls() -> bytes:
    """A workbook in BIFF8: LABEL and NUMBER records. Source: MS-XLS."""

    def record(kind: int, data: bytes) -> bytes:
        return struct.pack("<HH", kind, len(data)) + data

    def label(row: int, column: int, text: str) -> bytes:
        raw = text.encode("utf-16-le")
        return record(0x0204, struct.pack("<HHHHB", row, column, 0, len(text), 1) + raw)

    name = "旅費".encode("utf-16-le")
    start = record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0005, 0x0DBB, 0x07CC, 0, 6)) + record(0x0042, b"\xb0\x04")
    bound = record(0x0085, struct.pack("<IBBBB", 0, 0, 0, 2, 1) + name)
    end = record(0x000A, b"")
    at = len(start) + len(bound) + len(end)
    bound = record(0x0085, struct.pack("<IBBBB", at, 0, 0, 2, 1) + name)
    sheet = record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0010, 0x0DBB, 0x07CC, 0, 6))
    sheet += record(0x0200, struct.pack("<IIHHH", 0, 3, 0, 2, 0))
    for row, (name_, value) in enumerate((("項目", "金額"), (SENTENCE, 15000.0), ("宿泊", 12000.5))):
        sheet += label(row, 0, name_)
        sheet += (
            label(row, 1, value) if isinstance(value, str) else record(0x0203, struct.pack("<HHHd", row, 1, 0, value))
        )
    return storage({"Workbook": start + bound + end + sheet + end})


def msg(attached: Mapping[str, bytes] | None = None) -> bytes:
    """An Outlook message with Japanese headers."""

    def wide(text: str) -> bytes:
        return text.encode("utf-16-le")

    sent = struct.pack("<HHIQ", 0x0040, 0x0039, 6, (1_772_000_000 + 11_644_473_600) * 10_000_000)
    streams = {
        "__properties_version1.0": b"\0" * 32 + sent,
        "__substg1.0_0037001F": wide("旅費の件"),
        "__substg1.0_0C1A001F": wide("総務部"),
        "__substg1.0_5D01001F": wide("somu@example.co.jp"),
        "__substg1.0_0E04001F": wide("全社員"),
        "__substg1.0_1000001F": wide(f"各位\r\n\r\n{SENTENCE}\r\n"),
    }
    for number, (name, data) in enumerate((attached or {}).items()):
        folder = f"__attach_version1.0_#{number:08X}"
        streams[f"{folder}/__substg1.0_3707001F"] = wide(name)
        streams[f"{folder}/__substg1.0_37010102"] = data
    return storage(streams)


def doc() -> bytes:
    """A Word 97 document of one piece of text. Source: MS-DOC, 2.5 (Fib) and 2.8.35 (PlcPcd)."""
    text = f"旅費規程\r{SENTENCE}\r"
    raw = text.encode("utf-16-le")
    pieces = struct.pack("<IIHIH", 0, len(text), 0, 2048, 0)
    clx = struct.pack("<BI", 2, len(pieces)) + pieces
    fib = bytearray(2048)
    struct.pack_into("<HH", fib, 0, 0xA5EC, 0x00C1)
    struct.pack_into("<H", fib, 0x0A, 0x0200)
    struct.pack_into("<II", fib, 0x18, 2048, 2048 + len(raw))
    struct.pack_into("<H", fib, 0x20, 14)
    struct.pack_into("<H", fib, 0x3E, 22)
    struct.pack_into("<I", fib, 0x4C, len(text))
    struct.pack_into("<H", fib, 0x98, 0x5D)
    struct.pack_into("<II", fib, 0x01A2, 0, len(clx))
    return storage({"WordDocument": bytes(fib) + raw, "1Table": clx})


def ppt() -> bytes:
    """A PowerPoint 97 stream holding one text. Source: MS-PPT, 2.4 (document), 2.9.42 (TextCharsAtom)."""

    def record(kind: int, data: bytes, version: int = 0) -> bytes:
        return struct.pack("<HHI", version, kind, len(data)) + data

    text = record(0x0F9F, struct.pack("<I", 1)) + record(0x0FA0, SENTENCE.encode("utf-16-le"))
    slides = record(0x0FF0, record(0x03F3, struct.pack("<IIiII", 2, 0, 1, 256, 0)) + text, 0x0F)
    document = record(0x03E8, slides, 0x0F)
    return storage({"PowerPoint Document": document, "Current User": b"\0" * 64})


def eml() -> bytes:
    """A mail in ISO-2022-JP with a CSV in CP932 attached."""
    from email.message import EmailMessage

    mail = EmailMessage()
    mail["From"], mail["To"] = "総務部 <somu@example.co.jp>", "全社員 <all@example.co.jp>"
    mail["Subject"], mail["Date"] = "旅費の件", "Tue, 03 Mar 2026 10:00:00 +0900"
    mail.set_content(f"各位\n\n{SENTENCE}\n\n以上", charset="iso-2022-jp")
    mail.add_attachment("品名,単価\nペン,100\n".encode("cp932"), maintype="text", subtype="csv", filename="価格.csv")
    return mail.as_bytes()


def epub() -> bytes:
    """A book of two chapters, the spine against the order of names."""
    page = '<?xml version="1.0" encoding="UTF-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title>{0}</title></head><body><h1>{0}</h1><p>{1}</p></body></html>'
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
            "OEBPS/book.opf": '<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>社内読本</dc:title><dc:creator>総務部</dc:creator></metadata>'
            '<manifest><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/><item id="b" href="b.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="b"/><itemref idref="a"/></spine></package>',
            "OEBPS/a.xhtml": page.format("第二章 旅費", SENTENCE),
            "OEBPS/b.xhtml": page.format("第一章 <ruby>総務<rt>そうむ</rt></ruby>", "総務部の仕事である。"),
        }
    )


def pdf() -> bytes:
    """One page with one line of Latin text."""
    content = f"BT /F1 24 Tf 72 700 Td ({ASCII_SENTENCE}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    made, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    tail = b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(made)
    return made + b"xref\n0 6\n0000000000 65535 f \n" + table + tail


def picture() -> bytes:
    """A white PNG with one printed line."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (1000, 160), "white")
    ImageDraw.Draw(image).text((40, 50), ASCII_SENTENCE, fill="black", font=ImageFont.load_default(size=48))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def rtf() -> bytes:
    """RTF with the sentence in Unicode escapes."""
    escaped = "".join(f"\\u{ord(c)}?" if ord(c) > 127 else c for c in SENTENCE)
    return f"{{\\rtf1\\ansi\\deff0{{\\fonttbl{{\\f0 Arial;}}}}\\f0 {escaped}\\par}}".encode("ascii")


def opendocument(kind: str, body: str) -> bytes:
    """An OpenDocument package of `kind` (text, spreadsheet, presentation) with the XML `body`."""
    spaces = " ".join(
        f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{long}:1.0"'
        for short, long in (
            ("office", "office"),
            ("text", "text"),
            ("table", "table"),
            ("draw", "drawing"),
            ("svg", "svg-compatible"),
        )
    )
    tag = f"office:{kind}"
    media = f"application/vnd.oasis.opendocument.{kind}"
    content = f'<?xml version="1.0" encoding="UTF-8"?><office:document-content {spaces} office:version="1.2"><office:body><{tag}>{body}</{tag}></office:body></office:document-content>'
    manifest = f'<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"><manifest:file-entry manifest:full-path="/" manifest:media-type="{media}"/></manifest:manifest>'
    return zipped({"mimetype": media, "content.xml": content, "META-INF/manifest.xml": manifest})


def samples() -> dict[str, bytes]:
    """Kind of the parser table -> a small file of it."""
    page = f"<html><head><title>旅費</title></head><body><h1>旅費</h1><p>{SENTENCE}</p></body></html>"
    cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    notebook = {"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "markdown", "source": ["# 旅費\n", SENTENCE]}]}
    return {
        "pdf": pdf(),
        "image": picture(),
        "docx": docx(w_p("旅費規程") + w_p(SENTENCE)),
        "pptx": pptx(shape("旅費", "title") + shape(SENTENCE, "body")),
        "xlsx": xlsx(),
        "xls": xls(),
        "doc": doc(),
        "ppt": ppt(),
        "rtf": rtf(),
        "odt": opendocument("text", f"<text:p>旅費規程</text:p><text:p>{SENTENCE}</text:p>"),
        "ods": opendocument(
            "spreadsheet",
            f'<table:table table:name="旅費"><table:table-row>{cell.format("項目")}{cell.format("内容")}</table:table-row>'
            f"<table:table-row>{cell.format('旅費')}{cell.format(SENTENCE)}</table:table-row></table:table>",
        ),
        "odp": opendocument(
            "presentation",
            f'<draw:page draw:name="旅費"><draw:frame><draw:text-box><text:p>{SENTENCE}</text:p></draw:text-box></draw:frame></draw:page>',
        ),
        "csv": f'項目,内容\n旅費,"{SENTENCE}"\n'.encode("cp932"),
        "tsv": f"項目\t内容\n旅費\t{SENTENCE}\n宿泊\t実費\n".encode(),
        "html": page.encode("euc_jp"),
        "xml": f'<?xml version="1.0" encoding="UTF-8"?><規程><条>{SENTENCE}</条></規程>'.encode(),
        "json": json.dumps({"規程": {"旅費": SENTENCE}}, ensure_ascii=False).encode(),
        "jsonl": (json.dumps({"a": SENTENCE}, ensure_ascii=False) + "\n" + json.dumps({"a": 2}) + "\n").encode(),
        "ipynb": json.dumps(notebook, ensure_ascii=False).encode(),
        "markdown": f"---\ntitle: 旅費規程\n---\n\n# 旅費\n\n**{SENTENCE}**\n".encode(),
        "text": f"旅費規程\n\n第1条（上限）\n{SENTENCE}\n".encode("cp932"),
        "eml": eml(),
        "msg": msg({"覚書.txt": SENTENCE.encode("utf-8").ljust(4096)}),
        "epub": epub(),
        "zip": zipped({"規程/旅費.md": f"# 旅費\n\n{SENTENCE}\n"}),
    }


ENDINGS = {"image": "png", "markdown": "md", "text": "txt"}
