"""Making the first question as quick as the others: dictionary, embedder and index are loaded before anybody asks."""

from __future__ import annotations

import threading

from hagane.core.errors import HaganeError
from hagane.core.labels import PUBLIC, Clearance
from hagane.core.log import get

from .wire import Project

log = get("project.warm")
_WORDS = "準備の確認"  # searched for once, by nobody, within the least clearance; nothing is shown and nothing recorded


def warm(project: Project) -> None:
    """Load what a question needs. Never fails: a question would say what is wrong."""
    if not (project.state / "ledger.db").exists():
        return
    try:
        project.retriever.retrieve(_WORDS, clearance=Clearance(PUBLIC.level), n=1)
        project.answers()
    except (HaganeError, OSError) as error:
        log.info("not warm", kind=type(error).__name__)


def warm_soon(project: Project) -> threading.Thread:
    """`warm` beside everything else; the thread ends with the process."""
    thread = threading.Thread(target=warm, args=(project,), name="hagane-warm", daemon=True)
    thread.start()
    return thread
