"""How the project is doing, and how it is set: health, plots, settings."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from hagane.core.types import Principal
from hagane.project import board, settings

from .access import Administering, Building, Site
from .plots import bars, lines

router = APIRouter()


def _seen(project: Any, by: Principal) -> dict[str, Any]:
    return {"board": board.board(project, by=by), "days": board.days(project)}


@router.get("/api/board")
async def board_numbers(caller: Building, site: Site) -> dict[str, Any]:
    """Index, model, machine, queue and numbers by day: counts only."""
    return await site.threads.run(_seen, site.project, caller.principal)


@router.get("/api/settings")
async def effective_settings(caller: Administering, site: Site) -> dict[str, Any]:
    """The effective hagane.yaml; secrets stand as they are written."""
    return await site.threads.run(settings.settings, site.project, by=caller.principal)


@router.get("/health", include_in_schema=False)
async def health_page(caller: Building, site: Site, request: Request) -> Response:
    """Everything that runs, and a month in numbers."""
    seen = await site.threads.run(_seen, site.project, caller.principal)
    days = [day | {"rate": round(100 * day["abstained"] / day["questions"]) if day["questions"] else None} for day in seen["days"]]
    plots = {
        "questions": bars(days, "questions"), "latency": lines(days, "p50_ms", "p95_ms"),
        "abstained": bars(days, "rate", top=100), "feedback": bars(days, "up", "down"),
    }  # fmt: skip
    return site.pages.render(request, "health.html", caller=caller, current="health", board=seen["board"], days=days, plots=plots)


@router.get("/health/now", include_in_schema=False)
async def health_part(caller: Building, site: Site, request: Request) -> Response:
    """What changes by itself: the index and the jobs."""
    state = await site.threads.run(board.board, site.project, by=caller.principal)
    return site.pages.render(request, "health_now.html", caller=caller, board=state)


@router.get("/settings", include_in_schema=False)
async def settings_page(caller: Administering, site: Site, request: Request) -> Response:
    """The effective hagane.yaml."""
    found = await site.threads.run(settings.settings, site.project, by=caller.principal)
    return site.pages.render(request, "settings.html", caller=caller, current="settings", found=found)
