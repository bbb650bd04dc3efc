"""Chat templates: messages to text, and which characters of it a model is to generate (and so to learn).

One template per family in templates/, with `{% generation %}` around what the assistant says and the mark that ends
its turn. The same template, without these marks, goes into the Hugging Face folder and into GGUF: what is trained is
what is served. A text is cut at the borders of the generated spans before it becomes tokens, since a served model
is given its prompt in one piece, too: no token ever straddles the border, and the loss mask is exact.
"""

from __future__ import annotations

import re
import secrets
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from ..core.errors import ConfigError, UsageError, nearest
from .words import Message

_MARKER = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")
PART = "\u200b"  # an invisible space, as models/llama_worker.py puts into marks that stand in a message


@dataclass(frozen=True, slots=True)
class Family:
    """The marks of one chat template. `bos` is "" for families that begin with nothing."""

    name: str
    bos: str
    eos: str
    end_of_turn: str
    marks: tuple[str, ...]
    roles: tuple[str, ...]

    @property
    def specials(self) -> tuple[str, ...]:
        """Every mark once: beginning, end, end of turn, then the others."""
        return tuple(dict.fromkeys(mark for mark in (self.bos, self.eos, self.end_of_turn, *self.marks) if mark))


@dataclass(frozen=True, slots=True)
class Rendered:
    """Text for a model. `spans`: (start, end) in characters of what it generates; `learnt`: which of them earn loss."""

    text: str
    spans: tuple[tuple[int, int], ...]
    learnt: tuple[bool, ...]

    def pieces(self) -> list[tuple[str, bool]]:
        """The text cut at the borders of the spans: (piece, does it earn loss), none of them empty."""
        at, found = 0, []
        for (start, end), learnt in zip(self.spans, self.learnt, strict=True):
            found += [(self.text[at:start], False), (self.text[start:end], learnt)]
            at = end
        return [(piece, learnt) for piece, learnt in [*found, (self.text[at:], False)] if piece]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids and, for each, whether predicting it earns loss."""

    ids: tuple[int, ...]
    learnt: tuple[bool, ...]


BY_ARCHITECTURE = {"llama": "llama", "mistral": "mistral", "falcon": "falcon", "gemma": "gemma", "gemma3_text": "gemma",
                   "qwen2": "qwen", "qwen3": "qwen"}  # fmt: skip # `model_type` of a config.json to its usual template


@lru_cache(maxsize=1)
def _table() -> dict[str, Family]:
    text = files("hagane.train").joinpath("templates/families.toml").read_text(encoding="utf-8")
    return {
        name: Family(name, row["bos"], row["eos"], row["end_of_turn"], tuple(row["marks"]), tuple(row["roles"]))
        for name, row in tomllib.loads(text).items()
    }


def families() -> tuple[str, ...]:
    """The families there are."""
    return tuple(_table())


def family(name: str) -> Family:
    """Raises: UsageError for a family that is not there."""
    if name not in _table():
        raise UsageError(
            f"the template {name!r} is not one of {', '.join(_table())}",
            hint=f"did you mean {nearest(name, _table())!r}?",
        )
    return _table()[name]


def source(name: str) -> str:
    """The family's template with its `{% generation %}` marks."""
    return files("hagane.train").joinpath(f"templates/{family(name).name}.jinja").read_text(encoding="utf-8").strip()


def unmarked(template: str) -> str:
    """The template as others read it: comments that trim the same spaces stand for the `{% generation %}` marks."""
    return _MARKER.sub(r"{#\1 \3#}", template)


def _complain(message: str) -> str:
    raise ConfigError(f"the chat template refuses these messages: {message}")


