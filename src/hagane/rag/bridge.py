"""Bridges from the employee's words to the document's: synonyms and katakana/English pairs.

`bridges_ja.txt` holds groups of general business and IT vocabulary, one group a line, words parted by
` | `. It is public general knowledge, written without looking at any question set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files

from hagane.core.seams import Analyzer

Word = tuple[str, ...]  # the search terms of one word or phrase


class Bridges:
    """Groups of words that mean the same."""

    def __init__(self, groups: Sequence[Sequence[Word]], analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._groups = [list(dict.fromkeys(word for word in group if word)) for group in groups]
        self._by_first: dict[str, list[tuple[Word, int]]] = {}
        for number, group in enumerate(self._groups):
            for word in group:
                self._by_first.setdefault(word[0], []).append((word, number))

    @classmethod
    def load(cls, analyzer: Analyzer) -> Bridges:
        """The shipped groups, through `analyzer`; made once per analyzer."""
        return _load(analyzer)

    def matches(self, terms: Sequence[str]) -> Iterator[tuple[Word, list[Word]]]:
        """(word that stands in `terms`, the other words of its group), as often as it fits."""
        for at, first in enumerate(terms):
            for word, number in self._by_first.get(first, ()):
                if tuple(terms[at : at + len(word)]) == word:
                    yield word, [other for other in self._groups[number] if other != word]

    def expand(self, own: Mapping[str, float], *, weight: float) -> dict[str, float]:
        """`own` and, at `weight` in all per word, the terms of the groups that its words belong to."""
        terms = dict(own)
        for _, others in self.matches(list(own)):
            for other in others:
                for term in other:
                    terms.setdefault(term, weight / len(other))
        return terms

    def hearing(self, question: str) -> Hearing:
        """An analyzer for texts that are read with `question` in mind."""
        also: dict[str, list[frozenset[str]]] = {}
        for word, others in self.matches(self._analyzer.tokens(question)):
            for term in word:
                also.setdefault(term, []).extend(frozenset(other) for other in others)
        return Hearing(self._analyzer, also)


@lru_cache(maxsize=4)
def _load(analyzer: Analyzer) -> Bridges:
    text = files("hagane.rag").joinpath("bridges_ja.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return Bridges([[tuple(analyzer.tokens(word)) for word in line.split("|")] for line in lines], analyzer)


class Hearing:
    """An analyzer that also hears a question's words where a text says them otherwise: for the question
    "休みは何日", the text "有給休暇" holds 休み too. `plain` is the analyzer behind it."""

    def __init__(self, plain: Analyzer, also: Mapping[str, Sequence[frozenset[str]]]) -> None:
        self.plain = plain
        self.name = plain.name
        self._also = also

    def tokens(self, text: str) -> list[str]:
        terms = self.plain.tokens(text)
        here = set(terms)
        heard = (t for t, ways in self._also.items() if t not in here and any(way <= here for way in ways))
        return [*terms, *heard]
