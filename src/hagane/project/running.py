"""A project as its server runs it: the one writer, with a worker for the jobs, a socket for commands, and the
clock that signs the audit log.

with Running(project):
    ...  # serve
"""

from __future__ import annotations

import contextlib
import time
from types import TracebackType

from .audit import anchor
from .by_clock import Clock
from .handover import SOCKET, Listener
from .wire import Project
from .work import Worker

ENDS_S = 20.0  # a job under way has this long to come to a safe place; later it is killed and runs again


class Running:
    """Keeps the writer lock from entry to exit. Raises at entry: Busy when another server or command writes."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._lock: contextlib.AbstractContextManager[None] = project.ledger.writer.kept("serve", socket=SOCKET)

    def __enter__(self) -> Running:
        self._lock.__enter__()
        self._worker, self._listener, self._clock = Worker(self._project), Listener(self._project), Clock(self._project)
        try:
            self._worker.start()
            self._listener.start()
            anchor(self._project)  # what a killed server left unsigned
            self._clock.start()
        except BaseException:
            self._worker.stop(ENDS_S)
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        end = time.monotonic() + ENDS_S
        try:
            self._worker.end_soon()
            self._listener.close(ENDS_S)
            self._worker.stop(max(0.1, end - time.monotonic()))
            self._clock.stop()
            self._project.refusals.flush(all_of_them=True)
            anchor(self._project)
        finally:
            self._lock.__exit__(None, None, None)
