"""hagane label, hagane audit: who may see what, and what happened."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from hagane.core.errors import UsageError

from .options import HERE, As, Json, NoWait, ProjectDir, open_project, print_json, say, say_waiting

audit = typer.Typer(help="The record of what happened.", no_args_is_help=True)


def label(
    doc: Annotated[str, typer.Argument(metavar="DOC|approve|list", help="Id, path or path ending; or `approve`, or `list`.")],
    to: Annotated[str | None, typer.Argument(metavar="LABEL|ID", help="LEVEL or LEVEL:c1+c2; or a request's id.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why. Needed for every change.")] = None,
    no_wait: NoWait = False,
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Change a document's label. Raising applies at once; lowering waits for a second principal.

    hagane label DOC LABEL --reason TEXT | hagane label approve ID --as OTHER | hagane label list
    """
    from hagane.project.documents import requests
    from hagane.project.handover import carry_out

    with open_project(project) as opened:
        by = opened.principal(as_)

        def change(verb: str, wanted: dict[str, Any]) -> Any:
            return carry_out(opened, verb, wanted, as_=as_, emit=lambda event: None, waiting=None if no_wait else say_waiting)

        if doc == "list" and to is None:
            waiting = requests(opened, by=by)
            if json:
                print_json({"requests": waiting})
            for row in () if json else waiting:
                print(f"{row['id']}  {row['document'] or row['source']}  {row['before']} -> {row['to']}  by {row['requester']}: {row['reason']}")
            return
        if to is None and doc == "approve":
            raise UsageError("the ID of a request is missing", hint="hagane label list shows them; hagane label approve ID --as NAME")
        if to is None:
            raise UsageError("a LABEL is missing", hint="hagane label DOC LABEL --reason TEXT")
        if doc == "approve":
            done = change("approve", {"request": to})
            print_json(done) if json else print(f"{done['before']} -> {done['after']} ({len(done['documents'])} documents)")
            return
        if reason is None:
            raise UsageError("a change of label needs a reason", hint='--reason "..."')
        done = change("label", {"doc": doc, "to": to, "reason": reason})
    if json:
        print_json(done)
    elif done["request"]:
        print(done["request"])
        say(f"{done['path']} keeps {done['before']}; lowering to {done['to']} waits for another principal:")
        say(f"  hagane label approve {done['request']} --as NAME")
    else:
        print(f"{done['before']} -> {done['after']}")


@audit.command()
def verify(
    expect: Annotated[str | None, typer.Option("--expect", metavar="HEAD", help="A head kept elsewhere.")] = None,
    checkpoints: Annotated[Path | None, typer.Option("--checkpoints", metavar="FILE", help="A copy of the signed checkpoints kept elsewhere.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="The public key kept elsewhere (default: the project's own).")] = None,
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Check that no record was changed, dropped, swapped or cut, and that all signed checkpoints fit. Exit 1 otherwise."""
    from hagane.project.audit import verify as check

    with open_project(project) as opened:
        opened.principal(as_)
        report = check(opened, expect=expect, checkpoints=checkpoints, key=key)
    if json:
        print_json(report)
    else:
        signed = report["checkpoints"]
        print(f"{'good' if report['ok'] else 'NOT GOOD'}: {report['count']:,} records, head {report['head']}")
        print(f"{signed['count']:,} signed checkpoints, the last at record {signed['last']:,}")
        for line in (*report["problems"], *report["notes"]):
            say(f"  {line}")
    if not report["ok"]:
        raise typer.Exit(1)


@audit.command()
def checkpoint(project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """Sign the head of the log now; says the public key. Keep both elsewhere."""
    from hagane.project.audit import checkpoint as sign

    with open_project(project) as opened:
        opened.principal(as_)
        made = sign(opened)
    if json:
        print_json(made)
        return
    print(f"record {made['count']:,}, head {made['hash']}")
    print(f"public key {made['public_key']}")
    say("keep the key, and a copy of .hagane/audit/checkpoints.jsonl, where nobody who can write here can write")


@audit.command()
def export(
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only records from this ISO time on, for example 2026-11-01.")] = None,
    project: ProjectDir = HERE,
    as_: As = None,
) -> None:
    """The whole log as OCSF events, one JSON object per line, for a SIEM. Ids and hashes, no content."""
    from hagane.project.audit import export as events

    with open_project(project) as opened:
        for event in events(opened, by=opened.principal(as_), since=since):
            print(dumps(event, ensure_ascii=False, separators=(",", ":")))
