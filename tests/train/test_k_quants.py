"""The mixture of kinds is llama.cpp's: held against the published Q4_K_M file of Gemma 3 270M, tensor by tensor."""

from __future__ import annotations

import pytest

from hagane.core.errors import HaganeError
from hagane.models.catalog import find
from hagane.models.gguf import read_header
from hagane.train.k_quants import kinds_of


def test_a_published_files_kinds_are_found_again():
    """236 tensors of five kinds: rows of 640 numbers fall back, of 1,024 and 2,048 do not."""
    try:
        header = read_header(find("gemma3-270m"))
    except HaganeError:
        pytest.skip("needs the package of Gemma 3 270M")
    shapes = {tensor.name: tuple(reversed(tensor.shape)) for tensor in header.tensors}
    assert kinds_of(shapes, "Q4_K_M", architecture="gemma3") == {one.name: one.type for one in header.tensors}


def test_the_head_and_the_outer_blocks_get_more_bits():
    shapes = {"token_embd.weight": (32000, 2048), "output.weight": (32000, 2048), "output_norm.weight": (2048,)}
    for block in range(16):
        shapes |= {f"blk.{block}.{name}.weight": (2048, 2048) for name in ("attn_q", "attn_v", "ffn_down")}
    kinds = kinds_of(shapes, "Q4_K_M", architecture="llama")
    assert (kinds["token_embd.weight"], kinds["output.weight"], kinds["output_norm.weight"]) == ("Q4_K", "Q6_K", "F32")
    assert {kinds[f"blk.{block}.attn_q.weight"] for block in range(16)} == {"Q4_K"}
    assert [block for block in range(16) if kinds[f"blk.{block}.attn_v.weight"] == "Q6_K"] == [
        0,
        1,
        4,
        7,
        10,
        13,
        14,
        15,
    ]
    assert kinds_of({"blk.0.attn_q.weight": (9, 33)}, "Q6_K", architecture="llama") == {"blk.0.attn_q.weight": "F16"}


def test_falcons_head_keeps_eight_bits_and_its_three_in_one_get_one_more():
    shapes = {"token_embd.weight": (1000, 256), "blk.0.attn_qkv.weight": (256, 256)}
    kinds = kinds_of(shapes, "Q4_K_M", architecture="falcon")
    assert kinds == {"token_embd.weight": "Q8_0", "blk.0.attn_qkv.weight": "Q5_K"}
