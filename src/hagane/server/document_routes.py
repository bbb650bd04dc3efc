"""The page's documents: upload, status, labels, versions, sources."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from hagane.core.accounts import Caller
from hagane.project import differ, shelf, uploads, work

from .access import Administering, Asking, Building, Site
from .bodies import Body
from .limits import takes_upload

router = APIRouter()
Short = Annotated[str, Query(max_length=300)]


class NewLabel(Body):
    label: str = Field(min_length=1, max_length=300, description="LEVEL or LEVEL:c1+c2")
    reason: str = Field(min_length=1, max_length=2000, description="why; kept in the ledger, its hash in the audit log")


class NewSource(Body):
    path: str = Field(min_length=1, max_length=1000, description="folder or file, as the server's machine knows it")
    label: str = Field("", max_length=300, description="label of its documents; default labels.default")
    name: str = Field("", max_length=80, description="short name; default the folder's")


def wish_of(
    text: Short = "", state: Short = "", source: Short = "", label: Short = "", kind: Short = "", newest: bool = False,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> shelf.Wish:  # fmt: skip
    """What of the shelf a request asks for."""
    return shelf.Wish(text, state, source, label, kind, newest, page)


# the API


@router.get("/api/documents")
async def list_documents(
    caller: Asking, site: Site, text: Short = "", state: Short = "", source: Short = "", label: Short = "", kind: Short = "",
    newest: bool = False, page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> dict[str, Any]:  # fmt: skip
    """One page of the documents that the caller may see, with how many there are of each kind."""
    wish = wish_of(text, state, source, label, kind, newest, page)
    return await site.threads.run(shelf.shelf, site.project, wish, by=caller.principal)


@router.get("/api/documents/{document}")
async def show_document(caller: Asking, site: Site, document: str) -> dict[str, Any]:
    """One document: versions, quality, what was left out of search, its label and why."""
    return await site.threads.run(shelf.overview, site.project, document, by=caller.principal)


@router.get("/api/documents/{document}/compare/{version}/{other}")
async def compare_versions(caller: Asking, site: Site, document: str, version: str, other: str) -> dict[str, Any]:
    """An older version and another one side by side, paragraph by paragraph."""
    return await site.threads.run(differ.compare, site.project, document, version, other, by=caller.principal)


@router.post("/api/documents/{document}/label")
async def label_document(caller: Building, site: Site, document: str, body: NewLabel) -> dict[str, Any]:
    """Give a document a label. Raising counts at once; lowering becomes a request that an officer approves."""
    return await site.threads.run(shelf.relabel, site.project, document, body.label, by=caller.principal, reason=body.reason)


@router.get("/api/uploads")
async def list_uploads(caller: Asking, site: Site) -> dict[str, Any]:
    """The uploads that the caller may see."""
    return {"uploads": await site.threads.run(uploads.uploads, site.project, by=caller.principal)}


@router.post("/api/uploads", status_code=201)
@takes_upload
async def upload(
    caller: Building, site: Site, request: Request, name: Annotated[str, Query(min_length=1, max_length=1000)], label: Short = "",
    replace: bool = False,
) -> Response:  # fmt: skip
    """Keep the body as a file. When this answers 201 the file is durable; it is read in the background."""
    by, project = caller.principal, site.project
    announced = int(request.headers.get("content-length") or 0) or None

    def take(pieces: Any) -> dict[str, Any]:
        return uploads.upload(project, name, pieces, by=by, label=label or None, replace=replace, size=announced)

    kept = await site.threads.feed(request.stream(), take)
    job = await site.threads.run(work.submit, project, "sync", {}, by=by)
    return JSONResponse(kept | {"job": job}, status_code=201)


@router.delete("/api/uploads")
async def remove_upload(caller: Building, site: Site, path: Annotated[str, Query(min_length=1, max_length=1000)]) -> dict[str, Any]:
    """Take an upload away; its document leaves search and disk with the sync that this starts."""
    gone = await site.threads.run(uploads.remove_upload, site.project, path, by=caller.principal)
    return gone | {"job": await site.threads.run(work.submit, site.project, "sync", {}, by=caller.principal)}


@router.get("/api/sources")
async def list_sources(caller: Asking, site: Site) -> dict[str, Any]:
    """Where documents come from."""
    return {"sources": await site.threads.run(shelf.sources, site.project, by=caller.principal, paths="build" in caller.permissions)}


@router.post("/api/sources", status_code=201)
async def add_source(caller: Administering, site: Site, body: NewSource) -> dict[str, Any]:
    """Make a folder of the server's machine a source, and have it read."""
    given = {"by": caller.principal, "label": body.label or None, "name": body.name or None}
    return await site.threads.run(shelf.add_folder, site.project, body.path, **given)


