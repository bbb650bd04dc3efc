"""kill -9 at any instant: started again, a run ends with the same bits. Several ranks are one. Damage is found."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")
pytest.importorskip("peft", reason="the extra train is not installed")

import torch
from child_run import model_of
from small_training import Stream, tiny

from hagane.core.errors import StateError, StorageError
from hagane.train import checkpoint, tensor_file
from hagane.train.loop import Event, Run, Settings, train
from hagane.train.objectives import NextToken
from hagane.train.ranks import Ranks
from hagane.train.tensor_file import read_tensors

HERE = Path(__file__).parent
BASE = {"steps": 12, "learning_rate": 3e-3, "warmup_steps": 2, "micro_rows": 4, "save_every": 2, "keep": 2}
RANKS = {**BASE, "steps": 20, "save_every": 10}


def started(told: dict) -> subprocess.Popen:
    """The child, its steps one by one on stdout."""
    source = str(HERE.parent.parent / "src")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([source, str(HERE)]),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    words = [sys.executable, str(HERE / "child_run.py"), json.dumps(told)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(*children: subprocess.Popen) -> None:
    for child in children:
        _, talk = child.communicate(timeout=240)
        assert child.returncode == 0, talk[-2000:]


def killed_at(told: dict, step: int) -> None:
    """Killed as soon as it says that `step` steps are done: while it saves, or within the next one."""
    child = started(told)
    for line in child.stdout:
        if int(line) >= step:
            child.send_signal(signal.SIGKILL)
            break
    child.communicate(timeout=120)
    assert child.returncode == -signal.SIGKILL


def losses_of(path: Path) -> list[float]:
    with tensor_file.safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["losses"])


def whole_run(kind: str, settings: dict, *, rows: int = 8) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same run in this process, never interrupted: its weights and losses."""
    model = model_of(kind)
    done = train(model, NextToken(), Stream(rows=rows), Settings(**settings))
    return dict(model.named_parameters()), list(done.losses)


def run_with_kills(tmp_path: Path, kind: str, n_kills: int, *, seed: int, steps: int = BASE["steps"]) -> None:
    settings = {**BASE, "steps": steps, "optimiser": "muon" if kind == "scratch" else "adamw"}
    told = {
        "kind": kind,
        "settings": settings,
        "folder": str(tmp_path / "run"),
        "out": str(tmp_path / "out.safetensors"),
    }
    draw = random.Random(seed)
    for step in sorted(draw.sample(range(1, steps), n_kills)):
        killed_at(told, step)
    ended(started(told))
    whole, losses = whole_run(kind, settings)
    resumed, rest = read_tensors(tmp_path / "out.safetensors"), losses_of(tmp_path / "out.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert 0 < len(rest) < steps  # it did go on from a checkpoint
    assert rest == losses[-len(rest) :]


def test_kills_at_random_steps_change_no_bit(tmp_path):
    """Three kills of a pre-training with Muon."""
    run_with_kills(tmp_path, "scratch", 3, seed=4)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["scratch", "lora"])
def test_many_kills_change_no_bit(tmp_path, kind: str):
    """Twenty kills, at steps drawn from 23, for both kinds of run; dropout is on in the adapter's."""
    run_with_kills(tmp_path, kind, 20, seed=7, steps=24)


def test_an_adapters_run_goes_on_with_its_dropout(tmp_path):
    """The random state is part of the checkpoint: with dropout the steps after a resume are those of the whole run."""
    settings = Settings(**{**BASE, "steps": 6, "save_every": 3, "optimiser": "adamw"})

    def fresh():
        return model_of("lora")

    whole = train(fresh(), NextToken(), Stream(), settings)
    train(fresh(), NextToken(), Stream(), settings, folder=tmp_path, stop=iter([False] * 3 + [True]).__next__)
    torch.manual_seed(12345)
    assert train(fresh(), NextToken(), Stream(), settings, folder=tmp_path).losses == whole.losses[3:]


# -- ranks ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """Seven rows a step, dealt to two processes: (losses, checkpoints) of a run, each made once."""
    made: dict[tuple[str, bool], tuple[list[float], Path]] = {}

    def get(optimiser: str, sharded: bool) -> tuple[list[float], Path]:
        if (optimiser, sharded) not in made:
            root = tmp_path_factory.mktemp("ranks")
            told = {
                "kind": "scratch",
                "settings": RANKS | {"optimiser": optimiser},
                "world": 2,
                "rows": 7,
                "sharded": sharded,
            }
            told |= {
                "out": str(root / "out.safetensors"),
                "meeting": f"file://{root}/meeting",
                "folder": str(root / "run"),
            }
            ended(*[started({**told, "rank": rank}) for rank in (0, 1)])
            made[optimiser, sharded] = losses_of(root / "out.safetensors"), root / "run"
        return made[optimiser, sharded]

    return get


