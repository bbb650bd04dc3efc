"""Backups of a project's state, also while a server runs, and bringing one back.

A backup is one archive: `.hagane` (without keys, locks and temporary files), `hagane.yaml`, and a manifest with the
sha256 of each. Of an encrypted project it holds ciphertext only; the wrapped keys lie in one small file beside it
that each backup replaces. So a document that is erased before the next backup is unreadable in all older archives.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from hagane.core.errors import NotFoundError, RefusedError, StateError, StorageError
from hagane.core.types import Principal
from hagane.core.whole_file import sync_folder
from hagane.ledger.audit import AuditLog, Head, verify
from hagane.ledger.lock import Busy, Writer
from hagane.ledger.snapshot import LEDGER, columns_epoch, copy_audit, copy_database, forget_erased

from .config import FILE, STATE
from .wire import Project

MANIFEST = "manifest.json"
KEYS_FILE = "hagane-keys.tar"
KEYS = "keys"
SKIPPED = frozenset({"keys", "lock", "server.sock", "temporary", "incoming", "ledger.db", "ledger.db-wal", "ledger.db-shm", "audit"})
PIECE = 1 << 20

Emit = Callable[[Mapping[str, Any]], None]


def backup(project: Project, to: Path, *, by: Principal, index: bool = True, emit: Emit) -> dict[str, Any]:
    """Write an archive into the folder `to`. Questions, answers and sign-ins go on meanwhile; syncs wait.
    {"archive", "keys", "files", "bytes", "sha256", "records"}. Raises: RefusedError, Busy, StorageError, StateError
    when `to` holds the keys of another project, AuditError."""
    _may(by)
    project.require_synced()
    try:
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        if to.resolve().is_relative_to(project.state.resolve()):
            raise StorageError(f"{to} lies in {STATE}", hint="keep backups elsewhere, best on another disk")
        with project.ledger.only_writer("backup"):
            project.ledger.audit.record("backup", principal=by.name, index=index)
            return _write(project, to, index=index, emit=emit)
    except OSError as cause:
        raise StorageError(f"the backup could not be written ({cause.strerror or type(cause).__name__})", hint="check space and rights of the target") from cause


def _write(project: Project, to: Path, *, index: bool, emit: Emit) -> dict[str, Any]:
    ledger, keys = project.ledger, project.ledger.keys
    id = ledger.fact("backup_id")
    if id is None:
        ledger.remember(backup_id=(id := secrets.token_hex(8)))
    if keys is not None:
        _check_keys(to / KEYS_FILE, id)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    target = to / f"hagane-{stamp}.tar{'' if keys else '.gz'}"  # ciphertext does not shrink
    with _temporary(project.state) as folder, _whole(target) as out:
        copy_database(project.state / LEDGER, folder / LEDGER)
        head = copy_audit(ledger.audit, folder / "audit")
        with tarfile.open(fileobj=out, mode="w" if keys else "w:gz", **({} if keys else {"compresslevel": 1})) as tar:
            listed = _pack(tar, project, folder, index=index, emit=emit)
            manifest = {
                "format": 1, "hagane": version("hagane"), "project": id, "made_at": stamp, "encrypted": keys is not None,
                "index": index, "records": head.count, "head": head.hash, "files": listed,
            }  # fmt: skip
            _add_bytes(tar, MANIFEST, json.dumps(manifest, ensure_ascii=False).encode())
        if keys is not None:
            _copy_keys(project.state / KEYS, folder / KEYS)
            _write_keys(folder / KEYS, to / KEYS_FILE, id)
    return {
        "archive": str(target), "keys": str(to / KEYS_FILE) if keys else None, "files": len(listed), "bytes": target.stat().st_size,
        "sha256": _hash_of(target), "records": head.count,
    }  # fmt: skip


def _pack(tar: tarfile.TarFile, project: Project, folder: Path, *, index: bool, emit: Emit) -> dict[str, str]:
    """Every file with its sha256. The copies of ledger and audit lie in `folder`; what comes later may be newer than
    they are, never older."""
    files = [(f"{STATE}/{LEDGER}", folder / LEDGER), (FILE, project.folder / FILE)]
    files += [(f"{STATE}/audit/{file.name}", file) for file in sorted((folder / "audit").iterdir())]
    for entry in sorted(project.state.iterdir()):
        if entry.name not in SKIPPED and (index or entry.name != "index"):
            found = sorted(entry.rglob("*")) if entry.is_dir() else [entry]
            files += [(f"{STATE}/{file.relative_to(project.state).as_posix()}", file) for file in found]
    listed: dict[str, str] = {}
    for n, (name, file) in enumerate(files, start=1):
        if file.is_file() and not file.is_symlink():
            with contextlib.suppress(FileNotFoundError):  # its owner was deleted meanwhile
                listed[name] = _add_file(tar, name, file)
        if n % 200 == 0 or n == len(files):
            emit({"event": "backup", "done": n, "total": len(files)})
    return listed


def _add_file(tar: tarfile.TarFile, name: str, file: Path) -> str:
    with open(file, "rb") as source:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = os.fstat(source.fileno()).st_size, 0o600, int(os.fstat(source.fileno()).st_mtime)
        hashed = _Hashed(source, info.size)
        tar.addfile(info, hashed)  # type: ignore[arg-type]
        return hashed.sha256.hexdigest()


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o600
    tar.addfile(info, io.BytesIO(data))


class _Hashed:
    """The first `size` bytes of a file, hashed as they are read: a file that grows meanwhile ends there."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source, self._left = source, size
        self.sha256 = hashlib.sha256()

    def read(self, n: int = -1) -> bytes:
        data = self._source.read(self._left if n < 0 else min(n, self._left))
        self._left -= len(data)
        self.sha256.update(data)
        return data


