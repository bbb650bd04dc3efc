"""Verbs about the models that were made here: list, look at one, keep, serve, remove. Under their labels, always.

    keep(project, record, parents=ids, by=by)      # what training made, with its place in the graph
    label = carried(project, "our-llm", by=by)     # what an answer by this model carries; unknown to who may not see it

A model's label is the join of what its record says and of what everything that it was made from carries now: it rises
with its documents. It never falls by itself: a document that was lowered, erased or forgotten is still in the weights.
A model whose label is not known is shown to who may see everything, and served to nobody.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from hagane.builds import shelf
from hagane.builds.shelf import Damaged, ModelFile, Record
from hagane.core.errors import (
    ChangedError,
    HaganeError,
    NotFoundError,
    RefusedError,
    StorageError,
    UnknownModelError,
    UsageError,
)
from hagane.core.labels import EVERYTHING, PUBLIC, Clearance, Label, join
from hagane.core.types import Principal
from hagane.ledger.access import can_read
from hagane.models import catalog

from .config import STATE
from .meanwhile import SOURCES_S
from .wire import EXTRACT, Project

MODELS = "models"
ASSISTANT = "hagane"
ROOT = "b_models"  # a parent of every model, so that one stays in the graph when all its documents have left
_DOCUMENT, _VERSION = re.compile(r"d_[0-9a-f]{16}"), re.compile(r"[0-9a-f]{12}")
Known = dict[str, tuple[int, Label | None]]  # lineage id -> (the ledger's watermark, what was found then)
_LABELS: WeakKeyDictionary[Project, Known] = WeakKeyDictionary()


def folder_of(project: Project) -> Path:
    """Where made models lie."""
    return project.state / MODELS


def sealing(project: Project) -> dict[str, Any]:
    """How records (and what runs tell) lie on the disk: {"sealer", "strict"}, as `builds.shelf` takes them."""
    keys = project.keys
    if keys is None:
        return {"sealer": None, "strict": False}
    from .sealing import IndexSealer

    return {"sealer": IndexSealer(keys, blind=False), "strict": keys.strict}


def convert(project: Project) -> None:
    """Seal the records, or open them, as the keys' state says. Doing it again changes nothing. Under the writer lock."""
    sealer = sealing(project)["sealer"]
    for file in sorted(folder_of(project).glob(f"*/{shelf.FILE}")):
        shelf.reseal(file, file.parent.name, opener=sealer, sealer=sealer if project.keys.sealing else None, bound=shelf.BOUND)


def _every(project: Project) -> list[Record | Damaged]:
    return shelf.every(folder_of(project), **sealing(project)) if folder_of(project).is_dir() else []


# --- labels


def label_now(project: Project, record: Record) -> Label | None:
    """What the model carries today; None when that is not known: then it is for nobody. Remembered until the ledger
    changes."""
    known = _LABELS.setdefault(project, {})
    written = project.ledger.conversations.written()
    found = known.get(record.lineage)
    if found is None or written is None or found[0] != written:
        now = _made_from(project, record)
        if written is not None:
            known[record.lineage] = (written, now)
    else:
        now = found[1]
    return None if now is None else join(record.label, Label.parse(record.base.label), now)


def _made_from(project: Project, record: Record) -> Label | None:
    if not record.lineage:
        return None
    try:
        label: Label = project.ledger.lineage.label_of(record.lineage)
        standing = project.ledger.conversations.standing(_versions(record))
    except HaganeError:
        return None
    return join(label, *standing.values())  # of an old version its document's label counts, too


def _versions(record: Record) -> list[str]:
    return [id for id in record.parents if _VERSION.fullmatch(id)]


def is_open_to(label: Label | None, clearance: Clearance) -> bool:
    """Whether who has `clearance` may see a model of that label; of an unknown label: who may see everything."""
    return clearance == EVERYTHING if label is None else label.flows_to(clearance)


# --- which there are


def trained(project: Project, *, by: Principal) -> list[dict[str, Any]]:
    """The made models that `by` may see, by name, as `hagane models --json` shows them. Damaged records are shown to
    who may see everything: nobody knows their labels."""
    rows = []
    for one in _every(project):
        if isinstance(one, Damaged):
            if is_open_to(None, by.clearance):
                rows.append(_damaged(one))
        elif is_open_to(label := label_now(project, one), by.clearance):
            rows.append(_shown(project, one, label, n_gone=len(_gone(project, one))))
    return rows


