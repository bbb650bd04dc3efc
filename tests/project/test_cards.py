"""Cards beside a made model: counts of its data, what was foretold and measured, and no name of the data."""

from __future__ import annotations

import json

import made_model
from small_company import company_in

from hagane.builds.spec import TrainFile
from hagane.project import trained, training_export, training_places
from hagane.project.wire import Project

SPEC = TrainFile.model_validate(
    {"name": "our-llm", "tune": {"base": "gemma3-270m", "data": [{"file": "評価表.jsonl"}]}}
)


def test_an_export_leaves_cards_in_both_languages(tmp_path):
    """From the run's own state and the data set's record; who made the data is not told."""
    folder = company_in(tmp_path / "company", synced=False)
    with Project.open(folder.path) as project:
        record = made_model.put(project, "our-llm", "confidential:hr")
        place = training_places.place_of(project, "our-llm", "tune")
        place.folder.mkdir(parents=True)
        made = {"stage": "tune", "steps": 12, "tokens": 3072, "loss": 1.0, "dev_loss": 1.125, "bits_per_byte": None,
                "measured": {"seconds": 7200.0, "predicted": {"predicted_s": 3600.0}}}  # fmt: skip
        place.note(state="done", made=made)
        data = project.state / "datasets" / "ds_7"
        data.mkdir(parents=True)
        (data / "dataset.json").write_text(
            json.dumps({"label": "confidential:hr", "rows": 321, "recognised": ["評価表.jsonl"]}) + "\n", "utf-8"
        )
        (data / "bad.jsonl").write_text("", "utf-8")
        training_export._cards(project, record, SPEC, [str(data)])
        beside = trained.folder_of(project) / "our-llm"
        said = {name: (beside / name).read_text("utf-8") for name in ("README.md", "README.ja.md")}
    for text in said.values():
        assert "ds_7" in text and "321" in text and "1.125" in text and "confidential:hr" in text
        assert "| 1 | 2 |" in text, "hours planned and measured"
        assert "評価表" not in text
    assert "# our-llm" in said["README.md"] and "限界" in said["README.ja.md"]
