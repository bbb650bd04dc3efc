"""Talking by name: labels fail closed, the record stands first, and what is offered is what may be asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_company import TEXTS, YAML, Folder

from hagane.core.errors import AuditError, LabelError, RefusedError, UnknownModelError, UsageError
from hagane.core.labels import PUBLIC, Clearance, Label, Level
from hagane.core.types import ChatRequest, Delta, Message, Principal
from hagane.models.fake import FakeChat
from hagane.project import talk
from hagane.project.chat import own_label
from hagane.project.talk import Talk
from hagane.project.wire import Project

STAFF = Principal("社員", Clearance.parse("confidential:hr"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = Folder(tmp_path_factory.mktemp("会話"))
    folder.write("hagane.yaml", YAML + "models: {模型: {address: 'http://127.0.0.1:9/v1', model: m}}\n")
    for name, text in TEXTS.items():
        folder.write(name, text)
    folder.sync()
    with Project.open(folder.path) as opened:
        yield opened


@pytest.fixture
def fake(project: Project) -> FakeChat:
    """The model 模型, without its port."""
    made = FakeChat("承りました。")
    project._models["模型"] = (project.config.models["模型"], made)
    made.close = lambda: None  # type: ignore[attr-defined]
    return made


def request(*said: tuple[str, str]) -> ChatRequest:
    return ChatRequest(tuple(Message.of(role, text) for role, text in said), PUBLIC)  # type: ignore[arg-type]


def records(project: Project) -> list[dict[str, Any]]:
    from hagane.ledger.audit import records

    return list(records(project.state / "audit"))


labels = st.builds(Label, st.sampled_from(Level), st.frozensets(st.sampled_from(["hr", "board"])))
roles = st.sampled_from(["system", "user", "assistant", "tool"])
turns = st.lists(st.tuples(roles, st.one_of(st.none(), labels)), max_size=6)


@given(turns=turns)
def test_the_label_covers_every_answer_that_goes_in(project: Project, turns: list[tuple[Any, Label | None]]) -> None:
    """An answer or result without its label counts as all that the asker may see; above the clearance nothing goes on."""
    fake = FakeChat("はい。")
    fake.close = lambda: None  # type: ignore[attr-defined]
    project._models["模型"] = (project.config.models["模型"], fake)
    asked = request(*((role, "文") for role, _ in turns), ("user", "では?"))
    given_back = [*(None if label is None else str(label) for _, label in turns), None]
    carried = [(role, label) for role, label in turns if role in ("assistant", "tool")]
    if any(label is not None and not label.flows_to(STAFF.clearance) for _, label in carried):
        with pytest.raises(RefusedError):
            Talk(project, asked, given_back, model="模型", by=STAFF)
        return
    made = Talk(project, asked, given_back, model="模型", by=STAFF)
    list(made.stream())
    for _, label in carried:
        assert (label or Label.parse("confidential:hr")).flows_to(made.label)
    assert made.label.flows_to(STAFF.clearance)
    assert fake.requests[-1].label == made.label
    assert made.shown == {"label": str(made.label)}


def test_all_compartments_are_those_that_are_declared(project: Project) -> None:
    assert talk.whole(Clearance.parse("restricted:*"), project) == Label.parse("restricted:board+hr")
    assert talk.whole(Clearance.parse("internal"), project) == Label.parse("internal")


@pytest.mark.parametrize("model", ["模型", "hagane"])
def test_what_the_asker_writes_has_the_label_that_the_page_gives_it(project: Project, fake: FakeChat, model: str) -> None:
    """The project's default, cut down to the asker; a label that the client claims for it changes nothing."""
    default = project.config.labels.default
    for clearance, expected in (("confidential:hr", default), ("restricted:*", default), ("public", "public")):
        by = Principal("社員", Clearance.parse(clearance))
        assert str(own_label(project, by)) == expected
        asked = request(("system", "丁寧に"), ("user", "社長の靴のサイズは?"))
        made = Talk(project, asked, ["public", "public"], model=model, by=by)
        list(made.stream())
        assert str(made.label) == expected
        assert made.label.flows_to(Label.parse(made.shown["label"])), "and what was read for the answer"


def test_a_label_that_is_none_is_refused(project: Project, fake: FakeChat) -> None:
    for said in ("とても秘密", "confidential:nowhere"):
        with pytest.raises(LabelError):
            Talk(project, request(("assistant", "はい"), ("user", "では?")), [said, None], model="模型", by=STAFF)


def test_a_path_is_no_model(project: Project, tmp_path: Path) -> None:
    """Only names that are offered; a file that exists is not looked at."""
    file = tmp_path / "模型.gguf"
    file.write_bytes(b"GGUF")
    for name in (str(file), "../模型.gguf", ""):
        with pytest.raises(UnknownModelError):
            Talk(project, request(("user", "こんにちは")), [None], model=name, by=STAFF)


def test_what_was_asked_is_recorded_before_a_piece_is_given_out(project: Project, fake: FakeChat) -> None:
    before = len(records(project))
    stream = Talk(project, request(("user", "秘密の問い")), [None], model="模型", by=STAFF).stream()
    assert next(stream).text
    [record] = records(project)[before:]
    assert (record["act"], record["principal"], record["model"], record["label"]) == ("chat", "社員", "模型", "internal")
    assert "秘密の問い" not in str(record)
    stream.close()
    assert records(project)[-1]["finish"] == "aborted"


def test_without_a_record_nothing_is_given_out(project: Project, fake: FakeChat, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> str:
        raise AuditError("満杯")

    for name in ("record", "record_with_others"):
        monkeypatch.setattr(project.ledger.audit, name, fails)
    out: list[Delta] = []
    with pytest.raises(AuditError):
        out.extend(Talk(project, request(("user", "こんにちは")), [None], model="模型", by=STAFF).stream())
    assert out == []


def test_a_failure_is_recorded_with_what_came_before(project: Project) -> None:
    def fails(_: ChatRequest) -> str:
        raise UsageError("読めません")

    broken = FakeChat(fails)
    broken.close = lambda: None  # type: ignore[attr-defined]
    project._models["模型"] = (project.config.models["模型"], broken)
    with pytest.raises(UsageError):
        list(Talk(project, request(("user", "こんにちは")), [None], model="模型", by=STAFF).stream())
    assert records(project)[-1]["finish"] == "failed"


def test_earlier_questions_are_made_whole_in_their_order(project: Project) -> None:
    """As in one conversation: each in the light of those before."""
    asked = request(("user", "領収書を紛失したときは何を提出する?"), ("assistant", "支払証明書です。"), ("user", "それは誰が?"))
    made = Talk(project, asked, [None, "internal", None], model="hagane", by=STAFF)
    assert "支払証明書" in "".join(delta.text for delta in made.stream())
    assert made.shown["label"] == "internal"


def test_the_assistant_wants_a_question_last(project: Project) -> None:
    with pytest.raises(UsageError, match="last message"):
        list(Talk(project, request(("user", "有給は?"), ("assistant", "はい")), [None, "public"], model="hagane", by=STAFF).stream())


def test_vectors_come_from_the_embedder_only(project: Project) -> None:
    rows, _ = talk.embed(project, ["経費", "有給"], model="fake", kind="query", by=STAFF)
    assert rows.shape == (2, 64)
    with pytest.raises(UsageError):
        talk.embed(project, ["経費"], model="模型", kind="query", by=STAFF)
    with pytest.raises(UnknownModelError):
        talk.embed(project, ["経費"], model="e6", kind="query", by=STAFF)
