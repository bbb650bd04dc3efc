"""Six measurements on a GPU: tokens/s, MFU and peak memory of a 124 M and a 350 M run; ours, HF Trainer, litgpt.

    python bench/gpu.py WORK --litgpt PYTHON            on a machine with a GPU
    python bench/gpu.py WORK --litgpt PYTHON --dry-run  a tiny shape on the CPU: shows only that the script works

HAS NOT BEEN RUN ON A GPU: none was at hand when it was written (November 2026). Only the dry run has.

The same tied Llama for all, bf16 products with fp32 weights, AdamW, torch.compile, one GPU, rows of 1,024 tokens; ours
also with its defaults (Muon). Ours keeps documents apart (varlen attention), the others read one stream. Random
tokens: only speed is measured. MFU: model FLOPs (6 per parameter, and attention) against the card's dense bf16 peak.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHAPES = {
    "124M": {"vocab": 50304, "width": 768, "depth": 12, "heads": 12, "ffn": 2048},
    "350M": {"vocab": 50304, "width": 1024, "depth": 24, "heads": 16, "ffn": 2752},
}
TINY = {"tiny": {"vocab": 512, "width": 64, "depth": 2, "heads": 2, "ffn": 160}}
SYSTEMS = ("hagane-adamw", "hf-trainer", "litgpt", "hagane")
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "B200": 2250.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "4090": 165.0}  # dense bf16, vendors' sheets


def prepare(work: Path, vocab: int) -> None:
    """Documents of 200 to 3,000 random tokens as shards, and as one stream."""
    import numpy as np

    from hagane.core.labels import PUBLIC
    from hagane.train.shard_set import ShardSet
    from hagane.train.shards import Header, Tokenised, write_shards

    draw = np.random.default_rng(0)
    documents = [draw.integers(0, vocab, int(n)) for n in draw.integers(200, 3000, 4000 if vocab > 1000 else 60)]
    write_shards(
        work / "train",
        lambda first: (Tokenised(one, PUBLIC, "random", n + 1) for n, one in enumerate(documents[first:], first)),
        header=Header("gpu", vocab, "random"),
    )
    shards = ShardSet(work / "train")
    np.save(work / "tokens.npy", np.concatenate([shards.ids(n) for n in range(shards.n_documents)]).astype(np.uint16))


def measure(given: argparse.Namespace, system: str, shape: dict[str, int], rows: int) -> dict[str, Any]:
    told = {
        "system": system, "mode": "gpu", "folder": str(given.work / str(shape["vocab"])), "T": given.tokens, "B": rows,
        "seed": 0, "rate": 1e-4, "steps": given.steps, "shape": shape, "device": "cpu" if given.dry_run else "cuda",
        "bf16": not given.dry_run, "compile": not given.eager,
    }  # fmt: skip
    python = given.litgpt if system == "litgpt" else sys.executable
    words = [python, str(HERE / "pretrain_systems.py"), json.dumps(told)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("{") and "tokens_per_s" in line]
    if not said:
        (given.work / f"{system}.err").write_text(done.stderr)
        return {"failed": (done.stderr.strip().splitlines() or ["no word"])[-1][:200]}
    return json.loads(said[-1])


def peak_flops(given: argparse.Namespace) -> float | None:
    if given.dry_run:
        return None
    import torch

    name = torch.cuda.get_device_name()
    print("card:", name)
    found = given.peak_tflops or next((value for key, value in PEAK_TFLOPS.items() if key in name), None)
    if found is None:
        raise SystemExit(f"the peak of {name} is not known here: give --peak-tflops")
    return found * 1e12


def main() -> None:
    from hagane.train.scaling import Shape

    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument("work", type=Path)
    say.add_argument("--litgpt", help="the Python of an environment with litgpt")
    say.add_argument("--dry-run", action="store_true")
    say.add_argument("--eager", action="store_true", help="without torch.compile")
    say.add_argument("--steps", type=int, default=60, help="the first 10 warm up")
    say.add_argument("--rows", type=int, default=16)
    say.add_argument("--tokens", type=int, default=1024)
    say.add_argument("--peak-tflops", type=float)
    given = say.parse_args()
    given.work = given.work.absolute()
    if given.dry_run:
        given.rows, given.tokens, given.steps, given.eager = 2, 64, 13, True
    peak = peak_flops(given)
    print("size | parameters | system | tokens/s | MFU | peak memory, GB\n---|---|---|---|---|---")
    for size, how in (TINY if given.dry_run else SHAPES).items():
        work = given.work / str(how["vocab"])
        if not (work / "tokens.npy").exists():
            prepare(work, how["vocab"])
        shape = Shape(how["vocab"], how["width"], how["depth"], how["heads"], how["heads"], how["ffn"], given.tokens)
        for system in SYSTEMS:
            if system == "litgpt" and not given.litgpt:
                print(f"{size} | {shape.n_params:,} | litgpt | not run: no environment given | |")
                continue
            said = measure(given, system, how, given.rows)
            if "failed" in said:
                print(f"{size} | {shape.n_params:,} | {system} | failed: {said['failed']} | |", flush=True)
                continue
            mfu = "" if peak is None else f"{said['tokens_per_s'] * shape.flops_per_token / peak:.3f}"
            print(f"{size} | {shape.n_params:,} | {system} | {said['tokens_per_s']:,.0f} | {mfu} | {said['peak_gb']:.2f}", flush=True)


if __name__ == "__main__":
    main()
