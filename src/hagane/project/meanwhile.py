"""What may change while an answer is made: its sources are erased or their labels rise, its reader loses their rights.

Both are asked again before a piece is given out: cheaply, and rarely enough that an answer of a second pays nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from hagane.core.accounts import Caller, Permission
from hagane.core.errors import ChangedError, RefusedError, SignInError
from hagane.core.labels import Clearance, Label, join
from hagane.core.types import Passage

from .wire import Project

SOURCES_S = 0.3  # between two looks at the sources; before the end of an answer there is always one
READER_S = 0.5  # between two looks at whoever reads it


class Sources:
    """The versions that were read for one answer, as they are now."""

    def __init__(self, project: Project, passages: Iterable[Passage], *, clearance: Clearance) -> None:
        chunks = [passage.chunk for passage in passages]
        self.label = join(*(chunk.label for chunk in chunks))
        self._talks, self._clearance = project.ledger.conversations, clearance
        self._versions = sorted({chunk.version for chunk in chunks})
        self._written: int | None = None
        self._due = 0.0

    def check(self, *, last: bool = False) -> Label:
        """The join of their labels, as of the last look. Raises: ChangedError when one has left, or rose above the reader."""
        if not self._versions or (time.monotonic() < self._due and not last):
            return self.label
        written = self._talks.written()  # before the rows: what is committed behind it counts at the next look
        if written is None or written != self._written:
            kept = self._talks.standing(self._versions)
            self.label = join(self.label, *kept.values())
            if len(kept) < len(self._versions) or not self.label.flows_to(self._clearance):
                raise ChangedError("the documents changed while they were read", hint="ask again")
            self._written = written
        self._due = time.monotonic() + SOURCES_S
        return self.label


class Reader:
    """Whoever reads an answer under way. `look` finds them anew, by what they came with.

    Called with the label of what is about to be given out. Raises: SignInError when they are gone, disabled, or their
    token or session ended; RefusedError when they may not ask any more, or their clearance no longer covers the label.
    """

    def __init__(self, look: Callable[[], Caller | None], *, need: Permission = "ask") -> None:
        self._look, self._need = look, need
        self._due = time.monotonic() + READER_S  # the door has just looked

    def __call__(self, label: Label, *, last: bool = False) -> None:
        if time.monotonic() < self._due and not last:
            return
        caller = self._look()
        if caller is None:
            raise SignInError("you are not signed in any more", hint="sign in again, or take another token")
        if self._need not in caller.permissions or not label.flows_to(caller.principal.clearance):
            raise RefusedError("you may not read on", hint="what you may do or see was changed meanwhile")
        self._due = time.monotonic() + READER_S
