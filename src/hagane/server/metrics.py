"""Numbers for Prometheus: requests by route and status, questions, tokens, jobs, the index. No content, no names.

A request is counted under its route's template ("/documents/{doc}"), never under what stood in the address.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hagane.core.errors import HaganeError
from hagane.project.health import numbers
from hagane.project.watch import Seen
from hagane.project.wire import Project

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
REQUEST_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
ANSWER_S = (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
NO_ROUTE = "none"  # refused at the door, or no such address


class Metrics:
    """The numbers of one application, in a registry of its own. `text` is the page; `saw` takes what verbs tell."""

    def __init__(self, project: Project) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        registry.register(_State(project))
        labels = ("method", "route")
        self.requests = Counter("hagane_requests", "requests answered", (*labels, "status"), registry=registry)
        self.request_s = Histogram("hagane_request_seconds", "until the last byte", labels, buckets=REQUEST_S, registry=registry)
        self.active = Gauge("hagane_requests_active", "requests under way", registry=registry)
        self.asked = Counter("hagane_verbs", "what was asked of the project", ("what", "model", "end"), registry=registry)
        self.verb_s = Histogram("hagane_verb_seconds", "until the end of it", ("what",), buckets=ANSWER_S, registry=registry)
        self.first_s = Histogram("hagane_first_piece_seconds", "until the first piece", ("what",), buckets=ANSWER_S, registry=registry)
        self.abstained = Counter("hagane_abstentions", "questions that the documents did not answer", registry=registry)
        self.tokens = Counter("hagane_tokens", "tokens read and written by models", ("model", "direction"), registry=registry)

    def saw(self, seen: Seen) -> None:
        """Count one verb that ended."""
        end = "error" if seen.error else "aborted" if seen.finish == "aborted" else "done"
        self.asked.labels(seen.what, seen.model, end).inc()
        self.verb_s.labels(seen.what).observe((seen.ended_ns - seen.started_ns) / 1e9)
        if seen.first_ns is not None:
            self.first_s.labels(seen.what).observe((seen.first_ns - seen.started_ns) / 1e9)
        if seen.abstained:
            self.abstained.inc()
        for direction, n in (("input", seen.input_tokens), ("output", seen.output_tokens)):
            if n:
                self.tokens.labels(seen.model, direction).inc(n)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it. Asks ledger and index: a few milliseconds."""
        return generate_latest(self._registry)


class Counted:
    """Around the whole application: counts what goes through, the refused included."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics, started, status = self._metrics, time.perf_counter(), "torn"

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        metrics.active.inc()
        try:
            await self._app(scope, receive, noting)
        finally:
            metrics.active.dec()
            route = getattr(scope.get("route"), "path", NO_ROUTE)
            method = scope["method"] if scope["method"] in METHODS else "other"
            metrics.requests.labels(method, route, status).inc()
            metrics.request_s.labels(method, route).observe(time.perf_counter() - started)


class _State:
    """What is looked up when the page is read."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def describe(self) -> Iterator[Metric]:
        """Nothing is looked up when it is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        try:
            found: Mapping[str, Any] = numbers(self._project)
        except HaganeError:
            yield GaugeMetricFamily("hagane_state_readable", "whether ledger and index could be read", value=0)
            return
        yield GaugeMetricFamily("hagane_state_readable", "whether ledger and index could be read", value=1)
        yield GaugeMetricFamily("hagane_index_passages", "passages in the index", value=found["chunks"])
        yield GaugeMetricFamily("hagane_index_vectors", "passages with a vector", value=found["vectors"])
        share = GaugeMetricFamily("hagane_index_complete", "share of what is known that is searchable, 0 to 1", labels=("by",))
        for by, value in found["share"].items():
            share.add_metric((by,), value)
        yield share
        jobs = GaugeMetricFamily("hagane_jobs", "background jobs", labels=("state",))
        for state, n in found["jobs"].items():
            jobs.add_metric((state,), n)
        yield jobs
