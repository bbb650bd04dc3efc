"""What is shown before anything runs is what would be learnt: masks, counts, bad rows; nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from small_data import ENCODER, HR, INTERNAL, articles, documents_of, lines, nothing, spec_of, to_text

from hagane.builds.data import prepare
from hagane.builds.preview import N_CHARS, Preview, preview
from hagane.train.words import Row


def looked(spec: Any, at: Path, stage: str, **more: Any) -> Preview:
    given: dict[str, Any] = {"documents": nothing, "root": at, "default": INTERNAL, "encoder": ENCODER, "decode": to_text} | more
    return preview(spec, stage, **given)  # type: ignore[arg-type]


def test_a_conversation_is_shown_with_its_mask(tmp_path: Path):
    """As the template writes it; the answer and its end are learnt, the line end behind it is not."""
    lines(tmp_path / "会話.jsonl", [{"instruction": "有給休暇は何日ですか", "output": f"{n}日です"} for n in range(9)])
    shown = looked(spec_of("tune", [{"file": "会話.jsonl"}]), tmp_path, "tune").origins[0].shown[0]
    assert [(piece.learnt, piece.text) for piece in shown.pieces] == [
        (False, "<|im_start|>user\n有給休暇は何日ですか<|im_end|>\n<|im_start|>assistant\n"), (True, "0日です<|im_end|>"), (False, "\n"),
    ]  # fmt: skip
    assert (shown.source, shown.line, shown.label) == ("会話.jsonl", 1, "internal")


def test_a_pair_is_shown_as_its_two_answers(tmp_path: Path):
    lines(tmp_path / "好み.jsonl", [{"prompt": f"問{n}", "chosen": "良い", "rejected": "悪い"} for n in range(9)])
    shown = looked(spec_of("prefer", [{"file": "好み.jsonl"}]), tmp_path, "prefer").origins[0].shown[0]
    assert [piece.text for piece in shown.pieces if piece.learnt] == ["良い<|im_end|>", "悪い<|im_end|>"]
    bare = looked(spec_of("prefer", [{"file": "好み.jsonl"}]), tmp_path, "prefer", encoder=None, decode=None).origins[0].shown[0]
    assert [(piece.text, piece.learnt) for piece in bare.pieces] == [("問0", False), ("良い", True), ("悪い", True)]


def test_the_counts_are_those_of_the_prepared_set(tmp_path: Path):
    rows = [{"text": row["text"] + "電話は03-1234-5678。"} for row in articles(20)]
    lines(tmp_path / "規程.jsonl", [*articles(40)[20:], {"text": " "}, *rows])
    documents = documents_of([Row(HR, f"d_{n}@v{n}", 1, text=row["text"]) for n, row in enumerate(articles(60)[40:])])
    spec = spec_of("pretrain", [{"file": "規程.jsonl"}, {"documents": []}], split={"dev": 0}, personal={"phone": "mask"})
    told = looked(spec, tmp_path, "pretrain", documents=documents)
    assert not (tmp_path / "datasets").exists()
    made = prepare(spec, "pretrain", documents=documents, folder=tmp_path / "datasets", encoder=ENCODER, root=tmp_path, default=INTERNAL)
    assert sum(one.n_tokens for one in told.origins) == made.n_tokens
    assert sum(one.n_rows for one in told.origins) == made.n_documents
    assert [one.masked for one in told.origins] == [made.masked, 0]
    assert [(bad.line, bad.reason) for bad in told.origins[0].bad] == [(21, "text is empty")]
    assert told.label == made.label == HR and told.personal == {"phone": 20}
    assert told.origins[0].name.startswith("規程.jsonl: jsonl, utf-8; plain text from text")


def test_without_a_tokenizer_texts_and_characters_are_told(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", articles(20))
    told = looked(spec_of("pretrain", [{"file": "規程.jsonl"}]), tmp_path, "pretrain", encoder=None, decode=None).origins[0]
    assert (told.n_tokens, told.n_characters) == (0, sum(len(row["text"]) for row in articles(20)))
    assert told.shown[1].pieces[0].text == articles(20)[1]["text"]


def test_long_data_is_looked_at_in_part_and_that_is_said(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", [{"text": "長" * 50_000}, *articles(20)])
    spec = spec_of("pretrain", [{"file": "規程.jsonl"}])
    told = looked(spec, tmp_path, "pretrain", n_looked=5).origins[0]
    assert (told.n_rows, told.whole) == (5, False)
    assert len(told.shown[0].pieces[0].text) == N_CHARS + 1, "and an ellipsis"
    assert looked(spec, tmp_path, "pretrain").origins[0].whole


def test_it_is_json(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", articles(20))
    told = looked(spec_of("pretrain", [{"file": "規程.jsonl"}]), tmp_path, "pretrain").as_json()
    assert told["label"] == "internal"
    assert told["origins"][0]["shown"][0]["pieces"][0]["learnt"] is True
