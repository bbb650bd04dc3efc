"""The master key of an encrypted project: 32 random bytes in a file, a variable or the system's keyring.

It never lies in `.hagane`, is never printed, logged or given to another process, and a passphrase is none.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from pathlib import Path

from ..core.errors import ConfigError
from ..core.registry import load

SERVICE = "hagane"  # under which the keyring holds it
N_BYTES = 32
_LONGEST = 4096  # bytes of a key file: more is no key
_KINDS = "file:PATH, env:NAME or keyring:NAME"
_KEYRINGS = {"keyring": "keyring:get_password"}


def read_master(where: str, *, base: Path) -> bytes:
    """The key that `where` names: file:PATH (relative to `base`), env:NAME or keyring:NAME.
    Raises: ConfigError, never with anything of the key; MissingExtraError without the keyring package."""
    kind, _, name = where.partition(":")
    if not name or kind not in ("file", "env", "keyring"):
        raise ConfigError("encryption.key is not a place of a key", hint=f"write {_KINDS}; never the key itself")
    if kind == "file":
        return _decoded(_from_file(key_file(name, base=base)), where)
    if kind == "env":
        given = os.environ.get(name)
        if not given:
            raise ConfigError(f"encryption.key: the environment variable {name} is not set", hint=f"export {name}=...")
        return _decoded(given, where)
    return _decoded(_from_keyring(name), where)


def create_file(file: Path) -> None:
    """Write a new random key into `file`, readable by its owner only. Raises: ConfigError when it exists."""
    text = base64.urlsafe_b64encode(secrets.token_bytes(N_BYTES)).decode() + "\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError as cause:
        raise ConfigError(f"{file} exists already", hint="a key is never overwritten: choose another file") from cause
    except OSError as cause:
        raise ConfigError(f"{file} cannot be written: {cause.strerror}", hint="choose a folder that you may write to") from cause


def key_file(name: str, *, base: Path) -> Path:
    """Where file:`name` points."""
    return (base / Path(name).expanduser()).absolute()


def _from_file(file: Path) -> str:
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            info = os.fstat(stream.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise ConfigError(f"encryption.key: {file} is not a regular file", hint="hagane keys create FILE makes one")
            if info.st_mode & 0o077:
                raise ConfigError(f"encryption.key: others may read {file}", hint=f"chmod 600 {file}")
            if info.st_uid not in (os.geteuid(), 0):
                raise ConfigError(f"encryption.key: {file} belongs to someone else", hint="make it yours: chown")
            return stream.read(_LONGEST).decode("ascii", "replace")
    except FileNotFoundError as cause:
        raise ConfigError(f"encryption.key: {file} does not exist",
                          hint="put the key back; without it nothing can be read (hagane keys create FILE makes one for a new project)") from cause  # fmt: skip
    except OSError as cause:
        raise ConfigError(f"encryption.key: {file} cannot be read: {cause.strerror}") from cause


def _from_keyring(name: str) -> str:
    get_password = load(_KEYRINGS, "keyring", what="encryption.key", extra="keyring")
    try:
        found = get_password(SERVICE, name)
    except Exception as cause:  # backends raise what they like; what they say may hold what they were asked
        raise ConfigError(f"encryption.key: the keyring failed ({type(cause).__name__})",
                          hint="unlock it, or use file:PATH") from cause  # fmt: skip
    if not found:
        raise ConfigError(f"encryption.key: the keyring holds no {name!r} for {SERVICE!r}", hint=f"keyring set {SERVICE} {name}")
    return str(found)


def _decoded(text: str, where: str) -> bytes:
    text = text.strip()
    try:
        key = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        key = b""
    if len(key) != N_BYTES:
        raise ConfigError(f"encryption.key: {where} does not hold a key",
                          hint="a key is 32 random bytes in base64url, as `hagane keys create FILE` makes them; a passphrase is none")  # fmt: skip
    if len(set(key)) < 8 or all(0x20 <= byte < 0x7F for byte in key):  # chance for a random key: below 1 in 10^13
        raise ConfigError(f"encryption.key: {where} holds something that is not random",
                          hint="`hagane keys create FILE` makes a key; a passphrase is none")  # fmt: skip
    return key
