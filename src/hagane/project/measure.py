"""Verbs that measure: eval retrieval, eval answers, eval convert."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hagane.core.errors import IncompleteError
from hagane.core.types import Answer, Passage, Principal
from hagane.evals import questions as question_sets
from hagane.evals import run
from hagane.evals.questions import Question
from hagane.evals.stats import SEED

from .measure_passages import PassageKind, asked_of, finder
from .questions import retrieve
from .trained import speaking
from .wire import Project

Emit = Callable[[dict[str, Any]], None]
DEPTH = 60  # chunks looked at for a ranking of documents: ten documents and more


def evaluate_retrieval(
    project: Project, questions: Path, *, by: Principal, allow_incomplete: bool = False, emit: Emit
) -> dict[str, Any]:
    """The report of `evals.run` as JSON. Raises: ConfigError (a bad row), IncompleteError."""
    asked = _begin(project, questions, by=by, allow_incomplete=allow_incomplete, what="retrieval")

    def search(question: str) -> list[run.Ranked]:
        return ranked(retrieve(project, question, by=by, n=DEPTH).passages)

    return _finished(run.evaluate_retrieval(asked, search, copies=copies(project, by=by), progress=_progress(emit)))


def evaluate_answers(
    project: Project,
    questions: Path,
    *,
    by: Principal,
    answerer: str | None = None,
    model: str | None = None,
    passages: PassageKind = "found",
    limit: int | None = None,
    seed: int = SEED,
    allow_incomplete: bool = False,
    emit: Emit,
) -> dict[str, Any]:
    """As `evaluate_retrieval`, with answers, citations and abstention. `passages`: what the answerer gets; `limit`: only
    so many of the questions, drawn by `seed`. Raises: UsageError and UnknownModelError, too."""
    asked = asked_of(_begin(project, questions, by=by, allow_incomplete=allow_incomplete, what="answers"), passages)
    if limit is not None:
        asked = question_sets.sample(asked, limit, seed=seed)
    answers = speaking(project, answerer, model=model, by=by).answers
    find = finder(project, passages, by=by, depth=max(DEPTH, project.config.retrieve.n))

    def ask(question: Question) -> run.Asked:
        found, given = find(question)
        pieces = answers.stream(question.question, given, statistics=found.statistics, label=project.label("public"))
        said = next(piece for piece in pieces if isinstance(piece, Answer))
        return run.Asked(said, ranked(found.passages) if passages == "found" else ())

    return _finished(run.evaluate_cases(asked, ask, copies=copies(project, by=by), progress=_progress(emit)))


def _begin(project: Project, questions: Path, *, by: Principal, allow_incomplete: bool, what: str) -> list[Any]:
    project.require_synced()
    asked = question_sets.load(questions)
    share = project.share_complete()
    if min(share.values()) < 1 and not allow_incomplete:
        raise IncompleteError(
            f"the index is not complete: words {share['words']:.0%}, vectors {share['vectors']:.0%}",
            hint="hagane sync, or measure it as it is with --allow-incomplete",
        )
    sha256 = hashlib.sha256(questions.read_bytes()).hexdigest()
    project.ledger.audit.record("eval", principal=by.name, what=what, questions=project.ledger.audit.file_digest(sha256), n=len(asked))
    return asked


def _finished(report: run.Report) -> dict[str, Any]:
    """The report as JSON; figures of a run that was cut short are nobody's figures."""
    if report.interrupted:
        raise KeyboardInterrupt
    return report.to_dict()


def _progress(emit: Emit) -> run.Progress:
    return lambda done, total: emit({"event": "questions", "done": done, "total": total})


def ranked(passages: Sequence[Passage]) -> list[run.Ranked]:
    """Documents in the order of their best chunk."""
    best: dict[str, run.Ranked] = {}
    for passage in passages:
        chunk = passage.chunk
        best.setdefault(chunk.document, run.Ranked(chunk.document, chunk.path, round(passage.score, 6)))
    return list(best.values())


def copies(project: Project, *, by: Principal) -> dict[str, list[str]]:
    """For each kept document its path and those of its collapsed copies."""
    found: dict[str, list[str]] = {}
    records = {record.id: record for record in project.ledger.documents.list(clearance=by.clearance)}
    for record in records.values():
        if record.duplicate_of in records:
            found.setdefault(record.duplicate_of, [records[record.duplicate_of].path]).append(record.path)
    return found


def convert_squad(files: Sequence[Path], out: Path) -> dict[str, Any]:
    """SQuAD-style files to one text file per paragraph and a question set."""
    made = question_sets.from_squad(files, out)
    return {"folder": str(made.paragraphs), "file": str(made.questions), "paragraphs": made.n_paragraphs, "questions": made.n_questions}
