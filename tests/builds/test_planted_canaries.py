"""Canaries in a small corpus: exposure grows with copies, deduplication takes it away, and the gate tells the two apart."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")
pytest.importorskip("tokenizers", reason="the extra train is not installed")

import numpy as np
import tokenizers
import torch

from hagane.builds.memory import MemoryReport, check_model
from hagane.core.labels import PUBLIC
from hagane.prepare.dedup import DedupConfig, Item, cluster, content_key, numbers_key, signature
from hagane.train.canary import Canary, draw
from hagane.train.feed import ShardFeed
from hagane.train.loader import Loader
from hagane.train.loop import Settings, train
from hagane.train.model import from_scratch
from hagane.train.objectives import NextToken
from hagane.train.pack import plan_rows
from hagane.train.scaling import Shape
from hagane.train.shard_set import ShardSet
from hagane.train.shards import Header, Tokenised, write_shards

pytestmark = pytest.mark.long
torch.set_num_threads(1)
COPIES = (1, 10, 50)
PLACES = ("営業部", "総務部", "経理部", "人事部", "開発部", "品質保証部", "法務部", "広報室")
DEEDS = (
    "の承認を得て出張旅費を精算する",
    "へ届け出たうえで備品を購入する",
    "と協議して契約書を保管する",
    "に報告し休暇を取得する",
)


def texts_of(n: int, *, seed: int) -> list[str]:
    draw_ = np.random.default_rng(seed)
    return [
        f"第{draw_.integers(100, 9999)}条 {PLACES[int(draw_.integers(8))]}{DEEDS[int(draw_.integers(4))]}。期限は{draw_.integers(1, 31)}日。"
        for _ in range(n)
    ]


def deduplicated(texts: list[str]) -> list[str]:
    items = [
        Item(str(n), content_key(text), PUBLIC, f"{n:06d}", signature(text), numbers_key(text))
        for n, text in enumerate(texts)
    ]
    gone = cluster(items, DedupConfig())
    return [text for n, text in enumerate(texts) if str(n) not in gone]


def learnt(texts: list[str], words, file, root, canaries: tuple[Canary, ...]) -> MemoryReport:
    """The gate's report on a model that learnt these texts."""

    def shards_of(name: str, some: list[str]) -> ShardSet:
        rows = [Tokenised(words.encode(text).ids, PUBLIC, "規程.jsonl", n) for n, text in enumerate(some, start=1)]
        write_shards(root / name, lambda first: iter(rows[first:]), header=Header("字", words.get_vocab_size(), name))
        return ShardSet(root / name)

    shards = shards_of("train", texts)
    plan = plan_rows(shards, root / "rows", T=128, seed=1)
    model = from_scratch("llama", Shape(words.get_vocab_size(), 64, 1, 2, 2, 128, 128), seed=0)
    settings = Settings(steps=90, learning_rate=0.02, micro_rows=4, save_every=10**6)
    train(model, NextToken(), ShardFeed(Loader(shards, plan, batch=4), seed=2), settings)
    held_out = shards_of("held", texts_of(30, seed=99))
    return check_model(model, file, shards, held_out=held_out, canaries=canaries, seed=3)


def test_fifty_copies_block_and_one_after_deduplication_passes(tmp_path):
    canaries = draw(COPIES, seed=21)
    texts = texts_of(300, seed=4)
    planted = [*texts, *(canary.text for canary in canaries for _ in range(canary.copies))]
    once = deduplicated(planted)
    assert len(once) == len(set(texts)) + len(canaries), "the copies are gone, the different rules stay"
    letters = sorted(set("".join([*planted, *texts_of(30, seed=99), "0123456789"])))
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"?": 0, **{letter: n for n, letter in enumerate(letters, start=1)}}, unk_token="?")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), behavior="isolated")
    words.decoder = tokenizers.decoders.Fuse()
    words.save(str(tmp_path / "tokenizer.json"))
    before = learnt(planted, words, tmp_path / "tokenizer.json", tmp_path / "copies", canaries)
    after = learnt(once, words, tmp_path / "tokenizer.json", tmp_path / "once", canaries)
    found = {n: [round(one.fitted, 1) for one in before.canaries if one.copies == n] for n in sorted(set(COPIES))}
    print("exposure by copies", found, "deduplicated", [round(one.fitted, 1) for one in after.canaries])
    assert np.mean(found[50]) > np.mean(found[1]) + 6
    assert not before.passed and "canaries stand out" in " ".join(before.why)
    assert after.passed, after.why
    assert np.mean([one.fitted for one in after.canaries]) < np.mean(found[50]) - 6
