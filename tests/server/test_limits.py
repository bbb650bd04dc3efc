"""The outer wall: sizes, types, times, names, headers. On every kind of answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import Request
from server.site import Site
from starlette.exceptions import HTTPException

from hagane.project.config_server import ServerConfig
from hagane.server.errors import Refusal, of_http
from hagane.server.limits import SECURITY, Limits, check_path, is_loopback, takes_upload

WHERE = "/openapi.json"
FORM = "/account/tokens"


def code(answer) -> str:
    return answer.json()["error"]["code"]


# a small application of its own, for what no real route does


class Echo:
    """Reads its body and says how long it was; has one route that takes uploads."""

    def __init__(self) -> None:
        self.routes = [Route("/upload")]
        self.state = None
        self.read = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        self.read = size
        if scope["path"] == "/broken":
            raise RuntimeError("給与レンジ: 38万円")  # a message that holds content
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
        if scope["path"] == "/torn":
            raise RuntimeError("給与レンジ: 38万円")
        await send({"type": "http.response.body", "body": b"%d" % size})


class Route:
    def __init__(self, path: str) -> None:
        import re

        async def endpoint() -> None: ...

        self.endpoint, self.path_regex, self.methods = takes_upload(endpoint), re.compile(f"^{path}$"), {"POST"}


def call(path: str = "/", *, method: str = "POST", pieces: list[bytes] = [b""], headers: dict[str, str] | None = None,  # noqa: B006
         host: str = "127.0.0.1", config: ServerConfig | None = None, silent: bool = False, scheme: str = "http", **more: float) -> tuple[int, dict, bytes]:  # fmt: skip
    """(status, headers, body) of one request to Echo behind the wall. `silent`: the body stops arriving."""
    app = Echo()
    wall = Limits(app, config=config or ServerConfig(body_kb=16), host=host, **more)
    given = {"host": "localhost", "content-type": "application/json", "transfer-encoding": "chunked", **(headers or {})}
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "scheme": scheme, "app": app,
        "headers": [(name.encode(), value.encode("latin1")) for name, value in given.items() if value],
    }  # fmt: skip
    waiting, sent = list(pieces), []

    async def receive() -> dict:
        if not waiting:
            await asyncio.Event().wait()
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": silent or bool(waiting)}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(wall(scope, receive, send), 10))
    start = sent[0]
    assert start["type"] == "http.response.start"
    return start["status"], {k.decode().lower(): v.decode() for k, v in start["headers"]}, b"".join(m.get("body", b"") for m in sent[1:])


@pytest.fixture(autouse=True)
def plain_http_errors(monkeypatch):
    """Echo's `read` raises where a framework would answer."""

    async def through(self, scope, receive, send):
        try:
            await ECHO(self, scope, receive, send)
        except HTTPException as error:
            from hagane.server.errors import answer

            await answer(Request(scope), of_http(error))(scope, receive, send)

    monkeypatch.setattr(Echo, "__call__", through)


ECHO = Echo.__call__


def test_a_body_within_the_limit_passes():
    assert call(pieces=["有給".encode() * 100] * 3)[0] == 200


def test_a_body_is_counted_while_it_arrives():
    """Chunked bodies say no length."""
    status, headers, body = call(pieces=[b"x" * 8_000] * 3)
    assert status == 413
    assert headers["connection"] == "close"
    assert b"body_too_large" in body


def test_a_length_that_is_too_large_is_refused_unread():
    app_read = call(headers={"content-length": "99999999", "transfer-encoding": ""}, pieces=[])
    assert app_read[0] == 413


@pytest.mark.parametrize("length", ["-1", "1e9", "９９", "0x10", "1,2"])
def test_a_length_that_is_no_number_is_refused(length: str):
    assert call(headers={"content-length": length.encode().decode("latin1")})[0] == 400


def test_a_route_that_takes_uploads_counts_for_itself():
    assert call("/upload", pieces=[b"x" * 8_000] * 9, headers={"content-type": "application/pdf"})[0] == 200
    assert call("/upload2", pieces=[b"x" * 8_000] * 9)[0] == 413


