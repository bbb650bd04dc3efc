"""Retrieval and ingestion side by side: Hagane, txtai, Haystack. One table.

    python -m venv /tmp/txtai && /tmp/txtai/bin/pip install torch==2.13.0 txtai
    python -m venv /tmp/haystack && /tmp/haystack/bin/pip install haystack-ai markdown-it-py mdit_plain
    python bench/frameworks.py --txtai-python /tmp/txtai/bin/python --haystack-python /tmp/haystack/bin/python

JaQuAD dev: 1,431 paragraphs, each one unit; 3,939 questions. Handbook: a fixed slice of 500 pages (all gold pages of
the dev questions, others drawn with seed 0), 80 answerable questions, ranked by page (a page stands where its best
unit stands). Each system once with its own splitter ("own") and once with the chunks that Hagane made ("ours").

Every system gets the same vectors from our e5-small (made once per distinct text and kept in --work, so that the
run can be stopped and goes on). Their seconds stand in a column of their own: characters by the measured characters a
second. The milliseconds of hybrid queries contain the measured embedding of each question. All processes get the same
number of threads (--threads). --clock cpu shows processor seconds of all threads and workers instead of the wall
clock's: what to read on a busy machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from frameworks_job import WIDTH, clocks, read_lines, since, write_lines

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("HAGANE_SHARED") or HERE.parent.parent / "shared") / "data"
PAGES, SEED = 500, 0


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is asked of what. `gold[i]` are the pages that answer `asked[i]`."""

    name: str
    folder: Path
    pages: list[dict[str, str]]  # id, file
    ids: list[str]
    asked: list[str]
    gold: list[set[str]]
    whole: bool  # pages are units: no splitting


def jaquad(work: Path, *, sample: int) -> Corpus:
    """Paragraphs as files, and `sample` of the questions (seeded; 0: all)."""
    folder, pages, asked = work / "jaquad", [], []
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted((SHARED / "jaquad" / "dev").glob("*.json")):
        for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                name = f"p{len(pages):04}"
                (folder / f"{name}.txt").write_text(paragraph["context"], encoding="utf-8")
                pages.append({"id": name, "file": str(folder / f"{name}.txt")})
                asked += [(qa["id"], qa["question"], {name}) for qa in paragraph["qas"]]
    if sample:
        asked = random.Random(SEED).sample(asked, sample)
    ids, questions, gold = (list(part) for part in zip(*asked, strict=True))
    return Corpus("JaQuAD dev", folder, pages, ids, questions, gold, whole=True)


def handbook(work: Path) -> Corpus:
    """All gold pages of the dev questions and others, drawn with a fixed seed: PAGES in all."""
    folder, source = work / "handbook", SHARED / "handbook-ja"
    rows = [row for row in read_lines(str(source / "questions-dev.jsonl")) if row["answerable"]]
    wanted = {path for row in rows for path in row["gold_paths"]}
    with tarfile.open(source / "pages.tar.gz") as box:
        names = sorted(member.name for member in box if member.isfile() and member.name.endswith(".md"))
        others = [name for name in names if name not in wanted]
        random.Random(SEED).shuffle(others)
        chosen = sorted(wanted | set(others[: PAGES - len(wanted)]))
        for name in chosen:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(box.extractfile(name).read())
    pages = [{"id": name, "file": str(folder / name)} for name in chosen]
    return Corpus(
        "handbook, 500 pages", folder, pages, [row["id"] for row in rows], [row["question"] for row in rows],
        [set(row["gold_paths"]) for row in rows], whole=False,
    )  # fmt: skip


