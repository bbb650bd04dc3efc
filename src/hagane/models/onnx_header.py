"""What an ONNX file holds, read before the runtime sees it: its operators, and the weight files it names beside itself.

The file is walked as protobuf, without the `onnx` package. Source: onnx.proto3 of https://github.com/onnx/onnx (field numbers).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..core.errors import ModelError

MAX_DEPTH = 64  # messages within messages; real graphs stay below 20
# message: {field: message within}
_WITHIN = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "outside"},
    "outside": {},
}
_OPERATOR = ("node", 4)
_KEY, _VALUE = ("outside", 1), ("outside", 2)


@dataclass(frozen=True, slots=True)
class Graph:
    """`outside`: files that hold weights, relative to the ONNX file's folder, never above it."""

    operators: frozenset[str]
    outside: tuple[str, ...]


def read_graph(path: Path) -> Graph:
    """Operators and outside files of `path`; each outside file stands there. Raises: ModelError."""
    operators: set[str] = set()
    outside: set[str] = set()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for where, value in _leaves(data, 0, len(data), "model", 0):
                (operators if where == _OPERATOR else outside).add(value.decode())
    except (OSError, ValueError, IndexError) as cause:  # an empty file cannot be mapped: ValueError
        raise ModelError(
            f"{path.name} is not a sound ONNX file", hint="fetch it again, from a source you trust"
        ) from cause
    for name in outside:
        _check(path, name)
    if not operators:
        raise ModelError(f"{path.name} is not an ONNX file: it holds no graph", hint="is it a Git LFS pointer?")
    return Graph(frozenset(operators), tuple(sorted(outside)))


def _check(path: Path, name: str) -> None:
    inner = PurePosixPath(name)
    if inner.is_absolute() or ".." in inner.parts or "\\" in name or "\0" in name or not inner.parts:
        raise ModelError(
            f"{path.name} wants weights from outside its folder", hint="do not use it: fetch it from a source you trust"
        )
    if not (path.parent / inner).is_file():
        raise ModelError(
            f"{path.name} keeps weights in {inner.name!r}, which is missing", hint="copy it beside the graph"
        )


def _leaves(data: mmap.mmap, at: int, end: int, message: str, depth: int) -> Iterator[tuple[tuple[str, int], bytes]]:
    """(_OPERATOR, name) and (_VALUE, location), in order. Raises: ValueError, IndexError for what is not protobuf."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    key = value = b""
    for field, start, stop in _fields(data, at, end):
        if inner := _WITHIN[message].get(field):
            yield from _leaves(data, start, stop, inner, depth + 1)
        elif (message, field) == _OPERATOR:
            yield _OPERATOR, data[start:stop]
        elif (message, field) == _KEY:
            key = data[start:stop]
        elif (message, field) == _VALUE:
            value = data[start:stop]
    if key == b"location":
        yield _VALUE, value


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, stop) of the fields that have a length; numbers are passed over."""
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 2:
            size, at = _varint(data, at)
            if size > end - at:
                raise ValueError("cut short")
            yield tag >> 3, at, at + size
            at += size
        elif wire == 0:
            _, at = _varint(data, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("no such wire type")
    if at != end:
        raise ValueError("cut short")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    found = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        found |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return found, at
    raise ValueError("a number without end")
