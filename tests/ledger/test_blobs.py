"""Bytes on disk: whole or not there."""

from __future__ import annotations

import hashlib
import os

import pytest

from hagane.core.errors import NotFoundError, StorageError
from hagane.ledger.blobs import FileBlobs, KeyedStore


def test_bytes_come_back_by_their_sha256(tmp_path):
    blobs = FileBlobs(tmp_path / "blobs")
    data = "就業規則".encode("cp932")
    sha256 = blobs.put(data)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert blobs.open(sha256, verify=True) == data
    assert list(blobs.list()) == [blobs.put(data)]


def test_deleted_bytes_are_gone_and_deleting_again_is_fine(tmp_path):
    blobs = FileBlobs(tmp_path / "blobs")
    sha256 = blobs.put(b"x")
    blobs.delete(sha256)
    blobs.delete(sha256)
    assert not blobs.has(sha256)
    with pytest.raises(NotFoundError):
        blobs.open(sha256)


def test_verify_finds_damage(tmp_path):
    blobs = FileBlobs(tmp_path / "blobs")
    sha256 = blobs.put("原本".encode())
    blobs.file(sha256).write_bytes("別物".encode())
    with pytest.raises(StorageError, match="damaged"):
        blobs.open(sha256, verify=True)


@pytest.mark.parametrize("key", ["../../etc/passwd", "a/b", "", "x" * 200, ".new-x", "キー"])
def test_no_key_leaves_the_folder(tmp_path, key):
    with pytest.raises(ValueError, match="key is"):
        KeyedStore(tmp_path).put(key, b"")
    with pytest.raises(ValueError, match="sha256"):
        FileBlobs(tmp_path).open(key)


def test_stored_bytes_are_compressed_and_replaced_whole(tmp_path):
    store = KeyedStore(tmp_path / "parsed")
    text = ("年次有給休暇の付与日数。" * 1000).encode()
    store.put("0123456789ab", b"old")
    store.put("0123456789ab", text)
    assert store.get("0123456789ab") == text
    assert store.file("0123456789ab").stat().st_size < len(text) // 20
    assert list(store.list()) == ["0123456789ab"]


def test_damaged_stored_bytes_are_an_error_and_not_other_bytes(tmp_path):
    store = KeyedStore(tmp_path)
    store.put("0123456789ab", "本文".encode() * 100)
    file = store.file("0123456789ab")
    packed = bytearray(file.read_bytes())
    packed[-3] ^= 1
    file.write_bytes(packed)
    with pytest.raises(StorageError, match="damaged"):
        store.get("0123456789ab")


def test_a_failing_disk_leaves_the_old_bytes_and_no_temporary_file(tmp_path, monkeypatch):
    store = KeyedStore(tmp_path)
    store.put("0123456789ab", b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        store.put("0123456789ab", b"new")
    assert "free some space" in caught.value.hint
    assert store.get("0123456789ab") == b"old"
    assert store.sweep_temporary() == 0
