"""Stages from rows to a model on disk: what they make, how they go on, and how they end when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from small_runs import FILE, do, job_of, place, write_files

from hagane.builds.place import read
from hagane.core.errors import ConfigError, SourceError, StateError, StoppedError, StorageError
from hagane.core.safetensors_header import read_header

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Every stage once."""
    root = tmp_path_factory.mktemp("工程")
    write_files(root)
    return root, {stage: do(root, stage) for stage in ("tokenizer", "pretrain", "tune", "prefer")}


@pytest.fixture
def fresh(line: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """The files and the tokenizer, nothing pre-trained."""
    write_files(tmp_path)
    shutil.copytree(line[0] / "runs" / "tokenizer", tmp_path / "runs" / "tokenizer")
    return tmp_path


def weights(root: Path, stage: str = "pretrain") -> bytes:
    return (place(root, stage).out / "hf" / "model.safetensors").read_bytes()


def test_every_stage_leaves_a_folder_that_stops_at_the_end_of_a_turn(line):
    _, made = line
    for stage in ("pretrain", "tune", "prefer"):
        folder = Path(made[stage]["folder"])
        assert read_header(folder / "model.safetensors")
        ends = json.loads((folder / "generation_config.json").read_text("utf-8"))["eos_token_id"]
        words = json.loads((folder / "tokenizer.json").read_text("utf-8"))["added_tokens"]
        assert next(word["id"] for word in words if word["content"] == "<|eot_id|>") in ends
        assert json.loads((folder / "hagane.json").read_text("utf-8"))["label"] == "internal"
        assert "chat_template" in json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    assert made["pretrain"]["steps"] == 12
    assert made["pretrain"]["tokens"] == 12 * 4 * 64
    assert made["tune"]["n_params"] == made["pretrain"]["n_params"]


def test_learning_is_seen_in_the_events_with_bits_per_byte_and_samples(line):
    events = read(place(line[0], "pretrain").events)
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, 13))
    assert all(event["tokens_per_s"] > 0 and event["remaining_s"] >= 0 and event["learning_rate"] > 0 for event in steps)
    devs = [event for event in events if event["event"] == "dev"]
    assert devs[-1]["loss"] < devs[0]["loss"]
    assert 0 < devs[-1]["bits_per_byte"] < devs[0]["bits_per_byte"]
    assert any(event["event"] == "sample" for event in events)


def test_a_preference_run_tells_margin_and_wins(line):
    steps = [event for event in read(place(line[0], "prefer").events) if event["event"] == "step"]
    assert {"margin", "won"} <= steps[-1].keys()
    assert line[1]["prefer"]["bits_per_byte"] is None


def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(line, fresh):
    """Stopped behind the fifth step, then given again: the same bits, and events without a gap."""
    def stop() -> bool:
        return len([one for one in read(place(fresh, "pretrain").events) if one["event"] == "step"]) >= 5

    with pytest.raises(StoppedError):
        do(fresh, "pretrain", stop=stop)
    made = do(fresh, "pretrain")
    assert weights(fresh) == weights(line[0])
    assert made["loss"] == line[1]["pretrain"]["loss"]
    told = read(place(fresh, "pretrain").events)
    assert [event["step"] for event in told if event["event"] == "step"] == list(range(1, 13))
    assert any(event["event"] == "resumed" for event in told)


def test_samples_do_not_change_what_is_learnt(line, fresh):
    do(fresh, "pretrain", samples=False)
    assert weights(fresh) == weights(line[0])


def test_a_damaged_checkpoint_is_passed_over(line, fresh):
    with pytest.raises(StoppedError):
        do(fresh, "pretrain", stop=lambda: len(list(place(fresh, "pretrain").checkpoints.glob("step-*"))) >= 2)
    newest = max(place(fresh, "pretrain").checkpoints.glob("step-*"))
    file = newest / "rank-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    seen: list[Any] = []
    do(fresh, "pretrain", emit=seen.append)
    assert newest.name in [event["folder"] for event in seen if event["event"] == "damaged"]
    assert weights(fresh) == weights(line[0])


