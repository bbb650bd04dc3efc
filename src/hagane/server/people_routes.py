"""Users, groups, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from hagane.core.accounts import PERMISSIONS, ROLES, Account
from hagane.core.types import Principal
from hagane.project import people, shelf

from .access import Administering, Site
from .bodies import Body

router = APIRouter()
RoleName = Literal["reader", "annotator", "builder", "officer", "admin"]
Scope = Literal["ask", "annotate", "build", "govern", "administer"]
Name = Annotated[str, Field(min_length=1, max_length=200)]
ClearanceText = Annotated[str, Field(min_length=1, max_length=300, description="LEVEL, LEVEL:c1+c2 or LEVEL:*")]


class NewUser(Body):
    name: Name
    role: RoleName
    clearance: ClearanceText
    display: str = Field("", max_length=200)


class UserChange(Body):
    role: RoleName | None = None
    clearance: ClearanceText | None = None
    display: str | None = Field(None, max_length=200)
    state: Literal["active", "disabled"] | None = None
    groups: list[Name] | None = Field(None, max_length=200, description="exactly these, besides those of the identity provider")


class NewToken(Body):
    name: Name
    scopes: list[Scope] = Field(min_length=1, max_length=5)
    days: float | None = Field(None, gt=0, le=3650, description="how long it holds; none: until it is revoked")


class NewGroup(Body):
    name: Name
    clearance: ClearanceText


class GroupChange(Body):
    clearance: ClearanceText


def account_shown(account: Account) -> dict[str, Any]:
    """An account as JSON."""
    names = ("id", "name", "display", "role", "groups", "state", "totp", "must_change", "created_at", "seen_at")
    return {name: getattr(account, name) for name in names} | {"own": str(account.own), "clearance": str(account.principal.clearance)}


def _group_shown(group: people.Group) -> dict[str, Any]:
    return {"name": group.name, "clearance": str(group.clearance), "members": group.members, "created_at": group.created_at}


def _token_shown(token: people.Token) -> dict[str, Any]:
    names = ("id", "user", "name", "scopes", "created_at", "expires_at", "revoked_at", "used_at", "state")
    return {name: getattr(token, name) for name in names}


def _invited(project: Any, user: str, by: Principal) -> dict[str, Any]:
    """The link that is shown once. The secret stands behind #, so no server and no log ever gets it with an address."""
    return {"link": f"/welcome#{people.invite(project, user, by=by)}"}


def _made(project: Any, body: NewUser, by: Principal) -> dict[str, Any]:
    account = people.create_user(project, body.name, role=body.role, clearance=body.clearance, display=body.display, by=by)
    return account_shown(account) | _invited(project, account.id, by)


def _changed(project: Any, user: str, body: UserChange, by: Principal) -> dict[str, Any]:
    return account_shown(people.change_user(project, user, **body.model_dump(exclude_none=True), by=by))


# the API


@router.get("/api/users")
async def list_users(caller: Administering, site: Site) -> dict[str, Any]:
    """Everyone who has an account."""
    return {"users": [account_shown(one) for one in await site.threads.run(people.users, site.project, by=caller.principal)]}


@router.post("/api/users", status_code=201)
async def create_user(caller: Administering, site: Site, body: NewUser) -> dict[str, Any]:
    """A new account, and the one-time link with which its owner chooses a password: shown here and never again."""
    return await site.threads.run(_made, site.project, body, caller.principal)


@router.patch("/api/users/{user}")
async def change_user(caller: Administering, site: Site, user: str, body: UserChange) -> dict[str, Any]:
    """Change role, clearance, groups or state; it counts at the next request."""
    return await site.threads.run(_changed, site.project, user, body, caller.principal)


@router.post("/api/users/{user}/invitation", status_code=201)
async def invite_user(caller: Administering, site: Site, user: str) -> dict[str, Any]:
    """A one-time link with which someone chooses a new password."""
    return await site.threads.run(_invited, site.project, user, caller.principal)


@router.delete("/api/users/{user}/second-factor", status_code=204)
async def drop_second_factor(caller: Administering, site: Site, user: str) -> None:
    """For someone who lost theirs."""
    await site.threads.run(people.drop_totp, site.project, user, by=caller.principal)


@router.get("/api/users/{user}/tokens")
async def list_tokens(caller: Administering, site: Site, user: str) -> dict[str, Any]:
    """Someone's API tokens, without their secrets."""
    return {"tokens": [_token_shown(one) for one in await site.threads.run(people.tokens, site.project, user, by=caller.principal)]}


@router.post("/api/users/{user}/tokens", status_code=201)
async def create_token(caller: Administering, site: Site, user: str, body: NewToken) -> dict[str, Any]:
    """A new API token; its secret is shown here and never again."""
    given = {"name": body.name, "scopes": body.scopes, "days": body.days, "by": caller.principal}
    id, secret = await site.threads.run(people.create_token, site.project, user, **given)
    return {"id": id, "secret": secret}


@router.delete("/api/tokens/{token}", status_code=204)
async def revoke_token(caller: Administering, site: Site, token: str) -> None:
    """End an API token."""
    await site.threads.run(people.revoke_token, site.project, token, by=caller.principal)


@router.get("/api/groups")
async def list_groups(caller: Administering, site: Site) -> dict[str, Any]:
    """Every group with its members."""
    return {"groups": [_group_shown(one) for one in await site.threads.run(people.groups, site.project, by=caller.principal)]}


@router.post("/api/groups", status_code=201)
async def create_group(caller: Administering, site: Site, body: NewGroup) -> dict[str, Any]:
    """A new group; its members may see what its clearance sees, besides their own."""
    return _group_shown(await site.threads.run(people.create_group, site.project, body.name, clearance=body.clearance, by=caller.principal))


@router.patch("/api/groups/{group}", status_code=204)
async def change_group(caller: Administering, site: Site, group: str, body: GroupChange) -> None:
    """Another clearance for a group."""
    await site.threads.run(people.change_group, site.project, group, clearance=body.clearance, by=caller.principal)


@router.delete("/api/groups/{group}", status_code=204)
async def delete_group(caller: Administering, site: Site, group: str) -> None:
    """Remove a group; its members lose its clearance at once."""
    await site.threads.run(people.delete_group, site.project, group, by=caller.principal)


# the page


def _all(project: Any, by: Principal) -> dict[str, Any]:
    return {
        "users": [account_shown(one) for one in people.users(project, by=by)],
        "groups": [_group_shown(one) for one in people.groups(project, by=by)],
        "labels": shelf.labels(project, by=by), "roles": tuple(ROLES),
    }  # fmt: skip


@router.get("/people", include_in_schema=False)
async def people_page(caller: Administering, site: Site, request: Request) -> Response:
    """Everyone, and the groups."""
    found = await site.threads.run(_all, site.project, caller.principal)
    return site.pages.render(request, "people.html", caller=caller, current="people", **found)


def _one(project: Any, user: str, by: Principal) -> dict[str, Any]:
    tokens: Sequence[people.Token] = people.tokens(project, user, by=by)  # raises for someone who is not there
    found = _all(project, by)
    [account] = [one for one in found["users"] if user in (one["id"], one["name"])]
    scopes = [scope for scope in PERMISSIONS if scope in ROLES[account["role"]]]
    return found | {"user": account, "tokens": [_token_shown(one) for one in tokens], "scopes": scopes}


@router.get("/people/{user}", include_in_schema=False)
async def person_page(caller: Administering, site: Site, request: Request, user: str) -> Response:
    """One account."""
    found = await site.threads.run(_one, site.project, user, caller.principal)
    return site.pages.render(request, "person.html", caller=caller, current="people", **found)
