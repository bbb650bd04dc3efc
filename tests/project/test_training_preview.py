"""A look at training data before anything runs: by whom it may be seen, complete, and nothing is written for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_company import Folder, company_in

from hagane.core.errors import NotFoundError, RefusedError
from hagane.core.labels import Clearance
from hagane.core.types import Principal
from hagane.project.training_preview import look
from hagane.project.wire import Project

HR = Principal("人事", Clearance.parse("confidential:hr"), ("ask", "build"))
STAFF = Principal("社員", Clearance.parse("internal"), ("ask", "build"))
READER = Principal("読者", Clearance.parse("confidential:hr"), ("ask",))
YAML = """\
name: kaisha
pretrain: {data: [{documents: []}, {file: 例.jsonl}], params: 2M}
tune: {data: [{file: 会話.jsonl, label: "confidential:hr"}]}
personal: {phone: mask}
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    folder: Folder = company_in(tmp_path / "company", synced=True)
    folder.write("train.yaml", YAML)
    folder.write("例.jsonl", '{"text": "連絡先は03-1234-5678です。"}\n{"text": ""}\n' + '{"text": "夏季休業は三日とする。"}\n')
    folder.write("会話.jsonl", json.dumps({"prompt": "有給は何日ですか", "completion": "十日です"}, ensure_ascii=False) + "\n")
    with Project.open(folder.path) as opened:
        yield opened


def test_documents_and_files_are_shown_within_the_clearance(project: Project):
    file = project.folder / "train.yaml"
    for by, n in ((HR, 4), (STAFF, 3)):
        told = look(project, file, "pretrain", by=by)
        rows, documents = told["origins"]
        assert (documents["n_rows"], rows["n_rows"], rows["masked"]) == (n, 2, 1)
        assert [(bad["line"], bad["reason"]) for bad in rows["bad"]] == [(2, "text is empty")]
        assert list(rows["shown"][0]["pieces"]) == [{"text": "連絡先は〔phone〕です。", "learnt": True}]
        assert told["personal"] == {"phone": 1}
        assert told["label"] == str(by.clearance)
    assert not (project.state / "datasets").exists()


def test_a_conversation_shows_what_is_learnt(project: Project):
    told = look(project, project.folder / "train.yaml", "tune", by=HR)
    assert list(told["origins"][0]["shown"][0]["pieces"]) == [{"text": "有給は何日ですか", "learnt": False}, {"text": "十日です", "learnt": True}]


def test_who_may_not_train_on_it_may_not_look_at_it(project: Project):
    file = project.folder / "train.yaml"
    with pytest.raises((RefusedError, NotFoundError)):
        look(project, file, "tune", by=STAFF)
    with pytest.raises(RefusedError, match="may not train"):
        look(project, file, "pretrain", by=READER)


def test_looking_is_on_record(project: Project):
    look(project, project.folder / "train.yaml", "pretrain", by=HR)
    last = [json.loads(line) for file in sorted((project.state / "audit").glob("*.jsonl")) for line in file.read_text("utf-8").splitlines()][-1]
    assert "training data" in json.dumps(last, ensure_ascii=False)
    assert "夏季休業" not in json.dumps(last, ensure_ascii=False)
