"""Who is let in: tokens, sessions, permissions, requests from other sites."""

from __future__ import annotations

import json

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from server.site import CLEARANCES, PASSWORD, ROLES, Site

from hagane.core.errors import AuditError, HaganeError
from hagane.ledger.audit import digest
from hagane.project import documents, people
from hagane.project.refusals import MOST
from hagane.server.access import Asking, Building, needs
from hagane.server.app import create_app

WHERE = "/openapi.json"  # open to whoever may ask


def error(answer) -> dict:
    return answer.json()["error"]


def test_nobody_is_told_to_sign_in(site: Site):
    answer = site.nobody().get(WHERE)
    assert answer.status_code == 401
    assert error(answer)["type"] == "authentication_error"
    assert error(answer)["hint"]


def test_a_session_and_a_token_open_the_door(site: Site):
    assert site.client("reader").get(WHERE).status_code == 200
    assert site.program("reader").get(WHERE).status_code == 200


@pytest.mark.parametrize("given", ["Bearer", "Bearer ", "Bearer 偽物".encode(), "Basic dTpw", "Bearer " + "a" * 4000, "bearer x y"])
def test_a_bad_token_is_refused_even_beside_a_good_session(site: Site, given: str | bytes):
    answer = site.client("reader").get(WHERE, headers={"Authorization": given})
    assert answer.status_code == 401
    assert error(answer)["code"] == "invalid_api_key"


@pytest.mark.parametrize("role", ROLES)
def test_every_role_can_be_made_and_let_in(site: Site, role: str):
    """The fixture that all tests of routes stand on."""
    for clearance in CLEARANCES:
        assert site.client(role, clearance).get(WHERE).status_code == 200
    assert site.program(role, "confidential:hr").get(WHERE).status_code == 200


def test_a_token_wins_over_a_session(site: Site):
    """Both at once: what the token may do counts."""
    client = site.client("admin")
    token = site.token("annotator", scopes=("annotate",))
    assert client.get(WHERE).status_code == 200
    assert client.get(WHERE, headers={"Authorization": f"Bearer {token}"}).status_code == 403


def test_a_refusal_is_recorded_without_what_was_asked(own_site: Site):
    answer = own_site.program("annotator", scopes=("annotate",)).get(WHERE + "?question=給与")
    assert answer.status_code == 403
    assert error(answer)["type"] == "permission_error"
    last = own_site.records("refused")[-1]
    assert (last["route"], last["need"], last["principal"]) == (WHERE, "ask", "annotator-internal")
    assert "給与" not in str(last)


def app_with(router: APIRouter, *, included: bool = False) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(router) if included else app.router.routes.extend(router.routes)
    return app


def test_a_route_that_does_not_say_who_may_use_it_keeps_the_server_from_starting():
    router = APIRouter()

    @router.get("/文書")
    async def forgotten() -> None: ...

    with pytest.raises(HaganeError, match="says 0 times"):
        list(needs(app_with(router)))


def test_a_route_that_says_it_twice_is_refused():
    router = APIRouter()

    @router.get("/文書")
    async def unsure(one: Asking, other: Building) -> None: ...

    with pytest.raises(HaganeError, match="says 2 times"):
        list(needs(app_with(router)))


def test_a_router_that_hides_its_routes_is_refused():
    """The framework keeps an included router as one opaque entry; nothing in it would be looked at."""
    router = APIRouter()

    @router.get("/文書")
    async def known(caller: Asking) -> None: ...

    assert [need for _, need in needs(app_with(router))] == ["ask"]
    with pytest.raises(HaganeError, match="hides routes"):
        list(needs(app_with(router, included=True)))


def test_two_routes_of_one_address_keep_the_server_from_starting(own_site: Site, monkeypatch):
    """The second would never be reached, and its permission would be read by the tests alone."""
    from hagane.server import chat_routes

    router = APIRouter()

    @router.get("/static/{印}/{名}")
    async def again(caller: Asking) -> None: ...

    monkeypatch.setattr(chat_routes, "router", router)
    with pytest.raises(HaganeError, match="stands twice"):
        create_app(own_site.project)


# requests from other sites

CHANGE = "/account/tokens"  # a form of the page that changes something
FORM = {"name": "検査用", "scopes": "ask"}


def bare(site: Site, name: str = "reader") -> TestClient:
    """Signed in, but without the CSRF token in its headers."""
    client = site.fresh()
    client.cookies.set("hagane_session", site.signed(site.user(name)).cookie, domain="localhost.local")
    return client


def csrf(site: Site, name: str = "reader") -> str:
    return site.signed(site.user(name)).caller.csrf


@pytest.mark.parametrize("given", [None, "", "偽".encode(), b"x" * 43])
def test_a_change_by_session_needs_the_csrf_token(site: Site, given: bytes | None):
    headers = {} if given is None else {"X-CSRF-Token": given}
    answer = bare(site).post(CHANGE, data=FORM, headers=headers)
    assert answer.status_code == 403
    assert error(answer)["code"] == "csrf"


