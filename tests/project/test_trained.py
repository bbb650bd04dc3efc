"""Models made here, by two people of different clearance: who may not see one neither lists nor uses it, anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_model
import pytest
from encrypted_company import company as encrypted_company
from small_company import Folder, company_in

from hagane.builds import shelf
from hagane.core.errors import (
    AuditError,
    ChangedError,
    NotFoundError,
    RefusedError,
    StorageError,
    UnknownModelError,
    UsageError,
)
from hagane.core.labels import PUBLIC, Clearance, Label
from hagane.core.types import ChatRequest, Message, Principal
from hagane.models.fake import FakeChat
from hagane.project import documents, keys, talk, trained
from hagane.project.questions import Conversation, ask
from hagane.project.talk import Talk
from hagane.project.wire import Project

HR = Principal("人事", Clearance.parse("confidential:hr"), ("ask", "build"))
STAFF = Principal("社員", Clearance.parse("internal"), ("ask", "build"))
READER = Principal("読者", Clearance.parse("confidential:hr"), ("ask",))
NAMES = ("our-llm", "hr-llm")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synced company with one model for all and one made of the personnel department's documents."""
    folder = company_in(tmp_path_factory.mktemp("雛形") / "company", synced=True)
    with Project.open(folder.path) as opened:
        rows = ids(opened)
        made_model.put(opened, "our-llm", parents=[rows["rules/有給休暇.md"], rows["rules/経費.txt"]])
        made_model.put(opened, "hr-llm", "confidential:hr", parents=[rows["hr/給与レンジ.md"], rows["rules/経費.txt"]])
    return folder.path


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Folder:
    shutil.copytree(template, tmp_path / "company")
    return Folder(tmp_path / "company")


@pytest.fixture
def project(folder: Folder) -> Iterator[Project]:
    with Project.open(folder.path) as opened:
        yield opened


def ids(project: Project) -> dict[str, str]:
    rows = project.ledger.documents.list(clearance=project.principal().clearance)
    return {f"{row.source}/{row.path}": row.id for row in rows} | {row.path: row.id for row in rows}


def names(project: Project, by: Principal) -> list[str]:
    return [row["name"] for row in trained.trained(project, by=by)]


def offered(project: Project, by: Principal) -> list[str]:
    return [row["id"] for row in talk.offered(project, by=by) if row["id"] in NAMES]


def request(text: str = "有給休暇は何日ですか?") -> ChatRequest:
    return ChatRequest((Message.of("user", text),), PUBLIC, max_tokens=8)


def fake(project: Project, name: str, said: Any = "10日です。") -> FakeChat:
    """The made model `name` without its engine."""
    record = trained.served(project, name)
    assert record is not None
    model = FakeChat(said)
    model.close = lambda: None  # type: ignore[attr-defined]
    project._models[name] = ((record.lineage, record.served, record.files, record.base), model)
    return model


def raise_label(project: Project, path: str, label: str) -> None:
    documents.relabel(project, ids(project)[path], label, by=project.principal(), reason="見直し")


def test_who_may_not_see_a_model_neither_lists_nor_finds_it(project: Project) -> None:
    assert names(project, HR) == ["hr-llm", "our-llm"]
    assert names(project, STAFF) == ["our-llm"]
    with pytest.raises(NotFoundError) as hidden:
        trained.find(project, "hr-llm", by=STAFF)
    with pytest.raises(NotFoundError) as missing:
        trained.find(project, "no-llm", by=STAFF)
    assert str(hidden.value).replace("hr-llm", "X") == str(missing.value).replace("no-llm", "X")
    assert hidden.value.hint == missing.value.hint


def test_who_may_not_see_a_model_cannot_ask_it(project: Project) -> None:
    fake(project, "hr-llm")
    assert offered(project, HR) == ["hr-llm", "our-llm"]
    assert offered(project, STAFF) == ["our-llm"]
    told = []
    for name in ("hr-llm", "no-llm"):
        with pytest.raises(UnknownModelError) as refused:
            Talk(project, request(), [None], model=name, by=STAFF)
        told.append((str(refused.value), refused.value.hint))
    assert told[0] == told[1]
    with pytest.raises(UnknownModelError):
        Conversation(project, by=STAFF, model="hr-llm")


