"""Labels change: raising applies at once; lowering is a request that a second principal approves.

Every change is written to the audit log before it is committed: no record, no change. Whoever changes
labels must tell the index; `unsettled` says what the index does not know yet, also after a crash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, or_, select, update

from ..core.errors import NotFoundError, RefusedError, StateError, UsageError
from ..core.labels import Clearance, Label
from ..core.seams import Auditor
from ..core.types import Principal
from . import db
from .records import effective, now, unlowered

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """A wish to lower a document's label (or a source's), waiting for a second principal."""

    id: str
    document: str | None
    source: str | None
    before: Label
    to: Label
    reason: str
    requester: str
    requested_at: str
    state: str  # open, approved, withdrawn
    approver: str | None = None


@dataclass(frozen=True, slots=True)
class LabelChange:
    """What became of a wish: applied at once (`request` is None), or waiting as `request`.
    `documents` are those whose label changed; the index must be told (`Marks.unsettled`)."""

    before: Label
    after: Label
    request: LabelRequest | None = None
    documents: tuple[str, ...] = ()


class Marks:
    """All changes of labels."""

    def __init__(self, database: db.Database, auditor: Auditor) -> None:
        self._db = database
        self._auditor = auditor

    def label(self, document: str, to: Label, *, by: Principal, reason: str) -> LabelChange:
        """Give a document the label `to`. Raising (or keeping) applies at once and becomes its own mark;
        whatever shows something to someone new becomes a request. `document` is an id.
        Raises: NotFoundError when missing or above `by`; UsageError without a reason."""
        reason = _reason(reason)
        with self._db.writing() as connection:
            row = _readable(connection, document, by)
            before = Label.parse(row["label"])
            if to.lowers(before):
                request = self._request(connection, row, None, before, to, by, reason)
                return LabelChange(before, before, request)
            mark = Label.parse(row["mark"]).join(to) if row["mark"] else to
            raised = {**row, "mark": str(mark), "lowered_to": None, "lowered_for": None}
            after = effective(raised)  # may be above `to`: an older mark counts again when a lowering ends
            changed = apply_labels(connection, [raised])
            _close_requests(connection, document)
            self._auditor.record(
                "label.raise",
                principal=by.name,
                document=document,
                before=str(before),
                after=str(after),
                reason=self._auditor.digest(reason),
            )
        return LabelChange(before, after, None, changed)

    def request_lowering(self, document: str, to: Label, *, by: Principal, reason: str) -> LabelRequest:
        """Ask that a document's label become `to`. Raises: NotFoundError; UsageError when that lowers nothing."""
        reason = _reason(reason)
        with self._db.writing() as connection:
            row = _readable(connection, document, by)
            before = Label.parse(row["label"])
            if not to.lowers(before):
                raise UsageError(f"{to} does not lower {before}", hint="raising needs no request")
            return self._request(connection, row, None, before, to, by, reason)

    def source(self, name: str, wanted: Label, *, by: str = "owner") -> Label:
        """The label that source `name` gives, now that hagane.yaml says `wanted`. A raise is applied to all
        its documents at once; a lowering is not (unless the source has no documents): the label that counts is
        returned, and lowering it takes `request_source_lowering`."""
        with self._db.writing() as connection:
            held = connection.execute(select(db.sources.c.label).where(db.sources.c.name == name)).scalar()
            if held is None:
                db.insert_new(connection, db.sources, [{"name": name, "label": str(wanted)}])
                return wanted
            d = db.documents.c
            empty = connection.execute(select(d.id).where(d.source == name).limit(1)).first() is None
            counts = wanted if empty else wanted.join(Label.parse(held))
            if str(counts) != held:
                self._set_source(connection, name, counts)
                self._auditor.record("label.source", principal=by, source=name, before=held, after=str(counts))
        return counts

    def request_source_lowering(self, name: str, to: Label, *, by: Principal, reason: str) -> LabelRequest:
        """Ask that source `name` give the label `to` from now on. Raises: NotFoundError, UsageError."""
        reason = _reason(reason)
        with self._db.writing() as connection:
            held = connection.execute(select(db.sources.c.label).where(db.sources.c.name == name)).scalar()
            if held is None or not Label.parse(held).flows_to(by.clearance):
                raise NotFoundError(f"no source {name!r}")
            if not to.lowers(Label.parse(held)):
                raise UsageError(f"{to} does not lower {held}", hint="write it into hagane.yaml and sync")
            return self._request(connection, None, name, Label.parse(held), to, by, reason)

    def open_requests(self, *, by: Principal) -> list[LabelRequest]:
        """Requests that wait, oldest first; those about labels above `by` are left out."""
        r = db.requests.c
        with self._db.reading() as connection:
            query = select(db.requests).where(r.state == "open").order_by(r.requested_at, r.id)
            rows = [dict(row) for row in connection.execute(query).mappings()]
            kept = []
            for row in rows:
                if Label.parse(_current_label(connection, row)).flows_to(by.clearance):
                    kept.append(_request_of(row))
        return kept

    def approve(self, request: str, *, by: Principal) -> LabelChange:
        """Lower as asked. Raises: RefusedError when `by` asked for it or may not read the document;
        StateError when the request is closed or the content changed since; NotFoundError."""
        r = db.requests.c
        with self._db.writing() as connection:
            row = connection.execute(select(db.requests).where(r.id == request)).mappings().first()
            current = _current_label(connection, dict(row)) if row else ""
            if row is None or not current or not Label.parse(current).flows_to(by.clearance):
                raise NotFoundError(f"no request {request!r}", hint="hagane label list shows what waits")
            if row["state"] != "open":
                raise StateError(f"request {request} is {row['state']} already")
            if row["requester"] == by.name:
                raise RefusedError(
                    f"{by.name} asked for this and cannot approve it", hint="another principal must: --as NAME"
                )
            before, to = Label.parse(current), Label.parse(row["to"])
            if row["document"]:
                changed = self._lower_document(connection, dict(row))
            else:
                changed = self._set_source(connection, row["source"], to)
            closed = {"state": "approved", "approver": by.name, "closed_at": now()}
            connection.execute(update(db.requests).where(r.id == request).values(**closed))
            self._auditor.record(
                "label.approve",
                principal=by.name,
                request=request,
                requester=row["requester"],
                document=row["document"],
                source=row["source"],
                before=str(before),
                after=str(to),
            )
        return LabelChange(before, to, None, changed)

    def decline(self, request: str, *, by: Principal, reason: str) -> LabelRequest:
        """Say no to a request; the label stays. The one who asked may take it back so.
        Raises: NotFoundError, also above `by`; StateError when it is closed; UsageError without a reason."""
        reason = _reason(reason)
        r = db.requests.c
        with self._db.writing() as connection:
            row = connection.execute(select(db.requests).where(r.id == request)).mappings().first()
            current = _current_label(connection, dict(row)) if row else ""
            if row is None or not current or not Label.parse(current).flows_to(by.clearance):
                raise NotFoundError(f"no request {request!r}", hint="hagane label list shows what waits")
            if row["state"] != "open":
                raise StateError(f"request {request} is {row['state']} already")
            closed = {"state": "withdrawn", "approver": by.name, "closed_at": now()}
            connection.execute(update(db.requests).where(r.id == request).values(**closed))
            self._auditor.record(
                "label.decline", principal=by.name, request=request, requester=row["requester"], document=row["document"],
                source=row["source"], reason=self._auditor.digest(reason),
            )  # fmt: skip
        return _request_of({**row, **closed})

    def _lower_document(self, connection: Connection, request: Row) -> tuple[str, ...]:
        query = select(db.documents).where(db.documents.c.id == request["document"])
        document = dict(connection.execute(query).mappings().one())
        if document["sha256"] != request["sha256"] or document["label"] != request["before"]:
            raise StateError(
                f"the document changed since request {request['id']}",
                hint="look at it again and ask anew: hagane label",
            )
        lowered = {"lowered_to": request["to"], "lowered_for": document["sha256"]}
        return apply_labels(connection, [{**document, **lowered}])

    def _set_source(self, connection: Connection, name: str, label: Label) -> tuple[str, ...]:
        """Give all documents of a source this label; a raise ends what had been lowered."""
        held = connection.execute(select(db.sources.c.label).where(db.sources.c.name == name)).scalar_one()
        connection.execute(update(db.sources).where(db.sources.c.name == name).values(label=str(label)))
        rows = connection.execute(select(db.documents).where(db.documents.c.source == name)).mappings()
        raises = not label.flows_to(Label.parse(held))
        ends = {"lowered_to": None, "lowered_for": None} if raises else {}
        return apply_labels(connection, [{**row, "source_label": str(label), **ends} for row in rows])

    def _request(
        self,
        connection: Connection,
        row: Row | None,
        source: str | None,
        before: Label,
        to: Label,
        by: Principal,
        reason: str,
    ) -> LabelRequest:
        document = row["id"] if row else None
        at = now()
        id = "r_" + hashlib.sha256(f"{document}\0{source}\0{to}\0{by.name}\0{at}".encode()).hexdigest()[:10]
        made = {
            "id": id,
            "document": document,
            "source": source,
            "sha256": row["sha256"] if row else "",
            "before": str(before),
            "to": str(to),
            "reason": reason,
            "requester": by.name,
            "requested_at": at,
            "state": "open",
            "approver": None,
            "closed_at": None,
        }
        connection.execute(db.requests.insert(), db.owned(connection, db.requests, [made]))
        self._auditor.record(
            "label.request",
            principal=by.name,
            request=id,
            document=document,
            source=source,
            before=str(before),
            after=str(to),
            reason=self._auditor.digest(reason),
        )
        return _request_of(made)

    def unsettled(self) -> list[tuple[str, Label]]:
        """Documents whose label the index does not know yet: relabel them there, then call `settled`."""
        c = db.documents.c
        with self._db.reading() as connection:
            query = select(c.id, c.label).where(c.state == "in", or_(c.index_label.is_(None), c.index_label != c.label))
            return [(id, Label.parse(text)) for id, text in connection.execute(query.order_by(c.id))]

    def readable(self, documents: Iterable[str], *, clearance: Clearance) -> set[str]:
        """Those of `documents` that `clearance` may see now, and whose label the index knows: what a search found a
        moment ago may have been relabelled since."""
        c = db.documents.c
        found: set[str] = set()
        with self._db.reading() as connection:
            for batch in db.batches(sorted(set(documents))):
                query = select(c.id, c.label).where(c.id.in_(batch), c.label == c.index_label)
                found |= {id for id, text in connection.execute(query) if Label.parse(text).flows_to(clearance)}
        return found

    def settled(self, labels: Iterable[tuple[str, Label]]) -> None:
        """The index knows these (document, label) now."""
        rows = [{"b_id": id, "index_label": str(label)} for id, label in labels]
        if rows:
            with self._db.writing() as connection:
                connection.execute(update(db.documents).where(db.documents.c.id == bindparam("b_id")), rows)


