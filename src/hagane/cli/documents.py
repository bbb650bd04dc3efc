"""hagane init, add, sync, docs, show."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import HERE, As, Json, NoWait, ProjectDir, open_project, print_json, say, say_waiting
from .progress import ProgressKind, progress

Yes = Annotated[bool, typer.Option("--yes", help="Delete even when a source is missing or lost many documents.")]
WordsOnly = Annotated[bool, typer.Option("--words-only", help="Return when words are searchable; vectors come with the next sync.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 when a file was set aside.")]


def init(folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder; it may hold files already.")] = HERE, json: Json = False) -> None:
    """Make a folder a project: writes hagane.yaml."""
    from hagane.project.documents import init as make

    file = make(folder)
    if json:
        print_json({"project": str(file.parent.resolve()), "file": str(file.resolve())})
    else:
        print(f"{file}")
        say("next: hagane add PATH  (a folder of documents), then: hagane ask \"...\"")


def add(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Folders or files.")],
    label: Annotated[str | None, typer.Option("--label", metavar="LABEL", help="LEVEL or LEVEL:c1+c2.")] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Name of the source.")] = None,
    yes: Yes = False,
    words_only: WordsOnly = False,
    strict: Strict = False,
    no_wait: NoWait = False,
    progress_kind: ProgressKind = "auto",
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Write folders or files into hagane.yaml and take their documents in."""
    wanted = {"paths": [str(path.absolute()) for path in paths], "label": label, "name": name, "yes": yes, "words_only": words_only}
    _take_in("add", wanted, project, as_, strict=strict, no_wait=no_wait, progress_kind=progress_kind, json=json)


def sync(
    yes: Yes = False,
    words_only: WordsOnly = False,
    strict: Strict = False,
    no_wait: NoWait = False,
    progress_kind: ProgressKind = "auto",
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Bring search up to date with the sources: new, changed, renamed and deleted files."""
    wanted = {"yes": yes, "words_only": words_only}
    _take_in("sync", wanted, project, as_, strict=strict, no_wait=no_wait, progress_kind=progress_kind, json=json)


def _take_in(
    verb: str, wanted: dict[str, Any], project: Path, as_: str | None, *, strict: bool, no_wait: bool, progress_kind: str, json: bool
) -> None:  # fmt: skip
    """add or sync: here, or by the server that runs on this project."""
    from hagane.project.handover import carry_out

    with open_project(project) as opened:
        opened.principal(as_)
        started = time.perf_counter()
        with progress(progress_kind) as emit:
            report = carry_out(opened, verb, wanted, as_=as_, emit=emit, waiting=None if no_wait else say_waiting)
    seconds = round(time.perf_counter() - started, 2)
    failed = bool(report["refused"]) or (strict and bool(report["aside"]))
    if json:
        print_json({**report, "seconds": seconds})
    else:
        _print_report(report, seconds)
    if failed:
        raise typer.Exit(1)


def _print_report(report: Any, seconds: float) -> None:
    counts = {
        "added": len(report["added"]), "changed": len(report["changed"]), "renamed": len(report["renamed"]),
        "removed": len(report["removed"]), "unchanged": report["unchanged"], "set aside": len(report["aside"]),
        "relabelled": report["relabelled"],
    }  # fmt: skip
    print(", ".join(f"{n:,} {what}" for what, n in counts.items() if n) or "nothing to do", f"({seconds:.1f} s)")
    print(f"{report['chunks']:,} passages, {report['vectors']:,} with vectors" + (f"; {report['duplicates']:,} copies searched once" if report["duplicates"] else ""))
    for aside in report["aside"][:20]:
        say(f"  set aside: {aside['path']}: {aside['reason']}" + (f" ({aside['detail']})" if aside["detail"] else ""))
    if len(report["aside"]) > 20:
        say(f"  ... and {len(report['aside']) - 20:,} more: hagane docs")
    for waiting in report["label_requests"]:
        say(f"  source {waiting['source']} keeps {waiting['from']}: lowering to {waiting['to']} waits for a second principal")
        say(f"    hagane label approve {waiting['id']} --as NAME")
    if report["labels_kept"]:
        say(f"  {report['labels_kept']:,} keep the label that their file had under another source; to lower one: hagane label DOC LABEL --reason TEXT")
    for refused in report["refused"]:
        say(f"  nothing deleted in source {refused['source']}: {refused['why']} ({len(refused['paths']):,})")
        for path in refused["paths"][:10]:
            say(f"    {path}")
        say("    hint: if that is right, run again with --yes")
    if not report["complete"]:
        say("  not all passages have vectors yet: hagane sync goes on")


def docs(project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """What is in, what was set aside and why."""
    from hagane.project.documents import docs as every

    with open_project(project) as opened:
        rows = every(opened, by=opened.principal(as_))
    if json:
        print_json({"documents": rows})
        return
    for row in rows:
        why = f"  {row['reason']} {row['detail']}".rstrip() if row["state"] != "in" else ""
        print(f"{row['id']}  {row['state']:<9}  {row['label']:<16}  {row['path']}{why}")
    states = [row["state"] for row in rows]
    say(f"{states.count('in'):,} in, {states.count('duplicate'):,} copies, {states.count('aside'):,} set aside")


def show(
    doc: Annotated[str, typer.Argument(metavar="DOC", help="Id, path, or the ending of a path.")],
    page: Annotated[int | None, typer.Option("--page", metavar="N", min=1, help="Only this page, slide or sheet.")] = None,
    version: Annotated[str | None, typer.Option("--version", metavar="ID", help="An old version, as a citation names it.")] = None,
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """A document as it was read, with its places."""
    from hagane.project.documents import show as open_document
    from hagane.project.shown import shown_json, shown_text

    with open_project(project) as opened:
        shown = open_document(opened, doc, by=opened.principal(as_), version=version)
    if json:
        print_json(shown_json(shown, page=page))
    else:
        print(shown_text(shown, page=page))
