"""Reports: the metrics of small sets worked out by hand, the shape that --json prints."""

from __future__ import annotations

import json

import pytest

from hagane.core.labels import Label
from hagane.core.types import Answer, Citation, Place, Usage
from hagane.evals.questions import Question
from hagane.evals.run import (
    METRICS,
    Asked,
    Ranked,
    Report,
    compare,
    evaluate_answers,
    evaluate_cases,
    evaluate_retrieval,
)

INTERNAL = Label.parse("internal")


def results(*paths: str) -> list[Ranked]:
    return [Ranked(f"d-{path}", path, 1 / rank) for rank, path in enumerate(paths, 1)]


def said(text: str, *paths: str, confidence: float = 0.9, abstained: bool = False) -> Answer:
    citations = tuple(
        Citation(n, f"d-{path}", path, "v1", INTERNAL, Place(page=1), text) for n, path in enumerate(paths, 1)
    )
    return Answer(text, abstained, "", confidence, INTERNAL, citations, (), {"words": 1.0}, "extract", Usage(), {})


def values(report: Report) -> dict[str, float | None]:
    return {name: metric and round(metric.value, 6) for name, metric in report.metrics.items()}


QUESTIONS = [
    Question("1", "有休は?", True, ("休暇.md",), ("10日",), ("10日",)),
    Question("2", "旅費は?", True, ("旅費.md", "精算.md"), ("実費",)),
    Question("3", "制服は?", True, ("制服.md",)),
    Question("4", "靴は?", False),
]
FOUND = {
    "有休は?": results("規程/休暇.md", "x.md"),
    "旅費は?": results("x.md", "旅費.md", "y.md", "精算.md"),
    "制服は?": results(*(f"{n}.md" for n in range(10)), "制服.md"),
    "靴は?": results("x.md"),
}


def test_retrieval_by_hand() -> None:
    got = values(evaluate_retrieval(QUESTIONS, FOUND.__getitem__))
    assert got["recall@1"] == round(1 / 3, 6)
    assert got["recall@5"] == got["recall@10"] == round(2 / 3, 6)
    assert got["mrr@10"] == 0.5
    # Places 2 and 4 of two gold documents: (1/log2(3) + 1/log2(5)) / (1 + 1/log2(3)) = 0.650921
    assert got["ndcg@10"] == pytest.approx((1 + 0.650921 + 0) / 3, abs=1e-5)
    assert all(got[name] is None for name in ("exact", "f1", "must_contain", "citation_precision", "citation_recall"))
    assert all(got[name] is None for name in ("abstention_auroc", "kept", "rejected"))
    assert got["latency_p50_s"] >= 0


def test_answers_by_hand() -> None:
    answers = {
        "有休は?": said("10日。[1]", "規程/休暇.md", "x.md", confidence=0.9),
        "旅費は?": said("実費", confidence=0.2, abstained=True),
        "制服は?": said("なし", "x.md", confidence=0.5),
        "靴は?": said("", confidence=0.2, abstained=True),
    }
    report = evaluate_answers(QUESTIONS, answers.__getitem__)
    got = values(report)
    assert got["exact"] == got["f1"] == 0.5, "two have answers; who abstains scores 0 even if the words are right"
    assert got["must_contain"] == 1
    assert got["citation_precision"] == round(1 / 3, 6)
    assert report.metrics["citation_precision"].n == 3
    assert got["citation_recall"] == round(1 / 3, 6)
    assert got["abstention_auroc"] == round((1 + 0.5 + 1) / 3, 6)
    assert got["kept"] == round(2 / 3, 6)
    assert got["rejected"] == 1
    assert got["recall@1"] is None, "the system did not say what it found"


def test_answers_may_bring_what_they_found() -> None:
    report = evaluate_answers(QUESTIONS, lambda asked: Asked(said("?", confidence=0.5), FOUND[asked]))
    assert values(report)["mrr@10"] == 0.5


def test_unanswerable_questions_do_not_enter_the_other_metrics() -> None:
    wrong = Question("5", "靴は?", False, ("x.md",), ("黒",), ("黒",))
    report = evaluate_answers([wrong], lambda _: Asked(said("黒", "x.md"), results("x.md")))
    present = {name for name, metric in report.metrics.items() if metric}
    assert present == {"rejected", "latency_p50_s", "latency_p95_s"}
    assert report.metrics["rejected"].value == 0


