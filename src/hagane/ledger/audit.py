"""The audit log: append-only JSON lines, each carrying the hash of the one before.

`log.jsonl` holds the records, `head.json` the number of records, the last hash and the log's length. A
record counts once both are on disk. Records of threads that come at the same time are written together, so
that two synced writes (about 12 ms) serve them all. A crash between log and head leaves at most one such group
of fitting records, and perhaps a piece of one, behind the head: that is mended on the next append and noted;
anything else is tampering, and then nothing more is recorded, so that no act happens on top of it.

What it cannot see by itself: someone who rewrites both files. Signed checkpoints (checkpoint.py) and a head kept
elsewhere, given to `verify(expect=...)`, see that.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import AuditError, StorageError
from ..core.whole_file import private_folder, sync_folder, write_whole
from .records import now

T = TypeVar("T")
ZERO = "0" * 64
_CONTENT = frozenset({"text", "content", "question", "answer", "quote", "prompt", "query", "title", "path", "password"})
_LONGEST = 300  # characters of a field: ids, labels and hashes are short; content is long
_PIECE = 65_536  # bytes that `newest` reads at once
_LONGEST_LINE = 60_000  # bytes; `_last_is` reads the last 64 KiB
GATHER_S = 0.02  # as long as a model takes for a token
GROUP = 256  # records written together at most; so many may stand behind the head after a crash
_OWN = ("seq", "time", "act", "principal", "prev", "hash")


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log."""

    count: int = 0
    hash: str = ZERO
    size: int = 0  # bytes of log.jsonl


