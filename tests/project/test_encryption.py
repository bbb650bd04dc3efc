"""Encryption at rest: nothing readable in .hagane, everything the same for who may read, and what is erased is gone."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sample_files
from canaries import find
from encrypted_company import ENCRYPTED, QUESTION, QUIET, SPOKEN, account, company, live, talk, zipped
from small_company import TEXTS, Folder

from hagane.core.errors import (
    ConfigError,
    HaganeError,
    NotFoundError,
    StateError,
    StorageError,
)
from hagane.core.labels import Clearance
from hagane.ledger.master import create_file
from hagane.project import chat, documents, keys
from hagane.project.questions import answer_shown, ask, search
from hagane.project.wire import Project

# --- canaries


def of_all_formats() -> tuple[dict[str, bytes], list[str]]:
    """A file of each format that needs no OCR, with words of its own in its text and in its name."""
    files, words = {}, []
    before = sample_files.SENTENCE, sample_files.ASCII_SENTENCE
    try:
        for n, kind in enumerate(sorted(sample_files.samples())):
            if kind == "image":
                continue
            sample_files.SENTENCE = f"鸚鵡計画{n:02}号の上限は一日あたり15,000円とする。"
            sample_files.ASCII_SENTENCE = f"PARROTPLAN{n:02} LIMIT"
            files[f"rules/孔雀文書{n:02}番.{sample_files.ENDINGS.get(kind, kind)}"] = sample_files.samples()[kind]
            words += [f"孔雀文書{n:02}番", f"PARROTPLAN{n:02}" if kind == "pdf" else f"鸚鵡計画{n:02}号"]
    finally:
        sample_files.SENTENCE, sample_files.ASCII_SENTENCE = before
    return files, words


@pytest.mark.long
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_scan_of_the_disk_finds_every_word_of_a_plain_project_and_none_of_an_encrypted_one(
    tmp_path: Path, encrypted: bool
) -> None:
    """24 formats; words in texts, file names, titles, questions, answers, conversations, feedback, reasons, uploads."""
    files, words = of_all_formats()
    folder = company(tmp_path, encrypted=encrypted, texts=TEXTS | files)
    live(folder)
    rows = folder.docs()
    assert sum(row["state"] == "in" for row in rows.values()) >= 30
    assert len([path for path in rows if "孔雀" in path and rows[path]["state"] == "in"]) >= 20
    words += [*SPOKEN.values(), "年次有給休暇", "給与レンジ", "支払証明書", "在宅勤務", "鸚鵡", "孔雀文書", "通信費"]
    found = find(folder.path / ".hagane", words)
    if encrypted:
        assert {word: places for word, places in found.items() if places} == {}
    else:
        assert [word for word, places in found.items() if not places] == []


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_small_project_is_readable_on_disk_only_without_a_key(tmp_path: Path, encrypted: bool) -> None:
    """The same in seconds: text, Japanese names, an archive's member, a deleted document."""
    folder = company(tmp_path, encrypted=encrypted)
    live(folder)
    words = [*SPOKEN.values(), "年次有給休暇", "給与レンジ", "支払証明書", "月額基本給"]
    found = find(folder.path / ".hagane", words)
    assert [word for word in words if found[word]] == ([] if encrypted else words)
    assert [
        word for word, places in find(folder.path, ["年次有給休暇"]).items() if places
    ]  # the scanner's eyes are open


