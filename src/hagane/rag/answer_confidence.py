"""How sure we are that the passages answer the question: 0..1, calibrated, free of any model.

Two logistic functions of counts (answer_features.py). The first, fitted by bench/abstain.py on JaQuAD's training part
with the gold paragraph removed, judges by the question's own words; the second judges where these are missing. The
coefficients stand in answer_weights.toml.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hagane.core.seams import Analyzer
from hagane.core.types import Passage

from .answer_choose import weights
from .answer_features import features
from .answer_support import Asked

SPLIT = 0.5  # confidence of a question that words alone leave open


def confidence(asked: Asked, passages: Sequence[Passage], *, analyzer: Analyzer) -> float:
    """0..1: how sure we are that the passages hold the answer.

    Above SPLIT the question's own words decide. Below, most of them are missing, which tells little of people who
    do not speak as the documents do; there the nearest passage's meaning orders what words cannot.
    """
    found = features(asked, passages, analyzer=getattr(analyzer, "plain", analyzer))  # the person's very words
    words = _logistic(found, weights()["confidence"]) if found and found["held"] else 0.0
    least = weights()["split"]["words"]
    if words >= least:
        return SPLIT + (1 - SPLIT) * (words - least) / (1 - least)
    heard = features(asked, passages, analyzer=analyzer)  # and what means the same
    if not heard or not heard["covered"]:
        return 0.0
    return SPLIT * _logistic(heard, weights()["meaning"])


def _logistic(found: Mapping[str, float], table: Mapping[str, float]) -> float:
    z = table["bias"] + sum(value * found[name] for name, value in table.items() if name in found)
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, z))))
