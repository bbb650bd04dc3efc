"""Every error of the house.

HaganeError                     exit 1, HTTP 500
├── UsageError                  exit 2, HTTP 400: the command was written wrong
├── ConfigError                 hagane.yaml says something we do not understand
│   └── LabelError              a label or clearance that is not one
├── NotFoundError               HTTP 404: no such document, principal, model
│   └── UnknownModelError       no model of that name may be asked
├── SignInError                 HTTP 401: who you are could not be shown; never says why
│   └── SecondFactorNeeded      the password was right; the code of the second factor is missing
├── RefusedError                HTTP 403: a label, a law or a safety limit says no
├── StateError                  HTTP 409: the project is not in a state that allows this
│   ├── IncompleteError         the index is not complete yet
│   ├── StoppedError            ended because someone asked for it; what was done is kept
│   └── ChangedError            what it was made from was erased, or its label rose, before it was done
├── BusyError                   HTTP 503: too many ask at once; try again in a moment
├── TooLargeError               HTTP 413: more bytes than a quota allows
├── StorageError                HTTP 507: disk full, unreadable or damaged state
│   └── ErasedError             what sealed it is gone: it was erased
├── AuditError                  the record could not be written, so the act did not happen
├── SourceError                 a file cannot be read; it is set aside with this reason
└── ModelError                  a model or its engine failed
    ├── ModelRefusedError       HTTP 400: the model does not take this request (too long, a grammar it cannot read)
    └── MissingExtraError       a package of an extra is not installed

Each has a `hint` (what to do next, own line), an `exit_code`, an `http_status` and `retryable`.
Messages never carry document content.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HaganeError(Exception):
    """Root of all errors that a user may see."""

    exit_code = 1
    http_status = 500
    retryable = False
    code = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(HaganeError):
    exit_code, http_status, code = 2, 400, "usage"


class ConfigError(HaganeError):
    http_status, code = 400, "config"


class LabelError(ConfigError):
    code = "label"


class NotFoundError(HaganeError):
    http_status, code = 404, "not_found"


class UnknownModelError(NotFoundError):
    code, param = "model_not_found", "model"


class SignInError(HaganeError):
    http_status, code = 401, "sign_in"


class SecondFactorNeeded(SignInError):
    code = "second_factor"


class RefusedError(HaganeError):
    http_status, code = 403, "refused"


class StateError(HaganeError):
    http_status, code = 409, "state"


class IncompleteError(StateError):
    code, retryable = "incomplete", True


class StoppedError(StateError):
    code, retryable = "stopped", True


class ChangedError(StateError):
    code, retryable = "changed", True


class BusyError(HaganeError):
    http_status, code, retryable = 503, "busy", True


class TooLargeError(HaganeError):
    http_status, code = 413, "too_large"


class StorageError(HaganeError):
    http_status, code, retryable = 507, "storage", True


class ErasedError(StorageError):
    code, retryable = "erased", False


class AuditError(HaganeError):
    code = "audit"


class SourceError(HaganeError):
    """Why a file was set aside. `reason` is one stable word: damaged, encrypted, too_large, empty,
    unsupported, hostile, timeout, memory, crashed, unreadable."""

    http_status, code = 422, "source"

    def __init__(self, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class ModelError(HaganeError):
    http_status, code, retryable = 502, "model", True


class ModelRefusedError(ModelError):
    http_status, code, retryable = 400, "model_refused", False


class MissingExtraError(ModelError):
    code, retryable = "missing_extra", False


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The most similar of `words`, for 'did you mean'; None when nothing is close."""
    found = difflib.get_close_matches(str(word), list(words), n=1, cutoff=0.5)
    return found[0] if found else None
