"""Whether the project can be worked with, and its numbers: for probes and metrics. Counts only."""

from __future__ import annotations

import os
from typing import Any

from hagane.core.errors import HaganeError
from hagane.core.log import get

from .wire import Project

LEAST_FREE_BYTES = 4_000_000  # an audit record needs less, but nothing else could be written either

log = get("project.health")


def not_ready(project: Project) -> list[str]:
    """Why requests cannot be served now: ledger, audit, disk, index. Empty when they can."""
    checks = {"ledger": _ledger, "audit": _audit, "disk": _disk, "index": _index}
    reasons = []
    for word, check in checks.items():
        try:
            good = check(project)
        except (HaganeError, OSError) as error:
            log.warning("not ready", what=word, error=type(error).__name__)
            good = False
        if not good:
            reasons.append(word)
    return reasons


def _ledger(project: Project) -> bool:
    project.ledger.queue.counts()
    return True


def _audit(project: Project) -> bool:
    """The head is whole, and the folder may be written (as far as that can be known without a record)."""
    project.ledger.audit.head()
    folder = project.ledger.audit.folder
    return not folder.exists() or all(os.access(file, os.W_OK) for file in (folder, *folder.glob("*.json*")))


def _disk(project: Project) -> bool:
    found = os.statvfs(project.state)
    return found.f_bavail * found.f_frsize >= LEAST_FREE_BYTES


def _index(project: Project) -> bool:
    project.index.count()
    return True


def numbers(project: Project) -> dict[str, Any]:
    """Passages, vectors, how complete search is, jobs that wait and run."""
    chunks, vectors = project.index.count()
    return {"chunks": chunks, "vectors": vectors, "share": project.share_complete(), "jobs": project.ledger.queue.counts()}
