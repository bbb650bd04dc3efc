"""Frames on a pipe: how a worker process and its parent speak. JSON and bytes, never pickle.

A frame is two big-endian 32-bit lengths, a JSON text and a payload. The JSON is
`[kind, number, body, [[key, n_bytes], ...]]`: the values of `body` that are bytes travel in the payload.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Any

LONGEST = 1 << 30  # bytes of a JSON text or payload; more is a broken stream
_LENGTHS = struct.Struct(">II")


class BrokenFrames(Exception):
    """The other side ended or does not speak frames."""


def pack(kind: str, number: int, body: dict[str, Any]) -> bytes:
    """A frame. Top-level values of `body` may be bytes, everything else is JSON.
    Raises: TypeError, ValueError for what is not; OverflowError beyond LONGEST."""
    plain = {key: value for key, value in body.items() if not isinstance(value, bytes | bytearray)}
    packed = [(key, value) for key, value in body.items() if isinstance(value, bytes | bytearray)]
    sizes = [[key, len(value)] for key, value in packed]
    text = json.dumps([kind, number, plain, sizes], ensure_ascii=False, separators=(",", ":"))
    head = text.encode("utf-8", "surrogatepass")
    payload = b"".join(value for _, value in packed)
    if len(head) > LONGEST or len(payload) > LONGEST:
        raise OverflowError("a frame is at most 1 GiB")
    return _LENGTHS.pack(len(head), len(payload)) + head + payload


def lengths(data: bytes) -> tuple[int, int]:
    """Lengths of JSON text and payload from the first 8 bytes. Raises: BrokenFrames."""
    n_head, n_payload = _LENGTHS.unpack(data)
    if n_head > LONGEST or n_payload > LONGEST:
        raise BrokenFrames("lengths beyond reason")
    return n_head, n_payload


def unpack(head: bytes, payload: bytes) -> tuple[str, int, dict[str, Any]]:
    """Kind, number and body of a frame. Raises: BrokenFrames."""
    try:
        kind, number, body, sizes = json.loads(head.decode("utf-8", "surrogatepass"))
        at = 0
        for key, size in sizes:
            body[key] = payload[at : at + size]
            at += size
    except (ValueError, TypeError) as cause:
        raise BrokenFrames("not a frame") from cause
    return kind, number, body


def write(handle: int, frame: bytes) -> None:
    """All of `frame` to the file descriptor (blocking). Raises: BrokenFrames."""
    view = memoryview(frame)
    try:
        while view:
            view = view[os.write(handle, view) :]
    except OSError as cause:
        raise BrokenFrames("the other side ended") from cause


def read(handle: int) -> tuple[str, int, dict[str, Any]]:
    """The next frame from the file descriptor (blocking). Raises: BrokenFrames at its end."""
    n_head, n_payload = lengths(_exactly(handle, _LENGTHS.size))
    return unpack(_exactly(handle, n_head), _exactly(handle, n_payload))


def _exactly(handle: int, n: int) -> bytes:
    parts: list[bytes] = []
    while n:
        try:
            part = os.read(handle, min(n, 1 << 20))
        except OSError as cause:
            raise BrokenFrames("the other side ended") from cause
        if not part:
            raise BrokenFrames("the other side ended")
        parts.append(part)
        n -= len(part)
    return b"".join(parts)
