"""Where the rows of a stage come from: files of examples, documents of the project; and who looks for personal data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from hagane.core.errors import StateError
from hagane.core.labels import PUBLIC, Label, join
from hagane.core.registry import load
from hagane.core.seams import Detector
from hagane.privacy import DETECTORS
from hagane.train.dataset import Origin
from hagane.train.personal import Guard, Policy
from hagane.train.rows import BadRow, Rows
from hagane.train.words import Row, Shape

from .spec import Stage, TrainFile

Documents = Callable[[], Iterable[Row]]  # the same rows each time; `source` is DOCUMENT@VERSION
MAX_BAD = 10_000  # bad rows of a file, all of which are named


class DocumentRows:
    """Documents of the project as an origin. An empty document is a bad row. `label`: the join of the last walk."""

    name = "documents of the project: plain text"

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._known: list[str] = []
        self.bad: list[BadRow] = []
        self.n_good = 0
        self.versions: tuple[str, ...] = ()
        self.label = PUBLIC

    def known(self) -> list[str]:
        """A hash of every row: versions and texts. The documents are read once for it. Labels are left out: a document
        that is raised is the same data, and a run over it goes on."""
        if not self._known:
            digest = hashlib.sha256()
            for row in self:
                digest.update(repr((row.source, row.line, row.text)).encode("utf-8", "surrogatepass"))
            self._known = [digest.hexdigest()]
        return self._known

    def __iter__(self) -> Iterator[Row]:
        self.bad, self.n_good = [], 0
        versions: dict[str, None] = {}
        label = PUBLIC
        for row in self._documents():
            versions[version_of(row.source)], label = None, join(label, row.label)
            if not (row.text or "").strip():
                self.bad.append(BadRow(row.source, row.line, "text is empty"))
                continue
            self.n_good += 1
            yield row
        self.versions, self.label = tuple(versions), label


def version_of(source: str) -> str:
    """The version in DOCUMENT@VERSION, or the whole."""
    return source.rpartition("@")[2]


def origins_of(
    spec: TrainFile, stage: Stage, *, documents: Documents, root: Path, labels: Mapping[str, Label] | None = None, default: Label
) -> list[Origin]:
    """The origins of a stage, files first. Raises: SourceError for a file that cannot be used, UsageError."""
    data = spec.data_of(stage)
    found: list[Origin] = []
    for one in data:
        if one.file is not None:
            own = (labels or {}).get(one.file) or (Label.parse(one.label) if one.label else default)
            shape: Shape | None = one.shape
            found.append(Rows(root / one.file, label=own, shape=shape, max_bad=MAX_BAD, named=one.file))
    if any(one.documents is not None for one in data):
        found.append(DocumentRows(documents))
    return found


def parents_of(origins: Sequence[Origin]) -> tuple[str, ...]:
    """What the rows were made from, after a walk: ids of versions, and sha256 of files."""
    found: dict[str, None] = {}
    for origin in origins:
        made = origin.versions if isinstance(origin, DocumentRows) else (f"sha256:{origin.known()[0]}",)
        found |= dict.fromkeys(made)
    return tuple(found)


def shapes_of(origins: Sequence[Origin]) -> set[str]:
    """The shapes of the origins' rows."""
    return {origin.recognised.shape if isinstance(origin, Rows) else "text" for origin in origins}


def guard_of(spec: TrainFile) -> Guard:
    """Who keeps the policy on personal data. Raises: RefusedError for a policy that needs a detector that is not there."""
    policy = Policy(dict(spec.personal))
    there: dict[str, Detector] = {}
    for kind in policy.needed() & DETECTORS.keys():
        there[kind] = load(DETECTORS, kind, what="detector")()
    return Guard(policy, there)


def check_stage(stage: Stage, shapes: set[str]) -> None:
    """Raises: StateError for rows that a stage cannot learn from."""
    pairs = "preference" in shapes
    if stage == "prefer" and shapes != {"preference"}:
        raise StateError("prefer learns from pairs of answers, and there are others", hint="name files with chosen and rejected")
    if stage in ("pretrain", "tune") and pairs:
        raise StateError(f"{stage} does not learn from pairs of answers", hint="name them under prefer")
