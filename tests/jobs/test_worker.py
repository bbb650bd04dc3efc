"""One worker: streams, is cancelled, fails without harm, starts anew, dies with its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hagane.core.errors import MissingExtraError, ModelError, SourceError, StateError
from hagane.jobs.local import Failure, Worker

TARGETS = "worker_targets"


@pytest.fixture(autouse=True)
def _targets(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def _wait_until(true, what: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    """True while the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_answers_in_japanese_and_in_bytes():
    with Worker(f"{TARGETS}:echo") as worker:
        big = os.urandom(5 << 20)
        got = worker.ask({"問い": "有給休暇は何日か", "data": big, "more": b""})
        assert (got["問い"], got["data"] == big, got["more"]) == ("有給休暇は何日か", True, b"")
        assert got["pid"] == worker.pid != os.getpid()


def test_it_streams_items_in_order():
    with Worker(f"{TARGETS}:count") as worker:
        got = list(worker.call({"n": 50}))
        assert [item["i"] for item in got] == list(range(50))
        assert got[7]["text"] == "7番目の語"
        assert list(worker.call({"n": 0})) == []


def test_a_plain_result_is_a_stream_of_one():
    with Worker(f"{TARGETS}:echo") as worker:
        assert [item["x"] for item in worker.call({"x": 1})] == [1]


def test_closing_the_iterator_stops_the_child_which_goes_on_to_serve(tmp_path):
    mark = tmp_path / "mark"
    with Worker(f"{TARGETS}:count") as worker:
        items = worker.call({"n": 10**9, "mark": str(mark)})
        assert next(items)["i"] == 0
        pid = worker.pid
        items.close()
        assert [item["i"] for item in worker.call({"n": 3})] == [0, 1, 2]
        assert worker.pid == pid
        assert mark.read_text() == "closed"


def test_an_iterator_that_is_dropped_is_closed():
    with Worker(f"{TARGETS}:count") as worker:
        for item in worker.call({"n": 10**9}):
            assert item["i"] == 0
            break
        assert [item["i"] for item in worker.call({"n": 2})] == [0, 1]


def test_a_crash_in_the_middle_of_a_stream_is_an_error_and_a_restart():
    with Worker(f"{TARGETS}:count") as worker:
        items = worker.call({"n": 9, "die_at": 2})
        assert [next(items)["i"], next(items)["i"]] == [0, 1]
        with pytest.raises(ModelError, match="SIGABRT"):
            next(items)
        assert [item["i"] for item in worker.call({"n": 2})] == [0, 1]


def test_the_houses_own_errors_come_over_with_their_hint():
    with Worker(f"{TARGETS}:count") as worker:
        with pytest.raises(SourceError, match="壊れている") as caught:
            list(worker.call({"n": 3, "raise_at": 1}))
        assert (caught.value.reason, caught.value.hint) == ("damaged", "直してください")


def test_other_errors_say_their_class_and_no_content():
    with Worker(f"{TARGETS}:act") as worker:
        with pytest.raises(ModelError, match="ValueError") as caught:
            list(worker.call({"do": "raise"}))
        assert "極秘" not in str(caught.value)
        assert worker.ask({"do": "raise"}) == Failure("error", "ValueError")


def test_a_stream_that_stalls_is_ended():
    with Worker(f"{TARGETS}:count", time_s=0.3) as worker:
        with pytest.raises(ModelError, match="timeout"):
            list(worker.call({"n": 3, "pause": 600}))
        assert [item["i"] for item in worker.call({"n": 1})] == [0]


def test_init_builds_what_answers_once():
    with Worker(f"{TARGETS}:Counter", init={"from": 5}) as worker:
        assert [worker.ask({})["n"] for _ in range(3)] == [6, 7, 8]
    with Worker(f"{TARGETS}:factory", init={"word": "鋼"}) as worker:
        assert worker.ask({"x": 1}) == {"word": "鋼", "x": 1}


def test_a_worker_that_cannot_start_says_why():
    with Worker(f"{TARGETS}:broken_factory", init={}) as worker, pytest.raises(MissingExtraError) as caught:
        worker.start()
    assert caught.value.hint == "pip install 'hagane[z]'"
    with Worker(f"{TARGETS}:missing") as worker, pytest.raises(StateError, match="AttributeError"):
        worker.ask({})
    with Worker("no_such_module:f") as worker, pytest.raises(StateError, match="ModuleNotFoundError"):
        worker.ask({})


