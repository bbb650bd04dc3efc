"""Question sets load as written; a bad row is named by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hagane.core.errors import ConfigError, StateError, UsageError
from hagane.evals.questions import Question, from_squad, load, sample


def written(folder: Path, *rows: object) -> Path:
    path = folder / "質問.jsonl"
    path.write_text(
        "\n".join(r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in rows), encoding="utf-8"
    )
    return path


def test_fields_and_defaults(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"id": "q-1", "question": "有休は何日?", "gold_paths": ["./規程\\休暇.md"], "answer": "10日", "must_contain": ["10日|十日"], "kind": "fact"},
        "",
        {"question": "社長の靴は?", "answerable": False, "answer": None},
        {"question": "何日?", "answer": ["10日", "十日"], "gold_paths": "a.md", "id": 7},
    )  # fmt: skip
    assert load(path) == [
        Question("q-1", "有休は何日?", True, ("規程/休暇.md",), ("10日",), ("10日|十日",), {"kind": "fact"}),
        Question(3, "社長の靴は?", False),
        Question(7, "何日?", True, ("a.md",), ("10日", "十日")),
    ]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "not JSON"), ("[1]", "object"), ({"answer": "x"}, "question"), ({"question": " "}, "question"),
        ({"question": "何?", "answerable": "no"}, "answerable"), ({"question": "何?", "gold_paths": [1]}, "gold_paths"),
        ({"question": "何?", "answer": {"text": "x"}}, "answer"), ({"question": "何?", "must_contain": ["|"]}, "must_contain"),
        ({"question": "何?", "id": 1.5}, "id"), ({"question": "何?", "id": 1}, "line 1"),
        (r'{"question": "何\ud800?"}', "surrogate"), ("[" * 100_000, "nested"),
    ],
)  # fmt: skip
def test_bad_rows_are_named_by_line(tmp_path: Path, row: object, says: str) -> None:
    path = written(tmp_path, {"question": "よい質問?"}, row)
    with pytest.raises(ConfigError, match=f"質問.jsonl:2: .*{says}"):
        load(path)


def test_an_empty_or_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no questions"):
        load(written(tmp_path, "\n"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "ない.jsonl")


SQUAD = {
    "version": "1",
    "data": [
        {
            "title": "梅雨",
            "paragraphs": [
                {
                    "context": "梅雨は春から夏への移り変わりに雨の多い期間。\n",
                    "qas": [
                        {
                            "id": "a",
                            "question": "雨の多い期間は?",
                            "answers": [{"text": "梅雨", "answer_start": 0}] * 2,
                        },
                        {"id": "a", "question": "秋の雨は?", "is_impossible": True, "answers": []},
                    ],
                },
                {
                    "context": "北海道には無い。",
                    "qas": [{"question": "無いのは?", "answers": [{"text": "北海道"}, {"text": "北海道には"}]}],
                },
            ],
        }
    ],
}


def test_squad_becomes_files_and_questions(tmp_path: Path) -> None:
    source = tmp_path / "dev.json"
    source.write_text(json.dumps(SQUAD), encoding="utf-8")
    got = from_squad([source], tmp_path / "out")
    assert (got.n_paragraphs, got.n_questions) == (2, 3)
    assert sorted(p.name for p in got.paragraphs.iterdir()) == ["0000-000.txt", "0000-001.txt"]
    assert (got.paragraphs / "0000-000.txt").read_text(encoding="utf-8") == SQUAD["data"][0]["paragraphs"][0]["context"]
    first, impossible, third = load(got.questions)
    assert (first.id, first.answers, first.gold_paths) == ("a", ("梅雨",), ("paragraphs/0000-000.txt",))
    assert (impossible.answerable, impossible.gold_paths, impossible.answers) == (False, (), ())
    assert impossible.id not in ("a", "")
    assert third.answers == ("北海道", "北海道には")


def test_a_converted_set_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "dev.json"
    source.write_text(json.dumps(SQUAD), encoding="utf-8")
    from_squad([source], tmp_path / "out")
    with pytest.raises(StateError, match="already"):
        from_squad([source], tmp_path / "out")


def test_other_json_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "dev.json"
    for text in ('{"data": [{}]}', "[]", "梅雨"):
        source.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="SQuAD"):
            from_squad([source], tmp_path / "out")


@pytest.mark.long
def test_jaquad_dev_has_the_published_counts(shared: Path, tmp_path: Path) -> None:
    got = from_squad(sorted((shared / "data/jaquad/dev").glob("*.json")), tmp_path / "out")
    assert (got.n_paragraphs, got.n_questions) == (1431, 3939)
    assert len(load(got.questions)) == 3939


@pytest.mark.long
def test_handbook_questions_load(shared: Path) -> None:
    questions = load(shared / "data/handbook-ja/questions-dev.jsonl")
    assert len(questions) == 100
    assert {q.answerable for q in questions} == {True, False}


def test_a_smaller_sample_is_the_beginning_of_a_larger_one() -> None:
    """A measurement that goes on adds questions, it does not change them."""
    asked = [Question(n, f"第{n}問は?") for n in range(50)]
    assert sample(asked, 10, seed=7) == sample(asked, 30, seed=7)[:10]
    assert sample(asked, 10, seed=7) != sample(asked, 10, seed=8)
    assert sorted(one.id for one in sample(asked, 99, seed=7)) == list(range(50))
    with pytest.raises(UsageError):
        sample(asked, 0, seed=7)
