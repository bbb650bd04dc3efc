"""Passages to an answer with citations: judge first, then let an answerer speak, sentence by sentence.

    answers = Answers(analyzer, config=config, embedder=embedder, model=model)
    for piece in answers.stream(question, passages, statistics=statistics, label=label):
        ...  # AnswerPart, AnswerPart, ..., and last the whole Answer

Document text is data: nothing in it changes what is searched, called or sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from hagane.core import registry
from hagane.core.config import Config
from hagane.core.labels import Label, join
from hagane.core.seams import Analyzer, Answerer, ChatModel, Embedder
from hagane.core.types import Answer, AnswerPart, Citation, Passage, Statistics, Usage

from . import answer_confidence
from .answer_cite import Citer
from .answer_support import Asked, asked, own_words
from .bridge import Bridges

ANSWERERS = {
    "extract": "hagane.rag.answer_extract:build",
    "generate": "hagane.rag.answer_generate:build",
    "read": "hagane.rag.answer_read:build",
}


class AnswerConfig(Config):
    """How answers are made and when none is given."""

    answerer: str = Field("extract", description="extract: the supporting sentences themselves; read: a few words by a reader model; generate: a model")
    model: str = Field(
        "gemma3-270m", description="model of generate: a name that `hagane models` lists, or a GGUF file"
    )
    reader: str = Field("hagane-reader-ja", description="model of read: a name that `hagane models` lists")
    threshold: float = Field(
        0.18, ge=0, le=1, description="confidence below which the answer is that the documents do not say"
    )
    sentences: int = Field(3, ge=1, le=10, description="sentences in an extracted answer, at most")
    passages: int = Field(5, ge=1, le=50, description="passages that an answer is made from, best first")
    nearest: int = Field(3, ge=0, le=20, description="passages shown when there is no answer")
    max_tokens: int = Field(160, ge=16, description="tokens that a model may write for one answer")
    context: int = Field(4096, ge=512, description="tokens of question, passages and answer that a model gets")
    threads: int = Field(0, ge=0, description="processor threads of the model; 0: one less than there are, at most 8")
    evidence: int = Field(1200, ge=100, description="characters of the passages that a model gets to read")
    support: float = Field(
        0.5, ge=0, le=1, description="share of a generated sentence that its passage must hold, else it is dropped"
    )
    language: Literal["auto", "ja", "en"] = Field("auto", description="language of prompts; auto: of the question")

    def model_of(self, answerer: str) -> str:
        """The model that speaks for an answerer that needs one."""
        return self.reader if answerer == "read" else self.model


class Answers:
    """Answers questions from passages. Built once; safe for several threads as far as its model is."""

    def __init__(
        self,
        analyzer: Analyzer,
        *,
        config: AnswerConfig | None = None,
        embedder: Embedder | None = None,
        model: ChatModel | None = None,
    ) -> None:
        self.config = config or AnswerConfig()
        self._analyzer = analyzer
        self._embedder = embedder
        self._model = model
        self._build = registry.load(ANSWERERS, self.config.answerer, what="answerer")

    def stream(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        statistics: Statistics,
        label: Label,
        index: Mapping[str, float] | None = None,
        own: str | None = None,
    ) -> Iterator[AnswerPart | Answer]:
        """Parts as they are sure, and last the Answer. `own` is what the person wrote, where `question` was completed
        from the conversation: what was added counts half. `label` is the join of question and history;
        `passages` are within the asker's clearance, best first; `statistics` know the question's terms.
        Raises: ModelError."""
        started = time.perf_counter()
        known = asked(question, self._analyzer, statistics)
        if own is not None and own != question:
            known = known.favouring(own_words(own, self._analyzer))
        hearing = Bridges.load(self._analyzer).hearing(question)
        confidence = answer_confidence.confidence(known, passages, analyzer=hearing)
        judged = time.perf_counter()
        used = list(passages[: self.config.passages])
        parts: list[AnswerPart] = []
        why = _why_not(passages, confidence, self.config.threshold)
        answerer = self._answerer(known, hearing, join(label, *(p.chunk.label for p in used)))
        first = 0.0
        if not why:
            for part in answerer.answer(question, used):
                first = first or time.perf_counter() - started
                parts.append(part)
                yield part
            if not parts:
                why = getattr(answerer, "why", "") or "unsupported"
            elif getattr(answerer, "quoted", False):
                why = "quoted"
        citations = tuple(c for part in parts for c in part.citations)
        nearest = () if parts else nearest_of(known, passages, n=self.config.nearest, analyzer=hearing)
        yield Answer(
            answer="".join(part.text for part in parts).strip(),
            abstained=not parts,
            why=why,
            confidence=confidence,
            label=join(label, *(c.label for c in (*citations, *nearest)), *_read(answerer, used)),
            citations=citations,
            nearest=nearest,
            index=dict(index or {}),
            model=answerer.name,
            usage=getattr(answerer, "usage", Usage()),
            timings_s={
                "judge": judged - started,
                "first_part": first,
                "answer": time.perf_counter() - started,
            },
        )

    def _answerer(self, known: Asked, hearing: Analyzer, label: Label) -> Answerer:
        return self._build(
            known,
            analyzer=hearing,
            embedder=self._embedder,
            model=self._model,
            config=self.config,
            label=label,
        )


def _why_not(passages: Sequence[Passage], confidence: float, threshold: float) -> str:
    """A stable word for an abstention before any answerer spoke; "" when it may speak."""
    if not passages:
        return "nothing_found"
    return "low_confidence" if confidence < threshold else ""


def _read(answerer: Answerer, used: Sequence[Passage]) -> list[Label]:
    """Labels of everything that an answerer's model saw: an answer carries them, cited or not."""
    return [p.chunk.label for p in used] if getattr(answerer, "reads_all", False) else []


def nearest_of(known: Asked, passages: Sequence[Passage], *, n: int, analyzer: Analyzer) -> tuple[Citation, ...]:
    """The best place of each of the first `n` passages: what to show when there is no answer."""
    from .answer_choose import score_units
    from .answer_support import units

    citer = Citer(passages[:n])
    found = []
    for number, passage in enumerate(passages[:n]):
        scored = score_units(known, [passage], units([passage], analyzer), analyzer=analyzer)
        if scored:
            best = max(scored, key=lambda s: s.score).unit
            found.append(citer.cite(number, best.block, best.start, best.end)[0])
    return tuple(found)
