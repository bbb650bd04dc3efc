"""llama.cpp models (GGUF files) as a ChatModel. The engine runs in a worker process: a crash is a ModelError."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..core.errors import ModelError, NotFoundError, UsageError
from ..core.machine import cores
from ..core.types import ChatRequest, Delta, Usage
from .gguf import Header, read_header
from .llama_lora import Lora, checked, template_of

ENGINE = "hagane.models.llama_worker:Engine"
_MIB = 1 << 20
MAX_CONTEXT = 131_072


class Process(Protocol):
    """A worker process (hagane.jobs.local.Worker)."""

    @property
    def pid(self) -> int | None: ...
    def call(self, request: Mapping[str, Any], *, time_s: float | None = None) -> Iterator[dict[str, Any]]: ...
    def close(self) -> None: ...


class Spawn(Protocol):
    """How a worker process is made: hagane.jobs.local.Worker itself."""

    def __call__(
        self, target: str, *, init: Mapping[str, Any], threads: int, time_s: float, memory_bytes: int | None
    ) -> Process: ...


UNBOUNDED_BASE = 512  # tokens when nobody says how many: a base model has no end of turn and fills its whole context


def default_threads() -> int:
    """One core less than this process may use, 1 to 8: with as many threads as busy cores llama.cpp becomes
    200 times slower than with one (measured: 2.4 s a token against 0.012 s)."""
    return max(1, min(8, cores() - 1))


class LlamaCpp:
    """ChatModel over one GGUF file, alone or with adapters. Loaded at the first request; one request at a time, others
    wait. A base and the same base with an adapter are two models over one file.

    Messages go through the chat template in the file; base models (no template) and `raw` requests get plain text.
    What reads like the model's own marks in a message stays letters. Nothing of a prompt is kept between requests.
    """

    def __init__(
        self,
        file: Path,
        *,
        spawn: Spawn,
        name: str | None = None,
        adapter: Path | Lora | Sequence[Lora] = (),
        threads: int = 0,
        context: int = 4096,
        time_s: float = 300.0,
    ) -> None:
        """`adapter`: one or several LoRA files beside the base. `context`: tokens of prompt and answer. `time_s`: how
        long the next token may take, reading the prompt included. Raises: NotFoundError; ModelError for a header that
        is not sound or an adapter of another base; UsageError."""
        if not file.is_file():
            raise NotFoundError(f"there is no model file {file}", hint="hagane models")
        if not 16 <= context <= MAX_CONTEXT:
            raise UsageError(f"a context of {context} tokens is not between 16 and {MAX_CONTEXT}")
        self.file = file
        self.name = name or file.stem
        self._header: Header | None = None
        header = self.header
        self.adapters = _adapters(adapter)
        self._template = template_of([checked(one, header) for one in self.adapters])
        threads = threads or default_threads()
        self.context = min(context, header.context or context)
        loras = [[str(one.file), one.scale] for one in self.adapters]
        init = {"file": str(file), "context": self.context, "threads": threads, "adapters": loras}
        n_bytes = sum(path.stat().st_size for path in (file, *(one.file for one in self.adapters)))
        memory = 2 * n_bytes + 1024 * _MIB + self.context * _MIB // 4
        self._process = spawn(ENGINE, init=init, threads=threads, time_s=time_s, memory_bytes=memory)

    @property
    def header(self) -> Header:
        """The file's checked header."""
        if self._header is None:
            self._header = read_header(self.file)
        return self._header

    @property
    def is_instruct(self) -> bool:
        """True when the file, or an adapter beside it, says how to chat with it."""
        return self.header.has_template or bool(self._template)

    @property
    def pid(self) -> int | None:
        """Process id of the engine, when it runs."""
        return self._process.pid

    def chat(self, request: ChatRequest) -> Iterator[Delta]:
        if any(part.kind != "text" for message in request.messages for part in message.parts):
            raise UsageError(f"{self.name} reads text only")
        if request.tools:
            raise UsageError(f"{self.name} takes no tools", hint="leave `tools` out, or take a model behind a server that has them")
        if not request.messages:
            raise UsageError("a request needs a message")
        items = self._process.call(
            {
                "messages": [[message.role, message.text] for message in request.messages],
                "max_tokens": request.max_tokens or (0 if self.is_instruct else UNBOUNDED_BASE),
                "temperature": request.temperature,
                "seed": request.seed,
                "stop": list(request.stop),
                "grammar": request.grammar,
                "raw": request.raw,
                "top_p": request.top_p,
                "presence_penalty": request.presence_penalty,
                "frequency_penalty": request.frequency_penalty,
                "schema": dict(request.schema) if request.schema is not None else None,
            }
        )
        try:
            yield from _deltas(items)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def close(self) -> None:
        """End the worker process."""
        self._process.close()

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _adapters(given: Path | Lora | Sequence[Lora]) -> tuple[Lora, ...]:
    if isinstance(given, Path):
        return (Lora(given),)
    return (given,) if isinstance(given, Lora) else tuple(given)


def _deltas(items: Iterator[dict[str, Any]]) -> Iterator[Delta]:
    for item in items:
        if "finish" not in item:
            yield Delta(item["text"])
            continue
        if item["cached_tokens"]:
            raise ModelError("the engine reused another request's prompt", hint="this is a mistake of ours: report it")
        yield Delta(usage=Usage(item["input_tokens"], item["output_tokens"]), finish=item["finish"])
