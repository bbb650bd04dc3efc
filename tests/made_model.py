"""A made model to put on the shelf: a few random numbers as a GGUF file, and its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tiny_gguf

from hagane.builds.shelf import Base, Record, file_of
from hagane.core.labels import Label
from hagane.project import trained
from hagane.project.wire import Project

GATES = {"parity": {"passed": True}, "memory": {"passed": True, "longest_copy": 12}, "dev": {"loss": 2.5}, "measured": {"seconds": 12.0}}


def put(project: Project, name: str, label: str = "internal", *, parents: Sequence[str] = (), state: Any = "published", **changes: Any) -> Record:
    """The model `name` in `project`, published unless `state` says else."""
    folder = trained.folder_of(project) / name
    folder.mkdir(parents=True, exist_ok=True)
    tiny_gguf.write(folder / f"{name}-F32.gguf")
    file = file_of(folder, f"{name}-F32.gguf", role="gguf", numbers="F32")
    record = Record(
        name, kind="model", label=Label.parse(label), stage="tune", state=state, base=Base("gemma3-270m", "gemma"), parents=tuple(parents),
        files=(file,), served=file.path, chat="template", n_params=40_000, context=512, reports=GATES,
    )  # fmt: skip
    return trained.keep(project, replace(record, **changes), by=project.principal())
