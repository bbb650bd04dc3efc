"""The ledger's tables. Text that is content (paths, titles, questions, answers) has the type `Sealed`.

SQL types that SQLite and Postgres both know. How the tables are opened, migrated and purged stands in db.py.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from sqlalchemy import JSON, BigInteger, Boolean, Column, Dialect, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from .sealed_text import TAGGED, Owned, escaped, unescaped


class Seal(Protocol):
    """What encrypts a column. `place` is table.column: a text opens only where it was sealed. `owner` names the key of
    others (seal.py). Equal texts that are `searchable`, and equal tags, are equal bytes, so that they can be looked up."""

    def seal(self, text: str, *, place: str, searchable: bool, owner: str | None) -> str: ...
    def tagged(self, text: str, *, place: str, owner: str | None) -> str: ...
    def tag(self, text: str, *, place: str) -> str: ...
    def open(self, sealed: str, *, place: str) -> str: ...


class Sealed(TypeDecorator[str]):
    """Text that is encrypted where the project is: the engine's dialect carries the `Seal` as `hagane_seal`.

    `owner` names the column of the same row that says whose key seals it; values come as `Owned` then. A column
    that is `searchable` can be compared (==, IN) with plain texts; with an owner that compares tags."""

    impl = Text
    cache_ok = True

    def __init__(self, *, searchable: bool = False, owner: str = "", place: str = "") -> None:
        super().__init__()
        self.searchable = searchable
        self.owner = owner
        self.place = place  # set below, from the table

    class Comparator(TypeDecorator.Comparator[str]):  # type: ignore[misc]
        def operate(self, op: Any, *other: Any, **named: Any) -> Any:
            kind = self.expr.type
            if isinstance(kind, Sealed) and kind.searchable and kind.owner and op in _COMPARING:
                return op(_Tag(self.expr, kind.place), *other, **named)
            return super().operate(op, *other, **named)

    comparator_factory = Comparator

    def sealed(self, seal: Seal, text: str, owner: str | None) -> str:
        """`text` as it lies in this column of an encrypted ledger."""
        if self.searchable and self.owner:
            return seal.tagged(text, place=self.place, owner=owner)
        return seal.seal(text, place=self.place, searchable=self.searchable, owner=owner)

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        value, owner = (value.value, value.owner) if isinstance(value, Owned) else (value, None)
        if value is None:
            return None
        seal: Seal | None = getattr(dialect, "hagane_seal", None)
        return escaped(value) if seal is None else self.sealed(seal, value, owner)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        seal: Seal | None = getattr(dialect, "hagane_seal", None)
        return unescaped(value) if seal is None else seal.open(value, place=self.place)


_COMPARING = (operators.eq, operators.ne, operators.in_op, operators.not_in_op)


class _TagText(TypeDecorator[str]):
    """A plain text as the tag that a sealed one begins with."""

    impl = Text
    cache_ok = True

    def __init__(self, *, place: str) -> None:
        super().__init__()
        self.place = place

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        seal: Seal | None = getattr(dialect, "hagane_seal", None)
        return value if value is None else escaped(value) if seal is None else seal.tag(value, place=self.place)


class _Tag(FunctionElement[str]):
    """The tag of a sealed column; the column itself where nothing is encrypted."""

    inherit_cache = True
    name = "tag"

    def __init__(self, column: Any, place: str) -> None:
        super().__init__(column)
        self.type = _TagText(place=place)


@compiles(_Tag)
def _compile_tag(element: Any, compiler: Any, **named: Any) -> str:
    column = compiler.process(element.clauses, **named)
    return column if getattr(compiler.dialect, "hagane_seal", None) is None else f"substr({column}, 1, {TAGGED})"


class SealedJson(Sealed):
    """A JSON value, sealed as its text."""

    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        value, owner = (value.value, value.owner) if isinstance(value, Owned) else (value, None)
        text = json.dumps(value, ensure_ascii=False)
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):  # halves of characters are no UTF-8
            text = json.dumps(value)
        return super().process_bind_param(Owned(text, owner) if owner else text, dialect)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if value is not None and not isinstance(value, str):  # the older type JSON kept bare numbers as numbers
            return value
        opened = super().process_result_value(value, dialect)
        return None if opened is None else json.loads(opened)


metadata = MetaData()

schema = Table("schema", metadata, Column("version", Integer, primary_key=True))

sources = Table(
    "sources",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("label", Text, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("source", String(200), nullable=False),
    Column("path", Sealed(searchable=True, owner="id"), nullable=False),
    Column("state", String(20), nullable=False),
    Column("label", Text, nullable=False),
    Column("source_label", Text, nullable=False),
    Column("mark", Text),
    Column("inherited", Text, nullable=False),  # what the container's labels add
    Column("lowered_to", Text),
    Column("lowered_for", Sealed(owner="id")),  # content sha256 that the lowering is for
    Column("index_label", Text),  # what the index was last told
    Column("media", String(200), nullable=False),
    Column("title", Sealed(owner="id"), nullable=False),
    Column("sha256", Sealed(searchable=True), nullable=False),
    Column("version", String(40), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("detail", Sealed(owner="id"), nullable=False),
    Column("duplicate_of", String(40)),
    Column("parent", String(40)),
    Column("pages", Integer, nullable=False),
    Column("n_chars", BigInteger, nullable=False),
    Column("n_chunks", Integer, nullable=False),
    Column("quality", SealedJson(owner="id"), nullable=False),
    Column("meta", SealedJson(owner="id"), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("added_at", String(32), nullable=False),
    Column("changed_at", String(32), nullable=False),
    Index("documents_place", "source", "path", unique=True),
    Index("documents_sha256", "sha256"),
    Index("documents_parent", "parent"),
    Index("documents_twin", "duplicate_of"),
    Index("documents_settled", "state", "index_label", "label", "id"),  # asked at every question: never the wide rows
)

files = Table(
    "files",  # what sync saw last: one row per file of a source, also for containers and files set aside
    metadata,
    Column("source", String(200), primary_key=True),
    Column("path", Sealed(searchable=True, owner="document"), primary_key=True),
    Column("document", String(40), nullable=False),  # id of the file as a document; its parts' ids are made from it
    Column("stamp", String(120), nullable=False),  # size, times and inode: equal means unchanged
    Column("sha256", Sealed(searchable=True), nullable=False),
    Column("mark", String(32), nullable=False),  # fingerprint of how it was prepared
    Index("files_sha256", "sha256"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("document", String(40), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("current", Boolean, nullable=False),
    Column("label", Text, nullable=False),
    Column("path", Sealed(owner="document"), nullable=False),
    Column("title", Sealed(owner="document"), nullable=False),
    Column("media", String(200), nullable=False),
    Column("sha256", Sealed(searchable=True), nullable=False),
    Column("created_at", String(32), nullable=False),
    Index("versions_document", "document", "seq"),
    Index("versions_sha256", "sha256"),
)

requests = Table(
    "requests",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("document", String(40)),  # one of document and source is set
    Column("source", String(200)),
    Column("sha256", Sealed(), nullable=False),
    Column("before", Text, nullable=False),
    Column("to", Text, nullable=False),
    Column("reason", Sealed(owner="document"), nullable=False),
    Column("requester", String(200), nullable=False),
    Column("requested_at", String(32), nullable=False),
    Column("state", String(20), nullable=False),  # open, approved, withdrawn
    Column("approver", String(200)),
    Column("closed_at", String(32)),
    Index("requests_document", "document"),
)

steps = Table(
    "steps",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("version", Integer, nullable=False),
    Column("output", SealedJson()),  # small outputs; large ones lie in the steps store
    Column("stored", Boolean, nullable=False),
    Column("created_at", String(32), nullable=False),
    Index("steps_name", "name"),
)

edges = Table(
    "edges",
    metadata,
    Column("child", String(64), primary_key=True),
    Column("parent", String(64), primary_key=True),
    Index("edges_parent", "parent"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("label", Text, nullable=False),
)

facts = Table("facts", metadata, Column("name", String(200), primary_key=True), Column("value", SealedJson()))

# people (schema 2)

users = Table(
    "users",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(200), nullable=False, unique=True),  # folded: NFKC, lower case
    Column("display", Text, nullable=False),
    Column("role", String(20), nullable=False),
    Column("clearance", Text, nullable=False),  # the user's own; groups add to it
    Column("password", Text),  # argon2id; None: signs in elsewhere
    Column("must_change", Boolean, nullable=False),
    Column("totp", Sealed()),  # base32; None: no second factor
    Column("totp_used", BigInteger, nullable=False),  # the last time step that was accepted: no code twice
    Column("subject", Text, unique=True),  # OIDC: issuer, a blank, sub
    Column("state", String(20), nullable=False),  # active, disabled
    Column("failed", Integer, nullable=False),  # wrong passwords in a row
    Column("locked_until", String(32)),
    Column("created_at", String(32), nullable=False),
    Column("changed_at", String(32), nullable=False),
    Column("seen_at", String(32)),
)

user_groups = Table(
    "user_groups",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("clearance", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("group", String(200), primary_key=True),
    Column("user", String(40), primary_key=True),
    Column("origin", String(20), nullable=False),  # hand, oidc: which sign-on may take it away again
    Index("members_user", "user"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("user", String(40), nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", String(64), nullable=False, unique=True),  # sha256 of the secret: 256 random bits need no salt
    Column("scopes", JSON, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32)),
    Column("revoked_at", String(32)),
    Column("used_at", String(32)),
    Index("tokens_user", "user"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(64), primary_key=True),  # sha256 of the cookie
    Column("user", String(40), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("seen_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Index("sessions_user", "user"),
)

links = Table(
    "links",  # one-time: first set-up, invitation, reset of a password
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("user", String(40)),
    Column("expires_at", String(32), nullable=False),
)

# what people said and asked for (schema 2)

conversations = Table(
    "conversations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("user", String(40), nullable=False),
    Column("title", Sealed(owner="id"), nullable=False),
    Column("label", Text, nullable=False),  # join of its turns
    Column("created_at", String(32), nullable=False),
    Column("changed_at", String(32), nullable=False),
    Index("conversations_user", "user", "changed_at"),
)

turns = Table(
    "turns",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("conversation", String(40), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("label", Text, nullable=False),
    Column("question", Sealed(owner="conversation"), nullable=False),
    Column("asked", Sealed(owner="conversation"), nullable=False),  # as rewritten with the conversation
    Column("answer", SealedJson(owner="conversation"), nullable=False),  # as `ask --json` prints it
    Column("latency_ms", Integer, nullable=False),
    Column("created_at", String(32), nullable=False),
    Index("turns_conversation", "conversation", "seq", unique=True),
)

feedback = Table(
    "feedback",  # candidate examples for datasets
    metadata,
    Column("id", String(40), primary_key=True),
    Column("turn", String(40), nullable=False),
    Column("user", String(40), nullable=False),
    Column("kind", String(20), nullable=False),  # up, down, right_answer, wrong_source
    Column("label", Text, nullable=False),
    Column("body", SealedJson(), nullable=False),
    Column("created_at", String(32), nullable=False),
    Index("feedback_turn", "turn"),
)

uploads = Table(
    "uploads",  # files that came through the page; their bytes are blobs
    metadata,
    Column("path", Sealed(searchable=True), primary_key=True),
    Column("sha256", Sealed(searchable=True), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("label", Text, nullable=False),
    Column("user", String(40), nullable=False),
    Column("created_at", String(32), nullable=False),
    Index("uploads_sha256", "sha256"),
)

jobs = Table(
    "jobs",  # work that the server does in the background; a killed server does it again
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("state", String(20), nullable=False),  # waiting, running, done, failed, cancelled
    Column("user", String(200), nullable=False),  # the principal for whom it runs
    Column("label", Text, nullable=False),
    Column("args", SealedJson(), nullable=False),
    Column("progress", SealedJson(), nullable=False),
    Column("error", Sealed()),
    Column("created_at", String(32), nullable=False),
    Column("started_at", String(32)),
    Column("ended_at", String(32)),
    Index("jobs_state", "state", "created_at"),
)

for _table in metadata.tables.values():
    for _column in _table.columns:
        if isinstance(_column.type, Sealed):
            _column.type.place = f"{_table.name}.{_column.name}"
