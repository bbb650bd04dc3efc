"""One dial: `params`, or `budget` hours of this machine, to width, depth, batch, learning rate and tokens.

Sources, with how far they were checked on 2026-11-24:
tokens per parameter and C = 6 N D: Hoffmann et al. 2022, arXiv 2203.15556 (about 20 to 1; the ratio as commonly quoted,
their own three fits lie near it).
Depth against width: Levine et al. 2020, arXiv 2006.12467 (ln width = 5.039 + 0.0555 depth; not read in the paper, but
it gives their abstract's width of 30 K for a trillion parameters; fitted on depths of 6 to 48).
Batch and learning rate from compute: DeepSeek LLM 2024, arXiv 2401.02954, equation 1 (B = 0.2920 C^0.3271 tokens, lr =
0.3118 C^-0.1250; found in several accounts of the paper, and 2 T tokens of their 7 B give its 4.2e-4 and 9.2 M tokens;
fitted on 1e17 to 2e19 FLOPs, their C leaves the embedding and head out: below that range it is an extrapolation).
Feed-forward 8/3 of the width: Shazeer 2020, arXiv 2002.05202. Warm-up, stable, decay with a last fifth falling as
1 - sqrt: Hägele et al. 2024, arXiv 2405.18392 (1 - sqrt confirmed; the fifth is within the 10 to 20 % they recommend,
not read in the paper).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from hagane.core.errors import UsageError

TOKENS_PER_PARAM = 20
MIN_PARAMS = 20_000  # smaller than this the rules say nothing
HEAD = 64  # width of an attention head; 32 below a width of 256
MAX_RATE = 0.02  # below the fitted range the power law would go on rising
ROUND = 32  # widths are multiples of it: whole heads, and what matrix kernels like


@dataclass(frozen=True, slots=True)
class Shape:
    """What a decoder is built from. `ffn` is the width inside the feed-forward layer."""

    vocab: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    ffn: int
    context: int

    @property
    def n_params(self) -> int:
        """Llama-style with tied embeddings: attention, gated feed-forward, norms, embedding."""
        kv = self.width * self.kv_heads // self.heads
        layer = 2 * self.width * self.width + 2 * self.width * kv + 3 * self.width * self.ffn + 2 * self.width
        return self.depth * layer + self.width + self.vocab * self.width

    @property
    def flops_per_token(self) -> int:
        """Forward and backward of one trained token: 6 per parameter that multiplies (the tied embedding does, in
        the head), and attention over half the context (12 depth width context, halved by the causal mask)."""
        return 6 * self.n_params + 6 * self.depth * self.width * self.context


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole run from one number. `batch_tokens` is the global batch of one step."""

    shape: Shape
    tokens: int
    batch_tokens: int
    learning_rate: float
    warmup_steps: int
    steps: int
    flops: float
    sources: tuple[str, ...] = ("2203.15556", "2006.12467", "2401.02954", "2002.05202", "2405.18392")


def shape_for(params: int, *, vocab: int, context: int = 512) -> Shape:
    """The shape nearest to `params` on the published line between depth and width.

    Raises: UsageError when the vocabulary alone is larger than half of it, with the smallest sensible number.
    """
    if params < MIN_PARAMS:
        raise UsageError(f"params is {params}, the least is {MIN_PARAMS}", hint="a model that small learns no language")
    near = min((_shape(depth, vocab, context, params) for depth in range(1, 97)), key=lambda s: _badness(s, params))
    if vocab * near.width > 0.75 * near.n_params:
        raise UsageError(
            f"a vocabulary of {vocab} would take {vocab * near.width:,} of {near.n_params:,} parameters",
            hint=f"take a smaller vocabulary (about {max(512, vocab // 4)}) or more parameters",
        )
    return near


