"""What a stage takes: bytes of memory at its peak, by what they are for, and bytes on disk."""

from __future__ import annotations

from dataclasses import dataclass

from .cost import F32, Job
from .decoder import Decoder

PROCESS = 425_000_000  # Python, torch, transformers and peft, loaded and in use, before there is a model
GPU_PROCESS = 1_200_000_000  # CUDA's own context and the allocator's slack; not measured by us
CHUNK = {"cpu": 1 << 20, "gpu": 1 << 26}  # logits at once (train/objectives.py), but never fewer than CHUNK_ROWS rows
CHUNK_ROWS = 64
PASSING = 6  # numbers on their way back, per token and one of width, heads and feed-forward, in the block at work
NF4 = 0.5625  # bytes of a weight in train/quantised.py


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the peak. `reference`: the frozen beginning that preference learning without an adapter looks at.
    `accumulated`: gradients of earlier rows are there while later ones go forward; else they come as activations go."""

    process: float
    weights: float
    reference: float
    gradients: float
    optimiser: float
    activations: float
    logits: float
    accumulated: bool

    @property
    def total(self) -> float:
        forth, back = self.activations + self.logits, self.gradients
        moving = forth + back if self.accumulated else max(forth, back)
        return self.process + self.weights + self.reference + self.optimiser + moving

    @property
    def state(self) -> float:
        """What is shared out when several GPUs keep parts of every tensor."""
        return self.weights + self.reference + self.gradients + self.optimiser


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes on disk. `kept`: checkpoints at once (one more than are kept while a new one is written); `made`: the model."""

    checkpoint: float
    kept: float
    made: float

    @property
    def total(self) -> float:
        return self.kept + self.made


def memory(job: Job, *, gpu: bool = False) -> Memory:
    """Weights, gradients and optimiser state are fp32 everywhere; with bf16 what is kept for the way back is half."""
    d, half = job.decoder, 0.5 if job.bf16 else 1.0
    whole = d.n_params * F32 - (d.n_hidden * (F32 - NF4) if job.quantised else 0.0)
    kept = (kept_numbers(d) * d.depth + PASSING * (d.width + d.inner + d.ffn)) * job.at_once * F32 * half
    labelled = job.at_once * job.labelled
    rows = min(labelled, max(CHUNK_ROWS, CHUNK["gpu" if gpu else "cpu"] // d.vocab))
    chunk = 3 * rows * d.vocab * F32  # logits, their shares, what the head makes of them
    head = 0 if job.rank else d.vocab * d.width * F32  # its gradient, made on the way
    return Memory(
        process=GPU_PROCESS if gpu else PROCESS,
        weights=whole + (job.n_trained * F32 if job.rank else 0),
        reference=d.n_params * F32 if job.objective == "preference" and not job.rank else 0.0,
        gradients=job.n_trained * F32,
        optimiser=optimiser_numbers(job) * F32,
        activations=kept,
        logits=chunk + head + 2 * labelled * d.width * F32,
        accumulated=job.rows > job.micro_rows,
    )


def kept_numbers(d: Decoder) -> float:
    """Numbers that a block keeps per token for the way back. A norm: what goes in, normed, what comes out (two behind
    attention and feed-forward, whose sum is not kept). Attention: q, k and v as it reads them, what comes out twice.
    Feed-forward: gate, its activation, up, their product."""
    norms = 10 if d.family == "gemma3_text" else 6
    heads = 2 * (d.inner + d.kv_heads * d.head_width) if d.family in ("gemma3_text", "qwen3") else 0
    return norms * d.width + 5 * d.inner + heads + (4 if d.gated else 3) * d.ffn


def optimiser_numbers(job: Job) -> float:
    """Numbers that the optimiser keeps: AdamW two per weight, Muon one for each of the hidden matrices."""
    if job.rank or job.optimiser == "adamw":
        return 2.0 * job.n_trained
    return job.decoder.n_hidden + 2.0 * (job.n_trained - job.decoder.n_hidden)


def disk(job: Job, *, keep: int) -> Disk:
    """A checkpoint holds what is trained and the optimiser's state; the made model is fp32, an adapter by itself."""
    checkpoint = (job.n_trained + optimiser_numbers(job)) * F32
    return Disk(checkpoint, checkpoint * (keep + 1), job.n_trained * F32)
