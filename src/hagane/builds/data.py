"""The data of a stage: every origin of train.yaml as token shards, and batches of them for the loop.

    ready = prepare(spec, "tune", documents=rows, folder=datasets, encoder=encoder, root=here, default=label, emit=print)
    feed, dev = ready.feed, ready.dev

A data set lies in datasets/ID: `train`, `dev`, `test` (token shards), rows-T-SEED (which documents share a row),
bad.jsonl (rows that were left out: file, line, reason), made-from.json (versions of documents, sha256 of files: what
has to go when a document goes) and dataset.json, which is written last. ID is a hash of what
it is made from: a file that changed makes another data set, and one that was cut short is gone on with. In an encrypted
project all of it is sealed under the data set's own key (`sealer`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hagane.core.errors import StateError, StorageError
from hagane.core.labels import PUBLIC, Label, join
from hagane.core.seams import Sealer
from hagane.core.whole_file import private_folder
from hagane.train.dataset import Encoder, Survey, chosen, go_on, survey, write_dataset
from hagane.train.feed import DevBatches, ShardFeed
from hagane.train.loader import Loader
from hagane.train.pack import plan_rows
from hagane.train.pairs import Pair, PairFeed, encode_pair, too_long
from hagane.train.rows import BadRow
from hagane.train.shard_set import ShardSet
from hagane.train.shards import Header, Tokenised, write_shards
from hagane.train.split import PARTS, Shares, split
from hagane.train.vault import Vault
from hagane.train.words import Batch

from .near import NearCopies
from .origins import DocumentRows, Documents, Origin, check_stage, guard_of, origins_of, parents_of, shapes_of
from .settle import context_of
from .spec import Stage, TrainFile
from .trace import MADE_FROM, rows_folder

FORMAT = 1  # raise it when the same rows become other data sets
SPLIT_SEED = 0  # the same rows are held back whatever the seed of a run
DEV_SHARE = 0.01  # of the tokens of an epoch that the dev loss is measured on, and at least LEAST_DEV_ROWS packed rows
LEAST_DEV_ROWS = 32
CARD, BAD = "dataset.json", "bad.jsonl"
Emit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The data of a stage. `feed` is a `train.loop.Data`, `dev` its batches for the dev loss (none where nothing is held
    back). Counts of documents, tokens and rows are of the training part. `label` is the join of everything.
    `parents`: versions of documents and sha256 of files. `mark` changes whenever batches would."""

    feed: Any
    dev: Sequence[Batch]
    label: Label
    n_documents: int
    n_tokens: int
    n_rows: int  # packed rows of an epoch
    T: int
    dataset_id: str
    folder: Path
    mark: str
    parents: tuple[str, ...]
    recognised: tuple[str, ...]
    bad: tuple[BadRow, ...]
    dropped: int
    masked: int
    n_cut: int  # documents that are longer than a packed row
    bytes_per_token: float  # of what is learnt, in the dev part (or else in the training part): nats to bits per byte
    is_text: bool
    make: Callable[[int, int], tuple[Any, Sequence[Batch]]]

    def fed(self, *, rows: int, seed: int) -> Prepared:
        """The same with `rows` packed rows a step and another order. Costs nothing."""
        feed, dev = self.make(rows, seed)
        return replace(self, feed=feed, dev=dev)

    @property
    def told(self) -> dict[str, Any]:
        """What is said of it, as JSON; no content."""
        names = ("n_documents", "n_tokens", "n_rows", "T", "dataset_id", "dropped", "masked", "n_cut", "bytes_per_token")
        return {name: getattr(self, name) for name in names} | {
            "label": str(self.label), "recognised": list(self.recognised), "n_bad": len(self.bad), "n_parents": len(self.parents),
        }  # fmt: skip


def prepare(
    spec: TrainFile,
    stage: Stage,
    *,
    documents: Documents,
    folder: Path,
    encoder: Encoder,
    root: Path,
    default: Label,
    labels: Mapping[str, Label] | None = None,
    tokens: int = 0,
    rows: int = 0,
    sealer: Sealer | None = None,
    emit: Emit = lambda event: None,
    stop: Callable[[], bool] = go_on,
) -> Prepared:
    """Write the data set of a stage below `folder`, or open the one that is there.

    `documents`: rows of the project's documents (see `origins`), the same ones each time. `root`: what files are
    relative to. `default`: label of files that are given none. `tokens`, `rows`: of a packed row, of a step; 0: what
    train.yaml says. `sealer`: what an encrypted project seals with (`data_seal`). Raises: SourceError for files that cannot be used, StateError for too little or the wrong shape,
    RefusedError for personal data without a detector, ChangedError, StorageError, StoppedError.
    """
    origins = origins_of(spec, stage, documents=documents, root=root, labels=labels, default=default)
    check_stage(stage, shapes_of(origins))
    told = spec.training_of(stage)
    T = tokens or context_of(spec, stage)
    emit({"event": "data", "what": "reading", "recognised": [origin.name for origin in origins]})
    work = _Work(spec, origins, encoder, sealer, emit, stop)
    place = folder / work.id
    work.clear_unreadable(place)
    if stage == "prefer":
        made = _pairs(work, place, T=T, given=bool(tokens or told.tokens))
    else:
        made = _shards(work, place, T=T, seed=told.seed)
    emit({"event": "data", "what": "ready", **made.told})
    return made.fed(rows=rows or told.rows or 8, seed=told.seed)


