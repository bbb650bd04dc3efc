"""Chunks hold everything, in order, within the budget, verbatim."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hagane.core.text import one_line, squeeze
from hagane.core.types import Block, Document, Line, Place
from hagane.prepare.chunk import ChunkConfig, ChunkDraft, chunk


def size_of(text: str) -> float:
    """The budget's unit: a Japanese character counts 1, a Latin one a half."""
    return sum(0.5 if c.isascii() else 1.0 for c in text)


def made_of(*parts: tuple[str, str] | tuple[str, str, int], title: str = "") -> Document:
    """A document of blocks (kind, text, level)."""
    text, blocks = "", []
    for kind, body, *level in parts:
        start = len(text)
        text += body + "\n"
        place = Place(page=1, start=start, end=start + len(body))
        blocks.append(Block(kind, body, place, level=level[0] if level else 0))
    return Document("", "text/plain", title, text, tuple(blocks))


def bodies(chunks: list[ChunkDraft]) -> list[list[str]]:
    return [[block.text for block in c.blocks] for c in chunks]


sentence = st.builds(
    lambda words, end: "".join(words) + end,
    st.lists(
        st.sampled_from(["年次有給休暇", "を", "付与する", "ABC ", "、", "は", "10日", "従業員", "（総務部）", "𠮟"]),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from(["。", "！", ". ", "\n", "", " "]),
)
long_text = st.lists(sentence, min_size=1, max_size=25).map("".join).filter(str.strip)
part = st.one_of(
    st.tuples(st.just("heading"), st.sampled_from(["総則", "目的", "第2章 休暇", "附則", "Scope"]), st.integers(1, 3)),
    st.tuples(st.sampled_from(["paragraph", "list_item", "code", "caption"]), long_text, st.just(0)),
)
documents = st.lists(part, max_size=14).map(lambda parts: made_of(*parts))
configs = st.builds(
    lambda low, more, most, overlap: ChunkConfig(min=low, target=low + more, max=low + more + most, overlap_sentences=overlap),
    st.integers(0, 100), st.integers(50, 300), st.integers(30, 200), st.integers(0, 1),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(documents, configs)
def test_nothing_is_lost(document: Document, config: ChunkConfig) -> None:
    """Every character of every block is in a chunk, or the block is a heading on a chunk's path."""
    chunks = chunk(document, document.blocks, config)
    held = set()
    for block in (b for c in chunks for b in c.blocks):
        held.update(range(block.place.start, block.place.end))
    paths = {name for c in chunks for name in c.headings}
    for block in document.blocks:
        if block.kind == "heading" and one_line(block.text) in paths:
            continue
        missing = [i for i in range(block.place.start, block.place.end) if i not in held]
        assert not squeeze("".join(document.text[i] for i in missing)), block


@settings(max_examples=200, deadline=None)
@given(documents, configs)
def test_budget_is_kept(document: Document, config: ChunkConfig) -> None:
    for got in chunk(document, document.blocks, config):
        total = sum(size_of(b.text) for b in got.blocks if b.kind != "heading")
        assert total <= config.max, (total, config)


@settings(max_examples=200, deadline=None)
@given(documents, configs)
def test_pieces_are_verbatim_and_in_order(document: Document, config: ChunkConfig) -> None:
    chunks = chunk(document, document.blocks, config)
    assert [c.ordinal for c in chunks] == list(range(len(chunks)))
    for got in chunks:
        assert got.blocks
        assert all(b.text == document.text[b.place.start : b.place.end] for b in got.blocks)
        starts = [b.place.start for b in got.blocks]
        assert starts == sorted(starts)
    firsts = [
        min(b.place.start for b in c.blocks if b.kind != "heading")
        for c in chunks
        if any(b.kind != "heading" for b in c.blocks)
    ]
    assert firsts == sorted(firsts)


def test_a_new_heading_closes_the_chunk() -> None:
    document = made_of(
        ("heading", "第1条 目的", 1), ("paragraph", "この規程は出張の旅費を定める。" * 20),
        ("heading", "第2条 適用", 1), ("paragraph", "すべての従業員に適用する。" * 20),
    )  # fmt: skip
    got = chunk(document, document.blocks, ChunkConfig())
    assert [c.headings for c in got] == [("第1条 目的",), ("第2条 適用",)]
    assert all(block.kind == "paragraph" for c in got for block in c.blocks)


def test_small_siblings_share_a_chunk_and_keep_their_headings() -> None:
    document = made_of(
        ("heading", "第1章 総則", 1), ("heading", "第1条 目的", 2), ("paragraph", "旅費を定める。"),
        ("heading", "第2条 適用", 2), ("paragraph", "全員に適用する。"),
    )  # fmt: skip
    got = chunk(document, document.blocks, ChunkConfig())
    assert [c.headings for c in got] == [("第1章 総則",)]
    assert bodies(got) == [["第1条 目的", "旅費を定める。", "第2条 適用", "全員に適用する。"]]


def test_cousins_never_share_a_chunk() -> None:
    document = made_of(
        ("heading", "第1章", 1), ("heading", "第1条", 2), ("paragraph", "旅費を定める。"),
        ("heading", "第2章", 1), ("paragraph", "休暇を定める。"),
    )  # fmt: skip
    assert [c.headings for c in chunk(document, document.blocks, ChunkConfig())] == [("第1章", "第1条"), ("第2章",)]


def test_a_heading_without_text_is_still_searchable() -> None:
    document = made_of(("heading", "附則", 1))
    assert bodies(chunk(document, document.blocks, ChunkConfig())) == [["附則"]]


def test_title_of_the_document_opens_no_path() -> None:
    document = made_of(
        ("title", "旅費規程"), ("heading", "目的", 1), ("paragraph", "旅費を定める。" * 40), title="旅費規程"
    )
    assert [c.headings for c in chunk(document, document.blocks, ChunkConfig())] == [("目的",)]


def test_long_table_is_parted_between_rows() -> None:
    rows = [("row", f"品目{n:03}\t{n * 100}円") for n in range(200)]
    got = chunk(document := made_of(*rows), document.blocks, ChunkConfig())
    assert len(got) > 1
    assert [text for body in bodies(got) for text in body] == [text for _, text in rows]


def test_row_longer_than_a_chunk_stays_whole() -> None:
    row = "備考: " + "領収書を添えて申請する。" * 70
    document = made_of(("row", "品目\t単価"), ("row", row))
    assert row in [text for body in bodies(chunk(document, document.blocks, ChunkConfig())) for text in body]


def test_list_stays_with_its_introduction() -> None:
    document = made_of(
        ("paragraph", "旅費は実費とする。" * 49), ("paragraph", "次の書類を添える："), ("list_item", "領収書"), ("list_item", "行程表"),
    )  # fmt: skip
    assert bodies(chunk(document, document.blocks, ChunkConfig()))[-1] == ["次の書類を添える：", "領収書", "行程表"]


def test_long_paragraph_ends_at_sentence_ends() -> None:
    document = made_of(("paragraph", "出張の旅費は、規程（第3条。ただし別表を除く。）により支給する。" * 60))
    got = chunk(document, document.blocks, ChunkConfig())
    assert len(got) > 3
    assert all(text.startswith("出張") and text.endswith("支給する。") for body in bodies(got) for text in body)


def test_pieces_of_printed_text_are_whole_lines() -> None:
    """A quote in a box must be the text in that box, so a line is never torn."""
    text = "出張の旅費は規程により支給する。" * 100
    lines = tuple(
        Line(i, min(i + 37, len(text)), 1 + i // 740, (50.0, 20.0 + i, 550.0, 30.0 + i))
        for i in range(0, len(text), 37)
    )
    block = Block("paragraph", text, Place(page=1, box=(0, 0, 9, 9), start=0, end=len(text)), lines=lines)
    document = Document("", "application/pdf", "", text, (block,), pages=3)
    pieces = [b for c in chunk(document, document.blocks, ChunkConfig()) for b in c.blocks]
    assert len(pieces) > 2
    for piece in pieces:
        assert piece.text == "".join(text[line.start : line.end] for line in piece.lines)
        on_page = [line.box for line in piece.lines if line.page == piece.place.page]
        assert piece.place.box == (50.0, on_page[0][1], 550.0, on_page[-1][3])


def test_reading_is_parted_with_the_text() -> None:
    text = "詳しくは[旅費規程](https://example.com/travel)の**第3条**を参照する。" * 60
    reading = "詳しくは旅費規程の第3条を参照する。" * 60
    block = Block("paragraph", text, Place(start=0, end=len(text)), reading=reading)
    document = Document("", "text/markdown", "", text, (block,))
    pieces = [b for c in chunk(document, document.blocks, ChunkConfig()) for b in c.blocks]
    assert len(pieces) > 1
    assert "".join(b.spoken for b in pieces) == reading


def test_overlap_repeats_the_last_sentence() -> None:
    sentences = [f"第{n}項の旅費は、あらかじめ上長の承認を受けたうえで実費を支給するものとする。" for n in range(60)]
    document = made_of(("paragraph", "".join(sentences)))
    got = chunk(document, document.blocks, ChunkConfig(overlap_sentences=1))
    assert len(got) > 3
    for before, after in itertools.pairwise(got):
        assert before.blocks[-1].text.endswith(after.blocks[0].text)


def test_tokens_bind_where_they_can_be_counted() -> None:
    document = made_of(("paragraph", "旅費を支給する。" * 100))
    config = ChunkConfig(max_tokens=64)
    got = chunk(document, document.blocks, config, count_tokens=len)
    assert max(len(c.blocks[0].text) for c in got) <= 64


def test_sizes_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="rise"):
        ChunkConfig(target=800)


def test_chunking_leaves_the_blocks_alone() -> None:
    document = made_of(("paragraph", "旅費を支給する。" * 200))
    before = replace(document)
    chunk(document, document.blocks, ChunkConfig())
    assert document == before