def test_a_worker_that_died_between_requests_is_replaced():
    with Worker(f"{TARGETS}:echo") as worker:
        first = worker.ask({})["pid"]
        os.kill(first, 9)
        _wait_until(lambda: not _alive(first), "killed")
        assert worker.ask({})["pid"] != first


def test_the_child_sees_no_secrets_and_an_empty_stdin(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with Worker(f"{TARGETS}:act", threads=3, env={"EXTRA": "余分"}) as worker:
        got = worker.ask({"do": "environment"})
    assert "OPENAI_API_KEY" not in got["env"]
    assert (got["env"]["OMP_NUM_THREADS"], got["env"]["EXTRA"], got["stdin"]) == ("3", "余分", "")


def test_the_end_of_what_it_printed_is_kept_for_debugging_only(caplog, capfd):
    with Worker(f"{TARGETS}:act") as worker:
        worker.ask({"do": "shout"})
        worker.ask({"do": "abort"})
        assert worker.last_stderr.endswith(b"stderr ")
        assert len(worker.last_stderr) <= 8192
    assert "stderr" not in caplog.text + "".join(capfd.readouterr())


def test_a_module_in_the_current_folder_is_not_imported(tmp_path, monkeypatch):
    """Documents may lie there; python -m would look there first."""
    (tmp_path / "json.py").write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    with Worker(f"{TARGETS}:echo") as worker:
        assert worker.ask({"x": 1})["x"] == 1


def test_ctrl_c_in_the_terminal_does_not_reach_it():
    with Worker(f"{TARGETS}:echo") as worker:
        pid = worker.ask({})["pid"]
        assert os.getpgid(pid) == pid != os.getpgrp()
        os.kill(pid, 2)
        assert worker.ask({})["pid"] == pid


def test_close_ends_a_busy_child_from_another_thread():
    worker = Worker(f"{TARGETS}:act")
    worker.start()
    pid = worker.pid
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(worker.ask({"do": "hang"})))
    thread.start()
    _wait_until(lambda: worker._turn.locked(), "busy")
    worker.close()
    thread.join()
    assert outcomes == [Failure("crashed", "SIGKILL")]
    assert not _alive(pid)
    with pytest.raises(StateError, match="closed"):
        worker.ask({})


def test_threads_take_turns():
    got = []
    with Worker(f"{TARGETS}:count") as worker:
        threads = [
            threading.Thread(target=lambda n=n: got.append([item["i"] for item in worker.call({"n": n})]))
            for n in (3, 5, 7, 9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(map(len, got)) == [3, 5, 7, 9]
    assert all(items == list(range(len(items))) for items in got)


def test_the_thread_that_started_it_may_end():
    """PR_SET_PDEATHSIG would kill the child here."""
    with Worker(f"{TARGETS}:echo") as worker:
        thread = threading.Thread(target=worker.start)
        thread.start()
        thread.join()
        pid = worker.pid
        assert worker.ask({})["pid"] == pid


_PARENT = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from hagane.jobs.local import Worker, WorkerPool
worker = Worker("worker_targets:act")
worker.start()
print(worker.pid, flush=True)
pool = WorkerPool("worker_targets:act", n=2, time_s=600)
threading.Thread(target=lambda: list(pool.map([{"do": "hang_in_native"}, {"do": "hang"}])), daemon=True).start()
while not all(w.pid for w in pool._workers):
    threading.Event().wait(0.01)
print(*(w.pid for w in pool._workers), flush=True)
threading.Event().wait(600)
"""


def test_no_child_outlives_a_parent_killed_by_force():
    """Idle, asleep, or in native code that holds the interpreter."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    pids = [int(pid) for _ in range(2) for pid in parent.stdout.readline().split()]
    assert len(pids) == 3
    assert all(_alive(pid) for pid in pids)
    parent.kill()
    parent.wait()
    _wait_until(lambda: not any(_alive(pid) for pid in pids), "children ended")