@pytest.mark.parametrize(
    ("optimiser", "sharded", "within"),
    [
        ("muon", True, 1e-4),
        pytest.param("adamw", False, 1e-5, marks=pytest.mark.long),
        pytest.param("adamw", True, 1e-5, marks=pytest.mark.long),
    ],
)
def test_two_ranks_are_one(two_ranks, optimiser: str, sharded: bool, within: float):
    """One process or two, replicated or sharded by FSDP2: the same losses over 20 steps."""
    one = whole_run("scratch", RANKS | {"optimiser": optimiser}, rows=7)[1]
    two, _ = two_ranks(optimiser, sharded)
    assert len(one) == len(two) == RANKS["steps"] == 20
    assert two == pytest.approx(one, rel=within)


def test_what_two_sharded_ranks_saved_one_rank_goes_on_with(two_ranks, tmp_path):
    """Pieces of both files become whole tensors: resumed at step 10 on one rank, the end is that of two."""
    losses, run = two_ranks("muon", True)
    root = tmp_path / "run"
    shutil.copytree(run, root)
    assert sorted(path.name for path in root.iterdir()) == ["step-000000010", "step-000000020"]
    assert len(list((root / "step-000000010").glob("rank-*.safetensors"))) == 2
    shutil.rmtree(root / "step-000000020")
    settings = Settings(**RANKS, optimiser="muon")
    rest = train(model_of("scratch"), NextToken(), Stream(rows=7), settings, folder=root).losses
    assert list(rest) == pytest.approx(losses[10:], rel=1e-4)


# -- damage -----------------------------------------------------------------------------------------------------------


def saved_run(tmp_path: Path) -> tuple[Path, Settings]:
    settings = Settings(**{**BASE, "steps": 6, "keep": 9})
    train(tiny(), NextToken(), Stream(), settings, folder=tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"step-00000000{n}" for n in (2, 4, 6)]
    return tmp_path, settings


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("rank-00000.safetensors", cut),
        ("rank-00000.safetensors", flipped),
        ("rank-00000.safetensors", Path.unlink),
        ("index.json", cut),
        ("index.json", Path.unlink),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(tmp_path, file: str, damage):
    """Cut short, one bit changed, or gone: the one before is used, the user is told, and the end is the same."""
    root, settings = saved_run(tmp_path)
    whole = checkpoint.latest(root)
    damage(root / "step-000000006" / file)
    events: list[Event] = []
    done = train(tiny(), NextToken(), Stream(), settings, folder=root, watch=events.append)
    assert [event.values for event in events if event.kind == "damaged"] == [{"folder": "step-000000006"}]
    assert len(done.losses) == 2
    again = checkpoint.latest(root)
    assert again.step == 6
    assert all(torch.equal(whole.tensors[name], again.tensors[name]) for name in whole.tensors)


def test_a_kill_while_writing_leaves_no_checkpoint_and_no_rest(tmp_path):
    root, settings = saved_run(tmp_path)
    left = root / ".writing-step-000000008"
    left.mkdir()
    (left / "rank-00000.safetensors").write_bytes(b"half")
    assert checkpoint.latest(root).step == 6
    train(tiny(), NextToken(), Stream(), settings, folder=root, stop=lambda: True)
    run = Run(tiny(), NextToken(), Stream(), settings, folder=root)
    run.resume()
    run.save()
    assert not left.exists()


def test_nothing_readable_is_an_error_not_a_fresh_start(tmp_path):
    """Starting over in silence would throw the work away."""
    root, settings = saved_run(tmp_path)
    for folder in root.iterdir():
        cut(folder / "rank-00000.safetensors")
    with pytest.raises(StorageError, match="none of the 3 checkpoints"):
        train(tiny(), NextToken(), Stream(), settings, folder=root)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    root, settings = saved_run(tmp_path)
    run = Run(tiny(), NextToken(), Stream(), settings, folder=root)
    run.resume()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_file, "save_file", full)
    run.step = 7
    with pytest.raises(StorageError, match="step 7 could not be written"):
        run.save()
    assert [path.name for path in sorted(root.iterdir())][-1] == "step-000000006"
    assert checkpoint.latest(root).step == 6


def test_the_last_few_are_kept(tmp_path):
    train(tiny(), NextToken(), Stream(), Settings(**{**BASE, "keep": 2}), folder=tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000010", "step-000000012"]


def test_no_pickle_is_written(tmp_path):
    root, _ = saved_run(tmp_path)
    assert {path.suffix for path in root.glob("*/*")} == {".json", ".safetensors"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 1e-2}, "another learning_rate"),
        ({"seed": 5}, "another seed"),
        ({"steps": 9}, "another steps"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(tmp_path, change: dict, said: str):
    root, settings = saved_run(tmp_path)
    with pytest.raises(StateError, match=said):
        train(tiny(), NextToken(), Stream(), replace(settings, **change), folder=root)


def test_a_run_does_not_go_on_with_other_data_or_another_base(tmp_path):
    root, settings = saved_run(tmp_path)
    with pytest.raises(StateError, match="other data"):
        train(tiny(), NextToken(), Stream(seed=1), settings, folder=root)
    with pytest.raises(StateError, match="another base"):
        train(tiny(), NextToken(), Stream(), settings, folder=root, facts={"base": "べつのモデル"})


def test_rows_are_dealt_once():
    """Seven rows over three ranks: each row once."""
    assert sorted(row for rank in range(3) for row in Ranks(rank, 3).mine(7)) == list(range(7))
