"""What torch runs on: processor threads of this process, and a GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def use_threads(n: int) -> None:
    """From now on; at least one."""
    torch.set_num_threads(max(1, n))


@contextmanager
def on_threads(n: int) -> Iterator[None]:
    """Within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def placed(model: torch.nn.Module) -> torch.nn.Module:
    """The model on the GPU, where there is one."""
    return model.cuda() if torch.cuda.is_available() else model
