"""LanceDB's full-text index ranks as exact BM25 does, whatever came and went."""

from __future__ import annotations

import random

import pytest

from hagane.contracts.index import HR, chunk
from hagane.core.labels import EVERYTHING, Clearance
from hagane.index.lance import LanceIndex
from hagane.index.memory import MemoryIndex

VOCABULARY = ["休暇", "有給", "旅費", "経費", "規程", "pto", "申請", "上長", "承認", "第", "条", "期限"]


def corpus(n: int, *, seed: int, label=None):
    pick = random.Random(seed)
    tokens = [pick.choices(VOCABULARY, weights=range(1, 13), k=pick.randint(3, 40)) for _ in range(n)]
    more = {"label": label} if label else {}
    return [chunk(f"d{seed}-{i // 5}#{i}", " ".join(t), **more) for i, t in enumerate(tokens)], tokens


@pytest.fixture
def both(tmp_path):
    return LanceIndex(tmp_path / "index"), MemoryIndex()


def agree(lance, memory, clearance=EVERYTHING, *, off=0.0):
    """Same chunks, same scores (but for `off`, a share of the best one): with all chunks asked for, ties may not
    hide a difference."""
    for terms in ({"休暇": 1.0}, {"休暇": 1.0, "条": 0.4, "pto": 2.0}, dict.fromkeys(VOCABULARY, 1.0)):
        got = {h.chunk: h.score for h in lance.by_words(terms, clearance=clearance, n=1000)}
        want = {h.chunk: h.score for h in memory.by_words(terms, clearance=clearance, n=1000)}
        assert got == pytest.approx(want, rel=1e-4, abs=off * max(want.values()))


def test_scores_equal_exact_bm25_before_and_behind_optimize(both):
    for store in both:
        store.add(*corpus(200, seed=1))
    agree(*both)
    both[0].optimize()
    agree(*both)


def test_later_chunks_are_scored_alike_at_once_and_equally_once_folded_in(both):
    """Until then LanceDB takes mean length and frequencies of the old and the new part a little apart."""
    for store in both:
        store.add(*corpus(150, seed=1))
        store.optimize()
        store.add(*corpus(50, seed=2))
    agree(*both, off=0.05)
    both[0].optimize()
    agree(*both)


def test_scores_are_equal_again_once_deleted_rows_are_compacted(both):
    """Between delete and compact the index still counts the deleted rows' lengths and frequencies."""
    for store in both:
        store.add(*corpus(200, seed=1))
        store.optimize()
        store.delete([f"d1-{i}" for i in range(0, 40, 3)], purge=True)
    agree(*both)


def test_scores_within_a_narrow_clearance_equal_exact_ones(both):
    for store in both:
        store.add(*corpus(150, seed=1, label=HR))
        store.add(*corpus(30, seed=2))
        store.optimize()
    agree(*both, clearance=Clearance.parse("internal"))
