"""Users: who exists, with which role and clearance, and who may change that.

Every change asks the ledger again who acts, inside the writing transaction, and is recorded before it is committed.
`Principal.roles` of whoever acts holds permissions: a token's are fewer than its user's.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast

from sqlalchemy import Connection, Select, and_, func, select, update

from ..core.accounts import ROLES, Account, Permission, Role
from ..core.errors import NotFoundError, RefusedError, StateError, UsageError, nearest
from ..core.labels import Clearance, Label, join, join_clearances
from ..core.seams import Auditor
from ..core.types import Principal
from . import db
from .conversations import labels_now
from .records import now

LONGEST_NAME = 64
_NAMELY = 200  # characters that are looked at; nothing so long is a name
RESERVED = frozenset({"system", "owner", "anonymous"})
_ID = re.compile(r"u_[0-9a-f]{16}")
_u, _m, _g = db.users.c, db.members.c, db.user_groups.c
COLUMNS = (
    _u.id,
    _u.name,
    _u.display,
    _u.role,
    _u.clearance,
    _u.state,
    _u.must_change,
    and_(_u.totp.is_not(None), _u.totp_used >= 0).label("second_factor"),  # below 0: enrolled, not confirmed yet
    _u.created_at,
    _u.seen_at,
    _g.name.label("group_name"),
    _g.clearance.label("group_clearance"),
)
WITH_GROUPS = db.users.outerjoin(db.members, _m.user == _u.id).outerjoin(db.user_groups, _g.name == _m.group)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something: as the ledger knows them now."""

    name: str
    permissions: frozenset[str]
    clearance: Clearance
    user: str | None = None  # id; None: a principal of hagane.yaml

    def needs(self, permission: Permission) -> None:
        """Raises: RefusedError."""
        if permission not in self.permissions:
            raise RefusedError(f"{self.name} may not do that", hint=f"it takes the permission {permission!r}")


def folded_name(text: str) -> str:
    """A user's or group's name as it is kept and compared: NFKC, lower case. Raises: UsageError."""
    name = folded(text)
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or not name[0].isalnum() or _ID.fullmatch(name):
        raise UsageError(
            f"that name is not 1 to {LONGEST_NAME} printable characters that begin with a letter or digit",
            hint="for example tanaka or 田中",
        )
    if "/" in name or "\\" in name:
        raise UsageError("a name holds no slashes", hint="for example tanaka or 田中")
    return name