class Vectors:
    """Vectors by text, kept in a folder: append only, so that a stopped run loses at most one batch."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._keys, self._rows, self._speed = folder / "keys.txt", folder / "rows.f32", folder / "speed.json"
        self._threads = threads
        self._read()

    def _read(self) -> None:
        known = self._keys.read_text().split() if self._keys.exists() else []
        self._place = {key: at for at, key in enumerate(known)}

    def make(self, texts: list[str], *, kind: str) -> None:
        """Embed what is not known yet, short texts together; counts characters and seconds."""
        todo = sorted({text for text in texts if key(text, kind) not in self._place}, key=len)
        if not todo:
            return
        from hagane.models.e5 import E5Small

        embedder = E5Small(threads=self._threads)
        embedder.embed(["準備"], kind="query")
        for at in range(0, len(todo), 256):
            batch = todo[at : at + 256]
            start = clocks()
            rows = embedder.embed(batch, kind=kind)
            self._count(sum(map(len, batch)), since(start))
            with open(self._rows, "ab") as out:
                out.write(rows.astype(np.float32).tobytes())
            with open(self._keys, "a") as out:
                out.write("".join(key(text, kind) + "\n" for text in batch))
            print(f"  {kind}: {at + len(batch):,} of {len(todo):,} texts embedded", file=sys.stderr, flush=True)
        self._read()

    def _count(self, characters: int, spent: list[float]) -> None:
        known = self.speed_seen()
        new = [characters, *spent]
        self._speed.write_text(json.dumps([a + b for a, b in zip(known, new, strict=True)]))

    def speed_seen(self) -> list[float]:
        """[characters, wall seconds, processor seconds] of everything embedded into this folder."""
        return json.loads(self._speed.read_text()) if self._speed.exists() else [0, 0.0, 0.0]

    def write(self, units: list[str], asked: list[str], *, path: Path) -> None:
        """The rows of units (passages), then of the questions."""
        rows = np.fromfile(self._rows, np.float32).reshape(-1, WIDTH)
        keys = [key(text, "passage") for text in units] + [key(text, "query") for text in asked]
        rows[[self._place[one] for one in keys]].tofile(path)


def key(text: str, kind: str) -> str:
    return hashlib.sha256(f"{kind}\0{text}".encode()).hexdigest()


def question_ms(asked: list[str], *, threads: int) -> list[list[float]]:
    """Milliseconds to embed each question alone; repeated calls after a first round."""
    from hagane.models.e5 import E5Small

    embedder, found = E5Small(threads=threads), []
    embedder.embed(asked[:20], kind="query")
    for text in asked:
        start = clocks()
        embedder.embed([text], kind="query")
        found.append([seconds * 1000 for seconds in since(start)])
    return found


def child(system: str, job: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """One job in the system's own interpreter; with --keep, what an equal job said before.
    Raises: SystemExit with its words when it fails."""
    python = {"hagane": sys.executable, "txtai": args.txtai_python, "haystack": args.haystack_python}[system]
    name = f"{system}.{key(json.dumps(job, sort_keys=True), job['task'])[:16]}"
    out, file = args.work / f"{name}.said.json", args.work / f"{name}.job.json"
    if args.keep and out.exists():
        return json.loads(out.read_text(encoding="utf-8"))
    file.write_text(json.dumps(job | {"out": str(out), "threads": args.threads}), encoding="utf-8")
    many = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")}
    done = subprocess.run([python, str(HERE / f"frameworks_{system}.py"), str(file)], env={**os.environ, **many},
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{system} {job['task']}: {done.stderr[-3000:]}")
    return json.loads(out.read_text(encoding="utf-8"))


def measures(pages: list[list[str]], gold: list[set[str]]) -> dict[str, float]:
    """R@1, R@5, R@10 (at least one gold page) and MRR@10, over all questions."""
    places = [next((n for n, page in enumerate(found, start=1) if page in right), 0)
              for found, right in zip(pages, gold, strict=True)]  # fmt: skip
    shares = {f"R@{k}": statistics.fmean(0 < place <= k for place in places) for k in (1, 5, 10)}
    return shares | {"MRR@10": statistics.fmean(1 / place if place else 0.0 for place in places)}


def units_for(system: str, corpus: Corpus, args: argparse.Namespace) -> tuple[str, list[float]]:
    """Where the system's own units lie, and the seconds until they lay there (for Hagane: searchable by words)."""
    tag = f"{corpus.folder.name}.{system}"
    units, pages = args.work / f"{tag}.units.jsonl", args.work / f"{corpus.folder.name}.pages.jsonl"
    write_lines(str(pages), corpus.pages)
    if corpus.whole and system != "hagane":
        start = clocks()
        write_lines(str(units), ({"id": page["id"], "page": page["id"],
                                  "text": Path(page["file"]).read_text(encoding="utf-8")} for page in corpus.pages))  # fmt: skip
        return str(units), since(start)
    job = {"task": "split", "pages": str(pages), "units": str(units), "folder": str(corpus.folder),
           "project": str(args.work / f"{tag}.project"), "keep_near": corpus.whole}  # fmt: skip
    return str(units), next(iter(child(system, job, args)["seconds"].values()))


