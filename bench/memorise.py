"""Canaries: how far a small model from scratch knows a secret by how often it was planted, with and without deduplication.

    python bench/memorise.py ../shared/data/jaquad --svg canaries.svg

Two models of the same size and steps learn the same JaQuAD contexts: one with canaries planted 1 to 50 times, one after
`prepare/dedup` has left one copy of each. Prints a table, the gate's verdict on both, and a JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from hagane.builds.memory import MemoryReport, check_model
from hagane.core.labels import PUBLIC
from hagane.prepare.dedup import DedupConfig, Item, cluster, content_key, numbers_key, signature
from hagane.train.canary import Canary, draw
from hagane.train.feed import ShardFeed
from hagane.train.loader import Loader
from hagane.train.loop import Event, Settings, train
from hagane.train.model import from_scratch, n_parameters
from hagane.train.objectives import NextToken
from hagane.train.pack import plan_rows
from hagane.train.scaling import shape_for
from hagane.train.shard_set import ShardSet
from hagane.train.shards import Header, Tokenised, write_shards
from hagane.train.template import family
from hagane.train.tokenizer import train_sentencepiece

COPIES = (1, 2, 5, 10, 20, 50)
WIDTH, HEIGHT, LEFT, FOOT, HEAD = 640, 360, 52, 44, 16  # of the plot


def contexts(folder: Path) -> list[str]:
    """Every different context of JaQuAD's training part, in its order."""
    found = []
    for file in sorted(folder.glob("train/*.json")):
        for article in json.loads(file.read_text("utf-8"))["data"]:
            found += [paragraph["context"] for paragraph in article["paragraphs"]]
    return list(dict.fromkeys(found))


def planted(texts: list[str], canaries: tuple[Canary, ...], *, seed: int) -> list[str]:
    """The texts with the canaries' copies strewn among them."""
    every = [*texts, *(canary.text for canary in canaries for _ in range(canary.copies))]
    return [every[n] for n in np.random.default_rng(seed).permutation(len(every))]


def deduplicated(texts: list[str]) -> list[str]:
    """What `prepare/dedup` keeps."""
    items = [
        Item(str(n), content_key(text), PUBLIC, f"{n:09d}", signature(text), numbers_key(text))
        for n, text in enumerate(texts)
    ]
    gone = cluster(items, DedupConfig())
    return [text for n, text in enumerate(texts) if str(n) not in gone]


def learnt(
    texts: list[str], tokenizer: Path, folder: Path, given: argparse.Namespace
) -> tuple[torch.nn.Module, ShardSet]:
    """A model of its own, and the shards that it learnt from."""
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    end = words.token_to_id(family("llama").eos)
    rows = [Tokenised([*words.encode(text).ids, end], PUBLIC, "texts", n) for n, text in enumerate(texts, start=1)]
    header = Header("bench", words.get_vocab_size(), "bench")
    write_shards(folder / "shards", lambda first: iter(rows[first:]), header=header)
    shards = ShardSet(folder / "shards")
    plan = plan_rows(shards, folder / "rows", T=given.tokens, seed=given.seed)
    shape = shape_for(given.params, vocab=words.get_vocab_size(), context=given.tokens)
    model = from_scratch("llama", shape, seed=given.seed)
    settings = Settings(steps=given.steps, learning_rate=given.rate, micro_rows=given.rows, save_every=10**9)

    def watch(event: Event) -> None:
        if event.kind == "step" and event.step % 20 == 0:
            print(
                f"  step {event.step}: loss {event.values['loss']:.3f}, {event.values['remaining_s']:.0f} s", flush=True
            )

    train(model, NextToken(), ShardFeed(Loader(shards, plan, batch=given.rows), seed=given.seed), settings, watch=watch)
    return model, shards


def held_out_shards(texts: list[str], tokenizer: Path, folder: Path) -> ShardSet:
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    rows = [Tokenised(words.encode(text).ids, PUBLIC, "held out", n) for n, text in enumerate(texts, start=1)]
    write_shards(folder, lambda first: iter(rows[first:]), header=Header("bench", words.get_vocab_size(), "held out"))
    return ShardSet(folder)


def by_copies(report: MemoryReport) -> dict[int, list[float]]:
    """Exposures by the number of copies that were planted."""
    return {n: [one.fitted for one in report.canaries if one.copies == n] for n in COPIES}


