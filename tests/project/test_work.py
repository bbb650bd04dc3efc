"""Background jobs: one after the other, never lost, seen only within a clearance."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_company import Folder

from hagane.core.errors import ModelError, NotFoundError, StateError, StoppedError, UsageError
from hagane.core.labels import EVERYTHING, Label
from hagane.ledger.queue import MOST_STARTS
from hagane.project import documents, work
from hagane.project.questions import search
from hagane.project.wire import Project


@pytest.fixture
def project(company: Folder) -> Iterator[Project]:
    with Project.open(company.path) as opened:
        yield opened


@pytest.fixture
def worker(project: Project) -> Iterator[work.Worker]:
    made = work.Worker(project)
    made.start()
    yield made
    assert made.stop(60), "the worker ended"


def until(true: Callable[[], Any]) -> Any:
    """What `true()` gives, once it gives something."""
    for _ in range(3000):
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to that")


def ended(project: Project, id: str) -> dict[str, Any]:
    return until(lambda: (found := work.job(project, id, by=project.principal()))["state"] not in ("waiting", "running") and found)


def test_sync_in_the_background_makes_documents_searchable(project: Project, worker: work.Worker, company: Folder) -> None:
    done = ended(project, work.submit(project, "sync", {}, by=project.principal()))
    assert done["state"] == "done" and done["error"] is None
    assert "rules/経費.txt" in done["progress"]["report"]["added"]["first"]
    assert company.found("領収書を紛失したとき")[0] == "rules/経費.txt"


def test_equal_waiting_jobs_are_one(project: Project) -> None:
    owner, hr = project.principal(), project.principal("hr")
    first = work.submit(project, "sync", {}, by=owner)
    assert work.submit(project, "sync", {}, by=owner) == first
    others = {work.submit(project, "sync", {"words_only": True}, by=owner), work.submit(project, "sync", {}, by=hr)}
    assert first not in others and len(others) == 2


def test_a_running_job_is_not_the_one_that_waits(project: Project) -> None:
    """A file that came while a sync runs may have been passed already: it takes another sync."""
    first = work.submit(project, "sync", {}, by=project.principal())
    assert project.ledger.queue.take().id == first
    assert work.submit(project, "sync", {}, by=project.principal()) != first


def test_only_jobs_within_the_clearance_are_seen(project: Project) -> None:
    """What someone may not see looks like what does not exist: listed, looked at, cancelled."""
    owner, staff = project.principal(), project.principal("staff")
    secret = work.submit(project, "sync", {}, by=owner, label=Label.parse("confidential:hr"))
    plain = work.submit(project, "sync", {}, by=staff)
    assert [job["id"] for job in work.jobs(project, by=staff)] == [plain]
    assert {job["id"] for job in work.jobs(project, by=owner)} == {secret, plain}
    for verb in (work.job, work.cancel):
        with pytest.raises(NotFoundError) as hidden:
            verb(project, secret, by=staff)
        with pytest.raises(NotFoundError) as missing:
            verb(project, "j_0000", by=staff)
        assert str(hidden.value).replace(secret, "ID") == str(missing.value).replace("j_0000", "ID")


def test_jobs_of_one_who_sees_everything_are_not_for_those_who_do_not(project: Project) -> None:
    work.submit(project, "sync", {}, by=project.principal())
    assert work.jobs(project, by=project.principal("hr")) == []


def test_unknown_jobs_and_arguments_are_wrong_use(project: Project) -> None:
    with pytest.raises(UsageError) as unknown:
        work.submit(project, "掃除", {}, by=project.principal())
    assert "sync" in unknown.value.hint
    with pytest.raises(UsageError, match="colour"):
        work.submit(project, "sync", {"colour": "赤"}, by=project.principal())


def test_what_a_killed_server_left_running_runs_again(project: Project, company: Folder) -> None:
    id = work.submit(project, "sync", {}, by=project.principal())
    assert project.ledger.queue.take().id == id  # and then its process died
    worker = work.Worker(project)
    worker.start()
    assert ended(project, id)["state"] == "done"
    assert worker.stop(60)
    assert company.found("通信費")[0] == "rules/在宅勤務.md"


def test_a_job_that_kills_its_server_again_and_again_is_given_up(project: Project) -> None:
    id = work.submit(project, "sync", {}, by=project.principal())
    for _ in range(MOST_STARTS):
        project.ledger.queue.again()
        taken = project.ledger.queue.take()
        assert taken.id == id
        project.ledger.queue.tell(id, {**taken.progress, "event": "words"})
    project.ledger.queue.again()
    assert work.job(project, id, by=project.principal())["state"] == "failed"
    assert project.ledger.queue.take() is None


def stuck(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Syncs that go on until they are stopped; set once one runs."""
    runs = threading.Event()

    def sync(project: Project, *, by: Any, emit: Any, stop: Any) -> None:
        runs.set()
        while not stop():
            emit({"event": "words", "done": 1, "total": 2, "path": "rules/経費.txt"})
            time.sleep(0.01)
        raise StoppedError("stopped")

    monkeypatch.setattr(documents, "sync", sync)
    return runs


