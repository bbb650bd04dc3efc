"""The command `hagane`: every verb of the project, nothing computed here.

Exit codes: 0 good (abstaining and finding nothing included), 1 refused or failed, 2 wrong use, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from hagane import __version__
from hagane.core.errors import HaganeError
from hagane.core.log import configure

from . import ask, backup, documents, evals, feedback, govern, keys, models, people, serve, train
from .options import say

STOPPED = 130  # what Typer makes of Ctrl-C

app = typer.Typer(
    name="hagane",
    help="Build, prove and run your company's own LLM. One folder, one file (hagane.yaml), one command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hagane {__version__}")
        raise typer.Exit()


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and events.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    if debug:
        os.environ["HAGANE_DEBUG"] = "1"
    configure("debug" if debug else None)


app.command()(documents.init)
app.command()(documents.add)
app.command()(documents.sync)
app.command()(documents.docs)
app.command()(documents.show)
app.command()(ask.search)
app.command(name="ask")(ask.ask)
app.command()(govern.label)
app.command()(train.plan)
app.command()(train.train)
app.command()(train.export)
app.command()(serve.serve)
app.command()(backup.backup)
app.command()(backup.restore)
app.add_typer(govern.audit, name="audit")
app.add_typer(feedback.feedback, name="feedback")
app.add_typer(people.user, name="user")
app.add_typer(people.group, name="group")
app.add_typer(people.token, name="token")
app.add_typer(people.access, name="access")
app.add_typer(keys.keys, name="keys")
app.add_typer(models.models, name="models")
app.add_typer(evals.evals, name="eval")


def main() -> None:
    """Entry point. Users see no traceback unless --debug."""
    try:
        app()
    except HaganeError as error:
        _explain(error)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == STOPPED:
            say("\nstopped; what was done is kept")
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as mistake:  # ours, never the user's: its message may hold content, so only its kind is said
        if os.environ.get("HAGANE_DEBUG"):
            raise
        say(f"error: hagane made a mistake ({type(mistake).__name__})")
        say("hint: run it again as `hagane --debug ...` and report what it prints")
        sys.exit(1)


def _explain(error: HaganeError) -> None:
    if os.environ.get("HAGANE_DEBUG"):
        import traceback

        traceback.print_exception(error)
    say(f"error: {error}")
    if error.hint:
        say(f"hint: {error.hint}")
