"""The answerer without a model: the supporting sentences themselves, verbatim, each with its mark.

One sentence as a rule; a second or third where the first alone does not hold the question: a question with
its answer (FAQ), an introduction with its list, sentences that hold what the first one lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hagane.core.labels import Label
from hagane.core.seams import Analyzer, ChatModel, Embedder
from hagane.core.types import AnswerPart, Passage

from .answer import AnswerConfig
from .answer_choose import Scored, score_units
from .answer_cite import Citer
from .answer_support import Asked, units


class Extract:
    """Answerer of one question. Yields one part per sentence, best first."""

    name = "extract"

    def __init__(
        self, known: Asked, *, analyzer: Analyzer, embedder: Embedder | None = None, n_sentences: int = 3
    ) -> None:
        self._known = known
        self._analyzer = analyzer
        self._embedder = embedder
        self._n = n_sentences

    def answer(self, asked: str, passages: Sequence[Passage]) -> Iterator[AnswerPart]:
        found = units(passages, self._analyzer)
        scored = score_units(self._known, passages, found, analyzer=self._analyzer, embedder=self._embedder)
        citer = Citer(passages)
        separator = ""
        for one in choose(self._known, scored, n=self._n):
            unit = one.unit
            citation, is_new = citer.cite(unit.passage, unit.block, unit.start, unit.end)
            yield AnswerPart(f"{separator}{unit.text}[{citation.n}]", (citation,) if is_new else ())
            separator = "\n"


def choose(known: Asked, scored: Sequence[Scored], *, n: int) -> list[Scored]:
    """The sentences that make the answer, best first; [] when none holds a word of the question."""
    order = sorted(scored, key=lambda s: (-s.score, s.unit.passage, s.unit.place))
    if not order or order[0].share == 0:
        return []
    return order[:1]


def build(
    known: Asked,
    *,
    analyzer: Analyzer,
    embedder: Embedder | None,
    model: ChatModel | None,
    config: AnswerConfig,
    label: Label,
) -> Extract:
    """What the table ANSWERERS calls."""
    return Extract(known, analyzer=analyzer, embedder=embedder, n_sentences=config.sentences)
