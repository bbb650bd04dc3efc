"""Verbs of the page about models: what was made and what is being made, one run as it goes on, starting and going on.

Each shows what `by` may see and nothing else; names of documents and samples in a run are content and stand under its label.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hagane.builds.spec import STAGES, TrainFile, load
from hagane.core.errors import ConfigError, StateError, StorageError, UsageError
from hagane.core.labels import EVERYTHING
from hagane.core.types import Principal
from hagane.core.whole_file import write_whole

from . import trained, training, training_export, training_made, training_places, work
from .wire import Project

SUFFIX = ".train.yaml"  # of files that the page writes into the project's folder
LONGEST = 100_000  # characters of a train.yaml
N_POINTS = 240  # of a curve
N_SAMPLES = 6
OPEN = ("waiting", "running")
EVERY_JOB = 10_000


def overview(project: Project, *, by: Principal) -> dict[str, Any]:
    """{"models", "runs", "jobs": those that train or export and have not ended}."""
    rows = trained.trained(project, by=by)
    project.ledger.audit.record("list", principal=by.name, what="models", found=len(rows))
    return {"models": rows} | going_on(project, by=by)


def going_on(project: Project, *, by: Principal) -> dict[str, Any]:
    """As `overview`, without the models: what changes by itself."""
    jobs = [job for job in work.jobs(project, by=by) if job["kind"] in work.LONG and job["state"] in OPEN]
    return {"runs": [_brief(one) for one in training_made.runs(project, by=by)], "jobs": jobs}


def _brief(run: Mapping[str, Any]) -> dict[str, Any]:
    stages = run["stages"]
    return {"name": run["name"], "label": stages[-1]["label"], "state": state_of(stages), "stages": stages, "begun_at": stages[0]["begun_at"]}


def state_of(stages: Sequence[Mapping[str, Any]]) -> str:
    """Of a whole run: the one of a stage that is not done, else done."""
    return next((stage["state"] for stage in reversed(stages) if stage["state"] != "done"), "done")


def look(project: Project, name: str, *, by: Principal) -> dict[str, Any]:
    """One made model for its page. Raises: NotFoundError, also for what `by` may not see."""
    told = trained.find(project, name, by=by)
    project.ledger.audit.record("read", principal=by.name, what="model", model=name, lineage=told["lineage"] or None)
    return told | {"job": _job(project, name, by=by), "has_run": (project.state / training_places.RUNS / name).is_dir()}


def watch(project: Project, name: str, *, by: Principal) -> dict[str, Any]:
    """One run for the page that watches: its stages with curves, samples, plan and what was measured, the job that works
    on it, the text of its train.yaml (None where something of it is hidden from `by`). Raises: NotFoundError, also for what `by` may not see."""
    run = training_made.run(project, name, by=by)
    plan = training_places.kept_plan(project, name)
    stages = [_stage(stage, plan.get(str(stage["stage"]))) for stage in run["stages"]]
    made = next((row for row in trained.trained(project, by=by) if row["name"] == name), None)
    return {
        "name": name, "state": state_of(stages), "label": stages[-1]["label"], "stages": stages, "job": _job(project, name, by=by),
        "model": made, "text": _text(project, name, seen=len(stages), by=by),
    }  # fmt: skip


def _text(project: Project, name: str, *, seen: int, by: Principal) -> str | None:
    """The train.yaml of a run of which `by` sees `seen` stages: only where these are all that were begun, and where no
    job of it is hidden unless a job that `by` sees wrote the very same text."""
    try:
        data = (project.folder / f"{name}{SUFFIX}").read_bytes()
    except OSError:
        return None
    begun = sum(1 for stage in STAGES if training_places.place_of(project, name, stage).state())
    if begun > seen:
        return None
    open_to, hidden = _split(project, name, by=by)
    if hidden and not any(job["args"].get("sha256") == _sha256(data) for job in open_to):
        return None
    return data.decode("utf-8", "replace")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _stage(stage: Mapping[str, Any], plan: Mapping[str, Any] | None) -> dict[str, Any]:
    events = stage["events"]
    last = next((event for event in reversed(events) if event.get("event") == "step"), {})
    samples = [event for event in events if event.get("event") == "sample"][-N_SAMPLES:]
    notes = [event for event in events if event.get("event") in ("halved", "damaged", "resumed")][-N_SAMPLES:]
    told = {key: value for key, value in stage.items() if key != "events"}
    return told | {"curves": curves(events), "last": last, "samples": samples[::-1], "notes": notes, "plan": plan, "measured": (stage["made"] or {}).get("measured")}


def curves(events: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Points (step, value) of what a run told, at most N_POINTS each: loss, dev, rate, speed. The last point is kept."""
    wanted = {"loss": ("step", "loss"), "dev": ("dev", "loss"), "rate": ("step", "learning_rate"), "speed": ("step", "tokens_per_s")}
    found: dict[str, list[tuple[int, float]]] = {}
    for name, (kind, field) in wanted.items():
        points = [(int(e["step"]), float(e[field])) for e in events if e.get("event") == kind and _is_number(e.get(field)) and _is_number(e.get("step"))]
        every = max(1, math.ceil(len(points) / N_POINTS))
        found[name] = points[(len(points) - 1) % every :: every] if points else []
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _job(project: Project, name: str, *, by: Principal) -> dict[str, Any] | None:
    """The job that trains or exports the model now, or waits to, as far as `by` may see it."""
    return next((job for job in _split(project, name, by=by)[0] if job["state"] in OPEN), None)


