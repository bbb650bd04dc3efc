"""The model card: the same in both languages, nothing invented, nothing of the data's text or names."""

from __future__ import annotations

import json
import string
from dataclasses import replace

import pytest

from hagane.builds.card import card, data_of, words, write_cards
from hagane.builds.shelf import Base, ModelFile, Record
from hagane.builds.spec import TrainFile
from hagane.core.labels import Label

RECORD = Record(
    "our-llm", kind="model", label=Label.parse("confidential:hr"), stage="tune", state="published",
    base=Base(name="gemma3-270m", licence="Gemma Terms of Use"), chat="template", n_params=270_000_000, context=1024,
    files=(ModelFile("our-llm-Q8_0.gguf", "ab" * 32, 291_000_000, "gguf", "Q8_0"),), created_at="2026-11-24T20:00:00+00:00",
    reports={
        "measured": {"seconds": 3600.0, "peak_bytes": 2_000_000_000, "flops": 1.5e15, "kwh": 0.05,
                     "predicted": {"predicted_s": 3000.0, "predicted_bytes": 1_900_000_000}},
        "dev": {"loss": 1.25, "bits_per_byte": 0.61},
        "parity": {"passed": True, "checks": {"Q8_0": [{"side": "GGUF", "claim": "next", "got": 995, "of": 1000, "needed": 0.99}]}},
        "memory": {"passed": True, "allowed_characters": 50, "allowed_bits": 11.0,
                   "groups": [{"name": "once", "probed": 200, "copied": 1, "longest": 61}, {"name": "held_out", "probed": 40, "copied": 0, "longest": 12}],
                   "canaries": [{"copies": 1, "sampled": 2.0, "fitted": 2.5, "n": 1024}],
                   "named": [{"source": "人事/評価表.jsonl", "line": 7, "n_characters": 61}]},
    },
)  # fmt: skip
SPEC = TrainFile.model_validate(
    {
        "name": "our-llm",
        "tune": {"base": "gemma3-270m", "data": [{"file": "評価表.jsonl"}]},
        "personal": {"email": "mask", "phone": "drop_row"},
    }
)
DATA = [{"id": "ds_01", "label": "confidential:hr", "rows": 1200, "bad": 3, "dropped": 4, "masked": 5, "parents": ["a", "b"],
         "recognised": ["人事/評価表.jsonl: messages"], "reasons": {"output is empty": 2, "line N bytes too long": 1}}]  # fmt: skip


def fields(text: str) -> set[str]:
    return {name.split(":")[0] for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_say_the_same_things():
    """Equal keys, equal facts in each sentence, and tables of equally many columns."""
    english, japanese = words("en"), words("ja")
    assert english.keys() == japanese.keys()
    for key in english:
        assert fields(english[key]) == fields(japanese[key]), key
        assert english[key].count("|") == japanese[key].count("|"), key


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_fact_on_record_is_in_it(language):
    evaluation = [{"name": "f1", "value": 0.781, "low": 0.76, "high": 0.802, "n": 500}]
    said = card(RECORD, language=language, spec=SPEC, data=DATA, evaluation=evaluation)
    wanted = ["our-llm", "270,000,000", "1,024", "confidential:hr", "gemma3-270m", "Gemma Terms of Use", "ds_01", "1,200",
              "1.25", "0.61", "0.833", "1.90 GB", "2.00 GB", "1.50e+15", "0.05 kWh", "995", "0.99", "200", "61", "2.5", "11.0",
              "0.781", "0.760", "0.802", "500", "Q8_0", "291.00 MB", "abab", "output is empty"]  # fmt: skip
    assert [one for one in wanted if one not in said] == []
    tables = [line for line in said.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables) and len(tables) > 20


@pytest.mark.parametrize("language", ["en", "ja"])
def test_it_names_no_file_and_no_row_of_the_data(language):
    """Who may see the card may still not be shown whose table it was."""
    said = card(RECORD, language=language, spec=SPEC, data=DATA)
    assert "評価表" not in said and "人事" not in said


def test_what_is_not_on_record_is_said_and_not_invented():
    bare = replace(
        RECORD,
        reports={},
        files=(),
        base=Base(),
        state="blocked",
        why="memory: rows come back",
        chat="raw",
        created_at="",
    )
    said = card(bare, language="en")
    for sentence in (
        "not measured",
        "Parity gate: not run.",
        "Not evaluated",
        "None is published.",
        "Trained from scratch.",
        "**Blocked",
    ):
        assert sentence in said
    assert "0.00" not in said and "None " not in said.replace("None is published", "")
    assert "未測定" in card(bare, language="ja") and "公開停止" in card(bare, language="ja")


def test_personal_data_policy_is_said_by_kind():
    assert "email: masked, phone: row left out" in card(RECORD, language="en", spec=SPEC)
    assert "email: 伏せ字, phone: 行を除外" in card(RECORD, language="ja", spec=SPEC)
    assert words("en")["personal_none"] in card(RECORD, language="en", spec=SPEC.model_copy(update={"personal": {}}))


def test_names_cannot_write_markdown_of_their_own():
    odd = replace(RECORD, base=Base(name="a|b\n# 見出し <script>", licence="[x](y)"))
    said = card(odd, language="ja")
    assert "\n# 見出し" not in said and "<script>" not in said.replace("\\<script\\>", "") and "\\[x\\]" in said


def test_counts_come_from_the_data_sets_own_records(tmp_path):
    place = tmp_path / "ds_2"
    place.mkdir()
    (place / "dataset.json").write_text(
        json.dumps({"label": "internal", "rows": 9, "dropped": 1, "masked": 0, "parents": ["p"]}) + "\n", "utf-8"
    )
    bad = [{"source": "表.jsonl", "line": n, "reason": f"the pair has {900 + n} tokens, a row 512"} for n in range(3)]
    (place / "bad.jsonl").write_text("".join(json.dumps(one) + "\n" for one in bad), "utf-8")
    [told] = data_of([place, tmp_path / "gone"])
    assert (told["id"], told["rows"], told["bad"]) == ("ds_2", 9, 3)
    assert told["reasons"] == {"the pair has N tokens, a row N": 3}


def test_cards_are_written_beside_the_files(tmp_path):
    english, japanese = write_cards(tmp_path, RECORD, spec=SPEC, data=DATA)
    assert english.name == "README.md" and japanese.name == "README.ja.md"
    assert english.read_text("utf-8") == card(RECORD, language="en", spec=SPEC, data=DATA)
    assert "想定する用途" in japanese.read_text("utf-8")
