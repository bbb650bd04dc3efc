"""The memorisation gate: what a model knows by heart of its training rows. What fails is not published.

Rows that were learnt more than once are probed before others, since they are the likeliest to come back; rows held back
are probed likewise, and what comes back of them too is no memory. Planted canaries are ranked among secrets that were
never seen. A row that comes back is named by source and line, its text is never shown.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hagane.core.errors import RefusedError, UsageError
from hagane.core.labels import Label, join
from hagane.core.seams import Sealer

from .spec import MemoryGateConfig

if TYPE_CHECKING:
    from hagane.train.canary import Canary, Exposure
    from hagane.train.memorise import Corpus

LONGEST = 50  # characters that may come back when the configuration says 0
N_PROBED = 200  # rows of each group, if there is time
LEAST = 20  # rows of each group that are probed whatever the time
BITS = 10.0  # exposure of a canary that was not learnt passes this once in 1,024; more canaries, more bits
N_NAMED = 20
HEADROOM = 0.5  # share of the time that the rows get when there are canaries, too

Emit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Named:
    """A training row that comes back: where it stands, and how many characters of it."""

    source: str
    line: int
    n_characters: int


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that were probed: `copied` of `probed` came back longer than allowed. `longest` in characters."""

    name: str  # repeated, once, held_out
    probed: int
    copied: int
    longest: int

    @property
    def share(self) -> float:
        return self.copied / self.probed if self.probed else 0.0


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """What was measured, and the verdict. `label` is the join of what was probed: the report names its rows.
    `why`: what failed, one sentence each; empty for a model that may be published."""

    allowed_characters: int
    allowed_share: float
    allowed_bits: float
    groups: tuple[Group, ...]
    canaries: tuple[Exposure, ...]
    named: tuple[Named, ...]
    why: tuple[str, ...]
    label: str
    seconds: float = field(compare=False, default=0.0)

    @property
    def passed(self) -> bool:
        return not self.why

    @property
    def sentences(self) -> tuple[str, ...]:
        """What failed, as `publish.export` asks its gates."""
        return self.why

    def as_json(self) -> dict[str, Any]:
        """For report.json and the card."""
        return {**asdict(self), "passed": self.passed}

    def require(self) -> None:
        """Raises: RefusedError, saying what failed, when the model must not be published."""
        if not self.passed:
            raise RefusedError(
                "the model knows training text by heart: " + "; ".join(self.why),
                hint="it is not published; remove repeated rows, train for fewer epochs, or raise memory.share knowingly",
            )


def gate(
    datasets: Sequence[Path],
    config: MemoryGateConfig,
    *,
    sealer: Sealer | None = None,
    seed: int = 0,
    seconds: float = 120.0,
    emit: Emit = lambda event: None,
) -> Callable[[Path], MemoryReport]:
    """This gate for `publish.export(gates={"memory": ...})`, over every data set that is in the weights of a model, those
    of its base, too. What cannot be probed is not published: a set whose rows are gone fails, and so does no set."""
    from hagane.train.memorise import Joined
    from hagane.train.shard_set import ShardSet
    from hagane.train.shards import MANIFEST
    from hagane.train.vault import Vault

    def parts(name: str) -> list[ShardSet]:
        there = [place for place in datasets if (place / name / MANIFEST).is_file()]
        return [ShardSet(place / name, vault=Vault(sealer, place.name)) for place in there]

    rows, held_out = parts("train"), parts("dev")
    if not rows or len(rows) < len(datasets):
        return lambda folder: _unprobed(config, n_gone=len(datasets) - len(rows), n=len(datasets))

    def judge(folder: Path) -> MemoryReport:
        kept = Joined(held_out) if held_out else None
        return check(folder, Joined(rows), held_out=kept, config=config, seed=seed, seconds=seconds, emit=emit)

    return judge


