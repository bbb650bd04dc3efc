"""An export is of the weights on the shelf, under their label, past every gate: whatever runs, bases and reports lie about.

The child process is played; what it is sent to probe is what counts here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import played_child
import pytest
import small_runs
from small_company import Folder, company_in

from hagane.builds import shelf
from hagane.builds.publish import REPORT
from hagane.core.errors import ChangedError, StateError
from hagane.project import trained, training, training_export, training_places
from hagane.project.wire import Project

QUIET: Any = lambda event: None  # noqa: E731
YAML = """\
name: our-llm
tokenizer: {vocab: 450}
pretrain: {data: [{file: texts.jsonl}], params: 60k, training: {steps: 12}}
tune: {data: [{file: answers.jsonl}]}
prefer: {data: [{file: pairs.jsonl}]}
"""
CHILD = "name: child-llm\ntune: {base: our-llm, data: [{file: answers.jsonl}]}\n"
PASSED = {"parity": {"passed": True}, "memory": {"passed": True}}


class Player:
    """What stands for the process that trains and exports. `exports`: what it was sent to export."""

    def __init__(self) -> None:
        self.exports: list[Mapping[str, Any]] = []
        self.reports: Mapping[str, Any] = PASSED
        self.state, self.licence = "published", ""
        self.meanwhile: Callable[[], Any] = lambda: None

    def launch(self, job: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], *, emit: Any, stop: Any, keys: Any = None) -> dict[str, Any]:
        stage, label = job["stage"], job["label"]
        if stage == "export":
            self.exports.append(json.loads(json.dumps(job)))
            self.meanwhile()
            return {"name": job["name"], "state": self.state, "label": label, "files": [], "served": "", "why": [], "chat": "raw",
                    "n_params": 1, "context": 1, "reports": self.reports}  # fmt: skip
        return played_child.made_of(job, label, licence=self.licence, dataset=f"ds_{Path(job['run']).parent.name}_{stage}")


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch) -> Player:
    made = Player()
    played_child.put_in(made, monkeypatch)
    return made


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = company_in(tmp_path_factory.mktemp("雛形") / "company", synced=False)
    small_runs.write_files(folder.path)
    folder.write("train.yaml", YAML)
    folder.write("child.yaml", CHILD)
    return folder.path


@pytest.fixture
def company(template: Path, tmp_path: Path) -> Folder:
    shutil.copytree(template, tmp_path / "company")
    return Folder(tmp_path / "company")


def learn(folder: Folder, stage: str = "all", *, file: str = "train.yaml", again: bool = False) -> None:
    with Project.open(folder.path) as project:
        training.train(project, folder.path / file, stage, by=project.principal(), emit=QUIET, again=again)


def export(folder: Folder, name: str = "our-llm") -> shelf.Record:
    with Project.open(folder.path) as project:
        training_export.export(project, name, by=project.principal(), emit=QUIET)
    return record(folder, name)


def record(folder: Folder, name: str = "our-llm") -> shelf.Record:
    return shelf.read_record(folder.path / ".hagane/models", name)


def probed(player: Player) -> list[str]:
    return [Path(one).name for one in player.exports[-1]["datasets"]]


@pytest.mark.parametrize(("anew", "sets"), [("pretrain", ["pretrain"]), ("tune", ["pretrain", "tune"])])
def test_later_stages_of_weights_made_anew_are_not_exported(company, player, anew, sets):
    """Their runs still say done, and their weights know documents that the record's label is not of."""
    learn(company)
    learn(company, anew, again=True)
    export(company)
    assert player.exports[-1]["source"].endswith(f"{anew}/out/hf")
    assert player.exports[-1]["chat"] == (anew != "pretrain")
    assert probed(player) == [f"ds_our-llm_{one}" for one in sets]


def test_every_stage_is_probed(company, player):
    learn(company)
    export(company)
    assert probed(player) == ["ds_our-llm_pretrain", "ds_our-llm_tune", "ds_our-llm_prefer"]


def test_a_run_that_is_not_of_the_record_is_refused(company, player):
    learn(company)
    with Project.open(company.path) as project:
        training_places.place_of(project, "our-llm", "prefer").note(step="0" * 64)
    with pytest.raises(StateError, match="not here any more") as caught:
        export(company)
    assert "hagane train all" in (caught.value.hint or "")
    assert player.exports == []


def test_what_the_base_learnt_is_probed_too(company, player):
    """Also when the base was blocked, taken away or made anew since: its texts are in the weights."""
    learn(company)
    player.state = "blocked"
    export(company)
    learn(company, file="child.yaml")
    with Project.open(company.path) as project:
        trained.remove(project, "our-llm", by=project.principal())
    export(company, "child-llm")
    assert probed(player) == ["ds_our-llm_pretrain", "ds_our-llm_tune", "ds_our-llm_prefer", "ds_child-llm_tune"]


def test_a_base_whose_data_nobody_knows_is_never_taken_for_clean(company, player):
    learn(company)
    shutil.rmtree(company.path / ".hagane/runs/our-llm")
    learn(company, file="child.yaml")
    export(company, "child-llm")
    assert probed(player) == ["unknown", "ds_child-llm_tune"]
    assert not Path(player.exports[-1]["datasets"][0]).exists()


def test_a_base_that_was_trained_on_is_another_base(company, player):
    learn(company)
    learn(company, file="child.yaml")
    learn(company, "tune", again=True)
    with pytest.raises(StateError, match="what it goes on from"):
        learn(company, file="child.yaml")


def test_verdicts_of_an_earlier_export_are_forgotten(company, player):
    learn(company)
    export(company)
    player.reports, player.state = {"parity": {"passed": False}}, "blocked"
    kept = export(company)
    assert set(kept.reports) == {"measured", "dev", "parity"}
    assert trained.gates(kept.reports) == {"parity": False}


def test_weights_that_came_during_an_export_are_not_published_by_it(company, player):
    learn(company)
    player.meanwhile = lambda: learn(company, "pretrain", again=True)
    with pytest.raises(ChangedError):
        export(company)
    assert (record(company).state, record(company).stage) == ("trained", "pretrain")


def test_a_published_report_does_not_vouch_for_weights_made_anew(company, player):
    learn(company)
    file = company.path / ".hagane/models/our-llm" / REPORT
    file.write_text('{"state": "published"}', "utf-8")
    learn(company, "prefer", again=True)
    assert not file.exists()


def test_the_licence_of_a_base_stays_with_all_that_is_made_of_it(company, player):
    company.write("train.yaml", "name: our-llm\ntune: {base: ./基, data: [{file: answers.jsonl}]}\nprefer: {data: [{file: pairs.jsonl}]}\n")
    (company.path / "基").mkdir()
    player.licence = "Gemma Terms of Use"
    learn(company, "tune")
    player.licence = ""
    learn(company, "prefer")
    learn(company, file="child.yaml")
    export(company, "child-llm")
    assert record(company).base.licence == record(company, "child-llm").base.licence == "Gemma Terms of Use"
    assert player.exports[-1]["licence"] == "Gemma Terms of Use"
    assert replace(record(company, "child-llm").base, licence="").name == "our-llm"
