"""Bridges from the employee's words to the document's: synonyms and katakana/English pairs.

`bridges_ja.txt` holds groups of general business and IT vocabulary, one group a line, words parted by
` | `. It is public general knowledge, written without looking at any question set.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from hagane.core.seams import Analyzer


class Bridges:
    """Groups of words that mean the same, as tuples of search terms."""

    def __init__(self, groups: list[list[tuple[str, ...]]]) -> None:
        self._by_first: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        self._groups = groups
        for number, group in enumerate(groups):
            for words in group:
                if words:
                    self._by_first.setdefault(words[0], []).append((words, number))

    @classmethod
    def load(cls, analyzer: Analyzer) -> Bridges:
        """The shipped groups, through `analyzer`."""
        text = files("hagane.rag").joinpath("bridges_ja.txt").read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        return cls([[tuple(analyzer.tokens(word)) for word in line.split("|")] for line in lines])

    def expand(self, question: str, own: Mapping[str, float], *, weight: float) -> dict[str, float]:
        """`own` and, at `weight` in all per word, the terms of the groups that its words belong to."""
        terms = dict(own)
        order = list(own)
        for at, first in enumerate(order):
            for words, number in self._by_first.get(first, ()):
                if tuple(order[at : at + len(words)]) != words:
                    continue
                for other in self._groups[number]:
                    for term in other:
                        terms.setdefault(term, weight / len(other))
        return terms
