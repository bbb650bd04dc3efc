"""The stage that makes files to serve from what the newest stage made: merge, GGUF, and every gate before publishing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hagane.core.labels import Label
from hagane.core.seams import Sealer

from .spec import ExportConfig, MemoryGateConfig

MEMORY_S = 120.0  # of probing what a model knows by heart, for each set of data


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the memorisation gate found over all sets that the model learnt from."""

    reports: tuple[Any, ...]

    @property
    def passed(self) -> bool:
        return all(one.passed for one in self.reports)

    @property
    def sentences(self) -> Sequence[str]:
        return [line for one in self.reports for line in one.why]

    def as_json(self) -> Mapping[str, Any]:
        return {"sets": [one.as_json() for one in self.reports]}


def export(
    job: Mapping[str, Any], *, emit: Callable[[Mapping[str, Any]], None], stop: Callable[[], bool], sealer: Sealer | None
) -> dict[str, Any]:
    """The report of publish.export as JSON. `job`: source, folder, name, label, base, base_file, licence, chat, export,
    memory (their sections of train.yaml), datasets (folders). Raises: as `publish.export`."""
    from hagane.train.shard_set import ShardSet
    from hagane.train.vault import Vault

    from .memory import check
    from .publish import export as publish

    def opened(place: Path, part: str) -> Any | None:
        return ShardSet(place / part, vault=Vault(sealer, place.name)) if (place / part).is_dir() else None

    def remembers(folder: Path) -> Remembered:
        found = []
        for place in map(Path, job["datasets"]):
            rows = opened(place, "train")
            if rows is not None:
                config = MemoryGateConfig.model_validate(job["memory"])
                found.append(check(folder, rows, held_out=opened(place, "dev"), config=config, seconds=MEMORY_S, emit=emit))
        return Remembered(tuple(found))

    report = publish(
        Path(job["source"]), Path(job["folder"]), ExportConfig.model_validate(job["export"]), name=job["name"],
        label=Label.parse(job["label"]), base=Path(job["base"]) if job["base"] else None,
        base_file=Path(job["base_file"]) if job["base_file"] else None, licence=job["licence"], chat=job["chat"],
        gates={"memory": remembers} if job["datasets"] else {}, emit=emit, stop=stop,
    )  # fmt: skip
    return report.as_json()
