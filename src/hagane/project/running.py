"""A project as its server runs it: the one writer, with a worker for the jobs and a socket for commands.

with Running(project):
    ...  # serve
"""

from __future__ import annotations

import contextlib
from types import TracebackType

from .handover import SOCKET, Listener
from .wire import Project
from .work import Worker

ENDS_S = 20.0  # a job under way has this long to come to a safe place; later it is killed and runs again


class Running:
    """Keeps the writer lock from entry to exit. Raises at entry: Busy when another server or command writes."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._all = contextlib.ExitStack()

    def __enter__(self) -> Running:
        project = self._project
        with self._all:
            self._all.enter_context(project.ledger.writer.kept("serve", socket=SOCKET))
            worker, listener = Worker(project), Listener(project)
            worker.start()
            self._all.callback(worker.stop, ENDS_S)
            listener.start()
            self._all.callback(listener.close, ENDS_S)
            self._all = self._all.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._all.close()
