"""From raw text to a model that answers, as a person types it, for law 7; prints one JSON object of what happened.

    python training_journey.py FOLDER [--namespace]

As journey.py: with --namespace nothing beyond loopback can be reached, and the kernel counts what tried.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from journey import TEXTS, attempts, hagane, lost, raise_loopback

QUESTIONS = ("有給休暇は何日ですか。", "日当はいくらですか。", "誰の許可が要りますか。", "いつまでに出しますか。", "申請はどこにしますか。")
TRAIN = """\
name: our-llm
tokenizer: {vocab: 420, data: [{documents: []}, {file: chat.jsonl}]}
pretrain: {data: [{documents: []}, {file: chat.jsonl}], params: 60k, training: {tokens: 64, rows: 4, steps: 20, threads: 1}}
tune: {data: [{file: chat.jsonl}], training: {tokens: 64, rows: 8, steps: 60, rate: 0.005, threads: 1}}
split: {dev: 0.1}
memory: {share: 1.0}
export: {numbers: [F16], prompts: 5}
"""


def journey(folder: Path) -> list[dict]:
    """init, add, plan, train all, export, models, ask with the model. Stops at the first that fails."""
    texts, project = folder / "文書", folder / "project"
    texts.mkdir(parents=True)
    for name, text in TEXTS.items():
        (texts / name).write_text(text, encoding="utf-8")
    steps = [hagane("init", str(project), where=folder)]
    rows = [{"prompt": f"{n}番。{QUESTIONS[n % len(QUESTIONS)]}", "completion": "はい。"} for n in range(80)]
    (project / "chat.jsonl").write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows), encoding="utf-8")
    (project / "train.yaml").write_text(TRAIN, encoding="utf-8")
    for words in (
        ("add", str(texts), "--label", "internal", "--json"),
        ("plan", "train.yaml", "--json"),
        ("train", "all", "train.yaml", "--json", "--progress", "none"),
        ("export", "our-llm", "--json", "--progress", "none"),
        ("models", "--json"),
        ("ask", "出張の日当は一日いくらですか。", "--model", "our-llm", "--json"),
    ):
        if steps[-1]["rc"]:
            break
        steps.append(hagane(*words, where=project))
    return steps


def main() -> None:
    folder, apart = Path(sys.argv[1]), "--namespace" in sys.argv
    tests = Path(__file__).resolve().parents[1]
    log, guard = folder / "attempts.txt", folder / "guard"
    guard.mkdir()
    told = f"open({str(log)!r}, 'a', encoding='utf-8').write(line + '\\n')"
    (guard / "sitecustomize.py").write_text(f"import loopback_only\nloopback_only.install(lambda line: {told})\n")
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (guard, tests, tests.parent / "src")))
    if apart:
        raise_loopback()
    before = lost() if apart else 0
    print(json.dumps({"steps": journey(folder), "attempts": attempts(log), "lost": (lost() if apart else 0) - before}, ensure_ascii=False))


if __name__ == "__main__":
    main()
