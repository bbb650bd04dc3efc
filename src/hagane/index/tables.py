"""LanceDB tables in one folder: opening, creating with indices, reading filtered rows, leaving no remains.

What LanceDB needs to be told is told here once; what the rows mean stands in lance.py.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import lancedb
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.index import FTS

from ..core.errors import HaganeError, StorageError

T = TypeVar("T")
_GROUP = 500  # values in one IN (...)
_REWRITE = 20_000  # rows rewritten in one commit: bounds memory to about 50 MB

# Terms come parted by blanks and are taken as they are. max_token_length: the default of 40 silently drops
# 64-digit hashes.
TERMS = FTS(
    base_tokenizer="whitespace",
    with_position=False,
    max_token_length=1_000_000,
    lower_case=False,
    stem=False,
    remove_stop_words=False,
    ascii_folding=False,
)


def is_in(column: str, values: Sequence[str]) -> str:
    """`column IN (...)` in SQL."""
    quoted = ("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({', '.join(quoted)})"


def groups(values: Sequence[T], size: int = _GROUP) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


@contextmanager
def storage(act: str) -> Iterator[None]:
    """Errors of the store as StorageError; their own words stay in `__cause__` (they may hold content)."""
    try:
        yield
    except HaganeError:
        raise
    except (OSError, RuntimeError, ValueError, pa.ArrowException) as cause:
        words = str(cause)
        full = any(sign in words for sign in ("No space left", "os error 28", "File too large", "Disk quota"))
        raise StorageError(
            f"the search index could not {act}: " + ("the disk is full" if full else f"{type(cause).__name__}"),
            hint="free some space and run the command again; what was finished is kept"
            if full
            else "run the command again; if it stays, delete .hagane/index and run hagane sync to build it anew",
        ) from cause


def tidy(table: Any) -> None:
    """Small files joined, new rows indexed, older versions removed. Zero retention is what erasure needs; a
    reader elsewhere whose files go away under it tries once more (`Tables.read`)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"optimize\(cleanup_older_than=0\)")
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


def upsert(table: Any, rows: pa.Table) -> None:
    """Replace the rows of the same id and append the others, in one commit."""
    table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)


def indexed(table: Any) -> set[str]:
    """The columns that have an index."""
    return {index.columns[0] for index in table.list_indices()}


class Tables:
    """The tables of one folder. Each read sees the newest commit of any process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._open: dict[str, Any] = {}
        self._census: dict[str, tuple[int, dict[str, int]]] = {}
        self._whole: set[str] = set()  # tables of which this process knows that all indices are there
        with storage("be opened"):
            folder.mkdir(parents=True, exist_ok=True)
            self._db = lancedb.connect(str(folder), read_consistency_interval=timedelta(0))

    def names(self, prefix: str = "") -> list[str]:
        return sorted(path.stem for path in self.folder.glob(f"{prefix}*.lance"))

    def get(self, name: str) -> Any | None:
        """The table, or None while nobody has written it."""
        table = self._open.get(name)
        if table is None and (self.folder / f"{name}.lance" / "_versions").is_dir():
            with self.lock:
                table = self._open[name] = self._db.open_table(name)
        return table

    def create(self, name: str, schema: pa.Schema, indices: Mapping[str, Any]) -> Any:
        """The table with these indices, empty if new: rows only ever stand in a table that has them."""
        with self.lock:
            table = self.get(name)
            if table is None:
                table = self._open[name] = self._db.create_table(name, schema=schema, exist_ok=True)
            if name not in self._whole:
                for column in indices.keys() - indexed(table):
                    table.create_index(column, config=indices[column], replace=True)
                self._whole.add(name)
            return table

    def drop(self, name: str) -> None:
        with self.lock:
            if self._open.pop(name, None) or name in self.names():
                self._db.drop_table(name)
            self._whole.discard(name)
            self._census.pop(name, None)

    def read(self, act: str, read: Callable[[], T]) -> T:
        """`read()`, once more on freshly opened tables when a writer's clean-up took files away under it."""
        try:
            return read()
        except HaganeError:
            raise
        except (OSError, RuntimeError, ValueError):
            with self.lock:
                self._open.clear()
            with storage(act):
                return read()

    def rows(self, name: str, columns: Sequence[str], where: str | None = None) -> pa.Table:
        """All rows of a table, or those of a filter; no rows (of text) while there is no table."""
        table = self.get(name)
        if table is None:
            return pa.table({column: pa.array([], pa.string()) for column in columns})
        query = table.search().select(list(columns))
        return (query.where(where, prefilter=True) if where else query).to_arrow()

    def rows_of(self, name: str, columns: Sequence[str], column: str, values: Sequence[str]) -> pa.Table:
        """The rows whose `column` is one of `values`."""
        found = [self.rows(name, columns, is_in(column, group)) for group in groups(values)]
        return pa.concat_tables(found) if found else self.rows(name, columns, "false")

    def census(self, name: str) -> dict[str, int]:
        """Rows per stored label, of the newest version."""
        table = self.get(name)
        if table is None:
            return {}
        version = table.version
        known = self._census.get(name)
        if known is None or known[0] != version:
            counted = pc.value_counts(self.rows(name, ["label"])["label"])
            known = self._census[name] = (version, {row["values"]: row["counts"] for row in counted.to_pylist()})
        return known[1]

    def holed(self, name: str) -> list[int]:
        """Numbers of the fragments that still hold deleted rows: each has a file in _deletions."""
        files = (self.folder / f"{name}.lance" / "_deletions").glob("*-*-*.*")
        return sorted({int(file.name.partition("-")[0]) for file in files})

    def erase(self, name: str, rebuild: Callable[[Any, str], None]) -> None:
        """Leave nothing of deleted or replaced rows on disk: move the living rows of holed fragments into new
        ones, call `rebuild(table, column)` for each index, drop all older versions."""
        table = self.get(name)
        if table is None:
            return
        tidy(table)
        for fragment in self.holed(name):
            low, high = fragment << 32, (fragment + 1) << 32  # a row id is fragment and place
            living = table.search().where(f"_rowid >= {low} AND _rowid < {high}", prefilter=True)
            places = sorted(living.select(["_rowid"]).with_row_id(True).to_arrow()["_rowid"].to_pylist())
            for group in groups(places, _REWRITE):
                within = f"_rowid >= {group[0]} AND _rowid <= {group[-1]}"
                upsert(table, self.rows(name, table.schema.names, within))
        for column in indexed(table):
            rebuild(table, column)
        tidy(table)
        for left in (self.folder / f"{name}.lance").rglob(".tmp*"):  # a writer was killed; only one writes at a time
            left.unlink(missing_ok=True)
        if self.holed(name):
            raise StorageError(f"deleted rows stayed on disk in {name}", hint="run the command again")
