"""The source viewer over HTTP: every look asks for the label, is on record, and shows content as text."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server.site import Site, copied, made, staffed
from small_company import TEXTS, Folder

from hagane.project import documents, people, viewer
from hagane.project.wire import Project
from hagane.server.pages import LANGUAGES, Texts

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>![図](https://evil.example/a.png) [押す](javascript:alert(1))'
FILES = Path(__file__).parent.parent.parent / "examples" / "company"


def id_of(site: Site, path: str) -> str:
    return next(r.id for r in site.project.ledger.documents.every_unfiltered() if r.path == path)


def version_of(site: Site, path: str) -> str:
    return next(r.version for r in site.project.ledger.documents.every_unfiltered() if r.path == path)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A company with a PDF, a workbook, a picture-free zip and hostile files."""
    folder: Folder = made(tmp_path_factory.mktemp("rich") / "company", synced=False)
    folder.write("rules/経費規程.pdf", (FILES / "rules" / "経費規程.pdf").read_bytes())
    folder.write("rules/価格表.xlsx", (FILES / "sales" / "価格表_2026.xlsx").read_bytes())
    folder.write("rules/罠.md", f"# 罠 {HOSTILE}\n\n休暇の申請は{HOSTILE}総務部へ行う。\n\n| 項目 | 値 |\n|---|---|\n| {HOSTILE} | 3日 |\n")
    folder.write("rules/罠.csv", f'項目,値\n"{HOSTILE.replace(chr(34), chr(34) * 2)}",3日\n休暇,10日\n')
    folder.write("rules/<img src=x onerror=alert(1)>規程.txt", "出張の旅費は実費を支給する。\n\n日当は1日3,000円とする。\n")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("要領.md", "# 棚卸の要領\n\n棚卸は九月三十日に行う。担当は総務課である。\n")
        archive.writestr("規程.pdf", (FILES / "rules" / "経費規程.pdf").read_bytes())
    folder.write("rules/棚卸.zip", packed.getvalue())
    folder.sync()
    staffed(folder.path)
    site = Site(folder.path)
    yield site
    site.close()


def test_a_pdf_page_is_a_picture_with_the_passage_marked(rich: Site):
    client, id = rich.client("reader"), id_of(rich, "rules/経費規程.pdf")
    page = client.get(f"/sources/{id}", params={"page": 1, "start": 62, "end": 143}).text
    assert page.count("<rect") == 2  # two printed lines
    [image] = re.findall(r'src="(/sources/[^"]+\.png\?[^"]+)"', page)
    picture = client.get(image)
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    assert picture.content.startswith(b"\x89PNG")
    assert "no-store" in picture.headers["cache-control"]
    assert "rules/経費規程.pdf" in page
    assert "label-internal" in page


def test_a_page_that_is_not_there_is_404(rich: Site):
    client, id = rich.client("reader"), id_of(rich, "rules/経費規程.pdf")
    assert client.get(f"/sources/{id}", params={"page": 4}).status_code == 404
    assert client.get(f"/sources/{id}/pages/4.png").status_code == 404
    assert client.get(f"/sources/{id_of(rich, 'rules/経費.txt')}/pages/1.png").status_code == 404


def test_a_worksheet_is_a_table_with_merged_cells_and_the_cell_marked(rich: Site):
    page = rich.client("reader").get(f"/sources/{id_of(rich, 'rules/価格表.xlsx')}", params={"page": 1, "cell": "標準価格!D8"}).text
    assert re.search(r'<td class="marked number" data-mark><mark>218,000</mark>', page)
    assert page.count("<mark>") == 1
    assert 'rowspan="3"' in page
    assert 'colspan="9"' in page


def test_a_text_has_the_span_marked(rich: Site):
    text = TEXTS["rules/有給休暇.md"]
    start = text.index("入社から")
    page = rich.client("reader").get(f"/sources/{id_of(rich, 'rules/有給休暇.md')}", params={"start": start, "end": start + 7}).text
    assert "<mark data-mark>入社から6か月</mark>" in page


