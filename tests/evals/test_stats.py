"""Intervals are those of a plain bootstrap, the same every time, and null without cases."""

from __future__ import annotations

import random

import pytest

from hagane.evals import stats
from hagane.evals.metrics import auroc


def plain_interval(n: int, statistic) -> tuple[float, float]:
    """The textbook loop with the standard library's generator."""
    rng = random.Random(1)
    drawn = sorted(statistic([rng.randrange(n) for _ in range(n)]) for _ in range(2000))
    return drawn[49], drawn[1949]


def test_mean_and_its_interval() -> None:
    values = [float(n % 5 == 0) for n in range(200)]
    got = stats.mean(values)
    low, high = plain_interval(200, lambda index: sum(values[i] for i in index) / 200)
    assert (got.value, got.n) == (0.2, 200)
    assert got.low == pytest.approx(low, abs=0.015)
    assert got.high == pytest.approx(high, abs=0.015)


def test_same_values_give_the_same_interval() -> None:
    assert stats.mean([0.1, 0.7, 0.4]) == stats.mean([0.1, 0.7, 0.4])


def test_one_case_has_no_spread() -> None:
    assert stats.mean([0.5]) == stats.Metric(0.5, 0.5, 0.5, 1)


def test_no_cases_are_null() -> None:
    assert stats.mean([]) is None
    assert stats.percentile([], q=50) is None
    assert stats.ratio([]) is None
    assert stats.ratio([(0, 0)]) is None
    assert stats.auroc([], []) is None
    assert stats.auroc([0.5, 0.7], [True, True]) is None
    assert stats.difference([], []) is None


def test_percentiles_lie_between_neighbours() -> None:
    got = stats.percentile([1.0, 2.0, 3.0, 4.0], q=50)
    assert (got.value, got.n) == (2.5, 4)
    assert 1 <= got.low <= got.value <= got.high <= 4


def test_ratio_is_of_sums_and_counts_the_shown() -> None:
    got = stats.ratio([(1, 3), (1, 1), (0, 0)])
    assert (got.value, got.n) == (0.5, 4)
    assert got.low == pytest.approx(1 / 3)
    assert got.high == 1


def test_area_and_its_interval_equal_the_slow_way() -> None:
    rng = random.Random(2)
    right = [n % 3 > 0 for n in range(90)]
    confidences = [round(min(1, max(0, rng.gauss(0.6 if r else 0.45, 0.2))), 1) for r in right]

    def slow(index: list[int]) -> float:
        return auroc([confidences[i] for i in index if right[i]], [confidences[i] for i in index if not right[i]])

    got = stats.auroc(confidences, right)
    low, high = plain_interval(90, slow)
    assert got.value == pytest.approx(slow(list(range(90))))
    assert got.n == 90
    assert got.low == pytest.approx(low, abs=0.02)
    assert got.high == pytest.approx(high, abs=0.02)


def test_paired_difference_is_narrower_than_two_intervals() -> None:
    """The same hard questions hurt both systems; pairing takes that out."""
    base = [float(n % 2) for n in range(100)]
    better = [1.0 if n % 10 == 0 else value for n, value in enumerate(base)]
    got = stats.difference(better, base)
    assert got.value == pytest.approx(0.1)
    assert got.low > 0.03
    assert got.above == 1
    assert got.high - got.low < stats.mean(base).high - stats.mean(base).low
    with pytest.raises(ValueError, match="same questions"):
        stats.difference([1.0], [])
