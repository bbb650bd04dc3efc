"""hagane keys: encryption at rest. Keys are made, looked at, rotated; encryption is turned on and off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import HERE, As, Json, ProjectDir, open_project, print_json, say

keys = typer.Typer(help="Encryption at rest: the project's keys.", no_args_is_help=True)

Key = Annotated[str, typer.Argument(metavar="KEY", help="Where the master key is: file:PATH, env:NAME or keyring:NAME.")]


@keys.command()
def create(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet, outside .hagane and all sources.")],
    json: Json = False,
) -> None:
    """Write a new random master key into FILE, for its owner only. Keep a copy apart from the project's backups."""
    from hagane.project.keys import create as make

    made = make(file)
    if json:
        print_json({"created": str(made)})
    else:
        print(made)
    say("without this key nothing of an encrypted project can be read: keep a copy in another place")


@keys.command()
def status(project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """Whether the project is encrypted, and whether its key opens it."""
    from hagane.project.keys import status as look

    with open_project(project) as opened:
        found = look(opened, by=opened.principal(as_))
    if json:
        print_json(found)
    elif not found["encrypted"]:
        print("not encrypted")
    else:
        blind = "the index holds keyed hashes" if found["blind_index"] else "the index holds words"
        print(f"encrypted ({found['state']}), key {found['key']}: {found['documents']:,} documents, {found['originals']:,} originals; {blind}")


@keys.command()
def on(key: Key, project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """Encrypt an existing project and name KEY in hagane.yaml. Interrupted, the same command goes on."""
    from hagane.project.keys import turn_on, written_key

    with open_project(project) as opened:
        written = written_key(key, folder=opened.folder, here=Path.cwd())
        turn_on(opened, written, by=opened.principal(as_), emit=_told)
    if json:
        _print_status(project, as_)
    say("encrypted; older copies and backups of .hagane are not: delete them")


@keys.command()
def off(project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """Decrypt the project, take the key out of hagane.yaml and delete .hagane/keys. Interrupted, it goes on."""
    from hagane.project.keys import turn_off

    with open_project(project) as opened:
        turn_off(opened, by=opened.principal(as_), emit=_told)
    if json:
        _print_status(project, as_)
    say("decrypted")


@keys.command()
def rotate(
    to: Annotated[str | None, typer.Option("--to", metavar="KEY", help="The new master key: file:PATH, env:NAME or keyring:NAME.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="A new project key and new keys for the ledger's columns, too.")] = False,
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Let another master key open the project, and name it in hagane.yaml. The old one opens nothing any more."""
    from hagane.project.keys import rotate as change
    from hagane.project.keys import written_key

    with open_project(project) as opened:
        written = written_key(to, folder=opened.folder, here=Path.cwd()) if to else None
        change(opened, written, by=opened.principal(as_), deep=deep)
    if json:
        _print_status(project, as_)
    say("rotated; keep the old key only as long as you keep backups that it opens")


def _print_status(project: Path, as_: str | None) -> None:
    """How it is now: what `status --json` prints."""
    from hagane.project.keys import status as look

    with open_project(project) as opened:
        print_json(look(opened, by=opened.principal(as_)))


def _told(event: Mapping[str, Any]) -> None:
    if event["event"] == "convert":
        say(f"{event['done']:,} files")
