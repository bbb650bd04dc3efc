"""300 Japanese sentences, equal each time: the example company's own, and made ones with what tokenizers stumble over."""

from __future__ import annotations

import random
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
_WHO = [
    "総務部",
    "人事課の山田さん",
    "髙橋社長",
    "サーバー管理者",
    "株式会社ハガネ工業",
    "派遣社員",
    "𠮷野部長",
    "ABC Corp.",
]
_WHAT = [
    "有給休暇を",
    "出張旅費を",
    "パスワードを",
    "見積書(第3版)を",
    "ﾊﾝｶｸの表を",
    "①の書類を",
    "領収書 を",
    "“規程”を",
]
_WHEN = [
    "2026年11月24日に",
    "毎月末日までに",
    "午後3:30から",
    "来週、",
    "令和8年度に",
    "24時間以内に",
    "\u3000先月\u3000",
    "T+2 で ",
]
_DO = [
    "申請しました。",
    "確認してください!",
    "1,234,567円で精算する。",
    "送ってよいですか?",
    "廃棄した…",
    "見直す(予定)。",
    "OKです👍🏽",
    "削除\u200bせよ。",
]


def company() -> list[str]:
    """The lines of the example company's documents that are plain text."""
    lines = [line.strip() for path in sorted(EXAMPLES.rglob("*.md")) for line in path.read_text("utf-8").splitlines()]
    return [line for line in dict.fromkeys(lines) if len(line) > 10]


def sentences(n: int = 300) -> list[str]:
    """`n` sentences, no two alike."""
    chance = random.Random(20261124)
    found = dict.fromkeys(company()[: n // 2])
    while len(found) < n:
        found["".join(chance.choice(part) for part in (_WHEN, _WHO, ["は", "が", "も"], _WHAT, _DO))] = None
    return list(found)


def texts() -> list[str]:
    """What the tests train tokenizers on: another draw of the same generator, and code."""
    return [*company(), *sentences(900)[300:], "def f(x):\n    return x + 1  # 合計\n\n\nclass A:\n\tpass\n" * 5]
