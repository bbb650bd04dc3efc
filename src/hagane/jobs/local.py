"""Work on this machine: several workers side by side (`WorkerPool`), or one (`Worker`)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from ..core.errors import HaganeError
from .process import Failure, Outcome, Worker

Request = dict[str, Any]
LOOK_S = 0.25  # how often `map` asks whether to stop


class WorkerPool:
    """`n` worker processes for one function. See `Worker` for the other values."""

    def __init__(
        self,
        target: str,
        *,
        n: int,
        time_s: float,
        memory_bytes: int | None = None,
        init: Mapping[str, Any] | None = None,
        threads: int = 1,
        nice: int = 0,
        start_s: float = 120.0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._workers = [
            Worker(
                target,
                time_s=time_s,
                memory_bytes=memory_bytes,
                init=init,
                threads=threads,
                nice=nice,
                start_s=start_s,
                env=env,
            )
            for _ in range(n)
        ]
        self._tasks: queue.SimpleQueue[tuple[_Round, Request] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def map(
        self, requests: Iterable[Request], *, ahead: int | None = None, stop: Callable[[], bool] | None = None
    ) -> Iterator[tuple[Request, Outcome]]:
        """Each request with its outcome, as they are completed. `requests` is read in the caller's thread,
        at most `ahead` (default 2 per worker) beyond what was taken. A request's own "time_s" overrules
        the pool's. Ends early, whatever is under way, once `stop()` is true. Raises: what keeps the workers from starting."""
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._work, args=(worker,), daemon=True) for worker in self._workers
            ]
            for thread in self._threads:
                thread.start()
        limit = ahead or 2 * len(self._workers)
        this = _Round()
        waiting = iter(requests)
        n_out = 0
        more = True
        try:
            while more or n_out:
                while more and n_out < limit:
                    request = next(waiting, None)
                    more = request is not None
                    if request is not None:
                        self._tasks.put((this, request))
                        n_out += 1
                if not n_out:
                    break
                found = this.next(stop)
                if found is None:
                    return
                request, outcome = found
                n_out -= 1
                if isinstance(outcome, BaseException):
                    raise outcome
                yield request, outcome
        finally:
            this.over = True

    def _work(self, worker: Worker) -> None:
        while (task := self._tasks.get()) is not None:
            this, request = task
            if this.over:
                continue
            try:
                outcome: Outcome | BaseException = worker.ask(request, time_s=request.get("time_s"))
            except HaganeError as error:
                outcome = error
            except Exception as error:  # a request that is not JSON: the caller's mistake, said there
                outcome = error
            this.done.put((request, outcome))

    def close(self) -> None:
        """End all workers, whatever they do."""
        for _ in self._threads:
            self._tasks.put(None)
        for worker in self._workers:
            worker.close()
        for thread in self._threads:
            thread.join(timeout=5.0)
        self._threads = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Round:
    """One call of `map`."""

    def __init__(self) -> None:
        self.done: queue.SimpleQueue[tuple[Request, Outcome | BaseException]] = queue.SimpleQueue()
        self.over = False

    def next(self, stop: Callable[[], bool] | None) -> tuple[Request, Outcome | BaseException] | None:
        """The next one that is done; None once `stop()` is true."""
        if stop is None:
            return self.done.get()
        while not stop():
            try:
                return self.done.get(timeout=LOOK_S)
            except queue.Empty:
                continue
        return None


__all__ = ["Failure", "Outcome", "Worker", "WorkerPool"]
