"""hagane backup, hagane restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import HERE, As, Json, NoWait, ProjectDir, open_project, print_json, say, say_waiting
from .progress import ProgressKind, progress


def backup(
    to: Annotated[Path, typer.Argument(metavar="TO", help="Folder for the backups of this project, best on another disk.")],
    index: Annotated[bool, typer.Option("--index/--no-index", help="Leave the index out: smaller, but restoring makes it anew.")] = True,
    no_wait: NoWait = False,
    progress_kind: ProgressKind = "auto",
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Write the project's state into one archive, also while a server runs."""
    from hagane.project.handover import carry_out

    wanted = {"to": str(to.absolute()), "index": index}
    with open_project(project) as opened, progress(progress_kind) as emit:
        done = carry_out(opened, "backup", wanted, as_=as_, emit=emit, waiting=None if no_wait else say_waiting)
    if json:
        print_json(done)
        return
    print(done["archive"])
    say(f"{done['files']:,} files, {done['bytes'] / 1e6:,.1f} MB, sha256 {done['sha256']}")
    if done["keys"]:
        say(f"the keys lie in {done['keys']}, which each backup replaces; the master key is not in it")


def restore(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="An archive, or the folder of backups: its newest.")],
    yes: Annotated[bool, typer.Option("--yes", help="Replace a state that is newer than the archive.")] = False,
    progress_kind: ProgressKind = "auto",
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Bring a backup back: checked as a whole before anything changes. No server may run."""
    from hagane.project.backup import restore as bring

    with progress(progress_kind) as emit:
        done = bring(source, project, by=as_ or "owner", yes=yes, emit=emit)
    if json:
        print_json(done)
        return
    print(f"{done['archive']}  of {done['made_at']}, {done['records']:,} audit records")
    say("users, tokens and labels are as they were then: take back again what was taken back since. All sessions ended")
    if done["erased"]:
        say(f"{done['erased']:,} documents and conversations stay gone: they were erased since")
    if done["kept_yaml"]:
        say("hagane.yaml stayed as it was; the archive's is hagane.yaml.restored")
    say("next: hagane sync" + ("" if done["index"] else "  (which makes the index)"))
