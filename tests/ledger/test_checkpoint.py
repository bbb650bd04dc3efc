"""Signed checkpoints: whoever rewrites log and head together is found by those who hold the key or a copy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagane.core.errors import AuditError, StorageError, UsageError
from hagane.ledger import checkpoint as points
from hagane.ledger.audit import AuditLog, newest, records, verify

EVERY = 5


def _log(folder: Path, copy: Path | None = None) -> AuditLog:
    log = AuditLog(folder)
    log.anchor = points.Checkpoints(folder, key=lambda: points.signing_key(folder), every=EVERY, copy=copy)
    return log


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "audit"
    log = _log(folder, folder.parent / "copy.jsonl")
    for n in range(23):
        log.record("ask", principal="人事部", n=n)
    return folder


def _good(folder: Path, file: Path | None = None) -> tuple[list[points.Checkpoint], list[str]]:
    return points.read(file or folder / points.FILE, points.signing_key(folder).public_key())


def _report(folder: Path, file: Path | None = None):
    good, problems = _good(folder, file)
    return verify(folder, anchors=lambda chain: [*problems, *points.against(chain, good)])


def test_a_checkpoint_stands_at_every_fifth_record_and_in_the_copy(written):
    good, problems = _good(written)
    assert [point.count for point in good] == [5, 10, 15, 20]
    assert problems == []
    assert _good(written, written.parent / "copy.jsonl") == (good, [])
    assert _report(written).ok


def test_a_rewritten_log_with_a_fitting_head_does_not_fit_its_checkpoints(written, tmp_path):
    """The chain alone cannot see this: all hashes are made anew."""
    forged = tmp_path / "audit"
    log = AuditLog(forged)
    for record in records(written):
        log.record("ask", principal="他の人" if record["seq"] == 3 else "人事部", n=record["n"])
    for name in (points.FILE, "signing.key"):
        shutil.copy(written / name, forged / name)
    assert verify(forged).ok
    report = _report(forged)
    assert not report.ok
    assert "another record there" in report.problems[0]


def test_a_log_cut_below_its_checkpoints_is_found_by_the_copy(written, tmp_path):
    cut = tmp_path / "audit"
    log = AuditLog(cut)
    for record in list(records(written))[:12]:
        log.record("ask", principal="人事部", n=record["n"])
    shutil.copy(written / "signing.key", cut / "signing.key")
    assert any("shorter" in problem for problem in _report(cut, written.parent / "copy.jsonl").problems)


@given(at=st.integers(min_value=0, max_value=10_000), bit=st.integers(min_value=0, max_value=7))
def test_every_flipped_bit_of_a_checkpoint_is_found(written, at, bit):
    data = bytearray((written / points.FILE).read_bytes())
    data[at % (len(data) - 1)] ^= 1 << bit  # not the last line break: without it the line is an unfinished one
    changed = written.parent / "flipped.jsonl"
    changed.write_bytes(bytes(data))
    assert _good(written, changed)[1] != []


def test_a_signature_has_one_spelling(written):
    """64 bytes leave four bits of the last digit of base64 unused; a changed one decodes to the same signature."""
    first, *_ = (written / points.FILE).read_bytes().splitlines(keepends=True)
    at = first.index(b'=="}') - 1
    digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = digits[digits.index(first[at]) ^ 1]
    changed = written.parent / "spelled.jsonl"
    changed.write_bytes(first[:at] + bytes([other]) + first[at + 1 :])
    assert _good(written, changed)[1] != []


def test_a_signature_of_another_key_counts_for_nothing(written, tmp_path):
    other = points.signing_key(tmp_path / "other")
    good, problems = points.read(written / points.FILE, other.public_key())
    assert good == []
    assert len(problems) == 4
    assert points.public_key(points.public_text(other)).public_bytes_raw() == other.public_key().public_bytes_raw()
    with pytest.raises(UsageError):
        points.public_key("鍵ではない")


def test_a_copy_that_could_not_be_written_is_caught_up_later(tmp_path):
    """The mount that holds the copy is away for a while: records go on, and the copy has all of them in the end."""
    folder, copy = tmp_path / "audit", tmp_path / "mount" / "copy.jsonl"
    log = _log(folder, copy)
    for n in range(12):
        log.record("ask", principal="経理", n=n)
    copy.parent.mkdir()
    for n in range(5):
        log.record("ask", principal="経理", n=n)
    assert copy.read_bytes() == (folder / points.FILE).read_bytes()


def test_a_torn_line_is_cut_off_by_the_next_checkpoint(tmp_path):
    folder = tmp_path / "audit"
    log = _log(folder)
    for n in range(5):
        log.record("ask", principal="経理", n=n)
    with open(folder / points.FILE, "ab") as file:
        file.write(b'{"count":7,"ha')
    assert _good(folder)[1] == []
    for n in range(5):
        log.record("ask", principal="経理", n=n)
    assert [point.count for point in _good(folder)[0]] == [5, 10]


def test_a_checkpoint_that_cannot_be_written_is_an_error_of_the_act(tmp_path):
    folder = tmp_path / "audit"
    log = _log(folder)
    (folder / points.FILE).mkdir(parents=True)
    for n in range(EVERY - 1):
        log.record("ask", principal="経理", n=n)
    with pytest.raises(AuditError):
        log.record("ask", principal="経理", n=4)


def test_a_damaged_signing_key_is_a_clear_error(tmp_path):
    (tmp_path / "signing.key").write_text("鍵", encoding="utf-8")
    with pytest.raises(StorageError, match="signing key"):
        points.signing_key(tmp_path)


def test_the_signing_key_is_for_its_owner_only(written):
    assert (written / "signing.key").stat().st_mode & 0o077 == 0


def test_pages_of_the_newest_records_join_into_the_whole_log(tmp_path, monkeypatch):
    """Read from the end in pieces, whatever the size of a piece."""
    log = AuditLog(tmp_path / "audit")
    for n in range(40):
        log.record("ask", principal="総務" * (n % 7 + 1), n=n)
    expected = [json.loads(line) for line in (tmp_path / "audit" / "log.jsonl").read_text().splitlines()]
    assert list(records(tmp_path / "audit")) == expected
    for piece in (1, 7, 64, 300, 1 << 20):
        monkeypatch.setattr("hagane.ledger.audit._PIECE", piece)
        assert list(newest(tmp_path / "audit")) == expected[::-1]
        assert [record["seq"] for record in newest(tmp_path / "audit", before=11)] == list(range(10, 0, -1))
