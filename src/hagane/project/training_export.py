"""Verbs around training: plan before it, export after it. Each under the label of what it touches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hagane.builds import launch as child
from hagane.builds import shelf
from hagane.builds.card import data_of, write_cards
from hagane.builds.cleaned import as_row
from hagane.builds.publish import REPORT
from hagane.builds.shelf import Record
from hagane.builds.spec import NUMBERS, STAGES, ExportConfig, Stage, TrainFile, load
from hagane.core.errors import ChangedError, NotFoundError, RefusedError, StateError, UsageError
from hagane.core.labels import Label, join
from hagane.core.machine import cores
from hagane.core.types import Principal
from hagane.models import catalog

from . import trained, training, training_data, training_made, training_places
from .datasets import FOLDER as DATASETS
from .datasets import sealer_of
from .wire import Project

Emit = Callable[[Mapping[str, Any]], None]


def plan(project: Project, file: Path, *, by: Principal) -> dict[str, Any]:
    """What every stage of `file` would cost: {"name", "stages": [each as JSON], "text", "fits", "hint"}. Kept beside the
    run, so that afterwards it can be held against what was measured. Raises: as `train`, before anything is trained."""
    from hagane.builds.machine import this_machine
    from hagane.builds.plan import plan_all, require
    from hagane.builds.plan_text import shown
    from hagane.core.prices import prices

    training.may_build(by)
    spec, root = load(file), file.resolve().parent
    training_made.check_name(project, spec.name, by=by)
    stages = [one for one in spec.stages if one != "tokenizer"]
    data = {stage: _amount(project, spec, stage, root=root, by=by) for stage in stages}
    unseen = _unseen(spec, stages)
    bases = {stage: path for stage in stages if (path := _base_of(project, spec, stage, root=root, by=by)) is not None}
    threads = next((told for stage in stages if (told := spec.training_of(stage).threads)), 0)
    own = root / "prices.toml"  # the company's own prices over the shipped ones
    made = plan_all(
        spec, machine=this_machine(project.state, threads=threads), data=data, bases=bases,
        prices=prices(own if own.is_file() else None), without=unseen,
    )  # fmt: skip
    project.ledger.audit.record("train.plan", principal=by.name, model=spec.name)
    told = {"name": spec.name, "stages": [one.json() for one in made]}
    training_places.keep_plan(project, spec.name, told)
    fits: dict[str, Any] = {"fits": True, "why": None, "hint": None}
    try:
        for one in made:
            require(one)
    except RefusedError as refused:
        fits = {"fits": False, "why": str(refused), "hint": refused.hint}
    left_out = [f"{stage}: {base} is fetched when training begins; its size is not known before that" for stage, base in unseen.items()]
    return told | fits | {"text": "\n\n".join([*(shown(one) for one in made), *left_out])}


def _unseen(spec: TrainFile, stages: Sequence[Stage]) -> dict[Stage, str]:
    """Stages that begin with a model of the hub, or go on from one that does, each with that model."""
    found: dict[Stage, str] = {}
    for stage in stages:
        before = spec.before(stage)
        base = found.get(before, "") if before else getattr(getattr(spec, stage), "base", None) or ""
        if base.startswith(training_made.HUB):
            found[stage] = base
    return found


def _rows(project: Project, spec: TrainFile, stage: Stage, *, root: Path, by: Principal) -> tuple[Any, dict[str, Label], Label]:
    """(documents as rows, labels of files, label of all) of a stage, as far as `by` may see them."""
    found = training_data.material(project, spec, stage, root=root, by=by)
    return lambda: map(as_row, training_data.rows(project, found)), found.labels, found.label


def _amount(project: Project, spec: TrainFile, stage: Stage, *, root: Path, by: Principal) -> Any:
    from hagane.builds.amount import estimated
    from hagane.builds.origins import origins_of

    documents, labels, label = _rows(project, spec, stage, root=root, by=by)
    origins = origins_of(spec, stage, documents=documents, root=root, labels=labels, default=label)
    vocab = spec.tokenizer.vocab if spec.tokenizer is not None else 0
    return estimated((row for one in origins for row in one), held_back=spec.split.dev + spec.split.test, vocab=vocab)


def _base_of(project: Project, spec: TrainFile, stage: Stage, *, root: Path, by: Principal) -> Path | None:
    base = getattr(getattr(spec, stage), "base", None)
    if base is None:
        return None
    named = training_made.named_base(project, base, root=root, by=by).base
    if named.startswith(training_made.HUB):
        return None
    return Path(named) if Path(named).exists() else catalog.find(named)


def export(
    project: Project, name: str, *, by: Principal, emit: Emit, stop: Callable[[], bool] = lambda: False, numbers: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Make files of a trained model and publish what passes every gate; the report. `numbers`: instead of train.yaml's.

    Raises: RefusedError without the permission build; NotFoundError, also for a model that `by` may not see; UsageError,
    StateError, StorageError, StoppedError.
    """
    training.may_build(by)
    child.require_extra()
    trained.find(project, name, by=by)
    if wrong := [one for one in numbers if one not in NUMBERS]:
        raise UsageError(f"{wrong[0]!r} are no numbers of a file", hint=f"one of {', '.join(NUMBERS)}")
    record = shelf.read_record(trained.folder_of(project), name, **trained.sealing(project))
    label = trained.label_now(project, record)
    if label is None:
        raise RefusedError(f"the label of the model {name} is not known", hint="train it again")
    state = _newest(project, record)
    place = training_places.place_of(project, name, state["stage"])
    spec = TrainFile.model_validate(state["file"])
    settings = spec.export if not numbers else ExportConfig.model_validate({**spec.export.model_dump(), "numbers": list(numbers)})
    project.ledger.audit.record("export.start", principal=by.name, model=name, lineage=record.lineage, label=str(label))
    job = _job(project, record, state, spec, settings, label)
    with place.alone():
        told = child.launch(
            job, [], emit=lambda event: emit({**event, "stage": "export"}), stop=stop,
            keys=training.keys_for_child(project),
        )  # fmt: skip
    _require_unchanged(project, record)
    kept = _kept(project, record, told, base_file=job["base_file"])
    project.ledger.audit.record("export", principal=by.name, model=name, state=kept.state, label=str(kept.label), lineage=kept.lineage)
    trained.keep(project, kept, by=by)
    _cards(project, kept, spec, job["datasets"])
    project.let_go(name)
    return told | {"folder": str(trained.folder_of(project) / name), "next": f"hagane ask QUESTION --model {name}" if told["state"] == "published" else None}


