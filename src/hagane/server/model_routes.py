"""Models that are made here: the list, one model, one run as it goes on, starting, stopping, publishing, removing."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from hagane.project import runs, trained, training_made

from .access import Building, Site
from .bodies import Body
from .curves import drawn

router = APIRouter()


class TrainText(Body):
    text: str = Field(min_length=1, max_length=runs.LONGEST, description="a train.yaml; its paths are relative to the project's folder")


class TrainStart(TrainText):
    stage: Literal["all", "tokenizer", "pretrain", "tune", "prefer"] = "all"
    again: bool = Field(False, description="begin anew: what an earlier run learnt is thrown away")


# the API


@router.get("/api/models")
async def list_models(caller: Building, site: Site) -> dict[str, Any]:
    """The models made here whose label flows to the caller."""
    return {"models": await site.threads.run(trained.trained, site.project, by=caller.principal)}


@router.get("/api/models/{name}")
async def one_model(caller: Building, site: Site, name: str) -> dict[str, Any]:
    """Everything about one model: label, data, files, gates, figures."""
    return await site.threads.run(runs.look, site.project, name, by=caller.principal)


@router.delete("/api/models/{name}", status_code=204)
async def remove_model(caller: Building, site: Site, name: str) -> None:
    """Remove a model with all its files; what was trained from it stays."""
    await site.threads.run(trained.remove, site.project, name, by=caller.principal)


@router.post("/api/models/{name}/export", status_code=202)
async def export_model(caller: Building, site: Site, name: str) -> dict[str, Any]:
    """Queue the export: files, gates, and publishing of what passes them."""
    return await site.threads.run(runs.publish, site.project, name, by=caller.principal)


@router.get("/api/runs")
async def list_runs(caller: Building, site: Site) -> dict[str, Any]:
    """The training runs whose label flows to the caller."""
    return {"runs": await site.threads.run(training_made.runs, site.project, by=caller.principal)}


@router.get("/api/runs/{name}")
async def one_run(caller: Building, site: Site, name: str) -> dict[str, Any]:
    """One run with its curves, samples and plan."""
    return await site.threads.run(runs.watch, site.project, name, by=caller.principal)


@router.post("/api/runs/check")
async def check_run(caller: Building, site: Site, body: TrainText) -> dict[str, Any]:
    """What a train.yaml would cost; nothing is trained."""
    return await site.threads.run(runs.check, site.project, body.text, by=caller.principal)


@router.post("/api/runs", status_code=202)
async def start_run(caller: Building, site: Site, body: TrainStart) -> dict[str, Any]:
    """Check a train.yaml, keep it in the project's folder, and queue its training."""
    return await site.threads.run(runs.start, site.project, body.text, by=caller.principal, stage=body.stage, again=body.again)


@router.post("/api/runs/{name}/go-on", status_code=202)
async def go_on(caller: Building, site: Site, name: str) -> dict[str, Any]:
    """Queue a run that was stopped; it goes on where it was."""
    return await site.threads.run(runs.go_on, site.project, name, by=caller.principal)


# the page


@router.get("/models", include_in_schema=False)
async def models_page(caller: Building, site: Site, request: Request) -> Response:
    """What was made, and what is being made."""
    found = await site.threads.run(runs.overview, site.project, by=caller.principal)
    return site.pages.render(request, "models.html", caller=caller, current="models", found=found)


@router.get("/runs", include_in_schema=False)
async def models_part(caller: Building, site: Site, request: Request) -> Response:
    """The runs and jobs: what changes by itself."""
    found = await site.threads.run(runs.going_on, site.project, by=caller.principal)
    return site.pages.render(request, "models_now.html", caller=caller, found=found)


@router.get("/models/{name}", include_in_schema=False)
async def model_page(caller: Building, site: Site, request: Request, name: str) -> Response:
    """One model."""
    found = await site.threads.run(runs.look, site.project, name, by=caller.principal)
    return site.pages.render(request, "model.html", caller=caller, current="models", model=found)


@router.get("/runs/{name}", include_in_schema=False)
async def run_page(caller: Building, site: Site, request: Request, name: str) -> Response:
    """One run as it goes on."""
    found = await site.threads.run(runs.watch, site.project, name, by=caller.principal)
    return site.pages.render(request, "run.html", caller=caller, current="models", run=found, plots=drawn(found["stages"]))


@router.get("/runs/{name}/now", include_in_schema=False)
async def run_part(caller: Building, site: Site, request: Request, name: str) -> Response:
    """The curves as they are now."""
    found = await site.threads.run(runs.watch, site.project, name, by=caller.principal)
    return site.pages.render(request, "run_now.html", caller=caller, run=found, plots=drawn(found["stages"]))
