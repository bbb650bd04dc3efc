"""The documents of the page: what each may do, see and not see; uploads of all bad sorts; names that are script."""

from __future__ import annotations

import html
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from server.listening import listening
from server.site import Site

from hagane.project import documents, uploads

OCTETS = {"Content-Type": "application/octet-stream"}
TEXT = "# 慶弔見舞金\n\n結婚祝金は3万円とする。申請は総務部に行う。\n".encode()
SECOND = "# 慶弔見舞金\n\n結婚祝金は5万円とする。申請は総務部に行う。\n".encode()
HR = "hr/給与レンジ.md"


def sent(client: Any, name: str = "慶弔.md", data: Any = TEXT, **query: Any) -> Any:
    return client.post("/api/uploads", params={"name": name, **query}, content=data, headers=OCTETS)


def synced(site: Site) -> None:
    """What the worker of a running server does."""
    documents.sync(site.project, by=site.project.principal("owner"), emit=lambda event: None)


def listed(client: Any, **query: Any) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in client.get("/api/documents", params=query).json()["rows"]}


def hidden(site: Site) -> str:
    return listed(site.client("reader", "confidential:hr"))[HR]["id"]


# looking


def test_a_list_holds_what_its_reader_may_see_and_counts_only_that(site: Site):
    low = site.client("reader").get("/api/documents").json()
    high = site.client("reader", "confidential:hr").get("/api/documents").json()
    assert HR not in {row["path"] for row in low["rows"]}
    assert HR in {row["path"] for row in high["rows"]}
    assert (low["found"], high["found"]) == (3, 4)
    assert "hr" not in low["choices"]["source"]
    assert "confidential:hr" not in low["choices"]["label"]


def test_search_and_filters_narrow_the_list(site: Site):
    client = site.client("reader", "confidential:hr")
    assert list(listed(client, text="有給")) == ["rules/有給休暇.md"]
    assert list(listed(client, text="ｒｕｌｅｓ 有給")) == ["rules/有給休暇.md"], "width and case do not matter"
    assert list(listed(client, label="confidential:hr")) == [HR]
    assert list(listed(client, source="rules", text="給与")) == []
    assert client.get("/api/documents", params={"page": 9_999}).json()["page"] == 1


def test_pages_hold_all_rows_once(site: Site):
    from hagane.project.shelf import Wish, shelf

    by = site.project.principal("owner")
    pages = [shelf(site.project, Wish(page=n), by=by, per_page=3) for n in (1, 2)]
    assert (pages[0]["found"], pages[0]["pages"]) == (4, 2)
    assert len({row["path"] for page in pages for row in page["rows"]}) == 4


@pytest.mark.parametrize("address", ["/api/documents/{}", "/documents/{}", "/api/documents/{}/compare/0/0"])
def test_a_hidden_document_is_a_missing_one(site: Site, address: str):
    client = site.client("admin", "internal")
    hid, missing = (client.get(address.format(id)) for id in (hidden(site), "d_0000000000000000"))
    assert (hid.status_code, missing.status_code) == (404, 404)
    assert hid.text.replace(hidden(site), "") == missing.text.replace("d_0000000000000000", "")


def test_one_document_tells_its_versions_and_label(site: Site):
    found = site.client("reader", "confidential:hr").get(f"/api/documents/{hidden(site)}").json()
    assert (found["path"], found["label"], found["state"]) == (HR, "confidential:hr", "in")
    assert [version["current"] for version in found["versions"]] == [True]


def test_where_sources_lie_is_told_to_builders_only(site: Site):
    told = {role: site.client(role).get("/api/sources").json()["sources"] for role in ("reader", "builder")}
    assert {source["name"] for source in told["builder"]} == {"rules"}, "hr is above both"
    assert told["reader"][0]["path"] == ""
    assert str(site.folder) in told["builder"][0]["path"]
    assert str(site.folder) not in site.client("reader").get("/documents").text


# uploading


def test_upload_is_read_listed_and_taken_away(own_site: Site):
    client = own_site.client("builder")
    answer = sent(client)
    assert answer.status_code == 201
    path = answer.json()["path"]
    assert listed(client)[path]["state"] == "waiting"
    assert answer.json()["job"] == client.get("/api/sync").json()["job"]["id"]
    synced(own_site)
    assert listed(client)[path]["state"] == "in"
    assert client.delete("/api/uploads", params={"path": path}).status_code == 200
    synced(own_site)
    assert path not in listed(client)
    assert client.delete("/api/uploads", params={"path": path}).status_code == 404


def test_another_persons_upload_is_taken_away_by_administrators_only(own_site: Site):
    path = sent(own_site.client("builder")).json()["path"]
    synced(own_site)
    other = own_site.client("builder", "confidential:hr")
    document = listed(other)[path]["id"]
    answer = other.delete("/api/uploads", params={"path": path})
    assert (answer.status_code, bool(answer.json()["error"]["hint"])) == (403, True)
    button = 'data-opens="remove"'
    pages = {who: who.get(f"/documents/{document}").text for who in (other, own_site.client("builder"), own_site.client("admin"))}
    assert [button in page for page in pages.values()] == [False, True, True]
    assert path in listed(other)
    assert own_site.client("admin").delete("/api/uploads", params={"path": path}).status_code == 200


