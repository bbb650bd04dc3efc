"""Verbatim copying: what is found is what greedy decoding says, and common text is no memory."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")

import numpy as np
import torch
from small_training import SENTENCES, Stream, tiny

from hagane.core.labels import Label
from hagane.train.loop import Settings, train
from hagane.train.memorise import COMMON, Common, Kept, agreeing, folded, longest_copy, stretches
from hagane.train.model import logits
from hagane.train.objectives import NextToken
from hagane.train.shards import Tokenised

TEXT = "年次有給休暇は、入社から六か月後に十日付与し、翌年度より勤続年数に応じて加算する。"


def decode(ids) -> str:
    return bytes(ids).decode(errors="ignore")


@pytest.fixture(scope="module")
def drilled():
    """A small model that was taught six sentences until it knew them."""
    model = tiny(width=64, heads=2)
    train(model, NextToken(), Stream(rows=4), Settings(steps=150, learning_rate=0.02, micro_rows=4))
    return model.eval()


@torch.no_grad()
def greedy(model, ids: list[int], n: int) -> list[int]:
    """The plain way, one token after the other."""
    ids = list(ids)
    for _ in range(n):
        given = torch.tensor([ids])
        places = torch.arange(len(ids))[None]
        ids.append(int(logits(model, given, places, torch.zeros_like(given).int())[0, -1].argmax()))
    return ids


def test_agreeing_stretches_are_what_greedy_decoding_says(drilled):
    """From the beginning before each stretch, greedy decoding says the stretch, and then something else."""
    n_long = 0
    for sentence in SENTENCES:
        ids = list(sentence.encode())
        for start, end in stretches(agreeing(drilled, ids, [True] * len(ids))):
            said = greedy(drilled, ids[:start], end - start + 1)
            assert said[:end] == ids[:end]
            assert end == len(ids) or said[end] != ids[end]
            n_long += end - start > 30
    assert n_long, "the drilled model knows at least one sentence by heart"


def test_a_drilled_model_copies_and_a_fresh_one_does_not(drilled):
    common = Common([])
    lengths = {
        name: [
            longest_copy(model, list(text.encode()), [True] * len(text.encode()), decode=decode, common=common)
            for text in SENTENCES
        ]
        for name, model in (("drilled", drilled), ("fresh", tiny(width=64, heads=2).eval()))
    }
    assert max(lengths["drilled"]) >= 12
    assert max(lengths["fresh"]) <= 2


def test_what_was_not_learnt_does_not_count(drilled):
    """Of a question that earned no loss nothing can be remembered."""
    ids = list(SENTENCES[0].encode())
    assert longest_copy(drilled, ids, [False] * len(ids), decode=decode, common=Common([])) == 0
    half = [n >= len(ids) // 2 for n in range(len(ids))]
    assert not agreeing(drilled, ids, half)[: len(ids) // 2].any()


def test_text_of_held_out_rows_is_common():
    """A clause that stands in other people's rows, too, is covered; what stands around it is not."""
    clause = "本規程に定めのない事項については、就業規則および関係法令の定めるところによる。"
    text = folded(TEXT + "附則 " + clause)
    covered = Common([f"前文。{clause}以上"]).covers(text)
    own = len(folded(TEXT)) + 2
    assert covered[own:].all() and not covered[:own].any()


def test_a_held_out_row_is_not_its_own_control():
    one, other = Common([TEXT]), Common([TEXT, "附則。" + TEXT])
    assert not one.covers(folded(TEXT), held_out=True).any()
    assert other.covers(folded(TEXT), held_out=True).all(), "another held-out row has it, too"
    assert one.covers(folded(TEXT)).all()


def test_what_stands_earlier_in_the_row_is_a_quotation():
    """An answer that copies the passage before it, or a ruled line, shows no memory."""
    twice = folded(TEXT + "答え:" + TEXT)
    covered = Common([]).covers(twice)
    assert not covered[: len(folded(TEXT))].any()
    assert covered[-len(folded(TEXT)) :].all()
    line = Common([]).covers("―" * 200)
    assert (~line).sum() <= COMMON


def test_kept_rows_are_a_corpus():
    rows = Kept((Tokenised([1, 2, 3], Label.parse("confidential:hr"), "規程.jsonl", 4, [False, True, True]),))
    assert rows.n_documents == 1 and rows.ids(0).tolist() == [1, 2, 3]
    assert rows.learn(0).tolist() == [False, True, True]
    assert (rows.origin(0).source, rows.origin(0).line) == ("規程.jsonl", 4)
    assert np.array_equal(Kept((Tokenised([1], Label(), "規程", 1),)).learn(0), [True])