def test_a_row_of_a_csv_file_is_marked_as_a_row(rich: Site):
    with Project.open(rich.folder) as project:
        shown = documents.show(project, id_of(rich, "rules/罠.csv"), by=project.principal("owner"))
    place = next(b.place for b in shown.document.blocks if "10日" in b.text)
    page = rich.client("reader").get(f"/sources/{shown.record.id}", params={"start": place.start, "end": place.end}).text
    assert page.count('<tr class="marked"') == 1
    assert "<td><mark>10日</mark></td>" in page


@pytest.mark.parametrize("path", ["rules/罠.md", "rules/罠.csv", "rules/<img src=x onerror=alert(1)>規程.txt"])
@pytest.mark.parametrize("fragment", [False, True])
def test_what_a_document_holds_is_text_on_the_page(rich: Site, path: str, fragment: bool):
    headers = {"HX-Request": "true"} if fragment else {}
    page = rich.client("reader").get(f"/sources/{id_of(rich, path)}", headers=headers).text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "evil.example" not in re.sub(r">[^<]*<", "><", page)  # it stands in text, in no attribute
    assert "javascript:" not in re.sub(r">[^<]*<", "><", page)


def test_a_fragment_is_what_the_panel_shows_and_no_more(rich: Site):
    id = id_of(rich, "rules/有給休暇.md")
    part = rich.client("reader").get(f"/sources/{id}", headers={"HX-Request": "true"}).text
    assert "<html" not in part
    assert "source-head" in part


def test_a_hidden_document_does_not_exist_by_any_way(site: Site):
    """By id, path, version, picture, original: as what was never there."""
    id, version = id_of(site, "hr/給与レンジ.md"), version_of(site, "hr/給与レンジ.md")
    mine = id_of(site, "rules/有給休暇.md")
    for role, clearance in (("reader", "public"), ("builder", "internal"), ("admin", "confidential")):
        client = site.client(role, clearance)
        for path in ("/sources/{id}", "/sources/{id}/pages/1.png", "/sources/{id}/original", "/sources/{id}?version=" + version):
            hidden, never = client.get(path.format(id=id)), client.get(path.format(id="d_0000000000000000"))
            assert hidden.status_code == never.status_code == 404
            assert hidden.text.replace(id, "ID") == never.text.replace("d_0000000000000000", "ID")
        if clearance != "public":
            assert client.get(f"/sources/{mine}", params={"version": version}).status_code == 404
            assert client.get(f"/sources/{mine}/original", params={"version": version}).status_code == 404
    assert site.client("reader", "confidential:hr").get(f"/sources/{id}").status_code == 200


@pytest.mark.parametrize("doc", ["rules", "有給休暇.md", "..%2F..%2Fhagane.yaml", "%", "d_%25", "d_0123456789ABCDEF", "%00"])
def test_only_ids_name_a_document(site: Site, doc: str):
    for tail in ("", "/original", "/pages/1.png"):
        assert site.client("reader").get(f"/sources/{doc}{tail}").status_code in (400, 404)


@pytest.mark.parametrize(
    "query", ["page=0", "page=x", "start=-1", "box=1,2", "box=a,b,c,d", "box=nan,1,2,3", "version=../../x", "at=-5", "page=99999999999"]
)
def test_a_place_that_is_none_is_refused(site: Site, query: str):
    response = site.client("reader").get(f"/sources/{id_of(site, 'rules/有給休暇.md')}?{query}")
    assert response.status_code in (400, 404)
    assert response.json()["error"]["message"]


