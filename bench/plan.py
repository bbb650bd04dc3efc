"""Is the plan right? Six trainings are predicted, then run in a child process: CPU-seconds per step and peak memory.

    OMP_NUM_THREADS=1 python bench/plan.py                     # on one thread; about 20 CPU-seconds each
    OMP_NUM_THREADS=1 python bench/plan.py --keep runs.jsonl   # keeps what was measured
    python bench/plan.py --again runs.jsonl                    # predicts what was kept once more, measures nothing

The machine's speed is measured right before and after each training, in the same process, by CPU time: other work on
the machine slows both alike. Constants of the plan (builds/cost.py, builds/space.py) were fitted on other sizes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hagane.builds.cost import Job, seconds
from hagane.builds.decoder import Decoder
from hagane.builds.space import memory
from hagane.train.speed import Speed
from hagane.train.words import NO_LOSS, Batch

FIRST, LEAST = 1, 4  # steps that are not counted, steps at least
WITHIN = 0.20
SIX: Mapping[str, Job] = {
    "pretrain 1.4 M, 512": Job(Decoder("llama", 4000, 128, 4, 4, 4, 32, 352, True, True, 512), 512, 8, 4, 1, "muon", 1.0, 200),
    "pretrain 6 M, 1024": Job(Decoder("qwen3", 8000, 256, 4, 8, 8, 32, 704, True, True, 1024), 1024, 2, 1, 1, "muon"),
    "pretrain 17 M, 256": Job(Decoder("llama", 16_000, 384, 6, 6, 6, 64, 1024, True, True, 256), 256, 8, 8, 1, "adamw", 1.0, 90),
    "LoRA on Gemma 270M": Job(Decoder("gemma3_text", 262_144, 640, 18, 4, 1, 256, 2048, True, True, 2048), 512, 1, 1, 1, "adamw",
                              0.15, 128, 16),
    "LoRA on SmolLM2 135M": Job(Decoder("llama", 49_152, 576, 30, 9, 3, 64, 1536, True, True, 2048), 512, 2, 2, 1, "adamw", 0.25,
                                170, 8),
    "full tune, 39 M": Job(Decoder("llama", 32_000, 480, 10, 8, 4, 60, 1280, True, True, 1024), 512, 2, 2, 1, "muon", 0.3, 128),
}  # fmt: skip


class Rows:
    """Packed rows of random words: a pure function of the step. Documents are equally long, learnt from their ends."""

    def __init__(self, job: Job) -> None:
        self.job, self.length = job, int(min(job.tokens, job.document or job.tokens))

    def batch(self, step: int) -> Batch:
        shape, place = (self.job.rows, self.job.tokens), np.arange(self.job.tokens)
        ids = np.random.default_rng(step).integers(3, self.job.decoder.vocab, shape)
        learnt = place % self.length >= self.length * (1 - self.job.labelled)
        targets = np.where(learnt, np.roll(ids, -1, 1), NO_LOSS)
        owner, at = (np.tile(one, (shape[0], 1)) for one in ((place // self.length).astype(np.int32), place % self.length))
        return Batch(ids, targets, owner, at, step)

    def state(self, step: int) -> tuple[int, int, int]:
        return 0, 0, step

    def documents(self, step: int, row: int) -> list[str]:
        return []


def run(job: Job, *, cpu_s: float) -> dict[str, Any]:
    """In the child: the training as the product does it, with its checkpoint at the end."""
    import torch

    from hagane.train.loop import Run, Settings
    from hagane.train.model import from_scratch
    from hagane.train.objectives import NextToken
    from hagane.train.scaling import Shape
    from hagane.train.speed import measured_speed
    from hagane.train.tune import Lora, add_adapter

    torch.set_num_threads(1)
    before = measured_speed(clock=time.process_time)
    d = job.decoder
    model: Any = from_scratch(
        d.family, Shape(d.vocab, d.width, d.depth, d.heads, d.kv_heads, d.ffn, d.longest), seed=0, head_dim=d.head_width
    )
    if job.rank:
        model = add_adapter(model, Lora(job.rank, 2 * job.rank), seed=0)
    spent: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        told = Settings(10**6, 1e-4, optimiser=job.optimiser, micro_rows=job.micro_rows)  # type: ignore[arg-type]
        training = Run(model, NextToken(), Rows(job), told, folder=Path(folder) / "checkpoints")
        while sum(spent) < cpu_s or len(spent) < LEAST:
            began = time.process_time()
            training.do_step()
            spent.append(time.process_time() - began)
        training.save()
    after = measured_speed(clock=time.process_time)
    speed = {name: (getattr(before, name) + getattr(after, name)) / 2 for name in ("products", "passes", "call_s")}
    return {
        "speed": speed, "step_s": sum(spent[FIRST:]) / len(spent[FIRST:]), "steps": len(spent),
        "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "n_params": sum(one.numel() for one in model.parameters()),
        "n_trained": sum(one.numel() for one in model.parameters() if one.requires_grad),
    }  # fmt: skip


def line(name: str, found: Mapping[str, Any]) -> tuple[float, float]:
    """One row of the table; measured / predicted of time and memory."""
    job = SIX[name]
    whole = job.decoder.n_params + (job.n_trained if job.rank else 0)
    if (found["n_params"], found["n_trained"]) != (whole, job.n_trained):
        raise SystemExit(f"{name}: {found['n_params']:,} parameters were counted as {whole:,}")
    step_s, need = seconds(job, Speed(**found["speed"], by="torch")), memory(job).total
    time_ratio, memory_ratio = found["step_s"] / step_s, found["bytes"] / need
    print(f"{name:22}{step_s:9.3f}{found['step_s']:9.3f}{time_ratio:7.2f}{need / 1e6:9.0f}{found['bytes'] / 1e6:9.0f}{memory_ratio:7.2f}"
          f"{found['speed']['products'] / 1e9:9.0f}{found['steps']:7}", flush=True)  # fmt: skip
    return time_ratio, memory_ratio


def main() -> int:
    """0 when all twelve are within a fifth."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cpu-s", type=float, default=12.0, help="CPU-seconds of each training")
    options.add_argument("--only", nargs="*", default=list(SIX), help="names of trainings")
    options.add_argument("--keep", type=Path)
    options.add_argument("--again", type=Path)
    options.add_argument("--child", help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.child:
        print(json.dumps(run(SIX[asked.child], cpu_s=asked.cpu_s)))
        return 0
    print(f"{'':22}{'predicted':>9}{'measured':>9}{'ratio':>7}{'predicted':>9}{'measured':>9}{'ratio':>7}{'GFLOP/s':>9}{'steps':>7}")
    print(f"{'':22}{'CPU-s':>9}{'a step':>9}{'':7}{'MB':>9}{'at peak':>9}")
    found = [json.loads(one) for one in asked.again.read_text("utf-8").splitlines()] if asked.again else []
    ratios = [line(one["name"], one) for one in found]
    for name in () if asked.again else asked.only:
        command = [sys.executable, __file__, "--child", name, "--cpu-s", str(asked.cpu_s)]
        made = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        if asked.keep:
            with asked.keep.open("a", encoding="utf-8") as out:
                out.write(json.dumps({"name": name, **made}) + "\n")
        ratios.append(line(name, made))
    good = sum(abs(one - 1) <= WITHIN for pair in ratios for one in pair)
    print(f"{good} of {2 * len(ratios)} within {WITHIN:.0%}")
    return 0 if good == 2 * len(ratios) else 1


if __name__ == "__main__":
    sys.exit(main())