# --- keys


def _check_keys(file: Path, id: str) -> None:
    """Raises: StateError when `file` holds the keys of another project: they would be lost."""
    if file.exists() and _keys_of(file)[0] != id:
        raise StateError(f"{file} belongs to another project", hint="one folder for the backups of one project")


def _copy_keys(keys: Path, to: Path) -> None:
    """Those of a moment after the ledger was copied: what it speaks of has its key, unless it was erased since."""
    to.mkdir(mode=0o700)
    shutil.copyfile(keys / "project.json", to / "project.json")
    copy_database(keys / "documents.db", to / "documents.db")


def _write_keys(keys: Path, file: Path, id: str) -> None:
    with _whole(file) as out, tarfile.open(fileobj=out, mode="w") as tar:
        listed = {one.name: _add_file(tar, one.name, one) for one in sorted(keys.iterdir())}
        _add_bytes(tar, MANIFEST, json.dumps({"format": 1, "project": id, "files": listed}).encode())


def _keys_of(file: Path) -> tuple[str, dict[str, bytes]]:
    """The project and the key files in `file`. Raises: StorageError when it is damaged."""
    with _explained(file), tarfile.open(file, "r:") as tar:
        found = {info.name: source.read() for info in tar if (source := tar.extractfile(info)) is not None}
        manifest = json.loads(found.pop(MANIFEST))
        if {name: hashlib.sha256(data).hexdigest() for name, data in found.items()} != manifest["files"]:
            raise StorageError(f"{file} is damaged", hint="use another copy of it")
        return manifest["project"], found


# --- bringing back


