"""Verbs for officers: look through the audit log, decide on lower labels, say why someone sees a thing."""

from __future__ import annotations

from itertools import islice
from typing import Any

from hagane.core.types import Principal
from hagane.ledger.audit import newest

from . import documents
from .audit import moments
from .wire import Project

MOST_LOOKED_AT = 20_000  # records of one request: a rare act in a long log is found in several steps, each fast


def log(
    project: Project, *, by: Principal, n: int = 50, before: int | None = None, act: str = "", principal: str = "",
    since: str = "", until: str = "",
) -> dict[str, Any]:  # fmt: skip
    """{"records", "next"}: the newest records of an act (or its family, `label`), a principal, and a time (ISO, with
    its zone or in UTC; a date is its whole day). `next` is what `before` must be to go on, None at the end. Read from the log's end.
    The first page is an act on record. Raises: UsageError, AuditError."""
    first, end = moments(since)[0] if since else "", moments(until)[1] if until else ""
    if before is None:
        project.ledger.audit.record("list", principal=by.name, what="audit")
    found: list[dict[str, Any]] = []
    looked, last = 0, None
    for record in islice(newest(project.state / "audit", before=before), MOST_LOOKED_AT):
        looked, last = looked + 1, record["seq"]
        if record["time"] < first:
            return {"records": found, "next": None}
        if end and record["time"] >= end:
            continue
        if act and record["act"] != act and not record["act"].startswith(act + "."):
            continue
        if principal and record["principal"] != principal:
            continue
        found.append(record)
        if len(found) == n:
            break
    ended = last is None or last <= 1 or (looked < MOST_LOOKED_AT and len(found) < n)
    return {"records": found, "next": None if ended else last}


def waiting(project: Project, *, by: Principal) -> list[dict[str, Any]]:
    """Wishes for a lower label that wait, with the document's path and title where `by` may see it (a wish about
    anything else is not listed at all). `own`: `by` asked, so somebody else decides."""
    rows = documents.requests(project, by=by)
    known = project.ledger.documents.get([row["document"] for row in rows if row["document"]], clearance=by.clearance)
    told = []
    for row in rows:
        record = known.get(row["document"] or "")
        told.append(row | {"path": record.path if record else None, "title": record.title if record else None, "own": row["requester"] == by.name})
    return told


def approve(project: Project, request: str, *, by: Principal) -> dict[str, Any]:
    """Lower as asked. Raises: NotFoundError, RefusedError for one's own wish, StateError."""
    return documents.approve(project, request, by=by)


def decline(project: Project, request: str, *, by: Principal, reason: str) -> dict[str, Any]:
    """Say no; the label stays. Raises: NotFoundError, StateError, UsageError without a reason."""
    project.require_synced()
    closed = project.ledger.marks.decline(request, by=by, reason=reason)
    return {"request": request, "state": closed.state, "document": closed.document, "source": closed.source}
