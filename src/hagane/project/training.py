"""Verbs about training: plan, train, runs, run, export. A run is made from documents and files under labels; so is its model.

    made = train(project, Path("train.yaml"), "pretrain", by=owner, emit=print)

A stage of a run lies in .hagane/runs/NAME/STAGE. The same train.yaml over the same data goes on where it was, and a
finished stage is made again only when asked; another train.yaml or other data is another run, and that is said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hagane.builds import launch as child
from hagane.builds.place import Place
from hagane.builds.spec import STAGES, Stage, TrainFile, changed, load
from hagane.core.errors import (
    ChangedError,
    HaganeError,
    RefusedError,
    StateError,
    StoppedError,
    UsageError,
    nearest,
)
from hagane.core.labels import PUBLIC, Label, join
from hagane.core.machine import cores
from hagane.core.types import Principal
from hagane.ledger.access import can_read
from hagane.ledger.records import now
from hagane.ledger.steps import Done

from . import training_data, training_made
from .datasets import FOLDER as DATASETS
from .training_data import Material
from .training_places import place_of
from .wire import Project

VERSION = 1  # of the runs' code: raise it when the same train.yaml must be run anew
SLOW = 2e10  # FLOP/s by which a tokenizer's size is chosen before anything is measured
Emit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Before:
    """What a stage goes on from: the folder of its tokenizer or base, the adapter on it, its mark and label."""

    base: str = ""
    tokenizer: str = ""
    adapter: str = ""
    mark: str = ""
    label: Label = PUBLIC
    step: str = ""
    sets: tuple[str, ...] = ()  # data sets in the weights of a base that was made here


def train(
    project: Project, file: Path, stage: str, *, by: Principal, emit: Emit, stop: Callable[[], bool] = lambda: False, again: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Do a stage of `file`, or "all" of them: {"name", "stages": [what each made], "next": what to do then}.

    Raises: RefusedError without the permission build or above the clearance; NotFoundError, ConfigError; StateError for
    a run that was begun with another train.yaml or other data, unless `again`; StoppedError once `stop()` is true.
    """
    may_build(by)
    child.require_extra()
    spec = load(file)
    root = file.resolve().parent
    wanted = spec.stages if stage == "all" else (_stage(spec, stage),)
    training_made.check_name(project, spec.name, by=by)
    done: list[dict[str, Any]] = []
    for one in wanted:
        if spec.is_from_scratch(one) and "tokenizer" not in wanted:
            _one(project, _with_tokenizer(spec), "tokenizer", root=root, by=by, emit=emit, stop=stop, again=again)
        chosen = _with_tokenizer(spec) if one == "tokenizer" else spec
        done.append(_one(project, chosen, one, root=root, by=by, emit=emit, stop=stop, again=again))
    return {"name": spec.name, "stages": done, "next": _next(spec, wanted[-1], file)}


def may_build(by: Principal) -> None:
    """Raises: RefusedError without the permission build."""
    if "build" not in by.roles:
        raise RefusedError(f"{by.name} may not train models", hint="it takes the permission build")


def _stage(spec: TrainFile, stage: str) -> Stage:
    if stage not in STAGES:
        close = nearest(stage, [*STAGES, "all"])
        raise UsageError(f"there is no stage {stage!r}", hint=f"did you mean {close!r}?" if close else f"one of {', '.join(STAGES)}, all")
    if stage not in spec.stages and not (stage == "tokenizer" and spec.pretrain is not None):
        raise UsageError(f"this train.yaml has no {stage}", hint=f"it has {', '.join(spec.stages)}")
    return stage  # type: ignore[return-value]


def _with_tokenizer(spec: TrainFile) -> TrainFile:
    """Where pretrain needs a tokenizer and none is described: one by the rules."""
    return spec if spec.tokenizer is not None else changed(spec, {"tokenizer": {}})


def _next(spec: TrainFile, last: Stage, file: Path) -> str:
    behind = [one for one in spec.stages if STAGES.index(one) > STAGES.index(last)]
    if behind:
        return f"hagane train {behind[0]} {file}"
    return f"hagane export {spec.name}"