def folded(text: str) -> str:
    """`text` as names are compared."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text[:_NAMELY]).casefold()).strip()


@lru_cache(maxsize=1024)
def clearance_of(text: str) -> Clearance:
    """A clearance as the ledger keeps it; parsed once."""
    return Clearance.parse(text)


def accounts_of(rows: Iterable[Any]) -> list[Account]:
    """Accounts of rows with COLUMNS over WITH_GROUPS, one row per group of a user."""
    groups: dict[str, dict[str, str]] = {}
    first: dict[str, Any] = {}
    for row in rows:
        first.setdefault(row.id, row)
        mine = groups.setdefault(row.id, {})
        if row.group_name is not None:
            mine[row.group_name] = row.group_clearance
    return [_account(row, groups[id]) for id, row in first.items()]


def _account(row: Any, groups: Mapping[str, str]) -> Account:
    own = clearance_of(row.clearance)
    effective = join_clearances(own, *(clearance_of(text) for text in groups.values()))
    role = cast(Role, row.role)
    return Account(
        id=row.id,
        name=row.name,
        display=row.display,
        role=role,
        own=own,
        principal=Principal(row.name, effective, tuple(sorted(ROLES[role]))),
        groups=tuple(sorted(groups)),
        state=row.state,
        totp=bool(row.second_factor),
        must_change=bool(row.must_change),
        created_at=row.created_at,
        seen_at=row.seen_at,
    )


def read(connection: Connection, *conditions: Any) -> list[Account]:
    """The accounts for which all `conditions` on users hold, by name."""
    query: Select[Any] = select(*COLUMNS).select_from(WITH_GROUPS).where(*conditions).order_by(_u.name)
    return accounts_of(connection.execute(query))


def find(connection: Connection, user: str) -> Account:
    """The account with this id or name. Raises: NotFoundError."""
    found = read(connection, _u.id == user if _ID.fullmatch(user) else _u.name == folded(user))
    if not found:
        names = [name for (name,) in connection.execute(select(_u.name))]
        close = nearest(folded(user), names)
        raise NotFoundError(f"no user {user!r}", hint=f"did you mean {close!r}?" if close else "hagane user list shows them")
    return found[0]


def actor_of(connection: Connection, by: Principal) -> Actor:
    """`by` as the ledger knows them now: a role or clearance taken away a moment ago is gone.
    Raises: RefusedError for a disabled account."""
    found = read(connection, _u.name == by.name)
    if not found:
        return Actor(by.name, frozenset(by.roles), by.clearance)
    account = found[0]
    if account.state != "active":
        raise RefusedError(f"{by.name} is disabled")
    return Actor(by.name, account.permissions & set(by.roles), account.principal.clearance, account.id)


def check_grant(actor: Actor, given: Clearance, *, before: Clearance | None = None) -> None:
    """Nobody gives what they do not have; taking away is free. Raises: RefusedError."""
    if not given.within(actor.clearance) and not (before is not None and given.within(before)):
        raise RefusedError(
            f"{given} is above what {actor.name} may see",
            hint=f"{actor.name} may give at most {actor.clearance}",
        )


def check_role(actor: Actor, role: Role, *, before: Role | None = None) -> None:
    """Nobody gives a permission that they lack, but admins name officers (`govern`): otherwise nobody could.
    Raises: RefusedError."""
    gained = ROLES[role] - (ROLES[before] if before else frozenset())
    allowed = actor.permissions | ({"govern"} if "administer" in actor.permissions else set())
    if lacking := gained - allowed:
        raise RefusedError(f"{actor.name} may not make someone {role}", hint=f"{actor.name} lacks {', '.join(sorted(lacking))}")


def check_hand_out(actor: Actor, account: Account) -> None:
    """Whoever hands out the means to sign in as someone could become them. Raises: RefusedError."""
    check_grant(actor, account.principal.clearance)
    check_role(actor, account.role)


def require_another_admin(connection: Connection, account: Account) -> None:
    """Raises: StateError when `account` is the last active admin."""
    if account.role != "admin" or account.state != "active":
        return
    others = select(func.count()).where(_u.role == "admin", _u.state == "active", _u.id != account.id)
    if not connection.execute(others).scalar():
        raise StateError(f"{account.name} is the last active admin", hint="make someone else an admin first")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user to be made. `password` is its argon2id hash; `subject` is who they are at the identity provider."""

    name: str
    role: Role
    clearance: Clearance
    display: str = ""
    password: str | None = None
    must_change: bool = False
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes different; None stays as it is."""

    role: Role | None = None
    clearance: Clearance | None = None
    display: str | None = None
    state: Literal["active", "disabled"] | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


def insert(connection: Connection, auditor: Auditor, new: NewUser, *, principal: str, taken: Collection[str]) -> str:
    """Write a user and the record of it; their id. Raises: StateError when the name is taken."""
    name = folded_name(new.name)
    if name in RESERVED or name in taken or connection.execute(select(_u.id).where(_u.name == name)).first():
        raise StateError(f"the name {name!r} is taken", hint="a name exists once over users and principals of hagane.yaml")
    id, at = "u_" + secrets.token_hex(8), now()
    connection.execute(
        db.users.insert().values(
            id=id,
            name=name,
            display=display_name(new.display) or new.name.strip(),
            role=new.role,
            clearance=str(new.clearance),
            password=new.password,
            must_change=new.must_change,
            totp=None,
            totp_used=0,
            subject=new.subject,
            state="active",
            failed=0,
            locked_until=None,
            created_at=at,
            changed_at=at,
            seen_at=None,
        )
    )
    auditor.record("user.create", principal=principal, user=id, role=new.role, clearance=str(new.clearance))
    return id


def display_name(text: str) -> str:
    """A name to be shown: printable, at most 100 characters."""
    return "".join(c for c in unicodedata.normalize("NFC", text) if c.isprintable()).strip()[:100]


class Accounts:
    """All changes of users."""

    def __init__(self, database: db.Database, auditor: Auditor) -> None:
        self._db = database
        self._auditor = auditor

    def find(self, user: str) -> Account:
        """The account with this id or name, whoever asks. Raises: NotFoundError."""
        with self._db.reading() as connection:
            return find(connection, user)

    def count(self) -> int:
        """How many users there are, disabled ones included."""
        with self._db.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(db.users)).scalar() or 0)

    def all(self, *, by: Principal) -> list[Account]:
        """Everyone, by name. Raises: RefusedError without `administer` or `govern`."""
        with self._db.reading() as connection:
            actor = actor_of(connection, by)
            if "govern" not in actor.permissions:
                actor.needs("administer")
            return read(connection)

    def actor(self, by: Principal) -> Actor:
        """`by` as the ledger knows them now."""
        with self._db.reading() as connection:
            return actor_of(connection, by)

    def conversation(self, id: str) -> tuple[str, Label] | None:
        """(id of its user, the label that counts now), whoever asks; None when there is none."""
        c = db.conversations.c
        with self._db.reading() as connection:
            row = connection.execute(select(c.user, c.label).where(c.id == id)).first()
            raised = labels_now(connection, db.turns, db.turns.c.conversation, [id]).get(id, ())
        return None if row is None else (row.user, join(Label.parse(row.label), *raised))

    def create(self, new: NewUser, *, by: Principal, taken: Collection[str]) -> Account:
        """A new user. `taken` are names that are none of users. Raises: StateError, RefusedError, UsageError."""
        with self._db.writing() as connection:
            actor = actor_of(connection, by)
            actor.needs("administer")
            check_role(actor, new.role)
            check_grant(actor, new.clearance)
            return find(connection, insert(connection, self._auditor, new, principal=by.name, taken=taken))

    def change(self, user: str, change: Change, *, by: Principal) -> Account:
        """Change role, clearance, shown name or state; counts at the next request of the user.
        Raises: NotFoundError; RefusedError above `by`'s own; StateError for the last active admin."""
        with self._db.writing() as connection:
            actor = actor_of(connection, by)
            actor.needs("administer")
            account = find(connection, user)
            apply(connection, self._auditor, account, checked(connection, actor, account, change), by=by)
            return find(connection, account.id)


