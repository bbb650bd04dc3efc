"""What bench/frameworks.py and its three children share: files in, rankings and seconds out. Standard library only.

A child is called as `python frameworks_NAME.py JOB.json`; the job names `task` ("split" or "search") and paths:
  pages   JSON lines {"id", "file"}: what a split child reads
  units   JSON lines {"id", "page", "text"}: what is indexed; a split child writes it
  asked   JSON list of questions
  rows    float32 vectors of the units, then of the questions (n, 384); absent: words only
  out     where the child writes {"seconds": {name: [wall, cpu]}, "modes": {name: {"pages": [[...]], "ms": [[wall, cpu]]}}}
Times are pairs: by the wall clock, and of the processor (all threads, and children that have ended).
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

WIDTH = 384
KEPT = 10  # pages per question that a child returns
POOL = 100  # units taken per question where a page has several


def read_job() -> dict[str, Any]:
    return json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def read_lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def write_lines(path: str, rows: Iterable[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write(job: dict[str, Any], said: dict[str, Any]) -> None:
    Path(job["out"]).write_text(json.dumps(said), encoding="utf-8")


def pages_of(ids: Sequence[str], page_of: dict[str, str]) -> list[str]:
    """Pages in the order of their best unit, the first KEPT."""
    return list(dict.fromkeys(page_of[one] for one in ids))[:KEPT]


def clocks() -> tuple[float, float]:
    """(wall, processor) seconds; only differences mean something."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in spent)


def since(start: tuple[float, float]) -> list[float]:
    return [now - then for now, then in zip(clocks(), start, strict=True)]


def ask_all(asked: Sequence[str], ask: Callable[[int], list[str]]) -> dict[str, Any]:
    """Every question by its position: pages found and milliseconds; twenty unmeasured questions first."""
    for at in range(min(20, len(asked))):
        ask(at)
    pages, ms = [], []
    for at in range(len(asked)):
        start = clocks()
        found = ask(at)
        ms.append([seconds * 1000 for seconds in since(start)])
        pages.append(found)
    return {"pages": pages, "ms": ms}


class Stopwatch:
    """Seconds by name, [wall, processor]."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._at = clocks()

    def lap(self, name: str) -> None:
        self.seconds[name] = since(self._at)
        self._at = clocks()

    def skip(self) -> None:
        self._at = clocks()
