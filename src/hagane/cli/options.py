"""Options that many commands share, and how a command opens the project."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

ProjectDir = Annotated[Path, typer.Option("--project", metavar="DIR", help="Project folder (default: this one).")]
As = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Act as this principal of hagane.yaml, or as this user (default: owner).")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Fail at once while another command writes.")]

HERE = Path()


def open_project(folder: Path) -> Any:
    """The project in `folder`, as a context manager."""
    from hagane.project.wire import Project

    return Project.open(folder)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def say(text: str = "") -> None:
    """Talk, on stderr."""
    print(text, file=sys.stderr)


def say_waiting(holder: Any) -> None:
    """Another command writes."""
    say(f"waiting for hagane {holder.command} (pid {holder.pid})")
