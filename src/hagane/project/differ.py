"""Two versions of a document side by side, paragraph by paragraph."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from hagane.core.types import Document, Principal

from . import documents
from .shelf import one
from .wire import Project

AROUND = 2  # equal paragraphs shown on each side of a change
LONGEST_MARKED = 1500  # characters of a paragraph within which changed characters are looked for
MANY = 4000  # paragraphs: beyond, difflib may skip what occurs often, else it takes minutes
ALIKE = 0.5  # below, two paragraphs are not the same one changed, and marking single characters would only confuse
MOST_PAIRS = 900  # paragraphs before times after, in one changed place, that are compared each with each


def compare(project: Project, doc: str, old: str, new: str, *, by: Principal) -> dict[str, Any]:
    """{"path", "title", "old", "new", "rows", "changed"}: rows are {"kind", "left", "right"} with kind same, changed,
    added, removed or gap; left and right are lists of [text, is it changed], None where that side has nothing.
    A gap has {"n"}: equal paragraphs that are left out. Raises: NotFoundError."""
    one(project, doc, by=by)
    left, right = (documents.show(project, doc, by=by, version=version) for version in (old, new))
    rows = list(_folded(_rows(_paragraphs(left.document), _paragraphs(right.document))))
    changed = sum(row["kind"] in ("changed", "added", "removed") for row in rows)
    about = [{"id": s.version.id, "seq": s.version.seq, "created_at": s.version.created_at, "label": str(s.version.label)} for s in (left, right)]
    return {"id": left.record.id, "path": left.record.path, "title": left.record.title, "old": about[0], "new": about[1],
            "rows": rows, "changed": changed}  # fmt: skip


def _paragraphs(document: Document) -> list[str]:
    return [text for block in document.blocks if (text := block.text.strip())]


def _rows(old: Sequence[str], new: Sequence[str]) -> Iterator[dict[str, Any]]:
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=max(len(old), len(new)) > MANY)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            for text in old[a:b]:
                yield {"kind": "same", "left": [[text, False]], "right": [[text, False]]}
            continue
        yield from _replaced(old[a:b], new[c:d])


def _replaced(old: Sequence[str], new: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Paragraphs that others took the place of: those alike stand side by side, the rest came or went."""
    i = j = 0
    for a, b in [*_pairs(old, new), (len(old), len(new))]:
        for text in old[i:a]:
            yield {"kind": "removed", "left": [[text, True]], "right": None}
        for text in new[j:b]:
            yield {"kind": "added", "left": None, "right": [[text, True]]}
        if a < len(old):
            left, right = _marked(old[a], new[b])
            yield {"kind": "changed", "left": left, "right": right}
        i, j = a + 1, b + 1


def _pairs(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Which paragraph became which, in order: the choice whose likenesses add up to most."""
    if not old or not new:
        return []
    if len(old) * len(new) > MOST_PAIRS:
        return [(n, n) for n in range(min(len(old), len(new)))]
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    alike = [[_likeness(a, b) for b in new] for a in old]
    for i in reversed(range(len(old))):
        for j in reversed(range(len(new))):
            with_pair = alike[i][j] + best[i + 1][j + 1] if alike[i][j] >= ALIKE else 0.0
            best[i][j] = max(with_pair, best[i + 1][j], best[i][j + 1])
    pairs, i, j = [], 0, 0
    while i < len(old) and j < len(new):
        if alike[i][j] >= ALIKE and best[i][j] == alike[i][j] + best[i + 1][j + 1]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _likeness(old: str, new: str) -> float:
    """Share of characters in common, in order; cheap for what is nothing alike."""
    if max(len(old), len(new)) > LONGEST_MARKED:
        return 0.5 if old[:60] == new[:60] else 0.0
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() >= ALIKE else 0.0


def _marked(old: str, new: str) -> tuple[list[list[Any]], list[list[Any]]]:
    """Both texts in pieces: which changed, which did not."""
    if max(len(old), len(new)) > LONGEST_MARKED:
        return [[old, True]], [[new, True]]
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    left: list[list[Any]] = []
    right: list[list[Any]] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if b > a:
            left.append([old[a:b], kind != "equal"])
        if d > c:
            right.append([new[c:d], kind != "equal"])
    return left, right


def _folded(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Long runs of equal paragraphs become a gap."""
    run: list[dict[str, Any]] = []
    first = True
    for row in rows:
        if row["kind"] == "same":
            run.append(row)
            continue
        yield from _short(run, before=not first, after=True)
        run, first = [], False
        yield row
    yield from _short(run, before=not first, after=False)


def _short(run: list[dict[str, Any]], *, before: bool, after: bool) -> Iterator[dict[str, Any]]:
    head, tail = (AROUND if before else 0), (AROUND if after else 0)
    hidden = len(run) - head - tail
    if hidden < 2:
        yield from run
        return
    yield from run[:head]
    yield {"kind": "gap", "n": hidden}
    yield from run[len(run) - tail :] if tail else []
