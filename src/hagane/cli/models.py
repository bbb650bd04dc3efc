"""hagane models: what is on this machine, what was made here, what fits, and fetching more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import HERE, As, Json, ProjectDir, open_project, print_json, say
from .progress import ProgressKind, progress

models = typer.Typer(help="Models on this machine: list, show, pull, recommend, remove.", invoke_without_command=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="A model that was made here.")]


@models.callback()
def every(context: typer.Context, project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """Models on this machine, with licence and size; in a project also those that were made in it, with their labels."""
    if context.invoked_subcommand is not None:
        return
    from hagane.project.models import models as rows

    found, made = rows(), _made(project, as_)
    if json:
        print_json({"models": found, "made": made})
        return
    for row in found:
        print(f"{row['name']:<20} {row['state']:<9} {_size(row['size_bytes']):>8}  {','.join(row['languages']):<8} {row['licence']}")
    for row in made:
        print(f"{row['name']:<20} {row['state']:<9} {_size(row['size_bytes']):>8}  [{row['label'] or 'label unknown'}]  {_what(row)}")


def _made(folder: Path, as_: str | None) -> list[dict[str, Any]]:
    """The made models of the project in `folder`; none where there is no project."""
    from hagane.project.trained import trained
    from hagane.project.wire import Project

    if not Project.is_in(folder):
        return []
    with open_project(folder) as opened:
        return trained(opened, by=opened.principal(as_))


def _what(row: dict[str, Any]) -> str:
    """What kind of thing it is, and what is to be known of it."""
    made = f"{row['kind']} on {row['base']}" if row["base"] else row["kind"]
    told = [made if row["stage"] else "", row["why"]]
    told += [f"gate {name} failed" for name, passed in row["gates"].items() if not passed and not row["why"]]
    told += [f"trained on {row['gone']} documents since removed" if row["gone"] > 1 else "trained on 1 document since removed"] if row["gone"] else []
    told += ["not served: another model has this name"] if row["is_taken"] else []
    return "; ".join(filter(None, told))


@models.command()
def show(name: Name, project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """Everything about a model that was made here: label, data, files, gates, figures."""
    from hagane.project.trained import find

    with open_project(project) as opened:
        told = find(opened, name, by=opened.principal(as_))
    if json:
        print_json(told)
        return
    print(f"{told['name']}  {told['state']}  {_size(told['size_bytes'])}  [{told['label'] or 'label unknown'}]  {_what(told)}")
    if told["raised"]:
        print("label: raised since it was made, with the documents that it learnt from")
    rows = [
        ("base", " ".join(filter(None, [told["base"], f"({told['base_licence']})" if told["base_licence"] else ""])) or "none: from scratch"),
        ("stage", told["stage"]), ("made", told["created_at"]), ("parameters", f"{told['params']:,}"), ("context", f"{told['context']:,} tokens"),
        ("chat", told["chat"]), ("documents", f"{told['documents']:,}, {told['gone']:,} of them since removed"), ("data sets", ", ".join(told["datasets"])),
        ("models made from it", ", ".join(told["made_from_it"])), ("folder", told["folder"]),
    ]  # fmt: skip
    for key, value in rows:
        if value:
            print(f"{key + ':':<22} {value}")
    for file in told["files"]:
        print(f"{'file:':<22} {file['path']}  {_size(file['size_bytes'])}  sha256 {file['sha256']}{'  (answers)' if file['path'] == told['served'] else ''}")
    for gate, report in told["reports"].items():
        verdict = {True: "passed", False: "FAILED", None: ""}[told["gates"].get(gate)]
        print(f"{gate + ':':<22} {' '.join(filter(None, [verdict, _figures(report)]))}")


def _figures(report: Any) -> str:
    """The plain values of a report; what is nested stands in --json."""
    if not isinstance(report, dict):
        return str(report)
    return ", ".join(f"{key} {value}" for key, value in report.items() if key != "passed" and isinstance(value, str | int | float))


@models.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Remove a model that was made here, with all its files. What was trained from it stays."""
    from hagane.project.trained import find
    from hagane.project.trained import remove as take_away

    with open_project(project) as opened:
        by = opened.principal(as_)
        if not yes:
            told = find(opened, name, by=by)
            typer.confirm(f"remove {name} ({_size(sum(file['size_bytes'] for file in told['files']))})?", abort=True, err=True)
        take_away(opened, name, by=by)
    if json:
        print_json({"removed": name})
    else:
        say(f"removed {name}")


@models.command()
def recommend(
    language: Annotated[str, typer.Option("--language", metavar="CODE", help="A language that it must know.")] = "ja",
    json: Json = False,
) -> None:
    """The most able known model that fits this machine's memory and cores."""
    from hagane.project.models import recommend as best

    found = best(language=language)
    if json:
        print_json(found)
        return
    say(f"{found['memory_bytes'] / 1e9:.1f} GB of free memory, {found['cores']} cores")
    model = found["model"]
    if model is None:
        say("no known model fits")
        raise typer.Exit(1)
    print(f"{model['name']}  {_size(model['size_bytes'])}  {model['licence']}  ({model['state']})")
    if model["state"] == "missing":
        say(f"hint: {found['install'] or 'hagane models pull ' + model['name']}")


@models.command()
def pull(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="hf:OWNER/REPO/FILE, ollama:NAME:TAG, a URL, a file, or a listed name.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Name on this machine.")] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", metavar="HEX", help="Refuse other bytes.")] = None,
    progress_kind: ProgressKind = "auto",
    json: Json = False,
) -> None:
    """Fetch a model: resumed when interrupted, checked before it is used."""
    from hagane.project.models import pull as fetch

    with progress(progress_kind) as emit:
        made: dict[str, Any] = fetch(source, name=name, sha256=sha256, emit=emit)
    if json:
        print_json(made)
    else:
        print(f"{made['name']}  {_size(made['size_bytes'])}  sha256 {made['sha256']}")
        if made["already"]:
            say("it is there already: an installed package brings it")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
