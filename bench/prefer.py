"""DPO on a planted preference: answers that end in です over the same answers that end in である.

    python bench/prefer.py ../shared/data/jaquad

A small model from scratch learns to answer JaQuAD questions in both ways equally often, then the preference. Prints margins,
wins on held-out pairs and the endings of greedy answers to held-out questions, before and after, with Wilson intervals.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hagane.core.labels import PUBLIC
from hagane.train.encoder import encoder_of, open_vocabulary, opening
from hagane.train.loop import Event, Settings, train
from hagane.train.model import from_scratch, n_parameters
from hagane.train.objectives import Micro, NextToken, Preference, token_logs
from hagane.train.order import Order
from hagane.train.pack import best_fit, blank
from hagane.train.pairs import Pair, PairFeed, encode_pair, too_long
from hagane.train.sample import say as said
from hagane.train.scaling import shape_for
from hagane.train.template import Encoded, family
from hagane.train.tokenizer import train_sentencepiece
from hagane.train.words import NO_LOSS, Batch, Message, Packed, Row, stack

POLITE, PLAIN = "です。", "である。"


def wilson(won: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share. Source: Wilson, JASA 1927."""
    share, square = won / of, z * z / of
    middle, half = share + square / 2, z * math.sqrt(share * (1 - share) / of + square / of / 4)
    return (middle - half) / (1 + square), (middle + half) / (1 + square)


def shown(won: int, of: int) -> str:
    low, high = wilson(won, of)
    return f"{won / of:.3f} ({low:.3f} to {high:.3f}, n {of})"