@dataclass(frozen=True, slots=True)
class Checked:
    """A change that may be made: columns to write and what the record says of them."""

    values: Mapping[str, Any]
    said: Mapping[str, str]


def checked(connection: Connection, actor: Actor, account: Account, change: Change) -> Checked:
    """`change` of `account`, if `actor` may make it; nothing is written. Raises: RefusedError, StateError."""
    values: dict[str, Any] = {}
    said: dict[str, str] = {}
    if change.role is not None and change.role != account.role:
        check_role(actor, change.role, before=account.role)
        require_another_admin(connection, account)
        values["role"] = change.role
        said |= {"role_before": account.role, "role": change.role}
    if change.clearance is not None and change.clearance != account.own:
        check_grant(actor, change.clearance, before=account.own)
        values["clearance"] = str(change.clearance)
        said |= {"clearance_before": str(account.own), "clearance": str(change.clearance)}
    if change.state == "disabled" and account.state == "active":
        require_another_admin(connection, account)
        values["state"] = said["state"] = "disabled"
    if change.state == "active":  # also ends a lock
        check_hand_out(actor, account)
        values |= {"state": "active", "failed": 0, "locked_until": None}
        said["state"] = "active"
    if change.display is not None and display_name(change.display) not in ("", account.display):
        values["display"] = display_name(change.display)
        said["display"] = "changed"
    return Checked(values, said)


def apply(connection: Connection, auditor: Auditor, account: Account, change: Checked, *, by: Principal) -> None:
    """Write what was checked, with its records. Disabled, an account loses sessions, open links and tokens for good: whoever
    is let in again later gets new ones."""
    if not change.values:
        return
    if change.values.get("state") == "disabled":
        connection.execute(db.sessions.delete().where(db.sessions.c.user == account.id))
        connection.execute(db.links.delete().where(db.links.c.user == account.id))
    if change.values.get("state", account.state) != account.state:  # enabling too: an older hagane left them alive
        _revoke_tokens(connection, auditor, account, by=by)
    connection.execute(update(db.users).where(_u.id == account.id).values(**change.values, changed_at=now()))
    auditor.record("user.change", principal=by.name, user=account.id, **change.said)


def _revoke_tokens(connection: Connection, auditor: Auditor, account: Account, *, by: Principal) -> None:
    alive = (db.tokens.c.user == account.id, db.tokens.c.revoked_at.is_(None))
    ids = connection.execute(select(db.tokens.c.id).where(*alive).order_by(db.tokens.c.id)).scalars().all()
    if ids:
        auditor.record("token.revoke", principal=by.name, user=account.id, tokens=list(ids))
        connection.execute(update(db.tokens).where(*alive).values(revoked_at=now()))


def names_of(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """{id: name} of users."""
    return dict(connection.execute(select(_u.id, _u.name).where(_u.id.in_(list(ids)))).tuples().all())
