"""What a training step costs: FLOPs, time on a measured machine or a named GPU, memory. Plain arithmetic on sizes.

Products are counted exactly: forward 2 per weight and token, as much again for what flows back, and as much again for
the gradient of each weight that is trained (frozen ones have none). The head works only at labelled positions.
Constants were fitted on runs of other sizes than those of bench/plan.py, which tests the predictions.

Legend: B rows at once, T tokens of a row, D width, F feed-forward width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hagane.train.speed import Speed

from .decoder import Decoder

Objective = Literal["next_token", "preference"]
F32 = 4  # bytes


@dataclass(frozen=True, slots=True)
class Job:
    """One stage as the loop does it. `documents`: mean tokens of a document in a packed row; `labelled`: share of the
    positions that earn loss; `rank` 0: every weight is trained; `quantised`: the frozen matrices in 4 bits."""

    decoder: Decoder
    tokens: int
    rows: int
    micro_rows: int
    steps: int
    optimiser: str
    labelled: float = 1.0
    document: float = 0.0
    rank: int = 0
    targets: tuple[str, ...] = ()
    objective: Objective = "next_token"
    bf16: bool = False
    quantised: bool = False

    @property
    def n_trained(self) -> int:
        return self.decoder.n_adapter(self.rank, self.targets) if self.rank else self.decoder.n_params

    @property
    def positions(self) -> int:
        """Tokens that go through the model in a step, padding included."""
        return self.rows * self.tokens

    @property
    def at_once(self) -> int:
        """Tokens that go through the model at once."""
        return min(self.rows, self.micro_rows) * self.tokens

    @property
    def span(self) -> float:
        """Tokens that a token looks at, on average: half its document."""
        return min(self.tokens, self.document or self.tokens) / 2


@dataclass(frozen=True, slots=True)
class Flops:
    """Of one step. `forward` and `backward` are products, attention and head included; `optimiser` is Muon's."""

    forward: float
    backward: float
    optimiser: float
    blocks: float  # the parts of forward + backward
    adapter: float
    attention: float
    head: float

    @property
    def total(self) -> float:
        return self.forward + self.backward + self.optimiser


def flops(job: Job) -> Flops:
    """Products of one step, two FLOPs for each multiplication with addition."""
    d, n, twice = job.decoder, job.positions, job.objective == "preference"
    again = 1 if twice else 0  # the reference's forward pass
    blocks = 2.0 * d.n_hidden * n
    adapter = 2.0 * job.n_trained * n if job.rank else 0.0
    attention = 4.0 * job.span * d.inner * d.depth * n
    head = 2.0 * d.vocab * d.width * n * job.labelled
    forward = blocks * (1 + again) + adapter + attention * (1 + again) + head * (1 + again)
    back_blocks = blocks * (1 if job.rank else 2)
    back_head = head * ((1 if job.rank else 2) + again)  # preference makes each chunk's logits once more on the way back
    backward = back_blocks + 2 * adapter + 2.5 * attention + back_head
    return Flops(
        forward, backward, _muon(job),
        blocks * (1 + again) + back_blocks, 3 * adapter, attention * (3.5 + again), head * (1 + again) + back_head,
    )  # fmt: skip


def _muon(job: Job) -> float:
    """Five Newton-Schulz rounds for each hidden matrix: x xᵀ, its square, and their product with x."""
    if job.optimiser != "muon" or job.rank:
        return 0.0
    total = 0.0
    for rows, columns in job.decoder.linear.values():
        small, large = min(rows, columns), max(rows, columns)
        total += 5 * (4.0 * small * small * large + 2.0 * small**3)
    return total * job.decoder.depth


@dataclass(frozen=True, slots=True)
class Fit:
    """How much slower than the measured rates each part runs; 1 would be as fast. See `seconds`.

    Least squares over 15 runs of 11 sizes (0.4 to 100 M parameters, none of bench/plan.py), 2026-11-24, one thread of two
    cores under heavy load; attention also pays for what its mask hides in a document shorter than the kernel's block.
    """

    blocks: float = 0.93
    adapter: float = 1.25
    attention: float = 3.3
    head: float = 0.93
    passes: float = 2.55
    logits: float = 1.7
    weights: float = 1.3
    muon: float = 1.03
    calls: float = 0.9


FIT = Fit()


def parts(job: Job, speed: Speed) -> dict[str, float]:
    """Seconds of one step by part, each as if it ran at the measured rate."""
    d, made = job.decoder, flops(job)
    passes = 1.5 if job.objective == "preference" else 1.0
    norms = 6 if d.family == "gemma3_text" else 2 if d.family != "qwen3" else 3
    layer = (6 * norms + 4) * d.width + 8 * (d.heads + 2 * d.kv_heads) * d.head_width + (10 if d.family.startswith("gemma") else 4) * d.ffn
    whole = 4.0 * d.n_hidden if job.quantised else 0.0  # passes to make 4 bits whole, forth and back
    micro = -(-job.rows // max(1, min(job.rows, job.micro_rows)))
    pieces = job.positions / max(1.0, min(job.tokens, job.document or job.tokens))
    trained = job.n_trained - (0 if job.rank else d.n_hidden if job.optimiser == "muon" else 0)
    return {
        "blocks": made.blocks / speed.products,
        "adapter": made.adapter / speed.products,
        "attention": made.attention / speed.products,
        "head": made.head / speed.products,
        "passes": passes * layer * d.depth * job.positions / speed.passes,
        "logits": (2 if job.objective == "preference" else 1) * d.vocab * job.positions * job.labelled / speed.passes,
        "weights": (job.n_trained * 2 + trained * 3 + (whole + (0 if job.rank else d.n_tables)) * micro) / speed.passes,
        "muon": made.optimiser / speed.products,
        "calls": d.depth * (micro * (200 + (150 if job.rank else 0)) + pieces * 12) * passes * speed.call_s,
    }


def seconds(job: Job, speed: Speed, fit: Fit = FIT) -> float:
    """Seconds of one step on the measured machine."""
    return sum(getattr(fit, name) * value for name, value in parts(job, speed).items())
