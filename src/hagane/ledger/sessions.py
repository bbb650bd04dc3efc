"""Signing in, and what lasts from it: sessions of the page, found by the hash of their cookie.

A wrong password, an unknown name, a locked and a disabled account take the same steps: one argon2 computation, one
transaction, one audit record.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from ..core.accounts import Account, Caller
from ..core.errors import SecondFactorNeeded, SignInError, StorageError
from ..core.log import get
from ..core.seams import Auditor
from . import db, passwords, totp
from .accounts import COLUMNS, WITH_GROUPS, accounts_of, find
from .groups import Arrival, Groups
from .throttle import Throttle, delay

NOBODY = "anonymous"  # the principal of records about someone who is not known
SEEN_EVERY = timedelta(minutes=1)
LONGEST_COOKIE = 100
_u, _s = db.users.c, db.sessions.c
_log = get("ledger.sessions")


def utc() -> datetime:
    return datetime.now(UTC)


def stamp(at: datetime) -> str:
    """As the ledger writes times: UTC, milliseconds; sorts as time does."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def digest(secret: str) -> str:
    """How a cookie, token or link is kept: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def refused() -> SignInError:
    """The one message for every reason."""
    return SignInError(
        "name or password are wrong, or signing in is not possible now",
        hint="after many wrong tries, wait a while; an admin can send a new link",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session lasts."""

    hours: float = 12.0
    idle_minutes: float = 120.0


class Stamps:
    """Writes a `seen_at` or `used_at` at most once a minute per row, and never makes a request wait or fail."""

    def __init__(self, database: db.Database) -> None:
        self._db = database
        self._lock = threading.Lock()
        self._tried: OrderedDict[str, datetime] = OrderedDict()

    def write(self, key: str, statement: Any, at: datetime) -> None:
        with self._lock:
            last = self._tried.get(key)
            if last is not None and at - last < SEEN_EVERY / 12:
                return
            self._tried[key] = at
            if len(self._tried) > 10_000:
                self._tried.popitem(last=False)
        try:
            with self._db.hurrying() as connection:
                connection.execute(statement)
        except StorageError:
            _log.debug("a time of use was not written")


