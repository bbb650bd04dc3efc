"""The race in fine-tuning: LoRA on Gemma 3 270M, ours against TRL's SFTTrainer at its best setting and at its default.

    python bench/tune.py WORK BASE JAQUAD --trl PYTHON prepare|race|gains|table

BASE: the base's Hugging Face folder. PYTHON: of an environment with trl, or this one. Same examples, rank, rate and
steps; a packed step is one row of --tokens. The systems take turns, step by step, within one run; the first step of each
warms up and is not counted. gains: ours with its parts switched off one by one. Results: WORK/tune.jsonl.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SYSTEMS = ("hagane", "trl-best", "trl-default")
PARTS = ("pieces", "head", "lora", "packing")


def prepare(given: argparse.Namespace) -> None:
    """Questions about paragraphs as prompt and completion, tokenised once for everyone; the answer earns loss."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(given.base / "tokenizer.json"))
    config = json.loads((given.base / "config.json").read_text())
    bos, eos = config["bos_token_id"], config["eos_token_id"]
    eos = eos[0] if isinstance(eos, list) else eos
    made: dict[str, list[dict[str, list[int]]]] = {}
    for part, most in (("train", 400), ("dev", 12)):
        rows: list[dict[str, list[int]]] = []
        data = json.loads(next(iter(sorted((given.jaquad / part).glob("*.json")))).read_text("utf-8"))["data"]
        for paragraph in (one for article in data for one in article["paragraphs"]):
            if len(rows) == most:
                break
            asked = paragraph["qas"][0]
            prompt = tokenizer.encode(f"文書: {paragraph['context']}\n質問: {asked['question']}\n答え: ", add_special_tokens=False).ids
            answer = [*tokenizer.encode(asked["answers"][0]["text"], add_special_tokens=False).ids, eos]
            if len(prompt) + len(answer) + 1 <= given.tokens:
                rows.append({"input_ids": [bos, *prompt, *answer], "labels": [-100] * (len(prompt) + 1) + answer})
        made[part] = rows
    (given.work / "examples.json").write_text(json.dumps(made))


def child(given: argparse.Namespace, system: str, **told: Any) -> subprocess.Popen[str]:
    rows = json.loads((given.work / "examples.json").read_text())["train"]
    per_step = max(1, round(given.tokens / statistics.mean(len(one["input_ids"]) for one in rows)))
    words = {"system": system, "base": str(given.base), "folder": str(given.work), "T": given.tokens, "per_step": per_step, "steps": given.steps, **told}
    python = given.trl if system.startswith("trl") else sys.executable
    return subprocess.Popen(
        [python, str(HERE / "tune_systems.py"), json.dumps(words)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(given.work / f"{system}.err").open("w"), text=True,
    )  # fmt: skip


def in_turns(given: argparse.Namespace, running: dict[str, subprocess.Popen[str]]) -> dict[str, dict[str, Any]]:
    """Step by step, each in turn; then each says its peak memory and its dev loss."""
    told: dict[str, list[dict[str, float]]] = {name: [] for name in running}
    for _ in range(given.steps):
        for name, process in running.items():
            print("go 1", file=process.stdin, flush=True)
            told[name].append(_line(given, name, process))
            print(name, told[name][-1], file=sys.stderr, flush=True)
    found = {}
    for name, process in running.items():
        rates = [one["tokens"] / one["cpu_s"] for one in told[name][1:]]
        tokens, cpu = (sum(one[key] for one in told[name][1:]) for key in ("tokens", "cpu_s"))
        found[name] = {"rate": tokens / cpu, "rates": [round(one, 1) for one in rates], "tokens": tokens, "cpu_s": round(cpu, 1), **_line(given, name, process)}
    return found


def _line(given: argparse.Namespace, name: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    while line := process.stdout.readline():
        if line.startswith("{"):
            try:
                return json.loads(line)
            except json.JSONDecodeError:
                continue  # a trainer's own log line
    raise SystemExit(f"{name} ended: see {given.work}/*.err")


def race(given: argparse.Namespace, lines: list[dict[str, Any]]) -> None:
    if any(one["kind"] == "race" for one in lines):
        return
    names = [name for name in SYSTEMS if given.trl or not name.startswith("trl")]
    _keep(given, lines, "race", in_turns(given, {name: child(given, name) for name in names}))


def gains(given: argparse.Namespace, lines: list[dict[str, Any]]) -> None:
    """Two at a time beside ours as it is, so that each has its own comparison."""
    for part in PARTS:
        kind = f"without {part}"
        if not any(one["kind"] == kind for one in lines):
            _keep(given, lines, kind, in_turns(given, {"hagane": child(given, "hagane"), kind: child(given, "hagane", without=[part])}))


def _keep(given: argparse.Namespace, lines: list[dict[str, Any]], kind: str, found: dict[str, dict[str, Any]]) -> None:
    line = {"kind": kind, "tokens": given.tokens, "steps": given.steps, "systems": found}
    lines.append(line)
    with (given.work / "tune.jsonl").open("a") as out:
        print(json.dumps(line), file=out)


def table(lines: list[dict[str, Any]]) -> None:
    print("run | system | real tokens per CPU s | single steps | ours to it | peak MB | dev loss\n---|---|---|---|---|---|---")
    for line in lines:
        ours = line["systems"]["hagane"]["rate"]
        for name, one in line["systems"].items():
            print(f"{line['kind']} | {name} | {one['rate']:.1f} | {min(one['rates'])} to {max(one['rates'])} | {ours / one['rate']:.2f} | {one['peak_mb']} | {one['dev_loss']:.4f}")


def main() -> None:
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument("work", type=Path)
    say.add_argument("base", type=Path)
    say.add_argument("jaquad", type=Path)
    say.add_argument("what", choices=("prepare", "race", "gains", "table"), nargs="+")
    say.add_argument("--trl", help="the Python of an environment with trl")
    say.add_argument("--tokens", type=int, default=1024, help="tokens of a packed row")
    say.add_argument("--steps", type=int, default=8)
    given = say.parse_args()
    given.work, given.base = given.work.absolute(), given.base.absolute()
    given.work.mkdir(parents=True, exist_ok=True)
    if not (given.work / "examples.json").exists():
        prepare(given)
    file = given.work / "tune.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    if "race" in given.what:
        race(given, lines)
    if "gains" in given.what:
        gains(given, lines)
    table(lines)


if __name__ == "__main__":
    main()
