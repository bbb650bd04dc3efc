"""The chat over HTTP: streamed, kept, closed to everyone else and to those who lose the clearance; harmless as HTML."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient
from server.listening import listening
from server.site import Site

from hagane.project import people, questions
from hagane.server.answer_html import said, source_path
from hagane.server.pages import LANGUAGES, Texts

QUESTION = "年次有給休暇は何日付与されますか？"
SALARY = "等級4の月額基本給はいくらですか？"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>有給休暇は何日？"


def lines(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in response.text.splitlines()]


def ask(client: TestClient, question: str, *, conversation: str = "", **more: Any) -> list[dict[str, Any]]:
    path = f"/api/conversations/{conversation}/turns" if conversation else "/api/conversations"
    return lines(client.post(path, json={"question": question, **more}))


def answered(client: TestClient, question: str = QUESTION, **more: Any) -> dict[str, Any]:
    return ask(client, question, **more)[-1]["turn"]


def test_an_answer_streams_from_begun_to_the_stored_turn(site: Site):
    client = site.client("reader")
    events = ask(client, QUESTION)
    assert [event["event"] for event in events] == ["begun", *["text"] * (len(events) - 2), "turn"]
    begun, turn = events[0], events[-1]["turn"]
    assert (begun["conversation"], begun["turn"]) == (turn["conversation"], turn["id"])
    assert "".join(event["text"] for event in events[1:-1]).strip() == turn["answer"]["answer"]
    assert "10日" in turn["answer"]["answer"]
    assert turn["answer"]["citations"][0]["path"] == "rules/有給休暇.md"
    assert client.get(f"/api/conversations/{turn['conversation']}").json()["turns"][0] == turn


def test_a_mark_is_a_link_to_the_cited_place(site: Site):
    event = ask(site.client("reader"), QUESTION)[-1]
    citation = event["turn"]["answer"]["citations"][0]
    assert f'href="{source_path(citation)}"'.replace("&", "&amp;") in event["html"]
    assert site.client("reader").get(source_path(citation)).status_code == 200


def test_a_conversation_is_listed_found_renamed_and_deleted(own_site: Site):
    client = own_site.client("reader")
    turn = answered(client)
    id = turn["conversation"]
    assert [talk["title"] for talk in client.get("/api/conversations").json()["conversations"]] == [QUESTION]
    assert len(client.get("/api/conversations", params={"search": "ユウキュウ 有給"}).json()["conversations"]) == 0
    assert len(client.get("/api/conversations", params={"search": "１０日を 付与"}).json()["conversations"]) == 1
    assert client.patch(f"/api/conversations/{id}", json={"title": "  休みの\n話 "}).json()["title"] == "休みの 話"
    assert "休みの 話" in client.get(f"/c/{id}").text
    assert client.delete(f"/api/conversations/{id}").status_code == 204
    assert client.get(f"/api/conversations/{id}").status_code == 404
    assert client.get("/api/conversations").json() == {"conversations": []}


def test_a_follow_up_is_asked_in_the_light_of_the_conversation(site: Site):
    client = site.client("reader")
    first = answered(client)
    second = answered(client, "その申請は？", conversation=first["conversation"])
    assert (second["seq"], second["conversation"]) == (2, first["conversation"])
    assert second["asked"] != "その申請は？"
    assert "有給休暇" in second["asked"]


def test_a_retry_takes_the_place_of_the_last_turn(site: Site):
    client = site.client("reader")
    first = answered(client)
    again = answered(client, "", conversation=first["conversation"], retry=first["id"])
    assert (again["question"], again["seq"]) == (QUESTION, 1)
    assert again["id"] != first["id"]
    assert [turn["id"] for turn in client.get(f"/api/conversations/{first['conversation']}").json()["turns"]] == [again["id"]]
    stale = client.post(f"/api/conversations/{first['conversation']}/turns", json={"retry": first["id"]})
    assert stale.status_code == 409


def test_anothers_conversation_does_not_exist(site: Site):
    """Not for a peer, and not for an administrator who may see everything in it."""
    turn = answered(site.client("reader"))
    id = turn["conversation"]
    for other in (site.client("reader", name="別の人"), site.client("admin", "restricted:*")):
        nothing = other.get("/api/conversations/c_00000000000000000000")
        for response in (
            other.get(f"/api/conversations/{id}"),
            other.patch(f"/api/conversations/{id}", json={"title": "盗み見"}),
            other.delete(f"/api/conversations/{id}"),
            other.post(f"/api/conversations/{id}/turns", json={"question": "続き"}),
            other.post(f"/api/turns/{turn['id']}/feedback", json={"kind": "up"}),
            other.post(f"/api/turns/{turn['id']}/right-answer", json={"text": "十日"}),
            other.get(f"/c/{id}"),
        ):
            assert response.status_code in (403, 404)
            assert QUESTION not in response.text
        assert other.get(f"/api/conversations/{id}").json() == nothing.json()
        assert id not in json.dumps(other.get("/api/conversations").json())


def test_a_conversation_closes_for_who_loses_the_clearance(own_site: Site):
    """It carries the join of what went into it; closed, not even its title is told."""
    client = own_site.client("reader", "confidential:hr")
    turn = answered(client, SALARY)
    assert turn["label"] == "confidential:hr"
    people.change_user(own_site.project, "reader-confidential-hr", clearance="internal", by=own_site.by)
    [talk] = client.get("/api/conversations").json()["conversations"]
    assert (talk["closed"], talk["title"], talk["label"]) == (True, None, None)
    for response in (
        client.get(f"/api/conversations/{turn['conversation']}"),
        client.get(f"/c/{turn['conversation']}"),
        client.patch(f"/api/conversations/{turn['conversation']}", json={"title": "x"}),
        client.post(f"/api/conversations/{turn['conversation']}/turns", json={"question": "続き"}),
        client.post(f"/api/turns/{turn['id']}/feedback", json={"kind": "up"}),
    ):
        assert response.status_code == 404
    assert client.get("/api/conversations", params={"search": "等級"}).json() == {"conversations": []}
    page = client.get("/", headers={"accept": "text/html"}).text
    assert "閉じた会話" in page
    assert "等級" not in page
    assert client.delete(f"/api/conversations/{turn['conversation']}").status_code == 204


def test_who_may_not_see_a_document_gets_no_answer_from_it(site: Site):
    for clearance in ("public", "internal", "confidential"):
        said = json.dumps(ask(site.client("reader", clearance), SALARY), ensure_ascii=False)
        assert "38万円" not in said
        assert "hr/" not in said


def test_suggestions_come_from_what_the_asker_may_read(site: Site):
    everyone = site.client("reader", "internal").get("/api/suggestions").json()["questions"]
    assert everyone
    assert not any("給与" in question for question in everyone)
    assert site.client("reader", "public").get("/api/suggestions").json() == {"questions": []}
    assert any("給与" in q for q in site.client("reader", "confidential:hr").get("/api/suggestions").json()["questions"])


def test_feedback_is_kept_with_its_label_and_listed_within_the_clearance(own_site: Site):
    client = own_site.client("annotator", "confidential:hr")
    turn = answered(client, SALARY)
    at = f"/api/turns/{turn['id']}"
    assert client.post(f"{at}/feedback", json={"kind": "up"}).json()["feedback"] == ["up"]
    assert client.post(f"{at}/feedback", json={"kind": "down"}).json()["feedback"] == ["down"]
    assert client.delete(f"{at}/feedback").json()["feedback"] == []
    assert client.post(f"{at}/feedback", json={"kind": "wrong_source", "source": 1}).status_code == 200
    assert client.post(f"{at}/feedback", json={"kind": "wrong_source", "source": 77}).status_code == 404
    assert client.post(f"{at}/right-answer", json={"text": "38万円から46万円です。"}).status_code == 200
    rows = own_site.client("builder", "confidential:hr").get("/api/feedback").json()["feedback"]
    assert {row["kind"] for row in rows} == {"wrong_source", "right_answer"}
    assert {row["label"] for row in rows} == {"confidential:hr"}
    assert {row["question"] for row in rows} == {SALARY}
    assert own_site.client("builder", "internal").get("/api/feedback").json() == {"feedback": []}
    assert own_site.client("reader", "restricted:*").get("/api/feedback").status_code == 403
    assert "38万円から46万円です。" in own_site.client("builder", "confidential:hr").get("/feedback").text


def test_a_reader_gives_opinions_but_not_right_answers(site: Site):
    turn = answered(site.client("reader"))
    assert site.client("reader").post(f"/api/turns/{turn['id']}/right-answer", json={"text": "10日"}).status_code == 403
    assert 'data-right' not in site.client("reader").get(f"/c/{turn['conversation']}").text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"question": " \n "}, 400),
        ({"question": "有給\x00休暇"}, 400),
        ({"question": "休" * 30_000}, 413),
        ({"question": ["有給"]}, 400),
        ({"question": "有給", "model": "x"}, 400),
        ({}, 400),
    ],
)
def test_a_question_that_is_none_is_refused_before_anything_is_stored(site: Site, body: dict[str, Any], status: int):
    client = site.client("reader", name="空の人")
    response = client.post("/api/conversations", json=body)
    assert response.status_code == status
    assert response.json()["error"]["message"]
    assert "休休" not in response.text
    assert client.get("/api/conversations").json() == {"conversations": []}


def test_asking_and_opening_are_on_record_without_content(own_site: Site):
    client = own_site.client("reader")
    turn = answered(client)
    client.get(f"/api/conversations/{turn['conversation']}")
    acts = [record["act"] for record in own_site.records()]
    assert "ask" in acts
    assert "conversation" in acts
    assert QUESTION not in json.dumps(own_site.records(), ensure_ascii=False)


def test_a_question_with_markup_is_text_on_every_page(site: Site):
    client = site.client("builder")
    event = ask(client, HOSTILE)[-1]
    turn = event["turn"]
    client.post(f"/api/turns/{turn['id']}/right-answer", json={"text": HOSTILE})
    pages = [event["html"], *(client.get(path).text for path in (f"/c/{turn['conversation']}", "/", "/parts/conversations", "/feedback"))]
    for page in pages:
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_speaks_the_chosen_language(site: Site, language: str):
    client = site.fresh()
    client.cookies.update(dict(site.client("reader").cookies))
    answer = client.get(f"/language/{language}", params={"to": "/"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    page = client.get("/").text
    assert f'<html lang="{language}"' in page
    assert Texts(language)("chat.hello") in page  # type: ignore[arg-type]


def made(text: str, *, model: str = "gemma", **more: Any) -> str:
    citation = {"n": 1, "document": "d_0123456789abcdef", "version": "0123456789ab", "place": {}, "path": "a"}
    answer = {"answer": text, "model": model, "why": "", "citations": [citation], "marks": [], **more}
    return str(said(answer, lambda n: f"<a>{n}</a>"))


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "![図](https://evil.example/a.png)",
        "[押して](javascript:alert(1))",
        "[社内ポータル](https://evil.example/)",
        "<https://evil.example/>",
        "[a]: https://evil.example/\n\n[a] ![a][a]",
        "<form action=https://evil.example><button>送信</button></form>",
        "| <b>表</b> |\n|---|\n| <iframe src=x> |",
        "```html\n<script>x</script>\n```",
        "&lt;script&gt; <a href='x' onclick='y'>文</a>",
        "\ue0001\ue001<svg/onload=alert(1)>",
    ],
)
@pytest.mark.parametrize("model", ["gemma", "extract"])
def test_what_a_model_or_document_says_never_becomes_a_script_image_link_or_form(text: str, model: str):
    import re

    html = made(text, model=model)
    tags = set(re.findall(r"<\s*([a-zA-Z0-9]+)([^>]*)>", html))
    assert {name for name, _ in tags} <= {"p", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "br", "em", "strong"}
    assert all(attributes.strip() in ("", 'class="language-html"') for _, attributes in tags)


def test_a_links_address_is_shown_as_text():
    assert "社内ポータル (https://evil.example/)" in made("[社内ポータル](https://evil.example/)")


def test_a_mark_stands_where_it_was_recorded_and_nowhere_else():
    """A "[1]" that a document holds is no citation."""
    text = "第1条[1]により10日とする。[1]"
    assert made(text, model="extract", marks=[[16, 19, 1]]) == "<p>第1条[1]により10日とする。<a>1</a></p>"
    assert made(text, marks=[[16, 19, 1]]).count("<a>1</a>") == 1
    assert made(text, marks=[[3, 6, 2], [99, 100, 1], [0, 3, 1]]).count("<a>") == 0


def test_a_reader_who_goes_away_leaves_a_whole_turn_that_is_drawn_no_further(own_site: Site, monkeypatch: pytest.MonkeyPatch):
    """The stop button ends the connection: what was shown is kept, marked as stopped; the answer is drawn no further."""
    gone, drawn = threading.Event(), []
    whole = questions.Conversation.stream

    def slow(self: Any, question: str) -> Iterator[Any]:
        part = next(iter(whole(self, question)))
        for at in range(1000):
            drawn.append(at)
            yield part
            gone.wait(10) if at == 0 else time.sleep(0.005)

    monkeypatch.setattr(questions.Conversation, "stream", slow)
    headers = {"Authorization": f"Bearer {own_site.token('reader')}", "Content-Type": "application/json"}
    with listening(own_site.app) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        connection.request("POST", "/api/conversations", json.dumps({"question": QUESTION}), headers)
        response = connection.getresponse()
        begun, shown = json.loads(response.readline()), json.loads(response.readline())
        response.close()
        connection.close()
        gone.set()
        client = own_site.client("reader")
        for _ in range(400):
            kept = client.get(f"/api/conversations/{begun['conversation']}")
            if kept.status_code == 200:
                break
            time.sleep(0.05)
    [turn] = kept.json()["turns"]
    assert turn["id"] == begun["turn"]
    assert turn["answer"]["stopped"] is True
    assert turn["answer"]["answer"].startswith(shown["text"].strip())
    assert len(drawn) < 1000
