"""Verbs about documents: init, add, sync, docs, show, label."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hagane.core.codec import document_from
from hagane.core.config import read_yaml, write_yaml
from hagane.core.errors import ConfigError, NotFoundError, RefusedError, StorageError, UsageError
from hagane.core.labels import EVERYTHING, Label
from hagane.core.machine import cores
from hagane.core.types import Document, Principal
from hagane.core.whole_file import private_folder
from hagane.ledger.access import can_read
from hagane.ledger.marks import LabelChange
from hagane.ledger.records import Record
from hagane.rag.changes import Source
from hagane.rag.ingest import Emit, Ingest, Settings
from hagane.rag.prepare_file import fingerprint
from hagane.rag.report import Report

from .audit import anchor
from .config import FILE, SourceConfig
from .uploads import upload_source
from .wire import Project

LONGEST_NAME = 76  # characters of a folder's name in its source's name; -2, -3 fit behind it
SAMPLE = """\
# Hagane project. Every key, its default and its meaning: docs/reference/config.md
version: 1
labels:
  default: internal        # public < internal < confidential < restricted
  compartments: []         # names such as hr, board; a label is LEVEL or LEVEL:c1+c2
sources: []                # hagane add PATH writes here
principals:
  owner: {clearance: "restricted:*"}
  officer: {clearance: "restricted:*", roles: [officer]}   # approves lower labels that owner asks for: nobody approves their own
  staff: {clearance: internal}
