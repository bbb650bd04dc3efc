"""From shards on disk to trained steps: the loop reads what was packed, resumes over epochs and names documents."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")

import torch
from small_training import SENTENCES, VOCAB, tiny

from hagane.core.errors import StateError
from hagane.core.labels import Label
from hagane.train.feed import DevBatches, ShardFeed
from hagane.train.loader import Loader
from hagane.train.loop import Settings, train
from hagane.train.objectives import NextToken
from hagane.train.pack import plan_rows
from hagane.train.shard_set import ShardSet
from hagane.train.shards import Header, Tokenised, write_shards

LABEL = Label.parse("internal:hr")


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    """Twelve Japanese documents as bytes, some longer than a row of 48: 8 rows a step, the last step has fewer."""
    texts = [text * n for n in (1, 3) for text in SENTENCES]
    given = [Tokenised(list(text.encode()), LABEL, "規程.jsonl", n + 1, None) for n, text in enumerate(texts)]
    write_shards(tmp_path / "s", lambda first: iter(given[first:]), header=Header("バイト", VOCAB, "試験", False, 4096))
    shards = ShardSet(tmp_path / "s")
    found = Loader(shards, plan_rows(shards, tmp_path / "r", T=48, seed=1), batch=8)
    assert found.order.n_rows % 8 == 3
    return found


def test_shards_train_and_go_on_in_the_next_epoch(loader, tmp_path):
    """Stopped in the first epoch and gone on into the third, with a short step at each end: equal to a run in one."""
    steps = 2 * loader.n_steps + 2
    settings = Settings(steps=steps, learning_rate=3e-3, warmup_steps=2, save_every=3, micro_rows=2)
    feed = ShardFeed(loader, seed=4)
    whole = train(tiny(), NextToken(), feed, settings).losses
    first = train(
        tiny(), NextToken(), feed, settings, folder=tmp_path / "run", stop=iter([False] * 3 + [True]).__next__
    )
    rest = train(tiny(), NextToken(), feed, settings, folder=tmp_path / "run")
    assert first.losses + rest.losses == whole
    assert whole[-1] < whole[0]
    assert feed.state(steps) == (4, 2, 2)


def test_another_order_is_other_data(loader, tmp_path):
    settings = Settings(steps=4, learning_rate=1e-3, save_every=2)
    train(tiny(), NextToken(), ShardFeed(loader, seed=4), settings, folder=tmp_path / "run")
    with pytest.raises(StateError, match="other data"):
        train(tiny(), NextToken(), ShardFeed(loader, seed=5), settings, folder=tmp_path / "run")


def test_a_bad_number_names_source_and_line(loader):
    """The embedding of the second byte of 「年」 is not a number: exactly the documents in rows that hold it are named."""
    model = tiny(tie_word_embeddings=False)
    with torch.no_grad():
        model.get_input_embeddings().weight["年".encode()[1]] = float("nan")
    feed = ShardFeed(loader, seed=4)
    with pytest.raises(StateError, match="is not a number") as caught:
        train(model, NextToken(), feed, Settings(steps=9, learning_rate=1e-3))
    step = next(n for n in range(9) if (feed.batch(n).ids_BT == "年".encode()[1]).any())
    one = feed.batch(step)
    rows = [row for row in range(len(one.ids_BT)) if (one.ids_BT[row] == "年".encode()[1]).any()]
    names = sorted({name for row in rows for name in feed.documents(step, row)})
    assert 0 < len(rows) < 8
    assert f"step {step} is not a number; rows {rows} of its batch, documents {', '.join(names)}" in str(caught.value)


def test_a_short_step_has_fewer_rows(loader):
    """Epochs end within a step of 8 rows: the last step holds what is left, and each row is traced to its documents."""
    feed, last = ShardFeed(loader, seed=4), loader.n_steps - 1
    one = feed.batch(last)
    assert len(one.ids_BT) == 3
    assert all(feed.documents(last, row) for row in range(3))
    assert one.label == LABEL


def test_a_document_is_traced_to_its_steps_and_back(loader):
    """In every epoch: exactly the steps whose rows name the document."""
    feed = ShardFeed(loader, seed=4)
    for epoch in (0, 3):
        steps = range(epoch * feed.n_steps, (epoch + 1) * feed.n_steps)
        named = {step: {name for row in range(len(feed.batch(step).ids_BT)) for name in feed.documents(step, row)} for step in steps}
        for line in range(1, 13):
            name = f"規程.jsonl:{line}"
            assert feed.steps_of(name, epoch=epoch) == [step for step in steps if name in named[step]] != []
        assert feed.steps_of("規程.jsonl", epoch=epoch) == list(steps)
    assert feed.steps_of("別の規程.jsonl:1") == []


def test_dev_batches_are_the_same_each_time_and_as_many_as_wanted(loader):
    dev = DevBatches(loader, n_rows=9)
    assert [len(one.ids_BT) for one in dev] == [8, 8], "whole steps until there are enough rows"
    assert [len(one.ids_BT) for one in DevBatches(loader, n_rows=10**9)][-2:] == [8, 3]
    assert (dev[0].ids_BT == DevBatches(loader, n_rows=1)[0].ids_BT).all()
    assert len(dev[:1]) == 1
