"""Which kind of numbers each tensor gets in Q4_K_M, Q5_K_M and Q6_K: llama.cpp's mixture, tensor by tensor.

What hurts most when it is coarse (the head, values, the way down in the outer blocks) gets more bits; rows that do not
fill blocks of 256 numbers get the kind of 32 beside it. Source: llama_tensor_get_type in llama.cpp, src/llama-quant.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

MIXTURES = ("Q4_K_M", "Q5_K_M", "Q6_K")
_PLAIN = {"Q4_K_M": "Q4_K", "Q5_K_M": "Q5_K", "Q6_K": "Q6_K"}
_NARROW = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
WIDE, NARROW = 256, 32  # numbers in a block


def kinds_of(shapes: Mapping[str, tuple[int, ...]], mixture: str, *, architecture: str) -> dict[str, str]:
    """GGUF's names of tensors to kinds of numbers. `shapes`: rows first, the width of a row last."""
    blocks = [int(found[1]) for name in shapes if (found := re.match(r"blk\.(\d+)\.", name))]
    n_blocks = max(blocks, default=-1) + 1
    has_head = "output.weight" in shapes
    return {
        name: "F32" if len(shape) < 2 else _kind(name, shape[-1], mixture, n_blocks, architecture, has_head=has_head)
        for name, shape in shapes.items()
    }


def _kind(name: str, width: int, mixture: str, n_blocks: int, architecture: str, *, has_head: bool) -> str:
    place = re.match(r"blk\.(\d+)\.(\w+)\.weight", name)
    plain = _PLAIN[mixture]
    if name == ("output.weight" if has_head else "token_embd.weight"):
        kind = "Q8_0" if architecture == "falcon" or width % WIDE else "Q6_K"
    elif place is None:
        kind = plain
    else:
        kind = _SPECIAL.get(place[2], _same)(plain, int(place[1]), n_blocks, architecture == "falcon")
    if width % WIDE and kind in _NARROW:
        kind = _NARROW[kind]
    return "F16" if width % NARROW else kind


def _outer(block: int, n_blocks: int) -> bool:
    """The first and last eighth of the blocks, and every third between them."""
    eighth = n_blocks // 8
    return block < eighth or block >= 7 * n_blocks // 8 or (block - eighth) % 3 == 2


def _same(plain: str, _block: int, _n_blocks: int, _falcon: bool) -> str:
    return plain


def _values(plain: str, block: int, n_blocks: int, _falcon: bool) -> str:
    return "Q6_K" if _outer(block, n_blocks) else plain


def _down(plain: str, block: int, n_blocks: int, falcon: bool) -> str:
    if falcon and plain == "Q4_K":
        return "Q6_K" if block < n_blocks // 16 else "Q5_K" if _outer(block, n_blocks) else "Q4_K"
    return "Q6_K" if _outer(block, n_blocks) else plain


def _all_three(plain: str, _block: int, _n_blocks: int, _falcon: bool) -> str:
    return {"Q4_K": "Q5_K", "Q5_K": "Q6_K"}.get(plain, plain)


_SPECIAL: Mapping[str, Callable[[str, int, int, bool], str]] = {
    "attn_v": _values,
    "ffn_down": _down,
    "attn_qkv": _all_three,
}