def find(project: Project, name: str, *, by: Principal) -> dict[str, Any]:
    """Everything about one made model: files, gates, numbers, what it was made from and what of that is gone.
    Raises: NotFoundError, also for what `by` may not see; StorageError for a damaged record (to who may see everything)."""
    record, label = _seen(project, name, by=by)
    gone = _gone(project, record)
    children = [one for one in _every(project) if isinstance(one, Record) and one.base.name == name]
    return _shown(project, record, label, n_gone=len(gone)) | {
        "base_licence": record.base.licence, "base_file": record.base.file, "datasets": list(record.datasets), "lineage": record.lineage,
        "documents": len(record.parents), "gone_documents": gone, "files": [asdict(file) for file in record.files],
        "served": record.served, "chat": record.chat, "reports": dict(record.reports), "made_from_it": [one.name for one in children if is_open_to(label_now(project, one), by.clearance)],
        "folder": str(folder_of(project) / name),
    }  # fmt: skip


def _seen(project: Project, name: str, *, by: Principal) -> tuple[Record, Label | None]:
    """Raises: NotFoundError, also for what `by` may not see."""
    missing = NotFoundError(f"there is no model {name!r}", hint="hagane models")
    try:
        record = shelf.read_record(folder_of(project), name, **sealing(project))
    except NotFoundError as cause:
        raise missing from cause
    except HaganeError as cause:
        if is_open_to(None, by.clearance):
            raise
        raise missing from cause
    label = label_now(project, record)
    if not is_open_to(label, by.clearance):
        raise missing
    return record, label


def _shown(project: Project, record: Record, label: Label | None, *, n_gone: int) -> dict[str, Any]:
    return {
        "name": record.name, "made": True, "kind": record.kind, "state": record.state if label is not None else "damaged", "why": record.why,
        "label": None if label is None else str(label), "raised": label is not None and not label.flows_to(record.label),
        "stage": record.stage, "size_bytes": record.size_bytes, "params": record.n_params, "context": record.context,
        "base": record.base.name or None, "gates": gates(record.reports), "gone": n_gone, "created_at": record.created_at,
        "is_taken": _is_taken(project, record.name),
    }  # fmt: skip


def _damaged(one: Damaged) -> dict[str, Any]:
    return {
        "name": one.name, "made": True, "kind": "model", "state": "damaged", "why": str(one.error), "label": None, "raised": False, "stage": "",
        "size_bytes": 0, "params": 0, "context": 0, "base": None, "gates": {}, "gone": 0, "created_at": None, "is_taken": False,
    }  # fmt: skip


def gates(reports: Mapping[str, Any]) -> dict[str, bool]:
    """How each gate ended: {name: passed}."""
    return {name: bool(told["passed"]) for name, told in reports.items() if isinstance(told, Mapping) and "passed" in told}


def _gone(project: Project, record: Record) -> list[str]:
    """Those of the documents and versions it learnt from that are not kept any more, or are set aside now."""
    kept = _kept(project, record, aside=False)
    return [id for id in record.parents if (_DOCUMENT.fullmatch(id) or _VERSION.fullmatch(id)) and id not in kept]


def _kept(project: Project, record: Record, *, aside: bool) -> set[str]:
    """Those of the documents and versions it learnt from that the ledger has; with those set aside, or without."""
    documents = [id for id in record.parents if _DOCUMENT.fullmatch(id)]
    rows = project.ledger.documents.every_of(documents) if documents else {}
    return {id for id, row in rows.items() if aside or row.state != "aside"} | set(project.ledger.conversations.standing(_versions(record)))


def touched(project: Project, document: str, *, by: Principal) -> list[str]:
    """Names of the models that `by` may see and that learnt from a document (its id), also one that is erased:
    what `forget` has to walk to."""
    made_of = project.ledger.lineage.descendants(document)
    found = []
    for one in _every(project):
        is_of_it = isinstance(one, Record) and (document in one.parents or one.lineage in made_of)
        if isinstance(one, Record) and is_of_it and is_open_to(label_now(project, one), by.clearance):
            found.append(one.name)
    return found


# --- making and removing


def check_name(project: Project, name: str) -> None:
    """Raises: UsageError for a name that another model, the assistant or the embedder answers to."""
    shelf.check_name(name)
    embedder = project.config.embedder.name
    if name in (ASSISTANT, embedder) or _is_taken(project, name):
        raise UsageError(f"a model called {name!r} is there already", hint="give it another name in train.yaml")


