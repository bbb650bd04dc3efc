"""The audit log: whoever changes one byte, drops, swaps, inserts or cuts is found; a crash is not an attack."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hagane.core.errors import AuditError
from hagane.ledger.audit import ZERO, AuditLog, Head, Report, digest, verify

N = 12


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "audit"
    log = AuditLog(folder)
    for i in range(N):
        log.record(
            "ask", principal="人事部", question_sha256=digest(f"有給は何日か{i}"), chunks=[f"v{i}:0"], n=i, model=None
        )
    return folder


def _copy(written: Path, folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(written, folder)
    return folder


def _lines(folder: Path) -> list[bytes]:
    return (folder / "log.jsonl").read_bytes().splitlines(keepends=True)


def test_an_untouched_log_verifies(written):
    report = verify(written, expect=AuditLog(written).head().hash)
    assert (report.ok, report.count, report.problems, report.notes) == (True, N, (), ())


def test_each_record_names_act_principal_and_the_one_before(written):
    records = [json.loads(line) for line in _lines(written)]
    assert [r["seq"] for r in records] == list(range(1, N + 1))
    assert records[0]["prev"] == ZERO
    assert all(b["prev"] == a["hash"] for a, b in itertools.pairwise(records))
    assert records[3]["principal"] == "人事部"
    assert "model" not in records[3]


def _mutate(kind: str, rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    i, j = sorted(rng.sample(range(len(lines)), 2)) if len(lines) > 1 else (0, 0)
    match kind:
        case "flip":
            at = rng.randrange(len(data))
            return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        case "byte":
            at = rng.randrange(len(data))
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case "drop":
            return b"".join(lines[:i] + lines[i + 1 :])
        case "swap":
            lines[i], lines[j] = lines[j], lines[i]
            return b"".join(lines)
        case "duplicate":
            return b"".join([*lines[: i + 1], lines[i], *lines[i + 1 :]])
        case "repeat_last":
            return data + lines[-1]
        case "insert":
            return b"".join([*lines[:j], lines[i], *lines[j:]])
        case "cut_lines":
            return b"".join(lines[: len(lines) - rng.randint(1, len(lines))])
        case "cut_bytes":
            return data[: rng.randrange(len(data))]
        case "blank":
            return b"".join([*lines[:i], b"\n", *lines[i:]])
        case "space":
            return b"".join([*lines[:i], lines[i].replace(b",", b", ", 1), *lines[i + 1 :]])
    raise AssertionError(kind)


KINDS = (
    "flip",
    "byte",
    "drop",
    "swap",
    "duplicate",
    "repeat_last",
    "insert",
    "cut_lines",
    "cut_bytes",
    "blank",
    "space",
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32),
    which=st.sampled_from(["log.jsonl", "log.jsonl", "head.json"]),
)
def test_every_mutation_is_found(written, tmp_path_factory, kind, seed, which):
    """400 random ones over the log and its head; whatever changes a byte of either is no longer ok."""
    folder = tmp_path_factory.getbasetemp() / "mutated"
    folder.mkdir(exist_ok=True)
    for name in ("log.jsonl", "head.json"):
        (folder / name).write_bytes((written / name).read_bytes())
    data = (folder / which).read_bytes()
    if which == "head.json" and kind not in ("flip", "byte", "cut_bytes"):
        kind = "flip"
    changed = _mutate(kind, random.Random(seed), data)
    (folder / which).write_bytes(changed)
    assert verify(folder).ok == (changed == data)


def test_every_single_byte_of_a_short_log_counts(tmp_path):
    folder = tmp_path / "audit"
    AuditLog(folder).record("label.raise", principal="総務", document="d_0123456789abcdef")
    for name in ("log.jsonl", "head.json"):
        data = (folder / name).read_bytes()
        for at in range(len(data)):
            (folder / name).write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
            assert not verify(folder).ok, (name, at)
        (folder / name).write_bytes(data)
    assert verify(folder).ok


def test_a_cut_of_log_and_head_together_is_found_by_a_head_kept_elsewhere(written, tmp_path):
    kept = AuditLog(written).head().hash
    folder = _copy(written, tmp_path / "cut")
    lines = _lines(folder)[: N - 2]
    data = b"".join(lines)
    (folder / "log.jsonl").write_bytes(data)
    AuditLog(folder)._write_head(Head(N - 2, json.loads(lines[-1])["hash"], len(data)))
    assert verify(folder).ok
    assert not verify(folder, expect=kept).ok
    shutil.rmtree(folder)
    assert not verify(folder, expect=kept).ok


def test_an_older_head_kept_elsewhere_is_still_expected_after_more_records(written, tmp_path):
    folder = _copy(written, tmp_path / "grown")
    kept = AuditLog(folder).head().hash
    AuditLog(folder).record("ask", principal="owner")
    assert verify(folder, expect=kept).ok


def test_a_crash_before_the_head_is_written_is_mended_and_noted(written, tmp_path):
    folder = _copy(written, tmp_path / "behind")
    before = (folder / "head.json").read_bytes()
    AuditLog(folder).record("ask", principal="owner")
    (folder / "head.json").write_bytes(before)
    report = verify(folder)
    assert report.ok
    assert "1 behind" in report.notes[0]
    AuditLog(folder).record("sync", principal="owner")
    assert [json.loads(line)["act"] for line in _lines(folder)[-3:]] == ["ask", "audit.mended", "sync"]
    assert verify(folder).notes == ()


def test_a_crash_behind_a_group_and_within_its_last_record_is_mended(written, tmp_path):
    """Records of one group may stand behind the head; they fit the chain, so they count, and the piece goes."""
    folder = _copy(written, tmp_path / "group")
    before = (folder / "head.json").read_bytes()
    for i in range(3):
        AuditLog(folder).record("ask", principal="経理", n=i)
    (folder / "head.json").write_bytes(before)
    with open(folder / "log.jsonl", "ab") as log:
        log.write(b'{"seq":16,"ti')
    assert verify(folder).ok
    AuditLog(folder).record("sync", principal="owner")
    acts = [json.loads(line)["act"] for line in _lines(folder)]
    assert acts[N:] == ["ask", "ask", "ask", "audit.mended", "sync"]
    assert verify(folder).notes == ()


def test_threads_are_written_in_groups_into_one_chain(tmp_path, monkeypatch):
    """64 askers must not wait for 64 synced writes one after the other."""
    folder = tmp_path / "audit"
    log = AuditLog(folder)
    groups: list[int] = []
    log.anchor = lambda before, after: groups.append(after.count - before.count)
    with ThreadPoolExecutor(64) as pool:
        hashes = list(pool.map(lambda i: log.record("ask", principal=f"社員{i}", n=i), range(256)))
    records = [json.loads(line) for line in _lines(folder)]
    assert sorted(hashes) == sorted(record["hash"] for record in records)
    assert sorted(record["n"] for record in records) == list(range(256))
    assert sum(groups) == 256
    assert len(groups) < 128
    assert verify(folder) == Report(True, 256, records[-1]["hash"])


def test_those_who_have_time_are_written_with_others(tmp_path, monkeypatch):
    """64 at once: far fewer writes than records; each is on disk when its call returns."""
    writes = []
    append = AuditLog._append
    monkeypatch.setattr(AuditLog, "_append", lambda log, head, group: writes.append(len(group)) or append(log, head, group))
    log = AuditLog(tmp_path / "記録")

    def one(n: int) -> None:
        hash = log.record_with_others("chat", principal="花子", messages=n)
        assert hash in (tmp_path / "記録" / "log.jsonl").read_text(encoding="utf-8")

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(one, range(64)))
    assert sum(writes) == 64
    assert len(writes) < 32
    assert verify(tmp_path / "記録").ok


def test_a_record_that_cannot_be_spelled_fails_alone(tmp_path):
    log = AuditLog(tmp_path / "audit")
    with pytest.raises(AuditError):
        log.record("ask", principal="owner", n=float("nan"))
    with pytest.raises(AuditError):
        log.record("ask", principal="owner", chunks=["v:0" * 20] * 2000)
    log.record("ask", principal="owner")
    assert verify(tmp_path / "audit").count == 1


def test_when_a_group_cannot_be_written_each_of_its_acts_fails(tmp_path):
    log = AuditLog(tmp_path / "audit")

    def full(before: Head, after: Head) -> None:
        raise OSError(28, "No space left on device")

    log.anchor = full
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(log.record, "ask", principal="owner") for _ in range(8)]
    assert all(isinstance(one.exception(), AuditError) for one in waiting)


def test_a_crash_within_a_record_is_mended_and_noted(written, tmp_path):
    folder = _copy(written, tmp_path / "torn")
    with open(folder / "log.jsonl", "ab") as log:
        log.write(b'{"seq":13,"time":"2026')
    assert verify(folder).ok
    AuditLog(folder).record("sync", principal="owner")
    assert [json.loads(line)["act"] for line in _lines(folder)[-2:]] == ["audit.mended", "sync"]
    assert verify(folder).ok


def test_a_crash_within_the_very_first_record_is_mended(tmp_path):
    folder = tmp_path / "audit"
    AuditLog(folder).record("init", principal="owner")
    AuditLog(folder)._write_head(Head())
    AuditLog(folder).record("sync", principal="owner")
    assert [json.loads(line)["act"] for line in _lines(folder)] == ["init", "audit.mended", "sync"]


@pytest.mark.parametrize("damage", ["cut", "forged head", "no head", "doubled behind", "last record"])
def test_nothing_is_recorded_on_top_of_a_tampered_end(written, tmp_path, damage):
    folder = _copy(written, tmp_path / "bad")
    lines = _lines(folder)
    if damage == "cut":
        (folder / "log.jsonl").write_bytes(b"".join(lines[:-1]))
    elif damage == "forged head":
        (folder / "head.json").write_bytes((folder / "head.json").read_bytes().replace(b'"count":12', b'"count":11'))
    elif damage == "no head":
        (folder / "head.json").unlink()
    elif damage == "doubled behind":
        data = b"".join(lines)
        AuditLog(folder)._write_head(Head(N - 1, json.loads(lines[-2])["hash"], len(data) - len(lines[-1])))
        (folder / "log.jsonl").write_bytes(data + lines[-1])
    else:
        lines[-1] = lines[-1].replace(b"ask", b"abk")
        (folder / "log.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(AuditError, match="was changed"):
        AuditLog(folder).record("ask", principal="owner")
    assert not verify(folder).ok


def test_content_has_no_place_in_a_record(tmp_path):
    log = AuditLog(tmp_path / "audit")
    for fields in (
        {"question": "給与は"},
        {"title": "秘"},
        {"path": "hr/a.md"},
        {"note": "長い文。" * 200},
        {"hash": "x"},
    ):
        with pytest.raises(AuditError):
            log.record("ask", principal="owner", **fields)
    assert verify(tmp_path / "audit").count == 0


def test_a_record_that_cannot_be_written_is_an_audit_error(tmp_path):
    (tmp_path / "audit").write_text("ここはファイル")
    with pytest.raises(AuditError, match="nothing was done"):
        AuditLog(tmp_path / "audit").record("ask", principal="owner")


_APPENDER = """
import sys
from pathlib import Path
from hagane.ledger.audit import AuditLog
for i in range(40):
    AuditLog(Path(sys.argv[1])).record("ask", principal=sys.argv[2], n=i)
