"""Trains a tokenizer and writes it as a Hugging Face folder that transformers and GGUF read alike.

SentencePiece BPE with byte fallback and identity normalisation (the default: best for Japanese, no text is changed),
or byte-level BPE with the regex of Qwen2. Equal texts in equal order give equal bytes: one thread, no sampling.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import UsageError
from ..core.labels import Label
from .template import Family, source, unmarked
from .tokenizer_kind import SPACE, known_regexes

UNKNOWN = "<unk>"
MAX_LINE = 4000  # characters; SentencePiece leaves out what is longer than its own bound, in bytes
MIN_VOCABULARY = 300  # 256 bytes, the marks, a few letters
CARD = "hagane.json"
DECODER: dict[str, Any] = {  # of SentencePiece: spaces back, bytes to letters
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ],
}


@dataclass(frozen=True, slots=True)
class Trained:
    """A tokenizer on disk. `n_tokens`: its vocabulary with all marks."""

    folder: Path
    kind: str
    n_tokens: int
    label: Label
    n_texts: int
    n_characters: int


class _Counted:
    """Texts passing by, as pieces that the trainers take."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.n_texts = self.n_characters = 0

    def lines(self, *, keep_ends: bool) -> Iterator[str]:
        for text in self._texts:
            self.n_texts += 1
            for line in text.splitlines(keepends=keep_ends):
                for start in range(0, len(line), MAX_LINE):
                    if piece := line[start : start + MAX_LINE].replace("\0", ""):
                        self.n_characters += len(piece)
                        yield piece