def test_an_answer_carries_the_models_label_too(project: Project) -> None:
    fake(project, "hr-llm")
    made = Talk(project, request(), [None], model="hr-llm", by=HR)
    assert "".join(delta.text for delta in made.stream()) == "10日です。"
    assert (str(made.label), made.shown) == ("confidential:hr", {"label": "confidential:hr"})
    fake(project, "our-llm")
    assert str(Talk(project, request(), [None], model="our-llm", by=HR).label) == "internal"


def test_a_grounded_answer_carries_it_and_so_does_what_is_asked_next(project: Project) -> None:
    """The sources are internal; the words are a model's that read salaries."""
    fake(project, "hr-llm", "年次有給休暇は、入社から6か月後に10日を付与する。[1]")
    chat = Conversation(project, by=HR, model="hr-llm")
    answer = chat.ask("年次有給休暇は入社から何か月後に何日付与されますか?")
    assert answer.model != "extract"
    assert str(answer.label) == "confidential:hr"
    assert str(chat.label) == "confidential:hr"
    assert str(ask(project, "年次有給休暇は入社から何か月後に何日付与されますか?", by=HR).label) == "internal"


def test_a_model_that_hagane_yaml_names_is_not_there_for_who_may_not_see_it(project: Project) -> None:
    """Its sentences are replaced by the documents' own; a word on the command line is answered as for a missing model."""
    fake(project, "hr-llm", "年次有給休暇は、入社から6か月後に10日を付与する。[1]")
    answer = project.config.answer.model_copy(update={"answerer": "generate", "model": "hr-llm"})
    project.config = project.config.model_copy(update={"answer": answer})
    question = "年次有給休暇は入社から何か月後に何日付与されますか?"
    assert ask(project, question, by=STAFF).model == "extract"
    assert str(ask(project, question, by=STAFF).label) == "internal"
    assert ask(project, question, by=HR).model != "extract"
    with pytest.raises(UnknownModelError):
        ask(project, question, by=STAFF, answerer="generate")


def test_a_raised_document_raises_the_model_at_once(project: Project) -> None:
    fake(project, "our-llm")
    assert offered(project, STAFF) == ["our-llm"]
    raise_label(project, "rules/経費.txt", "confidential:board")
    assert names(project, STAFF) == offered(project, STAFF) == []
    with pytest.raises(UnknownModelError):
        Talk(project, request(), [None], model="our-llm", by=STAFF)
    [row] = [row for row in trained.trained(project, by=project.principal()) if row["name"] == "our-llm"]
    assert (row["label"], row["raised"]) == ("confidential:board", True)


def test_a_document_that_is_raised_in_mid_answer_ends_it(project: Project) -> None:
    """Nothing more is given out to who may not see the model any more."""
    fake(project, "our-llm", "一、二、三、四、五、六、七、八、九、十。" * 5)
    stream = Talk(project, request(), [None], model="our-llm", by=STAFF).stream()
    next(stream)
    raise_label(project, "rules/経費.txt", "confidential:board")
    with pytest.raises(ChangedError):
        list(stream)


def test_lowering_a_document_lowers_no_model(project: Project) -> None:
    """It learnt from what the document was; its own record keeps that."""
    record = shelf.read_record(trained.folder_of(project), "hr-llm")
    project.ledger.lineage.declare(record.lineage, PUBLIC)
    label = trained.label_now(project, record)
    assert label is not None
    assert Label.parse("confidential:hr").flows_to(label)


def test_removed_documents_are_told_and_keep_the_model_under_their_label(project: Project, folder: Folder) -> None:
    gone = ids(project)["rules/有給休暇.md"]
    assert trained.touched(project, gone, by=HR) == ["our-llm"]
    folder.path.joinpath("rules/有給休暇.md").unlink()
    folder.path.joinpath("rules/経費.txt").unlink()
    documents.sync(project, by=project.principal(), emit=lambda event: None, yes=True)
    told = trained.find(project, "our-llm", by=STAFF)
    assert (told["documents"], told["gone"]) == (2, 2)
    assert gone in told["gone_documents"]
    assert told["label"] == "internal", "nothing of its label left with them"
    assert trained.touched(project, gone, by=HR) == ["our-llm"]
    assert trained.touched(project, gone, by=Principal("他", Clearance.parse("public"))) == []
    assert trained.find(project, "hr-llm", by=HR)["gone"] == 1


