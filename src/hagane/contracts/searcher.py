"""What every store must do as a Searcher. Subclass and give the fixture `store`: a new, empty store that is
both Index and Searcher."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ..core.labels import EVERYTHING, Clearance, Label
from .index import DIM, HR, STAFF, chunk, fill, near, unit, words

LABELS = [Label.parse(text) for text in (
    "public", "internal", "internal:hr", "confidential", "confidential:hr", "confidential:board+hr", "restricted", "restricted:board",
)]  # fmt: skip
CLEARANCES = [Clearance.parse(text) for text in (
    "public", "internal", "internal:hr", "confidential:hr", "confidential:board+hr", "confidential:*", "restricted", "restricted:*",
)]  # fmt: skip

TOPICS = ("休暇", "旅費", "経費", "評価", "賞与")


class SearcherContract:
    @pytest.fixture
    def store(self) -> Any:
        raise NotImplementedError("give a new, empty store")

    @pytest.fixture
    def many(self, store: Any) -> tuple[Any, dict[str, Label]]:
        """300 chunks of 60 documents under random labels, and the label of each chunk."""
        pick = random.Random(20261124)
        labels = {f"d{n}": pick.choice(LABELS) for n in range(60)}
        chunks = [
            chunk(f"d{n}#{i}", f"規程 {pick.choice(TOPICS)} 第{i}条", label=labels[f"d{n}"])
            for n in range(60)
            for i in range(5)
        ]
        fill(store, chunks)
        return store, {c.id: c.label for c in chunks}

    @pytest.mark.parametrize("clearance", CLEARANCES, ids=str)
    def test_nothing_above_the_clearance_and_everything_within(
        self, many: tuple[Any, dict[str, Label]], clearance: Clearance
    ) -> None:
        store, labels = many
        allowed = {key for key, label in labels.items() if label.flows_to(clearance)}
        assert set(words(store, "規程", clearance=clearance, n=500)) == allowed
        assert set(near(store, unit(1), clearance=clearance, n=500)) == allowed
        assert {c.id for c in store.chunks(sorted(labels), clearance=clearance)} == allowed
        assert store.statistics([], clearance=clearance).n_chunks == len(allowed)

    @pytest.mark.parametrize("clearance", CLEARANCES, ids=str)
    def test_narrow_rights_lose_no_neighbours(self, many: tuple[Any, dict[str, Label]], clearance: Clearance) -> None:
        """The filter comes before the choice of the n best, not behind it."""
        store, labels = many
        best = store.by_vector(unit(3, 2, 1), clearance=EVERYTHING, n=500)
        expected = [round(hit.score, 4) for hit in best if labels[hit.chunk].flows_to(clearance)][:10]
        got = store.by_vector(unit(3, 2, 1), clearance=clearance, n=10)
        assert [round(hit.score, 4) for hit in got] == expected

    def test_statistics_reveal_nothing_above_the_clearance(self, store: Any) -> None:
        fill(store, [chunk("a#0", "買収 計画", label=HR), chunk("b#0", "計画 表"), chunk("c#0", "計画 計画")])
        below = store.statistics(["買収", "計画", "無い語"], clearance=STAFF)
        assert below.n_chunks == 2
        assert dict(below.frequencies) == {"買収": 0, "計画": 2, "無い語": 0}
        above = store.statistics(["買収", "計画"], clearance=EVERYTHING)
        assert (above.n_chunks, dict(above.frequencies)) == (3, {"買収": 1, "計画": 3})

    def test_statistics_stay_right_when_chunks_come_and_go(self, store: Any) -> None:
        fill(store, [chunk(f"a{i}#0", "休暇 規程") for i in range(4)])
        assert store.statistics(["休暇"], clearance=EVERYTHING).frequencies["休暇"] == 4
        store.delete(["a0"], purge=False)
        fill(store, [chunk("b#0", "休暇 新設"), chunk("c#0", "旅費")])
        found = store.statistics(["休暇", "新設"], clearance=EVERYTHING)
        assert (found.n_chunks, dict(found.frequencies)) == (5, {"休暇": 4, "新設": 1})

    def test_hits_name_their_document_and_fall_in_score(self, store: Any) -> None:
        fill(store, [chunk("規則#0", "休暇 休暇 休暇"), chunk("規則#1", "休暇 届 様式 提出"), chunk("他#0", "旅費")])
        hits = store.by_words({"休暇": 1.0}, clearance=EVERYTHING, n=10)
        assert [hit.chunk for hit in hits] == ["規則#0", "規則#1"]
        assert {hit.document for hit in hits} == {"規則"}
        assert hits[0].score > hits[1].score > 0

    def test_rare_terms_count_more_than_common_ones(self, store: Any) -> None:
        fill(
            store,
            [*(chunk(f"a{i}#0", "規程 一般") for i in range(30)), chunk("b#0", "慶弔 細則"), chunk("c#0", "規程 細則")],
        )
        assert words(store, "慶弔", "規程", n=1) == ["b#0"]

    def test_weights_scale_what_a_term_earns(self, store: Any) -> None:
        fill(store, [chunk("a#0", "休暇"), chunk("b#0", "旅費"), chunk("c#0", "その他")])
        for heavy, light, first in (("休暇", "旅費", "a#0"), ("旅費", "休暇", "b#0")):
            hits = store.by_words({heavy: 1.0, light: 0.25}, clearance=EVERYTHING, n=5)
            assert hits[0].chunk == first
            assert hits[1].score == pytest.approx(hits[0].score / 4, rel=1e-3)

    def test_a_sum_of_weighted_terms_is_the_sum_of_their_scores(self, store: Any) -> None:
        fill(store, [chunk("a#0", "有給 休暇 申請"), chunk("b#0", "休暇"), chunk("c#0", "申請 様式")])

        def score(terms: dict[str, float]) -> float:
            return {hit.chunk: hit.score for hit in store.by_words(terms, clearance=EVERYTHING, n=5)}["a#0"]

        whole = score({"有給": 1.0, "休暇": 0.5, "申請": 0.3})
        parts = score({"有給": 1.0}) + score({"休暇": 0.5}) + score({"申請": 0.3})
        assert whole == pytest.approx(parts, rel=1e-3)

    def test_a_term_of_no_weight_finds_nothing(self, store: Any) -> None:
        fill(store, [chunk("a#0", "休暇"), chunk("b#0", "旅費")])
        assert store.by_words({"休暇": 0.0}, clearance=EVERYTHING, n=5) == []
        assert store.by_words({}, clearance=EVERYTHING, n=5) == []

    @pytest.mark.parametrize(
        "term", ["c++", "foo:bar", 'quo"te', "o'brien", "a-b", "+x", "(y)", "*", "AND", "^2", "x~1", "\\", "😀"]
    )
    def test_terms_are_literal_whatever_signs_they_hold(self, store: Any, term: str) -> None:
        """No query language: a question cannot command the store."""
        fill(store, [chunk("a#0", f"{term} 言語"), chunk("b#0", "foo bar x y 言語")])
        assert words(store, term) == ["a#0"]

    def test_long_terms_are_not_dropped(self, store: Any) -> None:
        fill(store, [chunk("a#0", "ab12" * 16), chunk("b#0", "休暇" * 100)])
        assert words(store, "ab12" * 16) == ["a#0"]
        assert words(store, "休暇" * 100) == ["b#0"]

    def test_terms_match_exactly_not_by_stem_or_case(self, store: Any) -> None:
        fill(store, [chunk("a#0", "expenses"), chunk("b#0", "expense"), chunk("c#0", "the"), chunk("d#0", "café")])
        assert words(store, "expense") == ["b#0"]
        assert words(store, "the") == ["c#0"]
        assert words(store, "cafe") == []

    def test_cosine_ranks_by_angle(self, store: Any) -> None:
        store.add([chunk(f"a#{i}") for i in range(3)], [["本文"]] * 3)
        store.add_vectors(["a#0", "a#1", "a#2"], np.stack([unit(1), unit(1, 1), unit(-1)]))
        hits = store.by_vector(unit(1), clearance=EVERYTHING, n=3)
        assert [hit.chunk for hit in hits] == ["a#0", "a#1", "a#2"]
        assert [hit.score for hit in hits] == pytest.approx([1.0, 2**-0.5, -1.0], abs=1e-3)

    def test_at_most_n_hits(self, store: Any) -> None:
        fill(store, [chunk(f"a#{i}", "休暇") for i in range(12)])
        for n in (0, 1, 5, 12, 100):
            assert len(words(store, "休暇", n=n)) == min(n, 12)
            assert len(near(store, unit(1), n=n)) == min(n, 12)

    def test_chunks_come_in_the_order_asked_and_missing_ones_are_left_out(self, store: Any) -> None:
        fill(store, [chunk(f"a#{i}", f"第{i}条") for i in range(4)])
        got = store.chunks(["a#2", "none", "a#0", "a'b", "a#3"], clearance=EVERYTHING)
        assert [c.id for c in got] == ["a#2", "a#0", "a#3"]
        assert store.chunks([], clearance=EVERYTHING) == []

    def test_an_empty_store_answers_with_nothing(self, store: Any) -> None:
        assert words(store, "休暇") == near(store, np.eye(DIM, dtype=np.float32)[0]) == []
        assert store.chunks(["a#0"], clearance=EVERYTHING) == []
        assert store.statistics(["休暇"], clearance=EVERYTHING).n_chunks == 0
        assert list(store.ids()) == store.pending_vectors() == list(store.iter_pending()) == []

    def test_readers_in_threads_agree_with_one_reader(self, many: tuple[Any, dict[str, Label]]) -> None:
        store, _ = many

        def ask(clearance: Clearance) -> tuple[list[str], list[str], int]:
            found = words(store, "休暇", clearance=clearance, n=20), near(store, unit(1, 2), clearance=clearance, n=20)
            return *found, store.statistics(["休暇"], clearance=clearance).frequencies["休暇"]

        alone = [ask(clearance) for clearance in CLEARANCES]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, CLEARANCES * 3)) == alone * 3
