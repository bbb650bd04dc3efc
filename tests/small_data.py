"""Small data for the data side of builds: letters as tokens, a template's marks as one token each, rows in files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hagane.builds.spec import TrainFile
from hagane.core.labels import Label
from hagane.train.dataset import Encoder
from hagane.train.template import Template, encode
from hagane.train.words import Row

HR, INTERNAL = Label.parse("confidential:hr"), Label.parse("internal")
END = "<|endoftext|>"
MARKS = (END, "<|im_start|>", "<|im_end|>")
FIRST = 0x110000 - len(MARKS)  # ids of the marks: no letters stand there
TEMPLATE = Template.of("qwen")


@dataclass(frozen=True)
class Encoded:
    ids: Sequence[int]
    learnt: Sequence[bool]


def to_ids(text: str) -> list[int]:
    parts = re.split("|".join(map(re.escape, MARKS)).join("()"), text)
    return [number for part in parts for number in ([FIRST + MARKS.index(part)] if part in MARKS else map(ord, part))]


def to_text(ids: Sequence[int]) -> str:
    return "".join(MARKS[number - FIRST] if number >= FIRST else chr(number) for number in ids)


def ids_of(row: Row) -> Any:
    """As `train.encoder` does it: a text and its end, or a conversation by its template."""
    if row.messages:
        return encode(TEMPLATE.render(row.messages), to_ids)
    ids = [*map(ord, row.text or ""), FIRST]
    return Encoded(ids, [True] * len(ids))


ENCODER = Encoder("文字", 0x110000, ids_of)


def spec_of(stage: str, data: list[dict[str, Any]], **more: Any) -> TrainFile:
    training = {"tokens": 64, "rows": 4, **more.pop("training", {})}
    own = {"pretrain": {"params": "2M"}, "tune": {"base": "x"}, "prefer": {"base": "x"}}[stage]
    return TrainFile.model_validate({"name": "kaisha", stage: {**own, "data": data, "training": training}, **more})


def lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def articles(n: int) -> list[dict[str, Any]]:
    """Texts that are no near copies of each other."""
    words = ("有給休暇", "通勤手当", "出張旅費", "育児休業", "時間外労働", "健康診断", "社宅", "退職金", "懲戒", "制服", "名刺", "機密保持")
    ends = ("を支給する", "は申請による", "を定める", "は部長が決める", "を認めない", "は別表のとおり")
    return [
        {"text": f"{words[n % 12]}{ends[n // 12 % 6]}。{words[n * 7 % 12]}{n}{ends[n * 5 % 6]}。{words[n * 5 % 11]}の例外は{n * n}件{ends[n % 5]}。"}
        for n in range(n)
    ]


def documents_of(rows: Sequence[Row]) -> Callable[[], list[Row]]:
    return lambda: list(rows)


def nothing() -> list[Row]:
    return []
