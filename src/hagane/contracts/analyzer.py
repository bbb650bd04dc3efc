"""What every Analyzer must do. Subclass and give the fixture `analyzer`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ..core.seams import Analyzer

RULE = "有給休暇の取得は、2024年4月1日から開始する。上限は１，０００円とし、ＰＴＯはSlackで申請する。"


class AnalyzerContract:
    @pytest.fixture
    def analyzer(self) -> Analyzer:
        raise NotImplementedError("give the analyzer under test")

    def test_it_has_a_name(self, analyzer: Analyzer) -> None:
        assert analyzer.name
        assert isinstance(analyzer, Analyzer)

    @pytest.mark.parametrize("text", [RULE, "a b\tc\nd\u3000e\u00a0f", "𠮷野家 😀 ﾊﾝｶｸ ｶﾅ", "New York、ニュー ヨーク"])
    def test_terms_are_words_without_white_space(self, analyzer: Analyzer, text: str) -> None:
        """Stores part terms by blanks."""
        terms = analyzer.tokens(text)
        assert terms
        assert all(term and "".join(term.split()) == term for term in terms)

    @pytest.mark.parametrize("text", ["", " \n\u3000", "。、「」!?…"])
    def test_nothing_to_find_gives_no_terms(self, analyzer: Analyzer, text: str) -> None:
        assert analyzer.tokens(text) == []

    def test_the_same_text_gives_the_same_terms(self, analyzer: Analyzer) -> None:
        first = analyzer.tokens(RULE)
        analyzer.tokens("間に別の文書を挟む。")
        assert analyzer.tokens(RULE) == first

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("ＡＢＣ株式会社", "abc株式会社"),
            ("ｻｰﾊﾞｰ", "サーバー"),
            ("令和6年4月の規程", "2024年4月の規程"),
            ("1,000円", "１０００円"),
            ("國立圖書館", "国立図書館"),
        ],
    )
    def test_spellings_of_one_thing_are_one(self, analyzer: Analyzer, one: str, other: str) -> None:
        """Width, case, old characters, 和暦 and digit grouping do not matter for search."""
        assert analyzer.tokens(one) == analyzer.tokens(other)

    def test_a_question_shares_terms_with_the_rule_that_answers_it(self, analyzer: Analyzer) -> None:
        shared = set(analyzer.tokens("有給休暇を取得したい")) & set(analyzer.tokens(RULE))
        other = set(analyzer.tokens("有給休暇を取得したい")) & set(analyzer.tokens("出張旅費は実費とする。"))
        assert len(shared) > len(other)

    def test_english_words_and_numbers_stay_whole(self, analyzer: Analyzer) -> None:
        terms = analyzer.tokens(RULE)
        assert {"2024", "1000", "pto"} <= set(terms)

    def test_long_texts_are_read_to_the_end(self, analyzer: Analyzer) -> None:
        """Engines have input limits; 300,000 characters without one line break are still searched."""
        terms = analyzer.tokens("就業規則" * 75_000 + "終端語xyz")
        assert "xyz" in terms[-1]
        assert len(terms) > 100_000

    def test_threads_do_not_disturb_each_other(self, analyzer: Analyzer) -> None:
        texts = [f"第{n}条 従業員{n}は所定の手続により休暇を取得する。" for n in range(64)]
        expected = [analyzer.tokens(text) for text in texts]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(analyzer.tokens, texts * 4)) == expected * 4
