"""Training in a project: who may, on what, under which label; what goes on, what is refused, what is on record.

The child process is played: it takes the job and the rows as the real one does, and says that it made a model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import played_child
import pytest
import small_runs
from small_company import Folder, company_in

from hagane.builds.place import Log
from hagane.core.errors import (
    ChangedError,
    MissingExtraError,
    NotFoundError,
    RefusedError,
    StateError,
    StoppedError,
    UsageError,
)
from hagane.core.labels import Clearance, Label
from hagane.core.types import Principal
from hagane.project import documents, trained, training, training_export, training_made, work
from hagane.project.wire import Project

QUIET: Any = lambda event: None  # noqa: E731
STAFF = Principal("社員", Clearance.parse("internal"), ("ask", "build"))
HR = Principal("人事", Clearance.parse("confidential:hr"), ("ask", "build"))
READER = Principal("読者", Clearance.parse("restricted:*"), ("ask",))
YAML = """\
name: our-llm
tokenizer: {vocab: 450}
pretrain: {data: [{documents: []}, {file: texts.jsonl}], params: 60k, training: {steps: 12}}
tune: {data: [{file: answers.jsonl}]}
"""


class Child:
    """What stands for the process that trains. `jobs` and `rows`: what it was sent."""

    def __init__(self) -> None:
        self.jobs: list[Mapping[str, Any]] = []
        self.rows: list[list[Mapping[str, Any]]] = []
        self.before: Callable[[Mapping[str, Any]], None] = lambda job: None

    def launch(self, job: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], *, emit: Any, stop: Any, keys: Any = None) -> dict[str, Any]:
        self.jobs.append(json.loads(json.dumps(job)))
        self.rows.append([dict(row) for row in rows])
        self.before(job)
        if stop():
            raise StoppedError("stopped")
        stage, label = job["stage"], job["label"]
        if stage != "tokenizer":
            emit({"event": "settled", "label": label, "n_params": 1, "steps": 12, "rows": 4, "tokens": 64, "rate": 0.1})
            Log(Path(job["run"]) / "events.jsonl").write({"event": "step", "step": 1, "loss": 1.0})
        return played_child.made_of(job, label)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Child:
    made = Child()
    played_child.put_in(made, monkeypatch)
    return made


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synced company with the files of a train.yaml."""
    folder = company_in(tmp_path_factory.mktemp("雛形") / "company", synced=True)
    small_runs.write_files(folder.path)
    folder.write("train.yaml", YAML)
    return folder.path


@pytest.fixture
def company(template: Path, tmp_path: Path) -> Folder:
    shutil.copytree(template, tmp_path / "company")
    return Folder(tmp_path / "company")


def learn(folder: Folder, stage: str = "all", *, by: Principal | None = None, **given: Any) -> dict[str, Any]:
    with Project.open(folder.path) as project:
        return training.train(project, folder.path / "train.yaml", stage, by=by or project.principal(), emit=given.pop("emit", QUIET), **given)


def test_every_stage_goes_on_from_the_one_before(company, child):
    made = learn(company)
    assert [one["stage"] for one in made["stages"]] == ["tokenizer", "pretrain", "tune"]
    assert made["next"] == "hagane export our-llm"
    assert child.jobs[1]["tokenizer"] == "語彙"
    assert child.jobs[2]["base"].endswith("pretrain/out/hf")
    assert (company.path / ".hagane/models/our-llm/hf/model.safetensors").read_text() == "重み"


def test_a_finished_stage_is_reused(company, child):
    learn(company)
    again = learn(company)
    assert len(child.jobs) == 3
    assert all(one["reused"] for one in again["stages"])


def test_the_model_carries_the_join_of_all_that_it_learnt_from(company, child):
    """Documents of the personnel department went in, so nobody below it may see the model."""
    made = learn(company, by=HR)
    assert Label.parse(made["stages"][-1]["label"]) == Label.parse("confidential:hr")
    texts = "".join(row["text"] for row in child.rows[1])
    assert "給与レンジ" in texts
    with Project.open(company.path) as project:
        assert [row["name"] for row in trained.trained(project, by=HR)] == ["our-llm"]
        assert trained.trained(project, by=STAFF) == []
        assert training_made.runs(project, by=STAFF) == []
        with pytest.raises(NotFoundError):
            training_made.run(project, "our-llm", by=STAFF)


def test_documents_above_the_clearance_are_not_there(company, child):
    made = learn(company, by=STAFF)
    texts = "".join(row["text"] for row in child.rows[1])
    assert "在宅勤務" in texts
    assert "給与レンジ" not in texts
    assert made["stages"][-1]["label"] == "internal"


def test_a_source_above_the_clearance_looks_like_none(company, child):
    company.write("train.yaml", YAML.replace("documents: []", "documents: [hr]"))
    with pytest.raises(NotFoundError) as hidden:
        learn(company, by=STAFF)
    company.write("train.yaml", YAML.replace("documents: []", "documents: [xx]"))
    with pytest.raises(NotFoundError) as missing:
        learn(company, by=STAFF)
    assert str(hidden.value).replace("hr", "xx") == str(missing.value)
    assert hidden.value.hint == missing.value.hint


