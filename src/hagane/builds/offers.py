"""What a stage takes on this machine and on named GPUs: memory, hours, money, and why one of them cannot do it.

This machine's figures are measured. Of GPUs nothing was measured by us: the shares of their peak are assumptions from
what others publish for plain PyTorch loops.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from hagane.core.prices import Gpu, Prices, own_machine, rented

from .cost import Job, flops
from .machine import Machine
from .space import GPU_PROCESS, Disk, Memory, memory

MARGIN = 1.05  # of this machine's memory: what a plan may be wrong by before a run dies of it
NODE = 8  # GPUs of one node: as far as the FSDP2 loop goes
GIB = 1 << 30
USABLE = 0.92  # share of a GPU's memory that a run gets; the rest is fragments
PEAK_SHARE = 0.4  # of the dense bf16 peak in products of wide models; narrow ones reach less
NARROW = 512  # width at which half of that is reached
NODE_SHARE = 0.9  # what is left of it when weights are gathered within a node
LAUNCH_S, KERNELS = 8e-6, 350  # one kernel; kernels of a block, forth and back
GPU_TOKENS = 16_384  # that go through a GPU at once


@dataclass(frozen=True, slots=True)
class Offer:
    """One machine's answer. `fits` False: `why` says what is short. `n_gpus` 0: this machine without one. `old`: a price
    is older than 90 days; `certain` False: a figure is an assumption. `memory` and `room` in bytes, of one GPU where
    there are several."""

    name: str
    fits: bool
    why: str
    n_gpus: int
    memory: float
    room: float
    hours: float
    jpy: float
    usd: float
    kwh: float
    price_date: str
    old: bool
    certain: bool


def here(job: Job, step_s: float, need: Memory, files: Disk, machine: Machine, *, table: Prices, day: date) -> Offer:
    """This machine: power and depreciation."""
    spent = step_s * job.steps / 3600
    money, why = own_machine(table, spent), ""
    if need.total * MARGIN > machine.memory:
        why = f"it needs {gigabytes(need.total * MARGIN)} of memory, {gigabytes(machine.memory)} are free"
    elif files.total > machine.disk:
        why = f"it needs {gigabytes(files.total)} of disk, {gigabytes(machine.disk)} are free"
    rows = (table.own, table.power, table.rate)
    return Offer(
        "this machine", not why, why, 0, need.total, machine.memory, spent, money.jpy, money.usd, money.kwh,
        min(one.date for one in rows).isoformat(), any(one.is_old(day) for one in rows), all(one.certain for one in rows),
    )  # fmt: skip


def gpu_offers(job: Job, *, table: Prices, day: date) -> tuple[Offer, ...]:
    """One answer for each GPU of the table: alone where the stage fits, else a node of them, else why not."""
    return tuple(_offer(job, name, gpu, table, day) for name, gpu in table.gpu.items())


def gpu_seconds(job: Job, gpu: Gpu, *, n_gpus: int = 1) -> float:
    """Seconds of one step: products at the assumed share of the peak, and never less than launching the kernels."""
    width = job.decoder.width
    share = PEAK_SHARE * width / (width + NARROW) * (NODE_SHARE if n_gpus > 1 else 1.0)
    micro = max(1.0, job.positions / n_gpus / max(job.tokens, GPU_TOKENS))
    launched = micro * job.decoder.depth * KERNELS * LAUNCH_S * (1.5 if job.objective == "preference" else 1.0)
    return max(flops(job).total / (gpu.bf16 * share * n_gpus), launched)


def gpu_bytes(job: Job, *, n_gpus: int = 1) -> float:
    """Of one GPU, with one row at a time: what it takes at least."""
    need = memory(replace(job, bf16=True, micro_rows=1), gpu=True)
    whole = 2.0 * job.decoder.width * job.decoder.vocab * 4 if n_gpus > 1 else 0.0  # the head is gathered with its gradient
    return GPU_PROCESS + need.state / n_gpus + whole + need.activations + need.logits


def _offer(job: Job, name: str, gpu: Gpu, table: Prices, day: date) -> Offer:
    room = gpu.memory_gib * GIB * USABLE
    can_share = not job.rank and job.objective == "next_token"
    n_gpus = 1 if gpu_bytes(job) <= room or not can_share else NODE
    need = gpu_bytes(job, n_gpus=n_gpus)
    why = "" if need <= room else f"it needs {gigabytes(need)} on {'it' if n_gpus == 1 else f'each of {n_gpus}'}"
    spent = gpu_seconds(job, gpu, n_gpus=n_gpus) * job.steps / 3600
    money = rented(table, gpu, spent, n_gpus=n_gpus)
    rows = (gpu, table.rate)
    return Offer(
        name, not why, why, n_gpus, need, room, spent, money.jpy, money.usd, money.kwh,
        min(one.date for one in rows).isoformat(), any(one.is_old(day) for one in rows), gpu.certain,
    )  # fmt: skip


def named(offer: Offer) -> str:
    """ "H100", "8 x H100" or "this machine"."""
    return f"{offer.n_gpus} x {offer.name}" if offer.n_gpus > 1 else offer.name


def gigabytes(n_bytes: float) -> str:
    """As people read it: megabytes below one."""
    if n_bytes < 999.5e6:
        return f"{n_bytes / 1e6:.0f} MB"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes < 1e11 else f"{n_bytes / 1e9:,.0f} GB"
