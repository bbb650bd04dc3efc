"""Every route x every role x every label, from the route table: a new route cannot be forgotten.

Permissions: a route answers 401 to nobody and 403 to a role without its permission, by session and by token.
Labels: whatever a route takes, a caller who names a thing above their clearance gets the answer that they get for a
thing that does not exist, and no word of it; routes that take nothing never show a word of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import made_model
import pytest
from fastapi.routing import APIRoute
from server.site import ROLES, Site, staffed
from server.test_model_routes import put_run
from small_company import Folder

from hagane.core.accounts import ROLES as PERMITTED
from hagane.server.access import OPEN, needs

LEVELS = ("public", "internal", "confidential", "confidential:hr", "restricted", "restricted:board")
WORD = "カナリア"
YAML = """\
version: 1
labels: {default: internal, compartments: [hr, board]}
sources:
%s
principals:
  owner: {clearance: "restricted:*"}
embedder: {name: fake}
parse: {workers: 1}
"""


def slug(label: str) -> str:
    return label.replace(":", "-")


def word(label: str) -> str:
    """A word that stands in the one document of that label, in its name, title, heading and text."""
    return f"{WORD}{LEVELS.index(label)}番"


@dataclass(frozen=True)
class Thing:
    """What one label's document and its owner's chat left behind: the ids that a request may name."""

    label: str
    document: str
    version: str
    path: str
    conversation: str
    turn: str
    model: str


class World:
    """A site whose documents carry every label, and callers of every clearance."""

    def __init__(self, folder: Folder) -> None:
        self.site = Site(folder.path)
        owner = self.site.project.principal("owner")
        rows = {r.path: r for r in self.site.project.ledger.documents.list(clearance=owner.clearance)}
        self.things = {label: self._thing(label, next(r for p, r in rows.items() if word(label) in p)) for label in LEVELS}
        self.missing = Thing("none", "d_" + "0" * 16, "0" * 12, "どこにもない.md", "c_" + "0" * 20, "t_" + "0" * 20, "no-llm")

    def _thing(self, label: str, record: Any) -> Thing:
        writer = self.site.client("builder", label, name=f"writer-{slug(label)}")
        told = writer.post("/api/conversations", json={"question": f"{word(label)}の有給休暇は何日ですか？"}).text.splitlines()
        last = json.loads(told[-1])
        assert last["event"] == "turn", told
        model = f"llm-{LEVELS.index(label)}x"  # a model and its run, of that document
        made_model.put(self.site.project, model, label, parents=[record.id], reports={"dev": {"sample": word(label)}}, why=word(label))
        put_run(self.site.project, model, label, text=word(label), n=20)
        return Thing(label, record.id, record.version, record.path, last["turn"]["conversation"], last["turn"]["id"], model)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    folder = Folder(tmp_path_factory.mktemp("matrix") / "company")
    sources = [f'  - {{name: {slug(label)}, path: {slug(label)}/, label: "{label}"}}' for label in LEVELS]
    folder.write("hagane.yaml", YAML % "\n".join(sources))
    for label in LEVELS:
        text = f"# {word(label)}の規程\n\n{word(label)}の有給休暇は{LEVELS.index(label) + 11}日である。申請は上長に行う。\n"
        folder.write(f"{slug(label)}/{word(label)}.md", text)
    folder.sync()
    staffed(folder.path)
    opened = World(folder)
    yield opened
    opened.site.close()


def routes(site: Site) -> list[tuple[APIRoute, str, str]]:
    """(route, method, permission)"""
    return [(route, method, need) for route, need in needs(site.app) for method in sorted(route.methods - {"HEAD"})]


def filled(path: str, thing: Thing) -> str:
    """`path` with the ids of `thing` for its parameters. A parameter that nobody taught this test fails it."""

    def value(found: re.Match[str]) -> str:
        name = found[1].partition(":")[0]
        known = {
            "document": thing.document, "version": thing.version, "other": thing.version, "page": "1", "model": thing.model,
            "id": thing.turn if "/turns/" in path else thing.conversation, "job": "none", "user": "nobody-here", "token": "none",
            "group": "none", "request": "none", "language": "ja", "theme": "dark", "mark": "x",
            "name": "none" if path.startswith("/static") else thing.model,
        }  # fmt: skip
        assert name in known, f"teach this test what {name!r} in {path} names"
        return known[name]

    return re.sub(r"\{([^}]+)\}", value, path)


def body(site: Site, route: APIRoute, method: str, thing: Thing) -> dict[str, Any] | None:
    """A JSON body that fits the route's schema and names `thing` wherever it can; None where it takes none."""
    whole = site.app.openapi()
    operation = whole["paths"].get(route.path_format, {}).get(method.lower(), {})
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    return None if schema is None else made_of(schema, whole, thing, "")


