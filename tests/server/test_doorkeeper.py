"""Who is let in: tokens, sessions, permissions, requests from other sites."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, FastAPI
from server.site import CLEARANCES, ROLES, Site

from hagane.core.errors import HaganeError
from hagane.server.access import Asking, Building, needs

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
