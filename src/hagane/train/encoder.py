"""Rows to token ids: a text between the marks of its beginning and end, a conversation by its template.

What is asked of a tokenizer here is what llama.cpp does when the model is served: marks are whole tokens, and a text is
cut into tokens without any mark of the tokenizer's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from hagane.core.errors import ConfigError, UsageError

from .dataset import Encoder
from .template import Encoded, Family, Template, encode, family, source
from .tokenizer_kind import read_tokenizer
from .words import Message, Row

FORMAT = "1"  # raise it when the same rows become other tokens


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer of a folder with the template whose marks it has."""

    to_ids: Callable[[str], list[int]]
    to_text: Callable[[list[int]], str]
    ids: Mapping[str, int]
    n_tokens: int
    family: Family
    end_of_document: str
    fingerprint: str

    @property
    def ends(self) -> dict[str, int | None]:
        """bos_token_id, eos_token_id (what ends a turn) and pad_token_id for a model's config."""
        bos, pad = self.ids.get(self.family.bos), self.ids.get(self.end_of_document)
        return {"bos_token_id": bos, "eos_token_id": self.ids[self.family.end_of_turn], "pad_token_id": pad}

    def shown(self, ids: Sequence[int]) -> str:
        """Ids as text in which the marks stand, too: for people."""
        marks = {self.ids[mark]: mark for mark in (*self.family.specials, self.end_of_document) if mark in self.ids}
        groups = ((mark, list(some)) for mark, some in groupby(ids, key=lambda number: marks.get(number, "")))
        return "".join(mark * len(some) if mark else self.to_text(some) for mark, some in groups)


def tokenizer_in(file: Path) -> Any:
    """A tokenizer.json as it stands."""
    import tokenizers

    return tokenizers.Tokenizer.from_file(str(file))


def open_vocabulary(folder: Path, template: str) -> Vocabulary:
    """The tokenizer of a Hugging Face folder. Raises: NotFoundError, ModelError, UsageError for an unknown template;
    ConfigError where the tokenizer lacks one of its marks: it would be cut into letters and no turn would ever end."""
    import tokenizers

    table = read_tokenizer(folder)
    made = tokenizers.Tokenizer.from_str(json.dumps(table, ensure_ascii=False))
    ids = made.get_vocab(with_added_tokens=True)
    chosen = family(template)
    if (mark := chosen.end_of_turn) not in ids or (chosen.bos and (mark := chosen.bos) not in ids):
        raise ConfigError(
            f"the tokenizer has no token {mark}, which the template {template} needs: its turns would never end",
            hint="choose another tune.template, or a base with a chat template",
        )
    end = _end_of_document(folder, chosen, ids)
    digest = hashlib.sha256(json.dumps([FORMAT, table["model"], source(chosen.name), end], sort_keys=True).encode()).hexdigest()
    return Vocabulary(
        lambda text: made.encode(text, add_special_tokens=False).ids,
        lambda ids: made.decode(ids, skip_special_tokens=True),
        ids, len(ids), chosen, end, digest,
    )  # fmt: skip


def _end_of_document(folder: Path, chosen: Family, ids: Mapping[str, int]) -> str:
    said: dict[str, Any] = {}
    card = folder / "hagane.json"
    if card.is_file():
        said = json.loads(card.read_text(encoding="utf-8"))
    named = str(said.get("end_of_document", chosen.eos))
    return named if named in ids else chosen.end_of_turn


def encoder_of(vocabulary: Vocabulary) -> Encoder:
    """How rows become tokens. Text is learnt whole, with its end; of conversations what the assistant says.
    Preference pairs are not rows of one text: see `pairs`."""
    template = Template.of(vocabulary.family.name)
    begin = [vocabulary.ids[vocabulary.family.bos]] if vocabulary.family.bos else []
    end = vocabulary.ids[vocabulary.end_of_document]

    def ids_of(row: Row) -> Encoded:
        if row.kind == "preference":
            raise UsageError("preference pairs are learnt by `prefer`", hint="give tune prompts with their answers")
        if row.messages:
            return encode(template.render(row.messages), vocabulary.to_ids)
        ids = (*begin, *vocabulary.to_ids(template.parted(row.text or "")), end)  # a mark in a text is letters
        return Encoded(ids, (True,) * len(ids))

    return Encoder(vocabulary.fingerprint, vocabulary.n_tokens, ids_of)


def opening(vocabulary: Vocabulary, question: str | None) -> list[int]:
    """Ids from which a sample is written: a question by the template, or only the beginning of a text."""
    if question is None:
        return [vocabulary.ids[vocabulary.family.bos or vocabulary.end_of_document]]
    rendered = Template.of(vocabulary.family.name).render((Message("user", question),), ask=True)
    return [number for piece, _ in rendered.pieces() for number in vocabulary.to_ids(piece)]
