"""Sealing: what was sealed comes back, and nothing else ever does."""

from __future__ import annotations

import base64
import contextlib
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import JSON, Text, select, text, update

from hagane.core.errors import StateError, StorageError
from hagane.core.labels import EVERYTHING
from hagane.ledger import db, reseal
from hagane.ledger.files import Seen
from hagane.ledger.keys import Keys
from hagane.ledger.ledger import Ledger
from hagane.ledger.seal import ColumnSeal
from hagane.ledger.sealed_text import MARK, Owned, escaped, is_sealed, unescaped
from hagane.ledger.tables import Sealed, metadata

from .conftest import OWNER, Filler, label

MASTER = bytes(range(1, 33))
any_text = st.text() | st.sampled_from(["", MARK, f"{MARK}c00000000AAAA", f"{MARK}p", "等級4の月額基本給", "\ud800"])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    made = Keys.create(tmp_path_factory.mktemp("project") / "keys", MASTER)
    made.make(["columns:00000000", "d_1", "d_2"])
    return made


@pytest.fixture(scope="module")
def seal(keys: Keys) -> ColumnSeal:
    return ColumnSeal(keys, "00000000")


# --- bytes


@given(data=st.binary(max_size=3000), aad=st.binary(max_size=40))
def test_bytes_come_back_and_are_hidden(keys, data, aad):
    cipher = keys.cipher_for("d_1")
    sealed = cipher.seal(data, aad=aad)
    assert cipher.open(sealed, aad=aad) == data and len(sealed) == len(data) + 28
    assert len(data) < 4 or data not in sealed


@given(data=st.binary(max_size=100), where=st.integers(min_value=0), bit=st.integers(0, 7))
def test_one_flipped_bit_is_an_error(keys, data, where, bit):
    cipher = keys.cipher_for("d_1")
    sealed = bytearray(cipher.seal(data, aad=b"text"))
    sealed[where % len(sealed)] ^= 1 << bit
    with pytest.raises(StorageError):
        cipher.open(bytes(sealed), aad=b"text")


@given(data=st.binary(max_size=60), cut=st.integers(min_value=0))
def test_bytes_cut_short_are_an_error(keys, data, cut):
    cipher = keys.cipher_for("d_1")
    sealed = cipher.seal(data, aad=b"text")
    with pytest.raises(StorageError):
        cipher.open(sealed[: cut % len(sealed)], aad=b"text")


def test_another_place_or_document_is_an_error(keys):
    sealed = keys.cipher_for("d_1").seal("本文".encode(), aad=b"chunk 1")
    for name, aad in (("d_1", b"chunk 2"), ("d_1", b""), ("d_2", b"chunk 1")):
        with pytest.raises(StorageError):
            keys.cipher_for(name).open(sealed, aad=aad)


def test_no_nonce_comes_twice(keys, seal):
    """20,000 of 2^96: by chance never."""
    cipher = keys.cipher_for("d_1")
    nonces = [cipher.seal(b"", aad=b"")[:12] for _ in range(10_000)]
    nonces += [base64.urlsafe_b64decode(seal.seal("同じ", place="turns.asked")[10:])[:12] for _ in range(10_000)]
    assert len(set(nonces)) == len(nonces)


# --- texts of columns


@given(content=any_text, owner=st.sampled_from([None, "d_1"]), searchable=st.booleans())
def test_texts_come_back_from_their_column_only(seal, content, owner, searchable):
    sealed = seal.seal(content, place="documents.title", owner=owner, searchable=searchable)
    assert is_sealed(sealed) and seal.open(sealed, place="documents.title") == content
    tagged = seal.tagged(content, place="documents.title", owner=owner)
    assert seal.open(tagged, place="documents.title") == content
    for one in (sealed, tagged):
        with pytest.raises(StorageError):
            seal.open(one, place="documents.detail")


