"""Verbs about the documents as a shelf: look through, look at one, compare two versions, add a folder.

Everything that is counted here is counted over what the one who asks may see.
"""

from __future__ import annotations

import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from hagane.core.errors import NotFoundError, UsageError
from hagane.core.labels import Level
from hagane.core.types import Principal
from hagane.ledger.access import can_read, require
from hagane.ledger.records import Brief, Record
from hagane.ledger.uploads import SOURCE, may_remove

from . import documents, work
from .uploads import shown_upload
from .wire import Project

PER_PAGE = 50
STATES = ("in", "duplicate", "aside", "waiting")
FEATURES: Mapping[str, Callable[[Brief], str]] = {
    "state": lambda row: row.state,
    "source": lambda row: row.source,
    "label": lambda row: row.label,
    "kind": lambda row: kind_of(row.media),
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What of the shelf is asked for. Empty: all."""

    text: str = ""  # in path or title; case and width do not matter
    state: str = ""
    source: str = ""
    label: str = ""
    kind: str = ""
    newest: bool = False  # by date of change instead of path
    page: int = 1


def shelf(project: Project, wish: Wish, *, by: Principal, per_page: int = PER_PAGE) -> dict[str, Any]:
    """{"rows", "found", "page", "pages", "choices"}: one page of the documents that `by` may see, and uploads that
    wait to be read. `choices`: {feature: {value: how many}} of all that fits the text."""
    rows = _rows(project, by=by)
    if words := _folded(wish.text).split():
        rows = [row for row in rows if (sought := _folded(f"{row.path} {row.title}")) and all(word in sought for word in words)]
    choices = {name: dict(sorted(Counter(of(row) for row in rows).items())) for name, of in FEATURES.items()}
    for name, of in FEATURES.items():
        if wanted := getattr(wish, name):
            rows = [row for row in rows if of(row) == wanted]
    if wish.newest:
        rows = sorted(rows, key=lambda row: row.changed_at, reverse=True)
    pages = max(1, -(-len(rows) // per_page))
    page = min(max(1, wish.page), pages)
    shown = _shown(project, rows[(page - 1) * per_page : page * per_page], by=by)
    project.ledger.audit.record("list", principal=by.name, what="documents", found=len(rows))
    return {"rows": shown, "found": len(rows), "page": page, "pages": pages, "choices": choices}


def _rows(project: Project, *, by: Principal) -> list[Brief]:
    """Documents, and uploads that no document was made of yet, by path."""
    rows = project.ledger.documents.brief(clearance=by.clearance)
    known = {row.path for row in rows if row.source == SOURCE}
    new = [upload for upload in project.ledger.uploads.list(by=by) if upload.path not in known]
    rows += [Brief("", u.path, SOURCE, u.path.rpartition("/")[2], "waiting", str(u.label), "", None, u.created_at) for u in new]
    return sorted(rows, key=lambda row: (row.path, row.source)) if new else rows


def _shown(project: Project, rows: Sequence[Brief], *, by: Principal) -> list[dict[str, Any]]:
    """What a list tells of each; a copy does not name a twin that `by` may not see."""
    documents = project.ledger.documents
    records = documents.get([row.id for row in rows if row.id], clearance=by.clearance)
    twins = documents.get([r.duplicate_of for r in records.values() if r.duplicate_of], clearance=by.clearance)
    uploads = {upload.path: upload for upload in project.ledger.uploads.list(by=by)} if any(r.source == SOURCE for r in rows) else {}
    told = []
    for row in rows:
        record, upload = records.get(row.id), uploads.get(row.path) if row.source == SOURCE else None
        one = row._asdict() | {"id": row.id or None, "title": row.title or row.path.rpartition("/")[2], "kind": kind_of(row.media), "reason": "", "detail": "", "size": 0, "pages": 0, "chunks": 0}
        if record is not None:
            twin = twins.get(record.duplicate_of or "")
            one |= {"reason": record.reason, "size": record.size, "pages": record.pages, "chunks": record.n_chunks}
            one["detail"] = record.detail if twin or not record.duplicate_of else ""
        elif upload is not None:
            one["size"] = upload.size
        one["upload"] = upload is not None
        one["newer"] = upload is not None and upload.document is None and record is not None  # a new version waits to be read
        told.append(one)
    return told


def one(project: Project, doc: str, *, by: Principal) -> Record:
    """The document with the id `doc`. Raises: NotFoundError, also for what `by` may not see."""
    found = project.ledger.documents.get([doc], clearance=by.clearance).get(doc)
    if found is None:
        raise NotFoundError("no such document", hint="the list of documents shows what there is")
    return found


def relabel(project: Project, doc: str, label: str, *, by: Principal, reason: str) -> dict[str, Any]:
    """As `documents.relabel`, for an id. Nobody labels a thing out of their own sight by mistake: that is refused.
    Raises: NotFoundError, LabelError, UsageError without a reason, RefusedError."""
    record = one(project, doc, by=by)
    require(project.label(label), by, what=f"what carries {project.label(label)}")
    return documents.relabel(project, record.id, label, by=by, reason=reason)


def overview(project: Project, doc: str, *, by: Principal) -> dict[str, Any]:
    """Everything about one document but its text: versions, quality, what was left out, label and wishes for it,
    its parts, and whether it is an upload. `doc` is an id. Raises: NotFoundError, also for what `by` may not see."""
    ledger = project.ledger
    record = one(project, doc, by=by)
    ledger.audit.record("read", principal=by.name, document=record.id)
    twin = ledger.documents.get([record.duplicate_of], clearance=by.clearance) if record.duplicate_of else {}
    uploads = [u for u in ledger.uploads.list(by=by) if u.path == record.path] if record.source == SOURCE else []
    parts = [row for row in ledger.documents.brief(clearance=by.clearance) if row.parent == record.id]
    wishes = [wish for wish in documents.open_requests(project, by=by) if wish["document"] == record.id]
    versions = ledger.documents.versions(record.id, clearance=by.clearance)
    names = ("id", "path", "title", "source", "state", "media", "version", "pages", "n_chars", "n_chunks", "reason", "size",
             "sha256", "lowered", "added_at", "changed_at")  # fmt: skip
    return {name: getattr(record, name) for name in names} | {
        "kind": kind_of(record.media), "label": str(record.label), "source_label": str(record.source_label),
        "mark": str(record.mark) if record.mark else None, "meta": dict(record.meta),
        "detail": record.detail if twin or not record.duplicate_of else "",
        "duplicate_of": {"id": record.duplicate_of, "path": twin[record.duplicate_of].path} if twin else None,
        "quality": record.quality.get("score"), "ocr_confidence": record.quality.get("ocr_confidence"), "left_out": dict(record.quality.get("dropped", {})),
        "versions": [{"id": v.id, "seq": v.seq, "current": v.current, "label": str(v.label), "created_at": v.created_at} for v in versions],
        "parts": [{name: getattr(part, name) for name in ("id", "path", "title", "state", "label")} for part in parts],
        "parent": record.parent if record.parent and ledger.documents.get([record.parent], clearance=by.clearance) else None,
        "requests": wishes, "upload": shown_upload(uploads[0]) if uploads else None,
        "removable": bool(uploads) and may_remove(uploads[0], by),
    }  # fmt: skip


def add_folder(project: Project, path: str, *, by: Principal, label: str | None = None, name: str | None = None) -> dict[str, Any]:
    """Make a folder or file of this machine a source, and have it read. For administrators: it shows what the
    server's account can read. Raises: NotFoundError, UsageError, LabelError, RefusedError, ConfigError, AuditError."""
    if not path.strip() or any(unicodedata.category(c) in ("Cc", "Cs") for c in path):
        raise UsageError("that is no path", hint="write the folder as this machine knows it, for example /srv/規程")
    root = project.source_root(path.strip())
    taken = [project.state, *(project.source_root(source.path).resolve() for source in project.config.sources)]
    try:
        free = root.exists() and not any(root.resolve().is_relative_to(one) for one in taken)
    except (OSError, ValueError, RuntimeError):  # a name too long, a folder that may not be entered, links in a circle
        free = False
    if not free:
        # one answer for all: else it would tell which files lie in a source that `by` may not see
        raise NotFoundError("that cannot become a source", hint="it must exist, and lie in no other source and not in .hagane")
    own = project.label(label) if label else project.label(project.config.labels.default)
    require(own, by, what=f"what carries {own}")
    project.ledger.audit.record("settings", principal=by.name, what="source", label=str(own))
    [added] = documents.add(project, [root], label=str(own), name=name or None)
    return {"source": added, "job": work.submit(project, "sync", {}, by=by)}


def sources(project: Project, *, by: Principal, paths: bool) -> list[dict[str, Any]]:
    """The sources whose label flows to `by`, with how many documents of each `by` may see. `paths`: say where they
    lie, too (for those who build; how this machine is laid out is nobody else's business)."""
    counts = Counter(row.source for row in project.ledger.documents.brief(clearance=by.clearance))
    told = []
    for source in documents.sources_of(project):
        if source.name == SOURCE:
            told.append({"name": SOURCE, "path": "", "label": None, "documents": counts[SOURCE]})
        elif can_read(source.label, by):
            told.append({"name": source.name, "path": str(source.root) if paths else "", "label": str(source.label), "documents": counts[source.name]})
    return told


def labels(project: Project, *, by: Principal) -> dict[str, Any]:
    """The levels and compartments that `by` may give a thing: {"levels", "compartments", "all": whether `by` holds all
    compartments}."""
    clearance = by.clearance
    known = project.config.labels.compartments
    mine = [name for name in known if clearance.all_compartments or name in clearance.compartments]
    return {"levels": [level.word for level in Level if level <= clearance.level], "compartments": mine,
            "all": clearance.all_compartments}  # fmt: skip


@cache
def _kinds() -> list[tuple[str, str]]:
    tree = tomllib.loads(files("hagane.project").joinpath("media_kinds.toml").read_text(encoding="utf-8"))
    return [(beginning, kind) for kind, beginnings in tree.items() for beginning in beginnings]


@cache
def kind_of(media: str) -> str:
    """What a person calls a file of this media type: pdf, word, sheet, ..., other."""
    return next((kind for beginning, kind in _kinds() if media.startswith(beginning)), "other")


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def reading(project: Project, *, by: Principal) -> dict[str, Any]:
    """What is being read now, for the page that watches: {"job": the sync that waits or runs or ended last, or None,
    "waiting": uploads of which nothing was read yet}."""
    syncs = [job for job in work.jobs(project, by=by, limit=20) if job["kind"] == "sync"]
    running = [job for job in syncs if job["state"] in ("running", "waiting")]
    waiting = sum(1 for upload in project.ledger.uploads.list(by=by) if upload.document is None)
    return {"job": (running or syncs or [None])[0], "waiting": waiting, "under_way": bool(running)}