def test_a_restart_loses_no_job(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = stuck(monkeypatch)
    worker = work.Worker(project)
    worker.start()
    first = work.submit(project, "sync", {}, by=project.principal())
    assert runs.wait(30)
    second = work.submit(project, "sync", {}, by=project.principal())
    assert worker.stop(60)
    states = {job["id"]: job["state"] for job in work.jobs(project, by=project.principal())}
    assert states == {first: "waiting", second: "waiting"}
    monkeypatch.undo()
    again = work.Worker(project)
    again.start()
    assert [ended(project, id)["state"] for id in (first, second)] == ["done", "done"]
    assert again.stop(60)


def test_a_running_job_can_be_cancelled_and_another_follows(project: Project, worker: work.Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = stuck(monkeypatch)
    owner = project.principal()
    id = work.submit(project, "sync", {}, by=owner)
    assert runs.wait(30)
    until(lambda: work.job(project, id, by=owner)["progress"].get("path") == "rules/経費.txt")
    work.cancel(project, id, by=owner)
    assert ended(project, id)["state"] == "cancelled"
    with pytest.raises(StateError, match="ended already"):
        work.cancel(project, id, by=owner)
    monkeypatch.undo()
    assert ended(project, work.submit(project, "sync", {}, by=owner))["state"] == "done"


def test_a_failed_job_says_why_and_our_own_mistake_only_its_kind(project: Project, worker: work.Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message of a mistake may hold content."""
    for error, said in ((ModelError("the engine is gone", hint="pull it"), "the engine is gone pull it"), (ValueError("社外秘"), "hagane made a mistake (ValueError)")):
        monkeypatch.setattr(documents, "sync", lambda *a, error=error, **k: (_ for _ in ()).throw(error))
        done = ended(project, work.submit(project, "sync", {}, by=project.principal()))
        assert (done["state"], done["error"]) == ("failed", said)


def test_a_sync_stops_between_files_and_the_next_goes_on(company: Folder, tmp_path: Path) -> None:
    """Stopped after the first file: what was done is kept, and in the end nothing differs."""
    for n in range(12):
        company.write(f"rules/規程{n}.md", f"# 規程{n}\n\n第{n}条は別に定める。番号は{n * 7}である。\n")
    events: list[str] = []
    with pytest.raises(StoppedError):
        company.run(documents.sync, emit=lambda event: events.append(event["event"]), stop=lambda: "words" in events)
    with Project.open(company.path) as project:
        kept = len(list(project.ledger.documents.every_unfiltered()))
    assert 1 <= kept < 16
    company.sync()
    other = Folder(tmp_path / "other")
    for file in company.path.rglob("*"):
        if file.is_file() and ".hagane" not in file.parts:
            other.write(str(file.relative_to(company.path)), file.read_bytes())
    other.sync()
    assert company.state()["documents"] == other.state()["documents"]


def test_label_changed_beside_a_running_sync_counts_at_once(company: Folder, project: Project) -> None:
    """A server that syncs for an hour still closes a document at once; the index learns it behind the sync."""
    company.sync()
    owner, lock = project.principal(), project.ledger.writer
    with lock.kept("serve", socket="x"):
        holds, done = threading.Event(), threading.Event()

        def hour() -> None:
            with project.ledger.only_writer():
                holds.set()
                assert done.wait(60)

        thread = threading.Thread(target=hour)
        thread.start()
        assert holds.wait(30)
        documents.relabel(project, "経費.txt", "confidential", by=owner, reason="社外秘になった")
        assert "rules/経費.txt" not in company.found("領収書を紛失したとき", by="staff")
        assert project.ledger.marks.unsettled() != []
        done.set()
        thread.join()
        worker = work.Worker(project)
        worker.start()
        until(lambda: project.ledger.marks.unsettled() == [])
        assert worker.stop(60)
    assert company.found("領収書を紛失したとき")[0] == "rules/経費.txt"
    assert owner.clearance == EVERYTHING


def test_a_server_uses_vectors_as_soon_as_a_sync_has_made_them(company: Folder) -> None:
    """It was started while the index had another embedder's vectors; nobody restarts it after the sync."""
    company.sync()
    with Project.open(company.path) as project:
        project.ledger.remember(embedder="another one")
        why = [passage["why"] for passage in search(project, "通信費", by=project.principal())["passages"]]
        assert why and all("cosine" not in one for one in why)
        documents.sync(project, by=project.principal(), emit=lambda event: None)
        assert any("cosine" in passage["why"] for passage in search(project, "通信費", by=project.principal())["passages"])