def keys_for_child(project: Project) -> dict[str, Any] | None:
    """What the process that trains needs to seal its data; None where nothing is encrypted."""
    return project.keys.for_workers() if project.keys is not None and project.keys.sealing else None


def file_in(project: Project, name: str, *, by: Principal) -> Path:
    """A train.yaml that a job names: a file in the project's folder. Raises: NotFoundError, RefusedError."""
    return training_data.checked_path(project, project.folder, name, by=by)


# --- one stage


def _one(
    project: Project, spec: TrainFile, stage: Stage, *, root: Path, by: Principal, emit: Emit, stop: Callable[[], bool], again: bool,
) -> dict[str, Any]:  # fmt: skip
    found = training_data.material(project, spec, stage, root=root, by=by)
    before = _before(project, spec, stage, root=root, by=by)
    place = place_of(project, spec.name, stage)
    key = _key(spec, stage, found, before)
    with place.alone():
        state = place.state()
        if again or not _goes_on(state, key, place):
            place.clear()
            state = {}
        if state.get("state") == "done":
            made = dict(state["made"])
            emit({"event": "reused", "stage": stage})
            return {**made, "reused": True}
        label = join(found.label, before.label)
        project.ledger.audit.record(
            "train.start", principal=by.name, model=spec.name, stage=stage, run=key["mark"][:16], documents=len(found.documents),
            files=[project.ledger.audit.file_digest(one.sha256) for one in found.files] or None, label=str(label), goes_on=bool(state) or None,
        )  # fmt: skip
        dataset = _into_the_graph(project, spec, stage, found, before, key)
        seen = join(label, Label.parse(state.get("label") or str(label)))  # what it told before it was stopped stays in its events
        place.note(name=spec.name, stage=stage, key=key, file=spec.model_dump(mode="json", exclude_none=True), state="running", label=str(seen), dataset_step=dataset, user=by.name,
                   total=spec.training_of(stage).steps, begun_at=state.get("begun_at") or now())  # fmt: skip
        made = _run(project, spec, stage, found, before, place, root=root, label=label, by=by, emit=emit, stop=stop)
        return training_made.finish(project, spec, stage, made, found=found, before=before, place=place, dataset=dataset, by=by)


def _run(
    project: Project, spec: TrainFile, stage: Stage, found: Material, before: Before, place: Place, *, root: Path, label: Label,
    by: Principal, emit: Emit, stop: Callable[[], bool],
) -> dict[str, Any]:  # fmt: skip
    told, settled = spec.training_of(stage), Label.parse(place.state()["label"])
    job = {
        "file": spec.model_dump(mode="json", exclude_none=True), "stage": stage, "run": str(place.folder), "root": str(root),
        "labels": {name: str(own) for name, own in found.labels.items()}, "label": str(label),
        "base": before.base, "base_label": str(before.label), "tokenizer": before.tokenizer, "adapter": before.adapter,
        "datasets": str(project.state / DATASETS), "threads": told.threads or cores(), "flops_per_s": SLOW if stage == "tokenizer" else 0.0,
        "samples": project.keys is None,  # events lie in the open: of an encrypted project they hold no text
    }  # fmt: skip

    def tell(event: Mapping[str, Any]) -> None:
        nonlocal settled
        if event["event"] == "settled":  # the base itself may say more than was known of it: first noted, then looked at
            settled = join(settled, Label.parse(event["label"]))
            place.note(label=str(settled))
        if event["event"] == "settled" and not can_read(settled, by):
            raise RefusedError(f"{by.name} may not train on this base: its label is above the clearance", hint="take another base")
        emit({**event, "stage": stage})

    try:
        made = child.launch(job, training_data.rows(project, found), emit=tell, stop=stop, keys=keys_for_child(project))
    except StoppedError:
        place.note(state="stopped", label=str(settled))
        project.ledger.audit.record("train.stop", principal=by.name, model=spec.name, stage=stage)
        raise
    except HaganeError as error:
        place.note(state="failed", error=str(error), hint=error.hint, label=str(settled))
        project.ledger.audit.record("train.fail", principal=by.name, model=spec.name, stage=stage, why=error.code)
        raise
    if not training_data.standing(project, found):
        place.note(state="failed", error="documents left while it was trained", label=str(settled))
        raise ChangedError("documents left while the model was trained on them", hint="begin anew without them: --again")
    return made


