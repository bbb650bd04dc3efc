"""The model card, in Japanese and English: what a model is for, what it learnt from, how it was measured, what it cannot do.

    write_cards(folder, record, spec=spec, data=data_of(datasets), stages=[made, ...])

It says what is on record and "not measured" where nothing is. It names no file of the data and shows no text; what the
numbers tell is as sensitive as the model, so the card carries its label and is given to nobody who may not see it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from hagane.core.errors import StorageError
from hagane.core.seams import Sealer
from hagane.core.whole_file import write_whole

from .shelf import Record
from .spec import TrainFile

Language = Literal["en", "ja"]
NAMES: Mapping[Language, str] = {"en": "README.md", "ja": "README.ja.md"}
SMALL = 1_000_000_000  # parameters below which a model's knowledge of the world is a limit of its own
Facts = Mapping[str, Any]


@cache
def words(language: Language) -> Mapping[str, str]:
    """The card's sentences."""
    return tomllib.loads(files(__package__).joinpath(f"card_{language}.toml").read_text("utf-8"))


def card(
    record: Record,
    *,
    language: Language,
    spec: TrainFile | None = None,
    data: Sequence[Facts] = (),
    stages: Sequence[Facts] = (),
    evaluation: Sequence[Facts] = (),
) -> str:
    """Markdown. `data`: of `data_of`; `stages`: what each stage made, as `run_stage` tells it, with "measured";
    `evaluation`: rows of name, value, low, high, n."""
    text = words(language)
    parts = [
        *_head(text, record),
        *_section(text["use"], [text["use_chat" if record.chat == "template" else "use_raw"]]),
        *_section(text["limits"], _limits(text, record)),
        *_section(text["data"], _data(text, spec, data)),
        *_section(text["training"], _training(text, record, stages)),
        *_section(text["plan"], _plan(text, record, stages)),
        *_section(text["gates"], _gates(text, record.reports)),
        *_section(text["evaluation"], _evaluation(text, record, evaluation)),
        *_section(text["files"], _files(text, record)),
        *_section(text["licence"], [_licence(text, record)]),
    ]
    return "\n".join(parts) + "\n"


def write_cards(folder: Path, record: Record, **facts: Any) -> tuple[Path, ...]:
    """README.md and README.ja.md in the model's folder; `facts` as in `card`. Raises: StorageError."""
    written = []
    for language, name in NAMES.items():
        try:
            write_whole(folder / name, card(record, language=language, **facts).encode())
        except OSError as cause:
            raise StorageError(
                f"{name} cannot be written: {cause.strerror}", hint="free space, then export again"
            ) from cause
        written.append(folder / name)
    return tuple(written)


def data_of(datasets: Sequence[Path], *, sealer: Sealer | None = None) -> tuple[Facts, ...]:
    """Counts and labels of data sets, from their own records; a set whose record cannot be read is left out."""
    from hagane.train.vault import Vault

    found: list[Facts] = []
    for place in datasets:
        vault = Vault(sealer, place.name)
        try:
            bad = [json.loads(line) for line in vault.read(place / "bad.jsonl").decode().split("\n") if line]
            told = json.loads(vault.read(place / "dataset.json")) if (place / "dataset.json").is_file() else {}
        except (OSError, ValueError, StorageError):
            continue
        reasons = Counter(_reason(str(one.get("reason", ""))) for one in bad)
        found.append({"id": place.name, **told, "bad": len(bad), "reasons": dict(reasons.most_common(8))})
    return tuple(found)


def _reason(said: str) -> str:
    """Why a row was left out, without the numbers that differ from row to row."""
    return re.sub(r"\d[\d,.]*", "N", said)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *lines]


def _table(head: str, rows: Sequence[str]) -> list[str]:
    return [head, re.sub(r"[^|]+", "---", head), *rows] if rows else []


def _head(text: Facts, record: Record) -> list[str]:
    origin = text["tuned"].format(base=_cell(record.base.name)) if record.base.name else text["scratch"]
    if record.kind == "adapter":
        origin += text["adapter"] if origin.endswith("。") else f" {text['adapter']}"
    said = text["model"].format(
        n_params=record.n_params,
        context=record.context,
        origin=origin,
        label=record.label,
        state=record.state,
        created_at=record.created_at[:10] or "-",
    )
    head = [f"# {text['title'].format(name=record.name)}", "", said, "", text["label_note"].format(label=record.label)]
    return [*head, "", text["blocked"].format(why=_cell(record.why))] if record.state == "blocked" else head


def _limits(text: Facts, record: Record) -> list[str]:
    keys = ["limit_facts", *(["limit_small"] if 0 < record.n_params < SMALL else []), "limit_forget", "limit_labels"]
    keys += [*(["limit_base"] if record.base.name else []), "limit_people"]
    return [f"- {text[key].format(n_params=record.n_params)}" for key in keys]


