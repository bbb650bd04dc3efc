"""Ablation of retrieval over one project: what each part adds, with paired intervals against BM25.

    python bench/retrieval.py PROJECT QUESTIONS.jsonl [--halves] [--only VARIANT ...]

`--halves` reports odd and even questions (by the number in their id) apart: weights were chosen on odd ones.
Every variant searches the same index with clearance on; latency is in process, second pass.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from hagane.evals import questions as question_sets
from hagane.evals import run
from hagane.project.measure import copies, ranked
from hagane.project.wire import Project
from hagane.rag.retrieve import RetrieveConfig, Retriever

SHIPPED = RetrieveConfig()
VARIANTS: dict[str, dict[str, float]] = {
    "BM25 over Sudachi terms": {"vectors": 0, "bridge": 0, "page": 0},
    "+ bridges": {"vectors": 0, "page": 0},
    "+ bridges + page": {"vectors": 0},
    "e5 alone": {"words": 0, "bridge": 0, "page": 0},
    "e5 + page": {"words": 0, "bridge": 0},
    "hybrid (BM25 + e5)": {"bridge": 0, "page": 0},
    "hybrid + bridges": {"page": 0},
    "hybrid + page": {"bridge": 0},
    "all (as shipped)": {},
}
SHOWN = ("recall@1", "recall@5", "recall@10", "mrr@10", "latency_p50_s", "latency_p95_s")


def number_of(question: question_sets.Question) -> int:
    """The last number in the id; ids without one count as even."""
    found = re.findall(r"\d+", str(question.id))
    return int(found[-1]) if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--halves", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", choices=list(VARIANTS), default=list(VARIANTS))
    given = parser.parse_args()
    asked = question_sets.load(given.questions)
    parts: dict[str, Callable[[question_sets.Question], bool]] = {"all": lambda q: True}
    if given.halves:
        parts = {"odd": lambda q: number_of(q) % 2 == 1, "even": lambda q: number_of(q) % 2 == 0, **parts}
    with Project.open(given.project) as project:
        by = project.principal()
        twins = copies(project, by=by)
        print(f"{project.index.count()[0]:,} passages; shipped: {SHIPPED.model_dump()}")
        for part, takes in parts.items():
            chosen = [q for q in asked if takes(q)]
            print(f"\n{part}: {sum(q.answerable for q in chosen)} answerable questions")
            print(f"{'':<26}" + "".join(f"{name:>15}" for name in SHOWN) + "   recall@5 - BM25's (95 %)   recall@10 - BM25's")
            base: run.Report | None = None
            for name in given.only:
                config = SHIPPED.model_copy(update=VARIANTS[name])
                retriever = Retriever(project.index, project.analyzer, embedder=project.embedder, config=config)

                def search(question: str, retriever: Retriever = retriever) -> list[run.Ranked]:
                    return ranked(retriever.retrieve(question, clearance=by.clearance, n=60).passages)

                if base is None:
                    run.evaluate_retrieval(chosen[:20], search)  # warms what is loaded late
                report = run.evaluate_retrieval(chosen, search, copies=twins)
                base = base or report
                cells = [f"{m.value:>15.3f}" if (m := report.metrics[name_]) else f"{'-':>15}" for name_ in SHOWN]
                print(f"{name:<26}" + "".join(cells) + "   " + _against(report, base), flush=True)


def _against(report: run.Report, base: run.Report) -> str:
    if report is base:
        return ""
    found = [run.compare(report, base, metric) for metric in ("recall@5", "recall@10")]
    return "   ".join(f"{d.value:+.3f} ({d.low:+.3f} .. {d.high:+.3f})" for d in found if d)


if __name__ == "__main__":
    main()
