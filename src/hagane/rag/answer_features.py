"""What speaks for and against an answer in the passages: a few counts of the question's words, each with its reason.

Two weights of a question's word: how rare it is (inverse document frequency within the asker's clearance), and that
times how far a text which answers would have to repeat it. 名前 and 早い are words of questions, which texts that
answer repeat in one of ten cases; a katakana name they repeat nearly always (question_word_rates_ja.txt).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise

from hagane.core.seams import Analyzer
from hagane.core.text import for_search, squeeze
from hagane.core.types import Passage

from .answer_choose import weights
from .answer_support import Asked, Unit, holds_unit, merged, surroundings, units

N_PASSAGES = 10  # looked at; among them rarity is counted
N_BEST = 5  # that may be the one which answers
_KANA_END = re.compile(r"[ぁ-ん]$")  # 死ぬ, 早い: words that people paraphrase; nouns less so
_KINDS = (
    ("number", re.compile(r"[0-9]")),
    ("katakana", re.compile(r"[ァ-ヶー]+$")),
    ("latin", re.compile(r"[a-z.\-]+$")),
    ("kana_end", re.compile(r".*[ぁ-ん]$")),
)
_HAN = re.compile(r"[一-龠々]")
_JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠]")
_CERTAIN, _LARGEST = 0.97, 3.0  # a rate counts up to this, the surprise at a missing word up to that many nats


@dataclass(frozen=True, slots=True)
class Read:
    """One passage as the question sees it."""

    units: Sequence[Unit]
    around: frozenset[str]  # terms of title and headings
    terms: frozenset[str]  # of all of it
    text: str  # search key without blanks


def read(passage: Passage, analyzer: Analyzer) -> Read:
    """The sentences of a passage and the terms in and over them."""
    found, around = units([passage], analyzer), surroundings(passage, analyzer)
    terms = frozenset(merged(unit.terms for unit in found)) | around
    return Read(found, around, terms, squeeze(for_search(passage.chunk.spoken)))


@lru_cache(maxsize=1)
def _rates() -> Mapping[str, float]:
    lines = files("hagane.rag").joinpath("question_word_rates_ja.txt").read_text(encoding="utf-8").splitlines()
    return {term: float(rate) for term, rate in (line.split() for line in lines if line and line[0] != "#")}


def kind_of_word(term: str) -> str:
    """number, katakana, latin, kana_end (verbs, adjectives, words in kana), or other (nouns in kanji, mostly)."""
    return next((name for name, pattern in _KINDS if pattern.match(term)), "other")


def rate(term: str) -> float:
    """How often a text that answers repeats this word of the question, 0..1."""
    return _rates().get(term) or weights()["rates"][kind_of_word(term)]


def needs(asked: Asked) -> dict[str, float]:
    """Each word's weight times the surprise that a text which answers lacks it, -ln(1 - rate), in units of 2 nats."""
    if not _JAPANESE.search(asked.text):  # the rates are those of Japanese questions
        return dict(asked.weights)
    return {t: w * surprise(t) / 2 for t, w in asked.weights.items()}


def surprise(term: str) -> float:
    """Nats of finding no `term` in a text that answers."""
    return min(_LARGEST, -math.log(1 - min(rate(term), _CERTAIN)))


