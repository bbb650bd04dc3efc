"""Every formula against numbers worked out by hand."""

from __future__ import annotations

import itertools
import random
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagane.core.text import answer_key
from hagane.evals.metrics import auroc, exact, f1, gold_ranks, is_gold, must_contain, ndcg, recall, reciprocal_rank


def test_gold_path_is_the_path_or_its_ending() -> None:
    assert is_gold("規程/旅費.md", "規程/旅費.md")
    assert is_gold("content/規程/旅費.md", "規程/旅費.md")
    assert is_gold("a.zip!/旅費.md", "旅費.md")
    assert not is_gold("規程/海外旅費.md", "旅費.md")
    assert not is_gold("旅費.md", "規程/旅費.md")
    assert is_gold("規程/カ\u3099イド.md", "ガイド.md"), "composed and decomposed letters are the same"


def test_ranks_of_gold_documents() -> None:
    assert gold_ranks([["x.md"], ["a.md"], ["y.md"], ["b.md"]], ["a.md", "b.md", "c.md"]) == ([2, 4], 3)
    assert gold_ranks([], ["a.md"]) == ([], 1)
    assert gold_ranks([["x.md"]], []) == ([], 0)


def test_a_page_and_its_copy_are_one_gold_document() -> None:
    assert gold_ranks([["x.md"], ["a.md", "old/b.md"]], ["a.md", "b.md"]) == ([2], 1)


def test_an_ending_counts_once() -> None:
    """_index.md matches many pages; only the first found gains, so that no score exceeds 1."""
    assert gold_ranks([["p/_index.md"], ["q/_index.md"]], ["_index.md"]) == ([1], 1)


def test_retrieval_measures_by_hand() -> None:
    ranks = [3, 7]
    assert [recall(ranks, k=k) for k in (1, 2, 3, 10)] == [0, 0, 1, 1]
    assert reciprocal_rank(ranks) == pytest.approx(1 / 3)
    assert reciprocal_rank([11]) == 0
    assert reciprocal_rank([]) == 0
    assert ndcg(ranks, 2) == pytest.approx((1 / 2 + 1 / 3) / (1 + 1 / log2(3)))
    assert ndcg([1, 2], 2) == 1
    assert ndcg([11], 1) == 0
    assert ndcg([1], 20) == pytest.approx(1 / sum(1 / log2(r + 1) for r in range(1, 11)))


def test_best_order_has_the_best_ndcg() -> None:
    """Against brute force over all orders of 4 results, 2 of them gold."""
    scores = {
        order: ndcg([i for i, gold in enumerate(order, 1) if gold], 2)
        for order in set(itertools.permutations([1, 1, 0, 0]))
    }
    assert max(scores, key=scores.__getitem__) == (1, 1, 0, 0)
    assert max(scores.values()) == 1


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("１０日。", "10日"), ("10 日 [1]", "10日"), ("ＡＢＣ株式会社", "abc株式会社"), ("「はい」、[12]そう！", "はいそう"),
        ("￥1,000+税", "¥1000+税"), ("50%", "50"), ("a-b_c", "abc"), ("①", "1"), ("　\t\n", ""), ("［3］可", "可"),
    ],
)  # fmt: skip
def test_answers_are_compared_without_dress(text: str, key: str) -> None:
    assert answer_key(text) == key


def test_exact_takes_the_best_answer() -> None:
    assert exact("10日です。[1]", ["１０日", "10日です"]) == 1
    assert exact("10日", ["9日"]) == 0
    assert exact("", ["9日"]) == 0


def test_f1_is_over_the_multiset_of_characters() -> None:
    # 東京都 and 京都府: common 京, 都; 2*2/(3+3)
    assert f1("東京都", ["京都府"]) == pytest.approx(2 / 3)
    # ああい and あいい: common あ, い once each; 2*2/6
    assert f1("ああい", ["あいい"]) == pytest.approx(2 / 3)
    assert f1("東京都です", ["大阪", "東京都"]) == pytest.approx(6 / 8)
    assert f1("", ["東京"]) == 0
    assert f1("東京", []) == 0


@given(st.text(alphabet="休暇10日 。", max_size=8), st.text(alphabet="休暇10日 。", max_size=8))
def test_f1_equals_a_count_letter_by_letter(one: str, other: str) -> None:
    a, b = answer_key(one), list(answer_key(other))
    common = 0
    for char in a:
        if char in b:
            b.remove(char)
            common += 1
    n = len(answer_key(other))
    expected = (
        float(a == answer_key(other))
        if not a or not n
        else (2 * (common / len(a)) * (common / n) / ((common / len(a)) + (common / n)) if common else 0.0)
    )
    assert f1(one, [other]) == pytest.approx(expected)


def test_must_contain_wants_every_entry_and_any_alternative() -> None:
    entries = ["30日|三十日", "HelpLab|People Connect"]
    assert must_contain("過去３０ 日以内は helplab へ。", entries) == 1
    assert must_contain("三十日をこえたら People\nConnect チームに。", entries) == 1
    assert must_contain("30日以内。", entries) == 0
    assert must_contain("", entries) == 0
    assert must_contain("30[1]日、HelpLab", entries) == 1
    assert must_contain("1.5倍", ["1.5"]) == 1
    assert must_contain("15倍", ["1.5"]) == 0


def test_area_counts_pairs_and_ties_half() -> None:
    assert auroc([0.9, 0.8], [0.1, 0.2]) == 1
    assert auroc([0.5], [0.5]) == 0.5
    assert auroc([0.9, 0.3], [0.5, 0.3]) == pytest.approx((2 + 0 + 0.5) / 4)
    with pytest.raises(ValueError, match="both kinds"):
        auroc([0.5], [])


def test_area_equals_brute_force() -> None:
    rng = random.Random(5)
    for _ in range(50):
        good = [rng.randrange(6) / 5 for _ in range(rng.randrange(1, 20))]
        bad = [rng.randrange(6) / 5 for _ in range(rng.randrange(1, 20))]
        pairs = [(g > b) + (g == b) / 2 for g in good for b in bad]
        assert auroc(good, bad) == pytest.approx(sum(pairs) / len(pairs))