def test_a_body_that_does_not_arrive_ends():
    status, headers, body = call(pieces=["有".encode()], silent=True, body_s=0.05)
    assert status == 408
    assert headers["connection"] == "close"
    assert b"body_too_slow" in body


def test_an_upload_may_take_long_but_not_stop():
    status, _, _ = call("/upload", pieces=[b"x"], silent=True, piece_s=0.05)
    assert status == 408


@pytest.mark.parametrize("media", ["", "text/plain", "application/xml", "application/x-www-form-urlencoded2", "multipart/mixed", "image/png"])
def test_other_content_types_are_refused(media: str):
    assert call(headers={"content-type": media}, pieces=[b"x"])[0] == 415


@pytest.mark.parametrize("media", ["application/json", "Application/JSON; charset=utf-8", "multipart/form-data; boundary=x"])
def test_the_usual_content_types_pass(media: str):
    assert call(headers={"content-type": media}, pieces=[b"x"])[0] == 200


def test_compressed_bodies_are_refused():
    """A small one could become a large one."""
    assert call(headers={"content-encoding": "gzip"}, pieces=[b"x"])[0] == 415


def test_a_mistake_of_ours_says_nothing(caplog):
    status, headers, body = call("/broken")
    assert status == 500
    assert "給与" not in body.decode()
    assert "給与" not in caplog.text
    assert headers["content-security-policy"] == SECURITY["Content-Security-Policy"]


def test_an_answer_that_breaks_in_the_middle_ends_torn():
    """No second status line, no error body behind half an answer."""
    status, _, body = call("/torn")
    assert (status, body) == (200, b"")


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "取得"])
def test_other_methods_are_refused(method: str):
    assert call(method=method)[0] == 405


def test_nothing_may_be_kept_and_https_is_remembered():
    plain = call()[1]
    assert plain["cache-control"] == "no-store"
    assert "strict-transport-security" not in plain
    assert "strict-transport-security" in call(scheme="https")[1]
    assert "strict-transport-security" in call(config=ServerConfig(url="https://llm.example.co.jp"))[1]


# names


@pytest.mark.parametrize(
    ("bound", "url", "host", "status"),
    [
        ("127.0.0.1", None, "localhost", 200),
        ("127.0.0.1", None, "LocalHost:8750", 200),
        ("127.0.0.1", None, "127.0.0.1:8750", 200),
        ("127.0.0.1", None, "[::1]:8750", 200),
        ("127.0.0.1", None, "evil.example", 421),
        ("127.0.0.1", None, "127.0.0.1.evil.example", 421),
        ("127.0.0.1", None, "localhost.evil.example", 421),
        ("127.0.0.1", None, "10.0.0.1", 421),
        ("127.0.0.1", "https://llm.example.co.jp", "llm.example.co.jp", 200),
        ("127.0.0.1", "https://llm.example.co.jp", "other.example.co.jp", 421),
        ("0.0.0.0", "https://llm.example.co.jp", "evil.example", 421),
        ("0.0.0.0", "https://llm.example.co.jp", "10.0.0.1:8750", 200),  # an address cannot be pointed elsewhere
        ("0.0.0.0", None, "anything.example", 200),
        ("127.0.0.1", None, "", 400),
        ("127.0.0.1", None, "local host", 400),
        ("127.0.0.1", None, "localhost@evil.example", 400),
        ("127.0.0.1", None, "localhost/../", 400),
        ("127.0.0.1", None, "例え.jp".encode().decode("latin1"), 400),
    ],
)
def test_only_our_own_names_open_the_door(bound: str, url: str | None, host: str, status: int):
    """DNS rebinding: a foreign name that points at this machine comes with the foreign name."""
    assert call(host=bound, config=ServerConfig(url=url), headers={"host": host})[0] == status


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"])
def test_what_is_loopback(host: str):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "", "例え.jp", "localhost.evil.example"])
def test_what_is_not_loopback(host: str):
    assert not is_loopback(host)


