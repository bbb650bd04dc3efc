"""The ledger's tables, and everything that is peculiar to SQLite: opening, locking, migrating, purging.

Everywhere else the SQL is SQLAlchemy Core that Postgres understands as well.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    exc,
    select,
)
from sqlalchemy import inspect as inspect_database
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.pool import QueuePool

from ..core.errors import HaganeError, StateError, StorageError

BUSY_S = 30.0  # how long a writer waits for another one
BATCH = 400  # ids per IN (...): SQLite's limit on variables is 32,766, Postgres' plans suffer much earlier

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
    Column("path", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("label", Text, nullable=False),
    Column("source_label", Text, nullable=False),
    Column("mark", Text),
    Column("inherited", Text, nullable=False),  # what the container's labels add
    Column("lowered_to", Text),
    Column("lowered_for", String(64)),  # content sha256 that the lowering is for
    Column("index_label", Text),  # what the index was last told
    Column("media", String(200), nullable=False),
    Column("title", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("version", String(40), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("detail", Text, nullable=False),
    Column("duplicate_of", String(40)),
    Column("parent", String(40)),
    Column("pages", Integer, nullable=False),
    Column("n_chars", BigInteger, nullable=False),
    Column("n_chunks", Integer, nullable=False),
    Column("quality", JSON, nullable=False),
    Column("meta", JSON, nullable=False),
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
    Column("path", Text, primary_key=True),
    Column("document", String(40), nullable=False),  # id of the file as a document; its parts' ids are made from it
    Column("stamp", String(120), nullable=False),  # size, times and inode: equal means unchanged
    Column("sha256", String(64), nullable=False),
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
    Column("path", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("media", String(200), nullable=False),
    Column("sha256", String(64), nullable=False),
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
    Column("sha256", String(64), nullable=False),
    Column("before", Text, nullable=False),
    Column("to", Text, nullable=False),
    Column("reason", Text, nullable=False),
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
    Column("output", JSON),  # small outputs; large ones lie in the steps store
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

facts = Table("facts", metadata, Column("name", String(200), primary_key=True), Column("value", JSON))


def _first(connection: Connection) -> None:
    metadata.create_all(connection)


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_first,)
"""Migration i brings schema version i to i + 1. Only ever appended to."""


class Database:
    """One SQLite file with WAL and durable commits. `reading()` and `writing()` are its transactions."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.engine = _engine(file)

    @classmethod
    def open(cls, file: Path) -> Database:
        """Open or create `file` and bring its schema up to date.
        Raises: StorageError; StateError when a newer hagane wrote it."""
        with explained(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            database = cls(file)
            database._migrate()
        return database

    def _migrate(self) -> None:
        newest = len(MIGRATIONS)
        with self.reading() as connection:
            have = _schema_version(connection)
        if have > newest:
            self.close()
            raise StateError(
                f"{self.file} has schema {have}; this hagane knows up to {newest}",
                hint="a newer hagane wrote this project: use that version, or newer",
            )
        if have == newest:
            return
        with self.writing() as connection:
            for migrate in MIGRATIONS[_schema_version(connection) :]:
                migrate(connection)
            connection.execute(schema.delete())
            connection.execute(schema.insert().values(version=newest))

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent snapshot."""
        with explained(self.file), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that takes the write lock at once; durable when it ends, undone when it raises."""
        with explained(self.file), self.engine.connect() as connection:
            connection = connection.execution_options(hagane_write=True)
            with connection.begin():
                yield connection

    def purge(self) -> None:
        """Leave no byte of deleted rows in the file or its write-ahead log.

        VACUUM, because a page that was split keeps stale copies that secure_delete does not reach;
        it works in memory (temp_store), so nothing lands in a temporary file.
        Raises: StateError while another process reads the old state.
        """
        with explained(self.file):
            raw = self.engine.raw_connection()
            try:
                cursor = raw.cursor()
                cursor.execute("VACUUM")
                busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                raw.close()
        if busy:
            raise StateError(
                "another process reads the ledger, so deleted rows are still in its log",
                hint="end the other hagane and run sync again",
            )

    def close(self) -> None:
        self.engine.dispose()


def _schema_version(connection: Connection) -> int:
    if not inspect_database(connection).has_table("schema"):
        return 0
    return connection.execute(select(schema.c.version)).scalar() or 0


def _engine(file: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{file}",
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=300,
        connect_args={"timeout": BUSY_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _prepare(raw: sqlite3.Connection, _record: object) -> None:
        raw.isolation_level = None  # transactions are begun below, not guessed by the driver
        cursor = raw.cursor()
        for pragma in (
            f"busy_timeout={int(BUSY_S * 1000)}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "secure_delete=ON",
            "temp_store=MEMORY",
            "cell_size_check=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("hagane_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


_EXPLANATIONS = (
    ("full", "the disk is full", "free some space and run the command again; nothing was lost"),
    ("locked", "another process holds the ledger", "wait for it or end it, then try again"),
    ("malformed", "the ledger is damaged", "restore .hagane from a backup, or rebuild it: hagane sync"),
    ("not a database", "the ledger is damaged", "restore .hagane from a backup, or rebuild it: hagane sync"),
    ("readonly", "the ledger may not be written", "check the rights of the .hagane folder"),
    ("unable to open", "the ledger cannot be opened", "check the rights of the .hagane folder and the free space"),
    ("disk i/o", "the disk failed", "check the disk and its free space"),
)


@contextlib.contextmanager
def explained(file: Path) -> Iterator[None]:
    """Storage failures as StorageError with a hint; statements and their values never appear in it."""
    try:
        yield
    except HaganeError:
        raise
    except (exc.DBAPIError, sqlite3.Error) as cause:
        origin = getattr(cause, "orig", None) or cause
        if isinstance(origin, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError):
            raise  # our own mistake
        said = str(origin).lower()
        for part, what, hint in _EXPLANATIONS:
            if part in said:
                raise StorageError(f"{file}: {what}", hint=hint) from cause
        raise StorageError(f"{file}: the ledger failed ({type(origin).__name__})") from cause
    except OSError as cause:
        raise StorageError(
            f"{file}: {cause.strerror or type(cause).__name__}", hint="check space and rights"
        ) from cause


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`; those whose primary key is there already change nothing."""
    if rows:
        connection.execute(_insert(connection)(table).on_conflict_do_nothing(), list(rows))


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, replacing those with the same primary key. All rows have the same keys."""
    if not rows:
        return
    statement = _insert(connection)(table)
    keys = [column.name for column in table.primary_key]
    values = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=values), list(rows))


def _insert(connection: Connection) -> Any:
    return sqlite_insert if connection.dialect.name == "sqlite" else postgres_insert


def batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """`ids` in pieces that fit an IN (...)."""
    for at in range(0, len(ids), BATCH):
        yield ids[at : at + BATCH]
