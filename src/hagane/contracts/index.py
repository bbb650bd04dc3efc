"""What every store must do as an Index. Subclass and give the fixture `store`: a new, empty store that is
both Index and Searcher. `chunk` and `unit` make what goes in; other suites use them too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ..core.labels import EVERYTHING, Clearance, Label
from ..core.types import Block, Chunk, Line, Place

DIM = 8
INTERNAL, HR = Label.parse("internal"), Label.parse("confidential:hr")
STAFF, HR_STAFF = Clearance.parse("internal"), Clearance.parse("confidential:hr")


def chunk(
    key: str, text: str = "第一条 本文", *, document: str | None = None, label: Label = INTERNAL, **more: Any
) -> Chunk:
    """A chunk of one paragraph; its document is the part of `key` before # unless given."""
    fields = {
        "version": "v1",
        "path": "rules/就業規則.md",
        "ordinal": 0,
        "title": "就業規則",
        "headings": ("第1章",),
    } | more
    block = Block("paragraph", text, Place(start=0, end=len(text)))
    return Chunk(id=key, document=document or key.partition("#")[0], label=label, blocks=(block,), **fields)


def unit(*values: float) -> np.ndarray:
    """A vector of length 1 that begins with `values`."""
    vector = np.zeros(DIM, dtype=np.float32)
    vector[: len(values)] = values
    return vector / np.linalg.norm(vector)


def words(store: Any, *terms: str, clearance: Clearance = EVERYTHING, n: int = 10) -> list[str]:
    """Ids of the chunks that `terms` find, best first."""
    return [hit.chunk for hit in store.by_words(dict.fromkeys(terms, 1.0), clearance=clearance, n=n)]


def near(store: Any, vector: np.ndarray, *, clearance: Clearance = EVERYTHING, n: int = 10) -> list[str]:
    """Ids of the chunks nearest to `vector`."""
    return [hit.chunk for hit in store.by_vector(vector, clearance=clearance, n=n)]


def fill(store: Any, chunks: Sequence[Chunk], tokens: Sequence[Sequence[str]] | None = None) -> None:
    """Add chunks (terms: their text parted by blanks) with vectors along the axes in turn."""
    store.add(chunks, tokens or [c.text.split() for c in chunks])
    axes = np.eye(DIM, dtype=np.float32)[[i % DIM for i in range(len(chunks))]]
    store.add_vectors([c.id for c in chunks], axes)


