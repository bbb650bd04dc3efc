"""What training made, put where it belongs: measured against its plan, into the graph, onto the shelf, on record.

Also what a train.yaml may go on from by name, and which runs there are: both only as far as labels flow.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hagane.builds import shelf
from hagane.builds.base import label_in
from hagane.builds.place import Place, read
from hagane.builds.publish import REPORT
from hagane.builds.shelf import Base, Record
from hagane.builds.spec import STAGES, Stage, TrainFile
from hagane.core.errors import HaganeError, NotFoundError, RefusedError, StorageError, UsageError
from hagane.core.labels import PUBLIC, Label, join
from hagane.core.types import Principal
from hagane.ledger.access import can_read
from hagane.ledger.records import now
from hagane.ledger.steps import Done
from hagane.ledger.uploads import SOURCE
from hagane.models import catalog

from . import documents, trained, training_data
from .training_data import Material
from .training_places import RUNS, kept_plan, place_of
from .wire import Project

if TYPE_CHECKING:
    from .training import Before

HUB = "hf:"
UNKNOWN = "unknown"  # a data set that nobody knows: there is none of that name
VERSION = 1


def check_name(project: Project, name: str, *, by: Principal) -> None:
    """Raises: UsageError for a name that is taken, also by a run or model that `by` may not see."""
    trained.check_name(project, name)
    taken = UsageError(f"a model called {name!r} is there already", hint="give it another name in train.yaml")
    for stage in STAGES:
        state = place_of(project, name, stage).state()
        if state and not trained.is_open_to(_label(project, state), by.clearance):
            raise taken
    if trained.is_kept(project, name):
        try:
            trained.find(project, name, by=by)
        except NotFoundError as cause:
            raise taken from cause


def named_base(project: Project, base: str, *, root: Path, by: Principal) -> Before:
    """A base by name or path: a model made here, a listed one, a folder or GGUF file, the hub.
    A folder or file carries at least what it says of itself, and the label of a source that it lies in. A bare name is
    never a folder. Raises: NotFoundError, also for a made model that `by` may not see; RefusedError."""
    from .training import Before

    default = project.label(project.config.labels.default)

    if trained.is_kept(project, base):
        told = trained.find(project, base, by=by)
        folder = Path(told["folder"])
        record = shelf.read_record(trained.folder_of(project), base, **trained.sealing(project))
        label = trained.label_now(project, record)
        if label is None:
            raise RefusedError(f"the label of the model {base} is not known", hint="hagane models show NAME")
        whole = (folder / "hf").is_dir()  # of an adapter: once it is merged by an export
        state = newest(project, record)
        base_folder = str(folder / "hf") if whole else (state.get("made") or {}).get("base_folder", "")
        adapter = "" if whole else str(folder / "adapter")
        if not base_folder or not Path(base_folder).is_dir():
            raise NotFoundError(f"the weights of the model {base} are not here any more", hint="train it again")
        return Before(base=base_folder, adapter=adapter, mark=" ".join([record.lineage, *record.datasets[-1:]]), label=label, step=record.lineage, sets=tuple(sets_of(state)))
    if base.startswith(HUB):
        return Before(base=base, mark=base, label=default)
    if os.sep in base or base.endswith(".gguf") or (root / base).is_dir():
        path = training_data.checked_path(project, root, base, by=by)
        inside = [one.label for one in documents.sources_of(project) if one.name != SOURCE and path.is_relative_to(one.root.resolve())]
        label = join(default, *inside, label_in(path))
        if not can_read(label, by):
            raise RefusedError(f"{by.name} may not train on this base: its label is above the clearance", hint="take another base")
        return Before(base=str(path), mark=f"{path} {path.stat().st_mtime_ns}", label=label)
    listed = next((one for one in catalog.available() if one.info.name == base), None)
    if listed is None:
        raise NotFoundError(f"there is no model {base!r}", hint="hagane models")
    label = PUBLIC if listed.file is None else label_in(listed.file)
    if not can_read(label, by):
        raise NotFoundError(f"there is no model {base!r}", hint="hagane models")
    return Before(base=base, mark=base, label=label)


def newest(project: Project, record: Record) -> dict[str, Any]:
    """state.json of the stage that made what lies on the shelf; {} where it is gone. A later stage that says "done" may
    be of weights that were made anew since."""
    state = place_of(project, record.name, record.stage).state() if record.stage in STAGES else {}
    is_it = state.get("state") == "done" and bool(record.datasets) and state.get("step") == record.datasets[-1]
    return state if is_it else {}


def _sets(project: Project, spec: TrainFile, stage: Stage, made: Mapping[str, Any], before: Before) -> list[str]:
    """Ids of every data set that is in the weights: of this stage, the stages before it and their base, however far
    back. The memorisation gate probes them all; UNKNOWN stands for what cannot be told, which no gate passes."""
    earlier = list(before.sets)
    if getattr(getattr(spec, stage), "base", None) is None and (last := spec.before(stage)) not in (None, "tokenizer"):
        state = place_of(project, spec.name, str(last)).state()
        earlier = sets_of(state) if state.get("step") == before.step else [UNKNOWN]
    return list(dict.fromkeys([*earlier, made["dataset"]]))


def sets_of(state: Mapping[str, Any]) -> list[str]:
    """The data sets in the weights that a finished stage made, by its state.json."""
    return list((state.get("made") or {}).get("sets") or [UNKNOWN])


def finish(
    project: Project, spec: TrainFile, stage: Stage, made: Mapping[str, Any], *, found: Material, before: Before, place: Place,
    dataset: str, by: Principal,
) -> dict[str, Any]:  # fmt: skip
    """Record what was made. Raises: RefusedError when its label is above the clearance by now; AuditError, StorageError."""
    key = place.state()["key"]
    step = Done(
        f"train.{stage}", VERSION, [dataset, *([before.step] if before.step else [])],
        {"mark": key["mark"], "at": datetime.now(UTC).isoformat()}, {name: made.get(name) for name in ("steps", "tokens", "flops", "seconds", "dev_loss")},
    )  # fmt: skip
    label = join(Label.parse(made["label"]), project.ledger.lineage.label_of(dataset), before.label)
    if not can_read(label, by):
        raise RefusedError("what was trained is above the clearance by now: the label of its documents rose", hint="ask an officer")
    told = {**made, "label": str(label), "measured": _measured(project, spec.name, stage, made)}
    if stage != "tokenizer":
        told["sets"] = _sets(project, spec, stage, made, before)
    project.ledger.audit.record(
        "train.done", principal=by.name, model=spec.name, stage=stage, run=key["mark"][:16], label=str(label),
        steps=made.get("steps"), tokens=made.get("tokens"),
    )  # fmt: skip
    project.ledger.steps.record([step])
    if stage != "tokenizer":
        _onto_the_shelf(project, spec, stage, told, found=found, step=step.id, place=place, by=by)
    place.note(state="done", made=told, step=step.id, finished_at=now(), label=str(label), error=None, hint=None)
    return told


def _measured(project: Project, name: str, stage: Stage, made: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds, steps, tokens, FLOPs, energy (an estimate by the power of this machine in the price table) and the most
    memory, beside what plan.json foretold."""
    from hagane.builds.plan import compare
    from hagane.core.prices import own_machine, prices

    told: dict[str, Any] = {key: made.get(key) for key in ("seconds", "steps", "tokens", "flops", "peak_bytes")}
    told["kwh"] = round(own_machine(prices(), float(made.get("seconds") or 0.0) / 3600).kwh, 6)
    if planned := kept_plan(project, name).get(stage):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # another version's plan is no reason to lose a run
            told["predicted"] = compare(planned, told).json()
    return told