@pytest.mark.parametrize("role", ["reader", "annotator", "officer"])
def test_only_those_who_build_change_documents(site: Site, role: str):
    client = site.client(role, "confidential:hr")
    for answer in (
        sent(client), client.post("/api/sync"), client.delete("/api/uploads", params={"path": "x"}),
        client.post(f"/api/documents/{hidden(site)}/label", json={"label": "internal", "reason": "試し"}),
    ):  # fmt: skip
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "permission"
    assert "data-zone" not in client.get("/documents").text


def test_a_change_needs_the_csrf_token(site: Site):
    client = site.client("builder")
    bad = {**OCTETS, "X-CSRF-Token": "違う".encode()}
    assert client.post("/api/uploads", params={"name": "x.md"}, content=TEXT, headers=bad).status_code == 403
    assert client.delete("/api/uploads", params={"path": "x"}, headers={"X-CSRF-Token": ""}).status_code == 403
    assert client.post("/api/sync", headers={"X-CSRF-Token": "x"}).status_code == 403
    assert client.get("/api/uploads").json()["uploads"] == []


@pytest.mark.parametrize("name", ["../規程.md", "/etc/passwd", "a/../../b.md", "規程\x00.md", "規程\n.md", "a//b", "..", "長" * 300, "\u202egpj.exe"])
def test_names_that_lead_elsewhere_are_refused(site: Site, name: str):
    answer = sent(site.client("builder"), name)
    assert answer.status_code == 400
    assert site.client("builder").get("/api/uploads").json()["uploads"] == []
    assert name.strip() in ("..", "") or name not in answer.text


def test_the_same_name_again_wants_replace(own_site: Site):
    client = own_site.client("builder")
    assert sent(client).status_code == 201
    assert sent(client, data=SECOND).status_code == 409
    assert sent(client, data=SECOND, replace=True).status_code == 201
    assert len(client.get("/api/uploads").json()["uploads"]) == 1


def test_two_versions_stand_side_by_side(own_site: Site):
    client = own_site.client("builder")
    path = sent(client).json()["path"]
    synced(own_site)
    sent(client, data=SECOND, replace=True)
    synced(own_site)
    id = listed(client)[path]["id"]
    new, old = (version["id"] for version in client.get(f"/api/documents/{id}").json()["versions"])
    found = client.get(f"/api/documents/{id}/compare/{old}/{new}").json()
    [row] = [row for row in found["rows"] if row["kind"] == "changed"]
    assert [piece for piece in row["left"] if piece[1]] == [["3", True]]
    assert [piece for piece in row["right"] if piece[1]] == [["5", True]]
    page = client.get(f"/documents/{id}/compare/{old}/{new}").text
    assert "<del>3</del>" in page
    assert "<ins>5</ins>" in page
    assert client.get(f"/api/documents/{id}/compare/{old}/{'0' * 12}").status_code == 404


def test_what_is_too_large_is_refused_while_it_comes(own_site: Site):
    own_site.project.config = own_site.project.config.model_copy(
        update={"server": own_site.project.config.server.model_copy(update={"upload_mb": 1})}
    )
    drawn = 0

    def pieces() -> Iterator[bytes]:
        nonlocal drawn
        for _ in range(100):
            drawn += 1
            yield b"x" * 100_000

    answer = sent(own_site.client("builder"), "大.bin", pieces())
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"
    assert sent(own_site.client("builder"), "大.bin", b"x" * 1_000_001).status_code == 413
    assert uploads.uploads(own_site.project, by=own_site.project.principal("owner")) == []


def test_labels_of_uploads_keep_to_the_uploader(own_site: Site):
    client = own_site.client("builder")
    assert sent(client, label="confidential:hr").status_code == 403
    assert sent(client, label="internal:営業").status_code == 400
    assert sent(client, label="いちばん上").status_code == 400
    assert sent(own_site.client("builder", "confidential:hr"), label="confidential:hr").status_code == 201
    assert client.get("/api/uploads").json()["uploads"] == []
    assert own_site.client("reader", "confidential:hr").get("/api/uploads").json()["uploads"][0]["label"] == "confidential:hr"


