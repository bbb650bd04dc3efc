"""A run opens at step 1,000,000 as it opens at step 0: by the work that is done, not by a clock (bench/loader.py has the clock)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenised import made

from hagane.train import order, shard_set
from hagane.train.feed import ShardFeed
from hagane.train.loader import Loader
from hagane.train.pack import RowPlan, plan_rows
from hagane.train.shard_set import ShardSet


@pytest.mark.parametrize("step", [0, 1_000_000, 10**9])
def test_opening_at_any_step_looks_at_the_rows_of_that_step_only(tmp_path: Path, monkeypatch, step: int):
    """2,000 rows of 規程, 4 a step: four places of the order are computed, and only their documents are read."""
    shards = made(tmp_path / "s", [8] * 2000, shard_tokens=4000)
    plan_rows(shards, tmp_path / "r", T=8, seed=1)
    places, documents = [], []
    at, ids = order.Permutation.at, ShardSet.ids
    monkeypatch.setattr(order.Permutation, "at", lambda self, given: (places.append(np.size(given)), at(self, given))[1])
    monkeypatch.setattr(shard_set.ShardSet, "ids", lambda self, n: (documents.append(n), ids(self, n))[1])
    feed = ShardFeed(Loader(ShardSet(tmp_path / "s"), RowPlan(tmp_path / "r"), batch=4), seed=3)
    batch = feed.batch(step)
    assert batch.ids_BT.shape == (4, 8)
    assert places == [4]
    assert len(documents) == 4
    assert feed.state(step) == (3, *divmod(step, 500))
