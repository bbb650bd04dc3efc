"""Questions that the asker's own documents could answer: headings of FAQs first, then what other headings are about.

What is suggested comes from documents, so it is shown only while their label flows to the asker's clearance.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from hagane.core.accounts import Account
from hagane.core.codec import document_from
from hagane.core.errors import HaganeError
from hagane.core.labels import Clearance
from hagane.core.text import one_line
from hagane.ledger.records import Record

from .wire import Project

N_READ = 40  # documents that are looked into for one clearance
KEPT_S = 300.0
_POOR = re.compile(
    r"^[\d\W_]+$|目次|^(?:はじめに|まとめ|附則|付則|概要|その他|参考|別紙|改定履歴|目的|適用範囲|総則|基本原則|定義|文書番号|改廃|施行"
    r"|introduction|contents|appendix|purpose|scope)$",
    re.I,
)
_NUMBERED = re.compile(r"^(?:第?\s*[0-9０-９一二三四五六七八九十百]+\s*[条章節項.．、)）](?:の\d+)?|[0-9０-９]+(?:[.．-][0-9０-９]+)*|[■●◆・#]+)\s*")
_BRACKETS = re.compile(r"[（(【「]([^（(【「）)】」]+)[）)】」]")
_QUESTION = re.compile(r"[?？]$|(?:ですか|ますか|でしょうか)。?$")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A question of a FAQ (`is_question`), or a heading to ask about."""

    document: str
    title: str
    text: str
    is_question: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    until: float
    found: tuple[Suggestion, ...]


_CACHES: weakref.WeakKeyDictionary[Project, dict[Clearance, _Kept]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def suggestions(project: Project, account: Account, *, n: int = 4) -> list[Suggestion]:
    """At most `n` suggestions from documents that the account may read now; none before the first sync.

    Kept for five minutes per clearance; the ledger is asked each time whether the documents may still be read.
    """
    clearance = account.principal.clearance
    with _LOCK:
        kept = _CACHES.setdefault(project, {}).get(clearance)
    if kept is None or kept.until < time.monotonic():
        kept = _Kept(time.monotonic() + KEPT_S, tuple(_varied(_found(project, clearance))))
        if kept.found:
            with _LOCK:
                _CACHES[project][clearance] = kept
    readable = project.ledger.marks.readable({one.document for one in kept.found}, clearance=clearance)
    chosen = [one for one in kept.found if one.document in readable][:n]
    project.ledger.audit.record_with_others("list", principal=account.principal.name, what="suggestions", found=len(chosen))
    return chosen


def _found(project: Project, clearance: Clearance) -> list[Suggestion]:
    rows = project.ledger.documents.list(clearance=clearance, state="in")
    found: list[Suggestion] = []
    for row in sorted((row for row in rows if row.version), key=_shuffled)[:N_READ]:
        try:
            entry = json.loads(project.ledger.parsed.get(row.version))
        except HaganeError:  # it left meanwhile
            continue
        document = document_from(entry["document"])
        dropped = {at for at, _ in entry.get("dropped", [])}
        texts = [block.text for at, block in enumerate(document.blocks) if block.kind == "heading" and at not in dropped]
        texts += _asked_in_rows([block.text for block in document.blocks if block.kind == "row"][:60])
        found += [Suggestion(row.id, one_line(row.title, limit=40), text, bool(_QUESTION.search(text))) for text in _fit(texts)][:6]
    return found


def _shuffled(row: Record) -> str:
    """An order that mixes the sources and stays the same while the content does."""
    return hashlib.sha256(row.version.encode()).hexdigest()


def _fit(texts: Sequence[str]) -> Iterator[str]:
    for raw in texts:
        text = one_line(raw).lstrip("# ")
        text = _NUMBERED.sub("", text).strip()
        inside = _BRACKETS.fullmatch(text)
        text = inside[1] if inside else text
        if 4 <= len(text) <= 40 and not _POOR.search(text):
            yield text


def _asked_in_rows(rows: Sequence[str]) -> list[str]:
    """Cells of a table that are questions: a FAQ kept as a sheet."""
    cells = (cell.strip().strip('"') for row in rows for cell in re.split(r"[\t,]", row))
    return [cell for cell in cells if _QUESTION.search(cell)]


def _varied(found: Sequence[Suggestion]) -> Iterator[Suggestion]:
    """Questions and headings in turn, one document after the other, no text twice."""
    ways = [_in_turn([one for one in found if one.is_question is wanted]) for wanted in (True, False)]
    seen: set[str] = set()
    for pair in zip_longest(*ways):
        for one in pair:
            if one is not None and one.text not in seen:
                seen.add(one.text)
                yield one


def _in_turn(found: Sequence[Suggestion]) -> Iterator[Suggestion]:
    by_document: dict[str, list[Suggestion]] = {}
    for one in found:
        by_document.setdefault(one.document, []).append(one)
    for group in zip_longest(*by_document.values()):
        yield from (one for one in group if one is not None)
