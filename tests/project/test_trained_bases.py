"""What a model goes on from: its base's label comes along, from before it is opened until after it is removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_model
import played_child
import pytest
import small_runs
import tiny_gguf
from small_company import Folder, company_in

from hagane.builds import shelf
from hagane.builds.base import label_in, open_base
from hagane.core.errors import (
    ChangedError,
    HaganeError,
    NotFoundError,
    RefusedError,
    StateError,
    StorageError,
    UnknownModelError,
)
from hagane.core.labels import PUBLIC, Clearance, Label
from hagane.core.types import Principal
from hagane.models import catalog
from hagane.project import documents, trained, training, training_export, training_made, training_places
from hagane.project.questions import Conversation
from hagane.project.wire import Project

HR = Principal("人事", Clearance.parse("confidential:hr"), ("ask", "build"))
STAFF = Principal("社員", Clearance.parse("internal"), ("ask", "build"))
QUIET: Any = lambda event: None  # noqa: E731
YAML = "name: new-llm\ntune: {data: [{file: answers.jsonl}], base: BASE}\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = company_in(tmp_path_factory.mktemp("雛形") / "company", synced=True)
    small_runs.write_files(folder.path)
    return folder.path


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Folder:
    shutil.copytree(template, tmp_path / "company")
    return Folder(tmp_path / "company")


@pytest.fixture
def project(folder: Folder) -> Iterator[Project]:
    with Project.open(folder.path) as opened:
        yield opened


class Child:
    """What stands for the process that trains. `says`: the label that it settles on; `ends`: what it raises then."""

    def __init__(self) -> None:
        self.jobs: list[Mapping[str, Any]] = []
        self.says, self.ends = "", None  # type: str, HaganeError | None

    def launch(self, job: Mapping[str, Any], rows: Iterable[Any], *, emit: Any, stop: Any, keys: Any = None) -> dict[str, Any]:
        self.jobs.append(job)
        label = self.says or job["label"]
        emit({"event": "settled", "label": label})
        if self.ends is not None:
            raise self.ends
        return played_child.made_of(job, label)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Child:
    made = Child()
    played_child.put_in(made, monkeypatch)
    return made


def learn(project: Project, base: str, *, by: Principal | None = None) -> dict[str, Any]:
    file = project.folder / "train.yaml"
    file.write_text(YAML.replace("BASE", base), encoding="utf-8")
    return training.train(project, file, "all", by=by or project.principal(), emit=QUIET)


def ids(project: Project) -> dict[str, str]:
    rows = project.ledger.documents.list(clearance=project.principal().clearance)
    return {f"{row.source}/{row.path}": row.id for row in rows} | {row.path: row.id for row in rows}


def raise_label(project: Project, path: str, label: str) -> None:
    documents.relabel(project, ids(project)[path], label, by=project.principal(), reason="見直し")


def named(project: Project, base: str, by: Principal = HR) -> Label:
    return training_made.named_base(project, base, root=project.folder, by=by).label


# --- a base that is removed


def test_what_was_tuned_from_a_removed_model_still_rises_with_the_documents_of_both(project: Project) -> None:
    made_model.put(project, "old-llm", parents=[ids(project)["rules/経費.txt"]])
    made = made_model.put(project, "new-llm", base=shelf.Base("old-llm", "gemma"))
    trained.remove(project, "old-llm", by=HR)
    assert str(trained.label_now(project, made)) == "internal"
    raise_label(project, "rules/経費.txt", "restricted")
    assert str(trained.label_now(project, made)) == "restricted"
    assert [one.name for one in trained.offered(project, by=HR)] == []


def test_a_removed_model_takes_its_run_along_and_is_trained_anew(project: Project, child: Child) -> None:
    made_model.put(project, "old-llm")
    (trained.folder_of(project) / "old-llm" / "hf").mkdir()
    learn(project, "old-llm")
    trained.remove(project, "new-llm", by=HR)
    assert not (project.state / "runs/new-llm/tune").exists()
    assert "reused" not in learn(project, "old-llm")["stages"][0]
    assert len(child.jobs) == 2
    assert (trained.folder_of(project) / "new-llm/hf/model.safetensors").read_text() == "重み"


def test_a_model_that_is_being_trained_is_not_removed(project: Project, child: Child) -> None:
    made_model.put(project, "old-llm")
    (trained.folder_of(project) / "old-llm" / "hf").mkdir()
    learn(project, "old-llm")
    with training_places.place_of(project, "new-llm", "tune").alone(), pytest.raises(StateError, match="being trained"):
        trained.remove(project, "new-llm", by=HR)
    assert (trained.folder_of(project) / "new-llm/model.json").is_file()


def test_a_run_rises_with_the_documents_of_its_base(project: Project, child: Child) -> None:
    """Also one that failed: its samples are words of the base."""
    made_model.put(project, "old-llm", parents=[ids(project)["rules/経費.txt"]])
    (trained.folder_of(project) / "old-llm" / "hf").mkdir()
    child.ends = StorageError("満杯", hint="空ける")
    with pytest.raises(StorageError):
        learn(project, "old-llm")
    assert [run["name"] for run in training_made.runs(project, by=STAFF)] == ["new-llm"]
    raise_label(project, "rules/経費.txt", "restricted")
    assert training_made.runs(project, by=STAFF) == []


# --- what a base says of itself


def test_what_a_folder_or_file_says_of_itself_counts_before_it_is_opened(project: Project, folder: Folder) -> None:
    folder.write("base/hagane.json", json.dumps({"label": "confidential:hr"}))
    folder.write("plain/config.json", "{}")
    tiny_gguf.write(folder.path / "基.gguf", label="confidential:hr")
    tiny_gguf.write(folder.path / "hr" / "無印.gguf")
    assert [str(named(project, one)) for one in ("base", "基.gguf", "hr/無印.gguf")] == ["confidential:hr"] * 3
    assert str(named(project, "plain")) == "internal", "the project's default"
    with pytest.raises(RefusedError, match="above the clearance"):
        named(project, "base", STAFF)
    folder.write("plain/hagane.json", "{")
    with pytest.raises(HaganeError, match="cannot be read"):
        label_in(folder.path / "plain")


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_run_is_shown_under_what_it_settled_on_however_it_ends(project: Project, child: Child, is_seen: bool) -> None:
    """A base of the hub says only in the child what its label is."""
    child.says, child.ends = "confidential:hr", StorageError("満杯", hint="空ける")
    with pytest.raises(StorageError if is_seen else RefusedError):
        learn(project, "hf:some/base", by=HR if is_seen else STAFF)
    assert training_made.runs(project, by=STAFF) == []
    assert [run["stages"][0]["label"] for run in training_made.runs(project, by=HR)] == ["confidential:hr"]
    child.says = "internal"
    with pytest.raises(StorageError):
        learn(project, "hf:some/base", by=HR)
    assert training_made.runs(project, by=STAFF) == [], "its earlier events are still there"


def test_a_bare_name_is_no_folder_of_the_working_directory(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is nobody's looks like what is hidden."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other-llm").mkdir()
    (tmp_path / "other-llm" / "config.json").write_text("{}")
    made_model.put(project, "hr-llm", "confidential:hr")
    told = []
    for name in ("other-llm", "hr-llm"):
        with pytest.raises(NotFoundError) as missing:
            named(project, name, STAFF)
        told.append((str(missing.value).replace(name, "X"), missing.value.hint))
    assert told[0] == told[1]
    assert named(project, "gemma3-270m") == PUBLIC
    pytest.importorskip("torch", reason="the extra train is not installed")
    with pytest.raises(NotFoundError):
        open_base("other-llm")


# --- what is served


def test_what_is_not_published_or_not_there_is_nobodys_and_never_public(project: Project) -> None:
    made_model.put(project, "blocked-llm", state="blocked", why="写しがあった")
    made_model.put(project, "gone-llm")
    trained.remove(project, "gone-llm", by=HR)
    for name in ("blocked-llm", "gone-llm", "no-llm"):
        with pytest.raises(UnknownModelError):
            trained.carried(project, name, by=HR)
    assert trained.carried(project, "gemma3-270m", by=HR) == PUBLIC


@pytest.mark.parametrize("end", ["blocked", "removed", "made again"])
def test_a_model_that_is_blocked_removed_or_made_again_ends_what_it_says(project: Project, end: str) -> None:
    record = made_model.put(project, "our-llm", "confidential:hr")
    spoken = trained.Spoken(project, "our-llm", by=HR)
    assert str(spoken.check()) == "confidential:hr"
    chat = trained.Speaking(None, "our-llm", record.lineage)
    assert str(chat.label(project, by=HR)) == "confidential:hr"
    if end == "blocked":
        trained.keep(project, replace(record, state="blocked"), by=HR)
    else:
        trained.remove(project, "our-llm", by=HR)
    if end == "made again":
        made_model.put(project, "our-llm", "public")
    with pytest.raises(ChangedError):
        spoken.check(last=True)
    with pytest.raises((ChangedError, UnknownModelError)):
        chat.label(project, by=HR)


def test_a_conversation_knows_which_model_it_began_with(project: Project) -> None:
    made_model.put(project, "our-llm", "confidential:hr")
    chat = Conversation(project, by=HR, model="our-llm")
    trained.remove(project, "our-llm", by=HR)
    made_model.put(project, "our-llm", "internal")
    with pytest.raises(ChangedError):
        chat.ask("年次有給休暇は何日ですか?")


def test_an_adapter_answers_only_beside_the_very_file_it_was_measured_with(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tiny_gguf.write(project.folder / "基.gguf")
    monkeypatch.setattr(catalog, "find", lambda name, **given: file)
    record = made_model.put(project, "our-llm", kind="adapter", base=shelf.Base("base-llm", file="base-llm"))
    told = {"files": [{"path": record.served, "role": "adapter", "numbers": "F32"}], "state": "published", "why": [], "served": record.served,
            "chat": "template", "n_params": 1, "context": 64, "label": "internal", "reports": {}}  # fmt: skip
    kept = training_export._kept(project, record, told, base_file=str(file))
    assert trained.base_file(project, kept) == file
    with pytest.raises(NotFoundError, match="another file"):
        trained.base_file(project, record)  # of which nothing is known
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(NotFoundError, match="another file"):
        trained.base_file(project, kept)


def test_a_made_model_never_stands_in_for_a_listed_base(project: Project) -> None:
    made_model.put(project, "base-llm", "confidential:hr")
    record = made_model.put(project, "our-llm", kind="adapter", base=shelf.Base("base-llm", file="base-llm"))
    with pytest.raises(NotFoundError, match="not one of"):
        trained.base_file(project, record)
