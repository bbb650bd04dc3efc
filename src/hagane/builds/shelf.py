"""The shelf of models made here: one folder each, `.hagane/models/NAME`, and in it `model.json`, its record.

    record = Record("our-llm", kind="adapter", label=label, stage="tune", ...)
    write_record(folder, record)                 # folder: .hagane/models
    for one in every(folder): ...                # Record, or Damaged where a record cannot be read

A record says what the model was made from, what its label is, which files it has and how its gates ended. Only what is
`published` is served. In an encrypted project the record is sealed (it names data and holds samples); weights are plain.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from hagane.core.errors import HaganeError, NotFoundError, StateError, StorageError, UsageError
from hagane.core.labels import Label
from hagane.core.seams import Sealer
from hagane.core.whole_file import write_whole

Kind = Literal["model", "adapter"]
State = Literal["trained", "published", "blocked"]
Role = Literal["gguf", "adapter", "other"]

FILE = "model.json"
FORMAT = 1
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
BOUND = b"model.json"
SEALED = b"hagane sealed 1\n"  # what a sealed record begins with


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of the model; `path` is relative to its folder. `numbers`: how weights are kept (Q8_0, F16, ...)."""

    path: str
    sha256: str
    size_bytes: int
    role: Role = "other"
    numbers: str = ""


@dataclass(frozen=True, slots=True)
class Base:
    """What the model goes on from; all empty for one from scratch. `file`: what an adapter is served with: a listed
    model's name or a GGUF file; default: `name`; `sha256`: of that very file. `label`: of a base that was made here."""

    name: str = ""
    licence: str = ""
    file: str = ""
    sha256: str = ""
    label: str = "public"


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one model. Of `label` nothing is taken away later: it is the join of data and base on the day it
    was made; what its documents' labels became since is added when somebody looks (project/trained.py).

    `lineage`: its id in the graph of what was made from what. `parents`: ids of the documents or versions it learnt from.
    `served`: path of the file that answers. `reports`: by gate or measurement ("parity", "memory", "dev", "predicted",
    "measured"), each a mapping; a gate has "passed". `why`: of what is blocked.
    """

    name: str
    kind: Kind
    label: Label
    stage: str
    state: State = "trained"
    why: str = ""
    base: Base = field(default_factory=Base)
    datasets: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    lineage: str = ""
    files: tuple[ModelFile, ...] = ()
    served: str = ""
    chat: Literal["template", "raw"] = "raw"
    n_params: int = 0
    context: int = 0
    reports: Mapping[str, Any] = field(default_factory=dict)
    created_at: str = ""

    @property
    def size_bytes(self) -> int:
        """Of the file that answers; of all where none does yet."""
        own = [file.size_bytes for file in self.files if file.path == self.served]
        return own[0] if own else sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Damaged:
    """A folder whose record cannot be read, and why."""

    name: str
    error: HaganeError


def new_lineage() -> str:
    """A fresh id for a model in the graph: made again under the same name it is another model."""
    return "m_" + secrets.token_hex(8)


def file_of(folder: Path, path: str, *, role: Role = "other", numbers: str = "") -> ModelFile:
    """`path` in a model's `folder`, measured and hashed. Raises: NotFoundError."""
    file = folder / path
    try:
        with file.open("rb") as data:
            sha256 = hashlib.file_digest(data, "sha256").hexdigest()
        return ModelFile(path, sha256, file.stat().st_size, role, numbers)
    except OSError as cause:
        raise NotFoundError(f"the model has no file {path}", hint="export it again") from cause