class IndexContract:
    @pytest.fixture
    def store(self) -> Any:
        raise NotImplementedError("give a new, empty store")

    def test_what_was_added_is_found_at_once(self, store: Any) -> None:
        fill(store, [chunk("就業規則#0", "有給 休暇"), chunk("経費規程#0", "経費 精算")])
        assert words(store, "休暇") == ["就業規則#0"]
        assert near(store, unit(0, 1), n=1) == ["経費規程#0"]

    def test_words_are_searchable_before_vectors(self, store: Any) -> None:
        store.add([chunk("a#0", "有給 休暇")], [["有給", "休暇"]])
        assert words(store, "有給") == ["a#0"]
        assert near(store, unit(1)) == []

    def test_a_later_batch_is_found_beside_the_first(self, store: Any) -> None:
        fill(store, [chunk(f"a#{i}", "旅費 規程") for i in range(5)])
        store.optimize()
        fill(store, [chunk("b#0", "旅費 改定")])
        assert words(store, "改定") == ["b#0"]
        assert len(words(store, "旅費")) == 6
        assert "b#0" in near(store, unit(1))

    def test_adding_again_changes_nothing(self, store: Any) -> None:
        """A step that was interrupted is done again."""
        chunks = [chunk(f"a#{i}", f"休暇 第{i}条") for i in range(20)]
        fill(store, chunks)
        before = store.by_words({"休暇": 1.0}, clearance=EVERYTHING, n=50)
        fill(store, chunks)
        fill(store, chunks[3:7])
        after = store.by_words({"休暇": 1.0}, clearance=EVERYTHING, n=50)
        assert store.count() == (20, 20)
        assert sorted(hit.chunk for hit in after) == sorted(hit.chunk for hit in before)

    def test_twice_in_one_batch_is_once(self, store: Any) -> None:
        fill(store, [chunk("a#0", "古い 本文"), chunk("a#0", "新しい 本文")])
        assert store.count()[0] == 1
        assert words(store, "新しい") == ["a#0"]

    def test_a_chunk_added_under_its_id_replaces_the_old(self, store: Any) -> None:
        fill(store, [chunk("a#0", "旧 規程")])
        store.add([chunk("a#0", "新 規程")], [["新", "規程"]])
        assert words(store, "旧") == []
        assert store.chunks(["a#0"], clearance=EVERYTHING)[0].text == "新 規程"
        assert near(store, unit(1)) == ["a#0"]

    def test_a_chunk_added_with_another_label_takes_its_vector_along(self, store: Any) -> None:
        fill(store, [chunk("a#0", "人事 評価")])
        store.add([chunk("a#0", "人事 評価", label=HR)], [["人事", "評価"]])
        assert near(store, unit(1), clearance=STAFF) == []
        assert near(store, unit(1), clearance=HR_STAFF) == ["a#0"]

    def test_adding_nothing_is_allowed(self, store: Any) -> None:
        store.add([], [])
        store.add_vectors([], np.zeros((0, DIM), dtype=np.float32))
        assert store.count() == (0, 0)

    def test_chunks_and_tokens_must_match_in_number(self, store: Any) -> None:
        with pytest.raises(ValueError, match="shorter"):
            store.add([chunk("a#0")], [])

    def test_a_chunk_comes_back_as_it_went_in(self, store: Any) -> None:
        """Boxes, cells, seconds, readings, lines, quotes: all of it."""
        line = Line(0, 5, 3, (1.5, 2.0, 30.25, 4.0))
        blocks = (
            Block("heading", "第2章 「休暇」", Place(page=3, start=0, end=8), level=2, lines=(line,)),
            Block(
                "row",
                "ノートPC|150000",
                Place(page=1, box=(0.0, 1.0, 2.5, 3.0), cell="価格!A2:B2"),
                reading="品名: ノートPC",
            ),
            Block("paragraph", 'It\'s 𠮷野家 😀 "x" \\ %_', Place(start_s=1.25, end_s=2.5)),
        )
        whole = Chunk("d'1#0", "d'1", "v9", "a.zip!/価格 表.xlsx", HR, 7, "題", ("章", "節"), blocks)
        store.add([whole], [["ノート", "pc"]])
        assert store.chunks(["d'1#0"], clearance=EVERYTHING) == [whole]

    def test_a_vector_without_its_chunk_is_left_out(self, store: Any) -> None:
        """A document may vanish while its text is being embedded."""
        store.add([chunk("a#0")], [["本文"]])
        store.add_vectors(["a#0", "gone#0"], np.stack([unit(1), unit(1)]))
        store.add_vectors(["gone#1"], np.stack([unit(1)]))
        assert near(store, unit(1)) == ["a#0"]
        assert store.count() == (1, 1)

    def test_a_vector_given_again_replaces_the_old(self, store: Any) -> None:
        fill(store, [chunk("a#0"), chunk("b#0")])
        store.add_vectors(["a#0"], np.stack([unit(0, 0, 1)]))
        assert near(store, unit(0, 0, 1), n=1) == ["a#0"]
        assert store.count() == (2, 2)

    @pytest.mark.parametrize("bad", [np.full((1, DIM), 1.0), np.zeros((2, DIM)), np.zeros((1, DIM)), np.ones(DIM)])
    def test_vectors_must_be_unit_rows_one_per_id(self, store: Any, bad: np.ndarray) -> None:
        store.add([chunk("a#0")], [["本文"]])
        with pytest.raises(ValueError, match="vectors"):
            store.add_vectors(["a#0"], bad.astype(np.float32))

    def test_all_vectors_have_one_dimension(self, store: Any) -> None:
        fill(store, [chunk("a#0"), chunk("b#0")])
        with pytest.raises(ValueError, match="dimensions"):
            store.add_vectors(["a#0"], np.eye(DIM + 1, dtype=np.float32)[:1])

    def test_a_raised_label_hides_at_once_in_words_vectors_and_chunks(self, store: Any) -> None:
        fill(store, [chunk("a#0", "賞与 一覧"), chunk("a#1", "賞与 計算"), chunk("b#0", "賞与 規程")])
        store.relabel("a", HR)
        assert words(store, "賞与", clearance=STAFF) == ["b#0"]
        assert near(store, unit(1), clearance=STAFF) == ["b#0"]
        assert store.chunks(["a#0", "b#0"], clearance=STAFF) == store.chunks(["b#0"], clearance=EVERYTHING)
        assert store.statistics(["賞与"], clearance=STAFF).n_chunks == 1
        assert sorted(words(store, "賞与", clearance=HR_STAFF)) == ["a#0", "a#1", "b#0"]
        assert {c.label for c in store.chunks(["a#0", "a#1"], clearance=EVERYTHING)} == {HR}

    def test_a_lowered_label_shows_again(self, store: Any) -> None:
        fill(store, [chunk("a#0", "賞与 一覧", label=HR)])
        assert words(store, "賞与", clearance=STAFF) == near(store, unit(1), clearance=STAFF) == []
        store.relabel("a", INTERNAL)
        assert words(store, "賞与", clearance=STAFF) == near(store, unit(1), clearance=STAFF) == ["a#0"]

    def test_a_label_may_move_between_compartments(self, store: Any) -> None:
        fill(store, [chunk("a#0", "取締役会 議事録", label=HR)])
        store.relabel("a", Label.parse("confidential:board"))
        board = Clearance.parse("confidential:board")
        assert words(store, "議事録", clearance=HR_STAFF) == near(store, unit(1), clearance=HR_STAFF) == []
        assert words(store, "議事録", clearance=board) == near(store, unit(1), clearance=board) == ["a#0"]

    def test_many_documents_can_be_relabelled_at_once(self, store: Any) -> None:
        fill(store, [chunk(f"d{i}#0", "賞与 規程") for i in range(6)])
        store.relabel_many({"d0": HR, "d1": Label.parse("public"), "d2": HR, "nobody": HR})
        assert sorted(words(store, "賞与", clearance=STAFF)) == ["d1#0", "d3#0", "d4#0", "d5#0"]
        assert words(store, "賞与", clearance=Clearance.parse("public")) == ["d1#0"]
        assert sorted(near(store, unit(1), clearance=STAFF)) == ["d1#0", "d3#0", "d4#0", "d5#0"]

    def test_relabelling_what_is_not_there_changes_nothing(self, store: Any) -> None:
        store.relabel("nobody", HR)
        fill(store, [chunk("a#0", "規程")])
        store.relabel("nobody", HR)
        assert words(store, "規程", clearance=STAFF) == ["a#0"]

    @pytest.mark.parametrize("purge", [False, True])
    def test_a_deleted_document_is_gone_everywhere(self, store: Any, purge: bool) -> None:
        fill(store, [chunk("a#0", "秘密 計画"), chunk("a#1", "計画 別紙"), chunk("b#0", "計画 公開")])
        store.delete(["a", "nobody"], purge=purge)
        assert words(store, "計画") == ["b#0"]
        assert near(store, unit(1)) == ["b#0"]
        assert store.chunks(["a#0", "a#1"], clearance=EVERYTHING) == []
        assert store.statistics(["計画", "秘密"], clearance=EVERYTHING).frequencies == {"計画": 1, "秘密": 0}
        assert store.count() == (1, 1)

    def test_a_deleted_document_may_come_back(self, store: Any) -> None:
        fill(store, [chunk("a#0", "旅費 規程")])
        store.delete(["a"], purge=True)
        assert words(store, "旅費") == near(store, unit(1)) == []
        fill(store, [chunk("a#0", "旅費 規程")])
        assert words(store, "旅費") == near(store, unit(1)) == ["a#0"]

    def test_single_chunks_can_be_deleted(self, store: Any) -> None:
        """How an older version of a changed document leaves search."""
        fill(store, [chunk("a#0", "旅費 旧"), chunk("a#1", "旅費 新", version="v2")])
        store.delete_chunks(["a#0"], purge=False)
        assert words(store, "旅費") == near(store, unit(0, 1)) == ["a#1"]

    def test_vectors_can_be_made_anew_by_another_embedder(self, store: Any) -> None:
        fill(store, [chunk("a#0", "旅費")])
        store.drop_vectors()
        assert near(store, unit(1)) == []
        assert store.pending_vectors() == ["a#0"]
        store.add_vectors(["a#0"], np.eye(DIM + 2, dtype=np.float32)[:1])
        assert near(store, np.eye(DIM + 2, dtype=np.float32)[0]) == words(store, "旅費") == ["a#0"]

    def test_purged_text_is_found_on_disk_before_and_not_after(self, store: Any) -> None:
        fill(store, [chunk("a#0", "門外不出zq7 計画"), chunk("b#0", "公開 計画")])
        assert store.verify_erased("門外不出zq7")
        store.delete(["a"], purge=True)
        assert store.verify_erased("門外不出zq7") == []
        assert words(store, "計画") == ["b#0"]

    def test_reconciling_sees_every_chunk_and_what_still_wants_a_vector(self, store: Any) -> None:
        fill(store, [chunk("a#0"), chunk("a#1", version="v2", label=HR)])
        store.add([chunk("b#0"), chunk("b#1")], [["本文"], ["本文"]])
        assert sorted(store.ids()) == [
            ("a#0", "a", "v1", "internal", True),
            ("a#1", "a", "v2", "confidential:hr", True),
            ("b#0", "b", "v1", "internal", False),
            ("b#1", "b", "v1", "internal", False),
        ]
        assert [row[0] for row in sorted(store.ids("a"))] == ["a#0", "a#1"]
        assert store.pending_vectors() == ["b#0", "b#1"]
        assert [[c.id for c in batch] for batch in store.iter_pending(1)] == [["b#0"], ["b#1"]]
        assert store.count() == (4, 2)
