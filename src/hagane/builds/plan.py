"""What a stage of train.yaml will cost, before anything runs: parameters, tokens, FLOPs, memory, hours and money.

    planned = plan(spec, "tune", machine=this_machine(folder), data=amount, base=Path("models/base"))
    print(shown(planned)); require(planned)

No weights are loaded and nothing heavy is imported: sizes come from config.json or a GGUF header, speed from a second
of measuring. `shown`: plan_text.py. After the run `compare` says how good the plan was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from hagane.core.errors import RefusedError, UsageError
from hagane.core.prices import Prices, own_machine
from hagane.core.prices import prices as shipped

from .amount import Amount
from .cost import FIT, Fit, Flops, Job, flops, seconds
from .decoder import Decoder, from_shape, read_decoder
from .machine import Machine
from .offers import MARGIN, Offer, gigabytes, gpu_offers, here, named
from .reach import notes_of, torchtitan_of
from .settle import context_of, params_of, recipe_of, settle, vocab_for
from .space import Disk, Memory, disk, memory
from .spec import Stage, TrainFile

_ROUNDS = 6  # of finding the model that a budget of hours buys


@dataclass(frozen=True, slots=True)
class Plan:
    """Of one stage. `tokens`: of a row; `n_tokens`: that go through the model in the whole run, padding included.
    `flops`: of the whole run. `flops_per_s`: what this machine reaches on this very job. `titan`: a torchtitan
    configuration where our own loop ends, else ""."""

    name: str
    stage: Stage
    base: str
    decoder: Decoder
    n_params: int
    n_trained: int
    tokens: int
    rows: int
    micro_rows: int
    steps: int
    rate: float
    optimiser: str
    epochs: float
    n_tokens: float
    estimated: bool
    flops: Flops
    flops_per_s: float
    seconds_per_step: float
    memory: Memory
    disk: Disk
    free_disk: float
    speed_by: str
    here: Offer
    gpus: tuple[Offer, ...]
    notes: tuple[str, ...]
    titan: str

    def json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {**asdict(self), "notes": list(self.notes), "gpus": [asdict(one) for one in self.gpus]}


def plan(
    spec: TrainFile, stage: Stage, *, machine: Machine, data: Amount | None = None, base: Path | Decoder | None = None,
    vocab: int = 0, prices: Prices | None = None, today: date | None = None, fit: Fit = FIT,
) -> Plan:  # fmt: skip
    """The plan of one stage. `data` None: as much as the stage wants (pretrain) or 1,000 short examples. `base`: of a
    stage that begins with a model: its folder, GGUF file, or the decoder of the plan of the stage before.

    Raises: UsageError (a budget too small, no base), ModelError for a base whose sizes cannot be read. What does not
    fit is said in the plan; `require` refuses it."""
    if stage == "tokenizer":
        raise UsageError("a tokenizer takes minutes and is not planned", hint="plan pretrain, tune or prefer")
    table, day = prices or shipped(), today or date.today()
    decoder, job, settled, speed = _job(spec, stage, machine, data, base, vocab, fit)
    step_s, made = seconds(job, machine.speed, fit), flops(job)
    need, files = memory(job), disk(job, keep=settled.keep)
    mine = here(job, step_s, need, files, machine, table=table, day=day)
    n_tokens = float(job.positions) * job.steps
    whole = Flops(*(value * job.steps for value in asdict(made).values()))
    offers = gpu_offers(job, table=table, day=day)
    epochs = n_tokens / (data.packed(job.tokens) * job.tokens) if data else 0.0
    origin = base.name if isinstance(base, Path) else "" if spec.is_from_scratch(stage) else "the stage before"
    return Plan(
        spec.name, stage, origin, decoder, decoder.n_params, job.n_trained, job.tokens, job.rows, job.micro_rows,
        job.steps, settled.rate, job.optimiser, epochs, n_tokens, bool(data and data.estimated) or data is None, whole,
        speed, step_s, need, files, machine.disk, machine.speed.by, mine, offers,
        notes_of(spec, stage, job, mine, offers, data=data, speed=machine.speed), torchtitan_of(spec, stage, job, settled, offers),
    )  # fmt: skip


def plan_all(
    spec: TrainFile, *, machine: Machine, data: Mapping[str, Amount] | None = None, bases: Mapping[str, Path] | None = None,
    vocab: int = 0, prices: Prices | None = None, today: date | None = None, without: Collection[Stage] = (),
) -> tuple[Plan, ...]:  # fmt: skip
    """Every stage but the tokenizer, each on what the stage before would make. `data` and `bases` by stage. `without`:
    stages that cannot be planned, with those that go on from them."""
    found: list[Plan] = []
    for stage in spec.stages:
        if stage == "tokenizer" or stage in without:
            continue
        base: Path | Decoder | None = (bases or {}).get(stage)
        if base is None and found:
            base = found[-1].decoder
        found.append(
            plan(spec, stage, machine=machine, data=(data or {}).get(stage), base=base, vocab=vocab, prices=prices, today=today)
        )
    return tuple(found)


def require(planned: Plan) -> None:
    """Raises: RefusedError for what does not fit into this machine's memory or disk, with what would."""
    if planned.here.fits:
        return
    cloud = min((one for one in planned.gpus if one.fits), key=lambda one: one.usd, default=None)
    hint = _smaller(planned) or (f"rent {named(cloud)}, or {_less(planned)}" if cloud else _less(planned))
    raise RefusedError(f"{planned.stage} does not fit here: {planned.here.why}", hint=hint)


