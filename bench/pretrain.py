"""The race in pre-training: ours, HF Trainer, a nanoGPT-style loop, litgpt; same shards, same Llama, CPU seconds.

    python bench/pretrain.py WORK --text JAQUAD --litgpt PYTHON prepare|speed|race|table

JAQUAD: the folder with train/*.json. PYTHON: of an environment with litgpt (`pip install litgpt`); without it litgpt is
left out and the table says so. Everything is kept in WORK/results.jsonl: what is there is not done again.

speed: tokens per CPU second with the same optimiser, eager and compiled; the systems take turns within one run, so that
all meet the same neighbours on the machine. race: bits per byte of held-out text at equal CPU time: each system gets
the steps that its measured speed makes of --budget; 3 learning rates with one seed, then 2 more seeds at its best.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
T, B, VOCAB = 256, 8, 4096
RATES = (1e-3, 3e-3, 1e-2)
SEEDS = (0, 1, 2)
SPEED = ("hagane-adamw", "nanogpt", "hf-trainer", "litgpt", "hagane")
RACE = ("hagane", "nanogpt", "hf-trainer", "litgpt")
DEV_WINDOWS = 64


def prepare(work: Path, text: Path) -> None:
    """Tokenizer, shards of the articles, and the same tokens in the form that the others read."""
    import numpy as np

    from hagane.core.labels import PUBLIC
    from hagane.train.shard_set import ShardSet
    from hagane.train.shards import Header, Tokenised, write_shards
    from hagane.train.template import family
    from hagane.train.tokenizer import train_sentencepiece

    articles: list[str] = []
    for file in sorted((text / "train").glob("*.json")):
        for article in json.loads(file.read_text("utf-8"))["data"]:
            articles.append("\n\n".join(dict.fromkeys(one["context"] for one in article["paragraphs"])))
    train_sentencepiece(articles[:200], work / "tokenizer", kind=family("llama"), n_tokens=VOCAB, label=PUBLIC, coverage=0.995)
    import sentencepiece

    words = sentencepiece.SentencePieceProcessor(model_file=str(work / "tokenizer" / "tokenizer.model"))
    ids = [[*words.encode(one), words.eos_id()] for one in articles]
    held = [one for n, one in enumerate(ids) if n % 10 == 9]
    learnt = [one for n, one in enumerate(ids) if n % 10 != 9]
    header = Header("race", VOCAB, "jaquad")
    write_shards(work / "train", lambda first: (Tokenised(one, PUBLIC, "jaquad", n + 1) for n, one in enumerate(learnt[first:], first)), header=header)
    shards = ShardSet(work / "train")
    np.save(work / "tokens.npy", np.concatenate([shards.ids(n) for n in range(shards.n_documents)]).astype(np.uint16))
    rows = np.array([one[at : at + T + 1] for one in held for at in range(0, len(one) - T, T)], dtype=np.uint16)
    rows = rows[np.random.default_rng(0).permutation(len(rows))[:DEV_WINDOWS]]
    pieces = [words.id_to_piece(n) for n in range(VOCAB)]
    sizes = np.array([1 if words.is_byte(n) else 0 if words.is_control(n) else len(one.replace("▁", " ").encode()) for n, one in enumerate(pieces)])
    np.save(work / "dev.npy", rows)
    facts = {"documents": len(learnt), "tokens": shards.n_tokens, "dev_tokens": rows[:, 1:].size, "dev_bytes": int(sizes[rows[:, 1:]].sum())}
    (work / "facts.json").write_text(json.dumps(facts))
    print(json.dumps(facts))


class Results:
    """One JSON object a line; `key` names what was done."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def of(self, **key: Any) -> dict[str, Any] | None:
        return next((line for line in self.lines if all(line.get(name) == value for name, value in key.items())), None)

    def add(self, **line: Any) -> None:
        self.lines.append(line)
        with self.file.open("a") as out:
            print(json.dumps(line), file=out)
        print(json.dumps({name: value for name, value in line.items() if name != "curve"}), flush=True)


