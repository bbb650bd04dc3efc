"""The one training loop: pre-training, continued pre-training, fine-tuning, adapters and preferences.

    batch(step) -> micro-batches -> summed gradients -> clip -> optimiser -> event, checkpoint

A step is a pure function of the state before it and of `data.batch(step)`, so a run that is killed at any instant and
started again ends with the same bits (on the CPU). The loss is a sum divided by the count of labels of the *global*
batch: how it is cut into micro-batches and over ranks changes nothing but rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from hagane.core.errors import StateError

from . import checkpoint
from .fp8 import use_fp8
from .model import compile_layers, plain
from .objectives import BLANK, Micro, Objective, Scored
from .optim import Kind, Optimisers, schedule
from .ranks import Ranks
from .words import NO_DOCUMENT, Batch

EventKind = Literal["resumed", "damaged", "step", "halved", "dev", "saved", "stopped", "done"]


class Data(Protocol):
    """Where batches come from: a pure function of the step, whatever the number of processes."""

    def batch(self, step: int) -> Batch: ...  # the global one; every rank takes its rows of it
    def state(self, step: int) -> tuple[int, int, int]: ...  # seed, epoch, step within the epoch
    def documents(self, step: int, row: int) -> Sequence[str]: ...  # ids of what a row of the batch holds


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened after `step` steps. "step" carries loss (nats per label), gradient_norm, learning_rate,
    tokens, tokens_per_s, remaining_s, and what the objective adds (nothing of the batch earns loss: no loss, no norm);
    "dev" loss and best; "halved" rows."""

    kind: EventKind
    step: int
    values: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run is done. What changes the weights is held against the checkpoint when a run goes on."""

    steps: int
    learning_rate: float
    warmup_steps: int = 10
    decay: float = 0.2  # share of the steps at the end over which the rate falls
    optimiser: Kind = "muon"
    weight_decay: float = 0.1
    clip: float = 1.0  # largest norm of the gradient
    micro_rows: int = 8  # rows at once on one rank; halved when memory runs out
    seed: int = 0
    bf16: bool = False  # products in bfloat16, weights stay fp32 (GPUs)
    fp8: bool = False  # products inside the blocks in eight bits, for experts (GPUs of capability 8.9 and later)
    compile: bool = False  # torch.compile: minutes at the start, faster steps afterwards
    save_every: int = 100
    keep: int = 3
    dev_every: int = 0  # 0: no evaluation
    patience: int = 0  # evaluations without a better dev loss before the run ends; 0: never

    def fixed(self) -> dict[str, Any]:
        """What may not change within a run."""
        names = ("steps", "learning_rate", "warmup_steps", "decay", "optimiser", "weight_decay", "clip", "seed", "bf16")
        switched = {name: True for name in ("fp8", "compile") if getattr(self, name)}
        return {name: getattr(self, name) for name in names} | switched


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended. `losses`: of the steps that this process did and that had something to learn."""

    step: int
    losses: tuple[float, ...]
    dev_loss: float | None
    why: Literal["done", "stopped", "no_longer_better"]


class Learner(torch.nn.Module):
    """Model and objective as one module, so that sharding gathers the head's weights like all others."""

    def __init__(self, model: torch.nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, micro: Micro) -> Scored:
        return self.objective.score(self.model, micro)


