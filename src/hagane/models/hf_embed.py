"""Any embedding model of a Hugging Face folder with `tokenizer.json` and an ONNX export, on ONNX Runtime, without PyTorch.

Nothing of the folder is run as code. Source: Reimers and Gurevych, Sentence-BERT, 2019 (arXiv:1908.10084) for the poolings.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, ModelError
from ..core.machine import cores
from ..core.seams import Floats, Kind
from .e5_cache import cache_root
from .hf_folder import open_folder
from .onnx_header import Graph, read_graph

Pooling = Literal["auto", "mean", "cls", "last"]
POOLINGS = ("mean", "cls", "last")
FORMAT = 1  # raise it when the same files and options would give other vectors
BATCH_TOKENS = 2048  # padding included: attention of four texts of 512 tokens is 50 MB in a model with 12 heads
ONE_AT_A_TIME = "DynamicQuantize"  # such an operator gives all texts of a run one scale: vectors would depend on it
WHOLE = "sentence_embedding"
WORDS = ("last_hidden_state", "token_embeddings")
TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


class HfEmbedder:
    """Embedder (core.seams) over a local folder. Nothing heavy is loaded before the first vector.

    `file`: the graph within the folder, `onnx/model.onnx` or `model.onnx` unless given (quantised siblings).
    `pooling`: "auto" takes the graph's own sentence vector, else what the folder says, else "mean".
    `query_prefix`, `passage_prefix`: put in front of texts; None takes the folder's prompts, "" none.
    Texts are cut at `max_tokens`, marks included, and at the model's own limit. Any thread may call.
    Raises: ConfigError for a folder that cannot be used, with what would help; ModelError for damaged files.
    """

    name = "hf"

    def __init__(
        self,
        folder: Path | str,
        *,
        file: str = "",
        pooling: Pooling = "auto",
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        max_tokens: int = 512,
        threads: int | None = None,
    ) -> None:
        if pooling not in ("auto", *POOLINGS):
            raise ConfigError(f"embedder.options.pooling {pooling!r} is not one of auto, {', '.join(POOLINGS)}")
        if max_tokens < 8:
            raise ConfigError(f"embedder.options.max_tokens is {max_tokens}, less than 8")
        self._folder = open_folder(Path(folder).expanduser().absolute(), file)
        self._pooling = pooling
        self._prefix = {
            "query": self._folder.query_prefix if query_prefix is None else query_prefix,
            "passage": self._folder.passage_prefix if passage_prefix is None else passage_prefix,
        }
        self._max_tokens = min(max_tokens, self._folder.max_tokens)
        self._threads = threads or cores()
        self._lock = threading.Lock()
        self._loaded: _Engine | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Names everything that vectors depend on: bytes of graph, weights and tokenizer, and the options."""
        folder, graph = self._folder, self._folder.graph
        files = [graph, *(graph.parent / name for name in self._graph.outside), folder.tokenizer]
        said = [FORMAT, [_sha256(path) for path in files], self._pooling, folder.pooling, self._prefix]
        said += [self._max_tokens, folder.pad, folder.lower]
        return f"hf-{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]}"

    @cached_property
    def dim(self) -> int:
        """Numbers of a vector, as the graph says, else counted. Raises: ConfigError, ModelError."""
        return self._engine().width or self._vectors([[self._folder.pad]]).shape[1]

    def embed(self, texts: Sequence[str], *, kind: Kind) -> Floats:
        """Vectors (n_texts, dim), rows of length 1."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return self._vectors(self._ids(texts, kind))

    @cached_property
    def _graph(self) -> Graph:
        return read_graph(self._folder.graph)

    @cached_property
    def _tokenizer(self) -> Any:  # tokenizers is loaded late
        import tokenizers

        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(self._folder.tokenizer))
            tokenizer.no_padding()
            tokenizer.enable_truncation(self._max_tokens)
        except Exception as cause:  # the package raises bare Exception
            raise ModelError("tokenizer.json of the model folder cannot be read", hint="fetch it again") from cause
        return tokenizer

    def _ids(self, texts: Sequence[str], kind: Kind) -> list[list[int]]:
        room = 64 * self._max_tokens  # characters; what lies behind would be cut anyway
        found = []
        for text in texts:
            text = (self._prefix[kind] + text)[:room].encode("utf-8", "replace").decode()
            # a tokenizer without marks gives an empty text no token
            found.append(self._tokenizer.encode(text.lower() if self._folder.lower else text).ids or [self._folder.pad])
        return found

    def _vectors(self, ids: Sequence[Sequence[int]]) -> Floats:
        engine = self._engine()
        rows = []
        places: list[int] = []
        for batch in _batches([len(one) for one in ids], engine.together):
            rows.append(engine.forward([ids[at] for at in batch]))
            places += batch
        vectors = np.concatenate(rows)
        return _unit(vectors)[np.argsort(places)]

    def _engine(self) -> _Engine:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._open()
        return self._loaded

    def _open(self) -> _Engine:
        folder = self._folder
        engine = _Engine(folder.graph, self._graph, threads=self._threads, pad=folder.pad)
        pooling = folder.pooling or "mean" if self._pooling == "auto" else self._pooling
        if self._pooling == "auto" and engine.has_whole:
            return engine
        if self._pooling == "auto" and folder.steps:
            raise ConfigError(
                f"{folder.graph.parent} wants the step {folder.steps[0]} behind pooling, which its graph does not hold",
                hint=f"export it with the output {WHOLE}, or set embedder.options.pooling to go without that step",
            )
        if pooling not in POOLINGS:
            raise ConfigError(
                f"the folder pools by {pooling!r}, not one of {', '.join(POOLINGS)}",
                hint="set embedder.options.pooling",
            )
        engine.pool_by(pooling)
        return engine


class _Engine:
    """Token ids to vectors that are not of length 1 yet. Safe to call from several threads."""

    def __init__(self, path: Path, graph: Graph, *, threads: int, pad: int) -> None:
        self._session = _session(path, threads)
        self._pad = pad
        self._pooling: str | None = None
        self._types = {given.name: _type(given) for given in self._session.get_inputs()}
        ranks = {result.name: len(result.shape) for result in self._session.get_outputs()}
        flat = [name for name, rank in ranks.items() if rank == 2]
        deep = [name for name, rank in ranks.items() if rank == 3]
        self._words = next((name for name in (*WORDS, *deep) if name in deep), None)
        self.has_whole = WHOLE in flat or (not deep and len(flat) == 1)
        if not self.has_whole and self._words is None:
            raise ConfigError(
                f"{path.name} gives {', '.join(ranks)}: neither {WHOLE} nor {WORDS[0]}",
                hint="export it with --task feature-extraction",
            )
        self._result = (WHOLE if WHOLE in flat else flat[0]) if self.has_whole else str(self._words)
        self._single = any(name.startswith(ONE_AT_A_TIME) for name in graph.operators)

    def pool_by(self, pooling: str) -> None:
        """Make vectors out of those of the words instead. Raises: ConfigError when the graph gives none."""
        if self._words is None:
            raise ConfigError(
                "the graph gives one vector per text, none per word", hint="leave out embedder.options.pooling"
            )
        self._result, self._pooling = self._words, pooling

    @property
    def width(self) -> int:
        """Numbers of a vector; 0 when the graph does not say."""
        shape = next(result.shape for result in self._session.get_outputs() if result.name == self._result)
        return shape[-1] if isinstance(shape[-1], int) else 0

    def together(self, longest: int, shortest: int, n: int) -> bool:
        """May `n` texts of these lengths be one run?"""
        if self._single or ("attention_mask" not in self._types and longest != shortest):
            return n == 1
        return n == 1 or n * longest <= BATCH_TOKENS

    def forward(self, ids: Sequence[Sequence[int]]) -> Floats:
        """Vectors (n_texts, dim) of token ids."""
        lengths = np.array([len(one) for one in ids])
        mask = np.arange(lengths.max()) < lengths[:, None]
        padded = np.full(mask.shape, self._pad, np.int64)
        padded[mask] = np.concatenate([np.asarray(one) for one in ids])
        given = {
            "input_ids": padded,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(padded),
            "position_ids": np.broadcast_to(np.arange(mask.shape[1]), mask.shape),
        }
        try:
            found = self._session.run(
                [self._result], {name: given[name].astype(kind) for name, kind in self._types.items()}
            )
        except Exception as cause:  # the runtime's own classes share no public root, and its messages are long
            raise ModelError(
                f"ONNX Runtime cannot run the model: {type(cause).__name__}",
                hint="does tokenizer.json belong to this graph?",
            ) from cause
        return _pooled(np.asarray(found[0], np.float32), mask, self._pooling)


def _session(path: Path, threads: int) -> Any:  # onnxruntime is loaded late
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as cause:  # the runtime's own classes share no public root
        raise ModelError(
            f"ONNX Runtime cannot load {path.name}: {type(cause).__name__}",
            hint="fetch it again as plain files (no links), or export it for an older opset",
        ) from cause


def _type(given: Any) -> Any:
    if given.name not in ("input_ids", "attention_mask", "token_type_ids", "position_ids") or given.type not in TYPES:
        raise ConfigError(
            f"the graph asks for {given.name!r} as {given.type}, which a text embedder does not have",
            hint="export it with --task feature-extraction",
        )
    return TYPES[given.type]


def _pooled(found: Floats, mask: NDArray[np.bool_], pooling: str | None) -> Floats:
    """(n_texts, dim) out of (n_texts, n_tokens, dim), or as it came when the graph has pooled."""
    if pooling is None:
        return found
    if pooling == "cls":
        return found[:, 0]
    lengths = mask.sum(axis=1)
    if pooling == "last":
        return found[np.arange(len(found)), lengths - 1]
    return np.where(mask[:, :, None], found, 0).sum(axis=1) / lengths[:, None].astype(np.float32)


def _unit(rows: Floats) -> Floats:
    """Rows of length 1; a row of zeros has no direction and gets that of (1, 1, ...). Raises: ModelError."""
    if not np.isfinite(rows).all():
        raise ModelError("the model gives numbers that are none (overflow)", hint="take another file of the folder")
    rows = np.where(rows.any(axis=1, keepdims=True), rows, np.float32(1))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _batches(lengths: Sequence[int], together: Callable[[int, int, int], bool]) -> Iterator[list[int]]:
    """Places of texts, longest first, so that little is padded and memory is asked for once."""
    batch: list[int] = []
    for at in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        if batch and not together(lengths[batch[0]], lengths[at], len(batch) + 1):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def _sha256(path: Path) -> str:
    """The file's checksum; kept in the cache folder under size, time and inode, because weights are large."""
    try:
        before = _stamp(path)
        kept = cache_root(None) / "sums" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            said = json.loads(kept.read_text())
            if said["stamp"] == before and len(said["sha256"]) == 64:
                return said["sha256"]
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if _stamp(path) == before:
            with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
                _keep(kept, json.dumps({"stamp": before, "sha256": found}))
    except OSError as cause:
        raise ModelError(f"{path.name} cannot be read: {type(cause).__name__}") from cause
    return found


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _keep(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
