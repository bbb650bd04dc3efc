"""Structured events on stderr: ids and counts, never content and never secrets.

`log = get("rag.ingest"); log.info("chunked", document=id, chunks=3)`. Quiet unless HAGANE_LOG is set
(debug, info, warning); a field whose name suggests content or a secret is refused.
"""

from __future__ import annotations

import logging
import os
from typing import Any

_FORBIDDEN = frozenset(
    {"text", "content", "question", "answer", "quote", "prompt", "query", "title", "password", "token", "key", "secret"}
)


class _Log:
    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"hagane.{name}")

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        bad = _FORBIDDEN & fields.keys()
        assert not bad, f"log fields {sorted(bad)} may carry content"
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields})

    def debug(self, event: str, **fields: Any) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(logging.WARNING, event, fields)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{k}={v!r}" for k, v in getattr(record, "fields", {}).items())
        return f"{self.formatTime(record)} {record.levelname.lower()} {record.name} {record.getMessage()} {fields}".rstrip()


def get(name: str) -> _Log:
    """A logger for one room, for example `get("index.lance")`."""
    return _Log(name)


def configure(level: str | None = None) -> None:
    """Send the house's events to stderr. Level from the argument, else HAGANE_LOG, else warning."""
    root = logging.getLogger("hagane")
    root.setLevel((level or os.environ.get("HAGANE_LOG") or "warning").upper())
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Lines())
        root.addHandler(handler)
    root.propagate = False
