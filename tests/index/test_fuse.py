"""Fusion against numbers computed by hand."""

from __future__ import annotations

import pytest

from hagane.core.types import Hit
from hagane.index.fuse import by_document, min_max, rrf, weighted_sum


def test_rrf_by_hand():
    got = rrf([["休暇", "旅費"], ["旅費"]], k=60)
    assert got == pytest.approx({"休暇": 1 / 61, "旅費": 1 / 62 + 1 / 61})


def test_rrf_weights_by_hand():
    assert rrf([["a"], ["b", "a"]], k=1, weights=[1.0, 3.0]) == pytest.approx({"a": 1 / 2 + 3 / 3, "b": 3 / 2})


@pytest.mark.parametrize("k", [0, -1])
def test_rrf_refuses_a_k_that_is_not_positive(k):
    with pytest.raises(ValueError, match="above 0"):
        rrf([["a"]], k=k)


def test_rrf_wants_a_weight_per_ranking():
    with pytest.raises(ValueError, match="shorter"):
        rrf([["a"], ["b"]], weights=[1.0])


def test_min_max_by_hand():
    assert min_max({"a": 2.0, "b": 4.0, "c": 3.0}) == {"a": 0.0, "b": 1.0, "c": 0.5}
    assert min_max({"a": 7.0}) == {"a": 1.0}
    assert min_max({}) == {}


def test_weighted_sum_by_hand():
    """An id that one list lacks earns nothing there."""
    got = weighted_sum([{"a": 10.0, "b": 0.0, "c": 5.0}, {"c": 0.9, "d": 0.8}], weights=[0.6, 0.4])
    assert got == pytest.approx({"a": 0.6, "b": 0.0, "c": 0.3 + 0.4, "d": 0.0})


def hits(*pairs: tuple[str, float]) -> list[Hit]:
    return [Hit(f"{document}#{i}", document, score) for i, (document, score) in enumerate(pairs)]


def test_documents_by_hand():
    """就業規則: 0.9 + 0.5 x 0.8 + 0.25 x 0.4 = 1.4; its fourth chunk does not count."""
    found = hits(("就業規則", 0.9), ("FAQ", 1.0), ("就業規則", 0.4), ("就業規則", 0.8), ("就業規則", 0.1))
    assert by_document(found, damping=0.5, depth=3) == [("就業規則", pytest.approx(1.4)), ("FAQ", 1.0)]


def test_damping_zero_is_the_best_chunk_alone():
    assert by_document(hits(("a", 0.9), ("b", 1.0), ("a", 0.8)), damping=0) == [("b", 1.0), ("a", 0.9)]


def test_equal_documents_stand_in_the_order_of_their_ids():
    assert by_document(hits(("b", 1.0), ("a", 1.0))) == [("a", 1.0), ("b", 1.0)]


@pytest.mark.parametrize("bad", [{"damping": 1.1}, {"damping": -0.1}, {"depth": 0}])
def test_documents_refuse_parameters_without_meaning(bad):
    with pytest.raises(ValueError, match="damping"):
        by_document(hits(("a", 1.0)), **bad)
