"""Stored answers of a model that was made here rise with what it learnt from, long after they were given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import made_model
import pytest
from small_company import company_in

from hagane.core.accounts import Account
from hagane.core.errors import NotFoundError
from hagane.core.labels import Clearance, Label
from hagane.core.types import Principal
from hagane.models.fake import FakeChat
from hagane.project import chat, feedback, trained
from hagane.project.wire import Project

QUESTION = "年次有給休暇は入社から何か月後に何日付与されますか?"
SAID = "年次有給休暇は、入社から6か月後に10日を付与する。[1]"
FILE = "s_file"
CLEARANCE = Clearance.parse("internal")
STAFF = Account("u_1", "tanaka", "田中", "builder", CLEARANCE, Principal("tanaka", CLEARANCE, ("ask", "build")))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """It answers with a model that learnt from a file which no answer reads."""
    with Project.open(company_in(tmp_path / "company", synced=True).path) as opened:
        opened.ledger.lineage.declare(FILE, Label.parse("internal"))
        opened.ledger.lineage.link([(made_model.put(opened, "our-llm").lineage, [FILE])])
        answer = opened.config.answer.model_copy(update={"answerer": "generate", "model": "our-llm"})
        opened.config = opened.config.model_copy(update={"answer": answer})
        record = trained.served(opened, "our-llm")
        assert record is not None
        model = FakeChat(SAID)
        model.close = lambda: None  # type: ignore[attr-defined]
        opened._models["our-llm"] = ((record.lineage, record.served, record.files, record.base), model)
        yield opened


def raise_label(project: Project) -> None:
    project.ledger.lineage.declare(FILE, Label.parse("restricted"))


def asked(project: Project) -> dict:
    *_, turn = chat.ask(project, STAFF, QUESTION)
    assert isinstance(turn, dict)
    assert (turn["answer"]["model"] != "extract", turn["label"]) == (True, "internal")
    assert turn["answer"]["answer"]
    return turn


def test_a_file_that_is_raised_closes_what_its_model_said(project: Project) -> None:
    turn = asked(project)
    feedback.give(project, STAFF, turn["id"], "right_answer", text="十日です。")
    raise_label(project)
    [listed] = chat.conversations(project, STAFF)
    assert (listed["closed"], listed["title"]) == (True, None)
    with pytest.raises(NotFoundError):
        chat.conversation(project, STAFF, turn["conversation"])
    assert feedback.listing(project, by=STAFF.principal) == []
    assert str(project.ledger.conversations.turns(turn["conversation"])[0].label) == "restricted"


def test_it_rises_too_when_the_model_was_removed_before(project: Project) -> None:
    turn = asked(project)
    trained.remove(project, "our-llm", by=project.principal())
    assert [one["closed"] for one in chat.conversations(project, STAFF)] == [False]
    raise_label(project)
    assert [one["closed"] for one in chat.conversations(project, STAFF)] == [True]
    assert str(project.ledger.conversations.turns(turn["conversation"])[0].label) == "restricted"
