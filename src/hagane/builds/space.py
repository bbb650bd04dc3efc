"""What a stage takes: bytes of memory at its peak, by what they are for, and bytes on disk."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .cost import CHUNK_LOGITS, F32, Job

PROCESS = 350_000_000  # Python, torch, transformers and peft, loaded and used, before there is a model
GPU_PROCESS = 1_200_000_000  # CUDA's own context and the allocator's slack; not measured by us
WIDTH_KEPT, INNER_KEPT, FFN_KEPT = 11.0, 8.0, 4.0  # numbers kept for the way back, per token and block
ADAPTED = 1.0  # times what goes into each adapted layer


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the peak. `reference`: the frozen beginning that preference learning without an adapter looks at."""

    process: float
    weights: float
    reference: float
    gradients: float
    optimiser: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        return sum(getattr(self, one.name) for one in fields(self))

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
    whole = d.n_params * F32
    layer = WIDTH_KEPT * d.width + INNER_KEPT * d.inner + FFN_KEPT * d.ffn
    if job.rank:
        layer += ADAPTED * sum(size[0] for name, size in d.linear.items() if not job.targets or name in job.targets)
    labelled = job.at_once * job.labelled
    chunk = min(labelled * d.vocab, CHUNK_LOGITS) * F32 * 3  # logits, their logarithms, their gradient
    head = 0 if job.rank else 2 * d.vocab * d.width * F32  # the gradient of the head, and of one chunk of it
    return Memory(
        process=GPU_PROCESS if gpu else PROCESS,
        weights=whole + (job.n_trained * F32 if job.rank else 0),
        reference=whole if job.objective == "preference" and not job.rank else 0.0,
        gradients=job.n_trained * F32,
        optimiser=optimiser_numbers(job) * F32,
        activations=layer * d.depth * job.at_once * F32 * half,
        logits=chunk + head + 2 * labelled * d.width * F32,
    )


def optimiser_numbers(job: Job) -> float:
    """Numbers that the optimiser keeps: AdamW two per weight, Muon one for each of the hidden matrices."""
    if job.rank or job.optimiser == "adamw":
        return 2.0 * job.n_trained
    return job.decoder.n_hidden + 2.0 * (job.n_trained - job.decoder.n_hidden)


def disk(job: Job, *, keep: int) -> Disk:
    """A checkpoint holds what is trained and the optimiser's state; the made model is fp32, an adapter by itself."""
    checkpoint = (job.n_trained + optimiser_numbers(job)) * F32
    return Disk(checkpoint, checkpoint * (keep + 1), job.n_trained * F32)
