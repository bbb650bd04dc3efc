"""Killed at any moment, the next sync completes, and what comes out is what an uninterrupted one gives."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import crowd
import pytest
from small_company import Folder

from hagane.core.labels import EVERYTHING
from hagane.project.wire import Project

SYNC = "import sys; from hagane.cli.main import main; sys.argv[0] = 'hagane'; main()"


def start(folder: Folder) -> tuple[subprocess.Popen[bytes], Path]:
    """`hagane sync` in a process of its own, and the file into which it tells its events."""
    command = [sys.executable, "-c", SYNC, "sync", "--project", str(folder.path), "--yes", "--progress", "json"]
    told = folder.path.with_suffix(".events")
    with open(told, "wb") as out:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=out, process_group=0)
    return process, told


def children(pid: int) -> set[int]:
    """The processes that `pid` started, from any of its threads."""
    found: set[int] = set()
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found |= {int(child) for child in thread.read_text().split()}
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def kill_after(folder: Folder, seconds: float, *, signum: int = signal.SIGKILL) -> tuple[int, str]:
    """(exit code, last event) of a sync that gets `signum` so many seconds after it began to look at files;
    its workers end with it."""
    process, told = start(folder)
    while process.poll() is None and not told.stat().st_size:
        time.sleep(0.005)
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    workers = children(process.pid)
    process.send_signal(signum)
    process.wait()
    for _ in range(3000):
        if not any(map(alive, workers)):
            break
        time.sleep(0.01)
    assert not any(map(alive, workers)), "a worker outlived its sync"
    return process.returncode, events(told)[-1]["event"]


def events(told: Path) -> list[dict[str, Any]]:
    """The whole lines of JSON that a sync has said so far."""
    lines = told.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines if line.startswith("{")]


def outcome(folder: Folder) -> dict[str, Any]:
    """Everything that must be equal: documents, chunks, vectors, labels, files' rows, words found, bytes kept."""
    found = folder.state()
    with Project.open(folder.path) as project:
        ledger, index = project.ledger, project.index
        found["count"] = index.count()
        found["words"] = {
            word: [
                (hit.chunk, round(hit.score, 4))
                for hit in index.by_words(dict.fromkeys(project.analyzer.tokens(word), 1.0), clearance=EVERYTHING, n=500)
            ]
            for word in crowd.WORDS
        }
        vector = project.embedder.embed(["防災用品の棚卸"], kind="query")[0]
        found["near"] = [(h.chunk, round(h.score, 4)) for h in index.by_vector(vector, clearance=EVERYTHING, n=20)]
        rows = [row for source in ledger.files.sources() for row in ledger.files.every(source).values()]
        found["files"] = sorted((row.source, row.path, row.document, row.sha256, row.mark) for row in rows)
        found["blobs"], found["parsed"] = list(ledger.blobs.list()), sorted(ledger.parsed.list())
        found["left"] = [ledger.fact("syncing"), ledger.fact("purging"), index.remains(), ledger.marks.unsettled()]
        state = project.state
    found["temporary"] = [file.name for file in (*state.glob("temporary/*"), *state.rglob(".new-*"))]
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The parts that differ, shortly."""
    told = []
    for name in one:
        if one[name] != other[name]:
            a, b = (json.dumps(found[name], ensure_ascii=False, default=str) for found in (one, other))
            at = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            told.append(f"{name}: ...{a[max(0, at - 80) : at + 120]} / ...{b[max(0, at - 80) : at + 120]}")
    return told


def uninterrupted(folder: Folder) -> tuple[dict[str, Any], float]:
    """What a sync gives that nobody disturbs, and its seconds from the first event on."""
    process, told = start(folder)
    while process.poll() is None and not told.stat().st_size:
        time.sleep(0.005)
    started = time.monotonic()
    process.wait()
    assert process.returncode == 0, told.read_text(encoding="utf-8")
    return outcome(folder), time.monotonic() - started


def check_kills(make: Callable[[str], Folder], *, n: int, seed: int) -> None:
    """`n` kills of a sync of `make(name)`, each at a random moment; each next run must equal the undisturbed one."""
    want, seconds = uninterrupted(make("undisturbed"))
    chance = random.Random(seed)
    killed: list[str] = []
    while len(killed) < n:
        folder = make(f"killed-{len(killed)}")
        code, event = kill_after(folder, chance.random() * seconds)
        if code == 0:  # it was quicker than last time
            seconds *= 0.95
            continue
        assert code == -signal.SIGKILL
        killed.append(event)
        folder.sync(yes=True)
        told = differences(want, outcome(folder))
        assert not told, f"kill {len(killed)} of seed {seed}, after event {event!r}: {told}"
        shutil.rmtree(folder.path)
    print(f"{n} kills of {seconds:.1f} s, after the events {killed}")


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[int], Callable[[str], Folder]]:
    """A maker of never synced folders of n files."""

    def of(n: int) -> Callable[[str], Folder]:
        def make(name: str) -> Folder:
            folder = Folder(tmp_path / name)
            shutil.rmtree(folder.path, ignore_errors=True)
            crowd.build(folder, n)
            return folder

        return make

    return of


@pytest.fixture
def aged(tmp_path: Path) -> Callable[[int], Callable[[str], Folder]]:
    """A maker of folders of n files that were synced, and in which files then changed, moved and left."""

    def of(n: int) -> Callable[[str], Folder]:
        base = Folder(tmp_path / "base")
        crowd.build(base, n)
        base.sync()

        def make(name: str) -> Folder:
            folder = Folder(tmp_path / name)
            shutil.rmtree(folder.path, ignore_errors=True)
            shutil.copytree(base.path, folder.path)
            crowd.age(folder, seed=3)
            return folder

        return make

    return of


def test_killed_sync_is_finished_by_the_next(fresh: Any) -> None:
    check_kills(fresh(30), n=2, seed=20261124)


def test_killed_update_is_finished_by_the_next(aged: Any) -> None:
    check_kills(aged(30), n=1, seed=1)


@pytest.mark.long
def test_twenty_kills_of_a_300_file_sync(fresh: Any) -> None:
    """Acceptance 9."""
    check_kills(fresh(300), n=20, seed=9)


@pytest.mark.long
def test_twenty_kills_of_an_update_of_300_files(aged: Any) -> None:
    """Changed, renamed, deleted and new files, among them archives and copies."""
    check_kills(aged(300), n=20, seed=10)


def test_ctrl_c_keeps_what_is_done_and_exits_130(fresh: Any) -> None:
    """What was parsed before the interrupt is in the ledger and searchable; the next run does only the rest."""
    folder = fresh(30)("interrupted")
    process, told = start(folder)
    while process.poll() is None and not any(event.get("done", 0) >= 10 for event in events(told)):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    process.wait()
    assert process.returncode == 130, told.read_text(encoding="utf-8")
    kept = [row for row in folder.state()["documents"] if row[2] != "aside"]
    assert len(kept) >= 8
    report = folder.sync()
    assert 0 < len(report.added) + len(report.changed) <= 40
    assert report.unchanged >= 8
    want, _ = uninterrupted(fresh(30)("undisturbed"))
    assert not differences(want, outcome(folder))


class Killed(BaseException):
    """Ends a run where no handler expects it."""


class Acts:
    """Everything that a sync does durably, counted; the run ends right before act number `fatal`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from hagane.index.lance import LanceIndex
        from hagane.ledger import documents, files, ledger, lineage, marks, steps

        self.fatal = -1
        self.n = 0
        names = {
            LanceIndex: ("add", "add_vectors", "relabel_many", "delete", "optimize", "compact"),
            documents.Documents: ("put", "delete", "sweep"),
            files.Files: ("put", "forget"),
            ledger.Ledger: ("remember", "purge"),
            marks.Marks: ("settled",),
            steps.Steps: ("record",),
            lineage.Lineage: ("link",),
        }
        for owner, methods in names.items():
            for name in methods:
                monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def act(*given: Any, **named: Any) -> Any:
            if self.n == self.fatal:
                raise Killed
            result = original(*given, **named)
            self.n += 1
            return result

        return act

    def sync(self, folder: Folder, *, fatal: int) -> int:
        """The number of acts of a sync that ends before act `fatal`; -1: never."""
        self.n, self.fatal = 0, fatal
        try:
            folder.sync(yes=True)
        finally:
            self.fatal = -1
        return self.n


