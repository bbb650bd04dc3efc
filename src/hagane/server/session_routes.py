"""Signing in and out: first set-up, invitation, password, second factor, single sign-on, one's own account.

One-time secrets travel in the fragment of a link, which browsers do not send: they arrive in the form's body only.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from hagane.core.accounts import Caller
from hagane.core.errors import HaganeError, RefusedError, SecondFactorNeeded, UsageError
from hagane.project import people

from .access import Anyone, Asking, Site
from .doorkeeper import COOKIE
from .errors import of_ours
from .limits import is_secure
from .oidc import PRE_COOKIE, SSO_BACK, Sso, SsoRefusedError
from .pages import local_path

router = APIRouter(include_in_schema=False)
Short = Annotated[str, Form(max_length=200)]
Secret = Annotated[str, Form(max_length=1024)]
Again = Annotated[str, Form(alias="again", max_length=1024)]  # the new password once more


PER_PAGE = {  # what an error means on this page, as a text's key
    ("/set-up", "not_found"): "link",
    ("/set-up", "usage"): "first_poor",
    ("/welcome", "not_found"): "link",
    ("/welcome", "usage"): "password_poor",
    ("/password", "usage"): "password_poor",
    ("/password", "sign_in"): "password_old",
    ("/account/totp/confirm", "sign_in"): "code",
    ("/account/totp/drop", "sign_in"): "code",
}


def client_of(request: Request) -> str:
    """The address that a request comes from, behind trusted proxies the one that they saw."""
    return request.client.host if request.client else ""


def let_in(request: Request, signed: Any, to: str) -> Response:
    """The session's cookie, new at each sign-in, and the way on."""
    to = "/password" if signed.caller.account.must_change else local_path(to)
    answer: Response = JSONResponse({"to": to}) if _by_script(request) else RedirectResponse(to, 303)
    server = request.app.state.site.project.config.server
    secure = is_secure(request.url.scheme, server)
    answer.set_cookie(COOKIE, signed.cookie, max_age=int(server.session_hours * 3600), httponly=True, samesite="lax", secure=secure)
    return answer


def _by_script(request: Request) -> bool:
    return request.headers.get("accept", "").startswith("application/json")


def in_words(request: Request, error: HaganeError) -> str:
    """An error as a sentence in the reader's language; the house's own words where there is none."""
    texts = request.app.state.site.pages.text(request)
    word = PER_PAGE.get((request.url.path, error.code), error.code)
    return texts(f"problem.{word}") if f"problem.{word}" in texts.words else str(error)


def again(request: Request, template: str, error: HaganeError, **values: Any) -> Response:
    """The form once more, with what was wrong; JSON for a script. No password is filled in again."""
    said = in_words(request, error)
    if _by_script(request):
        problem = of_ours(error).body
        problem["error"]["message"] = said
        return JSONResponse(problem, error.http_status)
    given = {"caller": None, "problem": said, "problem_tone": "bad"} | values
    return request.app.state.site.pages.render(request, template, status=error.http_status, **given)


def same(password: str, repeated: str) -> None:
    """Raises: UsageError when the two differ."""
    if password != repeated:
        raise UnequalError("the two passwords differ")


class UnequalError(UsageError):
    code = "unequal"


def own_session(caller: Caller) -> None:
    """What concerns the account itself is done at the page. Raises: RefusedError for a token."""
    if caller.session is None:
        raise RefusedError("this is done at the page, not with a token", hint="sign in with a browser")


async def leave(request: Request, site: Any, caller: Caller | None) -> None:
    """End the session that a browser brings to a sign-in: nobody keeps one from before."""
    if caller is not None and caller.session is not None:
        await site.threads.run(people.sign_out, site.project, caller)


# signing in


@router.get("/sign-in")
async def sign_in_page(caller: Anyone, site: Site, request: Request, next: str = "/") -> Response:
    if caller is not None and caller.session is not None:
        return RedirectResponse(local_path(next), 303)
    return site.pages.render(request, "sign_in.html", caller=None, **_sign_in_values(site, next))


def _sign_in_values(site: Any, next: str, **more: Any) -> dict[str, Any]:
    sso = site.project.config.server.oidc is not None
    return {"sso": sso, "next": local_path(next), "typed": "", "code_needed": False, "problem": "", "problem_tone": "bad"} | more


