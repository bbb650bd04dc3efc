"""OpenTelemetry spans of questions, searches, chats and embeddings, named as the GenAI conventions name them.

Off unless `server.otel` names a collector; then nothing of OpenTelemetry is imported. Spans hold models, tokens and
times; questions and answers only with `server.otel_content`.
Source: OpenTelemetry semantic conventions for generative AI, 1.38 (spans, agent spans).
"""

from __future__ import annotations

import json
from typing import Any

from hagane import __version__
from hagane.core.errors import MissingExtraError
from hagane.project.watch import Seen
from hagane.project.wire import Project

AGENT = "hagane"
OPERATIONS = {"ask": "invoke_agent", "search": "retrieval", "chat": "chat", "embed": "embeddings"}
SEARCHED = "search"  # the part of an answer's time in which passages were found


def traces(project: Project) -> Traces | None:
    """What sends the project's spans to `server.otel`; None when that names nothing. Raises: MissingExtraError."""
    config = project.config.server
    if config.otel is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as cause:
        raise MissingExtraError("server.otel needs the extra otel", hint="pip install 'hagane[otel]'") from cause
    return Traces(BatchSpanProcessor(OTLPSpanExporter(endpoint=config.otel)), content=config.otel_content)


class Traces:
    """Takes what verbs tell and makes spans of it, for `processor` of the OpenTelemetry SDK."""

    def __init__(self, processor: Any, *, content: bool) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        named = {"service.name": AGENT, "service.version": __version__}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("hagane", __version__)
        self._api = trace
        self.wants_content = content

    def __call__(self, seen: Seen) -> None:
        """A span for one verb that ended, with a child for the search within an answer."""
        trace = self._api
        operation = OPERATIONS[seen.what]
        subject = AGENT if seen.what == "ask" else seen.model
        kind = trace.SpanKind.CLIENT if seen.what in ("chat", "embed") else trace.SpanKind.INTERNAL
        span = self._tracer.start_span(
            f"{operation} {subject}".strip(), kind=kind, start_time=seen.started_ns, attributes=self._attributes(seen, operation)
        )
        if seen.what == "ask" and SEARCHED in seen.timings_s:
            self._search(seen, trace.set_span_in_context(span))
        if seen.error is not None:
            span.set_attribute("error.type", seen.error)
            span.set_status(trace.StatusCode.ERROR)
        span.end(seen.ended_ns)

    def _search(self, seen: Seen, parent: Any) -> None:
        given = {"gen_ai.operation.name": "retrieval", "gen_ai.provider.name": AGENT}
        child = self._tracer.start_span("retrieval", context=parent, start_time=seen.started_ns, attributes=given)
        child.end(seen.started_ns + int(seen.timings_s[SEARCHED] * 1e9))

    def _attributes(self, seen: Seen, operation: str) -> dict[str, Any]:
        found: dict[str, Any] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": AGENT,
            "gen_ai.agent.name": AGENT if seen.what == "ask" else None,
            "gen_ai.request.model": seen.model or None,
            "gen_ai.response.model": seen.model or None,
            "gen_ai.response.finish_reasons": (seen.finish,) if seen.finish else None,
            "gen_ai.response.time_to_first_chunk": (seen.first_ns - seen.started_ns) / 1e9 if seen.first_ns else None,
            "gen_ai.usage.input_tokens": seen.input_tokens if seen.what != "search" else None,
            "gen_ai.usage.output_tokens": seen.output_tokens if seen.what in ("ask", "chat") else None,
            "hagane.passages": seen.found,
            "hagane.abstained": seen.abstained,
        }
        if self.wants_content:
            found |= _content(seen)
        return {name: value for name, value in found.items() if value is not None}

    def close(self) -> None:
        """Send what waits, and end."""
        self._provider.shutdown()


def _content(seen: Seen) -> dict[str, str]:
    content = seen.content or {}
    asked, said = content.get("asked"), content.get("said")
    if seen.what == "search":
        return {"gen_ai.retrieval.query.text": asked} if asked else {}
    found = {}
    if asked:
        found["gen_ai.input.messages"] = json.dumps([_message("user", asked)], ensure_ascii=False)
    if said:
        found["gen_ai.output.messages"] = json.dumps([_message("assistant", said)], ensure_ascii=False)
    return found


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}
