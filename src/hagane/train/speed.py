"""What this process gets out of the machine, measured in about a second: products, passes over memory, small calls.

A training step is made of these three. Without torch the products are numpy's, and the others stand in torch's usual
proportion to them. Plans build on it (builds/plan.py); the clock can be CPU time where the machine is shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

CALL_S = 2.5e-6  # one small operation of torch, where it is not there to be asked
PRODUCTS_PER_PASS = 80.0  # FLOPs of products in the time of one number's exp: torch on the machine of docs/log.md
_WIDTH, _ROWS, _PASS = 256, 1024, 1 << 20


@dataclass(frozen=True, slots=True)
class Speed:
    """`products`: FLOP/s of fp32 matrix products of a small model's size. `passes`: numbers per second of `exp` over
    4 MB. `call_s`: seconds of a small operation. `by`: torch or numpy."""

    products: float
    passes: float
    call_s: float
    by: str


def measured_speed(*, seconds: float = 1.0, clock: Callable[[], float] = time.perf_counter) -> Speed:
    """Measured now, on as many threads as torch (or numpy) uses. `seconds`: of all three together."""
    try:
        import torch
    except ImportError:
        return _with_numpy(seconds, clock)
    with torch.no_grad():
        left, right, out = torch.randn(_ROWS, _WIDTH), torch.randn(_WIDTH, 4 * _WIDTH), torch.empty(_ROWS, 4 * _WIDTH)
        products = _per_second(lambda: torch.mm(left, right, out=out), 0.5 * seconds, clock)
        long, into, small = torch.randn(_PASS), torch.empty(_PASS), torch.ones(8)
        passes = _per_second(lambda: torch.exp(long, out=into), 0.3 * seconds, clock)
        calls = _per_second(lambda: small + small, 0.2 * seconds, clock)
    return Speed(products * 8 * _ROWS * _WIDTH * _WIDTH, passes * _PASS, 1 / calls, "torch")


def _with_numpy(seconds: float, clock: Callable[[], float]) -> Speed:
    draw = np.random.default_rng(0)
    left, right = (draw.standard_normal(shape, dtype=np.float32) for shape in ((_ROWS, _WIDTH), (_WIDTH, 4 * _WIDTH)))
    out = np.empty((_ROWS, 4 * _WIDTH), np.float32)
    products = 8 * _ROWS * _WIDTH * _WIDTH * _per_second(lambda: np.matmul(left, right, out=out), seconds, clock)
    return Speed(products, products / PRODUCTS_PER_PASS, CALL_S, "numpy")


def _per_second(work: Callable[[], Any], seconds: float, clock: Callable[[], float]) -> float:
    """How often a second `work` is done, after one try."""
    work()
    began, n = clock(), 0
    while (spent := clock() - began) < seconds or not spent:
        for _ in range(4):
            work()
        n += 4
    return n / spent
