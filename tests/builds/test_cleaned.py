"""The text that a document teaches: what a reader would see of it, in order, without what cleaning left out."""

from __future__ import annotations

from hagane.builds.cleaned import text_of
from hagane.core.codec import document_to
from hagane.core.types import Block, Document, Place


def entry(blocks: list[tuple[str, str, str | None]], dropped: list[int]) -> dict:
    text, made = "", []
    for kind, said, reading in blocks:
        made.append(Block(kind, said, Place(start=len(text), end=len(text) + len(said)), reading=reading))  # type: ignore[arg-type]
        text += said + "\n"
    document = Document("", "text/plain", "規程", text, tuple(made))
    return {"document": document_to(document), "dropped": [[n, "footer"] for n in dropped]}


def test_headings_paragraphs_lists_and_rows_stand_in_order():
    blocks = [
        ("title", "就業規則", None), ("header", "社外秘", None), ("heading", "第一章 総則", None), ("paragraph", "この規則は全員に適用する。 ", None),
        ("list_item", "・正社員", None), ("list_item", "・契約社員", None), ("row", "区分\t日数", None), ("row", "一年\t十日", "区分: 一年、日数: 十日"),
        ("footer", "1 / 9", None), ("paragraph", "　", None),
    ]  # fmt: skip
    assert text_of(entry(blocks, [1, 6, 8])) == (
        "就業規則\n\n第一章 総則\n\nこの規則は全員に適用する。\n\n・正社員\n・契約社員\n\n区分: 一年、日数: 十日"
    )


def test_a_document_of_which_everything_was_left_out_teaches_nothing():
    assert text_of(entry([("footer", "1 / 9", None)], [0])) == ""
