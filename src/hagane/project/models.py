"""Verbs about models on this machine: list, pull, recommend. Those that were made here: trained.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hagane.models import catalog
from hagane.models.pull import pull as fetch


def models() -> list[dict[str, Any]]:
    """Every known and every pulled model: state, size, licence, languages."""
    return [catalog.shown(entry) for entry in catalog.available()]


def recommend(*, language: str = "ja") -> dict[str, Any]:
    """The most able known model that fits this machine: {"model", "memory_bytes", "cores", "ready"}; model None if none."""
    memory_bytes, cores = catalog.machine()
    entries = {entry.info.name: entry for entry in catalog.available()}
    infos = [entry.info for entry in entries.values()]
    best = catalog.recommend(infos, memory_bytes=memory_bytes, cores=cores, languages=(language,))
    return {
        "model": catalog.shown(entries[best.name]) if best else None,
        "install": best.install if best else None,
        "memory_bytes": memory_bytes,
        "cores": cores,
    }


def pull(source: str, *, name: str | None, sha256: str | None, emit: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Fetch a model because the user said so; one that comes in an installed package is there `already`. Raises: see `models.pull`."""
    listed = next((entry for entry in catalog.available() if entry.info.name == source), None)
    if listed and name is None and listed.state != "missing" and listed.info.parts and sha256 in (None, listed.info.sha256):
        file = str(listed.file) if listed.file else None
        return {"name": source, "file": file, "size_bytes": listed.info.size_bytes, "sha256": listed.info.sha256, "already": True}
    made = fetch(
        source, name=name, sha256=sha256,
        progress=lambda here, whole: emit({"event": "pull", "done": here, "total": whole}),
    )  # fmt: skip
    return {"name": made.name, "file": str(made.file), "size_bytes": made.size_bytes, "sha256": made.sha256, "already": False}
