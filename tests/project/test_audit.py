"""The audit verbs over a real project: checkpoints as hagane.yaml wants them, export, pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hagane.core.errors import AuditError
from hagane.project import audit
from hagane.project.questions import search
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
