"""Data sets that lie in .hagane: what must go with a document, or when encryption is turned on or off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hagane.builds.data_seal import DataSealer, key_of
from hagane.builds.trace import made_from, remove
from hagane.core.errors import StorageError
from hagane.core.labels import EVERYTHING

from .wire import Project

FOLDER = "datasets"  # in .hagane


def sealer_of(project: Project) -> DataSealer | None:
    """What seals data sets; None where the project is not encrypted."""
    return DataSealer(project.keys) if project.keys is not None and project.keys.sealing else None


def forget(project: Project) -> list[str]:
    """Take away every set that holds a version of a document that is no longer kept, and those that do not open: they
    are made anew when they are needed. Their ids. Raises: StorageError."""
    gone = [place for place in _every(project) if _is_stale(project, place)]
    for place in gone:
        remove(place, keys=project.keys)
    _drop_keys(project)
    return [place.name for place in gone]


def take_away(project: Project) -> None:
    """All of them, with their keys. Raises: StorageError."""
    for place in _every(project):
        remove(place, keys=project.keys)
    _drop_keys(project)


def _every(project: Project) -> list[Path]:
    folder = project.state / FOLDER
    return sorted(place for place in folder.iterdir() if place.is_dir()) if folder.is_dir() else []


def _is_stale(project: Project, place: Path) -> bool:
    try:
        parents = made_from(place, sealer=sealer_of(project))
    except StorageError:
        return True
    versions = [one for one in parents or () if not one.startswith("sha256:")]
    return len(project.ledger.documents.versions_of(versions, clearance=EVERYTHING)) < len(set(versions))


def _drop_keys(project: Project) -> None:
    """Keys that a killed `remove` left behind."""
    keys: Any = project.keys
    names = keys.names("dataset:") if keys is not None else []
    if names:  # looked at before the folders: a set's folder is there before its key
        there = {key_of(place.name) for place in _every(project)}
        keys.drop([name for name in names if name not in there])