"""


def init(folder: Path) -> Path:
    """Make `folder` a project. It may hold files already. Raises: ConfigError where a project stands."""
    file = folder / FILE
    if file.exists():
        raise ConfigError(f"{file} exists already", hint="this is a project: hagane add PATH, hagane sync")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(SAMPLE, encoding="utf-8")
    except OSError as cause:
        raise ConfigError(f"{folder}: {cause.strerror}", hint="choose a folder that you may write to") from cause
    return file


def add(project: Project, paths: Sequence[Path], *, label: str | None = None, name: str | None = None) -> list[str]:
    """Write `paths` as sources into hagane.yaml (comments kept); their names. The same path again changes
    nothing but its label, if another is given. Raises: NotFoundError, UsageError, LabelError, ConfigError."""
    if name and len(paths) > 1:
        raise UsageError("--name fits one PATH only", hint="add the paths one by one")
    wanted = str(project.label(label)) if label else None
    file = project.folder / FILE
    tree = read_yaml(file)
    sources = tree.get("sources")
    if sources is None:
        tree["sources"] = sources = []
    names, changed = [], False
    known = len(sources)
    roots = {project.source_root(source.path).resolve(): at for at, source in enumerate(project.config.sources)}
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"{path} does not exist", hint="write a file or folder that exists")
        root = path.resolve()
        at = roots.get(root)
        if at is not None:
            names.append(sources[at]["name"])
            if at < known and wanted and wanted != project.config.label_of(project.config.sources[at]):
                sources[at]["label"] = wanted
                changed = True
            continue
        entry = {"name": _free_name(name or _name_of(path), [*(s["name"] for s in sources)], given=bool(name)),
                 "path": _written(root, project.folder)}  # fmt: skip
        if wanted:
            entry["label"] = wanted
        roots[root] = len(sources)
        sources.append(entry)
        names.append(entry["name"])
        changed = True
    if changed:
        _write_yaml(tree, file)
        project.reload()
    return names


def _written(root: Path, folder: Path) -> str:
    """`root` as hagane.yaml names it: as it is on disk, not folded; relative to `folder` if inside it."""
    text = (root.relative_to(folder) if root.is_relative_to(folder) else root).as_posix()
    text = f"./{text}" if text.startswith("~") else text  # not somebody's home
    try:
        text.encode()
    except UnicodeError as cause:
        raise ConfigError(f"{text!r} is not UTF-8, so {FILE} cannot name it",
                          hint="rename it, or add the folder above it") from cause  # fmt: skip
    return text + "/" if root.is_dir() and not text.endswith("/") else text


def _name_of(path: Path) -> str:
    stem = unicodedata.normalize("NFC", path.resolve().name)[:LONGEST_NAME]
    return "".join(c if c.isalnum() or c in " ._-" else "-" for c in stem).strip(" .-") or "files"


def _free_name(wanted: str, taken: Sequence[str], *, given: bool) -> str:
    if wanted not in taken:
        return wanted
    if given:
        raise UsageError(f"a source named {wanted!r} exists already", hint="choose another --name")
    return next(name for n in range(2, len(taken) + 3) if (name := f"{wanted}-{n}") not in taken)


def _write_yaml(tree: Any, file: Path) -> None:
    if tree["sources"] and getattr(tree["sources"], "fa", None) is not None:
        tree["sources"].fa.set_block_style()
    write_yaml(tree, file)


def sources_of(project: Project) -> list[Source]:
    """The sources of hagane.yaml, resolved, and the uploads."""
    return [*(_source(project, source) for source in project.config.sources), *upload_source(project)]


def _source(project: Project, source: SourceConfig) -> Source:
    label = Label.parse(project.config.label_of(source))
    root = project.source_root(source.path)
    return Source(source.name, root, project.folder, label, source.include, source.exclude, source.hidden)


def settings_of(project: Project) -> Settings:
    """What sync needs of hagane.yaml."""
    config = project.config
    how = {
        "clean": config.clean.model_dump(),
        "quality": config.quality.model_dump(),
        "chunk": config.chunk.model_dump(),
        "limits": {"max_file_bytes": config.parse.max_file_mb * 1_000_000},
        "ocr": config.parse.ocr,
    }
    worker = how | {
        "analyzer": config.index.analyzer,
        "blobs": str(project.state / "blobs"),
        "parsed": str(project.state / "parsed"),
        "temporary": str(project.state / "temporary"),
        "mark": fingerprint(how, config.index.analyzer),
    }
    return Settings(
        mark=worker["mark"],
        worker=worker,
        dedup=config.dedup,
        workers=config.parse.workers or cores(),
        time_s=config.parse.time_s,
        ocr_time_s=config.parse.ocr_time_s,
        memory_bytes=config.parse.memory_mb * 1_000_000,
        ocr=config.parse.ocr,
        keep_versions=config.versions.keep,
        max_lost=config.sync.max_lost,
        max_lost_share=config.sync.max_lost_share,
    )


def sync(
    project: Project, *, by: Principal, yes: bool = False, words_only: bool = False, emit: Emit,
    stop: Callable[[], bool] = lambda: False,
) -> Report:  # fmt: skip
    """Bring search up to date with the sources: words first, then vectors unless `words_only`.

    Interrupted at any moment, the next sync goes on. `by` is told neither the paths nor the number of documents
    above the clearance. Once `stop()` is true it ends at the next file or batch of vectors.
    Raises: StateError (another sync runs), StoppedError, StorageError, AuditError.
    """
    sees_all = by.clearance == EVERYTHING
    tell = emit if sees_all else _stages(emit)
    with project.ledger.only_writer():
        _sweep_temporary(project)
        project.ledger.uploads.sweep()
        hidden = [] if sees_all else _hidden(project, by)
        ingest = Ingest(project.ledger, project.index, settings=settings_of(project), emit=tell, stop=stop)
        ingest.report.without_vectors = project.without_vectors
        report = ingest.run(sources_of(project), by=by, yes=yes)
        _forget_datasets(project)
        if not words_only and (not report.complete or project.embedder_changed()):
            _embed(project, ingest)
        emit({"event": "done"})
        anchor(project)
        return report if sees_all else _told(project, ingest, [*hidden, *_hidden(project, by)], by=by)


def _forget_datasets(project: Project) -> None:
    """What was made for training from documents that are gone. Loaded late: most projects train nothing."""
    if (project.state / "datasets").is_dir():
        from .datasets import forget

        forget(project)


def _stages(emit: Emit) -> Emit:
    """Progress for someone who does not see all: each stage once, without paths and numbers."""
    told: set[str] = set()

    def tell(event: Mapping[str, Any]) -> None:
        if event["event"] not in told:
            told.add(event["event"])
            emit({"event": event["event"]})

    return tell


def _hidden(project: Project, by: Principal) -> list[Record]:
    """The documents that `by` may not see."""
    return [record for record in project.ledger.documents.every_unfiltered() if not can_read(record.label, by)]


def _told(project: Project, ingest: Ingest, hidden: Sequence[Record], *, by: Principal) -> Report:
    """The report as `by` may have it: counted over the documents that `by` may see."""
    sources = {name for name, label in ingest.labels.items() if not can_read(label, by)}
    sources |= {record.source for record in hidden if not can_read(record.source_label, by)}
    rows = project.ledger.documents.list(clearance=by.clearance)
    searched = {row.version: row.n_chunks for row in rows if row.state == "in"}
    pending = [chunk for chunk in project.index.pending_vectors() if chunk.rpartition(":")[0] in searched]
    chunks = sum(searched.values())
    return replace(
        ingest.report.without({word for record in hidden for word in (record.id, record.path)}, sources=sources),
        duplicates=sum(row.state == "duplicate" for row in rows), chunks=chunks, vectors=chunks - len(pending),
    )  # fmt: skip


def _embed(project: Project, ingest: Ingest) -> None:
    embedder = project.embedder
    if embedder is None:
        return
    if project.embedder_changed():
        project.index.drop_vectors()
    project.ledger.remember(embedder=embedder.fingerprint)
    ingest.embed(embedder)


def rebuild(project: Project, *, emit: Emit) -> None:
    """The index and its vectors anew from what is parsed. The caller holds the writer lock."""
    ingest = Ingest(project.ledger, project.index, settings=settings_of(project), emit=emit)
    ingest.rebuild()
    _embed(project, ingest)


def _sweep_temporary(project: Project) -> None:
    """Parts that a killed parser left unpacked."""
    folder = project.state / "temporary"
    try:
        private_folder(folder)
        for left in folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
    except OSError as cause:
        raise StorageError(f"{folder}: {cause.strerror}", hint="check space and rights of .hagane") from cause


def docs(project: Project, *, by: Principal) -> list[dict[str, Any]]:
    """All documents that `by` may see, by path: what is in, what was set aside and why."""
    project.require_synced()
    rows = _twins_told(project, project.ledger.documents.list(clearance=by.clearance), by=by)
    project.ledger.audit.record("list", principal=by.name, found=len(rows))
    return [
        {
            "id": r.id, "path": r.path, "source": r.source, "state": r.state, "label": str(r.label), "title": r.title,
            "media": r.media, "version": r.version, "pages": r.pages, "characters": r.n_chars, "chunks": r.n_chunks,
            "reason": r.reason, "detail": r.detail, "duplicate_of": r.duplicate_of, "size": r.size,
            "quality": r.quality.get("score"), "left_out": r.quality.get("dropped", {}), "changed_at": r.changed_at,
        }
        for r in rows
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """A document version as `show` gives it."""

    record: Any
    version: Any
    document: Document
    dropped: dict[int, str]  # block -> why it is not searched
    versions: list[Any]


def show(project: Project, doc: str, *, by: Principal, version: str | None = None) -> Shown:
    """A document as it was read: the current version, or the one of an old citation.
    Raises: NotFoundError, also for what `by` may not see; RefusedError when it was set aside."""
    project.require_synced()
    documents = project.ledger.documents
    [record] = _twins_told(project, [documents.find(doc, clearance=by.clearance)], by=by)
    project.ledger.audit.record("read", principal=by.name, document=record.id, version=version or record.version)
    wanted = version or record.version
    if not wanted:
        raise RefusedError(f"{record.path} was set aside: {record.reason or 'a container'} {record.detail}".rstrip(),
                           hint="hagane docs lists its parts and reasons")  # fmt: skip
    chosen = documents.version(wanted, clearance=by.clearance)
    if chosen.document != record.id:
        raise NotFoundError(f"{record.path} has no version {wanted!r}")
    entry = json.loads(project.ledger.parsed.get(wanted))
    dropped = dict(entry.get("dropped", []))
    return Shown(record, chosen, document_from(entry["document"]), dropped, documents.versions(record.id, clearance=by.clearance))


def report_shown(report: Report) -> dict[str, Any]:
    """What a sync did, as `sync --json` prints it."""
    return {
        "added": report.added,
        "changed": report.changed,
        "renamed": [{"from": old, "to": new} for old, new in report.renamed],
        "removed": report.removed,
        "unchanged": report.unchanged,
        "aside": report.aside,
        "refused": report.refused,
        "label_requests": report.requests,
        "duplicates": report.duplicates,
        "relabelled": report.relabelled,
        "labels_kept": report.kept,
        "chunks": report.chunks,
        "vectors": report.vectors,
        "complete": report.complete,
    }


def relabel(project: Project, doc: str, label: str, *, by: Principal, reason: str) -> dict[str, Any]:
    """Give a document a label. Raising applies at once; lowering waits for `approve` by someone else."""
    project.require_synced()
    to = project.label(label)
    record = project.ledger.documents.find(doc, clearance=by.clearance)
    change = _changed(project, lambda: project.ledger.marks.label(record.id, to, by=by, reason=reason), by=by)
    request = change.request.id if change.request else None
    return {"document": record.id, "path": record.path, "before": str(change.before), "after": str(change.after),
            "to": str(to), "request": request}  # fmt: skip


def approve(project: Project, request: str, *, by: Principal) -> dict[str, Any]:
    """Approve a lowering that another principal asked for."""
    project.require_synced()
    change = _changed(project, lambda: project.ledger.marks.approve(request, by=by), by=by)
    seen = project.ledger.documents.get(list(change.documents), clearance=by.clearance)
    return {"request": request, "before": str(change.before), "after": str(change.after), "documents": sorted(seen)}


def _changed(project: Project, change: Callable[[], LabelChange], *, by: Principal) -> LabelChange:
    """Change labels and tell the index. Where a sync runs meanwhile the change counts at once all the same (the
    ledger has the last word on every search); the index learns it when that sync has ended.
    Raises: Busy, before anything changed, where nobody would tell the index."""
    ledger = project.ledger
    with ledger.writer.if_free("label") as free:
        if free:
            done = change()
            settle(project)
            return done
    if not ledger.writer.is_kept and ledger.writer.waits is None:
        with ledger.only_writer("label"):  # raises
            done = change()
            settle(project)
            return done
    done = change()
    if ledger.writer.is_kept:  # a server: its worker settles behind the sync that runs
        ledger.queue.add("settle", {}, user=by.name, label=Label.parse("restricted"))
        return done
    with ledger.only_writer("label"):
        settle(project)
    return done


def requests(project: Project, *, by: Principal) -> list[dict[str, Any]]:
    """Lowerings that wait for approval. On record."""
    found = open_requests(project, by=by)
    project.ledger.audit.record("list", principal=by.name, what="label_requests", found=len(found))
    return found


def open_requests(project: Project, *, by: Principal) -> list[dict[str, Any]]:
    """As `requests`, as a part of what is on record already."""
    project.require_synced()
    rows = project.ledger.marks.open_requests(by=by)
    return [asdict(row) | {"before": str(row.before), "to": str(row.to)} for row in rows]


def settle(project: Project) -> None:
    """Tell the index the labels that it does not know yet; copies that they uncover are searchable at once."""
    Ingest(project.ledger, project.index, settings=settings_of(project), emit=lambda event: None).settle()


def _twins_told(project: Project, records: Sequence[Record], *, by: Principal) -> list[Record]:
    """`records`, silent about the twin of a copy where `by` may not see that twin."""
    twins = [r.duplicate_of for r in records if r.duplicate_of]
    seen = project.ledger.documents.get(twins, clearance=by.clearance)
    return [replace(r, duplicate_of=None, detail="") if r.duplicate_of and r.duplicate_of not in seen else r for r in records]
