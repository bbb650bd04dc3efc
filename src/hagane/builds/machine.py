"""This machine as a plan needs it: how fast it is (about a second), how much memory and disk are free."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hagane.core.machine import cores
from hagane.train.speed import Speed, measured_speed

_LIMITS = (("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
           ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Machine:
    """`memory` and `disk`: bytes that are free now."""

    speed: Speed
    memory: float
    disk: float
    threads: int

    def json(self) -> dict[str, Any]:
        return asdict(self)


def this_machine(
    folder: Path, *, threads: int = 0, seconds: float = 1.0, clock: Callable[[], float] = time.perf_counter
) -> Machine:
    """Measured now. `folder`: where runs are kept. torch's number of threads is set for it and set back."""
    wanted = threads or cores()
    there = folder
    while not there.exists():
        there = there.parent
    return Machine(_on_threads(wanted, seconds, clock), free_memory(), shutil.disk_usage(there).free, wanted)


def _on_threads(wanted: int, seconds: float, clock: Callable[[], float]) -> Speed:
    try:
        from hagane.train.device import on_threads
    except ImportError:
        return measured_speed(seconds=seconds, clock=clock)
    with on_threads(wanted):
        return measured_speed(seconds=seconds, clock=clock)


def free_memory() -> float:
    """Bytes that a new process could have, within the limit of this container; all of it where nobody says."""
    free = _available()
    for most, used in _LIMITS:
        try:
            limit, taken = Path(most).read_text("utf-8").strip(), Path(used).read_text("utf-8").strip()
            if limit != "max" and int(limit) < 1 << 60:
                free = min(free, float(int(limit) - int(taken)))
        except (OSError, ValueError):
            continue
    return max(0.0, free)


def _available() -> float:
    try:
        for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return float("inf")
