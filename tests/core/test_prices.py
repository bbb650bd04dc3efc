"""Prices: every figure dated and sourced, the user's file over it, money by hand, old ones marked."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from hagane.core.errors import ConfigError
from hagane.core.prices import OLD_DAYS, own_machine, prices, rented


def test_every_row_says_when_and_where_from():
    table = prices()
    rows = [table.rate, table.power, table.own, *table.gpu.values()]
    assert all(row.source and date(2024, 1, 1) < row.date <= date(2026, 11, 24) for row in rows)
    assert {"L4", "A10G", "A100-40", "A100-80", "H100", "H200"} <= table.gpu.keys()


def test_the_own_machine_by_hand():
    """100 W for 10 hours at 30 yen are 1 kWh and 30 yen; 876,000 yen over 5 years of 8,760 hours are 20 an hour."""
    table = prices()
    own = table.own.model_copy(update={"watts": 100.0, "price_jpy": 876_000.0, "years": 5.0, "hours_per_year": 8760.0})
    changes = {"own": own, "power": table.power.model_copy(update={"jpy_per_kwh": 30.0}),
               "rate": table.rate.model_copy(update={"jpy_per_usd": 115.0})}  # fmt: skip
    got = own_machine(table.model_copy(update=changes), 10)
    assert (got.kwh, got.power_jpy, got.depreciation_jpy) == pytest.approx((1.0, 30.0, 200.0))
    assert (got.jpy, got.usd) == pytest.approx((230.0, 2.0))


def test_a_rented_gpu_by_hand():
    table = prices()
    gpu = table.gpu["H100"].model_copy(update={"usd_per_hour": 2.0, "watts": 700.0})
    got = rented(table, gpu, 3, n_gpus=8)
    assert (got.usd, got.kwh) == pytest.approx((48.0, 16.8))
    assert got.jpy == pytest.approx(48.0 * table.rate.jpy_per_usd)


def test_a_file_of_ones_own_overrules_single_values(tmp_path: Path):
    """What it does not name stays; a row that it changes carries its name and its day."""
    file = tmp_path / "うちの単価.toml"
    file.write_text('[gpu.H100]\nusd_per_hour = 2.49\n[gpu."社内GPU"]\nmemory_gib = 48\nbf16 = 1e14\nwatts = 300\n'
                    'usd_per_hour = 0\n[rate]\njpy_per_usd = 149.2\ndate = 2026-11-20\n', "utf-8")  # fmt: skip
    got, shipped = prices(file), prices()
    assert got.gpu["H100"].usd_per_hour == 2.49 and got.gpu["H100"].bf16 == shipped.gpu["H100"].bf16
    assert got.gpu["H100"].source == file.name and got.gpu["社内GPU"].memory_gib == 48
    assert (got.rate.jpy_per_usd, got.rate.date) == (149.2, date(2026, 11, 20))
    assert got.gpu["L4"] == shipped.gpu["L4"] and prices() == shipped


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[gpus.H100]\nusd_per_hour = 2\n", "gpu"),
        ("[own]\nwatt = 3\n", "own.watt"),
        ("[own]\nwatts = -3\n", "own.watts"),
        ("[gpu]\nH100 = 3\n", "H100"),
        ("ではない\n", "TOML"),
    ],
)
def test_a_wrong_table_is_refused_by_key(tmp_path: Path, text: str, told: str):
    file = tmp_path / "prices.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        prices(file)
    assert told in f"{caught.value} {caught.value.hint}"


def test_a_table_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(ConfigError, match="does not exist"):
        prices(tmp_path / "ない.toml")


def test_prices_older_than_ninety_days_are_old():
    row = prices().rate
    assert not row.is_old(row.date + timedelta(days=OLD_DAYS))
    assert row.is_old(row.date + timedelta(days=OLD_DAYS + 1))
