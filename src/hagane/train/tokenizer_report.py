"""How well tokenizers fit: characters per token by domain, beside each other, and whether GGUF keeps them.

More characters per token is cheaper training, longer context and faster answers. Tokenizers come from Hugging Face
folders, or from GGUF files as the metadata that a checked header holds (this room opens none itself); what is measured is the text itself, without marks at its ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..core.errors import ModelError, UsageError
from .gguf_tokenizer import WHY, from_gguf
from .tokenizer_kind import Kind, check_kind, kind_of, read_tokenizer

GENERAL = ("japanese", "english", "code")
OWN = "own"
MAX_CHARACTERS = 2_000_000  # of a domain; more tells nothing new


@dataclass(frozen=True, slots=True)
class Fit:
    """One tokenizer. `characters_per_token` by domain; `kind` says whether GGUF keeps it, and why not."""

    name: str
    n_tokens: int
    kind: Kind
    characters_per_token: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """`characters`: how many each domain had. `fits`: in the order given."""

    characters: Mapping[str, int]
    fits: tuple[Fit, ...]

    def best(self, domain: str) -> str:
        """The name of the safe tokenizer with the most characters per token. Raises: UsageError when none is safe."""
        safe = [fit for fit in self.fits if fit.kind.is_safe]
        if not safe:
            raise UsageError("none of these tokenizers is kept by GGUF")
        return max(safe, key=lambda fit: fit.characters_per_token[domain]).name

    def table(self) -> str:
        """Markdown."""
        domains = list(self.characters)
        lines = [
            "| tokenizer | tokens | " + " | ".join(domains) + " | GGUF |",
            "|---|---:|" + "---:|" * len(domains) + "---|",
        ]
        for fit in self.fits:
            numbers = " | ".join(f"{fit.characters_per_token[domain]:.2f}" for domain in domains)
            lines.append(f"| {fit.name} | {fit.n_tokens:,} | {numbers} | {fit.kind.why or 'kept'} |")
        return "\n".join(lines)


Origin = Path | Mapping[str, Any]  # a Hugging Face folder, or the metadata of a GGUF file


def report(tokenizers: Mapping[str, Origin], own: Iterable[str] = ()) -> Report:
    """Measures each tokenizer on `own` texts and on short texts of general Japanese, English and code.

    Raises: UsageError for no tokenizer; NotFoundError, ModelError for a damaged one."""
    if not tokenizers:
        raise UsageError("a report needs a tokenizer", hint="name a Hugging Face folder or a GGUF file")
    texts: dict[str, list[str]] = {OWN: _some(own)} | {name: general(name) for name in GENERAL}
    texts = {name: rows for name, rows in texts.items() if rows}
    return Report(
        {name: sum(map(len, rows)) for name, rows in texts.items()},
        tuple(_fit(name, origin, texts) for name, origin in tokenizers.items()),
    )


def general(domain: str) -> list[str]:
    """Our own short texts of a domain: "japanese", "english" or "code"."""
    text = files("hagane.train").joinpath(f"samples/{domain}.txt").read_text(encoding="utf-8")
    return [text] if domain == "code" else text.splitlines()


def open_tokenizer(origin: Origin) -> tuple[Callable[[str], Sequence[int]], int, Kind]:
    """(text to ids, vocabulary size, kind) of a Hugging Face folder or a GGUF's metadata. Unsafe kinds are opened, too."""
    import tokenizers

    table = read_tokenizer(origin) if isinstance(origin, Path) else from_gguf(origin)
    why = table.pop(WHY, None)
    try:
        made = tokenizers.Tokenizer.from_str(json.dumps(table, ensure_ascii=False))
    except Exception as cause:  # the library raises plain Exception
        raise ModelError("the tokenizer cannot be opened", hint="fetch it again") from cause
    kind = kind_of(table)
    if why:
        kind = Kind(kind.name, kind.pre, why)
    return lambda text: made.encode(text, add_special_tokens=False).ids, made.get_vocab_size(), kind


def require_safe(origin: Origin) -> Kind:
    """The kind of a tokenizer that may be used for training. Raises: RefusedError with the reason for any other."""
    _, _, kind = open_tokenizer(origin)
    check_kind(kind)
    return kind


def _fit(name: str, origin: Origin, texts: Mapping[str, Sequence[str]]) -> Fit:
    to_ids, n_tokens, kind = open_tokenizer(origin)
    found = {}
    for domain, rows in texts.items():
        used = sum(len(to_ids(row)) for row in rows)
        found[domain] = sum(map(len, rows)) / max(1, used)
    return Fit(name, n_tokens, kind, found)


def _some(texts: Iterable[str]) -> list[str]:
    found, n_characters = [], 0
    for text in texts:
        if n_characters >= MAX_CHARACTERS:
            break
        found.append(text[: MAX_CHARACTERS - n_characters])
        n_characters += len(found[-1])
    return [text for text in found if text]