@dataclass(slots=True)
class _Entry:
    """A record that waits to be written, and how that went."""

    act: str
    principal: str
    fields: dict[str, Any]
    hash: str = ""
    error: BaseException | None = None

    @property
    def settled(self) -> bool:
        return bool(self.hash) or self.error is not None


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found. `problems` are tampering or damage; `notes` are explained by a crash."""

    ok: bool
    count: int
    head: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def digest(text: str, *, key: bytes | None = None) -> str:
    """How a question or a reason stands in the log: its sha256 or, under `key`, its HMAC-SHA256; never its words."""
    data = text.encode()
    return hashlib.sha256(data).hexdigest() if key is None else hmac.digest(key, data, "sha256").hex()


class AuditLog:
    """Writes the log; satisfies `core.seams.Auditor`. Several processes may append to one folder."""

    def __init__(self, folder: Path, *, clock: Callable[[], str] = now, key: bytes | None = None) -> None:
        self.folder = folder
        self._key = key  # of an encrypted project: without it nobody can test what a digest is of
        self.anchor: Callable[[Head, Head], None] | None = None  # told (before, after) behind each group
        self._log = folder / "log.jsonl"
        self._head = folder / "head.json"
        self._clock = clock
        self._turn = threading.Lock()
        self._waiting: deque[_Entry] = deque()

    def digest(self, text: str) -> str:
        """How `text` stands in this log: 64 hex digits, equal for equal texts."""
        return digest(text, key=self._key)

    def file_digest(self, sha256: str) -> str:
        """How a file with `sha256` stands in this log: so, or where the log has a key, as its HMAC, so that a known file
        is not recognised."""
        return sha256 if self._key is None else digest(sha256, key=self._key)

    def record(self, act: str, *, principal: str, **fields: Any) -> str:
        """Append one act; its hash, which is the head for a moment. `None` fields are left out.
        Raises: AuditError when it cannot be written or the log was tampered with: then do not act."""
        return self._recorded(act, principal, fields, patience_s=0.0)

    def record_with_others(self, act: str, *, principal: str, **fields: Any) -> str:
        """`record` for who has time: GATHER_S later, so that records of other threads are written with it."""
        return self._recorded(act, principal, fields, patience_s=GATHER_S)

    def _recorded(self, act: str, principal: str, fields: dict[str, Any], *, patience_s: float) -> str:
        entry = _Entry(act, principal, {name: value for name, value in fields.items() if value is not None})
        try:
            _check_fields(fields)
            _line(self._body(entry, Head()))  # what cannot be spelled fails alone, not its whole group
        except (ValueError, TypeError) as cause:
            raise AuditError("an audit record that cannot be written as JSON", hint="ids, counts and hashes only") from cause
        self._waiting.append(entry)
        if patience_s:
            time.sleep(patience_s)
        with self._turn:  # whoever comes first writes for all who wait behind
            while not entry.settled:
                self._write_group([self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))])
        if entry.error is None:
            return entry.hash
        if isinstance(entry.error, AuditError):
            raise AuditError(str(entry.error), hint=entry.error.hint) from entry.error
        raise AuditError(
            f"the audit record could not be written ({getattr(entry.error, 'strerror', None) or type(entry.error).__name__}), "
            "so nothing was done",
            hint="check free space and rights of .hagane/audit",
        ) from entry.error

    def _write_group(self, group: list[_Entry]) -> None:
        """Write `group`; each entry gets its hash or the error."""
        try:
            private_folder(self.folder)
            with self._alone():
                before = self._mend(self._read_head())
                after, hashes = self._append(before, group)
                if self.anchor is not None:
                    self.anchor(before, after)
        except BaseException as error:
            for entry in group:
                entry.error = error
            if not isinstance(error, OSError | StorageError | AuditError | ValueError | TypeError):
                raise
        else:
            for entry, hash in zip(group, hashes, strict=True):
                entry.hash = hash

    def head(self) -> Head:
        """The recorded end of the log. Raises: AuditError when head.json is missing or damaged."""
        return self._read_head()

    def anchor_now(self, write: Callable[[Head], T]) -> T:
        """`write(head)` while nothing is appended, the log mended first. Raises: AuditError, OSError."""
        private_folder(self.folder)
        with self._turn, self._alone():
            return write(self._mend(self._read_head()))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        handle = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _read_head(self) -> Head:
        try:
            data = self._head.read_bytes()
        except FileNotFoundError:
            if self._log.exists() and self._log.stat().st_size:
                raise _tampered("head.json is missing") from None
            return Head()
        head = _parse_head(data)
        if head is None:
            raise _tampered("head.json is damaged")
        return head

    def _mend(self, head: Head) -> Head:
        """Bring log and head together after a crash between them. Raises: AuditError for anything else."""
        size = self._log.stat().st_size if self._log.exists() else 0
        if size < head.size:
            raise _tampered(f"the log is {head.size - size} bytes shorter than its head says")
        if not self._last_is(head):
            raise _tampered("the log's last record is not the one that its head names")
        if size == head.size:
            return head
        with open(self._log, "rb") as log:
            log.seek(head.size)
            tail = log.read()
        ahead = _ahead(tail, head)
        if ahead is None:
            raise _tampered("there are records behind the head")
        if ahead.size < size:
            with open(self._log, "r+b") as log:  # a piece of a record that was never acknowledged
                log.truncate(ahead.size)
                os.fsync(log.fileno())
        if ahead.count > head.count:
            self._write_head(ahead)
        what = [f"head was {ahead.count - head.count} behind"] if ahead.count > head.count else []
        what += ["an unfinished record was removed"] if ahead.size < size else []
        return self._append(ahead, [_Entry("audit.mended", "system", {"what": ", ".join(what)})])[0]

    def _last_is(self, head: Head) -> bool:
        """True when the bytes before `head.size` end with the record that `head` names."""
        if head.count == 0:
            return True
        with open(self._log, "rb") as log:
            start = max(0, head.size - 65_536)
            log.seek(start)
            lines = log.read(head.size - start).split(b"\n")
        record = _parse_record(lines[-2]) if len(lines) > 1 and not lines[-1] else None
        return record is not None and record["seq"] == head.count and record["hash"] == head.hash

    def _body(self, entry: _Entry, head: Head) -> dict[str, Any]:
        own = {"seq": head.count + 1, "time": self._clock(), "act": entry.act, "principal": entry.principal}
        return own | entry.fields | {"prev": head.hash}

    def _append(self, head: Head, entries: Sequence[_Entry]) -> tuple[Head, list[str]]:
        """Write `entries` behind `head`, log first, then the head; the new head and each record's hash."""
        lines: list[bytes] = []
        hashes: list[str] = []
        at = head
        for entry in entries:
            line = _line(self._body(entry, at))
            hashes.append(json.loads(line)["hash"])
            lines.append(line)
            at = Head(at.count + 1, hashes[-1], at.size + len(line))
        new = not self._log.exists()
        if not self._head.exists():
            self._write_head(Head())
        with open(self._log, "ab") as log:
            log.write(b"".join(lines))
            log.flush()
            os.fsync(log.fileno())
        if new:
            sync_folder(self.folder)
        self._write_head(at)
        return at, hashes

    def _write_head(self, head: Head) -> None:
        write_whole(self._head, head_bytes(head))


