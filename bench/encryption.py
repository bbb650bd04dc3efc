"""What encryption at rest costs: the same small project with and without it, in turns, in milliseconds.

    python bench/encryption.py [--files 300] [--rounds 5]

300 generated Japanese texts of about 1,000 characters, the fake embedder (so that vectors cost nothing), one parser
process. Search, show, listing and looking up by path are medians of `--rounds` passes over 20 questions or documents, the two kinds in turns.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hagane.ledger.master import create_file
from hagane.project import documents, questions
from hagane.project.wire import Project

YAML = """\
version: 1
sources: [{name: docs, path: docs/}]
principals: {owner: {clearance: "restricted:*"}}
embedder: {name: fake}
parse: {workers: 1}
"""
WORDS = ["有給休暇", "旅費", "精算", "申請", "上長", "承認", "期限", "保存", "契約", "稟議", "会議", "議事録", "評価", "昇給", "研修", "在宅", "勤務", "通信費", "設備", "点検", "棚卸", "出荷", "検品", "返品", "顧客", "見積", "請求", "入金", "監査", "規程"]


def text(rng: random.Random, n: int) -> str:
    lines = [f"# 規程{n}号 {rng.choice(WORDS)}"]
    for part in range(8):
        some = rng.sample(WORDS, 6)
        lines.append(f"第{part + 1}条 {some[0]}の{some[1]}は、{rng.randrange(1, 90)}日以内に{some[2]}へ{some[3]}する。{some[4]}は{some[5]}の際に{rng.randrange(1, 9)}年間とする。" * 2)
    return "\n\n".join(lines) + "\n"


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--files", type=int, default=300)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="hagane-bench-") as name:
        root = Path(name)
        create_file(root / "project.key")
        result: dict[str, dict[str, Any]] = {}
        projects = {}
        for kind in ("plain", "encrypted"):
            folder = root / kind
            (folder / "docs").mkdir(parents=True)
            rng = random.Random(7)
            for n in range(given.files):
                (folder / f"docs/規程{n:04}.md").write_text(text(rng, n), encoding="utf-8")
            (folder / "hagane.yaml").write_text(YAML + ("encryption: {key: file:../project.key}\n" if kind == "encrypted" else ""), encoding="utf-8")
            projects[kind] = Project.open(folder)
            by = projects[kind].principal()
            result[kind] = {"sync_ms": timed(lambda k=kind, b=by: documents.sync(projects[k], by=b, emit=lambda event: None))}
            result[kind]["bytes"] = sum(file.stat().st_size for file in (folder / ".hagane").rglob("*") if file.is_file())
        rng = random.Random(11)
        asked = [f"{rng.choice(WORDS)}の{rng.choice(WORDS)}は何日以内か" for _ in range(20)]
        shown = [f"規程{rng.randrange(given.files):04}.md" for _ in range(20)]
        verbs: dict[str, Callable[[Project, Any, int], Any]] = {
            "search_ms": lambda p, by, n: questions.search(p, asked[n], by=by),
            "ask_ms": lambda p, by, n: questions.ask(p, asked[n], by=by),
            "show_ms": lambda p, by, n: documents.show(p, shown[n], by=by),
            "docs_ms": lambda p, by, n: documents.docs(p, by=by) if n < 5 else None,
        }
        same = []
        for verb, work in verbs.items():
            times: dict[str, list[float]] = {"plain": [], "encrypted": []}
            for _ in range(given.rounds + 1):
                for n in range(5 if verb == "docs_ms" else 20):
                    for kind, project in projects.items():
                        times[kind].append(timed(lambda p=project, w=work, m=n: w(p, p.principal(), m)))
            for kind, all_of in times.items():
                warm = all_of[len(all_of) // (given.rounds + 1) :]
                result[kind][verb] = round(statistics.median(warm), 2)
                result[kind][verb.replace("_ms", "_p95_ms")] = round(sorted(warm)[int(0.95 * len(warm))], 2)
        for question in asked:
            found = [[(p["document"], p["version"], p["score"]) for p in questions.search(one, question, by=one.principal())["passages"]] for one in projects.values()]
            same.append(found[0] == found[1])
        print(json.dumps({"files": given.files, "same_results": f"{sum(same)} of {len(same)}", **result}, indent=2))
        for project in projects.values():
            project.close()


if __name__ == "__main__":
    main()