def check_ends(make: Callable[[str], Folder], acts: Acts, choose: Callable[[int], list[int]]) -> None:
    """End an update before each act of `choose(n_acts)`; the next run must give what an undisturbed one does."""
    undisturbed = make("undisturbed")
    n_acts = acts.sync(undisturbed, fatal=-1)
    want = outcome(undisturbed)
    for at in choose(n_acts):
        folder = make("killed")
        with pytest.raises(Killed):
            acts.sync(folder, fatal=at)
        folder.sync(yes=True)
        told = differences(want, outcome(folder))
        assert not told, f"before act {at} of {n_acts}: {told}"
    print(f"{n_acts} acts")


def test_update_that_ends_before_some_act_is_finished_by_the_next(aged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check_ends(aged(12), Acts(monkeypatch), lambda n: sorted(random.Random(4).sample(range(n), 3)))


@pytest.mark.long
def test_update_that_ends_before_any_act_is_finished_by_the_next(aged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at random but everywhere."""
    check_ends(aged(12), Acts(monkeypatch), lambda n: list(range(n)))


def test_nothing_is_left_to_do_after_a_killed_run_whose_work_was_done(fresh: Any) -> None:
    """Killed after the last file's row: copies, indices and facts are still brought to their end."""
    folder = fresh(12)("killed")
    folder.sync()
    want = outcome(folder)
    with Project.open(folder.path) as project:
        project.ledger.remember(syncing=True, purging=True)
    folder.sync()
    assert not differences(want, outcome(folder))
    assert os.listdir(folder.path / ".hagane/temporary") == []
