"""Verbs that ask: search and ask. Within a clearance, audited, never cached."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hagane.core.codec import citation_shown, place_shown
from hagane.core.errors import ChangedError, RefusedError, TooLargeError, UsageError
from hagane.core.labels import PUBLIC, Label, join
from hagane.core.types import Answer, AnswerPart, Passage, Principal
from hagane.rag.answer_rewrite import Turn, rewrite
from hagane.rag.retrieve import Retrieved

from .meanwhile import Reader, Sources
from .trained import Spoken, speaking
from .watch import watching
from .wire import Project

TRIES = 5  # of an extracted answer whose sources change under it
LONGEST = 20_000  # characters of a question: ten pages
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")


def check_question(question: str) -> None:
    """Raises: UsageError for an empty one and for what is no text; TooLargeError."""
    if not question.strip():
        raise UsageError("the question is empty", hint='hagane ask "..."')
    if len(question) > LONGEST:
        raise TooLargeError(f"the question has {len(question):,} characters; {LONGEST:,} are taken", hint="ask about one thing")
    if _NO_TEXT.search(question):
        raise UsageError("the question holds control characters", hint="send plain text, UTF-8")



def retrieve(project: Project, question: str, *, by: Principal, n: int | None = None) -> Retrieved:
    """The best passages that `by` may see. The ledger has the last word, asked behind the search: a label that
    was raised meanwhile, or that the index does not know yet, already counts."""
    found = project.retriever.retrieve(question, clearance=by.clearance, n=n)
    readable = project.ledger.marks.readable((p.chunk.document for p in found.passages), clearance=by.clearance)
    return replace(found, passages=tuple(p for p in found.passages if p.chunk.document in readable))


def search(project: Project, question: str, *, by: Principal, n: int = 10) -> dict[str, Any]:
    """Passages, scores and why, as `search --json` prints them."""
    check_question(question)
    project.require_synced()
    started = time.perf_counter()
    with watching(project, "search", asked=question) as seen:
        found = retrieve(project, question, by=by, n=n)
        seen.found = len(found.passages)
    seconds = time.perf_counter() - started
    project.ledger.audit.record(
        "search", principal=by.name, asked=project.ledger.audit.digest(question), chunks=_ids(found.passages), found=len(found.passages)
    )
    return {
        "passages": [passage_shown(passage) for passage in found.passages],
        "terms": dict(found.terms),
        "index": project.share_complete(),
        "timings_s": {name: round(value, 4) for name, value in found.timings_s.items()} | {"total": round(seconds, 4)},
    }


def passage_shown(passage: Passage) -> dict[str, Any]:
    """A passage as JSON."""
    chunk = passage.chunk
    return {
        "document": chunk.document,
        "path": chunk.path,
        "version": chunk.version,
        "label": str(chunk.label),
        "title": chunk.title,
        "headings": list(chunk.headings),
        "score": round(passage.score, 5),
        "why": dict(passage.why),
        "place": place_shown(chunk.blocks[0].place),
        "text": chunk.text,
    }


def _ids(passages: tuple[Passage, ...]) -> list[str]:
    """What was read: the ids of all its chunks, at most 200."""
    return [passage.chunk.id for passage in passages]


class Conversation:
    """Questions of one principal, each seen in the light of those before. Kept in memory only."""

    def __init__(
        self,
        project: Project,
        *,
        by: Principal,
        answerer: str | None = None,
        model: str | None = None,
        history: Sequence[Turn] = (),
        own: Label = PUBLIC,
        reader: Reader | None = None,
    ) -> None:
        """`own` is the label of what the person writes; `reader` is asked before each piece; `model` answers instead of
        hagane.yaml's. Raises: RefusedError, UnknownModelError, UsageError, ConfigError."""
        for turn in history:
            if not turn.label.flows_to(by.clearance):
                raise RefusedError(f"{by.name} may not go on with this conversation", hint="its label is above the clearance")
        self._project = project
        self._by = by
        self._speaking = speaking(project, answerer, model=model, by=by)
        self._answers = self._speaking.answers
        self._spoken = PUBLIC  # of the models that answered here
        self.turns = list(history)
        self._own = own
        self._reader = reader
        self.asked = ""  # the last question as it was searched
        self.read: tuple[Passage, ...] = ()  # what it found: an answer that was cut off may hold any of it

    @property
    def label(self) -> Label:
        """The join of everything that went into the conversation."""
        return join(self._own, self._spoken, *(turn.label for turn in self.turns))

    @property
    def models(self) -> tuple[str, ...]:
        """The node of the model that answers, where it was made here."""
        return (self._speaking.made,) if self._speaking.made else ()

    def ask(self, question: str, *, on_text: Callable[[str], None] | None = None) -> Answer:
        """The answer; `on_text` gets its pieces as they are sure. Raises: UsageError, AuditError, ModelError."""
        for piece in self.stream(question, whole=on_text is None):
            if isinstance(piece, Answer):
                return piece
            if on_text:
                on_text(piece.text)
        raise AssertionError("an answer ends with an Answer")

    def stream(self, question: str, *, whole: bool = False) -> Iterator[AnswerPart | Answer]:
        """Pieces with their citations, and last the whole Answer. `whole`: only that counts as given out."""
        with watching(self._project, "ask", asked=question) as seen, contextlib.closing(self._stream(question, whole)) as pieces:
            for piece in pieces:
                if isinstance(piece, Answer):
                    seen.found = len(self.read)
                    seen.answered(piece)
                else:
                    seen.piece()
                yield piece

    def _stream(self, question: str, whole: bool) -> Generator[AnswerPart | Answer, None, None]:
        """Where nothing was given out yet, an extracted answer whose sources left meanwhile is made anew from those
        that are there now: a clean-up beside it is no reason to fail. A model's answer costs too much for that."""
        check_question(question)
        self._project.require_synced()
        started = time.perf_counter()
        for tries in itertools.count(1):
            is_given = False
            try:
                with contextlib.closing(self._once(question, started)) as pieces:
                    for piece in pieces:
                        is_given = not whole
                        yield piece
                return
            except ChangedError:
                if is_given or tries == TRIES or self._answers.config.answerer != "extract":
                    raise

    def _once(self, question: str, started: float) -> Generator[AnswerPart | Answer, None, None]:
        project, by = self._project, self._by
        self._spoken = join(self._spoken, self._speaking.label(project, by=by))
        asked = rewrite(question, self.turns, analyzer=project.analyzer)
        found = retrieve(project, asked, by=by)
        self.asked, self.read = asked, found.passages
        searched = time.perf_counter() - started
        project.ledger.audit.record(
            "ask", principal=by.name, asked=project.ledger.audit.digest(question), chunks=_ids(found.passages),
            found=len(found.passages), answerer=self._answers.config.answerer, label=str(self.label),
        )  # fmt: skip
        made = self._answers.stream(
            asked, found.passages, statistics=found.statistics, label=self.label, index=project.share_complete(), own=question
        )
        sources = Sources(project, found.passages, clearance=by.clearance)
        spoken = Spoken(project, self._speaking.model, by=by, made=self._speaking.made)
        with contextlib.closing(made) as pieces:  # type: ignore[type-var]
            waiting = time.perf_counter()
            with project.turns if self._answers.config.answerer == "extract" else contextlib.nullcontext():
                waited = time.perf_counter() - waiting
                first = next(pieces)  # all the work is in it: with more at once than cores, each would wait for all
            for piece in itertools.chain((first,), pieces):
                is_last = isinstance(piece, Answer)
                self._spoken = join(self._spoken, spoken.check(last=is_last))
                label = join(self.label, sources.check(last=is_last))
                if self._reader is not None:
                    self._reader(label, last=is_last)
                if isinstance(piece, Answer):
                    total = time.perf_counter() - started
                    piece = replace(piece, label=join(piece.label, self._spoken), timings_s={"search": searched, "waited": waited, **piece.timings_s, "total": total})
                    self.turns.append(Turn(asked, piece.label))
                yield piece


