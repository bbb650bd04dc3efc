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
ALIKE = 0.35  # below, marking single characters would only confuse


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
        pairs = min(b - a, d - c)
        for n in range(pairs):
            left, right = _marked(old[a + n], new[c + n])
            yield {"kind": "changed", "left": left, "right": right}
        for text in old[a + pairs : b]:
            yield {"kind": "removed", "left": [[text, True]], "right": None}
        for text in new[c + pairs : d]:
            yield {"kind": "added", "left": None, "right": [[text, True]]}


def _marked(old: str, new: str) -> tuple[list[list[Any]], list[list[Any]]]:
    """Both texts in pieces: which changed, which did not."""
    if max(len(old), len(new)) > LONGEST_MARKED:
        return [[old, True]], [[new, True]]
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    if matcher.ratio() < ALIKE:
        return [[old, True]], [[new, True]]
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
