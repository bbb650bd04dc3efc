"""hagane models in a project: made models under their labels; show, remove, ask --model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import made_model
import pytest
from command import Said, runner
from small_company import company_in

from hagane.project.wire import Project

Run = Callable[..., Said]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    company = company_in(tmp_path_factory.mktemp("模型") / "company", synced=True)
    with Project.open(company.path) as project:
        rows = {row.path.rpartition("/")[2]: row.id for row in project.ledger.documents.list(clearance=project.principal().clearance)}
        made_model.put(project, "our-llm", parents=[rows["有給休暇.md"]])
        made_model.put(project, "hr-llm", "confidential:hr", parents=[rows["給与レンジ.md"]])
        made_model.put(project, "copy-llm", state="blocked", why="訓練文を写した", reports={"memory": {"passed": False, "longest_copy": 80}})
    return company.path


def test_made_models_stand_beside_the_others_as_far_as_the_label_flows(run: Run, folder: Path) -> None:
    told = run("models", "--project", str(folder), "--as", "hr")
    assert told.code == 0
    assert "gemma3-270m" in told.out
    [line] = [line for line in told.out.splitlines() if line.startswith("hr-llm")]
    assert "[confidential:hr]" in line
    assert "published" in line
    staff = run("models", "--project", str(folder), "--as", "staff", "--json").json
    assert [row["name"] for row in staff["made"]] == ["copy-llm", "our-llm"]
    assert "hr-llm" not in str(staff)


def test_without_a_project_the_models_of_the_machine_are_listed(run: Run, tmp_path: Path) -> None:
    told = run("models", "--project", str(tmp_path), "--json").json
    assert told["made"] == []
    assert any(row["name"] == "gemma3-270m" for row in told["models"])


def test_show_tells_gates_files_and_why_it_is_blocked(run: Run, folder: Path) -> None:
    told = run("models", "show", "copy-llm", "--project", str(folder), "--as", "staff")
    assert told.code == 0
    assert "訓練文を写した" in told.out
    assert "FAILED longest_copy 80" in " ".join(told.out.split())
    shown = run("models", "show", "our-llm", "--project", str(folder), "--as", "staff", "--json").json
    assert shown["gates"] == {"parity": True, "memory": True}
    assert (shown["documents"], shown["gone"]) == (1, 0)
    assert shown["files"][0]["path"] == shown["served"]


def test_a_hidden_model_is_answered_as_a_missing_one(run: Run, folder: Path) -> None:
    told = [run("models", "show", name, "--project", str(folder), "--as", "staff") for name in ("hr-llm", "no-llm")]
    assert [one.code for one in told] == [1, 1]
    assert told[0].err.replace("hr-llm", "X") == told[1].err.replace("no-llm", "X")
    asked = [run("ask", "有給休暇は?", "--model", name, "--project", str(folder), "--as", "staff") for name in ("hr-llm", "no-llm")]
    assert [one.code for one in asked] == [1, 1]


def test_a_made_model_answers_on_the_command_line(run: Run, folder: Path) -> None:
    """Random weights say nothing that the documents support, so the answer is that they do not say; it was asked."""
    told = run("ask", "有給休暇は入社から何か月後に何日ですか?", "--model", "hr-llm", "--project", str(folder), "--as", "hr", "--json")
    assert told.code == 0, told.err
    assert told.json["label"] == "confidential:hr"
    assert told.json["model"] != "extract"


def test_extracting_takes_no_model(run: Run, folder: Path) -> None:
    told = run("ask", "有給休暇は?", "--model", "our-llm", "--answerer", "extract", "--project", str(folder))
    assert (told.code, "takes no model" in told.err) == (2, True)


def test_remove_asks_first_takes_the_permission_and_leaves_nothing(run: Run, folder: Path) -> None:
    with Project.open(folder) as project:
        made_model.put(project, "old-llm")
    assert run("models", "remove", "old-llm", "--project", str(folder), "--as", "staff", "--yes").code == 1
    assert run("models", "remove", "old-llm", "--project", str(folder), stdin="n\n").code == 1
    assert (folder / ".hagane" / "models" / "old-llm").is_dir()
    assert run("models", "remove", "old-llm", "--project", str(folder), "--yes").code == 0
    assert not (folder / ".hagane" / "models" / "old-llm").exists()
