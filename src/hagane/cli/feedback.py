"""hagane feedback export: what people said of answers, as JSON lines."""

from __future__ import annotations

import json

import typer

from .options import HERE, As, ProjectDir, open_project, say

feedback = typer.Typer(name="feedback", help="What people said of answers.", no_args_is_help=True)


@feedback.callback()
def _feedback() -> None:
    """What people said of answers."""


@feedback.command()
def export(project: ProjectDir = HERE, as_: As = None) -> None:
    """One JSON object per line: question, answer, citations, what was said, label. As far as the clearance reaches."""
    from hagane.project.feedback import export as rows_of

    with open_project(project) as opened:
        opened.require_synced()
        rows = rows_of(opened, by=opened.principal(as_))
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))
    say(f"{len(rows)} rows")
