"""The application: routes put together around one open project.

    app = create_app(Project.open(folder))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from hagane import __version__
from hagane.project.wire import Project

from . import (
    chat_routes,
    document_routes,
    govern_routes,
    openai_routes,
    operation_routes,
    page_routes,
    people_routes,
    session_routes,
    viewer_routes,
)
from .access import needs
from .threads import Threads

ROUTES = (
    chat_routes,
    document_routes,
    govern_routes,
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


def create_app(project: Project) -> FastAPI:
    """The server over `project`. Raises: HaganeError when a route does not say who may use it."""
    from .doorkeeper import Doorkeeper
    from .errors import install_errors
    from .pages import Pages

    app = FastAPI(title="Hagane", version=__version__, docs_url=None, redoc_url=None)
    app.state.site = SiteState(project, Threads(), Doorkeeper(project), Pages())
    install_errors(app)
    for routes in ROUTES:
        app.include_router(routes.router)
    for _ in needs(app):
        pass
    return app
