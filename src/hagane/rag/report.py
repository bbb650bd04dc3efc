"""What one sync did, and what of it someone may be told."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(slots=True)
class Report:
    """What one sync did. Paths only of documents; counts for the rest."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    relabelled: int = 0
    kept: int = 0  # new documents with the label that their file had under another source
    unchanged: int = 0
    aside: list[dict[str, str]] = field(default_factory=list)  # path, reason, detail; new in this run
    refused: list[dict[str, Any]] = field(default_factory=list)  # source, why, paths: nothing deleted there
    requests: list[dict[str, str]] = field(default_factory=list)  # lowerings that wait for approval
    duplicates: int = 0
    chunks: int = 0
    vectors: int = 0
    without_vectors: bool = False  # hagane.yaml wants none
    counted: dict[str, list[str]] = field(default_factory=dict, repr=False)  # paths or ids behind a count

    @property
    def complete(self) -> bool:
        return self.without_vectors or self.vectors >= self.chunks

    def count(self, name: str, found: Iterable[str]) -> None:
        """Add the documents `found` (paths or ids) to the count `name`."""
        counted = self.counted.setdefault(name, [])
        counted += found
        setattr(self, name, len(counted))

    def without(self, hidden: Collection[str], *, sources: Collection[str] = ()) -> Report:
        """What someone may be told who may not see the documents with the paths and ids of `hidden`, nor
        anything of `sources`. `duplicates`, `chunks` and `vectors` are 0: whoever knows the documents counts them."""
        counted = {name: [one for one in found if one not in hidden] for name, found in self.counted.items()}
        return replace(
            self,
            added=[path for path in self.added if path not in hidden],
            changed=[path for path in self.changed if path not in hidden],
            renamed=[(old, new) for old, new in self.renamed if old not in hidden and new not in hidden],
            removed=[path for path in self.removed if path not in hidden],
            aside=[aside for aside in self.aside if aside["path"] not in hidden],
            refused=[
                r | {"paths": [p for p in r["paths"] if not any(h == p or h.startswith(f"{p}/") for h in hidden)]}
                for r in self.refused
                if r["source"] not in sources
            ],
            duplicates=0,
            chunks=0,
            vectors=0,
            counted=counted,
            **{name: len(found) for name, found in counted.items()},
        )
