"""The stage that makes files to serve from what the newest stage made: merge, GGUF, and every gate before publishing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hagane.core.labels import Label
from hagane.core.seams import Sealer

from .spec import ExportConfig, MemoryGateConfig


def export(
    job: Mapping[str, Any],
    *,
    emit: Callable[[Mapping[str, Any]], None],
    stop: Callable[[], bool],
    sealer: Sealer | None,
) -> dict[str, Any]:
    """The report of publish.export as JSON. `job`: source, folder, name, label, base, base_file, licence, chat, export,
    memory (their sections of train.yaml), datasets (folders). Raises: as `publish.export`."""
    from .memory import gate
    from .publish import export as publish

    config = MemoryGateConfig.model_validate(job["memory"])
    memory = gate([Path(one) for one in job["datasets"]], config, sealer=sealer, emit=emit)
    report = publish(
        Path(job["source"]), Path(job["folder"]), ExportConfig.model_validate(job["export"]), name=job["name"],
        label=Label.parse(job["label"]), base=Path(job["base"]) if job["base"] else None,
        base_file=Path(job["base_file"]) if job["base_file"] else None, licence=job["licence"], chat=job["chat"],
        gates={"memory": memory}, emit=emit, stop=stop,
    )  # fmt: skip
    return report.as_json()
