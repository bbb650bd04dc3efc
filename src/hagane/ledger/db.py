"""Everything that is peculiar to SQLite: opening, locking, migrating, purging. The tables stand in tables.py.

Everywhere else the SQL is SQLAlchemy Core that Postgres understands as well.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import Connection, Engine, Table, create_engine, event, exc, literal, select, text
from sqlalchemy import inspect as inspect_database
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.pool import QueuePool

from ..core.errors import HaganeError, StateError, StorageError
from ..core.whole_file import private_folder
from .sealed_text import Owned

# the tables are spoken of as db.NAME
from .tables import Sealed
from .tables import conversations as conversations
from .tables import documents as documents
from .tables import edges as edges
from .tables import facts as facts
from .tables import feedback as feedback
from .tables import files as files
from .tables import jobs as jobs
from .tables import links as links
from .tables import members as members
from .tables import metadata as metadata
from .tables import nodes as nodes
from .tables import requests as requests
from .tables import schema as schema
from .tables import sessions as sessions
from .tables import sources as sources
from .tables import steps as steps
from .tables import tokens as tokens
from .tables import turns as turns
from .tables import uploads as uploads
from .tables import user_groups as user_groups
from .tables import users as users
from .tables import versions as versions
from .watermark import Watermark

if TYPE_CHECKING:
    from .keys import Keys
    from .seal import ColumnSeal

BUSY_S = 30.0  # how long a writer waits for another one
BATCH = 400  # ids per IN (...): SQLite's limit on variables is 32,766, Postgres' plans suffer much earlier


def _first(connection: Connection) -> None:
    metadata.create_all(connection)


def _second(connection: Connection) -> None:
    """People, conversations, feedback, uploads, jobs."""
    metadata.create_all(connection)


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_first, _second)
"""Migration i brings schema version i to i + 1. Only ever appended to."""


class Database:
    """One SQLite file with WAL and durable commits. `reading()` and `writing()` are its transactions."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.engine = _engine(file)
        self.watermark = Watermark(file)
        self._seal: ColumnSeal | None = None
        self._checked = False

    @classmethod
    def open(cls, file: Path, *, keys: Keys | None = None) -> Database:
        """Open or create `file` and bring its schema up to date; with `keys`, its content is sealed.
        Raises: StorageError; StateError when a newer hagane wrote it, or when it is encrypted and there are no
        keys, or the other way round."""
        with explained(file):
            private_folder(file.parent)
            if not file.exists():  # SQLite's files beside it take its mode
                os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            database = cls(file)
            try:
                database._migrate()
                database._settle_seal(keys)
            except BaseException:
                database.close()
                raise
        return database

    @property
    def sealed(self) -> bool:
        """Whether the content in here is encrypted."""
        return self._seal is not None

    def _settle_seal(self, keys: Keys | None) -> None:
        with self.reading() as connection:
            epoch = epoch_of(connection)
            holding = [table for table in metadata.tables.values() if any(isinstance(c.type, Sealed) for c in table.columns)]
            empty = not any(connection.execute(select(literal(1)).select_from(table).limit(1)).first() for table in holding)
        if epoch is None and keys is not None and empty and keys.strict:
            epoch = secrets.token_hex(4)
            keys.make([f"columns:{epoch}"])
            with self.writing() as connection:
                epoch = epoch_of(connection) or epoch
                write_epoch(connection, epoch)
        if epoch is None and keys is not None and keys.strict:
            raise StateError("this project's ledger is not encrypted", hint="hagane keys on encrypts what is there")
        if epoch is not None and keys is None:
            raise StateError("this project is encrypted, and hagane.yaml names no key", hint="write encryption.key into hagane.yaml")
        if epoch is not None and keys is not None:
            from .seal import ColumnSeal

            self._seal = ColumnSeal(keys, epoch)
            self._seal.check(epoch)
        self.engine.dialect.hagane_seal = self._seal  # type: ignore[attr-defined]
        self._checked = True

    @contextlib.contextmanager
    def _within_epoch(self, connection: Connection) -> Iterator[None]:
        """The transaction seals under the epoch that its snapshot names. Raises: StateError when the project was
        encrypted or decrypted since it was opened."""
        epoch = epoch_of(connection) if self._checked else None
        if self._checked and (epoch is None) != (self._seal is None):
            raise StateError("the project's encryption was switched meanwhile", hint="run the command again, or restart the server")
        if self._seal is None or epoch is None:
            yield
        else:
            with self._seal.within(epoch):
                yield

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
        with explained(self.file), self.engine.connect() as connection, connection.begin(), self._within_epoch(connection):
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that takes the write lock at once; durable when it ends, undone when it raises."""
        with explained(self.file), self.engine.connect() as connection:
            connection = connection.execution_options(hagane_write=True)
            with connection.begin(), self._within_epoch(connection):
                yield connection

    @contextlib.contextmanager
    def hurrying(self) -> Iterator[Connection]:
        """A transaction whose first statement writes, for what may be left out: it hardly waits.
        Raises: StorageError while another one writes."""
        with self.reading() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=20")
            try:
                yield connection
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")

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
        self.watermark.close()
        self.engine.dispose()


def _schema_version(connection: Connection) -> int:
    if not inspect_database(connection).has_table("schema"):
        return 0
    return connection.execute(select(schema.c.version)).scalar() or 0


def epoch_of(connection: Connection) -> str | None:
    """Which epoch's keys seal the ledger's columns; None when it is not encrypted."""
    row = connection.exec_driver_sql("SELECT value FROM facts WHERE name = 'sealed'").first()
    return None if row is None else str(row[0])[1:]


def lies_sealed(file: Path) -> bool:
    """Whether the ledger in `file` is encrypted, without opening it."""
    if not file.exists():
        return False
    with explained(file), contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=BUSY_S)) as raw:
        try:
            return raw.execute("SELECT 1 FROM facts WHERE name = 'sealed'").fetchone() is not None
        except sqlite3.OperationalError as cause:
            if "no such table" in str(cause):
                return False
            raise


def write_epoch(connection: Connection, epoch: str | None) -> None:
    """Note which epoch's keys seal the ledger's columns, or that none do. In the transaction that makes it so."""
    connection.exec_driver_sql("DELETE FROM facts WHERE name = 'sealed'")
    if epoch is not None:
        connection.execute(text("INSERT INTO facts (name, value) VALUES ('sealed', :epoch)"), {"epoch": f"e{epoch}"})


def _engine(file: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{file}",
        hide_parameters=True,  # what a failed statement held is content
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
    except exc.StatementError as cause:
        if isinstance(cause.orig, HaganeError):  # from sealing a value
            raise cause.orig from None
        if not isinstance(cause, exc.DBAPIError):
            raise
        _explain(file, cause)
    except sqlite3.Error as cause:
        _explain(file, cause)
    except OSError as cause:
        raise StorageError(
            f"{file}: {cause.strerror or type(cause).__name__}", hint="check space and rights"
        ) from cause


def _explain(file: Path, cause: exc.DBAPIError | sqlite3.Error) -> NoReturn:
    origin = getattr(cause, "orig", None) or cause
    if isinstance(origin, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError):
        raise cause  # our own mistake
    said = str(origin).lower()
    for part, what, hint in _EXPLANATIONS:
        if part in said:
            raise StorageError(f"{file}: {what}", hint=hint) from cause
    raise StorageError(f"{file}: the ledger failed ({type(origin).__name__})") from cause


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`; those whose primary key is there already change nothing."""
    if rows:
        connection.execute(_insert(connection)(table).on_conflict_do_nothing(), owned(connection, table, rows))


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, replacing those with the same primary key. All rows have the same keys."""
    if not rows:
        return
    statement = _insert(connection)(table)
    keys = [column.name for column in table.primary_key]
    values = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=values), owned(connection, table, rows))


def owned(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`rows`, to be written to `table`, with every value marked that is to be sealed under its owner's key."""
    sealed = getattr(connection.dialect, "hagane_seal", None) is not None
    owners = {c.name: c.type.owner for c in table.columns if isinstance(c.type, Sealed) and c.type.owner} if sealed else {}
    return [
        {name: Owned(value, row[owners[name]]) if name in owners and row.get(owners[name]) else value for name, value in row.items()}
        for row in rows
    ]


def _insert(connection: Connection) -> Any:
    return sqlite_insert if connection.dialect.name == "sqlite" else postgres_insert


def batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """`ids` in pieces that fit an IN (...)."""
    for at in range(0, len(ids), BATCH):
        yield ids[at : at + BATCH]
