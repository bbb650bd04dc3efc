"""Which passages an answerer is measured on: those that were found, those of the gold documents, or all but those.

With the gold passages it is measured how well it reads; without them, whether it is silent where nothing answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

from hagane.core.errors import UsageError
from hagane.core.text import answer_key, folded_path
from hagane.core.types import Passage, Principal
from hagane.evals.metrics import is_gold
from hagane.evals.questions import Question
from hagane.rag.retrieve import Retrieved

from .questions import retrieve
from .wire import Project

PassageKind = Literal["found", "gold", "without-gold"]
Find = Callable[[Question], tuple[Retrieved, Sequence[Passage]]]  # what the search found, and what the answerer gets


def finder(project: Project, kind: PassageKind, *, by: Principal, depth: int) -> Find:
    """How a question gets its passages. `depth`: chunks that the search gives. Raises: UsageError for an unknown kind."""
    ways = {"found": _found, "gold": _gold, "without-gold": _without_gold}
    if kind not in ways:
        raise UsageError(f"passages are not {kind!r}", hint=f"one of {', '.join(get_args(PassageKind))}")
    return ways[kind](project, by, depth)


def asked_of(questions: Sequence[Question], kind: PassageKind) -> list[Question]:
    """The questions as they count: those without a gold document are left out where it is given or taken away, and
    none can be answered where it is taken away."""
    if kind == "found":
        return list(questions)
    chosen = [question for question in questions if question.answerable and question.gold_paths]
    if not chosen:
        raise UsageError("no question of the set names a gold document", hint='"gold_paths": ["rules/leave.md"]')
    return [replace(one, answerable=False) for one in chosen] if kind == "without-gold" else chosen


def _found(project: Project, by: Principal, depth: int) -> Find:
    def find(question: Question) -> tuple[Retrieved, Sequence[Passage]]:
        found = retrieve(project, question.question, by=by, n=depth)
        return found, found.passages[: project.config.retrieve.n]

    return find


def _gold(project: Project, by: Principal, depth: int) -> Find:
    """All passages of the gold documents, the best found first; the answerer gets no other."""
    records = project.ledger.documents.list(clearance=by.clearance, state="in")
    by_name: dict[str, list[int]] = {}
    for at, record in enumerate(records):
        by_name.setdefault(_name(record.path), []).append(at)

    def find(question: Question) -> tuple[Retrieved, Sequence[Passage]]:
        found = retrieve(project, question.question, by=by, n=depth)
        known = {passage.chunk.id: passage for passage in found.passages}
        places = {at for gold in question.gold_paths for at in by_name.get(_name(gold), ()) if is_gold(records[at].path, gold)}
        ids = [f"{records[at].version}:{n}" for at in sorted(places) for n in range(records[at].n_chunks)]
        least = min((passage.score for passage in found.passages), default=1.0)
        chunks = project.index.chunks(ids, clearance=by.clearance)
        passages = [known.get(chunk.id) or Passage(chunk, least) for chunk in chunks]
        return found, sorted(passages, key=lambda passage: -passage.score)

    return find


def _without_gold(project: Project, by: Principal, depth: int) -> Find:
    """What is found beside the gold documents and holds none of the answers' letters: near, and silent."""

    def find(question: Question) -> tuple[Retrieved, Sequence[Passage]]:
        found = retrieve(project, question.question, by=by, n=depth)
        keys = [key for answer in question.answers if (key := answer_key(answer))]
        passages = [
            passage
            for passage in found.passages
            if not any(is_gold(passage.chunk.path, gold) for gold in question.gold_paths)
            and not any(key in answer_key(passage.chunk.spoken) for key in keys)
        ]
        return found, passages[: project.config.retrieve.n]

    return find


def _name(path: str) -> str:
    return folded_path(path).rpartition("/")[2]
