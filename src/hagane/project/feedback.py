"""Verbs of feedback: say something of an answer, list and export what was said. Candidate examples, with their label."""

from __future__ import annotations

from typing import Any, get_args

from hagane.core.accounts import Account
from hagane.core.errors import NotFoundError, UsageError
from hagane.core.types import Principal
from hagane.ledger.conversations import StoredTurn, new_id
from hagane.ledger.feedback import Kind, Said

from .chat import own_label, turn_of
from .wire import Project

KINDS: tuple[Kind, ...] = get_args(Kind)
LONGEST = 20_000  # characters of a right answer
_OPPOSITE: dict[str, tuple[Kind, ...]] = {"up": ("up", "down"), "down": ("up", "down"), "right_answer": ("right_answer",)}


def give(
    project: Project, account: Account, turn: str, kind: str, *, text: str = "", source: int | None = None
) -> dict[str, Any]:
    """Say of a turn that it was good (up) or not (down), what the right answer is (`text`), or that the citation
    numbered `source` is wrong. Up and down replace each other. Raises: NotFoundError, UsageError."""
    asked = turn_of(project, account, turn)
    text = text.strip()
    if kind not in KINDS:
        raise UsageError(f"feedback {kind!r} is not one of {', '.join(KINDS)}")
    if len(text) > LONGEST:
        raise UsageError(f"the text has {len(text):,} characters; {LONGEST:,} are taken")
    if kind == "right_answer" and not text:
        raise UsageError("the right answer is empty", hint="write what should have been answered")
    cited = _cited(asked, source) if kind == "wrong_source" else None
    label = asked.label.join(own_label(project, account.principal))
    body = {
        "question": asked.question,
        "asked": asked.asked,
        "answer": asked.answer.get("answer", ""),
        "abstained": asked.answer.get("abstained", False),
        "citations": asked.answer.get("citations", []),
        "text": text,
        "source": cited,
    }
    project.ledger.audit.record(
        "feedback", principal=account.principal.name, turn=asked.id, kind=kind, label=str(label)
    )
    said = Said(id=new_id("f"), turn=asked.id, user=account.id, kind=kind, label=label, body=body)  # type: ignore[arg-type]
    project.ledger.feedback.add(said, instead=_OPPOSITE.get(kind, ()))
    return {"turn": asked.id, "feedback": project.ledger.feedback.kinds_of([asked.id], user=account.id)[asked.id]}


def _cited(turn: StoredTurn, n: int | None) -> dict[str, Any]:
    for citation in (*turn.answer.get("citations", ()), *turn.answer.get("nearest", ())):
        if citation["n"] == n:
            return dict(citation)
    raise NotFoundError("the answer has no such source")


def withdraw(project: Project, account: Account, turn: str) -> dict[str, Any]:
    """Take back up or down. Raises: NotFoundError."""
    asked = turn_of(project, account, turn)
    project.ledger.audit.record("feedback_withdraw", principal=account.principal.name, turn=asked.id)
    project.ledger.feedback.withdraw(asked.id, user=account.id, kinds=("up", "down"))
    return {"turn": asked.id, "feedback": project.ledger.feedback.kinds_of([asked.id], user=account.id).get(asked.id, [])}


def listing(project: Project, *, by: Principal, kind: str | None = None, n: int = 200) -> list[dict[str, Any]]:
    """What people said, newest first, as far as `by` may see it."""
    rows = project.ledger.feedback.list(clearance=by.clearance)
    rows = [row for row in rows if kind in (None, "", row.kind)][:n]
    project.ledger.audit.record("feedback_list", principal=by.name, found=len(rows))
    return [_shown(row) for row in rows]


def export(project: Project, *, by: Principal) -> list[dict[str, Any]]:
    """Everything that was said, as far as `by` may see it, oldest first: rows for a dataset. Who said it is left out."""
    rows = project.ledger.feedback.list(clearance=by.clearance)
    project.ledger.audit.record("feedback_export", principal=by.name, found=len(rows))
    return [_shown(row) for row in reversed(rows)]


def _shown(said: Said) -> dict[str, Any]:
    return {
        "id": said.id,
        "turn": said.turn,
        "kind": said.kind,
        "label": str(said.label),
        "created_at": said.created_at,
        **said.body,
    }