@given(content=any_text, other=any_text)
def test_equal_texts_are_equal_where_they_are_looked_up_and_nowhere_else(seal, content, other):
    assert (seal.seal(content, place="a.b", searchable=True) == seal.seal(other, place="a.b", searchable=True)) == (content == other)
    assert (seal.tag(content, place="a.b") == seal.tag(other, place="a.b")) == (content == other)
    assert seal.seal(content, place="a.b") != seal.seal(content, place="a.b")
    assert seal.seal(content, place="a.b", searchable=True)[10:] != seal.seal(content, place="a.c", searchable=True)[10:]
    assert seal.tagged(content, place="a.b", owner="d_1") != seal.tagged(content, place="a.b", owner="d_2")


@given(where=st.integers(min_value=0), put=st.sampled_from("AZaz09-_=\x1fé"), owner=st.sampled_from([None, "d_1"]))
def test_a_text_changed_anywhere_is_an_error_and_never_another_text(seal, where, put, owner):
    content = "年次有給休暇は10日"
    sealed = seal.seal(content, place="a.b", owner=owner)
    at = where % len(sealed)
    changed = sealed[:at] + put + sealed[at + 1 :]
    with contextlib.suppress(StorageError):
        assert seal.open(changed, place="a.b") == content  # the same character, or unused bits of base64


@pytest.mark.parametrize("lies", ["平文", "", MARK, f"{MARK}x", f"{MARK}p平文", f"{MARK}c00000000", f"{MARK}c00000000あ", f"{MARK}dd_1{MARK}AAAA", f"{MARK}t"])
def test_what_is_no_sealed_text_is_an_error(seal, lies):
    with pytest.raises(StorageError):
        seal.open(lies, place="a.b")


@given(content=st.text())
def test_a_plain_text_is_never_taken_for_a_sealed_one(content):
    assert unescaped(escaped(content)) == content and not is_sealed(escaped(content))


def test_a_text_of_an_erased_owner_cannot_be_read(keys, seal):
    sealed = [seal.seal("人事評価", place="a.b", owner="d_去"), seal.tagged("人事評価", place="a.b", owner="d_去")]
    keys.drop(["d_去"])
    for one in sealed:
        with pytest.raises(StorageError, match="erased"):
            seal.open(one, place="a.b")


# --- the ledger


def test_every_column_that_holds_content_is_sealed():
    """The others by name: a new column of text is looked at here."""
    plain = {
        f"{table.name}.{c.name}"
        for table in metadata.tables.values()
        for c in table.columns
        if isinstance(c.type, Text | JSON) and not isinstance(c.type, Sealed)
    }
    known = {
        "sources.label", "documents.label", "documents.source_label", "documents.mark", "documents.inherited", "documents.lowered_to",
        "documents.index_label", "versions.label", "requests.before", "requests.to", "nodes.label", "users.display", "users.clearance",
        "users.password", "users.subject", "user_groups.clearance", "tokens.name", "tokens.scopes", "conversations.label", "turns.label",
        "feedback.label", "uploads.label", "jobs.label",
    }  # fmt: skip
    assert plain <= known, f"is {sorted(plain - known)} content? Then seal it"
    places = [c.type.place for table in metadata.tables.values() for c in table.columns if isinstance(c.type, Sealed)]
    assert len(places) == len(set(places)) >= 27


def dump(ledger: Ledger) -> str:
    """Everything in the ledger as it lies there."""
    with ledger._db.reading() as connection:
        return "\n".join(repr(row) for table in metadata.tables.values() for row in connection.execute(text(f'SELECT * FROM "{table.name}"')))


WORDS = ["人事評価の題", "秘密の場所", "異動の理由", "詳しい訳", "言葉の数", "設定の値", "手順の出力"]


def fill_all(ledger: Ledger) -> str:
    fill = Filler(ledger)
    id = fill.put("秘密の場所/評価.md", title="人事評価の題", detail="詳しい訳", meta={"著者": "詳しい訳"}, quality={"content": "言葉の数"})
    ledger.marks.label(id, label("public"), by=OWNER, reason="異動の理由")
    ledger.files.put([Seen("rules", "秘密の場所/評価.md", id, "1-2-3", "ab" * 32, "m")])
    ledger.remember(floors={"設定の値": "internal"})
    ledger.steps.run("名", 1, {}, [id], lambda: {"出": "手順の出力"})
    return id


