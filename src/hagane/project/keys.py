"""Verbs about encryption at rest: the keys of a project, turning it on and off, rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hagane.core.errors import StateError

if TYPE_CHECKING:
    from .wire import Project

FOLDER = "keys"  # in .hagane


def open_keys(project: Project) -> Any | None:
    """The keys that hagane.yaml names, made when the project is new; None when it names none.
    Raises: ConfigError for a wrong or missing key; StateError for a project that was not encrypted from the start."""
    where = project.config.encryption.key
    if where is None:
        return None
    from hagane.ledger.keys import Keys
    from hagane.ledger.master import read_master

    master = read_master(where, base=project.folder)
    folder = project.state / FOLDER
    if not Keys.exist(folder):
        if (project.state / "ledger.db").exists():
            raise StateError("this project is not encrypted yet", hint="hagane keys on encrypts what is there")
        return Keys.create(folder, master)
    return Keys.open(folder, master)
