"""Verbs of the page's chat: conversations that are kept, for their owner only, while their label flows to the owner.

    for piece in ask(project, account, "有給休暇は何日?"):
        ...  # Begun, AnswerPart, AnswerPart, ..., and last the stored turn as a mapping

A conversation carries the join of what went into it. Whose clearance no longer covers it sees that it is closed, and
nothing else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hagane.core.accounts import Account
from hagane.core.codec import citation_shown
from hagane.core.errors import HaganeError, NotFoundError, StateError, UsageError
from hagane.core.labels import Label, join
from hagane.core.text import for_search, one_line
from hagane.core.types import Answer, AnswerPart, Principal
from hagane.ledger.access import can_read
from hagane.ledger.conversations import StoredTurn, Talk, new_id
from hagane.ledger.records import Version
from hagane.rag.answer_rewrite import Turn

from . import questions
from .meanwhile import Reader
from .wire import Project

TITLE = 60  # characters
_MARK = re.compile(r"\[(\d{1,3})\]$")


def own_label(project: Project, by: Principal) -> Label:
    """The label of what `by` types: the project's default, as far as `by` may see it at all."""
    default, clearance = project.label(project.config.labels.default), by.clearance
    allowed = default.compartments if clearance.all_compartments else default.compartments & clearance.compartments
    return Label(min(default.level, clearance.level), allowed)


def conversations(project: Project, account: Account, *, search: str | None = None) -> list[dict[str, Any]]:
    """The account's conversations, newest first. A closed one has no title. `search` keeps those whose title,
    questions or answers hold all its words."""
    ledger = project.ledger
    talks = ledger.conversations.of(account.id)
    words = for_search(search or "").split()
    if words:
        talks = [talk for talk in talks if can_read(talk.label, account.principal)]
        spoken = ledger.conversations.spoken([talk.id for talk in talks])
        talks = [talk for talk in talks if _holds(talk, spoken.get(talk.id, ()), words)]
    ledger.audit.record_with_others(
        "list", principal=account.principal.name, what="conversations", asked=ledger.audit.digest(" ".join(words)) if words else None, found=len(talks)
    )
    return [_listed(talk, account.principal) for talk in talks]


def _holds(talk: Talk, spoken: Sequence[tuple[str, str]], words: Sequence[str]) -> bool:
    text = for_search("\n".join([talk.title, *(part for pair in spoken for part in pair)]))
    return all(word in text for word in words)


def _listed(talk: Talk, by: Principal) -> dict[str, Any]:
    is_open = can_read(talk.label, by)
    return {
        "id": talk.id,
        "closed": not is_open,
        "title": talk.title if is_open else None,
        "label": str(talk.label) if is_open else None,
        "created_at": talk.created_at,
        "changed_at": talk.changed_at,
    }


def conversation(project: Project, account: Account, id: str) -> dict[str, Any]:
    """One conversation with its turns. Raises: NotFoundError, also for a closed one and for another user's."""
    talk = _open(project, account, id)
    project.ledger.audit.record("conversation", principal=account.principal.name, conversation=talk.id, label=str(talk.label))
    turns = project.ledger.conversations.turns(talk.id)
    said = project.ledger.feedback.kinds_of([turn.id for turn in turns], user=account.id)
    return _listed(talk, account.principal) | {"turns": [turn_shown(turn, said.get(turn.id, ())) for turn in turns]}


def turn_shown(turn: StoredTurn, feedback: Sequence[str] = ()) -> dict[str, Any]:
    """A stored turn as JSON."""
    return {
        "id": turn.id,
        "conversation": turn.conversation,
        "seq": turn.seq,
        "question": turn.question,
        "asked": turn.asked,
        "answer": dict(turn.answer),
        "label": str(turn.label),
        "latency_ms": turn.latency_ms,
        "created_at": turn.created_at,
        "feedback": list(feedback),
    }


def sources(project: Project, account: Account, turns: Sequence[Mapping[str, Any]]) -> dict[str, Version]:
    """The versions that turns cite, by id, as far as they are kept and the account may see them."""
    ids = {one["version"] for turn in turns for one in (*turn["answer"]["citations"], *turn["answer"]["nearest"])}
    return project.ledger.documents.versions_of(sorted(ids), clearance=account.principal.clearance)


def _open(project: Project, account: Account, id: str) -> Talk:
    talk = project.ledger.conversations.get(id, user=account.id)
    if not can_read(talk.label, account.principal):
        raise NotFoundError("there is no such conversation")
    return talk


def turn_of(project: Project, account: Account, id: str) -> StoredTurn:
    """A turn that the account asked and may still see. Raises: NotFoundError."""
    turn = project.ledger.conversations.turn(id, user=account.id)
    _open(project, account, turn.conversation)
    return turn


def rename(project: Project, account: Account, id: str, title: str) -> dict[str, Any]:
    """Give a conversation another title. Raises: NotFoundError, UsageError, AuditError."""
    title = one_line(title, limit=200)
    if not title:
        raise UsageError("a title needs at least one character")
    _open(project, account, id)
    project.ledger.audit.record("conversation_rename", principal=account.principal.name, conversation=id)
    project.ledger.conversations.rename(id, title, user=account.id)
    return _listed(_open(project, account, id), account.principal)


