"""Encrypted files: whole or an error; unknown by name; gone with their key."""

from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagane.core.errors import NotFoundError, StorageError
from hagane.ledger import sealed_files
from hagane.ledger.blobs import FileBlobs, KeyedStore
from hagane.ledger.keys import ON, TURNING_OFF, TURNING_ON, Keys

MASTER = bytes(range(1, 33))
CONTENT = "等級4の月額基本給は38万円から46万円とする。".encode()
SEGMENT = sealed_files.SEGMENT


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.create(tmp_path / "keys", MASTER)


@pytest.fixture
def blobs(tmp_path: Path, keys: Keys) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs", keys=keys)


@pytest.fixture
def parsed(tmp_path: Path, keys: Keys) -> KeyedStore:
    return KeyedStore(tmp_path / "parsed", keys=keys)


def everything(folder: Path) -> bytes:
    return b"".join(str(file).encode() + file.read_bytes() for file in folder.rglob("*") if file.is_file())


# --- the format


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return Keys.create(tmp_path_factory.mktemp("k") / "keys", MASTER).ready("x", make=True)


def opened(key, data: bytes, aad: bytes = b"a") -> bytes:
    return b"".join(sealed_files.opened(key, io.BytesIO(data), aad=aad, what="it"))


@given(pieces=st.lists(st.binary(max_size=50), max_size=8))
def test_a_sealed_file_comes_back_however_it_was_cut(key, pieces):
    sealed = b"".join(sealed_files.seal(key, pieces, aad=b"a"))
    assert opened(key, sealed) == b"".join(pieces)


