"""What a train.yaml may learn from here: documents and files under the label of whoever trains, each with its place in the graph.

A document above the clearance is not there, like everywhere. A file is refused when its label is above it: who wrote
its name into train.yaml knows of it. A file that lies in a source carries at least that source's label, and the label of
the document that was read from its place or has its bytes. Only who governs labels a file below the project's default.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hagane.builds.cleaned import text_of
from hagane.builds.spec import Stage, TrainFile
from hagane.core.errors import NotFoundError, RefusedError, StateError
from hagane.core.labels import Label, join
from hagane.core.types import Principal
from hagane.ledger.access import can_read, explain
from hagane.ledger.records import Record
from hagane.ledger.uploads import SOURCE
from hagane.rag.scan import document_path

from . import documents, shelf
from .wire import Project


@dataclass(frozen=True, slots=True)
class File:
    """A file of examples. `name` as train.yaml writes it."""

    name: str
    path: Path
    label: Label
    sha256: str

    @property
    def node(self) -> str:
        """Its id in the graph: bytes under a label."""
        return "f_" + hashlib.sha256(f"{self.sha256} {self.label}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Material:
    """What a stage learns from. `label` is the join of all of it."""

    documents: tuple[Record, ...]
    files: tuple[File, ...]

    @property
    def label(self) -> Label:
        return join(*(one.label for one in (*self.documents, *self.files)))

    @property
    def labels(self) -> dict[str, Label]:
        """Of the files, by the names that train.yaml has for them."""
        return {one.name: one.label for one in self.files}

    @property
    def parents(self) -> list[str]:
        """Ids of documents and of the versions that are read: a document's label counts as long as it is there."""
        return [id for one in self.documents for id in (one.id, one.version)]

    @property
    def mark(self) -> str:
        """Changes with any of it."""
        known = [[one.version for one in self.documents], [[one.name, one.sha256, str(one.label)] for one in self.files]]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def material(project: Project, spec: TrainFile, stage: Stage, *, root: Path, by: Principal) -> Material:
    """The documents and files of a stage. Raises: NotFoundError for a source or file that is not there, RefusedError for
    a file above the clearance, StateError for nothing at all."""
    origins = spec.data_of(stage)
    wanted: dict[str, Record] = {}
    for origin in origins:
        if origin.documents is not None:
            wanted |= {one.id: one for one in _documents(project, origin.documents, by=by)}
    files = tuple(_file(project, root, origin.file, origin.label, by=by) for origin in origins if origin.file is not None)
    found = Material(tuple(wanted[id] for id in sorted(wanted)), files)
    if not found.documents and not found.files:
        raise StateError("there are no documents to learn from", hint="hagane sync takes them in; hagane docs lists them")
    return found


def _documents(project: Project, names: tuple[str, ...], *, by: Principal) -> list[Record]:
    project.require_synced()
    known = {one["name"] for one in shelf.sources(project, by=by, paths=False)}
    for name in names:
        if name not in known:
            raise NotFoundError(f"there is no source {name!r}", hint=f"there are: {', '.join(sorted(known)) or 'none'}")
    rows = [row for row in project.ledger.documents.list(clearance=by.clearance) if row.version and (not names or row.source in names)]
    chosen = {row.id: row for row in rows if row.state == "in"}
    for row in rows:  # a copy stands in where the one that is kept of it is not chosen
        if row.state == "duplicate" and row.duplicate_of not in chosen:
            chosen[row.duplicate_of or row.id] = row
    return list(chosen.values())


def _file(project: Project, root: Path, name: str, label: str | None, *, by: Principal) -> File:
    path = checked_path(project, root, name, by=by)
    default = project.label(project.config.labels.default)
    own = project.label(label) if label else default
    if not {"govern", "administer"} & set(by.roles):
        own = join(own, default)
    if not can_read(own, by):
        raise RefusedError(f"{by.name} may not train on {name}: it is above the clearance", hint=explain(own, by.clearance))
    try:
        with path.open("rb") as data:
            sha256 = hashlib.file_digest(data, "sha256").hexdigest()
    except OSError as cause:
        raise _missing(root, name) from cause
    for source in documents.sources_of(project):
        if source.name != SOURCE and path.is_relative_to(source.root.resolve()):
            place = document_path(source.root / path.relative_to(source.root.resolve()), source.base)
            known = project.ledger.documents.every_by_path(source.name)
            same = [one.label for at, one in known.items() if at == place or one.sha256 == sha256]
            own = join(own, source.label, *same)
    if not can_read(own, by):  # its source, or its own mark: what may not be seen looks like what is not there
        raise _missing(root, name)
    return File(name, path, own, sha256)


def _missing(root: Path, name: str) -> NotFoundError:
    return NotFoundError(f"{name} does not exist", hint=f"paths in train.yaml are relative to it: {root}")


def checked_path(project: Project, root: Path, name: str, *, by: Principal) -> Path:
    """A file or folder that train.yaml names. Outside of the project's folder only for administrators: a server reads
    what its account may read. Raises: NotFoundError, RefusedError."""
    path = (root / Path(name).expanduser()).resolve()
    if path.is_relative_to(project.state.resolve()):
        raise RefusedError(f"{name} lies in .hagane", hint="name documents, or a model by its name")
    if not path.is_relative_to(project.folder.resolve()) and "administer" not in by.roles:
        raise RefusedError(f"{name} lies outside of the project's folder", hint="copy it into the project, or ask an administrator")
    if not path.exists():
        raise _missing(root, name)
    return path


def rows(project: Project, found: Material) -> Iterator[Mapping[str, Any]]:
    """The documents as rows of text, what cleaning left out taken away, each with its label as it is now.
    Raises: StateError when one left meanwhile."""
    for record in found.documents:
        try:
            entry = json.loads(project.ledger.parsed.get(record.version))
        except NotFoundError as cause:
            raise StateError("the documents changed meanwhile", hint="run the same command again") from cause
        text = text_of(entry)
        if text:
            yield {"source": f"{record.id}@{record.version}", "line": 1, "label": str(record.label), "text": text}


def standing(project: Project, found: Material) -> bool:
    """Whether every document is still there."""
    now = project.ledger.documents.every_of([one.id for one in found.documents])
    return all(one.id in now for one in found.documents)
