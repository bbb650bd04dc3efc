"""Optimisers and the schedule: Muon for hidden matrices, AdamW for the rest and for adapters; warm-up, stable, decay.

One learning rate serves both: Muon's steps are scaled to the size of AdamW's.

Sources: Muon: Jordan et al. 2024, kellerjordan.github.io/posts/muon; the scaling 0.2 sqrt(max(rows, columns)): Liu et
al. 2025, arXiv 2502.16982; AdamW: Loshchilov and Hutter 2019, arXiv 1711.05101; the decay 1 - sqrt over the last
fifth: Hägele et al. 2024, arXiv 2405.18392.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch

from hagane.core.errors import StateError

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
Kind = Literal["muon", "adamw"]


def schedule(step: int, *, steps: int, warmup: int, decay: float = 0.2) -> float:
    """The factor on the learning rate at `step`, counted from 0: up to 1 in `warmup` steps, then 1, and over the
    last share `decay` down as 1 - sqrt. Never 0 within the run."""
    if step < warmup:
        return (step + 1) / warmup
    begins = steps - max(1, round(decay * steps)) if decay else steps
    return 1.0 if step < begins else 1.0 - math.sqrt((step - begins + 1) / (steps - begins + 1))


def orthogonal(matrices: torch.Tensor, *, rounds: int = 5) -> torch.Tensor:
    """Near U Vᵀ of the matrix's U S Vᵀ; of each, where there are several (first axis) of one shape. fp32 on the CPU
    (so that ranks agree), bf16 elsewhere.

    torch.optim.Muon does the same in bf16 everywhere; tests compare the two.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(torch.float32 if matrices.device.type == "cpu" else torch.bfloat16).view(-1, *matrices.shape[-2:])
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype).reshape(matrices.shape)


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal: matrices of one shape together. Sharded ones are gathered for that and cut again;
    their momentum stays sharded."""

    def __init__(self, params: Any, *, lr: float, weight_decay: float = 0.1, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step on every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[torch.Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(tuple(matrix.shape), []).append(matrix)
            for matrices in alike.values():
                wholes = [self._wanted(matrix, group["momentum"]) for matrix in matrices]
                for matrix, update in zip(matrices, orthogonal(torch.stack(wholes)), strict=True):
                    _move(matrix, update, group)

    def _wanted(self, matrix: torch.Tensor, momentum: float) -> torch.Tensor:
        """Momentum in Nesterov's way, whole on every rank."""
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer = state["momentum_buffer"]
        buffer.lerp_(matrix.grad, 1 - momentum)
        wanted = matrix.grad.lerp(buffer, momentum)
        return wanted.full_tensor() if hasattr(wanted, "full_tensor") else wanted


def _move(matrix: torch.Tensor, update: torch.Tensor, group: Mapping[str, Any]) -> None:
    if hasattr(matrix, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        update = distribute_tensor(update, matrix.device_mesh, matrix.placements, src_data_rank=None)
    matrix.mul_(1 - group["lr"] * group["weight_decay"])
    matrix.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))


class Optimisers:
    """The optimisers of one model as one, with a state that has names."""

    def __init__(self, model: torch.nn.Module, *, kind: Kind, learning_rate: float, weight_decay: float) -> None:
        self.rate = learning_rate
        self._names = {name: one for name, one in model.named_parameters() if one.requires_grad}
        if not self._names:
            raise StateError("nothing of this model is trainable", hint="add an adapter, or do not freeze everything")
        matrices = [one for name, one in self._names.items() if kind == "muon" and _is_hidden_matrix(name, one)]
        mine = {id(one) for one in matrices}
        rest = [one for one in self._names.values() if id(one) not in mine]
        groups = [
            {"params": [one for one in rest if one.ndim >= 2], "weight_decay": weight_decay},
            {"params": [one for one in rest if one.ndim < 2], "weight_decay": 0.0},
        ]
        plain = all(not hasattr(one, "full_tensor") for one in rest)
        self._all: list[torch.optim.Optimizer] = []
        if matrices:
            self._all.append(Muon(matrices, lr=learning_rate, weight_decay=weight_decay))
        if rest:
            used = [group for group in groups if group["params"]]
            self._all.append(torch.optim.AdamW(used, lr=learning_rate, betas=(0.9, 0.95), eps=1e-8, fused=plain))

    @property
    def parameters(self) -> list[torch.Tensor]:
        return list(self._names.values())

    def step(self, factor: float) -> None:
        """One step at `factor` times the learning rate."""
        for optimiser in self._all:
            for group in optimiser.param_groups:
                group["lr"] = self.rate * factor
            optimiser.step()

    def forget_gradients(self) -> None:
        for one in self._names.values():
            one.grad = None

    def state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Everything that the next step depends on: "weight/NAME" and "optimiser/KEY/NAME"."""
        for name, one in self._names.items():
            yield f"weight/{name}", one.detach()
            for optimiser in self._all:
                for key, value in optimiser.state.get(one, {}).items():
                    yield f"optimiser/{key}/{name}", value

    @torch.no_grad()
    def load(self, saved: Mapping[str, torch.Tensor]) -> None:
        """The state that `state` gave, of any number of ranks. Raises: StateError when it is another model's."""
        wanted = {f"weight/{name}" for name in self._names}
        there = {name for name in saved if name.startswith("weight/")}
        if wanted != there:
            odd = sorted(wanted ^ there)[0]
            raise StateError(f"the checkpoint is of another model: {odd} differs", hint="give this run another folder")
        for name, one in self._names.items():
            if tuple(saved[f"weight/{name}"].shape) != tuple(one.shape):
                raise StateError(
                    f"the checkpoint is of another model: the shape of {name} differs",
                    hint="give this run another folder",
                )
            one.copy_(_like(saved[f"weight/{name}"], one))
            for optimiser in self._all:
                if any(one is other for group in optimiser.param_groups for other in group["params"]):
                    keys = [key for key in saved if key.startswith("optimiser/") and key.split("/", 2)[2] == name]
                    optimiser.state[one] = {key.split("/", 2)[1]: _like(saved[key], one) for key in keys}


def _like(whole: torch.Tensor, one: torch.Tensor) -> torch.Tensor:
    """`whole` where and as `one` is kept; scalars stay as they are."""
    if whole.ndim == 0:
        return whole.clone()
    if hasattr(one, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(whole.to(one.device), one.device_mesh, one.placements, src_data_rank=None)
    return whole.to(one.device, one.dtype)


def _is_hidden_matrix(name: str, one: torch.Tensor) -> bool:
    """A matrix inside the layers: not the embedding, not the head, not an adapter's."""
    return one.ndim == 2 and "lora_" not in name and (".layers." in name or ".h." in name)
