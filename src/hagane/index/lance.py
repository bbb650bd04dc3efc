"""The embedded store: two LanceDB tables in one folder, `words` and `vectors`.

words    id, document, version, label, ordinal, tokens (terms parted by blanks), n_tokens, payload
vectors  id, document, label, vector (dim x float32)

Where the project is encrypted, a `Sealer` keeps the content: the payload is sealed under its document's key, and the
terms are keyed hashes. Ranking is the same: BM25 only asks whether terms are equal.

Searches filter by `label IN (...)`, computed from the labels that stand in the table and flow to the
clearance: a label that cannot be read flows nowhere. `words` is the truth; a vector never has a label
below its chunk's, whenever the process dies (order of the commits in `relabel` and `delete`).

One process writes at a time (the caller holds the project's lock: clean-up removes what another writer
has not committed yet). Any number of processes and threads read; each read sees the newest commit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.index import Bitmap, BTree, IvfSq
from lancedb.query import BooleanQuery, MatchQuery, Occur

from ..core.errors import ErasedError, LabelError, StateError
from ..core.labels import EVERYTHING, Clearance, Label, join
from ..core.seams import Floats, Sealer
from ..core.types import Chunk, Hit, Statistics
from .form import Form
from .frequencies import Frequencies
from .memory import unit_rows
from .payload import Plain, pack, unpack
from .resident import Resident
from .tables import TERMS, Tables, groups, indexed, is_in, storage, tidy, upsert

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
# Partitions looked into (all of them: 8,000,000 rows are about 1,000; looking into 48 of 122 found 0.94 of the ten
# nearest with all rows allowed, 0.83 with 1 %) and exactly re-scored rows per wanted one.
_PROBES, _REFINE = 1_000, 4


def _vectors_schema(dim: int) -> pa.Schema:
    text = [pa.field(name, pa.string(), nullable=False) for name in ("id", "document", "label")]
    return pa.schema([*text, pa.field("vector", pa.list_(pa.float32(), dim), nullable=False)])


def _indices(name: str) -> dict[str, Any]:
    """The indices that a table always has; the one over many vectors comes in `optimize`."""
    shared = {"id": BTree(), "document": BTree(), "label": Bitmap()}
    return {"tokens": TERMS, **shared} if name == "words" else shared


def _index(table: Any, column: str) -> None:
    # IVF_SQ builds in 8 s per 72,000 rows, HNSW_SQ in 106 CPU-s for the same recall (docs/log.md).
    config = IvfSq(distance_type="cosine") if column == "vector" else _indices("words")[column]
    table.create_index(column, config=config, replace=True)


def _dim(table: Any) -> int:
    return table.schema.field("vector").type.list_size


def flows(label: str, clearance: Clearance) -> bool:
    """Whether a stored label flows to `clearance`; one that cannot be read does not."""
    try:
        return Label.parse(label).flows_to(clearance)
    except LabelError:
        return False


def _between(new: Label, stored: Iterable[str]) -> Label:
    """The join of a new label and the stored ones; what cannot be read is shown to nobody and left out."""
    readable = []
    for label in stored:
        try:
            readable.append(Label.parse(label))
        except LabelError:
            continue
    return join(new, *readable)


class LanceIndex:
    """Index and Searcher over a folder. Contracts: hagane/contracts/{index,searcher}.py.

    `exact_rows`: up to so many rows vectors are searched exactly in memory (4 x dim bytes each); more
    rows use the approximate index (a scan of all rows in one byte per number), except for a clearance that allows
    fewer.
    `sealer`: what content is sealed with.
    `space`: the table of vectors that is written and searched ("vectors", "vectors-static", ...). Every
    space on disk is relabelled and deleted from, whichever is open.
    """

    def __init__(
        self, folder: Path | str, *, exact_rows: int = 200_000, space: str = "vectors", sealer: Sealer | None = None
    ) -> None:
        if not space.startswith("vectors"):
            raise ValueError(f"space is {space!r}, must begin with 'vectors'")
        self.folder = Path(folder)
        self._exact_rows = exact_rows
        self._space = space
        self._sealer = sealer if sealer is not None else Plain()
        self._form = Form(self.folder, self._sealer.form)
        self._tables = Tables(self.folder)
        self._lock = self._tables.lock
        self._resident: Resident | None = None
        self._known: tuple[int, set[str]] | None = None  # (version of words, its chunk ids)
        self._frequencies: Frequencies | None = None

    def _create(self, name: str, schema: pa.Schema) -> Any:
        return self._tables.create(name, schema, _indices(name))

    def _spaces(self) -> list[str]:
        return self._tables.names("vectors")

    # writing

    def add(self, chunks: Sequence[Chunk], tokens: Sequence[Sequence[str]]) -> None:
        """Durable and searchable by words when it returns. Give it 500 chunks or more at a time."""
        latest = {chunk.id: (chunk, terms) for chunk, terms in zip(chunks, tokens, strict=True)}
        if not latest:
            return
        chunks = [chunk for chunk, _ in latest.values()]
        seal = self._sealer
        columns = {
            "id": [chunk.id for chunk in chunks],
            "document": [chunk.document for chunk in chunks],
            "version": [chunk.version for chunk in chunks],
            "label": [str(chunk.label) for chunk in chunks],
            "ordinal": [chunk.ordinal for chunk in chunks],
            "tokens": [" ".join(map(seal.term, terms)) for _, terms in latest.values()],
            "n_tokens": [len(terms) for _, terms in latest.values()],
            "payload": [seal.seal(chunk.document, pack(chunk), bound=chunk.id.encode()) for chunk in chunks],
        }
        rows = pa.table(columns, schema=WORDS)
        with storage("take in chunks"), self._lock:
            words = self._create("words", WORDS)
            self._form.require(n_rows=words.count_rows())
            self._form.note()
            if not self._known_ids(words).isdisjoint(latest):
                self._replace(words, rows, chunks)
            else:
                words.add(rows)
            self._remember(words, latest)

    def _replace(self, words: Any, rows: pa.Table, chunks: Sequence[Chunk]) -> None:
        """Chunks of which some are there already; a vector's label follows its chunk's, as in `relabel_many`."""
        known = self._tables.rows_of("words", ["id", "label"], "id", [chunk.id for chunk in chunks])
        before = dict(zip(known["id"].to_pylist(), known["label"].to_pylist(), strict=True))
        there = [chunk for chunk in chunks if chunk.id in before]
        self._shift_vectors({c.id: _between(c.label, [before[c.id]]) for c in there if before[c.id] != str(c.label)})
        upsert(words, rows)
        self._shift_vectors({chunk.id: chunk.label for chunk in there})

    def _known_ids(self, words: Any) -> set[str]:
        """Ids of all chunks, kept from write to write while nobody else writes."""
        version = words.version
        if self._known is None or self._known[0] != version:
            self._known = (version, set(self._tables.rows("words", ["id"])["id"].to_pylist()))
        return self._known[1]

    def _remember(self, words: Any, ids: Iterable[str]) -> None:
        if self._known is not None:
            self._known[1].update(ids)
            self._known = (words.version, self._known[1])

    def _shift_vectors(self, labels: Mapping[str, Label], *, column: str = "id") -> None:
        """Set the label of vectors, given per chunk id (or per document), in every space."""
        for vectors in filter(None, map(self._tables.get, self._spaces())):
            for label in sorted(set(labels.values()), key=str):
                own = [key for key, its in labels.items() if its == label]
                for group in groups(own):
                    stale = f"{is_in(column, group)} AND NOT {is_in('label', [str(label)])}"
                    if vectors.count_rows(stale):
                        vectors.update(where=stale, values={"label": str(label)})

    def add_vectors(self, ids: Sequence[str], vectors: Floats) -> None:
        """Ids without a chunk are left out; a chunk's vector is replaced. Raises: ValueError for rows of another
        shape or not of length 1."""
        rows = unit_rows(ids, vectors)
        if not len(rows):
            return
        place = {key: at for at, key in enumerate(ids)}
        table = self._tables.get(self._space)
        dim = _dim(table) if table is not None else rows.shape[1]
        if dim != rows.shape[1]:
            raise ValueError(f"vectors have {rows.shape[1]} dimensions, the index has {dim}")
        with storage("take in vectors"), self._lock:
            found = self._tables.rows_of("words", ["id", "document", "label"], "id", list(place))
            if not found.num_rows:
                return
            chosen = np.ascontiguousarray(rows[[place[key] for key in found["id"].to_pylist()]])
            vector = pa.FixedSizeListArray.from_arrays(pa.array(chosen.reshape(-1)), dim)
            new = pa.table([*found.columns, vector], schema=_vectors_schema(dim))
            table = self._create(self._space, new.schema)
            if self._tables.rows_of(self._space, ["id"], "id", found["id"].to_pylist()).num_rows:
                upsert(table, new)
            else:
                table.add(new)

    def relabel(self, document: str, label: Label) -> None:
        self.relabel_many({document: label})

    def relabel_many(self, labels: Mapping[str, Label]) -> None:
        """New labels of documents. Vectors go to the join of old and new first and to the new one last, so
        that no moment shows them to someone who may see neither."""
        with storage("relabel"), self._lock:
            words = self._tables.get("words")
            if words is None:
                return
            found = self._tables.rows_of("words", ["document", "label"], "document", list(labels))
            old: dict[str, set[str]] = {}
            for document, before in zip(found["document"].to_pylist(), found["label"].to_pylist(), strict=True):
                old.setdefault(document, set()).add(before)
            between = {d: _between(labels[d], before) for d, before in old.items()}
            self._shift_vectors(between, column="document")
            for label in sorted(set(labels.values()), key=str):
                stale = [d for d, before in old.items() if labels[d] == label and before != {str(label)}]
                for group in groups(stale):
                    words.update(where=is_in("document", group), values={"label": str(label)})
            self._shift_vectors({d: labels[d] for d in old}, column="document")

    def delete(self, documents: Sequence[str], *, purge: bool) -> None:
        """Gone from search when it returns; with `purge` also from every byte on disk (see `compact`)."""
        self._delete("document", documents, purge=purge)

    def delete_chunks(self, ids: Sequence[str], *, purge: bool) -> None:
        """The same for single chunks: what an older version of a changed document held."""
        self._delete("id", ids, purge=purge)

    def _delete(self, column: str, values: Sequence[str], *, purge: bool) -> None:
        with storage("delete"), self._lock:
            if purge or not self._remains.exists():
                self._remains.write_text("purge" if purge else "")
            for name in (*self._spaces(), "words"):  # this order: no vector outlives its chunk
                table = self._tables.get(name)
                for group in groups(list(values)) if table is not None else ():
                    table.delete(is_in(column, group))
        if purge:
            self.compact()

    def drop_vectors(self) -> None:
        """Forget this space's vectors, because another embedder is to make them anew."""
        with storage("drop vectors"), self._lock:
            self._tables.drop(self._space)
            self._resident = None

    def optimize(self) -> None:
        """Fold what was added into the indices and drop old versions. Call it once at the end of a run. Finishes
        a purge that was interrupted."""
        if self._remains.exists() and self._remains.read_text() == "purge":
            self.compact()
            return
        with storage("be optimised"), self._lock:
            for name in ("words", *self._spaces()):
                table = self._tables.get(name)
                if table is not None:
                    self._create(name, table.schema)
                    if name != "words" and table.count_rows() > self._exact_rows and "vector" not in indexed(table):
                        _index(table, "vector")
                    tidy(table)
            self._save_frequencies()

    @property
    def _remains(self) -> Path:
        """A note from the first delete to the end of the next `compact`; "purge" in it: `optimize` compacts."""
        return self.folder / "deleted.note"

    def remains(self) -> bool:
        """Whether something was deleted whose bytes may still lie on disk: `compact` is due."""
        return self._remains.exists()

    def compact(self) -> None:
        """Leave nothing of deleted or replaced rows in any file. Seconds per 100,000 rows. Raises: StorageError
        when something stayed."""
        with storage("be compacted"), self._lock:
            self._frequencies = self._resident = None
            self._terms_file.unlink(missing_ok=True)
            for name in ("words", *self._spaces()):
                self._tables.erase(name, _index)
            self._save_frequencies()
            self._remains.unlink(missing_ok=True)

    # reading

    def _filter(self, name: str, clearance: Clearance) -> tuple[str | None, int]:
        """(SQL filter or None when all rows are allowed, allowed rows)."""
        census = self._tables.census(name)
        seen = sorted(label for label in census if flows(label, clearance))
        n_allowed = sum(census[label] for label in seen)
        return (None if len(seen) == len(census) else is_in("label", seen or [""])), n_allowed

    def by_words(self, terms: Mapping[str, float], *, clearance: Clearance, n: int) -> list[Hit]:
        return self._tables.read("be searched", lambda: self._by_words(terms, clearance, n))

    def _by_words(self, terms: Mapping[str, float], clearance: Clearance, n: int) -> list[Hit]:
        table = self._words()
        query = _query({self._sealer.term(term): weight for term, weight in terms.items() if term})
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
        return self._tables.read("be searched", lambda: self._by_vector(sought, clearance, n))

    def _by_vector(self, vector: Floats, clearance: Clearance, n: int) -> list[Hit]:
        table = self._tables.get(self._space)
        if table is None or n <= 0:
            return []
        if _dim(table) != vector.size:
            raise StateError(
                f"the question's vector has {vector.size} dimensions, the index has {_dim(table)}",
                hint="the embedder was changed: run hagane sync to embed the documents anew",
            )
        resident = self._residents(table)
        if resident is not None:
            return resident.search(vector, allowed=lambda label: flows(label, clearance), n=n)
        where, n_allowed = self._filter(self._space, clearance)
        if not n_allowed:
            return []
        search = table.search(vector).distance_type("cosine").select(["id", "document", "label", "_distance"]).limit(n)
        search = search.where(where, prefilter=True) if where else search
        if n_allowed <= self._exact_rows:  # the approximate index loses rows for narrow rights: 1 % allowed, R@10 0.65
            search = search.bypass_vector_index()
        else:
            search = search.nprobes(_PROBES).refine_factor(_REFINE)
        found = search.to_arrow()
        return _hits(found, [1.0 - distance for distance in found["_distance"].to_pylist()], clearance)

    def _residents(self, table: Any) -> Resident | None:
        """The newest version's vectors in memory; None when they are too many."""
        version = table.version
        with self._lock:
            if self._resident is None or self._resident.version != version:
                self._resident = None
                if table.count_rows() > self._exact_rows:
                    return None
                rows = self._tables.rows(self._space, ["id", "document", "label", "vector"])
                self._resident = Resident.of(version, rows)
            return self._resident

    def chunks(self, ids: Sequence[str], *, clearance: Clearance) -> list[Chunk]:
        rows = self._tables.read(
            "be read", lambda: self._tables.rows_of("words", _CHUNK, "id", list(dict.fromkeys(ids)))
        )
        found = {row["id"]: row for row in rows.to_pylist() if flows(row["label"], clearance)}
        ready: dict[str, Chunk] = {}
        for key, row in found.items():
            with contextlib.suppress(ErasedError):  # deleted since it was found
                ready[key] = self._unpack(**row)
        return [ready[key] for key in ids if key in ready]

    def _unpack(self, *, id: str, document: str, payload: bytes, **row: Any) -> Chunk:
        return unpack(self._sealer.open(document, payload, bound=id.encode()), id=id, document=document, **row)

    def statistics(self, terms: Sequence[str], *, clearance: Clearance) -> Statistics:
        counted = self._tables.read("be counted", self._counted)
        hidden = {self._sealer.term(term): term for term in terms}
        found = counted.statistics(list(hidden), allowed=lambda label: flows(label, clearance))
        return replace(found, frequencies={hidden[term]: n for term, n in found.frequencies.items()})

    def _words(self) -> Any | None:
        """The words table, None while there is none. Raises: StateError when it is kept in another form."""
        table = self._tables.get("words")
        if table is not None:
            self._form.require(n_rows=table.count_rows())
        return table

    def drop_words(self) -> None:
        """Forget all chunks but keep their vectors, because they are to be written in another form."""
        with storage("drop chunks"), self._lock:
            self._terms_file.unlink(missing_ok=True)
            self._tables.drop("words")
            self._form.forget()
            self._frequencies = self._known = None

    @property
    def _terms_file(self) -> Path:
        return self.folder / "frequencies.arrow"

    def _counted(self) -> Frequencies:
        """Document frequencies of the newest version: known, saved, or counted (0.01 s per 1,000 chunks)."""
        table = self._tables.get("words")
        version = table.version if table is not None else 0
        with self._lock:
            found = self._frequencies
            if found is None or found.version != version:
                found = Frequencies.load(self._terms_file, version=version)
            if found is None:
                rows = self._tables.rows("words", ["label", "tokens"])
                found = Frequencies.count(version, rows.to_batches(max_chunksize=10_000))
            self._frequencies = found
            return found

    def _save_frequencies(self) -> None:
        if self._tables.get("words") is not None:
            self._counted().save(self._terms_file)

    # what every store of the house has besides the seams

    def ids(self, document: str | None = None) -> Iterator[tuple[str, str, str, str, bool]]:
        """(chunk, document, version, label, has a vector) of every chunk, or of one document's."""
        where = None if document is None else is_in("document", [document])
        columns = ["id", "document", "version", "label"]
        rows = self._tables.read("be read", lambda: self._tables.rows("words", columns, where))
        with_vector = set(
            self._tables.read("be read", lambda: self._tables.rows(self._space, ["id"], where))["id"].to_pylist()
        )
        for row in zip(*(rows[name].to_pylist() for name in columns), strict=True):
            yield (*row, row[0] in with_vector)

    def count(self) -> tuple[int, int]:
        """(chunks, vectors)."""
        tables = [self._tables.get(name) for name in ("words", self._space)]
        with storage("be counted"):
            words, vectors = (0 if table is None else table.count_rows() for table in tables)
        return words, vectors

    def pending_vectors(self) -> list[str]:
        """Ids of the chunks that have no vector yet, sorted."""
        words, vectors = (
            self._tables.read("be read", lambda name=name: self._tables.rows(name, ["id"]))["id"].to_pylist()
            for name in ("words", self._space)
        )
        return sorted(set(words) - set(vectors))

    def iter_pending(self, batch: int = 500) -> Iterator[list[Chunk]]:
        """The chunks that had no vector when the iteration began, in lists of at most `batch`."""
        for group in groups(self.pending_vectors(), batch):
            found = self.chunks(group, clearance=EVERYTHING)
            if found:
                yield found

    def verify_erased(self, text: str) -> list[str]:
        """Where `text`, a term or an id still stands on disk, by a reader of its own; [] when nowhere.
        See erased.py."""
        from .erased import traces

        found = traces(self.folder, text, self._sealer)
        hidden = self._sealer.term(text)
        return found if hidden == text else [*found, *traces(self.folder, hidden, self._sealer)]


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
