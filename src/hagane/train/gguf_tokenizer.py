"""The tokenizer in a GGUF file's metadata as tokenizer.json, and as the tokenizer's part of a Hugging Face folder.

The metadata comes from a checked header: this room opens no GGUF file itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from .tokenizer import DECODER, begins, merges_of
from .tokenizer_kind import SPACE, check_kind, kind_of, known_regexes

WHY = "hagane_why"  # of the table: why figures made with it are approximate, else None
_CONTROL, _USER_DEFINED = 3, 4
_FRONT = "tokenizer.ggml."


def write_tokenizer(values: Mapping[str, Any], folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json and the chat template in `folder`. Raises: ModelError; RefusedError for
    a vocabulary that transformers would cut otherwise than llama.cpp."""
    table = from_gguf(values)
    check_kind(kind_of(table))
    if why := table.pop(WHY):
        raise ModelError(f"this vocabulary cannot be kept: {why}")
    words = values[_FRONT + "tokens"]
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    marks = {
        name: words[number]
        for key, name in names.items()
        if isinstance(number := values.get(f"{_FRONT}{key}_token_id"), int)
    }
    usual = values[_FRONT + "model"] == "llama"  # llama.cpp's own default
    if "bos_token" in marks and values.get(_FRONT + "add_bos_token", usual):
        table["post_processor"] = begins(marks["bos_token"], words.index(marks["bos_token"]))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **marks,
    }
    folder.mkdir(parents=True, exist_ok=True)
    if template := values.get("tokenizer.chat_template"):
        settings["chat_template"] = template
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    for name, value in (("tokenizer.json", table), ("tokenizer_config.json", settings)):
        (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def from_gguf(values: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer.json of a GGUF file's vocabulary. Raises: ModelError for a kind that cannot be read."""
    said = {key.removeprefix(_FRONT): value for key, value in values.items() if key.startswith(_FRONT)}
    kind, words = said.get("model"), said.get("tokens") or []
    types = said.get("token_type") or [1] * len(words)
    if len(types) != len(words) or (kind == "llama" and len(said.get("scores") or []) != len(words)):
        raise ModelError("the vocabulary is not sound: words, kinds and scores differ in number", hint="fetch it again")
    vocabulary = {word: number for number, word in enumerate(words)}
    added = [
        {"id": number, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": types[number] == _CONTROL}
        for number, word in enumerate(words)
        if types[number] in (_CONTROL, _USER_DEFINED) and word
    ]  # fmt: skip
    table: dict[str, Any] = {"version": "1.0", "added_tokens": added, WHY: None}
    if kind == "llama":
        return table | _spm(vocabulary, types, said)
    if kind == "gpt2":
        return table | _byte_level(vocabulary, said)
    raise ModelError(f"this file has a vocabulary of the kind {kind!r}, which is not read here")


def _spm(vocabulary: dict[str, int], types: Sequence[int], said: Mapping[str, Any]) -> dict[str, Any]:
    scores = {word: float(said["scores"][number]) for word, number in vocabulary.items() if types[number] in (1, 4)}
    model = {"type": "BPE", "byte_fallback": True, "fuse_unk": True, "unk_token": None, "vocab": vocabulary,
             "merges": merges_of(scores, vocabulary)}  # fmt: skip
    steps: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]
    if said.get("add_space_prefix", True):
        steps.insert(0, {"type": "Prepend", "prepend": SPACE})
    return {
        "model": model,
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": DECODER,
    }


def _byte_level(vocabulary: dict[str, int], said: Mapping[str, Any]) -> dict[str, Any]:
    pairs = [pair.split(" ") for pair in said.get("merges") or []]
    row = known_regexes().get(str(said.get("pre")))
    why = (
        None
        if row is not None
        else f"its regex {said.get('pre')!r} is not one that is known here: figures are approximate"
    )
    row = row or known_regexes()["qwen2"]
    steps: list[dict[str, Any]] = [{"type": "Digits", "individual_digits": True}] if row.get("digits") else []
    steps += [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        for regex in row["regexes"]
    ]
    last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": not row["regexes"]}
    return {
        "model": {"type": "BPE", "byte_fallback": False, "vocab": vocabulary, "merges": pairs},
        "normalizer": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, last]},
        WHY: why,
    }
