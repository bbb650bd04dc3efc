"""The fast engine of e5-small: `e5_kernel.c`, compiled once for this machine, called through ctypes.

It needs x86-64 with AVX2 and a C compiler (`cc`, `gcc` or `clang`, or what CC names) at the first use only.
`available()` says whether both are there; without them `e5_onnx.py` does the work.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelError
from .e5_cache import derived, is_whole
from .e5_weights import BLOCK, LAYERS, POSITIONS, UNKNOWN, WIDE, WIDTH, WORDS, Weights, split

KERNEL = 2  # raise it when the vectors that e5_kernel.c gives change
SOURCE = Path(__file__).with_name("e5_kernel.c")
FLAGS = ("-O3", "-mavx2", "-mfma", "-mf16c", "-shared", "-fPIC")
COMPILE_LIMIT_S = 120


class Vocabulary(ctypes.Structure):
    """vocabulary_t of the kernel."""

    _fields_ = (
        ("blob", ctypes.c_void_p), ("off", ctypes.c_void_p), ("score", ctypes.c_void_p), ("table", ctypes.c_void_p),
        ("n", ctypes.c_int32), ("mask", ctypes.c_int32), ("longest", ctypes.c_int32), ("unknown", ctypes.c_int32),
        ("unknown_score", ctypes.c_float),
    )  # fmt: skip


class NativeEngine:
    """Token ids to unit vectors, and text to token ids. Safe to call from several threads; the GIL is released."""

    name = f"native{KERNEL}"

    def __init__(self, weights: Weights, folder: Path) -> None:
        self._weights = weights
        self._library = _library(folder)
        path = derived(folder / f"native{KERNEL}.bin", lambda temporary: _pack(weights, temporary))
        self._packed = np.memmap(path, dtype=np.uint8, mode="r")
        self._model = _pointers(weights, self._packed)
        self._vocabulary, self._table = self._index()

    def forward(self, ids: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Unit vectors (n_texts, 384) of token ids, marks included, each at most 512 long."""
        joined = np.concatenate(ids).astype(np.int32, copy=False)
        offsets = np.cumsum([0, *map(len, ids)], dtype=np.int32)
        out = np.empty((len(ids), WIDTH), np.float32)
        if self._library.e5_forward(self._model, joined.ctypes, offsets.ctypes, len(ids), out.ctypes):
            raise ModelError("not enough memory to embed", hint="embed fewer texts at once")
        return out

    def tokens(self, normal: str, room: int) -> tuple[NDArray[np.int32], int]:
        """The first `room` piece ids of a normalised text, and how many there are in all."""
        data = normal.encode()
        out = np.empty(min(room, len(data)), np.int32)
        count = self._library.e5_tokens(ctypes.byref(self._vocabulary), data, len(data), out.ctypes, len(out))
        if count < 0:
            raise ModelError("not enough memory to tokenise", hint="split the text")
        return out[:count], count

    def _index(self) -> tuple[Vocabulary, NDArray[np.int32]]:
        w = self._weights
        n = len(w.scores)
        table = np.zeros(1 << (2 * n - 1).bit_length(), np.int32)
        lengths = np.diff(w.offsets.astype(np.int64))
        vocabulary = Vocabulary(
            w.pieces.ctypes.data, w.offsets.ctypes.data, w.scores.ctypes.data, table.ctypes.data,
            n, len(table) - 1, int(lengths.max()), UNKNOWN, float(w.scores.min() - np.float32(10)),
        )  # fmt: skip
        self._library.e5_index(ctypes.byref(vocabulary))
        return vocabulary, table


def available(folder: Path) -> bool:
    """Can the fast engine run here? True with AVX2 and either a compiled kernel in `folder` or a compiler."""
    if platform.machine().lower() not in ("x86_64", "amd64") or os.name != "posix":
        return False
    if not is_whole(folder / _library_name()) and _compiler() is None:
        return False
    try:
        return bool(_library(folder).e5_supported())
    except (ModelError, OSError):  # a folder from which nothing may be run is one reason
        return False


def _library_name() -> str:
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()
    return f"kernel-{digest[:12]}.so"


