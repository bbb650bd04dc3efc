"""How sure we are that the passages answer the question: 0..1, calibrated, free of any model.

Starts from the IDF-weighted coverage of the question by the best passage and adds a few more counts of the same
kind: the best sentence, letters in a row, words that no passage or hardly any other holds, the unit asked for. A
logistic function of them, fitted by bench/abstain.py on JaQuAD's training part with the gold paragraph removed;
its coefficients stand in answer_weights.toml.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from hagane.core.seams import Analyzer
from hagane.core.text import for_search, squeeze
from hagane.core.types import Passage

from .answer_choose import weights
from .answer_support import Asked, Unit, holds_unit, merged, surroundings, units

N_PASSAGES = 10  # looked at; among them rarity is counted
SPLIT = 0.5  # confidence of a question that words alone leave open
_COSINE, _SPREAD = 0.85, 0.08  # of e5: unrelated texts have 0.77 to 0.85, near ones up to 0.93. Bounded, because the
# cosines of another embedder lie elsewhere and must not outweigh the words
N_BEST = 5  # that may be the one which answers
_KANA_END = re.compile(r"[ぁ-ん]$")  # 死ぬ, 早い: words that people paraphrase; nouns less so


def features(asked: Asked, passages: Sequence[Passage], *, analyzer: Analyzer) -> dict[str, float]:
    """Counts over the best passages, in shares or in units of the rarest possible word; {} without passages."""
    passages = passages[:N_PASSAGES]
    if not passages or not asked.total:
        return {}
    found = [units([passage], analyzer) for passage in passages]
    around = [surroundings(passage, analyzer) for passage in passages]
    terms = [merged(u.terms for u in us) | a for us, a in zip(found, around, strict=True)]
    at, place, sentence, window = _best(asked, found[:N_BEST], around)
    missing = {t: w for t, w in asked.weights.items() if t not in terms[at]}
    n_holding = {t: sum(t in one for one in terms) for t in asked.weights}
    near = " ".join(unit.text for unit in found[at][max(0, place - 1) : place + 2])
    rarest = asked.rarest
    return {
        "covered": asked.share(terms[at]),
        "sentence": sentence,
        "window": window,
        "letters": _letters(asked.text, passages[at]),
        "missing": sum(missing.values()) / rarest,
        "missing_verbs": sum(w for t, w in missing.items() if _KANA_END.search(t)) / rarest,
        "unique": sum(w for t, w in asked.weights.items() if t in terms[at] and n_holding[t] <= 2) / rarest,
        "words": float(len(asked.weights)),
        "unit": float(bool(asked.unit)),
        "unit_held": float(bool(asked.unit) and holds_unit(asked.unit, near, asked.text)),
        "scattered": float(_n_needed(asked, found[at])),
    }


def _best(
    asked: Asked, found: Sequence[Sequence[Unit]], around: Sequence[frozenset[str]]
) -> tuple[int, int, float, float]:
    """Passage and place of the sentence that holds most of the question with what stands in front of it and over it;
    the share that it holds alone, and with these."""
    best = (0, 0, 0.0, 0.0)
    top = -1.0
    for at, one in enumerate(found):
        before: frozenset[str] = frozenset()
        for place, unit in enumerate(one):
            own, wide = asked.share(unit.terms), asked.share(unit.terms | before | around[at])
            if own + 0.4 * (wide - own) > top:
                top, best = own + 0.4 * (wide - own), (at, place, own, wide)
            before = unit.terms
    return best


def _letters(question: str, passage: Passage) -> float:
    """Share of the question's runs of three letters that the passage holds."""
    key, text = squeeze(for_search(question)), squeeze(for_search(passage.chunk.spoken))
    runs = {key[at : at + 3] for at in range(len(key) - 2)}
    return sum(run in text for run in runs) / len(runs) if runs else 0.0


def _n_needed(asked: Asked, found: Sequence[Unit]) -> int:
    """Sentences needed to hold what the passage holds, taking the best one each time."""
    left = {t for t in asked.weights if any(t in unit.terms for unit in found)}
    count = 0
    while left:
        best = max(found, key=lambda unit: sum(asked.weights[t] for t in left & unit.terms))
        left -= best.terms
        count += 1
    return count


def confidence(asked: Asked, passages: Sequence[Passage], *, analyzer: Analyzer) -> float:
    """0..1: how sure we are that the passages hold the answer.

    Above SPLIT the question's own words decide. Below, most of them are missing, which tells little of people who
    do not speak as the documents do; there the nearest passage's meaning orders what words cannot.
    """
    found = features(asked, passages, analyzer=getattr(analyzer, "plain", analyzer))  # the person's very words
    cosines = [passage.why["cosine"] for passage in passages if "cosine" in passage.why]
    cosine = {"cosine": max(-_SPREAD, min(_SPREAD, max(cosines, default=_COSINE) - _COSINE))}
    words = _logistic(found | cosine, weights()["confidence"]) if found else 0.0
    least = weights()["split"]["words"]
    if words >= least:
        return SPLIT + (1 - SPLIT) * (words - least) / (1 - least)
    heard = features(asked, passages, analyzer=analyzer)  # and what means the same
    if not heard or not heard["covered"]:
        return 0.0
    return SPLIT * _logistic(heard | cosine, weights()["meaning"])


def _logistic(found: Mapping[str, float], table: Mapping[str, float]) -> float:
    z = table["bias"] + sum(value * found[name] for name, value in table.items() if name in found)
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, z))))
