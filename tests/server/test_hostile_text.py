"""Text that is none, in every place of every route that takes text: half characters, NUL, one megabyte, turned direction.

The places are read from the OpenAPI document (JSON bodies, with one string spoiled at a time) and from the routes
themselves (addresses, queries, forms of the pages), so a new field is tried without being named here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from loopback_openai import Endpoint
from server.site import Site, copied

from hagane.core.accounts import ROLES
from hagane.project import people
from hagane.server.access import needs
from hagane.server.openapi import describe

HALF = "社\ud800員"
TEXTS = {
    "half a character": HALF,
    "NUL": "社\x00員",
    "one megabyte": "社員" * 170_000,
    "turned direction": "社\u202e員fdp.exe",
    "lines": "社\r\nX: 員\u2028\x85",
}


class Tried:
    """A site with a model behind it, and for each permission a token and a session of someone who has it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.document = describe(site.app)
        self.schemas = self.document["components"]["schemas"]
        people.create_group(site.project, "人事", clearance="internal", by=site.by)
        asked = site.client("admin", "restricted:*").post("/api/conversations", json={"question": "有給休暇は何日？"}).text
        turn = json.loads(asked.splitlines()[-1])["turn"]
        found = site.client("admin", "restricted:*").get("/api/documents").json()["rows"][0]
        self.real = {
            "document": found["id"], "version": "v", "other": "v", "user": site.user("reader"), "group": "人事", "id": turn["conversation"],
            "model": "模型", "job": "j", "token": "t", "request": "r", "language": "ja", "theme": "dark", "mark": "m", "name": "n", "page": "1",
        }  # fmt: skip

    def client(self, need: str) -> TestClient:
        if need == "open":
            return self.site.nobody()
        role = next(role for role in ("admin", "officer", "builder") if need in ROLES[role])
        return self.site.client(role, "restricted:*")

    def least(self, schema: dict[str, Any]) -> Any:
        """The smallest value that fits."""
        schema = self._resolved(schema)
        if "anyOf" in schema:
            return self.least(schema["anyOf"][0])
        if "const" in schema or "enum" in schema:
            words = schema.get("enum") or [schema["const"]]
            return "user" if "user" in words else words[0]
        kind = schema.get("type")
        if kind == "object":
            known = schema.get("properties", {})
            return {name: self.least(known[name]) for name in schema.get("required", ())}
        if kind == "array":
            return [self.least(schema["items"])]
        return {"string": "internal", "integer": 1, "number": 1, "boolean": False}[kind]

    def spoiled(self, schema: dict[str, Any], bad: str) -> Iterator[Any]:
        """Values that fit, but for one string that is `bad`: each string once."""
        schema = self._resolved(schema)
        for one in schema.get("anyOf", ()):
            yield from self.spoiled(one, bad)
        kind = schema.get("type")
        if kind == "string":
            yield bad
        elif kind == "array":
            for value in self.spoiled(schema["items"], bad):
                yield [value]
        elif kind == "object":
            least, known = self.least(schema), schema.get("properties", {})
            for name, part in known.items():
                for value in self.spoiled(part, bad):
                    yield {**least, name: value}
            if schema.get("additionalProperties") or not known:
                yield {**least, "余": bad}
                yield {**least, "metadata": {"余": [{bad: 1}]}}

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        return self.schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema

    def address(self, path: str, spoil: str = "", bad: str = "") -> str:
        """`path` with real names in its places, and `bad` in the place `spoil`."""
        parts = []
        for part in path.replace(":path}", "}").split("/"):
            name = part.partition("}")[0].removeprefix("{") if part.startswith("{") else ""
            shown = bad if name == spoil else self.real.get(name, "")
            parts.append(quote(shown.encode("utf-8", "surrogatepass"), safe="") + part.partition("}")[2] if name else part)
        return "/".join(parts)


