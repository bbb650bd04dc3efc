"""Counts of what was asked and said, by day: numbers only, never words, ids or people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import func, select

from . import db


@dataclass(frozen=True, slots=True)
class Asked:
    """One answered question, without who and what."""

    at: str
    latency_ms: int
    abstained: bool


class Tally:
    """Counts over all users and labels."""

    def __init__(self, database: db.Database) -> None:
        self._db = database

    def documents(self) -> dict[str, int]:
        """How many documents there are in each state."""
        c = db.documents.c
        with self._db.reading() as connection:
            rows = connection.execute(select(c.state, func.count()).group_by(c.state)).all()
        return {"in": 0, "aside": 0, "duplicate": 0} | {row[0]: row[1] for row in rows}

    def asked(self, *, since: str) -> Iterator[Asked]:
        """Every turn from the time `since` on."""
        t = db.turns.c
        query = select(t.created_at, t.latency_ms, t.answer).where(t.created_at >= since)
        with self._db.reading() as connection:
            for row in connection.execute(query):
                yield Asked(row.created_at, row.latency_ms, bool((row.answer or {}).get("abstained")))

    def said(self, *, since: str) -> list[tuple[str, str]]:
        """(time, kind) of every feedback from the time `since` on."""
        f = db.feedback.c
        with self._db.reading() as connection:
            return [tuple(row) for row in connection.execute(select(f.created_at, f.kind).where(f.created_at >= since))]