def _data(text: Facts, spec: TrainFile | None, data: Sequence[Facts]) -> list[str]:
    rows = [
        text["data_row"].format(
            id=one["id"],
            label=one.get("label", "-"),
            rows=one.get("rows", 0),
            bad=one.get("bad", 0),
            dropped=one.get("dropped", 0),
            masked=one.get("masked", 0),
            parents=len(one.get("parents", ())),
        )
        for one in data
    ]
    lines = [*_table(text["data_head"], rows), "", text["data_names"]] if rows else [text["data_none"]]
    reasons: Counter[str] = Counter()
    for one in data:
        reasons.update(one.get("reasons", {}))
    if reasons:
        said = "; ".join(f"{_cell(reason)} ({n})" for reason, n in reasons.most_common())
        lines += ["", text["reasons"].format(reasons=said)]
    if spec is not None:
        lines += ["", text["held_out"].format(dev=spec.split.dev, test=spec.split.test)]
        policy = ", ".join(f"{kind}: {text[what]}" for kind, what in sorted(spec.personal.items()))
        lines += ["", text["personal"].format(policy=policy) if policy else text["personal_none"]]
    return lines


def _training(text: Facts, record: Record, stages: Sequence[Facts]) -> list[str]:
    unknown = text["unknown"]
    rows = [
        text["training_row"].format(
            stage=one["stage"],
            steps=_number(one.get("steps"), unknown),
            tokens=_number(one.get("tokens"), unknown),
            loss=_number(one.get("loss"), unknown),
            dev_loss=_number(one.get("dev_loss"), unknown),
            bits_per_byte=_number(one.get("bits_per_byte"), unknown),
        )
        for one in stages or [{"stage": record.stage, **record.reports.get("measured", {}), **_dev(record)}]
    ]
    return _table(text["training_head"], rows)


def _dev(record: Record) -> Facts:
    dev = record.reports.get("dev", {})
    return {"dev_loss": dev.get("loss"), "bits_per_byte": dev.get("bits_per_byte")}


def _plan(text: Facts, record: Record, stages: Sequence[Facts]) -> list[str]:
    unknown, rows = text["unknown"], []
    for one in stages or [{"stage": record.stage, "measured": record.reports.get("measured", {})}]:
        measured = one.get("measured") or {}
        planned = measured.get("predicted") or {}
        rows.append(
            text["plan_row"].format(
                stage=one["stage"],
                hours_planned=_hours(planned.get("predicted_s"), unknown),
                hours=_hours(measured.get("seconds"), unknown),
                memory_planned=_size(planned.get("predicted_bytes"), unknown),
                memory=_size(measured.get("peak_bytes"), unknown),
                flops=_flops(measured.get("flops"), unknown),
                kwh=f"{measured['kwh']:.3g} kWh" if measured.get("kwh") else unknown,
            )
        )
    return _table(text["plan_head"], rows)


def _gates(text: Facts, reports: Facts) -> list[str]:
    verdict = {True: text["passed"], False: text["failed"]}
    lines: list[str] = []
    if parity := reports.get("parity"):
        rows = [text["parity_row"].format(**one) for checks in parity.get("checks", {}).values() for one in checks]
        lines += [
            text["parity"].format(verdict=verdict[bool(parity.get("passed"))]),
            "",
            *_table(text["parity_head"], rows),
        ]
    else:
        lines.append(text["parity_none"])
    memory = reports.get("memory")
    if not memory:
        return [*lines, "", text["memory_none"]]
    names = {"repeated": text["repeated"], "once": text["once"], "held_out": text["held"]}
    rows = [
        text["memory_row"].format(**{**one, "group": names[one["name"]]})
        for one in memory.get("groups", ())
        if one["probed"]
    ]
    lines += ["", text["memory_gate"].format(verdict=verdict[bool(memory.get("passed"))]), ""]
    lines += _table(text["memory_head"].format(allowed=memory.get("allowed_characters", "-")), rows)
    if canaries := memory.get("canaries"):
        most = max(one["fitted"] for one in canaries)
        lines += ["", text["memory_canaries"].format(n=len(canaries), most=most, allowed=memory["allowed_bits"])]
    return lines


def _evaluation(text: Facts, record: Record, evaluation: Sequence[Facts]) -> list[str]:
    rows = [text["evaluation_row"].format(**{**one, "name": _cell(str(one["name"]))}) for one in evaluation]
    return _table(text["evaluation_head"], rows) or [text["evaluation_none"].format(name=record.name)]


def _files(text: Facts, record: Record) -> list[str]:
    rows = [
        text["files_row"].format(
            path=_cell(one.path), numbers=one.numbers or "-", size=_size(one.size_bytes, "-"), sha256=one.sha256[:16]
        )
        for one in record.files
    ]
    return _table(text["files_head"], rows) or [text["files_none"]]


def _licence(text: Facts, record: Record) -> str:
    if not record.base.name:
        return str(text["licence_own"])
    key = "licence_base" if record.base.licence else "licence_unknown"
    return str(text[key].format(licence=_cell(record.base.licence), base=_cell(record.base.name)))


def _cell(said: str) -> str:
    """Text that stays in its place of a table and is no Markdown of its own."""
    return re.sub(r"\s+", " ", re.sub(r"([\\`*_\[\]<>|])", r"\\\1", said))


def _number(value: Any, unknown: str) -> str:
    if value is None:
        return unknown
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _hours(seconds: Any, unknown: str) -> str:
    return f"{float(seconds) / 3600:.3g}" if seconds else unknown


def _size(n_bytes: Any, unknown: str) -> str:
    if not n_bytes:
        return unknown
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.2f} MB"


def _flops(value: Any, unknown: str) -> str:
    return f"{value:.2e}" if value else unknown
