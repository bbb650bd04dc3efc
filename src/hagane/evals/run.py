"""Question sets against a system: a report of metrics with intervals, and one case per question.

Systems come in as callables, so anything that searches or answers can be measured. What each metric
means stands in `docs/measuring.md`; the formulas are in `metrics`, the intervals in `stats`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from hagane.core.codec import citation_shown
from hagane.core.types import Answer

from . import metrics as measures
from . import stats
from .questions import Question
from .stats import Difference, Metric

METRICS = (
    "recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10", "exact", "f1", "must_contain", "citation_precision",
    "citation_recall", "abstention_auroc", "kept", "rejected", "latency_p50_s", "latency_p95_s",
)  # fmt: skip

Progress = Callable[[int, int], None]  # questions done, questions in all
Copies = Mapping[str, Collection[str]]  # document id -> the paths of the document and of its collapsed copies


@dataclass(frozen=True, slots=True)
class Ranked:
    """One document of a result list, best chunk first."""

    document: str
    path: str
    score: float


@dataclass(frozen=True, slots=True)
class Asked:
    """What a system said, and the documents it had found (empty if it does not tell)."""

    answer: Answer
    retrieved: Sequence[Ranked] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """What happened to one question. `rank`: the first gold document's place; None if it was not found."""

    question: Question
    retrieved: tuple[Ranked, ...]
    ranks: tuple[int, ...]
    n_gold: int
    latency_s: float
    answer: Answer | None = None
    n_gold_citations: int = 0

    @property
    def rank(self) -> int | None:
        return min(self.ranks, default=None)

    def to_dict(self) -> dict[str, Any]:
        answer = self.answer
        return {
            "id": self.question.id,
            "question": self.question.question,
            "retrieved": [asdict(found) for found in self.retrieved],
            "rank": self.rank,
            "answer": answer.answer if answer else None,
            "abstained": answer.abstained if answer else None,
            "confidence": answer.confidence if answer else None,
            "citations": [citation_shown(citation) for citation in answer.citations] if answer else [],
            "latency_s": round(self.latency_s, 6),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """Metrics by name (None: no cases) and the cases in the order asked. `interrupted`: Ctrl-C cut the
    run short, and the figures are those of the questions asked until then."""

    metrics: Mapping[str, Metric | None]
    cases: tuple[Case, ...]
    values: Mapping[str, Mapping[str | int, float]] = field(default_factory=dict)  # metric -> question id -> value
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        shown = {name: asdict(metric) if metric else None for name, metric in self.metrics.items()}
        return {"metrics": shown, "cases": [case.to_dict() | {"scores": self._scores(case)} for case in self.cases]}

    def _scores(self, case: Case) -> dict[str, float]:
        """What one question got, by metric; only those it counts for."""
        id_ = case.question.id
        return {name: round(by_id[id_], 6) for name, by_id in self.values.items() if id_ in by_id}


def evaluate_retrieval(
    questions: Sequence[Question],
    search: Callable[[str], Sequence[Ranked]],
    *,
    copies: Copies | None = None,
    progress: Progress | None = None,
) -> Report:
    """Search every question. Unanswerable ones are searched too, but enter only the latency."""

    def ask(question: Question) -> Case:
        start = time.perf_counter()
        found = search(question.question)
        return _case(question, found, time.perf_counter() - start, copies or {})

    return _report(*_run(questions, ask, progress), kind="retrieval")


def evaluate_answers(
    questions: Sequence[Question],
    ask: Callable[[str], Asked | Answer],
    *,
    copies: Copies | None = None,
    progress: Progress | None = None,
) -> Report:
    """Ask every question. Retrieval is measured too where `ask` tells what it found."""
    return evaluate_cases(questions, lambda question: ask(question.question), copies=copies, progress=progress)


def evaluate_cases(
    questions: Sequence[Question],
    ask: Callable[[Question], Asked | Answer],
    *,
    copies: Copies | None = None,
    progress: Progress | None = None,
) -> Report:
    """As `evaluate_answers`, for systems that are given more than the question: its gold passages, or others."""

    def put(question: Question) -> Case:
        start = time.perf_counter()
        said = ask(question)
        latency = time.perf_counter() - start
        if isinstance(said, Answer):
            said = Asked(said)
        return _case(question, said.retrieved, latency, copies or {}, said.answer)

    return _report(*_run(questions, put, progress), kind="answers")


def compare(one: Report, other: Report, metric: str) -> Difference | None:
    """`one` minus `other` on the questions that both measured; None without any."""
    mine, theirs = one.values.get(metric, {}), other.values.get(metric, {})
    shared = [id_ for id_ in mine if id_ in theirs]
    return stats.difference([mine[id_] for id_ in shared], [theirs[id_] for id_ in shared])


# --- one question -------------------------------------------------------------------------------


def _run(
    questions: Sequence[Question], ask: Callable[[Question], Case], progress: Progress | None
) -> tuple[list[Case], bool]:
    cases: list[Case] = []
    try:
        for question in questions:
            cases.append(ask(question))
            if progress:
                progress(len(cases), len(questions))
    except KeyboardInterrupt:
        return cases, True
    return cases, False


def _case(
    question: Question, found: Sequence[Ranked], latency_s: float, copies: Copies, answer: Answer | None = None
) -> Case:
    retrieved = tuple({item.document: item for item in reversed(found)}.values())[::-1]  # documents, best place kept
    golds = _golds(question, copies)
    ranks, n_gold = measures.gold_ranks([_paths(item.document, item.path, copies) for item in retrieved], golds)
    shown = answer.citations if answer else ()
    n_right = sum(
        any(measures.is_gold(path, gold) for path in _paths(c.document, c.path, copies) for gold in question.gold_paths)
        for c in shown
    )
    return Case(question, retrieved, tuple(ranks), n_gold, latency_s, answer, n_right)


def _paths(document: str, path: str, copies: Copies) -> Collection[str]:
    return (path, *copies.get(document, ()))


def _golds(question: Question, copies: Copies) -> list[str]:
    """The gold paths, one for each document: a page and its collapsed copy are one."""
    golds = list(dict.fromkeys(question.gold_paths))
    if len(golds) > 1:
        for paths in copies.values():
            same = [gold for gold in golds if any(measures.is_gold(path, gold) for path in paths)]
            golds = [gold for gold in golds if gold not in same[1:]]
    return golds


# --- the report ---------------------------------------------------------------------------------


def _report(cases: Sequence[Case], interrupted: bool, *, kind: Literal["retrieval", "answers"]) -> Report:
    found: dict[str, Metric | None] = dict.fromkeys(METRICS)
    answerable = [case for case in cases if case.question.answerable]
    values: dict[str, dict[str | int, float]] = {}
    if kind == "retrieval" or any(case.retrieved for case in cases):
        values |= _retrieval_values([case for case in answerable if case.question.gold_paths])
    if kind == "answers":
        values |= _answer_values(answerable)
        values["rejected"] = {
            c.question.id: float(c.answer.abstained) for c in cases if not c.question.answerable and c.answer
        }
        found["citation_precision"] = stats.ratio(
            [(c.n_gold_citations, len(c.answer.citations)) for c in answerable if c.answer and c.question.gold_paths]
        )
        found["abstention_auroc"] = stats.auroc(
            [case.answer.confidence for case in cases if case.answer],
            [case.question.answerable for case in cases if case.answer],
        )
    found |= {name: stats.mean(list(by_id.values())) for name, by_id in values.items()}
    latencies = [case.latency_s for case in cases]
    found["latency_p50_s"] = stats.percentile(latencies, q=50)
    found["latency_p95_s"] = stats.percentile(latencies, q=95)
    return Report(found, tuple(cases), values, interrupted)


def _by_id(cases: Iterable[Case], value: Callable[[Case], float]) -> dict[str | int, float]:
    return {case.question.id: value(case) for case in cases}


def _retrieval_values(cases: Sequence[Case]) -> dict[str, dict[str | int, float]]:
    """Of the answerable questions with gold documents."""
    values = {f"recall@{k}": _by_id(cases, lambda case, k=k: measures.recall(case.ranks, k=k)) for k in (1, 5, 10)}
    values["mrr@10"] = _by_id(cases, lambda case: measures.reciprocal_rank(case.ranks))
    values["ndcg@10"] = _by_id(cases, lambda case: measures.ndcg(case.ranks, case.n_gold))
    return values


def _answer_values(cases: Sequence[Case]) -> dict[str, dict[str | int, float]]:
    """Of the answerable questions; who abstains scores 0."""

    def said(measure: Callable[[str, Iterable[str]], float], case: Case, wanted: Sequence[str]) -> float:
        return measure(case.answer.answer, wanted) if case.answer and not case.answer.abstained else 0.0

    answered = [case for case in cases if case.question.answers]
    return {
        "exact": _by_id(answered, lambda case: said(measures.exact, case, case.question.answers)),
        "f1": _by_id(answered, lambda case: said(measures.f1, case, case.question.answers)),
        "must_contain": _by_id(
            (case for case in cases if case.question.must_contain),
            lambda case: said(measures.must_contain, case, case.question.must_contain),
        ),
        "citation_recall": _by_id(
            (case for case in cases if case.question.gold_paths), lambda case: float(case.n_gold_citations > 0)
        ),
        "kept": _by_id(cases, lambda case: float(case.answer is not None and not case.answer.abstained)),
    }
