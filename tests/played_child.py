"""What stands for the process that trains: it says that it made something, and leaves weights of a few letters. Not a test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hagane.project import training


def put_in(child: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `child.launch` do the jobs; no extra is needed for that."""
    monkeypatch.setattr(training.child, "launch", child.launch)
    monkeypatch.setattr(training.child, "require_extra", lambda: None)


def made_of(job: Mapping[str, Any], label: str, **changes: Any) -> dict[str, Any]:
    """What a stage tells of what it made; a model's weights lie there then."""
    stage = job["stage"]
    if stage == "tokenizer":
        return {"stage": stage, "folder": "語彙", "n_tokens": 450, "characters_per_token": 1.5, "label": label, "seconds": 0.1}
    folder = Path(job["run"]) / "out" / "hf"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text("重み")
    return {
        "stage": stage, "kind": "hf", "folder": str(folder), "base_folder": "", "label": label, "steps": 12, "why": "done", "loss": 1.0,
        "dev_loss": 1.1, "bits_per_byte": 0.4, "seconds": 1.5, "tokens": 3072, "flops": 1e9, "n_params": 60_000, "context": 1024,
        "template": "llama", "dataset": "ds_0", "licence": "", "peak_bytes": 1 << 28, **changes,
    }  # fmt: skip
