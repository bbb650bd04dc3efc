"""Proof that something is gone from a LanceDB folder: every version of every table is read again.

Lance compresses and keeps deleted rows in old versions, in data files beside living rows, and in index
files; searching the files' bytes alone proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa

from ..core.errors import StorageError
from ..core.seams import Sealer
from .payload import Plain, text_of


def traces(folder: Path, text: str, sealer: Sealer | None = None) -> list[str]:
    """Places that still hold `text` (or may: data files beside deleted rows); [] when there are none."""
    sealer = sealer if sealer is not None else Plain()
    found: list[str] = []
    for path in sorted(folder.glob("*.lance")):
        found += _versions(folder, path.stem, text, sealer)
        found += [f"{path.stem}: deleted rows lie in a data file of {f.name}" for f in (path / "_deletions").glob("*")]
    found += _frequencies(folder / "frequencies.arrow", text)
    found += _raw(folder, text)
    return found


def _versions(folder: Path, name: str, text: str, sealer: Sealer) -> Iterator[str]:
    table = lancedb.connect(str(folder)).open_table(name)
    for version in [int(entry["version"]) for entry in table.list_versions()]:
        table.checkout(version)
        for batch in table.search().to_arrow().to_batches(max_chunksize=5_000):
            columns = [column for column in batch.schema.names if column != "vector"]
            for row in batch.select(columns).to_pylist():
                if _holds(row, text, sealer):
                    yield f"{name} version {version}: chunk {row['id']}"


def _holds(row: dict[str, Any], text: str, sealer: Sealer) -> bool:
    fields = [str(value) for key, value in row.items() if key != "payload"]
    if "payload" in row:
        fields.append(_opened(row, sealer))
    return any(text in field for field in fields)


def _opened(row: dict[str, Any], sealer: Sealer) -> str:
    """The payload's text; nothing where its document's key is gone: nobody can read it any more."""
    try:
        return text_of(sealer.open(row["document"], row["payload"], bound=row["id"].encode()))
    except StorageError:
        return ""


def _frequencies(path: Path, text: str) -> Iterator[str]:
    if path.is_file():
        with pa.OSFile(str(path)) as file:
            terms = pa.ipc.open_file(file).read_all()["term"].to_pylist()
        if any(text in term for term in terms):
            yield f"{path.name}: as a term"


def _raw(folder: Path, text: str) -> Iterator[str]:
    needle = text.encode()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and needle in file.read_bytes():
            yield f"{file.relative_to(folder)}: as bytes"
