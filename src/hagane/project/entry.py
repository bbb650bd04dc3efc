"""Coming in: first set-up, passwords, links, single sign-on, sessions, tokens. The doors know these as verbs of people.

What can be signed in with is read from the ledger at each request, so a change counts at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from hagane.core.accounts import Account, Caller, Role
from hagane.core.errors import SecondFactorNeeded as SecondFactorNeeded
from hagane.core.errors import SignInError as SignInError
from hagane.core.labels import Clearance, join_clearances
from hagane.ledger.accounts import folded
from hagane.ledger.groups import Arrival
from hagane.ledger.links import Link as Link
from hagane.ledger.sessions import Limits, refused

from .wire import Project

ORDER: tuple[Role, ...] = ("reader", "annotator", "builder", "officer", "admin")
"""Which role counts when groups of the provider map to several. Officer and admin hold different permissions, so
neither is above the other: admin is taken, because someone must keep the people, and nobody gets both."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who came in, and the cookie of the new session: never logged, never shown."""

    caller: Caller
    cookie: str


def principal_names(project: Project) -> frozenset[str]:
    """Names of hagane.yaml, as names of users are compared: those cannot sign in."""
    return frozenset(folded(name) for name in project.config.principals)


def limits_of(project: Project) -> Limits:
    """How long sessions last here."""
    return Limits(project.config.server.session_hours, project.config.server.idle_minutes)


def _signed_in(project: Project, made: tuple[Account, str]) -> SignedIn:
    caller = project.ledger.sessions.read(made[1], limits=limits_of(project))
    if caller is None:  # ended by someone else in this very moment
        raise refused()
    return SignedIn(caller, made[1])


def setup_secret(project: Project) -> str | None:
    """A fresh one-time secret while there is no user (24 hours; older ones end), else None."""
    return project.ledger.links.set_up()


def set_up(project: Project, secret: str, *, name: str, password: str) -> SignedIn:
    """The first admin, cleared for everything, signed in. Raises: NotFoundError for a used secret, UsageError."""
    taken, limits = principal_names(project), limits_of(project)
    return _signed_in(project, project.ledger.links.first(secret, name=name, password=password, taken=taken, limits=limits))


def sign_in(project: Project, name: str, password: str, *, code: str | None = None, address: str = "") -> SignedIn:
    """Someone who knows the password (and the code of the second factor) gets a new session. `address` is the client's.
    Raises: SecondFactorNeeded (ask for `code`, then call again with all); SignInError, which never says why; BusyError."""
    known = folded(name)
    barred = known in principal_names(project)
    limits = limits_of(project)
    made = project.ledger.sessions.enter(known, password, code=code, address=address, barred=barred, limits=limits)
    return _signed_in(project, made)


def link(project: Project, secret: str) -> Link | None:
    """What a one-time link is for (`kind` setup, invite, reset; `name`; `second_factor`); None when it is over."""
    return project.ledger.links.look(secret)


def accept(project: Project, secret: str, password: str, *, code: str | None = None) -> SignedIn:
    """Choose a password by an invitation or reset and come in; other sessions end. Raises: NotFoundError for a used
    link, UsageError for a poor password; SecondFactorNeeded and SignInError leave the link as it is."""
    return _signed_in(project, project.ledger.links.accept(secret, password, code=code, limits=limits_of(project)))


def sign_in_oidc(
    project: Project, *, issuer: str, subject: str, name: str, display: str, groups: Iterable[str]
) -> SignedIn:
    """Someone whom the provider vouches for: `issuer` and `subject` say who, `groups` what they may. Role and clearance
    are set anew at each sign-in. Raises: SignInError without a group of hagane.yaml, or when disabled."""
    oidc = project.config.server.oidc
    wanted = set(groups)
    mapped = {group: grant for group, grant in (oidc.groups if oidc else {}).items() if group in wanted}
    if oidc is None or not mapped or not issuer or not subject:
        project.ledger.sessions.refuse("no_group")
        raise refused()
    roles = [cast(Role, grant.role) for grant in mapped.values()]
    clearances = [Clearance.parse(grant.clearance) for grant in mapped.values()]
    who = Arrival(
        subject=f"{issuer} {subject}",
        name=name or subject,
        display=display,
        role=max(roles, key=ORDER.index),
        clearance=join_clearances(*clearances),
        groups=tuple(mapped),
    )
    ledger = project.ledger
    made = ledger.sessions.arrive(ledger.groups, who, taken=principal_names(project), limits=limits_of(project))
    return _signed_in(project, made)


def session(project: Project, cookie: str) -> Caller | None:
    """Whose session this cookie is, with what they may do now; None when it is over."""
    return _unless_principal(project, project.ledger.sessions.read(cookie, limits=limits_of(project)))


def bearer(project: Project, secret: str) -> Caller | None:
    """Whose API token this is, with its scopes cut down to what the role allows now; None when it is over."""
    return _unless_principal(project, project.ledger.tokens.read(secret))


def bearer_known(project: Project, secret: str) -> Caller | None:
    """`bearer` without reading, where nothing was written since it was read a moment ago; None: ask `bearer`."""
    return _unless_principal(project, project.ledger.tokens.known(secret))


def _unless_principal(project: Project, caller: Caller | None) -> Caller | None:
    """A name that was written into hagane.yaml later is a principal's from then on."""
    if caller is None or caller.account.name in principal_names(project):
        return None
    return caller


def sign_out(project: Project, caller: Caller) -> None:
    """End the caller's session. A token has none: nothing happens."""
    if caller.session is not None:
        project.ledger.sessions.end(caller.session, account=caller.account)


def change_password(project: Project, caller: Caller, *, old: str, new: str) -> None:
    """Another password; all other sessions end. Raises: SignInError for a wrong `old`, UsageError for a poor `new`."""
    project.ledger.links.change_password(caller, old=old, new=new)


def enrol_totp(project: Project, caller: Caller) -> str:
    """The otpauth:// address for an authenticator app, shown once; counts when `confirm_totp` saw a code."""
    return project.ledger.links.enrol(caller)


def confirm_totp(project: Project, caller: Caller, code: str) -> None:
    """Switch the second factor on; all other sessions end. Raises: SignInError for a wrong code."""
    project.ledger.links.confirm(caller, code)
