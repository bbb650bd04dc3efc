"""A plan as text: golden, aligned with Japanese names, never wider than it must be. Needs no torch."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from hagane.builds.amount import Amount
from hagane.builds.cost import Fit
from hagane.builds.decoder import Decoder
from hagane.builds.machine import Machine
from hagane.builds.plan import compare, plan
from hagane.builds.plan_text import shown, shown_comparison
from hagane.builds.spec import TrainFile
from hagane.core.prices import prices
from hagane.train.speed import Speed

GOLDEN = Path(__file__).with_name("golden")
GEMMA_270M = Decoder("gemma3_text", 262_144, 640, 18, 4, 1, 256, 2048, True, True, 32_768)
MACHINE = Machine(Speed(6.4e10, 8e8, 2.5e-6, "torch"), 16e9, 200e9, 2)
DOCUMENTS = [{"documents": []}]
CASES: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "from_scratch": ({"pretrain": {"data": DOCUMENTS, "budget": "1h"}}, "pretrain", {"data": Amount(3e6, 2000, estimated=True)}),
    "adapter": ({"tune": {"data": DOCUMENTS, "base": "x", "adapter": {}}}, "tune", {"base": GEMMA_270M, "data": Amount(1.2e6, 5000, 0.2)}),
    "too_large": ({"pretrain": {"data": DOCUMENTS, "params": "70B"}}, "pretrain", {}),
}  # fmt: skip


def made(case: str, **rest: Any):
    """With constants of the test's own: what a fit finds later changes no golden text."""
    stages, stage, more = CASES[case]
    table = TrainFile.model_validate({"name": "uchi-no-moderu", **stages})
    return plan(table, stage, **{"machine": MACHINE, "today": date(2026, 11, 24), "fit": Fit(*[1.0] * 9), **more, **rest})


@pytest.mark.parametrize("case", CASES)
def test_a_plan_reads_like_its_golden_text(case: str):
    """What a user sees of three plans. HAGANE_WRITE_GOLDEN=1 writes them anew, when the change is meant."""
    file, text = GOLDEN / f"plan_{case}.txt", shown(made(case))
    if os.environ.get("HAGANE_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


def test_the_table_aligns_with_japanese_names():
    """Wide letters take two columns: every row's date ends at the same one."""
    table = prices()
    gpus = {"社内の計算機": table.gpu["H100"], "L4": table.gpu["L4"], "ｱｲｳ": table.gpu["H200"]}
    lines = shown(made("adapter", prices=table.model_copy(update={"gpu": gpus}))).splitlines()
    rows = [line for line in lines if "GB of" in line and "memory  " not in line]
    assert len(rows) == 4 and any("社内の計算機" in row for row in rows)
    ends = {sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in row.partition("20")[0]) for row in map(_from_date, rows)}
    assert len(ends) == 1


def _from_date(row: str) -> str:
    """The row with only the year of its date left of what could look like one."""
    return row.rpartition("  20")[0].replace("20", "xx") + "  20"


def test_old_and_assumed_prices_are_marked():
    text = shown(made("adapter"))
    assert "2026-06-17" not in text.split("A10G")[0] and "*" in text and "older than 90 days" in text and "assumption" in text
    table, today = prices(), date(2026, 11, 24)
    fresh = {name: row.model_copy(update={"date": today, "certain": True}) for name, row in table.gpu.items()}
    rest = {name: getattr(table, name).model_copy(update={"date": today, "certain": True}) for name in ("rate", "power", "own")}
    text = shown(made("adapter", prices=table.model_copy(update={"gpu": fresh, **rest})))
    assert "older than" not in text and "assumption or" not in text


def test_predicted_against_measured_is_one_line():
    planned = made("adapter")
    said = shown_comparison(compare(planned, {"steps": planned.steps, "seconds": 1.1 * planned.steps * planned.seconds_per_step, "peak_bytes": 2e9}))
    assert "(1.10)" in said and "measured 2.0 GB" in said and "kWh" in said and "\n" not in said
    assert "memory" not in shown_comparison(replace(compare(planned, {"seconds": 60}), measured_bytes=0))
