"""Write the binary and legacy-encoded files of examples/company from examples/source.

Only for whoever edits the demo; the product never imports it. Needs its own environment:
    pip install reportlab==5.1.0 python-docx==1.2.0 python-pptx==1.0.2 openpyxl==3.1.5 pillow==13.0.0 numpy==2.4.6
    fonts: Debian packages fonts-ipaexfont-gothic and fonts-ipaexfont-mincho (IPA Font License 1.0)
Run:   python examples/build.py [--fonts DIR] [--check]
The same tools and fonts write the same bytes; --check builds in memory and compares.
Markdown, HTML and JSON documents in examples/company are written by hand and stay untouched.
"""
from __future__ import annotations

import argparse
import io
import re
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from email.header import Header
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "source"
FIXED_TIME = (2026, 10, 1, 0, 0, 0)          # every zip entry and document property carries this moment
FIXED_ISO = "2026-10-01T00:00:00Z"


# ---- a very small Markdown: headings, paragraphs, lists, pipe tables, speaker notes -------------------------------
@dataclass(frozen=True)
class Piece:
    """One block: kind is 'h1'..'h3', 'p', 'li', 'note' (text) or 'table' (rows)."""
    kind: str
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


def pieces(text: str) -> list[Piece]:
    """Split our Markdown subset into blocks, in order."""
    found: list[Piece] = []
    rows: list[tuple[str, ...]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
            if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                rows.append(cells)
            continue
        if rows:
            found.append(Piece("table", rows=tuple(rows)))
            rows = []
        if heading := re.match(r"(#{1,3}) (.+)", line):
            found.append(Piece(f"h{len(heading[1])}", heading[2]))
        elif line.startswith("- "):
            found.append(Piece("li", line[2:]))
        elif line.startswith("Note: "):
            found.append(Piece("note", line[6:]))
        elif line.strip():
            found.append(Piece("p", line))
    return found


def source(name: str) -> str:
    return (SOURCE / name).read_text(encoding="utf-8")


# ---- the same bytes every time -------------------------------------------------------------------------------------
def steady_zip(data: bytes) -> bytes:
    """Rewrite an Office file with fixed entry times and fixed document dates."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            body = old.read(entry)
            if entry.filename == "docProps/core.xml":
                body = re.sub(rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*", rb"\g<1>" + FIXED_ISO.encode(), body)
            info = zipfile.ZipInfo(entry.filename, FIXED_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, body)
    return out.getvalue()


# ---- Office ----------------------------------------------------------------------------------------------------------
def docx(name: str, *, header: str) -> bytes:
    """A Word file with real heading styles, tables and a running header."""
    from docx import Document
    from docx.oxml.ns import qn

    document = Document()
    style = document.styles["Normal"]
    style.font.name = "Yu Gothic"
    style.element.rPr.rFonts.set(qn("w:eastAsia"), "游ゴシック")
    document.sections[0].header.paragraphs[0].text = header
    document.core_properties.author = "霧ヶ瀬計器株式会社"
    for piece in pieces(source(name)):
        if piece.kind == "table":
            table = document.add_table(rows=len(piece.rows), cols=len(piece.rows[0]), style="Table Grid")
            for cells, row in zip(table.rows, piece.rows, strict=True):
                for cell, text in zip(cells.cells, row, strict=True):
                    cell.text = text
            document.add_paragraph()
        elif piece.kind == "h1":
            document.core_properties.title = piece.text
            document.add_heading(piece.text, 0)
        elif piece.kind in ("h2", "h3"):
            document.add_heading(piece.text, int(piece.kind[1]) - 1)
        else:
            document.add_paragraph(piece.text, style="List Bullet" if piece.kind == "li" else None)
    out = io.BytesIO()
    document.save(out)
    return steady_zip(out.getvalue())


def pptx(name: str) -> bytes:
    """A slide per level-one heading; tables stay tables, `Note:` lines become speaker notes."""
    from pptx import Presentation
    from pptx.util import Inches, Pt

    show = Presentation()
    slide, top = None, 1.5
    for piece in pieces(source(name)):
        if piece.kind == "h1":
            slide, top = show.slides.add_slide(show.slide_layouts[5]), 1.5
            slide.shapes.title.text = piece.text
        elif piece.kind == "table":
            size = (len(piece.rows), len(piece.rows[0]))
            shape = slide.shapes.add_table(*size, Inches(0.7), Inches(top), Inches(8.6), Inches(0.42 * size[0]))
            for y, row in enumerate(piece.rows):
                for x, text in enumerate(row):
                    shape.table.cell(y, x).text = text
            top += 0.42 * size[0] + 0.3
        elif piece.kind == "note":
            slide.notes_slide.notes_text_frame.text = piece.text
        else:
            frame = slide.shapes.add_textbox(Inches(0.7), Inches(top), Inches(8.6), Inches(0.5)).text_frame
            frame.word_wrap = True
            frame.text = "・" + piece.text if piece.kind == "li" else piece.text
            frame.paragraphs[0].font.size = Pt(18)
            top += 0.6
    out = io.BytesIO()
    show.save(out)
    return steady_zip(out.getvalue())


def xlsx(name: str) -> bytes:
    """A workbook from a TOML list of rows and merges; numbers stay numbers."""
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Border, Font, Side

    book = Workbook()
    book.remove(book.active)
    line = Border(*[Side(style="thin")] * 4)
    for sheet in tomllib.loads(source(name))["sheet"]:
        page = book.create_sheet(sheet["name"])
        for y, row in enumerate(sheet["rows"], 1):
            for x, value in enumerate(row, 1):
                cell = page.cell(y, x)
                cell.value = None if value == "" else value
                cell.alignment = Alignment(horizontal="center", vertical="center", wrap_text=True)
                if isinstance(value, int) and value >= 1000:
                    cell.number_format = "#,##0"
                if len(row) > 1:
                    cell.border = line
        for area in sheet["merges"]:
            page.merge_cells(area)
        for letter, width in zip("ABCDEFGHI", sheet["widths"], strict=False):
            page.column_dimensions[letter].width = width
        page["A1"].font = Font(bold=True, size=14)
    out = io.BytesIO()
    book.save(out)
    return steady_zip(out.getvalue())


# ---- PDF -------------------------------------------------------------------------------------------------------------
def text_pdf(name: str, *, header: str, footer: str, font: Path) -> bytes:
    """Several A4 pages with a text layer, ruled tables, running header, footer and page numbers."""
    from reportlab.lib import colors
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.lib.units import mm
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

    pdfmetrics.registerFont(TTFont("ja", str(font)))
    sizes = {"h1": 18, "h2": 12.5, "h3": 11, "p": 10.5, "li": 10.5, "cell": 9}
    styles = {kind: ParagraphStyle(kind, fontName="ja", fontSize=size, leading=size * 1.6, wordWrap="CJK",
                                   spaceBefore=8 if kind[0] == "h" else 0, spaceAfter=3, keepWithNext=kind[0] == "h",
                                   leftIndent=12 if kind == "li" else 0)
              for kind, size in sizes.items()}

    def frame(canvas, doc) -> None:
        canvas.setFont("ja", 8.5)
        canvas.drawString(22 * mm, 284 * mm, header)
        canvas.drawRightString(188 * mm, 284 * mm, "社外秘")
        canvas.line(22 * mm, 282 * mm, 188 * mm, 282 * mm)
        canvas.drawString(22 * mm, 12 * mm, footer)
        canvas.drawRightString(188 * mm, 12 * mm, f"- {doc.page} -")

    story = []
    for piece in pieces(source(name)):
        if piece.kind == "table":
            widths = [w * mm for w in ((40, 42, 26, 58) if len(piece.rows[0]) == 4 else (55, 55, 56))]
            body = [[Paragraph(cell, styles["cell"]) for cell in row] for row in piece.rows]
            story += [Table(body, colWidths=widths, repeatRows=1, style=[
                ("GRID", (0, 0), (-1, -1), 0.5, colors.black), ("BACKGROUND", (0, 0), (-1, 0), colors.lightgrey),
                ("VALIGN", (0, 0), (-1, -1), "MIDDLE")]), Spacer(1, 6)]
        else:
            story.append(Paragraph(("・" if piece.kind == "li" else "") + piece.text, styles[piece.kind]))
    out = io.BytesIO()
    SimpleDocTemplate(out, pagesize=A4, leftMargin=22 * mm, rightMargin=22 * mm, topMargin=22 * mm, bottomMargin=22 * mm,
                      title=header, author="霧ヶ瀬計器株式会社", invariant=1).build(story, onFirstPage=frame, onLaterPages=frame)
    return out.getvalue()


def vertical_lines(name: str, per_line: int) -> list[str]:
    """Break the text into columns of at most `per_line` characters; no column starts with 、。」）."""
    lines: list[str] = []
    for piece in pieces(source(name)):
        rest = piece.text if piece.kind == "h1" else ("" if piece.text.startswith(("一、", "令和", "代表")) else "　") + piece.text
        while rest:
            cut = per_line + (len(rest) > per_line and rest[per_line] in "、。」）")
            lines.append(rest[:cut])
            rest = rest[cut:]
    return lines


def vertical_pdf(name: str, *, font: Path) -> bytes:
    """One landscape page of vertical writing with a text layer: a glyph at a time, columns from right to left."""
    from reportlab.lib.pagesizes import A4, landscape
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.pdfgen.canvas import Canvas

    pdfmetrics.registerFont(TTFont("ja-v", str(font)))
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=landscape(A4), invariant=1)
    canvas.setTitle("創立六十周年記念式典のご案内")
    x, size = 765.0, 16.5
    for number, line in enumerate(vertical_lines(name, 27)):
        points = 21.0 if number == 0 else size
        canvas.setFont("ja-v", points)
        y = 530.0
        for char in line:
            if char in "（）「」ー":                     # brackets and long vowel marks stand a quarter turn
                canvas.saveState()
                canvas.translate(x + points / 2, y + points * 0.38)
                canvas.rotate(-90)
                canvas.drawString(-points / 2, -points * 0.38, char)
                canvas.restoreState()
            else:
                shift = 0.6 * points if char in "、。" else 0.0
                canvas.drawString(x + shift, y + shift, char)
            y -= points * 1.04
        x -= points * 1.9
    canvas.save()
    return out.getvalue()


def scanned_pdf(name: str, *, font: Path, seed: int = 20261102) -> bytes:
    """An image-only A4 page as an office scanner leaves it: 200 dpi grey, slight turn, slight noise, no text layer."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFilter, ImageFont
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    page = Image.new("L", (1654, 2339), 250)
    pen = ImageDraw.Draw(page)
    y = 230
    for piece in pieces(source(name)):
        points = {"h1": 68, "li": 38}.get(piece.kind, 38)
        face = ImageFont.truetype(str(font), points)
        text = ("・" if piece.kind == "li" else "") + piece.text
        per_line = (1654 - 2 * 170) // points
        for start in range(0, len(text), per_line):
            part = text[start:start + per_line]
            width = pen.textlength(part, font=face)
            left = {"h1": (1654 - width) / 2, "p": 170 if len(text) > 22 else 1484 - width}.get(piece.kind, 170)
            pen.text((left + (points if start and piece.kind == "li" else 0), y), part, font=face, fill=25)
            y += round(points * 1.65)
        y += 34
    pen.ellipse((1210, y + 30, 1390, y + 210), outline=110, width=7)            # the department's round stamp
    pen.text((1237, y + 94), "総務部", font=ImageFont.truetype(str(font), 42), fill=110)
    page = page.rotate(0.4, resample=Image.Resampling.BICUBIC, fillcolor=250).filter(ImageFilter.GaussianBlur(0.6))
    noise = np.random.default_rng(seed).normal(0, 2.5, (2339, 1654))
    page = Image.fromarray(np.clip(np.asarray(page, dtype=float) + noise, 0, 255).astype("uint8"))
    jpeg = io.BytesIO()
    page.save(jpeg, "JPEG", quality=42, dpi=(200, 200))
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1, pageCompression=1)
    canvas.setTitle("scan_20261102")
    canvas.drawImage(ImageReader(io.BytesIO(jpeg.getvalue())), 0, 0, *A4)
    canvas.save()
    return out.getvalue()


