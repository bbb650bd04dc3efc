"""GGUF headers: sound ones are read, hostile ones are refused before a native loader sees them."""

from __future__ import annotations

import struct

import pytest
import tiny_gguf
from hypothesis import given, settings
from hypothesis import strategies as st

from hagane.core.errors import ModelError
from hagane.models.gguf import read_header


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_gguf.write(tmp_path_factory.mktemp("gguf") / "小さな模型.gguf")


def test_a_sound_header_is_read_whole(tiny):
    header = read_header(tiny)
    assert header.version == 3
    assert header.architecture == "llama"
    assert header.context == 1024
    assert header.has_template
    assert header.values["general.name"] == "小さな模型"
    assert {tensor.name for tensor in header.tensors} >= {"token_embd.weight", "blk.0.ffn_down.weight"}
    last = max(header.tensors, key=lambda tensor: tensor.start)
    assert last.start + last.size_bytes <= tiny.stat().st_size


def test_parameters_are_counted(tiny):
    n_tokens = len(tiny_gguf.values(template=True)["tokenizer.ggml.tokens"])
    by_hand = 2 * 32 * n_tokens + 3 * 32 + 4 * 32 * 32 + 3 * 32 * 64
    assert read_header(tiny).n_params == by_hand


def test_marks_of_the_template_are_found(tiny):
    assert {"<|im_start|>", "<|im_end|>", "</s>"} <= set(read_header(tiny).special_tokens())


def hostile(data: bytes, change: str) -> bytes:
    """The tiny model with one lie in its header."""
    n_tensors, n_values = struct.unpack_from("<QQ", data, 8)
    name = data.index(b"token_embd.weight")  # its length stands 8 bytes before it; then dims, shape, type, offset
    dims = name + len(b"token_embd.weight")
    parts = {
        "magic": (0, b"GGML"),
        "version 1": (4, struct.pack("<I", 1)),
        "version of the future": (4, struct.pack("<I", 99)),
        "a billion tensors": (8, struct.pack("<Q", 10**9)),
        "one tensor more": (8, struct.pack("<Q", n_tensors + 1)),
        "all values there are": (16, struct.pack("<Q", 2**64 - 1)),
        "one value more": (16, struct.pack("<Q", n_values + 1)),
        "a key of 2^63 bytes": (24, struct.pack("<Q", 2**63)),
        "a name behind the end": (name - 8, struct.pack("<Q", len(data))),
        "nine dimensions": (dims, struct.pack("<I", 9)),
        "no dimension": (dims, struct.pack("<I", 0)),
        "a shape that overflows": (dims + 4, struct.pack("<QQ", 2**40, 2**40)),
        "a shape of zero": (dims + 4, struct.pack("<Q", 0)),
        "an unknown type": (dims + 20, struct.pack("<I", 4000)),
        "a type that the shape does not fit": (dims + 20, struct.pack("<I", 14)),
        "an offset behind the end": (dims + 24, struct.pack("<Q", len(data) * 32)),
        "an offset between two places": (dims + 24, struct.pack("<Q", 7)),
        "an offset into the next tensor": (dims + 24, struct.pack("<Q", 64)),
    }
    at, lie = parts[change]
    return data[:at] + lie + data[at + len(lie) :]


@pytest.mark.parametrize(
    "change",
    [
        "magic", "version 1", "version of the future", "a billion tensors", "one tensor more", "all values there are",
        "one value more", "a key of 2^63 bytes", "a name behind the end", "nine dimensions", "no dimension",
        "a shape that overflows", "a shape of zero", "an unknown type", "a type that the shape does not fit",
        "an offset behind the end", "an offset between two places", "an offset into the next tensor",
    ],
)  # fmt: skip
def test_a_lie_in_the_header_is_refused(tiny, tmp_path, change):
    path = tmp_path / "敵.gguf"
    path.write_bytes(hostile(tiny.read_bytes(), change))
    with pytest.raises(ModelError, match="GGUF header"):
        read_header(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.3, 0.9, 0.9999])
def test_a_file_that_was_cut_off_is_refused(tiny, tmp_path, share):
    data = tiny.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError):
        read_header(path)


def test_a_list_longer_than_the_file_costs_no_memory(tmp_path):
    """2^60 numbers are refused by their size, not tried."""
    path = tmp_path / "list.gguf"
    value = struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 4, 2**60)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + value)
    with pytest.raises(ModelError, match="GGUF header"):
        read_header(path)


def test_lists_in_lists_are_refused(tmp_path):
    """Nesting is how a parser is made to overflow its stack."""
    path = tmp_path / "deep.gguf"
    value = struct.pack("<Q", 1) + b"a" + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 1000
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + value)
    with pytest.raises(ModelError, match="GGUF header"):
        read_header(path)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(4, 600), byte=st.integers(0, 255))
def test_any_changed_byte_is_read_or_refused_never_a_crash(tmp_path_factory, at, byte):
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(tiny_gguf.write(folder / "whole.gguf").read_bytes())
    data[at] = byte
    path = folder / "changed.gguf"
    path.write_bytes(data)
    try:
        header = read_header(path)
    except ModelError:
        return
    assert all(tensor.start + tensor.size_bytes <= len(data) for tensor in header.tensors)