def flops_per_s(spec: TrainFile, stage: Stage, *, machine: Machine, **rest: Any) -> float:
    """What this machine reaches on the stage: for `settle`, so that a budget of hours takes that long."""
    return plan(spec, stage, machine=machine, **rest).flops_per_s


def _job(
    spec: TrainFile, stage: Stage, machine: Machine, data: Amount | None, base: Path | Decoder | None, vocab: int, fit: Fit
) -> tuple[Decoder, Job, Any, float]:
    """The decoder, the job, what was settled, and the FLOP/s that the job reaches."""
    speed, job, settled, decoder = machine.speed.products * 0.6, None, None, None
    for _ in range(_ROUNDS if spec.is_from_scratch(stage) and spec.pretrain.budget else 1):  # type: ignore[union-attr]
        decoder, recipe = _decoder(spec, stage, base, vocab, speed)
        job, settled = _settled(spec, stage, decoder, recipe, data, speed)
        counted = float(recipe.shape.flops_per_token) * job.positions if recipe else flops(job).total  # as the recipe spends
        reached = counted / seconds(job, machine.speed, fit)
        close, speed = abs(reached / speed - 1) < 0.02, reached
        if close:
            break
    assert job is not None and decoder is not None
    return decoder, job, settled, speed


def _decoder(spec: TrainFile, stage: Stage, base: Path | Decoder | None, vocab: int, speed: float) -> tuple[Decoder, Any]:
    if spec.is_from_scratch(stage):
        told = spec.tokenizer.vocab if spec.tokenizer is not None else 0
        recipe = recipe_of(spec, vocab=vocab or told or vocab_for(params_of(spec, flops_per_s=speed)), flops_per_s=speed)
        return from_shape(recipe.shape, spec.pretrain.family), recipe  # type: ignore[union-attr]
    if base is None:
        raise UsageError(f"{stage} begins with a model, and none was given", hint="name its base in train.yaml")
    return (base if isinstance(base, Decoder) else read_decoder(base)), None


def _settled(spec: TrainFile, stage: Stage, decoder: Decoder, recipe: Any, data: Amount | None, speed: float) -> tuple[Job, Any]:
    adapter = spec.adapter_of(stage)
    tokens = context_of(spec, stage, longest=decoder.longest if recipe is None else None)
    amount = data or Amount(recipe.tokens if recipe else 300_000, 1000, 1.0 if recipe else 0.4, estimated=True)
    per_token = float(recipe.shape.flops_per_token) if recipe else 6.0 * decoder.n_params
    settled = settle(
        spec, stage, tokens=tokens, n_rows=amount.packed(tokens), n_params=decoder.n_params, flops_per_token=per_token,
        flops_per_s=speed, recipe=recipe,
    )  # fmt: skip
    job = Job(
        decoder, tokens, settled.rows, settled.micro_rows, settled.steps, settled.optimiser, labelled=amount.labelled,
        document=amount.document, rank=adapter.rank if adapter else 0, targets=adapter.targets if adapter else (),
        objective="preference" if stage == "prefer" else "next_token", bf16=settled.bf16,
        quantised=bool(adapter and adapter.quantised),
    )  # fmt: skip
    return job, settled


def _smaller(planned: Plan) -> str:
    """Fewer rows at once, where that is enough; "" where it is not."""
    if "memory" not in planned.here.why:
        return ""
    most = min(planned.rows, planned.micro_rows)
    for rows in range(most - 1, 0, -1):
        fewer = replace(planned.memory, activations=planned.memory.activations * rows / most, accumulated=True)
        need = fewer.total
        if need * MARGIN <= planned.here.room:
            return f"set {planned.stage}.training.micro_rows to {rows}: that needs {gigabytes(need * MARGIN)}"
    return ""


def _less(planned: Plan) -> str:
    if "disk" in planned.here.why:
        return "free space, or keep fewer checkpoints (training.keep)"
    if planned.stage == "pretrain":
        return "take fewer parameters"
    return "tune an adapter instead of every weight" if planned.n_trained == planned.n_params else "take a smaller base"


@dataclass(frozen=True, slots=True)
class Compared:
    """Predicted against measured. Ratios are measured / predicted; 0 where nothing was measured."""

    predicted_s: float
    measured_s: float
    seconds_ratio: float
    predicted_bytes: float
    measured_bytes: float
    memory_ratio: float
    flops: float
    kwh: float

    def json(self) -> dict[str, float]:
        return asdict(self)


def compare(planned: Plan | Mapping[str, Any], measured: Mapping[str, Any], *, prices: Prices | None = None) -> Compared:
    """How good the plan was, for the ledger. `planned`: the plan or its JSON; `measured`: seconds and steps of the run,
    peak_bytes of its process where known. The prediction is for as many steps as were done."""
    told = planned.json() if isinstance(planned, Plan) else planned
    steps = float(measured.get("steps") or told["steps"])
    share = steps / max(1, told["steps"])
    predicted, spent = told["seconds_per_step"] * steps, float(measured.get("seconds") or 0.0)
    peak, need = float(measured.get("peak_bytes") or 0.0), float(told["here"]["memory"])
    made = told["flops"]
    total = (made["forward"] + made["backward"] + made["optimiser"]) * share
    kwh = own_machine(prices or shipped(), spent / 3600).kwh
    return Compared(
        predicted, spent, spent / predicted if predicted else 0.0, need, peak, peak / need if need else 0.0, total, kwh
    )

