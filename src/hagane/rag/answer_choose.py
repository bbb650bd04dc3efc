"""Which sentences answer: a score per unit from word overlap, neighbours, answer type, place and meaning.

The weights were fitted on JaQuAD's training part (bench/extract.py) and stand in answer_weights.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

from hagane.core.seams import Analyzer, Embedder
from hagane.core.types import Passage

from .answer_support import Asked, Unit, holds, surroundings


@lru_cache(maxsize=1)
def weights() -> Mapping[str, Mapping[str, float]]:
    """The fitted numbers, by table."""
    return tomllib.loads(files("hagane.rag").joinpath("answer_weights.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Scored:
    """A unit with its score (higher is better, no unit) and the share of the question it holds."""

    unit: Unit
    score: float
    share: float


def score_units(
    asked: Asked,
    passages: Sequence[Passage],
    units: Sequence[Unit],
    *,
    analyzer: Analyzer,
    embedder: Embedder | None = None,
) -> list[Scored]:
    """Every unit with its score, in the order of `units`."""
    table = weights()["choose"]
    around = [surroundings(passage, analyzer) for passage in passages]
    best = max((passage.score for passage in passages), default=0.0)
    meaning = _meaning(asked, units, embedder)
    found: list[Scored] = []
    for at, unit in enumerate(units):
        before = units[at - 1].terms if at and units[at - 1].passage == unit.passage else frozenset()
        own = asked.share(unit.terms)
        near = asked.share(unit.terms | before)
        wide = asked.share(unit.terms | before | around[unit.passage])
        trust = passages[unit.passage].score / best if best > 0 else 0.0
        score = own + table["before"] * (near - own) + table["around"] * (wide - near)
        score += table["trust"] * trust + table["meaning"] * float(meaning[at])
        score += table["type"] * (bool(asked.kind) and holds(asked.kind, unit.text))
        found.append(Scored(unit, score, wide))
    return found


def _meaning(asked: Asked, units: Sequence[Unit], embedder: Embedder | None) -> np.ndarray:
    """(n_units,): cosine of question and unit above the mean of all units; 0 without an embedder."""
    if embedder is None or not units:
        return np.zeros(len(units))
    question = embedder.embed([asked.text], kind="query")[0]
    cosines = embedder.embed([unit.text for unit in units], kind="passage") @ question
    return cosines - cosines.mean()