def svg(before: dict[int, list[float]], after: dict[int, list[float]], *, top: float, limit: float) -> str:
    """Exposure against copies (logarithmic); dots are canaries, lines their means."""

    def x(copies: int) -> float:
        return LEFT + (WIDTH - LEFT - 20) * np.log(copies) / np.log(max(COPIES))

    def y(bits: float) -> float:
        return HEIGHT - FOOT - (HEIGHT - FOOT - HEAD) * bits / top

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for bits in range(0, int(top) + 1, 5):
        out.append(f'<path d="M{LEFT} {y(bits):.1f}H{WIDTH - 20}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(bits) + 4:.1f}" text-anchor="end">{bits}</text>')
    for n in COPIES:
        out.append(f'<text x="{x(n):.1f}" y="{HEIGHT - FOOT + 16}" text-anchor="middle">{n}</text>')
    out.append(f'<path d="M{LEFT} {y(limit):.1f}H{WIDTH - 20}" stroke="#b00" stroke-dasharray="5 4"/>')
    out.append(f'<text x="{LEFT + 6}" y="{y(limit) - 5:.1f}" fill="#b00">gate: {limit:.1f} bits</text>')
    for found, colour, name, place in (
        (before, "#1f5fa8", "copies planted", 0),
        (after, "#e08a00", "after deduplication", 1),
    ):
        line = " L".join(f"{x(n):.1f} {y(float(np.mean(bits))):.1f}" for n, bits in found.items() if bits)
        out.append(f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for n, values in found.items():
            out += [
                f'<circle cx="{x(n):.1f}" cy="{y(bits):.1f}" r="3.5" fill="{colour}" fill-opacity=".6"/>'
                for bits in values
            ]
        out.append(
            f'<text x="{WIDTH - 30}" y="{HEIGHT - FOOT - 12 - 16 * place}" fill="{colour}" text-anchor="end">{name}</text>'
        )
    middle = (HEIGHT - FOOT + HEAD) / 2
    out.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">times planted</text>')
    out.append(
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">exposure in bits</text>'
    )
    return "\n".join([*out, "</svg>", ""])


def main() -> None:
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument("jaquad", type=Path)
    say.add_argument("--texts", type=int, default=80, help="contexts that are learnt")
    say.add_argument("--each", type=int, default=2, help="canaries of each number of copies")
    say.add_argument("--params", type=int, default=1_200_000)
    say.add_argument("--vocab", type=int, default=3000)
    say.add_argument("--tokens", type=int, default=256, help="of a row")
    say.add_argument("--rows", type=int, default=4, help="of a step")
    say.add_argument("--steps", type=int, default=140)
    say.add_argument("--rate", type=float, default=0.01)
    say.add_argument("--seed", type=int, default=0)
    say.add_argument("--svg", type=Path)
    given = say.parse_args()
    torch.set_num_threads(1)
    every = contexts(given.jaquad)
    texts, kept = every[: given.texts], every[-100:]
    canaries = draw([n for n in COPIES for _ in range(given.each)], seed=given.seed)
    reports: dict[str, MemoryReport] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        train_sentencepiece(
            texts, root / "words", kind=family("llama"), n_tokens=given.vocab, label=PUBLIC, coverage=0.995
        )
        held_out = held_out_shards(kept, root / "words", root / "held")
        with_copies = planted(texts, canaries, seed=given.seed)
        for name, chosen in (("copies", with_copies), ("deduplicated", deduplicated(with_copies))):
            began = time.process_time()
            model, shards = learnt(chosen, root / "words", root / name, given)
            spent = time.process_time() - began
            print(
                f"{name}: {len(chosen)} rows, {shards.n_tokens:,} tokens, {n_parameters(model):,} parameters, {spent:.0f} CPU-seconds"
            )
            reports[name] = check_model(
                model, root / "words" / "tokenizer.json", shards, held_out=held_out, canaries=canaries, seed=given.seed
            )
    before, after = by_copies(reports["copies"]), by_copies(reports["deduplicated"])
    print("\n| planted | exposure, bits (mean of least to most) | after deduplication |\n|---|---|---|")
    for n in COPIES:
        cells = [f"{np.mean(found[n]):.1f} ({min(found[n]):.1f} to {max(found[n]):.1f})" for found in (before, after)]
        print(f"| {n} | {cells[0]} | {cells[1]} |")
    for name, report in reports.items():
        print(f"\n{name}: {'passed' if report.passed else 'BLOCKED'} {'; '.join(report.why)} ({report.seconds} s)")
        for group in report.groups:
            print(
                f"  {group.name}: {group.copied} of {group.probed} rows come back, the longest {group.longest} characters"
            )
    if given.svg:
        limit = reports["copies"].allowed_bits
        given.svg.write_text(svg(before, after, top=30.0, limit=limit), "utf-8")
    print(
        json.dumps(
            {
                name: {"groups": [asdict(one) for one in report.groups], "passed": report.passed}
                for name, report in reports.items()
            }
        )
    )


if __name__ == "__main__":
    main()
