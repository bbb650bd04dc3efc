"""Labels flow: the lattice of sensitivity that every derived thing carries (DESIGN 2).

A label is a level and a set of compartments, written `LEVEL` or `LEVEL:c1+c2`.
`a.flows_to(b)` is the one question that the whole house asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from .errors import LabelError


class Level(IntEnum):
    """Four levels, ordered: 公開 < 社内 < 秘 < 極秘."""

    PUBLIC = 0
    INTERNAL = 1
    CONFIDENTIAL = 2
    RESTRICTED = 3

    @property
    def word(self) -> str:
        return self.name.lower()

    @property
    def japanese(self) -> str:
        return ("公開", "社内", "秘", "極秘")[self]


_LEVELS = {level.word: level for level in Level} | {level.japanese: level for level in Level}
_COMPARTMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
ALL = "*"


def _split(text: str, what: str) -> tuple[Level, list[str]]:
    if not isinstance(text, str):
        raise LabelError(f"{what} {text!r} is not text", hint="write LEVEL or LEVEL:c1+c2")
    word, _, rest = text.strip().partition(":")
    level = _LEVELS.get(word.strip().lower())
    if level is None:
        raise LabelError(
            f"{what} {text!r}: level {word!r} is not one of {', '.join(lv.word for lv in Level)}",
            hint="write LEVEL or LEVEL:c1+c2, for example confidential:hr",
        )
    names = [name.strip() for name in rest.split("+")] if rest.strip() else []
    if ":" in text and not names:
        raise LabelError(f"{what} {text!r} ends behind the colon", hint="write LEVEL or LEVEL:c1+c2")
    return level, names


def _check_names(names: Iterable[str], what: str, text: str) -> None:
    for name in names:
        if not _COMPARTMENT.fullmatch(name):
            raise LabelError(
                f"{what} {text!r}: compartment {name!r} is not a name",
                hint="use lower-case letters, digits, - and _, for example hr",
            )


@dataclass(frozen=True, slots=True)
class Label:
    """How sensitive a thing is. Partially ordered by `flows_to`; `join` is the least upper bound."""

    level: Level = Level.INTERNAL
    compartments: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Label:
        """`LEVEL` or `LEVEL:c1+c2`; English and Japanese level words. Raises: LabelError."""
        level, names = _split(text, "label")
        _check_names(names, "label", text)
        return cls(level, frozenset(names))

    def __str__(self) -> str:
        tail = ":" + "+".join(sorted(self.compartments)) if self.compartments else ""
        return self.level.word + tail

    def flows_to(self, other: Label | Clearance) -> bool:
        """True when whoever may see `other` may see this."""
        if isinstance(other, Clearance) and other.all_compartments:
            return self.level <= other.level
        return self.level <= other.level and self.compartments <= other.compartments

    def join(self, *others: Label) -> Label:
        """The least label that this one and all `others` flow to."""
        return join(self, *others)

    def lowers(self, before: Label) -> bool:
        """True when replacing `before` by this shows something to someone who could not see it."""
        return not before.flows_to(self)


PUBLIC = Label(Level.PUBLIC)


def join(*labels: Label) -> Label:
    """Least upper bound; of nothing, the bottom (`public`)."""
    level = max((label.level for label in labels), default=Level.PUBLIC)
    return Label(level, frozenset().union(*(label.compartments for label in labels)))


@dataclass(frozen=True, slots=True)
class Clearance:
    """What a principal may see: a level, and compartments or all of them (`restricted:*`)."""

    level: Level
    compartments: frozenset[str] = frozenset()
    all_compartments: bool = False

    @classmethod
    def parse(cls, text: str) -> Clearance:
        """`LEVEL`, `LEVEL:c1+c2` or `LEVEL:*`. Raises: LabelError."""
        level, names = _split(text, "clearance")
        if names == [ALL]:
            return cls(level, frozenset(), True)
        _check_names(names, "clearance", text)
        return cls(level, frozenset(names))

    def __str__(self) -> str:
        tail = ALL if self.all_compartments else "+".join(sorted(self.compartments))
        return self.level.word + (":" + tail if tail else "")

    def within(self, other: Clearance) -> bool:
        """True when `other` sees everything that this one sees."""
        inside = other.all_compartments or (not self.all_compartments and self.compartments <= other.compartments)
        return self.level <= other.level and inside


def join_clearances(first: Clearance, *others: Clearance) -> Clearance:
    """The least clearance that sees all that each of them sees (and more: a level of one in a compartment of another)."""
    every = (first, *others)
    if any(one.all_compartments for one in every):
        return Clearance(max(one.level for one in every), frozenset(), True)
    return Clearance(max(one.level for one in every), frozenset().union(*(one.compartments for one in every)))


Ceiling = Clearance  # what may flow to a destination; same shape, other end of the arrow
EVERYTHING = Clearance(Level.RESTRICTED, frozenset(), True)
