"""Abstention on JaQuAD: paragraphs as documents, gold paragraph removed for the unanswerable questions.

    python bench/abstain.py ../shared/data/jaquad [--n 600] [--seed 7] [--fit] [--each]

Prints AUROC and the share of unanswerable questions rejected where 95 % of the answerable ones are kept, for the plain
coverage and for the shipped confidence, and kept/rejected at the shipped threshold. Two protocols:

whole   the gold paragraphs of all unanswerable questions are taken out of the corpus at once; answerable questions
        are drawn from the rest (issue 2, acceptance 6)
each    only the question's own gold paragraph is taken out: all its neighbours stay (harder)

`--fit` fits the coefficients on articles of the training part and prints them for answer_weights.toml.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from hagane.core.labels import EVERYTHING, PUBLIC
from hagane.core.types import Block, Chunk, Passage, Place, Statistics
from hagane.index.memory import MemoryIndex
from hagane.index.words import Sudachi
from hagane.rag import answer_confidence
from hagane.rag.answer import AnswerConfig
from hagane.rag.answer_support import asked

N_PARAGRAPHS = 1431  # of the dev part; as many are taken of the training part, in whole articles


def paragraphs(folder: Path, seed: int) -> list[tuple[str, list[dict]]]:
    """(text, questions) of whole articles, in a fixed random order, about N_PARAGRAPHS of them."""
    articles = [a for file in sorted(folder.glob("*.json")) for a in json.loads(file.read_text())["data"]]
    random.Random(seed).shuffle(articles)
    found: list[tuple[str, list[dict]]] = []
    for article in articles:
        if len(found) < N_PARAGRAPHS:
            found += [(p["context"], p["qas"]) for p in article["paragraphs"]]
    return found


def chunk(number: int, text: str) -> Chunk:
    blocks, at = [], 0
    for line in text.split("\n"):
        if line.strip():
            blocks.append(Block("paragraph", line, Place(start=at, end=at + len(line))))
        at += len(line) + 1
    key = f"{number:05d}"
    return Chunk(key, key, "1", f"{key}.txt", PUBLIC, 0, "", (), tuple(blocks))


class Remembering:
    """An analyzer that reads each text once: passages come back with every question."""

    name = "sudachi"

    def __init__(self) -> None:
        self.tokens = lru_cache(maxsize=200_000)(Sudachi().tokens)


class Bench:
    """One part of JaQuAD as a searchable corpus, and its questions in a fixed random order."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.analyzer = Remembering()
        parts = paragraphs(folder, seed)
        self.chunks = [chunk(n, text) for n, (text, _) in enumerate(parts)]
        self.tokens = [self.analyzer.tokens(c.spoken) for c in self.chunks]
        self.questions = [(n, q["question"]) for n, (_, qas) in enumerate(parts) for q in qas]
        random.Random(seed).shuffle(self.questions)

    def cases(self, n: int, *, whole: bool) -> Iterator[tuple[int, dict[str, float], float]]:
        """(answerable, features, confidence) of n unanswerable and n answerable questions."""
        without = self.questions[:n]
        gone = {number for number, _ in without} if whole else set()
        kept = [q for q in self.questions[n:] if q[0] not in gone][:n]
        index = MemoryIndex()
        stay = [number for number in range(len(self.chunks)) if number not in gone]
        index.add([self.chunks[i] for i in stay], [self.tokens[i] for i in stay])
        for answerable, (number, question) in [(1, q) for q in kept] + [(0, q) for q in without]:
            own = set() if answerable or whole else {self.chunks[number].id}
            yield answerable, *self._judge(index, question, own, set(self.tokens[number]))

    def _judge(
        self, index: MemoryIndex, question: str, gone: set[str], gone_terms: set[str]
    ) -> tuple[dict[str, float], float]:
        terms = dict.fromkeys(self.analyzer.tokens(question), 1.0)
        hits = [h for h in index.by_words(terms, clearance=EVERYTHING, n=11) if h.chunk not in gone][:10]
        chunks = {c.id: c for c in index.chunks([h.chunk for h in hits], clearance=EVERYTHING)}
        passages = [Passage(chunks[h.chunk], h.score) for h in hits]
        found = index.statistics(list(terms), clearance=EVERYTHING)
        if gone:
            less = {t: count - (t in gone_terms) for t, count in found.frequencies.items()}
            found = Statistics(found.n_chunks - 1, less)
        known = asked(question, self.analyzer, found)
        values = answer_confidence.features(known, passages, analyzer=self.analyzer)
        return values, answer_confidence.confidence(known, passages, analyzer=self.analyzer)


