"""BM25: the three formulas by which words are ranked, one function each.

Source: Robertson, Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009; the inverse
document frequency is Lucene's, which is never negative. LanceDB's full-text index computes the same
sum with the same constants (tests/index/test_lance_words.py compares them).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

K1 = 1.2  # how soon further occurrences stop to count
B = 0.75  # how much long chunks are discounted


def idf(n_chunks: int, frequency: int) -> float:
    """Rarity of a term that `frequency` of `n_chunks` chunks hold: ln(1 + (N - f + 0.5) / (f + 0.5))."""
    return float(np.log1p((n_chunks - frequency + 0.5) / (frequency + 0.5)))


def saturated(counts: NDArray[np.float64], lengths: NDArray[np.float64], mean_length: float) -> NDArray[np.float64]:
    """What occurrences of one term earn in chunks of these lengths (in terms); shape of `counts`.

    c (k1 + 1) / (c + k1 (1 - b + b length / mean)): from 0 to k1 + 1.
    """
    return counts * (K1 + 1) / (counts + K1 * (1 - B + B * lengths / mean_length))