@router.post("/sign-in")
async def sign_in(
    caller: Anyone, site: Site, request: Request, name: Short, password: Secret, code: Short = "", next: Secret = "/"
) -> Response:
    await leave(request, site, caller)
    try:
        signed = await site.threads.run(people.sign_in, site.project, name, password, code=code or None, address=client_of(request))
    except HaganeError as error:
        more = {"tone": "info"} if isinstance(error, SecondFactorNeeded) else {}
        values = _sign_in_values(site, next, typed=name, code_needed=bool(code) or bool(more))
        values |= {"problem": in_words(request, error), "problem_tone": more.get("tone", "bad")}
        return again(request, "sign_in.html", error, **values)
    return let_in(request, signed, next)


@router.post("/sign-out")
async def sign_out(caller: Asking, site: Site, request: Request) -> Response:
    own_session(caller)
    await leave(request, site, caller)
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=is_secure(request.url.scheme, site.project.config.server))
    return answer


@router.get("/sign-in/sso")
async def sso_start(caller: Anyone, site: Site, request: Request, next: str = "/") -> Response:
    """To the identity provider, bound to this browser by a cookie of its own."""
    sso = Sso.of(site)
    where, binding = await site.threads.run(sso.begin, back=_sso_back(request), next=local_path(next))
    answer = RedirectResponse(where, 303)
    secure = is_secure(request.url.scheme, site.project.config.server)
    answer.set_cookie(PRE_COOKIE, binding, max_age=600, path="/sign-in/", httponly=True, samesite="lax", secure=secure)
    return answer


@router.get(SSO_BACK)
async def sso_back(caller: Anyone, site: Site, request: Request, state: str = "", code: str = "", error: str = "") -> Response:
    """Back from the identity provider, with a code that only we can turn into an identity."""
    try:
        sso = Sso.of(site)
        binding = request.cookies.get(PRE_COOKIE, "")
        who, next = await site.threads.run(sso.finish, state=state, code=code, denied=bool(error), binding=binding)
        await leave(request, site, caller)
        given = {"issuer": who.issuer, "subject": who.subject, "name": who.name, "display": who.display, "groups": who.groups}
        signed = await site.threads.run(people.sign_in_oidc, site.project, **given)
    except HaganeError as problem:
        if isinstance(problem, SsoRefusedError) and problem.step != "state":  # whoever makes states up would fill the log
            await site.threads.run(site.project.ledger.sessions.refuse, f"sso_{problem.step}")
        answer = again(request, "sign_in.html", problem, **_sign_in_values(site, "/", problem=in_words(request, problem)))
    else:
        answer = let_in(request, signed, next)
    answer.delete_cookie(PRE_COOKIE, path="/sign-in/")
    return answer


def _sso_back(request: Request) -> str:
    """The address that the provider sends people back to; registered there, so never taken from a stranger's header."""
    url = request.app.state.site.project.config.server.url
    base = url.rstrip("/") if url else f"{request.url.scheme}://{request.headers['host']}"
    return base + SSO_BACK


# one-time links


@router.get("/set-up")
async def set_up_page(caller: Anyone, site: Site, request: Request) -> Response:
    return site.pages.render(request, "set_up.html", caller=None, typed="", problem="", secret="")


@router.post("/set-up")
async def set_up(
    caller: Anyone, site: Site, request: Request, secret: Secret, name: Short, password: Secret, again_: Again
) -> Response:
    """The first administrator, by the link that `hagane serve` printed."""
    try:
        same(password, again_)
        signed = await site.threads.run(people.set_up, site.project, secret.strip(), name=name, password=password)
    except HaganeError as error:
        return again(request, "set_up.html", error, typed=name, secret=secret)
    return let_in(request, signed, "/")


@router.get("/welcome")
async def welcome_page(caller: Anyone, site: Site, request: Request) -> Response:
    return site.pages.render(request, "welcome.html", caller=None, problem="", code_needed=False, secret="")


@router.post("/welcome")
async def welcome(caller: Anyone, site: Site, request: Request, secret: Secret, password: Secret, again_: Again, code: Short = "") -> Response:
    """A new user, or one with a forgotten password, by the link that an administrator made."""
    try:
        same(password, again_)
        await leave(request, site, caller)
        signed = await site.threads.run(people.accept, site.project, secret.strip(), password, code=code or None)
    except HaganeError as error:
        return again(request, "welcome.html", error, secret=secret, code_needed=bool(code) or isinstance(error, SecondFactorNeeded))
    return let_in(request, signed, "/")


