"""What data sets of an encrypted project are sealed with: each under a key of its own, which is deleted with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AAD = b"dataset "


class DataSealer:
    """A `core.seams.Sealer` over the project's keys, for whole files. `document` is the data set's id."""

    form = "sealed data 1"

    def __init__(self, keys: Any) -> None:
        self._keys = keys

    @classmethod
    def of_worker(cls, sent: Mapping[str, Any]) -> DataSealer:
        """In a child process, with the keys as `Keys.for_workers` sent them over its pipe."""
        from hagane.ledger.keys import Keys

        return cls(Keys.of_worker(sent))

    def seal(self, document: str, data: bytes, *, bound: bytes) -> bytes:
        return self._keys.cipher_for(key_of(document)).seal(data, aad=AAD + bound)  # type: ignore[no-any-return]

    def open(self, document: str, sealed: bytes, *, bound: bytes) -> bytes:
        return self._keys.cipher_for(key_of(document)).open(sealed, aad=AAD + bound)  # type: ignore[no-any-return]

    def term(self, term: str) -> str:
        return term


def key_of(dataset_id: str) -> str:
    """The name of a data set's key."""
    return f"dataset:{dataset_id}"
