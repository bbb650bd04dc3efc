"""A pool: whatever one request does to its worker, the others get their results."""

from __future__ import annotations

from pathlib import Path

import pytest

from hagane.core.errors import MissingExtraError
from hagane.jobs.local import Failure, WorkerPool

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _targets(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def _one(do: str, *, time_s: float = 60.0, memory_bytes: int | None = None):
    """The outcome of a bad deed, and that the pool goes on after it."""
    with WorkerPool("worker_targets:act", n=1, time_s=time_s, memory_bytes=memory_bytes) as pool:
        got = {request["do"]: outcome for request, outcome in pool.map([{"do": do}, {"do": "fine"}])}
    assert got["fine"]["did"] == "fine"
    return got[do]


@pytest.mark.parametrize("do", ["hang", "hang_in_native"])
def test_a_hang_is_a_timeout(do):
    assert _one(do, time_s=0.4) == Failure("timeout", "more than 0.4 s")


@pytest.mark.parametrize("do", ["eat", "eat_slowly"])
def test_a_memory_hog_is_ended(do):
    """At once (the kernel may be first) or slowly (the watch is)."""
    assert _one(do, memory_bytes=150 * MIB).reason == "memory"


@pytest.mark.parametrize(("do", "detail"), [("abort", "SIGABRT"), ("segfault", "SIGSEGV"), ("exit", "exit 3")])
def test_a_native_crash_is_a_failure_and_a_restart(do, detail):
    assert _one(do) == Failure("crashed", detail)


def test_an_exception_says_its_class_and_no_content():
    assert _one("raise") == Failure("error", "ValueError")


def test_a_source_error_says_its_word():
    assert _one("refuse") == Failure("error", "SourceError", "damaged")


def test_noise_on_stdout_and_stderr_harms_nothing():
    assert _one("shout")["did"] == "shout"


def test_two_hundred_requests_each_get_their_own_result():
    requests = [{"i": i, "文": f"第{i}条"} for i in range(200)]
    with WorkerPool("worker_targets:echo", n=2, time_s=60) as pool:
        got = list(pool.map(requests))
        pids = {outcome["pid"] for _, outcome in got}
    assert sorted(request["i"] for request, _ in got) == list(range(200))
    assert all(outcome["文"] == request["文"] == f"第{request['i']}条" for request, outcome in got)
    assert len(pids) == 2


def test_requests_are_read_only_a_little_ahead():
    """A million files are not listed before the first is done."""
    read = []

    def requests():
        for i in range(10**6):
            read.append(i)
            yield {"i": i}

    with WorkerPool("worker_targets:echo", n=1, time_s=60) as pool:
        results = pool.map(requests(), ahead=3)
        for n in range(1, 20):
            next(results)
            assert len(read) <= n + 3
        results.close()


def test_a_request_may_have_its_own_time():
    with WorkerPool("worker_targets:act", n=1, time_s=600) as pool:
        ((_, outcome),) = pool.map([{"do": "hang", "time_s": 0.3}])
    assert outcome.reason == "timeout"


def test_a_worker_that_kept_too_much_is_replaced_before_the_next_request():
    """So that a file is judged by what it needs, and not by what those before it left behind."""
    with WorkerPool("worker_targets:keep", n=1, time_s=60, memory_bytes=200 * MIB) as pool:
        got = [outcome for _, outcome in pool.map([{"bytes": 60 * MIB} for _ in range(6)])]
    assert not any(isinstance(outcome, Failure) for outcome in got)
    assert len({outcome["pid"] for outcome in got}) > 1


def test_workers_that_cannot_start_are_one_error():
    with WorkerPool("worker_targets:broken_factory", n=2, time_s=60, init={}) as pool, pytest.raises(MissingExtraError):
        list(pool.map([{}] * 5))


def test_a_pool_can_map_again_and_results_of_an_abandoned_map_do_not_leak():
    with WorkerPool("worker_targets:echo", n=2, time_s=60) as pool:
        first = pool.map({"a": i} for i in range(100))
        next(first)
        first.close()
        got = list(pool.map([{"b": i} for i in range(10)]))
    assert sorted(outcome["b"] for _, outcome in got) == list(range(10))


def test_a_request_that_is_not_json_is_the_callers_error():
    with WorkerPool("worker_targets:echo", n=1, time_s=60) as pool:
        with pytest.raises(TypeError):
            list(pool.map([{"x": {1, 2}}]))
        assert [outcome["x"] for _, outcome in pool.map([{"x": 1}])] == [1]


def test_bytes_of_five_megabytes_travel_both_ways():
    data = "鋼".encode() * (5 * MIB // 3)
    with WorkerPool("worker_targets:echo", n=2, time_s=60) as pool:
        assert all(outcome["data"] == data for _, outcome in pool.map([{"data": data}] * 4))
