"""BM25 against hand-computed numbers and an independent loop over texts."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from hagane.contracts.index import chunk
from hagane.core.labels import EVERYTHING
from hagane.index.bm25 import idf, saturated
from hagane.index.memory import MemoryIndex


def test_idf_by_hand():
    """ln(1 + (10 - 2 + 0.5) / (2 + 0.5)) = ln 4.4"""
    assert idf(10, 2) == pytest.approx(1.4816045)
    assert idf(10, 10) > 0  # a word of every chunk still counts a little


def test_saturation_by_hand():
    """Mean length: c (2.2) / (c + 1.2); twice the mean: c (2.2) / (c + 1.2 x 1.75)."""
    got = saturated(np.array([1.0, 3.0, 1.0]), np.array([10.0, 10.0, 20.0]), 10.0)
    assert got == pytest.approx([1.0, 6.6 / 4.2, 2.2 / 3.1])


def plain_bm25(terms: dict[str, float], texts: dict[str, list[str]]) -> dict[str, float]:
    """The textbook's double loop."""
    mean = sum(map(len, texts.values())) / len(texts)
    scores = {}
    for key, words in texts.items():
        score = 0.0
        for term, weight in terms.items():
            df = sum(term in other for other in texts.values())
            tf = words.count(term)
            rarity = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
            score += weight * rarity * tf * 2.2 / (tf + 1.2 * (1 - 0.75 + 0.75 * len(words) / mean))
        if score > 0:
            scores[key] = score
    return scores


def test_memory_index_equals_the_double_loop():
    pick = random.Random(5)
    vocabulary = ["休暇", "旅費", "経費", "規程", "pto", "申請", "上長", "承認"]
    texts = {f"d#{i}": pick.choices(vocabulary, weights=range(1, 9), k=pick.randint(1, 12)) for i in range(40)}
    index = MemoryIndex()
    index.add([chunk(key, "本文") for key in texts], list(texts.values()))
    for terms in ({"休暇": 1.0}, {"休暇": 1.0, "承認": 0.3, "無い": 2.0}, dict.fromkeys(vocabulary, 0.7)):
        hits = index.by_words(terms, clearance=EVERYTHING, n=100)
        expected = plain_bm25(terms, texts)
        assert {hit.chunk: hit.score for hit in hits} == pytest.approx(expected)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
