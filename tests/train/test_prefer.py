"""DPO on a planted preference: what was preferred wins on pairs that were never seen, and the answers follow."""

from __future__ import annotations

import copy
import math

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")

import numpy as np
import torch
from small_training import row as packed_row
from small_training import tiny

from hagane.core.labels import PUBLIC
from hagane.train.loop import Event, Settings, train
from hagane.train.objectives import Micro, NextToken, Preference, token_logs
from hagane.train.pairs import Pair, PairFeed, encode_pair
from hagane.train.sample import say
from hagane.train.template import Encoded
from hagane.train.words import Batch, Message, Row

pytestmark = pytest.mark.long
END = 0
PLACES = ("営業", "総務", "経理", "人事", "開発", "法務")
THINGS = ("旅費", "休暇", "備品", "契約", "研修", "健診", "残業", "通勤")
DAYS = ("三日", "七日", "十日", "毎月")


def rows(*, held_out: bool) -> list[Row]:
    """Questions with an answer in です over the same in だ; every fourth question is held out."""
    found = []
    for n, (place, thing, day) in enumerate((p, t, d) for p in PLACES for t in THINGS for d in DAYS):
        if (n % 4 == 1) == held_out:
            ask = (Message("user", f"{place}の{thing}は{day}?"),)
            found.append(
                Row(
                    PUBLIC,
                    "対",
                    n,
                    None,
                    ask,
                    (Message("assistant", f"{day}です"),),
                    (Message("assistant", f"{day}だ"),),
                )
            )
    return found


def encode(row: Row) -> Encoded:
    ids: list[int] = []
    learnt: list[bool] = []
    for turn in row.messages:
        found = [*turn.content.encode(), *([END] if turn.role == "assistant" else [])]
        ids += found
        learnt += [turn.role == "assistant"] * len(found)
    return Encoded(tuple(ids), tuple(learnt))


def wilson(won: int, of: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    share, square = won / of, 1.96**2 / of
    half = 1.96 * math.sqrt(share * (1 - share) / of + square / of / 4)
    return (share + square / 2 - half) / (1 + square), (share + square / 2 + half) / (1 + square)


def margins(model, judge, pairs: list[Pair]) -> np.ndarray:
    """How much more the model prefers the chosen answers than the judge does, in nats."""
    return logs(model, pairs) @ (1, -1) - logs(judge, pairs) @ (1, -1)


@torch.no_grad()
def logs(model, pairs: list[Pair]) -> np.ndarray:
    found = []
    for pair in pairs:
        for one in (pair.chosen, pair.rejected):
            start = list(one.learnt).index(True) - 1
            parts = packed_row([list(one.ids)], len(one.ids), learn_from=start)
            batch = Batch(*(part[None] for part in parts))
            found.append(float(token_logs(model, Micro.of(batch, [0])).sum()))
    return np.array(found).reshape(-1, 2)


def polite(model, some: list[Row]) -> int:
    """Greedy answers that end in です."""
    said = [say(model, list(one.messages[0].content.encode()), n=16, ends={END}, seconds=60.0) for one in some]
    return sum(bytes(ids).decode(errors="ignore").endswith("です") for ids in said)


def test_the_preferred_way_wins_on_pairs_that_were_never_seen():
    """Both ways are taught equally often first; DPO then moves margins, wins and greedy answers."""
    both = [
        encode(Row(PUBLIC, "文", n, None, (*row.messages, *(row.chosen if n % 2 else row.rejected))))
        for n, row in enumerate(rows(held_out=False))
    ]

    class Taught:
        def batch(self, step: int) -> Batch:
            picked = np.random.default_rng((5, step)).permutation(len(both))[:12]
            found = []
            for at in range(0, 12, 3):
                some = [both[n] for n in picked[at : at + 3]]
                parts = packed_row([list(one.ids) for one in some], 192)
                learnt = np.concatenate([[*one.learnt[1:], False] for one in some])
                targets = parts[1]
                targets[: len(learnt)] = np.where(learnt, targets[: len(learnt)], -100)
                found.append((parts[0], targets, *parts[2:]))
            return Batch(*(np.stack(part) for part in zip(*found, strict=True)), step=step)

        def state(self, step: int) -> tuple[int, int, int]:
            return 5, 0, step

        def documents(self, step: int, row: int) -> list[str]:
            return ["文"]

    model = tiny(width=64, depth=2, heads=2, context=192, initializer_range=0.05)
    train(model, NextToken(), Taught(), Settings(steps=150, learning_rate=0.01, micro_rows=4))
    judge = copy.deepcopy(model).eval().requires_grad_(False)
    unseen = rows(held_out=True)
    held_out = [encode_pair(row, encode) for row in unseen]
    before = polite(judge, unseen)
    seen: list[float] = []

    def watch(event: Event) -> None:
        if event.kind == "step":
            seen.append(float(event.values["margin"]))

    feed = PairFeed([encode_pair(row, encode) for row in rows(held_out=False)], T=192, rows=4, seed=1)
    settings = Settings(steps=25, learning_rate=3e-4, warmup_steps=3, optimiser="adamw", weight_decay=0.0, micro_rows=4)
    train(model, Preference(0.1, judge), feed, settings, watch=watch)
    model.eval()
    gained = margins(model, judge, held_out)
    won, n = int((gained > 0).sum()), len(held_out)
    after = polite(model, unseen)
    print(f"margin {seen[0]:.2f} to {seen[-1]:.2f}; held out: {gained.mean():.2f} nats, won {won} of {n} {wilson(won, n)}; "
          f"polite answers {before} to {after} of {n}")  # fmt: skip
    assert seen[0] == pytest.approx(0.0, abs=1e-3) and seen[-1] > 2.0
    assert wilson(won, n)[0] > 0.9
    assert after > before and after >= 0.9 * n


def test_batches_of_pairs_are_what_the_objective_counts():
    feed = PairFeed([encode_pair(row, encode) for row in rows(held_out=True)], T=192, rows=4, seed=1)
    batch = feed.batch(0)
    assert Preference().weight(batch) == sum(len(feed.documents(0, n)) for n in range(len(batch.ids_BT)))