@pytest.mark.parametrize("ledger", ["plain", "encrypted"], indirect=True)
def test_no_content_lies_in_the_ledger_in_the_open(ledger, request):
    """With encryption off the same look finds every word."""
    fill_all(ledger)
    encrypted = ledger.keys is not None
    assert [word for word in WORDS if word in dump(ledger)] == ([] if encrypted else WORDS)


def encrypted(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path, keys=Keys.create(tmp_path / ".hagane/keys", os.urandom(32)))


def test_values_swapped_between_columns_or_turned_plain_are_errors(tmp_path):
    with encrypted(tmp_path) as ledger:
        fill_all(ledger)
        for statement in ("title = detail", "title = '平文'", "title = path", "meta = quality"):
            with ledger._db.writing() as connection:
                before = connection.execute(text("SELECT title, meta FROM documents")).one()
                connection.execute(text(f"UPDATE documents SET {statement}"))
            with pytest.raises(StorageError):
                ledger.documents.list(clearance=EVERYTHING)
            with ledger._db.writing() as connection:
                connection.execute(text("UPDATE documents SET title = :a, meta = :b"), {"a": before[0], "b": before[1]})
        assert len(ledger.documents.list(clearance=EVERYTHING)) == 1


def test_an_error_while_sealing_says_nothing_of_the_value(tmp_path):
    with encrypted(tmp_path) as ledger:
        id = fill_all(ledger)
        ledger.keys.drop(ledger.keys.names("columns:"))
        ledger._db._seal._derived.clear()
        with pytest.raises(StorageError) as caught:
            ledger.remember(話="秘密の場所")
        shown = f"{caught.value!r} {caught.value.__cause__!r}"
        assert "秘密の場所" not in shown and id


def test_a_plain_ledger_is_refused_with_keys_and_a_sealed_one_without(tmp_path):
    with encrypted(tmp_path / "封") as ledger:
        fill_all(ledger)
    with pytest.raises(StateError, match="names no key"):
        Ledger.open(tmp_path / "封")
    with Ledger.open(tmp_path / "平") as ledger:
        fill_all(ledger)
    with pytest.raises(StateError, match="not encrypted") as caught:
        Ledger.open(tmp_path / "平", keys=Keys.create(tmp_path / "平/.hagane/keys", MASTER))
    assert "hagane keys on" in caught.value.hint


def test_an_open_ledger_notices_that_encryption_was_switched(tmp_path):
    """Else it would write in the open, or show what is sealed as if it were text."""
    with Ledger.open(tmp_path) as before:
        fill_all(before)
        keys = Keys.create(tmp_path / ".hagane/keys", MASTER)
        reseal.seal_all(before._db, keys)
        for act in (lambda: before.documents.list(clearance=EVERYTHING), lambda: before.remember(x="平文")):
            with pytest.raises(StateError, match="meanwhile"):
                act()
    with Ledger.open(tmp_path, keys=keys) as after:
        assert [r.title for r in after.documents.list(clearance=EVERYTHING)] == ["人事評価の題"]


def test_sealing_and_opening_a_whole_ledger_changes_nothing_that_is_read(tmp_path):
    with Ledger.open(tmp_path) as ledger:
        id = fill_all(ledger)
        with ledger._db.writing() as connection:  # as the older type JSON wrote it: SQLite made it a number
            connection.execute(text("INSERT INTO facts VALUES ('数', 3)"))
        before = (dump(ledger), list(ledger.documents.every_unfiltered()), ledger.files.every("rules"), ledger.fact("floors"))
        keys = Keys.create(tmp_path / ".hagane/keys", MASTER)
        reseal.seal_all(ledger._db, keys)
    with Ledger.open(tmp_path, keys=keys) as ledger:
        assert not [word for word in WORDS if word in dump(ledger)]
        assert (list(ledger.documents.every_unfiltered()), ledger.files.every("rules"), ledger.fact("floors")) == before[1:]
        assert ledger.fact("数") == 3 and ledger.documents.find("評価.md", clearance=EVERYTHING).id == id
        reseal.open_all(ledger._db, Keys.open(tmp_path / ".hagane/keys", MASTER))
    with Ledger.open(tmp_path) as ledger:
        assert (dump(ledger), list(ledger.documents.every_unfiltered())) == before[:2]


