"""What a model says now, while it is trained: a few dozen greedy tokens, within a few seconds.

It draws nothing and changes nothing, so a run with samples ends with the same weights as one without.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import torch

from .model import head, hidden


@torch.no_grad()
def say(model: torch.nn.Module, opening: Sequence[int], *, n: int, ends: Collection[int], seconds: float) -> list[int]:
    """At most `n` greedy tokens behind `opening`, without the one that ends it; fewer when `seconds` are over."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    ids, began = list(opening), time.monotonic()
    try:
        while len(ids) - len(opening) < n and time.monotonic() - began < seconds:
            ids_BT = torch.tensor([ids], device=device)
            positions_BT = torch.arange(len(ids), device=device)[None]
            x_BTD = hidden(model, ids_BT, positions_BT, torch.zeros_like(ids_BT, dtype=torch.int32))
            best = int(head(model)(x_BTD[0, -1]).argmax())
            if best in ends:
                break
            ids.append(best)
    finally:
        model.train(was_training)
    return ids[len(opening) :]
