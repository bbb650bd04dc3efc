"""The graph of what was made from what: documents and versions at the roots, steps and their outputs above.

An edge says that `child` was made from `parent`. Chunks have no rows: a chunk's id begins with its
version's id, up to the first ":" or "#". Everything derived carries the join of its ancestors' labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, literal, select

from ..core.errors import NotFoundError
from ..core.labels import Label, join
from . import db


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What left with its last parent, and what stays because it has others."""

    steps: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()  # those of `steps` whose output lies in the outputs store
    touched: tuple[str, ...] = ()


class Lineage:
    """Read and extend the graph."""

    def __init__(self, database: db.Database) -> None:
        self._db = database

    def link(self, children: Iterable[tuple[str, Sequence[str]]]) -> None:
        """Record (child, its parents) for many children in one commit; known edges change nothing."""
        with self._db.writing() as connection:
            link(connection, children)

    def declare(self, id: str, label: Label) -> None:
        """Give a root that is no document (a model file, a question) its label."""
        with self._db.writing() as connection:
            db.upsert(connection, db.nodes, [{"id": id, "label": str(label)}])

    def parents(self, id: str) -> list[str]:
        with self._db.reading() as connection:
            return sorted(_step(connection, {owner(id)}, up=True))

    def children(self, id: str) -> list[str]:
        with self._db.reading() as connection:
            return sorted(_step(connection, {owner(id)}, up=False))

    def ancestors(self, id: str) -> set[str]:
        """Everything that `id` was made from, without itself."""
        with self._db.reading() as connection:
            return _reach(connection, {owner(id)}, up=True)

    def descendants(self, id: str) -> set[str]:
        """Everything that was made from `id`, without itself; of a document that begins with its versions."""
        with self._db.reading() as connection:
            versions = connection.execute(select(db.versions.c.id).where(db.versions.c.document == id)).scalars().all()
            start = {owner(id), *versions}
            return (start | _reach(connection, start, up=False)) - {id, owner(id)}

    def label_of(self, id: str) -> Label:
        """The join of the labels of everything that `id` was made from (and its own, if it has one).
        Raises: NotFoundError when something among them has no known label: unknown means no."""
        return self.label_of_all([id])

    def label_of_all(self, ids: Iterable[str]) -> Label:
        """The join of `label_of` over `ids`; of none, public."""
        with self._db.reading() as connection:
            start = {owner(id) for id in ids}
            everything = start | _reach(connection, start, up=True)
            labels = _labels(connection, everything)
            inner = _with_parents(connection, everything)
        unknown = everything - labels.keys() - inner
        if unknown:
            raise NotFoundError(f"{len(unknown)} ancestors have no known label", hint="run hagane sync")
        return join(*labels.values())


def owner(id: str) -> str:
    """The id in the graph that stands for `id`: a chunk's version, else itself."""
    return re.split("[:#]", id, maxsplit=1)[0]


def label_known(connection: Connection, id: str) -> Label | None:
    """The join of the labels of a node and of all that it was made from, as far as they are known; None without a node."""
    if connection.execute(select(db.nodes.c.id).where(db.nodes.c.id == id)).first() is None:
        return None
    above = select(literal(id).label("id")).cte("above", recursive=True)
    above = above.union(select(db.edges.c.parent).join(above, db.edges.c.child == above.c.id))
    found: set[str] = set()
    for table in (db.documents, db.versions, db.nodes):  # all that the ledger knows of: one query each, however many
        found |= set(connection.execute(select(table.c.label).distinct().join(above, table.c.id == above.c.id)).scalars())
    return join(*(Label.parse(text) for text in found))


def link(connection: Connection, children: Iterable[tuple[str, Sequence[str]]]) -> None:
    """As `Lineage.link`, within a transaction."""
    pairs = {(child, owner(parent)) for child, parents in children for parent in parents}
    db.insert_new(connection, db.edges, [{"child": child, "parent": parent} for child, parent in sorted(pairs)])


def forget(connection: Connection, ids: Sequence[str]) -> Forgotten:
    """Take `ids` out of the graph. What has no other parent goes with them; what has others stays, keeps
    the label that it had from them, and is named in `touched`."""
    leaving = set(ids)
    touched: set[str] = set()
    wave = set(ids)
    while wave:
        children = _step(connection, wave, up=False) - leaving
        alone = children - {child for child, parent in _edges_up(connection, children) if parent not in leaving}
        touched |= children - alone
        leaving |= alone
        wave = alone
    touched -= leaving
    _keep_labels(connection, touched, leaving)
    e, s = db.edges.c, db.steps.c
    steps: list[str] = []
    stored: list[str] = []
    for batch in db.batches(sorted(leaving)):
        for id, is_stored in connection.execute(select(s.id, s.stored).where(s.id.in_(batch))):
            steps.append(id)
            stored += [id] if is_stored else []
        connection.execute(db.steps.delete().where(s.id.in_(batch)))
        connection.execute(db.edges.delete().where(e.child.in_(batch)))
        connection.execute(db.edges.delete().where(e.parent.in_(batch)))
        connection.execute(db.nodes.delete().where(db.nodes.c.id.in_(batch)))
    return Forgotten(tuple(steps), tuple(stored), tuple(sorted(touched)))


def _keep_labels(connection: Connection, touched: set[str], leaving: set[str]) -> None:
    rows = []
    for child in sorted(touched):
        own = _labels(connection, {child})
        lost = _labels(connection, {child} | (_reach(connection, {child}, up=True) & leaving))
        if lost:
            rows.append({"id": child, "label": str(join(*own.values(), *lost.values()))})
    db.upsert(connection, db.nodes, rows)


def _step(connection: Connection, ids: set[str], *, up: bool) -> set[str]:
    have, want = (db.edges.c.child, db.edges.c.parent) if up else (db.edges.c.parent, db.edges.c.child)
    found: set[str] = set()
    for batch in db.batches(sorted(ids)):
        found |= set(connection.execute(select(want).where(have.in_(batch))).scalars())
    return found


def _edges_up(connection: Connection, children: set[str]) -> list[tuple[str, str]]:
    e = db.edges.c
    found: list[tuple[str, str]] = []
    for batch in db.batches(sorted(children)):
        found += [
            (row.child, row.parent) for row in connection.execute(select(e.child, e.parent).where(e.child.in_(batch)))
        ]
    return found


def _reach(connection: Connection, start: set[str], *, up: bool) -> set[str]:
    seen = set(start)
    wave = set(start)
    while wave:
        wave = _step(connection, wave, up=up) - seen
        seen |= wave
    return seen - start


def _with_parents(connection: Connection, ids: set[str]) -> set[str]:
    found: set[str] = set()
    for batch in db.batches(sorted(ids)):
        found |= set(connection.execute(select(db.edges.c.child).where(db.edges.c.child.in_(batch))).scalars())
    return found


def _labels(connection: Connection, ids: set[str]) -> dict[str, Label]:
    found: dict[str, Label] = {}
    for table in (db.documents, db.versions, db.nodes):
        for batch in db.batches(sorted(ids)):
            for id, text in connection.execute(select(table.c.id, table.c.label).where(table.c.id.in_(batch))):
                found[id] = found.get(id, Label.parse(text)).join(Label.parse(text))
    return found