def test_renewed_columns_read_the_same_in_every_open_process_and_old_copies_lose_them(tmp_path):
    with encrypted(tmp_path) as ledger, Ledger.open(tmp_path, keys=ledger.keys) as other:
        fill_all(ledger)
        copy = sqlite3.connect(":memory:")
        raw = ledger._db.engine.raw_connection()
        raw.driver_connection.backup(copy)
        raw.close()
        ledger.renew_columns()
        ledger.purge()
        for one in (ledger, other):
            assert one.fact("floors") == {"設定の値": "internal"}
            assert one.files.every("rules")["秘密の場所/評価.md"].sha256 == "ab" * 32
        other.remember(後="値")
        assert ledger.fact("後") == "値"
        old = copy.execute("SELECT value FROM facts WHERE name = 'floors'").fetchone()[0]
        with pytest.raises(StorageError):
            ColumnSeal(Keys.open(ledger.keys.folder, ledger.keys._master), "").open(old, place="facts.value")


def test_what_a_deleted_document_owned_cannot_be_read_in_an_older_copy(tmp_path):
    """The copy is taken before; the keys are those of after."""
    with encrypted(tmp_path) as ledger:
        id = fill_all(ledger)
        with ledger._db.reading() as connection:
            rows = [
                (f"{table.name}.{c.name}", value)
                for table, where in ((db.documents, "id"), (db.versions, "document"), (db.files, "document"), (db.requests, "document"))
                for row in connection.execute(text(f'SELECT * FROM "{table.name}" WHERE "{where}" = :id'), {"id": id}).mappings()
                for c in table.columns
                if isinstance(c.type, Sealed) and c.type.owner and (value := row[c.name]) is not None
            ]
        seal = ledger._db._seal
        assert len(rows) >= 8 and all(seal.open(value, place=place) is not None for place, value in rows)
        ledger.documents.delete([id])
        ledger.purge()
        for place, value in rows:
            with pytest.raises(StorageError):
                seal.open(value, place=place)


def test_looking_up_by_path_uses_equality_in_both_kinds_of_ledger(ledger):
    fill = Filler(ledger)
    ids = {path: fill.put(path) for path in ("規程/休暇.md", "規程/旅費.md", f"{MARK}変な名.md")}
    d = db.documents.c
    with ledger._db.reading() as connection:
        for path, id in ids.items():
            assert connection.execute(select(d.id).where(d.path == path)).scalars().all() == [id]
        some = list(ids)[:2]
        assert set(connection.execute(select(d.id).where(d.path.in_(some))).scalars()) == {ids[path] for path in some}
        assert connection.execute(select(d.id).where(d.path.not_in(some))).scalars().all() == [ids[f"{MARK}変な名.md"]]
        assert connection.execute(select(d.path).where(d.path == "無い.md")).all() == []


def test_a_file_that_becomes_another_document_has_one_row(ledger):
    """Sealed under two keys, the same path is two values: the older row must leave."""
    ledger.files.put([Seen("rules", "休暇.md", "d_old", "1", "", "m"), Seen("hr", "休暇.md", "d_hr", "1", "", "m")])
    ledger.files.put([Seen("rules", "休暇.md", "d_new", "2", "", "m")])
    assert ledger.files.every("rules") == {"休暇.md": Seen("rules", "休暇.md", "d_new", "2", "", "m")}
    assert ledger.files.every("hr")["休暇.md"].document == "d_hr"
    ledger.files.forget("rules", ["休暇.md"])
    assert ledger.files.every("rules") == {} and len(ledger.files.every("hr")) == 1


def test_a_value_with_an_owner_is_the_bare_value_in_a_plain_ledger(tmp_path):
    with Ledger.open(tmp_path) as ledger:
        id = fill_all(ledger)
        with ledger._db.writing() as connection:
            connection.execute(update(db.documents).values(title=Owned("新しい題", id), meta=Owned({"版": 2}, id)))
        [record] = ledger.documents.every_unfiltered()
        assert (record.title, record.meta) == ("新しい題", {"版": 2})
