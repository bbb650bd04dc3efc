"""What the search index seals its content with: payloads under their document's key, terms as keyed hashes."""

from __future__ import annotations

import hashlib
from typing import Any

N_BYTES = 16  # of a term's hash: 32 hex digits, which every engine takes as one word (longer ones are dropped by some)
_CACHED = 500_000  # terms of which the hash is remembered: about 100 MB at most


class IndexSealer:
    """A `core.seams.Sealer` over the project's keys. `blind`: terms are keyed hashes (BLAKE2b, RFC 7693), else words."""

    def __init__(self, keys: Any, *, blind: bool) -> None:
        self.form = "sealed 1 blind" if blind else "sealed 1"
        self._keys = keys
        self._token_key = keys.token_key() if blind else None
        self._hashed: dict[str, str] = {}

    def seal(self, document: str, data: bytes, *, bound: bytes) -> bytes:
        return self._keys.cipher_for(document).seal(data, aad=b"chunk " + bound)

    def open(self, document: str, sealed: bytes, *, bound: bytes) -> bytes:
        return self._keys.cipher_for(document).open(sealed, aad=b"chunk " + bound)

    def term(self, term: str) -> str:
        if self._token_key is None:
            return term
        found = self._hashed.get(term)
        if found is None:
            if len(self._hashed) >= _CACHED:
                self._hashed.clear()
            found = hashlib.blake2b(term.encode("utf-8", "surrogatepass"), key=self._token_key, digest_size=N_BYTES).hexdigest()
            self._hashed[term] = found
        return found