@pytest.fixture(scope="module")
def tried(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    with Endpoint() as endpoint:
        folder = copied(template, tmp_path_factory.mktemp("hostile") / "company")
        yaml = folder.path / "hagane.yaml"
        yaml.write_text(yaml.read_text(encoding="utf-8") + f"models: {{模型: {{address: {endpoint.address}, model: m}}}}\n", encoding="utf-8")
        site = Site(folder.path)
        yield Tried(site)
        site.close()


texts = pytest.mark.parametrize("what", TEXTS)


def bodies(tried: Tried, bad: str) -> Iterator[tuple[str, str, str, Any]]:
    """(method, path, permission, body)."""
    for path, operations in tried.document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            for body in tried.spoiled(content["schema"], bad) if content else ():
                yield method, path, operation["x-needs"], body
                if isinstance(body, dict) and body.get("model") == "internal":
                    for model in ("模型", "hagane", tried.site.project.embedder.name):
                        yield method, path, operation["x-needs"], body | {"model": model}


@pytest.mark.long
@texts
def test_no_string_of_a_body_breaks_a_route(tried: Tried, what: str) -> None:
    bad, broken, n = TEXTS[what], [], 0
    for method, path, need, body in bodies(tried, bad):
        given = {"content": json.dumps(body), "headers": {"Content-Type": "application/json"}}
        answer = tried.client(need).request(method, tried.address(path), **given)
        n += 1
        shown = json.dumps(body)[:200]
        if answer.status_code >= 500 or (bad == HALF and answer.status_code != 400):
            broken.append((answer.status_code, method, path, shown))
        elif answer.status_code >= 400:
            assert answer.json()["error"]["message"], (path, shown)
    assert n > 150
    assert broken == []


@pytest.mark.long
@texts
def test_no_address_query_or_form_breaks_a_route(tried: Tried, what: str) -> None:
    bad, broken, n = TEXTS[what], [], 0
    short = bad[:3000]  # longer addresses no client sends
    sent, cut = (text.encode("utf-8", "surrogatepass") for text in (bad, short))
    for route, need in needs(tried.site.app):
        for method in sorted(route.methods - {"HEAD"}):
            given: list[dict[str, Any]] = [{"url": tried.address(route.path, field.alias, short)} for field in route.dependant.path_params]
            url = tried.address(route.path)
            given += [{"url": f"{url}?{field.alias}={quote(cut)}"} for field in route.dependant.query_params]
            forms = [field.alias for field in route.dependant.body_params if type(field.field_info).__name__ == "Form"]
            for name in forms:
                others = "".join(f"&{other}=x" for other in forms if other != name)
                given.append({"url": url, "content": f"{name}={quote(sent)}{others}", "headers": {"Content-Type": "application/x-www-form-urlencoded"}})
                given.append({"url": url, "content": multipart(name), "headers": {"Content-Type": "multipart/form-data; boundary=b; charset=utf-7"}})
            for one in given:
                n += 1
                answer = tried.client(need).request(method, follow_redirects=False, **one)
                if answer.status_code >= 500:
                    broken.append((answer.status_code, method, one["url"][:200], str(one.get("content", ""))[:100]))
    assert n > 80
    assert broken == []


def multipart(name: str) -> bytes:
    """A form whose charset makes half a character of plain ASCII."""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n+2AA-\r\n--b--\r\n'.encode()


def test_the_refusal_says_what_is_wrong_and_repeats_nothing(tried: Tried) -> None:
    for path, body in (
        ("/v1/chat/completions", {"model": "模型", "messages": [{"role": "system", "content": HALF}, {"role": "user", "content": "有給は？"}]}),
        ("/v1/responses", {"model": "模型", "input": HALF}),
        ("/v1/embeddings", {"model": "fake", "input": [HALF]}),
        ("/api/conversations", {"question": HALF}),
    ):
        answer = tried.client("ask").post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["code"]) == (400, "invalid_request_error", "text"), path
        assert error["hint"]
        assert "社" not in answer.text and "\\ud800" not in answer.text
    raw = tried.client("ask").post("/v1/embeddings", content=b'{"model": "fake", "input": "\xed\xa0\x80"}', headers={"Content-Type": "application/json"})
    assert raw.status_code == 400
    whole = tried.client("ask").post("/v1/chat/completions", content=b'{"model": "\\u6a21\\u578b", "messages": [{"role": "user", "content": "\\ud842\\udfb7"}]}',
                                     headers={"Content-Type": "application/json"})  # fmt: skip
    assert whole.status_code == 200, "𠮷 in two escapes is whole"
