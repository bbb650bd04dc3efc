"""Verbs about the audit log."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hagane.ledger.audit import verify as check

from .wire import Project


def verify(project: Project, *, expect: str | None = None) -> dict[str, Any]:
    """{"ok", "count", "head", "problems", "notes"} of the project's log; `expect` is a head kept elsewhere."""
    return asdict(check(project.state / "audit", expect=expect))
