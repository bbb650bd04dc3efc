"""Verbs about people: users, groups, tokens, links, sessions, and why someone may see a thing or not.

`by` is who acts. Nobody gives a clearance or permission that they lack; every change is recorded before it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hagane.core.accounts import ROLES, Account, Role
from hagane.core.errors import UsageError
from hagane.core.labels import Clearance, Label
from hagane.core.types import Principal
from hagane.ledger import passwords
from hagane.ledger.accounts import Change, NewUser
from hagane.ledger.groups import Group as Group
from hagane.ledger.tokens import Token as Token

from .entry import SecondFactorNeeded as SecondFactorNeeded
from .entry import SignedIn as SignedIn
from .entry import SignInError as SignInError
from .entry import accept as accept
from .entry import bearer as bearer
from .entry import bearer_known as bearer_known
from .entry import change_password as change_password
from .entry import confirm_totp as confirm_totp
from .entry import enrol_totp as enrol_totp
from .entry import link as link
from .entry import principal_names
from .entry import session as session
from .entry import set_up as set_up
from .entry import setup_secret as setup_secret
from .entry import sign_in as sign_in
from .entry import sign_in_oidc as sign_in_oidc
from .entry import sign_out as sign_out
from .why import explain as explain
from .wire import Project


def create_user(
    project: Project,
    name: str,
    *,
    role: str,
    clearance: str,
    password: str | None = None,
    display: str = "",
    must_change: bool = False,
    by: Principal,
) -> Account:
    """A new user; without a password they come in by `invite`. Raises: StateError when the name is taken; UsageError
    for a poor password or unknown role; RefusedError above what `by` has; LabelError."""
    given = _clearance(project, clearance)
    project.ledger.accounts.actor(by).needs("administer")  # before the password is computed
    hashed = None
    if password is not None:
        passwords.check(password, name=name)
        hashed = passwords.hash_of(password)
    new = NewUser(
        name=name, role=_role(role), clearance=given, display=display, password=hashed, must_change=must_change
    )
    return project.ledger.accounts.create(new, by=by, taken=principal_names(project))


def change_user(
    project: Project,
    user: str,
    *,
    role: str | None = None,
    clearance: str | None = None,
    display: str | None = None,
    state: Literal["active", "disabled"] | None = None,
    groups: Sequence[str] | None = None,
    by: Principal,
) -> Account:
    """Change a user (id or name), all of it or nothing; counts at their next request. `active` also ends a lock after wrong
    passwords; `disabled` ends sessions, open links and tokens for good. `groups`: as `set_groups`.
    Raises: NotFoundError; RefusedError above what `by` has; StateError for the last active admin."""
    if state not in (None, "active", "disabled"):
        raise UsageError(f"{state!r} is not a state", hint="active or disabled")
    change = Change(
        role=_role(role) if role is not None else None,
        clearance=_clearance(project, clearance) if clearance is not None else None,
        display=display,
        state=state,
    )
    if groups is not None:
        return project.ledger.groups.change_with(user, change, groups, by=by)
    return project.ledger.accounts.change(user, change, by=by)


def users(project: Project, *, by: Principal) -> list[Account]:
    """Everyone, by name. Raises: RefusedError without `administer` or `govern`."""
    found: list[Account] = project.ledger.accounts.all(by=by)
    project.ledger.audit.record("list", principal=by.name, what="users", found=len(found))
    return found


def groups(project: Project, *, by: Principal) -> list[Group]:
    """Every group with its members. Raises: RefusedError without `administer` or `govern`."""
    found: list[Group] = project.ledger.groups.all(by=by)
    project.ledger.audit.record("list", principal=by.name, what="groups", found=len(found))
    return found


def create_group(project: Project, name: str, *, clearance: str, by: Principal) -> Group:
    """A new group; its members may see what `clearance` sees, besides their own."""
    return project.ledger.groups.create(name, _clearance(project, clearance), by=by)


def change_group(project: Project, name: str, *, clearance: str, by: Principal) -> None:
    """Another clearance for a group."""
    project.ledger.groups.change(name, _clearance(project, clearance), by=by)


def delete_group(project: Project, name: str, *, by: Principal) -> None:
    """Remove a group; its members lose its clearance at once."""
    project.ledger.groups.delete(name, by=by)


def set_groups(project: Project, user: str, groups: Sequence[str], *, by: Principal) -> Account:
    """Put a user into exactly these groups, besides those that the identity provider gives."""
    return project.ledger.groups.set_of(user, groups, by=by)


def invite(project: Project, user: str, *, by: Principal) -> str:
    """The secret of a one-time link with which `user` chooses a password (72 hours the first time, 24 to reset)."""
    return project.ledger.links.invite(user, by=by)


def link_address(project: Project, secret: str) -> str:
    """The address at which the secret of an invitation or reset is used. It stands behind the #, which no browser sends
    and no log keeps."""
    server = project.config.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    base = server.url or f"{'https' if server.tls else 'http'}://{host}:{server.port}"
    return f"{base.rstrip('/')}/welcome#{secret}"


def drop_totp(project: Project, user: str, *, by: Principal, code: str | None = None, keep: str | None = None) -> None:
    """Take a second factor off: one's own with a `code`, someone else's as an admin. `keep` is the session (its hash)
    that goes on."""
    project.ledger.links.drop(user, by=by, code=code, keep=keep)


def create_token(
    project: Project, user: str, *, name: str, scopes: Sequence[str], days: float | None = None, by: Principal
) -> tuple[str, str]:
    """(id, secret) of a new API token; the secret is never seen again. Scopes are names of permissions."""
    return project.ledger.tokens.create(user, name=name, scopes=scopes, days=days, by=by)


def tokens(project: Project, user: str, *, by: Principal) -> list[Token]:
    """A user's tokens without their secrets, newest first: one's own, or any as an admin."""
    found: list[Token] = project.ledger.tokens.of(user, by=by)
    project.ledger.audit.record("list", principal=by.name, what="tokens", found=len(found))
    return found


def revoke_token(project: Project, id: str, *, by: Principal) -> None:
    """End a token: one's own, or any as an admin."""
    project.ledger.tokens.revoke(id, by=by)


def _role(text: str) -> Role:
    for role in ROLES:
        if role == text:
            return role
    raise UsageError(f"{text!r} is not a role", hint=f"roles are {', '.join(ROLES)}")


def _clearance(project: Project, text: str) -> Clearance:
    """`text` as a clearance whose compartments are declared. Raises: LabelError."""
    clearance = Clearance.parse(text)
    project.config.check_label(str(Label(clearance.level, clearance.compartments)))
    return clearance
