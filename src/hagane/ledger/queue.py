"""Background jobs as rows: what waits, what runs, what became of it. Durable, so that a restart loses none.

One worker at a time takes jobs (it holds the writer lock); any process may add one or cancel one.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, select, update

from ..core.errors import NotFoundError, StateError
from ..core.labels import Clearance, Label
from . import db
from .records import now

KEPT = 200  # ended jobs that stay to be looked at
MOST_STARTS = 8  # a job during which the process died so often is not tried again
OPEN = ("waiting", "running")


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of background work. `progress` is what it told last, and when done what came of it."""

    id: str
    kind: str
    state: str  # waiting, running, done, failed, cancelled
    user: str  # the principal for whom it runs
    label: Label
    args: Mapping[str, Any]
    progress: Mapping[str, Any]
    error: str | None
    created_at: str
    started_at: str | None
    ended_at: str | None


class Queue:
    """The rows of `jobs`."""

    def __init__(self, database: db.Database) -> None:
        self._db = database
        self.added = threading.Event()  # set when this process added one; the worker clears it

    def add(self, kind: str, args: Mapping[str, Any], *, user: str, label: Label) -> str:
        """Its id. One that waits with the same kind, arguments, user and label is the same job."""
        c = db.jobs.c
        same = select(db.jobs).where(c.state == "waiting", c.kind == kind, c.user == user, c.label == str(label))
        with self._db.writing() as connection:
            for row in connection.execute(same.order_by(c.created_at)).mappings():
                if row["args"] == dict(args):
                    return row["id"]
            id = "j_" + secrets.token_hex(8)
            made = {"id": id, "kind": kind, "state": "waiting", "user": user, "label": str(label), "args": dict(args)}
            connection.execute(db.jobs.insert().values(**made, progress={}, created_at=now()))
        self.added.set()
        return id

    def every(self, *, clearance: Clearance, limit: int = KEPT) -> list[Job]:
        """The jobs whose label flows to `clearance`, newest first."""
        c = db.jobs.c
        with self._db.reading() as connection:
            rows = connection.execute(select(db.jobs).order_by(c.created_at.desc(), c.id)).mappings()
            seen = (job for row in rows if (job := _job(row)).label.flows_to(clearance))
            return [job for job, _ in zip(seen, range(limit), strict=False)]

    def get(self, id: str, *, clearance: Clearance) -> Job:
        """Raises: NotFoundError, also for what `clearance` may not see."""
        job = self._read(id)
        if job is None or not job.label.flows_to(clearance):
            raise NotFoundError(f"no job {id!r}")
        return job

    def counts(self) -> dict[str, int]:
        """How many wait and how many run: two numbers, for the health page."""
        c = db.jobs.c
        with self._db.reading() as connection:
            states = connection.execute(select(c.state).where(c.state.in_(OPEN))).scalars().all()
        return {state: states.count(state) for state in OPEN}

    def cancel(self, id: str, *, clearance: Clearance) -> None:
        """A waiting job will not run; a running one ends at its next safe place.
        Raises: NotFoundError; StateError when it has ended."""
        self.get(id, clearance=clearance)
        with self._db.writing() as connection:
            if not _change(connection, id, OPEN, state="cancelled", ended_at=now()):
                raise StateError(f"job {id} has ended already")

    # --- for the one worker

    def take(self, kinds: Collection[str] | None = None) -> Job | None:
        """The job that waits longest, of one of `kinds` (None: of any), now running; None when none waits."""
        c = db.jobs.c
        with self._db.writing() as connection:
            query = select(db.jobs).where(c.state == "waiting").order_by(c.created_at, c.id).limit(1)
            query = query if kinds is None else query.where(c.kind.in_(kinds))
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            values = {"state": "running", "started_at": now(), "progress": {"starts": _starts(row) + 1}}
            _change(connection, row["id"], ("waiting",), **values)
            return _job({**row, **values})

    def is_running(self, id: str) -> bool:
        """False once someone cancelled it."""
        with self._db.reading() as connection:
            return connection.execute(select(db.jobs.c.state).where(db.jobs.c.id == id)).scalar() == "running"

    def tell(self, id: str, progress: Mapping[str, Any]) -> None:
        """Note how far a running job is."""
        with self._db.writing() as connection:
            _change(connection, id, ("running",), progress=dict(progress))

    def end(self, id: str, state: str, *, progress: Mapping[str, Any], error: str | None = None) -> None:
        """Note how a running job ended (a cancelled one stays cancelled), and forget the oldest that ended."""
        c = db.jobs.c
        with self._db.writing() as connection:
            _change(connection, id, ("running",), state=state, error=error, ended_at=now())
            connection.execute(update(db.jobs).where(c.id == id).values(progress=dict(progress)))
            ended = select(c.id).where(c.state.not_in(OPEN)).order_by(c.created_at.desc(), c.id).offset(KEPT)
            for batch in db.batches(connection.execute(ended).scalars().all()):
                connection.execute(db.jobs.delete().where(c.id.in_(batch)))

    def again(self, id: str | None = None) -> None:
        """Running jobs wait again: `id`, whose run was stopped, or (None) all that a dead process left behind.
        One that was left behind too often failed: it may be what killed the process."""
        c = db.jobs.c
        query = select(db.jobs).where(c.state == "running")
        with self._db.writing() as connection:
            for row in connection.execute(query if id is None else query.where(c.id == id)).mappings().all():
                if id is None and _starts(row) >= MOST_STARTS:
                    why = f"the server ended {MOST_STARTS} times while this ran"
                    _change(connection, row["id"], ("running",), state="failed", error=why, ended_at=now())
                else:
                    starts = _starts(row) if id is None else 0
                    _change(connection, row["id"], ("running",), state="waiting", progress={"starts": starts})

    def _read(self, id: str) -> Job | None:
        with self._db.reading() as connection:
            row = connection.execute(select(db.jobs).where(db.jobs.c.id == id)).mappings().first()
        return None if row is None else _job(row)


def _change(connection: Any, id: str, states: tuple[str, ...], **values: Any) -> bool:
    """Whether the job `id` was in one of `states`, and so was changed."""
    c = db.jobs.c
    done: CursorResult[Any] = connection.execute(update(db.jobs).where(c.id == id, c.state.in_(states)).values(**values))
    return done.rowcount > 0


def _starts(row: Mapping[Any, Any]) -> int:
    return int((row["progress"] or {}).get("starts", 0))


def _job(row: Mapping[Any, Any]) -> Job:
    given = {name: row[name] for name in Job.__dataclass_fields__ if name != "label"}
    return Job(**given, label=Label.parse(row["label"]))
