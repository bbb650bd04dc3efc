"""Who is calling, and may they: a Bearer token or the page's session, read at each request.

A token wins over a session, and a bad token is refused even beside a good session. Requests that change
something must come from our own page: by Sec-Fetch-Site or Origin, and with the session's CSRF token.
"""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import Request

from hagane.core.accounts import Caller, Permission
from hagane.core.log import get
from hagane.project.meanwhile import Reader
from hagane.project.wire import Project

from .errors import Elsewhere, Refusal, on_record, wants_page

log = get("server.doorkeeper")

COOKIE = "hagane_session"
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
BEFORE_CHANGE = frozenset({"/password", "/sign-out"})  # all that someone with a first password may reach
LONGEST = 512  # characters of a token or cookie of ours, with room
NOBODY = {"WWW-Authenticate": "Bearer"}


class Doorkeeper:
    """`caller` looks, `admit` insists. One per application; `people` is project/people.py."""

    def __init__(self, project: Project, people: Any) -> None:
        self._project, self._people = project, people

    async def caller(self, request: Request) -> Caller | None:
        """Who sends `request`, or None. Raises: Refusal 401 for a bad token, 403 for a change from elsewhere."""
        threads = request.app.state.site.threads
        given = request.headers.get("authorization")
        if given is not None:
            kind, _, secret = given.partition(" ")
            secret = secret.strip()
            known = None
            if kind.lower() == "bearer" and 0 < len(secret) <= LONGEST:
                known = self._people.bearer_known(self._project, secret)  # no thread, where nothing changed
                if known is None:
                    known = await threads.run(self._people.bearer, self._project, secret)
            if known is None:
                raise Refusal(401, "invalid_api_key", "this token is not valid", hint="hagane token create makes one", headers=NOBODY)
            return known
        if request.method in UNSAFE:
            require_same_origin(request)
        cookie = request.cookies.get(COOKIE)
        if not cookie or len(cookie) > LONGEST:
            return None
        return await threads.run(self._people.session, self._project, cookie)

    async def admit(self, request: Request, need: Permission | str) -> Caller:
        """The caller, who has the permission `need`. Raises: Refusal 401, 403; Elsewhere to the sign-in page."""
        caller = await self.caller(request)
        request.state.caller = caller  # for the page that an error becomes
        if caller is None:
            if request.method == "GET" and wants_page(request):
                raise Elsewhere("/sign-in" + _next(request))
            raise Refusal(401, "not_signed_in", "nobody is signed in", hint="send a token: Authorization: Bearer ...", headers=NOBODY)
        if caller.session is not None and request.method in UNSAFE:
            await require_csrf(request, caller)
        if caller.account.must_change and request.url.path not in BEFORE_CHANGE:
            if request.method == "GET" and wants_page(request):
                raise Elsewhere("/password")
            raise Refusal(403, "password_change", "the password must be changed first", hint="open /password")
        if need not in caller.permissions:
            await self._refuse(request, str(need))
        return caller

    def reader(self, request: Request) -> Reader:
        """Who sends `request`, to be asked for again while the answer goes out. For a route that admitted them; call
        what it looks with from a thread."""
        people, project = self._people, self._project
        given = request.headers.get("authorization")
        if given is not None:
            secret = given.partition(" ")[2].strip()
            return Reader(lambda: people.bearer_known(project, secret) or people.bearer(project, secret))
        cookie = request.cookies.get(COOKIE, "")
        return Reader(lambda: people.session(project, cookie))

    async def _refuse(self, request: Request, need: str) -> None:
        """Recorded, then said. The record names the route's template, never what stood in its place."""
        await on_record(request, "permission", need=need)
        log.info("refused", route=getattr(request.scope.get("route"), "path", "?"), need=need)
        raise Refusal(403, "permission", f"this needs the permission {need!r}", hint=f"ask an administrator for a role with {need!r}")


def _next(request: Request) -> str:
    """`?next=` for the sign-in page: the path alone, for a query may hold what someone asked."""
    path = request.url.path
    return "" if path == "/" else "?next=" + quote(path)


def own_origins(request: Request) -> set[str]:
    """The origins that are this site: what the browser typed, and config.server.url."""
    found = {f"{request.url.scheme}://{request.headers.get('host', '')}".lower()}
    url = request.app.state.site.project.config.server.url
    if url:
        parts = urlsplit(url)
        found.add(f"{parts.scheme}://{parts.netloc}".lower())
    return found


def require_same_origin(request: Request) -> None:
    """A browser's change comes from our own page. What sends neither header is no browser (and carries no
    session that it did not take on purpose). Raises: Refusal 403.
    Source: Fetch Metadata, W3C; a page with Referrer-Policy no-referrer posts forms with `Origin: null`."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    good = site == "same-origin" if site is not None else origin is None or origin.lower() in own_origins(request)
    if site is not None and origin not in (None, "null"):
        good = good and origin.lower() in own_origins(request)
    if not good:
        log.info("cross site", method=request.method)
        raise Refusal(403, "cross_site", "this came from another site", hint="open the page itself and try again")


async def require_csrf(request: Request, caller: Caller) -> None:
    """The session's CSRF token stands in the header or the form. Raises: Refusal 403."""
    given = request.headers.get("x-csrf-token")
    if given is None and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        field = (await request.form()).get("csrf")
        given = field if isinstance(field, str) else None
    if not caller.csrf or not given or not hmac.compare_digest(given.encode(), caller.csrf.encode()):
        raise Refusal(403, "csrf", "the page is out of date", hint="load the page again")
