"""For whoever runs it: health, readiness, metrics, background jobs."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from hagane.project import work
from hagane.project.health import not_ready

from .access import Anyone, Building, Site
from .limits import is_loopback
from .metrics import MEDIA

router = APIRouter(tags=["Operation"])

FORWARDED = frozenset({"forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip"})  # and everything of x-forwarded-


class Healthy(BaseModel):
    status: Literal["ok"]


class Ready(BaseModel):
    """`reasons`: ledger, audit, disk, index, jobs."""

    status: Literal["ready", "not ready"]
    reasons: list[str]


class JobOut(BaseModel):
    """A background job. `progress`: the last event while it runs, {"report": ...} when it is done."""

    id: str
    kind: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    user: str
    label: str
    args: dict[str, Any]
    progress: dict[str, Any]
    error: str | None
    created_at: str
    started_at: str | None
    ended_at: str | None


class JobList(BaseModel):
    jobs: list[JobOut]


class JobIn(BaseModel):
    """A job to be done in the background."""

    kind: Literal["sync"] = "sync"
    yes: bool = Field(False, description="delete even when a source is missing or lost many documents")
    words_only: bool = Field(False, description="end when words are searchable; vectors come with the next sync")


@router.get("/healthz", response_model=Healthy, summary="Whether the process is alive")
async def healthz(caller: Anyone) -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz", response_model=Ready, responses={503: {"model": Ready}}, summary="Whether requests can be served")
async def readyz(caller: Anyone, site: Site) -> Response:
    reasons = await site.threads.run(not_ready, site.project)
    status = "not ready" if reasons else "ready"
    return JSONResponse({"status": status, "reasons": reasons}, 503 if reasons else 200)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, summary="Numbers for Prometheus")
async def metrics(caller: Anyone, request: Request, site: Site) -> Response:
    """For programs on this machine, and for administrators (a token with the scope `administer`)."""
    if not is_from_here(request):
        await site.doorkeeper.admit(request, "administer")
    return Response(await site.threads.run(request.app.state.metrics.text), media_type=MEDIA)


def is_from_here(request: Request) -> bool:
    """Whether a program on this machine asks, with no proxy between: then nobody else stands behind it. A proxy that
    adds no header speaks HTTP/1.0 (nginx does, unless told otherwise), or hagane.yaml tells of it."""
    config = request.app.state.site.project.config.server
    if config.trusted_proxies or not is_loopback(urlsplit(config.url or "http://localhost").hostname or ""):
        return False
    host = request.client.host if request.client else ""
    name = request.url.hostname or ""
    passed = any(header in FORWARDED or header.startswith("x-forwarded-") for header in request.headers)
    return is_loopback(host) and is_loopback(name) and not passed and request.scope.get("http_version") != "1.0"


@router.get("/api/jobs", response_model=JobList, summary="Background jobs, newest first")
async def list_jobs(caller: Building, site: Site) -> dict[str, Any]:
    return {"jobs": await site.threads.run(work.jobs, site.project, by=caller.principal)}


@router.post("/api/jobs", response_model=JobOut, status_code=202, summary="Put a job into the queue")
async def add_job(body: JobIn, caller: Building, site: Site) -> dict[str, Any]:
    """An equal job that waits already is the same one."""
    args = {name: True for name in ("yes", "words_only") if getattr(body, name)}
    id = await site.threads.run(work.submit, site.project, body.kind, args, by=caller.principal)
    return await site.threads.run(work.job, site.project, id, by=caller.principal)


@router.get("/api/jobs/{job}", response_model=JobOut, summary="One background job")
async def one_job(job: str, caller: Building, site: Site) -> dict[str, Any]:
    return await site.threads.run(work.job, site.project, job, by=caller.principal)


@router.delete("/api/jobs/{job}", response_model=JobOut, summary="End a job; what it did is kept")
async def cancel_job(job: str, caller: Building, site: Site) -> dict[str, Any]:
    await site.threads.run(work.cancel, site.project, job, by=caller.principal)
    return await site.threads.run(work.job, site.project, job, by=caller.principal)
