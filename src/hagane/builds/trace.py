"""Any batch to its documents, any document to its batches, and a data set taken away: what is known without training.

    feed = trace(datasets / "ds_…", T=1024, seed=0, rows=8)
    feed.documents(310, 2)                   # what row 2 of step 310 was made of
    feed.steps_of("d_0123@v1", epoch=1)      # the steps at which a document is learnt in the second epoch
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hagane.core.errors import NotFoundError, StorageError
from hagane.core.seams import Sealer
from hagane.train.feed import ShardFeed
from hagane.train.loader import Loader
from hagane.train.pack import RowPlan
from hagane.train.shard_set import ShardSet
from hagane.train.shards import read_json
from hagane.train.vault import Vault

from .data_seal import key_of

MADE_FROM = "made-from.json"


def rows_folder(place: Path, *, T: int, seed: int) -> Path:
    """Where it is kept which documents share a packed row."""
    return place / f"rows-{T}-{seed}"


def trace(place: Path, *, T: int, seed: int, rows: int, sealer: Sealer | None = None) -> ShardFeed:
    """The feed of a run from its data set in `place` and what the run was set to: opens at once, at any step.
    Raises: NotFoundError for a set or plan that is not there, StorageError."""
    vault = Vault(sealer, place.name)
    where = rows_folder(place, T=T, seed=seed)
    if not (place / "train").is_dir() or not where.is_dir():
        raise NotFoundError(f"there is no data set {place.name} of rows of {T} tokens", hint="prepare it: hagane train")
    return ShardFeed(Loader(ShardSet(place / "train", vault=vault), RowPlan(where, vault=vault), batch=rows), seed=seed)


def made_from(place: Path, *, sealer: Sealer | None = None) -> tuple[str, ...] | None:
    """Versions of documents and sha256 of files that a set was made from; None where nothing of it was written yet.
    Raises: StorageError for one that does not open."""
    file = place / MADE_FROM
    if not file.exists():
        return None
    return tuple(read_json(file, Vault(sealer, place.name))["parents"])


def remove(place: Path, *, keys: Any | None = None) -> None:
    """Take a data set away; in an encrypted project its key, too, so that no copy of it opens any more.
    Raises: StorageError."""
    try:
        if place.exists():
            shutil.rmtree(place)
    except OSError as cause:
        raise StorageError(f"{place} cannot be deleted: {cause.strerror}", hint="check the rights of .hagane") from cause
    if keys is not None:
        keys.drop([key_of(place.name)])
