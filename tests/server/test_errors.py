"""Errors: one shape for programs, a page for people, nothing of the content in either."""

from __future__ import annotations

import json

import pytest
from fastapi.exceptions import RequestValidationError
from server.site import Site

from hagane.core import errors as house
from hagane.core.errors import HaganeError, SourceError
from hagane.server.errors import of_ours, of_validation

HTML = {"Accept": "text/html"}
KINDS = sorted({kind for kind in vars(house).values() if isinstance(kind, type) and issubclass(kind, HaganeError)}, key=lambda k: k.__name__)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_house_has_openais_shape(kind: type[HaganeError]):
    made = kind("文書がありません", reason="damaged", hint="待つ") if kind is SourceError else kind("文書がありません", hint="待つ")
    problem = of_ours(made)
    assert set(problem.body["error"]) == {"message", "type", "param", "code", "hint"}
    assert 400 <= problem.status < 600
    assert problem.body["error"]["code"] == kind.code
    assert problem.body["error"]["hint"] == "待つ"
    assert (problem.body["error"]["type"] == "server_error") is (problem.status >= 500)


def test_where_the_project_lies_is_not_told():
    error = HaganeError("/srv/会社/llm/hagane.yaml:3: unknown key", hint="see /srv/会社/llm/hagane.yaml")
    assert "/srv" not in json.dumps(of_ours(error, folder="/srv/会社/llm").body, ensure_ascii=False)


@pytest.mark.parametrize(
    ("found", "param"),
    [
        ({"type": "missing", "loc": ("body", "messages"), "msg": "Field required", "input": {"q": "給与"}}, "messages"),
        ({"type": "value_error", "loc": ("body", "name"), "msg": "Value error, 給与 is bad", "input": "給与", "ctx": {"error": "給与"}}, "name"),
        ({"type": "extra_forbidden", "loc": ("body", "給与の額"), "msg": "Extra inputs are not permitted", "input": 1}, None),
        ({"type": "string_type", "loc": ("body", "messages", 3, "content"), "msg": "Input should be a valid string", "input": "給与"}, "messages.3.content"),
        ({"type": "string_type", "loc": ("body", "metadata", "給与"), "msg": "Input should be a valid string", "input": 1}, None),
        ({"type": "json_invalid", "loc": ("body", 12), "msg": "JSON decode error", "input": {}, "ctx": {"error": "給与"}}, None),
    ],
)
def test_what_was_sent_is_not_repeated(found: dict, param: str | None):
    problem = of_validation(RequestValidationError([found], body="給与"))
    assert problem.status == 400
    assert problem.param == param
    assert "給与" not in json.dumps(problem.body, ensure_ascii=False)


@pytest.mark.parametrize("role", [None, "reader"])
def test_people_get_a_page_in_their_language(site: Site, role: str | None):
    client = site.client(role) if role else site.nobody()
    answer = client.get("/どこにもない", headers={**HTML, "Accept-Language": "ja"})
    assert answer.status_code == 404
    assert "見つかりません" in answer.text
    english = client.get("/どこにもない", headers={**HTML, "Accept-Language": "en"})
    assert "Not found" in english.text


@pytest.mark.parametrize("path", ["/v1/どこにもない", "/api/どこにもない"])
def test_the_api_never_answers_with_a_page(site: Site, path: str):
    answer = site.nobody().get(path, headers=HTML)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == "not_found"


def test_a_part_of_a_page_gets_json_for_its_message(site: Site):
    """htmx shows the message; a whole page inside a part would be wrong."""
    answer = site.client("reader").get("/どこにもない", headers={**HTML, "HX-Request": "true"})
    assert answer.json()["error"]["code"] == "not_found"


def test_a_broken_error_page_is_still_an_answer(own_site: Site, monkeypatch):
    def broken(*given, **named):
        raise KeyError("給与")

    monkeypatch.setattr(own_site.app.state.site.pages, "render", broken)
    answer = own_site.nobody().get("/どこにもない", headers=HTML)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/plain")
    assert "給与" not in answer.text


def test_a_mistake_in_a_verb_is_500_without_its_message(own_site: Site, monkeypatch, caplog):
    from hagane.project import people

    def broken(*given, **named):
        raise RuntimeError("給与レンジは38万円")

    monkeypatch.setattr(people, "tokens", broken)
    answer = own_site.client("reader").get("/account", headers={"Accept": "application/json"})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "給与" not in answer.text + caplog.text


def test_the_frameworks_own_words_never_leave(site: Site):
    """`detail` is FastAPI's shape; a client of OpenAI's API would not find the message."""
    for method, path in (("GET", "/nowhere"), ("DELETE", "/openapi.json"), ("POST", "/sign-in")):
        answer = site.client("reader").request(method, path)
        assert "detail" not in answer.json()
        assert answer.json()["error"]["message"]


def test_pages_for_errors_know_every_error_by_status():
    """A heading for each status that the house uses, or for its hundred."""
    from hagane.server.pages import Texts

    words = Texts("ja").words
    for status in {kind.http_status for kind in KINDS} | {404, 405, 413, 415, 421}:
        assert any(f"fault.s{s}_title" in words for s in (status, 400 if status < 500 else 500))
