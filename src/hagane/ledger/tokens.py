"""API tokens: shown once, kept as their sha256, narrowed to scopes, ended by time, revocation or their user.

A scope is the name of a permission. At each use it is cut down to what the user's role allows then.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, or_, select, update

from ..core.accounts import PERMISSIONS, Account, Caller, Permission
from ..core.errors import NotFoundError, RefusedError, StateError, UsageError
from ..core.seams import Auditor
from ..core.types import Principal
from . import db
from .accounts import COLUMNS, WITH_GROUPS, Actor, accounts_of, actor_of, check_hand_out, find
from .sessions import SEEN_EVERY, Sessions, Stamps, digest, stamp

PREFIX = "hg_"
_SHAPE = re.compile(r"hg_[A-Za-z0-9_-]{43}")
MOST = 50  # tokens of one user that are not revoked
LONGEST_DAYS = 3660
FRESH = timedelta(seconds=0.5)  # and an expiry counts within this
KNOWN = 1024  # tokens that are remembered
_t = db.tokens.c


@dataclass(frozen=True, slots=True)
class Token:
    """What may be shown of a token. `state` is active, expired or revoked."""

    id: str
    user: str
    name: str
    scopes: tuple[Permission, ...]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    used_at: str | None
    state: str


class Tokens:
    """All tokens."""

    def __init__(self, database: db.Database, auditor: Auditor, sessions: Sessions) -> None:
        self._db = database
        self._auditor = auditor
        self._sessions = sessions
        self._stamps = Stamps(database)
        self._known: dict[str, tuple[int, datetime, Caller]] = {}  # by the secret's hash: as of which watermark, and when

    def create(self, user: str, *, name: str, scopes: Sequence[str], days: float | None, by: Principal) -> tuple[str, str]:
        """(id, secret); the secret is never seen again. For oneself, or as an admin for someone not above oneself.
        Raises: UsageError for unknown scopes, RefusedError for scopes beyond the user's or one's own."""
        wanted = _scopes(scopes)
        shown = "".join(c for c in unicodedata.normalize("NFC", name) if c.isprintable()).strip()
        if not 1 <= len(shown) <= 100:
            raise UsageError("a token needs a name of at most 100 characters", hint="say what it is for")
        if days is not None and not 0 < days <= LONGEST_DAYS:
            raise UsageError(f"a token cannot last {days} days", hint=f"more than 0, at most {LONGEST_DAYS}; or no limit")
        with self._db.writing() as connection:
            account = self._whose(connection, user, by)[1]
            if account.state != "active":
                raise StateError(f"{account.name} is disabled", hint="enable the account first")
            allowed = account.permissions & actor_of(connection, by).permissions
            if lacking := [scope for scope in wanted if scope not in allowed]:
                raise RefusedError(
                    f"a token of {account.name} cannot have the scope {lacking[0]!r}",
                    hint=f"possible here: {', '.join(p for p in PERMISSIONS if p in allowed) or 'none'}",
                )
            alive = select(func.count()).where(_t.user == account.id, _t.revoked_at.is_(None))
            if (connection.execute(alive).scalar() or 0) >= MOST:
                raise StateError(f"{account.name} has {MOST} tokens already", hint="revoke some first")
            id, secret, at = "t_" + secrets.token_hex(8), PREFIX + secrets.token_urlsafe(32), self._sessions.clock()
            connection.execute(
                db.tokens.insert().values(
                    id=id,
                    user=account.id,
                    name=shown,
                    hash=digest(secret),
                    scopes=list(wanted),
                    created_at=stamp(at),
                    expires_at=stamp(at + timedelta(days=days)) if days is not None else None,
                    revoked_at=None,
                    used_at=None,
                )
            )
            self._auditor.record("token.create", principal=by.name, user=account.id, token=id, scopes=list(wanted))
        return id, secret

    def _whose(self, connection: Any, user: str, by: Principal) -> tuple[Actor, Account]:
        """Who acts, and the account: one's own, or as an admin one that is not above oneself."""
        actor = actor_of(connection, by)
        if user not in (actor.user, actor.name):
            actor.needs("administer")  # before it is said whether there is such a user
        account = find(connection, user)
        if account.id != actor.user:
            actor.needs("administer")
            check_hand_out(actor, account)
        return actor, account

    def of(self, user: str, *, by: Principal) -> list[Token]:
        """A user's tokens, newest first: one's own, or any as an admin. Raises: RefusedError, NotFoundError."""
        at = stamp(self._sessions.clock())
        with self._db.reading() as connection:
            actor = actor_of(connection, by)
            if user not in (actor.user, actor.name):
                actor.needs("administer")
            account = find(connection, user)
            rows = connection.execute(select(db.tokens).where(_t.user == account.id).order_by(_t.created_at.desc(), _t.id))
            return [_token(row, at) for row in rows]

    def revoke(self, id: str, *, by: Principal) -> None:
        """End a token: one's own, or any as an admin. Raises: NotFoundError when there is none that one may end."""
        with self._db.writing() as connection:
            actor = actor_of(connection, by)
            row = connection.execute(select(_t.user, _t.revoked_at).where(_t.id == id)).first()
            if row is None or (row.user != actor.user and "administer" not in actor.permissions):
                raise NotFoundError(f"no token {id!r}", hint="hagane token list shows them")
            if row.revoked_at is None:
                connection.execute(update(db.tokens).where(_t.id == id).values(revoked_at=stamp(self._sessions.clock())))
                self._auditor.record("token.revoke", principal=by.name, user=row.user, token=id)

    def read(self, secret: str) -> Caller | None:
        """Whose token this is, as the ledger knows them now; None for an ended or unknown one, or a disabled user."""
        if not _SHAPE.fullmatch(secret):
            return None
        key, at = digest(secret), self._sessions.clock()
        mark = self._db.watermark.now()  # before the rows: what is committed behind it counts at the next request
        with self._db.reading() as connection:
            rows = connection.execute(_BY_SECRET, {"hash": key, "at": stamp(at)}).all()
        if not rows:
            return None
        first = rows[0]
        if first.used_at is None or first.used_at <= stamp(at - SEEN_EVERY):
            self._stamps.write(key, update(db.tokens).where(_t.hash == key).values(used_at=stamp(at)), at)
        account = accounts_of(rows)[0]
        narrowed = account.permissions & frozenset(first.scopes)
        principal = replace(account.principal, roles=tuple(sorted(narrowed)))
        caller = Caller(replace(account, principal=principal), narrowed, token=first.token_id)
        if mark is not None:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[key] = (mark, at, caller)
        return caller

    def known(self, secret: str) -> Caller | None:
        """As `read` told a moment ago, if nothing was written to the ledger since, by anyone; None: ask `read`.
        Takes microseconds and never waits."""
        if not _SHAPE.fullmatch(secret):
            return None
        mark, at, caller = self._known.get(digest(secret), (None, None, None))
        if mark is None or at is None or not timedelta(0) <= self._sessions.clock() - at < FRESH:
            return None
        return caller if self._db.watermark.now() == mark else None


