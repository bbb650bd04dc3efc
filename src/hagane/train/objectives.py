"""What is made small: the next token, and preference between two answers (DPO).

Logits exist only where there are labels, a chunk at a time. Every objective gives a *sum* and says what it is divided
by over the whole global batch, so that micro-batches and ranks add up to the same gradient.

Legend: B rows, T tokens of a row, D width, V vocabulary, N labelled positions, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from hagane.core.errors import UsageError

from .model import head, hidden, plain
from .words import NO_DOCUMENT, NO_LOSS, Batch

BLANK = -1  # a row that only keeps step with other ranks
CHUNK_LOGITS = 1 << 26  # logits that exist at once on a GPU: 256 MB in fp32
CHUNK_LOGITS_CPU = 1 << 20  # 4 MB stay in the cache: a fifth faster than 64 MB
CHUNK_ROWS = 64  # never fewer: the head's weights are read once per chunk
TINY = 1e-30  # below this a probability in fp32 is too near to 0 for its logarithm


@dataclass(frozen=True, slots=True)
class Micro:
    """Some rows of a batch as tensors."""

    ids_BT: torch.Tensor
    targets_BT: torch.Tensor
    documents_BT: torch.Tensor
    positions_BT: torch.Tensor

    @classmethod
    def of(cls, batch: Batch, rows: list[int], *, device: torch.device | str = "cpu") -> Micro:
        """Those rows of the batch, on the device; of BLANK ones nothing is learnt."""
        targets_BT = np.where((np.asarray(rows) == BLANK)[:, None], NO_LOSS, batch.targets_BT[rows])
        arrays = (batch.ids_BT[rows], targets_BT, batch.documents_BT[rows], batch.positions_BT[rows])
        return cls(*(torch.from_numpy(np.ascontiguousarray(one)).to(device) for one in arrays))


@dataclass(frozen=True, slots=True)
class Scored:
    """`total`: the sum to be differentiated. `sums`: other numbers, each summed likewise."""

    total: torch.Tensor
    sums: Mapping[str, float] = field(default_factory=dict)


class Objective(Protocol):
    """A loss. `weight` counts over the global batch what `score` sums over some of its rows."""

    def weight(self, batch: Batch) -> int: ...
    def score(self, model: torch.nn.Module, micro: Micro) -> Scored: ...


class NextToken:
    """Cross entropy of the labelled positions, in nats."""

    def weight(self, batch: Batch) -> int:
        return batch.n_targets

    def score(self, model: torch.nn.Module, micro: Micro) -> Scored:
        x_ND, targets_N = labelled(model, micro)
        weight_VD, bias_V, cap = _head_of(model)
        return Scored(_HeadLoss.apply(x_ND, weight_VD, bias_V, targets_N, cap, torch.is_grad_enabled()))


def labelled(model: torch.nn.Module, micro: Micro) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states (N, D) and targets (N,) of the positions that earn loss, in reading order."""
    x_BTD = hidden(model, micro.ids_BT, micro.positions_BT, micro.documents_BT)
    where_BT = micro.targets_BT != NO_LOSS
    return x_BTD[where_BT], micro.targets_BT[where_BT]


def _head_of(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor | None, float | None]:
    layer = head(model)
    return layer.weight, getattr(layer, "bias", None), getattr(plain(model).config, "final_logit_softcapping", None)


def _logits(x_CD: torch.Tensor, weight_VD: torch.Tensor, bias_V: Any, cap: float | None) -> torch.Tensor:
    logits_CV = F.linear(x_CD, weight_VD.to(x_CD.dtype), bias_V if bias_V is None else bias_V.to(x_CD.dtype)).float()
    return logits_CV if cap is None else cap * torch.tanh(logits_CV / cap)


