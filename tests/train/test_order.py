"""The order is a bijection, a pure function of three integers, the same for any number of processes, traced both ways."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hagane.train.order import Order, Permutation, State

GOLDEN = [5, 4, 6, 1, 2, 8, 7, 0, 3, 9]
GOLDEN_LARGE = [690086634, 668665043, 121604450, 409314933]
SEEDS = st.integers(0, 2**63)


@settings(deadline=None)
@given(st.integers(1, 3000), SEEDS, st.integers(0, 9))
def test_a_permutation_is_a_bijection_and_knows_its_way_back(n: int, seed: int, epoch: int):
    one = Permutation(n, seed=seed, epoch=epoch)
    found = one.at(np.arange(n))
    assert sorted(found.tolist()) == list(range(n))
    assert one.back(found).tolist() == list(range(n))


@settings(deadline=None)
@given(st.integers(1, 2**50), SEEDS, st.data())
def test_huge_permutations_need_no_table(n: int, seed: int, data: st.DataObject):
    at = data.draw(st.integers(0, n - 1))
    one = Permutation(n, seed=seed, epoch=0)
    assert int(one.back(one.at(at))) == at
    assert 0 <= int(one.at(at)) < n


def test_the_order_is_written_down_and_never_changes():
    """A golden line: a run that is resumed with another version must go on with the same rows."""
    assert Permutation(10, seed=7, epoch=0).at(np.arange(10)).tolist() == GOLDEN
    assert Order(1_000_000_007, 4).rows(State(7, 3, 1_000_000)).tolist() == GOLDEN_LARGE


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = {tuple(Permutation(100, seed=seed, epoch=epoch).at(np.arange(100)).tolist()) for seed in range(10) for epoch in range(-1, 9)}
    assert len(orders) == 100


def test_places_are_spread_evenly():
    """The mean place of each of 8 things over 2,000 seeds is 3.5 to within 5 standard errors (2.29 / √2000 = 0.051)."""
    sums = np.mean([Permutation(8, seed=seed, epoch=0).at(np.arange(8)) for seed in range(2000)], axis=0)
    assert np.abs(sums - 3.5).max() < 0.256


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 9), SEEDS)
def test_each_row_is_learnt_once_an_epoch_whatever_the_number_of_processes(n_rows: int, batch: int, world: int, seed: int):
    order = Order(n_rows, batch)
    seen: list[int] = []
    for step in range(order.n_steps):
        parts = [order.rows_of_rank(State(seed, 1, step), rank=rank, world=world).tolist() for rank in range(world)]
        together = [row for part in parts for row in part]
        assert sorted(together) == sorted(order.rows(State(seed, 1, step)).tolist()), "the batch does not depend on the ranks"
        seen += together
    assert sorted(seen) == list(range(n_rows))


@settings(deadline=None)
@given(st.integers(1, 10**12), st.integers(1, 999), SEEDS, st.integers(0, 5), st.data())
def test_any_row_is_traced_to_its_step(n_rows: int, batch: int, seed: int, epoch: int, data: st.DataObject):
    order = Order(n_rows, batch)
    row = data.draw(st.integers(0, n_rows - 1))
    step = order.step_of(row, seed=seed, epoch=epoch)
    assert row in order.rows(State(seed, epoch, step))


@given(st.integers(1, 50), st.integers(1, 9), st.integers(0, 200))
def test_walking_step_by_step_comes_where_jumping_comes(n_rows: int, batch: int, step: int):
    """Resume equals uninterrupted: the state is all there is."""
    order, state = Order(n_rows, batch), State(3)
    for _ in range(step):
        state = order.after(state)
    assert state == order.state_at(step, seed=3)


def test_opening_at_a_million_steps_computes_one_batch(monkeypatch):
    """Work, not seconds: as many places as the batch has, and nothing before them. Seconds: docs/log.md."""
    asked: list[int] = []
    at = Permutation.at
    monkeypatch.setattr(Permutation, "at", lambda self, places: asked.append(np.size(places)) or at(self, places))
    assert len(Order(10**12, 32).rows(State(1, 0, 1_000_000))) == 32
    assert asked == [32]


@pytest.mark.parametrize("step", [-1, 3])
def test_a_step_beyond_the_epoch_is_an_error(step: int):
    with pytest.raises(ValueError, match=r"of an epoch of 3"):
        Order(9, 4).rows(State(1, 0, step))


def test_things_outside_a_permutation_are_errors():
    with pytest.raises(ValueError, match="outside 0 … 4"):
        Permutation(5, seed=0, epoch=0).at([0, 5])
    with pytest.raises(ValueError, match="0 things"):
        Permutation(0, seed=0, epoch=0)