class Run:
    """One training run. `train` is the way in; the pieces are methods so that tests can do a step by hand."""

    def __init__(
        self,
        model: torch.nn.Module,
        objective: Objective,
        data: Data,
        settings: Settings,
        *,
        folder: Path | None = None,
        ranks: Ranks = Ranks(),  # noqa: B008 - frozen
        dev: Sequence[Batch] = (),
        watch: Callable[[Event], None] = lambda event: None,
        stop: Callable[[], bool] = lambda: False,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        self.objective, self.data, self.settings, self.ranks = objective, data, settings, ranks
        self.folder, self.dev, self.watch, self.stop = folder, dev, watch, stop
        self.facts = dict(facts or {})
        self.device = next(model.parameters()).device
        if settings.fp8:
            use_fp8(model)
        if settings.compile:
            compile_layers(model)
        self.learner = Learner(model, objective)
        if ranks.sharded:
            self.learner = ranks.split(self.learner, _layers(model))
        self.optimisers = Optimisers(
            self.learner.model,
            kind=settings.optimiser,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.step, self.micro_rows = 0, settings.micro_rows
        self.best, self.since_best = math.inf, 0
        torch.manual_seed(settings.seed * 1_000_003 + ranks.rank)  # dropout; what is drawn is kept in checkpoints

    # -- a step -----------------------------------------------------------------------------------------------------

    def do_step(self) -> dict[str, float]:
        """One step. Where nothing of the batch earns loss (rows of a long prompt) it changes nothing and is counted.
        Raises: StateError when the loss or gradient is not a finite number; the weights are then still those of the
        step before."""
        batch = self.data.batch(self.step)
        if self.objective.weight(batch) == 0:
            return self._passed_over(batch)
        rows = self._rows_of(batch)
        sums = self._accumulate_within_memory(batch, rows)
        self.ranks.add_gradients(self.optimisers.parameters)
        norm = self._clip()
        if not math.isfinite(sums["loss"]) or not math.isfinite(norm):
            raise self._not_finite(batch, "loss" if not math.isfinite(sums["loss"]) else "gradient")
        factor = self._factor()
        self.optimisers.step(factor)
        self.optimisers.forget_gradients()
        self.step += 1
        told = {"learning_rate": factor * self.settings.learning_rate, "tokens": _n_tokens(batch)}
        return {**sums, "gradient_norm": norm, **told}

    def _factor(self) -> float:
        settings = self.settings
        return schedule(self.step, steps=settings.steps, warmup=settings.warmup_steps, decay=settings.decay)

    def _passed_over(self, batch: Batch) -> dict[str, float]:
        told = {"learning_rate": self._factor() * self.settings.learning_rate, "tokens": _n_tokens(batch)}
        self.step += 1
        return told

    def _rows_of(self, batch: Batch) -> list[int]:
        """This rank's rows. Sharded ranks must all do equally many (they exchange weights on the way): BLANK rows,
        of which nothing is learnt, fill up."""
        n_rows = len(batch.ids_BT)
        mine = self.ranks.mine(n_rows)
        return mine + [BLANK] * (-(-n_rows // self.ranks.world) - len(mine)) if self.ranks.sharded else mine

    def _accumulate_within_memory(self, batch: Batch, rows: list[int]) -> dict[str, float]:
        """The same step with half the rows at once, as often as it takes."""
        while True:
            try:
                return self.accumulate(batch, rows)
            except (MemoryError, RuntimeError) as cause:
                if not _is_out_of_memory(cause):
                    raise
                if self.micro_rows == 1 or self.ranks.sharded:
                    raise StateError(
                        f"step {self.step}: the memory does not hold {self.micro_rows} rows of {batch.ids_BT.shape[1]} tokens",
                        hint="take a shorter context, a smaller model or an adapter"
                        if self.micro_rows == 1
                        else "set fewer micro_rows",
                    ) from cause
            self.optimisers.forget_gradients()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.micro_rows = max(1, min(self.micro_rows, len(rows)) // 2)
            self._tell("halved", rows=self.micro_rows)

    def accumulate(self, batch: Batch, rows: list[int]) -> dict[str, float]:
        """Gradients of the rows, added up; the loss and the objective's numbers, over all ranks."""
        weight = self.objective.weight(batch)
        if weight == 0:
            raise StateError(
                f"step {self.step}: nothing of the batch earns loss", hint="look at the data with a preview"
            )
        names: tuple[str, ...] = ()
        totals = torch.zeros(8, dtype=torch.float64)
        for at in range(0, len(rows), self.micro_rows):
            scored = self._score(Micro.of(batch, rows[at : at + self.micro_rows], device=self.device))
            if scored.total.requires_grad:
                (scored.total / weight).backward()
            names = tuple(sorted(scored.sums))
            totals[0] += float(scored.total.detach())
            for n, name in enumerate(names, start=1):
                totals[n] += scored.sums[name]
        self.ranks.add(totals)
        means = (totals / weight).tolist()
        return {"loss": means[0], **{name: means[n] for n, name in enumerate(names, start=1)}}

    def _score(self, micro: Micro) -> Scored:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.bf16):
            return self.learner(micro)

    def _clip(self) -> float:
        gradients = [one.grad for one in self.optimisers.parameters if one.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        torch.nn.utils.clip_grads_with_norm_(self.optimisers.parameters, self.settings.clip, norm)
        return float(norm)

    def _not_finite(self, batch: Batch, what: str) -> StateError:
        """Which rows do it: each is computed by itself with the weights as they were."""
        self.optimisers.forget_gradients()
        bad = torch.zeros(len(batch.ids_BT), dtype=torch.int64)
        for row in self._rows_of(batch):
            with torch.no_grad():
                bad[max(row, 0)] += not bool(
                    torch.isfinite(self._score(Micro.of(batch, [row], device=self.device)).total)
                )
        rows = [n for n, found in enumerate(self.ranks.add(bad).tolist()) if found] or list(range(len(bad)))
        documents = sorted({name for row in rows for name in self.data.documents(self.step, row)})
        shown = ", ".join(documents[:20]) + (f" and {len(documents) - 20} more" if len(documents) > 20 else "")
        return StateError(
            f"the {what} of step {self.step} is not a number; rows {rows[:20]} of its batch, documents {shown}",
            hint="the last good checkpoint is kept; look at these documents, or take a lower learning rate",
        )

    # -- dev loss ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def dev_loss(self) -> float:
        """Mean over every label of the dev batches; dropout off."""
        total, weight = torch.zeros((), dtype=torch.float64), 0
        self.learner.eval()
        try:
            for batch in self.dev:
                rows = self._rows_of(batch)
                for at in range(0, len(rows), self.micro_rows):
                    total += float(
                        self._score(Micro.of(batch, rows[at : at + self.micro_rows], device=self.device)).total
                    )
                weight += self.objective.weight(batch)
        finally:
            self.learner.train()
        return float(self.ranks.add(total)) / max(1, weight)

    def _evaluate(self) -> bool:
        """False when the dev loss has not become better for `patience` evaluations."""
        loss = self.dev_loss()
        better = loss < self.best
        self.best, self.since_best = (loss, 0) if better else (self.best, self.since_best + 1)
        self._tell("dev", loss=loss, best=self.best)
        return not self.settings.patience or self.since_best < self.settings.patience

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Everything that the next step depends on."""
        if self.folder is None:
            return
        facts = {
            "data": list(self.data.state(self.step)),
            "settings": self.settings.fixed(),
            "micro_rows": self.micro_rows,
            "best": self.best if math.isfinite(self.best) else None,
            "since_best": self.since_best,
            "facts": self.facts,
        }
        state = (*self.optimisers.state(), *_random_state(self.ranks.rank, self.device))
        checkpoint.save(self.folder, self.step, state, facts=facts, ranks=self.ranks, keep=self.settings.keep)
        self._tell("saved")

    def resume(self) -> bool:
        """Go on from the newest sound checkpoint; False where there is none. Raises: StateError for one of another
        run (settings, data, model or base)."""
        found = checkpoint.latest(self.folder) if self.folder is not None else None
        if found is None:
            return False
        for name in found.damaged:
            self._tell("damaged", folder=name)
        for what, here in (("settings", self.settings.fixed()), ("facts", self.facts)):
            differing = sorted(key for key in here if found.facts[what].get(key) != here[key])
            if differing:
                raise StateError(
                    f"the checkpoint was made with another {differing[0]}: {found.facts[what].get(differing[0])!r}",
                    hint="set it back, or give this run another folder",
                )
        if found.facts["data"] != list(self.data.state(found.step)):
            raise StateError("the checkpoint was made from other data", hint="give this run another folder")
        self.optimisers.load(found.tensors)
        _set_random_state(found.tensors, self.ranks.rank, self.device)
        self.step, self.micro_rows = found.step, min(self.settings.micro_rows, found.facts["micro_rows"])
        self.best = math.inf if found.facts["best"] is None else found.facts["best"]
        self.since_best = found.facts["since_best"]
        self._tell("resumed")
        return True

    # -- the whole --------------------------------------------------------------------------------------------------

    def go(self) -> Finished:
        """From where it stands to the end. Raises: StateError when not one step had anything to learn."""
        losses: list[float] = []
        why: Literal["done", "stopped", "no_longer_better"] = "done"
        began, n_tokens, first = time.perf_counter(), 0, self.step
        ended = bool(self.settings.patience) and self.since_best >= self.settings.patience
        if ended and self.settings.dev_every and self.dev:  # before it was killed
            why = "no_longer_better"
        while self.step < self.settings.steps and why != "no_longer_better":
            if self._asked_to_stop():
                why = "stopped"
                break
            numbers = self.do_step()
            losses += [numbers["loss"]] if "loss" in numbers else []
            n_tokens += int(numbers["tokens"])
            spent = time.perf_counter() - began
            pace = {
                "tokens_per_s": n_tokens / spent,
                "remaining_s": spent / (self.step - first) * (self.settings.steps - self.step),
            }
            self._tell("step", **numbers, **pace)
            due = self.settings.dev_every and self.dev and self.step % self.settings.dev_every == 0
            if due and not self._evaluate():
                why = "no_longer_better"
                break
            if self.step % self.settings.save_every == 0 and self.step < self.settings.steps:
                self.save()
        if first == 0 < self.step and not losses and why != "stopped":
            raise StateError("nothing of the data earns loss", hint="look at the data with a preview")
        if self.step > first or why == "stopped":
            self.save()
        self._tell("stopped" if why == "stopped" else "done", why=why)
        return Finished(self.step, tuple(losses), self.best if math.isfinite(self.best) else None, why)

    def _asked_to_stop(self) -> bool:
        """All ranks stop at the same step: if one is asked, all are."""
        return bool(self.ranks.add(torch.tensor(int(self.stop()))))

    def _tell(self, kind: EventKind, **values: float | int | str) -> None:
        if self.ranks.rank == 0:
            self.watch(Event(kind, self.step, values))


def train(model: torch.nn.Module, objective: Objective, data: Data, settings: Settings, **rest: Any) -> Finished:
    """Train the model in place: resume where a checkpoint is, run to the end, keep what was learnt.

    `rest`: folder, ranks, dev, watch, stop, facts (see `Run`). Raises: StateError (not a number, memory, another
    run's checkpoint), StorageError (disk full): what was saved before is kept.
    """
    run = Run(model, objective, data, settings, **rest)
    run.resume()
    return run.go()


def _n_tokens(batch: Batch) -> int:
    return int((batch.documents_BT != NO_DOCUMENT).sum())


def _layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    base = plain(model)
    decoder = getattr(base, base.base_model_prefix)
    return list(decoder.layers if hasattr(decoder, "layers") else decoder.h)


def _is_out_of_memory(cause: BaseException) -> bool:
    said = str(cause)
    return isinstance(cause, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in said


def _random_state(rank: int, device: torch.device) -> list[tuple[str, torch.Tensor]]:
    found = [(f"random/cpu@{rank}", torch.get_rng_state())]
    if device.type == "cuda":
        found.append((f"random/cuda@{rank}", torch.cuda.get_rng_state(device)))
    return found


def _set_random_state(saved: Mapping[str, torch.Tensor], rank: int, device: torch.device) -> None:
    """A rank that was not there before keeps the state it began with."""
    if (state := saved.get(f"random/cpu@{rank}")) is not None:
        torch.set_rng_state(state)
    if device.type == "cuda" and (state := saved.get(f"random/cuda@{rank}")) is not None:
        torch.cuda.set_rng_state(state, device)