def questions(folder: Path) -> list[tuple[str, str]]:
    """Questions of JaQuAD's training part with their answers, article by article."""
    found = []
    for file in sorted(folder.glob("train/*.json")):
        for article in json.loads(file.read_text("utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                for one in paragraph["qas"]:
                    if one["answers"] and len(one["answers"][0]["text"]) <= 20:
                        found.append((one["question"], one["answers"][0]["text"]))
    return found


def packed(parts: Sequence[Encoded], T: int) -> list[Packed]:
    """Conversations packed into rows."""
    rows = []
    for chosen in best_fit([len(one.ids) for one in parts], T):
        row, at = blank(T), 0
        for number, n in enumerate(chosen):
            ids, learnt = np.asarray(parts[n].ids), np.asarray(parts[n].learnt)
            end = at + len(ids)
            row.ids_T[at:end], row.documents_T[at:end], row.positions_T[at:end] = ids, number, np.arange(len(ids))
            row.targets_T[at : end - 1] = np.where(learnt[1:], ids[1:], NO_LOSS)
            at = end
        rows.append(row)
    return rows


class Rows:
    """`loop.Data` over packed rows in memory."""

    def __init__(self, rows: list[Packed], *, batch: int, seed: int) -> None:
        self.rows, self.order, self.seed = rows, Order(len(rows), batch), seed

    def batch(self, step: int) -> Batch:
        return stack([self.rows[n] for n in self.order.rows(self.order.state_at(step, seed=self.seed))], step=step)

    def state(self, step: int) -> tuple[int, int, int]:
        at = self.order.state_at(step, seed=self.seed)
        return at.seed, at.epoch, at.step

    def documents(self, step: int, row: int) -> list[str]:
        return ["jaquad"]


@torch.no_grad()
def logs(model: torch.nn.Module, pairs: Sequence[Pair]) -> np.ndarray:
    """log p of the chosen and the rejected answer of each pair, (P, 2)."""
    model.eval()
    found = []
    for pair in pairs:
        for answer in (pair.chosen, pair.rejected):
            (row,) = packed([answer], len(answer.ids))
            found.append(float(token_logs(model, Micro.of(stack([row]), [0])).sum()))
    return np.array(found).reshape(-1, 2)


def endings(model: torch.nn.Module, vocabulary, asked: Sequence[str]) -> dict[str, int]:
    """How greedy answers end."""
    model.eval()
    found = {POLITE: 0, PLAIN: 0, "other": 0}
    ends = {number for number in vocabulary.ends.values() if number is not None}
    for question in asked:
        text = vocabulary.to_text(said(model, opening(vocabulary, question), n=32, ends=ends, seconds=60.0))
        found[next((end for end in (POLITE, PLAIN) if text.strip().endswith(end)), "other")] += 1
    return found


def measured(name: str, model: torch.nn.Module, began: np.ndarray, pairs: Sequence[Pair], vocabulary, asked) -> None:
    """One line of the table."""
    now = logs(model, pairs)
    likelier = int((now[:, 0] > now[:, 1]).sum())
    margins = (now - began)[:, 0] - (now - began)[:, 1]
    ends = endings(model, vocabulary, asked)
    n = len(asked)
    won = shown(int((margins > 0).sum()), len(pairs)) if np.any(margins) else "-"
    print(
        f"| {name} | {margins.mean():.2f} | {won} | {shown(likelier, len(pairs))} | {shown(ends[POLITE], n)} "
        f"| {shown(ends[PLAIN], n)} |", flush=True,
    )  # fmt: skip


def main() -> None:
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument("jaquad", type=Path)
    say.add_argument("--params", type=int, default=1_300_000)
    say.add_argument("--vocab", type=int, default=3000)
    say.add_argument("--tokens", type=int, default=256)
    say.add_argument("--tune", type=int, default=100, help="steps that teach both ways of answering")
    say.add_argument("--steps", type=int, default=30, help="steps of DPO")
    say.add_argument("--rate", type=float, default=3e-4)
    say.add_argument("--beta", type=float, default=0.1)
    say.add_argument("--held-out", type=int, default=100)
    say.add_argument("--seed", type=int, default=0)
    given = say.parse_args()
    torch.set_num_threads(1)
    every = questions(given.jaquad)
    taught, kept = every[:1500], every[-given.held_out :]
    llama = family("llama")
    with tempfile.TemporaryDirectory() as folder:
        texts = [f"{question}{answer}{end}" for question, answer in taught for end in (POLITE, PLAIN)]
        train_sentencepiece(texts, Path(folder), kind=llama, n_tokens=given.vocab, label=PUBLIC, coverage=0.995)
        vocabulary = open_vocabulary(Path(folder), "llama")
    encode = encoder_of(vocabulary).encode

    def row(n: int, question: str, *answers: str) -> Row:
        turns = [(Message("assistant", one),) for one in answers]
        ask = (Message("user", question),)
        return Row(
            PUBLIC,
            "jaquad",
            n,
            None,
            ask if len(turns) == 2 else (*ask, *turns[0]),
            *(turns if len(turns) == 2 else ()),
        )

    both = [encode(row(n, q, a + (POLITE if n % 2 else PLAIN))) for n, (q, a) in enumerate(taught)]
    ends = {key: value for key, value in vocabulary.ends.items() if value is not None}
    model = from_scratch(
        "llama", shape_for(given.params, vocab=vocabulary.n_tokens, context=given.tokens), seed=given.seed, ends=ends
    )
    print(f"{n_parameters(model):,} parameters, {len(both)} conversations")
    began = time.process_time()
    feed = Rows(packed([one for one in both if len(one.ids) <= given.tokens], given.tokens), batch=4, seed=given.seed)
    train(model, NextToken(), feed, Settings(given.tune, 0.01, micro_rows=4))
    print(f"tuned in {time.process_time() - began:.0f} CPU-seconds")

    def pairs_of(some: Sequence[tuple[str, str]]) -> list[Pair]:
        made = [encode_pair(row(n, q, a + POLITE, a + PLAIN), encode) for n, (q, a) in enumerate(some, start=1)]
        long = {pair.line for pair in too_long(made, given.tokens)}
        return [pair for pair in made if pair.line not in long]

    held_out = pairs_of(kept)
    asked = [question for question, _ in kept[:50]]
    print(
        "\n| | margin, nats (held out) | held-out pairs won | chosen likelier | greedy ends です。 | greedy ends である。 |\n|---|---|---|---|---|---|"
    )
    first = logs(model, held_out)
    measured("before", model, first, held_out, vocabulary, asked)
    judge = copy.deepcopy(model).eval().requires_grad_(False)
    margins: list[float] = []

    def watch(event: Event) -> None:
        if event.kind == "step":
            margins.append(float(event.values["margin"]))

    began = time.process_time()
    settings = Settings(given.steps, given.rate, warmup_steps=4, optimiser="adamw", weight_decay=0.0, micro_rows=4)
    feed = PairFeed(pairs_of(taught[:600]), T=given.tokens, rows=4, seed=given.seed)
    train(model, Preference(given.beta, judge), feed, settings, watch=watch)
    spent = time.process_time() - began
    measured("after", model, first, held_out, vocabulary, asked)
    marks = sorted({0, len(margins) // 4, len(margins) // 2, 3 * len(margins) // 4, len(margins) - 1})
    print(f"\nDPO: {given.steps} steps in {spent:.0f} CPU-seconds; margin of the training batch by step: "
          + ", ".join(f"{n + 1}: {margins[n]:.2f}" for n in marks))  # fmt: skip


if __name__ == "__main__":
    main()
