"""The application: routes put together around one open project.

    app = create_app(Project.open(folder))
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request

from hagane import __version__
from hagane.core.errors import HaganeError
from hagane.project.wire import Project

from . import (
    board_routes,
    chat_routes,
    document_routes,
    govern_routes,
    model_routes,
    openai_routes,
    operation_routes,
    page_routes,
    people_routes,
    session_routes,
    viewer_routes,
)
from .access import Asking, needs
from .openapi import describe
from .threads import Threads

ROUTES = (
    board_routes,
    chat_routes,
    document_routes,
    govern_routes,
    model_routes,
    openai_routes,
    operation_routes,
    page_routes,
    people_routes,
    session_routes,
    viewer_routes,
)


@dataclass(slots=True)
class SiteState:
    """What every route may use."""

    project: Project
    threads: Threads
    doorkeeper: Any  # server/doorkeeper.py: who is calling
    pages: Any  # server/pages.py: templates and languages
    sso: Any = None  # server/oidc.py: the identity provider, once someone asked for it


def create_app(project: Project, *, host: str | None = None) -> FastAPI:
    """The server over `project`, to be bound to `host` (hagane.yaml's unless given).
    Raises: HaganeError when a route does not say who may use it."""
    from hagane.project import people

    from .doorkeeper import Doorkeeper
    from .errors import install_errors
    from .limits import Limits
    from .metrics import Counted, Metrics
    from .pages import Pages
    from .traces import traces

    app = FastAPI(title="Hagane", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.site = SiteState(project, Threads(each=project.config.server.answers_each), Doorkeeper(project, people), Pages())
    config = project.config.server
    app.add_middleware(Limits, config=config, host=host or config.host)
    app.state.metrics, app.state.traces = Metrics(project), traces(project)
    app.add_middleware(Counted, metrics=app.state.metrics)
    project.watchers += [app.state.metrics.saw, *([app.state.traces] if app.state.traces else [])]
    install_errors(app)
    for routes in ROUTES:
        app.router.routes.extend(routes.router.routes)  # flat: what stands in app.routes is all that there is
    app.get("/openapi.json", include_in_schema=False)(openapi)
    _check(app)
    return app


async def openapi(caller: Asking, request: Request) -> dict[str, Any]:
    """Every route of the API, for whoever is signed in."""
    return describe(request.app)


def _check(app: FastAPI) -> None:
    """Raises: HaganeError for a route without an access declaration, or two of one address and method."""
    seen: set[tuple[str, str]] = set()
    for route, _ in needs(app):
        for method in route.methods:
            address = re.sub(r"\{[^}:]*", "{", route.path)  # what a part is called makes no difference
            if (address, method) in seen:
                raise HaganeError(f"{method} {route.path} stands twice", hint="one address, one route")
            seen.add((address, method))
