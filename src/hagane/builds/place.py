"""Where a run keeps what it knows: runs/NAME/STAGE with state.json, events.jsonl, checkpoints/ and out/.

state.json says what the run is made from (`key`), how it is done (`settings`, settled once so that a killed run goes
on with the same numbers), where it stands and what it made. events.jsonl is what a page shows while it runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hagane.core.errors import StateError, StorageError
from hagane.core.whole_file import private_folder, write_whole

FORMAT = 1
STATES = ("running", "stopped", "failed", "done")
MAX_LINES = 4000  # of events.jsonl that are read for a page


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one stage of one run."""

    folder: Path

    @property
    def out(self) -> Path:
        """What the stage made: tokenizer/, hf/ or adapter/."""
        return self.folder / "out"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    def state(self) -> dict[str, Any]:
        """state.json; {} where nothing was begun. Raises: StorageError."""
        try:
            found = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as cause:
            raise StorageError(f"{self.folder}/state.json cannot be read: {type(cause).__name__}", hint="begin anew with --again") from cause
        return found if isinstance(found, dict) and found.get("format") == FORMAT else {}

    def note(self, **changes: Any) -> dict[str, Any]:
        """Change some of state.json. Raises: StorageError."""
        told = {"format": FORMAT, **self.state(), **changes}
        write_whole(self.folder / "state.json", (json.dumps(told, ensure_ascii=False, indent=1) + "\n").encode())
        return told

    def clear(self) -> None:
        """Everything of the run away. Raises: StorageError."""
        try:
            for one in self.folder.iterdir() if self.folder.is_dir() else ():
                if one.name != "lock":
                    shutil.rmtree(one) if one.is_dir() else one.unlink()
        except OSError as cause:
            raise StorageError(f"{self.folder}: {cause.strerror}", hint="check the rights of .hagane") from cause

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """This process is the only one that works on the run. Raises: StateError when another does."""
        private_folder(self.folder)
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as cause:
                raise StateError(
                    f"{self.folder.parent.name} {self.folder.name} is being trained by another process",
                    hint="wait for it, or cancel its job",
                ) from cause
            yield
        finally:
            os.close(handle)

    def is_taken(self) -> bool:
        """Whether a process works on the run now."""
        if not (self.folder / "lock").exists():
            return False
        try:
            with self.alone():
                return False
        except StateError:
            return True


class Log:
    """Writes events.jsonl; what a killed run wrote behind its last checkpoint is taken out when it goes on."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def resume(self, step: int) -> None:
        """Forget steps behind `step`. Raises: StorageError."""
        kept = [{k: v for k, v in event.items() if k != "n"} for event in read(self._file) if event.get("step", 0) <= step]
        write_whole(self._file, "".join(_line(event) for event in kept).encode())

    def write(self, event: Mapping[str, Any]) -> None:
        """Raises: StorageError (disk full)."""
        try:
            with open(self._file, "a", encoding="utf-8") as out:
                out.write(_line(event))
        except OSError as cause:
            raise StorageError(f"{self._file.name}: {cause.strerror}", hint="free space and run the same command again: it goes on") from cause


def _line(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False) + "\n"


def read(file: Path, *, behind: int = 0) -> list[dict[str, Any]]:
    """The events of a run, the newest MAX_LINES, without a line that was cut short. `behind`: only those after so many
    lines (each event carries its number `n`)."""
    found: list[dict[str, Any]] = []
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            for n, line in enumerate(lines, start=1):
                with contextlib.suppress(ValueError):
                    if n > behind and isinstance(event := json.loads(line), dict):
                        found.append({**event, "n": n})
    except FileNotFoundError:
        return []
    return found[-MAX_LINES:]
