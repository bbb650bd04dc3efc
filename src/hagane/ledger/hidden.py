"""Which of the names in a refused request are of things that exist, and are hidden from the one who asked.

For the audit log alone: whoever asked gets the same answer as for a thing that does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import Connection, Table, select

from ..core.labels import Label
from ..core.text import folded_path
from ..core.types import Principal
from . import db
from .conversations import labels_now
from .uploads import told

_LABELLED: tuple[tuple[re.Pattern[str], Table], ...] = (
    (re.compile(r"d_[0-9a-f]{16}"), db.documents),
    (re.compile(r"[0-9a-f]{12}"), db.versions),
    (re.compile(r"j_[0-9a-f]+"), db.jobs),
)
_TALK, _TURN = re.compile(r"c_[0-9a-f]{20}"), re.compile(r"t_[0-9a-f]{20}")
_TOKEN, _REQUEST = re.compile(r"t_[0-9a-f]{16}"), re.compile(r"r_[0-9a-f]{10}")


class Hidden:
    """Looks at rows whatever their label, and says no more than whether they are there and out of reach."""

    def __init__(self, database: db.Database) -> None:
        self._db = database

    def among(self, names: Sequence[str], *, by: Principal, user: str | None = None) -> list[str]:
        """Those of `names` (ids as requests give them, paths of uploads) that exist and that `by` may not see;
        conversations and tokens of others than `user` (an account's id) too."""
        with self._db.reading() as connection:
            return [name for name in names if _is_hidden(connection, name, by, user)]


def _is_hidden(connection: Connection, name: str, by: Principal, user: str | None) -> bool:
    for shape, table in _LABELLED:
        if shape.fullmatch(name):
            return _above(connection.execute(select(table.c.label).where(table.c.id == name)).scalar(), by)
    if _TURN.fullmatch(name):
        return _talk_is_hidden(connection, connection.execute(select(db.turns.c.conversation).where(db.turns.c.id == name)).scalar(), by, user)
    if _TALK.fullmatch(name):
        return _talk_is_hidden(connection, name, by, user)
    if _TOKEN.fullmatch(name):
        owner = connection.execute(select(db.tokens.c.user).where(db.tokens.c.id == name)).scalar()
        return owner is not None and owner != user
    if _REQUEST.fullmatch(name):
        row = connection.execute(select(db.requests.c.document, db.requests.c.source).where(db.requests.c.id == name)).first()
        return row is not None and _above(_label_of(connection, row.document, row.source), by)
    return name.startswith("uploads/") and _upload_is_hidden(connection, name, by)


def _above(label: str | None, by: Principal) -> bool:
    return label is not None and not Label.parse(label).flows_to(by.clearance)


def _label_of(connection: Connection, document: str | None, source: str | None) -> str | None:
    if document:
        return connection.execute(select(db.documents.c.label).where(db.documents.c.id == document)).scalar()
    return connection.execute(select(db.sources.c.label).where(db.sources.c.name == source)).scalar()


def _talk_is_hidden(connection: Connection, id: str | None, by: Principal, user: str | None) -> bool:
    c = db.conversations.c
    row = connection.execute(select(c.user, c.label).where(c.id == id)).first()
    if row is None:
        return False
    if row.user != user:
        return True
    now_is = labels_now(connection, db.turns, db.turns.c.conversation, [str(id)]).get(str(id), [])
    return any(not label.flows_to(by.clearance) for label in (Label.parse(row.label), *now_is))


def _upload_is_hidden(connection: Connection, path: str, by: Principal) -> bool:
    return any(not upload.label.flows_to(by.clearance) for upload in told(connection, folded_path(path)))
