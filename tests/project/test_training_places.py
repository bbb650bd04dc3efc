"""How runs lie on the disk of an encrypted project: no name and no text in the open, whatever was written before it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from encrypted_company import company

from hagane.builds.place import Log, Place
from hagane.core.errors import StateError, StorageError
from hagane.core.labels import Label
from hagane.project import keys, training_made
from hagane.project.training_places import keep_plan, kept_plan, place_of
from hagane.project.wire import Project

SECRET = "麒麟号"
QUIET: Any = lambda event: None  # noqa: E731


def put_run(project: Project) -> Place:
    project.ledger.lineage.declare("s_run", Label.parse("internal"))
    place = place_of(project, "our-llm", "tune")
    place.note(name="our-llm", stage="tune", state="failed", label="internal", dataset_step="s_run", error=f"{SECRET}.md is gone",
               file={"name": "our-llm", "tune": {"data": [{"file": f"{SECRET}.jsonl"}]}}, settings={"steps": 8})  # fmt: skip
    keep_plan(project, "our-llm", {"name": "our-llm", "stages": [{"stage": "tune", "notes": [SECRET]}]})
    return place


def in_the_open(project: Project) -> list[str]:
    """Files of runs that hold the word, as bytes or as JSON writes it."""
    files = [file for file in (project.state / "runs").rglob("*") if file.is_file()]
    return sorted(file.name for file in files if SECRET.encode() in file.read_bytes() or json.dumps(SECRET)[1:-1].encode() in file.read_bytes())


def test_a_run_of_an_encrypted_project_holds_no_word_in_the_open(tmp_path: Path) -> None:
    folder = company(tmp_path, encrypted=True)
    folder.sync()
    with Project.open(folder.path) as project:
        place = put_run(project)
        assert in_the_open(project) == []
        [shown] = training_made.run(project, "our-llm", by=project.principal())["stages"]
        assert shown["error"] == f"{SECRET}.md is gone"
        assert kept_plan(project, "our-llm")["tune"]["notes"] == [SECRET]
        Place(place.folder).note(settings={"steps": 9}, seconds=1.5)  # as the child does, which has no key of it
        assert (place.state()["settings"], place.state()["error"]) == ({"steps": 9}, f"{SECRET}.md is gone")
        with pytest.raises(StorageError, match="encrypted"):
            Place(place.folder).note(error=SECRET)


def test_turning_encryption_on_seals_runs_and_takes_samples_out(tmp_path: Path) -> None:
    folder = company(tmp_path, encrypted=False)
    folder.sync()
    with Project.open(folder.path) as project:
        place, by = put_run(project), project.principal()
        log = Log(place.events)
        log.write({"event": "data", "what": "reading", "recognised": [f"{SECRET}.jsonl"]})
        for step in (1, 2):
            log.write({"event": "step", "step": step, "loss": 1.0})
            log.write({"event": "sample", "step": step, "prompt": "", "text": SECRET})
        assert in_the_open(project) == ["events.jsonl", "plan.json", "state.json"]
        with place.alone(), pytest.raises(StateError, match="being trained"):
            keys.turn_on(project, f"file:{tmp_path / 'project.key'}", by=by, emit=QUIET)
        keys.turn_on(project, f"file:{tmp_path / 'project.key'}", by=by, emit=QUIET)
        assert in_the_open(project) == []
    with Project.open(folder.path) as project:
        [shown] = training_made.run(project, "our-llm", by=project.principal())["stages"]
        assert [event["event"] for event in shown["events"]] == ["data", "step", "step"]
        assert shown["error"] == f"{SECRET}.md is gone"
        keys.turn_off(project, by=project.principal(), emit=QUIET)
    with Project.open(folder.path) as project:
        assert in_the_open(project) == ["plan.json", "state.json"]
        assert place_of(project, "our-llm", "tune").state()["error"] == f"{SECRET}.md is gone"
        assert kept_plan(project, "our-llm")["tune"]["notes"] == [SECRET]


def test_a_label_that_was_put_in_the_open_is_not_believed(tmp_path: Path) -> None:
    """Whoever writes into .hagane cannot lower the label of a run."""
    folder = company(tmp_path, encrypted=True)
    folder.sync()
    with Project.open(folder.path) as project:
        file = put_run(project).folder / "state.json"
        told = json.loads(file.read_text("utf-8"))
        file.write_text(json.dumps({**{k: v for k, v in told.items() if k != "sealed"}, "label": "public", "dataset_step": "s_run"}), "utf-8")
        assert training_made.runs(project, by=project.principal())[0]["stages"][0]["label"] is None
        other = place_of(project, "other-llm", "tune")
        other.folder.mkdir(parents=True)
        (other.folder / "state.json").write_text(json.dumps(told), "utf-8")
        with pytest.raises(StorageError):
            other.state()


def test_the_log_of_an_encrypted_project_keeps_numbers_only(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    log = Log(file, bare=True)
    log.write({"event": "data", "what": "reading", "recognised": [f"{SECRET}.jsonl"]})
    log.write({"event": "sample", "step": 1, "text": SECRET})
    log.write({"event": "step", "step": 1, "loss": 2.5})
    assert [json.loads(line) for line in file.read_text("utf-8").splitlines()] == [
        {"event": "data", "what": "reading"}, {"event": "step", "step": 1, "loss": 2.5},
    ]  # fmt: skip
