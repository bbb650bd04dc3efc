"""Company terms as tokens of their own in an open model's vocabulary, cut alike by transformers and by llama.cpp.

A term becomes a user-defined token: both find such tokens in the raw text first and cut what lies between them as before,
so every text without a new term keeps its tokens. transformers takes the leftmost term, llama.cpp the longest one first:
terms that could overlap each other are refused. A new row of the embedding (and of the head) is the mean of the rows of
the pieces that the term was cut into: the model begins where it was.

Legend: V rows of the vocabulary, D width.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..core.errors import ModelError, RefusedError, StorageError, UsageError
from ..core.labels import Label
from ..core.whole_file import write_whole
from .model_folder import check_folder, read_json
from .tensor_file import read_tensors, write_tensors
from .tokenizer import CARD
from .tokenizer_kind import check_kind, kind_of, read_tokenizer

MAX_TERMS, MAX_LETTERS = 10_000, 64
HEAD = "lm_head.weight"
EMBEDDINGS = ("model.embed_tokens.weight", "transformer.word_embeddings.weight")


@dataclass(frozen=True, slots=True)
class Extended:
    """A folder with a longer vocabulary. `added`: terms with a token of their own; `there`: those that had one already;
    `saved`: tokens that each added term once needed beyond one, together."""

    folder: Path
    added: tuple[str, ...]
    there: tuple[str, ...]
    n_tokens: int
    saved: int


def extend(folder: Path, terms: Sequence[str], out: Path, *, label: Label) -> Extended:
    """`folder` again as `out`, with `terms` in its vocabulary. `label`: of the terms, joined with the folder's own.

    Raises: UsageError for a term that is none, or a folder that is there; RefusedError for a vocabulary that GGUF would
    change, one that puts a space in front of texts, and terms that overlap; ModelError, StorageError."""
    import tokenizers

    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty", hint="name a new folder")
    config, files = check_folder(folder)
    table = read_tokenizer(folder)
    check_kind(kind_of(table))
    if _puts_spaces(table):
        raise RefusedError(
            "this tokenizer puts a space in front of each piece of text; behind a new term llama.cpp would put another",
            hint="take a base without it: Gemma, Llama 3, Qwen, or a tokenizer made here",
        )
    made = tokenizers.Tokenizer.from_str(json.dumps(table, ensure_ascii=False))
    words = made.get_vocab(with_added_tokens=True)
    n_before = max(words.values()) + 1
    if len(set(words.values())) != n_before:
        raise RefusedError("the vocabulary has holes, so new tokens would get other numbers in transformers")
    wanted = _checked(terms)
    there = tuple(term for term in wanted if len(made.encode(term, add_special_tokens=False).ids) == 1)
    added = tuple(term for term in wanted if term not in there)
    _check_apart([*added, *(row["content"] for row in table.get("added_tokens") or [])], added)
    pieces = {term: made.encode(term, add_special_tokens=False).ids for term in added}
    table["added_tokens"] = [*(table.get("added_tokens") or []), *_rows(added, n_before)]
    _write(folder, out, config, files, table, pieces, n_before, label)
    saved = sum(len(ids) - 1 for ids in pieces.values())
    return Extended(out, added, there, n_before + len(added), saved)


def _checked(terms: Sequence[str]) -> list[str]:
    found = list(dict.fromkeys(terms))
    if not found or len(found) > MAX_TERMS:
        raise UsageError(f"{len(found)} terms are not between 1 and {MAX_TERMS}")
    for number, term in enumerate(found, 1):
        odd = any(unicodedata.category(letter) in ("Cc", "Cs") for letter in term)
        if (
            term != term.strip()
            or not 2 <= len(term) <= MAX_LETTERS
            or odd
            or term != unicodedata.normalize("NFC", term)
        ):
            raise UsageError(
                f"term {number} cannot be a token",
                hint=f"2 to {MAX_LETTERS} letters, composed (NFC), no spaces at its ends",
            )
    return found


def _check_apart(every: Sequence[str], added: Sequence[str]) -> None:
    """No end of a term is the beginning of another (or of itself): then leftmost and longest-first agree.

    One inside another is fine: both take the longer one where it stands. Raises: RefusedError."""
    fronts: dict[str, str] = {}
    for term in every:
        for length in range(1, len(term)):
            fronts.setdefault(term[:length], term)
    new = frozenset(added)
    for term in every:
        for length in range(1, len(term)):
            other = fronts.get(term[-length:])
            if other is not None and (term in new or other in new):
                raise RefusedError(
                    f"two terms overlap: the last {length} letters of one ({len(term)} letters) begin another",
                    hint="leave one of them out: transformers and llama.cpp would cut texts with both in two ways",
                )


def _rows(added: Sequence[str], first: int) -> list[dict[str, Any]]:
    fixed = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return [{"id": first + number, "content": term, **fixed} for number, term in enumerate(added)]


def _puts_spaces(table: dict[str, Any]) -> bool:
    text = json.dumps([table.get("normalizer"), table.get("pre_tokenizer")])
    return '"Prepend"' in text or '"prepend_scheme": "always"' in text or '"prepend_scheme": "first"' in text


def _write(
    folder: Path, out: Path, config: dict[str, Any], files: Sequence[Path], table: dict[str, Any],
    pieces: dict[str, list[int]], n_before: int, label: Label,
) -> None:  # fmt: skip
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            for path in sorted(folder.iterdir()):
                weights = path.suffix in (".safetensors", ".model") or path.name.endswith(".index.json")
                if path.is_file() and not weights:
                    shutil.copyfile(path, part / path.name)
            tensors = {name: tensor for file in files for name, tensor in read_tensors(file).items()}
            n_rows = _lengthen(tensors, list(pieces.values()), n_before)
            write_tensors(part / "model.safetensors", tensors, notes={"format": "pt"})
            card = read_json(part / CARD) if (part / CARD).is_file() else {}
            own = Label.parse(str(card["label"])) if "label" in card else label
            for name, value in (
                ("tokenizer.json", table),
                ("config.json", config | {"vocab_size": n_rows}),
                (CARD, card | {"label": str(own.join(label)), "added_terms": len(pieces)}),
            ):
                write_whole(part / name, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode())
            (part / "base.json").unlink(missing_ok=True)  # it is no longer the file that it was made from
            part.replace(out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as cause:
        raise StorageError(f"{out.name} cannot be written: {cause.strerror}", hint="free space on the disk") from cause


def _lengthen(tensors: dict[str, torch.Tensor], pieces: Sequence[Sequence[int]], n_before: int) -> int:
    """A row for each term, the mean of its pieces' rows, in numbers as exact as the old ones; the rows there are now."""
    names = [name for name in (*EMBEDDINGS, HEAD) if name in tensors]
    if not names or names == [HEAD]:
        raise ModelError("the model has no embeddings that are known here", hint="fetch the folder again")
    n_rows = 0
    for name in names:
        old_VD = tensors[name]
        n_rows = max(old_VD.shape[0], n_before + len(pieces))
        new_VD = torch.cat([old_VD, old_VD.new_zeros(n_rows - old_VD.shape[0], old_VD.shape[1])])
        for number, ids in enumerate(pieces):
            new_VD[n_before + number] = old_VD[list(ids)].float().mean(0).to(old_VD.dtype)
        tensors[name] = new_VD
    return n_rows