def delete(project: Project, account: Account, id: str) -> None:
    """Delete a conversation with its turns, a closed one too. Raises: NotFoundError."""
    project.ledger.conversations.get(id, user=account.id)
    project.ledger.audit.record("conversation_delete", principal=account.principal.name, conversation=id)
    project.ledger.conversations.delete(id, user=account.id)


def ask(
    project: Project,
    account: Account,
    question: str,
    *,
    conversation: str | None = None,
    retry: str | None = None,
    reader: Reader | None = None,
) -> Iterator[Begun | AnswerPart | dict[str, Any]]:
    """Where it will be stored, pieces of the answer as they are sure, and last the turn as it is stored. Without `conversation` a new one
    begins. `retry` is the id of the last turn: its question is asked again, the new turn takes its place. `reader` is
    asked again before each piece.

    Closed early, what was shown is stored, marked as stopped; empty where its sources left or rose above the account.
    Raises: NotFoundError, UsageError, StateError, ChangedError, SignInError, RefusedError, AuditError, ModelError.
    """
    by = account.principal
    talk = _open(project, account, conversation) if conversation else None
    turns = project.ledger.conversations.turns(talk.id) if talk else []
    if retry:
        if not turns or turns[-1].id != retry:
            raise StateError("only the last answer can be asked for again", hint="ask the question anew")
        question = turns.pop().question
    questions.check_question(question)
    history = [Turn(turn.asked, turn.label) for turn in turns]
    thread = questions.Conversation(project, by=by, history=history, own=own_label(project, by), reader=reader)
    asking = _Asking(account, talk.id if talk else new_id("c"), bool(talk), question, retry, time.perf_counter())
    parts: list[AnswerPart] = []
    try:
        yield asking.begun
        for piece in thread.stream(question):
            if isinstance(piece, Answer):
                if talk is not None:
                    _open(project, account, talk.id)  # its earlier turns may have risen meanwhile
                stored = asking.store(project, thread, questions.answer_shown(piece) | {"marks": marks(parts)}, piece.label)
                yield turn_shown(stored)
                return
            parts.append(piece)
            yield piece
    except (GeneratorExit, HaganeError):
        if parts and not asking.is_stored:  # an answer that was cut off may hold any of what was read for it
            label = join(thread.label, *(passage.chunk.label for passage in thread.read))
            asking.store(project, thread, _cut_off(parts, label), label)
        raise


@dataclass(frozen=True, slots=True)
class Begun:
    """The ids under which conversation and turn will be found, once the answer is stored."""

    conversation: str
    turn: str


class _Asking:
    """Who asked what, where it is to be stored, and since when."""

    def __init__(self, account: Account, talk: str, is_known: bool, question: str, retry: str | None, started: float) -> None:
        self.begun = Begun(talk, new_id("t"))
        self._account, self._is_known = account, is_known
        self._question, self._retry, self._started = question, retry, started
        self.is_stored = False

    def store(self, project: Project, thread: questions.Conversation, answer: Mapping[str, Any], label: Label) -> StoredTurn:
        self.is_stored = True
        turn = StoredTurn(
            id=self.begun.turn,
            conversation=self.begun.conversation,
            seq=0 if self._is_known else 1,
            label=label,
            question=self._question,
            asked=thread.asked,
            answer=answer,
            latency_ms=round(1000 * (time.perf_counter() - self._started)),
            created_at="",
        )
        made_from = {one["version"] for one in (*answer["citations"], *answer["nearest"])}
        if answer["model"] != "extract":  # a model read more than it cites
            made_from |= {passage.chunk.version for passage in thread.read}
        title = one_line(self._question, limit=TITLE)
        return project.ledger.conversations.add(
            turn, user=self._account.id, title=title, made_from=sorted(made_from), clearance=self._account.principal.clearance,
            replaces=self._retry, models=thread.models,
        )  # fmt: skip


def marks(parts: Sequence[AnswerPart]) -> list[list[int]]:
    """Where the marks stand in the whole answer: [start, end, n]. A `[3]` that a document holds is none."""
    found, at = [], 0
    whole = "".join(part.text for part in parts)
    cut = len(whole) - len(whole.lstrip())
    for part in parts:
        at += len(part.text)
        mark = _MARK.search(part.text)
        if mark:
            found.append([at - len(mark[0]) - cut, at - cut, int(mark[1])])
    return found


def _cut_off(parts: Sequence[AnswerPart], label: Label) -> dict[str, Any]:
    return {
        "answer": "".join(part.text for part in parts).strip(),
        "abstained": False,
        "why": "stopped",
        "confidence": 0.0,
        "label": str(label),
        "citations": [citation_shown(citation) for part in parts for citation in part.citations],
        "nearest": [],
        "index": {},
        "model": "",
        "usage": {"input_tokens": 0, "output_tokens": 0},
        "timings_s": {},
        "marks": marks(parts),
        "stopped": True,
    }
