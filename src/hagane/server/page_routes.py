"""What every page needs: static files, and the switches of language and theme."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from hagane.core.errors import NotFoundError

from .access import Anyone, Site
from .pages import LANGUAGE_COOKIE, LANGUAGES, THEME_COOKIE, THEMES, local_path

router = APIRouter()
A_YEAR_S = 365 * 24 * 3600


@router.get("/static/{mark}/{name}", include_in_schema=False)
async def static(caller: Anyone, site: Site, mark: str, name: str) -> Response:
    """A static file; its address changes with its content, so it may be kept for good."""
    file = site.pages.statics.get(name)
    if file is None or file.mark != mark:
        raise NotFoundError("no such file")
    headers = {"Cache-Control": f"public, max-age={A_YEAR_S}, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(file.data, media_type=file.media, headers=headers)


@router.get("/language/{language}", include_in_schema=False)
async def language(caller: Anyone, request: Request, language: str, to: str = "/") -> Response:
    """Show the page in another language from now on."""
    return _remember(request, LANGUAGE_COOKIE, language, LANGUAGES, to)


@router.get("/theme/{theme}", include_in_schema=False)
async def theme(caller: Anyone, request: Request, theme: str, to: str = "/") -> Response:
    """Show the page light, dark, or as the reader's system says."""
    return _remember(request, THEME_COOKIE, theme, THEMES, to)


def _remember(request: Request, cookie: str, value: str, known: tuple[str, ...], to: str) -> Response:
    if value not in known:
        raise NotFoundError("no such choice")
    answer = RedirectResponse(local_path(to), status_code=303)
    secure = request.url.scheme == "https"
    answer.set_cookie(cookie, value, max_age=A_YEAR_S, httponly=True, samesite="lax", secure=secure)
    return answer
