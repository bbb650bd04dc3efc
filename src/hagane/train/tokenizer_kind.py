"""Which kind a tokenizer is, and whether GGUF keeps it: the same text must become the same tokens when served.

Measured on 300 Japanese sentences (FACTS): byte-fallback BPE of SentencePiece 0 lines differ, byte-level BPE with a
regex that llama.cpp knows 0, SentencePiece Unigram 160, a home-made regex 136. What differs is refused.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..core.errors import ModelError, NotFoundError, RefusedError

SPACE = "\u2581"  # ▁, SentencePiece's space
MAX_BYTES = 256 << 20  # tokenizer.json of Gemma is 33 MB


@dataclass(frozen=True, slots=True)
class Kind:
    """`name`: "spm-bpe" or "byte-bpe" for what GGUF keeps, else what it is; `pre`: llama.cpp's name of the regex;
    `why`: the reason why GGUF would change its tokens, None when it does not."""

    name: str
    pre: str = ""
    why: str | None = None

    @property
    def is_safe(self) -> bool:
        return self.why is None


@lru_cache(maxsize=1)
def known_regexes() -> Mapping[str, dict[str, Any]]:
    """pre_tokenizers.toml."""
    text = files("hagane.train").joinpath("pre_tokenizers.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def read_tokenizer(folder: Path) -> dict[str, Any]:
    """tokenizer.json of a Hugging Face folder. Raises: NotFoundError, ModelError."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise NotFoundError(
            f"{folder} holds no tokenizer.json",
            hint="tokenizers that are Python code have none and cannot be used",
        )
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ModelError(f"tokenizer.json is larger than {MAX_BYTES >> 20} MB")
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise ModelError("tokenizer.json cannot be read", hint="fetch the folder again") from cause
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise ModelError("tokenizer.json names no model", hint="fetch the folder again")
    return found


def kind_of(table: Mapping[str, Any]) -> Kind:
    """The kind of a tokenizer.json."""
    model = table["model"]
    name = str(model.get("type") or ("BPE" if "merges" in model else "unknown"))
    if name == "Unigram":
        return Kind("unigram", why="Unigram: llama.cpp chooses other pieces (160 of 300 Japanese sentences differed)")
    if name != "BPE":
        return Kind(name.lower(), why=f"{name} is not byte pair encoding; llama.cpp has no decoder model for it")
    if model.get("dropout") or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return Kind("bpe", why="dropout and word affixes do not exist in llama.cpp")
    steps = _steps(table.get("pre_tokenizer"), "pretokenizers")
    if model.get("byte_fallback"):
        return _sentencepiece(_steps(table.get("normalizer"), "normalizers"), steps)
    return _byte_level(table.get("normalizer"), steps)


def check_kind(kind: Kind) -> None:
    """Raises: RefusedError with the reason for a tokenizer that GGUF would change."""
    if not kind.is_safe:
        raise RefusedError(
            f"this tokenizer cannot be served as it was trained: {kind.why}",
            hint="train SentencePiece BPE with byte fallback, or byte-level BPE with the Qwen2 regex",
        )


def _steps(part: Any, inside: str) -> list[dict[str, Any]]:
    if not isinstance(part, dict):
        return []
    return list(part.get(inside, [])) if part.get("type") == "Sequence" else [part]


def _sentencepiece(normal: list[dict[str, Any]], pre: list[dict[str, Any]]) -> Kind:
    for step in normal:
        replaces = (
            step.get("type") == "Replace" and step.get("pattern") == {"String": " "} and step.get("content") == SPACE
        )
        prepends = step.get("type") == "Prepend" and step.get("prepend") == SPACE
        if not replaces and not prepends:
            return Kind("spm-bpe", why=f"the normaliser {step.get('type')} changes texts, and GGUF does not keep it")
    for step in pre:
        whole = step.get("type") == "Metaspace" and step.get("split") is False
        if not whole and not (
            step.get("type") == "Split" and step.get("pattern") == {"String": " "}
        ):  # Gemma's: never met
            return Kind("spm-bpe", why=f"the pre-tokenizer {step.get('type')} cuts where llama.cpp does not")
    return Kind("spm-bpe", "default")


def _byte_level(normal: Any, steps: list[dict[str, Any]]) -> Kind:
    # NFC of Qwen2's file: llama.cpp has none, either, yet every text that is already NFC stays the same
    if normal is not None and _steps(normal, "normalizers") != [{"type": "NFC"}]:
        return Kind("byte-bpe", why="its normaliser changes texts, and GGUF does not keep it")
    if not steps or steps[-1].get("type") != "ByteLevel":
        return Kind("bpe", why="neither byte fallback nor byte level: unknown letters would be lost")
    *before, last = steps
    if last.get("add_prefix_space"):
        return Kind("byte-bpe", why="a space put in front of every text does not exist in llama.cpp's byte-level BPE")
    if last.get("use_regex", True):
        if not before:
            return Kind("byte-bpe", "gpt-2")
        if before == [{"type": "Digits", "individual_digits": True}]:
            return Kind("byte-bpe", "smollm")
    regexes = [step.get("pattern", {}).get("Regex") for step in before]
    isolated = all(step.get("type") == "Split" and step.get("behavior") == "Isolated" for step in before)
    for name, row in known_regexes().items():
        if isolated and regexes and regexes == row["regexes"] and not last.get("use_regex", True):
            return Kind("byte-bpe", name)
    return Kind(
        "byte-bpe", why="its regex is none that llama.cpp knows (a home-made one: 136 of 300 sentences differed)"
    )
