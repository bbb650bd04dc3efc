"""The stages that train a model: pretrain, tune, prefer. From prepared data to a Hugging Face folder or an adapter.

Everything that a step depends on is settled before the first one and kept in state.json: a run that was killed reads it
again, opens its newest sound checkpoint, and ends with the bits of a run that was not.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hagane.core.errors import StoppedError
from hagane.core.labels import PUBLIC, Label, join
from hagane.core.seams import Sealer
from hagane.train.template import BY_ARCHITECTURE

from .data import Prepared, prepare
from .place import Log, Place, take_place
from .settle import context_of, loop_settings, recipe_of, settle
from .spec import Stage, TrainFile

LINES = 2000  # steps of a run that events.jsonl keeps; more are thinned out
TELL_S = 0.5  # the parent hears of steps at most this often
SAMPLE_TOKENS, SAMPLE_S = 48, 4.0
LEAST_CONTEXT = 1024
QUESTION = "有給休暇は何日ですか。"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
                   "generation_config.json", "hagane.json")  # fmt: skip


class Training:
    """One stage of one run. `go` is all there is to call."""

    def __init__(
        self, spec: TrainFile, stage: Stage, job: Mapping[str, Any], *, place: Place, log: Log,
        emit: Callable[[Mapping[str, Any]], None], stop: Callable[[], bool], sealer: Sealer | None = None,
    ) -> None:  # fmt: skip
        self.sealer = sealer
        self.spec, self.stage, self.job, self.place, self.log = spec, stage, job, place, log
        self._emit, self._stop = emit, stop
        self.config = getattr(spec, stage)
        self.licence = ""
        self._told_at = self._sample_at = 0.0

    def go(self, documents: Callable[[], Iterable[Any]]) -> dict[str, Any]:
        """What was made. Raises: StoppedError, and what data, model and loop raise: checkpoints are then kept."""
        from hagane.train.device import use_threads
        from hagane.train.encoder import encoder_of, open_vocabulary
        from hagane.train.model import n_parameters

        use_threads(self.job["threads"])
        kept = self.place.state().get("settings") or {}
        folder, template, base_label = self._base()
        self.vocabulary = open_vocabulary(folder, template)
        speed = kept.get("flops_per_s") or self._speed()
        recipe = recipe_of(self.spec, vocab=self.vocabulary.n_tokens, flops_per_s=speed) if self._from_scratch else None
        model = self._model(folder, recipe, seed=self.config.training.seed)
        tokens = context_of(self.spec, self.stage, longest=_longest(model))
        data = prepare(
            self.spec, self.stage, documents=documents, folder=Path(self.job["datasets"]), encoder=encoder_of(self.vocabulary),
            root=Path(self.job["root"]), default=Label.parse(self.job["label"]), tokens=tokens, sealer=self.sealer, emit=self._tell,
            stop=self._stop,
            labels={name: Label.parse(text) for name, text in self.job["labels"].items()},
        )  # fmt: skip
        self.label = join(base_label, data.label, Label.parse(self.job["label"]))
        n_params = n_parameters(model)
        if not kept:
            kept = settle(
                self.spec, self.stage, tokens=data.T, n_rows=data.n_rows, n_params=n_params,
                flops_per_token=_flops(model, tokens), flops_per_s=speed, recipe=recipe,
                gpu=next(model.parameters()).is_cuda,
            ).json() | {"flops_per_s": speed, "n_params": n_params}  # fmt: skip
            self.place.note(settings=kept)
        self._tell({"event": "settled", **kept, "label": str(self.label)})
        return self._train(model, data.fed(rows=kept["rows"], seed=kept["seed"]), kept, folder)

    # -- what it begins with

    @property
    def _from_scratch(self) -> bool:
        return self.spec.is_from_scratch(self.stage)

    def _speed(self) -> float:
        """FLOP/s that this machine reaches on the stage, as plan sees it: a budget of hours then takes that long."""
        from hagane.train.scaling import measured_flops_per_s

        from .machine import this_machine
        from .plan import flops_per_s

        if not self._from_scratch:
            return measured_flops_per_s()
        machine = this_machine(self.place.folder, threads=self.job["threads"])
        return flops_per_s(self.spec, self.stage, machine=machine, vocab=self.vocabulary.n_tokens)

    def _base(self) -> tuple[Path, str, Label]:
        """(folder of the tokenizer or base, template, label)."""
        if self._from_scratch:
            return Path(self.job["tokenizer"]), BY_ARCHITECTURE[self.config.family], PUBLIC
        from .base import open_base

        base = open_base(self.job["base"], default=Label.parse(self.job["base_label"]))
        self.licence = base.licence
        return base.folder, getattr(self.config, "template", None) or base.family, base.label

    def _model(self, folder: Path, recipe: Any | None, *, seed: int) -> Any:
        from hagane.train.device import placed
        from hagane.train.model import from_scratch
        from hagane.train.model_folder import load_folder
        from hagane.train.tune import load_adapter, merge

        if recipe is not None:
            later = [context_of(self.spec, stage) for stage in self.spec.stages if stage in ("tune", "prefer")]
            longest = max(recipe.shape.context, LEAST_CONTEXT, *later)  # what it is tuned and asked with may be longer
            model = from_scratch(
                self.config.family, recipe.shape, seed=seed, ends=self.vocabulary.ends, max_position_embeddings=longest
            )
        else:
            model = load_folder(folder)
            if self.job.get("adapter"):  # the stage before made an adapter: this one goes on from both
                model = merge(load_adapter(model, Path(self.job["adapter"])))
        return placed(model)

    # -- the training itself

    def _train(self, model: Any, data: Prepared, kept: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        from hagane.train.fingerprint import fingerprint
        from hagane.train.loop import Run

        settings = loop_settings(kept)
        facts = {"model": fingerprint(model), "stage": self.stage, "data": data.mark}
        adapter = self.spec.adapter_of(self.stage)
        judge = None
        if adapter is not None:
            from hagane.train.quantised import quantise
            from hagane.train.tune import Lora, add_adapter

            if adapter.quantised:
                quantise(model)
            targets = adapter.targets or "all-linear"
            alpha = adapter.alpha or 2 * adapter.rank
            model = add_adapter(model, Lora(adapter.rank, alpha, adapter.dropout, targets), seed=kept["seed"])
        elif self.stage == "prefer":
            judge = _frozen(model)
        self._data, self._kept, self._model_now = data, kept, model
        run = Run(
            model, self._objective(judge), data.feed, settings, folder=self.place.checkpoints, dev=data.dev, facts=facts,
            watch=self._watch, stop=self._stop,
        )  # fmt: skip
        began = self.place.state().get("seconds", 0.0)
        started = time.perf_counter()
        try:
            run.resume()
            done = run.go()
        finally:
            self.place.note(seconds=round(began + time.perf_counter() - started, 2))
        if done.why == "stopped":
            raise StoppedError(f"stopped after {done.step} of {settings.steps} steps", hint="the same command goes on")
        return self._made(model, done, folder)

    def _objective(self, judge: Any | None) -> Any:
        from hagane.train.objectives import NextToken, Preference

        return Preference(self.config.beta, judge) if self.stage == "prefer" else NextToken()

    # -- events

    def _tell(self, event: Mapping[str, Any]) -> None:
        self.log.write(event)
        self._emit(event)

    def _watch(self, event: Any) -> None:
        values = {name: _short(value) for name, value in event.values.items()}
        told = {"event": event.kind, "step": event.step, **values}
        if event.kind == "resumed":
            self.log.resume(event.step)
        if event.kind == "step":
            told["total"] = self._kept["steps"]
            if event.step % max(1, self._kept["steps"] // LINES) == 0 or event.step == self._kept["steps"]:
                self.log.write(told)
            if time.monotonic() - self._told_at >= TELL_S or event.step == self._kept["steps"]:
                self._told_at = time.monotonic()
                self._emit(told)
            return
        if event.kind == "dev" and self._bits(0.0) is not None:
            told["bits_per_byte"] = _short(self._bits(event.values["loss"]))
        self._tell(told)
        if event.kind == "dev" and self.job["samples"] and time.monotonic() >= self._sample_at and not self._stop():
            began = time.monotonic()
            self._tell({"event": "sample", "step": event.step, **self._sample()})
            self._sample_at = time.monotonic() + 10 * (time.monotonic() - began)

    def _bits(self, loss: float | None) -> float | None:
        """Bits per byte from nats per token; None for preferences, whose loss is of pairs."""
        if loss is None or self.stage == "prefer" or not self._data.bytes_per_token:
            return None
        return loss / (math.log(2) * self._data.bytes_per_token)

    def _sample(self) -> dict[str, Any]:
        """A greedy beginning of an answer to QUESTION, or of a text; it may cost a tenth of the time at most."""
        from hagane.train.encoder import opening
        from hagane.train.sample import say

        question = None if self.stage == "pretrain" else QUESTION
        ends = {number for number in self.vocabulary.ends.values() if number is not None}
        ids = say(self._model_now, opening(self.vocabulary, question), n=SAMPLE_TOKENS, ends=ends, seconds=SAMPLE_S)
        return {"prompt": question or "", "text": self.vocabulary.to_text(ids)}

    # -- what came of it

    def _made(self, model: Any, done: Any, folder: Path) -> dict[str, Any]:
        from hagane.train.model import n_parameters
        from hagane.train.model_folder import save_folder
        from hagane.train.tune import save_adapter

        aside = self.place.folder / ".making"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        kind = "adapter" if self.spec.adapter_of(self.stage) is not None else "hf"
        longest, n_params, base = _longest(model), n_parameters(model), folder
        if kind == "adapter":
            save_adapter(model, aside / kind)
            if self.config.adapter.quantised or self.job.get("adapter"):  # it belongs to what the base became
                n_params = self._keep_base(model, folder, aside / "base")
                base = self.place.out / "base"
        else:
            save_folder(model, aside / kind)
        self._dress(folder, aside / kind)
        take_place(aside, self.place.out)
        state = self.place.state()
        tokens = done.step * self._kept["rows"] * self._kept["tokens"]
        losses = [event for event in _steps(self.place) if "loss" in event]
        dev = done.dev_loss
        return {
            "stage": self.stage, "kind": kind, "folder": str(self.place.out / kind), "base_folder": str(base), "own_base": base != folder,
            "label": str(self.label), "steps": done.step, "why": done.why, "loss": losses[-1]["loss"] if losses else None,
            "dev_loss": _short(dev) if dev is not None else None,
            "bits_per_byte": _short(self._bits(dev)),
            "seconds": state.get("seconds", 0.0), "tokens": tokens, "flops": tokens * self._kept["flops_per_token"],
            "n_params": n_params, "context": longest or self._kept["tokens"],
            "template": self.vocabulary.family.name, "licence": self.licence, "peak_bytes": _peak_bytes(), "dataset": self._data.dataset_id, "parents": list(self._data.parents),
        }  # fmt: skip

    def _keep_base(self, model: Any, folder: Path, out: Path) -> int:
        """The base that the adapter was learnt beside, whole, as a folder: merged with the adapter before, or as 4 bits
        rounded it. The adapter is taken off the model. Returns the parameters of both."""
        from hagane.train.model import n_parameters
        from hagane.train.model_folder import save_folder
        from hagane.train.quantised import dequantise

        n_adapter = sum(one.numel() for name, one in model.named_parameters() if "lora_" in name)
        plain = dequantise(model.unload())
        save_folder(plain, out)
        self._dress(folder, out)
        return n_parameters(plain) + n_adapter

    def _dress(self, folder: Path, out: Path) -> None:
        """Tokenizer, template, generation config and card beside the weights."""
        import json

        from hagane.train.base import settle as settle_template
        from hagane.train.tokenizer import CARD

        for name in TOKENIZER_FILES:
            if (folder / name).is_file() and not (out / name).exists():
                shutil.copyfile(folder / name, out / name)
        card = out / CARD
        said = json.loads(card.read_text("utf-8")) if card.is_file() else {}
        said |= {"label": str(self.label), "template": self.vocabulary.family.name, "stage": self.stage,
                 "end_of_document": self.vocabulary.end_of_document}  # fmt: skip
        card.write_text(json.dumps(said, ensure_ascii=False, indent=1) + "\n", "utf-8")
        settle_template(out, self.vocabulary.family.name)


def _steps(place: Place) -> list[dict[str, Any]]:
    from .place import read

    return [event for event in read(place.events) if event.get("event") == "step"]


def _frozen(model: Any) -> Any:
    """A copy of the beginning that stays as it is."""
    import copy

    judge = copy.deepcopy(model)
    judge.requires_grad_(False)
    return judge.eval()


def _peak_bytes() -> int:
    """The most that this process held."""
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _longest(model: Any) -> int | None:
    from hagane.train.model import plain

    found = getattr(plain(model).config, "max_position_embeddings", None)
    return int(found) if found else None


def _flops(model: Any, tokens: int) -> float:
    """Forward and backward of one token: 6 per parameter that multiplies, and attention over half the row."""
    from hagane.train.model import n_parameters, plain

    config = plain(model).config
    return 6.0 * n_parameters(model) + 6.0 * config.num_hidden_layers * config.hidden_size * tokens


def _short(value: Any) -> Any:
    """Six digits are enough for a page, and NaN is no JSON."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value