def test_names_and_titles_that_are_script_stay_text(own_site: Site):
    client = own_site.client("builder")
    name, title = "<img src=x onerror=alert(1)>.md", "\"><script>alert('題')</script>"
    written = title.replace("<", "&lt;").replace(">", "&gt;")  # Markdown leaves tags out of titles, but not these
    path = sent(client, name, f"# {written}\n\n規程の本文である。申請は総務部に行う。\n".encode()).json()["path"]
    for _ in range(2):
        page = client.get("/documents").text
        assert "<img src=x" not in page
        assert html.escape(name) in page
        synced(own_site)
    row = listed(client)[path]
    assert row["title"] == title
    page = client.get(f"/documents/{row['id']}").text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert html.escape(title, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page


def test_no_name_of_a_file_in_the_audit_log(own_site: Site):
    client = own_site.client("builder")
    path = sent(client, "極秘の計画.md").json()["path"]
    client.delete("/api/uploads", params={"path": path})
    sent(client, "../極秘の計画.md")
    assert [record["act"] for record in own_site.records() if record["act"].startswith("upload")] == ["upload", "upload.remove"]
    assert "極秘の計画" not in str(own_site.records())


# labels


def test_raising_counts_at_once_and_lowering_waits(own_site: Site):
    client, officer = own_site.client("builder", "confidential:hr"), own_site.client("officer", "restricted:*")
    id = listed(client)["rules/経費.txt"]["id"]
    address = f"/api/documents/{id}/label"
    assert client.post(address, json={"label": "confidential:hr", "reason": "人事の内容"}).json()["after"] == "confidential:hr"
    assert "rules/経費.txt" not in listed(own_site.client("reader"))
    wish = client.post(address, json={"label": "internal", "reason": "誤りでした"}).json()
    assert wish["request"]
    assert "rules/経費.txt" not in listed(own_site.client("reader"))
    assert officer.post(f"/api/label-requests/{wish['request']}/approve").status_code == 200
    assert "rules/経費.txt" in listed(own_site.client("reader"))


def test_a_change_of_label_needs_a_reason_and_a_label_in_sight(site: Site):
    client = site.client("builder")
    address = f"/api/documents/{listed(client)['rules/経費.txt']['id']}/label"
    assert client.post(address, json={"label": "confidential"}).status_code == 400
    assert client.post(address, json={"label": "confidential", "reason": "  "}).status_code == 400
    assert client.post(address, json={"label": "internal:hr", "reason": "上げる"}).status_code == 403
    hid = client.post(f"/api/documents/{hidden(site)}/label", json={"label": "internal", "reason": "下げる"})
    assert hid.status_code == 404


# sources


def test_an_administrator_adds_a_folder_and_nobody_else_does(own_site: Site, tmp_path):
    more = tmp_path / "追加"
    more.mkdir()
    (more / "寮.md").write_text("# 社員寮\n\n寮費は月額1万円とする。", encoding="utf-8")
    body = {"path": str(more), "label": "internal"}
    assert own_site.client("builder").post("/api/sources", json=body).status_code == 403
    answer = own_site.client("admin").post("/api/sources", json=body)
    assert answer.status_code == 201
    synced(own_site)
    assert any(path.endswith("寮.md") for path in listed(own_site.client("reader")))


def test_what_lies_in_another_source_is_not_told_from_what_is_not_there(own_site: Site):
    """Else an administrator could ask which files lie in a source above their clearance, or label them anew."""
    client = own_site.client("admin")
    answers = [
        client.post("/api/sources", json={"path": path, "label": "internal"})
        for path in (HR, "hr/無い.md", "hr/", ".hagane/ledger.db", str(own_site.folder / "どこにも"), "/" + "長" * 300, "規程/" * 199 + "a")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert client.post("/api/sources", json={"path": HR, "label": "confidential:hr"}).status_code == 404


# the page


@pytest.mark.parametrize("language", ["ja", "en"])
@pytest.mark.parametrize("address", ["/documents", "/documents/reading", "/documents?text=規程&state=in&newest=true&page=3"])
def test_pages_render_in_both_languages(site: Site, language: str, address: str):
    client = site.client("builder", "confidential:hr")
    answer = client.get(address, headers={"Accept": "text/html", "Accept-Language": language})
    assert answer.status_code == 200


def test_the_list_alone_comes_for_those_who_type(site: Site):
    part = site.client("reader").get("/documents?text=有給", headers={"HX-Target": "shelf"}).text
    assert part.lstrip().startswith('<section id="shelf"')
    assert "有給休暇" in part
    assert "経費" not in part


def test_a_sender_who_leaves_in_the_middle_is_no_mistake_of_ours_and_leaves_nothing(own_site: Site) -> None:
    said: list[str] = []
    left = threading.Event()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            if record.getMessage() in ("client left", "mistake"):
                left.set()

    token = own_site.token("builder", "internal")
    logger, heard = logging.getLogger("hagane.server"), Heard()
    before = logger.level
    logger.addHandler(heard)
    logger.setLevel(logging.INFO)
    try:
        with listening(own_site.app) as url:
            port = int(url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as plug:
                head = (f"POST /api/uploads?name=%E8%A6%8F%E7%A8%8B.txt HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
                        "Content-Length: 9000000\r\n\r\n")  # fmt: skip
                plug.sendall(head.encode() + "規程".encode() * 10_000)
            assert left.wait(20)
    finally:
        logger.removeHandler(heard)
        logger.setLevel(before)
    assert "client left" in said and "mistake" not in said
    assert own_site.client("builder", "internal").get("/api/uploads").json() == {"uploads": []}
    assert own_site.records("upload") == []
    assert not [path for path in own_site.folder.rglob("*") if path.is_file() and "規程規程".encode() in path.read_bytes()]
