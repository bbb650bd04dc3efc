"""Options that many commands share, and how a command opens the project."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_current_context

from hagane.core.errors import HaganeError, NotFoundError, RefusedError

ProjectDir = Annotated[Path, typer.Option("--project", metavar="DIR", help="Project folder (default: this one).")]
As = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Act as this principal of hagane.yaml, or as this user (default: owner).")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Fail at once while another command writes.")]

HERE = Path()
NAMING = ("doc", "to", "thing", "id", "version", "name")  # parameters that may name a thing


@contextlib.contextmanager
def open_project(folder: Path) -> Iterator[Any]:
    """The project in `folder`. What is refused inside is on record."""
    from hagane.project.wire import Project

    with Project.open(folder) as project:
        try:
            yield project
        except HaganeError as error:
            if error.code in ("refused", "not_found") and (project.state / "ledger.db").exists():
                _on_record(project, error)
            raise


def _on_record(project: Any, error: HaganeError) -> None:
    context = get_current_context(silent=True)
    given = context.params if context else {}
    root = (context.find_root().info_name or "") if context else ""
    command = f"hagane{context.command_path.removeprefix(root)}" if context else "hagane"
    with contextlib.suppress(NotFoundError, RefusedError):  # --as somebody who is not there
        by = project.principal(given.get("as_"))
        named = [given[name] for name in NAMING if isinstance(given.get(name), str)]
        project.refusals.note_command(error, by=by, command=command, named=named)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def say(text: str = "") -> None:
    """Talk, on stderr."""
    print(text, file=sys.stderr)


def say_waiting(holder: Any) -> None:
    """Another command writes."""
    say(f"waiting for hagane {holder.command} (pid {holder.pid})")
