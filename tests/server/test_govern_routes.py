"""What officers see and decide: the log, wishes for lower labels, why someone sees a thing."""

from __future__ import annotations

from typing import Any

import pytest
from server.site import ROLES, Site

REASON = "評価の基準は公開することになった"


def found(client: Any, path: str) -> str:
    return next(row["id"] for row in client.get("/api/documents").json()["rows"] if row["path"] == path)


def wished(site: Site, client: Any = None) -> tuple[str, str]:
    """(document, request): someone wants hr's document lower."""
    client = client or site.client("builder", "confidential:hr")
    id = found(client, "hr/給与レンジ.md")
    return id, client.post(f"/api/documents/{id}/label", json={"label": "internal", "reason": REASON}).json()["request"]


@pytest.mark.parametrize("role", [role for role in ROLES if role != "officer"])
def test_only_officers_govern(site: Site, role: str):
    client = site.client(role, "restricted:*")
    answers = [
        client.get("/audit"), client.get("/api/audit"), client.post("/api/audit/verify"), client.post("/audit/verify"),
        client.get("/api/label-requests"), client.post("/api/label-requests/r_0/approve"),
        client.post("/api/label-requests/r_0/decline", json={"reason": "否"}), client.post("/api/access", json={"user": "x", "thing": "public"}),
    ]  # fmt: skip
    assert {answer.status_code for answer in answers} == {403}


def test_the_log_comes_newest_first_in_pages(own_site: Site):
    client = own_site.client("officer", "restricted:*")
    for _ in range(12):
        client.get("/api/label-requests")
        own_site.client("reader").get("/api/documents")
    whole = client.get("/api/audit", params={"n": 500}).json()["records"]
    assert [record["seq"] for record in whole] == sorted((record["seq"] for record in whole), reverse=True)
    paged, before = [], None
    while True:
        got = client.get("/api/audit", params={"n": 5, "before": before} if before else {"n": 5, "before": whole[0]["seq"] + 1}).json()
        paged += got["records"]
        before = got["next"]
        if before is None:
            break
    assert paged == whole


def test_the_log_is_narrowed_by_act_person_and_day(own_site: Site):
    client = own_site.client("officer", "restricted:*")
    own_site.client("reader").get("/api/documents")
    wished(own_site)
    acts = {record["act"] for record in client.get("/api/audit", params={"act": "label"}).json()["records"]}
    assert acts == {"label.request"}
    names = {record["principal"] for record in client.get("/api/audit", params={"principal": "reader-internal"}).json()["records"]}
    assert names == {"reader-internal"}
    day = own_site.records()[0]["time"][:10]
    assert client.get("/api/audit", params={"since": day, "until": day}).json()["records"]
    assert client.get("/api/audit", params={"since": "2999-01-01"}).json()["records"] == []
    assert client.get("/api/audit", params={"until": "1999-01-01"}).json() == {"records": [], "next": None}
    assert client.get("/api/audit", params={"since": "昨日"}).status_code == 400


def test_the_chain_is_verified_and_a_changed_record_shows(own_site: Site):
    client = own_site.client("officer", "restricted:*")
    assert client.post("/api/audit/verify").json()["ok"] is True
    assert "notice-good" in client.post("/audit/verify").text
    log = own_site.folder / ".hagane" / "audit" / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    log.write_text("".join([lines[0].replace('"seq":1', '"seq":1 '), *lines[1:]]), encoding="utf-8")
    assert client.post("/api/audit/verify").json()["ok"] is False
    assert "notice-bad" in client.post("/audit/verify").text


def test_a_wish_is_approved_by_somebody_else(own_site: Site):
    document, wish = wished(own_site)
    officer = own_site.client("officer", "restricted:*")
    [told] = officer.get("/api/label-requests").json()["requests"]
    assert (told["id"], told["reason"], told["own"], told["path"]) == (wish, REASON, False, "hr/給与レンジ.md")
    assert REASON in officer.get("/audit").text
    assert officer.post(f"/api/label-requests/{wish}/approve").status_code == 200
    assert own_site.client("reader").get(f"/api/documents/{document}").status_code == 200
    assert officer.post(f"/api/label-requests/{wish}/approve").status_code == 409
    assert REASON not in str(own_site.records())


def test_a_wish_is_declined_with_a_reason(own_site: Site):
    document, wish = wished(own_site)
    officer = own_site.client("officer", "restricted:*")
    assert officer.post(f"/api/label-requests/{wish}/decline", json={}).status_code == 400
    assert officer.post(f"/api/label-requests/{wish}/decline", json={"reason": "まだ早い"}).status_code == 200
    assert officer.get("/api/label-requests").json()["requests"] == []
    assert officer.post(f"/api/label-requests/{wish}/approve").status_code == 409
    assert own_site.client("reader").get(f"/api/documents/{document}").status_code == 404
    assert [record["act"] for record in own_site.records("label.decline")] == ["label.decline"]
    assert "まだ早い" not in str(own_site.records())


def test_wishes_about_what_an_officer_may_not_see_are_missing(own_site: Site):
    """A role opens acts, not documents."""
    _, wish = wished(own_site)
    low = own_site.client("officer", "internal")
    assert low.get("/api/label-requests").json()["requests"] == []
    assert "給与" not in low.get("/audit").text
    for act, body in (("approve", None), ("decline", {"reason": "否"})):
        hid, missing = (low.post(f"/api/label-requests/{id}/{act}", json=body) for id in (wish, "r_0000000000"))
        assert (hid.status_code, missing.status_code) == (404, 404)
        assert hid.text.replace(wish, "") == missing.text.replace("r_0000000000", "")


def test_why_someone_sees_a_thing(own_site: Site):
    officer = own_site.client("officer", "restricted:*")
    name = own_site.user("reader")
    said = officer.post("/api/access", json={"user": name, "thing": "給与レンジ.md"}).json()["because"]
    assert "cannot see" in said
    assert "confidential" in said
    assert "can see" in officer.post("/api/access", json={"user": name, "thing": "internal"}).json()["because"]
    low = own_site.client("officer", "internal")
    assert low.post("/api/access", json={"user": name, "thing": "給与レンジ.md"}).status_code == 404
    assert officer.post("/api/access", json={"user": "誰もいない", "thing": "internal"}).status_code == 404


def test_decisions_need_the_csrf_token(own_site: Site):
    _, wish = wished(own_site)
    officer = own_site.client("officer", "restricted:*")
    assert officer.post(f"/api/label-requests/{wish}/approve", headers={"X-CSRF-Token": "x"}).status_code == 403
    assert officer.get("/api/label-requests").json()["requests"]


@pytest.mark.parametrize("language", ["ja", "en"])
def test_the_page_renders_in_both_languages(site: Site, language: str):
    client = site.client("officer", "restricted:*")
    for where in ("/audit", "/audit?act=session&principal=管理者&since=2020-01-01"):
        assert client.get(where, headers={"Accept": "text/html", "Accept-Language": language}).status_code == 200
