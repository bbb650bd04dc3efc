"""The answerer without a model: the supporting sentences themselves, verbatim, each with its mark.

One sentence where it stands out; a second and third of the same document where they score nearly as well: what a
person would underline to be sure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hagane.core.labels import Label
from hagane.core.seams import Analyzer, ChatModel, Embedder
from hagane.core.types import AnswerPart, Passage

from .answer import AnswerConfig
from .answer_choose import Scored, score_units, weights
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
        yield from quoted(scored, passages, n=self._n, citer=Citer(passages))


def quoted(scored: Sequence[Scored], passages: Sequence[Passage], *, n: int, citer: Citer) -> Iterator[AnswerPart]:
    """The sentences that `choose` takes, a line each, with their marks."""
    separator = ""
    for one in choose(scored, passages, n=n):
        unit = one.unit
        citation, is_new = citer.cite(unit.passage, unit.block, unit.start, unit.end)
        yield AnswerPart(f"{separator}{unit.text}[{citation.n}]", (citation,) if is_new else ())
        separator = "\n"


def choose(scored: Sequence[Scored], passages: Sequence[Passage], *, n: int) -> list[Scored]:
    """The sentences that make the answer, best first: the best one, and up to `n` in all of the same document that
    score nearly as well. [] when the best one and what stands around it hold no word of the question."""
    order = sorted(scored, key=lambda s: (-s.score, s.unit.passage, s.unit.place))
    if not order or order[0].share == 0:
        return []
    best = order[0]
    table = weights()["choose"]
    least = best.score - table["row_gap" if best.unit.is_row else "gap"]
    chosen, said = [best], {best.unit.text}
    for one in order[1:]:
        if len(chosen) == n or one.score < least:
            break
        same = passages[one.unit.passage].chunk.document == passages[best.unit.passage].chunk.document
        if same and one.share > 0 and one.unit.text not in said:
            chosen.append(one)
            said.add(one.unit.text)
    return chosen


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
