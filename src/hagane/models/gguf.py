"""The header of a GGUF file, read and checked against the file's size before a native loader sees it.

A header says how many values, how long each text, where each tensor lies; a loader that believes it reads beyond
the file or asks for all memory. Here every count is bounded by the bytes that are there.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3).
"""

from __future__ import annotations

import mmap
import struct
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..core.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_VALUES = 100_000  # pairs of metadata; models have below 100
MAX_TENSORS = 100_000  # the largest published models have below 3,000
MAX_NAME = 64  # GGML_MAX_NAME: bytes, the closing zero included
MAX_DIMS = 4
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_CONTROL = 3  # tokenizer.ggml.token_type: marks of a chat template, end of text
_USER_DEFINED = 4


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor lies: `start` counts bytes from the beginning of the file."""

    name: str
    shape: tuple[int, ...]
    type: str
    start: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself."""

    version: int
    values: Mapping[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    @property
    def context(self) -> int:
        """Tokens that the model was made for; 0 when it does not say."""
        found = self.values.get(f"{self.architecture}.context_length", 0)
        return found if isinstance(found, int) else 0

    @property
    def has_template(self) -> bool:
        """True for models that were taught to chat."""
        return bool(self.values.get("tokenizer.chat_template"))

    @property
    def n_params(self) -> int:
        total = 0
        for tensor in self.tensors:
            count = 1
            for n in tensor.shape:
                count *= n
            total += count
        return total

    def special_tokens(self) -> list[str]:
        """Texts that a tokenizer turns into marks instead of letters: they must not come from documents."""
        words, kinds = self.values.get("tokenizer.ggml.tokens", []), self.values.get("tokenizer.ggml.token_type", [])
        pairs = zip(words, kinds, strict=False)
        marks = (word for word, kind in pairs if kind in (_CONTROL, _USER_DEFINED))
        return [mark for mark in marks if len(mark) > 2 and mark.strip() and not mark.isalnum()]


@lru_cache(maxsize=1)
def _types() -> dict[int, tuple[str, int, int]]:
    table = tomllib.loads(files("hagane.models").joinpath("ggml_types.toml").read_text(encoding="utf-8"))
    return {int(number): tuple(row) for number, row in table.items()}


class _Reader:
    """Reads forward through a file and never beyond its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, n_bytes: int, what: str) -> bytes:
        if n_bytes > self.left:
            raise _hostile(f"{what} would end {n_bytes - self.left} bytes behind the end of the file")
        self.at += n_bytes
        return self.data[self.at - n_bytes : self.at]

    def number(self, code: str, what: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize(code), what))[0]

    def text(self, what: str) -> str:
        return self.take(self.number("Q", what), what).decode("utf-8", "replace")

    def value(self, kind: int, what: str) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind], what)
        if kind == _TEXT:
            return self.text(what)
        if kind != _LIST:
            raise _hostile(f"{what} is of the unknown type {kind}")
        inner, count = self.number("I", what), self.number("Q", what)
        if inner == _TEXT:
            return self.texts(count, what)
        if inner not in _SCALARS:
            raise _hostile(f"{what} is a list of the type {inner}, which no model has")
        size = struct.calcsize(_SCALARS[inner])
        return list(struct.unpack(f"<{count}{_SCALARS[inner]}", self.take(count * size, what))) if count else []

    def texts(self, count: int, what: str) -> list[str]:
        """`count` texts; a vocabulary has 262,144, so this loop is written for speed."""
        if count * 8 > self.left:
            raise _hostile(f"{what} says it has {count} texts, more than the file has room for")
        data, at, end, length_at = self.data, self.at, len(self.data), struct.Struct("<Q").unpack_from
        found: list[str] = []
        for _ in range(count):
            if at + 8 > end or at + 8 + (size := length_at(data, at)[0]) > end:
                raise _hostile(f"a text of {what} ends behind the end of the file")
            at += 8 + size
            found.append(data[at - size : at].decode("utf-8", "replace"))
        self.at = at
        return found


def _hostile(why: str) -> ModelError:
    return ModelError(f"the GGUF header is not sound: {why}", hint="fetch the file again, from a source you trust")


def read_header(path: Path) -> Header:
    """The header of `path`, every statement of it checked against the file. Raises: ModelError."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(_Reader(data))
    except (OSError, ValueError) as cause:  # mmap of an empty file is a ValueError
        raise ModelError(f"{path.name} cannot be read: {type(cause).__name__}", hint="is it a GGUF file?") from cause


def _read(reader: _Reader) -> Header:
    if reader.take(4, "the magic") != MAGIC:
        raise _hostile("it does not begin with GGUF")
    version = reader.number("I", "the version")
    if version not in VERSIONS:
        raise _hostile(f"version {version} is not one of {', '.join(map(str, VERSIONS))}")
    n_tensors, n_values = reader.number("Q", "the number of tensors"), reader.number("Q", "the number of values")
    if n_tensors > MAX_TENSORS or n_values > MAX_VALUES:
        raise _hostile(f"it names {n_tensors} tensors and {n_values} values")
    values: dict[str, Any] = {}
    for number in range(n_values):
        key = reader.text(f"key {number}")
        if not key or key in values:
            raise _hostile(f"key {number} is empty or stands twice")
        values[key] = reader.value(reader.number("I", f"value {number}"), f"value {number}")
    return Header(version, values, _tensors(reader, n_tensors, values))


def _tensors(reader: _Reader, count: int, values: Mapping[str, Any]) -> tuple[Tensor, ...]:
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 20 or alignment % 8:
        raise _hostile("general.alignment is not a sane number of bytes")
    rows = [_tensor(reader, f"tensor {number}") for number in range(count)]
    base = -(-reader.at // alignment) * alignment
    found: list[Tensor] = []
    for name, shape, kind, offset, size in rows:
        if offset % alignment:
            raise _hostile(f"a tensor lies at {offset}, which is not a multiple of {alignment}")
        if base + offset + size > len(reader.data):
            raise _hostile(f"a tensor ends {base + offset + size - len(reader.data)} bytes behind the end of the file")
        found.append(Tensor(name, shape, kind, base + offset, size))
    if len({tensor.name for tensor in found}) != len(found):
        raise _hostile("two tensors have one name")
    order = sorted(found, key=lambda tensor: tensor.start)
    if any(one.start + one.size_bytes > other.start for one, other in pairwise(order)):
        raise _hostile("two tensors overlap")
    return tuple(found)


def _tensor(reader: _Reader, what: str) -> tuple[str, tuple[int, ...], str, int, int]:
    name = reader.text(what)
    if not name or len(name.encode()) >= MAX_NAME:
        raise _hostile(f"{what} has a name of {len(name)} characters")
    n_dims = reader.number("I", what)
    if not 1 <= n_dims <= MAX_DIMS:
        raise _hostile(f"{what} has {n_dims} dimensions")
    shape = tuple(reader.number("Q", what) for _ in range(n_dims))
    number = reader.number("I", what)
    if number not in _types():
        raise _hostile(f"{what} is of the unknown type {number}")
    kind, per_block, block_bytes = _types()[number]
    count = 1
    for n in shape:
        count *= n
    if not 0 < count < 1 << 62 or shape[0] % per_block:
        raise _hostile(f"{what} has a shape that {kind} cannot have")
    return name, shape, kind, reader.number("Q", what), count // per_block * block_bytes
