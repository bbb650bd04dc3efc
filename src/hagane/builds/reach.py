"""What a plan cannot reach and what to do instead; and the configuration for torchtitan where our own loop ends."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hagane.core.errors import UsageError
from hagane.train.scaling import TOKENS_PER_PARAM, recipe_for_budget
from hagane.train.speed import Speed

from .amount import Amount
from .cost import Job
from .offers import NODE, Offer, named
from .settle import Settled, vocab_for
from .spec import Stage, TrainFile

TITAN = "0.1.0"  # the release whose TOML this is; from 0.3 on torchtitan is configured in Python
LONG_DAYS = 14  # on this machine: longer is not reached
NODE_DAYS = 90  # on one node of rented GPUs
ENOUGH_EPOCHS = 4  # more passes teach little: Muennighoff et al. 2023, arXiv 2305.16264
FACTS_PARAMS = 100_000_000  # below this a model from scratch learns to write, not to know
FEW_STEPS = 50
_TITAN_NAMES = {"llama": "llama3", "qwen3": "qwen3"}


def notes_of(
    spec: TrainFile, stage: Stage, job: Job, mine: Offer, offers: Sequence[Offer], *, data: Amount | None, speed: Speed
) -> tuple[str, ...]:
    """Sentences for the end of a plan, the gravest first."""
    scratch = spec.is_from_scratch(stage)
    notes = [*_does_not_fit(mine), *_too_long(mine, offers, speed, scratch=scratch)]
    if scratch:
        notes += _from_scratch(job, data)
    if not scratch and job.steps < FEW_STEPS:
        notes.append(f"{job.steps} steps teach little: add examples, or set {stage}.training.epochs")
    if beyond(job, offers):
        notes.append(
            f"beyond our own loop: it shares tensors out (FSDP2) over the {NODE} GPUs of one node and knows no tensor or "
            f"pipeline parallelism; the configuration for torchtitan {TITAN} goes with this plan"
        )
    return tuple(notes)


def _does_not_fit(mine: Offer) -> list[str]:
    return [] if mine.fits else [f"it does not run here: {mine.why}"]


def _too_long(mine: Offer, offers: Sequence[Offer], speed: Speed, *, scratch: bool) -> list[str]:
    if mine.hours <= LONG_DAYS * 24:
        return []
    best = min((one for one in offers if one.fits), key=lambda one: one.hours, default=None)
    rented = f"; {named(best)} would take {_long(best.hours)}" if best is not None else ""
    said = f"cannot be reached here: it would take {_long(mine.hours)}{rented}"
    if not scratch:
        return [said + ". Take a smaller base, fewer steps, or a GPU"]
    bought = _an_hour(speed)
    return [f"{said}. {bought} parameters is what an hour here buys; tune a 4 B model or use RAG"]


def _from_scratch(job: Job, data: Amount | None) -> list[str]:
    notes, n = [], job.decoder.n_params
    wanted = float(job.positions) * job.steps
    if data is not None and wanted > ENOUGH_EPOCHS * data.tokens:
        fits = data.tokens * ENOUGH_EPOCHS / TOKENS_PER_PARAM
        notes.append(
            f"the data are {_short(data.tokens)} tokens and would be read {wanted / data.tokens:.0f} times; more than "
            f"{ENOUGH_EPOCHS} teach little: they are enough for {_short(fits)} parameters"
        )
    if n < FACTS_PARAMS:
        notes.append(
            f"a model of {_short(n)} parameters learns to write, not to know: for answers tune a 4 B model or use RAG"
        )
    return notes


def _an_hour(speed: Speed) -> str:
    """Parameters that an hour here buys, by 20 tokens for each."""
    reached = 0.5 * speed.products
    try:
        guess = (3600 * reached / (6 * TOKENS_PER_PARAM)) ** 0.5
        return _short(recipe_for_budget(hours=1, flops_per_s=reached, vocab=vocab_for(int(guess))).shape.n_params)
    except UsageError:
        return "fewer than 20 k"


def beyond(job: Job, offers: Sequence[Offer]) -> bool:
    """Whether a training of every weight is more than one node of the table's best GPUs does in NODE_DAYS."""
    if job.rank or job.objective != "next_token" or not offers:
        return False
    return not any(one.fits and one.hours * one.n_gpus / NODE <= NODE_DAYS * 24 for one in offers)


def torchtitan_of(spec: TrainFile, stage: Stage, job: Job, settled: Settled, offers: Sequence[Offer]) -> str:
    """The job in torchtitan's own TOML where our loop ends, else "". Its flavor table must hold the sizes: they stand in
    a comment, since a configuration names a flavor and cannot describe one."""
    if not beyond(job, offers) or job.decoder.family not in _TITAN_NAMES:
        return ""
    d = job.decoder
    sections = {
        "job": {"dump_folder": "./outputs", "description": f"{spec.name} {stage}"},
        "profiling": {"enable_profiling": False},
        "metrics": {"log_freq": 10, "enable_tensorboard": True, "save_tb_folder": "tb"},
        "model": {"name": _TITAN_NAMES[d.family], "flavor": spec.name, "tokenizer_path": "./tokenizer"},
        "optimizer": {"name": "AdamW", "lr": settled.rate, "eps": 1e-8, "weight_decay": settled.weight_decay},
        "lr_scheduler": {"warmup_steps": settled.warmup, "decay_ratio": settled.decay, "decay_type": "sqrt"},
        "training": {"local_batch_size": 1, "global_batch_size": job.rows, "seq_len": job.tokens, "max_norm": settled.clip,
                     "steps": job.steps, "compile": True, "dataset": "c4", "seed": settled.seed},
        "parallelism": {"data_parallel_replicate_degree": 1, "data_parallel_shard_degree": -1,
                        "tensor_parallel_degree": NODE if d.n_params > 3e10 and d.kv_heads % NODE == 0 else 1, "pipeline_parallel_degree": 1,
                        "context_parallel_degree": 1},
        "checkpoint": {"enable_checkpoint": True, "folder": "checkpoint", "interval": min(500, settled.save_every),
                       "async_mode": "async"},
        "activation_checkpoint": {"mode": "selective", "selective_ac_option": "op"},
    }  # fmt: skip
    head = (
        f"# torchtitan {TITAN}: {d.n_params:,} parameters. Add this flavor to its {_TITAN_NAMES[d.family]} models first:\n"
        f"#   dim={d.width}, n_layers={d.depth}, n_heads={d.heads}, n_kv_heads={d.kv_heads}, feed-forward {d.ffn}, "
        f"vocabulary {d.vocab}\n# and register your data under training.dataset. AdamW: its Muon is not ours.\n"
    )
    return head + "".join(f"\n[{name}]\n" + "".join(_line(*one) for one in rows.items()) for name, rows in sections.items())


def _line(key: str, value: object) -> str:
    """A TOML line: JSON's numbers, truth values and strings are TOML's too."""
    return f"{key} = {json.dumps(value, ensure_ascii=False)}\n"


def _long(n_hours: float) -> str:
    if n_hours < 48:
        return f"{n_hours:.0f} hours"
    return f"{n_hours / 24:,.0f} days" if n_hours < 2 * 8766 else f"{n_hours / 8766:,.0f} years"


def _short(n: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g} {letter}"
    return f"{n:.0f}"
