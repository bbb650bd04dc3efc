"""What observers (metrics, traces) are told of a verb that ended: counts and times, one record, afterwards.

with watching(project, "ask", model="extract") as seen:
    ...
    seen.input_tokens = 12

Without observers nothing is made. `project.watchers` takes any callable.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hagane.core.errors import HaganeError
from hagane.core.log import get
from hagane.core.types import Answer, Delta

What = Literal["ask", "search", "chat", "embed"]

log = get("project.watch")


@dataclass(slots=True)
class Seen:
    """One verb, as it went. Times are nanoseconds since 1970. `content` is for traces that the operator asked to
    hold it, and for nothing else."""

    what: What
    model: str = ""
    started_ns: int = field(default_factory=time.time_ns)
    first_ns: int | None = None  # when its first piece came
    ended_ns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    found: int | None = None  # passages
    abstained: bool | None = None
    finish: str = ""
    error: str | None = None
    timings_s: Mapping[str, float] = field(default_factory=dict)
    content: dict[str, str] | None = None  # asked, said; None unless a watcher wants it

    def piece(self) -> None:
        """A piece was given out."""
        if self.first_ns is None:
            self.first_ns = time.time_ns()

    def delta(self, delta: Delta) -> None:
        """A piece of a language model's answer; the last one carries usage."""
        self.piece()
        if delta.usage is not None:
            self.input_tokens, self.output_tokens = delta.usage.input_tokens, delta.usage.output_tokens
        self.finish = delta.finish or self.finish
        self._said(delta.text)

    def answered(self, answer: Answer) -> None:
        """The assistant's answer is whole."""
        self.model, self.abstained, self.timings_s = answer.model, answer.abstained, answer.timings_s
        self.input_tokens, self.output_tokens = answer.usage.input_tokens, answer.usage.output_tokens
        self.finish = "stop"
        self._said(answer.answer)

    def _said(self, text: str) -> None:
        if self.content is not None:
            self.content["said"] = self.content.get("said", "") + text


@contextlib.contextmanager
def watching(project: Any, what: What, *, model: str = "", asked: str = "") -> Iterator[Seen]:
    """A record to fill in; the project's watchers get it at the end, however that comes. Questions and answers stand in
    it only when a watcher says that it `wants_content`."""
    wanted = any(getattr(watcher, "wants_content", False) for watcher in project.watchers)
    seen = Seen(what, model, content={"asked": asked} if wanted else None)
    if not project.watchers:
        yield seen
        return
    try:
        yield seen
    except GeneratorExit:
        seen.finish = seen.finish or "aborted"
        raise
    except BaseException as error:
        seen.error = error.code if isinstance(error, HaganeError) else type(error).__name__
        raise
    finally:
        seen.ended_ns = time.time_ns()
        for watcher in project.watchers:
            try:
                watcher(seen)
            except Exception as mistake:  # an observer's trouble is not the asker's
                log.warning("watcher", error=type(mistake).__name__)
