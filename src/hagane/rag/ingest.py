"""Sync: what lies in the sources becomes searchable, and what left them is gone, also from the disk.

Order is what makes it safe to stop anywhere (DESIGN 6). Content first (blobs, parsed), then the
ledger's rows, then the index, then the row that says "this file is done". While anything is under way
the ledger remembers `syncing`; a sync that finds it set compares ledger and index and mends.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hagane.core.codec import block_from
from hagane.core.errors import StoppedError, StorageError
from hagane.core.labels import Label
from hagane.core.text import folded_path
from hagane.core.types import Chunk, Principal
from hagane.jobs.local import Failure, WorkerPool
from hagane.ledger.blobs import sync_all
from hagane.ledger.files import Seen
from hagane.ledger.ledger import Ledger
from hagane.ledger.records import Draft, Record
from hagane.ledger.steps import Done
from hagane.prepare.dedup import DedupConfig, Item, cluster

from .changes import Changes, Source, find_changes, floors_of
from .embed import embed_pending
from .prepare_file import CODE_VERSION, part_id
from .report import Report

GROUP_CHUNKS = 1500  # chunks per index commit: 500 doubled the number of fragments, 5,000 held 300 MB
GROUP_FILES = 400

Emit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What sync needs of the configuration, as plain values."""

    mark: str  # fingerprint of how files are prepared
    worker: Mapping[str, Any]  # init of the parser processes
    dedup: DedupConfig
    workers: int
    time_s: float
    ocr_time_s: float
    memory_bytes: int
    ocr: bool
    keep_versions: int
    max_lost: int
    max_lost_share: float


