"""Cleaning names what it leaves out, and leaves out nothing that says something."""

from __future__ import annotations

import pytest

from hagane.core.types import Block, Document, Place
from hagane.prepare.clean import CleanConfig, Dropped, clean


def made_of(*parts: tuple[int | None, str, str], media: str = "application/pdf") -> Document:
    """A document of blocks (page, kind, text)."""
    text, blocks = "", []
    for page, kind, body in parts:
        blocks.append(Block(kind, body, Place(page=page, start=len(text), end=len(text) + len(body))))
        text += body + "\n"
    return Document("", media, "就業規則", text, tuple(blocks), pages=max((p or 1 for p, _, _ in parts), default=1))


def reasons(document: Document, config: CleanConfig | None = None) -> dict[str, str]:
    return {document.blocks[d.index].text: d.reason for d in clean(document, config or CleanConfig())[1]}


def paged(n: int, head: str, foot: str) -> Document:
    """`n` pages of two paragraphs between a head and a foot; {n} is the page's number."""
    return made_of(
        *(
            part
            for page in range(1, n + 1)
            for part in (
                (page, "paragraph", head.format(n=page)),
                (page, "paragraph", f"{page}章の本文は、休暇の取り方を{page * 7}項に分けて述べる。"),
                (page, "paragraph", f"つづきの本文{page * 13}は、給与の計算を述べる。"),
                (page, "paragraph", f"さらにつづく本文{page * 17}。"),
                (page, "paragraph", foot.format(n=page)),
            )
        )
    )


def test_repeated_heads_go_and_the_first_stays() -> None:
    kept, dropped = clean(document := paged(6, "株式会社ハガネ 社外秘", "- {n} -"), CleanConfig())
    assert [b.text for b in kept].count("株式会社ハガネ 社外秘") == 1
    assert {d.reason for d in dropped} == {"header", "page_number"}
    assert len(dropped) == 5 + 6
    assert len(kept) + len(dropped) == len(document.blocks)


@pytest.mark.parametrize("foot", ["{n}", "- {n} -", "{n}/6", "Page {n} of 6", "{n} ページ", "Ｐ．{n}"])
def test_page_numbers_go(foot: str) -> None:
    assert set(reasons(paged(6, "第{n}条の見出し", foot)).values()) == {"page_number"}


def test_feet_with_the_pages_number_go() -> None:
    assert list(reasons(paged(4, "本文{n}で始まる段落", "就業規則 {n}/4")).values()).count("footer") == 3


def test_articles_that_open_each_page_stay() -> None:
    """第3条 on page 3 is no running head, although it counts with the pages."""
    assert reasons(paged(6, "第{n}条(年次有給休暇)", "{n}行の終わりの文。")) == {}


def test_a_figure_among_the_text_is_no_page_number() -> None:
    document = made_of(
        (1, "paragraph", "売上は次のとおり。"), (2, "paragraph", "1200"), (2, "paragraph", "前年より多い。")
    )
    assert reasons(document) == {}


def test_parsers_marks_are_followed_and_can_be_switched_off() -> None:
    document = made_of(
        (None, "header", "人事部"), (None, "footer", "改定 2026年"), (None, "navigation", "ホーム > 規程"), (None, "paragraph", "本文"),
    )  # fmt: skip
    assert reasons(document) == {"人事部": "header", "改定 2026年": "footer", "ホーム > 規程": "navigation"}
    off = CleanConfig(headers=False, footers=False, navigation=False, boilerplate=False)
    kept, dropped = clean(document, off)
    assert (len(kept), dropped) == (4, [])


def test_boilerplate_goes_only_where_it_is_alone() -> None:
    document = made_of(
        (None, "paragraph", "▲ ページトップへ戻る"), (None, "paragraph", "ページトップへ戻るボタンを置いてください。"),
        (None, "paragraph", "当サイトはCookieを使用します。続けるには「同意する」を押してください。"), media="text/html",
    )  # fmt: skip
    assert list(reasons(document).values()) == ["boilerplate", "boilerplate"]


def test_a_cookie_policy_is_content() -> None:
    document = made_of(
        (None, "paragraph", "当社はCookieの使用に同意する利用者だけに配信する。"), media="application/pdf"
    )
    assert reasons(document) == {}


def test_template_commands_go_unless_they_say_something() -> None:
    document = made_of(
        (None, "paragraph", '{{< youtube "dQw4w9WgXcQ" >}}'), (None, "paragraph", '{{% details title="申請の手順" %}}'),
        (None, "paragraph", "{{% /details %}}"), (None, "paragraph", "<!-- 下書き -->"), media="text/markdown",
    )  # fmt: skip
    assert list(reasons(document).values()) == ["shortcode", "shortcode", "comment"]


def test_empty_and_sign_only_blocks_go() -> None:
    document = made_of((None, "paragraph", " 　\n"), (None, "paragraph", "＊＊＊"), (None, "paragraph", "可"))
    assert clean(document, CleanConfig())[1] == [Dropped(0, "empty"), Dropped(1, "empty")]


def test_front_matter_goes_and_a_mails_sender_stays() -> None:
    assert reasons(made_of((None, "meta", "title: 規程"), media="text/markdown")) == {"title: 規程": "meta"}
    assert reasons(made_of((None, "meta", "差出人: 総務部"), media="message/rfc822")) == {}


def test_titles_of_slides_and_worksheets_stay() -> None:
    """The same title over several sheets says what each of them is about."""
    parts = [
        part
        for n in range(1, 6)
        for part in ((n, "heading", "部門別の実績"), (n, "paragraph", f"{n}部の売上は{n * 31}万円。"))
    ]
    assert reasons(made_of(*parts, media="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")) == {}


def test_a_document_of_nothing_but_heads_keeps_them() -> None:
    document = made_of((1, "header", "防災訓練のお知らせ"), (2, "header", "防災訓練のお知らせ"), (2, "paragraph", "2"))
    kept, dropped = clean(document, CleanConfig())
    assert [b.text for b in kept] == ["防災訓練のお知らせ"] * 2
    assert dropped == [Dropped(2, "page_number")]
