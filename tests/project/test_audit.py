"""The audit verbs over a real project: checkpoints as hagane.yaml wants them, export, pages."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from hagane.core.errors import AuditError, UsageError
from hagane.project import audit
from hagane.project.by_clock import Clock
from hagane.project.questions import search
from hagane.project.running import Running
from hagane.project.wire import Project


@pytest.fixture
def asked(company, tmp_path) -> Path:
    """A project whose checkpoints are copied elsewhere after every third record, and a few acts."""
    yaml = company.path / "hagane.yaml"
    yaml.write_text(yaml.read_text(encoding="utf-8") + f"audit: {{every: 3, checkpoint: {tmp_path / 'away.jsonl'}}}\n", encoding="utf-8")
    company.sync()
    with Project.open(company.path) as project:
        for question in ("有給休暇は何日", "経費の精算", "在宅勤務は週何日", "給与レンジ", "領収書"):
            search(project, question, by=project.principal("staff"))
    return company.path


def test_the_log_verifies_against_the_copy_and_the_key_kept_elsewhere(asked, tmp_path):
    with Project.open(asked) as project:
        signed = audit.checkpoint(project)
        report = audit.verify(project, checkpoints=tmp_path / "away.jsonl", key=signed["public_key"])
    assert report["ok"]
    assert report["checkpoints"]["last"] == signed["count"] == report["count"]
    assert (tmp_path / "away.jsonl").exists()


def test_another_key_makes_every_checkpoint_a_problem(asked, tmp_path):
    with Project.open(asked) as project:
        from hagane.ledger.checkpoint import public_text, signing_key

        report = audit.verify(project, key=public_text(signing_key(tmp_path / "other")))
    assert not report["ok"]


def test_the_export_is_one_event_per_record_and_no_content(asked):
    with Project.open(asked) as project:
        events = list(audit.export(project, by=project.principal("officer" if "officer" in project.config.principals else "owner")))
        n = audit.verify(project)["count"]
    assert len(events) == n - 1  # the export itself is on record, behind what it gave
    told = json.dumps(events, ensure_ascii=False)
    assert "有給" not in told
    assert "給与" not in told
    assert {event["metadata"]["event_code"] for event in events} >= {"sync", "search"}


def test_a_broken_log_is_not_exported(asked):
    log = asked / ".hagane" / "audit" / "log.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"staff"', b'"stuff"', 1))
    with Project.open(asked) as project, pytest.raises(AuditError, match="not whole"):
        next(audit.export(project, by=project.principal()))


def test_pages_are_chosen_by_act_and_principal_and_looking_is_on_record(asked):
    with Project.open(asked) as project:
        owner = project.principal()
        mine = audit.page(project, by=owner, act="search", principal="staff", n=3)
        rest = audit.page(project, by=owner, act="search", principal="staff", before=mine[-1]["seq"])
        newest = audit.page(project, by=owner, n=1)
    assert [record["act"] for record in mine + rest] == ["search"] * 5
    assert [record["seq"] for record in mine + rest] == sorted((r["seq"] for r in mine + rest), reverse=True)
    assert (newest[0]["act"], newest[0]["principal"]) == ("list", "owner")


def since(asked: Path, text: str) -> list[dict]:
    with Project.open(asked) as project:
        return list(audit.export(project, by=project.principal("owner"), since=text))


def test_an_export_from_a_time_on_takes_its_zone_and_refuses_what_is_none(asked):
    """Compared as text, `09:30+09:00` would be nine hours off and `x` would give nothing, with exit code 0."""
    log = [json.loads(line) for line in (asked / ".hagane" / "audit" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    middle = datetime.fromisoformat(log[3]["time"])
    tokyo = middle.astimezone(timezone(timedelta(hours=9))).isoformat(timespec="milliseconds")
    kept = [event["metadata"]["sequence"] for event in since(asked, tokyo)]
    assert kept[0] == next(record["seq"] for record in log if record["time"] >= log[3]["time"])
    assert since(asked, "2999-01-01") == []
    n = len((asked / ".hagane" / "audit" / "log.jsonl").read_bytes().splitlines())
    for text in ("x", "昨日", "2026", "2026-13-01", "2026-11-24T25:00", ""):
        with pytest.raises(UsageError, match="a time is written as"):
            since(asked, text)
    assert len((asked / ".hagane" / "audit" / "log.jsonl").read_bytes().splitlines()) == n, "nothing was exported, so nothing is on record"


@pytest.mark.parametrize(("text", "first", "after"), [
    ("2026-11-24", "2026-11-24T00:00:00.000Z", "2026-11-25T00:00:00.000Z"),
    ("2026-11-24T09:30", "2026-11-24T09:30:00.000Z", "2026-11-24T09:31:00.000Z"),
    ("2026-11-24T09:30+09:00", "2026-11-24T00:30:00.000Z", "2026-11-24T00:31:00.000Z"),
    ("2026-11-24 09:30:15Z", "2026-11-24T09:30:15.000Z", "2026-11-24T09:30:16.000Z"),
    ("2026-11-24T09:30:15.250-0500", "2026-11-24T14:30:15.250Z", "2026-11-24T14:30:15.251Z"),
])  # fmt: skip
def test_a_time_means_its_day_minute_or_second(text, first, after):
    assert audit.moments(text) == (first, after)


def points(folder: Path) -> list[int]:
    file = folder / ".hagane" / "audit" / "checkpoints.jsonl"
    return [json.loads(line)["count"] for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def test_a_sync_that_recorded_something_ends_signed(company):
    company.sync()
    with Project.open(company.path) as project:
        report = audit.verify(project)
        assert report["checkpoints"]["last"] == report["count"] > 0
        assert report["notes"] == ()


def test_a_server_signs_when_it_starts_and_when_it_ends(company):
    company.sync()
    company.found("在宅勤務は週何日", by="staff")
    with Project.open(company.path) as project:
        n = audit.verify(project)["count"]
        assert points(company.path)[-1] == n - 1
        with Running(project):
            assert points(company.path)[-1] == n
            search(project, "有給休暇は何日", by=project.principal("staff"))
        assert points(company.path)[-1] == n + 1
        signed = points(company.path)
        with Running(project):
            pass
        assert points(company.path) == signed, "nothing came, so nothing is signed"


def test_a_running_server_signs_by_the_clock(company):
    company.sync()
    company.found("在宅勤務は週何日", by="staff")
    with Project.open(company.path) as project:
        clock = Clock(project, look_s=0.01, sign_s=0.0)
        clock.start()
        try:
            for _ in range(1000):
                if points(company.path)[-1] == project.ledger.audit.head().count:
                    break
                time.sleep(0.01)
        finally:
            clock.stop()
        assert points(company.path)[-1] == project.ledger.audit.head().count


def test_a_log_that_cannot_be_signed_hinders_nothing(company):
    company.sync()
    (company.path / ".hagane" / "audit" / "head.json").write_bytes(b"{}")
    with Project.open(company.path) as project:
        assert audit.anchor(project) is False


def test_verify_says_how_many_records_no_signature_covers(company):
    company.sync()
    for question in ("在宅勤務は週何日", "有給休暇は何日"):
        company.found(question, by="staff")
    with Project.open(company.path) as project:
        report = audit.verify(project)
        assert (report["ok"], report["notes"]) == (True, ("2 records stand behind the last checkpoint: no signature covers them yet",))
        assert audit.anchor(project) is True
        assert audit.verify(project)["notes"] == ()
