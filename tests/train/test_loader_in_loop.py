"""The loop trains on token shards: the same weights uninterrupted or resumed, and it names what went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")

import torch
from small_training import SENTENCES, VOCAB, tiny

from hagane.core.errors import StateError
from hagane.core.labels import Label
from hagane.train.loader import Loader, Stream
from hagane.train.loop import Settings, train
from hagane.train.objectives import NextToken
from hagane.train.pack import plan_rows
from hagane.train.shard_set import ShardSet
from hagane.train.shards import Header, Tokenised, write_shards

SETTINGS = Settings(steps=7, learning_rate=1e-3, warmup_steps=1, micro_rows=2, save_every=2)


def stream(folder: Path) -> Stream:
    """Six sentences as bytes in rows of 64, three rows a step: a step of an epoch has fewer rows."""
    texts = [Tokenised(list(text.encode()), Label(), "規程.jsonl", n + 1) for n, text in enumerate(SENTENCES)]
    write_shards(folder / "shards", lambda first: texts[first:], header=Header("UTF-8", VOCAB, "文"))
    shards = ShardSet(folder / "shards")
    return Stream(Loader(shards, plan_rows(shards, folder / "rows", T=64, seed=1), batch=4), seed=2)


def test_a_resumed_run_on_shards_ends_with_the_bits_of_an_uninterrupted_one(tmp_path: Path):
    data = stream(tmp_path)
    assert {len(data.batch(step).ids_BT) for step in range(7)} > {4}, "epochs end within the run, with short steps"
    whole, cut = tiny(), tiny()
    train(whole, NextToken(), data, SETTINGS)
    seen: list[int] = []
    train(cut, NextToken(), data, SETTINGS, folder=tmp_path / "run", stop=lambda: len(seen) >= 4,
          watch=lambda event: seen.append(event.step) if event.kind == "step" else None)  # fmt: skip
    resumed = tiny(seed=9)
    train(resumed, NextToken(), stream(tmp_path), SETTINGS, folder=tmp_path / "run")
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_loss_that_is_no_number_names_file_and_line(tmp_path: Path):
    model = tiny()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(StateError, match=r"documents 規程\.jsonl:\d"):
        train(model, NextToken(), stream(tmp_path), SETTINGS)