class Ingest:
    """One sync at a time. `index` is a store with the extra methods of `index.lance.LanceIndex`."""

    def __init__(
        self, ledger: Ledger, index: Any, *, settings: Settings, emit: Emit, stop: Callable[[], bool] = lambda: False
    ) -> None:
        self.ledger = ledger
        self.index = index
        self.settings = settings
        self.emit = emit
        self.stop = stop  # asked between files and between batches of vectors
        self.report = Report()
        self.labels: dict[str, Label] = {}  # what counts for each source
        self._floors: dict[str, dict[str, str]] = {}  # source -> path -> label that a new document keeps

    def run(self, sources: Sequence[Source], *, by: Principal, yes: bool) -> Report:
        """Bring words up to date with `sources`. Vectors come with `embed`.
        Raises: StateError when another sync runs; StorageError (disk full) and StoppedError, after which the next
        run goes on."""
        self.emit({"event": "scan"})
        lost = self.index.count()[0] != self.ledger.documents.every_n_chunks()  # someone deleted .hagane/index
        interrupted = lost or bool(self.ledger.fact("syncing"))
        if interrupted:
            self._mend()
        self.labels = labels = {source.name: self._label(source, by=by) for source in sources}
        changes = find_changes(self.ledger, sources, self.settings, yes=yes)
        self.report.refused = changes.refused
        self.report.count("unchanged", changes.unchanged)
        self.ledger.files.put(changes.touched)
        if changes.anything:
            self.ledger.audit.record("sync", principal=by.name, **changes.counts())
        if changes.anything or interrupted or self._has_stranded_copies():
            self._floors = self._keep_labels(changes, labels, by=by)
            self.ledger.remember(syncing=True, floors=self._floors, purging=changes.takes_away or self._purging())
            self._add_floors(sources)
            self._remove(changes)
            self._rename(changes)
            self._prepare(changes, labels)
            self._relabel()
            self._collapse()
            self.index.optimize()
            self.ledger.remember(syncing=False, floors={})
        else:
            self._relabel()
        self._erase()
        self.report.chunks, self.report.vectors = self.index.count()
        return self.report

    def rebuild(self) -> None:
        """The index anew from the parsed bytes, where it was taken away; without a look at the sources."""
        self.ledger.remember(syncing=True)
        self._mend()
        self._relabel()
        self.index.optimize()
        self.ledger.remember(syncing=False)

    def embed(self, embedder: Any) -> None:
        """Give every chunk its vector. Stops anywhere; the next run goes on. Raises: StoppedError."""
        if self.stop():
            raise _stopped()
        for done, waiting in embed_pending(self.index, embedder):
            self.emit({"event": "vectors", "done": done, "total": done + waiting})
            if waiting and self.stop():
                raise _stopped()
        self.report.chunks, self.report.vectors = self.index.count()

    # --- labels

    def _label(self, source: Source, *, by: Principal) -> Label:
        """The label that counts for `source`; a lowering in hagane.yaml waits for a second principal."""
        counts = self.ledger.marks.source(source.name, source.label, by=by.name)
        if not source.label.lowers(counts) or not counts.flows_to(by.clearance):
            return counts
        waiting = [r for r in self.ledger.marks.open_requests(by=by) if r.source == source.name and r.to == source.label]
        request = waiting[0] if waiting else self.ledger.marks.request_source_lowering(
            source.name, source.label, by=by, reason="hagane.yaml gives the source a lower label"
        )  # fmt: skip
        self.report.requests.append({"id": request.id, "source": source.name, "from": str(counts), "to": str(source.label)})
        return counts

    def _relabel(self) -> None:
        """Tell the index every label that it does not know yet."""
        waiting = self.ledger.marks.unsettled()
        self.index.relabel_many(dict(waiting))
        self.ledger.marks.settled(waiting)
        self.report.count("relabelled", [document for document, _ in waiting])

    def _keep_labels(self, changes: Changes, labels: Mapping[str, Label], *, by: Principal) -> dict[str, dict[str, str]]:
        """`floors_of` this run, and of an interrupted one that did not come to write its documents."""
        floors = floors_of(self.ledger, changes, labels)
        for source, kept in floors.items():
            self.ledger.audit.record("label.keep", principal=by.name, source=source, n=len(kept))
            self.report.count("kept", kept)
        for source, kept in (self.ledger.fact("floors") or {}).items():
            mine = floors.setdefault(source, {})
            for path, label in kept.items():
                mine[path] = str(Label.parse(label).join(Label.parse(mine.get(path, label))))
        return floors

    def _add_floors(self, sources: Sequence[Source]) -> None:
        """The labels that the files themselves bring (uploads)."""
        for source in sources:
            mine = self._floors.setdefault(source.name, {})
            for path, label in source.floors.items():
                mine[path] = str(Label.parse(label).join(*([Label.parse(mine[path])] if path in mine else [])))

    # --- leaving

    def _remove(self, changes: Changes) -> None:
        gone = [seen.document for seen in changes.removed]
        documents = [record.id for record in changes.removed_documents]
        if not documents and not gone:
            return
        if documents:
            self.index.delete(documents, purge=False)
            self.ledger.documents.delete(documents)
        self._forget(changes.removed)
        self.report.removed = [record.path for record in changes.removed_documents]

    def _forget(self, rows: Iterable[Seen]) -> None:
        by_source: dict[str, list[str]] = {}
        for seen in rows:
            by_source.setdefault(seen.source, []).append(seen.path)
        for source, paths in by_source.items():
            self.ledger.files.forget(source, paths)

    def _purging(self) -> bool:
        return bool(self.ledger.fact("purging"))

    def _erase(self) -> None:
        """Leave no byte of what was deleted (FACTS: erasure trap); also what an interrupted run deleted."""
        if self.index.remains():
            self.index.compact()
        if self._purging():
            self.ledger.documents.sweep()
            self.ledger.purge()
            self.ledger.remember(purging=False)

    # --- moving

    def _rename(self, changes: Changes) -> None:
        """New paths for the same bytes: nothing is parsed or embedded again."""
        if not changes.renamed:
            return
        by_file = {seen.document: (seen, found) for seen, found in changes.renamed}
        drafts: list[Draft] = []
        for source in {seen.source for seen, _ in changes.renamed}:
            for record in self.ledger.documents.every_unfiltered(source=source):
                owner = record.parent or record.id
                if owner in by_file:
                    seen, found = by_file[owner]
                    path = found.path + record.path.removeprefix(seen.path)
                    drafts.append(draft_of(record, path=path))
                    self.report.renamed.append((record.path, path))
        self.ledger.documents.put(drafts, keep=self.settings.keep_versions)
        self._index([draft.id for draft in drafts if draft.state == "in" and draft.n_chunks])
        self.ledger.files.put(replace(seen, path=found.path, stamp=found.stamp) for seen, found in changes.renamed)
        self._forget(seen for seen, _ in changes.renamed)

    # --- coming

    def _prepare(self, changes: Changes, labels: Mapping[str, Label]) -> None:
        """Parse what is new or changed, in worker processes; commit in groups."""
        waiting = [*changes.added, *changes.changed]
        total = len(waiting)
        # `blob`: an upload. Its bytes are read from the blob store (which decrypts), not from `file`.
        requests = [
            {"file": f.file, "path": f.path, "document": f.document, "source": f.source, "stamp": f.stamp, "blob": f.blob}
            for f in waiting
        ]
        group = _Group(self, labels, {f.document for f in changes.changed})
        needs_ocr: list[dict[str, Any]] = []
        done = 0
        try:
            for request, outcome in self._outcomes(requests, ocr=False):
                if any(aside["reason"] == "needs_ocr" for aside in outcome["asides"]) and self.settings.ocr:
                    needs_ocr.append(dict(request))
                    continue
                group.take(request, outcome)
                done += 1
                self.emit({"event": "words", "done": done, "total": total, "path": request["path"]})
            for request, outcome in self._outcomes(needs_ocr, ocr=True):
                group.take(request, outcome)
                done += 1
                self.emit({"event": "words", "done": done, "total": total, "path": request["path"]})
        except KeyboardInterrupt:  # what is done is kept
            group.commit()
            raise
        if self.stop():
            group.commit()
            raise _stopped()
        group.put_asides(changes.asides)
        group.commit()

    def _outcomes(self, requests: Sequence[dict[str, Any]], *, ocr: bool) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
        """Each request with what became of it; a failed worker is an aside with the reason."""
        if not requests:
            return
        s, keys = self.settings, self.ledger.keys
        pool = WorkerPool(
            "hagane.rag.prepare_file:Prepare",
            n=1 if ocr else min(s.workers, len(requests)),  # one OCR worker: it takes a gigabyte
            time_s=s.ocr_time_s if ocr else s.time_s,
            memory_bytes=s.memory_bytes * (2 if ocr else 1),
            init={**s.worker, "ocr": ocr, "keys": keys.for_workers() if keys else None},  # over the pipe, nowhere else
            threads=s.workers if ocr else 1,
        )
        with pool:
            for request, outcome in pool.map(requests, stop=self.stop):
                if isinstance(outcome, Failure):
                    if outcome.detail.startswith("StorageError"):
                        raise StorageError("a file could not be written", hint="free some space and run hagane sync again; nothing was lost")
                    reason = "damaged" if outcome.reason == "error" else outcome.reason
                    aside = {"name": "", "reason": reason, "detail": outcome.detail}
                    yield request, {"sha256": "", "size": 0, "parts": [], "asides": [aside]}
                else:
                    yield request, outcome

    # --- the index

    def _index(self, ids: Iterable[str]) -> None:
        """(Re)write the index rows of documents from their parsed bytes, under the ledger's labels."""
        chunks: list[Chunk] = []
        tokens: list[list[str]] = []
        settled: list[tuple[str, Label]] = []
        for record in self._records(ids):
            for chunk, terms in load_chunks(self.ledger, record):
                chunks.append(chunk)
                tokens.append(terms)
            settled.append((record.id, record.label))
            if len(chunks) >= GROUP_CHUNKS:
                self.index.add(chunks, tokens)
                chunks, tokens = [], []
        if chunks:
            self.index.add(chunks, tokens)
        self.ledger.marks.settled(settled)

    def _records(self, ids: Iterable[str]) -> list[Record]:
        return list(self.ledger.documents.every_of(list(ids)).values())

    def _collapse(self) -> None:
        """Copies are searched once: a pure function of what is there, so that any order gives the same."""
        records = [r for r in self.ledger.documents.every_unfiltered() if r.state in ("in", "duplicate") and r.n_chunks]
        items = [
            Item(r.id, r.quality["content"], r.label, f"{r.source}\0{r.path}",
                 base64.b64decode(r.quality["signature"]), r.quality["numbers"])
            for r in records
        ]  # fmt: skip
        merged = cluster(items, self.settings.dedup)
        moved: list[Draft] = []
        for record in records:
            twin = merged.get(record.id)
            state, kept = ("duplicate", twin.kept) if twin else ("in", None)
            if (record.state, record.duplicate_of) != (state, kept):
                why = f"{twin.reason} copy, {twin.similarity:.0%} the same" if twin else ""
                moved.append(replace(draft_of(record), state=state, duplicate_of=kept, reason="duplicate" if twin else "", detail=why))
        if moved:
            if copies := [draft.id for draft in moved if draft.state == "duplicate"]:
                self.index.delete(copies, purge=False)
            self.ledger.documents.put(moved, keep=self.settings.keep_versions)
            self._index([draft.id for draft in moved if draft.state == "in"])
        self.report.duplicates = len(merged)

    def settle(self) -> None:
        """Labels changed: the index learns them, and a copy whose twin is no longer for all its readers is searched."""
        self._relabel()
        if self._has_stranded_copies():
            self._collapse()

    def _has_stranded_copies(self) -> bool:
        """Whether a label changed so that someone may see a copy but not the twin that stands for it."""
        copies = list(self.ledger.documents.every_unfiltered(state="duplicate"))
        twins = self.ledger.documents.every_of([copy.duplicate_of or "" for copy in copies])
        return any(
            (twin := twins.get(copy.duplicate_of or "")) is None or not twin.label.flows_to(copy.label) for copy in copies
        )

    def _mend_files(self) -> None:
        """After an interrupted run: each file's row names a document at the same path, and each document has
        its file's row (with an empty stamp where it was missing: the file is looked at anew)."""
        tops = {r.id: r for r in self.ledger.documents.every_unfiltered() if not r.parent}
        rows = [row for source in self.ledger.files.sources() for row in self.ledger.files.every(source).values()]
        wrong = [row for row in rows if row.document not in tops or tops[row.document].path != row.path]
        claimed = {row.document for row in rows}
        right = [replace(row, path=tops[row.document].path) for row in wrong if row.document in tops]
        right += [Seen(r.source, r.path, r.id, "", "", "") for r in tops.values() if r.id not in claimed]
        self._forget(wrong)
        self.ledger.files.put({(row.source, row.path): row for row in right}.values())

    def _mend(self) -> None:
        """After an interrupted run: the index holds exactly the current versions that the ledger has."""
        self.emit({"event": "mend"})
        self._mend_files()
        wanted = {r.id: r for r in self.ledger.documents.every_unfiltered(state="in") if r.n_chunks}
        have: dict[str, Counter[str]] = {}
        for _, document, version, _, _ in self.index.ids():
            have.setdefault(document, Counter())[version] += 1
        wrong = [d for d, versions in have.items() if d not in wanted or dict(versions) != {wanted[d].version: wanted[d].n_chunks}]
        if wrong:
            self.index.delete(wrong, purge=False)
        self._index([d for d in wanted if d not in have or d in wrong])
        self.ledger.documents.sweep()


