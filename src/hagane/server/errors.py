"""Every refusal in one shape: OpenAI's error object with our hint, or a page for those who asked for one.

    {"error": {"message": ..., "type": ..., "param": ..., "code": ..., "hint": ...}}

Nothing of the request's content stands in it; an error that is our own mistake says only that it happened.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from hagane.core.errors import HaganeError, NotFoundError, RefusedError, UnknownModelError
from hagane.core.log import get

log = get("server.errors")

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
WORDS = {  # what is said for a bare status; a 404 is the same for what is hidden and what does not exist
    400: ("bad_request", "the request is not understood"),
    401: ("not_signed_in", "nobody is signed in"),
    403: ("refused", "this is not allowed"),
    404: ("not_found", "there is nothing here"),
    405: ("method_not_allowed", "this address does not take that method"),
}
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_OWN_WORDS = frozenset({"value_error", "assertion_error", "json_invalid"})  # their messages may hold what was sent
APIS = ("/v1/", "/api/", "/openapi.json")  # never answered with a page


class ErrorDetail(BaseModel):
    """What went wrong, in OpenAI's shape."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    hint: str | None = Field(None, description="what to do next")


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class Refusal(HTTPException):
    """A refusal of the door itself. An HTTPException, because the framework lets those through while it reads a body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail=message, headers=headers)
        self.code, self.hint = code, hint


class Elsewhere(HTTPException):
    """Not here: the browser is sent to `path` of this site."""

    def __init__(self, path: str) -> None:
        super().__init__(303, headers={"Location": path})


@dataclass(frozen=True, slots=True)
class Problem:
    """One error as it is shown."""

    status: int
    message: str
    code: str
    param: str | None = None
    hint: str | None = None
    headers: Mapping[str, str] | None = None

    @property
    def body(self) -> dict[str, Any]:
        """In OpenAI's shape."""
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code, "hint": self.hint}}


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks: an address of the page, and HTML is accepted."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(APIS)


def answer(request: Request, problem: Problem) -> Response:
    """`problem` as JSON, or as a page when the browser navigates."""
    if not wants_page(request) or request.headers.get("hx-request"):
        return JSONResponse(problem.body, problem.status, headers=dict(problem.headers or {}))
    try:
        pages, caller = request.app.state.site.pages, getattr(request.state, "caller", None)
        texts, near = pages.text(request), 400 if problem.status < 500 else 500
        keys = [f"fault.s{status}" for status in (problem.status, near)]
        heading = next(texts(f"{key}_title") for key in keys if f"{key}_title" in texts.words)
        words = next(texts(key) for key in (f"problem.{problem.code}", *(f"{key}_text" for key in keys)) if key in texts.words)
        page = pages.render(request, "error.html", caller=caller, status=problem.status, problem=problem, heading=heading, words=words)
        page.headers.update(problem.headers or {})
        return page
    except Exception as broken:  # the page for errors must not be a second one
        log.warning("error page failed", kind=type(broken).__name__)
        text = problem.message + (f"\n{problem.hint}" if problem.hint else "") + "\n"
        return PlainTextResponse(text, problem.status, headers=dict(problem.headers or {}))


def of_ours(error: HaganeError, *, folder: str = "") -> Problem:
    """One of the house's errors. `folder` is cut out: where the project lies is nobody's business."""
    said = [str(error), error.hint]
    if folder:
        said = [text and text.replace(f"{folder}/", "").replace(folder, "") for text in said]
    headers = {"Retry-After": "1"} if error.retryable and error.http_status in (429, 503) else None
    return Problem(error.http_status, said[0] or "", error.code, getattr(error, "param", None), said[1], headers)


def of_http(error: HTTPException) -> Problem:
    """One of the framework's, or a `Refusal`."""
    if isinstance(error, Refusal):
        return Problem(error.status_code, str(error.detail), error.code, None, error.hint, error.headers)
    code, message = WORDS.get(error.status_code, ("http", "the request was not answered"))
    return Problem(error.status_code, message, code, headers=error.headers)


def of_validation(error: RequestValidationError) -> Problem:
    """The first thing that does not fit; names of fields are said, what was sent is not."""
    first = error.errors()[0] if error.errors() else {}
    kind = str(first.get("type", ""))
    where = [str(part) for part in first.get("loc", ())[1:]]
    shown = [part for part in where if _FIELD.fullmatch(part) or part.isdigit()]
    param = ".".join(shown)[:200] if where and len(shown) == len(where) and kind != "json_invalid" else None
    if kind == "json_invalid":
        return Problem(400, "the body is not JSON", "json", None, "send one JSON object, UTF-8")
    what = "is not valid" if kind in _OWN_WORDS else str(first.get("msg", "is not valid"))
    if kind == "extra_forbidden":
        return Problem(400, "a field is not known", "unknown_field", None, "see /openapi.json")
    return Problem(400, f"{param or 'the request'}: {what}", "validation", param, "see /openapi.json")


def mistake(error: BaseException) -> Problem:
    """Ours: only the kind is logged, for messages of foreign libraries may hold content. `hagane --debug` shows all."""
    log.warning("mistake", kind=type(error).__name__)
    if os.environ.get("HAGANE_DEBUG"):
        traceback.print_exception(error)
    return Problem(500, "the server made a mistake", "internal", None, "its kind stands in the log of the server")


NAMING = ("document", "doc", "version", "path", "conversation", "turn")  # query fields that name a thing


async def on_record(request: Request, code: str, *, need: str | None = None) -> None:
    """That a signed-in caller was refused: the route's template, hashes of what stood in its place. Raises: AuditError."""
    caller = getattr(request.state, "caller", None)
    if caller is None:
        return
    site = request.app.state.site
    named = [*map(str, request.path_params.values()), *(request.query_params.get(name, "") for name in NAMING)]
    given = {"by": caller.principal, "user": caller.account.id, "named": named, "need": need, "token": caller.token}
    route = getattr(request.scope.get("route"), "path", "?")
    await site.threads.run(site.project.refusals.note, code, route=route, method=request.method, **given)


def install_errors(app: FastAPI) -> None:
    """All of these answers for `app`. Unknown exceptions are met in limits.py, inside the security headers."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, HaganeError)
        if isinstance(error, RefusedError | NotFoundError) and not isinstance(error, UnknownModelError):
            try:
                await on_record(request, error.code)
            except HaganeError as failed:
                error = failed
        if error.http_status >= 500:
            log.warning("failed", kind=type(error).__name__, code=error.code)
        return answer(request, of_ours(error, folder=str(request.app.state.site.project.folder)))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code < 400:
            return Response(status_code=error.status_code, headers=dict(error.headers or {}))
        return answer(request, of_http(error))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(request, of_validation(error))

    app.add_exception_handler(HaganeError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
