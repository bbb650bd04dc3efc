"""Numbers of the board: counts only, right to the day, and the settings without a secret."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_company import Folder

from hagane.ledger import db
from hagane.project import board
from hagane.project.board import percentile
from hagane.project.settings import settings
from hagane.project.wire import Project


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def asked(project: Project, n: int, at: datetime, *, ms: int, abstained: bool = False, said: str | None = None) -> None:
    with project.ledger._db.writing() as connection:
        row = {"id": f"t_{n}", "conversation": "c_1", "seq": n, "label": "restricted:board", "question": "役員報酬は？", "asked": "役員報酬は？"}
        answer = {"answer": "秘密", "abstained": abstained}
        connection.execute(db.turns.insert().values(**row, answer=answer, latency_ms=ms, created_at=stamp(at)))
        if said:
            given = {"id": f"f_{n}", "turn": f"t_{n}", "user": "u", "kind": said, "label": "restricted:board", "body": {"text": "秘密"}}
            connection.execute(db.feedback.insert().values(**given, created_at=stamp(at)))


@pytest.fixture
def project(company: Folder):
    company.sync()
    with Project.open(company.path) as opened:
        yield opened


def test_days_count_questions_latency_abstentions_and_feedback(project: Project) -> None:
    noon = datetime.now().astimezone().replace(hour=12)
    for n, ms in enumerate((100, 200, 300, 4_000)):
        asked(project, n, noon - timedelta(days=2), ms=ms, abstained=n == 3, said=("up", "up", "down", "right_answer")[n])
    asked(project, 9, noon - timedelta(days=45), ms=1)
    days = board.days(project, n=7)
    assert len(days) == 7
    [day] = [day for day in days if day["questions"]]
    assert day["day"] == (noon - timedelta(days=2)).strftime("%Y-%m-%d")
    assert day == {"day": day["day"], "questions": 4, "abstained": 1, "up": 2, "down": 1, "p50_ms": 200, "p95_ms": 4_000}
    assert all(other["p50_ms"] is None for other in days if other is not day)


def test_nothing_on_the_board_is_a_word_of_anybody(project: Project) -> None:
    asked(project, 1, datetime.now().astimezone(), ms=5)
    by = project.principal("staff")
    told = str(board.board(project, by=by)) + str(board.days(project))
    assert not any(word in told for word in ("役員報酬", "秘密", "給与", "board"))


def test_the_board_says_how_large_everything_is(project: Project) -> None:
    state = board.board(project, by=project.principal())
    assert state["documents"] == {"in": 4, "aside": 0, "duplicate": 0}
    assert state["index"]["chunks"] == state["index"]["vectors"] > 0
    assert state["machine"]["state_bytes"]["originals"] > 0
    assert state["machine"]["state_bytes"]["ledger"] > 0
    assert state["model"]["answerer"] == "extract"


def test_jobs_on_the_board_keep_to_the_clearance(project: Project) -> None:
    from hagane.project import work

    id = work.submit(project, "sync", {}, by=project.principal("hr"))
    assert [job["id"] for job in board.board(project, by=project.principal("hr"))["jobs"]] == [id]
    assert board.board(project, by=project.principal("staff"))["jobs"] == []


@given(st.lists(st.integers(0, 10_000), min_size=1), st.sampled_from([1, 50, 95, 99, 100]))
def test_percentile_is_the_least_value_that_enough_do_not_exceed(values: list[int], p: int) -> None:
    found = percentile(values, p)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= p * len(values)
    assert all(sum(v <= less for v in values) * 100 < p * len(values) for less in values if less < found)


def test_percentile_of_nothing_is_nothing() -> None:
    assert percentile([], 50) is None


def test_settings_tell_what_is_given_and_never_a_secret(company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAGANE_TEST_KEY", "ひみつの鍵")
    text = (company.path / "hagane.yaml").read_text(encoding="utf-8")
    more = "models: {gpt: {address: 'http://127.0.0.1:9/v1', model: m, key: 'env:HAGANE_TEST_KEY'}}\nserver: {upload_mb: 7}\n"
    company.write("hagane.yaml", text + more)
    with Project.open(company.path) as project:
        found = settings(project, by=project.principal())
    rows = {row["key"]: row for section in found["sections"] for row in section["rows"]}
    assert rows["models.gpt.key"]["value"] == "env:HAGANE_TEST_KEY"
    assert "ひみつの鍵" not in str(found)
    assert (rows["server.upload_mb"]["value"], rows["server.upload_mb"]["given"], rows["server.upload_mb"]["default"]) == ("7", True, "200")
    assert rows["server.port"]["given"] is False
    assert rows["sources[hr].label"]["value"] == "confidential:hr"
    assert all(row["meaning"] for row in rows.values())
    assert rows["labels.compartments"]["value"] == "hr, board"
