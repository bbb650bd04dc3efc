"""What people said of answers: kept whole, with the label of the turn, as candidate examples for datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, select

from ..core.errors import ChangedError
from ..core.labels import Clearance, Label, join
from . import db
from .conversations import known, labels_now
from .lineage import link
from .records import now

Kind = Literal["up", "down", "right_answer", "wrong_source"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One piece of feedback. `body` holds the question, the answer with its citations, and what was said of them."""

    id: str
    turn: str
    user: str
    kind: Kind
    label: Label
    body: Mapping[str, Any]
    created_at: str = ""


class Feedback:
    """Written by whoever asked; read within a clearance."""

    def __init__(self, database: db.Database) -> None:
        self._db = database

    def add(self, said: Said, *, instead: Sequence[Kind] = ()) -> None:
        """Store `said`; what the same user said of the same turn with a kind of `instead` leaves. It is made from what
        the turn was made from. Raises: ChangedError when the turn left, or what it quotes was erased."""
        f, e = db.feedback.c, db.edges.c
        with self._db.writing() as connection:
            _delete(connection, f.turn == said.turn, f.user == said.user, f.kind.in_(instead))
            made_from = connection.execute(select(e.parent).where(e.child == said.turn)).scalars().all()
            if not _stands(connection, said, made_from):
                raise ChangedError("the answer is not there any more", hint="load the page again")
            db.upsert(connection, db.nodes, [{"id": said.id, "label": str(said.label)}])
            link(connection, [(said.id, made_from)])
            row = {"id": said.id, "turn": said.turn, "user": said.user, "kind": said.kind, "label": str(said.label)}
            connection.execute(db.feedback.insert().values(**row, body=dict(said.body), created_at=now()))

    def withdraw(self, turn: str, *, user: str, kinds: Sequence[Kind]) -> None:
        """Take back what `user` said of `turn`; fine if there is nothing."""
        f = db.feedback.c
        with self._db.writing() as connection:
            _delete(connection, f.turn == turn, f.user == user, f.kind.in_(kinds))

    def kinds_of(self, turns: Sequence[str], *, user: str) -> dict[str, list[str]]:
        """What `user` said of each turn: the kinds."""
        f = db.feedback.c
        found: dict[str, list[str]] = {}
        with self._db.reading() as connection:
            for batch in db.batches(turns):
                for row in connection.execute(select(f.turn, f.kind).where(f.turn.in_(batch), f.user == user)):
                    found.setdefault(row.turn, []).append(row.kind)
        return found

    def list(self, *, clearance: Clearance, n: int | None = None) -> list[Said]:
        """All feedback whose label flows to `clearance`, newest first; at most `n`. The label is joined with the ones
        that what it quotes carries now."""
        f = db.feedback.c
        with self._db.reading() as connection:
            labels = connection.execute(select(f.label).distinct()).scalars().all()
            allowed = [text for text in labels if Label.parse(text).flows_to(clearance)]
            query = select(db.feedback).where(f.label.in_(allowed)).order_by(f.created_at.desc(), f.id)
            rows = connection.execute(query).mappings().all()
            now_is = labels_now(connection, db.feedback, f.id, [row["id"] for row in rows])
        said = [Said(**{**row, "label": join(Label.parse(row["label"]), *now_is.get(row["id"], ()))}) for row in rows]
        return [one for one in said if one.label.flows_to(clearance)][:n]


def _stands(connection: Connection, said: Said, made_from: Sequence[str]) -> bool:
    """Whether the turn still says what `said` quotes of it, and all that it was made from is still kept."""
    answer = connection.execute(select(db.turns.c.answer).where(db.turns.c.id == said.turn)).scalar()
    if answer is None or any(said.body.get(name, answer.get(name)) != answer.get(name) for name in ("answer", "citations")):
        return False
    return not set(made_from) - known(connection, made_from)


def _delete(connection: Connection, *where: ColumnElement[bool]) -> None:
    ids = connection.execute(select(db.feedback.c.id).where(*where)).scalars().all()
    for batch in db.batches(ids):
        connection.execute(db.feedback.delete().where(db.feedback.c.id.in_(batch)))
        connection.execute(db.edges.delete().where(db.edges.c.child.in_(batch)))
        connection.execute(db.nodes.delete().where(db.nodes.c.id.in_(batch)))
