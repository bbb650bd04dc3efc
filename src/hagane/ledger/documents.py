"""The documents of a project: written in groups, read only within a clearance."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam, func, select, update

from ..core.errors import NotFoundError
from ..core.labels import PUBLIC, Clearance, Label
from ..core.text import folded_path
from . import db
from .blobs import FileBlobs, KeyedStore
from .conversations import erase_answers
from .lineage import forget
from .records import (
    Brief,
    Deleted,
    Draft,
    Record,
    State,
    Stored,
    Version,
    document_id,
    effective,
    now,
    record_of,
    row_of,
    unlowered,
    version_of,
)

if TYPE_CHECKING:
    from .keys import Keys

Row = dict[str, Any]


class Documents:
    """Reading takes a clearance; what is above it does not exist. The methods called `every_...` are the
    exception: they are for ingestion, which works for the project and not for a person."""

    def __init__(
        self, database: db.Database, blobs: FileBlobs, parsed: KeyedStore, outputs: KeyedStore, *, keys: Keys | None = None
    ) -> None:
        self._db = database
        self._blobs = blobs
        self._parsed = parsed
        self._outputs = outputs
        self._keys = keys

    # --- reading, within a clearance

    def list(self, *, clearance: Clearance, state: State | None = None, source: str | None = None) -> list[Record]:
        """All documents whose label flows to `clearance`, by path."""
        with self._db.reading() as connection:
            where = [readable(connection, db.documents, clearance), *_narrow(state, source)]
            return _records(connection, *where)

    def brief(self, *, clearance: Clearance) -> list[Brief]:
        """All documents whose label flows to `clearance`, by path, with what one looks for and no more: whole
        records of thousands of documents take a second."""
        columns = [db.documents.c[name] for name in Brief._fields]
        with self._db.reading() as connection:
            rows = connection.execute(select(*columns).where(readable(connection, db.documents, clearance))).all()
        return sorted((Brief(*row) for row in rows), key=lambda row: (row.path, row.source))

    def get(self, ids: Sequence[str], *, clearance: Clearance) -> dict[str, Record]:
        """The documents of `ids` by id; missing and hidden ones are left out."""
        found: dict[str, Record] = {}
        with self._db.reading() as connection:
            allowed = readable(connection, db.documents, clearance)
            for batch in db.batches(list(ids)):
                found |= {r.id: r for r in _records(connection, db.documents.c.id.in_(batch), allowed)}
        return found

    def find(self, doc: str, *, clearance: Clearance) -> Record:
        """The one document that `doc` names: an id, a path, or the ending of a path.
        Raises: NotFoundError; also when several fit, with the list."""
        wanted = folded_path(doc.strip())
        c = db.documents.c
        with self._db.reading() as connection:  # paths may be sealed, so that SQL cannot look inside them
            allowed = readable(connection, db.documents, clearance)
            paths = {row.id: row.path for row in connection.execute(select(c.id, c.path).where(allowed))}
            ways = (
                [id for id in paths if id == wanted],
                [id for id, path in paths.items() if path == wanted],
                [id for id, path in paths.items() if path.endswith("/" + wanted)],
                [id for id, path in paths.items() if wanted and path.endswith(wanted)],
            )
            chosen = next((way for way in ways if way), [])
            found = _records(connection, c.id.in_(chosen[: db.BATCH]), allowed)
        if not found:
            close = _close(wanted, list(paths.values()))
            hint = f"did you mean {', '.join(close)}?" if close else "hagane docs lists what there is"
            raise NotFoundError(f"no document {doc!r}", hint=hint)
        if len(chosen) > 1:
            lines = "\n".join(f"  {r.id}  {r.path}" for r in found[:20])
            more = f"\n  ... and {len(chosen) - 20} more" if len(chosen) > 20 else ""
            raise NotFoundError(
                f"{doc!r} fits {len(chosen)} documents:\n{lines}{more}", hint="write more of the path, or the id"
            )
        return found[0]

    def versions(self, document: str, *, clearance: Clearance) -> list[Version]:
        """The kept versions of a document, newest first; hidden ones are left out."""
        with self._db.reading() as connection:
            allowed = readable(connection, db.versions, clearance)
            query = select(db.versions).where(db.versions.c.document == document, allowed)
            rows = connection.execute(query.order_by(db.versions.c.seq.desc())).mappings()
            return [version_of(row) for row in rows]

    def version(self, version: str, *, clearance: Clearance) -> Version:
        """One version by id. Raises: NotFoundError when missing or hidden."""
        with self._db.reading() as connection:
            allowed = readable(connection, db.versions, clearance)
            row = connection.execute(select(db.versions).where(db.versions.c.id == version, allowed)).mappings().first()
        if row is None:
            raise NotFoundError(f"no version {version!r}", hint="deleted, no longer kept, or not yours to read")
        return version_of(row)

    def versions_of(self, ids: Sequence[str], *, clearance: Clearance) -> dict[str, Version]:
        """The versions of `ids` by id; missing and hidden ones are left out."""
        found: dict[str, Version] = {}
        with self._db.reading() as connection:
            allowed = readable(connection, db.versions, clearance)
            for batch in db.batches(list(ids)):
                rows = connection.execute(select(db.versions).where(db.versions.c.id.in_(batch), allowed)).mappings()
                found |= {row["id"]: version_of(row) for row in rows}
        return found

    def may_read_whole(self, document: str, *, clearance: Clearance) -> bool:
        """Whether everything inside a container, however deep, flows to `clearance`: only then may its original
        be handed out."""
        with self._db.reading() as connection:
            inside = _by_id(connection, _with_parts(connection, [document]))
        return all(Label.parse(row["label"]).flows_to(clearance) for row in inside.values())

    def counts(self, *, clearance: Clearance) -> dict[str, int]:
        """Documents by state: {"in": 12, "aside": 1, "duplicate": 0}."""
        c = db.documents.c
        with self._db.reading() as connection:
            allowed = readable(connection, db.documents, clearance)
            rows = connection.execute(select(c.state, func.count()).where(allowed).group_by(c.state)).all()
        return {"in": 0, "aside": 0, "duplicate": 0} | dict(tuple(row) for row in rows)

    # --- reading everything: ingestion only

    def every_unfiltered(self, *, source: str | None = None, state: State | None = None) -> Iterator[Record]:
        """All documents whatever their label. For ingestion only; never for anything that a person sees."""
        with self._db.reading() as connection:
            records = _records(connection, *_narrow(state, source))
        yield from records  # outside: an open snapshot would keep deleted rows alive

    def every_by_path(self, source: str) -> dict[str, Record]:
        """The documents of `source` by path, whatever their label. For ingestion only."""
        return {record.path: record for record in self.every_unfiltered(source=source)}

    def every_of(self, ids: Sequence[str]) -> dict[str, Record]:
        """The documents of `ids` by id, whatever their label. For ingestion only."""
        found: dict[str, Record] = {}
        with self._db.reading() as connection:
            for batch in db.batches(list(ids)):
                found |= {record.id: record for record in _records(connection, db.documents.c.id.in_(batch))}
        return found

    def new_ids(self, source: str, paths: Sequence[str], *, free: Collection[str] = ()) -> dict[str, str]:
        """An id for a new document at each of `paths`, none of them taken (those of `free` are about to be
        deleted: so the ids do not depend on whether they are already). Nothing is written."""
        with self._db.reading() as connection:
            query = select(db.documents.c.id).where(db.documents.c.source == source)
            taken = set(connection.execute(query).scalars()) - set(free)
        made: dict[str, str] = {}
        for path in paths:
            n = 0
            while (candidate := document_id(source, path, n)) in taken:
                n += 1
            taken.add(candidate)
            made[path] = candidate
        return made

    def every_n_chunks(self) -> int:
        """Chunks that a complete index holds: those of all documents that are in. For ingestion only."""
        c = db.documents.c
        with self._db.reading() as connection:
            return connection.execute(select(func.coalesce(func.sum(c.n_chunks), 0)).where(c.state == "in")).scalar_one()

    # --- writing

    def put(self, drafts: Sequence[Draft], *, keep: int) -> Stored:
        """Write a group of documents in one durable commit (about 4 ms however many).

        A new `version` makes the one before an old one; of those, the newest `keep` stay, the others and
        their parsed bytes and unreferenced originals are deleted. The label is the ledger's: an existing
        document's source label only rises here, its mark stays or rises to `floor`, a lowering ends with changed content.
        """
        if self._keys is not None:
            self._keys.make([draft.id for draft in drafts])  # one commit, before any row is sealed with them
        with self._db.writing() as connection:
            rows, before = self._rows(connection, drafts)
            moved = [row["id"] for row in rows if row["id"] in before and before[row["id"]]["path"] != row["path"]]
            for batch in db.batches(moved):  # out of the way, so that two documents may swap their paths
                statement = update(db.documents).where(db.documents.c.id.in_(batch))
                connection.execute(statement.values(path=db.documents.c.id))
            db.upsert(connection, db.documents, rows)
            dropped, outputs = _write_versions(connection, rows, before, keep=keep)
            lost = {row["sha256"] for row in dropped}
            lost |= {before[row["id"]]["sha256"] for row in rows if row["id"] in before} - {""}
            lost -= {row["sha256"] for row in rows}
        self._unlink([row["id"] for row in dropped], lost, outputs)
        return Stored(dropped_versions=tuple(row["id"] for row in dropped))

    def _rows(self, connection: Connection, drafts: Sequence[Draft]) -> tuple[list[Row], dict[str, Row]]:
        before = _by_id(connection, [draft.id for draft in drafts])
        missing = [d.parent for d in drafts if d.parent]
        parents = _by_id(connection, missing)
        given: dict[str, Label] = {}
        for draft in drafts:
            given[draft.source] = given.get(draft.source, PUBLIC).join(draft.source_label)
        known = {row.name: Label.parse(row.label) for row in connection.execute(select(db.sources))}
        fresh = [{"name": name, "label": str(label)} for name, label in given.items() if name not in known]
        db.insert_new(connection, db.sources, fresh)
        at = now()
        rows: list[Row] = []
        for draft in drafts:
            row = row_of(draft)
            old = before.get(draft.id)
            source_label = draft.source_label.join(known.get(draft.source, PUBLIC))
            if old is not None:
                source_label = source_label.join(Label.parse(old["source_label"]))
            parent = parents.get(draft.parent or "")
            row |= {
                "source_label": str(source_label),
                "mark": _mark(old, draft.floor),
                "inherited": str(unlowered(parent)) if parent else (old["inherited"] if old else str(PUBLIC)),
                "lowered_to": None,
                "lowered_for": None,
                "index_label": old["index_label"] if old else None,
                "added_at": old["added_at"] if old else at,
                "changed_at": at,
            }
            if old and old["lowered_to"] and old["sha256"] == row["sha256"] and unlowered(row) == unlowered(old):
                row |= {"lowered_to": old["lowered_to"], "lowered_for": old["lowered_for"]}
            if old and old["sha256"] == row["sha256"] and old["version"] == row["version"]:
                row["changed_at"] = old["changed_at"]
            row["label"] = str(effective(row))
            rows.append(row)
            parents[draft.id] = row  # a part may follow its container in the same group
        return rows, before

    def touch(self, places: Mapping[str, tuple[int, int]]) -> None:
        """Note {document: (size, mtime_ns)} of files whose bytes turned out to be the same."""
        rows = [{"b_id": id, "size": size, "mtime_ns": mtime} for id, (size, mtime) in places.items()]
        if rows:
            statement = update(db.documents).where(db.documents.c.id == bindparam("b_id"))
            with self._db.writing() as connection:
                connection.execute(statement, rows)

    def delete(self, ids: Sequence[str]) -> Deleted:
        """Forget documents with all their versions and parts: rows, parsed bytes, unreferenced originals,
        steps that hold nothing else. Call `Ledger.purge` afterwards: only then no byte is left."""
        with self._db.writing() as connection:
            ids = _with_parts(connection, ids)
            c = db.documents.c
            documents = _by_id(connection, ids)
            versions: list[Row] = []
            widowed: list[str] = []
            for batch in db.batches(ids):
                query = select(db.versions).where(db.versions.c.document.in_(batch))
                versions += [dict(row) for row in connection.execute(query).mappings()]
                widowed += connection.execute(select(c.id).where(c.duplicate_of.in_(batch))).scalars()
            erase_answers(connection, [*ids, *(row["id"] for row in versions)])
            forgotten = forget(connection, [*ids, *(row["id"] for row in versions)])
            for batch in db.batches(ids):
                connection.execute(db.documents.delete().where(c.id.in_(batch)))
                connection.execute(db.versions.delete().where(db.versions.c.document.in_(batch)))
                connection.execute(db.requests.delete().where(db.requests.c.document.in_(batch)))
            lost = {row["sha256"] for row in (*documents.values(), *versions)} - {""}
        self._unlink([row["id"] for row in versions], lost, forgotten.stored)
        if self._keys is not None:
            self._keys.drop(ids)
        gone = set(ids)
        return Deleted(
            documents=tuple(id for id in ids if id in documents),
            versions=tuple(row["id"] for row in versions),
            steps=forgotten.steps,
            widowed=tuple(id for id in widowed if id not in gone),
            touched=forgotten.touched,
        )

    def sweep(self) -> int:
        """Delete originals, parsed bytes and outputs that no row knows (left by a crash). Only under the
        writer lock, and not between putting a blob and putting its document. How many went."""
        with self._db.reading() as connection:
            kept = originals(connection)
            versions = set(connection.execute(select(db.versions.c.id)).scalars())
            outputs = set(connection.execute(select(db.steps.c.id).where(db.steps.c.stored)).scalars())
        n = self._parsed.sweep_temporary() + self._outputs.sweep_temporary()
        with self._db.writing():  # uploads place their bytes under this lock
            n += self._blobs.sweep_temporary()
        for store, known in ((self._parsed, versions), (self._outputs, outputs)):
            left = [key for key in store.list() if key not in known]
            store.delete_all(left)
            n += len(left)
        if self._blobs.delete_unless(kept, dry=True):
            with self._db.writing() as connection:  # looked at again under the write lock: uploads come at any time
                n += self._blobs.delete_unless(originals(connection))
        self._sweep_keys(versions, outputs)
        return n

    def _sweep_keys(self, versions: set[str], outputs: set[str]) -> None:
        """Delete keys that nothing uses any more: a crash came between the data and its key."""
        if self._keys is None:
            return
        left = [name for name in self._keys.names("parsed:") if name.partition(":")[2] not in versions]
        left += [name for name in self._keys.names("steps:") if name.partition(":")[2] not in outputs]
        with self._db.writing() as connection:
            known = set(connection.execute(select(db.documents.c.id)).scalars())
            known |= set(connection.execute(select(db.conversations.c.id)).scalars())
            left += [name for prefix in ("d_", "c_") for name in self._keys.names(prefix) if name not in known]
            left += [name for name in self._keys.names("columns:") if name != f"columns:{db.epoch_of(connection)}"]
            left += [name for name in self._keys.names("blob:") if not self._blobs.has_file(name.partition(":")[2])]
            self._keys.drop(left)

    def _unlink(self, versions: Sequence[str], lost: set[str], outputs: Sequence[str]) -> None:
        self._parsed.delete_all(versions)
        if lost:  # under the write lock, or an upload of the same bytes could come between the look and the deed
            with self._db.writing() as connection:
                self._blobs.delete_all(orphans(connection, lost))
        self._outputs.delete_all(outputs)


def readable(connection: Connection, table: Table, clearance: Clearance) -> ColumnElement[bool]:
    """The condition that the label of a row of `table` flows to `clearance`."""
    labels = connection.execute(select(table.c.label).distinct()).scalars()
    return table.c.label.in_([text for text in labels if Label.parse(text).flows_to(clearance)])


def _narrow(state: State | None, source: str | None) -> list[ColumnElement[bool]]:
    where = []
    if state is not None:
        where.append(db.documents.c.state == state)
    if source is not None:
        where.append(db.documents.c.source == source)
    return where


def _close(wanted: str, paths: Sequence[str]) -> list[str]:
    """At most three of `paths` whose file name, or the whole, is most like `wanted`."""
    by_name: dict[str, str] = {path.rpartition("/")[2]: path for path in paths} | {path: path for path in paths}
    return list(dict.fromkeys(by_name[key] for key in difflib.get_close_matches(wanted, by_name, n=3, cutoff=0.5)))


def _mark(old: Row | None, floor: Label | None) -> str | None:
    """A document's own mark: what it has, and never below `floor`."""
    held = old["mark"] if old else None
    if floor is None:
        return held
    return str(floor.join(Label.parse(held)) if held else floor)