# ---- mail and archives -------------------------------------------------------------------------------------------------
def mail(name: str) -> tuple[str, bytes]:
    """(file name, bytes) of a mail in ISO-2022-JP, headers and an attachment's name included."""
    head, body = source(name).split("\n\n", 1)
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    text = MIMEText(body.replace("～", "〜"), "plain", "iso-2022-jp")     # JIS X 0208 has the wave dash only
    message: MIMEMultipart | MIMEText = text
    if attached := fields.get("attach"):
        message = MIMEMultipart("mixed", boundary="=_kirigase_20261001")
        part = MIMEApplication(xlsx(attached.replace(".xlsx", ".toml")),
                               "vnd.openxmlformats-officedocument.spreadsheetml.sheet")
        part.add_header("Content-Disposition", "attachment",
                        filename=Header(attached, "iso-2022-jp").encode())          # as Japanese mailers still write it
        message.attach(text)
        message.attach(part)
    for key, value in (("From", "from"), ("To", "to"), ("Cc", "cc")):
        if value in fields:
            role, address = re.fullmatch(r"(.+) (<.+>)", fields[value]).groups()
            message[key] = f"{Header(role, 'iso-2022-jp').encode()} {address}"
    message["Subject"] = Header(fields["subject"], "iso-2022-jp")
    message["Date"] = fields["date"]
    message["Message-ID"] = fields["id"]
    if "reply-to-id" in fields:
        message["In-Reply-To"] = fields["reply-to-id"]
    return fields["file"], message.as_bytes()


