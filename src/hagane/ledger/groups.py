"""Groups of users: a clearance that all members have besides their own; and who came in by the identity provider.

Being put into a group gives its clearance, so it asks for as much as giving that clearance itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, update

from ..core.accounts import Account, Role
from ..core.errors import NotFoundError, StateError
from ..core.labels import Clearance
from ..core.seams import Auditor
from ..core.types import Principal
from . import db
from .accounts import (
    RESERVED,
    Actor,
    Change,
    NewUser,
    actor_of,
    apply,
    check_grant,
    checked,
    clearance_of,
    display_name,
    find,
    folded,
    folded_name,
    insert,
    read,
)
from .records import now

BY_HAND, BY_OIDC = "hand", "oidc"
_u, _m, _g = db.users.c, db.members.c, db.user_groups.c


@dataclass(frozen=True, slots=True)
class Group:
    """A group; `members` are names of users."""

    name: str
    clearance: Clearance
    members: tuple[str, ...]
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Someone whom the identity provider vouches for, and what hagane.yaml makes of their groups."""

    subject: str
    name: str
    display: str
    role: Role
    clearance: Clearance
    groups: tuple[str, ...] = ()  # names of mapped groups


class Groups:
    """All changes of groups and of who is in them."""

    def __init__(self, database: db.Database, auditor: Auditor) -> None:
        self._db = database
        self._auditor = auditor

    def all(self, *, by: Principal) -> list[Group]:
        """Every group, by name. Raises: RefusedError without `administer` or `govern`."""
        with self._db.reading() as connection:
            actor = actor_of(connection, by)
            if "govern" not in actor.permissions:
                actor.needs("administer")
            members: dict[str, list[str]] = {}
            joined = db.members.join(db.users, _u.id == _m.user)
            for group, name in connection.execute(select(_m.group, _u.name).select_from(joined).order_by(_u.name)):
                members.setdefault(group, []).append(name)
            rows = connection.execute(select(db.user_groups).order_by(_g.name)).all()
        return [Group(r.name, clearance_of(r.clearance), tuple(members.get(r.name, ())), r.created_at) for r in rows]

    def create(self, name: str, clearance: Clearance, *, by: Principal) -> Group:
        """A new group without members. Raises: StateError when there is one; RefusedError above one's own."""
        folded, at = folded_name(name), now()
        with self._db.writing() as connection:
            actor = actor_of(connection, by)
            actor.needs("administer")
            check_grant(actor, clearance)
            if connection.execute(select(_g.name).where(_g.name == folded)).first():
                raise StateError(f"there is a group {folded!r} already", hint="hagane group list shows them")
            row = {"name": folded, "clearance": str(clearance), "created_at": at}
            connection.execute(db.user_groups.insert().values(**row))
            self._auditor.record("group.create", principal=by.name, group=folded, clearance=str(clearance))
        return Group(folded, clearance, (), at)

    def change(self, name: str, clearance: Clearance, *, by: Principal) -> None:
        """Another clearance for a group; counts at the next request of its members."""
        with self._db.writing() as connection:
            actor = actor_of(connection, by)
            actor.needs("administer")
            folded, before = _group(connection, name)
            check_grant(actor, clearance, before=before)
            if clearance != before:
                connection.execute(update(db.user_groups).where(_g.name == folded).values(clearance=str(clearance)))
                self._auditor.record(
                    "group.change", principal=by.name, group=folded, clearance_before=str(before), clearance=str(clearance)
                )

    def delete(self, name: str, *, by: Principal) -> None:
        """Remove a group; its members lose its clearance at once."""
        with self._db.writing() as connection:
            actor_of(connection, by).needs("administer")
            folded, _ = _group(connection, name)
            connection.execute(delete(db.members).where(_m.group == folded))
            connection.execute(delete(db.user_groups).where(_g.name == folded))
            self._auditor.record("group.delete", principal=by.name, group=folded)

    def set_of(self, user: str, groups: Sequence[str], *, by: Principal) -> Account:
        """Put `user` into exactly these groups, besides those that the identity provider gives."""
        with self._db.writing() as connection:
            actor = actor_of(connection, by)
            actor.needs("administer")
            account = find(connection, user)
            wanted = _wanted(connection, actor, account, groups)
            _put(connection, self._auditor, account.id, wanted, origin=BY_HAND, principal=by.name)
            return find(connection, account.id)

    def change_with(self, user: str, change: Change, groups: Sequence[str], *, by: Principal) -> Account:
        """`Accounts.change` and `set_of` as one: all is checked before anything is recorded or written."""
        with self._db.writing() as connection:
            actor = actor_of(connection, by)
            actor.needs("administer")
            account = find(connection, user)
            wanted = _wanted(connection, actor, account, groups)
            apply(connection, self._auditor, account, checked(connection, actor, account, change), by=by)
            _put(connection, self._auditor, account.id, wanted, origin=BY_HAND, principal=by.name)
            return find(connection, account.id)

    def arrive(self, connection: Connection, who: Arrival, *, taken: Collection[str]) -> str | None:
        """The id of the account for `who`, made or brought up to date inside a writing transaction; None for a
        disabled one. A user of the same name is someone else: the newcomer's name then ends with -2, -3, ..."""
        found = read(connection, _u.subject == who.subject)
        if not found:
            name = _free(connection, who.name, taken)
            new = NewUser(name=name, role=who.role, clearance=who.clearance, display=who.display, subject=who.subject)
            user = insert(connection, self._auditor, new, principal=name, taken=taken)
        else:
            account = found[0]
            if account.state != "active":
                return None
            user = account.id
            shown = display_name(who.display) or account.display
            if (account.role, account.own) != (who.role, who.clearance):
                self._auditor.record(
                    "user.change",
                    principal=account.name,
                    user=user,
                    how=BY_OIDC,
                    role_before=account.role,
                    role=who.role,
                    clearance_before=str(account.own),
                    clearance=str(who.clearance),
                )
            values = {"role": who.role, "clearance": str(who.clearance), "display": shown, "changed_at": now()}
            connection.execute(update(db.users).where(_u.id == user).values(**values))
        named = [name for name in who.groups if _exists(connection, name)]
        wanted = dict(_group(connection, name) for name in named)
        _put(connection, self._auditor, user, wanted, origin=BY_OIDC, principal="system")
        return user


