"""llama.cpp's own quantisation: equal to gguf's where both can, and readable again where only it can."""

from __future__ import annotations

import numpy as np
import pytest

from hagane.core.errors import UsageError

pytest.importorskip("xllamacpp")
from hagane.models.ggml_quantise import BLOCKS, quantise

LARGEST = {"Q8_0": 0.02, "Q6_K": 0.08, "Q5_K": 0.15, "Q4_K": 0.3, "Q5_0": 0.2, "Q5_1": 0.15}  # of numbers of spread 1


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(20261124).normal(size=(6, 512)).astype(np.float32)


def test_q8_0_is_bit_equal_to_the_one_in_python(rows):
    gguf = pytest.importorskip("gguf", reason="needs the extra train")
    assert np.array_equal(quantise(rows, "Q8_0"), gguf.quants.quantize(rows, gguf.GGMLQuantizationType.Q8_0))


@pytest.mark.parametrize("kind", LARGEST)
def test_what_is_written_reads_back_nearly_the_same(kind: str, rows):
    gguf = pytest.importorskip("gguf", reason="needs the extra train")
    data = quantise(rows, kind)
    assert data.shape == (6, 512 // BLOCKS[kind][0] * BLOCKS[kind][1])
    back = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind])
    assert 0 < np.abs(back - rows).max() < LARGEST[kind]


def test_rows_that_no_block_fills_and_other_kinds_are_said(rows):
    with pytest.raises(UsageError, match="blocks of 256"):
        quantise(rows[:, :500], "Q4_K")
    with pytest.raises(UsageError, match="not one of"):
        quantise(rows, "四ビット")