def keep(project: Project, record: Record, *, by: Principal) -> Record:
    """Put a made model on the shelf, with its place in the graph: made from its base, from `record.parents` and
    `record.datasets` as far as the ledger knows them. The record as it is kept. The same lineage id again only changes
    the record. Raises: UsageError, StorageError, AuditError."""
    check_name(project, record.name)
    record = record if record.lineage else replace(record, lineage=shelf.new_lineage())
    lineage = project.ledger.lineage
    project.ledger.audit.record(
        "model.keep", principal=by.name, model=record.name, state=record.state, label=str(record.label), lineage=record.lineage
    )
    floor = _made_from(project, record) or PUBLIC  # what it carries already, also from documents that are gone
    lineage.declare(ROOT, PUBLIC)
    lineage.declare(record.lineage, join(record.label, Label.parse(record.base.label), floor))
    known = [*_kept(project, record, aside=True), *sorted(project.ledger.steps.done(record.datasets)), *_base(project, record)]
    lineage.link([(record.lineage, [ROOT, *known])])
    shelf.write_record(folder_of(project), record, sealer=sealing(project)["sealer"])
    return record


def _base(project: Project, record: Record) -> list[str]:
    """The node of a base that was made here."""
    try:
        found = shelf.read_record(folder_of(project), record.base.name, **sealing(project)) if record.base.name else None
    except HaganeError:
        return []
    return [found.lineage] if found and found.lineage else []


def remove(project: Project, name: str, *, by: Principal) -> None:
    """Take a made model away with all its files and its run, as far as `by` may see it. What was tuned from it stays; its
    place in the graph stays, too: so that goes on to rise with what both were made from.
    Raises: RefusedError without the permission build; NotFoundError, also for what `by` may not see; StateError while it
    is trained or exported; AuditError."""
    from .training_made import places

    if "build" not in by.roles:
        raise RefusedError(f"{by.name} may not remove models", hint="it takes the permission build")
    try:
        lineage = _seen(project, name, by=by)[0].lineage
    except StorageError:  # its record is damaged, and `by` may see everything
        lineage = ""
    folder, stages = folder_of(project) / name, places(project, name, by=by)
    with contextlib.ExitStack() as alone:
        for place in stages:
            alone.enter_context(place.alone())
        project.ledger.audit.record("model.remove", principal=by.name, model=name, lineage=lineage or None)
        project.let_go(name)
        try:
            (folder / shelf.FILE).unlink(missing_ok=True)  # first: what has no record is served and listed no more
            for place in stages:
                shutil.rmtree(place.folder)
            shutil.rmtree(folder)
        except OSError as cause:
            raise StorageError(f"the files of {name} could not be removed ({cause.strerror})", hint="check the rights of .hagane") from cause


# --- serving


def served(project: Project, name: str) -> Record | None:
    """The published made model that `name` stands for; None where `name` is another model's, or nobody's.
    Whoever serves it asks `carried` first. Raises: RefusedError for a path into a .hagane: there is no way around a label."""
    if name in project.config.models:
        return None
    if name.endswith(".gguf") or os.sep in name:
        path = Path(name).expanduser()
        if STATE in path.absolute().parts or STATE in path.resolve().parts:
            raise RefusedError("a file in .hagane is not asked by its path", hint="ask for the model by its name: hagane models")
        return None
    if not is_kept(project, name) or _is_taken(project, name):
        return None
    try:
        record = shelf.read_record(folder_of(project), name, **sealing(project))
    except HaganeError:
        return None
    return record if record.state == "published" and record.served else None


def is_kept(project: Project, name: str) -> bool:
    """Whether something lies on the shelf under the name, whoever may see it."""
    return shelf.NAME.fullmatch(name) is not None and (folder_of(project) / name / shelf.FILE).is_file()


def _is_taken(project: Project, name: str) -> bool:
    """Whether another model came that answers to the name."""
    return name in project.config.models or catalog.info_of(name) is not None


def is_hidden(project: Project, name: str, *, by: Principal) -> bool:
    """Whether a made model of that name exists that `by` may not see: for the audit log alone."""
    if not is_kept(project, name):
        return False
    try:
        _seen(project, name, by=by)
    except NotFoundError:
        return True
    except HaganeError:
        return False
    return False


def carried(project: Project, name: str, *, by: Principal) -> Label:
    """What answers of the model `name` carry beside that of what was asked: a made model's label, public of any other.
    Raises: UnknownModelError for a made model that `by` may not see or that is not published, as for one that is not there."""
    return _carrying(project, name, by=by)[0]


def _carrying(project: Project, name: str, *, by: Principal) -> tuple[Label, str]:
    """(label, lineage id) of a model; of one that was not made here (public, ""). Raises: UnknownModelError."""
    record = served(project, name)
    label = label_now(project, record) if record is not None else PUBLIC
    is_there = record is not None or name.endswith(".gguf") or os.sep in name or _is_taken(project, name)
    if not is_there or label is None or not can_read(label, by):
        raise UnknownModelError("there is no model of that name", hint="hagane models")
    return label, record.lineage if record is not None else ""


