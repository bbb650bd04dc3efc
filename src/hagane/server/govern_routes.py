"""For officers: audit, label requests, who may see what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from hagane.project import audit, govern, people

from .access import Governing, Site
from .bodies import Body

router = APIRouter()
Short = Annotated[str, Query(max_length=200)]
Before = Annotated[int | None, Query(ge=1)]


class Reason(Body):
    reason: str = Field(min_length=1, max_length=2000, description="why; its hash stands in the audit log")


class Access(Body):
    user: str = Field(min_length=1, max_length=200, description="name of a user")
    thing: str = Field(min_length=1, max_length=1000, description="a document (id, path or its end), a conversation's id, or a label")


# the API


@router.get("/api/audit")
async def audit_log(
    caller: Governing, site: Site, act: Short = "", principal: Short = "", since: Short = "", until: Short = "", before: Before = None,
    n: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:  # fmt: skip
    """The newest records; `next` goes into `before` for those that come before them."""
    given = {"act": act, "principal": principal, "since": since, "until": until, "before": before, "n": n}
    return await site.threads.run(govern.log, site.project, by=caller.principal, **given)


@router.post("/api/audit/verify")
async def audit_verify(caller: Governing, site: Site) -> dict[str, Any]:
    """Follow the whole chain of records, and compare it with the signed checkpoints."""
    return await site.threads.run(audit.verify, site.project)


@router.get("/api/label-requests")
async def label_requests(caller: Governing, site: Site) -> dict[str, Any]:
    """Wishes for lower labels that wait."""
    return {"requests": await site.threads.run(govern.waiting, site.project, by=caller.principal)}


@router.post("/api/label-requests/{request}/approve")
async def approve(caller: Governing, site: Site, request: str) -> dict[str, Any]:
    """Lower as asked; nobody approves their own wish."""
    return await site.threads.run(govern.approve, site.project, request, by=caller.principal)


@router.post("/api/label-requests/{request}/decline")
async def decline(caller: Governing, site: Site, request: str, body: Reason) -> dict[str, Any]:
    """Say no; the label stays."""
    return await site.threads.run(govern.decline, site.project, request, by=caller.principal, reason=body.reason)


@router.post("/api/access")
async def explain_access(caller: Governing, site: Site, body: Access) -> dict[str, Any]:
    """Why someone may see a thing, or not, in one sentence."""
    return {"because": await site.threads.run(people.explain, site.project, body.user, body.thing, by=caller.principal)}


# the page


@router.get("/audit", include_in_schema=False)
async def audit_page(
    caller: Governing, site: Site, request: Request, act: Short = "", principal: Short = "", since: Short = "", until: Short = "",
    before: Before = None,
) -> Response:  # fmt: skip
    """The log, newest first; what waits for a decision; the question who may see what."""
    given = {"act": act, "principal": principal, "since": since, "until": until}
    found = await site.threads.run(govern.log, site.project, by=caller.principal, before=before, **given)
    if request.headers.get("hx-target") == "records":
        return site.pages.render(request, "audit_records.html", caller=caller, found=found, wish=given)
    waiting = await site.threads.run(govern.waiting, site.project, by=caller.principal)
    return site.pages.render(request, "audit.html", caller=caller, current="audit", found=found, wish=given, waiting=waiting)


@router.post("/audit/verify", include_in_schema=False)
async def verify_part(caller: Governing, site: Site, request: Request) -> Response:
    """The state of the chain, as the page shows it."""
    return site.pages.render(request, "audit_state.html", caller=caller, report=await site.threads.run(audit.verify, site.project))