def _cards(project: Project, record: Record, spec: TrainFile, sets: Sequence[str]) -> None:
    """README.md and README.ja.md beside the files: counts and labels, no name of the data."""
    upto = STAGES[1 : STAGES.index(record.stage) + 1] if record.stage in STAGES else ()
    states = [training_places.place_of(project, record.name, stage).state() for stage in upto if stage in spec.stages]
    stages = [one["made"] for one in states if one.get("state") == "done"]
    data = data_of([Path(place) for place in sets], sealer=sealer_of(project))
    write_cards(trained.folder_of(project) / record.name, record, spec=spec, data=data, stages=stages)


def _newest(project: Project, record: Record) -> dict[str, Any]:
    """state.json of the stage that made what lies on the shelf: its weights are those that the record's label is of."""
    if state := training_made.newest(project, record):
        return state
    raise StateError(
        f"the run that made the model {record.name} is not here any more, or not at its end",
        hint=f"hagane train all, with --again where it was begun with other data, then: hagane export {record.name}",
    )


def _require_unchanged(project: Project, record: Record) -> None:
    """Raises: ChangedError when other weights came onto the shelf during the export: the gates saw none of them."""
    with suppress(NotFoundError):
        if shelf.read_record(trained.folder_of(project), record.name, **trained.sealing(project)).datasets == record.datasets:
            return
    (trained.folder_of(project) / record.name / REPORT).unlink(missing_ok=True)
    raise ChangedError("the model was trained anew or removed while it was exported", hint=f"hagane export {record.name}")


def _job(project: Project, record: Record, state: Mapping[str, Any], spec: TrainFile, settings: ExportConfig, label: Label) -> dict[str, Any]:
    made = state["made"]
    is_adapter = made["kind"] == "adapter"
    base_file = ""
    if is_adapter and not made.get("own_base") and record.base.name and catalog.info_of(record.base.name) is not None:
        with suppress(NotFoundError):
            base_file = str(catalog.find(record.base.name))
    sets = [str(project.state / DATASETS / one) for one in training_made.sets_of(state)]
    return {
        "stage": "export", "name": record.name, "source": made["folder"], "folder": str(trained.folder_of(project) / record.name),
        "label": str(label), "base": made["base_folder"] if is_adapter else "", "base_file": base_file, "licence": made.get("licence") or record.base.licence,
        "chat": state["stage"] != "pretrain", "export": settings.model_dump(mode="json"), "memory": spec.memory.model_dump(mode="json"),
        "datasets": sets, "threads": cores(),
    }  # fmt: skip


def _kept(project: Project, record: Record, told: Mapping[str, Any], *, base_file: str) -> Record:
    """The record with its files, measured and hashed, and how the gates ended. An adapter answers beside the file of a
    listed base; of any other base the merged file answers."""
    folder = trained.folder_of(project) / record.name
    files = tuple(shelf.file_of(folder, one["path"], role=one["role"], numbers=one["numbers"]) for one in told["files"])
    beside = next((one.path for one in files if one.role == "adapter"), "") if base_file else ""
    base = replace(record.base, file=record.base.name, sha256=trained.sha256_of(Path(base_file))) if beside else record.base
    return replace(
        record, kind="adapter" if beside else "model", base=base, state=told["state"], why="; ".join(told["why"]) if told["state"] == "blocked" else "", files=files, served=beside or told["served"],
        chat=told["chat"], n_params=told["n_params"] or record.n_params, context=told["context"] or record.context,
        label=join(record.label, Label.parse(told["label"])), reports={**_measured(record.reports), **told["reports"]},
    )  # fmt: skip


def _measured(reports: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured of the training: verdicts of an earlier export are none of this one."""
    return {name: told for name, told in reports.items() if name in ("measured", "dev", "predicted")}
