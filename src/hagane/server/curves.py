"""What a run told step by step, as the places of lines: the templates draw them as SVG, with a table beside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .plots import FOOT, HEAD, HEIGHT, WIDTH

Points = Sequence[tuple[int, float]]
AIR = 0.05  # of the height, above the highest point
N_ROWS = 12  # of the table beside a plot


def drawn(stages: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Plots by stage: {"loss", "rate", "speed"}, each as `curve` gives it, or None where nothing was told."""
    found: dict[str, dict[str, Any]] = {}
    for stage in stages:
        told, last = stage["curves"], int(stage["steps"] or 0)
        found[stage["stage"]] = {
            "loss": curve({"loss": told["loss"], "dev": told["dev"]}, last=last),
            "rate": curve({"rate": told["rate"]}, last=last, zero=True),
            "speed": curve({"speed": told["speed"]}, last=last, zero=True),
        }
    return found


def curve(series: Mapping[str, Points], *, last: int = 0, zero: bool = False) -> dict[str, Any] | None:
    """Lines over steps 0 to `last` (or the last point): {"width", "height", "base", "head", "top", "bottom", "marks",
    "lines": [{"name", "path", "points"}], "rows": [{"step", name: value or None}]}. `zero`: the axis begins at 0."""
    values = [value for points in series.values() for _, value in points]
    if not values:
        return None
    end = max(last, max(step for points in series.values() for step, _ in points), 1)
    low = 0.0 if zero else min(values)
    bottom, top = axis(low, max(values) + AIR * (max(values) - low))
    base = HEIGHT - FOOT

    def place(step: int, value: float) -> tuple[float, float]:
        return round(WIDTH * step / end, 2), round(base - (base - HEAD) * (value - bottom) / (top - bottom), 2)

    lines = []
    for name, points in series.items():
        at = [place(step, value) for step, value in points]
        path = " ".join(f"{'L' if n else 'M'}{x} {y}" for n, (x, y) in enumerate(at))
        lines.append({"name": name, "path": path, "points": [{"x": x, "y": y, "step": s, "value": v} for (x, y), (s, v) in zip(at, points, strict=True)]})
    marks = [{"x": WIDTH * step / end, "text": f"{step:,}", "start": step == 0, "end": step == end} for step in sorted({0, end // 2, end})]
    frame = {"width": WIDTH, "height": HEIGHT, "base": base, "head": HEAD, "top": top, "bottom": bottom, "marks": marks}
    return frame | {"lines": lines, "rows": _rows(series)}


def axis(low: float, high: float) -> tuple[float, float]:
    """Round ends of an axis that holds `low` and `high`, neither far outside; low < high."""
    span = max(high - low, 1e-9 * abs(low), 1e-9 * abs(high))
    span = span if span > 1e-300 else 1.0  # all zero, or too small for a float's exponent
    step = 10.0 ** math.floor(math.log10(span)) / 2
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    return (bottom, top) if top > bottom else (bottom, bottom + step)


def _rows(series: Mapping[str, Points]) -> list[dict[str, Any]]:
    """The newest points of the sparsest series, newest first, and what the others said then."""
    told = {name: dict(points) for name, points in series.items()}
    lead = min((points for points in told.values() if points), key=len)
    steps = sorted(lead)[-N_ROWS:][::-1]
    return [{"step": step, **{name: _near(points, step) for name, points in told.items()}} for step in steps]


def _near(points: Mapping[int, float], step: int) -> float | None:
    before = [at for at in points if at <= step]
    return points[max(before)] if before else None
