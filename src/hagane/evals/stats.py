"""How sure a figure is: percentile bootstrap over questions, fixed seed; paired for two systems.

Source: Efron, Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 2000
SEED = 20261124
_N_AT_ONCE = 2_000_000  # drawn indexes held in memory: 16 MB

Array = NDArray[np.float64]
Indexes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Metric:
    """A value, its 95 % interval over questions, and how many cases it is made of."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One system minus another on the same questions; `above` is the share of resamples above 0."""

    value: float
    low: float
    high: float
    n: int
    above: float


def mean(values: Sequence[float]) -> Metric | None:
    """The mean over questions; None without cases."""
    if not values:
        return None
    array = np.asarray(values, dtype=np.float64)
    return _metric(float(array.mean()), _resample(len(array), lambda index: array[index].mean(axis=1)), len(array))


def percentile(values: Sequence[float], *, q: float) -> Metric | None:
    """The q-th percentile (0 to 100) over questions, linear between neighbours; None without cases."""
    if not values:
        return None
    array = np.asarray(values, dtype=np.float64)
    drawn = _resample(len(array), lambda index: np.percentile(array[index], q, axis=1))
    return _metric(float(np.percentile(array, q)), drawn, len(array))


def ratio(counts: Sequence[tuple[int, int]]) -> Metric | None:
    """Sum of the first over sum of the second numbers, drawn question by question; n is the second sum."""
    pairs = np.asarray(counts, dtype=np.float64).reshape(-1, 2)
    total = pairs[:, 1].sum()
    if total == 0:
        return None

    def drawn(index: Indexes) -> Array:
        below = pairs[:, 1][index].sum(axis=1)
        return np.divide(pairs[:, 0][index].sum(axis=1), below, out=np.full(len(index), np.nan), where=below > 0)

    return _metric(float(pairs[:, 0].sum() / total), _resample(len(pairs), drawn), int(total))


def auroc(confidences: Sequence[float], answerable: Sequence[bool]) -> Metric | None:
    """Area under the curve of confidence against answerable, ties half; None unless both kinds occur."""
    right = np.asarray(answerable, dtype=bool)
    if right.all() or not right.any():  # also for no questions at all
        return None
    levels, place = np.unique(np.asarray(confidences, dtype=np.float64), return_inverse=True)

    def area(index: Indexes) -> Array:
        n, width = len(index), len(levels)
        # One cell per resample, kind and confidence level.
        cell = (np.arange(n)[:, None] * 2 + right[index]) * width + place[index]
        table = np.bincount(cell.ravel(), minlength=n * 2 * width).reshape(n, 2, width)
        bad, good = table[:, 0], table[:, 1]
        wins = (good * (bad.cumsum(axis=1) - bad / 2)).sum(axis=1)
        pairs = (good.sum(axis=1) * bad.sum(axis=1)).astype(np.float64)
        return np.divide(wins, pairs, out=np.full(n, np.nan), where=pairs > 0)

    value = area(np.arange(len(right))[None, :])[0]
    return _metric(float(value), _resample(len(right), area), len(right))


def difference(one: Sequence[float], other: Sequence[float]) -> Difference | None:
    """`one` minus `other`, paired by question; None without cases. Raises: ValueError if not of one length."""
    if len(one) != len(other):
        raise ValueError("paired values need the same questions")
    if not one:
        return None
    array = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    drawn = _resample(len(array), lambda index: array[index].mean(axis=1))
    metric = _metric(float(array.mean()), drawn, len(array))
    return Difference(metric.value, metric.low, metric.high, metric.n, float((drawn > 0).mean()))


def _resample(n: int, statistic: Callable[[Indexes], Array]) -> Array:
    """`statistic` of 2,000 draws of n questions with replacement, in blocks that fit the memory."""
    random = np.random.default_rng(SEED)
    size = max(1, _N_AT_ONCE // n)
    blocks = []
    for start in range(0, N_RESAMPLES, size):
        index = random.integers(0, n, (min(size, N_RESAMPLES - start), n))
        blocks.append(statistic(index))
    return np.concatenate(blocks)


def _metric(value: float, drawn: Array, n: int) -> Metric:
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Metric(value, value, value, n)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Metric(value, float(low), float(high), n)