def test_a_file_above_the_clearance_is_refused_with_a_clear_sentence(company, child):
    company.write("train.yaml", YAML.replace("file: texts.jsonl", "file: texts.jsonl, label: confidential"))
    with pytest.raises(RefusedError, match=r"社員 may not train on texts\.jsonl: it is above the clearance"):
        learn(company, by=STAFF)
    assert child.jobs == []


def test_a_file_that_lies_in_a_source_carries_the_sources_label(company, child):
    """Written down as public, and still the personnel department's."""
    company.write("hr/例.jsonl", '{"text": "等級4の月額基本給"}\n')
    company.write("train.yaml", "name: x\npretrain: {data: [{file: hr/例.jsonl, label: public}], params: 60k}\n")
    with pytest.raises(NotFoundError, match="does not exist"):
        learn(company, by=STAFF)
    assert learn(company, by=HR)["stages"][-1]["label"] == "confidential:hr"


def test_a_files_own_mark_counts_after_an_edit(company, child):
    """Marked as restricted, and edited before the next sync: its place still says whose mark it has."""
    company.write("rules/役員.txt", "役員報酬は、月額百二十万円とする。\n")
    company.sync()
    company.run(documents.relabel, "rules/役員.txt", "restricted", reason="役員だけ")
    company.write("train.yaml", "name: x\npretrain: {data: [{file: rules/役員.txt}], params: 60k}\n")
    company.write("rules/役員.txt", "役員報酬は、月額百三十万円とする。\n")
    with pytest.raises(NotFoundError, match="does not exist"):
        learn(company, by=STAFF)
    assert learn(company)["stages"][-1]["label"] == "restricted"


def test_only_who_governs_labels_a_file_below_the_default(company, child):
    company.write("train.yaml", YAML.replace("{documents: []}, ", "").replace(".jsonl}", ".jsonl, label: public}"))
    assert {one["label"] for one in learn(company, by=STAFF)["stages"]} == {"internal"}
    governor = Principal("審査", Clearance.parse("internal"), ("ask", "build", "govern"))
    assert {one["label"] for one in learn(company, by=governor, again=True)["stages"]} == {"public"}


@pytest.mark.parametrize("name", ["../../../etc/hostname", ".hagane/ledger.db"])
def test_a_file_outside_of_the_project_needs_an_administrator(company, child, name):
    company.write("train.yaml", f"name: x\npretrain: {{data: [{{file: {name}}}], params: 60k}}\n")
    with pytest.raises(RefusedError):
        learn(company, by=STAFF)


def test_training_takes_the_permission_build(company, child):
    for verb in (lambda p: training.train(p, company.path / "train.yaml", "all", by=READER, emit=QUIET),
                 lambda p: training_export.plan(p, company.path / "train.yaml", by=READER),
                 lambda p: training_export.export(p, "our-llm", by=READER, emit=QUIET)):  # fmt: skip
        with Project.open(company.path) as project, pytest.raises(RefusedError, match="may not train models"):
            verb(project)


def test_another_train_yaml_is_refused_with_what_differs(company, child):
    learn(company, "pretrain")
    company.write("train.yaml", YAML.replace("params: 60k", "params: 90k"))
    with pytest.raises(StateError, match=r"differs: .*pretrain\.params") as caught:
        learn(company, "pretrain")
    assert "--again" in (caught.value.hint or "")
    learn(company, "pretrain", again=True)
    assert child.jobs[-1]["file"]["pretrain"]["params"] == "90k"


def test_another_document_is_another_run(company, child):
    learn(company, "pretrain")
    company.write("rules/新規程.md", "# 新規程\n\n駐車場の利用は、総務部に届け出る。\n")
    company.sync()
    with pytest.raises(StateError, match="differs: data"):
        learn(company, "pretrain")


def test_how_a_run_is_computed_may_change(company, child):
    learn(company, "pretrain")
    company.write("train.yaml", YAML.replace("steps: 12", "steps: 12, threads: 1, micro_rows: 2, save_every: 3, keep: 5"))
    assert learn(company, "pretrain")["stages"][-1]["reused"]


def test_a_stage_without_the_one_before_says_which(company, child):
    with pytest.raises(StateError, match="goes on from what pretrain makes") as caught:
        learn(company, "tune")
    assert "hagane train pretrain" in (caught.value.hint or "")


def test_a_stage_that_is_not_there_is_wrong_use(company, child):
    with pytest.raises(UsageError, match="has no prefer"):
        learn(company, "prefer")
    with pytest.raises(UsageError, match="no stage"):
        learn(company, "pretain")


def test_a_stop_is_kept_as_such_and_goes_on(company, child):
    with pytest.raises(StoppedError):
        learn(company, "tokenizer", stop=lambda: True)
    with Project.open(company.path) as project:
        [run] = training_made.runs(project, by=project.principal())
        assert [one["state"] for one in run["stages"]] == ["stopped"]
    assert learn(company, "tokenizer")["stages"][-1]["n_tokens"] == 450


