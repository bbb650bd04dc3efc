"""Pairs of answers as packed rows: nothing lost, halves together, the order a pure function of the step."""

from __future__ import annotations

import numpy as np
import pytest

from hagane.core.errors import UsageError
from hagane.core.labels import Label, join
from hagane.train.pairs import PairFeed, encode_pair, row_of, too_long
from hagane.train.template import Encoded
from hagane.train.words import NO_DOCUMENT, NO_LOSS, Message, Row

HR = Label.parse("confidential:hr")


def encode(row: Row) -> Encoded:
    """Bytes; what an assistant says and may be learnt from earns loss."""
    ids: list[int] = []
    learnt: list[bool] = []
    for turn in row.messages:
        found = list(turn.content.encode())
        ids += found
        learnt += [turn.role == "assistant" and turn.learn] * len(found)
    return Encoded(tuple(ids), tuple(learnt))


def row(n: int, chosen: str = "十日です。", rejected: str = "十日だ。", label: Label = HR) -> Row:
    prompt = (
        Message("user", f"有給休暇は何日か。その{n}"),
        Message("assistant", "どの年ですか。"),
        Message("user", "一年目"),
    )
    return Row(label, "対.jsonl", n, None, prompt, (Message("assistant", chosen),), (Message("assistant", rejected),))


def pairs(n: int):
    return [encode_pair(row(at + 1, chosen="です" * (1 + at % 3)), encode) for at in range(n)]


def test_only_the_two_answers_earn_loss():
    """The assistant's earlier turn is read, never scored: it is the same in both."""
    pair = encode_pair(row(1), encode)
    packed = row_of([pair], 512)
    for number, answer in enumerate(("十日です。", "十日だ。")):
        mine = packed.documents_T == number
        targets = packed.targets_T[mine]
        assert bytes(targets[targets != NO_LOSS].astype(np.uint8)).decode() == answer


def test_every_pair_stands_once_an_epoch_with_both_halves_in_one_row():
    """Documents 2n and 2n + 1 of a row are one pair: DPO raises on half a pair."""
    given = pairs(17)
    feed = PairFeed(given, T=512, rows=2, seed=3)
    seen: list[str] = []
    for step in range(feed.n_steps):
        batch = feed.batch(step)
        assert batch.label == HR
        for number, documents in enumerate(batch.documents_BT):
            found = np.unique(documents[documents != NO_DOCUMENT])
            assert list(found) == list(range(2 * len(feed.documents(step, number))))
            seen += feed.documents(step, number)
    assert sorted(seen) == sorted(f"対.jsonl:{n + 1}" for n in range(17))


def test_order_is_a_function_of_seed_and_step():
    one, same, other = (PairFeed(pairs(17), T=512, rows=1, seed=seed) for seed in (3, 3, 4))
    steps = range(2 * one.n_steps)
    assert all((one.batch(step).ids_BT == same.batch(step).ids_BT).all() for step in steps)
    assert [one.documents(step, 0) for step in steps] != [other.documents(step, 0) for step in steps]
    assert one.state(one.n_steps + 1) == (3, 1, 1)


def test_label_is_the_join_of_the_pairs():
    given = [encode_pair(row(1, label=Label.parse("internal:sales")), encode), encode_pair(row(2), encode)]
    assert PairFeed(given, T=512, rows=1, seed=0).label == join(HR, Label.parse("internal:sales"))


@pytest.mark.parametrize(("chosen", "rejected", "said"), [("", "だ。", "empty"), ("です。", "です。", "the same")])
def test_useless_pairs_are_refused_by_name(chosen: str, rejected: str, said: str):
    with pytest.raises(UsageError, match=rf"対\.jsonl:7.*{said}"):
        encode_pair(row(7, chosen, rejected), encode)


def test_pairs_longer_than_a_row_are_named():
    """Nothing is cut: half an answer is another answer."""
    given = [*pairs(3), encode_pair(row(4, chosen="です" * 100), encode)]
    assert [pair.line for pair in too_long(given, 400)] == [4]
    with pytest.raises(UsageError, match="4: the pair has"):
        PairFeed(given, T=400, rows=1, seed=0)
    with pytest.raises(UsageError, match="no pairs"):
        PairFeed([], T=400, rows=1, seed=0)


def test_a_row_without_answers_is_no_pair():
    with pytest.raises(UsageError, match="no pair"):
        encode_pair(Row(HR, "対.jsonl", 1, "有給休暇は十日。"), encode)
