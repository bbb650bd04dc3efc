"""Numbers by day as the places of bars and points: the templates draw them as SVG, with a table beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 600, 150  # units of the drawing
FOOT, HEAD = 26, 8  # below the base line: days; above the highest bar: air


def top_of(highest: float) -> float:
    """The end of the axis: 1, 2 or 5 times a power of ten, not below `highest`."""
    step = 1.0
    while True:
        for factor in (1, 2, 5):
            if factor * step >= highest:
                return factor * step
        step *= 10


def bars(days: Sequence[Mapping[str, Any]], *names: str, top: float | None = None) -> dict[str, Any]:
    """Stacked bars of the numbers called `names`, one bar a day: {"width", "height", "base", "top", "bars", "marks"}."""
    top = top or top_of(max((sum(day[name] or 0 for name in names) for day in days), default=0))
    base, step = HEIGHT - FOOT, WIDTH / max(1, len(days))
    drawn = []
    for at, day in enumerate(days):
        y = float(base)
        for name in names:
            high = (base - HEAD) * (day[name] or 0) / top
            y -= high
            if high:
                drawn.append({"x": round(at * step + step * 0.15, 2), "y": round(y, 2), "w": round(step * 0.7, 2), "h": round(high, 2),
                              "name": name, "day": day["day"], "value": day[name]})  # fmt: skip
    return _frame(days, top) | {"bars": drawn}


def lines(days: Sequence[Mapping[str, Any]], *names: str) -> dict[str, Any]:
    """A line for each of `names`; days without a number interrupt it: {..., "lines": [{"name", "paths", "points"}]}."""
    top = top_of(max((day[name] for day in days for name in names if day[name] is not None), default=0))
    base, step = HEIGHT - FOOT, WIDTH / max(1, len(days))
    drawn = []
    for name in names:
        points = [
            {"x": round((at + 0.5) * step, 2), "y": round(base - (base - HEAD) * day[name] / top, 2), "day": day["day"], "value": day[name], "at": at}
            for at, day in enumerate(days)
            if day[name] is not None
        ]
        paths: list[str] = []
        for before, point in zip([None, *points], points, strict=False):
            if before is not None and point["at"] == before["at"] + 1:
                paths[-1] += f" L{point['x']} {point['y']}"
            else:
                paths.append(f"M{point['x']} {point['y']}")
        drawn.append({"name": name, "paths": paths, "points": points})
    return _frame(days, top) | {"lines": drawn}


def _frame(days: Sequence[Mapping[str, Any]], top: float) -> dict[str, Any]:
    step = WIDTH / max(1, len(days))
    shown = sorted({0, len(days) // 2, len(days) - 1}) if days else []
    marks = [{"x": round((at + 0.5) * step, 2), "text": days[at]["day"][5:].replace("-", "/"), "end": at == len(days) - 1, "start": at == 0} for at in shown]
    return {"width": WIDTH, "height": HEIGHT, "base": HEIGHT - FOOT, "head": HEAD, "top": top, "marks": marks}
