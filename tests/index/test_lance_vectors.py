"""Exact in memory or approximate on disk: narrow rights lose nothing, spaces stay in step."""

from __future__ import annotations

import lancedb
import numpy as np
import pytest
from lancedb.index import IvfSq

from hagane.contracts.index import DIM, HR, STAFF, chunk, fill, near, unit
from hagane.core.errors import StateError
from hagane.core.labels import EVERYTHING, Clearance, Label
from hagane.index.lance import LanceIndex

N = 2_000


def unit_rows(n, dim, seed):
    rows = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def wide(tmp_path):
    """2,000 rows of which 1 % are public, 10 % at most internal; only 300 may be searched exactly. The index has as
    many partitions as some 500,000 rows would have."""
    index = LanceIndex(tmp_path / "index", exact_rows=300)
    levels = ["public" if i % 100 == 0 else "internal" if i % 10 == 0 else "confidential" for i in range(N)]
    chunks = [chunk(f"d{i}#0", "規程", label=Label.parse(level)) for i, level in enumerate(levels)]
    vectors = unit_rows(N, 32, 0)
    index.add(chunks, [["規程"]] * N)
    index.add_vectors([c.id for c in chunks], vectors)
    index.optimize()
    table = lancedb.connect(str(index.folder)).open_table("vectors")
    table.create_index("vector", config=IvfSq(distance_type="cosine", num_partitions=64), replace=True)
    return index, chunks, vectors


@pytest.mark.parametrize("level", ["public", "internal", "confidential"])
def test_recall_at_10_with_1_10_and_100_percent_of_rows_allowed(wide, level):
    index, chunks, vectors = wide
    clearance = Clearance.parse(level)
    allowed = [i for i, c in enumerate(chunks) if c.label.flows_to(clearance)]
    found = 0
    for question in unit_rows(30, 32, 1):
        best = sorted(allowed, key=lambda i: -float(vectors[i] @ question))[:10]
        got = near(index, question, clearance=clearance, n=10)
        found += len({chunks[i].id for i in best} & set(got))
    assert found / 300 >= 0.99


def test_another_embedders_question_is_refused(tmp_path):
    index = LanceIndex(tmp_path / "index")
    fill(index, [chunk("a#0", "旅費")])
    with pytest.raises(StateError, match="dimensions"):
        index.by_vector(np.ones(DIM + 1, dtype=np.float32), clearance=EVERYTHING, n=3)


def test_every_space_follows_labels_and_deletes_whichever_is_open(tmp_path):
    """A first tier of cheap vectors stands beside the real ones; neither may lag behind."""
    first = LanceIndex(tmp_path / "index", space="vectors-static")
    fill(first, [chunk("a#0", "賞与"), chunk("b#0", "旅費")])
    second = LanceIndex(tmp_path / "index")
    second.add_vectors(["a#0", "b#0"], np.stack([unit(1), unit(0, 1)]))
    second.relabel("a", HR)
    assert near(first, unit(1), clearance=STAFF) == near(second, unit(1), clearance=STAFF) == ["b#0"]
    second.delete(["b"], purge=True)
    assert near(first, unit(1)) == near(second, unit(1)) == ["a#0"]
    assert first.verify_erased("旅費") == []


def test_an_open_reader_sees_what_another_writer_just_did(tmp_path):
    reader, writer = LanceIndex(tmp_path / "index"), LanceIndex(tmp_path / "index")
    assert near(reader, unit(1)) == []
    fill(writer, [chunk("a#0", "賞与"), chunk("b#0", "旅費")])
    assert sorted(near(reader, unit(1))) == ["a#0", "b#0"]
    writer.delete(["a"], purge=True)
    assert near(reader, unit(1)) == ["b#0"]
    assert reader.statistics(["賞与", "旅費"], clearance=EVERYTHING).frequencies == {"賞与": 0, "旅費": 1}