def _unprobed(config: MemoryGateConfig, *, n_gone: int, n: int) -> MemoryReport:
    what = f"{n_gone} of {n} data sets that it learnt from are not here any more" if n else "no data set of it is known"
    why = f"{what}, so that what it knows by heart cannot be probed: train it again (--again), then export"
    return MemoryReport(config.longest_copy or LONGEST, config.share, BITS, (), (), (), (why,), "public")


def check(
    folder: Path,
    rows: Corpus,
    *,
    held_out: Corpus | None = None,
    config: MemoryGateConfig | None = None,
    adapter: Path | None = None,
    canaries: Sequence[Canary] = (),
    seed: int = 0,
    seconds: float = 120.0,
    emit: Emit = lambda event: None,
) -> MemoryReport:
    """Probe the model of `folder` (with an adapter beside it, when one is given). `rows`: what it was trained on, as
    a `train.shard_set.ShardSet` or `train.memorise.Kept`; `held_out`: rows of the same kind that it has not seen.
    About `seconds` long, though never fewer than 20 rows of a group. Equal seeds probe the same rows.

    Raises: UsageError for no rows at all; what loading a model raises.
    """
    from hagane.train.model_folder import load_folder

    model = load_folder(folder)
    if adapter is not None:
        from hagane.train.tune import load_adapter

        model = load_adapter(model, adapter)
    return check_model(
        model, folder / "tokenizer.json", rows, held_out=held_out, config=config, canaries=canaries, seed=seed,
        seconds=seconds, emit=emit,
    )  # fmt: skip


