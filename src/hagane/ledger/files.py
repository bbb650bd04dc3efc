"""What sync saw last of each source: one row per file, so that the next sync knows what changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import or_, select

from . import db


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was prepared. `stamp` and `mark` unchanged: nothing to do."""

    source: str
    path: str
    document: str  # id of the file as a document; kept when the file is renamed
    stamp: str
    sha256: str
    mark: str


class Files:
    """The rows of `files`. For ingestion only."""

    def __init__(self, database: db.Database) -> None:
        self._db = database

    def every(self, source: str) -> dict[str, Seen]:
        """The files of `source` by path."""
        with self._db.reading() as connection:
            rows = connection.execute(select(db.files).where(db.files.c.source == source)).mappings()
            return {row["path"]: Seen(**row) for row in rows}

    def sources(self) -> list[str]:
        """Names of all sources that have files here."""
        with self._db.reading() as connection:
            return sorted(connection.execute(select(db.files.c.source).distinct()).scalars())

    def put(self, rows: Iterable[Seen]) -> None:
        """Remember files, in one durable commit."""
        given = {(row.source, row.path): row for row in rows}
        f = db.files.c
        with self._db.writing() as connection:
            # Sealed under their documents' keys, equal paths of two documents are unlike: no conflict tells.
            for source in {source for source, _ in given} if self._db.sealed else ():
                for batch in db.batches([row.path for row in given.values() if row.source == source]):
                    query = select(f.path, f.document).where(f.source == source, f.path.in_(batch))
                    for path, document in connection.execute(query).all():
                        if document != given[source, path].document:
                            connection.execute(db.files.delete().where(f.source == source, f.path == path))
            db.upsert(connection, db.files, [asdict(row) for row in given.values()])

    def forget(self, source: str, paths: Sequence[str]) -> None:
        """Forget files, in one durable commit."""
        f = db.files.c
        with self._db.writing() as connection:
            for batch in db.batches(list(paths)):
                connection.execute(db.files.delete().where(f.source == source, f.path.in_(batch)))

    def documents(self, files: Sequence[str]) -> list[str]:
        """Ids of the documents that these files became: themselves and their parts."""
        d = db.documents.c
        found: list[str] = []
        with self._db.reading() as connection:
            for batch in db.batches(list(files)):
                query = select(d.id).where(or_(d.id.in_(batch), d.parent.in_(batch)))
                found += connection.execute(query).scalars()
        return found