def test_a_collapsed_copy_counts_as_its_kept_twin() -> None:
    copies = {"d-a.md": ["a.md", "写し/b.md"]}
    question = Question("1", "?", True, ("b.md",))
    both = Question("2", "?", True, ("a.md", "b.md"))
    report = evaluate_retrieval([question, both], lambda _: results("x.md", "a.md"), copies=copies)
    assert values(report)["mrr@10"] == 0.5
    assert values(report)["ndcg@10"] == round(0.6309297535, 6)
    unfound = evaluate_retrieval([both], lambda _: results("x.md"), copies=copies)
    assert unfound.cases[0].n_gold == 1
    cited = evaluate_answers([question], lambda _: said("?", "a.md"), copies=copies)
    assert values(cited)["citation_recall"] == 1


def test_ranks_count_documents_not_chunks() -> None:
    twice = [Ranked("d1", "x.md", 3), Ranked("d1", "x.md", 2), Ranked("d2", "a.md", 1)]
    report = evaluate_retrieval([Question("1", "?", True, ("a.md",))], lambda _: twice)
    assert report.cases[0].rank == 2
    assert [r.score for r in report.cases[0].retrieved] == [3, 1]


def test_the_printed_object_has_this_shape() -> None:
    answer = said("10日[1]", "規程/休暇.md")
    report = evaluate_answers(QUESTIONS[:1], lambda asked: Asked(answer, FOUND[asked]))
    got = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert list(got) == ["metrics", "cases"]
    assert tuple(got["metrics"]) == METRICS
    assert list(got["metrics"]["exact"]) == ["value", "low", "high", "n"]
    assert got["metrics"]["rejected"] is None
    (case,) = got["cases"]
    assert list(case) == [
        "id",
        "question",
        "retrieved",
        "rank",
        "answer",
        "abstained",
        "confidence",
        "citations",
        "latency_s",
        "scores",
    ]
    assert case["retrieved"][0] == {"document": "d-規程/休暇.md", "path": "規程/休暇.md", "score": 1.0}
    assert (case["id"], case["rank"], case["abstained"], case["confidence"]) == ("1", 1, False, 0.9)
    assert case["citations"][0]["quote"] == "10日[1]"


def test_interrupting_keeps_what_is_done() -> None:
    seen: list[tuple[int, int]] = []

    def search(asked: str) -> list[Ranked]:
        if asked == "制服は?":
            raise KeyboardInterrupt
        return FOUND[asked]

    report = evaluate_retrieval(QUESTIONS, search, progress=lambda *now: seen.append(now))
    assert report.interrupted
    assert len(report.cases) == report.metrics["recall@1"].n == 2
    assert seen == [(1, 4), (2, 4)]


def test_two_systems_are_compared_on_shared_questions() -> None:
    one = evaluate_retrieval(QUESTIONS, FOUND.__getitem__)
    other = evaluate_retrieval(QUESTIONS[:2], lambda _: results("x.md"))
    got = compare(one, other, "recall@5")
    assert (got.value, got.n) == (1.0, 2)
    assert compare(one, other, "exact") is None


def test_nothing_asked_gives_only_nulls() -> None:
    assert set(evaluate_retrieval([], FOUND.__getitem__).metrics.values()) == {None}


def test_errors_of_the_system_are_not_counted_as_wrong_answers() -> None:
    with pytest.raises(RuntimeError):
        evaluate_answers(QUESTIONS, lambda _: (_ for _ in ()).throw(RuntimeError("engine down")))


def test_a_system_may_be_given_the_whole_question() -> None:
    """Its gold passages, for one: `evaluate_answers` gives the words only."""
    seen: list[Question] = []

    def ask(question: Question) -> Answer:
        seen.append(question)
        return said("10日", *question.gold_paths)

    report = evaluate_cases(QUESTIONS[:1], ask)
    assert seen == QUESTIONS[:1]
    assert values(report)["citation_recall"] == 1


def test_every_case_says_what_it_scored() -> None:
    """So that parts of a set, measured apart, are put together again."""
    shown = evaluate_answers(QUESTIONS, lambda asked: said("10日", abstained=asked == "靴は?")).to_dict()
    first, *_, last = shown["cases"]
    assert first["scores"] == {"exact": 1, "f1": 1, "must_contain": 1, "citation_recall": 0, "kept": 1}
    assert last["scores"] == {"rejected": 1}