def check_model(
    model: Any,
    tokenizer: Path,
    rows: Corpus,
    *,
    held_out: Corpus | None = None,
    config: MemoryGateConfig | None = None,
    canaries: Sequence[Canary] = (),
    seed: int = 0,
    seconds: float = 120.0,
    emit: Emit = lambda event: None,
) -> MemoryReport:
    """`check` of a model in memory; `tokenizer`: its tokenizer.json."""
    from hagane.train.canary import exposure
    from hagane.train.encoder import tokenizer_in
    from hagane.train.memorise import MAX_COMMON, Common

    if not rows.n_documents:
        raise UsageError("there are no training rows to probe", hint="give the data set that the model learnt from")
    config, began = config or MemoryGateConfig(), time.monotonic()
    words = tokenizer_in(tokenizer)

    def decode(ids: Sequence[int]) -> str:
        return str(words.decode(list(map(int, ids)), skip_special_tokens=True))

    n_held = held_out.n_documents if held_out is not None else 0
    known = min(n_held, 4000)
    kept = [] if held_out is None else [decode(held_out.ids(n)[: MAX_COMMON // known]) for n in range(known)]
    probe = _Probe(model, decode, Common(kept), config.longest_copy or LONGEST)
    model.eval()
    until = began + seconds * (HEADROOM if canaries else 1.0)
    groups = probe.groups(rows, held_out if known else None, known=known, seed=seed, until=until, emit=emit)
    found = []
    for n, canary in enumerate(canaries, start=1):
        emit({"event": "memory", "group": "canaries", "done": n, "total": len(canaries)})
        found.append(exposure(model, canary, lambda text: words.encode(text).ids, seed=seed))
    bits = BITS + math.log2(max(1, len(canaries)))
    why = [*_too_much_copied(groups, config.share, probe.allowed), *_too_exposed(found, bits)]
    label = join(probe.label, *([held_out.origin(n).label for n in range(known)] if held_out is not None else []))
    return MemoryReport(
        probe.allowed, config.share, bits, tuple(groups), tuple(found), probe.named(), tuple(why), str(label),
        round(time.monotonic() - began, 1),
    )  # fmt: skip


class _Probe:
    """The walk over the groups, one row of each in turn, so that running out of time leaves each as large."""

    def __init__(self, model: Any, decode: Callable[[Sequence[int]], str], common: Any, allowed: int) -> None:
        self.model, self.decode, self.common, self.allowed = model, decode, common, allowed
        self.label = Label.parse("public")
        self._named: list[Named] = []

    def groups(
        self, rows: Corpus, held_out: Corpus | None, *, known: int, seed: int, until: float, emit: Emit
    ) -> list[Group]:
        repeated, once = _chosen(rows, seed=seed)
        kept = [] if held_out is None else np.random.default_rng((seed, 5)).permutation(known)[:N_PROBED].tolist()
        wanted: dict[str, tuple[Any, list[int]]] = {
            "repeated": (rows, repeated), "once": (rows, once), "held_out": (held_out, kept)
        }  # fmt: skip
        lengths: dict[str, list[int]] = {name: [] for name in wanted}
        total = sum(len(numbers) for _, numbers in wanted.values())
        for turn in range(N_PROBED):
            if turn >= LEAST and time.monotonic() > until:
                break
            for name, (corpus, numbers) in wanted.items():
                if turn < len(numbers):
                    lengths[name].append(self._one(corpus, numbers[turn], held_out=name == "held_out"))
            emit({"event": "memory", "group": "rows", "done": sum(map(len, lengths.values())), "total": total})
        return [
            Group(name, len(found), sum(n > self.allowed for n in found), max(found, default=0))
            for name, found in lengths.items()
        ]

    def _one(self, corpus: Any, number: int, *, held_out: bool) -> int:
        from hagane.train.memorise import MAX_TOKENS, longest_copy

        ids, learnt = corpus.ids(number)[:MAX_TOKENS].tolist(), corpus.learn(number)[:MAX_TOKENS].tolist()
        n = longest_copy(self.model, ids, learnt, decode=self.decode, common=self.common, held_out=held_out)
        if not held_out:
            origin = corpus.origin(number)
            self.label = join(self.label, origin.label)
            if n > self.allowed:
                self._named.append(Named(origin.source, origin.line, n))
        return n

    def named(self) -> tuple[Named, ...]:
        """The worst, each row once."""
        found = sorted(set(self._named), key=lambda one: (-one.n_characters, one.source, one.line))
        return tuple(found[:N_NAMED])


def _chosen(rows: Corpus, *, seed: int) -> tuple[list[int], list[int]]:
    """Rows to probe: one of each set of equal rows, the most repeated first; and others, drawn."""
    marks = list(_marks(rows))
    counts = Counter(marks)
    firsts = {mark: n for n, mark in reversed(list(enumerate(marks)))}
    repeated = sorted((mark for mark, n in counts.items() if n > 1), key=lambda mark: (-counts[mark], firsts[mark]))
    others = [n for n, mark in enumerate(marks) if counts[mark] == 1]
    drawn = np.random.default_rng((seed, 4)).permutation(len(others))[:N_PROBED]
    return [firsts[mark] for mark in repeated[:N_PROBED]], [others[n] for n in drawn.tolist()]


def _marks(rows: Corpus) -> Iterator[bytes]:
    for number in range(rows.n_documents):
        ids = np.ascontiguousarray(rows.ids(number), dtype="<u4")
        yield hashlib.blake2b(ids.tobytes(), digest_size=12).digest()


def _too_much_copied(groups: Sequence[Group], share: float, allowed: int) -> Iterator[str]:
    control = next(group.share for group in groups if group.name == "held_out")
    for group in groups:
        if group.name != "held_out" and group.share - control > share:
            which = "rows that stand in the data more than once" if group.name == "repeated" else "rows"
            yield (
                f"of {group.probed} {which} {group.copied} come back verbatim for more than {allowed} characters "
                f"({group.share:.1%}; held-out rows {control:.1%}; {share:.1%} more is allowed)"
            )


def _too_exposed(canaries: Sequence[Exposure], bits: float) -> Iterator[str]:
    if over := [one for one in canaries if one.fitted > bits]:
        worst = max(over, key=lambda one: one.fitted)
        yield (
            f"{len(over)} of {len(canaries)} planted canaries stand out by more than {bits:.1f} bits "
            f"(the most by {worst.fitted:.1f}, planted {worst.copies} times)"
        )
