"""The OpenAI-compatible API: chat completions, responses, embeddings, models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from hagane.core.accounts import Caller
from hagane.core.errors import UnknownModelError
from hagane.core.types import ChatRequest
from hagane.project import talk
from hagane.project.meanwhile import Reader

from .access import Asking, Site
from .openai_answers import Completion, ModelList, ModelOut, ResponseOut, Vectors, streamed
from .openai_chat import chunks, completion, torn
from .openai_embeddings import EmbeddingsBody, vectors
from .openai_responses import response, response_events
from .openai_responses_in import ResponsesBody
from .openai_shapes import ChatBody
from .pieces import EVENTS, JSON, Pieces

router = APIRouter(tags=["OpenAI-compatible"])


@router.get("/v1/models", response_model=ModelList, summary="Every model that may be asked")
async def list_models(caller: Asking, site: Site) -> dict[str, Any]:
    rows = await site.threads.run(talk.offered, site.project, by=caller.principal)
    return {"object": "list", "data": [_shown(row) for row in rows]}


@router.get("/v1/models/{model:path}", response_model=ModelOut, summary="One model")
async def one_model(model: str, caller: Asking, site: Site) -> dict[str, Any]:
    rows = await site.threads.run(talk.offered, site.project, by=caller.principal)
    for row in rows:
        if row["id"] == model:
            return _shown(row)
    raise UnknownModelError("there is no model of that name", hint="GET /v1/models lists them")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    said = {"kind": row["kind"], "title": row["title"]}
    return {"id": row["id"], "object": "model", "created": row["created"], "owned_by": "hagane", "hagane": said}


@router.post("/v1/chat/completions", responses=streamed(Completion), response_class=Response, summary="Ask the assistant, or a model")
async def chat_completions(body: ChatBody, caller: Asking, request: Request, site: Site) -> Response:
    begin = partial(_talk, site, caller, body.request(), body.labels, body.model, site.doorkeeper.reader(request))
    if body.stream:
        return _pieces(site, caller, lambda: chunks(begin(), with_usage=body.with_usage), media=EVENTS)
    return _pieces(site, caller, lambda: completion(begin()), media=JSON)


@router.post("/v1/responses", responses=streamed(ResponseOut), response_class=Response, summary="Ask; nothing is stored")
async def responses(body: ResponsesBody, caller: Asking, request: Request, site: Site) -> Response:
    wanted, labels = body.talk()
    begin = partial(_talk, site, caller, wanted, labels, body.model, site.doorkeeper.reader(request))
    folder = str(site.project.folder)
    if body.stream:
        return _pieces(site, caller, lambda: response_events(begin(), body, wanted, folder=folder), media=EVENTS)
    return _pieces(site, caller, lambda: response(begin(), body, wanted), media=JSON)


@router.post("/v1/embeddings", response_model=Vectors, summary="Texts to vectors")
async def embeddings(body: EmbeddingsBody, caller: Asking, site: Site) -> Response:
    with site.threads.counted(caller.account.id):
        made = await site.threads.run(vectors, site.project, body, by=caller.principal)
    return Response(made, media_type=JSON)


def _talk(site: Any, caller: Caller, request: ChatRequest, labels: list[str | None], model: str, reader: Reader) -> talk.Talk:
    return talk.Talk(site.project, request, labels, model=model, by=caller.principal, reader=reader)


def _pieces(site: Any, caller: Caller, make: Callable[[], Iterator[bytes]], *, media: str) -> Pieces:
    return Pieces(site.threads, make, who=caller.account.id, media=media, torn=partial(torn, folder=str(site.project.folder)))
