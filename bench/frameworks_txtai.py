"""txtai's side of bench/frameworks.py; runs in txtai's own environment.

Keyword: `Embeddings(keyword=True)`, BM25 over its standard tokenizer (Unicode word boundaries: one token per
kanji and kana). "2-grams": the tokenizer setting that its documentation offers for other segmentations,
`scoring.tokenizer.ngrams`. Hybrid: `hybrid=True` with an external transform function that gives our vectors;
its default fusion (convex, weight 0.5). Splitting: `Segmentation(paragraphs=True)`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from frameworks_job import POOL, WIDTH, Stopwatch, ask_all, pages_of, read_job, read_lines, write, write_lines

BIGRAMS = {"method": "bm25", "terms": True, "normalize": True, "tokenizer": {"ngrams": 2}}


def split(job: dict) -> None:
    from txtai.pipeline import Segmentation

    watch, cut, units = Stopwatch(), Segmentation(paragraphs=True), []
    for page in read_lines(job["pages"]):
        parts = cut(Path(page["file"]).read_text(encoding="utf-8"))
        units += [{"id": f"{page['id']}#{n}", "page": page["id"], "text": part} for n, part in enumerate(parts)]
    watch.lap("split")
    write_lines(job["units"], units)
    write(job, {"seconds": watch.seconds})


def search(job: dict) -> None:
    from txtai import Embeddings

    watch, units, asked = Stopwatch(), read_lines(job["units"]), job["asked"]
    page_of = {unit["id"]: unit["page"] for unit in units}
    limit = POOL if len(set(page_of.values())) < len(page_of) else 10
    configs: dict[str, dict] = {
        "keyword": {"keyword": True},
        "keyword, 2-grams": {"keyword": True, "scoring": {**BIGRAMS}},
    }
    if job.get("rows"):
        transform = lookup(job, units, asked)
        dense = {"method": "external", "transform": transform}
        configs["hybrid"] = {**dense, "hybrid": True}
        configs["hybrid, 2-grams"] = {**dense, "hybrid": True, "scoring": {**BIGRAMS}}
    modes = {}
    for name, config in configs.items():
        embeddings = Embeddings(config)
        watch.skip()
        embeddings.index((unit["id"], unit["text"], None) for unit in units)
        watch.lap(f"index {name}")
        modes[name] = ask_all(
            asked, lambda at, e=embeddings: pages_of([i for i, _ in e.search(asked[at], limit)], page_of)
        )
        embeddings.close()
    write(job, {"seconds": watch.seconds, "modes": modes})


def lookup(job: dict, units: list[dict], asked: list[str]):
    """The external transform function: texts to the vectors that were made before."""
    rows = np.fromfile(job["rows"], np.float32).reshape(-1, WIDTH)
    texts = [unit["text"] for unit in units] + list(asked)  # a question counts where both are the same text
    place = {text: at for at, text in enumerate(texts)}

    def transform(given):
        return np.stack([rows[place[text]] for text in given])

    return transform


if __name__ == "__main__":
    job = read_job()
    {"split": split, "search": search}[job["task"]](job)
