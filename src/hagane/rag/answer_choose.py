"""Which sentences answer: a score per unit from word overlap, neighbours, answer type, edition and meaning.

The weights stand in answer_weights.toml.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

from hagane.core.seams import Analyzer, Embedder
from hagane.core.text import for_search
from hagane.core.types import Passage

from .answer_support import Asked, Unit, holds, holds_unit, surroundings


@lru_cache(maxsize=1)
def weights() -> Mapping[str, Mapping[str, float]]:
    """The fitted numbers, by table."""
    return tomllib.loads(files("hagane.rag").joinpath("answer_weights.toml").read_text(encoding="utf-8"))


N_EMBEDDED = 32  # units whose meaning is looked at: the best by words (about 2,000 characters)


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
    is_old = outdated(asked.text, passages)
    found: list[Scored] = []
    for at, unit in enumerate(units):
        before = units[at - 1].terms if at and units[at - 1].passage == unit.passage else frozenset()
        own = asked.share(unit.terms)
        near = asked.share(unit.terms | before)
        wide = asked.share(unit.terms | before | around[unit.passage])
        trust = passages[unit.passage].score / best if best > 0 else 0.0
        score = own + table["before"] * (near - own) + table["around"] * (wide - near)
        score += table["trust"] * trust - table["outdated"] * is_old[unit.passage]
        score += table["type"] * (bool(asked.kind) and holds(asked.kind, unit.text))
        score += table["unit"] * (bool(asked.unit) and holds_unit(asked.unit, unit.text, asked.text))
        found.append(Scored(unit, score, wide))
    if embedder is None or not found:
        return found
    return _with_meaning(asked, passages, found, embedder, weight=table["meaning"])


def _with_meaning(
    asked: Asked, passages: Sequence[Passage], found: Sequence[Scored], embedder: Embedder, *, weight: float
) -> list[Scored]:
    """Scores plus `weight` x cosine of question and unit (read under its heading), above the mean of those looked at.
    Units beyond N_EMBEDDED get the least of them."""
    order = sorted(range(len(found)), key=lambda at: -found[at].score)[:N_EMBEDDED]
    texts = [_in_context(found[at].unit, passages) for at in order]
    cosines = embedder.embed(texts, kind="passage") @ embedder.embed([asked.text], kind="query")[0]
    above = dict(zip(order, (cosines - cosines.mean()).tolist(), strict=True))
    least = min(above.values())
    return [replace(one, score=one.score + weight * above.get(at, least)) for at, one in enumerate(found)]


def _in_context(unit: Unit, passages: Sequence[Passage]) -> str:
    chunk = passages[unit.passage].chunk
    about = chunk.headings[-1] if chunk.headings else chunk.title
    return f"{about}\n{unit.text}" if about else unit.text


_DATE = re.compile(r"(?<![0-9])((?:19|20)[0-9]{2})(?:[-_/.年]?([01]?[0-9])(?![0-9]))?")
_NOT_LETTERS = re.compile(r"[\W0-9_]|年|月|日|版|改定|改訂|改正|旧|新")


def outdated(question: str, passages: Sequence[Passage]) -> list[bool]:
    """For each passage: is there a later edition of its document among the passages? Editions differ by the year
    (and month) in path or title only. A question that names a year wants that one."""
    wanted = {match[1] for match in _DATE.finditer(for_search(question))}
    editions = [_edition(passage) for passage in passages]
    latest: dict[str, tuple[int, int]] = {}
    for family, date in editions:
        latest[family] = max(latest.get(family, (0, 0)), date)
    return [date != (0, 0) and date < latest[family] and str(date[0]) not in wanted for family, date in editions]


def _edition(passage: Passage) -> tuple[str, tuple[int, int]]:
    """(name without dates, (year, month)) of a passage's document; (0, 0) when it names no year."""
    name = for_search(passage.chunk.path.rpartition("/")[2].rpartition(".")[0] or passage.chunk.path)
    found = _DATE.search(name) or _DATE.search(for_search(passage.chunk.title))
    family = _NOT_LETTERS.sub("", name)
    if not found or not family:
        return passage.chunk.document, (0, 0)
    return family, (int(found[1]), int(found[2] or 0))
