"""The real files beside the checkout: each parsed or set aside with a reason, and read again by others."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import openpyxl
import pytest
from bs4 import BeautifulSoup

from hagane.contracts.parser import REASONS, check_document
from hagane.core.text import squeeze
from hagane.core.types import Aside, Document
from hagane.sources.files import blob_of, read

pytestmark = pytest.mark.long

# Pictures and PDFs have their own tests; here they only have to be routed.
NOT_HERE = {"pdf": "tests.sources.test_shared_files:Elsewhere", "image": "tests.sources.test_shared_files:Elsewhere"}


class Elsewhere:
    def read(self, blob):
        yield Aside("", "unsupported", "tested elsewhere")


@pytest.fixture(scope="module")
def results(shared) -> dict[str, list[Document | Aside]]:
    """Path below files/ -> what came of it."""
    root = shared / "data" / "files"
    found = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = path.relative_to(root).as_posix()
        elsewhere = Elsewhere()
        found[name] = list(read(blob_of(path, path=name), parsers={"pdf": elsewhere, "image": elsewhere}))
    return found


def test_every_file_is_parsed_or_set_aside_with_a_reason(results):
    assert len(results) > 100
    for name, items in results.items():
        assert items, name
        for item in items:
            if isinstance(item, Document):
                check_document(item)
            else:
                assert item.reason in REASONS - {"crashed"}, (name, item)


def test_only_what_must_be_is_set_aside(results):
    aside = {
        n: i.reason
        for n, items in results.items()
        for i in items
        if isinstance(i, Aside) and not i.name and i.detail != "tested elsewhere"
    }
    assert aside == {
        "markitdown/random.bin": "unsupported",
        "markitdown/test.m4a": "unsupported",
        "markitdown/test.mp3": "unsupported",
        "unstructured/empty.eml": "empty",
        "unstructured/empty.xlsx": "empty",
        "unstructured/fake-encrypted.eml": "encrypted",
        "unstructured/fake-encrypted.msg": "encrypted",
        "unstructured/password_protected.xlsx": "encrypted",
        "unstructured/picture.pptx": "empty",
    }


def test_japanese_legacy_encodings_are_right(results):
    table = results["markitdown/test_mskanji.csv"][0]
    assert table.blocks[3].spoken == "名前: 髙橋淳、年齢: 35、住所: 名古屋"
    steel = results["unstructured/example-steelJIS-datasheet-utf-16.html"][0]
    assert "日本語" in steel.text


def documents(results, ending: str):
    for name, items in results.items():
        if name.endswith(ending):
            yield from ((name, item) for item in items if isinstance(item, Document) and not item.name)


def test_openpyxl_finds_every_row_at_its_place(results, shared):
    n_rows = 0
    for name, document in documents(results, ".xlsx"):
        book = openpyxl.load_workbook(shared / "data" / "files" / name, data_only=True)
        for block in document.blocks:
            if block.place.cell:
                sheet, _, reference = block.place.cell.rpartition("!")
                area = book[sheet][reference]
                values = [c.value for c in (area[0] if isinstance(area, tuple) else (area,)) if c.value is not None]
                there = "".join(re.sub(r"( 00:00:00|\.0)$", "", str(v)) for v in values)
                assert squeeze(block.text) == squeeze(there), (name, block.place)
                n_rows += 1
    assert n_rows > 150


def runs(tree: ElementTree.Element) -> list[str]:
    """The text of a Word part: text boxes apart, and once though the file holds them twice."""
    boxes = []
    for parent in list(tree.iter()):
        for child in list(parent):
            if child.tag.endswith("}Fallback"):
                parent.remove(child)
            elif child.tag.endswith("}txbxContent"):
                boxes.append(child)
                parent.remove(child)
    kept = (e for e in tree.iter() if re.search(r"\}(t|noBreakHyphen)$", e.tag))
    here = "".join("-" if e.tag.endswith("noBreakHyphen") else e.text or "" for e in kept)
    return [here, *(text for box in boxes for text in runs(box))]


def test_the_runs_of_word_files_hold_every_block(results, shared):
    for name, document in documents(results, ".docx"):
        with zipfile.ZipFile(shared / "data" / "files" / name) as package:
            pattern = r"word/(document|header\d*|footer\d*|footnotes|comments)\.xml"
            trees = [ElementTree.fromstring(package.read(n)) for n in package.namelist() if re.fullmatch(pattern, n)]
        there = [squeeze(text) for tree in trees for text in runs(tree)]
        for block in document.blocks:
            for line in re.split(r"[\t\n]", block.text):
                assert any(squeeze(line) in text for text in there), (name, block)


def test_beautiful_soup_finds_every_block_of_pages(results, shared):
    for name, document in documents(results, ".html"):
        raw = (shared / "data" / "files" / name).read_bytes()
        codec = "cp1252" if "cp1252" in name else None  # this page declares nothing, and the soup guesses
        there = squeeze(BeautifulSoup(raw, "html.parser", from_encoding=codec).get_text())
        lines = [line for block in document.blocks for line in re.split(r"[\t\n]", block.text)]
        assert [line for line in lines if squeeze(line) not in there] == []


def test_the_csv_module_finds_the_same_fields(results):
    for _, document in documents(results, ".csv"):
        there = squeeze(document.text)
        said = "".join(squeeze(block.spoken) for block in document.blocks)
        delimiter = "|" if "col1|col2" in document.text else ","
        fields = {field for row in csv.reader(io.StringIO(document.text), delimiter=delimiter) for field in row}
        assert all(squeeze(field) in there for field in fields)
        assert all(squeeze(field) in said for field in fields if "\\" not in field)


def test_the_handbook_loses_no_page(shared, tmp_path):
    """500 pages of a real site: each has a title, headings, and no marks left in what is read."""
    import tarfile

    with tarfile.open(shared / "data" / "handbook-ja" / "pages.tar.gz") as pages:
        members = [m for m in pages.getmembers() if m.name.endswith(".md")][::9]
        n_marks = n_blocks = 0
        for member in members:
            file = tmp_path / "page.md"
            file.write_bytes(pages.extractfile(member).read())
            (page,) = read(blob_of(Path(file), path=member.name))
            assert isinstance(page, Document), (member.name, page)
            check_document(page)
            for block in page.blocks:
                n_blocks += 1
                n_marks += block.kind != "code" and bool(re.search(r"\]\(http|\*\*\S|\{\{[<%]", block.spoken))
    assert len(members) > 500
    assert n_marks * 1_000 < n_blocks, f"{n_marks} of {n_blocks}"