def rows_of(
    system: str, corpus: Corpus, args: argparse.Namespace, vectors: Vectors, question: list[list[float]]
) -> list[dict[str, Any]]:
    """The table's rows of one system on one corpus: its own splitting, then Hagane's chunks."""
    found = []
    ways = ["own"] if corpus.whole or system == "hagane" else ["own", "ours"]
    for way in ways:
        own, split_s = units_for(system, corpus, args)
        path = own if way == "own" else units_for("hagane", corpus, args)[0]
        texts = [unit["text"] for unit in read_lines(path)]
        job = {"task": "search", "units": path, "asked": corpus.asked,
               "project": str(args.work / f"{corpus.folder.name}.hagane.project")}  # fmt: skip
        if way == "ours" or system == "hagane" or corpus.whole or args.own_vectors:
            vectors.make(texts, kind="passage")
            job["rows"] = str(args.work / f"{corpus.folder.name}.{system}.{way}.f32")
            vectors.write(texts, corpus.asked, path=Path(job["rows"]))
        said = child(system, job, args)
        characters, *seconds = vectors.speed_seen()
        for mode, got in said["modes"].items():
            dense = mode.startswith("hybrid")
            ms = np.array(got["ms"]) + (np.array(question) if dense else 0.0)  # (n_questions, 2)
            times = {
                "split_s": split_s if way == "own" else [0.0, 0.0],
                "index_s": said["seconds"].get(f"index {mode}", [0.0, 0.0]),
                "embed_s": [sum(map(len, texts)) * spent / max(1, characters) if dense else 0.0 for spent in seconds],
                "p50": np.percentile(ms, 50, axis=0).tolist(),
                "p95": np.percentile(ms, 95, axis=0).tolist(),
            }
            found.append({
                "corpus": corpus.name, "system": system, "units": f"{len(texts):,}{'' if corpus.whole else ' ' + way}",
                "mode": mode, **measures(got["pages"], corpus.gold), "ids": corpus.ids, "pages": got["pages"], **times,
            })  # fmt: skip
    return found


HEAD = "| corpus | system | units | mode | R@1 | R@5 | R@10 | MRR@10 | split s | index s | embed s | p50 ms | p95 ms |"


def show(rows: list[dict[str, Any]], *, clock: str) -> str:
    lines = [HEAD, "|" + "---|" * 13]
    for row in rows:
        quality = " | ".join(f"{row[name]:.3f}" for name in ("R@1", "R@5", "R@10", "MRR@10"))
        times = [row[name][clock == "cpu"] for name in ("split_s", "index_s", "embed_s", "p50", "p95")]
        spent = " | ".join(f"{value:.1f}" if value else "" for value in times)
        lines.append(f"| {row['corpus']} | {row['system']} | {row['units']} | {row['mode']} | {quality} | {spent} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--txtai-python", help="interpreter of txtai's environment; without it txtai is left out")
    parser.add_argument("--haystack-python", help="interpreter of Haystack's environment; likewise")
    parser.add_argument(
        "--work", type=Path, default=Path("work/frameworks"), help="folder for corpora, vectors, projects"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads and parser processes of every system")
    parser.add_argument("--sample", type=int, default=0, help="JaQuAD questions, seeded; 0: all")
    parser.add_argument("--corpus", choices=("jaquad", "handbook"), action="append", help="default: both")
    parser.add_argument("--own-vectors", action="store_true", help="hybrid also over the others' own handbook units")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="which seconds the table shows")
    parser.add_argument(
        "--keep", action="store_true", help="reuse what equal jobs of an earlier run said (with their seconds)"
    )
    args = parser.parse_args()
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    given = {"hagane": sys.executable, "txtai": args.txtai_python, "haystack": args.haystack_python}
    vectors, rows = Vectors(args.work / "vectors", threads=args.threads), []
    for name in args.corpus or ("jaquad", "handbook"):
        corpus = jaquad(args.work, sample=args.sample) if name == "jaquad" else handbook(args.work)
        vectors.make(corpus.asked, kind="query")
        ms = question_ms(corpus.asked, threads=args.threads)
        for system in (system for system, python in given.items() if python):
            print(f"{corpus.name}: {system}", file=sys.stderr, flush=True)
            rows += rows_of(system, corpus, args, vectors, ms)
            print(show(rows, clock=args.clock), file=sys.stderr, flush=True)
        print(f"{corpus.name}: embedding a question, p50 {np.percentile(ms, 50, axis=0).round(1)} ms", file=sys.stderr)
    even = [row for row in rows if row["corpus"].startswith("handbook")]
    rows += [half(row) for row in even]
    print(show(rows, clock=args.clock))
    (args.work / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    characters, *spent = vectors.speed_seen()
    wall, cpu = (characters / max(seconds, 1e-9) for seconds in spent)
    speeds = f"{wall:,.0f} a second of the wall clock, {cpu:,.0f} of the processor"
    print(f"\ne5-small: {characters:,.0f} characters, {speeds}", file=sys.stderr)


def half(row: dict[str, Any]) -> dict[str, Any]:
    """The same row over questions with even numbers: nothing was tuned while looking at these."""
    rows = {r["id"]: set(r["gold_paths"]) for r in read_lines(str(SHARED / "handbook-ja" / "questions-dev.jsonl"))}
    kept = [n for n, name in enumerate(row["ids"]) if int(name.rpartition("-")[2]) % 2 == 0]
    gold = [rows[row["ids"][n]] for n in kept]
    blank = {name: [0.0, 0.0] for name in ("split_s", "index_s", "embed_s", "p50", "p95")}
    return row | measures([row["pages"][n] for n in kept], gold) | blank | {"corpus": "... even ids"}


if __name__ == "__main__":
    main()
