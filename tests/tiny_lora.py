"""A LoRA adapter of random numbers for `tiny_gguf`'s model, as a GGUF file."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import tiny_gguf
from tiny_gguf import ALIGNMENT, HIDDEN, WIDTH

RANK = 4


def write(
    path: Path,
    *,
    architecture: str = "llama",
    kind: str = "adapter",
    seed: int = 7,
    width: int = WIDTH,
    weights: tuple[str, ...] = ("blk.0.ffn_up.weight", "blk.0.ffn_gate.weight"),
    leave_out: str = "",
) -> Path:
    """`width`: what goes into the weights. `leave_out`: a tensor that is missing."""
    random = np.random.default_rng(seed)
    table = {
        "general.architecture": architecture,
        "general.type": kind,
        "adapter.type": "lora",
        "adapter.lora.alpha": float(2 * RANK),
    }
    tensors = {}
    for weight in weights:
        tensors[f"{weight}.lora_a"] = random.normal(0, 0.5, (RANK, width)).astype("<f4")
        tensors[f"{weight}.lora_b"] = random.normal(0, 0.5, (HIDDEN, RANK)).astype("<f4")
    tensors.pop(leave_out, None)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(table))
    head += b"".join(tiny_gguf._text(key) + tiny_gguf._value(value) for key, value in table.items())
    body = b""
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]
        head += tiny_gguf._text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(body))
        body += tensor.tobytes() + b"\0" * (-tensor.nbytes % ALIGNMENT)
    path.write_bytes(head + b"\0" * (-len(head) % ALIGNMENT) + body)
    return path