class _Work:
    """What preparing one data set needs at hand."""

    def __init__(
        self, spec: TrainFile, origins: Sequence[Origin], encoder: Encoder, sealer: Sealer | None, emit: Emit, stop: Callable[[], bool]
    ) -> None:
        self.origins, self.encoder, self.emit, self.stop = origins, encoder, emit, stop
        self.guard = guard_of(spec)
        self.shares = Shares(spec.split.dev, spec.split.test)
        made_of = [FORMAT, [origin.known() for origin in origins], self.guard.named, asdict(self.shares), encoder.fingerprint]
        self.id = "ds_" + hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
        self.vault = Vault(sealer, self.id)
        self.label = join(PUBLIC, *(one.label for one in origins if isinstance(one, DocumentRows)))  # the documents' today

    def clear_unreadable(self, place: Path) -> None:
        """A data set whose key is gone, or that lies in the open since before the project was encrypted, is made anew."""
        heads = [place / name for name in (CARD, BAD, MADE_FROM) if (place / name).exists()]
        try:
            for head in heads:
                self.read(head)
        except StorageError:
            self.emit({"event": "data", "what": "anew", "dataset": place.name})
            shutil.rmtree(place)

    def store(self, path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
        said = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self.vault.write(path, said.encode("utf-8", "surrogatepass"))

    def read(self, path: Path) -> list[dict[str, Any]]:
        try:
            return [json.loads(line) for line in self.vault.read(path).decode("utf-8", "surrogatepass").split("\n") if line]
        except ValueError as cause:
            raise StorageError(f"{path} is damaged", hint="delete the data set: it is made anew") from cause

    def survey(self) -> tuple[Survey, NearCopies]:
        grouping = NearCopies()
        seen = survey(self.origins, self.guard, grouping=grouping, stop=self.stop)
        self.emit({"event": "data", "what": "read", "rows": len(seen.groups), "bad": len(seen.bad), "near": grouping.whole})
        return seen, grouping

    def note(self, place: Path, bad: Sequence[BadRow]) -> None:
        """What was left out and what it is made from: before anything of the rows lies on the disk."""
        self.store(place / MADE_FROM, [{"parents": list(parents_of(self.origins))}])
        self.store(place / BAD, [asdict(one) for one in bad])

    def write(self, place: Path, seen: Survey) -> dict[str, Any]:
        """The shards, the bad rows and, last, the card."""
        made = write_dataset(
            place, self.origins, encoder=self.encoder, guard=self.guard, shares=self.shares, seed=SPLIT_SEED,
            surveyed=seen, stop=self.stop, vault=self.vault,
        )  # fmt: skip
        where = split(seen.groups, self.shares, seed=SPLIT_SEED)
        card = self.card(seen) | {
            "n_bytes": {part: int(seen.n_bytes[where[part]].sum()) for part in made.parts},
            "n_learnt": {part: one.n_learnt for part, one in made.parts.items()},
        }
        self.store(place / CARD, [card])
        return card

    def card(self, seen: Survey) -> dict[str, Any]:
        return {
            "format": FORMAT, "label": str(seen.label), "rows": seen.n_rows, "dropped": seen.n_dropped,
            "masked": seen.n_masked, "recognised": [one.name for one in self.origins],
        }  # fmt: skip


def _require_labels(train: ShardSet) -> None:
    """Raises: StateError where no token behind a document's first earns loss."""
    if train.n_learnt <= train.n_documents and not any(train.learn(n)[1:].any() for n in range(train.n_documents)):
        raise StateError("nothing of the data earns loss", hint="look at the data with a preview: answers are what is learnt")


def _shards(work: _Work, place: Path, *, T: int, seed: int) -> Prepared:
    private_folder(place)
    if (place / CARD).exists():
        [card] = work.read(place / CARD)
        if not work.label.flows_to(Label.parse(card["label"])):  # a document was raised since
            card |= {"label": str(join(Label.parse(card["label"]), work.label))}
            work.store(place / CARD, [card])
    else:
        seen, _ = work.survey()
        work.note(place, seen.bad)
        card = work.write(place, seen)
    parts = {part: ShardSet(place / part, vault=work.vault) for part in PARTS if (place / part).is_dir()}
    train, dev = parts["train"], parts.get("dev")
    _require_labels(train)
    plan = plan_rows(train, rows_folder(place, T=T, seed=seed), T=T, seed=seed, vault=work.vault)
    dev_plan = plan_rows(dev, place / f"rows-dev-{T}", T=T, seed=SPLIT_SEED, vault=work.vault) if dev else None

    def make(rows: int, order: int) -> tuple[ShardFeed, Sequence[Batch]]:
        feed = ShardFeed(Loader(train, plan, batch=rows), seed=order)
        if dev is None or dev_plan is None:
            return feed, ()
        n = max(LEAST_DEV_ROWS, round(DEV_SHARE * plan.n_rows))
        return feed, DevBatches(Loader(dev, dev_plan, batch=min(rows, dev_plan.n_rows)), n_rows=n)

    said = "dev" if dev is not None and card["n_learnt"]["dev"] else "train"
    return Prepared(
        feed=None, dev=(), label=join(Label.parse(card["label"]), work.label, *(one.label for one in parts.values())),
        n_documents=train.n_documents, n_tokens=train.n_tokens, n_rows=plan.n_rows, T=T, dataset_id=place.name,
        folder=place, mark=f"{train.content[:32]} {T} {seed}", parents=tuple(work.read(place / MADE_FROM)[0]["parents"]),
        recognised=tuple(card["recognised"]), bad=tuple(BadRow(**one) for one in work.read(place / BAD)),
        dropped=card["dropped"], masked=card["masked"], n_cut=int((train.lengths() > T).sum()),
        bytes_per_token=card["n_bytes"][said] / max(1, card["n_learnt"][said]),
        is_text=shapes_of(work.origins) == {"text"}, make=make,
    )  # fmt: skip


def _keep_chosen(work: _Work, place: Path, pairs: Mapping[str, Sequence[Pair]]) -> None:
    header = Header(work.encoder.fingerprint, work.encoder.vocab_size, place.name, masked=True)
    for part, some in pairs.items():
        rows = [Tokenised(one.chosen.ids, one.label, one.source, one.line, one.chosen.learnt) for one in some]
        if rows:
            write_shards(place / part, lambda first, rows=rows: iter(rows[first:]), header=header, vault=work.vault)  # type: ignore[misc]


def _pairs(work: _Work, place: Path, *, T: int, given: bool) -> Prepared:
    """Pairs are few and stay in memory. Their chosen answers lie on the disk, too, also those too long for a row: the
    memorisation gate reads them."""
    seen, _ = work.survey()
    where = split(seen.groups, work.shares, seed=SPLIT_SEED)
    part_of = {n: part for part in PARTS for n in where[part]}
    found: dict[str, list[Pair]] = {part: [] for part in PARTS}
    every = np.arange(len(seen.groups))
    for n, row in enumerate(chosen(work.origins, work.guard, every, seen, stop=work.stop)):
        found[part_of[n]].append(encode_pair(row, work.encoder.encode))
    every_pair = {part: tuple(some) for part, some in found.items()}
    pairs = [pair for part in PARTS for pair in found[part]]
    T = T if given else max(T, *(pair.n_tokens for pair in pairs))
    bad = [*seen.bad]
    for part, some in found.items():
        long = set(map(id, too_long(some, T)))
        bad += [BadRow(one.source, one.line, f"the pair has {one.n_tokens} tokens, a row {T}") for one in some if id(one) in long]
        found[part] = [one for one in some if id(one) not in long]
    private_folder(place)
    work.note(place, bad)
    _keep_chosen(work, place, every_pair)
    work.store(place / CARD, [work.card(seen)])
    train, dev = found["train"], found["dev"]

    def make(rows: int, order: int) -> tuple[PairFeed, Sequence[Batch]]:
        return PairFeed(train, T=T, rows=rows, seed=order), PairFeed(dev, T=T, rows=rows, seed=SPLIT_SEED).dev() if dev else ()

    n_tokens = sum(pair.n_tokens for pair in train)
    n_learnt = sum(sum(pair.chosen.learnt) for pair in pairs)
    return Prepared(
        feed=None, dev=(), label=seen.label, n_documents=len(train), n_tokens=n_tokens,
        n_rows=PairFeed(train, T=T, rows=1, seed=0).n_steps, T=T, dataset_id=place.name, folder=place, mark=f"{place.name} {T}",
        parents=parents_of(work.origins), recognised=tuple(one.name for one in work.origins), bad=tuple(bad),
        dropped=seen.n_dropped, masked=seen.n_masked, n_cut=0,
        bytes_per_token=int(seen.n_bytes.sum()) / max(1, n_learnt), is_text=False, make=make,
    )  # fmt: skip

