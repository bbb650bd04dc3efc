"""Seconds that token shards take: writing, planning rows, opening the loader at step 1,000,000, tracing both ways.

    python bench/loader.py --documents 2000000

Prints one JSON object. Opening and tracing are done in a fresh process, on files that lie in the page cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hagane.core.labels import Label
from hagane.train.loader import Loader
from hagane.train.pack import RowPlan, plan_rows
from hagane.train.shard_set import ShardSet
from hagane.train.shards import Header, Tokenised, write_shards

T, VOCAB = 16, 32_000


def write(folder: Path, n_documents: int) -> dict[str, float]:
    """Documents of 4 to 19 tokens: many rows from little disk."""
    draw = np.random.default_rng(1)
    lengths, ids = draw.integers(4, 20, n_documents), draw.integers(0, VOCAB, 20)
    begun = time.perf_counter()
    write_shards(
        folder / "shards",
        lambda first: (Tokenised(ids[:n], Label(), "文書.jsonl", at + 1) for at, n in enumerate(lengths[first:].tolist(), first)),
        header=Header("bench", VOCAB, "bench"),
    )
    written = time.perf_counter()
    plan = plan_rows(ShardSet(folder / "shards"), folder / "rows", T=T, seed=1)
    planned = time.perf_counter()
    return {
        "documents": n_documents,
        "tokens": int(lengths.sum()),
        "rows": plan.n_rows,
        "padding_share": plan.header.n_padding / (plan.n_rows * T),
        "write_s": written - begun,
        "plan_s": planned - written,
    }


def open_at(folder: Path, step: int) -> dict[str, float]:
    """Everything from the folders to the first batch; then a batch to its documents, and one of them back."""
    begun = time.perf_counter()
    loader = Loader(ShardSet(folder / "shards"), RowPlan(folder / "rows"), batch=1)
    state = loader.order.state_at(step, seed=1)
    loader.batch_at(state)
    opened = time.perf_counter()
    document = loader.documents_of(state)[0][0].document
    assert state.step in loader.steps_of(document, seed=1, epoch=state.epoch)
    return {"open_s": opened - begun, "trace_s": time.perf_counter() - opened, "epoch": state.epoch}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--documents", type=int, default=2_000_000)
    options.add_argument("--step", type=int, default=1_000_000)
    options.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.open:
        print(json.dumps(open_at(asked.open, asked.step)))
        return
    with tempfile.TemporaryDirectory() as name:
        figures = write(Path(name), asked.documents)
        again = [sys.executable, __file__, "--open", name, "--step", str(asked.step)]
        figures |= json.loads(subprocess.run(again, check=True, capture_output=True, text=True).stdout)
    print(json.dumps({key: round(value, 5) for key, value in figures.items()}))


if __name__ == "__main__":
    main()
