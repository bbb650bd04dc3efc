"""Conversations that are kept: whole turns only, the join of what went into them, closed when that is no longer theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_company import Folder, company_in

from hagane.core.accounts import Account
from hagane.core.errors import ModelError, NotFoundError, StateError
from hagane.core.labels import Clearance, Label, Level
from hagane.core.types import Answer, AnswerPart, Principal
from hagane.project import chat, documents, feedback, questions, suggestions
from hagane.project.wire import Project

SALARY = "等級4の月額基本給はいくらですか？"
LEAVE = "年次有給休暇は何日付与されますか？"


def account(clearance: str, *, id: str = "u_1") -> Account:
    given = Clearance.parse(clearance)
    return Account(id, "tanaka", "田中", "builder", given, Principal("tanaka", given))


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return company_in(tmp_path_factory.mktemp("chat") / "company", synced=True)


@pytest.fixture
def project(company: Folder, tmp_path: Path) -> Any:
    import shutil

    shutil.copytree(company.path, tmp_path / "company")
    with Project.open(tmp_path / "company") as opened:
        yield opened


def answered(project: Project, who: Account, question: str, **more: Any) -> dict[str, Any]:
    *_, turn = chat.ask(project, who, question, **more)
    assert isinstance(turn, dict)
    return turn


def test_a_turn_carries_the_join_of_question_history_and_passages(project: Project):
    who = account("restricted:*")
    first = answered(project, who, LEAVE)
    assert first["label"] == "internal"
    second = answered(project, who, SALARY, conversation=first["conversation"])
    assert second["label"] == "confidential:hr"
    third = answered(project, who, LEAVE, conversation=first["conversation"])
    assert third["label"] == "confidential:hr"  # the history was heard
    assert chat.conversation(project, who, first["conversation"])["label"] == "confidential:hr"


@given(
    default=st.sampled_from(["public", "internal", "confidential:hr", "restricted:board+hr"]),
    clearance=st.sampled_from(["public", "internal", "confidential", "confidential:hr", "restricted:*"]),
)
def test_what_someone_types_is_always_theirs_to_read(default: str, clearance: str):
    class Yaml:
        class config:
            class labels:
                pass

        @staticmethod
        def label(text: str) -> Label:
            return Label.parse(text)

    Yaml.config.labels.default = default  # type: ignore[attr-defined]
    by = Principal("田中", Clearance.parse(clearance))
    own = chat.own_label(Yaml, by)  # type: ignore[arg-type]
    assert own.flows_to(by.clearance)
    assert own.flows_to(Label.parse(default))


def test_a_stream_that_is_closed_keeps_what_was_shown(project: Project):
    who = account("internal")
    stream = chat.ask(project, who, LEAVE)
    begun, part = next(stream), next(stream)
    assert isinstance(begun, chat.Begun)
    assert isinstance(part, AnswerPart)
    stream.close()
    [turn] = chat.conversation(project, who, begun.conversation)["turns"]
    assert turn["id"] == begun.turn
    assert turn["answer"]["stopped"] is True
    assert turn["answer"]["answer"] == part.text.strip()
    assert turn["answer"]["citations"]


def test_a_stream_that_is_closed_before_anything_was_shown_leaves_nothing(project: Project):
    who = account("internal")
    stream = chat.ask(project, who, LEAVE)
    begun = next(stream)
    stream.close()
    with pytest.raises(NotFoundError):
        chat.conversation(project, who, begun.conversation)
    assert chat.conversations(project, who) == []


def test_a_cut_off_answer_carries_the_labels_of_all_that_was_read(project: Project):
    """A model may have put any of it into what was shown."""
    who = account("restricted:*")
    stream = chat.ask(project, who, LEAVE)
    begun, _ = next(stream), next(stream)
    stream.close()
    with Project.open(project.folder) as other:
        read = questions.retrieve(other, LEAVE, by=who.principal).passages
    expected = Label.parse("internal").join(*(p.chunk.label for p in read))
    assert chat.conversation(project, who, begun.conversation)["label"] == str(expected)


def test_an_answer_whose_model_fails_keeps_what_was_shown(project: Project, monkeypatch: pytest.MonkeyPatch):
    who = account("internal")
    whole = questions.Conversation.stream

    def failing(self: Any, question: str) -> Any:
        for piece in whole(self, question):
            if isinstance(piece, Answer):
                raise ModelError("the model ended")
            yield piece

    monkeypatch.setattr(questions.Conversation, "stream", failing)
    pieces = chat.ask(project, who, LEAVE)
    begun, _ = next(pieces), next(pieces)
    with pytest.raises(ModelError):
        list(pieces)
    [turn] = chat.conversation(project, who, begun.conversation)["turns"]
    assert turn["answer"]["stopped"] is True


def test_a_label_that_rises_closes_what_quotes_the_document(project: Project):
    """The answer was internal when it was given; what it quotes is not any more."""
    who = account("internal")
    turn = answered(project, who, LEAVE)
    document = turn["answer"]["citations"][0]["document"]
    documents.relabel(project, document, "confidential", by=project.principal("owner"), reason="監査の指摘")
    with pytest.raises(NotFoundError):
        chat.conversation(project, who, turn["conversation"])
    with pytest.raises(NotFoundError):
        answered(project, who, "それはいつから？", conversation=turn["conversation"])
    assert [talk["closed"] for talk in chat.conversations(project, who)] == [True]
    assert chat.conversations(project, account("confidential"))[0]["closed"] is False


def test_an_erased_document_takes_the_answers_that_quote_it_along(project: Project):
    who = account("internal")
    turn = answered(project, who, LEAVE)
    (project.folder / "rules" / "有給休暇.md").unlink()
    documents.sync(project, by=project.principal("owner"), yes=True, emit=lambda event: None)
    [kept] = chat.conversation(project, who, turn["conversation"])["turns"]
    assert kept["question"] == LEAVE
    assert (kept["answer"]["answer"], kept["answer"]["why"], kept["answer"]["citations"]) == ("", "erased", [])


def test_only_the_last_answer_is_asked_for_again(project: Project):
    who = account("internal")
    first = answered(project, who, LEAVE)
    second = answered(project, who, "通信費の月額は？", conversation=first["conversation"])
    with pytest.raises(StateError):
        answered(project, who, "", conversation=first["conversation"], retry=first["id"])
    again = answered(project, who, "", conversation=first["conversation"], retry=second["id"])
    assert (again["seq"], again["question"]) == (2, "通信費の月額は？")


def test_a_conversation_that_is_deleted_while_it_is_answered_stays_deleted(project: Project):
    who = account("internal")
    first = answered(project, who, LEAVE)
    stream = chat.ask(project, who, LEAVE, conversation=first["conversation"])
    next(stream)
    chat.delete(project, who, first["conversation"])
    with pytest.raises(NotFoundError):
        list(stream)
    assert chat.conversations(project, who) == []


def test_marks_count_what_was_cut_at_the_front():
    parts = [AnswerPart("\n 十日です。[1]"), AnswerPart("三日前までに[2]申請します。[2]")]
    text = "".join(part.text for part in parts).strip()
    assert [(text[a:b], n) for a, b, n in chat.marks(parts)] == [("[1]", 1), ("[2]", 2)]


def test_suggestions_are_never_shown_after_the_label_rose(project: Project):
    """Kept for a while per clearance; the ledger has the last word each time."""
    who = account("internal")
    first = suggestions.suggestions(project, who, n=20)
    assert {one.text for one in first} >= {"有給休暇", "在宅勤務"}
    document = next(one.document for one in first if one.text == "有給休暇")
    documents.relabel(project, document, "restricted", by=project.principal("owner"), reason="誤りの訂正")
    assert "有給休暇" not in {one.text for one in suggestions.suggestions(project, who, n=20)}


def test_exported_feedback_holds_what_was_said_and_nothing_above_the_clearance(project: Project):
    who = account("restricted:*")
    low, high = answered(project, who, LEAVE), answered(project, who, SALARY)
    feedback.give(project, who, low["id"], "up")
    feedback.give(project, who, high["id"], "right_answer", text="38万円から46万円")
    rows = feedback.export(project, by=who.principal)
    assert [(row["kind"], row["question"], row["text"]) for row in rows] == [
        ("up", LEAVE, ""), ("right_answer", SALARY, "38万円から46万円"),
    ]  # fmt: skip
    assert "user" not in rows[0]
    assert [row["question"] for row in feedback.export(project, by=Principal("受付", Clearance(Level.INTERNAL)))] == [LEAVE]


def test_feedback_rises_with_the_document_that_it_quotes(project: Project):
    """It was internal when it was given; the export asks for the label that counts now."""
    who = account("internal")
    turn = answered(project, who, LEAVE)
    feedback.give(project, who, turn["id"], "up")
    document = turn["answer"]["citations"][0]["document"]
    documents.relabel(project, document, "confidential", by=project.principal("owner"), reason="監査の指摘")
    assert feedback.export(project, by=who.principal) == []
    [row] = feedback.export(project, by=project.principal("owner"))
    assert row["label"] == "confidential"


def test_an_erased_document_takes_the_feedback_that_quotes_it_along(project: Project):
    who = account("internal")
    turn = answered(project, who, LEAVE)
    feedback.give(project, who, turn["id"], "right_answer", text="入社から6か月後に10日")
    (project.folder / "rules" / "有給休暇.md").unlink()
    documents.sync(project, by=project.principal("owner"), yes=True, emit=lambda event: None)
    assert feedback.export(project, by=project.principal("owner")) == []