def _goes_on(state: Mapping[str, Any], key: Mapping[str, Any], place: Place) -> bool:
    """Whether this is the run that lies there. Raises: StateError for another, with what is different."""
    if not state:
        return False
    known = state.get("key") or {}
    if known.get("mark") == key["mark"]:
        return True
    if state.get("state") == "failed" and not place.checkpoints.exists():
        return False  # it never learnt anything: nothing is lost
    differing = sorted(name for name in key["parts"] if (known.get("parts") or {}).get(name) != key["parts"][name])
    what = ", ".join(differing) or "its code"
    raise StateError(
        f"{place.folder.parent.name} {place.folder.name} was begun with another train.yaml or other data (differs: {what})",
        hint="set it back to go on, give the file another name for another model, or begin anew with --again",
    )


def _key(spec: TrainFile, stage: Stage, found: Material, before: Before) -> dict[str, Any]:
    """What a run is made from; parts are named where they differ."""
    own = getattr(spec, stage).model_dump(mode="json")
    training = own.pop("training", {})
    own.pop("data", None)
    free = ("threads", "micro_rows", "save_every", "keep")  # how it is computed, not what
    parts = {f"{stage}.{name}": value for name, value in own.items()}
    parts |= {f"training.{name}": value for name, value in training.items() if name not in free}
    parts |= {"personal": dict(spec.personal), "split": spec.split.model_dump(), "data": found.mark, "what it goes on from": before.mark}
    if stage == "tokenizer" and spec.pretrain is not None:
        parts |= {"pretrain.family": spec.pretrain.family, "pretrain.params": str(spec.pretrain.params), "pretrain.budget": spec.pretrain.budget}
    digest = hashlib.sha256(json.dumps([VERSION, stage, parts], sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    return {"mark": digest, "parts": parts}


def _before(project: Project, spec: TrainFile, stage: Stage, *, root: Path, by: Principal) -> Before:
    """What the stage goes on from. Raises: StateError when that is not done yet; NotFoundError, RefusedError."""
    if stage == "tokenizer":
        return Before()
    base = getattr(getattr(spec, stage), "base", None)
    if base is not None:
        return training_made.named_base(project, base, root=root, by=by)
    earlier: Stage | None = "tokenizer" if stage == "pretrain" else spec.before(stage)
    assert earlier is not None
    state = place_of(project, spec.name, earlier).state()
    if state.get("state") != "done":
        raise StateError(f"{stage} goes on from what {earlier} makes, which is not done", hint=f"hagane train {earlier}, or: hagane train all")
    made, mark, label = state["made"], f"{state['key']['mark']} {state['finished_at']}", Label.parse(state["made"]["label"])
    if not can_read(label, by):
        raise StateError(f"{stage} goes on from what {earlier} makes, which is not done", hint=f"hagane train {earlier}, or: hagane train all")
    step = state.get("step", "")
    if earlier == "tokenizer":
        return Before(tokenizer=made["folder"], mark=mark, label=label, step=step)
    adapter = made["folder"] if made["kind"] == "adapter" else ""
    return Before(base=made["base_folder"] if adapter else made["folder"], adapter=adapter, mark=mark, label=label, step=step)


def _into_the_graph(project: Project, spec: TrainFile, stage: Stage, found: Material, before: Before, key: Mapping[str, Any]) -> str:
    """The data set's step, before anything is learnt: whatever leaves from now on is found by `forget`. What the stage
    goes on from is a parent, too: the run rises with it."""
    lineage, steps = project.ledger.lineage, project.ledger.steps
    for one in found.files:
        lineage.declare(one.node, one.label)
    parents = [*found.parents, *(one.node for one in found.files), *([before.step] if before.step else [])]
    done = Done("train.data", VERSION, parents, {"data": found.mark, "split": spec.split.model_dump(), "personal": dict(spec.personal)})
    steps.record([done])
    return done.id

