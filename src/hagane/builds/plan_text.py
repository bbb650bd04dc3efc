"""A plan as text: what is trained, what it takes, and a table of machines that aligns with Japanese names as well."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from .offers import Offer, gigabytes, named
from .plan import Compared, Plan


def shown(plan: Plan) -> str:
    """The plan of one stage, for a terminal of 100 columns."""
    d, flops = plan.decoder, plan.flops
    scratch = not plan.base
    trained = "all" if plan.n_trained == plan.n_params else f"{plan.n_trained:,} ({plan.n_trained / plan.n_params:.2%})"
    about = "about " if plan.estimated else ""
    passes = f", {plan.epochs:.1f} times the data" if plan.epochs else ""
    total = flops.forward + flops.backward + flops.optimiser
    memory, disk = plan.memory, plan.disk
    facts = [
        ("model", f"{d.family}, {'from scratch' if scratch else plan.base}"),
        ("parameters", f"{plan.n_params:,}, trained: {trained}"),
        ("shape", f"{d.depth} blocks, width {d.width}, {d.heads} heads of {d.head_width}, vocabulary {d.vocab:,}"),
        ("steps", f"{plan.steps:,} of {plan.rows} rows of {plan.tokens} tokens, {plan.micro_rows} at once; "
                  f"{plan.optimiser}, rate {plan.rate:.2g}"),
        ("tokens", f"{about}{plan.n_tokens:,.0f}{passes}"),
        ("FLOPs", f"{total:.2e} (forward {flops.forward:.2e}, backward {flops.backward:.2e}, "
                  f"optimiser {flops.optimiser:.2e})"),
        ("speed here", f"{plan.flops_per_s / 1e9:,.1f} GFLOP/s on this job, {plan.seconds_per_step:.3g} s a step "
                       f"({plan.speed_by}, measured now)"),
        ("memory", f"{gigabytes(memory.total)}: weights {gigabytes(memory.weights + memory.reference)}, gradients "
                   f"{gigabytes(memory.gradients)}, optimiser {gigabytes(memory.optimiser)}, activations "
                   f"{gigabytes(memory.activations)}, logits {gigabytes(memory.logits)}, process {gigabytes(memory.process)}"),
        ("disk", f"{gigabytes(disk.total)}: checkpoints {gigabytes(disk.kept)} ({gigabytes(disk.checkpoint)} each), "
                 f"model {gigabytes(disk.made)}; free {gigabytes(plan.free_disk)}"),
    ]  # fmt: skip
    lines = [f"{plan.name} {plan.stage}", *(f"  {_padded(name, 12)}{text}" for name, text in facts), ""]
    lines += [f"  {line}" for line in _table(plan.here, plan.gpus)]
    lines += ["", *(f"  ! {note}" for note in plan.notes)] if plan.notes else []
    return "\n".join(lines) + "\n"


def shown_comparison(found: Compared) -> str:
    """Predicted against measured, in one line."""
    said = f"time: predicted {_hours(found.predicted_s / 3600)}, measured {_hours(found.measured_s / 3600)} ({found.seconds_ratio:.2f})"
    if found.measured_bytes:
        said += f"; memory: predicted {gigabytes(found.predicted_bytes)}, measured {gigabytes(found.measured_bytes)} ({found.memory_ratio:.2f})"
    return f"{said}; {found.kwh:.3f} kWh, {found.flops:.2e} FLOPs"


def _table(mine: Offer, gpus: Sequence[Offer]) -> list[str]:
    head = ("machine", "hours", "JPY", "USD", "kWh", "memory", "prices of", "")
    rows = [head, *(_row(one) for one in (mine, *gpus))]
    widths = [max(_width(row[n]) for row in rows) for n in range(len(head) - 1)]
    lines = ["  ".join([_padded(row[0], widths[0]), *(_right(row[n], widths[n]) for n in range(1, len(widths))), row[-1]]).rstrip()
             for row in rows]  # fmt: skip
    marks = []
    if any(one.old for one in (mine, *gpus)):
        marks.append("* older than 90 days: look the price up again before you pay, and give your own table")
    if any(not one.certain for one in (mine, *gpus)):
        marks.append("? a figure of it is an assumption or was not read at its publisher")
    return [*lines, *marks, "GPUs: an assumed share of their peak, not measured by us"]


def _row(one: Offer) -> tuple[str, ...]:
    dated = f"{one.price_date}{'*' if one.old else ' '}{' ' if one.certain else '?'}"
    need = f"{gigabytes(one.memory)} of {gigabytes(one.room)}"
    if not one.fits:
        return named(one), "-", "-", "-", "-", need, dated, "does not fit"
    return named(one), _hours(one.hours), _money(one.jpy), _money(one.usd, places=2), f"{one.kwh:,.2f}", need, dated, ""


def _hours(n: float) -> str:
    if n < 1 / 60:
        return f"{n * 3600:.0f} s"
    if n < 1:
        return f"{n * 60:.0f} min"
    return f"{n:,.1f} h" if n < 100 else f"{n:,.0f} h"


def _money(n: float, *, places: int = 0) -> str:
    return f"{n:,.{places}f}" if n >= 1 or places else f"{n:,.1f}"


def _width(text: str) -> int:
    """Columns on a terminal: East Asian wide letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _right(text: str, width: int) -> str:
    return " " * (width - _width(text)) + text
