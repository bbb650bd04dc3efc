"""What was refused is on record: by permission, by label, by a rule, and what only looks as if it did not exist.

A request that names something hidden is answered as for something missing, and both are recorded, before the answer and by
the same steps: neither the bytes nor the time of the answer tell which it was; only the record does (`hidden`). A flood does not
fill the log: MOST records per principal and WINDOW_S, then one that counts the rest.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hagane.core.errors import HaganeError
from hagane.core.labels import EVERYTHING
from hagane.core.log import get
from hagane.core.types import Principal

from .trained import is_hidden

if TYPE_CHECKING:
    from .wire import Project

MOST = 30  # records
WINDOW_S = 60.0
MOST_NAMED = 4  # things of one request
_ID = re.compile(r"(?:[a-z]_)?[0-9a-f]{10,20}")
log = get("project.refusals")


@dataclass(slots=True)
class _Window:
    """A principal's refusals since `since` (seconds of the clock)."""

    since: float
    n: int = 0
    n_counted: int = 0  # without a record of their own
    n_hidden: int = 0  # of those


class Refusals:
    """One per project. `clock` gives seconds."""

    def __init__(self, project: Project, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._project, self._clock = project, clock
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}

    def note(
        self, code: str, *, by: Principal, route: str, named: Sequence[str] = (), user: str | None = None,
        method: str | None = None, need: str | None = None, token: str | None = None,
    ) -> None:  # fmt: skip
        """Record that `by` (account `user`) was refused at `route`, a template. `named`: the ids that the request held; the
        record has their hashes, and the ids of those that exist. `code` is the error's. Raises: AuditError."""
        names = [name for name in named if name][:MOST_NAMED]
        hidden = self._project.ledger.hidden.among(names, by=by, user=user)
        hidden += [name for name in names if name not in hidden and is_hidden(self._project, name, by=by)]
        over, is_recorded = self._counted(by.name, is_hidden=bool(hidden))
        self._record_count(by.name, over)
        audit = self._project.ledger.audit
        if is_recorded:
            audit.record(
                "refused", principal=by.name, route=route, method=method, code=code, need=need, token=token,
                named=[audit.digest(name) for name in names] or None,
                hidden=[name if _ID.fullmatch(name) else audit.digest(name) for name in hidden] or None,
            )  # fmt: skip

    def note_command(self, error: HaganeError, *, by: Principal, command: str, named: Sequence[str]) -> None:
        """As `note`, for a command that ended with `error`: a refusal, or something missing that is hidden. Whoever holds the
        folder sees what is missing, so that alone is not recorded. Raises: AuditError."""
        found = [self._document(name) or name for name in named]
        hidden = [name for name in found if self._project.ledger.hidden.among([name], by=by) or is_hidden(self._project, name, by=by)]
        if error.code == "refused" or hidden:
            self.note(error.code, by=by, route=command, named=hidden or found)

    def _document(self, name: str) -> str | None:
        """The id of the document that a command names by its path."""
        try:
            record = self._project.ledger.documents.find(name, clearance=EVERYTHING)
        except HaganeError:
            return None
        return str(record.id)

    def flush(self, *, all_of_them: bool = False) -> None:
        """Record the counts of windows that are over; of `all_of_them` when the server ends."""
        with self._lock:
            over = {name: w for name, w in self._windows.items() if all_of_them or self._clock() - w.since >= WINDOW_S}
            for name in over:
                del self._windows[name]
        for name, window in over.items():
            try:
                self._record_count(name, window)
            except HaganeError as error:
                log.warning("not_counted", error=type(error).__name__)

    def _counted(self, name: str, *, is_hidden: bool) -> tuple[_Window | None, bool]:
        """The window of `name` that is over now, and whether this refusal gets a record of its own."""
        with self._lock:
            window, over = self._windows.get(name), None
            if window is None or self._clock() - window.since >= WINDOW_S:
                over, window = window, _Window(self._clock())
                self._windows[name] = window
            window.n += 1
            if window.n <= MOST:
                return over, True
            window.n_counted += 1
            window.n_hidden += is_hidden
            return over, False

    def _record_count(self, name: str, window: _Window | None) -> None:
        if window is not None and window.n_counted:
            self._project.ledger.audit.record("refused", principal=name, code="more", n=window.n_counted, n_hidden=window.n_hidden)
