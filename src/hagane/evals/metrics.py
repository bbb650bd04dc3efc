"""The measures, one pure function each. All are shares or scores from 0 to 1; higher is better.

`ranks` are the places, counted from 1, of gold documents in a result list; ranks count documents.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from hagane.core.text import answer_key, folded_path, squeeze

# --- retrieval ----------------------------------------------------------------------------------


def is_gold(path: str, gold: str) -> bool:
    """True when `path` equals `gold` or ends in "/" + it."""
    path, gold = folded_path(path), folded_path(gold)
    return path == gold or path.endswith("/" + gold)


def gold_ranks(retrieved: Sequence[Collection[str]], gold_paths: Iterable[str]) -> tuple[list[int], int]:
    """Ranks of the gold documents, and how many gold documents there are.

    `retrieved`: one entry per document, best first: its paths (its own and those of collapsed copies).
    Gold paths that one document answers to (a page and its copy) count as one gold document; a further
    document of the same ending does not count again.
    """
    open_golds = set(gold_paths)
    ranks: list[int] = []
    for rank, paths in enumerate(retrieved, 1):
        met = {gold for gold in open_golds if any(is_gold(path, gold) for path in paths)}
        if met:
            ranks.append(rank)
            open_golds -= met
    return ranks, len(ranks) + len(open_golds)


def recall(ranks: Sequence[int], *, k: int) -> float:
    """1 if at least one gold document is among the first k."""
    return float(any(rank <= k for rank in ranks))


def reciprocal_rank(ranks: Sequence[int], *, k: int = 10) -> float:
    """1 / place of the first gold document; 0 beyond k."""
    first = min(ranks, default=k + 1)
    return 1.0 / first if first <= k else 0.0


def ndcg(ranks: Sequence[int], n_gold: int, *, k: int = 10) -> float:
    """Discounted gain over the best possible one; each gold document gains 1.

    Source: Järvelin, Kekäläinen, TOIS 2002.
    """
    best = sum(1 / math.log2(1 + rank) for rank in range(1, min(n_gold, k) + 1))
    return sum(1 / math.log2(1 + rank) for rank in ranks if rank <= k) / best if best else 0.0


# --- answers ------------------------------------------------------------------------------------


def exact(answer: str, golds: Iterable[str]) -> float:
    """1 if the answer equals one of `golds`, compared by `answer_key`."""
    key = answer_key(answer)
    return float(any(key == answer_key(gold) for gold in golds))


def f1(answer: str, golds: Iterable[str]) -> float:
    """The best harmonic mean of precision and recall over the multiset of characters of `answer_key`."""
    return max((_f1(answer_key(answer), answer_key(gold)) for gold in golds), default=0.0)


def _f1(one: str, other: str) -> float:
    if not one or not other:
        return float(one == other)
    common = sum((Counter(one) & Counter(other)).values())
    return 2 * common / (len(one) + len(other))


_MARK = re.compile(r"\[\d+\]")


def must_contain(answer: str, entries: Iterable[str]) -> float:
    """1 if of every entry one of the alternatives (parted by |) occurs.

    Compared after NFKC and lower-casing, without white space and `[n]`; punctuation counts.
    """
    text = _loose(_MARK.sub("", unicodedata.normalize("NFKC", answer)))
    alternatives = ([_loose(part) for part in entry.split("|")] for entry in entries)
    return float(all(any(part and part in text for part in parts) for parts in alternatives))


def _loose(text: str) -> str:
    return squeeze(unicodedata.normalize("NFKC", text)).lower()


# --- abstention ---------------------------------------------------------------------------------


def auroc(answerable: Sequence[float], unanswerable: Sequence[float]) -> float:
    """The chance that an answerable question has the higher confidence; ties count half.

    Raises: ValueError if either is empty. Source: Mann, Whitney, 1947.
    """
    if not answerable or not unanswerable:
        raise ValueError("the area needs questions of both kinds")
    merged = sorted([(c, 1) for c in answerable] + [(c, 0) for c in unanswerable])
    wins, below, at = 0.0, 0, 0
    while at < len(merged):
        end = at
        while end < len(merged) and merged[end][0] == merged[at][0]:
            end += 1
        n_answerable = sum(kind for _, kind in merged[at:end])
        n_unanswerable = end - at - n_answerable
        wins += n_answerable * (below + n_unanswerable / 2)
        below += n_unanswerable
        at = end
    return wins / (len(answerable) * len(unanswerable))
