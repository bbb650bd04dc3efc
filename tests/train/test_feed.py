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
from hagane.train.feed import ShardFeed
from hagane.train.loader import Loader
from hagane.train.loop import Settings, train
from hagane.train.model import hidden
from hagane.train.objectives import Micro, NextToken
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
    rows = [row for row in range(8) if (one.ids_BT[row] == "年".encode()[1]).any()]
    names = sorted({name for row in rows for name in feed.documents(step, row)})
    assert 0 < len(rows) < 8
    assert f"step {step} is not a number; rows {rows} of its batch, documents {', '.join(names)}" in str(caught.value)


def test_blank_rows_of_a_short_step_hold_no_documents_and_harm_nothing(loader):
    feed, last = ShardFeed(loader, seed=4), loader.n_steps - 1
    one = feed.batch(last)
    assert feed.documents(last, 7) == []
    assert one.label == LABEL
    micro = Micro.of(one, [7])
    assert torch.isfinite(hidden(tiny(), micro.ids_BT, micro.positions_BT, micro.documents_BT)).all()
    assert NextToken().score(tiny(), micro).total.item() == 0.0
