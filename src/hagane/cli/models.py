"""hagane models: what is on this machine, what fits it, and fetching more."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .options import Json, print_json, say
from .progress import ProgressKind, progress

models = typer.Typer(help="Models on this machine: list, pull, recommend.", invoke_without_command=True)


@models.callback()
def every(context: typer.Context, json: Json = False) -> None:
    """Models on this machine, with licence and size."""
    if context.invoked_subcommand is not None:
        return
    from hagane.project.models import models as rows

    found = rows()
    if json:
        print_json({"models": found})
        return
    for row in found:
        print(f"{row['name']:<20} {row['state']:<9} {_size(row['size_bytes']):>8}  {','.join(row['languages']):<8} {row['licence']}")


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
