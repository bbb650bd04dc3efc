"""How a store's content is kept, plain or sealed: noted beside its tables, and never mixed."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import StateError
from ..core.whole_file import write_whole
from .payload import Plain


class Form:
    """The note in `folder`, against the form that is `wanted` now."""

    def __init__(self, folder: Path, wanted: str) -> None:
        self._file = folder / "form"
        self._wanted = wanted

    def require(self, *, n_rows: int) -> None:
        """Raises: StateError when `n_rows` chunks are kept in another form."""
        if n_rows and self.stored() != self._wanted:
            raise StateError(
                "the search index is kept in another form than encryption in hagane.yaml wants",
                hint="hagane keys status says what is needed: hagane keys on, or hagane keys off",
            )

    def stored(self) -> str:
        return self._file.read_text(encoding="ascii") if self._file.exists() else Plain.form

    def note(self) -> None:
        """Durable before the first row of it."""
        if self.stored() == self._wanted:
            return
        write_whole(self._file, self._wanted.encode("ascii"))

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)
