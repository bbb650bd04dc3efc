"""The keys of an encrypted project, from the master key down.

    master key (file, variable, keyring; never in .hagane)
      └── seals .hagane/keys/project.json
            ├── project key ──> wraps a random key per document, conversation, original, parsed file, and per
            │                   epoch of the ledger's columns (key_store.py)
            └── name key ─────> names of originals, hashes of tokens: the same for the project's whole life

A deleted key makes everything that it sealed unreadable, also in every copy of the data that is kept without
this folder. All sealing is AES-256-GCM. Keys are derived by HKDF-Expand (RFC 5869) over HMAC-SHA256.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hmac
import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..core.errors import ConfigError, ErasedError, StateError, StorageError
from ..core.whole_file import private_folder, write_whole
from .key_store import KeyStore
from .seal import Cipher, derived, unsealed

FILE = "project.json"
STORE = "documents.db"
ON, TURNING_ON, TURNING_OFF, ROTATING = "on", "turning_on", "turning_off", "rotating"
_AAD = b"hagane project keys 1"
_CACHED = 50_000  # document keys held in memory: about 40 MB


@dataclass(frozen=True, slots=True, repr=False)
class _Secrets:
    """What project.json seals. During a deep rotation there are two project keys, the newest last."""

    state: str
    project: Mapping[str, bytes]  # id -> 32 bytes
    names: bytes
    signing: bytes = b""  # of the audit's signing key, where that was there before the project was encrypted

    def packed(self) -> bytes:
        project = {id: base64.b64encode(key).decode() for id, key in self.project.items()}
        names, signing = (base64.b64encode(key).decode() for key in (self.names, self.signing))
        return json.dumps({"state": self.state, "project": project, "names": names, "signing": signing}).encode()

    @classmethod
    def unpacked(cls, data: bytes) -> _Secrets:
        tree = json.loads(data)
        project = {id: base64.b64decode(key) for id, key in tree["project"].items()}
        return cls(tree["state"], project, base64.b64decode(tree["names"]), base64.b64decode(tree.get("signing", "")))


def master_id(master: bytes) -> str:
    """16 hex digits that say which master key it is and nothing more."""
    return derived(master, "hagane master id")[:8].hex()


class Keys:
    """The open keys of one project. Thread-safe. Nothing of a key appears in its repr, in errors or in logs."""

    def __init__(self, folder: Path, given: _Secrets, store: KeyStore, *, master: bytes | None) -> None:
        self.folder = folder
        self._given = given
        self._store = store
        self._master = master
        self._lock = threading.RLock()
        self._ready: OrderedDict[str, tuple[AESGCM, bytes]] = OrderedDict()
        self._version = store.changed()
        self._names = given.names

    def __repr__(self) -> str:
        return f"<Keys {self.state}>"

    @property
    def state(self) -> str:
        """on; turning_on, turning_off or rotating while a conversion is under way (or was killed)."""
        return self._given.state

    @property
    def strict(self) -> bool:
        """True when everything is sealed, so that a plain file is a forgery."""
        return self.state in (ON, ROTATING)

    @property
    def sealing(self) -> bool:
        """Whether what is written now is sealed."""
        return self.state != TURNING_OFF

    # --- opening

    @classmethod
    def open(cls, folder: Path, master: bytes) -> Keys:
        """The keys in `folder` (.hagane/keys). Raises: ConfigError when `master` is not their key; StorageError
        when they are missing or damaged."""
        given = _unseal(_read(folder), master)
        return cls(folder, given, KeyStore(folder / STORE), master=master)

    @classmethod
    def create(cls, folder: Path, master: bytes, *, state: str = ON) -> Keys:
        """New keys for a project that has none. Raises: StateError when it has some."""
        if (folder / FILE).exists():
            raise StateError("this project has keys already", hint="hagane keys status")
        private_folder(folder)
        id = secrets.token_hex(4)
        given = _Secrets(state, {id: secrets.token_bytes(32)}, secrets.token_bytes(32))
        with _alone(folder):
            if not (folder / FILE).exists():  # another process may have been first
                store = KeyStore(folder / STORE)
                if store.names():
                    store.close()
                    raise StorageError(f"{folder / FILE} is missing", hint="restore .hagane/keys from a backup")
                store.project = id
                store.close()
                _write(folder, given, [master])
        return cls.open(folder, master)

    @staticmethod
    def exist(folder: Path) -> bool:
        return (folder / FILE).exists()

    # --- what the other rooms need

    def token_key(self) -> bytes:
        """The HMAC key for tokens of the blind index. 32 bytes, the same for the project's whole life."""
        return derived(self._names, "tokens")

    def signing_seed(self) -> bytes:
        """The seed of the key that signs audit checkpoints. 32 bytes, the same for the project's whole life."""
        return self._given.signing or derived(self._names, "audit signing")

    def name_key(self, purpose: str) -> bytes:
        """32 bytes for one purpose, the same for the project's whole life."""
        return derived(self._names, purpose)

    def blob_name(self, sha256: str) -> str:
        """The file name of an original: 64 hex digits that only this project can make of its sha256."""
        return hmac.digest(derived(self._names, "blob names"), bytes.fromhex(sha256), "sha256").hex()

    def cipher_for(self, name: str) -> Cipher:
        """What seals under the key called `name`, such as a document's id. The key is made when it seals first;
        opening without one is a StorageError: it was erased."""
        return Cipher(self, name)

    def make(self, names: Sequence[str]) -> None:
        """Make the keys that are missing, durably, in one commit (about 5 ms however many)."""
        self._look_around()
        with self._lock:
            missing = [name for name in dict.fromkeys(names) if name not in self._ready]
            if not missing:
                return
            there = self._store.get(missing)
            new = {name: secrets.token_bytes(32) for name in missing if name not in there}
            self._store.add({name: self._wrap(name, key) for name, key in new.items()})
            self._take(self._store.get(list(new)))  # another process may have been first
            self._take(there)

    def warm(self, names: Collection[str]) -> None:
        """Fetch many keys at once, before they are used one by one."""
        with self._lock:
            self._take(self._store.get([name for name in dict.fromkeys(names) if name not in self._ready]))

    def drop(self, names: Sequence[str]) -> None:
        """Delete keys: what they sealed cannot be read any more. The data goes first, then its key."""
        self._store.drop(names)
        with self._lock:
            for name in names:
                self._ready.pop(name, None)

    def has(self, name: str) -> bool:
        return bool(self._store.get([name]))

    def names(self, prefix: str = "", *, older_s: int = 0) -> list[str]:
        """Names of the keys that there are."""
        return self._store.names(prefix, older_s=older_s)

    def purge(self) -> None:
        """Leave no byte of deleted keys on the disk. Raises: StateError while another process reads."""
        self._store.purge()

    def for_workers(self) -> dict[str, Any]:
        """What a worker process needs, to be sent over its pipe only: never in arguments, variables or files."""
        given = base64.b64encode(self._given.packed()).decode()
        return {"folder": str(self.folder), "given": given}

    @classmethod
    def of_worker(cls, sent: Mapping[str, Any]) -> Keys:
        """The keys as `for_workers` sent them. What they write becomes durable with `blobs.sync_all`."""
        given = _Secrets.unpacked(base64.b64decode(sent["given"]))
        folder = Path(sent["folder"])
        return cls(folder, given, KeyStore(folder / STORE, durable=False), master=None)

    def close(self) -> None:
        self._store.close()

    # --- keys by name

    def ready(self, name: str, *, make: bool) -> AESGCM:
        """The key called `name`, ready for use. Raises: StorageError when there is none and `make` is False."""
        if make:
            self._look_around()
        with self._lock:
            found = self._ready.get(name)
            if found is not None:
                return found[0]
            self._take(self._store.get([name]))
            if name not in self._ready:
                if not make:
                    raise ErasedError("its key was deleted: it was erased", hint="what was erased cannot be brought back")
                self.make([name])
            return self._ready[name][0]

    def secret(self, name: str) -> bytes:
        """The bytes of a key that others are derived from. Raises: StorageError when there is none."""
        self.ready(name, make=False)
        return self._ready[name][1]

    def forget(self, name: str) -> None:
        """Drop a key from memory: it may have been deleted and made anew by another process."""
        with self._lock:
            self._ready.pop(name, None)

    def _look_around(self) -> None:
        """Forget what is in memory when another process changed the store."""
        with self._lock:
            now = self._store.changed()
            if now != self._version:
                self._version = now
                self._ready.clear()

    def _take(self, wrapped: Mapping[str, bytes]) -> None:
        for name, data in wrapped.items():
            key = self._unwrap(name, data)
            self._ready[name] = AESGCM(key), key
            if len(self._ready) > _CACHED:
                self._ready.popitem(last=False)

    def _wrap(self, name: str, key: bytes) -> bytes:
        id, project = self._wrapping()
        nonce = os.urandom(12)
        return bytes.fromhex(id) + nonce + AESGCM(project).encrypt(nonce, key, b"key\0" + name.encode())

    def _unwrap(self, name: str, data: bytes) -> bytes:
        project = self._given.project.get(data[:4].hex())
        if project is None and self._master is not None:  # another process gave the project a new key
            self._given = _unseal(_read(self.folder), self._master)
            project = self._given.project.get(data[:4].hex())
        if project is None:
            raise StorageError("the keys were changed meanwhile", hint="run the command again")
        return unsealed(AESGCM(project), data[4:], b"key\0" + name.encode(), "a key")

    def _wrapping(self) -> tuple[str, bytes]:
        """The project key that wraps now: the one that the store names."""
        id = self._store.project or next(iter(self._given.project))
        if id not in self._given.project and self._master is not None:
            self._given = _unseal(_read(self.folder), self._master)
        if id not in self._given.project:
            raise StorageError("the keys were changed meanwhile", hint="run the command again")
        return id, self._given.project[id]

    # --- changing

    def set_state(self, state: str) -> None:
        """Note, durably, which conversion is under way. Only under the writer lock."""
        self._save(replace(self._given, state=state), [self._held()])

    def take_signing_seed(self, seed: bytes) -> None:
        """Keep signing with the key that signed before the project was encrypted."""
        self._save(replace(self._given, signing=seed), [self._held()])

    def add_master(self, new: bytes) -> None:
        """Let `new` open the keys, beside the master key of now."""
        self._save(self._given, [self._held(), new])

    def only_master(self, master: bytes) -> None:
        """From now on only `master` opens the keys."""
        self._save(self._given, [master])
        self._master = master

    def rotate_project_key(self) -> None:
        """A new project key: every wrapped key is wrapped anew. Killed anywhere, doing it again ends it."""
        now = self._store.project
        older = {id: key for id, key in self._given.project.items() if id == now}
        id = secrets.token_hex(4)
        self._save(replace(self._given, project={**older, id: secrets.token_bytes(32)}), [self._held()])
        with self._lock:
            new = self._given.project[id]

            def again(name: str, wrapped: bytes) -> bytes:
                nonce = os.urandom(12)
                return bytes.fromhex(id) + nonce + AESGCM(new).encrypt(nonce, self._unwrap(name, wrapped), b"key\0" + name.encode())

            self._store.rewrap(again, project=id)
        self._save(replace(self._given, project={id: new}), [self._held()])
        self._store.purge()

    def _save(self, given: _Secrets, masters: Sequence[bytes]) -> None:
        _write(self.folder, given, masters)
        self._given = given

    def _held(self) -> bytes:
        if self._master is None:
            raise StateError("a worker process may not change the keys")
        return self._master


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _read(folder: Path) -> dict[str, Any]:
    try:
        tree = json.loads((folder / FILE).read_bytes())
        if tree["version"] != 1:
            raise StateError(f"{folder / FILE} has version {tree['version']}", hint="a newer hagane wrote it: use that version, or newer")
        return {id: base64.b64decode(data) for id, data in tree["sealed"].items()}
    except FileNotFoundError as cause:
        raise StorageError(f"{folder / FILE} is missing", hint="restore .hagane/keys from a backup") from cause
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise StorageError(f"{folder / FILE} is damaged", hint="restore it from a backup") from cause


def _unseal(sealed: Mapping[str, bytes], master: bytes) -> _Secrets:
    data = sealed.get(master_id(master))
    if data is None:
        raise ConfigError("encryption.key is not the key of this project", hint="put back the key that it was encrypted with")
    try:
        return _Secrets.unpacked(AESGCM(derived(master, "hagane project keys")).decrypt(data[:12], data[12:], _AAD))
    except (InvalidTag, ValueError, KeyError) as cause:
        raise StorageError(f".hagane/keys/{FILE} is damaged", hint="restore it from a backup") from cause


def _write(folder: Path, given: _Secrets, masters: Sequence[bytes]) -> None:
    sealed = {}
    for master in masters:
        nonce = os.urandom(12)
        data = nonce + AESGCM(derived(master, "hagane project keys")).encrypt(nonce, given.packed(), _AAD)
        sealed[master_id(master)] = base64.b64encode(data).decode()
    write_whole(folder / FILE, json.dumps({"version": 1, "sealed": sealed}, indent=1).encode() + b"\n")
