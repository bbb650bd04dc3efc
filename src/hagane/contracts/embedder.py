"""What every Embedder must do. Subclass and give the fixture `embedder`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ..core.seams import Embedder

TEXTS = [
    "有給休暇は入社6か月後に10日付与する。",
    "出張の日当は一日2,500円とする。",
    "Travel expenses are paid monthly.",
    "𠮷野家 😀",
]


class EmbedderContract:
    @pytest.fixture
    def embedder(self) -> Embedder:
        raise NotImplementedError("give the embedder under test")

    def test_it_says_what_it_is(self, embedder: Embedder) -> None:
        assert isinstance(embedder, Embedder)
        assert embedder.name
        assert embedder.fingerprint
        assert embedder.dim > 0

    def test_rows_are_unit_vectors_of_the_named_size(self, embedder: Embedder) -> None:
        rows = embedder.embed(TEXTS, kind="passage")
        assert rows.shape == (len(TEXTS), embedder.dim)
        assert rows.dtype == np.float32
        assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-3)

    def test_no_text_gives_no_rows(self, embedder: Embedder) -> None:
        assert embedder.embed([], kind="query").shape == (0, embedder.dim)

    @pytest.mark.parametrize("text", ["", " ", "。"])
    def test_texts_without_words_have_a_vector_too(self, embedder: Embedder, text: str) -> None:
        row = embedder.embed([text], kind="passage")[0]
        assert np.isfinite(row).all()
        assert np.isclose(np.linalg.norm(row), 1.0, atol=1e-3)

    def test_a_text_has_its_vector_whatever_stands_beside_it(self, embedder: Embedder) -> None:
        together = embedder.embed(TEXTS, kind="passage")
        alone = np.concatenate([embedder.embed([text], kind="passage") for text in TEXTS])
        assert np.allclose(together, alone, atol=1e-3)

    def test_a_question_is_nearest_to_the_sentence_in_its_own_words(self, embedder: Embedder) -> None:
        question = embedder.embed(["出張の日当は一日いくらですか。"], kind="query")[0]
        assert int(np.argmax(embedder.embed(TEXTS, kind="passage") @ question)) == 1

    def test_long_texts_are_taken(self, embedder: Embedder) -> None:
        assert embedder.embed(["就業規則" * 5_000], kind="passage").shape == (1, embedder.dim)

    def test_threads_do_not_disturb_each_other(self, embedder: Embedder) -> None:
        texts = [f"第{n}条 従業員は休暇を取得する。" for n in range(16)]
        expected = [embedder.embed([text], kind="passage") for text in texts]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda text: embedder.embed([text], kind="passage"), texts))
        assert all(np.allclose(a, b, atol=1e-3) for a, b in zip(expected, found, strict=True))