def _shape(depth: int, vocab: int, context: int, params: int) -> Shape:
    """The width that brings this depth nearest to `params`, in whole heads."""
    inner = 12 * depth  # 4 of attention and 8 of the gated feed-forward, per width squared
    exact = (-vocab + math.sqrt(vocab * vocab + 4 * inner * params)) / (2 * inner)
    step = HEAD if exact >= 256 else ROUND
    width = max(step, round(exact / step) * step)
    heads = width // step
    return Shape(vocab, width, depth, heads, heads, max(ROUND, round(width * 8 / 3 / ROUND) * ROUND), context)


def width_at(depth: int) -> float:
    """The published line: Levine et al. 2020."""
    return math.exp(5.039 + 0.0555 * depth)


def batch_tokens_for(compute: float) -> float:
    """Tokens of a step for `compute` FLOPs in all: DeepSeek LLM 2024, equation 1."""
    return 0.2920 * compute**0.3271


def learning_rate_for(compute: float) -> float:
    """The same equation's learning rate."""
    return 0.3118 * compute**-0.1250


def warmup_for(steps: int) -> int:
    """Steps over which the rate rises: a fiftieth, 10 to 2,000, and no more than a tenth."""
    return min(2000, max(1, min(steps // 10, max(10, steps // 50))))


def params_for(compute: float) -> float:
    """Parameters that `compute` FLOPs train on TOKENS_PER_PARAM each: C = 6 N D."""
    return math.sqrt(compute / (6 * TOKENS_PER_PARAM))


def _badness(shape: Shape, params: int) -> float:
    """How far from the asked size and from the published line, both as logarithms."""
    off_line = abs(math.log(shape.width / width_at(shape.depth)))
    return off_line + 4 * max(0.0, abs(math.log(shape.n_params / params)) - 0.1)


def recipe(*, params: int, vocab: int, context: int = 512, tokens: int | None = None) -> Recipe:
    """Everything that follows from the number of parameters. `tokens`: fewer or more than 20 per parameter, where
    there are not as many, or where the model is to be used much. Raises: UsageError."""
    shape = shape_for(params, vocab=vocab, context=context)
    return _recipe_of(shape, tokens or TOKENS_PER_PARAM * shape.n_params)


def _recipe_of(shape: Shape, n_tokens: int) -> Recipe:
    context, compute = shape.context, float(shape.flops_per_token) * n_tokens
    rows = max(1, round(batch_tokens_for(compute) / context))
    rate = min(MAX_RATE, learning_rate_for(compute))
    steps = max(1, round(n_tokens / (rows * context)))
    return Recipe(shape, steps * rows * context, rows * context, rate, warmup_for(steps), steps, compute)


def recipe_for_budget(*, hours: float, flops_per_s: float, vocab: int, context: int = 512) -> Recipe:
    """What `hours` of a machine buy at `flops_per_s` (see `measured_flops_per_s`): C = 6 N D with D = 20 N.

    Raises: UsageError where that is not even the smallest model, with the hours that would be.
    """
    compute = hours * 3600 * flops_per_s
    params = params_for(compute)
    if params < MIN_PARAMS:
        need = 6 * TOKENS_PER_PARAM * MIN_PARAMS**2 / flops_per_s / 3600
        raise UsageError(f"{hours:g} hours are too few here", hint=f"give at least {need:.2g} hours, or tune a model")
    for _ in range(3):  # attention costs beyond 6 N D: shrink until 20 tokens per parameter fit
        shape = shape_for(max(MIN_PARAMS, int(params)), vocab=vocab, context=context)
        params = math.sqrt(compute / (TOKENS_PER_PARAM * shape.flops_per_token / shape.n_params))
    return _recipe_of(shape, max(context, int(compute / shape.flops_per_token)))


def measured_flops_per_s(*, width: int = 256, rows: int = 1024, seconds: float = 1.0) -> float:
    """What this process gets out of the machine: matrix products of a small model's size, times 0.6, the share that
    a whole training step of a 2 M-parameter model reached (the rest is attention, norms, optimiser and loading)."""
    import torch

    left, right = torch.randn(rows, width), torch.randn(width, 4 * width)
    began, n = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < seconds:
        left @ right
        n += 1
    return 0.6 * n * 2 * rows * width * 4 * width / spent