# one's own account


@router.get("/password")
async def password_page(caller: Asking, site: Site, request: Request) -> Response:
    return site.pages.render(request, "password.html", caller=caller, problem="", must=caller.account.must_change)


@router.post("/password")
async def change_password(
    caller: Asking, site: Site, request: Request, old: Secret, password: Secret, again_: Again
) -> Response:
    own_session(caller)
    try:
        same(password, again_)
        await site.threads.run(people.change_password, site.project, caller, old=old, new=password)
    except HaganeError as error:
        return again(request, "password.html", error, caller=caller, must=caller.account.must_change)
    return RedirectResponse("/account?done=password", 303)


DONE = frozenset({"password", "second_on", "second_off", "revoked"})


@router.get("/account")
async def account(caller: Asking, site: Site, request: Request, done: str = "") -> Response:
    own_session(caller)
    said = site.pages.text(request)(f"account.done_{done}") if done in DONE else ""
    return await _account(request, site, caller, done=said)


async def _account(request: Request, site: Any, caller: Caller, *, status: int = 200, **values: Any) -> Response:
    tokens = await site.threads.run(people.tokens, site.project, caller.account.name, by=caller.principal)
    given = {"problem": "", "done": "", "secret": "", "picture": "", "key": "", "current": "account"} | values
    scopes = sorted(caller.permissions)
    return site.pages.render(request, "account.html", caller=caller, status=status, tokens=tokens, scopes=scopes, **given)


@router.post("/account/tokens")
async def create_token(
    caller: Asking,
    site: Site,
    request: Request,
    name: Short,
    scopes: Annotated[list[str], Form(max_length=10)] = [],  # noqa: B006 - the framework copies it
    days: Annotated[str, Form(max_length=10)] = "",
) -> Response:
    """A new API token. Its secret is on this answer and nowhere else."""
    own_session(caller)
    try:
        lasting = float(days) if days.strip() else None
        made = await site.threads.run(
            people.create_token, site.project, caller.account.name, name=name, scopes=tuple(scopes), days=lasting, by=caller.principal
        )
    except ValueError:
        return await _account(request, site, caller, status=400, problem=site.pages.text(request)("account.days_wrong"))
    except HaganeError as error:
        return await _account(request, site, caller, status=error.http_status, problem=in_words(request, error))
    return await _account(request, site, caller, secret=made[1])


@router.post("/account/tokens/{id}/revoke")
async def revoke_token(caller: Asking, site: Site, request: Request, id: str) -> Response:
    own_session(caller)
    await site.threads.run(people.revoke_token, site.project, id, by=caller.principal)
    return RedirectResponse("/account?done=revoked", 303)


@router.post("/account/totp")
async def enrol(caller: Asking, site: Site, request: Request) -> Response:
    """A new second factor, shown as a picture on this answer only; it counts once a code confirmed it."""
    own_session(caller)
    uri = await site.threads.run(people.enrol_totp, site.project, caller)
    return await _enrolment(request, site, caller, uri)


async def _enrolment(request: Request, site: Any, caller: Caller, uri: str, **values: Any) -> Response:
    import segno

    key = parse_qs(urlsplit(uri).query)["secret"][0]
    picture = segno.make(uri, error="m").svg_data_uri(scale=5, border=2)
    return await _account(request, site, caller, picture=picture, key=key, **values)


@router.post("/account/totp/confirm")
async def confirm(caller: Asking, site: Site, request: Request, code: Short) -> Response:
    own_session(caller)
    try:
        await site.threads.run(people.confirm_totp, site.project, caller, code)
    except HaganeError as error:
        return await _account(request, site, caller, status=error.http_status, problem=in_words(request, error))
    return RedirectResponse("/account?done=second_on", 303)


@router.post("/account/totp/drop")
async def drop(caller: Asking, site: Site, request: Request, code: Short) -> Response:
    own_session(caller)
    try:
        await site.threads.run(people.drop_totp, site.project, caller.account.name, by=caller.principal, code=code, keep=caller.session)
    except HaganeError as error:
        return await _account(request, site, caller, status=error.http_status, problem=in_words(request, error))
    return RedirectResponse("/account?done=second_off", 303)