def restore(archive: Path, folder: Path, *, by: str, yes: bool = False, emit: Emit) -> dict[str, Any]:
    """Make `folder`'s state that of `archive` (a file, or a folder: its newest). Everything is checked before anything
    changes. {"archive", "made_at", "records", "files", "index", "erased", "kept_yaml"}.
    Raises: NotFoundError; StorageError when it is damaged; StateError when what stands there is newer (`yes`: replace
    it) or the archive is older than `keys rotate --deep`; Busy; ConfigError when the master key is not there."""
    archive = _chosen(archive)
    folder = folder.resolve()
    if (holder := Writer(folder / STATE / "lock").holder()) is not None:
        raise Busy(holder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _temporary(folder, name=f".{STATE.lstrip('.')}-restore") as room:
            manifest = _unpack(archive, room, emit=emit)
            if manifest["encrypted"]:
                _place_keys(archive.with_name(KEYS_FILE), room, manifest)
            with _yaml(room / FILE, folder / FILE) as kept_yaml:
                erased = _prepare(room, folder, manifest, archive=archive, by=by)
                _swap(folder, room, yes=yes)
    except OSError as cause:
        raise StorageError(f"{folder}: {cause.strerror or type(cause).__name__}", hint="check space and rights") from cause
    return {
        "archive": str(archive), "made_at": manifest["made_at"], "records": manifest["records"], "files": len(manifest["files"]),
        "index": manifest["index"], "erased": erased, "kept_yaml": kept_yaml,
    }  # fmt: skip


def _chosen(archive: Path) -> Path:
    if archive.is_dir():
        found = sorted(archive.glob("hagane-2*.tar*"))
        if not found:
            raise NotFoundError(f"no backup in {archive}", hint="name the folder that hagane backup wrote to")
        return found[-1]
    if not archive.is_file():
        raise NotFoundError(f"{archive} does not exist", hint="name an archive, or the folder that it lies in")
    return archive


def _unpack(archive: Path, room: Path, *, emit: Emit) -> dict[str, Any]:
    """Every file of the archive in `room`, its sha256 checked; the manifest. Raises: StorageError."""
    got: dict[str, str] = {}
    manifest: dict[str, Any] | None = None
    with _explained(archive), tarfile.open(archive, "r:*") as tar:
        for info in tar:
            source = tar.extractfile(info)
            parts = info.name.split("/")
            if source is None or info.name.startswith("/") or {"", ".", ".."} & set(parts) or parts[0] not in (STATE, FILE, MANIFEST):
                raise StorageError(f"{archive} holds something that no backup holds", hint="this is not a backup of hagane")
            if info.name == MANIFEST:
                manifest = json.loads(source.read())
                continue
            file = room / info.name
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(file, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:
                hashed = _Hashed(source, info.size)
                while data := hashed.read(PIECE):
                    out.write(data)
            got[info.name] = hashed.sha256.hexdigest()
            if len(got) % 200 == 0:
                emit({"event": "restore", "done": len(got)})
        if manifest is None or manifest["files"] != got:
            raise StorageError(f"{archive} is damaged", hint="use another backup")
        if manifest["format"] != 1:
            raise StateError(f"{archive} was written by a newer hagane", hint="use that version, or newer")
    return manifest


@contextlib.contextmanager
def _yaml(restored: Path, there: Path) -> Iterator[bool]:
    """The project's own hagane.yaml stays; the archive's then lies beside it. Whether that is so."""
    if not there.exists():
        shutil.copyfile(restored, there)
        try:
            yield False
        except BaseException:
            there.unlink()
            raise
        return
    kept = there.read_bytes() != restored.read_bytes()
    yield kept
    if kept:
        shutil.copyfile(restored, there.with_name(f"{FILE}.restored"))


def _place_keys(file: Path, room: Path, manifest: Mapping[str, Any]) -> None:
    if not file.exists():
        raise StateError(f"{file} is missing, and without it the archive cannot be read", hint="put the newest one beside the archive")
    id, found = _keys_of(file)
    if id != manifest["project"]:
        raise StateError(f"{file} belongs to another project", hint="put the right one beside the archive")
    keys = room / STATE / "keys"
    keys.mkdir(mode=0o700)
    for name, data in found.items():
        with open(keys / Path(name).name, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:
            out.write(data)


def _prepare(room: Path, folder: Path, manifest: Mapping[str, Any], *, archive: Path, by: str) -> int:
    """Open the state in `room`: sessions end, what was erased since leaves. How many things that were.
    Raises: StateError when the ledger's own keys are gone; ConfigError for the master key."""
    project = Project.open(folder)
    project.state = room / STATE  # as it will be, at the place where it is made
    keys, file = project.keys, room / STATE / LEDGER
    epoch = columns_epoch(file)
    if keys is not None and epoch is not None and not keys.has(f"columns:{epoch}"):
        keys.close()
        raise StateError(
            f"{archive.name} is older than the last `hagane keys rotate --deep`, which reached it: its ledger cannot be read any more",
            hint="restore a newer archive",
        )
    gone = forget_erased(file, keys)
    project.folder = room
    with project:
        if gone and manifest["index"]:
            project.index.delete(sorted(gone), purge=True)
        project.ledger.audit.record("restore", principal=by, made_at=manifest["made_at"], records=manifest["records"], erased=len(gone))
    return len(gone)


def _swap(folder: Path, room: Path, *, yes: bool) -> None:
    """Put the prepared state in place of the old one, under the old one's writer lock."""
    state = folder / STATE
    if not state.exists():
        os.rename(room / STATE, state)
        return
    with Writer(state / "lock").alone("restore"):
        if not yes and not _holds(room / STATE / "audit", AuditLog(state / "audit").head()):
            raise StateError("what stands there is newer than the archive, or another project's", hint="--yes replaces it; make a backup of it first")
        old = room / "old"
        os.rename(state, old)
        try:
            os.rename(room / STATE, state)
        except OSError:
            os.rename(old, state)
            raise


def _holds(audit: Path, head: Head) -> bool:
    """Whether the restored audit log goes on from `head`: then nothing that happened is lost."""
    return head.count == 0 or verify(audit, expect=head.hash).ok


# --- files


def _may(by: Principal) -> None:
    if "administer" not in by.roles:
        raise RefusedError(f"{by.name} may not make backups", hint="it takes the permission administer")


def _hash_of(file: Path) -> str:
    with open(file, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


@contextlib.contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, json.JSONDecodeError) as cause:
        raise StorageError(f"{file} is damaged, or no backup ({type(cause).__name__})", hint="use another backup") from cause
    except OSError as cause:
        if cause.errno is not None:
            raise
        raise StorageError(f"{file} is damaged ({type(cause).__name__})", hint="use another backup") from cause  # gzip's


@contextlib.contextmanager
def _temporary(parent: Path, *, name: str = "temporary/backup") -> Iterator[Path]:
    folder = parent / f"{name}-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _whole(file: Path) -> Iterator[IO[bytes]]:
    """A file that is there when it is whole and on the disk, and not before."""
    new = file.with_name(f".{file.name}.new")
    try:
        with open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(new, file)
        sync_folder(file.parent)
    finally:
        new.unlink(missing_ok=True)
