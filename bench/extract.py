"""Extracted answers on JaQuAD with the gold paragraph given: does what `extract` says hold the answer?

    python bench/extract.py ../shared/data/jaquad [--part dev] [--n 1000] [--seed 7] [--embedder] [--sentences 3]

Prints the share of questions whose best sentence holds the answer, the same for the whole answer (up to `--sentences`
sentences of the paragraph), the characters of an answer, and the character F1 (a sentence against a few words).
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from pathlib import Path

from abstain import Remembering, chunk

from hagane.core.labels import EVERYTHING
from hagane.core.text import answer_key
from hagane.core.types import Passage
from hagane.index.memory import MemoryIndex
from hagane.rag.answer_choose import score_units
from hagane.rag.answer_extract import choose
from hagane.rag.answer_support import asked, units


def f1(given: str, gold: str) -> float:
    """Character F1 over multisets, after `answer_key`."""
    one, other = Counter(answer_key(given)), Counter(answer_key(gold))
    common = sum((one & other).values())
    return 2 * common / (sum(one.values()) + sum(other.values())) if common else 0.0


def main() -> None:
    said = argparse.ArgumentParser()
    said.add_argument("jaquad", type=Path)
    said.add_argument("--part", default="dev")
    said.add_argument("--n", type=int, default=1000)
    said.add_argument("--seed", type=int, default=7)
    said.add_argument("--sentences", type=int, default=3)
    said.add_argument("--embedder", action="store_true", help="score by meaning too (e5-small)")
    given = said.parse_args()
    articles = [
        a for f in sorted((given.jaquad / given.part).glob("*.json")) for a in json.loads(f.read_text())["data"]
    ]
    parts = [(p["context"], p["qas"]) for a in articles for p in a["paragraphs"]]
    analyzer, index = Remembering(), MemoryIndex()
    chunks = [chunk(n, text) for n, (text, _) in enumerate(parts)]
    index.add(chunks, [analyzer.tokens(c.spoken) for c in chunks])
    embedder = None
    if given.embedder:
        from hagane.models.e5 import E5Small

        embedder = E5Small(threads=1)
    questions = [(n, q) for n, (_, qas) in enumerate(parts) for q in qas]
    random.Random(given.seed).shuffle(questions)
    questions = questions[: given.n]
    first = whole = 0
    score, n_chars = 0.0, 0
    for number, q in questions:
        statistics = index.statistics(analyzer.tokens(q["question"]), clearance=EVERYTHING)
        known, passages = asked(q["question"], analyzer, statistics), [Passage(chunks[number], 1.0)]
        scored = score_units(known, passages, units(passages, analyzer), analyzer=analyzer, embedder=embedder)
        texts = [one.unit.text for one in choose(scored, passages, n=given.sentences)]
        gold = q["answers"][0]["text"]
        first += any(answer_key(gold) in answer_key(text) for text in texts[:1])
        whole += answer_key(gold) in answer_key("".join(texts))
        score += f1("".join(texts), gold)
        n_chars += sum(map(len, texts))
    n = len(questions)
    print(
        f"{given.part} n={n} embedder={given.embedder}: best sentence {first / n:.3f}, answer {whole / n:.3f}, "
        f"{n_chars / n:.0f} characters, f1 {score / n:.3f}"
    )


if __name__ == "__main__":
    main()