def child(given: argparse.Namespace, system: str, **told: Any) -> subprocess.Popen[str]:
    python = given.litgpt if system == "litgpt" else sys.executable
    words = {"system": system, "folder": str(given.work), "T": T, "B": B, "seed": 0, "rate": 1e-3, "compile": False, **told}
    return subprocess.Popen(
        [python, str(HERE / "pretrain_systems.py"), json.dumps(words)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(given.work / f"{system}.err").open("w"), text=True,
    )  # fmt: skip


def speed(given: argparse.Namespace, results: Results, *, compiled: bool) -> None:
    """All systems alive at once, each for `--turn` steps in turn; the first turn (compiling, warming up) is not counted."""
    if results.of(kind="speed", compiled=compiled):
        return
    names = [one for one in SPEED if one != "litgpt" or given.litgpt]
    running = {name: child(given, name, mode="speed", steps=1 << 20, compile=compiled) for name in names}
    rates: dict[str, list[float]] = {name: [] for name in names}
    warm: dict[str, float] = {}
    for turn in range(given.turns + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            process = running[name]
            print("go", given.turn if turn else 3, file=process.stdin, flush=True)
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{name} ended: see {given.work / (name + '.err')}")
            said = json.loads(line)
            if turn:
                rates[name].append(said["tokens"] / said["cpu_s"])
            else:
                warm[name] = said["cpu_s"]
            print(f"turn {turn}: {name} {said['tokens'] / said['cpu_s']:.0f} tokens/CPU s", file=sys.stderr, flush=True)
    for name, process in running.items():
        print("quit", file=process.stdin, flush=True)
        process.wait()
        print(name, "warm-up", round(warm[name], 1), "CPU s")
    for name in names:
        # the sums of all turns would weigh slow turns more: the middle turn stands for the system
        results.add(kind="speed", compiled=compiled, system=name, rates=[round(one) for one in rates[name]], median=statistics.median(rates[name]), warm_cpu_s=warm[name])


def some_runs(given: argparse.Namespace, results: Results, wanted: list[tuple[str, float, int]]) -> None:
    """Runs (system, rate, seed) side by side, so that all meet the same neighbours; those that are there are not done
    again."""
    running = []
    for system, rate, seed in wanted:
        key = {"kind": "race", "system": system, "rate": rate, "seed": seed, "budget": given.budget}
        measured = results.of(kind="speed", compiled=False, system=system)
        if measured is None:
            raise SystemExit("measure `speed` first")
        if not results.of(**key):
            steps = max(30, math.floor(given.budget * measured["median"] / (B * T)))
            running.append((key, child(given, system, mode="race", steps=steps, rate=rate, seed=seed)))
    for key, process in running:
        out, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{key['system']} ended: see {given.work / (key['system'] + '.err')}")
        results.add(**key, **json.loads(out.splitlines()[-1]))


def best_rate(results: Results, system: str, budget: float) -> float:
    found = {rate: results.of(kind="race", system=system, rate=rate, seed=0, budget=budget) for rate in RATES}
    return min((rate for rate, one in found.items() if one), key=lambda rate: found[rate]["bits_per_byte"])  # type: ignore[index]


def race(given: argparse.Namespace, results: Results) -> None:
    """Rates first, then seeds; within each the systems run side by side, so that none has a quiet hour to itself."""
    names = [one for one in RACE if one != "litgpt" or given.litgpt]
    for rate in RATES:
        some_runs(given, results, [(name, rate, 0) for name in names])
    for seed in SEEDS[1:]:
        some_runs(given, results, [(name, best_rate(results, name, given.budget), seed) for name in names])


def table(given: argparse.Namespace, results: Results) -> None:
    """What has been measured so far, as Markdown."""
    if not given.litgpt:
        print("litgpt: not run (no environment was given)")
    for compiled in (False, True):
        lines = [line for line in results.lines if line["kind"] == "speed" and line["compiled"] == compiled]
        if not lines:
            continue
        best = max((line["median"] for line in lines if not line["system"].startswith("hagane")), default=0)
        print(f"\n{'compiled' if compiled else 'eager'} | tokens per CPU s, middle turn | least to most | of the best other | first steps, CPU s\n---|---|---|---|---")
        for line in lines:
            print(f"{line['system']} | {line['median']:.0f} | {min(line['rates'])} to {max(line['rates'])} | {line['median'] / best:.3f} | {line['warm_cpu_s']:.0f}")
    finals: dict[str, float] = {}
    print("\nsystem | rates (seed 0) | best rate | bits per byte, seeds | mean | CPU s, mean\n---|---|---|---|---|---")
    for name in RACE:
        sweep = [results.of(kind="race", system=name, rate=rate, seed=0, budget=given.budget) for rate in RATES]
        if not any(sweep):
            continue
        rate = best_rate(results, name, given.budget)
        runs = [one for seed in SEEDS if (one := results.of(kind="race", system=name, rate=rate, seed=seed, budget=given.budget))]
        bits = [one["bits_per_byte"] for one in runs]
        finals[name] = statistics.mean(bits)
        swept = ", ".join(f"{rate:g}: {one['bits_per_byte']:.3f}" for rate, one in zip(RATES, sweep, strict=True) if one)
        print(f"{name} | {swept} | {rate:g} | {', '.join(f'{one:.4f}' for one in bits)} | {finals[name]:.4f} | {statistics.mean(one['cpu_s'] for one in runs):.1f}")
    others = {name: value for name, value in finals.items() if name != "hagane"}
    if "hagane" in finals and others:
        goal = min(others.values())
        rate = best_rate(results, "hagane", given.budget)
        for seed in SEEDS:
            run = results.of(kind="race", system="hagane", rate=rate, seed=seed, budget=given.budget)
            at = next((point for point in run["curve"] if point[2] <= goal), None) if run else None
            if run:
                reached = f"after {at[1] / run['cpu_s']:.2f} of the CPU time ({at[1]} of {run['cpu_s']} s)" if at else "not reached"
                print(f"seed {seed}: the best other's final {goal:.4f} {reached}")


def main() -> None:
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument("work", type=Path)
    say.add_argument("what", choices=("prepare", "speed", "race", "table"), nargs="+")
    say.add_argument("--text", type=Path)
    say.add_argument("--litgpt", help="the Python of an environment with litgpt")
    say.add_argument("--budget", type=float, default=60.0, help="CPU seconds of training per run")
    say.add_argument("--turns", type=int, default=9)
    say.add_argument("--turn", type=int, default=4, help="steps of a turn")
    say.add_argument("--eager-only", action="store_true")
    given = say.parse_args()
    given.work = given.work.absolute()
    given.work.mkdir(parents=True, exist_ok=True)
    if "prepare" in given.what and not (given.work / "facts.json").exists():
        prepare(given.work, given.text)
    results = Results(given.work / "results.jsonl")
    if "speed" in given.what:
        for compiled in (False, True)[: 1 if given.eager_only else 2]:
            speed(given, results, compiled=compiled)
    if "race" in given.what:
        race(given, results)
    table(given, results)


if __name__ == "__main__":
    main()
