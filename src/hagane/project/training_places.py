"""Where runs lie in a project and how: sealed where it is encrypted. What a plan foretold lies beside its run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hagane.builds import shelf
from hagane.builds.place import Log, Place
from hagane.core.errors import HaganeError
from hagane.core.whole_file import write_whole

from . import trained
from .wire import Project

RUNS = "runs"  # in .hagane
PLAN = "plan.json"


def place_of(project: Project, name: str, stage: str) -> Place:
    """Where a stage of a run lies."""
    return Place(project.state / RUNS / name / stage, **trained.sealing(project))


def keep_plan(project: Project, name: str, told: Mapping[str, Any]) -> None:
    """Write what was planned of a run. Raises: StorageError."""
    data = json.dumps(told, ensure_ascii=False, default=str).encode()
    file = project.state / RUNS / name / PLAN
    write_whole(file, shelf.sealed(data, name, sealer=trained.sealing(project)["sealer"], bound=PLAN.encode()))


def kept_plan(project: Project, name: str) -> dict[str, dict[str, Any]]:
    """What was planned of each stage; {} where nothing was, or where another version wrote it."""
    try:
        data = (project.state / RUNS / name / PLAN).read_bytes()
        told = json.loads(shelf.opened(data, name, bound=PLAN.encode(), **trained.sealing(project)))
        return {str(stage["stage"]): stage for stage in told["stages"]}
    except (OSError, ValueError, KeyError, TypeError, HaganeError):
        return {}


def convert(project: Project) -> None:
    """Seal what runs keep, or open it, as the keys' state says; what a sealed project would not have written goes.
    Doing it again changes nothing. Under the writer lock. Raises: StateError while one is trained; StorageError."""
    seal, sealer = project.keys.sealing, trained.sealing(project)["sealer"]
    for file in sorted((project.state / RUNS).glob(f"*/{PLAN}")):
        shelf.reseal(file, file.parent.name, opener=sealer, sealer=sealer if seal else None, bound=PLAN.encode())
    for file in sorted((project.state / RUNS).glob("*/*/state.json")):
        place = place_of(project, file.parent.parent.name, file.parent.name)
        with place.alone():
            place.reseal(seal=seal)
            if seal:
                Log(place.events).strip()