@router.get("/api/sync")
async def sync_state(caller: Asking, site: Site) -> dict[str, Any]:
    """What is being read now, as far as the caller may be told."""
    return await site.threads.run(shelf.reading, site.project, by=caller.principal)


@router.post("/api/sync", status_code=202)
async def sync_now(caller: Building, site: Site) -> dict[str, Any]:
    """Bring search up to date with the sources, in the background."""
    return {"job": await site.threads.run(work.submit, site.project, "sync", {}, by=caller.principal)}


# the page


@router.get("/documents", include_in_schema=False)
async def documents_page(
    caller: Asking, site: Site, request: Request, text: Short = "", state: Short = "", source: Short = "", label: Short = "",
    kind: Short = "", newest: bool = False, page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Response:  # fmt: skip
    """The list, with search, filters and pages."""
    wish = wish_of(text, state, source, label, kind, newest, page)
    found = await site.threads.run(shelf.shelf, site.project, wish, by=caller.principal)
    if request.headers.get("hx-target") == "shelf":
        return site.pages.render(request, "documents_list.html", caller=caller, wish=wish, found=found)
    more = await site.threads.run(_around, site.project, caller)
    return site.pages.render(request, "documents.html", caller=caller, current="documents", wish=wish, found=found, **more)


def _around(project: Any, caller: Caller) -> dict[str, Any]:
    """What stands beside the list."""
    by, quota = caller.principal, project.config.server
    return {
        "reading": shelf.reading(project, by=by), "sources": shelf.sources(project, by=by, paths="build" in caller.permissions), "upload_mb": quota.upload_mb,
        "labels": shelf.labels(project, by=by), "default_label": project.config.labels.default,
    }  # fmt: skip


@router.get("/documents/reading", include_in_schema=False)
async def reading_part(caller: Asking, site: Site, request: Request) -> Response:
    """How far reading is; the page asks again while it goes on."""
    state = await site.threads.run(shelf.reading, site.project, by=caller.principal)
    part = site.pages.render(request, "documents_reading.html", caller=caller, reading=state)
    if not state["under_way"]:
        part.headers["HX-Trigger"] = "shelf-changed"  # the list beside it is looked up again
    return part


@router.get("/documents/{document}", include_in_schema=False)
async def document_page(caller: Asking, site: Site, request: Request, document: str) -> Response:
    """One document."""
    found = await site.threads.run(shelf.overview, site.project, document, by=caller.principal)
    labels = await site.threads.run(shelf.labels, site.project, by=caller.principal)
    return site.pages.render(request, "document.html", caller=caller, current="documents", document=found, labels=labels)


@router.get("/documents/{document}/compare/{version}/{other}", include_in_schema=False)
async def compare_page(caller: Asking, site: Site, request: Request, document: str, version: str, other: str) -> Response:
    """Two versions side by side."""
    found = await site.threads.run(differ.compare, site.project, document, version, other, by=caller.principal)
    return site.pages.render(request, "compare.html", caller=caller, current="documents", found=found)