def test_labels_of_documents_that_left_stay_with_the_model(project: Project, folder: Folder) -> None:
    """Raised first, forgotten then: the weights still know it."""
    raise_label(project, "rules/経費.txt", "confidential:board")
    folder.path.joinpath("rules/経費.txt").unlink()
    documents.sync(project, by=project.principal(), emit=lambda event: None, yes=True)
    record = shelf.read_record(trained.folder_of(project), "our-llm")
    assert str(trained.label_now(project, record)) == "confidential:board"
    kept = trained.keep(project, replace(record, reports={}), by=project.principal())
    assert str(trained.label_now(project, kept)) == "confidential:board", "also when its record is written again"


@pytest.mark.parametrize("state", ["trained", "blocked"])
def test_what_is_not_published_is_listed_and_not_served(project: Project, state: str) -> None:
    made_model.put(project, "new-llm", state=state, why="写しがあった" if state == "blocked" else "")
    assert [row["state"] for row in trained.trained(project, by=STAFF) if row["name"] == "new-llm"] == [state]
    assert "new-llm" not in [row["id"] for row in talk.offered(project, by=STAFF)]
    with pytest.raises(UnknownModelError):
        Talk(project, request(), [None], model="new-llm", by=STAFF)
    with pytest.raises(NotFoundError):
        project.model("new-llm")


def test_a_model_of_unknown_label_is_nobodys(project: Project) -> None:
    record = shelf.read_record(trained.folder_of(project), "our-llm")
    shelf.write_record(trained.folder_of(project), replace(record, lineage="m_" + "0" * 16))
    assert names(project, HR) == ["hr-llm"]
    assert offered(project, project.principal()) == ["hr-llm"]
    with pytest.raises(UnknownModelError):
        Talk(project, request(), [None], model="our-llm", by=project.principal())
    [row] = [row for row in trained.trained(project, by=project.principal()) if row["name"] == "our-llm"]
    assert (row["state"], row["label"]) == ("damaged", None), "who may see everything is told"


def test_a_damaged_record_is_told_to_who_may_see_all_and_hides_no_other(project: Project) -> None:
    (trained.folder_of(project) / "our-llm" / "model.json").write_bytes(b"{")
    assert names(project, HR) == ["hr-llm"]
    rows = {row["name"]: row for row in trained.trained(project, by=project.principal())}
    assert rows["our-llm"]["state"] == "damaged"
    assert "damaged" in rows["our-llm"]["why"]
    with pytest.raises(NotFoundError):
        trained.find(project, "our-llm", by=HR)
    with pytest.raises(StorageError):
        trained.find(project, "our-llm", by=project.principal())


def test_a_path_is_no_way_around_a_label(project: Project, tmp_path: Path) -> None:
    file = trained.folder_of(project) / "hr-llm" / "hr-llm-F32.gguf"
    link = tmp_path / "近道.gguf"
    link.symlink_to(file)
    for path in (file, link):
        with pytest.raises(RefusedError):
            project.model(str(path))
    for name in (str(file), ".hagane/models/hr-llm/hr-llm-F32.gguf", "hr-llm-F32.gguf", "../models/hr-llm"):
        with pytest.raises(UnknownModelError):
            Talk(project, request(), [None], model=name, by=STAFF)


def test_a_name_that_another_model_has_is_refused_and_never_served(project: Project) -> None:
    for name in ("hagane", "gemma3-270m"):
        with pytest.raises(UsageError, match="there already"):
            trained.check_name(project, name)
    record = shelf.read_record(trained.folder_of(project), "our-llm")
    shelf.write_record(trained.folder_of(project), replace(record, name="gemma3-270m"))
    assert trained.served(project, "gemma3-270m") is None
    [row] = [row for row in trained.trained(project, by=STAFF) if row["name"] == "gemma3-270m"]
    assert row["is_taken"]


