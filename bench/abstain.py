"""Abstention on JaQuAD: paragraphs as documents, gold paragraphs removed for the unanswerable questions.

    python bench/abstain.py ../shared/data/jaquad [--seeds 7 11 13 17] [--fit] [--ablation] [--each] [--words]

Over the product's own ranking (hybrid with e5-small; `--words`: words only), prints for each draw of n unanswerable
and n answerable questions: AUROC, the share of unanswerable ones rejected where 95 % of the answerable are kept, and
kept/rejected at the shipped threshold. Two protocols:

whole   the gold paragraphs of all unanswerable questions are taken out of the corpus at once, before it is indexed;
        answerable questions are drawn from the rest (issue 2, acceptance 6)
each    only the question's own gold paragraph is taken out: all its neighbours stay (harder)

`--fit` fits the coefficients on four groups of articles of the training part, two draws each, cross-validated by
article, and prints them for answer_weights.toml. `--ablation` fits without one feature at a time. Vectors are kept in
`--cache`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from abstain_fit import Case, auroc, cross_validated, fit, rejected, table

from hagane.core.labels import EVERYTHING, PUBLIC
from hagane.core.types import Block, Chunk, Hit, Place, Statistics
from hagane.index.memory import MemoryIndex
from hagane.index.words import Sudachi
from hagane.models.e5 import E5Small
from hagane.rag import answer_confidence, answer_features
from hagane.rag.answer import AnswerConfig
from hagane.rag.answer_choose import weights
from hagane.rag.answer_support import asked
from hagane.rag.bridge import Bridges
from hagane.rag.embed import embed_text
from hagane.rag.retrieve import RetrieveConfig, Retriever

N_PARAGRAPHS = 1431  # of the dev part; groups of the training part are as large, in whole articles
N_GROUPS, DRAWS = 4, (1, 2)  # of the training part that coefficients are fitted on
Group = list[tuple[str, str, list[str]]]  # title of the article, paragraph, its questions


def groups(folder: Path, seed: int) -> list[Group]:
    """The articles in a fixed random order, in groups of at least N_PARAGRAPHS paragraphs (the last may be smaller)."""
    articles = [a for file in sorted(folder.glob("*.json")) for a in json.loads(file.read_text())["data"]]
    random.Random(seed).shuffle(articles)
    found: list[Group] = [[]]
    for article in articles:
        if len(found[-1]) >= N_PARAGRAPHS:
            found.append([])
        found[-1] += [
            (article["title"], p["context"], [q["question"] for q in p["qas"]]) for p in article["paragraphs"]
        ]
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


class Kept:
    """Vectors of e5-small that are made once: in memory by text, on disk by list of texts."""

    name, dim, fingerprint = "e5-small", 384, "kept"

    def __init__(self, folder: Path) -> None:
        self._folder, self._engine = folder, E5Small()
        self._known: dict[str, np.ndarray] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def learn(self, texts: Sequence[str], kind: str) -> None:
        file = self._folder / f"{hashlib.sha256(chr(0).join([kind, *texts]).encode()).hexdigest()[:16]}.npy"
        if not file.exists():
            np.save(file, self._engine.embed(texts, kind=kind))
        self._known.update(zip([kind + text for text in texts], np.load(file), strict=True))

    def embed(self, texts: Sequence[str], *, kind: str) -> np.ndarray:
        return np.stack([self._known[kind + text] for text in texts])


class Without:
    """A searcher that lacks one chunk."""

    def __init__(self, index: MemoryIndex, gone: str, terms: set[str]) -> None:
        self._index, self._gone, self._terms = index, gone, terms
        self.chunks = index.chunks

    def by_words(self, terms, *, clearance, n: int) -> list[Hit]:
        return [h for h in self._index.by_words(terms, clearance=clearance, n=n + 1) if h.chunk != self._gone][:n]

    def by_vector(self, vector, *, clearance, n: int) -> list[Hit]:
        return [h for h in self._index.by_vector(vector, clearance=clearance, n=n + 1) if h.chunk != self._gone][:n]

    def statistics(self, terms, *, clearance) -> Statistics:
        found = self._index.statistics(terms, clearance=clearance)
        return Statistics(found.n_chunks - 1, {t: c - (t in self._terms) for t, c in found.frequencies.items()})


class Bench:
    """One group of articles as a searchable corpus, and its questions in a fixed random order."""

    def __init__(self, group: Group, *, draw: int, analyzer: Remembering, kept: Kept | None) -> None:
        self.analyzer, self.kept, self.group = analyzer, kept, group
        self.chunks = [chunk(n, text) for n, (_, text, _) in enumerate(group)]
        self.tokens = [analyzer.tokens(c.spoken) for c in self.chunks]
        self.questions = [(n, question) for n, (_, _, asked_of_it) in enumerate(group) for question in asked_of_it]
        if kept:
            kept.learn([embed_text(c) for c in self.chunks], "passage")
            kept.learn([question for _, question in self.questions], "query")
        random.Random(draw).shuffle(self.questions)

    def cases(self, n: int, *, whole: bool = True) -> Iterator[Case]:
        """n answerable and n unanswerable questions, judged."""
        without = self.questions[:n]
        gone = {number for number, _ in without} if whole else set()
        kept = [q for q in self.questions[n:] if q[0] not in gone][:n]
        index = MemoryIndex()
        stay = [number for number in range(len(self.chunks)) if number not in gone]
        index.add([self.chunks[i] for i in stay], [self.tokens[i] for i in stay])
        if self.kept:
            texts = [embed_text(self.chunks[i]) for i in stay]
            index.add_vectors([self.chunks[i].id for i in stay], self.kept.embed(texts, kind="passage"))
        all_of_it = self._retriever(index)
        for answerable, (number, question) in [(1, q) for q in kept] + [(0, q) for q in without]:
            less = Without(index, self.chunks[number].id, set(self.tokens[number]))
            retriever = all_of_it if answerable or whole else self._retriever(less)
            yield self._judge(retriever, question, answerable, self.group[number][0])

    def _retriever(self, searcher: MemoryIndex | Without) -> Retriever:
        return Retriever(searcher, self.analyzer, embedder=self.kept, config=RetrieveConfig())

    def _judge(self, retriever: Retriever, question: str, answerable: int, article: str) -> Case:
        found = retriever.retrieve(question, clearance=EVERYTHING)
        known = asked(question, self.analyzer, found.statistics)
        values = answer_features.features(known, found.passages, analyzer=self.analyzer)
        hearing = Bridges.load(self.analyzer).hearing(question)
        return Case(answerable, article, values, answer_confidence.confidence(known, found.passages, analyzer=hearing))


def report(name: str, cases: Sequence[Case]) -> tuple[float, float]:
    """Prints one draw as shipped; (AUROC, share rejected at 95 % kept)."""
    truth = np.array([case.answerable for case in cases])
    sure = np.array([case.confidence for case in cases])
    covered = np.array([case.values.get("covered", 0.0) for case in cases])
    share, at = rejected(sure, truth)
    threshold = AnswerConfig().threshold
    print(
        f"{name:14s} auroc {auroc(sure, truth):.3f}, {share:.3f} rejected at 95 % kept (threshold {at:.3f}; plain coverage "
        f"{rejected(covered, truth)[0]:.3f}); at the shipped {threshold}: kept {(sure[truth == 1] >= threshold).mean():.3f}, "
        f"rejected {(sure[truth == 0] < threshold).mean():.3f}",
        flush=True,
    )
    return auroc(sure, truth), share


def main() -> None:
    said = argparse.ArgumentParser()
    said.add_argument("jaquad", type=Path)
    said.add_argument("--n", type=int, default=600)
    said.add_argument("--seeds", type=int, nargs="+", default=[7, 11, 13, 17])
    said.add_argument("--each", action="store_true", help="also the harder protocol")
    said.add_argument("--words", action="store_true", help="words only, no vectors")
    said.add_argument("--fit", action="store_true", help="fit on the training part first")
    said.add_argument("--ablation", action="store_true", help="and without each feature")
    said.add_argument("--cache", type=Path, default=Path("~/.cache/hagane/bench").expanduser())
    given = said.parse_args()
    analyzer, kept = Remembering(), None if given.words else Kept(given.cache)
    if given.fit or given.ablation:
        parts = groups(given.jaquad / "train", 3)[:N_GROUPS]
        draws = [
            list(Bench(part, draw=draw, analyzer=analyzer, kept=kept).cases(given.n))
            for part in parts
            for draw in DRAWS
        ]
        names = [name for name in weights()["confidence"] if name != "bias"]
        print("train, by article: auroc {:.4f}, rejected {:.4f}".format(*cross_validated(draws, names)), flush=True)
        for name in names if given.ablation else ():
            less = cross_validated(draws, [other for other in names if other != name])
            print("  without {:20s} auroc {:.4f}, rejected {:.4f}".format(name, *less), flush=True)
        x, truth, _ = table(draws, names)
        w = fit(x, truth)
        p = 1 / (1 + np.exp(-(x @ w[:-1] + w[-1])))
        print(f"95 % of the answerable lie above {np.quantile(p[truth == 1], 0.05):.3f}")
        print(
            "\n".join(f"{name} = {value:.3f}" for name, value in zip(["bias", *names], [w[-1], *w[:-1]], strict=True))
        )
    for whole in (True, False) if given.each else (True,):
        found = []
        for seed in given.seeds:
            bench = Bench(groups(given.jaquad / "dev", seed)[0], draw=seed, analyzer=analyzer, kept=kept)
            name = f"{'whole' if whole else 'each'}, seed {seed}"
            found.append(report(name, list(bench.cases(given.n, whole=whole))))
        print("mean           auroc {:.3f}, {:.3f} rejected".format(*np.mean(found, axis=0)), flush=True)


if __name__ == "__main__":
    main()