def _onto_the_shelf(
    project: Project, spec: TrainFile, stage: Stage, made: Mapping[str, Any], *, found: Material, step: str, place: Place, by: Principal,
) -> None:  # fmt: skip
    folder = trained.folder_of(project) / spec.name
    kind = "adapter" if made["kind"] == "adapter" else "model"
    old = None
    if spec.before(stage) is not None:  # it goes on from an earlier stage: what that learnt is still in the weights
        with contextlib.suppress(HaganeError):
            old = shelf.read_record(trained.folder_of(project), spec.name, **trained.sealing(project))
    parents = [*(old.parents if old else ()), *found.parents]
    config = getattr(spec, stage)
    base = getattr(config, "base", None) or (spec.pretrain.base if spec.pretrain and spec.pretrain.base else "")
    (folder / REPORT).unlink(missing_ok=True)  # what an earlier export passed says nothing of these weights
    _linked(Path(made["folder"]), folder / made["kind"])
    other = folder / ("hf" if made["kind"] == "adapter" else "adapter")
    shutil.rmtree(other, ignore_errors=True)
    record = Record(
        spec.name, kind, Label.parse(made["label"]), stage, base=_base_of(project, base, made, old),
        datasets=(*(one for one in (old.datasets if old else ()) if one != step), step), parents=tuple(dict.fromkeys(parents)),
        lineage=old.lineage if old else "", chat="raw" if stage == "pretrain" else "template", n_params=int(made["n_params"]),
        context=int(made["context"]), reports={"measured": dict(made["measured"]), "dev": {"loss": made["dev_loss"], "bits_per_byte": made["bits_per_byte"]}},
        created_at=now(),
    )  # fmt: skip
    trained.keep(project, record, by=by)


