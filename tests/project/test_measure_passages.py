"""Answers are measured on the passages that were found, on the gold ones alone, or on all but those."""

from __future__ import annotations

import json

import pytest

from hagane.core.errors import UsageError
from hagane.evals.questions import Question
from hagane.project.measure import evaluate_answers
from hagane.project.measure_passages import asked_of, finder
from hagane.project.wire import Project

ROWS = [
    {"id": "a", "question": "年次有給休暇は何日付与されますか?", "answer": "10日", "gold_paths": ["有給休暇.md"]},
    {"id": "b", "question": "在宅勤務の通信費は月額いくら?", "answer": "5,000円", "gold_paths": ["rules/在宅勤務.md"]},
    {"id": "c", "question": "査定Sの昇給率は?", "answer": "5.5%", "gold_paths": ["hr/給与レンジ.md"]},
    {"id": "d", "question": "社長の靴のサイズは?", "answerable": False},
]


@pytest.fixture
def asked(company, tmp_path):
    company.sync()
    file = tmp_path / "質問.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), "utf-8")

    def measure(passages, by=None, **given):
        return company.run(evaluate_answers, file, by=by, passages=passages, emit=lambda event: None, **given)

    return measure


def passages_of(company, row, kind, by=None):
    question = Question(row["id"], row["question"], True, tuple(row["gold_paths"]), (row["answer"],))
    with Project.open(company.path) as project:
        _, given = finder(project, kind, by=project.principal(by), depth=60)(question)
        return [passage.chunk.path for passage in given]


def test_gold_passages_are_those_of_the_gold_documents_and_no_other(company, asked):
    assert set(passages_of(company, ROWS[0], "gold")) == {"rules/有給休暇.md"}
    report = asked("gold")
    assert [case["id"] for case in report["cases"]] == ["a", "b", "c"], "one without a gold document has no gold passage"
    assert report["metrics"]["recall@1"] is None, "nothing was searched for"
    assert report["metrics"]["citation_recall"]["value"] == report["metrics"]["citation_precision"]["value"] == 1


def test_without_them_nothing_can_be_answered(company, asked):
    assert set(passages_of(company, ROWS[0], "without-gold")) == {"rules/経費.txt", "rules/在宅勤務.md", "hr/給与レンジ.md"}
    report = asked("without-gold")
    assert report["metrics"]["rejected"]["n"] == 3
    assert report["metrics"]["kept"] is None
    assert all(citation["path"] not in ROWS[0]["gold_paths"] for citation in report["cases"][0]["citations"])


def test_a_passage_that_holds_the_answer_elsewhere_is_taken_away_too(company):
    """Else a system that finds it is counted as inventing."""
    company.write("rules/写し.md", "# 写し\n\n別の箇所にも、休暇は１０ 日とある。\n")
    company.sync()
    assert "rules/写し.md" in passages_of(company, ROWS[0], "found")
    assert "rules/写し.md" not in passages_of(company, ROWS[0], "without-gold")


def test_gold_is_no_way_around_a_label(company, asked):
    """What staff may not see is not there, named or not."""
    assert passages_of(company, ROWS[2], "gold", by="hr") == ["hr/給与レンジ.md"]
    assert passages_of(company, ROWS[2], "gold", by="staff") == []
    case = asked("gold", by="staff")["cases"][2]
    assert case["abstained"]
    assert "5.5" not in json.dumps(case, ensure_ascii=False)


def test_a_sample_is_the_same_each_time(asked):
    whole = [case["id"] for case in asked("gold", limit=3, seed=7)["cases"]]
    assert [case["id"] for case in asked("gold", limit=2, seed=7)["cases"]] == whole[:2]
    assert sorted(whole) == ["a", "b", "c"]


def test_what_cannot_be_measured_is_said(asked):
    with pytest.raises(UsageError, match="gold"):
        asked_of([Question("1", "有休は?")], "gold")
    with pytest.raises(UsageError, match="passages"):
        asked("金")
