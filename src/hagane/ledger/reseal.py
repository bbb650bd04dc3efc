"""The ledger's texts sealed anew: all of them or none, in one transaction. Killed anywhere, nothing happened.

Used when encryption is turned on or off, and when the columns' keys are replaced. Values are moved as they lie in the
file, past the column types.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, text

from . import db
from .seal import ColumnSeal
from .sealed_text import MARK, TAGGED, escaped, is_sealed, unescaped
from .tables import Sealed

if TYPE_CHECKING:
    from .keys import Keys

PAGE = 500  # rows held in memory
Change = Callable[[Sealed, str, str | None], str]  # column, value as it lies there, owner -> as it shall lie there


def seal_all(database: db.Database, keys: Keys) -> None:
    """Encrypt a plain ledger. Open it anew afterwards."""
    epoch = _new_epoch(keys)
    seal = ColumnSeal(keys, epoch)

    def change(column: Sealed, value: str, owner: str | None) -> str:
        if is_sealed(value):
            return value
        return column.sealed(seal, unescaped(value), owner)

    with database.writing() as connection:
        _rewrite(connection, change, keys=keys)
        db.write_epoch(connection, epoch)


def open_all(database: db.Database, keys: Keys) -> None:
    """Decrypt a sealed ledger. Open it anew afterwards."""
    seal = ColumnSeal(keys, "")

    def change(column: Sealed, value: str, _owner: str | None) -> str:
        return escaped(seal.open(value, place=column.place)) if is_sealed(value) else value

    with database.writing() as connection:
        _rewrite(connection, change, keys=None)
        db.write_epoch(connection, None)


def renew(database: db.Database, keys: Keys) -> None:
    """New keys for the columns: what lies under them is sealed anew, and the old keys are deleted. What documents and
    conversations own stays as it is. Other processes go on: each transaction sees which keys count.
    Afterwards `Ledger.purge` leaves no byte of the old texts and keys."""
    epoch = _new_epoch(keys)
    seal = ColumnSeal(keys, epoch)

    def change(column: Sealed, value: str, _owner: str | None) -> str:
        if not value.startswith(f"{MARK}c") and value[TAGGED : TAGGED + 1] != MARK:
            return value
        return column.sealed(seal, seal.open(value, place=column.place), None)

    with database.writing() as connection:
        _rewrite(connection, change, keys=None)
        db.write_epoch(connection, epoch)
    keys.drop([name for name in keys.names("columns:") if name != f"columns:{epoch}"])


def _new_epoch(keys: Keys) -> str:
    epoch = secrets.token_hex(4)
    keys.make([f"columns:{epoch}"])
    return epoch


def _rewrite(connection: Connection, change: Change, *, keys: Keys | None) -> None:
    """Apply `change` to every value of every sealed column; with `keys`, the owners' keys are made first."""
    for table in db.metadata.tables.values():
        columns = {c.name: c.type for c in table.columns if isinstance(c.type, Sealed)}
        if not columns:
            continue
        assign = ", ".join(f'"{name}" = :{name}' for name in columns)
        statement = text(f'UPDATE "{table.name}" SET {assign} WHERE rowid = :row')
        owners = {name: kind.owner for name, kind in columns.items() if kind.owner}
        for rows in _pages(connection, table, sorted({*columns, *owners.values()})):
            if keys is not None:
                keys.make([row[owner] for row in rows for owner in set(owners.values()) if row[owner]])
            changed = []
            for row in rows:
                values = {name: _text(row[name]) for name in columns}
                new = {
                    name: None if (old := values[name]) is None else change(kind, old, row[owners[name]] if name in owners else None)
                    for name, kind in columns.items()
                }
                if new != values:
                    changed.append({"row": row["row"], **new})
            if changed:
                connection.execute(statement, changed)


def _text(value: Any) -> str | None:
    """As text: a column that once was of type JSON holds bare numbers as numbers."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _pages(connection: Connection, table: Table, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    names = ", ".join(f'"{name}"' for name in columns)
    but = "name <> 'sealed' AND " if table.name == "facts" else ""
    query = text(f'SELECT rowid AS "row", {names} FROM "{table.name}" WHERE {but}rowid > :last ORDER BY rowid LIMIT {PAGE}')
    last = -1
    while rows := [dict(row) for row in connection.execute(query, {"last": last}).mappings()]:
        last = rows[-1]["row"]
        yield rows
