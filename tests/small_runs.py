"""A tiny train.yaml with its files, and stages of it done in this process. Not a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hagane.builds.place import Place
from hagane.builds.run import run_stage

RULES = (
    "年次有給休暇は、入社から六か月後に十日付与する。",
    "出張の日当は、課長以上が三千円、その他が二千五百円である。",
    "情報資産の持ち出しには、部門長の承認が要る。",
    "退職の申し出は、三十日前までに書面で行う。",
    "定期健康診断は、毎年五月に全社員が受ける。",
    "経費の精算は、翌月五日までに申請すること。",
)
QUICK = {"tokens": 64, "rows": 4, "threads": 1}
FILE: Mapping[str, Any] = {
    "name": "our-llm",
    "tokenizer": {"vocab": 450, "data": [{"file": "texts.jsonl"}]},
    "pretrain": {"data": [{"file": "texts.jsonl"}], "params": "60k", "training": {**QUICK, "steps": 12, "save_every": 4, "dev_every": 6}},
    "tune": {"data": [{"file": "answers.jsonl"}], "training": {**QUICK, "steps": 6}},
    "prefer": {"data": [{"file": "pairs.jsonl"}], "training": {**QUICK, "tokens": 128, "steps": 4, "rows": 2}},
    "memory": {"share": 1.0},
}


def write_files(root: Path) -> None:
    """Texts, answers and pairs, each row another one."""
    root.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {"texts": [], "answers": [], "pairs": []}
    for n in range(60):
        rule, other = RULES[n % 6], RULES[(n + 1) % 6]
        rows["texts"].append({"text": f"第{n}条 {rule}{other}附則{n * 7}号による。"})
        rows["answers"].append({"prompt": f"第{n}条は何を定めるか。", "completion": rule})
        rows["pairs"].append({"prompt": f"第{n}条は何を定めるか。", "chosen": rule, "rejected": "わかりません。"})
    for name, some in rows.items():
        (root / f"{name}.jsonl").write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in some), encoding="utf-8")


def job_of(root: Path, stage: str, *, file: Mapping[str, Any] = FILE, **changes: Any) -> dict[str, Any]:
    """What the parent would send for a stage whose runs lie in `root`/runs."""
    runs = root / "runs"
    before = {"tune": "pretrain", "prefer": "tune"}.get(stage, "")
    base = str(runs / before / "out" / "hf") if before else ""
    return {
        "file": dict(file), "stage": stage, "run": str(runs / stage), "root": str(root), "label": "internal", "base": base,
        "labels": {f"{name}.jsonl": "internal" for name in ("texts", "answers", "pairs")}, "base_label": "internal", "adapter": "",
        "tokenizer": str(runs / "tokenizer" / "out" / "tokenizer"), "datasets": str(root / "datasets"), "threads": 1,
        "flops_per_s": 1e10 if stage == "tokenizer" else 0.0, "samples": True, **changes,
    }  # fmt: skip


def do(root: Path, stage: str, *, stop: Callable[[], bool] = lambda: False, emit: Callable[[Any], None] = lambda event: None, **given: Any) -> dict[str, Any]:
    """The stage, in this process."""
    return run_stage(job_of(root, stage, **given), documents=lambda: (), emit=emit, stop=stop)


def place(root: Path, stage: str) -> Place:
    return Place(root / "runs" / stage)
