"""What base a model is: its architecture, its shapes, and the first numbers of each weight, from memory or from a folder.

An adapter fits one base only; on another of the same shape it would load and talk nonsense.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..core.errors import ModelError
from ..core.safetensors_header import read_header
from .model import plain
from .model_folder import check_folder

N_FIRST = 256  # numbers of each weight
COMPUTED = (".rotary_emb.inv_freq", ".masked_bias", ".attention.bias")  # in some files, and no weights

Weight = tuple[str, tuple[int, ...], torch.Tensor]  # name, shape, its first numbers


def fingerprint(model: torch.nn.Module) -> str:
    """Of a model in memory, with an adapter on it or without."""
    bare = plain(model)
    named = (
        (name.replace(".base_layer", ""), tuple(one.shape), one.detach().reshape(-1)[:N_FIRST].clone())
        for name, one in chain(bare.named_parameters(), _in_four_bits(bare))  # of 4 bits one is whole at a time
        if "lora_" not in name  # peft puts an adapter's matrices inside the base
    )
    return _digest(str(bare.config.model_type), named)


def _in_four_bits(model: torch.nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    """Weights that are kept in 4 bits, as they are used: see quantised.py."""
    for name, layer in model.named_modules():
        if hasattr(layer, "dequantised"):
            yield f"{name}.weight", layer.dequantised()


def fingerprint_of(folder: Path) -> str:
    """The same of a folder, of which only the beginnings of the weights are read. Raises: what `check_folder` raises."""
    config, files = check_folder(folder)
    tied = bool(config.get("tie_word_embeddings", config.get("model_type") in TIED))
    named: list[Weight] = []
    for path in files:
        parts = [
            part for part in read_header(path)
            if not part.name.endswith(COMPUTED) and not (tied and part.name == "lm_head.weight")
        ]  # fmt: skip
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                named += [(part.name, part.shape, _first(file.get_slice(part.name), part.shape)) for part in parts]
        except (OSError, SafetensorError) as cause:
            raise ModelError(f"{path.name} cannot be read: {type(cause).__name__}", hint="fetch it again") from cause
    return _digest(str(config.get("model_type")), named)


TIED = ("gemma", "gemma3_text", "falcon")  # whose config.json leaves out that head and embedding are one


def _first(tensor: object, shape: tuple[int, ...]) -> torch.Tensor:
    inner = max(1, int(torch.Size(shape[1:]).numel()))
    rows: torch.Tensor = tensor[: -(-N_FIRST // inner)] if shape else torch.zeros(0)  # type: ignore[index]
    return rows.reshape(-1)[:N_FIRST]


def _digest(kind: str, named: Iterable[Weight]) -> str:
    digest = hashlib.sha256(kind.encode())
    for name, shape, first in sorted(named, key=lambda one: one[0]):
        digest.update(f"{name} {shape}".encode())
        digest.update(first.to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()
