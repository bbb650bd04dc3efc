"""What changes while an answer is written counts before the next piece goes out, at every door."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from server.listening import listening
from server.site import Site

from hagane.core.types import ChatRequest, Delta, Usage
from hagane.project import documents, meanwhile, people

QUESTION = "等級4の月額基本給はいくらですか？"
FIRST, SECOND = "等級4の月額基本給は38万円から46万円とする。[1]", "査定Sの昇給率は5.5%である。[1]"
SECRET = "5.5%"
READER = "reader-confidential-hr"
SOURCE = "hr/給与レンジ.md"


class Gated:
    """A model that has written its first sentence and waits to be let on."""

    name = "模型"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.closed = threading.Event()

    def chat(self, request: ChatRequest) -> Iterator[Delta]:
        try:
            yield Delta(FIRST + SECOND[:2])
            assert self.gate.wait(60)
            yield Delta(SECOND[2:])
            yield Delta(usage=Usage(7, 9), finish="stop")
        finally:
            self.closed.set()

    def close(self) -> None:
        self.gate.set()


@pytest.fixture
def model(own_site: Site, monkeypatch: pytest.MonkeyPatch) -> Gated:
    yaml = own_site.folder / "hagane.yaml"
    more = "models: {模型: {address: 'http://127.0.0.1:9/v1', model: m}}\nanswer: {answerer: generate, model: 模型}\n"
    yaml.write_text(yaml.read_text(encoding="utf-8") + more, encoding="utf-8")
    own_site.project.reload()
    made = Gated()
    own_site.project._models["模型"] = (own_site.project.config.models["模型"], made)
    monkeypatch.setattr(meanwhile, "READER_S", 0.0)
    monkeypatch.setattr(meanwhile, "SOURCES_S", 0.0)
    return made


def page(_: str) -> tuple[str, dict[str, Any]]:
    return "/api/conversations", {"question": QUESTION}


def completions(model: str) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", {"model": model, "stream": True, "messages": _said()}


def responses(model: str) -> tuple[str, dict[str, Any]]:
    items = [{**message, "type": "message"} for message in _said()]
    return "/v1/responses", {"model": model, "stream": True, "input": items}


def _said() -> list[dict[str, Any]]:
    told = {"role": "assistant", "content": "38万円です。", "hagane": {"label": "confidential:hr"}}
    return [{"role": "user", "content": "給与は?"}, told, {"role": "user", "content": QUESTION}]


def erased(site: Site) -> None:
    (site.folder / SOURCE).unlink()
    documents.sync(site.project, by=site.project.principal("owner"), yes=True, emit=lambda event: None)


def raised(site: Site) -> None:
    documents.relabel(site.project, SOURCE, "restricted:board+hr", by=site.project.principal("owner"), reason="監査の指摘")


def disabled(site: Site) -> None:
    people.change_user(site.project, READER, state="disabled", by=site.by)


def lowered(site: Site) -> None:
    people.change_user(site.project, READER, clearance="internal", by=site.by)


def revoked(site: Site) -> None:
    for token in people.tokens(site.project, READER, by=site.by):
        people.revoke_token(site.project, token.id, by=site.by)


def streamed(site: Site, model: Gated, headers: dict[str, str], asked: tuple[str, dict[str, Any]], act: Callable[[Site], None]) -> tuple[str, str]:
    """What came until the first sentence was there, and what came after `act`."""
    path, body = asked
    with listening(site.app) as url, httpx.stream("POST", url + path, json=body, headers=headers, timeout=60) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        before = ""
        for line in lines:
            before += line + "\n"
            if "46万円" in line:
                break
        act(site)
        model.gate.set()
        after = "\n".join(lines)
    return before, after


def error_of(after: str) -> dict[str, Any]:
    """The error that ends a stream of any of the three shapes."""
    last = [line for line in after.splitlines() if line.strip() and line != "data: [DONE]"][-1]
    return json.loads(last.removeprefix("data: "))["error"]


RIGHTS = [(disabled, "sign_in"), (revoked, "sign_in"), (lowered, "refused")]
SOURCES = [(erased, "changed"), (raised, "changed")]
CASES = [
    *((door, "hagane", *case) for door in (page, completions, responses) for case in (*SOURCES, *RIGHTS)),
    *((door, "模型", *case) for door in (completions, responses) for case in RIGHTS),
]


@pytest.mark.parametrize(("door", "name", "act", "code"), CASES)
def test_nothing_more_is_given_out_after(own_site: Site, model: Gated, door: Any, name: str, act: Any, code: str):
    headers = {"Authorization": f"Bearer {own_site.token('reader', 'confidential:hr')}"}
    before, after = streamed(own_site, model, headers, door(name), act)
    assert SECRET not in before + after
    assert "昇給率" not in after
    assert error_of(after)["code"] == code
    assert model.closed.wait(20)


@pytest.mark.parametrize("door", [page, completions, responses])
def test_an_answer_during_which_nothing_changes_is_whole(own_site: Site, model: Gated, door: Any):
    headers = {"Authorization": f"Bearer {own_site.token('reader', 'confidential:hr')}"}
    _, after = streamed(own_site, model, headers, door("hagane"), lambda site: None)
    assert SECRET in after


def test_a_session_that_ends_stops_its_answer(own_site: Site, model: Gated):
    client = own_site.client("reader", "confidential:hr")
    headers = {"X-CSRF-Token": client.headers["X-CSRF-Token"], "Cookie": f"hagane_session={own_site.signed(READER).cookie}"}
    _, after = streamed(own_site, model, headers, page(""), lambda site: people.sign_out(site.project, site.signed(READER).caller))
    assert error_of(after)["code"] == "sign_in"
    assert SECRET not in after


@pytest.mark.parametrize(("act", "status"), [(disabled, 401), (lowered, 403), (raised, 409)])
def test_an_answer_in_one_piece_becomes_an_error(own_site: Site, model: Gated, act: Any, status: int):
    """Nothing was sent yet: the status itself says it."""
    client = own_site.program("reader", "confidential:hr")
    said: list[Any] = []
    begun = threading.Event()
    whole = model.chat

    def chat(request: ChatRequest) -> Iterator[Delta]:
        for delta in whole(request):
            begun.set()
            yield delta

    model.chat = chat  # type: ignore[method-assign]
    path, body = completions("hagane")
    asking = threading.Thread(target=lambda: said.append(client.post(path, json={**body, "stream": False})))
    asking.start()
    assert begun.wait(60)
    act(own_site)
    model.gate.set()
    asking.join(60)
    assert said[0].status_code == status
    assert "万円" not in said[0].text


def kept(site: Site) -> dict[str, Any]:
    """The one stored turn, as the ledger has it."""
    [talk] = site.project.ledger.conversations.of(site.signed(READER).caller.account.id)
    [turn] = site.project.ledger.conversations.turns(talk.id)
    return dict(turn.answer)


@pytest.mark.parametrize("act", [erased, raised])
def test_what_is_kept_of_an_answer_whose_source_left_is_empty(own_site: Site, model: Gated, act: Any):
    headers = {"Authorization": f"Bearer {own_site.token('reader', 'confidential:hr')}"}
    streamed(own_site, model, headers, page(""), act)
    answer = kept(own_site)
    assert (answer["answer"], answer["why"], answer["citations"]) == ("", "erased", [])
    assert "万円" not in json.dumps(answer, ensure_ascii=False)


def test_what_is_kept_for_a_reader_who_lost_the_clearance_is_closed_to_them(own_site: Site, model: Gated):
    headers = {"Authorization": f"Bearer {own_site.token('reader', 'confidential:hr')}"}
    streamed(own_site, model, headers, page(""), lowered)
    assert "38万円" in kept(own_site)["answer"]
    [talk] = own_site.client("reader", name=READER).get("/api/conversations").json()["conversations"]
    assert (talk["closed"], talk["title"]) == (True, None)