class Template:
    """One compiled template. It sees messages and the two texts bos_token and eos_token, and can reach nothing else."""

    def __init__(self, text: str, kind: Family) -> None:
        """`text`: with `{% generation %}` marks. Raises: ConfigError when it has none or is no template."""
        from jinja2.exceptions import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self.family = kind
        self._key = secrets.token_hex(16)  # no message can contain it
        marks = [bool(found[2]) for found in _MARKER.finditer(text)]
        if not marks or marks != [False, True] * (len(marks) // 2):
            raise ConfigError(
                "the chat template does not say what the model generates",
                hint="put {% generation %} … {% endgeneration %} around the assistant's words and the end of turn",
            )
        marked = _MARKER.sub(self._said, text)
        room = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        room.globals["raise_exception"] = _complain
        try:
            self._template = room.from_string(marked)
        except TemplateError as cause:
            raise ConfigError(f"the chat template cannot be read: {cause}") from cause
        self._words = re.compile("|".join(map(re.escape, sorted(kind.specials, key=len, reverse=True))))
        self._check()

    def _said(self, found: re.Match[str]) -> str:
        """The key as text, in blocks that trim the same spaces as the marker in its place."""
        key = ("/" if found[2] else "") + self._key
        return f"{{%{found[1]} set _g = 0 %}}{{{{ '{key}' }}}}{{% set _g = 0 {found[3]}%}}"

    @classmethod
    def of(cls, name: str) -> Template:
        """The shipped template of a family."""
        return cls(source(name), family(name))

    def render(self, messages: Sequence[Message], *, ask: bool = False) -> Rendered:
        """`ask`: the text ends where the model's answer begins. Marks that stand in a message become letters.

        Raises: UsageError for no messages or a role that the family does not know; ConfigError from the template.
        """
        from jinja2.exceptions import TemplateError

        if not messages:
            raise UsageError("a conversation needs a message")
        for message in messages:
            if message.role not in self.family.roles:
                raise UsageError(
                    f"the template {self.family.name} has no role {message.role!r}",
                    hint=f"its roles are {', '.join(self.family.roles)}",
                )
        turns = [{"role": message.role, "content": self.parted(message.content)} for message in messages]
        values: dict[str, Any] = {"bos_token": self.family.bos, "eos_token": self.family.eos}
        try:
            text = self._template.render(messages=turns, add_generation_prompt=ask, **values)
        except TemplateError as cause:
            raise ConfigError(f"the chat template fails: {type(cause).__name__}") from cause
        return self._cut(text, [message.learn for message in messages if message.role == "assistant"])

    def parted(self, text: str) -> str:
        """`text` with an invisible space behind the first letter of each of the family's marks, as when it is served."""
        return self._words.sub(lambda found: found[0][0] + PART + found[0][1:], text)

    def _cut(self, text: str, learnt: list[bool]) -> Rendered:
        parts = text.split(self._key)
        spans, clean = [], ""
        for number, part in enumerate(parts):
            if number % 2:  # between the two keys; the closing one carries a "/" in front
                spans.append((len(clean), len(clean) + len(part) - 1))
            clean += part[:-1] if number % 2 else part
        if len(spans) != len(learnt):
            raise ConfigError(
                f"the chat template generates {len(spans)} turns of {len(learnt)} that the assistant takes"
            )
        return Rendered(clean, tuple(spans), tuple(learnt))

    def _check(self) -> None:
        """What a served model relies on. Raises: ConfigError for a template that breaks it."""
        ask = [Message("user", "有給休暇は何日ですか。")]
        whole = self.render([*ask, Message("assistant", "二十日です。"), *ask, Message("assistant", "はい。")])
        if any(not whole.text[start:end].endswith(self.family.end_of_turn) for start, end in whole.spans):
            raise ConfigError(
                "the chat template never ends a turn: a model trained with it would never stop",
                hint=f"{self.family.end_of_turn} belongs inside {{% generation %}} … {{% endgeneration %}}",
            )
        if self.render(ask, ask=True).text != whole.text[: whole.spans[0][0]]:
            raise ConfigError("the chat template asks for an answer with another text than it trains on")


def encode(rendered: Rendered, to_ids: Callable[[str], Sequence[int]]) -> Encoded:
    """Token ids of the rendered text. `to_ids` knows the family's marks and adds none of its own."""
    ids: list[int] = []
    learnt: list[bool] = []
    for piece, earns in rendered.pieces():
        found = to_ids(piece)
        ids += found
        learnt += [earns] * len(found)
    return Encoded(tuple(ids), tuple(learnt))
