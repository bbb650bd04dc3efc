"""Progress of long work: a bar on a terminal, plain lines in a log, JSON lines when asked."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from hagane.core.errors import UsageError, nearest

Emit = Callable[[Mapping[str, Any]], None]
WORDS = {"scan": "looking for changes", "mend": "mending after an interruption", "words": "words", "vectors": "meaning", "questions": "questions", "pull": "model", "backup": "backup", "restore": "restoring"}

KINDS = ("auto", "plain", "json", "none")


def _kind(given: str) -> str:
    if given in KINDS:
        return given
    close = nearest(given, KINDS)
    raise UsageError(f"--progress {given!r} is not one of {', '.join(KINDS)}", hint=f"did you mean {close!r}?" if close else None)


ProgressKind = Annotated[str, typer.Option("--progress", callback=_kind, metavar="|".join(KINDS), help="How progress is shown on stderr.")]


@contextmanager
def progress(kind: str) -> Iterator[Emit]:
    """Something that takes events. `kind` is auto, plain, json or none; all of it goes to stderr."""
    if kind == "none":
        yield lambda event: None
    elif kind == "json":
        yield _json_line
    elif kind == "plain" or not sys.stderr.isatty():
        yield _Plain()
    else:
        with _bar() as emit:
            yield emit


def _json_line(event: Mapping[str, Any]) -> None:
    print(json.dumps(dict(event), ensure_ascii=False), file=sys.stderr, flush=True)


class _Plain:
    """A line at most every five seconds, and one at the end of each stage."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, event: Mapping[str, Any]) -> None:
        name = WORDS.get(event["event"])
        if name is None:
            return
        if "total" not in event:
            if event["event"] != "scan":
                print(f"{name} ...", file=sys.stderr, flush=True)
            return
        now = time.monotonic()
        if event["done"] == event["total"] or now - self._last >= 5.0:
            self._last = now
            print(f"{name}: {event['done']:,} of {event['total']:,}", file=sys.stderr, flush=True)


@contextmanager
def _bar() -> Iterator[Emit]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def emit(event: Mapping[str, Any]) -> None:
            name = WORDS.get(event["event"])
            if name is None:
                return
            task = tasks.get(event["event"])
            if task is None:
                task = tasks[event["event"]] = bar.add_task(name, total=event.get("total"))
            if "total" in event:
                bar.update(task, completed=event["done"], total=event["total"])

        yield emit
