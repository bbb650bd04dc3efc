"""Nearest neighbours within a clearance: 1 %, 10 % and 100 % of the rows allowed, against exact search.

    python bench/filter.py [--rows 55000] [--dim 384] [--questions 100] [--index .hagane/index] [--exact-rows N]

Prints recall@10 and latency per share. `--index` takes the vectors of a project's index instead of made-up
ones (it is only read); `--questions` rows drawn from them are the questions and stay out of the bench's own
index. `--exact-rows 0` forbids every exact search, so that all shares go through the approximate index, which
by itself serves only clearances that allow more than 200,000 rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import lancedb
import numpy as np

from hagane.contracts.index import chunk
from hagane.core.labels import Clearance, Label
from hagane.index.lance import LanceIndex

LEVELS = ("public", "internal", "confidential")
SHARES = (0.01, 0.10, 1.00)


def clustered(n: int, dim: int, *, seed: int) -> np.ndarray:
    """(n, dim) unit rows around 800 random centres: neighbours are near, as embeddings of text are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(800, dim))
    rows = centres[rng.integers(0, 800, n)] + 0.8 * rng.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def stored(folder: Path) -> np.ndarray:
    """(n, dim): the vectors of a project's index, in an order of their own."""
    rows = lancedb.connect(str(folder)).open_table("vectors").search().select(["vector"]).to_arrow()["vector"]
    rows = rows.combine_chunks()
    vectors = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    return vectors[np.random.default_rng(0).permutation(len(vectors))]


def build(folder: Path, vectors: np.ndarray, levels: list[str], *, exact_rows: int) -> LanceIndex:
    index = LanceIndex(folder, exact_rows=exact_rows)
    chunks = [chunk(f"{i:032x}", "規程", document=f"d{i // 16}", label=Label.parse(v)) for i, v in enumerate(levels)]
    for start in range(0, len(chunks), 5_000):
        part = chunks[start : start + 5_000]
        index.add(part, [["規程"]] * len(part))
        index.add_vectors([c.id for c in part], vectors[start : start + 5_000])
    index.optimize()
    return index


def measure(index: LanceIndex, vectors: np.ndarray, levels: np.ndarray, questions: np.ndarray, level: str) -> str:
    clearance = Clearance.parse(level)
    allowed = np.flatnonzero(np.isin(levels, LEVELS[: LEVELS.index(level) + 1]))
    index.by_vector(questions[0], clearance=clearance, n=10)
    found, seconds = 0, []
    for question in questions:
        best = allowed[np.argsort(-(vectors[allowed] @ question))[:10]]
        begun = time.perf_counter()
        hits = index.by_vector(question, clearance=clearance, n=10)
        seconds.append(time.perf_counter() - begun)
        found += len({f"{i:032x}" for i in best} & {hit.chunk for hit in hits})
    p50, p95 = (1e3 * float(np.percentile(seconds, p)) for p in (50, 95))
    recall = found / (10 * len(questions))
    return f"| {len(allowed) / len(vectors):6.1%} | {len(allowed):7,} | {recall:.4f} | {p50:6.1f} | {p95:6.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=55_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--index", type=Path, help="folder of a project's index")
    parser.add_argument("--exact-rows", type=int, default=200_000)
    given = parser.parse_args()
    if given.index:
        loaded = stored(given.index)
        vectors, questions = loaded[: -given.questions], loaded[-given.questions :]
    else:
        vectors = clustered(given.rows, given.dim, seed=1)
        questions = clustered(given.questions, given.dim, seed=2)
    draw = np.random.default_rng(3).random(len(vectors))
    levels = np.array(LEVELS)[np.searchsorted(SHARES, draw)]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        index = build(Path(folder), vectors, levels.tolist(), exact_rows=given.exact_rows)
        print(f"{len(vectors):,} x {vectors.shape[1]}, built in {time.perf_counter() - begun:.1f} s")
        print("| allowed | rows | recall@10 | p50 ms | p95 ms |\n|---|---|---|---|---|")
        for level in LEVELS:
            print(measure(index, vectors, levels, questions, level), flush=True)


if __name__ == "__main__":
    main()
