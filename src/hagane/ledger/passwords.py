"""Passwords: which are good enough, argon2id, and never more than two computations at once.

Length and blocklist follow NIST SP 800-63B (rev. 3, 5.1.1.2: at least 8; rev. 4, 3.1.1.2: 15 where nothing
else is asked, 8 beside a second factor; at least 64 allowed; no rules of composition, no expiry). Ours is 12: guesses
are throttled per account and address, and the second factor is optional.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Any

from ..core.errors import BusyError, UsageError

SHORTEST, LONGEST = 12, 1024  # characters
_FROM_NAME = 8  # so many characters must remain when the user's name is taken out
_AT_ONCE = 2  # argon2 computations of 64 MiB each
_QUEUE = 24  # computing or waiting; more are told to come again
_PATIENCE_S = 10.0
_ROWS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "abcdefghijklmnopqrstuvwxyz")

_computing = threading.BoundedSemaphore(_AT_ONCE)
_queue = threading.BoundedSemaphore(_QUEUE)


def check(password: str, *, name: str) -> None:
    """Raises: UsageError when `password` is not good enough for the user `name`. The message never repeats it."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise UsageError(
            f"the password has {len(password)} characters, not {SHORTEST} to {LONGEST}",
            hint="a sentence that only you would write is easy to remember",
        )
    folded = _fold(password)
    bare = folded.replace(" ", "")
    for word in (_fold(name), "hagane"):
        if word in folded and len(folded.replace(word, "")) < _FROM_NAME:
            raise UsageError("the password is little more than a name", hint="choose other words")
    if bare in _common() or _is_pattern(bare):
        raise UsageError("the password is one that guessers try first", hint="choose other words")


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    text = files(__package__).joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(_fold(line) for line in text.splitlines() if line and not line.startswith("#"))


def _is_pattern(text: str) -> bool:
    """Few different characters, one piece repeated, or a run along a row of the keyboard."""
    if len(set(text)) < 4:
        return True
    if any(text == (text[:n] * len(text))[: len(text)] for n in range(1, 5)):
        return True
    runs = [row * 3 for row in _ROWS] + [row[::-1] * 3 for row in _ROWS]
    return any(text in run for run in runs)


@lru_cache(maxsize=1)
def _hasher() -> Any:
    """RFC 9106's second choice, for machines with little memory: 64 MiB, 3 passes, 4 lanes."""
    from argon2 import PasswordHasher
    from argon2.profiles import RFC_9106_LOW_MEMORY

    return PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)


@lru_cache(maxsize=1)
def _nobodys() -> str:
    """What is compared where there is no password, so that it takes as long."""
    return _hasher().hash(secrets.token_bytes(32))


def hash_of(password: str) -> str:
    """argon2id with a fresh salt. Raises: BusyError."""
    with _slot():
        return str(_hasher().hash(_bytes(password)))


def matches(stored: str | None, password: str) -> bool:
    """Whether `password` is the one that `stored` was made from; as slow for None. Raises: BusyError."""
    from argon2.exceptions import InvalidHashError, VerificationError

    with _slot():
        against = stored or _nobodys()
        try:
            _hasher().verify(against, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False
    return stored is not None


def is_outdated(stored: str) -> bool:
    """Whether `stored` was made with other costs than today's."""
    return bool(_hasher().check_needs_rehash(stored))


def _bytes(password: str) -> bytes:
    """NFKC, as SP 800-63B asks: the same keys pressed on another system are the same password."""
    return unicodedata.normalize("NFKC", password[: LONGEST + 1]).encode("utf-8", "surrogatepass")


@contextlib.contextmanager
def _slot() -> Iterator[None]:
    if not _queue.acquire(blocking=False):
        raise _busy()
    try:
        if not _computing.acquire(timeout=_PATIENCE_S):
            raise _busy()
        try:
            yield
        finally:
            _computing.release()
    finally:
        _queue.release()


def _busy() -> BusyError:
    return BusyError("too many people sign in at once", hint="try again in a few seconds")
