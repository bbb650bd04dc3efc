"""An OpenAI-compatible endpoint (`POST /embeddings`) as an Embedder: vLLM, llama.cpp, Ollama.

Only on this machine: every passage goes there, whatever its label, until destinations have ceilings. Source: OpenAI API reference, Embeddings.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import urllib3

from ..core.config import secret
from ..core.errors import ModelError
from ..core.seams import Floats, Kind
from .this_machine import check_address

_RETRIED = (429, 500, 502, 503, 504)
_MAX_BYTES = 256 << 20  # of one answer


class OpenAIEmbedder:
    """Embedder over HTTP. `address`: the base, for example http://127.0.0.1:8000/v1. `key`: env:NAME or empty.
    Raises: RefusedError for an address that is not on this machine.

    `query_prefix` and `passage_prefix` are put in front of texts (e5 models want "query: " and "passage: ").
    The first call asks the model for its dimension unless `dim` is given.
    """

    def __init__(
        self,
        *,
        address: str,
        model: str,
        key: str = "",
        dim: int = 0,
        batch: int = 64,
        query_prefix: str = "",
        passage_prefix: str = "",
        timeout_s: float = 60.0,
        retries: int = 4,
    ) -> None:
        check_address(address, key="embedder.options.address", gets="passages")
        self.name = "openai"
        self._url = address.rstrip("/") + "/embeddings"
        self._model = model
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {secret(key, key='embedder.options.key')}"
        self._dim = dim
        self._batch = max(1, batch)
        self._prefix = {"query": query_prefix, "passage": passage_prefix}
        retry = urllib3.Retry(
            retries, status_forcelist=_RETRIED, allowed_methods=None, backoff_factor=0.5, redirect=0,
            respect_retry_after_header=True, raise_on_status=False,
        )  # fmt: skip
        self._pool = urllib3.PoolManager(timeout=timeout_s, retries=retry)
        self._lock = threading.Lock()
        said = json.dumps([self._url, model, self._prefix], sort_keys=True)
        self.fingerprint = f"openai-{hashlib.sha256(said.encode()).hexdigest()[:16]}"

    @property
    def dim(self) -> int:
        """Asks the endpoint once when it was not given. Raises: ModelError."""
        with self._lock:
            if not self._dim:
                self._dim = self._vectors(["."]).shape[1]
        return self._dim

    def embed(self, texts: Sequence[str], *, kind: Kind) -> Floats:
        rows = [self._vectors([self._prefix[kind] + text for text in part]) for part in self._parts(texts)]
        found = np.concatenate(rows) if rows else np.zeros((0, self.dim), dtype=np.float32)
        if found.shape[1] != self.dim:
            raise ModelError(f"{self._model} sent vectors of {found.shape[1]} numbers, not {self.dim}")
        return found

    def _parts(self, texts: Sequence[str]) -> Iterator[Sequence[str]]:
        for at in range(0, len(texts), self._batch):
            yield texts[at : at + self._batch]

    def _vectors(self, texts: Sequence[str]) -> Floats:
        """(n_texts, dim), rows of length 1. An empty text is sent as a blank: servers refuse empty ones."""
        body = json.dumps({"model": self._model, "input": [text or " " for text in texts]}).encode()
        host = urlsplit(self._url).hostname
        try:
            answer = self._pool.request("POST", self._url, body=body, headers=self._headers, preload_content=False)
            data = answer.read(_MAX_BYTES)
            answer.release_conn()
        except urllib3.exceptions.HTTPError as cause:
            raise ModelError(f"the embedder at {host} does not answer: {type(cause).__name__}") from cause
        if answer.status != 200:
            raise ModelError(f"the embedder at {host} answers {answer.status}", hint="check address, model and key")
        return _rows(data, len(texts), str(host))


def _rows(data: bytes, count: int, host: str) -> Floats:
    try:
        table: list[dict[str, Any]] = json.loads(data)["data"]
        ordered = sorted(table, key=lambda row: int(row["index"]))
        rows = np.array([row["embedding"] for row in ordered], dtype=np.float32)
    except (ValueError, KeyError, TypeError) as cause:
        raise ModelError(f"the embedder at {host} sent no list of vectors") from cause
    norms = np.linalg.norm(rows, axis=1, keepdims=True) if rows.ndim == 2 else None
    if norms is None or len(rows) != count or not np.isfinite(rows).all() or not norms.all():
        raise ModelError(f"the embedder at {host} sent {len(rows)} vectors for {count} texts, or damaged ones")
    return rows / norms