def _split(project: Project, name: str, *, by: Principal) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(the jobs on a model that `by` may see, those that are hidden), newest first, also those that ended."""
    shown: list[dict[str, Any]] = []
    hidden: list[dict[str, Any]] = []
    for job in project.ledger.queue.every(clearance=EVERYTHING, limit=EVERY_JOB):
        if job.kind in work.LONG and (job.args.get("name") == name or job.args.get("file") == f"{name}{SUFFIX}"):
            (shown if job.label.flows_to(by.clearance) else hidden).append(work.shown(job))
    return shown, hidden


# --- starting


def check(project: Project, text: str, *, by: Principal) -> dict[str, Any]:
    """What a train.yaml would cost, before anything runs: {"name", "stages", "text", "fits", "why", "hint"}.
    Raises: UsageError, ConfigError with its line; RefusedError, NotFoundError as the training would."""
    training.may_build(by)
    with _beside(project, text) as file:
        return _planned(project, file, by=by)


def _planned(project: Project, file: Path, *, by: Principal) -> dict[str, Any]:
    spec = _spec(file)
    if spec.stages == ("tokenizer",):
        training_made.check_name(project, spec.name, by=by)
        return {"name": spec.name, "stages": [], "text": "", "fits": True, "why": None, "hint": None}
    return training_export.plan(project, file, by=by)


def start(project: Project, text: str, *, by: Principal, stage: str = "all", again: bool = False) -> dict[str, Any]:
    """Keep the text as NAME.train.yaml in the project's folder and queue its training: {"name", "job"}.
    Raises: as `check`; StateError when a job works on that model; AuditError."""
    training.may_build(by)
    with _beside(project, text) as file:
        spec = _spec(file)
        if stage not in ("all", *STAGES):
            raise UsageError(f"there is no stage {stage!r}", hint=f"one of all, {', '.join(STAGES)}")
        training_made.check_name(project, spec.name, by=by)
        _require_idle(project, spec.name, by=by)
    project.ledger.audit.record("train.file", principal=by.name, model=spec.name)
    name, data = f"{spec.name}{SUFFIX}", text.rstrip().encode() + b"\n"
    write_whole(project.folder / name, data)
    args = {"file": name, "stage": stage, "sha256": _sha256(data)} | ({"again": True} if again else {})
    return {"name": spec.name, "job": work.submit(project, "train", args, by=by)}


def go_on(project: Project, name: str, *, by: Principal) -> dict[str, Any]:
    """Queue a run that stopped; it goes on where it was. Raises: NotFoundError, also for what `by` may not see; StateError."""
    training.may_build(by)
    run = training_made.run(project, name, by=by)
    _require_idle(project, name, by=by)
    text = _text(project, name, seen=len(run["stages"]), by=by)
    if text is None:
        raise StateError(f"{name} was begun from another train.yaml", hint="hagane train all FILE goes on with it")
    args = {"file": f"{name}{SUFFIX}", "stage": "all", "sha256": _sha256(text.encode())}
    return {"name": name, "job": work.submit(project, "train", args, by=by)}


def publish(project: Project, name: str, *, by: Principal) -> dict[str, Any]:
    """Queue the export of a trained model, with all its gates. Raises: NotFoundError, also for what `by` may not see."""
    training.may_build(by)
    trained.find(project, name, by=by)
    _require_idle(project, name, by=by)
    return {"name": name, "job": work.submit(project, "export", {"name": name}, by=by)}


def _require_idle(project: Project, name: str, *, by: Principal) -> None:
    """Raises: StateError; UsageError, as for a name that is taken, where a job that `by` may not see works on it."""
    shown, hidden = _split(project, name, by=by)
    if any(job["state"] in OPEN for job in hidden):
        raise UsageError(f"a model called {name!r} is there already", hint="give it another name in train.yaml")
    if any(job["state"] in OPEN for job in shown):
        raise StateError(f"a job works on {name} already", hint="wait for it, or cancel it")


def _spec(file: Path) -> TrainFile:
    """Raises: ConfigError, without the name of the file that nobody wrote."""
    try:
        return load(file)
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(file), "train.yaml"), hint=error.hint) from error


@contextmanager
def _beside(project: Project, text: str) -> Iterator[Path]:
    """The text as a file where its paths mean what they will mean; it is gone afterwards."""
    if not text.strip():
        raise UsageError("the train.yaml is empty", hint="begin with name: and one of tokenizer, pretrain, tune, prefer")
    if len(text) > LONGEST:
        raise UsageError(f"a train.yaml has at most {LONGEST:,} characters", hint="put the rows into files and name these")
    file = project.folder / f".train-{secrets.token_hex(6)}.yaml"
    try:
        write_whole(file, text.encode(), durable=False)
        yield file
    except UnicodeEncodeError as cause:
        raise UsageError("the train.yaml is no text", hint="send UTF-8") from cause
    finally:
        _gone(file)


def _gone(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as cause:
        raise StorageError(f"{file.parent}: {cause.strerror}", hint="check the rights of the project's folder") from cause