def features(asked: Asked, passages: Sequence[Passage], *, analyzer: Analyzer) -> dict[str, float]:
    """Counts over the best passages, in shares or in units of the rarest possible word; {} without passages."""
    if not passages or not asked.total:
        return {}
    found = [read(passage, analyzer) for passage in passages[:N_PASSAGES]]
    near = found[:N_BEST]
    need, rarest = needs(asked), asked.rarest
    total = sum(need.values())
    pairs = [_pair(one, need) for one in near]
    best = max(range(len(near)), key=lambda at: (_held(need, near[at].terms) + pairs[at], -at))
    one = near[best]
    missing = [t for t in need if t not in one.terms]
    n_holding = {t: sum(t in other.terms for other in found) for t in need}
    last = list(need)[-1]
    key = squeeze(for_search(asked.text))
    return {
        # the plain share: what the other half of the confidence starts from
        "covered": asked.share(one.terms),
        # a word whose kanji stand there may be said otherwise: 造る in 製造
        "missing": sum(need[t] * (1 - _letters_held(t, one.text)) for t in missing) / rarest,
        # an answer stands in one or two sentences that speak of all that is asked
        "missing_pair": (total - pairs[best]) / rarest,
        # one name that is not there outweighs many words that are
        "missing_most": max((surprise(t) for t in missing), default=0.0),
        "missing_everywhere": sum(need[t] for t in need if not n_holding[t]) / rarest,
        "missing_numbers": sum(asked.weights[t] for t in missing if kind_of_word(t) == "number") / rarest,
        # verbs and adjectives are paraphrased, nouns less so
        "missing_verbs": sum(asked.weights[t] for t in missing if _KANA_END.search(t)) / rarest,
        # the last word is what is asked about: 名前, 理由, but also 死因
        "missing_last": asked.weights[last] / rarest * (last in missing),
        # the more is held, the less chance can do it; words that only this passage holds say most
        "held": _held(asked.weights, one.terms) / rarest,
        "unique": sum(w for t, w in asked.weights.items() if t in one.terms and n_holding[t] <= 2) / rarest,
        "total": total / rarest,
        # two letters in a row: independent of how words are cut
        "letters_sentence": max((_letters(key, unit.text) for other in near for unit in other.units), default=0.0),
        "scattered": float(_n_needed(need, one.units)),
        # 何年, いつ: dates stand in many passages beside the right one; 何県, 何キロ want their unit near
        "date": float(asked.kind == "date"),
        "unit": float(bool(asked.unit)),
        "unit_held": float(bool(asked.unit) and holds_unit(asked.unit, _around(one, need), asked.text)),
        **_meaning(passages[:N_PASSAGES]),
    }


def _held(need: Mapping[str, float], terms: Collection[str]) -> float:
    return sum(w for t, w in need.items() if t in terms)


def _pair(one: Read, need: Mapping[str, float]) -> float:
    """What the best two neighbouring sentences hold, with title and headings."""
    single = [unit.terms | one.around for unit in one.units] or [one.around]
    return max(_held(need, terms) for terms in [*single, *(a | b for a, b in pairwise(single))])


def _letters_held(term: str, text: str) -> float:
    """Share of a word's kanji (else letters) that the text holds: 製造 is half in 造船."""
    letters = _HAN.findall(term) or list(term)
    return sum(letter in text for letter in letters) / len(letters)


def _letters(key: str, text: str) -> float:
    """Share of the runs of two letters of `key` that `text` holds."""
    runs, text = {key[at : at + 2] for at in range(len(key) - 1)}, squeeze(for_search(text))
    return sum(run in text for run in runs) / len(runs) if runs else 0.0


def _around(one: Read, need: Mapping[str, float]) -> str:
    """The sentence that holds most of the question, with the ones before and behind it."""
    place = max(range(len(one.units)), key=lambda at: _held(need, one.units[at].terms), default=0)
    return " ".join(unit.text for unit in one.units[max(0, place - 1) : place + 2])


def _n_needed(need: Mapping[str, float], found: Sequence[Unit]) -> int:
    """Sentences needed to hold what the passage holds, taking the best one each time."""
    left = {t for t in need if any(t in unit.terms for unit in found)}
    count = 0
    while left:
        best = max(found, key=lambda unit: sum(need[t] for t in left & unit.terms))
        left -= best.terms
        count += 1
    return count


_COSINE, _SPREAD = 0.85, 0.08  # of e5: unrelated texts have 0.77 to 0.85, near ones up to 0.93. Bounded, because the
# cosines of another embedder lie elsewhere and must not outweigh the words


def nearness(passages: Sequence[Passage]) -> float:
    """Cosine of the nearest passage above 0.85, bounded; 0 without vectors."""
    cosines = [passage.why["cosine"] for passage in passages if "cosine" in passage.why]
    return max(-_SPREAD, min(_SPREAD, max(cosines, default=_COSINE) - _COSINE))


def _meaning(passages: Sequence[Passage]) -> dict[str, float]:
    """The nearest passage's cosine, and by how much the first passage is nearer than all others."""
    cosines = [passage.why.get("cosine", 0.0) for passage in passages]
    first, others = cosines[0], max(cosines[1:], default=0.0)
    gap = first - others if first and others else 0.0
    return {"cosine": nearness(passages), "cosine_gap": max(-_SPREAD, min(_SPREAD, gap))}
