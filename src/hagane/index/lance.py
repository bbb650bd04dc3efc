"""The embedded store: two LanceDB tables in one folder, `words` and `vectors`.

words    id, document, version, label, ordinal, tokens (terms parted by blanks), n_tokens, payload
vectors  id, document, label, vector (dim x float32)

Searches filter by `label IN (...)`, computed from the labels that stand in the table and flow to the
clearance: a label that cannot be read flows nowhere. `words` is the truth; a vector never has a label
below its chunk's, whenever the process dies (order of the commits in `relabel` and `delete`).

One process writes at a time (the caller holds the project's lock: clean-up removes what another writer
has not committed yet). Any number of processes and threads read; each read sees the newest commit.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.index import FTS, Bitmap, BTree, IvfSq
from lancedb.query import BooleanQuery, MatchQuery, Occur

from ..core.errors import HaganeError, LabelError, StorageError
from ..core.labels import EVERYTHING, Clearance, Label, join
from ..core.seams import Floats
from ..core.types import Chunk, Hit, Statistics
from .frequencies import Frequencies
from .memory import unit_rows
from .payload import pack, unpack
from .resident import Resident

WORDS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("document", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        pa.field("tokens", pa.string(), nullable=False),
        pa.field("n_tokens", pa.int32(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ]
)
_CHUNK = ["id", "document", "version", "label", "ordinal", "payload"]
_GROUP = 500  # values in one IN (...)
_PROBES, _REFINE = 48, 4  # partitions looked into, and exactly re-scored rows per wanted one
_REWRITE = 20_000  # rows rewritten in one commit: bounds memory to about 50 MB

# max_token_length: the default of 40 silently drops 64-digit hashes (docs: FTS).
_FTS = FTS(
    base_tokenizer="whitespace",
    with_position=False,
    max_token_length=1_000_000,
    lower_case=False,
    stem=False,
    remove_stop_words=False,
    ascii_folding=False,
)
T = TypeVar("T")


def _vectors_schema(dim: int) -> pa.Schema:
    text = [pa.field(name, pa.string(), nullable=False) for name in ("id", "document", "label")]
    return pa.schema([*text, pa.field("vector", pa.list_(pa.float32(), dim), nullable=False)])


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _is_in(column: str, values: Sequence[str]) -> str:
    return f"{column} IN ({', '.join(map(_quoted, values))})"


def _groups(values: Sequence[T], size: int = _GROUP) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _tidy(table: Any) -> None:
    """Small files joined, new rows indexed, older versions removed. Zero retention is what erasure needs; a
    reader elsewhere whose files go away under it tries once more (`_read`)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"optimize\(cleanup_older_than=0\)")
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


def flows(label: str, clearance: Clearance) -> bool:
    """Whether a stored label flows to `clearance`; one that cannot be read does not."""
    try:
        return Label.parse(label).flows_to(clearance)
    except LabelError:
        return False


@contextmanager
def _storage(act: str) -> Iterator[None]:
    """Errors of the store as StorageError; their own words stay in `__cause__` (they may hold content)."""
    try:
        yield
    except HaganeError:
        raise
    except (OSError, RuntimeError, ValueError, pa.ArrowException) as cause:
        full = "No space left" in str(cause) or "os error 28" in str(cause)
        raise StorageError(
            f"the search index could not {act}" + (": the disk is full" if full else f" ({type(cause).__name__})"),
            hint="free some space and run the command again; what was committed is kept"
            if full
            else "hagane doctor checks the index; it can be deleted and rebuilt from the documents by hagane sync",
        ) from cause


