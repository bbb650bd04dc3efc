"""FP8 products in the hidden layers, for experts with a GPU that has them (compute capability 8.9 and later).

Each tensor is scaled by its own largest value at each use (dynamic, one scale per tensor): inputs and weights as e4m3,
gradients as e5m2, sums in fp32. Weights, optimiser, norms, embedding and head stay as they were. Not run on a GPU yet:
no GPU was at hand; the arithmetic is tested on the CPU.

Sources: Micikevicius et al. 2022, arXiv 2209.05433; dynamic scaling per tensor as in torchao.float8.
Legend: N tokens, C columns (what goes in), R rows (what comes out).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch

from hagane.core.errors import UsageError

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
CAPABILITY = (8, 9)  # Ada, Hopper and later
MULTIPLE = 16  # what the products ask of every side


def in_fp8(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """The tensor in eight bits, and the fp32 number that brings it back: x is about eight bits times it."""
    scale = x.detach().abs().amax().float().clamp(min=1e-12) / torch.finfo(dtype).max
    return (x / scale).to(dtype), scale


def _product(left: Any, right: Any, *, dtype: torch.dtype) -> torch.Tensor:
    """left · right, both (eight bits, scale); `right` column by column in memory, as the hardware wants it."""
    (a, scale_a), (b, scale_b) = left, right
    return torch._scaled_mm(a, b, scale_a=scale_a, scale_b=scale_b, out_dtype=dtype)


class _Fp8Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NC: torch.Tensor, weight_RC: torch.Tensor) -> torch.Tensor:
        x8, w8 = in_fp8(x_NC, FORWARD), in_fp8(weight_RC, FORWARD)
        ctx.save_for_backward(*x8, *w8)
        ctx.dtype = weight_RC.dtype
        return _product(x8, (w8[0].T, w8[1]), dtype=x_NC.dtype)

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> Any:
        x8_NC, x_scale, w8_RC, w_scale = ctx.saved_tensors
        g8_NR, g_scale = in_fp8(given[0], BACKWARD)
        gx_NC = gw_RC = None
        if ctx.needs_input_grad[0]:
            columns = w8_RC.T.contiguous().T
            gx_NC = _product((g8_NR, g_scale), (columns, w_scale), dtype=given[0].dtype)
        if ctx.needs_input_grad[1]:
            rows, columns = g8_NR.T.contiguous(), x8_NC.T.contiguous().T
            gw_RC = _product((rows, g_scale), (columns, x_scale), dtype=given[0].dtype).to(ctx.dtype)
        return gx_NC, gw_RC


def linear(x: torch.Tensor, weight_RC: torch.Tensor, bias_R: torch.Tensor | None) -> torch.Tensor:
    """As torch's linear, in FP8; tokens that do not fill a multiple of 16 are filled up with zeros and cut again."""
    x_NC = x.reshape(-1, x.shape[-1])
    n = len(x_NC)
    x_NC = torch.nn.functional.pad(x_NC, (0, 0, 0, -n % MULTIPLE))
    y_NR = _Fp8Linear.apply(x_NC, weight_RC)[:n]
    return (y_NR if bias_R is None else y_NR + bias_R.to(y_NR.dtype)).view(*x.shape[:-1], -1)


def check(device: torch.device) -> None:
    """Raises: UsageError where this device has no FP8 products."""
    if device.type != "cuda":
        raise UsageError(f"the device {device.type!r} has no fp8 products", hint="set numbers to auto, fp32 or bf16")
    found = torch.cuda.get_device_capability(device)
    if found < CAPABILITY:
        raise UsageError(
            f"{torch.cuda.get_device_name(device)} has no fp8 products (compute capability {found[0]}.{found[1]}, "
            f"{CAPABILITY[0]}.{CAPABILITY[1]} is the least)",
            hint="set numbers to bf16",
        )


def check_here() -> None:
    """Raises: UsageError where this machine's own device has no FP8 products: before any data is prepared."""
    check(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def use_fp8(model: torch.nn.Module) -> int:
    """Let the linear layers inside the blocks multiply in FP8; how many do. Adapters stay as they are.
    Raises: UsageError for a device without, or a model in which no layer fits."""
    check(next(model.parameters()).device)
    n = _into_fp8(model)
    if not n:
        raise UsageError(f"no layer's sides are multiples of {MULTIPLE}: fp8 has nothing to do", hint="take bf16")
    return n


def _into_fp8(model: torch.nn.Module) -> int:
    n = 0
    for name, one in model.named_modules():
        inside = (".layers." in f".{name}" or ".h." in f".{name}") and "lora_" not in name
        if inside and type(one) is torch.nn.Linear and all(side % MULTIPLE == 0 for side in one.weight.shape):
            one.forward = MethodType(_forward, one)
            n += 1
    return n


def _forward(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast(x.device.type, enabled=False):
        half = x.to(torch.bfloat16) if x.dtype == torch.float32 and x.is_cuda else x
        return linear(half, layer.weight, layer.bias)
