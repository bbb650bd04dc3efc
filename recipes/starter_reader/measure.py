"""Measures the starter reader as served, beside its base and the answerer without a model, on JaQuAD's dev part.

    python recipes/starter_reader/measure.py JAQUAD WORK [--questions 500] [--minutes 10] [--card]

Every figure comes from `hagane eval answers`, 50 questions a call; what is done lies in WORK, so that a run that was
stopped goes on, and a larger --questions only adds. A swapped adapter is measured anew. --card writes the table to
the card's FIGURES.md. About 0.5 s an answer on a free core, 3 s with five passages.

Rows: gold (the gold paragraph given), found (the five best passages of all paragraphs, by words), hybrid (the same with
e5-small's vectors), removed (five passages without the gold paragraph and without the answer's letters).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from hagane.evals import stats
from hagane.evals.questions import load, sample

ROOT = Path(__file__).resolve().parents[2]
CARD = ROOT / "src" / "hagane" / "models" / "reader_ja"
HAGANE = Path(sys.executable).parent / "hagane"
SEED, SLICE = 20261124, 50
KINDS = {"gold": "gold", "found": "found", "hybrid": "found", "removed": "without-gold"}
SHOWN = {"gold": ("f1", "exact", "kept"), "found": ("f1", "exact", "kept"), "hybrid": ("f1", "exact", "kept"), "removed": ("rejected",)}
PROJECT = """version: 1
sources:
  - {{name: paragraphs, path: paragraphs/, label: public}}
principals:
  owner: {{clearance: "restricted:*"}}
embedder: {{name: {embedder}}}
answer: {{threads: 1{more}}}
"""


@dataclass(frozen=True, slots=True)
class System:
    """Who answers: the folder of its results, and the words of the command."""

    name: str
    folder: str
    words: tuple[str, ...]


def systems() -> list[System]:
    """The reader as it is now (by its adapter's checksum), its base with the same prompt, and `extract`."""
    data = (CARD / "adapter.gguf").read_bytes() if (CARD / "adapter.gguf").is_file() else b""
    return [
        System("reader", f"reader-{hashlib.sha256(data).hexdigest()[:8]}", ("--answerer", "read")),
        System("base", "base", ("--answerer", "read", "--model", "gemma3-270m")),
        System("extract", "extract", ("--answerer", "extract")),
    ]


def hagane(*words: str) -> str:
    """What a command of the product prints. Ends this script where it fails."""
    done = subprocess.run([HAGANE, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"hagane {' '.join(words)}: {done.returncode}")
    return done.stdout


def project(jaquad: Path, work: Path, *, embedder: str, more: str) -> Path:
    """The dev paragraphs as a synced project, made once."""
    folder = work / f"project-{embedder}"
    if not (folder / "synced").exists():
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "questions.jsonl").exists():
            hagane("eval", "convert", *map(str, sorted((jaquad / "dev").glob("*.json"))), "--out", str(folder))
        (folder / "hagane.yaml").write_text(PROJECT.format(embedder=embedder, more=more), "utf-8")
        hagane("sync", "--project", str(folder))
        (folder / "synced").touch()
    (folder / "hagane.yaml").write_text(PROJECT.format(embedder=embedder, more=more), "utf-8")
    return folder


def slices(folder: Path, n: int) -> list[Path]:
    """The first `n` questions in the seed's order, as files of SLICE questions."""
    lines = {row["id"]: line for line in (folder / "questions.jsonl").read_text("utf-8").splitlines() for row in [json.loads(line)]}
    chosen = [lines[one.id] for one in sample(load(folder / "questions.jsonl"), n, seed=SEED)]
    files = []
    for at in range(0, len(chosen), SLICE):
        file = folder / f"slice-{at:04}-{len(chosen[at : at + SLICE])}.jsonl"
        file.write_text("".join(f"{line}\n" for line in chosen[at : at + SLICE]), "utf-8")
        files.append(file)
    return files


def measured(system: System, row: str, folder: Path, files: list[Path], results: Path, until: float) -> list[dict]:
    """The cases of all slices that are done, more of them being done until the time is up."""
    cases: list[dict] = []
    for file in files:
        kept = results / system.folder / f"{row}-{file.stem}.json"
        if not kept.exists():
            if time.monotonic() > until:
                continue
            kept.parent.mkdir(parents=True, exist_ok=True)
            words = ("eval", "answers", str(file), "--project", str(folder), *system.words, "--passages", KINDS[row])
            report = json.loads(hagane(*words, "--progress", "none", "--json"))
            rows = [{k: case[k] for k in ("id", "question", "answer", "abstained", "confidence", "latency_s", "scores")} for case in report["cases"]]
            part = kept.with_suffix(".part")
            part.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
            part.replace(kept)
        cases += json.loads(kept.read_text("utf-8"))
    return cases


def table(done: dict[tuple[str, str], list[dict]]) -> list[str]:
    """Lines of Markdown: a row per kind of passages and system, intervals of 95 % over questions."""
    lines = ["| passages | who | questions | character F1 | exact | answers | refuses | s an answer, p50 |", "|---|---|---|---|---|---|---|---|"]
    for (row, name), cases in done.items():
        if not cases:
            continue
        cells = []
        for metric in ("f1", "exact", "kept", "rejected"):
            values = [case["scores"][metric] for case in cases if metric in case["scores"]]
            found = stats.mean(values) if metric in SHOWN[row] else None
            cells.append(f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})" if found else "")
        latency = stats.percentile([case["latency_s"] for case in cases], q=50)
        lines.append(f"| {row} | {name} | {len(cases)} | {' | '.join(cells)} | {latency.value:.2f} |")
    return lines


def main() -> None:
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument("jaquad", type=Path)
    say.add_argument("work", type=Path)
    say.add_argument("--questions", type=int, default=500)
    say.add_argument("--minutes", type=float, default=1e9, help="begin no further call after so many")
    say.add_argument("--rows", nargs="*", default=["gold", "removed", "found"], choices=list(KINDS))
    say.add_argument("--who", nargs="*", default=["reader", "extract", "base"])
    say.add_argument("--evidence", type=int, default=0, help="characters of passages; 0: as the product does")
    say.add_argument("--card", action="store_true")
    given = say.parse_args()
    until = time.monotonic() + 60 * given.minutes
    more = f", evidence: {given.evidence}" if given.evidence else ""
    results = given.work / (f"results-{given.evidence}" if given.evidence else "results")
    done: dict[tuple[str, str], list[dict]] = {}
    for row in given.rows:
        folder = project(given.jaquad, given.work, embedder="e5-small" if row == "hybrid" else "none", more=more)
        files = slices(folder, given.questions)
        for system in systems():
            if system.name in given.who:
                done[row, system.name] = measured(system, row, folder, files, results, until)
                print(*table({(row, system.name): done[row, system.name]})[2:], sep="\n", file=sys.stderr, flush=True)
    lines = table(done)
    print("\n".join(lines))
    if given.card:
        made = json.loads((CARD / "made.json").read_text("utf-8"))
        head = f"# Figures\n\nAdapter of step {made['steps']} ({made['answers_seen']:,} answers seen), sha256 {made['sha256']['adapter.gguf'][:16]}; "
        head += "JaQuAD dev, 95 % intervals over questions; `python recipes/starter_reader/measure.py JAQUAD WORK --card`.\n\n"
        (CARD / "FIGURES.md").write_text(head + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