def test_the_scanner_reads_what_bytes_hide(tmp_path: Path) -> None:
    """Deflate in a PDF's way, zstd inside an archive, freed pages of SQLite, its log, and other encodings."""
    import sqlite3
    import zlib

    import zstandard

    (tmp_path / "a.pdf").write_bytes(b"%PDF stream\n" + zlib.compress("迦陵頻伽一".encode()))
    (tmp_path / "b.zip").write_bytes(zipped("c.bin", "") + b"")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("d", zstandard.compress("迦陵頻伽二".encode()))
    (tmp_path / "b.zip").write_bytes(data.getvalue())
    sql = sqlite3.connect(tmp_path / "e.db")
    sql.executescript(
        "PRAGMA secure_delete=OFF; CREATE TABLE t (x); INSERT INTO t VALUES ('迦陵頻伽三'); DELETE FROM t;"
    )
    sql.close()
    live_sql = sqlite3.connect(tmp_path / "f.db")
    live_sql.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (x); INSERT INTO t VALUES ('迦陵頻伽四');")
    for n, encoding in enumerate(("utf-16-le", "utf-16-be", "cp932"), 5):
        (tmp_path / f"g{n}").write_bytes(f"迦陵頻伽{n}".encode(encoding))
    words = [f"迦陵頻伽{n}" for n in ("一", "二", "三", "四", 5, 6, 7)]
    assert [word for word, places in find(tmp_path, [*words, "迦陵頻伽九"]).items() if places] == words
    live_sql.close()


# --- the same for who may read


def journey(folder: Folder) -> list[Any]:
    """What someone sees on the way from the first sync to a deletion."""
    seen: list[Any] = []

    def look() -> None:
        seen.append([{k: v for k, v in row.items() if k != "changed_at"} for row in folder.run(documents.docs)])
        for who in (None, "staff", "hr"):
            for question in (QUESTION, "等級4の月額基本給", "領収書を紛失した", "在宅 通信費", "宇宙旅行"):
                found = folder.run(search, question, by=who)
                seen.append((who, question, found["passages"], found["terms"]))
                answer = answer_shown(folder.run(ask, question, by=who))
                seen.append({k: v for k, v in answer.items() if k != "timings_s"})
        seen.append(folder.state())

    folder.sync()
    look()
    shown = folder.run(documents.show, "有給休暇.md")
    seen.append((shown.record.id, shown.version.id, shown.document, shown.dropped))
    for wrong in ("無い.md", "rules/", "給与レンジ.md"):
        with pytest.raises(HaganeError) as caught:
            folder.run(documents.show, wrong, by="staff")
        seen.append((str(caught.value), caught.value.hint))
    seen.append(
        {
            k: v
            for k, v in folder.run(documents.relabel, "経費.txt", "confidential:hr", reason="人事のみ").items()
            if k != "request"
        }
    )
    wish = folder.run(documents.relabel, "在宅勤務.md", "public", reason="公開する")
    folder.run(documents.approve, wish["request"], by="hr") if wish["request"] else None
    (folder.path / "rules/有給休暇.md").rename(folder.path / "rules/休暇.md")
    folder.write("rules/在宅勤務.md", TEXTS["rules/在宅勤務.md"] + "\n週4日まで認めることがある。\n")
    folder.write("rules/写し.md", TEXTS["hr/給与レンジ.md"])
    folder.sync()
    look()
    (folder.path / "rules/経費.txt").unlink()
    (folder.path / "hr/給与レンジ.md").unlink()
    folder.sync()
    look()
    return seen


def test_the_whole_journey_is_the_same_with_and_without_encryption(tmp_path: Path) -> None:
    """Ids, order, scores, answers, refusals, errors: whoever may read sees no difference."""
    plain, sealed = (journey(company(tmp_path / name, encrypted=name == "封")) for name in ("平", "封"))
    assert json.loads(json.dumps(plain, default=repr)) == json.loads(json.dumps(sealed, default=repr))