def train_sentencepiece(
    texts: Iterable[str], folder: Path, *, kind: Family, n_tokens: int, label: Label, coverage: float = 0.9995
) -> Trained:
    """SentencePiece BPE with byte fallback in `folder`. `coverage`: share of all letters that get a token of
    their own; the rest become bytes. Raises: UsageError for no text, or for a size that the texts cannot fill."""
    import sentencepiece

    _check_size(n_tokens)
    if not 0.98 <= coverage <= 1.0:
        raise UsageError(f"a coverage of {coverage} is not between 0.98 and 1", hint="0.9995 is usual for Japanese")
    counted, made = _Counted(texts), io.BytesIO()
    marks = [mark for mark in kind.specials if mark not in (kind.bos, kind.eos)]
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=counted.lines(keep_ends=False),
            model_writer=made,
            model_type="bpe",
            vocab_size=n_tokens,
            byte_fallback=True,
            character_coverage=coverage,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            max_sentence_length=MAX_LINE * 4,
            input_sentence_size=0,
            shuffle_input_sentence=False,
            num_threads=1,
            control_symbols=marks,
            unk_id=0,
            unk_piece=UNKNOWN,
            bos_id=1 if kind.bos else -1,
            bos_piece=kind.bos or "<s>",
            eos_id=2 if kind.bos else 1,
            eos_piece=kind.eos,
            pad_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as cause:
        raise _unfit(counted, n_tokens, str(cause)) from cause
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(made.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    _write_json(folder / "tokenizer.json", sentencepiece_table(processor, kind))
    return _finish(
        folder, kind, Trained(folder, "spm-bpe", len(processor), label, counted.n_texts, counted.n_characters)
    )


def train_byte_bpe(texts: Iterable[str], folder: Path, *, kind: Family, n_tokens: int, label: Label) -> Trained:
    """Byte-level BPE with Qwen2's regex in `folder`. Raises: UsageError as above."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    _check_size(n_tokens)
    counted = _Counted(texts)
    made = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(known_regexes()["qwen2"]["regexes"][0]), behavior="isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    marks = [AddedToken(mark, special=True, normalized=False) for mark in kind.specials]
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens,
        special_tokens=marks,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(counted.lines(keep_ends=True), trainer)
    if made.get_vocab_size() < n_tokens:
        raise _unfit(counted, n_tokens, f"value <= {made.get_vocab_size()}")
    folder.mkdir(parents=True, exist_ok=True)
    table = json.loads(made.to_str())
    table["post_processor"] = _begins(kind, table["added_tokens"])
    _write_json(folder / "tokenizer.json", table)
    size = made.get_vocab_size()
    return _finish(folder, kind, Trained(folder, "byte-bpe", size, label, counted.n_texts, counted.n_characters))


def sentencepiece_table(processor: Any, kind: Family) -> dict[str, Any]:
    """tokenizer.json of a SentencePiece BPE model: a merge for every way to make a piece of two, best score first."""
    n_tokens = len(processor)
    words = [processor.id_to_piece(number) for number in range(n_tokens)]
    vocabulary = {word: number for number, word in enumerate(words)}
    normal = [
        number
        for number in range(n_tokens)
        if not (processor.is_control(number) or processor.is_unknown(number) or processor.is_byte(number))
    ]
    scores = {words[number]: processor.get_score(number) for number in normal}
    added = [
        {"id": vocabulary[mark], "content": mark, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for mark in sorted({UNKNOWN, *kind.specials}, key=vocabulary.__getitem__)
    ]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": None,
        "post_processor": _begins(kind, added),
        "decoder": DECODER,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": UNKNOWN, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": vocabulary, "merges": merges_of(scores, vocabulary),
        },
    }  # fmt: skip


def merges_of(scores: dict[str, float], vocabulary: dict[str, int]) -> list[list[str]]:
    """Every pair of pieces that makes a piece, in the order in which SentencePiece merges: by the score of the whole."""
    found: list[tuple[float, int, int, list[str]]] = []
    for word, score in scores.items():
        for cut in range(1, len(word)):
            left, right = word[:cut], word[cut:]
            if left in scores and right in scores:
                found.append((-score, vocabulary[left], vocabulary[right], [left, right]))
    return [pair for *_, pair in sorted(found, key=lambda row: row[:3])]


def _begins(kind: Family, added: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not kind.bos:
        return None
    return begins(kind.bos, next(row["id"] for row in added if row["content"] == kind.bos))


def begins(mark: str, number: int) -> dict[str, Any]:
    """The post-processor that puts one mark in front of every text."""
    said = {"SpecialToken": {"id": mark, "type_id": 0}}
    one, two = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [said, one],
        "pair": [said, one, two],
        "special_tokens": {mark: {"id": mark, "ids": [number], "tokens": [mark]}},
    }


def _finish(folder: Path, kind: Family, trained: Trained) -> Trained:
    template = unmarked(source(kind.name))
    table: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": bool(kind.bos),
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000,
        "eos_token": kind.end_of_turn,  # what ends an answer; the end of a document is in the card
        "pad_token": kind.eos,
        "additional_special_tokens": list(kind.specials),
        "chat_template": template,
    }
    if kind.bos:
        table["bos_token"] = kind.bos
    if trained.kind == "spm-bpe":
        table["unk_token"] = UNKNOWN
    _write_json(folder / "tokenizer_config.json", table)
    names = ("bos_token", "eos_token", "pad_token", "unk_token", "additional_special_tokens")
    _write_json(folder / "special_tokens_map.json", {name: table[name] for name in names if name in table})
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    card = {"template": kind.name, "tokenizer": trained.kind, "label": str(trained.label), "end_of_document": kind.eos}
    _write_json(folder / CARD, card | {"n_texts": trained.n_texts, "n_characters": trained.n_characters})
    return trained


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _check_size(n_tokens: int) -> None:
    if not MIN_VOCABULARY <= n_tokens <= 1_000_000:
        raise UsageError(f"a vocabulary of {n_tokens} tokens is not between {MIN_VOCABULARY} and 1,000,000")


def _unfit(counted: _Counted, n_tokens: int, said: str) -> UsageError:
    """The trainer's complaint without its text, which may quote the data."""
    if not counted.n_characters:
        return UsageError("there is no text to train a tokenizer on", hint="add documents, or name a file with texts")
    most = re.search(r"value <= (\d+)", said)
    least = re.search(r"smaller than required_chars\. \d+ vs (\d+)", said)
    hint = f"at most {most[1]} with these texts" if most else "take another size, or more texts"
    if least:
        hint = f"at least {least[1]}, so many letters the texts have; or 0: what suits the model"
    return UsageError(f"{n_tokens} tokens do not fit {counted.n_characters} characters of text", hint=hint)