def test_a_file_that_was_cut_short_is_not_served(project: Project) -> None:
    file = trained.folder_of(project) / "our-llm" / "our-llm-F32.gguf"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(NotFoundError, match="not whole"):
        project.model("our-llm")


def test_removing_takes_the_permission_the_clearance_and_a_record(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained.folder_of(project)
    with pytest.raises(RefusedError):
        trained.remove(project, "hr-llm", by=READER)
    with pytest.raises(NotFoundError):
        trained.remove(project, "hr-llm", by=STAFF)
    with monkeypatch.context() as patched:

        def full(*_: object, **__: object) -> str:
            raise AuditError("満杯")

        patched.setattr(project.ledger.audit, "record", full)
        with pytest.raises(AuditError):
            trained.remove(project, "hr-llm", by=HR)
    assert (folder / "hr-llm").is_dir(), "without a record nothing is done"
    trained.remove(project, "hr-llm", by=HR)
    assert names(project, HR) == ["our-llm"]
    assert not (folder / "hr-llm").exists()
    with pytest.raises(UnknownModelError):
        Talk(project, request(), [None], model="hr-llm", by=HR)


def test_what_was_tuned_from_a_model_keeps_its_label_when_that_is_removed(project: Project) -> None:
    child = made_model.put(project, "child-llm", "internal", base=shelf.Base("hr-llm", "gemma", label="internal"))
    assert names(project, STAFF) == ["our-llm"], "it carries what its base carries"
    trained.remove(project, "hr-llm", by=HR)
    assert str(trained.label_now(project, child)) == "confidential:hr"
    assert names(project, STAFF) == ["our-llm"]


def test_a_removed_and_remade_model_is_another_one(project: Project) -> None:
    """A name is no licence: the engine of the first is not asked for the second."""
    first = fake(project, "hr-llm", "秘密")
    trained.remove(project, "hr-llm", by=HR)
    made_model.put(project, "hr-llm", "internal")
    assert str(trained.carried(project, "hr-llm", by=STAFF)) == "internal"
    assert project.model("hr-llm") is not first


def test_the_audit_log_names_hidden_models_and_no_word_of_a_document(project: Project) -> None:
    project.refusals.note("not_found", by=STAFF, route="/models/{name}", named=["hr-llm"])
    project.refusals.note("not_found", by=STAFF, route="/models/{name}", named=["no-llm"])
    from hagane.ledger.audit import records

    refused = [record for record in records(project.state / "audit") if record["act"] == "refused"]
    assert [bool(record.get("hidden")) for record in refused] == [True, False]
    assert "有給" not in (project.state / "audit" / "log.jsonl").read_text(encoding="utf-8")


def test_a_made_model_answers_with_the_real_engine(project: Project) -> None:
    """The file of the shelf, in a process of its own."""
    made = Talk(project, request("有給"), [None], model="our-llm", by=STAFF)
    last = list(made.stream())[-1]
    assert last.finish in ("stop", "length")
    assert last.usage is not None
    assert last.usage.input_tokens > 0


def test_an_encrypted_project_holds_no_word_of_a_record_in_the_open(tmp_path: Path) -> None:
    """Also once it is turned off and on again; a record that was put in the open beside sealed ones is a forgery."""
    folder = encrypted_company(tmp_path, encrypted=True)
    folder.sync()
    reports = {"dev": {"sample": "麒麟号は10日です。"}}
    with Project.open(folder.path) as project:
        made_model.put(project, "our-llm", reports=reports)
        file = trained.folder_of(project) / "our-llm" / "model.json"
        assert "麒麟号".encode() not in file.read_bytes()
        assert trained.find(project, "our-llm", by=STAFF)["reports"] == reports
        keys.turn_off(project, by=project.principal(), emit=lambda event: None)
    assert "麒麟号".encode() in file.read_bytes()
    plain = file.read_bytes()
    with Project.open(folder.path) as project:
        assert names(project, STAFF) == ["our-llm"]
        keys.turn_on(project, f"file:{tmp_path / 'project.key'}", by=project.principal(), emit=lambda event: None)
    assert "麒麟号".encode() not in file.read_bytes()
    with Project.open(folder.path) as project:
        assert names(project, STAFF) == ["our-llm"]
        file.write_bytes(plain)
        assert names(project, STAFF) == []