def apply_labels(connection: Connection, rows: Sequence[Row]) -> tuple[str, ...]:
    """Write the label columns of changed documents, of what is inside them and of their versions;
    the ids whose label changed. The current version gets the new label, old ones only stricter ones."""
    changed: list[str] = []
    waiting = list(rows)
    while waiting:
        row = waiting.pop()
        label = effective(row)
        names = ("mark", "source_label", "inherited", "lowered_to", "lowered_for")
        statement = update(db.documents).where(db.documents.c.id == row["id"])
        connection.execute(statement.values(label=str(label), **{name: row[name] for name in names}))
        if str(label) != row["label"]:
            changed.append(row["id"])
        v = db.versions.c
        for version in connection.execute(select(db.versions).where(v.document == row["id"])).mappings().all():
            becomes = (
                label if version["current"] else Label.parse(version["label"]).join(label) if _raises(row) else None
            )
            if becomes is not None:
                connection.execute(update(db.versions).where(v.id == version["id"]).values(label=str(becomes)))
        inside = connection.execute(select(db.documents).where(db.documents.c.parent == row["id"])).mappings().all()
        for part in inside:
            inherited = str(unlowered(row))
            if part["inherited"] != inherited:
                ends = {"lowered_to": None, "lowered_for": None} if _higher(inherited, part["inherited"]) else {}
                waiting.append({**part, "inherited": inherited, **ends})
    return tuple(changed)


