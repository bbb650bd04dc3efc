"""What the embedded store costs: writing, indexing, opening, searching, purging.

    python bench/stores.py [--rows 72000] [--folder DIR]

Chunks of 450 characters of made-up office Japanese, tokenised by the n-gram analyzer; no corpus needed.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hagane.contracts.index import chunk
from hagane.core.labels import EVERYTHING
from hagane.index.lance import LanceIndex

WORDS = [a + b for a in "休旅経賞評勤労採研安情契" for b in "暇費与価務用修全報約規定期限申請承認手続範囲"]


def timed(name: str, act: Callable[[], Any]) -> Any:
    begun, cpu = time.perf_counter(), time.process_time()
    result = act()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {name} | {time.perf_counter() - begun:.2f} | {time.process_time() - cpu:.2f} | {peak:.0f} |", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=72_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp()) / "index"
    pick, rng = random.Random(0), np.random.default_rng(0)
    weights = [1 / (i + 1) for i in range(len(WORDS))]
    tokens = [pick.choices(WORDS, weights=weights, k=120) for _ in range(given.rows)]
    chunks = [chunk(f"{i:032x}", "".join(t), document=f"d{i // 16}") for i, t in enumerate(tokens)]
    vectors = rng.normal(size=(given.rows, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    parts = [slice(start, start + 1_000) for start in range(0, given.rows, 1_000)]
    index = LanceIndex(folder)
    print("| act | wall s | cpu s | peak MB |\n|---|---|---|---|")
    timed("add words", lambda: [index.add(chunks[p], tokens[p]) for p in parts])
    timed("optimize (full-text index)", index.optimize)
    timed("add vectors", lambda: [index.add_vectors([c.id for c in chunks[p]], vectors[p]) for p in parts])
    timed("optimize", index.optimize)
    index = timed("open anew", lambda: LanceIndex(folder))
    timed("first search by words", lambda: index.by_words({"休暇": 1.0}, clearance=EVERYTHING, n=50))
    timed("first search by vector", lambda: index.by_vector(vectors[0], clearance=EVERYTHING, n=50))
    timed("first statistics", lambda: index.statistics(["休暇"], clearance=EVERYTHING))
    questions = [dict.fromkeys(pick.choices(WORDS, k=15), 1.0) for _ in range(100)]
    weighted = [{t: pick.choice((1.0, 0.5, 0.3)) for t in q} for q in questions]
    timed("100 searches, 15 words", lambda: [index.by_words(q, clearance=EVERYTHING, n=50) for q in questions])
    timed("100 searches, 15 weighted words", lambda: [index.by_words(q, clearance=EVERYTHING, n=50) for q in weighted])
    timed("100 searches by vector", lambda: [index.by_vector(v, clearance=EVERYTHING, n=50) for v in vectors[:100]])
    ids = [[f"{i:032x}" for i in rng.integers(0, given.rows, 50)] for _ in range(20)]
    timed("20 x 50 chunks read", lambda: [index.chunks(own, clearance=EVERYTHING) for own in ids])
    timed("purge 10 documents", lambda: index.delete([f"d{i}" for i in range(10)], purge=True))


if __name__ == "__main__":
    main()
