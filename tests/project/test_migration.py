"""A project of an earlier hagane opens today, with nothing lost.

frozen/schema1.tar.xz: written by commit ca755c9 (before the server), with two versions of a document, a raised label,
an approved lowering and one that waits; was.json holds what that version said of it.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from small_company import Folder

from hagane.core.errors import StateError
from hagane.project import documents, people
from hagane.project.audit import verify
from hagane.project.questions import ask, search
from hagane.project.wire import Project

FROZEN = Path(__file__).parent / "frozen"


@pytest.fixture
def company(tmp_path: Path) -> Folder:
    with tarfile.open(FROZEN / "schema1.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    return Folder(tmp_path / "company")


@pytest.fixture
def was(company: Folder) -> dict[str, Any]:
    return json.loads((company.path / "was.json").read_text(encoding="utf-8"))


def test_documents_labels_and_versions_are_as_before(company: Folder, was: dict[str, Any]) -> None:
    with Project.open(company.path) as project:
        owner = project.principal()
        now = {row["path"]: row for row in documents.docs(project, by=owner)}
        for old in was["docs"]:
            assert {key: now[old["path"]][key] for key in old} == old
            shown = documents.show(project, old["id"], by=owner)
            assert [[v.id, v.current, str(v.label)] for v in shown.versions] == was["versions"][old["path"]]
        assert len(now) == len(was["docs"]) == 4
        assert documents.requests(project, by=owner) == was["requests"] != []
    assert "rules/経費.txt" not in company.docs(by="staff")
    assert "月額4,000円" in company.run(lambda project, by: documents.show(
        project, "在宅勤務.md", by=by, version=next(id for id, current, _ in was["versions"]["rules/在宅勤務.md"] if not current)
    )).document.text


def test_search_and_answers_are_as_before(company: Folder, was: dict[str, Any]) -> None:
    """With the index as it was, before any sync."""
    with Project.open(company.path) as project:
        by = {"領収書を紛失したとき": "owner", "通信費": "staff", "査定Sの昇給率": "hr"}
        for question, paths in was["found"].items():
            assert [p["path"] for p in search(project, question, by=project.principal(by[question]))["passages"]] == paths
        assert ask(project, "有給休暇は何日付与されますか", by=project.principal("staff")).answer == was["answer"] != ""


def test_the_audit_goes_on_where_it_was(company: Folder) -> None:
    with Project.open(company.path) as project:
        before = verify(project, expect=None)
        assert before["ok"] and before["count"] >= 12
        search(project, "通信費", by=project.principal("staff"))
        after = verify(project, expect=before["head"])
        assert after["ok"] and after["count"] == before["count"] + 1


def test_what_waited_can_be_approved_and_a_sync_loses_nothing(company: Folder, was: dict[str, Any]) -> None:
    company.run(documents.approve, was["requests"][0]["id"], by="officer")
    assert company.found("領収書を紛失したとき", by="staff")[0] == "rules/経費.txt"
    report = company.sync()
    assert (report.removed, report.aside, report.complete) == ([], [], True)
    assert {path: row["id"] for path, row in company.docs().items()} == {row["path"]: row["id"] for row in was["docs"]}
    assert company.docs()["rules/経費.txt"]["label"] == "internal"


def test_people_can_be_made_in_it(company: Folder) -> None:
    with Project.open(company.path) as project:
        secret = people.setup_secret(project)
        people.set_up(project, secret, name="管理者", password="正しい馬の電池ホチキス42")
        assert people.setup_secret(project) is None


def test_a_newer_schema_is_refused(company: Folder) -> None:
    with Project.open(company.path) as project:
        with project.ledger._db.writing() as connection:
            connection.exec_driver_sql("UPDATE schema SET version = 99")
        project.ledger.close()
    with Project.open(company.path) as again, pytest.raises(StateError, match="schema 99"):
        _ = again.ledger
