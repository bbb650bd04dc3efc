"""What people asked on the page: conversations and their turns, each with the label of all that went into it.

Every reading method takes the user: nobody reads another one's. Labels are given as they are now: a document whose
label was raised raises what quotes it, and what a model answered that learnt from it. Whether they flow to the reader's clearance is asked by project/chat.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Table, func, select, update

from ..core.errors import NotFoundError
from ..core.labels import Clearance, Label, join
from . import db
from .lineage import label_known, link
from .records import now

if TYPE_CHECKING:
    from .keys import Keys

MODEL = "m_"  # what the node of a model that was made here begins with


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A conversation without its turns."""

    id: str
    user: str
    title: str
    label: Label
    created_at: str
    changed_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTurn:
    """A question and what was answered. `answer` is as `ask --json` prints it, with the places of its marks."""

    id: str
    conversation: str
    seq: int
    label: Label
    question: str
    asked: str
    answer: Mapping[str, Any]
    latency_ms: int
    created_at: str


def new_id(kind: str) -> str:
    """A fresh id: `kind`, then 20 random letters and digits in hex. It says nothing and cannot be guessed."""
    return f"{kind}_{secrets.token_hex(10)}"


class Conversations:
    """Written one turn at a time, each in one durable commit."""

    def __init__(self, database: db.Database, *, keys: Keys | None = None) -> None:
        self._db = database
        self._keys = keys

    def of(self, user: str, *, n: int = 500) -> list[Talk]:
        """The `n` conversations of `user` that changed last, newest first."""
        c = db.conversations.c
        query = select(db.conversations).where(c.user == user).order_by(c.changed_at.desc(), c.id).limit(n)
        with self._db.reading() as connection:
            return _raised_talks(connection, [_talk(row) for row in connection.execute(query).mappings()])

    def get(self, id: str, *, user: str) -> Talk:
        """One conversation of `user`. Raises: NotFoundError."""
        with self._db.reading() as connection:
            return _find(connection, id, user)

    def turns(self, conversation: str) -> list[StoredTurn]:
        """All turns of a conversation that the caller was allowed to `get`, in order."""
        t = db.turns.c
        with self._db.reading() as connection:
            query = select(db.turns).where(t.conversation == conversation).order_by(t.seq)
            turns = [_turn(row) for row in connection.execute(query).mappings()]
            now_is = _labels_now(connection, db.turns.c.id, [turn.id for turn in turns])
        return [replace(turn, label=join(turn.label, *now_is.get(turn.id, ()))) for turn in turns]

    def spoken(self, conversations: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
        """Question and answer of each turn, by conversation: what a search looks through."""
        t = db.turns.c
        found: dict[str, list[tuple[str, str]]] = {}
        with self._db.reading() as connection:
            for batch in db.batches(conversations):
                query = select(t.conversation, t.question, t.answer).where(t.conversation.in_(batch)).order_by(t.seq)
                for row in connection.execute(query):
                    found.setdefault(row.conversation, []).append((row.question, row.answer.get("answer", "")))
        return found

    def turn(self, id: str, *, user: str) -> StoredTurn:
        """One turn in a conversation of `user`. Raises: NotFoundError."""
        with self._db.reading() as connection:
            row = connection.execute(select(db.turns).where(db.turns.c.id == id)).mappings().first()
            if row is None:
                raise NotFoundError("there is no such turn")
            _find(connection, row["conversation"], user)
            now_is = _labels_now(connection, db.turns.c.id, [id])
        turn = _turn(row)
        return replace(turn, label=join(turn.label, *now_is.get(id, ())))

    def add(
        self,
        turn: StoredTurn,
        *,
        user: str,
        title: str,
        made_from: Sequence[str],
        clearance: Clearance,
        replaces: str | None = None,
        models: Sequence[str] = (),
    ) -> StoredTurn:
        """Store a turn and what it was made from (versions; `models`: nodes of models that were made here); the
        conversation is made with its first one. The turn `replaces` leaves. The conversation's label is the join of all
        that ever went into it. When a version or model has left meanwhile, or its label does not flow to `clearance` any more, the answer is stored empty: see the result.
        Raises: NotFoundError when the conversation, or the turn to be replaced, was deleted meanwhile."""
        at = now()
        with self._db.writing() as connection:  # whoever erases waits, and then finds the edges
            kept = standing(connection, made_from)
            learnt = {model: label_known(connection, model) for model in models}
            label = join(turn.label, *(label for label, _ in kept.values()), *(label for label in learnt.values() if label is not None))
            if len(kept) < len(set(made_from)) or None in learnt.values() or not label.flows_to(clearance):
                kept, learnt, turn = {}, {}, replace(turn, answer=ERASED)
            else:
                turn = replace(turn, label=label)
            seq = self._place(connection, turn, user=user, title=title, at=at, replaces=replaces)
            row = {
                "id": turn.id, "conversation": turn.conversation, "seq": seq, "label": str(turn.label),
                "question": turn.question, "asked": turn.asked, "answer": dict(turn.answer),
                "latency_ms": turn.latency_ms, "created_at": at,
            }  # fmt: skip
            connection.execute(db.turns.insert(), db.owned(connection, db.turns, [row]))
            db.upsert(connection, db.nodes, [{"id": turn.id, "label": str(turn.label)}])
            # also the documents: a version that gives way to newer ones takes its edges along
            link(connection, [(turn.id, [*kept, *{document for _, document in kept.values()}, *learnt])])
        return _turn(row)

    def standing(self, versions: Sequence[str]) -> dict[str, Label]:
        """The labels that count now of those of `versions` that are still kept: the version's joined with its document's."""
        with self._db.reading() as connection:
            return {id: label for id, (label, _) in standing(connection, versions).items()}

    def written(self) -> int | None:
        """The same number twice: nothing in the ledger changed between. None: it cannot be told. Takes microseconds."""
        return self._db.watermark.now()

    def _place(
        self, connection: Connection, turn: StoredTurn, *, user: str, title: str, at: str, replaces: str | None
    ) -> int:
        t = db.turns.c
        last = connection.execute(select(func.max(t.seq)).where(t.conversation == turn.conversation)).scalar()
        if turn.seq == 1 and replaces is None:  # the first question makes the conversation
            values = {"id": turn.conversation, "user": user, "title": title, "label": str(turn.label), "created_at": at}
            connection.execute(db.conversations.insert(), db.owned(connection, db.conversations, [{**values, "changed_at": at}]))
            return 1
        talk = _find(connection, turn.conversation, user)
        label = talk.label.join(turn.label)
        connection.execute(
            update(db.conversations).where(db.conversations.c.id == talk.id).values(label=str(label), changed_at=at)
        )
        if replaces is None:
            return (last or 0) + 1
        place = connection.execute(select(t.seq).where(t.id == replaces, t.conversation == talk.id)).scalar()
        if place is None:
            raise NotFoundError("the answer to be replaced is gone")
        _delete_turns(connection, [replaces])
        return place

    def rename(self, id: str, title: str, *, user: str) -> None:
        """Raises: NotFoundError."""
        with self._db.writing() as connection:
            _find(connection, id, user)
            [row] = db.owned(connection, db.conversations, [{"id": id, "title": title}])
            connection.execute(update(db.conversations).where(db.conversations.c.id == id).values(title=row["title"]))

    def delete(self, id: str, *, user: str) -> None:
        """The conversation with all its turns. Raises: NotFoundError."""
        with self._db.writing() as connection:
            _find(connection, id, user)
            turns = connection.execute(select(db.turns.c.id).where(db.turns.c.conversation == id)).scalars().all()
            _delete_turns(connection, turns)
            connection.execute(db.conversations.delete().where(db.conversations.c.id == id))
        if self._keys is not None:
            self._keys.drop([id])  # what older copies of the ledger hold of it cannot be read any more


def erase_answers(connection: Connection, parents: Sequence[str]) -> int:
    """Empty the answers that quote one of `parents` (documents and versions that leave): what is erased is erased here, too.
    The question stays: it is the user's. Feedback on such an answer leaves with it. How many answers."""
    ids: set[str] = set()
    for batch in db.batches(list(parents)):
        ids |= set(connection.execute(select(db.edges.c.child).where(db.edges.c.parent.in_(batch))).scalars())
    turns = sorted(id for id in ids if id.startswith("t_"))
    said = sorted(id for id in ids if id.startswith("f_"))
    for batch in db.batches(turns):
        connection.execute(update(db.turns).where(db.turns.c.id.in_(batch)).values(answer=ERASED))
    for batch in db.batches(said):
        connection.execute(db.feedback.delete().where(db.feedback.c.id.in_(batch)))
    return len(turns)


ERASED: dict[str, Any] = {
    "answer": "", "abstained": True, "why": "erased", "confidence": 0.0, "citations": [], "nearest": [], "index": {},
    "model": "", "marks": [],
}  # fmt: skip


def _delete_turns(connection: Connection, ids: Sequence[str]) -> None:
    for batch in db.batches(list(ids)):
        connection.execute(db.turns.delete().where(db.turns.c.id.in_(batch)))
        connection.execute(db.edges.delete().where(db.edges.c.child.in_(batch)))
        connection.execute(db.nodes.delete().where(db.nodes.c.id.in_(batch)))


def _find(connection: Connection, id: str, user: str) -> Talk:
    c = db.conversations.c
    row = connection.execute(select(db.conversations).where(c.id == id, c.user == user)).mappings().first()
    if row is None:
        raise NotFoundError("there is no such conversation")
    return _raised_talks(connection, [_talk(row)])[0]


def _raised_talks(connection: Connection, talks: Sequence[Talk]) -> list[Talk]:
    now_is = _labels_now(connection, db.turns.c.conversation, [talk.id for talk in talks])
    return [replace(talk, label=join(talk.label, *now_is.get(talk.id, ()))) for talk in talks]


def _labels_now(connection: Connection, key: ColumnElement[str], ids: Sequence[str]) -> dict[str, list[Label]]:
    """By id (of turns, or of conversations: `key`) the labels that what they were made from carries now."""
    return labels_now(connection, db.turns, key, ids)


def labels_now(connection: Connection, table: Table, key: ColumnElement[str], ids: Sequence[str]) -> dict[str, list[Label]]:
    """The labels that the versions, documents and models behind rows of `table` (turns, feedback) carry now, by `key`."""
    found: dict[str, list[Label]] = {}
    e, v, d = db.edges.c, db.versions.c, db.documents.c
    joined = table.join(db.edges, e.child == table.c.id).outerjoin(db.versions, v.id == e.parent)
    joined = joined.outerjoin(db.documents, d.id == func.coalesce(v.document, e.parent))
    for batch in db.batches(ids):
        query = select(key, v.label, d.label).select_from(joined).where(key.in_(batch)).distinct()
        for id, *labels in connection.execute(query):
            found.setdefault(id, []).extend(Label.parse(label) for label in labels if label is not None)
        spoken = select(key, e.parent).select_from(table.join(db.edges, e.child == table.c.id))
        rows = connection.execute(spoken.where(key.in_(batch), e.parent.startswith(MODEL, autoescape=True)).distinct()).all()
        learnt = {model: label_known(connection, model) for model in {model for _, model in rows}}
        for id, model in rows:
            if (label := learnt[model]) is not None:
                found.setdefault(id, []).append(label)
    return found


def known(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of `ids` that are kept documents or versions, or models made here."""
    found: set[str] = set()
    for column in (db.versions.c.id, db.documents.c.id):
        for batch in db.batches(sorted(set(ids))):
            found |= set(connection.execute(select(column).where(column.in_(batch))).scalars())
    return found | {id for id in ids if id.startswith(MODEL) and label_known(connection, id) is not None}


def standing(connection: Connection, versions: Sequence[str]) -> dict[str, tuple[Label, str]]:
    """Of those of `versions` that are still kept: (the label that counts now, their document)."""
    found: dict[str, tuple[Label, str]] = {}
    v, d = db.versions.c, db.documents.c
    joined = db.versions.join(db.documents, d.id == v.document)
    for batch in db.batches(sorted(set(versions))):
        query = select(v.id, v.document, v.label, d.label).select_from(joined).where(v.id.in_(batch))
        for id, document, *labels in connection.execute(query):
            found[id] = join(*(Label.parse(label) for label in labels)), document
    return found


def _talk(row: Mapping[str, Any]) -> Talk:
    return Talk(**{**row, "label": Label.parse(row["label"])})


def _turn(row: Mapping[str, Any]) -> StoredTurn:
    return StoredTurn(**{**row, "label": Label.parse(row["label"])})
