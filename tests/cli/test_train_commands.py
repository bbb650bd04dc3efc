"""hagane plan, train, export: what is printed, where, and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_runs
from command import Said, runner
from small_company import YAML

from hagane.cli import train as commands
from hagane.core.errors import StateError, StoppedError
from hagane.project import training, training_export


@pytest.fixture
def hagane(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Said]:
    """Commands in a project that holds files and a train.yaml, no documents."""
    (tmp_path / "hagane.yaml").write_text(YAML, encoding="utf-8")
    small_runs.write_files(tmp_path)
    told = {name: part for name, part in small_runs.FILE.items() if name != "prefer"}
    (tmp_path / "train.yaml").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


def made(stage: str, **changes: Any) -> dict[str, Any]:
    known = {"stage": stage, "kind": "hf", "n_params": 60_000, "steps": 12, "tokens": 3072, "seconds": 75.0, "loss": 2.5, "dev_loss": 2.25,
             "bits_per_byte": 1.5, "label": "internal", "why": "done"}  # fmt: skip
    return {**known, **changes}


def test_progress_goes_to_stderr_and_what_was_made_to_stdout(hagane, monkeypatch):
    def learn(project: Any, file: Path, stage: str, *, by: Any, emit: Any, stop: Any, again: bool) -> dict[str, Any]:
        assert (file, stage, again, stop()) == (Path("train.yaml"), "pretrain", False, False)
        emit({"event": "step", "stage": "pretrain", "step": 12, "total": 12, "loss": 2.5, "tokens_per_s": 1234.0, "learning_rate": 0.01, "remaining_s": 61.0})
        emit({"event": "sample", "stage": "pretrain", "step": 12, "prompt": "", "text": "第一条 有給休暇"})
        return {"name": "our-llm", "stages": [made("pretrain")], "next": "hagane train tune train.yaml"}

    monkeypatch.setattr(training, "train", learn)
    said = hagane("train", "pretrain")
    assert said.code == 0
    assert said.out == (
        "pretrain: model of 60,000 parameters, 12 steps, 3,072 tokens in 1 min 15 s, loss 2.500, dev loss 2.250 (1.500 bits per byte), label internal\n"
    )
    assert "12/12  loss 2.500  1,234 tokens/s" in said.err
    assert "1 min 01 s left" in said.err
    assert "第一条 有給休暇" in said.err
    assert "next: hagane train tune train.yaml" in said.err
    assert hagane("train", "pretrain", "--json").json["stages"][0]["steps"] == 12


def test_a_stop_says_how_to_go_on(hagane, monkeypatch):
    def stopped(*given: Any, **named: Any) -> Any:
        raise StoppedError("training was stopped; what was learnt is kept", hint="the same command goes on")

    monkeypatch.setattr(training, "train", stopped)
    said = hagane("train", "all")
    assert said.code == 1
    assert "hint: the same command goes on" in said.err


def test_the_first_interrupt_asks_and_the_second_ends(capsys):
    import os
    import signal

    with pytest.raises(KeyboardInterrupt), commands._stopping() as stop:  # noqa: PT012 - the second one ends it
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        os.kill(os.getpid(), signal.SIGINT)
    assert "next step" in capsys.readouterr().err


def test_an_unknown_stage_is_wrong_use(hagane, monkeypatch):
    monkeypatch.setattr(training.child, "require_extra", lambda: None)
    said = hagane("train", "pretain")
    assert said.code == 2
    assert "did you mean 'pretrain'?" in said.err


def test_a_mistake_in_train_yaml_names_its_line(hagane, tmp_path, monkeypatch):
    monkeypatch.setattr(training.child, "require_extra", lambda: None)
    (tmp_path / "train.yaml").write_text("name: x\npretrain:\n  data: [{file: 文.jsonl}]\n  parms: 2M\n", encoding="utf-8")
    said = hagane("train", "all")
    assert said.code == 1
    assert "train.yaml:4" in said.err


def test_a_blocked_export_ends_with_1_and_the_reasons(hagane, monkeypatch):
    def blocked(*given: Any, **named: Any) -> dict[str, Any]:
        assert named["numbers"] == ("F16", "Q8_0")
        return {"state": "blocked", "label": "internal", "files": [], "why": ["parity: Q8_0 served stops: 0 of 5"], "folder": "模型", "next": None}

    monkeypatch.setattr(training_export, "export", blocked)
    said = hagane("export", "our-llm", "--numbers", "F16", "--numbers", "Q8_0")
    assert said.code == 1
    assert said.out == "our-llm: blocked, label internal\n"
    assert "parity: Q8_0 served stops" in said.err


def test_a_model_that_is_not_there_cannot_be_exported(hagane, monkeypatch):
    monkeypatch.setattr(training_export.child, "require_extra", lambda: None)
    said = hagane("export", "ない")
    assert said.code == 1
    assert "there is no model" in said.err


def test_a_plan_is_shown_before_anything_runs(hagane):
    said = hagane("plan", "train.yaml")
    assert said.code == 0, said.err
    assert "our-llm pretrain" in said.out
    assert "next: hagane train all train.yaml" in said.err
    assert [one["stage"] for one in hagane("plan", "train.yaml", "--json").json["stages"]] == ["pretrain", "tune"]


def test_a_failed_stage_is_said_in_one_sentence(hagane, monkeypatch):
    def fail(*given: Any, **named: Any) -> Any:
        raise StateError("the loss of step 7 is not a number", hint="the last good checkpoint is kept")

    monkeypatch.setattr(training, "train", fail)
    said = hagane("train", "pretrain", "--progress", "none")
    assert (said.code, said.out) == (1, "")
    assert said.err == "error: the loss of step 7 is not a number\nhint: the last good checkpoint is kept\n"
