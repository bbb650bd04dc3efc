"""The people of the page: only administrators keep them, secrets are shown once, nobody gives more than they have."""

from __future__ import annotations

from typing import Any

import pytest
from server.site import PASSWORD, ROLES, Site

NEW = {"name": "佐藤", "role": "reader", "clearance": "internal", "display": "佐藤 花子"}


def made(site: Site, **other: Any) -> dict[str, Any]:
    answer = site.client("admin", "restricted:*").post("/api/users", json=NEW | other)
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_an_invitation_is_shown_once_and_lets_its_owner_in(own_site: Site):
    user = made(own_site)
    secret = user["link"].partition("#")[2]
    assert user["link"].startswith("/welcome#")
    admin = own_site.client("admin", "restricted:*")
    assert all(secret not in admin.get(where).text for where in ("/people", f"/people/{user['id']}", "/api/users"))
    form = {"secret": secret, "password": PASSWORD, "again": PASSWORD}
    browser = own_site.nobody()
    assert browser.post("/welcome", data=form).status_code == 303
    assert browser.get("/api/documents").status_code == 200
    assert own_site.nobody().post("/welcome", data=form).status_code == 404


@pytest.mark.parametrize("role", [role for role in ROLES if role != "admin"])
def test_only_administrators_keep_people(site: Site, role: str):
    client = site.client(role, "restricted:*")
    answers = [
        client.get("/people"), client.get("/people/u_0000000000000000"), client.get("/api/users"), client.post("/api/users", json=NEW),
        client.patch("/api/users/佐藤", json={"role": "admin"}), client.post("/api/users/佐藤/invitation"),
        client.delete("/api/users/佐藤/second-factor"), client.get("/api/users/佐藤/tokens"),
        client.post("/api/users/佐藤/tokens", json={"name": "x", "scopes": ["ask"]}), client.delete("/api/tokens/t_0"),
        client.get("/api/groups"), client.post("/api/groups", json={"name": "x", "clearance": "internal"}), client.delete("/api/groups/x"),
        client.patch("/api/groups/x", json={"clearance": "public"}),
    ]  # fmt: skip
    assert {answer.status_code for answer in answers} == {403}


def test_a_change_counts_at_the_next_request(own_site: Site):
    admin, reader = own_site.client("admin", "restricted:*"), own_site.client("reader", "confidential:hr", name="鈴木")
    id = next(user["id"] for user in admin.get("/api/users").json()["users"] if user["name"] == "鈴木")
    assert reader.get("/api/documents").json()["found"] == 4
    assert admin.patch(f"/api/users/{id}", json={"clearance": "internal"}).json()["clearance"] == "internal"
    assert reader.get("/api/documents").json()["found"] == 3
    admin.post("/api/groups", json={"name": "人事課", "clearance": "confidential:hr"})
    assert admin.patch(f"/api/users/{id}", json={"groups": ["人事課"]}).json()["clearance"] == "confidential:hr"
    assert reader.get("/api/documents").json()["found"] == 4
    assert admin.delete("/api/groups/人事課").status_code == 204
    assert reader.get("/api/documents").json()["found"] == 3
    admin.patch(f"/api/users/{id}", json={"state": "disabled"})
    assert reader.get("/api/documents").status_code == 401


def test_nobody_gives_what_they_do_not_have(site: Site):
    low = site.client("admin", "internal")
    assert low.post("/api/users", json=NEW | {"name": "高橋", "clearance": "confidential:hr"}).status_code == 403
    assert low.post("/api/groups", json={"name": "役員", "clearance": "restricted:board"}).status_code == 403
    assert low.post("/api/users", json=NEW | {"name": "高橋", "role": "officer"}).status_code in (201, 403)
    names = {user["name"] for user in site.client("admin", "restricted:*").get("/api/users").json()["users"]}
    groups = site.client("admin", "restricted:*").get("/api/groups").json()["groups"]
    assert groups == []
    assert "役員" not in names


def test_a_token_is_shown_once_and_ends_when_revoked(own_site: Site):
    admin = own_site.client("admin", "restricted:*")
    user = made(own_site)["id"]
    token = admin.post(f"/api/users/{user}/tokens", json={"name": "取り込み", "scopes": ["ask"], "days": 30}).json()
    program = own_site.fresh(Authorization=f"Bearer {token['secret']}")
    assert program.get("/api/documents").status_code == 200
    [told] = admin.get(f"/api/users/{user}/tokens").json()["tokens"]
    assert (told["name"], told["state"], told["scopes"]) == ("取り込み", "active", ["ask"])
    assert all(token["secret"] not in admin.get(where).text for where in (f"/people/{user}", f"/api/users/{user}/tokens"))
    assert admin.delete(f"/api/tokens/{token['id']}").status_code == 204
    assert program.get("/api/documents").status_code == 401


@pytest.mark.parametrize(
    "body",
    [NEW | {"role": "神"}, NEW | {"clearance": "とても高い"}, NEW | {"clearance": "internal:営業"}, NEW | {"name": ""}, NEW | {"name": "a\x00b"},
     NEW | {"admin": True}, {"name": "x"}, NEW | {"name": "長" * 300}],
)  # fmt: skip
def test_what_fits_no_account_is_refused(site: Site, body: dict[str, Any]):
    answer = site.client("admin", "restricted:*").post("/api/users", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_a_name_exists_once(own_site: Site):
    made(own_site)
    answer = own_site.client("admin", "restricted:*").post("/api/users", json=NEW)
    assert answer.status_code == 409


def test_the_page_escapes_what_people_are_called(own_site: Site):
    user = made(own_site, display="<script>alert(1)</script>")
    client = own_site.client("admin", "restricted:*")
    for where in ("/people", f"/people/{user['id']}"):
        page = client.get(where).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page


def test_changes_of_people_need_the_csrf_token(site: Site):
    client = site.client("admin", "restricted:*")
    assert client.post("/api/users", json=NEW, headers={"X-CSRF-Token": "x"}).status_code == 403
    assert client.post("/api/groups", json={"name": "x", "clearance": "public"}, headers={"Origin": "https://evil.example"}).status_code == 403


def test_missing_people_are_missing(site: Site):
    client = site.client("admin", "restricted:*")
    assert client.get("/people/u_0000000000000000").status_code == 404
    assert client.patch("/api/users/u_0000000000000000", json={"display": "誰か"}).status_code == 404
    assert client.delete("/api/tokens/t_0000000000000000").status_code == 404
    assert client.delete("/api/groups/無い").status_code == 404