def ask(project: Project, question: str, *, by: Principal, answerer: str | None = None, model: str | None = None) -> Answer:
    """One question, answered from the documents that `by` may see, or not answered."""
    return Conversation(project, by=by, answerer=answerer, model=model).ask(question)


def read_history(project: Project, file: Path | None) -> list[Turn]:
    """A conversation from a JSON list of {question, answer, label}. A turn without a label gets the
    project's default one. Raises: UsageError."""
    if file is None:
        return []
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        default = project.config.labels.default
        return [Turn(row["question"], project.label(row.get("label", default))) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise UsageError(f"{file} is not a conversation: {type(cause).__name__}",
                         hint='write [{"question": "...", "answer": "...", "label": "internal"}]') from cause  # fmt: skip


def answer_shown(answer: Answer) -> dict[str, Any]:
    """An answer as `ask --json` prints it."""
    return {
        "answer": answer.answer,
        "abstained": answer.abstained,
        "why": answer.why,
        "confidence": round(answer.confidence, 4),
        "label": str(answer.label),
        "citations": [citation_shown(citation) for citation in answer.citations],
        "nearest": [citation_shown(citation) for citation in answer.nearest],
        "index": dict(answer.index),
        "model": answer.model,
        "usage": {"input_tokens": answer.usage.input_tokens, "output_tokens": answer.usage.output_tokens},
        "timings_s": {name: round(value, 4) for name, value in answer.timings_s.items()},
    }