def test_five_thousand_documents_are_looked_through_by_path_without_sql(tmp_path: Path) -> None:
    from hagane.core.labels import EVERYTHING, Label
    from hagane.ledger.records import Draft

    folder = company(tmp_path, encrypted=True, texts={})
    with Project.open(folder.path) as project:
        drafts = [
            Draft(
                id=f"d_{n:05}",
                source="rules",
                path=f"rules/部{n % 50}/規程{n}.md",
                source_label=Label.parse("internal"),
                title=f"規程{n}",
            )
            for n in range(5000)
        ]
        project.ledger.documents.put(drafts, keep=3)
        find_one = project.ledger.documents.find
        assert find_one("規程4711.md", clearance=EVERYTHING).id == "d_04711"
        assert find_one("部7/規程57.md", clearance=EVERYTHING).id == "d_00057"
        with pytest.raises(NotFoundError, match="no document"):
            find_one("規定4711.md", clearance=EVERYTHING)
        with pytest.raises(NotFoundError, match="fits 500 documents"):
            find_one("1.md", clearance=EVERYTHING)
        assert [r.path for r in project.ledger.documents.list(clearance=EVERYTHING)] == sorted(d.path for d in drafts)


# --- wrong, missing and damaged keys


def test_without_the_right_key_nothing_works_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = company(tmp_path, encrypted=True)
    folder.sync()
    before = {file: file.stat().st_mtime_ns for file in (folder.path / ".hagane").rglob("*") if file.is_file()}
    right = (tmp_path / "project.key").read_bytes()
    yaml = (folder.path / "hagane.yaml").read_text()
    create_file(tmp_path / "other.key")

    def refused(error: type[HaganeError], say: str) -> None:
        for verb, given in ((documents.docs, ()), (search, (QUESTION,)), (ask, (QUESTION,))):
            with pytest.raises(error, match=say) as caught:
                folder.run(verb, *given)
            assert caught.value.hint
            assert right.decode().strip() not in f"{caught.value} {caught.value.hint}"
        with pytest.raises(error, match=say):
            folder.sync()

    for key, say in (
        ("file:../other.key", "not the key"),
        ("file:../missing.key", "does not exist"),
        ("env:HAGANE_NO_KEY", "not set"),
    ):
        folder.write("hagane.yaml", yaml.replace("file:../project.key", key))
        refused(ConfigError, say)
    folder.write("hagane.yaml", yaml.replace(ENCRYPTED, ""))
    refused(StateError, "encrypted")
    folder.write("hagane.yaml", yaml)
    (folder.path / ".hagane/keys/project.json").rename(tmp_path / "away.json")
    refused(StorageError, "keys is missing")
    with pytest.raises(StorageError, match="keys is missing"):  # new keys would open nothing, and hide what is wrong
        folder.run(keys.turn_on, "file:../project.key", emit=QUIET)
    (tmp_path / "away.json").rename(folder.path / ".hagane/keys/project.json")
    after = {
        file: file.stat().st_mtime_ns
        for file in (folder.path / ".hagane").rglob("*")
        if file.is_file() and file.name != "lock"
    }
    changed = {file.name for file in after if before.get(file, 0) != after[file] and "keys" not in str(file)}
    assert {name for name in changed if "-wal" not in name and "-shm" not in name} <= set()
    assert folder.found(QUESTION)[0] == "rules/有給休暇.md"


@pytest.mark.parametrize("what", ["blobs", "parsed"])
def test_a_damaged_or_exchanged_file_is_an_error_and_never_other_text(tmp_path: Path, what: str) -> None:
    folder = company(tmp_path, encrypted=True)
    folder.sync()
    with Project.open(folder.path) as project:
        store = project.ledger.blobs if what == "blobs" else project.ledger.parsed
        record = project.ledger.documents.find("有給休暇.md", clearance=Clearance.parse("restricted:*"))
        name = record.sha256 if what == "blobs" else record.version
        read = store.open if what == "blobs" else store.get
        files = [file for file in store.folder.rglob("*") if file.is_file()]
        mine, good = store.file(name), store.file(name).read_bytes()
        other = next(file for file in files if file != mine).read_bytes()
        for bad in (
            other,
            good[:-1],
            good[:5],
            b"",
            good[:40] + bytes([good[40] ^ 1]) + good[41:],
            TEXTS["rules/有給休暇.md"].encode(),
        ):
            mine.write_bytes(bad)
            with pytest.raises(StorageError):
                read(name)
        mine.write_bytes(good)
        assert read(name)


