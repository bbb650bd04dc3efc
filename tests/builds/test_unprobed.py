"""What cannot be probed is not published, and a report in the open vouches only for what passed, without naming a row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")

from small_data import ENCODER, INTERNAL, lines, nothing, spec_of, to_text

from hagane.builds.data import prepare
from hagane.builds.memory import gate
from hagane.builds.publish import REPORT, Report, _Export
from hagane.builds.spec import ExportConfig, MemoryGateConfig
from hagane.builds.trace import remove
from hagane.core.labels import Label
from hagane.train.shard_set import ShardSet

PAIRS = [{"prompt": f"問{n}", "chosen": f"良い答え{n}", "rejected": f"悪い答え{n}"} for n in range(30)]


def prepared(at: Path, stage: str, rows: list[dict[str, str]], **training: int) -> Path:
    lines(at / f"{stage}.jsonl", rows)
    spec = spec_of(stage, [{"file": f"{stage}.jsonl"}], split={"dev": 0.2}, training=training)
    made = prepare(spec, stage, documents=nothing, folder=at / "datasets", encoder=ENCODER, root=at, default=INTERNAL)
    assert made.folder is not None
    return made.folder


@pytest.mark.parametrize("gone", ["first", "second", "all", "none known"])
def test_a_data_set_that_is_gone_blocks(tmp_path: Path, gone: str):
    """Erased, or taken away with a change of encryption: that there is nothing to probe is no pass."""
    texts = prepared(tmp_path, "pretrain", [{"text": f"第{n}条 有給休暇は{n}日とする。"} for n in range(60)], tokens=64)
    pairs = prepared(tmp_path, "prefer", PAIRS, tokens=200)
    sets = [] if gone == "none known" else [texts, pairs]
    for place in {"first": sets[:1], "second": sets[1:], "all": sets}.get(gone, []):
        remove(place)
    verdict = gate(sets, MemoryGateConfig())(tmp_path)
    assert not verdict.passed
    assert "cannot be probed" in verdict.why[0]
    assert verdict.as_json()["passed"] is False


def test_chosen_answers_of_pairs_are_kept_to_be_probed(tmp_path: Path):
    """Those that no row of this run holds, too: another run of the same set may have learnt them."""
    place = prepared(
        tmp_path, "prefer", [*PAIRS, {"prompt": "長い問", "chosen": "良い答え" * 200, "rejected": "いいえ"}], tokens=200
    )
    kept = [ShardSet(place / part) for part in ("train", "dev")]
    said = [to_text(one.ids(n).tolist()) for one in kept for n in range(one.n_documents)]
    assert len(said) == len(PAIRS) + 1
    assert all("良い答え" in text and "悪い" not in text for text in said)
    assert not any(one.learn(0).all() for one in kept), "of the prompt nothing is learnt"
    assert (
        prepared(
            tmp_path,
            "prefer",
            [*PAIRS, {"prompt": "長い問", "chosen": "良い答え" * 200, "rejected": "いいえ"}],
            tokens=400,
        )
        == place
    )


@pytest.mark.parametrize("state", ["published", "blocked"])
def test_the_report_in_the_open_names_no_row_and_an_old_one_vouches_for_nothing(tmp_path: Path, state):
    folder, making = tmp_path / "model", tmp_path / "model" / ".making-x"
    making.mkdir(parents=True)
    (folder / REPORT).write_text('{"state": "published"}')
    named = [{"source": "給与/評価.docx", "line": 3, "n_characters": 80}]
    report = Report(
        "kaisha",
        state,
        Label.parse("restricted"),
        (),
        "",
        (),
        "raw",
        1,
        1,
        "",
        {"memory": {"named": named, "passed": True}},
    )
    work = _Export(tmp_path, making, ExportConfig(), name="kaisha", label=report.label, emit=print, stop=lambda: False)
    (making / "kaisha-Q8_0.gguf").write_text("重み")
    work.place(folder, report)
    assert (folder / REPORT).exists() == (state == "published")
    text = next(folder.rglob(REPORT)).read_text("utf-8")
    assert "評価" not in text
    assert json.loads(text)["reports"]["memory"] == {"passed": True}
    assert report.as_json()["reports"]["memory"]["named"] == named, "the sealed record has them"
