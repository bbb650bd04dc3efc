"""The arithmetic of bench/abstain.py: a judged question, the curve's figures, the fit, its cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Case:
    answerable: int
    article: str
    values: dict[str, float]
    confidence: float


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
    for _ in range(12):
        p = 1 / (1 + np.exp(-np.clip(z @ w, -30, 30)))
        w -= np.linalg.solve(
            (z * (p * (1 - p))[:, None]).T @ z / len(y) + np.diag(keep), z.T @ (p - y) / len(y) + keep * w
        )
    raw = w[:-1] / spread
    return np.r_[raw, w[-1] - (raw * mean).sum()]


def table(draws: Sequence[Sequence[Case]], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, n_names), truth (n,), number of the draw (n,) of the cases that found passages."""
    rows = [(case, at) for at, cases in enumerate(draws) for case in cases if case.values]
    x = np.array([[case.values[name] for name in names] for case, _ in rows])
    return x, np.array([case.answerable for case, _ in rows]), np.array([at for _, at in rows])


def cross_validated(draws: Sequence[Sequence[Case]], names: Sequence[str], n_folds: int = 5) -> tuple[float, float]:
    """(AUROC, share rejected at 95 % kept as the mean over draws), each article judged by a fit without it."""
    x, truth, of_draw = table(draws, names)
    articles = [case.article for cases in draws for case in cases if case.values]
    fold = np.array([int(hashlib.sha256(a.encode()).hexdigest(), 16) % n_folds for a in articles])
    scores = np.zeros(len(truth))
    for k in range(n_folds):
        w = fit(x[fold != k], truth[fold != k])
        scores[fold == k] = x[fold == k] @ w[:-1] + w[-1]
    each = [rejected(scores[of_draw == at], truth[of_draw == at])[0] for at in range(len(draws))]
    return auroc(scores, truth), float(np.mean(each))
