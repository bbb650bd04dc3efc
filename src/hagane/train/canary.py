"""Canaries: secrets planted into training text, and how far a model prefers them to secrets that it has never seen.

Exposure = log2(number of possible secrets) - log2(rank of the planted one by its log-perplexity): 0 to 1 bit when
the model knows nothing of it, all bits when no other secret is likelier. Where ranking all of them would take too
long, the rank comes from a sample, or beyond the sample from a skew-normal fitted to it. For a secret that was not learnt
P(exposure >= x) = 2^-x. Source: Carlini et al. 2019, The Secret Sharer, arXiv 1802.08232, sections 4.1 to 4.3.

Legend: S secrets, N tokens that earn loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .objectives import Micro, token_logs
from .pack import best_fit, blank
from .words import NO_LOSS, stack

N_DIGITS = 9
N_OTHERS = 1024
_KANA = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワ"
_ROW = 2048  # tokens at once

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Canary:
    """`text` is planted `copies` times. `before` is its own: no canary stands in another's way."""

    before: str
    secret: str
    copies: int

    @property
    def text(self) -> str:
        return f"{self.before}{self.secret}"

    @property
    def bits(self) -> float:
        """log2 of the number of secrets that could stand there."""
        return len(self.secret) * math.log2(10)


@dataclass(frozen=True, slots=True)
class Exposure:
    """In bits. `sampled`: by the rank among `n` others, at most log2(n + 1); `fitted`: by the skew-normal, at most
    all bits of the secret."""

    copies: int
    sampled: float
    fitted: float
    n: int


def draw(copies: Sequence[int], *, seed: int) -> tuple[Canary, ...]:
    """A canary for each number of copies; equal seeds give equal canaries."""
    random = np.random.default_rng((seed, 1))
    found = []
    for n in copies:
        name = "".join(_KANA[at] for at in random.integers(0, len(_KANA), 5))
        found.append(Canary(f"倉庫{name}の開錠番号は", _digits(random), n))
    return tuple(found)


def others(canary: Canary, *, n: int = N_OTHERS, seed: int) -> list[str]:
    """`n` different secrets that were not planted."""
    random, found = np.random.default_rng((seed, 2)), {canary.secret: None}
    while len(found) <= n:
        found[_digits(random)] = None
    return list(found)[1:]


def _digits(random: np.random.Generator) -> str:
    return "".join(map(str, random.integers(0, 10, N_DIGITS).tolist()))


@torch.no_grad()
def costs(model: torch.nn.Module, texts: Sequence[str], encode: Callable[[str], Sequence[int]]) -> Floats:
    """-log p of each text in nats, (S,): each by itself, many in a packed row. `encode`: as a document begins."""
    was, device = model.training, next(model.parameters()).device
    ids = [list(encode(text)) for text in texts]
    found = np.zeros(len(texts))
    room = max(_ROW, *(len(one) for one in ids))
    model.eval()
    try:
        for row in best_fit([len(one) for one in ids], room):
            packed, at = blank(sum(len(ids[n]) for n in row)), 0
            owners = []
            for number, n in enumerate(row):
                end = at + len(ids[n])
                packed.ids_T[at:end], packed.documents_T[at:end] = ids[n], number
                packed.positions_T[at:end] = np.arange(end - at)
                packed.targets_T[at : end - 1] = ids[n][1:]
                owners += [n] * (end - at - 1)
                at = end
            assert int((packed.targets_T != NO_LOSS).sum()) == len(owners)
            logs_N = token_logs(model, Micro.of(stack([packed]), [0], device=device))
            np.add.at(found, owners, -logs_N.double().cpu().numpy())
    finally:
        model.train(was)
    return found


def exposure(
    model: torch.nn.Module, canary: Canary, encode: Callable[[str], Sequence[int]], *, n: int = N_OTHERS, seed: int = 0
) -> Exposure:
    """How much of the canary the model knows."""
    texts = [canary.text, *(canary.before + secret for secret in others(canary, n=n, seed=seed))]
    measured = costs(model, texts, encode)
    return Exposure(
        canary.copies, sampled(measured[0], measured[1:]), min(canary.bits, fitted(measured[0], measured[1:])), n
    )


def sampled(cost: float, others_S: Floats) -> float:
    """Bits by the rank among the others; ties count half."""
    rank = 1 + float((others_S < cost).sum()) + 0.5 * float((others_S == cost).sum())
    return math.log2((len(others_S) + 1) / rank)


def fitted(cost: float, others_S: Floats) -> float:
    """Bits by a skew-normal with the others' mean, deviation and skewness: -log2 P(another costs at most that).

    Source of the moments: Azzalini 1985, A class of distributions which includes the normal ones.
    """
    mean, deviation = float(others_S.mean()), float(others_S.std())
    if deviation < 1e-12:
        return 0.0 if cost >= mean else math.inf
    skewness = float(np.clip((((others_S - mean) / deviation) ** 3).mean(), -0.99, 0.99))  # 0.9953 is the most there is
    part = abs(skewness) ** (2 / 3)
    delta = math.copysign(math.sqrt(math.pi / 2 * part / (part + ((4 - math.pi) / 2) ** (2 / 3))), skewness)
    scale = deviation / math.sqrt(1 - 2 * delta**2 / math.pi)
    place = mean - scale * delta * math.sqrt(2 / math.pi)
    shape = delta / math.sqrt(1 - delta**2)
    return max(0.0, -log_below((cost - place) / scale, shape) / math.log(2))


def log_below(z: float, shape: float) -> float:
    """Natural logarithm of the standard skew-normal's distribution function, also far out where it underflows."""
    z = max(-1e3, min(z, 40.0))
    reach = 12.0 if z > -4 else 48.0 / -z  # behind it nothing counts: the density falls as exp(z s)
    t = torch.linspace(z - reach - max(0.0, z), z, 20_001, dtype=torch.float64)
    logs = math.log(2) - 0.5 * math.log(2 * math.pi) - t**2 / 2 + torch.special.log_ndtr(shape * t)
    logs[-1] -= math.log(2)  # trapezoids
    return min(0.0, float(torch.logsumexp(logs, 0)) + math.log(float(t[1] - t[0])))