def made_of(schema: Mapping[str, Any], whole: Mapping[str, Any], thing: Thing, name: str) -> Any:
    if "$ref" in schema:
        return made_of(whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]], whole, thing, name)
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return made_of(schema[several][0], whole, thing, name)
    kind = schema.get("type")
    if kind == "object":
        wanted = schema.get("properties", {})
        return {key: made_of(inner, whole, thing, key) for key, inner in wanted.items() if key in schema.get("required", ()) or key in NAMES}
    if kind == "array":
        return [made_of(schema.get("items", {}), whole, thing, name)]
    if kind == "string":
        return getattr(thing, NAMES[name]) if name in NAMES else {"label": "restricted:board", "model": "hagane"}.get(name, "有給休暇は何日ですか")
    return {"integer": 1, "number": 1.0, "boolean": False}.get(kind, "有給")


NAMES = {"document": "document", "doc": "document", "version": "version", "path": "path", "conversation": "conversation", "turn": "turn"}


def call(world: World, client: Any, route: APIRoute, method: str, thing: Thing) -> Any:
    query = {name: getattr(thing, field) for name, field in NAMES.items()} | {"page": "1"}
    query = {key: value for key, value in query.items() if any(p.alias == key for p in route.dependant.query_params)}
    return client.request(method, filled(route.path, thing), json=body(world.site, route, method, thing), params=query, headers={"Accept": "*/*"})


def test_nobody_comes_in_where_somebody_must_be(world):
    for route, method, need in routes(world.site):
        got = call(world, world.site.nobody(), route, method, world.missing)
        if need != OPEN:
            assert got.status_code == 401, (method, route.path, got.status_code)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("how", ["session", "token"])
def test_each_role_reaches_what_its_permissions_say_and_nothing_else(world, role, how):
    site = world.site
    client = site.client(role, "public", name=f"{role}-matrix") if how == "session" else site.program(role, "public", name=f"{role}-matrix")
    for route, method, need in routes(site):
        if need == OPEN or route.path in ("/sign-out", "/password"):
            continue
        got = call(world, client, route, method, world.missing)
        refused = got.status_code == 403 and '"permission"' in got.text
        assert refused is (need not in PERMITTED[role]), (role, method, route.path, got.status_code, got.text[:200])
        assert got.status_code != 401, (role, method, route.path)
        assert got.status_code < 500 or got.status_code in (502, 503), (role, method, route.path, got.status_code, got.text[:200])


@pytest.mark.parametrize("scope", ["ask", "build", "govern", "administer"])
def test_a_token_reaches_no_further_than_its_scopes(world, scope):
    roles = {"ask": "admin", "build": "admin", "govern": "officer", "administer": "admin"}
    client = world.site.program(roles[scope], "public", scopes=(scope,), name=f"narrow-{scope}")
    for route, method, need in routes(world.site):
        if need in (OPEN, scope):
            continue
        got = call(world, client, route, method, world.missing)
        assert got.status_code == 403, (scope, method, route.path, got.status_code)


def hidden_from(clearance: str) -> list[str]:
    from hagane.core.labels import Clearance, Label

    return [label for label in LEVELS if not Label.parse(label).flows_to(Clearance.parse(clearance))]


