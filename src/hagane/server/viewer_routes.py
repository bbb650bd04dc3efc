"""The source viewer: a cited place of a document version, shown."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response

from hagane.core.errors import UsageError
from hagane.core.types import Box
from hagane.project import viewer

from .access import Asking, Site

router = APIRouter()
Document = Annotated[str, Path(max_length=60)]
Version = Annotated[str | None, Query(max_length=40)]
Page = Annotated[int | None, Query(ge=1, le=100_000)]
Offset = Annotated[int | None, Query(ge=0, le=1_000_000_000)]
Place = Annotated[str | None, Query(max_length=200)]


@router.get("/sources/{document}", include_in_schema=False)
async def source(
    caller: Asking, request: Request, site: Site, document: Document, version: Version = None, page: Page = None,
    start: Offset = None, end: Offset = None, cell: Place = None, box: Place = None, at: Offset = None,
) -> HTMLResponse:  # fmt: skip
    """A place of a document; inside a page that is already open, only what the panel shows."""
    spot = viewer.Spot(page, start, end, cell, _box(box), at)
    view = await site.threads.run(viewer.view, site.project, document, by=caller.principal, version=version, spot=spot)
    name = "source_view.html" if request.headers.get("hx-request") else "source.html"
    return site.pages.render(request, name, caller=caller, current="source", view=view)


@router.get("/sources/{document}/pages/{page}.png", include_in_schema=False)
async def page_image(
    caller: Asking, site: Site, document: Document, page: Annotated[int, Path(ge=1, le=100_000)], version: Version = None
) -> Response:
    """A page as a picture. Kept by nobody: whether it may be seen is asked each time."""
    data = await site.threads.run(viewer.page_image, site.project, document, page, by=caller.principal, version=version)
    return Response(data, media_type="image/png", headers={"Cache-Control": "no-store"})


@router.get("/sources/{document}/original", tags=["documents"], response_class=Response, summary="The original file",
            responses={200: {"description": "the file's bytes", "content": {"application/octet-stream": {}}}})  # fmt: skip
async def original(caller: Asking, site: Site, document: Document, version: Version = None) -> Response:
    """The file as it was read. Never shown by the browser: what it holds is not ours."""
    name, data = await site.threads.run(viewer.original, site.project, document, by=caller.principal, version=version)
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return Response(data, media_type="application/octet-stream", headers=headers)


def _box(text: str | None) -> Box | None:
    if text is None:
        return None
    try:
        x0, y0, x1, y1 = (float(value) for value in text.split(","))
        if not all(abs(value) < 1e6 for value in (x0, y0, x1, y1)):
            raise ValueError
    except ValueError as cause:
        raise UsageError("box is not four numbers", hint="x0,y0,x1,y1") from cause
    return x0, y0, x1, y1
