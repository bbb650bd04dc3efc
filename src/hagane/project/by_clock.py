"""What a running server does by the clock: counts of refusals go to the record, the head of the audit log is signed."""

from __future__ import annotations

import threading
import time

from .audit import anchor
from .wire import Project

LOOK_S = 30.0
SIGN_S = 3600.0  # at most this much of the log stands without a signature


class Clock:
    """A thread of its own, from `start` to `stop`."""

    def __init__(self, project: Project, *, look_s: float = LOOK_S, sign_s: float = SIGN_S) -> None:
        self._project = project
        self._look_s, self._sign_s = look_s, sign_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hagane-clock", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        due = time.monotonic() + self._sign_s
        while not self._ending.wait(self._look_s):
            self._project.refusals.flush()
            if time.monotonic() >= due:
                due = time.monotonic() + self._sign_s
                anchor(self._project)
