"""Shipped fakes: a chat model that says what it was told to, an embedder of hashed words. For tests and first steps."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..core.seams import Floats, Kind
from ..core.types import ChatRequest, Delta, Usage


class FakeChat:
    """ChatModel that answers with `says`: a text, or a function of the request. Streams two characters at a time.

    `requests` holds what it was asked.
    """

    def __init__(self, says: str | Callable[[ChatRequest], str] = "はい。", *, name: str = "fake") -> None:
        self.name = name
        self._says = says
        self.requests: list[ChatRequest] = []

    def chat(self, request: ChatRequest) -> Iterator[Delta]:
        self.requests.append(request)
        text = self._says if isinstance(self._says, str) else self._says(request)
        ends = [at for stop in request.stop if stop and (at := text.find(stop)) >= 0]
        text = text[: min(ends, default=len(text))]
        tokens = text[: request.max_tokens or None]  # one character is one token here
        for at in range(0, len(tokens), 2):
            yield Delta(tokens[at : at + 2])
        n_input = sum(len(message.text) for message in request.messages)
        finish = "length" if len(tokens) < len(text) else "stop"
        yield Delta(usage=Usage(n_input, len(tokens)), finish=finish)


class HashEmbedder:
    """Embedder without meaning: unit vectors of hashed character pairs. Texts that share pairs are near.

    Deterministic everywhere, no files, no dependencies.
    """

    def __init__(self, dim: int = 64) -> None:
        if dim < 2:
            raise ValueError(f"dim is {dim}, must be at least 2")
        self.name = "fake"
        self.dim = dim
        self.fingerprint = f"fake-1-{dim}"

    def embed(self, texts: Sequence[str], *, kind: Kind) -> Floats:
        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            key = "".join(unicodedata.normalize("NFKC", text).lower().split()) or "\0"
            for pair in {key[at : at + 2] for at in range(len(key))}:
                digest = hashlib.blake2b(pair.encode("utf-8", "surrogatepass"), digest_size=8).digest()
                row[int.from_bytes(digest[:4], "big") % self.dim] += 1.0 if digest[4] & 1 else -1.0
            if not row.any():
                row[0] = 1.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
