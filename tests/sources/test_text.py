"""Plain text, Markdown, JSON, XML: slices of the file, and what a reader of the rendered page sees."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_files import SENTENCE

from hagane.sources.markdown import _Scanner, plain
from hagane.sources.text import text_blocks

PAGE = f"""---
title: "出張旅費"
description: "旅費の **手引き**"
lastmod: "2026-03-07T10:45:14+09:00"
---

## 上限 {{#limit}}

[経理部](/handbook/finance/ "題")が定める。**{SENTENCE}** ![印影](/seal.png)
詳しくは `expense_limit` を見よ。<br>例外は_ない_。

{{{{% alert title="注意" color="warning" %}}}}
事前に申請する。
{{{{% /alert %}}}}

- 国内
  - 日帰り
- [x] 国外
1. 申請

| 役職 | 日当 |
|---|---:|
| 部長 | 3,000円 |
| [課長](/x) | 2\\|500円 |

```yaml
limit: 15000  # **そのまま**
```

<!-- 隠した注 -->
<table><tr><th>等級</th><th>宿泊</th></tr><tr><td>一</td><td>12,000円</td></tr></table>
"""


def test_a_page_reads_as_rendered(one):
    document = one("旅費.md", PAGE.encode())
    assert document.text == PAGE
    assert document.title == "出張旅費"
    assert document.meta["date"].startswith("2026-03-07")
    assert [(b.kind, b.level, b.spoken) for b in document.blocks] == [
        ("meta", 0, "出張旅費\n旅費の 手引き"),
        ("heading", 2, "上限"),
        ("paragraph", 0, f"経理部が定める。{SENTENCE} 印影詳しくは expense_limit を見よ。例外はない。"),
        ("paragraph", 0, "注意"),
        ("paragraph", 0, "事前に申請する。"),
        ("list_item", 0, "国内"),
        ("list_item", 1, "日帰り"),
        ("list_item", 0, "国外"),
        ("list_item", 0, "1. 申請"),
        ("row", 0, "役職、日当"),
        ("row", 0, "役職: 部長、日当: 3,000円"),
        ("row", 0, "役職: 課長、日当: 2|500円"),
        ("code", 0, "limit: 15000  # **そのまま**"),
        ("table", 0, "等級、宿泊\n等級: 一、宿泊: 12,000円"),
    ]


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("**太字**と*斜体*と~~取消~~", "太字と斜体と取消"),
        ("[規程](a(b).md)と[注][1]", "規程と注"),
        ("[![図](x.png)](y) の説明", "図 の説明"),
        ("snake_case_name と __init__ 以外", "snake_case_name と init 以外"),
        ("2 * 3 = 6", "2 * 3 = 6"),
        ("<https://example.co.jp/規程> を見よ", "https://example.co.jp/規程 を見よ"),
        ("a &lt; b &amp; c", "a < b & c"),
        ('{{< member-by-name "山田 太郎" >}} に聞く', "山田 太郎 に聞く"),
        ("{{< youtube VbmqYu7 >}}", ""),
        ("一行目\n二行目", "一行目二行目"),
        ("one\ntwo", "one two"),
    ],
)
def test_marks_are_not_read(source, read):
    assert plain(source) == read


markdownish = st.lists(
    st.sampled_from(
        ["# 見出し", "- 項目", "  - 下", "1. 一", "| a | b |", "|---|---|", "```", "> 引用", "---", "文章である。", "", "    字下げ",
         "<!-- 注", "-->", "{{< x >}}", "[a](b", "**", "===", "\t", "<table>", "</table>", "![", "|"]
    ),
    max_size=30,
)  # fmt: skip


@given(lines=markdownish)
def test_blocks_of_any_markdown_are_ordered_slices(lines):
    text = "\n".join(lines)
    reached = 0
    for block in _Scanner(text).run():
        assert block.text == text[block.place.start : block.place.end] != ""
        assert block.place.start >= reached
        reached = block.place.end


@given(text=st.text(alphabet="第1条（目的） 　。\n・■abc.1-", max_size=200))
def test_blocks_of_any_text_lose_nothing(text):
    blocks = text_blocks(text)
    for block in blocks:
        assert block.text == text[block.place.start : block.place.end] != ""
    assert "".join("".join(b.text.split()) for b in blocks) == "".join(text.split())


def test_headings_written_by_hand_are_found(one):
    text = f"就業規則\n\n第1章　総則\n\n第1条（目的）\n{SENTENCE}\n２　前項の規定は適用しない。\n\n■ 附則\n【改定履歴】\n1.1 範囲\n・一つ目\n・二つ目\n"
    document = one("規則.txt", text.encode("cp932"))
    assert [(b.kind, b.level) for b in document.blocks] == [
        ("title", 0), ("heading", 2), ("heading", 4), ("paragraph", 0),
        ("list_item", 0), ("heading", 3), ("heading", 3), ("heading", 2), ("list_item", 0), ("list_item", 0),
    ]  # fmt: skip
    assert document.title == "就業規則"


def test_an_article_in_a_sentence_is_no_heading():
    kinds = [
        b.kind
        for b in text_blocks(
            "第3条に定める手続は、人事部が別に定めるところによる。\n\n1. 申請書を出す\n2. 承認を得る\n3. 出発する"
        )
    ]
    assert kinds == ["paragraph", "list_item", "list_item", "list_item"]


def test_json_values_carry_their_path(one):
    text = json.dumps(
        {"社員": [{"氏名": "山田", "年齢": 30}, {"氏名": "佐藤", "備考": None}], "版": "2"},
        ensure_ascii=False,
        indent=1,
    )
    document = one("社員.json", text.encode())
    assert document.text == text
    assert [b.spoken for b in document.blocks] == ["社員 / 氏名: 山田", "社員 / 年齢: 30", "社員 / 氏名: 佐藤", "版: 2"]
    assert document.blocks[0].text == "山田"


values = st.recursive(
    st.text(max_size=8) | st.integers(-9, 9) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(value=values, indent=st.sampled_from([None, 2]), ascii_only=st.booleans())
def test_every_json_value_is_found_where_it_stands(value, indent, ascii_only):
    from hagane.sources.structured import _values

    def leaves(node):
        if isinstance(node, dict | list):
            for inner in node.values() if isinstance(node, dict) else node:
                yield from leaves(inner)
        elif node is not None and str(node).strip():
            yield node

    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    found = list(_values(text))
    assert [b.text for b in found] == [text[b.place.start : b.place.end] for b in found]
    again = [
        json.loads(b.text) if text[b.place.start - 1 : b.place.start] != '"' else json.loads(f'"{b.text}"')
        for b in found
    ]
    assert again == list(leaves(value))


def test_each_json_line_is_one_block(one):
    lines = [json.dumps({"問": f"質問{n}", "答": n}, ensure_ascii=False) for n in range(3)]
    document = one("問答.jsonl", "\n".join(lines).encode())
    assert [b.text for b in document.blocks] == lines
    assert document.blocks[2].spoken == "問: 質問2、答: 2"


def test_feeds_read_their_entries(one):
    feed = (
        '<?xml version="1.0" encoding="UTF-8"?><rss><channel><title>社内報</title><item><title>旅費改定</title>'
        f"<description>&lt;p&gt;{SENTENCE}&lt;/p&gt;&lt;p&gt;次の文。&lt;/p&gt;</description></item></channel></rss>"
    )
    document = one("社内報.xml", feed.encode())
    assert document.title == "社内報"
    assert [b.text for b in document.blocks] == ["社内報", "旅費改定", SENTENCE, "次の文。"]


def test_xml_in_shift_jis_is_read(one):
    data = f'<?xml version="1.0" encoding="Shift_JIS"?><規程><条>{SENTENCE}</条></規程>'.encode("cp932")
    assert SENTENCE in one("規程.xml", data).text
