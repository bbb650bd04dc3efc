"""What people said of answers: kept whole, with the label of the turn, as candidate examples for datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select

from ..core.labels import Clearance, Label
from . import db
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
        """Store `said`; what the same user said of the same turn with a kind of `instead` leaves."""
        f = db.feedback.c
        with self._db.writing() as connection:
            for kind in instead:
                connection.execute(db.feedback.delete().where(f.turn == said.turn, f.user == said.user, f.kind == kind))
            row = {"id": said.id, "turn": said.turn, "user": said.user, "kind": said.kind, "label": str(said.label)}
            connection.execute(db.feedback.insert().values(**row, body=dict(said.body), created_at=now()))

    def withdraw(self, turn: str, *, user: str, kinds: Sequence[Kind]) -> None:
        """Take back what `user` said of `turn`; fine if there is nothing."""
        f = db.feedback.c
        with self._db.writing() as connection:
            connection.execute(db.feedback.delete().where(f.turn == turn, f.user == user, f.kind.in_(kinds)))

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
        """All feedback whose label flows to `clearance`, newest first; at most `n`."""
        f = db.feedback.c
        with self._db.reading() as connection:
            labels = connection.execute(select(f.label).distinct()).scalars().all()
            allowed = [text for text in labels if Label.parse(text).flows_to(clearance)]
            query = select(db.feedback).where(f.label.in_(allowed)).order_by(f.created_at.desc(), f.id)
            rows = connection.execute(query.limit(n) if n else query).mappings().all()
        return [Said(**{**row, "label": Label.parse(row["label"])}) for row in rows]