# paths


@pytest.mark.parametrize("path", ["/a/../b", "/..", "/a/./b", "/a\x00", "/a\nb", "/a\x7f", "/a\x85", "/a\\..\\b", "/a\ufffd"])
def test_paths_that_step_out_or_hold_control_characters_are_refused(path: str):
    with pytest.raises(Refusal):
        check_path(path)


@pytest.mark.parametrize("path", ["/", "/文書/有給休暇.md", "/a..b/c.", "/.well-known/x", "/a b"])
def test_other_paths_pass(path: str):
    check_path(path)


def test_a_long_address_and_many_headers_are_refused(site: Site):
    assert site.nobody().get("/" + "あ" * 1_000).status_code == 414
    assert site.nobody().get(WHERE, headers={"X-Large": "x" * 40_000}).status_code == 431
    assert site.nobody().get(WHERE, headers=[(f"X-{n}", "x") for n in range(120)]).status_code == 431


# the real application


KINDS = [
    ("GET", WHERE, "reader", {}, 200),
    ("GET", WHERE, None, {}, 401),
    ("GET", "/account", None, {"Accept": "text/html"}, 303),
    ("GET", "/sign-in", None, {"Accept": "text/html"}, 200),
    ("GET", "/nowhere", None, {"Accept": "text/html"}, 404),
    ("GET", "/どこにもない", "reader", {}, 404),
    ("PUT", WHERE, "reader", {}, 405),
    ("OPTIONS", WHERE, None, {}, 405),
    ("HEAD", WHERE, "reader", {}, 200),
    ("POST", FORM, "reader", {"Content-Type": "text/plain"}, 415),
    ("GET", "/%2e%2e/etc/passwd", None, {}, 400),
    ("GET", "/static/../app.py", None, {}, 404),  # the client itself takes the step
    ("GET", "/static/%2e%2e/app.py", None, {}, 400),
    ("GET", "/static/x/style.css", None, {}, 404),
    ("GET", WHERE, None, {"Host": "evil.example"}, 421),
]


@pytest.mark.parametrize(("method", "path", "role", "headers", "status"), KINDS)
def test_every_kind_of_answer_has_the_security_headers(site: Site, method: str, path: str, role: str | None, headers: dict, status: int):
    client = site.program(role) if role else site.nobody()
    answer = client.request(method, path, headers=headers, content=b"x" if method == "POST" else None)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


def test_static_files_may_be_kept(site: Site):
    address = site.app.state.site.pages.address("style.css")
    answer = site.nobody().get(address)
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY


def test_head_is_get_without_the_body(site: Site):
    client = site.client("reader")
    head, get = client.head(WHERE), client.get(WHERE)
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))


def test_hidden_and_missing_look_the_same_to_nobody(site: Site):
    """Whether an address exists for others is not told."""
    one, other = site.nobody().get("/nowhere"), site.client("reader").get("/nowhere")
    assert one.status_code == other.status_code == 404
    assert one.json() == other.json()


@pytest.mark.parametrize("body", [b"{", b"[1,", b'{"a": "\xff\xfe"}', b"\x00", "こんにちは".encode(), b"nul", b"[" * 9_000])
def test_malformed_json_is_refused_without_repeating_it(site: Site, body: bytes):
    posts = [r for r in site.app.routes if "POST" in r.methods and r.path.startswith("/v1/")]
    assert posts
    for route in posts:
        answer = site.program("reader").post(route.path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, (route.path, answer.text)
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert "こんにちは" not in answer.text


def test_a_field_that_does_not_fit_is_named_but_not_repeated(site: Site):
    answer = site.client("reader").post(FORM, data={"name": "給与" * 300, "scopes": "ask"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "name"
    assert "給与" not in answer.text


def test_every_route_of_the_api_documents_its_errors(site: Site):
    document = site.client("admin").get(WHERE).json()
    assert "422" not in str(document["paths"])
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert {"400", "401", "403", "404"} <= operation["responses"].keys(), (method, path)
            assert operation["x-needs"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
