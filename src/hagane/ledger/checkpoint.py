"""Signed checkpoints: what anchors the audit log against someone who can rewrite all its files.

A checkpoint says, signed with Ed25519 (RFC 8032): after `count` records the head was `hash`. They are lines of
`checkpoints.jsonl` beside the log and, if configured, of a second file elsewhere (a medium that can only be
written once, another machine's mount). Whoever holds that copy and the public key needs to trust nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..core import log
from ..core.errors import AuditError, StorageError, UsageError
from ..core.whole_file import private_folder, write_whole
from .audit import Head
from .records import now

FILE = "checkpoints.jsonl"
_KEY = "signing.key"
_CONTEXT = b"hagane audit checkpoint 1\n"  # no other signature of ours can be taken for one of these
_log = log.get("ledger.checkpoint")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """After `count` records the head was `hash`."""

    count: int
    hash: str
    time: str
    key: str  # first 16 hex digits of the sha256 of the public key
    signature: str = ""  # base64 of 64 bytes

    def signed(self) -> bytes:
        """The bytes under the signature."""
        body = {name: value for name, value in asdict(self).items() if name != "signature"}
        return _CONTEXT + json.dumps(body, separators=(",", ":")).encode()


def signing_key(folder: Path, *, seed: bytes | None = None) -> Ed25519PrivateKey:
    """The project's signing key: made from `seed` (32 bytes that only the master key gives), else kept in
    `folder`, readable by its owner only. Raises: StorageError."""
    if seed is not None:
        return Ed25519PrivateKey.from_private_bytes(seed)
    file = folder / _KEY
    try:
        if not file.exists():
            private_folder(folder)
            write_whole(file, base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()) + b"\n")
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(file.read_bytes().strip(), validate=True))
    except (OSError, ValueError) as cause:
        raise StorageError(f"{file} is not a signing key ({type(cause).__name__})", hint="restore it from a backup") from cause


def kept_seed(folder: Path) -> bytes | None:
    """What the signing key that lies in `folder` in the open is made from; None when there is none."""
    return signing_key(folder).private_bytes_raw() if (folder / _KEY).exists() else None


def keep_seed(folder: Path, seed: bytes | None) -> None:
    """Let `seed` lie in `folder` in the open, for a project that is not encrypted any more; None: take it away."""
    if seed is None:
        (folder / _KEY).unlink(missing_ok=True)
    else:
        write_whole(folder / _KEY, base64.b64encode(seed) + b"\n")


def public_text(key: Ed25519PrivateKey | Ed25519PublicKey) -> str:
    """The public key as base64 of its 32 bytes: what to keep elsewhere."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return base64.b64encode(public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)).decode()


def public_key(text: str) -> Ed25519PublicKey:
    """Raises: UsageError."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text.strip(), validate=True))
    except ValueError as cause:
        raise UsageError("that is not a public key", hint="hagane audit checkpoint prints it: 44 characters") from cause


class Checkpoints:
    """Writes them; an `AuditLog.anchor`. Called under the log's lock, so that one process writes at a time."""

    def __init__(self, folder: Path, *, key: Callable[[], Ed25519PrivateKey], every: int, copy: Path | None = None) -> None:
        self.file = folder / FILE
        self.copy = copy
        self._key = key
        self._every = every

    def __call__(self, before: Head, after: Head) -> None:
        """A checkpoint whenever another `every` records are full. Raises: AuditError, OSError."""
        if before.count // self._every != after.count // self._every:
            self.write(after)

    def last(self) -> int:
        """How many records the last checkpoint covers, its signature not looked at; 0 without one. Raises: OSError."""
        if not self.file.exists():
            return 0
        with open(self.file, "rb") as data:
            data.seek(max(0, data.seek(0, os.SEEK_END) - 4096))
            found = [point for line in data.read().split(b"\n") if (point := _parse(line)) is not None]
        return found[-1].count if found else 0

    def write(self, head: Head) -> Checkpoint:
        """Sign `head`. The copy elsewhere is caught up with what it misses; where it cannot be written, that is
        logged and the act goes on: the own file has it. Raises: AuditError, OSError."""
        key = self._key()
        made = sign(head, key)
        _append(self.file, _line(made))
        if self.copy is not None:
            try:
                _append(self.copy, _missing(self.file, self.copy))
            except OSError as cause:
                _log.warning("checkpoint_not_copied", error=type(cause).__name__)
        return made


def sign(head: Head, key: Ed25519PrivateKey) -> Checkpoint:
    body = Checkpoint(head.count, head.hash, now(), fingerprint(key))
    return Checkpoint(body.count, body.hash, body.time, body.key, base64.b64encode(key.sign(body.signed())).decode())


def fingerprint(key: Ed25519PrivateKey | Ed25519PublicKey) -> str:
    return hashlib.sha256(base64.b64decode(public_text(key))).hexdigest()[:16]


def read(file: Path, key: Ed25519PublicKey) -> tuple[list[Checkpoint], list[str]]:
    """The checkpoints of `file` whose signature by `key` is right, and what is wrong with the others.
    A piece of a line at the end, without its line break, is an interrupted write and left out.
    Raises: AuditError when the file cannot be read."""
    try:
        *lines, _rest = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], []
    except OSError as cause:
        raise AuditError(f"{file} cannot be read: {cause.strerror}") from cause
    good: list[Checkpoint] = []
    problems: list[str] = []
    for n, line in enumerate(lines, start=1):
        found = _parse(line)
        if found is None:
            problems.append(f"checkpoint {n}: damaged")
            continue
        try:
            signature = base64.b64decode(found.signature, validate=True)
            if base64.b64encode(signature).decode() != found.signature:
                raise ValueError  # the last digit of base64 has bits that mean nothing
            key.verify(signature, found.signed())
            good.append(found)
        except (InvalidSignature, ValueError):
            problems.append(f"checkpoint {n}: its signature is not by this key")
    return good, problems


def against(chain: Sequence[str], checkpoints: Sequence[Checkpoint]) -> list[str]:
    """What does not fit between the hashes of a log and its checkpoints."""
    return [
        f"checkpoint at record {point.count}: " + ("the log is shorter" if point.count > len(chain) else "the log has another record there")
        for point in checkpoints
        if not 0 < point.count <= len(chain) or chain[point.count - 1] != point.hash
    ]  # fmt: skip


def _line(point: Checkpoint) -> bytes:
    return json.dumps(asdict(point), separators=(",", ":")).encode() + b"\n"


def _parse(line: bytes) -> Checkpoint | None:
    try:
        found = Checkpoint(**json.loads(line))
        typed = all(isinstance(v, int if name == "count" else str) for name, v in asdict(found).items())
        return found if typed and _line(found) == line + b"\n" else None
    except (ValueError, TypeError, RecursionError):
        return None


def _append(file: Path, data: bytes) -> None:
    """Add whole lines, durably; a piece that a crash left at the end is cut off first."""
    with open(file, "a+b") as out:
        size = out.seek(0, os.SEEK_END)
        out.seek(max(0, size - 4096))
        tail = out.read()
        if tail and not tail.endswith(b"\n"):
            out.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def _missing(file: Path, copy: Path) -> bytes:
    """The lines of `file` that do not stand in `copy` yet."""
    there = set(copy.read_bytes().split(b"\n")) if copy.exists() else set()
    return b"".join(line + b"\n" for line in file.read_bytes().split(b"\n") if line and line not in there)