def test_the_csrf_token_of_someone_else_does_not_do(site: Site):
    answer = bare(site).post(CHANGE, data=FORM, headers={"X-CSRF-Token": csrf(site, "builder")})
    assert error(answer)["code"] == "csrf"


@pytest.mark.parametrize("way", ["header", "field"])
def test_the_csrf_token_may_come_by_header_or_form(site: Site, way: str):
    token = csrf(site)
    extra = {"headers": {"X-CSRF-Token": token}} if way == "header" else {}
    answer = bare(site).post(CHANGE, data=FORM | ({} if way == "header" else {"csrf": token}), **extra)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "good"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),  # what a page without referrers sends
        ({"Origin": "http://localhost"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://localhost:8080"}, False),
        ({"Origin": "https://localhost"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, False),
    ],
)
def test_a_change_comes_from_our_own_page(site: Site, headers: dict[str, str], good: bool):
    """Even with the right CSRF token."""
    answer = bare(site).post(CHANGE, data=FORM, headers={"X-CSRF-Token": csrf(site), **headers})
    assert (answer.status_code == 200) is good
    if not good:
        assert error(answer)["code"] == "cross_site"


def test_signing_in_cannot_be_done_from_another_site(site: Site):
    """Else someone could be signed in as somebody else, and ask under that name."""
    answer = site.nobody().post("/sign-in", data={"name": "管理者", "password": "x" * 20}, headers={"Origin": "http://evil.example"})
    assert error(answer)["code"] == "cross_site"


def test_a_token_needs_no_csrf_token(site: Site):
    """No browser sends it by itself. (What the route says about tokens is its own business: 403 of another kind.)"""
    answer = site.program("reader").post(CHANGE, data=FORM, headers={"Origin": "http://evil.example"})
    assert error(answer)["code"] == "refused"


def test_there_is_no_cors(site: Site):
    answer = site.program("reader").get(WHERE, headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    asked = site.nobody().options(WHERE, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"})
    assert asked.status_code == 405
    assert not [name for name in asked.headers if name.startswith("access-control-")]


# where nobody is, and what nobody may see


def test_a_browser_without_a_session_is_sent_to_the_sign_in_page(site: Site):
    answer = site.nobody().get("/account", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/account")


def test_the_way_back_holds_no_query(site: Site):
    """It may hold what someone asked."""
    answer = site.nobody().get("/account?q=給与", headers={"Accept": "text/html"})
    assert answer.headers["location"] == "/sign-in?next=/account"


def test_who_must_change_the_password_reaches_nothing_else(own_site: Site):
    people.create_user(own_site.project, "新人", role="builder", clearance="internal", password=PASSWORD, must_change=True, by=own_site.by)
    client = own_site.client("builder", name="新人")
    assert client.get("/account", headers={"Accept": "text/html"}).headers["location"] == "/password"
    assert error(client.get(WHERE))["code"] == "password_change"
    assert error(client.post(CHANGE, data=FORM))["code"] == "password_change"
    assert client.get("/password", headers={"Accept": "text/html"}).status_code == 200
    assert client.post("/sign-out").status_code == 303


def test_a_lost_permission_counts_at_the_next_request(own_site: Site):
    name = own_site.user("builder")
    program = own_site.program("builder", scopes=("build",))
    assert error(program.get(WHERE))["code"] == "permission"
    people.change_user(own_site.project, name, state="disabled", by=own_site.by)
    assert error(program.get(WHERE))["code"] == "invalid_api_key"
    assert own_site.client("builder").get(WHERE).status_code == 401


def test_a_refusal_that_cannot_be_recorded_is_still_no_entry(own_site: Site, monkeypatch):
    program = own_site.program("annotator", scopes=("annotate",))

    def broken(*given, **named):
        raise AuditError("the audit record could not be written")

    monkeypatch.setattr(own_site.project.ledger.audit, "record", broken)
    answer = program.get(WHERE)
    assert (answer.status_code, error(answer)["code"]) == (500, "audit")


# what a label or a rule refuses


def salary(site: Site) -> str:
    return next(r.id for r in site.project.ledger.documents.every_unfiltered() if "給与" in r.path)


@pytest.mark.parametrize("address", ["/api/documents/{}", "/sources/{}", "/sources/{}/original", "/documents/{}"])
def test_a_hidden_document_is_answered_as_a_missing_one_and_recorded(own_site: Site, address: str):
    reader, id = own_site.client("reader"), salary(own_site)
    hidden, missing = (reader.get(address.format(name)) for name in (id, "d_" + "0" * 16))
    assert hidden.status_code == missing.status_code == 404
    assert hidden.text.replace(id, "ID") == missing.text.replace("d_" + "0" * 16, "ID")  # it may say what it was asked for
    there, not_there = own_site.records("refused")
    assert (there["hidden"], there["principal"], there["code"], there["method"]) == ([id], "reader-internal", "not_found", "GET")
    assert there["route"] == not_there["route"] and "{document}" in there["route"]
    assert "hidden" not in not_there and there.keys() - not_there.keys() == {"hidden"}


def test_a_conversation_of_someone_else_is_recorded(own_site: Site):
    told = own_site.client("builder", "confidential:hr").post("/api/conversations", json={"question": "在宅勤務は週何日ですか"})
    id = json.loads(told.text.splitlines()[-1])["turn"]["conversation"]
    other = own_site.client("admin", "restricted:*")
    answers = [other.patch(f"/api/conversations/{id}", json={"title": "別名"}), other.post(f"/api/conversations/{id}/turns", json={"question": "続き"})]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert [record["hidden"] for record in own_site.records("refused")] == [[id], [id]]


def test_what_a_rule_refuses_is_recorded(own_site: Site):
    """A grant above one's own clearance, one's own wish, an upload above one's clearance."""
    admin, builder = own_site.client("admin", "internal"), own_site.client("builder", "internal")
    answers = [
        admin.post("/api/users", json={"name": "高橋", "role": "reader", "clearance": "confidential:hr"}),
        admin.post("/api/groups", json={"name": "人事課", "clearance": "confidential:hr"}),
        builder.post("/api/uploads?name=秘密.md&label=confidential", content="秘密".encode()),
    ]
    assert [answer.status_code for answer in answers] == [403, 403, 403]
    told = [(record["principal"], record["route"], record["code"]) for record in own_site.records("refused")]
    assert told == [
        ("admin-internal", "/api/users", "refused"), ("admin-internal", "/api/groups", "refused"), ("builder-internal", "/api/uploads", "refused"),
    ]  # fmt: skip
    assert "秘密" not in str(own_site.records("refused"))


def test_nobody_approves_their_own_wish_and_the_try_is_recorded(own_site: Site):
    officer = own_site.client("officer", "restricted:*")
    by = own_site.signed("officer-restricted-all").caller.principal
    wish = documents.relabel(own_site.project, "在宅勤務.md", "public", by=by, reason="公開する")["request"]
    assert officer.post(f"/api/label-requests/{wish}/approve").status_code == 403
    [record] = own_site.records("refused")
    assert (record["route"], record["named"]) == ("/api/label-requests/{request}/approve", [digest(wish)])


def test_a_flood_of_missing_things_does_not_fill_the_log(own_site: Site):
    reader = own_site.client("reader")
    answers = [reader.get(f"/api/documents/d_{n:016x}") for n in range(MOST + 5)]
    assert {answer.status_code for answer in answers} == {404}
    assert len(own_site.records("refused")) == MOST


def test_with_a_damaged_log_hidden_and_missing_still_look_alike(own_site: Site):
    reader, id = own_site.client("reader"), salary(own_site)
    (own_site.folder / ".hagane" / "audit" / "head.json").write_bytes(b"{}")
    hidden, missing = (reader.get(f"/api/documents/{name}") for name in (id, "d_" + "0" * 16))
    assert (hidden.status_code, hidden.content) == (missing.status_code, missing.content)
    assert error(hidden)["code"] == "audit"


@pytest.mark.parametrize("address", ["/api/conversations", "/api/conversations?search=休暇", "/api/suggestions", "/api/uploads"])
def test_what_shows_content_is_recorded_or_not_shown(own_site: Site, address: str):
    client = own_site.client("builder")
    before = len(own_site.records("list"))
    assert client.get(address).status_code == 200
    assert len(own_site.records("list")) == before + 1
    assert "休暇" not in str(own_site.records("list"))
    (own_site.folder / ".hagane" / "audit" / "head.json").write_bytes(b"{}")
    assert error(client.get(address))["code"] == "audit"


def test_a_conversation_is_renamed_on_record_or_not_at_all(own_site: Site):
    client = own_site.client("builder")
    id = json.loads(client.post("/api/conversations", json={"question": "在宅勤務は週何日ですか"}).text.splitlines()[-1])["turn"]["conversation"]
    assert client.patch(f"/api/conversations/{id}", json={"title": "在宅の件"}).json()["title"] == "在宅の件"
    assert own_site.records("conversation_rename")[-1]["conversation"] == id
    assert "在宅" not in str(own_site.records("conversation_rename"))
    head = own_site.folder / ".hagane" / "audit" / "head.json"
    kept = head.read_bytes()
    head.write_bytes(b"{}")
    assert error(client.patch(f"/api/conversations/{id}", json={"title": "別の件"}))["code"] == "audit"
    head.write_bytes(kept)
    assert client.get(f"/api/conversations/{id}").json()["title"] == "在宅の件"
