"""Pieces and quotes stand where they say they stand."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from hagane.core.text import sentences
from hagane.core.types import Block, Line, Place
from hagane.prepare.cut import cut_spans, locate, narrow

TEXT = "会社は、従業員に年次有給休暇を与える。ただし、試用期間中の者を除く。休暇は前日までに届け出る。"


def printed(text: str, width: int, *, base: int = 100, per_page: int = 3) -> Block:
    """A block of printed lines of `width` characters, `per_page` lines a page."""
    lines = tuple(
        Line(base + i, base + min(i + width, len(text)), 1 + n // per_page, (10.0, 10.0 * n, 90.0, 10.0 * n + 9))
        for n, i in enumerate(range(0, len(text), width))
    )
    return Block("paragraph", text, Place(page=1, start=base, end=base + len(text)), lines=lines)


def test_a_quote_of_plain_text_is_exact() -> None:
    block = Block("paragraph", TEXT, Place(start=100, end=100 + len(TEXT)))
    start, end = sentences(TEXT)[1]
    place, quote = locate(block, start, end)
    assert quote == "ただし、試用期間中の者を除く。"
    assert (place.start, place.end) == (100 + start, 100 + end)


def test_a_row_is_quoted_whole() -> None:
    block = Block(
        "row", "本社\t10日\t可", Place(page=2, cell="休暇!B3:D3", start=5, end=13), reading="拠点: 本社、日数: 10日"
    )
    assert locate(block, 3, 6) == (block.place, "本社\t10日\t可")


def test_a_quote_of_printed_text_is_whole_lines_with_their_box() -> None:
    block = printed(TEXT, 10)
    start, end = sentences(TEXT)[0]
    assert (start, end) == (0, 19)
    place, quote = locate(block, start, end)
    assert quote == TEXT[0:20]
    assert (place.page, place.box) == (1, (10.0, 0.0, 90.0, 19.0))
    assert (place.start, place.end) == (100, 120)


def test_a_quote_over_two_pages_stands_on_the_page_with_more_of_it() -> None:
    place, quote = locate(printed(TEXT, 10, per_page=3), 28, 40)
    assert (place.page, quote) == (2, TEXT[30:40])


@settings(max_examples=300, deadline=None)
@given(st.integers(3, 25), st.integers(1, 6), st.integers(0, len(TEXT) - 1), st.integers(1, len(TEXT)))
def test_quotes_are_the_lines_in_the_box(width: int, per_page: int, start: int, n: int) -> None:
    block = printed(TEXT, width, per_page=per_page)
    end = min(start + n, len(TEXT))
    place, quote = locate(block, start, end)
    inside = [
        line for line in block.lines
        if line.page == place.page and place.box[1] <= line.box[1] and line.box[3] <= place.box[3]
    ]  # fmt: skip
    assert quote == "".join(TEXT[line.start - 100 : line.end - 100] for line in inside)
    assert quote == TEXT[place.start - 100 : place.end - 100]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="休暇を与える、。 a.\n(「」", min_size=1, max_size=300), st.integers(5, 40), st.integers(0, 30))
def test_cuts_cover_the_text_and_keep_the_budget(text: str, target: int, more: int) -> None:
    block = Block("paragraph", text, Place(start=0, end=len(text)))
    spans = cut_spans(block, sentences(text), target=target, most=target + more, measure=len)
    covered = {i for start, end in spans for i in range(start, end)}
    assert all(text[i].isspace() for i in range(len(text)) if i not in covered)
    assert all(0 < end - start <= target + more for start, end in spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_a_sentence_without_end_is_cut_at_commas() -> None:
    text = "本社、支店、営業所、" * 20
    block = Block("paragraph", text, Place(start=0, end=len(text)))
    spans = cut_spans(block, sentences(text), target=50, most=70, measure=len)
    assert len(spans) > 3
    assert all(text[end - 1] == "、" for _, end in spans)


def test_the_reading_of_a_piece_skips_link_targets() -> None:
    text = "[policy](https://example.com/policy)はpolicyの頁。次に[旅費](/t)を見る。"
    reading = "policyはpolicyの頁。次に旅費を見る。"
    block = Block("paragraph", text, Place(start=0, end=len(text)), reading=reading)
    at = text.index("次に")
    assert narrow(block, 0, at).reading == "policyはpolicyの頁。"
    assert narrow(block, at, len(text)).reading == "次に旅費を見る。"


def test_a_reading_that_is_not_the_text_is_dropped_with_the_cut() -> None:
    """Better markup than a wrong sentence."""
    block = Block("paragraph", "A &amp; B。次。", Place(start=0, end=12), reading="A ＆ B。次。")
    assert narrow(block, 0, 10).spoken == "A &amp; B。"