def _stopped() -> StoppedError:
    return StoppedError("the sync was stopped; what was done is kept", hint="hagane sync goes on")


class _Group:
    """Prepared files on their way into the ledger and the index, a group per commit."""

    def __init__(self, ingest: Ingest, labels: Mapping[str, Label], known: set[str]) -> None:
        self._ingest = ingest
        self._labels = labels
        self._known = known  # files that had documents before
        self._drafts: list[Draft] = []
        self._seen: list[Seen] = []
        self._originals: dict[str, str] = {}  # sha256 -> a file that holds it
        self._steps: list[Done] = []
        self._n_chunks = 0

    def take(self, request: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        """One file's outcome; commits when the group is full."""
        settings, report = self._ingest.settings, self._ingest.report
        made = list(drafts_of(request, outcome, self._labels[request["source"]], settings))
        if floors := self._ingest._floors.get(request["source"]):
            made = [replace(d, floor=Label.parse(label)) if (label := floors.get(folded_path(d.path))) else d for d in made]
        self._drafts += made
        self._n_chunks += sum(draft.n_chunks for draft in made)
        paths = [draft.path for draft in made if draft.state == "in"]
        (report.changed if request["document"] in self._known else report.added).extend(paths)
        report.aside += [
            {"path": draft.path, "reason": draft.reason, "detail": draft.detail} for draft in made if draft.state == "aside"
        ]
        for draft in made:
            if draft.version:
                self._steps.append(
                    Done("prepare", CODE_VERSION, [draft.id, draft.sha256], {"mark": settings.mark}, draft.version)
                )
        if outcome["sha256"]:
            self._originals[outcome["sha256"]] = request["file"]
        self._seen.append(
            Seen(request["source"], request["path"], request["document"], request["stamp"], outcome["sha256"], settings.mark)
        )
        if self._n_chunks >= GROUP_CHUNKS or len(self._seen) >= GROUP_FILES:
            self.commit()

    def commit(self) -> None:
        """Ledger rows, then the index, then the files' rows: each durable before the next."""
        if not self._seen:
            return
        ingest = self._ingest
        sync_all(ingest.ledger.state)  # what the workers wrote, before any row speaks of it
        stale = ingest.ledger.files.documents([seen.document for seen in self._seen])
        fresh = {draft.id for draft in self._drafts}
        if stale:
            ingest.index.delete(stale, purge=False)
            ingest.ledger.documents.delete([id for id in stale if id not in fresh])
        ingest.ledger.documents.put(self._drafts, keep=ingest.settings.keep_versions)
        self._keep_originals()
        ingest.ledger.steps.record(self._steps)
        ingest.ledger.lineage.link([(d.version, [d.id]) for d in self._drafts if d.version])
        ingest._index([draft.id for draft in self._drafts if draft.state == "in" and draft.n_chunks])
        ingest.ledger.files.put(self._seen)
        self._drafts, self._seen, self._steps, self._originals, self._n_chunks = [], [], [], {}, 0

    def _keep_originals(self) -> None:
        """Put back bytes that left with an old version although a file of this group has the same."""
        blobs = self._ingest.ledger.blobs
        for sha256, file in self._originals.items():
            if not blobs.has(sha256):
                with contextlib.suppress(OSError):  # gone or changed meanwhile: the next sync sees it
                    data = Path(file).read_bytes()
                    if hashlib.sha256(data).hexdigest() == sha256:
                        blobs.put(data)

    def put_asides(self, asides: Sequence[tuple[Seen, str, str]]) -> None:
        """Files that the scan found but did not open."""
        for seen, reason, detail in asides:
            request = {"document": seen.document, "path": seen.path, "source": seen.source, "stamp": seen.stamp}
            aside = {"name": "", "reason": reason, "detail": detail}
            self.take(request, {"sha256": "", "size": 0, "parts": [], "asides": [aside]})


def drafts_of(
    request: Mapping[str, Any], outcome: Mapping[str, Any], label: Label, settings: Settings
) -> Iterator[Draft]:
    """The documents that one prepared file becomes: itself, its parts, and what was set aside."""
    file, path, source = request["document"], request["path"], request["source"]
    names = {part["name"] for part in outcome["parts"]}
    common = {"source": source, "source_label": label, "sha256": outcome["sha256"], "size": outcome.get("size", 0)}
    asides = {aside["name"]: aside for aside in reversed(outcome["asides"]) if aside["name"] not in names}
    if "" not in names and "" not in asides:  # a container: its own row carries the label that its parts inherit
        yield Draft(id=file, path=path, media="application/zip", title=path.rpartition("/")[2], **common)
    for part in sorted(outcome["parts"], key=lambda part: part["name"]):
        name = part["name"]
        quality = part["quality"] | {key: part[key] for key in ("signature", "numbers", "content", "dropped")}
        yield Draft(
            id=part_id(file, name), path=_joined(path, name), parent=file if name else None, quality=quality,
            **{key: part[key] for key in ("version", "media", "title", "pages", "n_chars", "n_chunks", "meta")}, **common,
        )  # fmt: skip
    for name, aside in sorted(asides.items()):
        reason, detail = aside["reason"], aside["detail"]
        if reason == "needs_ocr":
            reason, detail = "unsupported", "it needs OCR, which parse.ocr switches off"
        yield Draft(
            id=part_id(file, name), path=_joined(path, name), parent=file if name else None,
            state="aside", reason=reason, detail=detail, **common,
        )  # fmt: skip


def _joined(path: str, name: str) -> str:
    return f"{path}!/{name}" if name else path


def draft_of(record: Record, *, path: str | None = None) -> Draft:
    """What is in the ledger, as something to write again."""
    given = {name: getattr(record, name) for name in Draft.__dataclass_fields__}
    return Draft(**given | ({"path": path} if path is not None else {}))


def load_chunks(ledger: Ledger, record: Record) -> Iterator[tuple[Chunk, list[str]]]:
    """The chunks of a document's current version with their search terms, from its parsed bytes."""
    entry = json.loads(ledger.parsed.get(record.version))
    text = entry["document"]["text"]
    for tree in entry["chunks"]:
        blocks = tuple(block_from(values, text) for values in tree["blocks"])
        yield (
            Chunk(
                f"{record.version}:{tree['ordinal']}", record.id, record.version, record.path, record.label,
                tree["ordinal"], record.title, tuple(tree["headings"]), blocks,
            ),
            tree["tokens"].split(" "),
        )  # fmt: skip