def _compiler() -> str | None:
    names = (os.environ.get("CC"), "cc", "gcc", "clang")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def _library(folder: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(derived(folder / _library_name(), _compile).resolve()))
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.e5_forward.argtypes = (pointer, pointer, pointer, number, pointer)
    library.e5_tokens.argtypes = (pointer, ctypes.c_char_p, number, pointer, number)
    library.e5_index.argtypes = (pointer,)
    library.e5_index.restype = None
    return library


def _compile(target: Path) -> None:
    compiler = _compiler()
    if compiler is None:
        raise ModelError("no C compiler found", hint="install gcc, or let the ONNX engine do the work")
    command = [compiler, *FLAGS, str(SOURCE), "-o", str(target), "-lm"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_LIMIT_S)
    except (subprocess.SubprocessError, OSError) as cause:
        raise ModelError(f"{compiler} cannot compile {SOURCE.name}", hint="set CC to a compiler that can") from cause


# The packed weights: arrays in the order of model_t, each at a multiple of 64 bytes.
LINEARS = ((("q", "k", "v"), WIDTH, WIDTH), (("ao",), WIDTH, WIDTH), (("fi",), WIDE, WIDTH), (("fo",), WIDTH, WIDE))
NORMS = ("aln.w", "aln.b", "oln.w", "oln.b")


def _arrays(w: Weights) -> Iterator[NDArray]:
    yield w.floats("emb.pos").reshape(POSITIONS, WIDTH) + w.floats("emb.type")[:WIDTH]
    yield w.floats("emb.ln.w")
    yield w.floats("emb.ln.b")
    for layer in range(LAYERS):
        for names, rows, _ in LINEARS:
            keys = [f"l{layer}.{name}" for name in names]
            yield from _packed_linear(np.concatenate([w.blocks(f"{key}.w", rows) for key in keys]))
            yield np.concatenate([w.floats(f"{key}.b") for key in keys])
        for name in NORMS:
            yield w.floats(f"l{layer}.{name}")


def _packed_linear(blocks: NDArray[np.uint8]) -> Iterator[NDArray]:
    """Weights [N/16][K/32][8][2][8][4], scales [N/16][K/32][16][2], sums [N], units [N] of Q4_0 blocks [N][K/32][18]."""
    numbers, scales = split(blocks)
    n, k = scales.shape
    largest = (2**31 - 1) // (BLOCK * 8 * 255 * k)  # so that no sum of a column ever leaves 32 bits
    units = np.maximum(np.abs(scales).max(axis=1), 1e-20) / largest
    whole = np.rint(scales / units[:, None]).astype(np.int16)
    yield numbers.reshape(n // 16, 2, 8, k, 8, 4).transpose(0, 3, 4, 1, 2, 5)
    yield np.repeat(whole.reshape(n // 16, 16, k).transpose(0, 2, 1)[..., None], 2, axis=-1)
    yield (numbers.sum(axis=-1, dtype=np.float32) * whole).sum(axis=-1)
    yield units


def _pack(w: Weights, target: Path) -> None:
    with target.open("wb") as file:
        for array in _arrays(w):
            data = np.ascontiguousarray(array).tobytes()
            file.write(data + bytes(-len(data) % 64))


def _sizes() -> Iterator[int]:
    yield from (4 * POSITIONS * WIDTH, 4 * WIDTH, 4 * WIDTH)
    for _ in range(LAYERS):
        for names, rows, columns in LINEARS:
            n = len(names) * rows
            yield from (n * columns, 4 * n * columns // BLOCK, 4 * n, 4 * n, 4 * n)
        yield from [4 * WIDTH] * len(NORMS)


def _pointers(w: Weights, packed: NDArray[np.uint8]) -> ctypes.Array:
    """model_t: the word table stays in the package's own file, all else in the packed one."""
    at, addresses = packed.ctypes.data, [w.blocks("emb.word", WORDS).ctypes.data]
    for size in _sizes():
        addresses.append(at)
        at += size + -size % 64
    if at != packed.ctypes.data + len(packed):
        raise ModelError("the packed e5-small weights have the wrong size", hint="delete the cache folder")
    return (ctypes.c_void_p * len(addresses))(*addresses)
