"""Hagane's side of bench/frameworks.py: a project on disk, the product's own defaults.

"split" ingests the pages (worker processes, ledger, LanceDB with words) and writes out its chunks; "search" adds
the vectors to that project and asks its retriever, in process, as `owner`, clearance filter on.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from frameworks_job import POOL, WIDTH, Stopwatch, ask_all, pages_of, read_job, read_lines, write, write_lines

from hagane.project.documents import add, init, sync
from hagane.project.wire import Project
from hagane.rag.embed import embed_pending, embed_text
from hagane.rag.retrieve import Retriever


class Made:
    """An Embedder whose vectors were made before."""

    name, dim, fingerprint = "made", WIDTH, "made/1"

    def __init__(self, texts: list[str], rows) -> None:
        self._rows = dict(zip(texts, rows, strict=True))

    def embed(self, texts, *, kind):
        return np.stack([self._rows[text] for text in texts])


def split(job: dict) -> None:
    """The whole ingestion up to search by words; seconds include processes, parsing, Sudachi and synced writes."""
    pages, folder = read_lines(job["pages"]), Path(job["project"])
    shutil.rmtree(folder, ignore_errors=True)
    source = Path(job["folder"])
    watch = Stopwatch()
    init(folder)
    text = (folder / "hagane.yaml").read_text(encoding="utf-8")
    text += f"parse: {{workers: {job['threads']}}}\n" + ("dedup: {near: false}\n" if job["keep_near"] else "")
    (folder / "hagane.yaml").write_text(text, encoding="utf-8")
    with Project.open(folder) as project:
        add(project, [source], name="bench")
        sync(project, by=project.principal(), words_only=True, emit=lambda event: None)
        watch.lap("split and index words")
        by_path = {str(Path(page["file"]).relative_to(source)): page["id"] for page in pages}
        write_lines(job["units"], units_of(project, by_path))
    write(job, {"seconds": watch.seconds})


def units_of(project: Project, by_path: dict[str, str]):
    for chunks in project.index.iter_pending(512):
        for chunk in chunks:
            page = next(by_path[tail] for tail in tails(chunk.path) if tail in by_path)
            yield {"id": chunk.id, "page": page, "text": embed_text(chunk)}


def tails(path: str):
    """The path and its endings, longest first."""
    parts = path.split("/")
    return ("/".join(parts[n:]) for n in range(len(parts)))


def search(job: dict) -> None:
    units, asked = read_lines(job["units"]), job["asked"]
    page_of = {unit["id"]: unit["page"] for unit in units}
    n = POOL if len(set(page_of.values())) < len(page_of) else 10
    watch = Stopwatch()
    with Project.open(Path(job["project"])) as project:
        clearance = project.principal().clearance
        ways = {"keyword": None}
        if job.get("rows"):
            rows = np.fromfile(job["rows"], np.float32).reshape(-1, WIDTH)
            made = Made([unit["text"] for unit in units] + list(asked), rows)
            watch.skip()
            for _ in embed_pending(project.index, made):
                pass
            watch.lap("index hybrid")
            ways["hybrid"] = made
        modes = {}
        for name, embedder in ways.items():
            retriever = Retriever(project.index, project.analyzer, embedder=embedder, config=project.config.retrieve)

            def ask(at: int, retriever=retriever) -> list[str]:
                found = retriever.retrieve(asked[at], clearance=clearance, n=n)
                return pages_of([passage.chunk.id for passage in found.passages], page_of)

            modes[name] = ask_all(asked, ask)
    write(job, {"seconds": watch.seconds, "modes": modes})


if __name__ == "__main__":
    job = read_job()
    {"split": split, "search": search}[job["task"]](job)
