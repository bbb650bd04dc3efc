"""Work as recorded steps: equal steps are reused, an interrupted one leaves nothing and is done again.

A step's id is the sha256 of its name, its code version, its config and the ids of its inputs. The code
version is an integer on the function; golden tests fail when an output changes without it. An input may
be the sha256 of bytes: it counts for the id, but is no edge, since bytes have no label (documents have).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Connection, select

from ..core.errors import NotFoundError
from . import db
from .blobs import KeyedStore
from .lineage import forget, link
from .records import now

P = ParamSpec("P")
R = TypeVar("R")
_SHA256 = re.compile("[0-9a-f]{64}")

SMALL_BYTES = 16_384  # larger outputs go to a file of their own: the ledger stays small and quick to purge


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step, to be recorded with others in one commit."""

    name: str
    version: int
    inputs: Sequence[str]
    config: Mapping[str, Any] = field(default_factory=dict)
    output: Any = None  # JSON

    @property
    def id(self) -> str:
        return step_id(self.name, self.version, self.config, self.inputs)


def canonical(value: Any) -> str:
    """JSON with one spelling per value. Raises: TypeError, ValueError for what is not JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def step_id(name: str, version: int, config: Mapping[str, Any], inputs: Iterable[str]) -> str:
    """The id of a step: 64 hex digits. The order of `inputs` does not matter."""
    return hashlib.sha256(canonical([name, version, dict(config), sorted(inputs)]).encode()).hexdigest()


def step(name: str, *, version: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Name a function's work and its code version; the function itself stays as it is.
    `Steps.call` records calls of it; golden tests read `function.step`."""

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        function.step = (name, version)  # type: ignore[attr-defined]
        return function

    return mark


class Steps:
    """The record of work done."""

    def __init__(self, database: db.Database, outputs: KeyedStore) -> None:
        self._db = database
        self._outputs = outputs

    def run(
        self, name: str, version: int, config: Mapping[str, Any], inputs: Sequence[str], work: Callable[[], Any]
    ) -> Any:
        """The output (JSON) of the step: of an earlier equal one, or of `work()`, which is then recorded."""
        id = step_id(name, version, config, inputs)
        try:
            return self.output(id)
        except NotFoundError:
            pass
        done = Done(name, version, inputs, config, json.loads(canonical(work())))
        self.record([done])
        return done.output

    def call(self, function: Callable[..., R], *given: Any, config: Mapping[str, Any], inputs: Sequence[str]) -> R:
        """`run` for a function marked with `@step`, called with `given`."""
        name, version = function.step  # type: ignore[attr-defined]
        return self.run(name, version, config, inputs, lambda: function(*given))

    def output(self, id: str) -> Any:
        """What a recorded step gave. Raises: NotFoundError when it was not recorded."""
        s = db.steps.c
        with self._db.reading() as connection:
            row = connection.execute(select(s.output, s.stored).where(s.id == id)).first()
        if row is None:
            raise NotFoundError(f"step {id[:12]} was not done")
        return json.loads(self._outputs.get(id)) if row.stored else row.output

    def done(self, ids: Iterable[str]) -> set[str]:
        """Those of `ids` that are recorded."""
        found: set[str] = set()
        with self._db.reading() as connection:
            for batch in db.batches(sorted(ids)):
                found |= set(connection.execute(select(db.steps.c.id).where(db.steps.c.id.in_(batch))).scalars())
        return found

    def record(self, steps: Sequence[Done]) -> None:
        """Record finished steps with their edges in one durable commit (about 4 ms however many)."""
        for done in steps:
            if _large(done.output):
                self._outputs.put(done.id, canonical(done.output).encode())
        with self._db.writing() as connection:
            _write(connection, steps)

    def forget(self, ids: Sequence[str]) -> None:
        """Take steps out, so that they will be done again (with what was made of them alone)."""
        with self._db.writing() as connection:
            forgotten = forget(connection, list(ids))
        for id in forgotten.stored:
            self._outputs.delete(id)


def _large(output: Any) -> bool:
    return len(canonical(output)) > SMALL_BYTES


def _write(connection: Connection, steps: Sequence[Done]) -> None:
    at = now()
    rows = []
    for done in steps:
        stored = _large(done.output)
        rows.append(
            {
                "id": done.id,
                "name": done.name,
                "version": done.version,
                "output": None if stored else done.output,
                "stored": stored,
                "created_at": at,
            }
        )
    db.insert_new(connection, db.steps, rows)
    inputs = {id for done in steps for id in done.inputs}
    digests = {id for id in inputs if _SHA256.fullmatch(id)}
    for batch in db.batches(sorted(digests)):
        digests -= set(connection.execute(select(db.steps.c.id).where(db.steps.c.id.in_(batch))).scalars())
    link(connection, [(done.id, [id for id in done.inputs if id not in digests]) for done in steps])