def _base_of(project: Project, name: str, made: Mapping[str, Any], old: Record | None) -> Base:
    """What it goes on from, with the licence that the base came with, or its own base did."""
    before = old.base if old is not None else Base()
    licence = made.get("licence") or before.licence
    if not licence and name:
        with contextlib.suppress(HaganeError):
            licence = shelf.read_record(trained.folder_of(project), name, **trained.sealing(project)).base.licence
    return replace(before, name=name or before.name, licence=licence)


def _linked(source: Path, target: Path) -> None:
    """The folder under another name, without its bytes twice where the file system can. Raises: StorageError."""
    aside = target.with_name(f".new-{target.name}")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copytree(source, aside, copy_function=_link)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(aside, target)
    except OSError as cause:
        raise StorageError(f"{target.name} cannot be written: {cause.strerror}", hint="free space, then run the same command again") from cause


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target


# --- which runs there are


def _label(project: Project, state: Mapping[str, Any]) -> Label | None:
    """What a run carries today; None when that is not known: then it is for nobody but those who may see all."""
    try:
        made = Label.parse((state.get("made") or {}).get("label") or state["label"])
        return join(made, project.ledger.lineage.label_of(state["dataset_step"]))
    except (HaganeError, KeyError):
        return None


def places(project: Project, name: str, *, by: Principal) -> list[Place]:
    """Where the stages of a run lie that `by` may see."""
    found = [place_of(project, name, stage) for stage in STAGES]
    return [place for place in found if (state := place.state()) and trained.is_open_to(_label(project, state), by.clearance)]


def runs(project: Project, *, by: Principal) -> list[dict[str, Any]]:
    """The runs that `by` may see, by name, newest stage last: {"name", "stages": [...]}. On record."""
    found: dict[str, list[dict[str, Any]]] = {}
    folder = project.state / RUNS
    for one in sorted(folder.iterdir()) if folder.is_dir() else ():
        for stage in STAGES:
            place = place_of(project, one.name, stage)
            state = place.state()
            if state and trained.is_open_to(label := _label(project, state), by.clearance):
                found.setdefault(one.name, []).append(_shown(place, state, label))
    project.ledger.audit.record("list", principal=by.name, what="runs", found=len(found))
    return [{"name": name, "stages": stages} for name, stages in found.items()]


def run(project: Project, name: str, *, by: Principal, behind: Mapping[str, int] | None = None) -> dict[str, Any]:
    """One run with the events of its stages, for the page that watches: {"name", "stages": [{..., "events"}]}. `behind`:
    only events after so many lines, by stage. Raises: NotFoundError, also for what `by` may not see."""
    stages = []
    for stage in STAGES if shelf.NAME.fullmatch(name) else ():
        place = place_of(project, name, stage)
        state = place.state()
        if state and trained.is_open_to(label := _label(project, state), by.clearance):
            events = read(place.events, behind=(behind or {}).get(stage, 0))
            stages.append(_shown(place, state, label) | {"events": events})
    if not stages:
        raise NotFoundError(f"there is no run {name!r}", hint="hagane train makes one")
    project.ledger.audit.record("read", principal=by.name, what="run", model=name)
    return {"name": name, "stages": stages}


def _shown(place: Place, state: Mapping[str, Any], label: Label | None) -> dict[str, Any]:
    """A stage as JSON. What is marked as running and has no process was killed: it goes on when it is asked for."""
    standing = state.get("state")
    if standing == "running" and not place.is_taken():
        standing = "interrupted"
    settings = state.get("settings") or {}
    return {
        "stage": state.get("stage"), "state": standing, "label": None if label is None else str(label), "user": state.get("user"),
        "begun_at": state.get("begun_at"), "finished_at": state.get("finished_at"), "error": state.get("error"), "hint": state.get("hint"),
        "steps": settings.get("steps"), "settings": settings, "made": state.get("made"), "seconds": state.get("seconds"),
    }  # fmt: skip
