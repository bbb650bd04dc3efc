"""Hagane: the system with which a company builds, proves and runs its own LLM.

    from hagane import Project, ask
    with Project.open("my-llm") as project:
        print(ask(project, "有給休暇は何日?", by=project.principal("staff")).answer)

Names load when first used; nothing runs on import.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.3.0"

_PUBLIC = {
    "Project": "hagane.project.wire",
    "init": "hagane.project.documents",
    "add": "hagane.project.documents",
    "sync": "hagane.project.documents",
    "docs": "hagane.project.documents",
    "show": "hagane.project.documents",
    "search": "hagane.project.questions",
    "ask": "hagane.project.questions",
    "evaluate_retrieval": "hagane.project.measure",
    "evaluate_answers": "hagane.project.measure",
    "Label": "hagane.core.labels",
    "Clearance": "hagane.core.labels",
    "HaganeError": "hagane.core.errors",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hagane' has no attribute {name!r}")
