"""The header of a safetensors file, read and checked against the file's size before a loader sees it.

Source: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ModelError

MAX_HEADER_BYTES = 100_000_000  # the format's own bound
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor: bytes `start` to `end` behind the header."""

    name: str
    type: str
    shape: tuple[int, ...]
    start: int
    end: int


def _hostile(why: str) -> ModelError:
    return ModelError(
        f"the safetensors header is not sound: {why}", hint="fetch the file again, from a source you trust"
    )


def read_header(path: Path) -> tuple[Part, ...]:
    """The tensors that `path` names, in the order of their bytes. Raises: ModelError."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(8)
            if len(first) < 8:
                raise _hostile("the file is shorter than 8 bytes")
            n_bytes = struct.unpack("<Q", first)[0]
            if n_bytes > min(MAX_HEADER_BYTES, size - 8):
                raise _hostile(f"it says it is {n_bytes} bytes long, the file has {size}")
            text = file.read(n_bytes)
    except OSError as cause:
        raise ModelError(f"{path.name} cannot be read: {type(cause).__name__}") from cause
    return _parts(_object(text), size - 8 - n_bytes)


def _object(text: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    if not text.startswith(b"{"):
        raise _hostile("it is not a JSON object")
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as cause:
        raise _hostile("it is not JSON, or names something twice") from cause
    found.pop("__metadata__", None)
    return found


def _parts(table: dict[str, Any], n_data: int) -> tuple[Part, ...]:
    parts: list[Part] = []
    for name, row in table.items():
        try:
            kind, shape, (start, end) = row["dtype"], tuple(row["shape"]), row["data_offsets"]
            whole = [n for n in (*shape, start, end) if type(n) is int and n >= 0]
            if len(whole) != len(shape) + 2 or kind not in _BYTES:
                raise ValueError("numbers")
        except (TypeError, KeyError, ValueError) as cause:
            raise _hostile("a tensor has no sound type, shape or place") from cause
        size = _BYTES[kind]
        for n in shape:
            size *= n
        if end - start != size:
            raise _hostile(f"a tensor of {size} bytes lies at {start} to {end}")
        parts.append(Part(name, kind, shape, start, end))
    parts.sort(key=lambda part: (part.start, part.end))
    at = 0
    for part in parts:
        if part.start != at:
            raise _hostile("tensors overlap or leave holes")
        at = part.end
    if at != n_data:
        raise _hostile(f"the tensors end at {at}, the file has {n_data} bytes of them")
    return tuple(parts)
