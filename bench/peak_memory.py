"""Peak memory of a command and everything that it starts: PSS summed over the process tree, sampled.

    python bench/peak_memory.py -- hagane sync --project my-llm

PSS counts a page shared by n processes as 1/n in each, so the sum is what the machine gives. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

EVERY_S = 0.1


def children_of(root: int) -> list[int]:
    """`root` and all its descendants that run now."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(after_name[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += parents.get(pid, [])
    return found


def pss_bytes(pid: int) -> int:
    """Proportional set size; 0 when the process is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ProcessLookupError):
        return 0
    return 0


def main() -> int:
    """Exit status of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", nargs="+")
    command = parser.parse_args().command
    started = time.monotonic()
    child = subprocess.Popen(command)
    peak, most = 0, 0
    while child.poll() is None:
        tree = children_of(child.pid)
        total = sum(map(pss_bytes, tree))
        if total > peak:
            peak, most = total, len(tree)
        time.sleep(EVERY_S)
    print(f"peak {peak / 1e6:,.0f} MB (summed PSS, {most} processes), {time.monotonic() - started:.1f} s", file=sys.stderr)
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
