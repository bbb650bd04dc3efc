"""Tensors to safetensors files and back: the only door through which weights and training state pass.

The header is checked against the file's size before the native reader sees it. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hagane.core.errors import ModelError, StorageError
from hagane.core.safetensors_header import read_header

Tensors = dict[str, torch.Tensor]


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], *, notes: Mapping[str, str] | None = None) -> None:
    """The tensors as one file, synced to disk. Tensors that share memory get their own.

    Raises: StorageError when the disk is full or the file cannot be written; nothing half-written keeps the name.
    """
    part = path.with_name(path.name + ".part")
    try:
        save_file(_apart(tensors), part, metadata=dict(notes or {}))
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as cause:
        part.unlink(missing_ok=True)
        raise StorageError(
            f"{path.name} cannot be written: {type(cause).__name__}", hint="free space on the disk, then go on"
        ) from cause


def _apart(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """On the CPU, each with memory of its own (the format knows no sharing)."""
    found: Tensors = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return found


def read_tensors(path: Path, *, names: frozenset[str] | None = None) -> Tensors:
    """Every tensor of the file, or those of `names` that it has, copied (not mapped: files may change). Raises: ModelError."""
    there = [part.name for part in read_header(path)]
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name).clone() for name in there if names is None or name in names}
    except (OSError, SafetensorError) as cause:
        raise ModelError(f"{path.name} cannot be read: {type(cause).__name__}", hint="fetch it again") from cause
