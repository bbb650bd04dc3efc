"""QLoRA from train.yaml: the adapter lies beside the base that it was learnt on, the one that 4 bits rounded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("peft", reason="needs the extra train")

from small_runs import FILE, do, place, write_files

from hagane.core.errors import RefusedError


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("工程")
    write_files(root)
    for stage in ("tokenizer", "pretrain"):
        do(root, stage)
    return root


def made_with(root: Path, adapter: dict, into: Path) -> dict:
    shutil.copytree(root, into, dirs_exist_ok=True)
    return do(into, "tune", file={**FILE, "tune": {**FILE["tune"], "adapter": adapter}})


def test_its_base_is_the_rounded_one_and_no_other(pretrained, tmp_path):
    from hagane.train.adapter import check_base
    from hagane.train.fingerprint import fingerprint_of

    made = made_with(pretrained, {"rank": 4, "quantised": True}, tmp_path / "nf4")
    base = Path(made["base_folder"])
    assert made["own_base"] and base == place(tmp_path / "nf4", "tune").out / "base"
    assert (base / "tokenizer.json").is_file() and (base / "generation_config.json").is_file()
    check_base(Path(made["folder"]), fingerprint_of(base))
    with pytest.raises(RefusedError, match="another base"):
        check_base(Path(made["folder"]), fingerprint_of(place(tmp_path / "nf4", "pretrain").out / "hf"))


def test_parameters_are_counted_as_without_rounding(pretrained, tmp_path):
    plain = made_with(pretrained, {"rank": 4}, tmp_path / "fp32")
    four = made_with(pretrained, {"rank": 4, "quantised": True}, tmp_path / "nf4")
    assert four["n_params"] == plain["n_params"] and not plain["own_base"]
    assert four["loss"] != plain["loss"]
