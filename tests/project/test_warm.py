"""Warming up loads what a question needs, shows nothing and fails nobody."""

from __future__ import annotations

from small_company import Folder

from hagane.project.questions import search
from hagane.project.warm import warm, warm_soon
from hagane.project.wire import Project


def test_after_warming_the_parts_of_a_question_stand_ready_and_nothing_is_on_record(company: Folder):
    company.sync()
    log = company.path / ".hagane" / "audit" / "log.jsonl"
    before = log.read_bytes()
    with Project.open(company.path) as project:
        warm(project)
        assert {"index", "analyzer", "embedder"} <= project.__dict__.keys()
        assert log.read_bytes() == before
        assert search(project, "有給休暇は何日", by=project.principal("staff"))["passages"]


def test_a_project_without_documents_or_with_a_broken_index_is_left_alone(company: Folder):
    with Project.open(company.path) as project:
        warm(project)
        assert not (project.state / "ledger.db").exists()
    company.sync()
    for file in (company.path / ".hagane" / "index" / "words.lance" / "_versions").iterdir():
        file.write_bytes("壊れた".encode())
    with Project.open(company.path) as project:
        thread = warm_soon(project)
        thread.join(30)
        assert not thread.is_alive()
