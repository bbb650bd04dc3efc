"""What was refused is on record, hidden and missing things alike, and a flood of it does not fill the log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_company import TEXTS, YAML, Folder

from hagane.cli.main import main
from hagane.core.errors import AuditError
from hagane.ledger.audit import digest
from hagane.project.refusals import MOST, WINDOW_S, Refusals
from hagane.project.wire import Project

MISSING = "d_" + "0" * 16


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Folder(tmp_path_factory.mktemp("refusals") / "company")
    folder.write("hagane.yaml", YAML)
    for name, text in TEXTS.items():
        folder.write(name, text)
    folder.sync()
    return folder.path


@pytest.fixture
def project(synced: Path, tmp_path: Path) -> Iterator[Project]:
    shutil.copytree(synced, tmp_path / "会社")
    with Project.open(tmp_path / "会社") as opened:
        yield opened


def refused(project: Project) -> list[dict[str, Any]]:
    lines = (project.state / "audit" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["act"] == "refused"]


def salary(project: Project) -> str:
    """The id of the document that only `hr` may see."""
    [record] = [r for r in project.ledger.documents.every_unfiltered() if "給与" in r.path]
    return str(record.id)


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def test_the_record_tells_what_is_hidden_from_what_is_not_there(project):
    id = salary(project)
    for name in (id, MISSING):
        project.refusals.note("not_found", by=project.principal("staff"), route="/sources/{document}", named=[name])
    there, missing = refused(project)
    assert (there["hidden"], there["named"], there["code"], there["route"]) == ([id], [digest(id)], "not_found", "/sources/{document}")
    assert "hidden" not in missing and missing["named"] == [digest(MISSING)]


def test_what_one_may_see_is_not_called_hidden(project):
    project.refusals.note("refused", by=project.principal("hr"), route="/x", named=[salary(project)])
    assert "hidden" not in refused(project)[0]


def test_versions_and_wishes_are_known_by_their_ids_too(project):
    id = salary(project)
    version = project.ledger.documents.every_of([id])[id].version
    project.refusals.note("not_found", by=project.principal("staff"), route="/x", named=[version, "給与レンジ"])
    [record] = refused(project)
    assert record["hidden"] == [version]
    assert "給与" not in json.dumps(record, ensure_ascii=False), "what was typed is content"


def test_a_flood_leaves_so_many_records_and_one_that_counts(project):
    clock = Clock()
    refusals, staff, id = Refusals(project, clock=clock), project.principal("staff"), salary(project)
    for n in range(MOST + 20):
        refusals.note("not_found", by=staff, route="/x", named=[id if n % 2 else MISSING])
    refusals.note("not_found", by=project.principal("hr"), route="/x", named=[MISSING])
    assert [record["principal"] for record in refused(project)] == ["staff"] * MOST + ["hr"], "each principal for itself"
    refusals.flush()
    assert len(refused(project)) == MOST + 1, "the minute is not over"
    clock.at = WINDOW_S
    refusals.note("not_found", by=staff, route="/x", named=[MISSING])
    *_, count, last = refused(project)
    assert (count["code"], count["n"], count["n_hidden"], count["principal"]) == ("more", 20, 10, "staff")
    assert last["code"] == "not_found"


def test_what_was_counted_is_written_when_the_minute_or_the_server_ends(project):
    clock = Clock()
    refusals = Refusals(project, clock=clock)
    for _ in range(MOST + 3):
        refusals.note("not_found", by=project.principal("staff"), route="/x", named=[MISSING])
    refusals.flush(all_of_them=True)
    refusals.flush(all_of_them=True)
    assert [record["n"] for record in refused(project) if record["code"] == "more"] == [3]


def test_a_refusal_that_cannot_be_recorded_raises(project):
    (project.state / "audit" / "head.json").write_bytes(b"{}")
    with pytest.raises(AuditError):
        project.refusals.note("refused", by=project.principal("staff"), route="/x", named=["規程"])


def hagane(monkeypatch: pytest.MonkeyPatch, project: Project, *words: str) -> int:
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr("sys.argv", ["hagane", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_a_command_that_names_something_hidden_is_on_record(project, monkeypatch, capsys):
    assert hagane(monkeypatch, project, "show", "給与レンジ.md", "--as", "staff") == 1
    assert "no document" in capsys.readouterr().err
    assert hagane(monkeypatch, project, "show", "どこにもない.md", "--as", "staff") == 1
    [record] = refused(project)
    assert (record["principal"], record["route"], record["hidden"]) == ("staff", "hagane show", [salary(project)])


def test_a_command_that_is_refused_is_on_record(project, monkeypatch):
    assert hagane(monkeypatch, project, "user", "list", "--as", "staff") == 1
    [record] = refused(project)
    assert (record["principal"], record["code"], record["route"]) == ("staff", "refused", "hagane user list")