def _rows_at_once(weight_VD: torch.Tensor) -> int:
    room = CHUNK_LOGITS_CPU if weight_VD.device.type == "cpu" else CHUNK_LOGITS
    return max(CHUNK_ROWS, room // weight_VD.shape[0])


class _HeadLoss(torch.autograd.Function):
    """Sum of cross entropies from hidden states, the gradient made on the way: each chunk's logits are used twice and
    then forgotten. Costs the three products that the plain way costs, none twice, and one exponential per logit.

    Source of the idea: Hsu et al. 2024, Liger kernels, arXiv 2410.10989.
    """

    @staticmethod
    def forward(ctx: Any, x_ND: Any, weight_VD: Any, bias_V: Any, targets_N: Any, cap: Any, learn: bool) -> Any:
        n, rows = x_ND.shape[0], _rows_at_once(weight_VD)
        wants = [learn and need for need in ctx.needs_input_grad[:3]]
        gx_ND, gw_VD, gb_V = (
            torch.zeros_like(one) if want else None for one, want in zip((x_ND, weight_VD, bias_V), wants, strict=True)
        )
        total = torch.zeros((), dtype=torch.float32, device=x_ND.device)
        for start in range(0, n, rows):
            x_CD, targets_C1 = x_ND[start : start + rows], targets_N[start : start + rows, None]
            logits_CV = _logits(x_CD, weight_VD, bias_V, cap)
            g_CV = torch.softmax(logits_CV, dim=-1)
            shares_C1 = g_CV.gather(1, targets_C1)
            if bool((shares_C1 < TINY).any()):
                total += F.cross_entropy(logits_CV, targets_C1[:, 0], reduction="sum")
            else:
                total -= shares_C1.log().sum()
            if not any(wants):
                continue
            g_CV.scatter_(1, targets_C1, shares_C1 - 1.0)
            if cap is not None:
                g_CV *= 1.0 - (logits_CV / cap) ** 2
            g_CV = g_CV.to(x_CD.dtype)
            if gx_ND is not None:
                torch.mm(g_CV, weight_VD.to(x_CD.dtype), out=gx_ND[start : start + rows])
            if gw_VD is not None and gw_VD.dtype == g_CV.dtype:
                gw_VD.addmm_(g_CV.T, x_CD)
            elif gw_VD is not None:
                gw_VD += g_CV.T @ x_CD
            if gb_V is not None:
                gb_V += g_CV.sum(0)
        ctx.save_for_backward(gx_ND, gw_VD, gb_V)
        return total

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> Any:
        return *(None if one is None else one * given[0].to(one.dtype) for one in ctx.saved_tensors), None, None, None


def token_logs(model: torch.nn.Module, micro: Micro) -> torch.Tensor:
    """log p of each labelled token, (N,), differentiable; a chunk's logits are made again on the way back."""
    x_ND, targets_N = labelled(model, micro)
    weight_VD, bias_V, cap = _head_of(model)
    rows = _rows_at_once(weight_VD)

    def some(x_CD: torch.Tensor, weight: torch.Tensor, targets_C: torch.Tensor) -> torch.Tensor:
        return -F.cross_entropy(_logits(x_CD, weight, bias_V, cap), targets_C, reduction="none")

    parts = [
        checkpoint(some, x_ND[at : at + rows], weight_VD, targets_N[at : at + rows], use_reentrant=False)
        for at in range(0, len(x_ND), rows)
    ]
    return torch.cat(parts) if parts else x_ND.sum(-1)


@torch.no_grad()
def likeliest(model: torch.nn.Module, micro: Micro) -> tuple[torch.Tensor, torch.Tensor]:
    """What greedy decoding would say at each labelled position, and what stands there: both (N,)."""
    x_ND, targets_N = labelled(model, micro)
    weight_VD, bias_V, cap = _head_of(model)
    rows = max(1, CHUNK_LOGITS // weight_VD.shape[0])
    parts = [_logits(x_ND[at : at + rows], weight_VD, bias_V, cap).argmax(-1) for at in range(0, len(x_ND), rows)]
    return torch.cat(parts) if parts else targets_N, targets_N


@dataclass(frozen=True, slots=True)
class Preference:
    """DPO: of each pair, the chosen answer is made likelier than the rejected one, measured from where the model began.

    A row holds whole pairs: its documents 0, 2, 4, … are chosen answers with their prompts, 1, 3, 5, … the rejected
    ones of the document before. `beta`: how dear leaving the reference is (0.1 is usual, 0.01 to 0.5 are seen).
    `reference`: the frozen beginning; None for a model with an adapter, which is its own reference without it.
    Source: Rafailov et al. 2023, arXiv 2305.18290.
    """

    beta: float = 0.1
    reference: torch.nn.Module | None = None

    def weight(self, batch: Batch) -> int:
        return sum(len(np.unique(row[row != NO_DOCUMENT])) // 2 for row in batch.documents_BT)

    def score(self, model: torch.nn.Module, micro: Micro) -> Scored:
        ours_P2 = _sums(token_logs(model, micro), micro)
        theirs_P2 = _sums(self._reference_logs(model, micro), micro)
        gain_P2 = ours_P2 - theirs_P2
        margin_P = gain_P2[:, 0] - gain_P2[:, 1]
        losses_P = -F.logsigmoid(self.beta * margin_P)
        with torch.no_grad():
            sums = {"margin": float(margin_P.sum()), "won": float((margin_P > 0).sum())}
        return Scored(losses_P.sum(), sums)

    def _reference_logs(self, model: torch.nn.Module, micro: Micro) -> torch.Tensor:
        if self.reference is None and not hasattr(model, "disable_adapter"):
            raise UsageError(
                "preference learning without an adapter needs the model it began from", hint="give `reference`"
            )
        context = model.disable_adapter() if self.reference is None else nullcontext()
        judge = model if self.reference is None else self.reference
        training = judge.training
        judge.eval()
        try:
            with torch.no_grad(), context:
                return token_logs(judge, micro)
        finally:
            judge.train(training)


def _sums(logs_N: torch.Tensor, micro: Micro) -> torch.Tensor:
    """(P, 2): log p of the chosen and the rejected answer of each pair. Raises: UsageError for half a pair."""
    where_BT = micro.targets_BT != NO_LOSS
    most = int(micro.documents_BT.max()) + 1
    most += most % 2
    rows_BT = torch.arange(len(where_BT), device=logs_N.device)[:, None].expand_as(where_BT)
    slots_N = (rows_BT * most + micro.documents_BT)[where_BT]
    totals = logs_N.new_zeros(len(where_BT) * most).index_add(0, slots_N.long(), logs_N)
    there = torch.zeros(len(where_BT) * most, dtype=torch.bool, device=logs_N.device)
    there[slots_N.long()] = True
    there_P2 = there.view(-1, 2)
    if (there_P2[:, 0] != there_P2[:, 1]).any():
        raise UsageError("a pair lacks one of its two answers", hint="documents 2n and 2n + 1 of a row are one pair")
    return totals.view(-1, 2)[there_P2[:, 0]]
