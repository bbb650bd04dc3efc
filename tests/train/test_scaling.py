"""The dial: the published formulas by hand, and sizes that come out near what was asked. Needs no torch."""

from __future__ import annotations

import math

import pytest

from hagane.core.errors import UsageError
from hagane.train.scaling import (
    Shape,
    batch_tokens_for,
    learning_rate_for,
    recipe,
    recipe_for_budget,
    shape_for,
    width_at,
)


def test_parameters_by_hand():
    """Two layers of width 4, one head, inner width 8, vocabulary 10: counted on paper."""
    layer = 4 * 4 * 4 + 3 * 4 * 8 + 2 * 4
    assert Shape(10, 4, 2, 1, 1, 8, 16).n_params == 2 * layer + 4 + 40


@pytest.mark.parametrize(
    ("params", "vocab", "within"),
    [
        (200_000, 512, 0.25),
        (2_000_000, 4096, 0.15),
        (10_000_000, 4096, 0.15),
        (124_000_000, 32_000, 0.15),
        (1_000_000_000, 32_000, 0.1),
    ],
)
def test_shapes_come_near_what_was_asked(params: int, vocab: int, within: float):
    got = shape_for(params, vocab=vocab)
    assert abs(got.n_params / params - 1) < within
    assert got.width % got.heads == 0 and got.width % 32 == 0


def test_depth_and_width_follow_the_published_line():
    """ln width = 5.039 + 0.0555 depth; far above the sizes where rounding to whole heads decides."""
    got = shape_for(1_000_000_000, vocab=32_000)
    assert math.log(got.width) == pytest.approx(5.039 + 0.0555 * got.depth, abs=0.05)


def test_published_rules_give_published_sizes():
    """DeepSeek's 7 B: 4.23e10 FLOPs a token on 2 T tokens were trained at 4.2e-4 in steps of 2304 rows of 4096 tokens.
    Levine's abstract: a width of 30 K for a trillion parameters (95 blocks of 12 widths squared)."""
    compute = 4.23e10 * 2e12
    assert learning_rate_for(compute) == pytest.approx(4.2e-4, rel=0.02)
    assert batch_tokens_for(compute) == pytest.approx(2304 * 4096, rel=0.04)
    assert width_at(95) == pytest.approx(30_000, rel=0.02)
    assert 12 * 95 * width_at(95) ** 2 == pytest.approx(1e12, rel=0.05)


def test_recipe_by_hand():
    """C = FLOPs per token x 20 N; batch and learning rate of DeepSeek's fit."""
    got = recipe(params=10_000_000, vocab=4096)
    compute = got.shape.flops_per_token * 20 * got.shape.n_params
    assert got.tokens == pytest.approx(20 * got.shape.n_params, rel=0.01)
    assert got.learning_rate == pytest.approx(0.3118 * compute**-0.125)
    assert got.batch_tokens == pytest.approx(0.2920 * compute**0.3271, abs=512)
    assert got.tokens == got.steps * got.batch_tokens


def test_more_compute_means_larger_batch_and_lower_rate():
    small, large = (recipe(params=n, vocab=4096) for n in (2_000_000, 50_000_000))
    assert large.batch_tokens > small.batch_tokens and large.learning_rate < small.learning_rate


@pytest.mark.parametrize("hours", [0.1, 1, 24, 500])
def test_a_budget_is_spent_and_not_overdrawn(hours: float):
    """6 N D of the recipe is the budget's FLOPs within 2 %; about 20 tokens per parameter."""
    got = recipe_for_budget(hours=hours, flops_per_s=1.5e11, vocab=1024)
    assert got.flops == pytest.approx(hours * 3600 * 1.5e11, rel=0.02)
    assert 12 < got.tokens / got.shape.n_params < 28


def test_an_hour_of_two_cores_is_two_million_parameters():
    """What was measured: 2 M parameters and 44 M tokens an hour, which is 1.5e11 FLOP/s."""
    got = recipe_for_budget(hours=1, flops_per_s=1.47e11, vocab=4096)
    assert 1_200_000 < got.shape.n_params < 2_600_000
    assert 25e6 < got.tokens < 60e6


def test_too_little_is_refused_with_what_would_do():
    with pytest.raises(UsageError, match="hours are too few") as caught:
        recipe_for_budget(hours=1e-6, flops_per_s=1e11, vocab=512)
    assert "give at least" in str(caught.value.hint)
    with pytest.raises(UsageError, match="the least is"):
        recipe(params=10, vocab=512)


def test_a_vocabulary_larger_than_the_model_is_refused():
    with pytest.raises(UsageError, match="a vocabulary of 250000") as caught:
        recipe(params=1_000_000, vocab=250_000)
    assert "smaller vocabulary" in str(caught.value.hint)
