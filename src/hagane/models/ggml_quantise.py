"""llama.cpp's own quantisation of rows of numbers, by the C function in the library that xllamacpp brings.

Source: ggml_quantize_chunk in ggml.h. No importance matrix: the kinds used here need none.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import MissingExtraError, ModelError, UsageError
from .llama_exact import shared_library

KINDS = {"F16": 1, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}  # enum ggml_type
BLOCKS = {"F16": (1, 2), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34), "Q4_K": (256, 144), "Q5_K": (256, 176),
          "Q6_K": (256, 210)}  # fmt: skip # kind: (numbers, bytes) of a block


@lru_cache(maxsize=1)
def _library() -> Any:
    try:
        library = shared_library()
    except ImportError as cause:
        raise MissingExtraError("K-quants need llama.cpp", hint="pip install 'hagane[models]'") from cause
    try:
        run, begin = library.ggml_quantize_chunk, library.ggml_quantize_init
    except AttributeError as cause:
        raise MissingExtraError(
            "this xllamacpp shows no ggml_quantize_chunk", hint="take Q8_0, or its newest version"
        ) from cause
    run.restype = ctypes.c_size_t
    run.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    begin.restype, begin.argtypes = None, [ctypes.c_int]
    return library


def quantise(array: NDArray[np.float32], kind: str) -> NDArray[np.uint8]:
    """(..., bytes of a row) of (..., numbers of a row). Raises: UsageError for another kind or rows that its blocks do
    not fill; MissingExtraError without the library."""
    if kind not in KINDS:
        raise UsageError(f"{kind!r} is not one of {', '.join(KINDS)}")
    per_block, block_bytes = BLOCKS[kind]
    width = array.shape[-1]
    if width % per_block:
        raise UsageError(f"rows of {width} numbers cannot be cut into blocks of {per_block}")
    rows = np.ascontiguousarray(array.reshape(-1, width), dtype=np.float32)
    out = np.zeros((len(rows), width // per_block * block_bytes), dtype=np.uint8)
    library = _library()
    library.ggml_quantize_init(KINDS[kind])
    if library.ggml_quantize_chunk(KINDS[kind], rows.ctypes.data, out.ctypes.data, 0, *rows.shape, None) != out.nbytes:
        raise ModelError("llama.cpp quantised another number of bytes than it should")
    return out.reshape(*array.shape[:-1], -1)