class LanceIndex:
    """Index and Searcher over a folder. Contracts: hagane/contracts/{index,searcher}.py.

    `exact_rows`: up to so many rows vectors are searched exactly in memory (4 x dim bytes each); more
    rows use the approximate index, except for a clearance that allows fewer.
    """

    def __init__(self, folder: Path | str, *, exact_rows: int = 200_000) -> None:
        self.folder = Path(folder)
        self._exact_rows = exact_rows
        self._lock = threading.RLock()
        self._tables: dict[str, Any] = {}
        self._resident: Resident | None = None
        self._known: tuple[int, set[str]] | None = None  # (version of words, its chunk ids)
        self._frequencies: Frequencies | None = None
        self._labels: dict[str, tuple[int, dict[str, int]]] = {}
        with _storage("be opened"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._db = lancedb.connect(str(self.folder), read_consistency_interval=timedelta(0))

    # tables

    def _table(self, name: str) -> Any | None:
        """The table, or None while nobody has written it."""
        table = self._tables.get(name)
        if table is None and (self.folder / f"{name}.lance").is_dir():
            with self._lock:
                table = self._tables[name] = self._db.open_table(name)
        return table

    def _create(self, name: str, schema: pa.Schema) -> Any:
        """The table with all its indices, empty if new: rows only ever stand in a table that has them."""
        with self._lock:
            table = self._table(name)
            if table is None:
                table = self._tables[name] = self._db.create_table(name, schema=schema, exist_ok=True)
            have = {index.columns[0] for index in table.list_indices()}
            for column, config in self._indices(name).items():
                if column not in have:
                    table.create_index(column, config=config, replace=True)
            return table

    @staticmethod
    def _indices(name: str) -> dict[str, Any]:
        shared = {"id": BTree(), "document": BTree(), "label": Bitmap()}
        return {"tokens": _FTS, **shared} if name == "words" else shared

    def _rows(self, name: str, columns: Sequence[str], where: str | None = None) -> pa.Table:
        """All rows of a table, or those of a filter; no rows while there is no table."""
        table = self._table(name)
        if table is None:
            return pa.table({column: pa.array([], WORDS.field(column).type) for column in columns})
        query = table.search().select(list(columns))
        return (query.where(where, prefilter=True) if where else query).to_arrow()

    def _rows_of(self, name: str, columns: Sequence[str], column: str, values: Sequence[str]) -> pa.Table:
        found = [self._rows(name, columns, _is_in(column, group)) for group in _groups(values)]
        return pa.concat_tables(found) if found else self._rows(name, columns, "false")

    # writing

    def add(self, chunks: Sequence[Chunk], tokens: Sequence[Sequence[str]]) -> None:
        """Durable and searchable by words when it returns. Give it 500 chunks or more at a time."""
        latest = {chunk.id: (chunk, terms) for chunk, terms in zip(chunks, tokens, strict=True)}
        if not latest:
            return
        chunks = [chunk for chunk, _ in latest.values()]
        columns = {
            "id": [chunk.id for chunk in chunks],
            "document": [chunk.document for chunk in chunks],
            "version": [chunk.version for chunk in chunks],
            "label": [str(chunk.label) for chunk in chunks],
            "ordinal": [chunk.ordinal for chunk in chunks],
            "tokens": [" ".join(terms) for _, terms in latest.values()],
            "n_tokens": [len(terms) for _, terms in latest.values()],
            "payload": [pack(chunk) for chunk in chunks],
        }
        rows = pa.table(columns, schema=WORDS)
        with _storage("take in chunks"), self._lock:
            words = self._create("words", WORDS)
            if not self._known_ids(words).isdisjoint(latest):
                self._replace(words, rows, chunks)
            else:
                words.add(rows)
            self._remember(words, latest)

    def _replace(self, words: Any, rows: pa.Table, chunks: Sequence[Chunk]) -> None:
        """Chunks of which some are there already; a vector's label follows its chunk's, as in `relabel_many`."""
        known = self._rows_of("words", ["id", "label"], "id", [chunk.id for chunk in chunks])
        before = dict(zip(known["id"].to_pylist(), known["label"].to_pylist(), strict=True))
        moved = [c for c in chunks if c.id in before and before[c.id] != str(c.label)]
        self._shift_vectors({c.id: join(Label.parse(before[c.id]), c.label) for c in moved})
        self._upsert(words, rows)
        self._shift_vectors({c.id: c.label for c in moved})

    def _known_ids(self, words: Any) -> set[str]:
        """Ids of all chunks, kept from write to write while nobody else writes."""
        version = words.version
        if self._known is None or self._known[0] != version:
            self._known = (version, set(self._rows("words", ["id"])["id"].to_pylist()))
        return self._known[1]

    def _remember(self, words: Any, ids: Iterable[str]) -> None:
        if self._known is not None:
            self._known[1].update(ids)
            self._known = (words.version, self._known[1])

    @staticmethod
    def _upsert(table: Any, rows: pa.Table) -> None:
        table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def _shift_vectors(self, labels: Mapping[str, Label], *, column: str = "id") -> None:
        """Set the label of vectors, given per chunk id (or per document)."""
        vectors = self._table("vectors")
        if vectors is None:
            return
        for label in sorted(set(labels.values()), key=str):
            own = [key for key, its in labels.items() if its == label]
            for group in _groups(own):
                stale = f"{_is_in(column, group)} AND label != {_quoted(str(label))}"
                if vectors.count_rows(stale):
                    vectors.update(where=stale, values={"label": str(label)})

    def add_vectors(self, ids: Sequence[str], vectors: Floats) -> None:
        """Ids without a chunk are left out; a chunk's vector is replaced. Raises: ValueError for rows of another
        shape or not of length 1."""
        rows = unit_rows(ids, vectors)
        if not len(rows):
            return
        place = {key: at for at, key in enumerate(ids)}
        table = self._table("vectors")
        dim = table.schema.field("vector").type.list_size if table is not None else rows.shape[1]
        if dim != rows.shape[1]:
            raise ValueError(f"vectors have {rows.shape[1]} dimensions, the index has {dim}")
        with _storage("take in vectors"), self._lock:
            found = self._rows_of("words", ["id", "document", "label"], "id", list(place))
            if not found.num_rows:
                return
            chosen = np.ascontiguousarray(rows[[place[key] for key in found["id"].to_pylist()]])
            vector = pa.FixedSizeListArray.from_arrays(pa.array(chosen.reshape(-1)), dim)
            new = pa.table([*found.columns, vector], schema=_vectors_schema(dim))
            table = self._create("vectors", new.schema)
            if self._rows_of("vectors", ["id"], "id", found["id"].to_pylist()).num_rows:
                self._upsert(table, new)
            else:
                table.add(new)

    def relabel(self, document: str, label: Label) -> None:
        self.relabel_many({document: label})

    def relabel_many(self, labels: Mapping[str, Label]) -> None:
        """New labels of documents. Vectors go to the join of old and new first and to the new one last, so
        that no moment shows them to someone who may see neither."""
        with _storage("relabel"), self._lock:
            words = self._table("words")
            if words is None:
                return
            found = self._rows_of("words", ["document", "label"], "document", list(labels))
            old: dict[str, set[str]] = {}
            for document, before in zip(found["document"].to_pylist(), found["label"].to_pylist(), strict=True):
                old.setdefault(document, set()).add(before)
            between = {d: join(labels[d], *map(Label.parse, before)) for d, before in old.items()}
            self._shift_vectors(between, column="document")
            for label in sorted(set(labels.values()), key=str):
                stale = [d for d, before in old.items() if labels[d] == label and before != {str(label)}]
                for group in _groups(stale):
                    words.update(where=_is_in("document", group), values={"label": str(label)})
            self._shift_vectors({d: labels[d] for d in old}, column="document")

    def delete(self, documents: Sequence[str], *, purge: bool) -> None:
        """Gone from search when it returns; with `purge` also from every byte on disk (see `compact`)."""
        self._delete("document", documents, purge=purge)

    def delete_chunks(self, ids: Sequence[str], *, purge: bool) -> None:
        """The same for single chunks: what an older version of a changed document held."""
        self._delete("id", ids, purge=purge)

    def _delete(self, column: str, values: Sequence[str], *, purge: bool) -> None:
        with _storage("delete"), self._lock:
            for name in ("vectors", "words"):  # this order: no vector outlives its chunk
                table = self._table(name)
                for group in _groups(list(values)) if table is not None else ():
                    table.delete(_is_in(column, group))
        if purge:
            self.compact()

    def optimize(self) -> None:
        """Fold what was added into the indices and drop old versions. Call it once at the end of a run."""
        with _storage("be optimised"), self._lock:
            for name in ("words", "vectors"):
                table = self._table(name)
                if table is not None:
                    self._create(name, table.schema)
                    self._approximate(name, table)
                    _tidy(table)
            self._save_frequencies()

    def _approximate(self, name: str, table: Any) -> None:
        """The approximate index over vectors, once there are more than are searched exactly."""
        if name == "vectors" and table.count_rows() > self._exact_rows:
            have = {index.columns[0] for index in table.list_indices()}
            if "vector" not in have:
                self._index_vectors(table)

    @staticmethod
    def _index_vectors(table: Any) -> None:
        # IVF_SQ builds in 8 s per 72,000 rows, HNSW_SQ in 106 CPU-s for the same recall (docs/log.md).
        table.create_index("vector", config=IvfSq(distance_type="cosine"), replace=True)

    def compact(self) -> None:
        """Leave nothing of deleted or replaced rows on disk: rewrite what lies beside them, rebuild the indices,
        drop all older versions. Seconds per 100,000 rows. Raises: StorageError when something stayed."""
        with _storage("be compacted"), self._lock:
            self._frequencies = self._resident = None
            self._terms_file.unlink(missing_ok=True)
            for name in ("words", "vectors"):
                table = self._table(name)
                if table is None:
                    continue
                _tidy(table)
                self._rewrite(name, table)
                for index in table.list_indices():
                    column = index.columns[0]
                    if column == "vector":
                        self._index_vectors(table)
                    else:
                        table.create_index(column, config=self._indices(name)[column], replace=True)
                _tidy(table)
                if self._holed(name):
                    raise StorageError(f"deleted rows stayed in {name}", hint="run the command again")
            self._save_frequencies()

    def _holed(self, name: str) -> list[int]:
        """Numbers of the fragments that still hold deleted rows: each has a file in _deletions."""
        files = (self.folder / f"{name}.lance" / "_deletions").glob("*-*-*.*")
        return sorted({int(file.name.partition("-")[0]) for file in files})

    def _rewrite(self, name: str, table: Any) -> None:
        """Move the living rows of holed fragments into new ones; `optimize` drops the old."""
        for fragment in self._holed(name):
            low, high = fragment << 32, (fragment + 1) << 32  # a row id is fragment and place
            living = table.search().where(f"_rowid >= {low} AND _rowid < {high}", prefilter=True)
            places = sorted(living.select(["_rowid"]).with_row_id(True).to_arrow()["_rowid"].to_pylist())
            for group in _groups(places, _REWRITE):
                within = f"_rowid >= {group[0]} AND _rowid <= {group[-1]}"
                self._upsert(table, self._rows(name, table.schema.names, within))
        _tidy(table)

    # reading

    def _read(self, act: str, read: Callable[[], T]) -> T:
        """`read()`, once more on fresh tables when a writer's clean-up took the files away under it."""
        try:
            return read()
        except HaganeError:
            raise
        except (OSError, RuntimeError, ValueError):
            with _storage(act):
                with self._lock:
                    self._tables.clear()
                return read()

    def _census(self, name: str) -> dict[str, int]:
        """Rows per stored label, of the table's newest version."""
        table = self._table(name)
        if table is None:
            return {}
        version = table.version
        known = self._labels.get(name)
        if known is None or known[0] != version:
            counted = pc.value_counts(self._rows(name, ["label"])["label"])
            known = (version, {row["values"]: row["counts"] for row in counted.to_pylist()})
            self._labels[name] = known
        return known[1]

    def _filter(self, name: str, clearance: Clearance) -> tuple[str | None, int]:
        """(SQL filter or None when all rows are allowed, allowed rows)."""
        census = self._census(name)
        seen = sorted(label for label in census if flows(label, clearance))
        n_allowed = sum(census[label] for label in seen)
        return (None if len(seen) == len(census) else _is_in("label", seen or [""])), n_allowed

    def by_words(self, terms: Mapping[str, float], *, clearance: Clearance, n: int) -> list[Hit]:
        return self._read("be searched", lambda: self._by_words(terms, clearance, n))

    def _by_words(self, terms: Mapping[str, float], clearance: Clearance, n: int) -> list[Hit]:
        table = self._table("words")
        query = _query(terms)
        if table is None or query is None or n <= 0:
            return []
        where, n_allowed = self._filter("words", clearance)
        if not n_allowed:
            return []
        search = table.search(query, query_type="fts").select(["id", "document", "label", "_score"]).limit(n)
        found = (search.where(where, prefilter=True) if where else search).to_arrow()
        return _hits(found, found["_score"].to_pylist(), clearance)

    def by_vector(self, vector: Floats, *, clearance: Clearance, n: int) -> list[Hit]:
        sought = np.asarray(vector, dtype=np.float32)
        return self._read("be searched", lambda: self._by_vector(sought, clearance, n))

    def _by_vector(self, vector: Floats, clearance: Clearance, n: int) -> list[Hit]:
        table = self._table("vectors")
        if table is None or n <= 0:
            return []
        if table.count_rows() <= self._exact_rows:
            return self._residents(table).search(vector, allowed=lambda label: flows(label, clearance), n=n)
        where, n_allowed = self._filter("vectors", clearance)
        if not n_allowed:
            return []
        search = table.search(vector).distance_type("cosine").select(["id", "document", "label", "_distance"]).limit(n)
        search = search.where(where, prefilter=True) if where else search
        if n_allowed <= self._exact_rows:  # FACTS' filter trap: the approximate index loses rows for narrow rights
            search = search.bypass_vector_index()
        else:
            search = search.nprobes(_PROBES).refine_factor(_REFINE)
        found = search.to_arrow()
        return _hits(found, [1.0 - distance for distance in found["_distance"].to_pylist()], clearance)

    def _residents(self, table: Any) -> Resident:
        version = table.version
        with self._lock:
            if self._resident is None or self._resident.version != version:
                rows = self._rows("vectors", ["id", "document", "label", "vector"])
                self._resident = Resident.of(version, rows)
            return self._resident

    def chunks(self, ids: Sequence[str], *, clearance: Clearance) -> list[Chunk]:
        rows = self._read("be read", lambda: self._rows_of("words", _CHUNK, "id", list(dict.fromkeys(ids))))
        found = {row["id"]: row for row in rows.to_pylist() if flows(row["label"], clearance)}
        ready = {key: unpack(row.pop("payload"), **row) for key, row in found.items()}
        return [ready[key] for key in ids if key in ready]

    def statistics(self, terms: Sequence[str], *, clearance: Clearance) -> Statistics:
        counted = self._read("be counted", self._counted)
        return counted.statistics(terms, allowed=lambda label: flows(label, clearance))

    @property
    def _terms_file(self) -> Path:
        return self.folder / "frequencies.arrow"

    def _counted(self) -> Frequencies:
        """Document frequencies of the newest version: known, saved, or counted (0.01 s per 1,000 chunks)."""
        table = self._table("words")
        version = table.version if table is not None else 0
        with self._lock:
            found = self._frequencies
            if found is None or found.version != version:
                found = Frequencies.load(self._terms_file, version=version)
            if found is None:
                rows = self._rows("words", ["label", "tokens"])
                found = Frequencies.count(version, rows.to_batches(max_chunksize=10_000))
            self._frequencies = found
            return found

    def _save_frequencies(self) -> None:
        if self._table("words") is not None:
            self._counted().save(self._terms_file)

    # what every store of the house has besides the seams

    def ids(self, document: str | None = None) -> Iterator[tuple[str, str, str, str, bool]]:
        """(chunk, document, version, label, has a vector) of every chunk, or of one document's."""
        where = None if document is None else _is_in("document", [document])
        columns = ["id", "document", "version", "label"]
        rows = self._read("be read", lambda: self._rows("words", columns, where))
        with_vector = set(self._read("be read", lambda: self._rows("vectors", ["id"], where))["id"].to_pylist())
        for row in zip(*(rows[name].to_pylist() for name in columns), strict=True):
            yield (*row, row[0] in with_vector)

    def count(self) -> tuple[int, int]:
        """(chunks, vectors)."""
        tables = [self._table(name) for name in ("words", "vectors")]
        with _storage("be counted"):
            words, vectors = (0 if table is None else table.count_rows() for table in tables)
        return words, vectors

    def pending_vectors(self) -> list[str]:
        """Ids of the chunks that have no vector yet, sorted."""
        words, vectors = (
            self._read("be read", lambda name=name: self._rows(name, ["id"]))["id"].to_pylist()
            for name in ("words", "vectors")
        )
        return sorted(set(words) - set(vectors))

    def iter_pending(self, batch: int = 500) -> Iterator[list[Chunk]]:
        """The chunks that had no vector when the iteration began, in lists of at most `batch`."""
        for group in _groups(self.pending_vectors(), batch):
            found = self.chunks(group, clearance=EVERYTHING)
            if found:
                yield found

    def verify_erased(self, text: str) -> list[str]:
        """Where `text`, a term or an id still stands on disk, by a reader of its own; [] when nowhere.
        See erased.py."""
        from .erased import traces

        return traces(self.folder, text)


def _query(terms: Mapping[str, float]) -> MatchQuery | BooleanQuery | None:
    """BM25 over weighted terms. Equal weights are one match; else each term is a match of its own, their scores
    added (one match per distinct weight, of several terms each, takes twice as long)."""
    wanted = {term: weight for term, weight in terms.items() if weight > 0 and term}
    if not wanted:
        return None
    if len(set(wanted.values())) == 1:
        return MatchQuery(" ".join(wanted), "tokens", boost=next(iter(wanted.values())))
    return BooleanQuery([(Occur.SHOULD, MatchQuery(term, "tokens", boost=b)) for term, b in wanted.items()])


def _hits(found: pa.Table, scores: Sequence[float], clearance: Clearance) -> list[Hit]:
    """Rows as hits, best first, equal ones by id; once more without any above the clearance (a label that
    came between counting and searching)."""
    rows = zip(*(found[name].to_pylist() for name in ("id", "document", "label")), scores, strict=True)
    hits = [Hit(key, document, float(score)) for key, document, label, score in rows if flows(label, clearance)]
    return sorted(hits, key=lambda hit: (-hit.score, hit.chunk))
