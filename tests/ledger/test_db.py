"""The database file: durable, explained, migrated forward only, and clean after a purge."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from hagane.core.errors import StateError, StorageError
from hagane.core.labels import EVERYTHING
from hagane.ledger import db
from hagane.ledger.ledger import Ledger

from .conftest import OWNER, label


def _traces(folder, words: list[str]) -> list[str]:
    """Which of `words` stand in any byte of any file of the ledger."""
    data = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    return [word for word in words if word.encode() in data]


@pytest.mark.parametrize("ledger", ["plain"], indirect=True)
def test_after_deletion_and_purge_no_byte_of_title_path_or_reason_is_left(ledger, fill, tmp_path):
    """The scan finds them before, so it would find them after."""
    words = ["役員報酬規程の題名", "秘密の場所", "異動の理由"]
    many = [fill.draft(f"規程{i}.md", f"本文{i}", title="題名" * 30) for i in range(300)]
    for part in (many[::3], many[1::3], many[2::3]):  # enough for pages that split
        ledger.documents.put(part, keep=3)
    id = fill.put("秘密の場所/役員.md", "本文だけの言葉", title="役員報酬規程の題名", detail="秘密の場所")
    fill.put("秘密の場所/役員.md", "新しい本文", title="役員報酬規程の題名")
    ledger.marks.label(id, label("public"), by=OWNER, reason="異動の理由")
    assert _traces(tmp_path, words) == words
    ledger.documents.delete([id])
    ledger.purge()
    assert _traces(tmp_path, words) == []
    assert ledger.documents.counts(clearance=EVERYTHING)["in"] == 300


@pytest.mark.parametrize("ledger", ["plain"], indirect=True)
def test_without_purge_the_scan_still_finds_them(ledger, fill, tmp_path):
    """What the test above would miss if purge did nothing: the write-ahead log."""
    id = fill.put("秘密の場所/役員.md")
    ledger.documents.delete([id])
    assert _traces(tmp_path, ["秘密の場所"]) == ["秘密の場所"]


@pytest.mark.parametrize("ledger", ["plain"], indirect=True)
def test_dropped_old_versions_leave_no_bytes_either(ledger, fill, tmp_path):
    for text in ("甲", "乙", "丙"):
        fill.put("規程.md", text, title=f"題名{text}", keep=1)
    ledger.purge()
    assert _traces(tmp_path, ["題名甲", "題名乙", "題名丙"]) == ["題名乙", "題名丙"]


def test_commits_are_durable_and_deletions_overwrite(ledger):
    with ledger._db.reading() as connection:
        said = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in
                ("journal_mode", "synchronous", "secure_delete", "temp_store")}  # fmt: skip
    assert said == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "temp_store": 2}


def test_a_ledger_of_a_newer_hagane_is_refused(tmp_path):
    Ledger.open(tmp_path).close()
    with sqlite3.connect(tmp_path / ".hagane" / "ledger.db") as raw:
        raw.execute("UPDATE schema SET version = 99")
    raw.close()
    with pytest.raises(StateError, match="schema 99") as caught:
        Ledger.open(tmp_path)
    assert "newer hagane" in caught.value.hint


def test_an_older_schema_is_brought_forward_once(tmp_path, monkeypatch):
    Ledger.open(tmp_path).close()
    seen = []
    monkeypatch.setattr(db, "MIGRATIONS", (*db.MIGRATIONS, lambda connection: seen.append(connection)))
    Ledger.open(tmp_path).close()
    Ledger.open(tmp_path).close()
    assert len(seen) == 1


def test_an_interrupted_migration_changes_nothing(tmp_path, monkeypatch):
    Ledger.open(tmp_path).close()

    def breaks(connection):
        connection.exec_driver_sql("CREATE TABLE halfway (x INTEGER)")
        raise RuntimeError

    good = db.MIGRATIONS
    monkeypatch.setattr(db, "MIGRATIONS", (*good, breaks))
    with pytest.raises(RuntimeError):
        Ledger.open(tmp_path)
    monkeypatch.setattr(db, "MIGRATIONS", good)
    with Ledger.open(tmp_path) as ledger, ledger._db.reading() as connection:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master").scalars().all()
        assert "halfway" not in tables


def test_a_damaged_file_is_a_storage_error_with_a_way_out(tmp_path):
    (tmp_path / ".hagane").mkdir()
    (tmp_path / ".hagane" / "ledger.db").write_bytes("これはデータベースではない".encode() * 200)
    with pytest.raises(StorageError, match="damaged") as caught:
        Ledger.open(tmp_path)
    assert "backup" in caught.value.hint


def test_a_full_disk_is_a_storage_error_and_loses_nothing(ledger, fill):
    fill.put("a.md")
    with ledger._db.engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
    from sqlalchemy import event

    @event.listens_for(ledger._db.engine, "begin")
    def _small(connection):
        connection.connection.dbapi_connection.execute(f"PRAGMA max_page_count={pages}")

    drafts = [fill.draft(f"{i}.md", title="長い題名" * 500) for i in range(50)]
    with pytest.raises(StorageError, match="full") as caught:
        ledger.documents.put(drafts, keep=3)
    assert "free some space" in caught.value.hint
    assert "題名" not in str(caught.value)
    assert [r.path for r in ledger.documents.list(clearance=EVERYTHING)] == ["a.md"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_rights_is_a_storage_error(tmp_path):
    (tmp_path / ".hagane").mkdir(mode=0o500)
    with pytest.raises(StorageError):
        Ledger.open(tmp_path)


def test_the_same_tables_can_be_made_in_postgres():
    dialect = postgresql.dialect()
    for table in db.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert "CREATE" in str(CreateIndex(index).compile(dialect=dialect))


_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from ledger.conftest import Filler
from hagane.ledger.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
fill = Filler(ledger)
for i in range(10**6):
    ledger.documents.put([fill.draft(f"{i}-{j}.md") for j in range(7)], keep=3)
    print(i, flush=True)
"""


def test_a_killed_writer_leaves_whole_groups_and_every_acknowledged_one(tmp_path):
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for n in (1, 3):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), tests], stdout=subprocess.PIPE, text=True
        )
        lines = [process.stdout.readline() for _ in range(n)]
        process.kill()
        lines += process.stdout.readlines()
        process.wait()
        with Ledger.open(tmp_path) as ledger:
            groups = {}
            for record in ledger.documents.every_unfiltered():
                groups.setdefault(record.path.split("-")[0], []).append(record)
            assert {len(group) for group in groups.values()} == {7}
            assert {line.strip() for line in lines if line.endswith("\n")} <= groups.keys()


def test_facts_are_remembered(ledger, tmp_path):
    ledger.remember(syncing=True, point={"coverage": 0.42, "言語": "ja"})
    ledger.remember(syncing=False)
    with Ledger.open(tmp_path, keys=ledger.keys) as again:
        assert again.fact("point") == {"coverage": 0.42, "言語": "ja"}
        assert again.fact("syncing", True) is False
        assert again.fact("missing", 7) == 7