def verify(
    folder: Path, *, expect: str | None = None, anchors: Callable[[Sequence[str]], Sequence[str]] | None = None
) -> Report:
    """Check every record of the log in `folder` against the chain, the head file and `expect`, a head
    (64 hex digits) that was kept elsewhere: it must occur in the chain. `anchors` is given the chain's hashes and
    says what does not fit (checkpoint.against). Changes nothing."""
    problems: list[str] = []
    notes: list[str] = []
    data, head_data = _read_both(folder)
    head = _parse_head(head_data) if head_data is not None else None
    if head is None:
        if head_data is not None:
            problems.append("head.json is damaged")
        elif data:
            problems.append("head.json is missing")
        head = Head()
    chain, places, rest, problem = _walk(data)
    if problem:
        problems.append(problem)
    count = len(chain)
    if not problem:
        problems += _compare(head, chain, places, rest)
        if not problems and count > head.count:
            notes.append(f"the head is {count - head.count} behind: interrupted write, mended by the next record")
        if not problems and rest:
            notes.append("an unfinished record at the end: interrupted write, removed by the next record")
    if anchors is not None:
        problems += anchors(chain)
    if expect is not None and expect.lower() not in (chain or [ZERO]):
        problems.append("the expected head is not in the log: records were cut or rewritten")
    return Report(not problems, count, chain[-1] if chain else ZERO, tuple(problems), tuple(notes))


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of the log, the oldest first. They are not verified here."""
    log = folder / "log.jsonl"
    if log.exists():
        with open(log, "rb") as data:
            yield from (record for line in data if (record := _parse_record(line.rstrip(b"\n"))) is not None)


def newest(folder: Path, *, before: int | None = None) -> Iterator[dict[str, Any]]:
    """The records of the log, the newest first, from the one before number `before`; read from the end in pieces, so
    that a page of them costs the same however long the log is. They are not verified here."""
    log = folder / "log.jsonl"
    if not log.exists():
        return
    with open(log, "rb") as data:
        at = data.seek(0, os.SEEK_END)
        rest = b""
        while at > 0:
            size = min(_PIECE, at)
            at -= size
            data.seek(at)
            first, *lines = (data.read(size) + rest).split(b"\n")
            rest = first
            for line in reversed(lines if at else [first, *lines]):
                record = _parse_record(line) if line else None
                if record is not None and (before is None or record["seq"] < before):
                    yield record


def _read_both(folder: Path) -> tuple[bytes, bytes | None]:
    """Log and head as of one moment: no record is appended meanwhile."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            lock = stack.enter_context(open(folder / "lock", "rb"))
            fcntl.flock(lock, fcntl.LOCK_SH)
        log, head = folder / "log.jsonl", folder / "head.json"
        try:
            return log.read_bytes() if log.exists() else b"", head.read_bytes() if head.exists() else None
        except OSError as cause:
            raise AuditError(f"the audit log cannot be read: {cause.strerror}") from cause


def _walk(data: bytes) -> tuple[list[str], list[int], bytes, str | None]:
    """Hashes and end offsets of the fitting records, the unfinished rest, and the first problem."""
    chain: list[str] = []
    places: list[int] = []
    previous, at = ZERO, 0
    while (end := data.find(b"\n", at)) >= 0:
        record = _parse_record(data[at:end])
        n = len(chain) + 1
        if record is None:
            return chain, places, b"", f"record {n}: changed or damaged"
        if record["prev"] != previous or record["seq"] != n:
            return chain, places, b"", f"record {n}: does not follow the one before (dropped, swapped or inserted)"
        previous = record["hash"]
        chain.append(previous)
        at = end + 1
        places.append(at)
    return chain, places, data[at:], None


def _compare(head: Head, chain: list[str], places: list[int], rest: bytes) -> list[str]:
    count = len(chain)
    if count < head.count:
        return [f"{head.count - count} records were cut from the end"]
    if count > head.count + GROUP:
        return [f"{count - head.count} records stand behind the head"]
    there = chain[head.count - 1] if head.count else ZERO
    size = places[head.count - 1] if head.count else 0
    if there != head.hash or size != head.size:
        return ["head.json does not fit the log"]
    return []


def _line(body: dict[str, Any]) -> bytes:
    """The record's one spelling: its body with the hash of that body at the end."""
    line = _spell({**body, "hash": hashlib.sha256(_spell(body)).hexdigest()}) + b"\n"
    if len(line) > _LONGEST_LINE:
        raise AuditError(f"an audit record of {len(line)} bytes is too long", hint="count or hash long lists")
    return line


def _spell(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _parse_record(line: bytes) -> dict[str, Any] | None:
    """The record, if `line` is exactly how it would be written; None otherwise."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not all(name in record for name in _OWN):
        return None
    body = {name: value for name, value in record.items() if name != "hash"}
    try:
        return record if _line(body) == line + b"\n" else None
    except (ValueError, TypeError, AuditError):
        return None


def _ahead(tail: bytes, head: Head) -> Head | None:
    """The head behind the complete records of `tail`, if each follows the one before and they are one group at most."""
    *lines, _rest = tail.split(b"\n")
    if len(lines) > GROUP:
        return None
    for line in lines:
        record = _parse_record(line)
        if record is None or record["prev"] != head.hash or record["seq"] != head.count + 1:
            return None
        head = Head(head.count + 1, record["hash"], head.size + len(line) + 1)
    return head


def head_bytes(head: Head) -> bytes:
    body = {"count": head.count, "hash": head.hash, "size": head.size}
    return _spell({**body, "check": hashlib.sha256(_spell(body)).hexdigest()}) + b"\n"


def _parse_head(data: bytes) -> Head | None:
    try:
        body = json.loads(data)
        head = Head(body["count"], body["hash"], body["size"])
        return head if head_bytes(head) == data else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _check_fields(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if name in _CONTENT or name in _OWN:
            raise AuditError(f"an audit record has no field {name!r}", hint="ids, counts and hashes only")
        if len(_spell({name: value})) > _LONGEST + len(name) and not _is_ids(value):
            raise AuditError(f"audit field {name!r} is too long to be an id", hint="ids, counts and hashes only")


def _is_ids(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) and len(item) <= 80 for item in value)


def _tampered(what: str) -> AuditError:
    return AuditError(
        f"the audit log was changed: {what}",
        hint="hagane audit verify says where; nothing is recorded until it is restored",
    )
