"""Several rankings to one, and chunks to documents: pure functions over hits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.types import Hit


def rrf(
    rankings: Sequence[Sequence[str]], *, k: float = 60.0, weights: Sequence[float] | None = None
) -> dict[str, float]:
    """Fuse ranked id lists into one score per id; higher is better, no unit.

    An id at place p (counted from 1) of a list earns weight / (k + p); weights are 1 unless given.
    Raises: ValueError if k <= 0 or weights and rankings differ in number.
    Source: Cormack, Clarke, Buettcher, SIGIR 2009.
    """
    if k <= 0:
        raise ValueError(f"k is {k}, must be above 0")
    scores: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for place, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + weight / (k + place)
    return scores


def min_max(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores stretched to 0..1; all equal: all 1."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high == low:
        return dict.fromkeys(scores, 1.0)
    return {key: (score - low) / (high - low) for key, score in scores.items()}


def weighted_sum(lists: Sequence[Mapping[str, float]], *, weights: Sequence[float]) -> dict[str, float]:
    """Weighted sum of min-max stretched scores; an id that a list lacks earns 0 from it.

    Raises: ValueError if weights and lists differ in number.
    Source: Bruch, Gai, Ingber, An Analysis of Fusion Functions for Hybrid Retrieval, TOIS 2023.
    """
    scores: dict[str, float] = {}
    for found, weight in zip(lists, weights, strict=True):
        for key, score in min_max(found).items():
            scores[key] = scores.get(key, 0.0) + weight * score
    return scores


def by_document(hits: Sequence[Hit], *, damping: float = 0.5, depth: int = 3) -> list[tuple[str, float]]:
    """Documents with a score, best first, from their chunks' scores: the best chunk plus its damped followers.

    score = s1 + damping s2 + damping^2 s3 + ..., the `depth` best chunks of a document counted. damping 0
    is the best chunk alone, 1 the plain sum. Scores must not be negative. Equal scores: by document id.
    Raises: ValueError if damping is outside 0..1 or depth below 1.
    """
    if not 0 <= damping <= 1 or depth < 1:
        raise ValueError(f"damping is {damping} (0..1), depth is {depth} (1 or more)")
    scores: dict[str, list[float]] = {}
    for hit in hits:
        scores.setdefault(hit.document, []).append(hit.score)
    totals = {
        document: sum(score * damping**place for place, score in enumerate(sorted(found, reverse=True)[:depth]))
        for document, found in scores.items()
    }
    return sorted(totals.items(), key=lambda item: (-item[1], item[0]))