def offered(project: Project, *, by: Principal) -> list[Record]:
    """The made models that `by` may ask."""
    found = []
    for one in _every(project):
        if isinstance(one, Record) and one.state == "published" and one.served and not _is_taken(project, one.name):
            label = label_now(project, one)
            if label is not None and can_read(label, by):
                found.append(one)
    return found


def file_of(project: Project, record: Record) -> Path:
    """The file that answers. Raises: NotFoundError where it is not there, ModelError where it is cut short."""
    file = folder_of(project) / record.name / record.served
    known = next((one for one in record.files if one.path == record.served), ModelFile(record.served, "", -1))
    if not file.is_file() or known.size_bytes not in (-1, file.stat().st_size):
        raise NotFoundError(f"the file of model {record.name} is missing or not whole", hint="hagane export makes it again")
    return file


def base_file(project: Project, record: Record) -> Path:
    """The file that an adapter is served with: the very file of a listed model that it was measured with. Never one of a
    model made here, whose label nobody would ask. Raises: NotFoundError, MissingExtraError, ModelError."""
    file = catalog.find(record.base.file or record.base.name)
    if not record.base.sha256 or sha256_of(file) != record.base.sha256:
        raise NotFoundError(f"the base of model {record.name} is another file than it was measured with", hint="hagane export makes it again")
    return file


def sha256_of(file: Path) -> str:
    """The hash of a file's bytes, computed once as long as the file stays as it is. Raises: NotFoundError."""
    try:
        said = file.stat()
    except OSError as cause:
        raise NotFoundError(f"there is no model file {file.name}", hint="hagane models") from cause
    return _sha256(file, said.st_size, said.st_mtime_ns, said.st_ino)


@lru_cache(maxsize=64)
def _sha256(file: Path, _size: int, _written: int, _inode: int) -> str:
    return shelf.file_of(file.parent, file.name).sha256


# --- answering with a model


@dataclass(slots=True)
class Speaking:
    """Who answers a conversation: `answers`, and the name of its model (None: no model, nothing beside the sources).
    `made`: its lineage id; "" for a model that was not made here."""

    answers: Any
    model: str | None
    made: str = ""

    def label(self, project: Project, *, by: Principal) -> Label:
        """What its answers carry beside what they read, as it is now. Raises: UnknownModelError; ChangedError when
        another model has the name by now."""
        label, made = (PUBLIC, "") if self.model is None else _carrying(project, self.model, by=by)
        if made != self.made:
            raise ChangedError("another model has that name now", hint="begin a new conversation")
        return label


class Spoken:
    """The label of the model of an answer under way, looked at again now and then: its documents may be raised."""

    def __init__(self, project: Project, model: str | None, *, by: Principal, made: str | None = None) -> None:
        self._project, self._model, self._by, self._made = project, model, by, made
        self._due, self._label = 0.0, PUBLIC

    def check(self, *, last: bool = False) -> Label:
        """Raises: ChangedError once its reader may not see the model any more, it is gone, or another has its name."""
        if self._model is not None and (last or time.monotonic() >= self._due):
            changed = ChangedError("the model changed while it answered", hint="ask again")
            try:
                label, made = _carrying(self._project, self._model, by=self._by)
            except UnknownModelError as cause:
                raise changed from cause
            if made != (made if self._made is None else self._made):
                raise changed
            self._label, self._made = join(self._label, label), made
            self._due = time.monotonic() + SOURCES_S
        return self._label


def speaking(project: Project, answerer: str | None = None, *, model: str | None = None, by: Principal) -> Speaking:
    """Who answers `by`: hagane.yaml's answerer and model, or `answerer`, or `model`. Where hagane.yaml names a made
    model that `by` may not see, the sentences themselves answer: for `by` that model is not there.
    Raises: UnknownModelError for such a `model`, or one that is not there; UsageError, ConfigError."""
    config = project.config.answer
    kind = answerer or config.answerer
    if model is not None and kind == EXTRACT:
        if answerer:
            raise UsageError(f"{EXTRACT} takes no model", hint="leave out one of --answerer and --model")
        kind = "generate"  # the answerer that takes any model
    if kind == EXTRACT:
        return Speaking(project.answers(answerer), None)
    name = model or config.model_of(kind)
    try:
        made = _carrying(project, name, by=by)[1]
    except UnknownModelError:
        if model is not None or answerer is not None:
            raise
        if served(project, name) is None:
            project.model(name)  # nobody's: it says what is wrong in hagane.yaml
        return Speaking(project.answers(EXTRACT), None)
    return Speaking(project.answers(kind, model=name), name, made)
