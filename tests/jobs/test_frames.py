"""Frames carry what JSON and bytes can say, whole, and nothing else."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hagane.jobs import frames

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(body=st.dictionaries(st.text(), JSON | st.binary(max_size=100), max_size=5), number=st.integers(0, 2**40))
def test_what_goes_in_comes_out(body, number):
    frame = frames.pack("result", number, body)
    n_head, n_payload = frames.lengths(frame[:8])
    assert len(frame) == 8 + n_head + n_payload
    assert frames.unpack(frame[8 : 8 + n_head], frame[8 + n_head :]) == ("result", number, body)


def test_file_names_that_are_not_utf8_survive():
    """Linux allows any byte in a name; Python shows it as a lone surrogate."""
    name = b"\x83\x65\x83\x58\x83\x67.txt".decode("utf-8", "surrogateescape")
    frame = frames.pack("ask", 1, {"file": name})
    n_head, _ = frames.lengths(frame[:8])
    assert frames.unpack(frame[8 : 8 + n_head], b"")[2] == {"file": name}


def test_what_is_not_json_is_refused():
    with pytest.raises(TypeError):
        frames.pack("ask", 1, {"x": {1, 2}})


@pytest.mark.parametrize("head", [b"", b"{}", b"[1]", b"\xff\xfe", b'["ask",1,{},[["a"]]]'])
def test_what_is_not_a_frame_is_broken(head):
    with pytest.raises(frames.BrokenFrames):
        frames.unpack(head, b"")


def test_lengths_beyond_reason_are_broken():
    with pytest.raises(frames.BrokenFrames):
        frames.lengths(b"\xff" * 8)


def test_a_frame_larger_than_a_pipe_crosses_it():
    out, into = os.pipe()
    body = {"data": "鋼".encode() * 1_000_000, "名": "規程"}
    writer = threading.Thread(target=frames.write, args=(into, frames.pack("item", 3, body)))
    writer.start()
    assert frames.read(out) == ("item", 3, body)
    writer.join()
    os.close(into)
    with pytest.raises(frames.BrokenFrames):
        frames.read(out)
    os.close(out)
