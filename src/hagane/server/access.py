"""Every route says who may use it; a route that does not say so keeps the server from starting.

    @router.get("/api/audit")
    async def audit(caller: Governing, site: Site) -> ...: ...

`Asking`, `Annotating`, `Building`, `Governing`, `Administering` are the callers with that permission; `Anyone` (signed
in or not) is for the sign-in page and the health probes only. The matrix test is generated from `needs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute

from hagane.core.accounts import Caller, Permission
from hagane.core.errors import HaganeError

from .errors import Refusal

OPEN = "open"


def _gate(need: Permission | str) -> Callable[..., Any]:
    async def gate(request: Request) -> Any:  # a Caller, or None where nobody needs to be
        keeper = request.app.state.site.doorkeeper
        caller = await (keeper.caller(request) if need == OPEN else keeper.admit(request, need))
        require_text(getattr(request, "_json", None))  # as the framework read it, just before
        return caller

    gate.need = need  # type: ignore[attr-defined]
    return gate


def require_text(value: Any) -> None:
    """Every string of a JSON body is one that can be written as UTF-8: no half of a surrogate pair. All bodies pass
    here, for the gate is what every route has. Raises: Refusal 400."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if not one.isascii():
                try:
                    one.encode()
                except UnicodeEncodeError:
                    raise Refusal(400, "text", "the body holds a character that is none", hint="send whole characters, UTF-8") from None
        elif isinstance(one, dict):
            waiting += one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


async def site_of(request: Request) -> Any:  # async: a plain function would cost a thread at each request
    """The running site: project, threads, doorkeeper, templates."""
    return request.app.state.site


Site = Annotated[Any, Depends(site_of)]
Anyone = Annotated[Caller | None, Depends(_gate(OPEN))]
Asking = Annotated[Caller, Depends(_gate("ask"))]
Annotating = Annotated[Caller, Depends(_gate("annotate"))]
Building = Annotated[Caller, Depends(_gate("build"))]
Governing = Annotated[Caller, Depends(_gate("govern"))]
Administering = Annotated[Caller, Depends(_gate("administer"))]


def needs(app: FastAPI) -> Iterator[tuple[APIRoute, str]]:
    """Every route of `app` with the permission it asks for, or "open".
    Raises: HaganeError for a route that names none, or several, and for anything whose routes cannot be read."""
    for route in app.routes:
        if not isinstance(route, APIRoute):  # a mount, an included router: what is in it would not be looked at
            raise HaganeError(f"{type(route).__name__} hides routes from the doorkeeper", hint="add the router to ROUTES in server/app.py")
        found = [d.call.need for d in route.dependant.dependencies if hasattr(d.call, "need")]
        if len(found) != 1:
            raise HaganeError(f"route {route.path} says {len(found)} times who may use it", hint="take one of server/access.py")
        yield route, found[0]