def test_an_erased_document_finds_the_model_that_learnt_from_it(company, child):
    learn(company)
    with Project.open(company.path) as project:
        rows = {row["path"]: row["id"] for row in documents.docs(project, by=project.principal())}
        assert trained.touched(project, rows["rules/経費.txt"], by=project.principal()) == ["our-llm"]


def test_a_document_that_leaves_while_it_is_learnt_makes_no_model(company, child):
    """What was erased must not come out of a model a minute later."""

    def erase(job: Mapping[str, Any]) -> None:
        if job["stage"] == "pretrain":
            (company.path / "rules/経費.txt").unlink()
            company.sync(yes=True)

    child.before = erase
    with pytest.raises(ChangedError, match="documents left"):
        learn(company, "pretrain")
    assert not (company.path / ".hagane/models/our-llm").exists()


def test_a_document_that_is_raised_meanwhile_raises_the_model(company, child):
    def raise_it(job: Mapping[str, Any]) -> None:
        if job["stage"] == "tune":
            company.run(documents.relabel, "rules/経費.txt", "restricted", reason="機密になった")

    child.before = raise_it
    learn(company)
    with Project.open(company.path) as project:
        assert training_made.runs(project, by=STAFF) == []
        assert trained.trained(project, by=STAFF) == []
        assert [row["label"] for row in trained.trained(project, by=project.principal())] == ["restricted:hr"]


def test_a_run_is_on_record_without_content(company, child):
    learn(company)
    told = (company.path / ".hagane/audit").rglob("*")
    lines = [json.loads(line) for file in told if file.is_file() for line in file.read_text("utf-8", "ignore").splitlines() if line.startswith("{")]
    acts = [line.get("act") for line in lines]
    assert acts.count("train.start") == 3
    assert acts.count("train.done") == 3
    assert "有給" not in json.dumps(lines, ensure_ascii=False)


def test_a_name_that_another_holds_is_taken_and_nothing_is_told(company, child):
    learn(company, by=HR)
    with pytest.raises(UsageError, match="is there already"):
        learn(company, by=STAFF)


def test_a_live_page_reads_events_behind_a_line(company, child):
    learn(company)
    with Project.open(company.path) as project:
        run = training_made.run(project, "our-llm", by=project.principal())
        assert [one["stage"] for one in run["stages"]] == ["tokenizer", "pretrain", "tune"]
        assert [event["step"] for event in run["stages"][1]["events"]] == [1]
        later = training_made.run(project, "our-llm", by=project.principal(), behind={"pretrain": 1})
        assert later["stages"][1]["events"] == []
        assert run["stages"][1]["made"]["measured"]["kwh"] > 0


def test_what_was_foretold_stands_beside_what_was_measured(company, child):
    pytest.importorskip("tokenizers")
    with Project.open(company.path) as project:
        plan = training_export.plan(project, company.path / "train.yaml", by=project.principal())
    assert [one["stage"] for one in plan["stages"]] == ["pretrain", "tune"]
    made = learn(company, "pretrain")["stages"][-1]
    assert made["measured"]["predicted"]["measured_s"] == 1.5


def test_a_base_of_the_hub_is_no_reason_to_refuse_a_plan(company, child):
    """Its size is not known before it is fetched: that is said, for the stage and for what goes on from it."""
    company.write("train.yaml", "name: x\ntune: {data: [{file: answers.jsonl}], base: hf:kaisha/moderu, adapter: {}}\n"
                                "prefer: {data: [{file: pairs.jsonl}]}\n")  # fmt: skip
    with Project.open(company.path) as project:
        told = training_export.plan(project, company.path / "train.yaml", by=project.principal())
    assert (told["stages"], told["fits"]) == ([], True)
    assert [line.partition(":")[0] for line in told["text"].split("\n\n")] == ["tune", "prefer"]
    assert "hf:kaisha/moderu" in told["text"]
    learn(company, "tune")


def test_the_server_trains_as_a_job_while_it_syncs(company, child):
    """Hours of training keep no document from being read: the long kinds have a thread of their own."""
    with Project.open(company.path) as project, project.ledger.writer.kept("serve", socket="s"):
        by, seen = project.principal(), []

        def meanwhile(job: Mapping[str, Any]) -> None:
            if job["stage"] == "pretrain":
                id = work.submit(project, "sync", {}, by=by)
                while work.job(project, id, by=by)["state"] in ("waiting", "running"):
                    pass
                seen.append(work.job(project, id, by=by)["state"])

        child.before = meanwhile
        id = work.submit(project, "train", {"file": "train.yaml", "stage": "pretrain"}, by=by)
        worker = work.Worker(project)
        worker.start()
        while work.job(project, id, by=by)["state"] in ("waiting", "running"):
            pass
        worker.stop(20)
        assert work.job(project, id, by=by)["state"] == "done", work.job(project, id, by=by)
        assert seen == ["done"]


def test_a_missing_extra_is_named_with_the_line_that_installs_it(company, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="torch") as caught:
        learn(company)
    assert caught.value.hint == "pip install 'hagane[train]'"