def _scopes(scopes: Sequence[str]) -> tuple[Permission, ...]:
    for scope in scopes:
        if scope not in PERMISSIONS:
            raise UsageError(f"{scope!r} is not a scope", hint=f"scopes are {', '.join(PERMISSIONS)}")
    if not scopes:
        raise UsageError("a token needs at least one scope", hint=f"scopes are {', '.join(PERMISSIONS)}")
    return tuple(p for p in PERMISSIONS if p in scopes)


def _token(row: Any, at: str) -> Token:
    over = row.expires_at is not None and row.expires_at <= at
    state = "revoked" if row.revoked_at is not None else "expired" if over else "active"
    same = ("id", "user", "name", "created_at", "expires_at", "revoked_at", "used_at")
    return Token(**{name: getattr(row, name) for name in same}, scopes=tuple(row.scopes), state=state)


_BY_SECRET = (
    select(*COLUMNS, _t.id.label("token_id"), _t.scopes, _t.used_at)
    .select_from(db.tokens.join(WITH_GROUPS, _t.user == db.users.c.id))
    .where(
        _t.hash == bindparam("hash"),
        _t.revoked_at.is_(None),
        or_(_t.expires_at.is_(None), _t.expires_at > bindparam("at")),
        db.users.c.state == "active",
    )
)
