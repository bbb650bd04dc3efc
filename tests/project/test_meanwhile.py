"""Erased is erased, also from the answer that was being made: stored turns, feedback, and what an officer is told."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_company import Folder, company_in

from hagane.core.accounts import Account
from hagane.core.errors import ChangedError, NotFoundError
from hagane.core.labels import Clearance, Label
from hagane.core.types import Principal
from hagane.ledger.audit import records
from hagane.project import chat, documents, feedback, meanwhile, people, questions
from hagane.project.wire import Project

LEAVE = "年次有給休暇は何日付与されますか？"
SOURCE = "rules/有給休暇.md"
CLEARANCE = Clearance.parse("internal")
WHO = Account("u_1", "tanaka", "田中", "builder", CLEARANCE, Principal("tanaka", CLEARANCE))


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return company_in(tmp_path_factory.mktemp("meanwhile") / "company", synced=True)


@pytest.fixture
def project(company: Folder, tmp_path: Path) -> Iterator[Project]:
    shutil.copytree(company.path, tmp_path / "company")
    with Project.open(tmp_path / "company") as opened:
        yield opened


def sync(project: Project) -> None:
    documents.sync(project, by=project.principal("owner"), yes=True, emit=lambda event: None)


def erase(project: Project) -> None:
    (project.folder / SOURCE).unlink()
    sync(project)


def lift(project: Project) -> None:
    documents.relabel(project, SOURCE, "restricted", by=project.principal("owner"), reason="監査の指摘")


def answered(project: Project) -> dict[str, Any]:
    *_, turn = chat.ask(project, WHO, LEAVE)
    assert isinstance(turn, dict)
    return turn


def kept(project: Project, conversation: str) -> dict[str, Any]:
    [turn] = project.ledger.conversations.turns(conversation)
    return dict(turn.answer)


@pytest.mark.parametrize("act", [erase, lift])
def test_an_answer_under_way_ends_when_its_source_leaves(project: Project, act: Any):
    stream = chat.ask(project, WHO, LEAVE)
    begun, _ = next(stream), next(stream)
    act(project)
    with pytest.raises(ChangedError):
        list(stream)
    assert isinstance(begun, chat.Begun)
    assert (kept(project, begun.conversation)["answer"], kept(project, begun.conversation)["why"]) == ("", "erased")


@pytest.mark.parametrize("act", [erase, lift])
def test_an_answer_is_stored_empty_when_its_source_left_in_the_last_moment(project: Project, act: Any, monkeypatch: pytest.MonkeyPatch):
    """Behind the last look: the writing transaction looks again."""
    monkeypatch.setattr(meanwhile.Sources, "check", lambda self, *, last=False: self.label)
    stream = chat.ask(project, WHO, LEAVE)
    begun, _ = next(stream), next(stream)
    act(project)
    *_, turn = stream
    assert isinstance(begun, chat.Begun)
    assert isinstance(turn, dict)
    assert (turn["answer"]["answer"], turn["answer"]["citations"]) == ("", [])
    sync(project)
    assert "10日" not in str(kept(project, begun.conversation))


def test_a_stopped_answer_whose_source_was_erased_is_stored_empty(project: Project):
    stream = chat.ask(project, WHO, LEAVE)
    begun, _ = next(stream), next(stream)
    erase(project)
    stream.close()
    assert isinstance(begun, chat.Begun)
    assert kept(project, begun.conversation)["why"] == "erased"


def test_a_lowered_label_does_not_end_an_answer(project: Project):
    """Only what takes rights away does."""
    lift(project)
    high = Clearance.parse("restricted:*")
    boss = Account("u_2", "suzuki", "鈴木", "builder", high, Principal("suzuki", high))
    stream = chat.ask(project, boss, LEAVE)
    next(stream), next(stream)
    documents.relabel(project, SOURCE, "internal", by=boss.principal, reason="公開済み")
    owner = project.principal("owner")
    [wish] = project.ledger.marks.open_requests(by=owner)
    project.ledger.marks.approve(wish.id, by=owner)
    *_, turn = stream
    assert isinstance(turn, dict)
    assert "10日" in turn["answer"]["answer"]


def test_feedback_is_refused_when_the_answer_was_erased_while_it_was_written(project: Project, monkeypatch: pytest.MonkeyPatch):
    turn = answered(project)
    seen = project.ledger.conversations.turn(turn["id"], user=WHO.id)
    erase(project)
    monkeypatch.setattr(feedback, "turn_of", lambda *given: seen)  # it was read a moment before
    with pytest.raises(ChangedError):
        feedback.give(project, WHO, turn["id"], "right_answer", text="10日です")
    assert feedback.export(project, by=project.principal("owner")) == []


def test_an_answer_from_an_old_version_leaves_with_its_document(project: Project):
    """The version gave way to newer ones long before the document was erased."""
    turn = answered(project)
    for n in range(project.config.versions.keep + 2):
        (project.folder / SOURCE).write_text(f"# 有給休暇\n\n年次有給休暇は{n}日を付与する。改定{n}。\n", encoding="utf-8")
        sync(project)
    cited = turn["answer"]["citations"][0]["version"]
    assert project.ledger.conversations.standing([cited]) == {}
    assert "10日" in kept(project, turn["conversation"])["answer"]
    lift(project)
    with pytest.raises(NotFoundError):
        chat.conversation(project, WHO, turn["conversation"])
    erase(project)
    assert kept(project, turn["conversation"])["why"] == "erased"


def test_an_officer_is_told_the_label_that_counts_now(project: Project):
    secret = people.setup_secret(project)
    assert secret is not None
    boss = people.set_up(project, secret, name="管理者", password="正しい馬の電池ホチキス42").caller
    people.create_user(project, "田中", role="reader", clearance="internal", by=boss.principal)
    account = project.ledger.accounts.find("田中")
    *_, turn = chat.ask(project, account, LEAVE)
    assert isinstance(turn, dict)
    officer = project.principal("owner")
    assert "田中 can see" in people.explain(project, "田中", turn["conversation"], by=officer)
    lift(project)
    said = people.explain(project, "田中", turn["conversation"], by=officer)
    assert "田中 cannot see" in said
    assert "restricted" in said


def test_the_record_names_every_chunk_that_was_read(project: Project, monkeypatch: pytest.MonkeyPatch):
    found = questions.retrieve(project, LEAVE, by=WHO.principal)
    chunk = found.passages[0]
    many = tuple(chunk for _ in range(200))
    monkeypatch.setattr(questions, "retrieve", lambda *given, **named: replace(found, passages=many))
    answered(project)
    record = [one for one in records(project.state / "audit") if one["act"] == "ask"][-1]
    assert record["chunks"] == [chunk.chunk.id] * 200
    assert record["found"] == 200


def test_sources_are_read_again_only_when_something_was_written(project: Project, monkeypatch: pytest.MonkeyPatch):
    passages = questions.retrieve(project, LEAVE, by=WHO.principal).passages
    looks: list[int] = []
    standing = project.ledger.conversations.standing
    monkeypatch.setattr(project.ledger.conversations, "standing", lambda ids: looks.append(1) or standing(ids))
    sources = meanwhile.Sources(project, passages, clearance=CLEARANCE)
    for _ in range(5):
        sources.check(last=True)
    assert len(looks) == 1
    project.ledger.remember(**{"何か": 1})
    assert sources.check(last=True) == Label.parse("internal")
    assert len(looks) == 2


def test_an_extracted_answer_is_made_anew_when_its_source_leaves_before_anything_was_given(project: Project, monkeypatch: pytest.MonkeyPatch):
    """A clean-up beside a question is no reason to fail it, and what left is not in the answer."""
    found: list[list[str]] = []
    retrieve = questions.retrieve

    def and_then_erase(*given: Any, **named: Any) -> Any:
        got = retrieve(*given, **named)
        found.append([passage.chunk.path for passage in got.passages])
        if len(found) == 1:
            erase(project)
        return got

    monkeypatch.setattr(questions, "retrieve", and_then_erase)
    answer = questions.ask(project, LEAVE, by=WHO.principal)
    assert [SOURCE in paths for paths in found] == [True, False]
    assert SOURCE not in [citation.path for citation in (*answer.citations, *answer.nearest)]
