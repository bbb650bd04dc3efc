"""The engine's side, in a process of its own: llama.cpp through xllamacpp, one model, one request at a time.

xllamacpp's server object listens while it lives. Here it listens on a Unix socket in a folder that only we may
enter, wants a random key, and the socket's name is removed before the first request: there is no way to connect.
We speak with it by function calls. Nothing of a prompt is kept for the next one.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import secrets
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import ModelError, ModelRefusedError
from .gguf import read_header
from .llama_lora import Lora, checked, template_of

_END = None


class Engine:
    """One loaded model. `init`: {"file", "context", "threads", "adapters": [[file, scale], ...]}."""

    def __init__(self, init: dict[str, Any]) -> None:
        header = read_header(Path(init["file"]))
        loras = [Lora(Path(file), scale) for file, scale in init.get("adapters", ())]
        template = template_of([checked(lora, header) for lora in loras])
        import xllamacpp

        self._has_template = header.has_template or bool(template)
        self._marks = Marks(header.special_tokens())
        params = settings(xllamacpp.CommonParams(), init)
        if template:
            params.chat_template = template
        if loras:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora.file), lora.scale) for lora in loras]
        with tempfile.TemporaryDirectory(prefix="hagane-") as folder:  # mode 0700
            params.hostnames = [f"{folder}/engine.sock"]
            try:
                self._server = xllamacpp.Server(params)
            except Exception as cause:
                raise ModelError(
                    f"{Path(init['file']).name} could not be loaded",
                    hint="is it a language model, and is there memory?",
                ) from cause

    def handle(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Deltas as {"text"}; the last one {"finish", "input_tokens", "output_tokens", "cached_tokens"}."""
        body, call = self._body(request)
        items: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()
        stop = threading.Event()

        def take(event: str) -> bool:
            if not stop.is_set():
                items.put(json.loads(event))
            return stop.is_set()

        def run() -> None:
            try:
                call(json.dumps(body, ensure_ascii=False), take)
            except BaseException as error:  # said in the thread that reads
                items.put(error)
            items.put(_END)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield from _deltas(items)
        finally:
            stop.set()
            thread.join()

    def _body(self, request: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        n_tokens = request["max_tokens"] or -1  # -1: until the context is full
        body: dict[str, Any] = {
            "n_predict": n_tokens,
            "max_tokens": n_tokens,
            "stop": request["stop"],
            "stream": True,
            "stream_options": {"include_usage": True},
            "cache_prompt": False,
        }
        for name in ("temperature", "seed", "top_p", "presence_penalty", "frequency_penalty", "grammar"):
            if request.get(name) is not None:
                body[name] = request[name]
        if request.get("schema") is not None:
            body["json_schema"] = request["schema"]
        messages = [(role, self._marks.parted(text)) for role, text in request["messages"]]
        if request["raw"] or not self._has_template:
            body["prompt"] = messages[-1][1] if request["raw"] else "\n\n".join(text for _, text in messages)
            return body, self._server.handle_completions
        body["messages"] = [{"role": role, "content": text} for role, text in messages]
        return body, self._server.handle_chat_completions


def settings(params: Any, init: dict[str, Any]) -> Any:
    """`params` so that the engine answers nobody but us and keeps nothing between requests."""
    params.model.path = init["file"]
    params.n_ctx = init["context"]
    params.n_parallel = 1
    params.n_gpu_layers = init.get("gpu_layers", 0)
    params.warmup = False
    params.fit_params = False
    params.offline = True
    params.verbosity = -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = init["threads"]
    params.n_threads_http = 1
    params.api_keys = [secrets.token_urlsafe(32)]
    params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    params.ui = False
    params.cache_prompt = params.cache_idle_slots = False
    params.cache_ram_mib = 0
    params.n_cache_reuse = 0
    params.n_ctx_checkpoints = 0
    return params


_SHAPES = re.compile(r"<[^<>\n]{1,80}>|\[[^\[\]\n]{1,80}\]")


class Marks:
    """A model's own marks (<|im_start|>, [INST], ...): in a message they are letters, never marks."""

    def __init__(self, words: list[str]) -> None:
        self._known = {word for word in words if _SHAPES.fullmatch(word)}  # thousands of alternatives are slow
        others = sorted(set(words) - self._known, key=len, reverse=True)
        self._others = re.compile("|".join(map(re.escape, others))) if others else None

    def parted(self, text: str) -> str:
        """`text` with an invisible space behind the first letter of whatever reads like a mark."""
        text = _SHAPES.sub(lambda m: self._part(m) if m[0] in self._known else m[0], text)
        return self._others.sub(self._part, text) if self._others else text

    @staticmethod
    def _part(match: re.Match[str]) -> str:
        return f"{match[0][0]}\u200b{match[0][1:]}"


def _deltas(items: queue.SimpleQueue[dict[str, Any] | BaseException | None]) -> Iterator[dict[str, Any]]:
    finish, usage = "stop", {}
    while (item := items.get()) is not _END:
        if isinstance(item, BaseException):
            raise ModelError("the engine failed", hint="the next request tries again") from item
        if "error" in item:
            raise _refused(item["error"])
        for choice in item.get("choices", ()):
            text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            finish = choice.get("finish_reason") or finish
            if text:
                yield {"text": text}
        usage = item.get("usage") or usage
    details = usage.get("prompt_tokens_details") or {}
    yield {
        "finish": "length" if finish == "length" else "stop",
        "input_tokens": usage.get("prompt_tokens", 0),
        "output_tokens": usage.get("completion_tokens", 0),
        "cached_tokens": details.get("cached_tokens", 0),
    }


def _refused(error: dict[str, Any]) -> ModelError:
    """The engine's error without its text, which may quote the prompt or the grammar."""
    if error.get("type") == "exceed_context_size_error":
        return ModelRefusedError(
            f"the request has {error.get('n_prompt_tokens')} tokens, the model was opened with {error.get('n_ctx')}",
            hint="raise answer.context or lower answer.passages",
        )
    with contextlib.suppress(TypeError, ValueError):
        if int(error.get("code", 500)) < 500:
            return ModelRefusedError("the engine does not accept the request", hint="is the grammar GBNF?")
    return ModelError("the engine failed", hint="the next request tries again")