@pytest.mark.parametrize("clearance", LEVELS)
@pytest.mark.parametrize("role", ["reader", "admin", *(pytest.param(role, marks=pytest.mark.long) for role in ("annotator", "builder", "officer"))])
def test_what_is_above_a_clearance_looks_like_what_is_not_there(world, role, clearance):
    """Officers and admins included: a role opens acts, not documents."""
    client = world.site.client(role, clearance)
    hidden = hidden_from(clearance)
    for route, method, _need in routes(world.site):
        if route.path in ("/sign-out", "/password", "/sign-in", "/set-up", "/welcome") or route.path.startswith(("/account", "/language", "/theme")):
            continue
        nothing = call(world, client, route, method, world.missing)
        for label in hidden:
            thing = world.things[label]
            got = call(world, client, route, method, thing)
            told = got.text
            for given in (thing.path, thing.document, thing.version, thing.conversation, thing.turn, thing.model):
                told = told.replace(given, "") if given else told  # what the caller said is no news
            assert word(label) not in told, (role, clearance, label, method, route.path, got.status_code)
            assert thing.model not in nothing.text, (role, clearance, label, method, route.path, "lists a model")
            assert got.status_code == nothing.status_code, (role, clearance, label, method, route.path, got.status_code, nothing.status_code)


def test_the_owner_of_the_clearance_does_see_it(world):
    """Otherwise the tests above would pass over an empty site."""
    client = world.site.client("reader", "restricted:*")
    for label in LEVELS:
        thing = world.things[label]
        assert word(label) in client.get(f"/sources/{thing.document}", headers={"Accept": "*/*"}).text
        reply = client.post("/v1/chat/completions", json={"model": "hagane", "messages": [{"role": "user", "content": f"{word(label)}の有給休暇は何日ですか？"}]})
        assert word(label) in json.dumps(reply.json(), ensure_ascii=False), label


def test_one_persons_conversation_is_nobody_elses(world):
    """Not even of someone with every clearance and every permission."""
    for client in (world.site.client("admin", "restricted:*"), world.site.client("officer", "restricted:*")):
        for label in LEVELS:
            thing = world.things[label]
            assert client.get(f"/api/conversations/{thing.conversation}").status_code == 404
            assert client.delete(f"/api/conversations/{thing.conversation}").status_code == 404


@pytest.mark.parametrize("label", LEVELS[1:])
def test_a_try_at_what_is_above_a_clearance_is_on_record(world, label):
    """Whatever kind of thing it is: a document, an old version of it, somebody's conversation."""
    client = world.site.client("reader", "public", name=f"curious-{slug(label)}")
    thing = world.things[label]
    for address in (f"/api/documents/{thing.document}", f"/sources/{thing.document}?version={thing.version}", f"/api/conversations/{thing.conversation}"):
        assert client.get(address).status_code == 404
    assert client.post(f"/api/turns/{thing.turn}/feedback", json={"kind": "up"}).status_code == 404
    told = [record.get("hidden") for record in world.site.records("refused") if record["principal"] == f"curious-{slug(label)}"]
    assert told == [[thing.document], [thing.document, thing.version], [thing.conversation], [thing.turn]]


def test_two_peoples_answers_never_meet(world):
    """The same question at the same time by people of different clearances: each gets what they alone would get."""
    question = f"{WORD}の規程の有給休暇は何日ですか？"
    clients = {clearance: world.site.client("reader", clearance) for clearance in LEVELS}

    def ask(clearance: str) -> tuple[str, set[str]]:
        reply = clients[clearance].post("/v1/chat/completions", json={"model": "hagane", "messages": [{"role": "user", "content": question}]})
        told = reply.json()["choices"][0]["message"]["hagane"]
        return clearance, {found["label"] for found in (*told["citations"], *told["nearest"])}

    with ThreadPoolExecutor(6) as pool:
        answered = list(pool.map(ask, [clearance for _ in range(5) for clearance in LEVELS]))
    for clearance, labels in answered:
        assert labels, clearance
        assert labels.isdisjoint(hidden_from(clearance)), (clearance, labels)
    assert len({frozenset(labels) for _, labels in answered}) > 1
    suggested = {clearance: client.get("/api/suggestions").text for clearance, client in clients.items()}
    for clearance in (*LEVELS, *LEVELS):
        assert clients[clearance].get("/api/suggestions").text == suggested[clearance]
        assert all(word(label) not in suggested[clearance] for label in hidden_from(clearance))


def test_no_content_in_logs_of_the_whole_matrix(world):
    """Run last: the audit log of all the above holds no word of a question or document."""
    log = (world.site.folder / ".hagane" / "audit" / "log.jsonl").read_text(encoding="utf-8")
    assert WORD not in log
    assert "有給" not in log