def test_a_key_in_the_data_or_in_a_source_is_refused(tmp_path: Path) -> None:
    folder = company(tmp_path, encrypted=False)
    folder.sync()
    for place in (".hagane/my.key", "rules/my.key"):
        create_file(folder.path / place)
        with pytest.raises(ConfigError, match=r"lies in"):
            folder.run(keys.turn_on, f"file:{place}", emit=QUIET)
        (folder.path / place).unlink()
    assert folder.run(keys.status)["encrypted"] is False


# --- erasure reaches copies


def test_what_is_erased_cannot_be_read_from_an_older_copy_with_todays_keys(tmp_path: Path) -> None:
    """A backup of the data as it was, opened with the keys as they are: everything is there but the erased document."""
    folder = company(tmp_path, encrypted=True)
    folder.sync()
    talk(folder, "等級4の月額基本給はいくらですか", title="給与の話", right="42万円")
    copy = tmp_path / "copy"
    shutil.copytree(folder.path, copy)
    (folder.path / "hr/給与レンジ.md").unlink()
    folder.sync()
    with Project.open(folder.path) as project:
        [conversation] = chat.conversations(project, account())
        chat.delete(project, account(), conversation["id"])
        project.ledger.purge()
    shutil.rmtree(copy / ".hagane/keys")
    shutil.copytree(folder.path / ".hagane/keys", copy / ".hagane/keys")
    with Project.open(copy) as project:
        ledger = project.ledger
        with ledger._db.reading() as connection:
            from sqlalchemy import text

            gone = {row[0] for row in connection.execute(text("SELECT id FROM documents WHERE source = 'hr'"))}
            rows = connection.execute(text("SELECT id, path, title, version FROM documents")).all()
            turns = connection.execute(text("SELECT question, asked, answer FROM turns")).all()
        seal = ledger._db._seal
        assert gone and len(rows) > len(gone) and turns
        for id, path, title, version in rows:
            for place, value in (("documents.path", path), ("documents.title", title)):
                if id in gone:
                    with pytest.raises(StorageError, match="erased"):
                        seal.open(value, place=place)
                else:
                    assert seal.open(value, place=place)
            if id in gone:
                with pytest.raises(StorageError, match="erased"):
                    ledger.parsed.get(version)
            else:
                assert b"chunks" in ledger.parsed.get(version)
        for turn in turns:
            for place, value in zip(("turns.question", "turns.asked", "turns.answer"), turn, strict=True):
                with pytest.raises(StorageError, match="erased"):
                    seal.open(value, place=place)
        opened = 0
        for file in ledger.blobs.files():
            try:
                opened += bool(b"".join(ledger.blobs._stream(file, "it")))
            except StorageError:
                continue
        assert opened == len(rows) - len(gone)


def test_no_byte_of_an_erased_documents_key_is_left(tmp_path: Path) -> None:
    folder = company(tmp_path, encrypted=True)
    folder.sync()
    where = folder.path / ".hagane/keys"
    with Project.open(folder.path) as project:
        id = folder_id = project.ledger.documents.find("給与レンジ.md", clearance=Clearance.parse("restricted:*")).id
        wrapped = project.keys._store.get([id])[id]
        n_before = len(project.keys.names())
    held = lambda: b"".join(file.read_bytes() for file in where.iterdir())  # noqa: E731
    assert wrapped in held() and folder_id.encode() in held()
    (folder.path / "hr/給与レンジ.md").unlink()
    folder.sync()
    assert wrapped not in held() and wrapped[16:48] not in held() and folder_id.encode() not in held()
    with Project.open(folder.path) as project:
        assert len(project.keys.names()) == n_before - 3  # the document's, its original's, its parsed text's