def _wanted(connection: Connection, actor: Actor, account: Account, groups: Sequence[str]) -> dict[str, Clearance]:
    """The groups that `actor` may put `account` into. Raises: NotFoundError, RefusedError."""
    wanted = dict(_group(connection, name) for name in groups)
    for name in wanted.keys() - set(account.groups):
        check_grant(actor, wanted[name])
    return wanted


def _exists(connection: Connection, name: str) -> bool:
    try:
        _group(connection, name)
    except NotFoundError:
        return False
    return True


def _group(connection: Connection, name: str) -> tuple[str, Clearance]:
    row = connection.execute(select(_g.name, _g.clearance).where(_g.name == folded(name))).first()
    if row is None:
        raise NotFoundError(f"no group {name!r}", hint="hagane group list shows them")
    return row.name, clearance_of(row.clearance)


def _put(
    connection: Connection, auditor: Auditor, user: str, wanted: Collection[str], *, origin: str, principal: str
) -> None:
    """Make `wanted` the memberships that `origin` gives; those of another origin stay, and are not doubled."""
    rows = connection.execute(select(_m.group, _m.origin).where(_m.user == user)).all()
    mine = {row.group for row in rows if row.origin == origin}
    other = {row.group for row in rows if row.origin != origin}
    added, removed = sorted(set(wanted) - mine - other), sorted(mine - set(wanted))
    if removed:
        connection.execute(delete(db.members).where(_m.user == user, _m.origin == origin, _m.group.in_(removed)))
    for name in added:
        connection.execute(db.members.insert().values(group=name, user=user, origin=origin))
    if added or removed:
        auditor.record("user.groups", principal=principal, user=user, added=added, removed=removed, how=origin)


def _free(connection: Connection, name: str, taken: Collection[str]) -> str:
    base = folded_name(name)[:60]
    for n in range(1, 1000):
        wanted = base if n == 1 else f"{base}-{n}"
        if wanted in RESERVED or wanted in taken:
            continue
        if connection.execute(select(_u.id).where(_u.name == wanted)).first() is None:
            return wanted
    raise StateError(f"the name {base!r} is taken", hint="ask the people who run the identity provider")