def test_a_picture_that_was_kept_is_not_shown_to_who_may_no_longer_see_it(tmp_path: Path):
    """Pictures are kept by version; the label is asked at each request."""
    folder = made(tmp_path / "company", synced=False)
    folder.write("rules/経費規程.pdf", (FILES / "rules" / "経費規程.pdf").read_bytes())
    folder.sync()
    staffed(folder.path)
    site = Site(folder.path)
    try:
        path = f"/sources/{id_of(site, 'rules/経費規程.pdf')}/pages/1.png"
        assert site.client("reader").get(path).status_code == 200
        assert site.client("reader", "public").get(path).status_code == 404
        people.change_user(site.project, "reader-internal", clearance="public", by=site.by)
        assert site.client("reader").get(path).status_code == 404
    finally:
        site.close()


def test_the_original_is_handed_out_as_a_file_only(rich: Site):
    client, id = rich.client("reader"), id_of(rich, "rules/罠.md")
    answer = client.get(f"/sources/{id}/original")
    assert answer.content.startswith("# 罠 <script>".encode())
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_part_of_an_archive_is_handed_out_and_shown_alone(rich: Site):
    client = rich.client("reader")
    part = client.get(f"/sources/{id_of(rich, 'rules/棚卸.zip!/要領.md')}/original")
    assert part.content.decode().startswith("# 棚卸の要領")
    id = id_of(rich, "rules/棚卸.zip!/規程.pdf")
    assert client.get(f"/sources/{id}/pages/1.png").content.startswith(b"\x89PNG")


def test_an_archive_is_handed_out_only_to_who_may_see_all_of_it(rich: Site):
    """One part's label was raised: the archive would carry it out."""
    zip_id = id_of(rich, "rules/棚卸.zip")
    assert rich.client("reader").get(f"/sources/{zip_id}/original").status_code == 200
    with Project.open(rich.folder) as project:
        owner = project.principal("owner")
        documents.relabel(project, id_of(rich, "rules/棚卸.zip!/要領.md"), "confidential", by=owner, reason="金額を含む")
    assert rich.client("reader").get(f"/sources/{zip_id}/original").status_code == 404
    assert rich.client("reader", "confidential").get(f"/sources/{zip_id}/original").status_code == 200


def test_every_look_is_on_record(site: Site):
    client, id = site.client("reader", name="見る人"), id_of(site, "rules/有給休暇.md")

    def acts() -> list[str]:
        return [r["act"] for r in site.records() if r["principal"] == "見る人" and r.get("document") == id]

    client.get(f"/sources/{id}")
    assert acts() == ["read"]
    client.get(f"/sources/{id}/original")
    assert acts() == ["read", "download"]


def test_an_old_version_says_so_and_can_be_compared(template: Path, tmp_path: Path):
    folder = copied(template, tmp_path / "company")
    with Project.open(folder.path) as project:
        before = next(r for r in project.ledger.documents.every_unfiltered() if r.path == "rules/在宅勤務.md")
    folder.write("rules/在宅勤務.md", "# 在宅勤務\n\n在宅勤務は週4日までとする。通信費として月額6,000円を支給する。\n")
    folder.sync()
    site = Site(folder.path)
    try:
        for language in LANGUAGES:
            client = site.client("reader")
            client.cookies.set("hagane_language", language, domain="localhost.local")
            old = client.get(f"/sources/{before.id}", params={"version": before.version}).text
            assert "週3日" in old
            assert Texts(language)("source.old_text") in old
            now = client.get(f"/sources/{before.id}").text
            assert "週4日" in now
            assert Texts(language)("source.old_text") not in now
            assert before.version in now  # among the versions
    finally:
        site.close()


def test_a_file_that_hangs_or_breaks_its_reader_is_shown_as_text(rich: Site, monkeypatch: pytest.MonkeyPatch):
    from hagane.core.errors import SourceError

    def broken(*given: Any, **named: Any) -> Any:
        raise SourceError("this original cannot be shown", reason="timeout")

    monkeypatch.setattr(viewer, "_picture", broken)
    page = rich.client("reader").get(f"/sources/{id_of(rich, 'rules/経費規程.pdf')}").text
    assert Texts("ja")("source.failed") in page
    assert "経費の範囲" in page
