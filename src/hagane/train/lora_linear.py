"""LoRA in one pass: the adapter's product is added into the layer's own output, and on the way back into its gradient.

peft computes base(x) + B(A(x)) * scale as five operations, of which three run over the wide output only to add and to
scale. Here scale goes onto the narrow product (K wide), and the wide sums happen inside the matrix products.

Source of the idea: Unsloth's LoRA kernels, github.com/unslothai/unsloth. Here with torch alone, on any device.
Legend: N tokens, C columns (what goes in), R rows (what comes out), K rank.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F


class _LoraLinear(torch.autograd.Function):
    """x W' + b + scale (x A') B'. No gradient for W and b: they are frozen."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight_RC: Any, bias_R: Any, a_KC: Any, b_RK: Any, scale: float) -> torch.Tensor:
        x_NC = x.reshape(-1, x.shape[-1])
        h_NK = (x_NC @ a_KC.T).mul_(scale)
        y_NR = F.linear(x_NC, weight_RC, bias_R).addmm_(h_NK, b_RK.T)
        ctx.save_for_backward(x_NC, weight_RC, a_KC, b_RK, h_NK)
        ctx.scale = scale
        return y_NR.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> Any:
        x_NC, weight_RC, a_KC, b_RK, h_NK = ctx.saved_tensors
        g_NR = given[0].reshape(-1, given[0].shape[-1])
        gb_RK = g_NR.T @ h_NK
        gh_NK = (g_NR @ b_RK).mul_(ctx.scale)
        ga_KC = gh_NK.T @ x_NC
        gx = (g_NR @ weight_RC).addmm_(gh_NK, a_KC) if ctx.needs_input_grad[0] else None
        return None if gx is None else gx.view(*given[0].shape[:-1], -1), None, None, ga_KC, gb_RK, None


def quicken(model: torch.nn.Module) -> int:
    """Let the plain LoRA layers of a peft model go the short way wherever it computes the same; how many did.

    It does not with dropout, under autocast, with several adapters, or while the adapter is off: then peft's way is
    taken, call by call. Names, weights and what is saved stay as they are.
    """
    from peft.tuners.lora.layer import Linear

    found = [one for one in model.modules() if type(one) is Linear and type(one.base_layer) is torch.nn.Linear]
    for one in found:
        one.forward = MethodType(_forward, one)
    return len(found)


def _forward(layer: Any, x: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
    if rest or named or not _is_plain(layer, x):
        return type(layer).forward(layer, x, *rest, **named)
    name = layer.active_adapters[0]
    base = layer.base_layer
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    return _LoraLinear.apply(x, base.weight, base.bias, a, b, layer.scaling[name])


def _is_plain(layer: Any, x: torch.Tensor) -> bool:
    names = layer.active_adapters
    if layer.disable_adapters or layer.merged or len(names) != 1 or names[0] not in layer.lora_A:
        return False
    name = names[0]
    if name in layer.lora_variant or layer.lora_B[name].bias is not None or layer.base_layer.weight.requires_grad:
        return False
    if layer.training and not isinstance(layer.lora_dropout[name], torch.nn.Identity):
        return False
    same = x.dtype == layer.base_layer.weight.dtype == layer.lora_A[name].weight.dtype
    return same and not torch.is_autocast_enabled(x.device.type)
