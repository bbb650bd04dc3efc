"""Where a run keeps what it knows: runs/NAME/STAGE with state.json, events.jsonl, checkpoints/ and out/.

state.json says what the run is made from (`key`), how it is done (`settings`, settled once so that a killed run goes
on with the same numbers), where it stands and what it made. events.jsonl is what a page shows while it runs.

In an encrypted project state.json is sealed but for numbers (OPEN), and events.jsonl holds no text and no name of data.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hagane.core.errors import HaganeError, StateError, StorageError
from hagane.core.seams import Sealer
from hagane.core.whole_file import private_folder, write_whole

from .shelf import key_of

FORMAT = 1
STATES = ("running", "stopped", "failed", "done")
OPEN = frozenset({"format", "stage", "state", "settings", "seconds", "total"})  # what the child needs, and no content
SEALED = "sealed"  # the field of state.json that holds all others
CONTENT = frozenset({"recognised", "prompt", "text"})  # fields of events
MAX_LINES = 4000  # of events.jsonl that are read for a page


def take_place(aside: Path, out: Path) -> None:
    """`aside` under the name `out`, whatever stood there. Raises: StorageError."""
    try:
        if out.exists():
            shutil.rmtree(out)
        out.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.replace(aside, out)
    except OSError as cause:
        raise StorageError(f"{out.name} cannot be written: {cause.strerror}", hint="free space") from cause


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one stage of one run. `sealer`: of an encrypted project; without it only what is OPEN is told of a
    sealed state.json, and changed. `strict`: what lies there in the open is a forgery, but for what is OPEN."""

    folder: Path
    sealer: Sealer | None = None
    strict: bool = False

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
        return self._opened(found) if isinstance(found, dict) and found.get("format") == FORMAT else {}

    def note(self, **changes: Any) -> dict[str, Any]:
        """Change some of state.json. Raises: StorageError."""
        with self._alone_in_state():  # parent and child both note
            told = {"format": FORMAT, **self.state(), **changes}
            self._write(told, sealer=self.sealer)
        return told

    def reseal(self, *, seal: bool) -> None:
        """Write state.json as encryption is turned on or off; doing it again changes nothing. Raises: StorageError."""
        with self._alone_in_state():
            if told := self.state():
                self._write(told, sealer=self.sealer if seal else None)

    def _write(self, told: Mapping[str, Any], *, sealer: Sealer | None) -> None:
        lies = dict(told)
        if sealer is not None:
            inner = json.dumps({name: value for name, value in told.items() if name not in OPEN}, ensure_ascii=False).encode()
            lies = {name: value for name, value in told.items() if name in OPEN}
            lies[SEALED] = base64.b64encode(sealer.seal(key_of(self.folder.parent.name), inner, bound=self._bound)).decode()
        elif SEALED in told and set(told) - OPEN - {SEALED}:
            raise StorageError(f"the state of {self.folder.parent.name} is encrypted", hint="hagane.yaml must name encryption.key")
        write_whole(self.folder / "state.json", (json.dumps(lies, ensure_ascii=False, indent=1) + "\n").encode())

    def _opened(self, lies: dict[str, Any]) -> dict[str, Any]:
        if self.sealer is None:
            return lies
        bare = {name: value for name, value in lies.items() if name in OPEN or (not self.strict and name != SEALED)}
        if SEALED not in lies:
            return bare
        try:
            return {**bare, **json.loads(self.sealer.open(key_of(self.folder.parent.name), base64.b64decode(lies[SEALED]), bound=self._bound))}
        except (HaganeError, ValueError, TypeError) as cause:
            raise StorageError(f"the state of {self.folder.parent.name} is damaged", hint="begin anew with --again") from cause

    @property
    def _bound(self) -> bytes:
        return f"state.json {self.folder.name}".encode()

    @contextlib.contextmanager
    def _alone_in_state(self) -> Iterator[None]:
        private_folder(self.folder)
        handle = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

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
    """Writes events.jsonl; what a killed run wrote behind its last checkpoint is taken out when it goes on. `bare`: no
    samples and no names of data, as in an encrypted project."""

    def __init__(self, file: Path, *, bare: bool = False) -> None:
        self._file = file
        self._bare = bare

    def strip(self) -> None:
        """Take out what `bare` would not have written. Raises: StorageError."""
        if not self._file.exists():
            return
        kept = [bare for event in _every(self._file) if (bare := _without_content(event)) is not None]
        write_whole(self._file, "".join(_line({k: v for k, v in event.items() if k != "n"}) for event in kept).encode())

    def resume(self, step: int) -> None:
        """Forget steps behind `step`. Raises: StorageError."""
        kept = [{k: v for k, v in event.items() if k != "n"} for event in read(self._file) if event.get("step", 0) <= step]
        write_whole(self._file, "".join(_line(event) for event in kept).encode())

    def write(self, event: Mapping[str, Any]) -> None:
        """Raises: StorageError (disk full)."""
        told = _without_content(event) if self._bare else event
        if told is None:
            return
        try:
            with open(self._file, "a", encoding="utf-8") as out:
                out.write(_line(told))
        except OSError as cause:
            raise StorageError(f"{self._file.name}: {cause.strerror}", hint="free space and run the same command again: it goes on") from cause


def _without_content(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if event.get("event") == "sample":
        return None
    return {name: value for name, value in event.items() if name not in CONTENT}


def _line(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False) + "\n"


def read(file: Path, *, behind: int = 0) -> list[dict[str, Any]]:
    """The events of a run, the newest MAX_LINES, without a line that was cut short. `behind`: only those after so many
    lines (each event carries its number `n`)."""
    return _every(file, behind=behind)[-MAX_LINES:]


def _every(file: Path, *, behind: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            for n, line in enumerate(lines, start=1):
                with contextlib.suppress(ValueError):
                    if n > behind and isinstance(event := json.loads(line), dict):
                        found.append({**event, "n": n})
    except FileNotFoundError:
        return []
    return found
