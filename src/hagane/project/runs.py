"""Verbs of the page about models: what was made and what is being made, one run as it goes on, starting and going on.

Each shows what `by` may see and nothing else; names of documents and samples in a run are content and stand under its label.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hagane.builds.spec import STAGES, TrainFile, load
from hagane.core.errors import ConfigError, StateError, StorageError, UsageError
from hagane.core.types import Principal
from hagane.core.whole_file import write_whole

from . import trained, training, training_export, training_made, work
from .wire import Project

SUFFIX = ".train.yaml"  # of files that the page writes into the project's folder
LONGEST = 100_000  # characters of a train.yaml
N_POINTS = 240  # of a curve
N_SAMPLES = 6
OPEN = ("waiting", "running")


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
    return told | {"job": _job(project, name, by=by), "has_run": (project.state / training.RUNS / name).is_dir()}


def watch(project: Project, name: str, *, by: Principal) -> dict[str, Any]:
    """One run for the page that watches: its stages with curves, samples, plan and what was measured, the job that works
    on it, the text of its train.yaml. Raises: NotFoundError, also for what `by` may not see."""
    run = training_made.run(project, name, by=by)
    plan = _plan(project, name)
    stages = [_stage(stage, plan.get(str(stage["stage"]))) for stage in run["stages"]]
    made = next((row for row in trained.trained(project, by=by) if row["name"] == name), None)
    file = project.folder / f"{name}{SUFFIX}"
    return {
        "name": name, "state": state_of(stages), "label": stages[-1]["label"], "stages": stages, "job": _job(project, name, by=by),
        "model": made, "text": file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None,
    }  # fmt: skip


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


def _plan(project: Project, name: str) -> dict[str, dict[str, Any]]:
    """What was planned of each stage; {} where nothing was."""
    try:
        told = json.loads((project.state / training.RUNS / name / training_made.PLAN).read_text(encoding="utf-8"))
        return {str(stage["stage"]): stage for stage in told["stages"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _job(project: Project, name: str, *, by: Principal) -> dict[str, Any] | None:
    """The job that trains or exports the model now, or waits to."""
    for job in work.jobs(project, by=by):
        own = job["args"].get("name") == name or job["args"].get("file") == f"{name}{SUFFIX}"
        if own and job["kind"] in work.LONG and job["state"] in OPEN:
            return job
    return None


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
    name = f"{spec.name}{SUFFIX}"
    write_whole(project.folder / name, text.rstrip().encode() + b"\n")
    return {"name": spec.name, "job": work.submit(project, "train", {"file": name, "stage": stage} | ({"again": True} if again else {}), by=by)}


def go_on(project: Project, name: str, *, by: Principal) -> dict[str, Any]:
    """Queue a run that stopped; it goes on where it was. Raises: NotFoundError, also for what `by` may not see; StateError."""
    training.may_build(by)
    training_made.run(project, name, by=by)
    _require_idle(project, name, by=by)
    if not (project.folder / f"{name}{SUFFIX}").is_file():
        raise StateError(f"{name} was begun from another train.yaml", hint="hagane train all FILE goes on with it")
    return {"name": name, "job": work.submit(project, "train", {"file": f"{name}{SUFFIX}", "stage": "all"}, by=by)}


def publish(project: Project, name: str, *, by: Principal) -> dict[str, Any]:
    """Queue the export of a trained model, with all its gates. Raises: NotFoundError, also for what `by` may not see."""
    training.may_build(by)
    trained.find(project, name, by=by)
    _require_idle(project, name, by=by)
    return {"name": name, "job": work.submit(project, "export", {"name": name}, by=by)}


def _require_idle(project: Project, name: str, *, by: Principal) -> None:
    if _job(project, name, by=by) is not None:
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
