"""The page's chat: conversations, questions, answers as they are sure, feedback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from hagane.core.accounts import Caller
from hagane.core.errors import HaganeError
from hagane.core.types import AnswerPart
from hagane.project import chat, feedback, suggestions

from .access import Annotating, Asking, Building, Site
from .errors import mistake, of_ours
from .pieces import Pieces

router = APIRouter()
LINES = "application/x-ndjson"
Id = Annotated[str, Path(pattern=r"^[ct]_[0-9a-f]{20}$", max_length=22)]
Search = Annotated[str, Query(max_length=200)]


class Body(BaseModel):
    """What the page sends; nothing unknown."""

    model_config = ConfigDict(extra="forbid")


class Question(Body):
    question: str = Field(max_length=1_000_000, description="what is asked")


class FollowUp(Body):
    question: str = Field("", max_length=1_000_000, description="what is asked; not needed with `retry`")
    retry: str | None = Field(None, max_length=40, description="id of the last turn: ask its question again")


class Title(Body):
    title: str = Field(max_length=1_000, description="the conversation's new title")


class Opinion(Body):
    kind: Literal["up", "down", "wrong_source"] = Field(description="good, not good, or a citation that is wrong")
    source: int | None = Field(None, ge=1, le=999, description="number of the wrong citation")


class RightAnswer(Body):
    text: str = Field(max_length=100_000, description="what should have been answered")


class Answered(BaseModel):
    """A line of the answer: begun, text, turn (last), or error (last)."""

    event: Literal["begun", "text", "turn", "error"]


STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "JSON lines, last one `turn` or `error`", "content": {LINES: {"schema": Answered.model_json_schema()}}}
}


# pages


@router.get("/", include_in_schema=False)
async def start(caller: Asking, request: Request, site: Site) -> HTMLResponse:
    """A new conversation."""
    talks = await site.threads.run(chat.conversations, site.project, caller.account)
    return site.pages.render(request, "chat.html", caller=caller, current="chat", talks=talks, talk=None, versions={})


@router.get("/c/{id}", include_in_schema=False)
async def talk_page(caller: Asking, request: Request, site: Site, id: Id) -> HTMLResponse:
    """A kept conversation."""
    values = await site.threads.run(_kept, site, caller, id)
    return site.pages.render(request, "chat.html", caller=caller, **values)


@router.get("/parts/conversations", include_in_schema=False)
async def talks_part(caller: Asking, request: Request, site: Site, search: Search = "", open: Search = "") -> HTMLResponse:
    """The list beside the chat."""
    talks = await site.threads.run(chat.conversations, site.project, caller.account, search=search)
    return site.pages.render(request, "talks.html", caller=caller, talks=talks, open_id=open, searched=bool(search.strip()))


@router.get("/parts/suggestions", include_in_schema=False)
async def suggestions_part(caller: Asking, request: Request, site: Site) -> HTMLResponse:
    """Examples for the start page, fetched by it: the first look through large documents takes most of a second."""
    suggested = await site.threads.run(_suggested, site, caller, request)
    return site.pages.render(request, "suggested.html", caller=caller, suggested=suggested)


@router.get("/feedback", include_in_schema=False)
async def feedback_page(caller: Building, request: Request, site: Site, kind: Search = "") -> HTMLResponse:
    """What people said of answers."""
    rows = await site.threads.run(feedback.listing, site.project, by=caller.principal, kind=kind)
    return site.pages.render(request, "feedback.html", caller=caller, current="feedback", rows=rows, kind=kind, kinds=feedback.KINDS)


def _kept(site: Any, caller: Caller, id: str) -> dict[str, Any]:
    talk = chat.conversation(site.project, caller.account, id)
    versions = chat.sources(site.project, caller.account, talk["turns"])
    talks = chat.conversations(site.project, caller.account)
    return {"current": "chat", "talks": talks, "talk": talk, "versions": versions}


def _suggested(site: Any, caller: Caller, request: Request) -> list[str]:
    t = site.pages.text(request)
    return [_as_question(one, t) for one in suggestions.suggestions(site.project, caller.account)]


def _as_question(one: suggestions.Suggestion, t: Callable[..., str]) -> str:
    if one.is_question:
        return one.text
    return t("chat.about", heading=one.text) if one.text == one.title else t("chat.about_in", title=one.title, heading=one.text)


# the API


@router.get("/api/suggestions", tags=["chat"], summary="Questions that the caller's documents could answer")
async def list_suggestions(caller: Asking, request: Request, site: Site) -> dict[str, list[str]]:
    return {"questions": await site.threads.run(_suggested, site, caller, request)}


@router.get("/api/conversations", tags=["chat"], summary="The caller's conversations, newest first")
async def list_conversations(caller: Asking, site: Site, search: Search = "") -> dict[str, Any]:
    return {"conversations": await site.threads.run(chat.conversations, site.project, caller.account, search=search)}


@router.get("/api/conversations/{id}", tags=["chat"], summary="A conversation with its turns")
async def one_conversation(caller: Asking, site: Site, id: Id) -> dict[str, Any]:
    return await site.threads.run(chat.conversation, site.project, caller.account, id)


@router.patch("/api/conversations/{id}", tags=["chat"], summary="Give a conversation another title")
async def rename_conversation(caller: Asking, site: Site, id: Id, body: Title) -> dict[str, Any]:
    return await site.threads.run(chat.rename, site.project, caller.account, id, body.title)


@router.delete("/api/conversations/{id}", tags=["chat"], status_code=204, summary="Delete a conversation")
async def delete_conversation(caller: Asking, site: Site, id: Id) -> None:
    await site.threads.run(chat.delete, site.project, caller.account, id)


@router.post("/api/conversations", tags=["chat"], responses=STREAMED, response_class=Response, summary="Ask, in a new conversation")
async def ask_first(caller: Asking, request: Request, site: Site, body: Question) -> Response:
    reader = site.doorkeeper.reader(request)
    return _streamed(request, site, caller, lambda: chat.ask(site.project, caller.account, body.question, reader=reader))


@router.post("/api/conversations/{id}/turns", tags=["chat"], responses=STREAMED, response_class=Response, summary="Ask on")
async def ask_on(caller: Asking, request: Request, site: Site, id: Id, body: FollowUp) -> Response:
    reader = site.doorkeeper.reader(request)

    def make() -> Iterator[Any]:
        return chat.ask(site.project, caller.account, body.question, conversation=id, retry=body.retry, reader=reader)

    return _streamed(request, site, caller, make)


@router.post("/api/turns/{id}/feedback", tags=["chat"], summary="Say whether an answer or a source was good")
async def give_feedback(caller: Asking, site: Site, id: Id, body: Opinion) -> dict[str, Any]:
    return await site.threads.run(feedback.give, site.project, caller.account, id, body.kind, source=body.source)


@router.delete("/api/turns/{id}/feedback", tags=["chat"], summary="Take back up or down")
async def withdraw_feedback(caller: Asking, site: Site, id: Id) -> dict[str, Any]:
    return await site.threads.run(feedback.withdraw, site.project, caller.account, id)


@router.post("/api/turns/{id}/right-answer", tags=["chat"], summary="Say what the right answer is")
async def give_right_answer(caller: Annotating, site: Site, id: Id, body: RightAnswer) -> dict[str, Any]:
    return await site.threads.run(feedback.give, site.project, caller.account, id, "right_answer", text=body.text)


@router.get("/api/feedback", tags=["chat"], summary="All feedback within the caller's clearance, oldest first")
async def export_feedback(caller: Building, site: Site) -> dict[str, Any]:
    return {"feedback": await site.threads.run(feedback.export, site.project, by=caller.principal)}


def _streamed(request: Request, site: Any, caller: Caller, make: Callable[[], Iterator[Any]]) -> Pieces:
    def lines() -> Iterator[bytes]:
        with closing(make()) as pieces:  # type: ignore[type-var]
            for piece in pieces:
                yield _line(_event(request, site, caller, piece))

    def torn(error: BaseException) -> bytes:
        folder = str(site.project.folder)
        problem = of_ours(error, folder=folder) if isinstance(error, HaganeError) else mistake(error)
        return _line({"event": "error", **problem.body})

    return Pieces(site.threads, lines, who=caller.account.id, media=LINES, torn=torn)


def _event(request: Request, site: Any, caller: Caller, piece: Any) -> dict[str, Any]:
    if isinstance(piece, chat.Begun):
        return {"event": "begun", "conversation": piece.conversation, "turn": piece.turn}
    if isinstance(piece, AnswerPart):
        return {"event": "text", "text": piece.text}
    versions = chat.sources(site.project, caller.account, [piece])
    html = site.pages.html(request, "turn.html", caller=caller, turn=piece, versions=versions)
    return {"event": "turn", "turn": piece, "html": html}


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