def check_name(name: str) -> str:
    """`name` again. Raises: UsageError for one that is none: it becomes a folder."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a model", hint="lower-case letters, digits, dots, - and _; at most 63")
    return name


def write_record(models: Path, record: Record, *, sealer: Sealer | None = None) -> Path:
    """Write `models`/NAME/model.json, whole or not at all; its path. Raises: UsageError, StorageError (disk full)."""
    check_name(record.name)
    _check_paths(record)
    tree = {"format": FORMAT, **asdict(record), "label": str(record.label), "created_at": record.created_at or _now()}
    try:
        data = json.dumps(tree, ensure_ascii=False, indent=1, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as cause:
        raise UsageError(f"a report of model {record.name} is not JSON", hint="numbers that are numbers, texts, lists, mappings") from cause
    file = models / record.name / FILE
    write_whole(file, sealed(data, record.name, sealer=sealer, bound=BOUND))
    return file


def read_record(models: Path, name: str, *, sealer: Sealer | None = None, strict: bool = False) -> Record:
    """The record of `models`/NAME. `strict`: a plain one is a forgery (an encrypted project).
    Raises: NotFoundError; StorageError for a damaged one."""
    if not NAME.fullmatch(name):
        raise NotFoundError(f"there is no model {name!r}", hint="hagane models")
    try:
        data = (models / name / FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise NotFoundError(f"there is no model {name!r}", hint="hagane models") from cause
    except OSError as cause:
        raise StorageError(f"the record of model {name} cannot be read", hint="check the rights of .hagane/models") from cause
    plain = opened(data, name, sealer=sealer, bound=BOUND, strict=strict)
    try:
        tree = json.loads(plain)
        version = tree["format"]
    except (ValueError, KeyError, TypeError) as cause:
        raise _damaged(name) from cause
    if version != FORMAT:
        raise StateError(f"the record of model {name} has format {version}", hint="a newer hagane wrote it: use that version, or newer")
    try:
        record = _record(tree)
        _check_paths(record)
    except (HaganeError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise _damaged(name) from cause
    if record.name != name:
        raise _damaged(name)
    return record


def every(models: Path, *, sealer: Sealer | None = None, strict: bool = False) -> list[Record | Damaged]:
    """Every model that has a record, by name. One that cannot be read is told, and hides no other."""
    found: list[Record | Damaged] = []
    for folder in sorted(models.iterdir()) if models.is_dir() else ():
        if NAME.fullmatch(folder.name) and (folder / FILE).is_file():
            try:
                found.append(read_record(models, folder.name, sealer=sealer, strict=strict))
            except HaganeError as error:
                found.append(Damaged(folder.name, error))
    return found


def sealed(data: bytes, name: str, *, sealer: Sealer | None, bound: bytes) -> bytes:
    """`data` as it lies in the folder of the model or run `name`: as it is, or sealed under the model's key."""
    return data if sealer is None else SEALED + sealer.seal(key_of(name), data, bound=bound)


def opened(data: bytes, name: str, *, sealer: Sealer | None, bound: bytes, strict: bool = False) -> bytes:
    """What was written. Raises: StorageError when it cannot be opened, or is plain although all is sealed."""
    if not data.startswith(SEALED):
        if strict:
            raise _damaged(name)
        return data
    if sealer is None:
        raise StorageError(f"the record of model {name} is encrypted", hint="hagane.yaml must name encryption.key")
    return sealer.open(key_of(name), data[len(SEALED) :], bound=bound)


def reseal(file: Path, name: str, *, opener: Sealer | None, sealer: Sealer | None, bound: bytes) -> None:
    """Write a file anew as `sealer` says (None: plain); doing it again changes nothing."""
    data = opened(file.read_bytes(), name, sealer=opener, bound=bound)
    write_whole(file, sealed(data, name, sealer=sealer, bound=bound))


def key_of(name: str) -> str:
    """Whose key seals what is kept of a model."""
    return f"model:{name}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _damaged(name: str) -> StorageError:
    return StorageError(f"the record of model {name} is damaged", hint="train or export it again, or restore .hagane from a backup")


def _check_paths(record: Record) -> None:
    """No path leads out of the model's folder. Raises: UsageError."""
    for path in (*(file.path for file in record.files), *([record.served] if record.served else [])):
        pure = PurePosixPath(path)
        if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
            raise UsageError(f"model {record.name}: a file lies outside of its folder", hint="name files by their path in the folder")


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "name": lambda v: isinstance(v, str),
    "kind": lambda v: v in get_args(Kind),
    "stage": lambda v: isinstance(v, str),
    "state": lambda v: v in get_args(State),
    "why": lambda v: isinstance(v, str),
    "lineage": lambda v: isinstance(v, str),
    "served": lambda v: isinstance(v, str),
    "chat": lambda v: v in ("template", "raw"),
    "n_params": lambda v: type(v) is int,
    "context": lambda v: type(v) is int,
    "reports": lambda v: isinstance(v, dict),
    "created_at": lambda v: isinstance(v, str),
}


def _record(tree: Mapping[str, Any]) -> Record:
    """Raises: KeyError, TypeError, ValueError, LabelError for what is none."""
    wrong = [name for name, check in _CHECKS.items() if not check(tree[name])]
    if wrong:
        raise ValueError(wrong[0])
    files = []
    for row in tree["files"]:
        file = ModelFile(**row)
        if not isinstance(file.path, str) or type(file.size_bytes) is not int or file.role not in get_args(Role):
            raise ValueError("files")
        files.append(file)
    base = Base(**tree["base"])
    Label.parse(base.label)
    lists = {name: tuple(tree[name]) for name in ("datasets", "parents")}
    if not all(isinstance(one, str) for names in lists.values() for one in names):
        raise ValueError("ids")
    return Record(label=Label.parse(tree["label"]), files=tuple(files), base=base, **lists, **{name: tree[name] for name in _CHECKS})