def test_a_loss_that_is_no_number_names_its_documents_and_keeps_the_checkpoint(fresh):
    wild = {**FILE, "pretrain": {**FILE["pretrain"], "training": {**FILE["pretrain"]["training"], "rate": 1e30, "optimiser": "adamw"}}}
    with pytest.raises(StateError, match=r"not a number.*texts\.jsonl:\d+") as caught:
        do(fresh, "pretrain", file=wild)
    assert "checkpoint" in (caught.value.hint or "")
    assert "第" not in str(caught.value)


def test_a_full_disk_keeps_the_checkpoint_before(fresh, line, monkeypatch):
    from hagane.train import checkpoint

    write, n = checkpoint.write_tensors, 0

    def full(file: Path, tensors: Any, **rest: Any) -> None:
        nonlocal n
        n += 1
        if n == 2:
            raise OSError(errno.ENOSPC, "disk full")
        write(file, tensors, **rest)

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    with pytest.raises(StorageError) as caught:
        do(fresh, "pretrain")
    assert "space" in (caught.value.hint or "")
    assert [one.name for one in place(fresh, "pretrain").checkpoints.glob("step-*")] == ["step-000000004"]
    monkeypatch.undo()
    do(fresh, "pretrain")
    assert weights(fresh) == weights(line[0])


def test_events_that_cannot_be_written_end_the_run(fresh, monkeypatch):
    from hagane.builds import place as places

    def full(*given: Any, **rest: Any) -> Any:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(places, "open", full, raising=False)
    with pytest.raises(StorageError, match=r"events\.jsonl"):
        do(fresh, "pretrain")


def test_an_empty_file_is_said_before_anything_is_trained(fresh):
    (fresh / "texts.jsonl").write_bytes(b"")
    with pytest.raises(SourceError, match="is empty"):
        do(fresh, "pretrain")
    assert not place(fresh, "pretrain").checkpoints.exists()


def test_one_row_is_too_little(fresh):
    (fresh / "texts.jsonl").write_text(json.dumps({"text": "一行だけ。"}, ensure_ascii=False) + "\n", encoding="utf-8")
    with pytest.raises(StateError):
        do(fresh, "pretrain")


def test_a_template_whose_marks_the_base_lacks_is_refused(line, fresh):
    """Its end of turn would be cut into letters: the model would never stop."""
    shutil.copytree(line[0] / "runs" / "pretrain", fresh / "runs" / "pretrain")
    odd = {**FILE, "tune": {**FILE["tune"], "template": "qwen"}}
    with pytest.raises(ConfigError, match="turns would never end"):
        do(fresh, "tune", file=odd)


def test_an_adapter_is_saved_by_itself(line, fresh):
    shutil.copytree(line[0] / "runs" / "pretrain", fresh / "runs" / "pretrain")
    told = {**FILE, "tune": {**FILE["tune"], "adapter": {"rank": 4}}}
    made = do(fresh, "tune", file=told)
    assert made["kind"] == "adapter"
    assert (Path(made["folder"]) / "adapter_model.safetensors").is_file()
    assert Path(made["base_folder"]) == place(fresh, "pretrain").out / "hf"


@pytest.mark.long
def test_a_run_killed_again_and_again_ends_with_the_same_bits(line, fresh):
    """kill -9 of the process, each time a little later, until it is through."""
    code = "import json, sys; from small_runs import *; run_stage(json.loads(sys.argv[1]), documents=lambda: (), emit=lambda e: None, stop=lambda: False)"
    slow = {**FILE, "pretrain": {**FILE["pretrain"], "training": {**FILE["pretrain"]["training"], "save_every": 1}}}
    told = json.dumps(job_of(fresh, "pretrain", file=slow))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "OMP_NUM_THREADS": "1"}
    killed = 0
    for n in range(20):
        child = subprocess.Popen([sys.executable, "-c", code, told], env=env)
        wanted = 2 * n + 2  # beyond the last step: it goes through
        while child.poll() is None and wanted <= 12:
            done = [event["step"] for event in read(place(fresh, "pretrain").events) if event["event"] == "saved"]
            if done and max(done) >= wanted:
                child.send_signal(signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.01)
        if child.wait() == 0:
            break
    assert killed >= 3
    assert child.returncode == 0
    assert weights(fresh) == weights(line[0])
