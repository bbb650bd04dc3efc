"""A Hugging Face folder's tokenizer as GGUF's metadata, so that llama.cpp makes the same tokens of the same text.

Everything comes from tokenizer.json, which is what transformers reads: llama.cpp merges SentencePiece pieces by their
score, and here a piece's score is minus its place among the merges. Vocabulary kinds that GGUF changes are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ModelError, RefusedError
from .tokenizer_kind import SPACE, check_kind, kind_of, read_tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # llama.h, llama_token_type


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`words[i]` is token i; `scores` for SentencePiece, `merges` for byte level; ids are None where there is none."""

    model: str  # "llama" or "gpt2", as llama.cpp calls SentencePiece and byte-level BPE
    pre: str
    words: tuple[str, ...]
    types: tuple[int, ...]
    scores: tuple[float, ...] | None
    merges: tuple[str, ...] | None
    bos: int | None
    eos: int | None
    unknown: int | None
    padding: int | None
    adds_bos: bool
    adds_eos: bool
    adds_space: bool
    template: str


def read_vocabulary(folder: Path, config: Mapping[str, Any], *, n_rows: int, settings: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of `folder`, filled up to the model's `n_rows` with unused tokens. `config`: generation_config.json
    over config.json, `settings`: tokenizer_config.json. Raises: RefusedError, ModelError."""
    table = read_tokenizer(folder)
    kind = kind_of(table)
    check_kind(kind)
    if kind.name == "spm-bpe" and config.get("model_type") == "qwen2":
        raise RefusedError(
            "transformers reads every Qwen2 folder with Qwen's own way to cut texts, whatever its tokenizer.json says",
            hint="train a byte-level BPE for this family, or take the Llama family (290 of 300 sentences differed)",
        )
    model, added = table["model"], table.get("added_tokens") or []
    words = _words(model["vocab"], added, n_rows)
    at = {word: number for number, word in enumerate(words)}
    types = _types(words, added, model.get("unk_token"), is_bytes=kind.name == "spm-bpe")
    pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in model.get("merges", [])]
    is_spm = kind.name == "spm-bpe"
    first, last = _ends(table.get("post_processor"))
    eos = _number(config.get("eos_token_id"))
    names = {name: _content(settings.get(name)) for name in ("bos_token", "eos_token", "pad_token")}
    found = at.get(names["eos_token"] or "")
    return Vocabulary(
        model="llama" if is_spm else "gpt2",
        pre=kind.pre,
        words=tuple(words),
        types=tuple(types),
        scores=tuple(_scores(words, pairs)) if is_spm else None,
        merges=None if is_spm else tuple(" ".join(pair) for pair in pairs),
        bos=at.get(names["bos_token"] or "", _number(config.get("bos_token_id"))),
        eos=found if found is not None else eos,  # the tokenizer says what ends an answer
        unknown=at.get(str(model.get("unk_token"))),
        padding=at.get(names["pad_token"] or "", _number(config.get("pad_token_id"))),
        adds_bos=first is not None,
        adds_eos=last is not None,
        adds_space=_adds_space(table),
        template=_template(folder, settings),
    )


def add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    """Writes it with a gguf.GGUFWriter."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.words))
    writer.add_token_types(list(vocabulary.types))
    if vocabulary.scores is not None:
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_add_space_prefix(vocabulary.adds_space)
        writer.add_remove_extra_whitespaces(False)
    if vocabulary.merges is not None:
        writer.add_token_merges(list(vocabulary.merges))
    for number, add in (
        (vocabulary.bos, writer.add_bos_token_id),
        (vocabulary.eos, writer.add_eos_token_id),
        (vocabulary.eos, writer.add_eot_token_id),
        (vocabulary.unknown, writer.add_unk_token_id),
        (vocabulary.padding, writer.add_pad_token_id),
    ):
        if number is not None:
            add(number)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(vocabulary.adds_eos)
    if vocabulary.template:
        writer.add_chat_template(vocabulary.template)


def _words(vocabulary: Mapping[str, int], added: list[dict[str, Any]], n_rows: int) -> list[str]:
    found: dict[int, str] = {number: word for word, number in vocabulary.items()}
    for row in added:
        found[row["id"]] = row["content"]
        if row.get("lstrip") or row.get("rstrip") or row.get("single_word"):
            raise RefusedError(f"the token {row['content']!r} eats the spaces beside it; GGUF does not keep that")
    if found and max(found) >= n_rows:
        raise ModelError(
            f"the tokenizer has the token {max(found)}, the model {n_rows} rows", hint="do they belong together?"
        )
    return [found.get(number, f"[UNUSED{number}]") for number in range(n_rows)]


def _types(words: list[str], added: list[dict[str, Any]], unknown: Any, *, is_bytes: bool) -> list[int]:
    special = {row["id"]: CONTROL if row.get("special") else USER_DEFINED for row in added}
    bytes_ = {f"<0x{number:02X}>" for number in range(256)} if is_bytes else set()
    found = []
    for number, word in enumerate(words):
        if unknown is not None and word == unknown:
            kind = UNKNOWN
        elif number in special:
            kind = special[number]
        elif word in bytes_:
            kind = BYTE
        else:
            kind = UNUSED if word == f"[UNUSED{number}]" else NORMAL
        found.append(kind)
    return found


def _scores(words: list[str], pairs: list[list[str]]) -> list[float]:
    """Minus the place of a piece's first merge; pieces that no merge makes are letters and marks, and never compared."""
    place: dict[str, int] = {}
    for left, right in pairs:
        place.setdefault(left + right, len(place))
    return [-float(place[word] + 1) if word in place else 0.0 for word in words]


def _ends(part: Any) -> tuple[str | None, str | None]:
    """(mark in front, mark behind) that the post-processor adds to every text."""
    for step in part.get("processors", [part]) if isinstance(part, dict) else []:
        if step.get("type") == "TemplateProcessing":
            names = [row["SpecialToken"]["id"] if "SpecialToken" in row else None for row in step["single"]]
            if None not in names or len(names) - names.count(None) > 2:
                raise RefusedError("the tokenizer adds marks in a way that GGUF does not know")
            middle = names.index(None)
            return (names[0] if middle else None), (names[-1] if middle < len(names) - 1 else None)
    return None, None


def _adds_space(table: Mapping[str, Any]) -> bool:
    steps = [part for part in (table.get("normalizer"), table.get("pre_tokenizer")) if isinstance(part, dict)]
    steps = [inner for part in steps for inner in part.get("normalizers", part.get("pretokenizers", [part]))]
    if any(step.get("prepend_scheme") == "first" for step in steps):
        raise RefusedError("a space in front of the first piece only does not exist in GGUF")
    return any(step.get("prepend") == SPACE or step.get("prepend_scheme") == "always" for step in steps)


def _number(value: Any) -> int | None:
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, int) else None


def _content(value: Any) -> str | None:
    return value.get("content") if isinstance(value, dict) else value


def _template(folder: Path, settings: Mapping[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    said = settings.get("chat_template")
    return said if isinstance(said, str) else ""
