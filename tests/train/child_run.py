"""A training run in a process of its own, for tests that kill it or want several ranks. Not a test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from small_training import Stream, tiny

from hagane.train.loop import Settings, train
from hagane.train.objectives import NextToken
from hagane.train.ranks import Ranks, join
from hagane.train.tensor_file import write_tensors


def model_of(kind: str) -> torch.nn.Module:
    """scratch: a Llama of two layers; lora: the same with an adapter and dropout."""
    model = tiny(depth=2, initializer_range=0.02)
    if kind == "lora":
        from hagane.train.tune import Lora, add_adapter

        model = add_adapter(model, Lora(rank=4, dropout=0.1), seed=1)
    return model


def main(told: dict) -> None:
    """`told`: folder, settings, kind (scratch, lora), rank, world, meeting, sharded, out, die_after."""
    torch.set_num_threads(1)
    ranks = Ranks()
    if told.get("world", 1) > 1:
        ranks = join(rank=told["rank"], world=told["world"], meeting=told["meeting"], sharded=told["sharded"])
    model = model_of(told["kind"])
    settings = Settings(**told["settings"])
    folder = Path(told["folder"]) if told.get("folder") else None

    def watch(event) -> None:
        if event.kind == "step":
            print(event.step, flush=True)

    done = train(
        model, NextToken(), Stream(rows=told.get("rows", 8)), settings, folder=folder, ranks=ranks, watch=watch
    )
    whole = {name: one.full_tensor() if hasattr(one, "full_tensor") else one for name, one in model.named_parameters()}
    if ranks.rank == 0:
        write_tensors(Path(told["out"]), whole, notes={"losses": json.dumps(done.losses)})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
