"""What train.yaml leaves open, settled once per run: shape, steps, rows, rates. A run that goes on reads them again.

Sources of the rules for models from scratch: train/scaling.py. Fine-tuning: LoRA at 2e-4 with AdamW (Dettmers et al.
2023, arXiv 2305.14314), every weight at a tenth of what the model's size would be pre-trained with (Muon) or a
hundredth (AdamW); preference at a quarter of that (Rafailov et al. 2023 went far lower than fine-tuning, too).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hagane.core.errors import UsageError
from hagane.train import scaling

from .spec import Stage, TrainFile, hours, number

PRETRAIN_TOKENS, TUNE_TOKENS = 512, 1024
MICRO_TOKENS = 4096  # of the rows that go through the model at once
SAVE_S = 120.0  # between checkpoints
VOCABS = (1000, 2000, 4000, 8000, 16_000, 32_000, 64_000)
EMBEDDED = 0.3  # share of the parameters that a vocabulary may take


@dataclass(frozen=True, slots=True)
class Settled:
    """Numbers of a run. `tokens`: of a row; `rows`: of a step."""

    tokens: int
    rows: int
    micro_rows: int
    steps: int
    rate: float
    warmup: int
    decay: float
    optimiser: str
    weight_decay: float
    clip: float
    seed: int
    dev_every: int
    patience: int
    save_every: int
    keep: int
    bf16: bool
    flops_per_token: float
    fp8: bool = False
    compile: bool = False

    def json(self) -> dict[str, Any]:
        return asdict(self)


def params_of(spec: TrainFile, *, flops_per_s: float) -> int:
    """About how many parameters pretrain will make, before there is a vocabulary."""
    wanted = spec.pretrain
    assert wanted is not None
    if wanted.params is not None:
        return number(wanted.params)
    if wanted.budget is None:
        return 0
    return max(scaling.MIN_PARAMS, int(scaling.params_for(hours(wanted.budget) * 3600 * flops_per_s)))


def vocab_for(params: int) -> int:
    """The largest usual vocabulary whose embedding takes at most EMBEDDED of the parameters."""
    width = max(32.0, (params / 12) ** (1 / 3) * 4)  # near the published line of width and depth at these sizes
    return max((size for size in VOCABS if size * width <= EMBEDDED * params), default=VOCABS[0])


def context_of(spec: TrainFile, stage: Stage, *, longest: int | None = None) -> int:
    """Tokens of a row. Raises: UsageError for more than the base can hold."""
    given = spec.training_of(stage).tokens
    if given and longest and given > longest:
        raise UsageError(f"{stage}.training.tokens is {given}, the base holds {longest}", hint=f"set it to at most {longest}")
    usual = PRETRAIN_TOKENS if stage == "pretrain" else TUNE_TOKENS
    return given or (min(usual, longest) if longest else usual)


def recipe_of(spec: TrainFile, *, vocab: int, flops_per_s: float) -> Any:
    """The model from one dial; a `scaling.Recipe`. Raises: UsageError."""
    wanted, context = spec.pretrain, context_of(spec, "pretrain")
    assert wanted is not None
    if wanted.params is not None:
        return scaling.recipe(params=number(wanted.params), vocab=vocab, context=context)
    assert wanted.budget is not None
    return scaling.recipe_for_budget(hours=hours(wanted.budget), flops_per_s=flops_per_s, vocab=vocab, context=context)


def settle(
    spec: TrainFile, stage: Stage, *, tokens: int, n_rows: int, n_params: int, flops_per_token: float, flops_per_s: float,
    recipe: Any | None = None, gpu: bool = False,
) -> Settled:  # fmt: skip
    """Everything that the loop wants. `n_rows`: packed rows of an epoch. `recipe`: of a model from scratch."""
    told = spec.training_of(stage)
    adapter = spec.adapter_of(stage) is not None
    rows = told.rows or (max(1, recipe.batch_tokens // tokens) if recipe else max(1, min(8, n_rows // 20)))
    steps = told.steps or _steps(told.epochs, rows=rows, n_rows=n_rows, tokens=tokens, recipe=recipe)
    optimiser = told.optimiser if told.optimiser != "auto" else ("adamw" if adapter else "muon")
    rate = told.rate or (recipe.learning_rate if recipe else _rate(stage, n_params, adapter=adapter, optimiser=optimiser))
    step_s = flops_per_token * rows * tokens / max(flops_per_s, 1.0)
    return Settled(
        tokens=tokens, rows=rows, micro_rows=told.micro_rows or max(1, min(rows, MICRO_TOKENS // tokens)), steps=steps, rate=rate,
        warmup=told.warmup or scaling.warmup_for(steps), decay=told.decay, optimiser=optimiser,
        weight_decay=(0.0 if adapter else 0.1) if told.weight_decay is None else told.weight_decay, clip=told.clip,
        seed=told.seed, dev_every=told.dev_every or max(1, steps // 20), patience=told.patience,
        save_every=told.save_every or max(1, min(steps, round(SAVE_S / max(step_s, 1e-3)))), keep=told.keep,
        bf16=told.numbers in ("bf16", "fp8") or (told.numbers == "auto" and gpu), flops_per_token=flops_per_token,
        fp8=told.numbers == "fp8", compile=told.compile,
    )  # fmt: skip


def _steps(epochs: float, *, rows: int, n_rows: int, tokens: int, recipe: Any | None) -> int:
    if recipe is not None and not epochs:
        return max(1, round(recipe.tokens / (rows * tokens)))
    return max(1, math.ceil((epochs or 2) * n_rows / rows))


def _rate(stage: Stage, n_params: int, *, adapter: bool, optimiser: str) -> float:
    if adapter:
        return 2e-4 if stage != "prefer" else 5e-5
    compute = 6.0 * scaling.TOKENS_PER_PARAM * n_params * n_params
    share = 0.1 if optimiser == "muon" else 0.01
    return min(scaling.MAX_RATE, scaling.learning_rate_for(compute)) * share * (0.25 if stage == "prefer" else 1.0)


def loop_settings(settled: Mapping[str, Any]) -> Any:
    """As the loop takes them."""
    from hagane.train.loop import Settings

    return Settings(
        steps=settled["steps"], learning_rate=settled["rate"], warmup_steps=settled["warmup"], decay=settled["decay"],
        optimiser=settled["optimiser"], weight_decay=settled["weight_decay"], clip=settled["clip"],
        micro_rows=settled["micro_rows"], seed=settled["seed"], bf16=settled["bf16"], save_every=settled["save_every"],
        keep=settled["keep"], dev_every=settled["dev_every"], patience=settled["patience"],
        fp8=settled.get("fp8", False), compile=settled.get("compile", False),
    )  # fmt: skip
