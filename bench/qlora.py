"""What QLoRA spares: LoRA beside the base in fp32 and in 4 bits, same rows, each in a process of its own.

    python bench/qlora.py BASE ../shared/data/jaquad --steps 4

BASE: a Hugging Face folder. Prints peak memory (VmHWM) and what it rose by after the base was loaded, seconds a step and
the losses.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path


def peak_mb() -> float:
    """The most memory that this process has had resident."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def one(given: argparse.Namespace) -> dict[str, object]:
    """LoRA or QLoRA, in this process."""
    import numpy as np
    import torch
    from tokenizers import Tokenizer

    from hagane.train.loop import Run, Settings
    from hagane.train.model_folder import load_folder
    from hagane.train.objectives import NextToken
    from hagane.train.pack import blank
    from hagane.train.quantised import n_bytes, quantise
    from hagane.train.tune import Lora, add_adapter
    from hagane.train.words import Batch, stack

    torch.set_num_threads(1)
    words = Tokenizer.from_file(str(given.base / "tokenizer.json"))
    file = sorted(given.jaquad.glob("train/*.json"))[0]
    texts = [
        part["context"] for article in json.loads(file.read_text("utf-8"))["data"] for part in article["paragraphs"]
    ]
    ids = np.concatenate([words.encode(text).ids for text in texts[:60]])

    class Rows:
        def batch(self, step: int) -> Batch:
            row = blank(given.tokens)
            row.ids_T[:] = ids[step * given.tokens : (step + 1) * given.tokens]
            row.targets_T[:-1], row.documents_T[:] = row.ids_T[1:], 0
            return stack([row], step=step)

        def state(self, step: int) -> tuple[int, int, int]:
            return 0, 0, step

        def documents(self, step: int, row: int) -> list[str]:
            return [file.name]

    model = load_folder(given.base)
    loaded = peak_mb()
    if given.only == "qlora":
        quantise(model)
    kept = n_bytes(model) / 2**20
    began = time.process_time()
    run = Run(
        add_adapter(model, Lora(), seed=0), NextToken(), Rows(), Settings(given.steps, 3e-4, optimiser="adamw", micro_rows=1)
    )  # fmt: skip
    losses = [run.do_step()["loss"] for _ in range(given.steps)]
    spent = (time.process_time() - began) / given.steps
    return {"which": given.only, "base_mb": round(kept), "loaded_peak_mb": round(loaded), "peak_mb": round(peak_mb()),
            "cpu_s_a_step": round(spent, 2), "losses": [round(loss, 4) for loss in losses]}  # fmt: skip


def main() -> None:
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument("base", type=Path)
    say.add_argument("jaquad", type=Path)
    say.add_argument("--tokens", type=int, default=512)
    say.add_argument("--steps", type=int, default=4)
    say.add_argument("--only", choices=("lora", "qlora"))
    given = say.parse_args()
    if given.only:
        print(json.dumps(one(given)))
        return
    for which in ("lora", "qlora"):
        call = [
            sys.executable,
            __file__,
            str(given.base),
            str(given.jaquad),
            "--tokens",
            str(given.tokens),
            "--steps",
            str(given.steps),
        ]
        print(
            subprocess.run([*call, "--only", which], check=True, capture_output=True, text=True).stdout.strip(),
            flush=True,
        )


if __name__ == "__main__":
    main()
