"""Copies are merged under the label law, whatever the order; versions with other numbers stay apart."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hagane.core.labels import Label
from hagane.core.types import Block, Document, Place
from hagane.prepare.dedup import DedupConfig, Item, cluster, content_key, keys, numbers_key, signature, similarity

RULE = "".join(
    f"第{n}条 {who}は、{what}をするときは、あらかじめ所属長の承認を受けなければならない。"
    for n, (who, what) in enumerate(
        (
            (a, b)
            for a in ("従業員", "出向者", "嘱託", "役員", "契約社員")
            for b in ("出張", "休暇の取得", "経費の精算", "時間外の勤務")
        ),
        1,
    )
)


def item(name: str, text: str, label: str = "internal") -> Item:
    return Item(name, content_key(text), Label.parse(label), name, signature(text), numbers_key(text))


def kept(items: list[Item], **config: object) -> dict[str, str]:
    return {copy: merged.kept for copy, merged in cluster(items, DedupConfig(**config)).items()}


def test_exact_copies_are_merged_into_the_first_path() -> None:
    assert kept([item("b.md", RULE), item("a.md", RULE + "\n ")]) == {"b.md": "a.md"}


def test_near_copies_are_merged() -> None:
    got = cluster([item("a", RULE), item("b", RULE.replace("あらかじめ", "予め", 1))], DedupConfig())
    assert (got["b"].kept, got["b"].reason) == ("a", "near")
    assert 0.95 <= got["b"].similarity < 1


def test_versions_with_another_number_or_negation_both_stay() -> None:
    """The old and the new rule differ in one word, and the difference is the point."""
    for old, new in (("第7条", "第70条"), ("受けなければならない", "受けることを要しない"), ("第十条", "第九条")):
        text = RULE + "附則は第十条に準ずる。"
        assert old in text
        assert kept([item("old", text), item("new", text.replace(old, new, 1))]) == {}


def document(title: str, *paragraphs: str, heading: str = "総則") -> Document:
    blocks = [Block("heading", heading, Place()), *(Block("paragraph", text, Place()) for text in paragraphs)]
    return Document("", "text/markdown", title, "", tuple(blocks), meta={"title": title})


def test_same_words_under_another_title_or_heading_are_another_document() -> None:
    """Templates: the text is the same, the title says whose it is."""
    made = [
        document("旅費規程", RULE),
        document("旅費規程", RULE),
        document("出張規程", RULE),
        document("旅費規程", RULE, heading="附則"),
    ]
    found = [keys(d, d.blocks) for d in made]
    items = [
        Item(f"{n}", k.content, Label.parse("public"), f"{n}", k.signature, k.numbers) for n, k in enumerate(found)
    ]
    assert {copy: merged.kept for copy, merged in cluster(items, DedupConfig()).items()} == {"1": "0"}


def test_a_system_of_another_name_is_another_text() -> None:
    assert (
        numbers_key("経費はKINTONEで申請する")
        == numbers_key("経費は ｋｉｎｔｏｎｅ から申請する")
        != numbers_key("経費はSAPで申請する")
    )


def test_widths_and_case_do_not_make_another_content() -> None:
    assert (
        content_key("第１０条　ＡＢＣ（ただし）")
        == content_key("第10条 abc(ただし)")
        != content_key("第11条 abc(ただし)")
    )


def test_a_copy_is_merged_only_into_what_its_readers_may_see() -> None:
    assert kept([item("a", RULE, "confidential:hr"), item("b", RULE, "internal")]) == {"a": "b"}
    assert kept([item("a", RULE, "internal:hr"), item("b", RULE, "internal:board")]) == {}
    assert kept([item("a", RULE, "internal:hr"), item("b", RULE, "restricted")]) == {}


def test_switches_are_obeyed() -> None:
    near = RULE.replace("あらかじめ", "予め", 1)
    items = [item("a", RULE), item("b", RULE), item("c", near)]
    assert kept(items) == {"b": "a", "c": "a"}
    assert kept(items, near=False) == {"b": "a"}
    assert kept(items, exact=False, near=False) == {}
    assert kept(items, threshold=1.0) == {"b": "a"}


def test_empty_texts_are_nobodys_copy() -> None:
    assert kept([item("a", " "), item("b", "")]) == {}


def test_signatures_estimate_the_share_of_common_pieces() -> None:
    """Against the Jaccard index counted exactly."""
    words = random.Random(3)
    one = "".join(words.choice("あいうえおかきくけこ休暇規程") for _ in range(4000))
    for cut in (40, 400, 1500):
        other = one[cut:] + "".join(words.choice("さしすせそたちつてと給与") for _ in range(cut))
        a, b = ({text[i : i + 5] for i in range(len(text) - 4)} for text in (one, other))
        exact = len(a & b) / len(a | b)
        assert abs(similarity(signature(one), signature(other)) - exact) < 0.1


def test_signatures_never_change() -> None:
    """They are stored; another seed or hash would compare new documents with nothing."""
    assert signature("年次有給休暇は10日とする。").hex()[:32] == GOLDEN


LABELS = st.sampled_from(
    ["public", "internal", "confidential:hr", "confidential:board", "confidential:hr+board", "restricted"]
)
TEXTS = st.sampled_from(
    [
        RULE,
        RULE + " ",
        RULE.replace("あらかじめ", "予め", 1),
        RULE.replace("受けなければ", "得なければ", 1),
        RULE.replace("第7条", "第8条"),
        "別の文書。",
        "",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TEXTS, LABELS), max_size=10), st.randoms(use_true_random=False))
def test_merging_obeys_the_label_law_and_no_order(made: list[tuple[str, str]], rng: random.Random) -> None:
    items = [item(f"{n}.md", text, label) for n, (text, label) in enumerate(made)]
    merged = kept(items)
    by_id = {i.id: i for i in items}
    for copy, twin in merged.items():
        assert twin not in merged, "a copy points straight to the one kept"
        assert by_id[twin].label.flows_to(by_id[copy].label)
        assert by_id[twin].numbers == by_id[copy].numbers
    shuffled = items[:]
    rng.shuffle(shuffled)
    assert kept(shuffled) == merged


GOLDEN = "4ed57b11f95ecb0368e807052bf13b08"
