"""hagane serve: the API and the page."""

from __future__ import annotations

from typing import Annotated

import typer

from hagane.core.registry import load

from .options import HERE, ProjectDir, say

SERVERS = {"web": "hagane.server.listen:serve"}  # the one string by which the command line reaches the server


def serve(
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Bind to this address (default: server.host).")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="N", min=0, max=65535, help="Default: server.port; 0: any free one.")] = None,
    project: ProjectDir = HERE,
) -> None:
    """Serve the project: an OpenAI-compatible API and a web page.

    Prints "listening on URL" once it takes requests. Ends with Ctrl-C or SIGTERM.
    """
    load(SERVERS, "web", what="server")(project, host=host, port=port, say=say, ready=lambda url: print(f"listening on {url}", flush=True))
