"""Verbs about how the project is doing: index, model, machine, queue, and numbers by day.

Counts over everything, whatever its label: for builders, officers and administrators only, and nothing but counts.
"""

from __future__ import annotations

import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from hagane.core.types import Principal

from . import health, work
from .trained import is_hidden
from .wire import EXTRACT, Project

DAYS = 30
KEPT_S = 20.0  # walking .hagane and reading a month of answers takes too long for every look
SHOWN_JOBS = 12

T = TypeVar("T")


def board(project: Project, *, by: Principal) -> dict[str, Any]:
    """{"index", "documents", "model", "machine", "jobs", "queue"} as they are now. Jobs: those that `by` may see."""
    state = health.numbers(project)
    config = project.config
    return {
        "index": {"chunks": state["chunks"], "vectors": state["vectors"], "share": state["share"]},
        "documents": project.ledger.tally.documents(),
        "model": {
            "answerer": config.answer.answerer,
            "model": _speaks(project, by=by),
            "embedder": config.embedder.name, "without_vectors": project.without_vectors, "changed": bool(project.embedder_changed()),
        },
        "machine": _machine(project),
        "queue": state["jobs"],
        "jobs": work.jobs(project, by=by, limit=SHOWN_JOBS),
    }  # fmt: skip


def _speaks(project: Project, *, by: Principal) -> str | None:
    """The model that answers; None where the sentences themselves do, and where `by` may not see it."""
    config = project.config.answer
    name = None if config.answerer == EXTRACT else config.model_of(config.answerer)
    return None if name is None or is_hidden(project, name, by=by) else name


def days(project: Project, *, n: int = DAYS) -> list[dict[str, Any]]:
    """The last `n` days on this machine's clock, oldest first: {"day", "questions", "abstained", "p50_ms", "p95_ms",
    "up", "down"}; latencies None where nobody asked."""
    return _kept(project, f"days {n}", lambda: _days(project, n, datetime.now().astimezone()))


def _days(project: Project, n: int, now: datetime) -> list[dict[str, Any]]:
    first = (now - timedelta(days=n - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    names = [(first + timedelta(days=i)).strftime("%Y-%m-%d") for i in range(n)]
    found: dict[str, dict[str, Any]] = {day: {"latencies": [], "abstained": 0, "up": 0, "down": 0} for day in names}
    utc = _utc(first)
    for asked in project.ledger.tally.asked(since=utc):
        if (day := found.get(_day(asked.at))) is not None:
            day["latencies"].append(asked.latency_ms)
            day["abstained"] += asked.abstained
    for at, kind in project.ledger.tally.said(since=utc):
        if kind in ("up", "down") and (day := found.get(_day(at))) is not None:
            day[kind] += 1
    return [
        {
            "day": name, "questions": len(day["latencies"]), "abstained": day["abstained"], "up": day["up"], "down": day["down"],
            "p50_ms": percentile(day["latencies"], 50), "p95_ms": percentile(day["latencies"], 95),
        }
        for name, day in found.items()
    ]  # fmt: skip


def percentile(values: Sequence[int], p: float) -> int | None:
    """The smallest value that at least `p` per cent of `values` do not exceed (nearest rank); None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * p / 100) - 1)]


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _day(at: str) -> str:
    return datetime.fromisoformat(at.replace("Z", "+00:00")).astimezone().strftime("%Y-%m-%d")


def _machine(project: Project) -> dict[str, Any]:
    """Bytes: what this process holds in memory, what the machine has, what .hagane takes by part, what is free."""
    disk = shutil.disk_usage(project.state if project.state.exists() else project.folder)
    return {
        "memory_bytes": _resident(), "memory_total_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "state_bytes": _kept(project, "disk", lambda: _sizes(project.state)), "disk_free_bytes": disk.free, "disk_total_bytes": disk.total,
    }  # fmt: skip


def _resident() -> int | None:
    """Resident bytes of this process; None where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _sizes(state: Path) -> dict[str, int]:
    """Bytes below each part of .hagane: originals, parsed, index, ledger, audit, other."""
    parts = {"blobs": "originals", "parsed": "parsed", "index": "index", "audit": "audit"}
    sizes = dict.fromkeys((*parts.values(), "ledger", "other"), 0)
    if not state.is_dir():
        return sizes
    for entry in os.scandir(state):
        name = parts.get(entry.name) or ("ledger" if entry.name.startswith("ledger.db") else "other")
        sizes[name] += _below(entry.path) if entry.is_dir(follow_symlinks=False) else _size(entry)
    return sizes


def _below(folder: str) -> int:
    total, stack = 0, [folder]
    while stack:
        try:
            for entry in os.scandir(stack.pop()):
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                else:
                    total += _size(entry)
        except OSError:
            continue  # it left while we looked
    return total


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


_LOCK = threading.Lock()
_KEPT: WeakKeyDictionary[Project, dict[str, tuple[float, Any]]] = WeakKeyDictionary()


def _kept(project: Project, name: str, make: Callable[[], T]) -> T:
    """`make()`, or what it made in the last KEPT_S seconds."""
    with _LOCK:
        mine = _KEPT.setdefault(project, {})
        at, value = mine.get(name, (float("-inf"), None))
    if time.monotonic() - at < KEPT_S:
        return value
    made = make()
    with _LOCK:
        mine[name] = (time.monotonic(), made)
    return made
