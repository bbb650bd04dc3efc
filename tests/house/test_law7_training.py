"""Law 7 for training: from documents to a model that answers, no outbound socket on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from source_tree import HOUSE
from test_law7_no_outbound import namespace

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("xllamacpp", reason="needs the engine that serves")
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def travelled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the journey said, made once."""
    folder, front = tmp_path_factory.mktemp("journey"), namespace()
    done = subprocess.run(
        [*front, sys.executable, str(HOUSE / "training_journey.py"), str(folder), *(["--namespace"] if front else [])],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def said(travelled: dict[str, Any], word: str) -> Any:
    return json.loads(next(step for step in travelled["steps"] if step["words"][0] == word)["stdout"])


def test_documents_become_a_model_that_answers_without_a_network(travelled):
    assert [(step["words"][0], step["stderr"]) for step in travelled["steps"] if step["rc"]] == []
    assert len(travelled["steps"]) == 7
    assert travelled["attempts"] == []
    assert travelled["lost"] == 0


def test_each_step_was_a_real_one(travelled):
    assert [one["stage"] for one in said(travelled, "train")["stages"]] == ["tokenizer", "pretrain", "tune"]
    exported = said(travelled, "export")
    assert exported["state"] == "published"
    assert exported["label"] == "internal"
    assert exported["reports"]["parity"]
    assert "our-llm" in json.dumps(said(travelled, "models"))
    assert said(travelled, "ask")["label"] == "internal"
