"""How the files of a data set lie on the disk: in the open and memory-mapped, or sealed, a block at a time.

A sealed file is MAGIC and blocks of BLOCK bytes, each sealed by itself (28 bytes longer: nonce and tag) and bound to
its file's name, its number and whether it is the last: no block can be dropped, doubled, moved or cut off. What is
read is opened into memory and never onto the disk; some blocks stay there.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hagane.core.errors import StorageError
from hagane.core.seams import Sealer

from .whole import Out, sha256_of, whole

MAGIC = b"HGD1"
BLOCK = 1 << 16  # bytes of content
MORE = 28  # bytes by which a sealed block is longer
HELD = 1024  # opened blocks in memory: 64 MB


class Array(Protocol):
    """What is read of an array on the disk."""

    def __len__(self) -> int: ...
    def __getitem__(self, at: Any) -> Any: ...


class Vault:
    """The files of one data set. Without a `sealer` they lie in the open. `name`: whose key seals them.

    Raises: StorageError for a file that is missing, damaged, another's, or in the open where it should be sealed.
    """

    def __init__(self, sealer: Sealer | None = None, name: str = "") -> None:
        self._sealer, self._name = sealer, name
        self._held: OrderedDict[tuple[Path, int], bytes] = OrderedDict()

    @property
    def sealed(self) -> bool:
        return self._sealer is not None

    @contextmanager
    def whole(self, path: Path) -> Iterator[Out]:
        """As `whole.whole`: what is written here is `path` once the context ends well. `sha256` is of the content."""
        with whole(path) as out:
            if self._sealer is None:
                yield out
                return
            sealing = _Sealing(out, lambda number, data, last: self._seal(path, number, data, last=last))
            yield sealing
            sealing.end()

    def write(self, path: Path, data: bytes) -> None:
        """Replace `path` by `data`."""
        with self.whole(path) as out:
            out.write(data)

    def read(self, path: Path) -> bytes:
        """All of a file."""
        if self._sealer is None:
            try:
                return path.read_bytes()
            except OSError as cause:
                raise _unreadable(path, cause) from cause
        n = self.n_bytes(path)
        return b"".join(self._block(path, number, n) for number in range(_blocks(n)))

    def n_bytes(self, path: Path) -> int:
        """The length of a file's content."""
        try:
            size = path.stat().st_size
        except OSError as cause:
            raise _unreadable(path, cause) from cause
        if self._sealer is None:
            return size
        full, rest = divmod(size - len(MAGIC), BLOCK + MORE)
        if size < len(MAGIC) + MORE or 0 < rest < MORE:
            raise StorageError(f"{path.name} is damaged or not sealed", hint="delete the data set: it is made anew")
        return full * BLOCK + (rest - MORE if rest else 0)

    def sha256(self, path: Path) -> str:
        """Of the content."""
        if self._sealer is None:
            return sha256_of(path)
        digest, n = hashlib.sha256(), self.n_bytes(path)
        for number in range(_blocks(n)):
            digest.update(self._block(path, number, n))
        return digest.hexdigest()

    def array(self, path: Path, dtype: np.dtype[Any]) -> Array:
        """Numbers of a file, read where they are asked for."""
        if self._sealer is not None:
            return SealedArray(self, path, dtype)
        try:
            return np.memmap(path, dtype=dtype, mode="r")
        except (OSError, ValueError) as cause:
            raise _unreadable(path, cause) from cause

    def part(self, path: Path, start: int, end: int, n_bytes: int) -> bytes:
        """Bytes `start` to `end` of a sealed file of `n_bytes`."""
        numbers = range(start // BLOCK, -(-end // BLOCK))
        data = b"".join(self._block(path, number, n_bytes) for number in numbers)
        return data[start - numbers.start * BLOCK : end - numbers.start * BLOCK]

    def _block(self, path: Path, number: int, n_bytes: int) -> bytes:
        found = self._held.get((path, number))
        if found is not None:
            self._held.move_to_end((path, number))
            return found
        last = number == _blocks(n_bytes) - 1
        size = (n_bytes - number * BLOCK if last else BLOCK) + MORE
        try:
            with path.open("rb") as stream:
                if stream.read(len(MAGIC)) != MAGIC:
                    raise StorageError(f"{path.name} lies in the open in an encrypted project", hint="delete the data set: it is made anew")
                stream.seek(len(MAGIC) + number * (BLOCK + MORE))
                sealed = stream.read(size)
        except OSError as cause:
            raise _unreadable(path, cause) from cause
        assert self._sealer is not None
        data = self._sealer.open(self._name, sealed, bound=_bound(path, number, last=last))
        self._held[path, number] = data
        if len(self._held) > HELD:
            self._held.popitem(last=False)
        return data

    def _seal(self, path: Path, number: int, data: bytes, *, last: bool) -> bytes:
        assert self._sealer is not None
        self._held.pop((path, number), None)
        return self._sealer.seal(self._name, data, bound=_bound(path, number, last=last))


OPEN = Vault()


class _Sealing(Out):
    """Seals what is written, block by block, into a file that is being written."""

    def __init__(self, out: Out, seal: Any) -> None:
        self._out, self._seal = out, seal
        self._sha256 = hashlib.sha256()
        self.n_bytes = 0
        self._waiting = bytearray()
        self._number = 0
        out.write(MAGIC)

    def write(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self.n_bytes += len(data)
        self._waiting += data
        while len(self._waiting) > BLOCK:  # not >=: the last block is sealed as the last
            self._put(bytes(self._waiting[:BLOCK]), last=False)
            del self._waiting[:BLOCK]

    def end(self) -> None:
        """Write the last block."""
        self._put(bytes(self._waiting), last=True)

    def _put(self, data: bytes, *, last: bool) -> None:
        self._out.write(self._seal(self._number, data, last))
        self._number += 1


class SealedArray:
    """Numbers of a sealed file: `array[a:b]` opens the blocks that hold them, `array["field"]` opens all."""

    def __init__(self, vault: Vault, path: Path, dtype: np.dtype[Any]) -> None:
        self._vault, self._path, self.dtype = vault, path, dtype
        self._n_bytes = vault.n_bytes(path)
        if self._n_bytes % dtype.itemsize:
            raise StorageError(f"{path.name} is damaged", hint="delete the data set: it is made anew")
        self.size = self._n_bytes // dtype.itemsize
        vault.part(path, 0, min(1, self._n_bytes), self._n_bytes)  # another's or damaged: known at once

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, str):
            return self[:][at]
        if isinstance(at, slice):
            start, end, step = at.indices(self.size)
            each = self.dtype.itemsize
            data = self._vault.part(self._path, start * each, max(start, end) * each, self._n_bytes)
            return np.frombuffer(data, dtype=self.dtype)[::step]
        if not -self.size <= at < self.size:
            raise IndexError(at)
        at = at % self.size
        return self[at : at + 1][0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole: NDArray[Any] = self[:]
        return whole if dtype is None else whole.astype(dtype)


def _blocks(n_bytes: int) -> int:
    return max(1, -(-n_bytes // BLOCK))


def _bound(path: Path, number: int, *, last: bool) -> bytes:
    place = os.path.join(path.parent.name, path.name)
    return f"{place} {number} {int(last)}".encode()


def _unreadable(path: Path, cause: Exception) -> StorageError:
    return StorageError(f"{path} cannot be read: {type(cause).__name__}", hint="delete the data set: it is made anew")