def auroc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Probability that an answerable question scores above an unanswerable one; ties count half."""
    wins = (scores[truth == 1][:, None] > scores[truth == 0][None, :]).mean()
    ties = (scores[truth == 1][:, None] == scores[truth == 0][None, :]).mean()
    return float(wins + ties / 2)


def rejected(scores: np.ndarray, truth: np.ndarray, kept: float = 0.95) -> tuple[float, float]:
    """(share of unanswerable rejected, threshold) at the highest threshold that keeps `kept` of the answerable."""
    order = np.sort(scores[truth == 1])
    threshold = float(order[int(np.floor((1 - kept) * len(order)))])
    return float((scores[truth == 0] < threshold).mean()), threshold


def fit(x: np.ndarray, y: np.ndarray, *, ridge: float = 3e-3) -> np.ndarray:
    """Logistic regression by Newton's method; the last number is the bias."""
    mean, spread = x.mean(0), x.std(0) + 1e-9
    z = np.c_[(x - mean) / spread, np.ones(len(x))]
    keep = np.r_[np.full(x.shape[1], ridge), 1e-9]
    w = np.zeros(z.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-z @ w))
        w -= np.linalg.solve(
            (z * (p * (1 - p))[:, None]).T @ z / len(y) + np.diag(keep), z.T @ (p - y) / len(y) + keep * w
        )
    raw = w[:-1] / spread
    return np.r_[raw, w[-1] - (raw * mean).sum()]


def report(name: str, bench: Bench, n: int, *, whole: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rows = list(bench.cases(n, whole=whole))
    truth = np.array([row[0] for row in rows])
    names = sorted({key for _, values, _ in rows for key in values})
    x = np.array([[values.get(key, 0.0) for key in names] for _, values, _ in rows])
    sure = np.array([row[2] for row in rows])
    threshold = AnswerConfig().threshold
    for label, scores in (("coverage", x[:, names.index("covered")]), ("confidence", sure)):
        share, at = rejected(scores, truth)
        print(
            f"{name:12s} {label:11s} auroc {auroc(scores, truth):.3f}  rejected at 95 % kept {share:.3f} (threshold {at:.3f})"
        )
    kept = (sure[truth == 1] >= threshold).mean()
    print(
        f"{name:12s} shipped threshold {threshold}: kept {kept:.3f}, rejected {(sure[truth == 0] < threshold).mean():.3f}"
    )
    return x, truth, names


def main() -> None:
    said = argparse.ArgumentParser()
    said.add_argument("jaquad", type=Path)
    said.add_argument("--n", type=int, default=600)
    said.add_argument("--seed", type=int, default=7)
    said.add_argument("--each", action="store_true", help="also the harder protocol")
    said.add_argument("--fit", action="store_true", help="fit on the training part first")
    given = said.parse_args()
    if given.fit:
        train = Bench(given.jaquad / "train", seed=3)
        parts = [report(f"train {w}", train, given.n, whole=w == "whole") for w in ("whole", "each")]
        names = parts[0][2]
        w = fit(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))
        print(
            "\n".join(f"{name} = {value:.3f}" for name, value in zip(["bias", *names], [w[-1], *w[:-1]], strict=True))
        )
    dev = Bench(given.jaquad / "dev", seed=given.seed)
    report("dev whole", dev, given.n, whole=True)
    if given.each:
        report("dev each", dev, given.n, whole=False)


if __name__ == "__main__":
    main()