"""


def test_several_processes_append_to_one_chain(tmp_path):
    folder = tmp_path / "audit"
    running = [subprocess.Popen([sys.executable, "-c", _APPENDER, str(folder), f"p{i}"]) for i in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    report = verify(folder)
    assert (report.ok, report.count) == (True, 120)


def test_killed_appenders_leave_a_log_that_mends(tmp_path):
    """kill -9 at random moments: what was acknowledged stays, and the chain goes on."""
    folder = tmp_path / "audit"
    code = _APPENDER.replace("range(40)", "range(10**6)")
    rng = random.Random(7)
    for i in range(6):
        process = subprocess.Popen([sys.executable, "-c", code, str(folder), f"p{i}"])
        before = _size(folder)
        while _size(folder) == before:
            assert process.poll() is None
        multiprocessing.Event().wait(rng.random() * 0.05)
        process.kill()
        process.wait()
        assert verify(folder).ok
    AuditLog(folder).record("sync", principal="owner")
    assert verify(folder).ok


def _size(folder: Path) -> int:
    try:
        return os.stat(folder / "log.jsonl").st_size
    except FileNotFoundError:
        return 0


def test_the_head_of_an_empty_log_is_not_expected_of_a_written_one(written):
    """Sixty-four zeros are the head of nothing."""
    assert not verify(written, expect="0" * 64).ok
