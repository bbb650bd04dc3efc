"""What a machine costs by the hour: power and depreciation of one's own, named GPUs of clouds; every figure dated.

The figures stand in prices.toml; a file of the user's own overrules single values of it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from .config import Config
from .errors import ConfigError, nearest

OLD_DAYS = 90
_SECTIONS = ("rate", "power", "own", "gpu")


class Dated(Config):
    """A figure with its day and where it is published. `certain` False: an assumption, or not read at its publisher."""

    date: date
    source: str
    certain: bool = True

    def is_old(self, today: date) -> bool:
        """Older than 90 days: look it up again before money is spent."""
        return (today - self.date).days > OLD_DAYS


class Rate(Dated):
    """What a dollar costs."""

    jpy_per_usd: float = Field(gt=0)


class Power(Dated):
    """What a kilowatt-hour costs here, in both currencies as published (they need not agree with today's rate)."""

    jpy_per_kwh: float = Field(ge=0)
    usd_per_kwh: float = Field(ge=0)


class Own(Dated):
    """The own machine under load. It is written off evenly over the hours it is switched on."""

    watts: float = Field(gt=0)
    price_jpy: float = Field(ge=0)
    years: float = Field(gt=0)
    hours_per_year: float = Field(gt=0, le=8784)


class Gpu(Dated):
    """A GPU that clouds rent out. `bf16`: dense FLOP/s of the datasheet."""

    memory_gib: float = Field(gt=0)
    bf16: float = Field(gt=0)
    watts: float = Field(gt=0)
    usd_per_hour: float = Field(ge=0)


class Prices(Config):
    """The whole table."""

    rate: Rate
    power: Power
    own: Own
    gpu: Mapping[str, Gpu]


@dataclass(frozen=True, slots=True)
class Money:
    """What something costs, and the energy in it. `jpy` is what is paid here, `usd` the same at the table's rate."""

    jpy: float
    usd: float
    kwh: float
    power_jpy: float = 0.0
    depreciation_jpy: float = 0.0


def prices(own: Path | None = None) -> Prices:
    """The table, with the values of the user's file over it. Raises: ConfigError naming the key that is wrong."""
    table = _shipped()
    if own is None:
        return Prices.model_validate(table)
    try:
        given = tomllib.loads(own.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as cause:
        raise ConfigError(f"{own.name} does not exist", hint="a price table is a TOML file") from cause
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as cause:
        raise ConfigError(f"{own.name} cannot be read: {type(cause).__name__}", hint="a price table is TOML") from cause
    try:
        changed = date.fromtimestamp(own.stat().st_mtime)
        return Prices.model_validate(_over(table, given, {"source": own.name, "certain": True, "date": changed}))
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{own.name}: {where}: {first['msg']}", hint="core/prices.toml shows every key") from cause


def own_machine(table: Prices, hours: float) -> Money:
    """Power and depreciation of `hours` of the own machine."""
    kwh = table.own.watts * hours / 1000
    power = kwh * table.power.jpy_per_kwh
    wear = table.own.price_jpy / (table.own.years * table.own.hours_per_year) * hours
    return Money(power + wear, (power + wear) / table.rate.jpy_per_usd, kwh, power, wear)


def rented(table: Prices, gpu: Gpu, hours: float, *, n_gpus: int = 1) -> Money:
    """`hours` of `n_gpus` of a cloud's GPUs; the energy is the chips' alone and is within the price."""
    usd = gpu.usd_per_hour * hours * n_gpus
    return Money(usd * table.rate.jpy_per_usd, usd, gpu.watts * hours * n_gpus / 1000)


@lru_cache(maxsize=1)
def _text() -> str:
    return files("hagane.core").joinpath("prices.toml").read_text(encoding="utf-8")


def _shipped() -> dict[str, Any]:
    return tomllib.loads(_text())


def _over(table: dict[str, Any], given: Mapping[str, Any], origin: Mapping[str, Any]) -> dict[str, Any]:
    """`given` laid over the table. `origin`: the source and day of rows that do not say their own."""
    name = str(origin["source"])
    for section, rows in given.items():
        if section not in _SECTIONS or not isinstance(rows, Mapping):
            close = nearest(section, _SECTIONS)
            raise ConfigError(f"{name}: unknown section {section}", hint=f"did you mean {close}?" if close else None)
        if section != "gpu":
            table[section] = table[section] | origin | dict(rows)
            continue
        for kind, row in rows.items():
            if not isinstance(row, Mapping):
                raise ConfigError(f"{name}: gpu.{kind} is no table", hint="write [gpu.H100] and usd_per_hour = 2.49")
            table["gpu"][kind] = table["gpu"].get(kind, {}) | origin | dict(row)
    return table
