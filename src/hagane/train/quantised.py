"""QLoRA: the frozen base's linear layers in 4 bits (NF4, blocks of 64), a layer at a time made whole where it is used.

A weight takes 0.5625 bytes instead of 4: half a byte, and one fp32 scale for 64 numbers. Embedding, head and norms stay
as they are. The adapter learns beside the base *as rounded*, so that is the base it belongs to: `whole_folder` writes it
out, and its fingerprint is the one that the adapter carries. Rounding again changes nothing. Device and library make
no difference: this is plain torch. Source: Dettmers et al. 2023, QLoRA, arXiv 2305.14314.

Legend: R rows (what comes out), C columns (what goes in), N numbers of a weight, padded to whole blocks.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from hagane.core.errors import StateError, UsageError

from .model import head, plain
from .model_folder import load_folder, save_folder

BLOCK = 64
NF4 = (  # quantiles of a normal distribution, scaled to -1 ... 1, with an exact zero; QLoRA, appendix E
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
SMALL_FILES = ("*.json", "*.jinja", "tokenizer.model")


def rounded(weight_RC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The codes of a weight, (N / 2,) uint8 with two of them in each, and its scales, (N / BLOCK,) fp32."""
    flat_N = F.pad(weight_RC.detach().float().reshape(-1), (0, -weight_RC.numel() % BLOCK)).view(-1, BLOCK)
    scales = flat_N.abs().amax(1)
    table = torch.tensor(NF4, device=flat_N.device)
    middles = (table[1:] + table[:-1]) / 2
    codes = torch.bucketize(flat_N / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None], middles)
    codes = codes.to(torch.uint8).view(-1, 2)
    return codes[:, 0] * 16 + codes[:, 1], scales


def whole(codes: torch.Tensor, scales: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """The weight of these codes, (R, C) fp32."""
    table = torch.tensor(NF4, device=codes.device)
    pairs = torch.cartesian_prod(table, table)  # what each of the 256 bytes stands for
    flat_N = F.embedding(codes.int(), pairs).view(-1, BLOCK)
    flat_N.mul_(scales.float()[:, None])
    return flat_N.view(-1)[: shape[0] * shape[1]].view(shape)


class _Product(torch.autograd.Function):
    """x W^T + b. Neither way keeps W: it is made again for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Any, codes: Any, scales: Any, bias: Any, shape: Any) -> Any:
        ctx.save_for_backward(codes, scales)
        ctx.shape, ctx.dtype = shape, x.dtype
        return F.linear(x, whole(codes, scales, shape).to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> Any:
        codes, scales = ctx.saved_tensors
        weight_RC = whole(codes, scales, ctx.shape).to(given[0].dtype)
        return (given[0] @ weight_RC).to(ctx.dtype), None, None, None, None


class Linear4(torch.nn.Linear):
    """A frozen linear layer in 4 bits. It has no `weight`: whoever would write into one fails instead of writing nowhere."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        codes, scales = rounded(layer.weight)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.register_parameter("weight", None)
        self.register_parameter("bias", layer.bias)
        if layer.bias is not None:
            layer.bias.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Product.apply(x, self.codes, self.scales, self.bias, (self.out_features, self.in_features))

    @property
    def qweight(self) -> torch.Tensor:
        """The codes, by the name under which peft looks where a layer lies that has no weight."""
        return self.codes

    def dequantised(self) -> torch.Tensor:
        """The weight, (R, C) fp32."""
        return whole(self.codes, self.scales, (self.out_features, self.in_features))


def quantise(model: torch.nn.Module) -> torch.nn.Module:
    """The model with every linear layer but the head in 4 bits, all of it frozen; in place. Then `tune.add_adapter`.

    Raises: StateError for a model that has an adapter already: it belongs to the base as it was."""
    if plain(model) is not model:
        raise StateError("the model has an adapter already", hint="round the base first, then add the adapter")
    model.requires_grad_(False)
    kept = head(model)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, torch.nn.Linear) and not isinstance(layer, Linear4) and layer is not kept:
                setattr(parent, name, Linear4(layer))
    return model


def dequantise(model: torch.nn.Module) -> torch.nn.Module:
    """The model with plain fp32 layers in place of those in 4 bits; in place, with an adapter or without."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Linear4):
                made = torch.nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
                made.weight = torch.nn.Parameter(layer.dequantised(), requires_grad=False)
                made.bias = layer.bias
                setattr(parent, name, made)
    return model


def is_quantised(model: torch.nn.Module) -> bool:
    """True when layers of it are in 4 bits."""
    return any(isinstance(layer, Linear4) for layer in model.modules())


def whole_folder(base: Path, folder: Path) -> Path:
    """The base as QLoRA rounded it, as a Hugging Face folder in fp32: what its adapters belong to, are merged into and are
    served with. Raises: what loading raises; UsageError for a folder that is not empty; StorageError."""
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder.name} is not empty", hint="name a new folder")
    save_folder(dequantise(quantise(load_folder(base))), folder)
    for pattern in SMALL_FILES:
        for path in sorted(base.glob(pattern)):
            if not (folder / path.name).exists() and not path.name.endswith(".index.json"):
                shutil.copyfile(path, folder / path.name)
    return folder


def n_bytes(model: torch.nn.Module) -> int:
    """What weights and codes take."""
    return sum(one.numel() * one.element_size() for one in (*model.parameters(), *model.buffers()))