class Sessions:
    """Signing in and out."""

    def __init__(self, database: db.Database, auditor: Auditor, *, clock: Callable[[], datetime] = utc) -> None:
        self._db = database
        self._auditor = auditor
        self.clock = clock
        self.throttle = Throttle()
        self._stamps = Stamps(database)

    # signing in

    def enter(self, name: str, password: str, *, code: str | None, address: str, barred: bool, limits: Limits) -> tuple[Account, str]:
        """(account, cookie) of whoever knows the password, and the code where there is a second factor. `barred`: the
        name is a principal's, which cannot sign in. Raises: SignInError; SecondFactorNeeded; BusyError; AuditError."""
        at = self.clock()
        if self.throttle.closed(address, at):
            raise refused()
        with self._db.reading() as connection:
            row = connection.execute(select(_u.id, _u.password).where(_u.name == name)).first()
        stored = row.password if row is not None else None
        right = passwords.matches(stored, password)
        fresh = passwords.hash_of(password) if right and stored and passwords.is_outdated(stored) else None
        with self._db.writing() as connection:
            reason = self._refusal(connection, row, right, code, address, barred, at)
            if reason is None:
                assert row is not None
                if fresh is not None:
                    connection.execute(update(db.users).where(_u.id == row.id, _u.password == stored).values(password=fresh))
                made = self.start(connection, row.id, how="password", limits=limits, at=at)
            elif reason != "second_factor":
                self._auditor.record("session.refused", principal=NOBODY, user=row.id if row else None, reason=reason)
        if reason is None:
            assert row is not None
            self.throttle.right(address, row.id, at)
            return made
        if reason == "second_factor":
            raise SecondFactorNeeded("the code of the second factor is missing", hint="enter the six digits that your app shows")
        self.throttle.wrong(address, row.id if row else None, at)
        raise refused()

    def _refusal(
        self, connection: Connection, seen: Any, right: bool, code: str | None, address: str, barred: bool, at: datetime
    ) -> str | None:
        """Why not, in one word; None: come in. Counts wrong tries and used codes."""
        id = seen.id if seen is not None else ""
        row = connection.execute(select(db.users).where(_u.id == id)).first()
        reason = None
        if row is None:
            reason = "unknown"
        elif row.locked_until is not None and row.locked_until > stamp(at) and not self.throttle.knows(address, id, at):
            reason = "locked"
        elif not right or row.password != seen.password:
            reason = "no_password" if row.password is None else "password"
        elif row.state != "active":
            reason = "disabled"
        elif barred:
            reason = "principal"
        elif totp.is_on(row.totp, row.totp_used):
            reason = self.use_code(connection, row, code, at)
        if reason in ("password", "code"):
            self.count_wrong(connection, row, at)
        else:  # the same write where nothing is counted, so that it takes as long
            connection.execute(update(db.users).where(_u.id == id).values(failed=_u.failed))
        # written always, so that also for an unknown name the commit has a page to sync
        db.upsert(connection, db.facts, [{"name": "sign_in_last", "value": secrets.token_hex(4)}])
        return reason

    def use_code(self, connection: Connection, row: Any, code: str | None, at: datetime) -> str | None:
        """Accept `code` for the user's row, once; else "second_factor" (none given) or "code" (wrong or used)."""
        if not code:
            return "second_factor"
        step = totp.step_of(row.totp, code, at, used=row.totp_used)
        if step is None:
            return "code"
        connection.execute(update(db.users).where(_u.id == row.id).values(totp_used=step))
        return None

    def count_wrong(self, connection: Connection, row: Any, at: datetime) -> None:
        """One more wrong try at the account of `row`; many close it for a while."""
        failed = row.failed + 1
        wait = delay(failed)
        until = stamp(at + wait) if wait else None
        connection.execute(update(db.users).where(_u.id == row.id).values(failed=failed, locked_until=until))

    def start(self, connection: Connection, user: str, *, how: str, limits: Limits, at: datetime) -> tuple[Account, str]:
        """A new session for `user`, with a cookie that nobody knew before: (account, cookie)."""
        cookie = secrets.token_urlsafe(32)
        self._sweep(connection, at, limits)
        connection.execute(
            db.sessions.insert().values(
                hash=digest(cookie),
                user=user,
                csrf=secrets.token_urlsafe(32),
                created_at=stamp(at),
                seen_at=stamp(at),
                expires_at=stamp(at + timedelta(hours=limits.hours)),
            )
        )
        done = {"failed": 0, "locked_until": None, "seen_at": stamp(at)}
        connection.execute(update(db.users).where(_u.id == user).values(**done))
        account = find(connection, user)
        self._auditor.record("session.start", principal=account.name, user=user, how=how)
        return account, cookie

    def _sweep(self, connection: Connection, at: datetime, limits: Limits) -> None:
        idle = stamp(at - timedelta(minutes=limits.idle_minutes))
        connection.execute(delete(db.sessions).where((_s.expires_at <= stamp(at)) | (_s.seen_at <= idle)))
        connection.execute(delete(db.links).where(db.links.c.expires_at <= stamp(at)))

    def refuse(self, reason: str, *, user: str | None = None) -> None:
        """Record that someone was turned away. Raises: AuditError."""
        self._auditor.record("session.refused", principal=NOBODY, user=user, reason=reason)

    def arrive(self, groups: Groups, who: Arrival, *, taken: Collection[str], limits: Limits) -> tuple[Account, str]:
        """(account, cookie) of someone whom the identity provider vouches for. Raises: SignInError when disabled."""
        with self._db.writing() as connection:
            user = groups.arrive(connection, who, taken=taken)
            if user is not None:
                return self.start(connection, user, how="oidc", limits=limits, at=self.clock())
            self.refuse("disabled")
        raise refused()

    # what lasts

    def read(self, cookie: str, *, limits: Limits) -> Caller | None:
        """Whose session this is, as the ledger knows them now; None for an ended, idle or unknown one."""
        if not cookie or len(cookie) > LONGEST_COOKIE:
            return None
        key, at = digest(cookie), self.clock()
        with self._db.reading() as connection:
            rows = connection.execute(_BY_COOKIE, {"hash": key}).all()
        if not rows or rows[0].state != "active" or rows[0].expires_at <= stamp(at):
            return None
        seen = rows[0].session_seen
        if seen <= stamp(at - timedelta(minutes=limits.idle_minutes)):
            return None
        if seen <= stamp(at - SEEN_EVERY):
            self._stamps.write(key, update(db.sessions).where(_s.hash == key).values(seen_at=stamp(at)), at)
        account = accounts_of(rows)[0]
        return Caller(account, account.permissions, csrf=rows[0].csrf, session=key)

    def end(self, session: str, *, account: Account) -> None:
        """End the session with this hash. Raises: AuditError."""
        with self._db.writing() as connection:
            connection.execute(delete(db.sessions).where(_s.hash == session, _s.user == account.id))
            self._auditor.record("session.end", principal=account.name, user=account.id)

    def end_others(self, connection: Connection, user: str, *, keep: str | None = None) -> None:
        """End all sessions of `user` but the one with the hash `keep`."""
        connection.execute(delete(db.sessions).where(_s.user == user, _s.hash != (keep or "")))


_BY_COOKIE = (
    select(*COLUMNS, _s.csrf, _s.seen_at.label("session_seen"), _s.expires_at)
    .select_from(db.sessions.join(WITH_GROUPS, _s.user == _u.id))
    .where(_s.hash == bindparam("hash"))
)