def archive(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name, body in members.items():
            info = zipfile.ZipInfo(name, FIXED_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, body)
    return out.getvalue()


def windows(name: str, encoding: str) -> bytes:
    """The text with Windows line ends in a legacy encoding; raises UnicodeEncodeError where it has no such character."""
    return source(name).replace("\n", "\r\n").encode(encoding)


def build(fonts: Path) -> dict[str, bytes]:
    """Path below examples/company -> bytes, for every generated file."""
    gothic, mincho = (next(fonts.rglob(name)) for name in ("ipaexg.ttf", "ipaexm.ttf"))
    company = "霧ヶ瀬計器株式会社"
    files = {
        "rules/経費規程.pdf": text_pdf("経費規程.md", header=f"{company}　経費規程", footer="総-012　令和7年4月1日施行", font=gothic),
        "rules/出張旅費規程_2021年版.docx": docx("出張旅費規程_2021年版.md", header=f"{company}　総-015"),
        "rules/出張旅費規程_2025年版.docx": docx("出張旅費規程_2025年版.md", header=f"{company}　総-015"),
        "rules/Information_Security_Policy.docx": docx("Information_Security_Policy.md", header="Kirigase Keiki Co., Ltd."),
        "rules/文書管理規程.txt": windows("文書管理規程.txt", "cp932"),
        "rules/育児介護FAQ.csv": windows("育児介護FAQ.csv", "cp932"),
        "sales/価格表_2026.xlsx": xlsx("価格表_2026.toml"),
        "sales/納期と保証.pptx": pptx("納期と保証.md"),
        "sales/提案書_食品工場向け.docx": docx("提案書_食品工場向け.md", header=f"{company}　営業部"),
        "sales/地区別担当.tsv": source("地区別担当.tsv").encode("euc-jp"),
        "minutes/安全衛生委員会_2026-06-18.docx": docx("安全衛生委員会議事録.md", header=f"{company}　議事録"),
        "minutes/製品企画会議_2026-09-09.docx": docx("製品企画会議議事録.md", header=f"{company}　議事録"),
        "minutes/棚卸資料.zip": archive({"棚卸実施要領.md": source("棚卸実施要領.md").encode(),
                                     "担当割当.csv": windows("棚卸担当割当.csv", "cp932")}),
        "notices/停電のお知らせ.pdf": scanned_pdf("停電のお知らせ.md", font=mincho),
        "notices/創立記念式典_縦書き.pdf": vertical_pdf("創立記念_縦書き.md", font=mincho),
        "hr/人事評価と給与レンジ.docx": docx("人事評価と給与レンジ.md", header=f"{company}　極秘　人事課限り"),
    }
    for name in ("年末年始の出荷.eml.md", "社用車の予約.eml.md"):
        file, body = mail(name)
        files[f"minutes/{file}"] = body
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"), help="folder with ipaexg.ttf and ipaexm.ttf below it")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a committed file differs")
    options = parser.parse_args()
    differing = []
    for path, body in build(options.fonts).items():
        target = HERE / "company" / path
        if options.check:
            differing += [path] if not target.exists() or target.read_bytes() != body else []
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
        print(f"{len(body):8d} {path}")
    if differing:
        print("differs:", *differing, sep="\n  ", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
