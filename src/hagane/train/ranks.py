"""Several processes as one: gradients added over all, parameters replicated or sharded (FSDP2).

Nothing here pickles: only tensors travel. Start with torchrun, or `join` by hand (gloo on CPUs, NCCL on GPUs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of how many processes this is. `sharded`: each keeps a part of every tensor, else all keep everything."""

    rank: int = 0
    world: int = 1
    sharded: bool = False

    def mine(self, n_rows: int) -> list[int]:
        """The rows of a global batch that this rank computes: every `world`-th."""
        return list(range(self.rank, n_rows, self.world))

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
        return tensor

    def add_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Gradients become sums over all ranks. Sharded ones are already: FSDP2 added them on the way back."""
        if self.world == 1 or self.sharded:
            return
        for one in parameters:
            if one.grad is None:  # a rank without labels of its own takes part all the same
                one.grad = torch.zeros_like(one)
        flat = torch.cat([one.grad.reshape(-1) for one in parameters])
        self.add(flat)
        at = 0
        for one in parameters:
            one.grad.copy_(flat[at : at + one.numel()].view_as(one))
            at += one.numel()

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            dist.barrier()

    def split(self, model: torch.nn.Module, layers: Sequence[torch.nn.Module]) -> torch.nn.Module:
        """The model as this world keeps it: itself, or with every parameter sharded over the ranks."""
        if not self.sharded:
            return model
        from torch.distributed.fsdp import fully_shard

        for part in (*layers, model):
            fully_shard(part)
            part.set_gradient_divide_factor(1.0)  # sums, not means: the loss is already divided by the global count
            part.set_force_sum_reduction_for_comms(True)  # gloo knows no scaled sum
        return model


def join(*, rank: int, world: int, meeting: str, sharded: bool = False, backend: str = "gloo") -> Ranks:
    """Meet the others at `meeting` ("env://" under torchrun, or file:///path of a file that does not exist yet)."""
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=world)
    return Ranks(rank, world, sharded)
