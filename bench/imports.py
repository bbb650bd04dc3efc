"""Seconds that a start costs: `import hagane`, `hagane --help`, and the slowest modules on the way.

    python bench/imports.py [--runs 7]

Goals (DESIGN §4, law 3): `import hagane` under 0.3 s, `hagane --help` under 0.5 s. Prints the least and the
median of fresh interpreters, beside a bare `python -c pass`; on a busy machine read the least.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

HELP = "import sys; sys.argv = ['hagane', '--help']; from hagane.cli.main import main; main()"
STARTS = {
    "python -c pass": ("pass", None),
    "import hagane": ("import hagane", 0.3),
    "import hagane.core.types": ("import hagane.core.types", None),
    "hagane --help": (HELP, 0.5),
}


def seconds(code: str, *, runs: int) -> list[float]:
    """Wall-clock seconds of `runs` fresh interpreters; one more, unmeasured, warms the disk."""
    found = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found.append(time.perf_counter() - started)
    return found[1:]


def slowest(code: str, *, n: int) -> list[tuple[float, str]]:
    """The modules with the most time of their own (seconds, name), from `python -X importtime`."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True)
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if "|" in line]
    own = [(int(row[0]) / 1e6, row[2].strip()) for row in rows if row[0].strip().isdecimal()]
    return sorted(own, reverse=True)[:n]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="fresh interpreters per row")
    runs = parser.parse_args().runs
    print(f"{'start':<26} {'least s':>8} {'median s':>9}  goal")
    for name, (code, goal) in STARTS.items():
        found = seconds(code, runs=runs)
        verdict = "" if goal is None else f"< {goal} s: {'met' if min(found) < goal else 'MISSED'}"
        print(f"{name:<26} {min(found):8.3f} {statistics.median(found):9.3f}  {verdict}")
    print("\nslowest modules of hagane --help (own time):")
    for own, name in slowest(HELP, n=8):
        print(f"  {own:6.3f} s  {name}")


if __name__ == "__main__":
    main()
