"""One-time links: first set-up, invitation, reset of a password; and every other change of what one signs in with.

A link is 256 random bits, kept as its sha256, good for a while and for one use: it is deleted in the transaction that
uses it, so of two at once one finds nothing. Whoever changes a password or second factor ends all other sessions.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from ..core.accounts import Account, Caller
from ..core.errors import NotFoundError, RefusedError, SecondFactorNeeded, SignInError, StateError
from ..core.labels import EVERYTHING
from ..core.seams import Auditor
from ..core.types import Principal
from . import db, passwords, totp
from .accounts import NewUser, actor_of, check_hand_out, find, insert
from .sessions import Limits, Sessions, digest, refused, stamp

SET_UP, INVITE, RESET = "setup", "invite", "reset"
LASTS = {SET_UP: timedelta(hours=24), INVITE: timedelta(hours=72), RESET: timedelta(hours=24)}
_u, _l = db.users.c, db.links.c


@dataclass(frozen=True, slots=True)
class Link:
    """What a link is for."""

    kind: str  # setup, invite, reset
    name: str | None  # of the user; None for the set-up
    second_factor: bool = False  # a code is needed besides
    user: str | None = None


class Links:
    """Links, passwords and second factors."""

    def __init__(self, database: db.Database, auditor: Auditor, sessions: Sessions) -> None:
        self._db = database
        self._auditor = auditor
        self._sessions = sessions

    def set_up(self) -> str | None:
        """The secret of a fresh set-up link while there is no user, else None. Older ones end."""
        with self._db.writing() as connection:
            if _n_users(connection):
                return None
            connection.execute(delete(db.links).where(_l.kind == SET_UP))
            secret = self._issue(connection, SET_UP, None)
            self._auditor.record("link.create", principal="system", kind=SET_UP)
        return secret

    def invite(self, user: str, *, by: Principal) -> str:
        """The secret of a link with which `user` chooses a password; older ones and a lock end.
        Raises: NotFoundError; RefusedError when `by` is not above the user; StateError for who signs in elsewhere."""
        with self._db.writing() as connection:
            actor = actor_of(connection, by)
            actor.needs("administer")
            account = find(connection, user)
            check_hand_out(actor, account)
            if account.state != "active":
                raise StateError(f"{account.name} is disabled", hint="enable the account first")
            row = connection.execute(select(_u.password, _u.subject).where(_u.id == account.id)).one()
            if row.subject is not None:
                raise StateError(f"{account.name} signs in at the identity provider", hint="there is no password to set")
            kind = INVITE if row.password is None else RESET
            connection.execute(delete(db.links).where(_l.user == account.id))
            connection.execute(update(db.users).where(_u.id == account.id).values(failed=0, locked_until=None))
            secret = self._issue(connection, kind, account.id)
            self._auditor.record("link.create", principal=by.name, user=account.id, kind=kind)
        return secret

    def _issue(self, connection: Connection, kind: str, user: str | None) -> str:
        secret = secrets.token_urlsafe(32)
        until = stamp(self._sessions.clock() + LASTS[kind])
        connection.execute(db.links.insert().values(hash=digest(secret), kind=kind, user=user, expires_at=until))
        return secret

    def look(self, secret: str) -> Link | None:
        """What the link is for; None when it is used, over or unknown. Looking does not use it."""
        joined = db.links.outerjoin(db.users, _u.id == _l.user)
        query = select(_l.kind, _u.id, _u.name, _u.totp, _u.totp_used, _u.state).select_from(joined)
        with self._db.reading() as connection:
            valid = (_l.hash == digest(secret), _l.expires_at > stamp(self._sessions.clock()))
            row = connection.execute(query.where(*valid)).first()
            if row is None or (row.kind == SET_UP and _n_users(connection)):
                return None
        if row.kind != SET_UP and row.state != "active":
            return None
        return Link(row.kind, row.name, row.id is not None and totp.is_on(row.totp, row.totp_used), row.id)

    def _use(self, connection: Connection, secret: str, link: Link) -> None:
        valid = (_l.hash == digest(secret), _l.kind == link.kind, _l.expires_at > stamp(self._sessions.clock()))
        if connection.execute(delete(db.links).where(*valid)).rowcount != 1:
            raise no_link()

    def first(self, secret: str, *, name: str, password: str, taken: Collection[str], limits: Limits) -> tuple[Account, str]:
        """Make the first admin, who may see everything, and sign them in: (account, cookie).
        Raises: NotFoundError for a used link; UsageError; StateError for a name that is taken."""
        link = self.look(secret)
        if link is None or link.kind != SET_UP:
            raise no_link()
        passwords.check(password, name=name)
        new = NewUser(name=name, role="admin", clearance=EVERYTHING, password=passwords.hash_of(password))
        with self._db.writing() as connection:
            if _n_users(connection):
                raise no_link()
            self._use(connection, secret, link)
            user = insert(connection, self._auditor, new, principal="system", taken=taken)
            return self._sessions.start(connection, user, how=SET_UP, limits=limits, at=self._sessions.clock())

    def accept(self, secret: str, password: str, *, code: str | None, limits: Limits) -> tuple[Account, str]:
        """Set the password and sign in: (account, cookie); the link is used up, other sessions end.
        Raises: NotFoundError for a used link; UsageError for a poor password; SecondFactorNeeded and SignInError
        (wrong code) leave the link as it is."""
        link = self.look(secret)
        if link is None or link.user is None or link.name is None:
            raise no_link()
        passwords.check(password, name=link.name)
        if link.second_factor and not code:
            raise SecondFactorNeeded("the code of the second factor is missing", hint="enter the six digits that your app shows")
        hashed, at = passwords.hash_of(password), self._sessions.clock()
        with self._db.writing() as connection:
            reason = self._code_refusal(connection, link.user, code, at)
            if reason is None:
                self._use(connection, secret, link)
                connection.execute(delete(db.links).where(_l.user == link.user))
                self._set_password(connection, link.user, hashed, principal=link.name, how=link.kind)
                self._sessions.end_others(connection, link.user)
                return self._sessions.start(connection, link.user, how="link", limits=limits, at=at)
            self._auditor.record("session.refused", principal=link.name, user=link.user, reason=reason)
        raise refused()

    def _code_refusal(self, connection: Connection, user: str, code: str | None, at: Any) -> str | None:
        row = connection.execute(select(db.users).where(_u.id == user)).one()
        if row.state != "active":
            return "disabled"
        if not totp.is_on(row.totp, row.totp_used):
            return None
        if row.locked_until is not None and row.locked_until > stamp(at):
            return "locked"
        reason = self._sessions.use_code(connection, row, code, at)
        if reason:
            self._sessions.count_wrong(connection, row, at)
        return reason

    def _set_password(self, connection: Connection, user: str, hashed: str, *, principal: str, how: str) -> None:
        values = {"password": hashed, "must_change": False, "failed": 0, "locked_until": None}
        connection.execute(update(db.users).where(_u.id == user).values(**values, changed_at=stamp(self._sessions.clock())))
        self._auditor.record("user.password", principal=principal, user=user, how=how)

    # by oneself, in a session

    def change_password(self, caller: Caller, *, old: str, new: str) -> None:
        """Raises: SignInError for a wrong `old`; UsageError for a poor `new`; RefusedError for a token."""
        account = _in_session(caller)
        passwords.check(new, name=account.name)
        at = self._sessions.clock()
        with self._db.reading() as connection:
            stored = connection.execute(select(_u.password).where(_u.id == account.id)).scalar()
        right = passwords.matches(stored, old)
        hashed = passwords.hash_of(new) if right else ""
        with self._db.writing() as connection:
            row = connection.execute(select(db.users).where(_u.id == account.id)).one()
            locked = row.locked_until is not None and row.locked_until > stamp(at)
            good = right and not locked and row.password == stored and row.state == "active"
            if good:
                self._set_password(connection, account.id, hashed, principal=account.name, how="change")
                self._sessions.end_others(connection, account.id, keep=caller.session)
                return
            if not locked:
                self._sessions.count_wrong(connection, row, at)
            self._auditor.record("session.refused", principal=account.name, user=account.id, reason="password")
        raise SignInError("the old password is wrong, or too many were", hint="after many wrong tries, wait a while")

    def enrol(self, caller: Caller) -> str:
        """Begin a second factor: the otpauth:// address, shown once; it counts when `confirm` saw a code.
        Raises: StateError when one is on, or without a password; RefusedError for a token."""
        account = _in_session(caller)
        secret = totp.new_secret()
        with self._db.writing() as connection:
            row = connection.execute(select(_u.totp, _u.totp_used, _u.password).where(_u.id == account.id)).one()
            if row.password is None:
                raise StateError(f"{account.name} signs in at the identity provider", hint="the second factor is set there")
            if totp.is_on(row.totp, row.totp_used):
                raise StateError("a second factor is on already", hint="take it off first, with a code")
            connection.execute(update(db.users).where(_u.id == account.id).values(totp=secret, totp_used=totp.PENDING))
            self._auditor.record("user.second_factor", principal=account.name, user=account.id, what="begun")
        return totp.address(secret, name=account.name)

    def confirm(self, caller: Caller, code: str) -> None:
        """Switch the second factor on. Raises: SignInError for a wrong code; StateError when none was begun."""
        account = _in_session(caller)
        with self._db.writing() as connection:
            row = connection.execute(select(_u.totp, _u.totp_used).where(_u.id == account.id)).one()
            if row.totp is None or totp.is_on(row.totp, row.totp_used):
                raise StateError("no second factor is waiting to be confirmed", hint="begin again")
            step = totp.step_of(row.totp, code, self._sessions.clock(), used=row.totp_used)
            if step is None:
                raise SignInError("the code is not right", hint="check the clock of your telephone, then enter the newest code")
            connection.execute(update(db.users).where(_u.id == account.id).values(totp_used=step))
            self._sessions.end_others(connection, account.id, keep=caller.session)
            self._auditor.record("user.second_factor", principal=account.name, user=account.id, what="on")

    def drop(self, user: str, *, by: Principal, code: str | None = None, keep: str | None = None) -> None:
        """Take the second factor off: one's own with a code, someone else's as an admin. All sessions of the user end
        but the one with the hash `keep`. Raises: NotFoundError, RefusedError, SignInError for a wrong code."""
        at, wrong = self._sessions.clock(), False
        with self._db.writing() as connection:
            actor = actor_of(connection, by)
            if user not in (actor.user, actor.name):
                actor.needs("administer")  # before it is said whether there is such a user
            account = find(connection, user)
            if account.id == actor.user:
                wrong = account.totp and self._code_refusal(connection, account.id, code or "-", at) is not None
            else:
                actor.needs("administer")
                check_hand_out(actor, account)
            if not wrong:
                connection.execute(update(db.users).where(_u.id == account.id).values(totp=None, totp_used=0))
                self._sessions.end_others(connection, account.id, keep=keep if account.id == actor.user else None)
            act = "session.refused" if wrong else "user.second_factor"
            said = {"reason": "code"} if wrong else {"what": "off"}
            self._auditor.record(act, principal=by.name, user=account.id, **said)
        if wrong:
            raise SignInError("the code is not right", hint="an admin can take the second factor off")


def _n_users(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(db.users)).scalar() or 0)


def _in_session(caller: Caller) -> Account:
    if caller.session is None:
        raise RefusedError("an API token cannot change what its user signs in with", hint="sign in on the page")
    return caller.account


def no_link() -> NotFoundError:
    return NotFoundError("this link was used, is over or never was", hint="ask an admin for a new one: hagane user link NAME")
