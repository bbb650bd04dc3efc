"""Exact token ids and logits of a GGUF file, by llama.cpp's C functions: what a parity gate compares.

The engine's server tells neither, so this speaks with the library that lies inside xllamacpp. One thread, fp32 where
the file has it, no sampling. Structures are passed with room to spare; only their first four numbers, which llama.h
has kept for years, are set. A crash ends the process: run it in a worker (`Engine`).
Source: include/llama.h of llama.cpp.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelError, UsageError
from .gguf import read_header

ROOM = 1024  # bytes; llama_model_params has 72 and llama_context_params 200


class _Params(ctypes.Structure):
    _fields_ = (
        ("n_ctx", ctypes.c_uint32),
        ("n_batch", ctypes.c_uint32),
        ("n_ubatch", ctypes.c_uint32),
        ("n_seq_max", ctypes.c_uint32),
        ("rest", ctypes.c_uint8 * (ROOM - 16)),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


_SAYS_NOTHING = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)


def shared_library() -> ctypes.CDLL:
    """llama.cpp's C functions, in the library that xllamacpp brings. Raises: ImportError."""
    import xllamacpp

    return ctypes.CDLL(next(str(path) for path in Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")))


def _library() -> Any:
    found = shared_library()
    for name, result, arguments in (
        ("llama_model_default_params", _Params, []),
        ("llama_context_default_params", _Params, []),
        ("llama_model_load_from_file", ctypes.c_void_p, [ctypes.c_char_p, _Params]),
        ("llama_model_get_vocab", ctypes.c_void_p, [ctypes.c_void_p]),
        ("llama_vocab_n_tokens", ctypes.c_int32, [ctypes.c_void_p]),
        ("llama_vocab_is_eog", ctypes.c_bool, [ctypes.c_void_p, ctypes.c_int32]),
        ("llama_init_from_model", ctypes.c_void_p, [ctypes.c_void_p, _Params]),
        ("llama_batch_init", _Batch, [ctypes.c_int32] * 3),
        ("llama_batch_free", None, [_Batch]),
        ("llama_decode", ctypes.c_int32, [ctypes.c_void_p, _Batch]),
        ("llama_set_n_threads", None, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32]),
        ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [ctypes.c_void_p, ctypes.c_int32]),
        ("llama_get_memory", ctypes.c_void_p, [ctypes.c_void_p]),
        ("llama_memory_clear", None, [ctypes.c_void_p, ctypes.c_bool]),
        ("llama_adapter_lora_init", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
        ("llama_free", None, [ctypes.c_void_p]),
        ("llama_model_free", None, [ctypes.c_void_p]),
        ("llama_log_set", None, [ctypes.c_void_p, ctypes.c_void_p]),
        ("llama_tokenize", ctypes.c_int32, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32,
                                            ctypes.POINTER(ctypes.c_int32), ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]),
    ):  # fmt: skip
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found


