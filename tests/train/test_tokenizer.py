"""Trained tokenizers: equal each time, lossless, and only of kinds that GGUF keeps."""

from __future__ import annotations

import json
from pathlib import Path

import japanese_sentences
import pytest

from hagane.core.errors import NotFoundError, RefusedError, UsageError
from hagane.core.labels import Label
from hagane.train.template import families, family, source, unmarked
from hagane.train.tokenizer import CARD, train_byte_bpe, train_sentencepiece
from hagane.train.tokenizer_kind import check_kind, kind_of, known_regexes, read_tokenizer

pytest.importorskip("sentencepiece", reason="needs the extra train")
SECRET = Label.parse("confidential:hr")
ODD = [
    "",
    " ",
    "  二つ  の空白 ",
    "\t\n改行\r\n",
    "髙橋𠮷野",
    "ﾊﾝｶｸ①",
    "👍🏽é\u0301",
    "def f(x):\n        return 12345",
    "\u3000全角",
]


def train_spm(texts, folder, **values):
    """With fewer letters of their own: the texts are short."""
    return train_sentencepiece(texts, folder, coverage=0.98, **values)


def loaded(folder: Path):
    tokenizers = pytest.importorskip("tokenizers")
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("name", ["spm", "byte_bpe"])
def test_no_letter_is_lost(name: str, request):
    """Bytes stand in for what the vocabulary does not know; nothing is normalised."""
    folder = request.getfixturevalue(name)
    made = loaded(folder)
    for text in [*ODD, *japanese_sentences.sentences(60)]:
        ids = made.encode(text, add_special_tokens=False).ids
        assert made.decode(ids, skip_special_tokens=False) == text


def test_sentencepiece_itself_makes_the_same_tokens(spm):
    """tokenizer.json is written by us: the library that trained the model is the oracle."""
    import sentencepiece

    oracle = sentencepiece.SentencePieceProcessor(model_file=str(spm / "tokenizer.model"))
    made = loaded(spm)
    differing = [
        text
        for text in [*ODD, *japanese_sentences.sentences()]
        if made.encode(text, add_special_tokens=False).ids != oracle.encode(text)
    ]
    assert differing == []


@pytest.mark.parametrize("train", [train_spm, train_byte_bpe])
def test_equal_texts_give_equal_bytes(train, tmp_path):
    for folder in ("一", "二"):
        train(iter(japanese_sentences.texts()), tmp_path / folder, kind=family("qwen"), n_tokens=1400, label=SECRET)
    files = sorted(path.name for path in (tmp_path / "一").iterdir())
    assert [(tmp_path / "一" / file).read_bytes() for file in files] == [
        (tmp_path / "二" / file).read_bytes() for file in files
    ]


@pytest.mark.parametrize("name", families())
def test_every_familys_marks_are_one_token_each(name: str, tmp_path):
    kind = family(name)
    done = train_spm(japanese_sentences.texts(), tmp_path, kind=kind, n_tokens=1400, label=SECRET)
    made = loaded(tmp_path)
    assert done.n_tokens == 1400
    for mark in kind.specials:
        assert len(made.encode(mark, add_special_tokens=False).ids) == 1
    front = made.encode("規程").ids[0]
    assert (front == made.token_to_id(kind.bos)) == bool(kind.bos)
    said = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    assert said["eos_token"] == kind.end_of_turn and said["chat_template"] == unmarked(source(name))


def test_the_label_travels(tmp_path):
    """A vocabulary shows what it was trained on: names of people, of projects."""
    done = train_byte_bpe(japanese_sentences.texts(), tmp_path, kind=family("qwen"), n_tokens=1000, label=SECRET)
    assert done.label == SECRET
    assert json.loads((tmp_path / CARD).read_text("utf-8"))["label"] == "confidential:hr"


@pytest.mark.parametrize("train", [train_spm, train_byte_bpe])
@pytest.mark.parametrize(
    ("texts", "n_tokens", "why"),
    [([], 1000, "no text"), (["あ"], 1000, "at most"), (["", "\0"], 1000, "no text"), (["規程"], 5, "not between")],
)
def test_texts_that_cannot_fill_a_vocabulary_are_said(train, texts, n_tokens, why, tmp_path):
    with pytest.raises(UsageError) as caught:
        train(texts, tmp_path / "x", kind=family("qwen"), n_tokens=n_tokens, label=SECRET)
    assert why in f"{caught.value} {caught.value.hint}"
    assert not (tmp_path / "x").exists()


def test_too_small_for_the_letters_says_how_many_there_are(tmp_path):
    with pytest.raises(UsageError) as caught:
        train_sentencepiece(japanese_sentences.texts(), tmp_path, kind=family("qwen"), n_tokens=300, label=SECRET)
    assert "at least" in str(caught.value.hint)
    with pytest.raises(UsageError, match="coverage"):
        train_sentencepiece(["規程"], tmp_path, kind=family("qwen"), n_tokens=300, label=SECRET, coverage=0.5)


def test_a_line_of_ten_megabytes_is_read(tmp_path):
    texts = [*japanese_sentences.texts(), "有給休暇" * 2_500_000]
    done = train_sentencepiece(texts, tmp_path, kind=family("qwen"), n_tokens=1700, label=SECRET, coverage=1.0)
    assert done.n_characters > 10_000_000


def test_what_we_train_is_safe(spm, byte_bpe):
    assert kind_of(read_tokenizer(spm)).name == "spm-bpe"
    assert kind_of(read_tokenizer(byte_bpe)).pre == "qwen2"
    check_kind(kind_of(read_tokenizer(spm)))


def split(regex: str) -> dict:
    steps = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated"},
        {"type": "ByteLevel", "use_regex": False},
    ]
    return {"model": {"type": "BPE", "merges": []}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"model": {"type": "Unigram"}}, "Unigram"),
        ({"model": {"type": "WordPiece"}}, "WordPiece"),
        (split(r"[ぁ-ん]+|[ァ-ヶ]+|[一-龠]+|."), "home-made"),
        ({"model": {"type": "BPE", "merges": []}}, "neither byte fallback nor byte level"),
        ({"model": {"type": "BPE", "merges": [], "byte_fallback": True}, "normalizer": {"type": "NFKC"}}, "NFKC"),
        (
            {"model": {"type": "BPE", "merges": [], "byte_fallback": True}, "pre_tokenizer": {"type": "Digits"}},
            "Digits",
        ),
        ({"model": {"type": "BPE", "merges": [], "dropout": 0.1}}, "dropout"),
    ],
)
def test_kinds_that_gguf_changes_are_refused_with_the_reason(table: dict, why: str):
    kind = kind_of(table)
    with pytest.raises(RefusedError, match=why):
        check_kind(kind)


@pytest.mark.parametrize("name", ["qwen2", "llama-bpe"])
def test_the_regexes_that_llama_cpp_knows_pass(name: str):
    kind = kind_of(split(known_regexes()[name]["regexes"][0]))
    assert kind.is_safe and kind.pre == name


def test_a_folder_without_a_tokenizer_says_so(tmp_path):
    with pytest.raises(NotFoundError, match=r"tokenizer\.json"):
        read_tokenizer(tmp_path)
