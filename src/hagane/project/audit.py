"""Verbs about the audit log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from hagane.core.errors import AuditError, HaganeError, UsageError
from hagane.core.log import get
from hagane.core.types import Principal
from hagane.ledger import checkpoint as points
from hagane.ledger.audit import newest, records
from hagane.ledger.audit import verify as check
from hagane.ledger.ocsf import event

from .wire import Project

log = get("project.audit")
_MOMENT = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2}(?:\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?)?")


def verify(
    project: Project, *, expect: str | None = None, checkpoints: Path | None = None, key: str | None = None
) -> dict[str, Any]:
    """{"ok", "count", "head", "problems", "notes", "checkpoints": {"count", "last", "key"}} of the project's log.

    `expect` is a head kept elsewhere, `checkpoints` a copy of the checkpoints kept elsewhere, `key` the public key
    (base64) kept elsewhere: without one, the project's own is believed. Raises: AuditError, UsageError.
    """
    folder = project.state / "audit"
    public = points.public_key(key) if key else project.signing_key().public_key()
    good, problems = points.read(folder / points.FILE, public)
    if checkpoints is not None:
        if not checkpoints.exists():
            raise AuditError(f"{checkpoints} does not exist", hint="name the copy that audit.checkpoint wrote")
        other, wrong = points.read(checkpoints, public)
        good, problems = good + other, problems + wrong
    report = check(folder, expect=expect, anchors=lambda chain: [*problems, *points.against(chain, good)])
    last = max(good, key=lambda point: point.count, default=None)
    shown = {"count": len(good), "last": last.count if last else 0, "key": points.public_text(public)}
    told = asdict(report) | {"checkpoints": shown}
    if report.ok and (behind := report.count - shown["last"]) > 0:
        told["notes"] = (*told["notes"], f"{behind} records stand behind the last checkpoint: no signature covers them yet")
    return told


def checkpoint(project: Project) -> dict[str, Any]:
    """Sign the head of the log now. Raises: AuditError."""
    made = project.ledger.audit.anchor_now(project.checkpoints.write)
    return asdict(made) | {"public_key": points.public_text(project.signing_key())}


def anchor(project: Project) -> bool:
    """Sign the head if records came since the last checkpoint; whether it was signed. For acts that end and for the
    clock: what hinders it is logged and hinders nothing else."""
    try:
        if project.ledger.audit.head().count in (0, project.checkpoints.last()):
            return False
        project.ledger.audit.anchor_now(project.checkpoints.write)
        return True
    except (HaganeError, OSError) as error:
        log.warning("not_anchored", error=type(error).__name__)
        return False


def moments(text: str) -> tuple[str, str]:
    """The first moment that `text` (a date, or ISO date and time) means and the first behind it, as records carry
    them: a date is its whole day, 09:30 its minute. Without a zone it is UTC. Raises: UsageError."""
    found = _MOMENT.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        day, minute, second, zone = found.groups()
        at = datetime.fromisoformat(f"{day}T{minute or '00:00'}{second or ''}{zone or 'Z'}").astimezone(UTC)
        fraction = timedelta(milliseconds=1) if second and "." in second else timedelta(seconds=1)
        after = at + (fraction if second else timedelta(minutes=1) if minute else timedelta(days=1))
    except (ValueError, OverflowError) as cause:
        raise UsageError("a time is written as 2026-11-24, 2026-11-24T09:30 or 2026-11-24T09:30+09:00", hint="without a zone it is UTC") from cause
    return _written(at), _written(after)


def _written(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def export(project: Project, *, by: Principal, since: str | None = None) -> Iterator[dict[str, Any]]:
    """Every record, oldest first, as OCSF events; from the ISO time `since` on. Itself an act on record.
    Raises: UsageError for what is no time; AuditError when the chain is broken, before the first event is given."""
    first = moments(since)[0] if since is not None else ""
    report = check(project.state / "audit")
    if not report.ok:
        raise AuditError(f"the audit log is not whole: {report.problems[0]}", hint="hagane audit verify says where")
    project.ledger.audit.record("export", principal=by.name, what="audit", n=report.count, head=report.head)
    for record in islice(records(project.state / "audit"), report.count):
        if record["time"] >= first:
            yield event(record)


def page(
    project: Project, *, by: Principal, n: int = 50, before: int | None = None, act: str | None = None, principal: str | None = None
) -> list[dict[str, Any]]:
    """The newest `n` records, those before number `before`; of one act (or its family, `label`) and one principal.
    The first page is an act on record, the following ones are part of it."""
    if before is None:
        project.ledger.audit.record("list", principal=by.name, what="audit")
    chosen = (
        record
        for record in newest(project.state / "audit", before=before)
        if (not act or record["act"] == act or record["act"].startswith(act + "."))
        and (not principal or record["principal"] == principal)
    )
    return list(islice(chosen, n))