@pytest.mark.parametrize("n", [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 2 * SEGMENT + 7])
def test_sizes_around_segments_come_back(key, n):
    data = os.urandom(n)
    sealed = b"".join(sealed_files.seal(key, [data], aad=b"a"))
    assert opened(key, sealed) == data
    assert len(sealed) == n + 11 + 16 * max(1, -(-n // SEGMENT))


@given(where=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_an_error(key, where, bit):
    sealed = bytearray(b"".join(sealed_files.seal(key, [CONTENT], aad=b"a")))
    sealed[where % len(sealed)] ^= 1 << bit
    with pytest.raises(StorageError):
        opened(key, bytes(sealed))


@given(cut=st.integers(min_value=0))
def test_a_file_cut_anywhere_is_an_error(key, cut):
    sealed = b"".join(sealed_files.seal(key, [CONTENT], aad=b"a"))
    with pytest.raises(StorageError):
        opened(key, sealed[: cut % len(sealed)])


def test_segments_dropped_doubled_swapped_or_cut_at_their_edge_are_errors(key):
    data = os.urandom(3 * SEGMENT)
    sealed = b"".join(sealed_files.seal(key, [data], aad=b"a"))
    n, head = SEGMENT + 16, 11
    parts = [sealed[head + i * n : head + (i + 1) * n] for i in range(3)]
    assert opened(key, sealed[:head] + b"".join(parts)) == data
    for order in ([0, 1], [0, 2], [1, 2], [0, 0, 1, 2], [1, 0, 2], [0, 2, 1], [0, 1, 2, 2], []):
        with pytest.raises(StorageError):
            opened(key, sealed[:head] + b"".join(parts[i] for i in order))
    with pytest.raises(StorageError):
        opened(key, sealed, aad=b"b")


# --- originals


def test_an_original_comes_back_and_neither_bytes_nor_name_are_on_the_disk(blobs, tmp_path):
    sha256 = blobs.put(CONTENT)
    assert blobs.open(sha256, verify=True) == CONTENT and blobs.has(sha256) and list(blobs.list()) == [sha256]
    raw = everything(tmp_path)
    assert CONTENT[:12] not in raw and sha256.encode() not in raw and bytes.fromhex(sha256) not in raw


def test_the_scan_finds_both_in_a_plain_store(tmp_path):
    sha256 = FileBlobs(tmp_path).put(CONTENT)
    assert CONTENT in everything(tmp_path) and sha256.encode() in everything(tmp_path)


def test_the_same_bytes_are_written_once_and_two_projects_name_them_differently(blobs, tmp_path):
    sha256 = blobs.put(CONTENT)
    before = blobs.file(sha256).read_bytes()
    blobs.put(CONTENT)
    assert blobs.file(sha256).read_bytes() == before
    other = FileBlobs(tmp_path / "他社", keys=Keys.create(tmp_path / "他社の鍵", MASTER))
    assert other.file(other.put(CONTENT)).name != blobs.file(sha256).name


def test_a_file_whose_key_a_crash_lost_is_written_anew(blobs, keys):
    sha256 = blobs.put(CONTENT)
    keys.drop(keys.names("blob:"))
    with pytest.raises(StorageError):
        blobs.open(sha256)
    blobs.put(CONTENT)
    assert blobs.open(sha256) == CONTENT


def test_two_originals_swapped_are_errors(blobs):
    one, other = blobs.put(CONTENT), blobs.put(CONTENT[::-1])
    a, b = blobs.file(one).read_bytes(), blobs.file(other).read_bytes()
    blobs.file(one).write_bytes(b)
    blobs.file(other).write_bytes(a)
    for sha256 in (one, other):
        with pytest.raises(StorageError):
            blobs.open(sha256)


def test_a_plain_file_in_the_place_of_a_sealed_one_is_refused(blobs):
    sha256 = blobs.put(CONTENT)
    blobs.file(sha256).write_bytes(CONTENT)
    with pytest.raises(StorageError):
        blobs.open(sha256)
    forged = hashlib.sha256(b"x").hexdigest()
    (blobs.folder / forged[:2]).mkdir(exist_ok=True)
    (blobs.folder / forged[:2] / forged).write_bytes(b"x")
    with pytest.raises(NotFoundError):
        blobs.open(forged)


def test_deleting_an_original_deletes_its_key(blobs, keys):
    kept, gone = blobs.put(CONTENT), blobs.put(CONTENT[::-1])
    copy = blobs.file(gone).read_bytes()
    blobs.delete(gone)
    blobs.delete(gone)
    assert len(keys.names("blob:")) == 1 and blobs.open(kept) == CONTENT and not blobs.has(gone)
    blobs.file(gone).write_bytes(copy)  # from a backup
    with pytest.raises(StorageError, match="erased"):
        blobs.open(gone)


def test_a_parser_gets_a_path_into_memory(blobs):
    sha256 = blobs.put(CONTENT)
    with blobs.on_path(sha256) as path:
        assert path.read_bytes() == CONTENT and path.stat().st_size == len(CONTENT)
        assert str(path).startswith("/proc/") and os.readlink(path).startswith("/memfd:")
    assert not path.exists()


def test_reading_a_large_original_in_pieces_keeps_memory_flat(blobs):
    data = os.urandom(24 * SEGMENT)
    sha256 = blobs.put(data)
    digest = hashlib.sha256()
    tracemalloc.start()
    for piece in blobs.stream(sha256):
        digest.update(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert digest.hexdigest() == sha256 and peak < 6 * SEGMENT


# --- derived bytes


def test_parsed_bytes_come_back_sealed(parsed, tmp_path):
    parsed.put("0123456789ab", CONTENT * 50)
    assert parsed.get("0123456789ab") == CONTENT * 50 and list(parsed.list()) == ["0123456789ab"]
    file = parsed.file("0123456789ab").read_bytes()
    assert sealed_files.is_sealed(file) and b"\x28\xb5\x2f\xfd" not in file[:16] and len(file) < len(CONTENT) * 10
    parsed.put("0123456789ab", "改訂".encode())
    assert parsed.get("0123456789ab") == "改訂".encode()


def test_parsed_bytes_of_another_version_store_or_in_the_open_are_refused(parsed, tmp_path, keys):
    parsed.put("aaaaaaaaaaaa", CONTENT)
    parsed.put("bbbbbbbbbbbb", CONTENT[::-1])
    good = parsed.file("bbbbbbbbbbbb").read_bytes()
    parsed.file("bbbbbbbbbbbb").write_bytes(parsed.file("aaaaaaaaaaaa").read_bytes())
    with pytest.raises(StorageError):
        parsed.get("bbbbbbbbbbbb")
    steps = KeyedStore(tmp_path / "steps", keys=keys, kind="steps")
    steps.put("bbbbbbbbbbbb", CONTENT)
    steps.file("bbbbbbbbbbbb").write_bytes(good)
    with pytest.raises(StorageError):
        steps.get("bbbbbbbbbbbb")
    KeyedStore(tmp_path / "parsed").put("cccccccccccc", CONTENT)
    with pytest.raises(StorageError, match="in the open"):
        parsed.get("cccccccccccc")


def test_without_keys_a_sealed_file_is_an_error(parsed, blobs, tmp_path):
    parsed.put("aaaaaaaaaaaa", CONTENT)
    with pytest.raises(StorageError, match="encrypted"):
        KeyedStore(tmp_path / "parsed").get("aaaaaaaaaaaa")


def test_deleting_many_takes_their_keys(parsed, keys):
    names = [f"version{n:05}" for n in range(30)]
    for name in names:
        parsed.put(name, CONTENT)
    parsed.delete_all(names[1:])
    assert keys.names("parsed:") == [f"parsed:{names[0]}"] and list(parsed.list()) == names[:1]


# --- conversion


@pytest.mark.parametrize("killed_after", [0, 1, 7, 25, None])
def test_stores_convert_and_go_on_after_a_kill(tmp_path, keys, killed_after, monkeypatch):
    """Both ways; while it lasts both kinds are read; nothing is lost and nothing is left behind."""
    data = {hashlib.sha256(one).hexdigest(): one for one in (CONTENT + bytes([n]) for n in range(30))}
    plain_blobs, plain_parsed = FileBlobs(tmp_path / "blobs"), KeyedStore(tmp_path / "parsed")
    for sha256, one in data.items():
        plain_blobs.put(one)
        plain_parsed.put(sha256[:12], one)
    keys.set_state(TURNING_ON)
    blobs, parsed = FileBlobs(tmp_path / "blobs", keys=keys), KeyedStore(tmp_path / "parsed", keys=keys)

    def check() -> None:
        for sha256, one in data.items():
            assert blobs.open(sha256, verify=True) == one and parsed.get(sha256[:12]) == one

    def convert() -> None:
        for store in (blobs, parsed):
            if killed_after is not None:
                kill_after(store, killed_after, monkeypatch)
                check()
            list(store.convert())
            check()

    convert()
    keys.set_state(ON)
    check()
    assert len(list(blobs.files())) == len(keys.names("blob:")) == len(data)
    assert all(file.name.endswith(".sealed") for file in blobs.files()) and all(parsed.is_sealed(key) for key in parsed.list())
    assert CONTENT not in everything(tmp_path)
    keys.set_state(TURNING_OFF)
    convert()
    assert {file.name for file in blobs.files()} == set(data) and not any(parsed.is_sealed(key) for key in parsed.list())
    assert all(plain_blobs.open(sha256) == one and plain_parsed.get(sha256[:12]) == one for sha256, one in data.items())


class Killed(BaseException):
    pass


def kill_after(store, n: int, monkeypatch) -> None:
    """Convert, and die before the n-th file is written or removed."""
    left = [n]

    def counted(work):
        def done(*given, **named):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return work(*given, **named)

        return done

    with monkeypatch.context() as patch:
        from hagane.ledger import blobs as room

        patch.setattr(room, "write_whole", counted(room.write_whole))
        patch.setattr(room, "_unlink", counted(room._unlink))
        with pytest.raises(Killed):
            list(store.convert())