def _higher(new: str, old: str) -> bool:
    return not Label.parse(new).flows_to(Label.parse(old))


def _raises(row: Row) -> bool:
    return not effective(row).flows_to(Label.parse(row["label"]))


def _close_requests(connection: Connection, document: str) -> None:
    r = db.requests.c
    statement = update(db.requests).where(r.document == document, r.state == "open")
    connection.execute(statement.values(state="withdrawn", closed_at=now()))


def _readable(connection: Connection, document: str, by: Principal) -> Row:
    row = connection.execute(select(db.documents).where(db.documents.c.id == document)).mappings().first()
    if row is None or not Label.parse(row["label"]).flows_to(by.clearance):
        raise NotFoundError(f"no document {document!r}", hint="hagane docs lists what there is")
    return dict(row)


def _current_label(connection: Connection, request: Row) -> str:
    if request["document"]:
        query = select(db.documents.c.label).where(db.documents.c.id == request["document"])
    else:
        query = select(db.sources.c.label).where(db.sources.c.name == request["source"])
    return connection.execute(query).scalar() or ""


def _request_of(row: Row) -> LabelRequest:
    same = ("id", "document", "source", "reason", "requester", "requested_at", "state", "approver")
    kept = {name: row[name] for name in same}
    return LabelRequest(**kept, before=Label.parse(row["before"]), to=Label.parse(row["to"]))


def _reason(text: str) -> str:
    if not text.strip():
        raise UsageError("a change of label needs a reason", hint='--reason "..."')
    return text.strip()