def _records(connection: Connection, *where: ColumnElement[bool]) -> list[Record]:
    records = [record_of(row) for row in connection.execute(select(db.documents).where(*where)).mappings()]
    return sorted(records, key=lambda record: (record.path, record.source))  # not in SQL: paths may be sealed


def _by_id(connection: Connection, ids: Sequence[str]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for batch in db.batches(list(ids)):
        query = select(db.documents).where(db.documents.c.id.in_(batch))
        found |= {row["id"]: dict(row) for row in connection.execute(query).mappings()}
    return found


def _with_parts(connection: Connection, ids: Sequence[str]) -> list[str]:
    """`ids` and everything inside them."""
    all_ids = dict.fromkeys(ids)
    level = list(all_ids)
    while level:
        inside: list[str] = []
        for batch in db.batches(level):
            query = select(db.documents.c.id).where(db.documents.c.parent.in_(batch))
            inside += connection.execute(query).scalars()
        level = [id for id in inside if id not in all_ids]
        all_ids |= dict.fromkeys(level)
    return list(all_ids)


def _write_versions(
    connection: Connection, rows: list[Row], before: dict[str, Row], *, keep: int
) -> tuple[list[Row], Sequence[str]]:
    """Make each row's version the current one; the versions (rows) that are no longer kept, and the steps
    whose stored outputs leave with them."""
    v = db.versions.c
    changed = [row for row in rows if before.get(row["id"], {}).get("version", "") != row["version"]]
    same = [row for row in rows if row["version"] and row not in changed]
    ids = [row["id"] for row in changed]
    seqs: dict[str, int] = {}
    for batch in db.batches(ids):
        connection.execute(update(db.versions).where(v.document.in_(batch)).values(current=False))
        query = select(v.document, func.max(v.seq)).where(v.document.in_(batch)).group_by(v.document)
        seqs |= {row[0]: row[1] for row in connection.execute(query)}
    at = now()
    made = [_version_row(row, seq=seqs.get(row["id"], 0) + 1, at=at) for row in changed if row["version"]]
    db.upsert(connection, db.versions, made)
    for row in same:
        old = before[row["id"]]
        if (old["path"], old["title"], old["label"], old["media"]) != (
            row["path"],
            row["title"],
            row["label"],
            row["media"],
        ):
            values = {name: row[name] for name in ("path", "title", "label", "media")}
            [values] = db.owned(connection, db.versions, [{**values, "document": row["id"]}])
            connection.execute(update(db.versions).where(v.id == row["version"]).values(**values))
    return _drop_old(connection, [id for id in ids if id in before], keep=keep)


def _version_row(row: Row, *, seq: int, at: str) -> Row:
    copied = {name: row[name] for name in ("label", "path", "title", "media", "sha256")}
    return {"id": row["version"], "document": row["id"], "seq": seq, "current": True, "created_at": at, **copied}


def _drop_old(connection: Connection, ids: Sequence[str], *, keep: int) -> tuple[list[Row], Sequence[str]]:
    v = db.versions.c
    dropped: list[Row] = []
    for batch in db.batches(ids):
        query = select(db.versions).where(v.document.in_(batch), v.current.is_(False)).order_by(v.seq.desc())
        seen: dict[str, int] = {}
        for row in connection.execute(query).mappings():
            seen[row["document"]] = seen.get(row["document"], 0) + 1
            if seen[row["document"]] > keep:
                dropped.append(dict(row))
    if not dropped:
        return [], ()
    leaving = [row["id"] for row in dropped]
    forgotten = forget(connection, leaving)
    for batch in db.batches(leaving):
        connection.execute(db.versions.delete().where(v.id.in_(batch)))
    return dropped, forgotten.stored


def originals(connection: Connection) -> set[str]:
    """The sha256 of everything that some row refers to."""
    tables = (db.documents, db.versions, db.uploads)
    return {sha256 for table in tables for sha256 in connection.execute(select(table.c.sha256)).scalars()} - {""}


def orphans(connection: Connection, sha256s: set[str]) -> list[str]:
    """Those of `sha256s` that no document, no version and no upload refers to any more. Whoever deletes them does so
    in the same writing transaction."""
    left = sha256s - {""}
    for table in (db.documents, db.versions, db.uploads):
        for batch in db.batches(sorted(left)):
            used = connection.execute(select(table.c.sha256).where(table.c.sha256.in_(batch))).scalars()
            left = left - set(used)
    return sorted(left)