class ExactModel:
    """One GGUF file, opened whole. `context`: the longest row of tokens."""

    def __init__(self, file: Path, *, context: int = 512, adapter: Path | None = None) -> None:
        """Raises: ModelError for a header that is not sound or a model that llama.cpp does not take."""
        read_header(file)
        if adapter is not None:
            read_header(adapter)
        self._lib = library = _library()
        library.llama_log_set(_SAYS_NOTHING, None)
        self._model = library.llama_model_load_from_file(str(file).encode(), library.llama_model_default_params())
        if not self._model:
            raise ModelError(f"{file.name} could not be loaded", hint="is it a language model?")
        self._vocab = library.llama_model_get_vocab(self._model)
        self.n_vocab = library.llama_vocab_n_tokens(self._vocab)
        params = library.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = self.context = context
        params.n_seq_max = 1
        self._context = library.llama_init_from_model(self._model, params)
        if not self._context:
            raise ModelError(f"{file.name} could not be opened with a context of {context} tokens")
        library.llama_set_n_threads(self._context, 1, 1)
        if adapter is not None:
            self._adapt(adapter)

    def _adapt(self, adapter: Path) -> None:
        found = self._lib.llama_adapter_lora_init(self._model, str(adapter).encode())
        if not found:
            raise ModelError(f"{adapter.name} is no adapter of this model")
        pointers, scales = (ctypes.c_void_p * 1)(found), (ctypes.c_float * 1)(1.0)
        take = self._lib.llama_set_adapters_lora
        take.restype, take.argtypes = (
            ctypes.c_int32,
            [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p],
        )
        if take(self._context, pointers, 1, scales):
            raise ModelError(f"{adapter.name} could not be applied")

    def tokens(self, text: str, *, marks: bool = True, ends: bool = True) -> list[int]:
        """Token ids. `marks`: special tokens in the text count as such; `ends`: add what the file says is added."""
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 8))()
        n_tokens = self._lib.llama_tokenize(self._vocab, data, len(data), room, len(room), ends, marks)
        if n_tokens < 0:
            raise ModelError("llama.cpp made more tokens than the text has bytes")
        return list(room[:n_tokens])

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """(n_tokens, vocabulary): what follows each of `ids`. Raises: UsageError beyond the context."""
        return self._run(ids, 0, range(len(ids)))

    def _run(self, ids: Sequence[int], start: int, shown: Sequence[int]) -> NDArray[np.float32]:
        """(len(shown), vocabulary): what follows the places `shown` of `ids`, which stand behind `start` earlier ones."""
        if not 0 < start + len(ids) <= self.context:
            raise UsageError(f"{start + len(ids)} tokens are not between 1 and {self.context}")
        if not start:
            self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)
        batch, wanted = self._lib.llama_batch_init(len(ids), 0, 1), frozenset(shown)
        try:
            batch.n_tokens = len(ids)
            for place, number in enumerate(ids):
                batch.token[place], batch.pos[place], batch.logits[place] = number, start + place, place in wanted
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            if self._lib.llama_decode(self._context, batch):
                raise ModelError("llama.cpp could not run the model")
            rows = [self._lib.llama_get_logits_ith(self._context, place) for place in shown]
            return np.stack([np.ctypeslib.as_array(row, (self.n_vocab,)).copy() for row in rows])
        finally:
            self._lib.llama_batch_free(batch)

    def say(self, ids: Sequence[int], n_tokens: int) -> tuple[list[int], bool]:
        """(at most `n_tokens` tokens, each the likeliest; does the last one end the answer). Raises: UsageError."""
        said: list[int] = []
        row = self._run(ids, 0, [len(ids) - 1])[0]
        while True:
            said.append(int(row.argmax()))
            if self.is_end(said[-1]) or len(said) >= n_tokens:
                return said, self.is_end(said[-1])
            row = self._run(said[-1:], len(ids) + len(said) - 1, [0])[0]

    def loss(self, ids: Sequence[int], targets: Sequence[int]) -> float:
        """Nats over the targets that are not negative; `targets[i]` is what should follow `ids[i]`."""
        places = [place for place, target in enumerate(targets) if target >= 0]
        rows = self._run(ids, 0, places).astype(np.float64)
        top = rows.max(axis=1)
        whole = top + np.log(np.exp(rows - top[:, None]).sum(axis=1))
        return float((whole - rows[np.arange(len(places)), [targets[place] for place in places]]).sum())

    def is_end(self, token: int) -> bool:
        """True when the token ends an answer."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def close(self) -> None:
        """Frees the model. Nothing may be asked afterwards."""
        if self._model:
            self._lib.llama_free(self._context)
            self._lib.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> ExactModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Engine:
    """The same in a worker process. `init`: {"file", "context", "adapter"}; requests: {"text"}, {"ids"}, {"ids", "say"} or
    {"ids", "targets"}."""

    def __init__(self, init: dict[str, Any]) -> None:
        adapter = Path(init["adapter"]) if init.get("adapter") else None
        self._model = ExactModel(Path(init["file"]), context=init.get("context", 512), adapter=adapter)

    def handle(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """{"ids"} for a text; for ids {"next", "margin", "end"} per place: the best token, by how much, and whether it ends;
        with `say` (how many) {"ids", "ended"}; with `targets` {"loss"}."""
        if "text" in request:
            yield {"ids": self._model.tokens(request["text"], ends=request.get("ends", True))}
            return
        if "say" in request:
            said, ended = self._model.say(request["ids"], request["say"])
            yield {"ids": said, "ended": ended}
            return
        if "targets" in request:
            yield {"loss": self._model.loss(request["ids"], request["targets"])}
            return
        rows = self._model.logits(request["ids"])
        best = rows.argmax(axis=1)
        two = np.sort(rows, axis=1)[:, -2:]
        for number, margin in zip(best, two[:, 1] - two[:, 0], strict=True):
            yield {"next": int(number), "margin": float(margin), "end": self._model.is_end(int(number))}
