"""The parent's side of a worker process: limits, streaming, failures, restarts.

Why not threads or multiprocessing: parsers and engines are native code that hangs, eats memory and
crashes; and nothing is ever pickled. A hang is ended after `time_s`. Memory is watched by the parent
(resident bytes every 50 ms: what the machine feels, unlike address space, which model files and arenas
inflate); because a burst can outrun the watch, the kernel also refuses private memory beyond twice the limit
(RLIMIT_DATA). Either way the outcome is a `Failure` and a fresh process.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from ..core import errors, log
from ..core.errors import HaganeError, ModelError, SourceError, StateError
from . import frames

_WATCH_S = 0.05
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TAIL_BYTES = 8_192
_log = log.get("jobs.process")

# What a worker may know of our environment: never secrets (they stand in variables).
_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT",
    "HAGANE_LOG", "PYTHONDONTWRITEBYTECODE",
)  # fmt: skip
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "NUMEXPR_NUM_THREADS")

Reason = Literal["timeout", "memory", "crashed", "error"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no result. `detail` names a limit, a signal or an error's class, never content;
    `word` is the reason of a SourceError."""

    reason: Reason
    detail: str = ""
    word: str = ""


Outcome = dict[str, Any] | Failure


class _Failed(Exception):
    def __init__(self, failure: Failure, said: Mapping[str, Any] | None = None) -> None:
        super().__init__(failure.reason)
        self.failure = failure
        self.said = said or {}


class Worker:
    """One child process that answers one request at a time; started at the first one, again after a failure.

    `target` is "module:function". `init`: the target is a factory, called once in the child
    with this mapping, and gives an object with a method `handle(request)` or a function.
    `time_s`: how long a result, or the next item of a stream, may take. `memory_bytes`: resident bytes.
    `threads`: what native libraries of the child may use. `env`: variables beyond a short list of harmless ones.
    """

    def __init__(
        self,
        target: str,
        *,
        time_s: float = 60.0,
        memory_bytes: int | None = None,
        init: Mapping[str, Any] | None = None,
        threads: int = 1,
        nice: int = 0,
        start_s: float = 120.0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.target = target
        self._time_s = time_s
        self._memory_bytes = memory_bytes
        self._init = None if init is None else dict(init)
        self._threads = threads
        self._nice = nice
        self._start_s = start_s
        self._env = dict(env or {})
        self._turn = threading.Lock()
        self._child: _Child | None = None
        self._number = 0
        self._closed = False
        self.last_stderr = b""  # the end of what an ended child printed: for a debugger's eyes, it may hold content

    @property
    def pid(self) -> int | None:
        """The child's process id, if it runs."""
        child = self._child
        return child.process.pid if child else None

    def ask(self, request: Mapping[str, Any], *, time_s: float | None = None) -> Outcome:
        """The one result of a request (a dict; top-level values may be bytes), or why there is none.
        Raises: the error that kept the worker from starting (ModelError, MissingExtraError, StateError)."""
        with self._turn:
            try:
                number = self._send(request, time_s or self._time_s)
                kind, body = self._receive(number, time_s or self._time_s)
            except _Failed as failed:
                return failed.failure
            if kind != "result":
                self._end()
                return Failure("error", "streams, but one result was asked for")
            if self._grown():
                self._end()
            return body

    def call(self, request: Mapping[str, Any], *, time_s: float | None = None) -> Iterator[dict[str, Any]]:
        """The items that the function yields, as they come (a plain result is one item). Closing the
        iterator stops the child at its next item. Other callers wait for their turn until then.
        Raises: ModelError when the child fails (the next call starts a fresh one); the house's own
        errors as they were raised in the child."""
        with self._turn:
            number = None
            try:
                number = self._send(request, time_s or self._time_s)
                while True:
                    kind, body = self._receive(number, time_s or self._time_s)
                    if kind == "end":
                        number = None
                        return
                    if kind == "result":
                        number = None
                    yield body
                    if number is None:
                        return
            except _Failed as failed:
                number = None
                raise _error(self.target, failed) from None
            finally:
                if number is not None and self._child is not None:
                    with contextlib.suppress(frames.BrokenFrames):
                        self._child.write(frames.pack("stop", number, {}), self._time_s)

    def start(self) -> None:
        """Start the child now (it is started at the first request otherwise). Raises: as `ask`."""
        with self._turn:
            self._ready()

    def close(self) -> None:
        """End the child, whatever it does. Fine to call from another thread and twice."""
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()  # whoever has the turn sees it end
        with self._turn:
            self._end()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside a turn

    def _ready(self) -> _Child:
        if self._closed:
            raise StateError("this worker is closed")
        if self._child is not None and self._child.process.poll() is not None:
            self._end()
        if self._child is None:
            self._child = _Child(self.target, threads=self._threads, env=self._env)
            if self._closed:  # `close` came before it could see the child
                self._end()
                raise StateError("this worker is closed")
            how = {"init": self._init, "nice": self._nice}
            if self._memory_bytes:
                how["data_bytes"] = 2 * self._memory_bytes
            try:
                self._child.write(frames.pack("hello", 0, how), self._start_s)
                self._receive(0, self._start_s)
            except (frames.BrokenFrames, _Failed) as cause:
                failed = cause if isinstance(cause, _Failed) else _Failed(Failure("crashed", "at its start"))
                self._end()
                if self._closed:
                    raise StateError("this worker is closed") from None
                raise _start_error(self.target, failed) from None
        return self._child

    def _send(self, request: Mapping[str, Any], time_s: float) -> int:
        child = self._ready()
        self._number += 1
        frame = frames.pack("ask", self._number, dict(request))
        try:
            sent = child.write(frame, time_s)
        except frames.BrokenFrames:  # it died between two requests: once more with a fresh one
            self._end()
            child = self._ready()
            try:
                sent = child.write(frame, time_s)
            except frames.BrokenFrames:
                raise self._fail(self._cause_of_death(child)) from None
        if not sent:
            raise self._fail(Failure("timeout", f"did not take the request for {time_s:g} s"))
        return self._number

    def _receive(self, number: int, time_s: float) -> tuple[str, dict[str, Any]]:
        """The next frame of request `number` that is no error. Raises: _Failed; the child is then ended,
        unless it said itself that the request failed."""
        child = self._child
        assert child is not None
        deadline = time.monotonic() + time_s
        while True:
            try:
                frame = child.next_frame()
            except frames.BrokenFrames:
                raise self._fail(self._cause_of_death(child)) from None
            if frame is None:
                child.wait(min(_WATCH_S, max(0.0, deadline - time.monotonic())))
                if self._too_big(child):
                    raise self._fail(Failure("memory", f"more than {(self._memory_bytes or 0) >> 20} MiB"))
                if time.monotonic() >= deadline and not child.readable():
                    raise self._fail(Failure("timeout", f"more than {time_s:g} s"))
                continue
            kind, which, body = frame
            if which != number:
                continue  # of a request that nobody waits for any more
            if kind in ("error", "broken"):
                if kind == "broken" or body["memory"]:
                    self._end()
                reason: Reason = "memory" if body["memory"] else "error"
                raise _Failed(Failure(reason, body["class"], body.get("word") or ""), body)
            return kind, body

    def _too_big(self, child: _Child) -> bool:
        return bool(self._memory_bytes) and child.resident_bytes() > (self._memory_bytes or 0)

    def _grown(self) -> bool:
        """True when the child holds so much that the next request would be judged by what others left.
        What it held after its first request (libraries, models) is no growth."""
        child, limit = self._child, self._memory_bytes
        if not limit or child is None:
            return False
        now = child.resident_bytes()
        child.first_bytes = child.first_bytes or now
        return now > limit * 3 // 4 or (now > limit // 2 and now - child.first_bytes > limit // 4)

    def _cause_of_death(self, child: _Child) -> Failure:
        code = child.ended()
        near = self._memory_bytes and child.peak_bytes > 0.8 * self._memory_bytes
        if near:
            return Failure("memory", f"ended near {(self._memory_bytes or 0) >> 20} MiB")
        if code < 0:
            return Failure("crashed", signal.Signals(-code).name)
        return Failure("crashed", f"exit {code}")

    def _fail(self, failure: Failure) -> _Failed:
        _log.info("worker failed", target=self.target, reason=failure.reason, detail=failure.detail)
        self._end()
        return _Failed(failure)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.dispose()
            self.last_stderr = child.stderr_tail()


class _Child:
    """The process, its pipes and the thread that drains its stderr."""

    def __init__(self, target: str, *, threads: int, env: Mapping[str, str]) -> None:
        lifeline, self._hold = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "hagane.jobs.worker", target, str(lifeline)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(lifeline,),
                process_group=0,  # Ctrl-C in the terminal is for us, not for it
                env=_environment(threads, env),
            )
        except BaseException:
            os.close(self._hold)
            raise
        finally:
            os.close(lifeline)
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        self._requests = self.process.stdin.fileno()
        self._replies = self.process.stdout.fileno()
        os.set_blocking(self._requests, False)
        os.set_blocking(self._replies, False)
        self._buffer = bytearray()
        self.peak_bytes = 0
        self.first_bytes = 0
        self._errors: deque[bytes] = deque(maxlen=_TAIL_BYTES // 1024)
        self._draining = threading.Thread(target=self._drain, args=(self.process.stderr,), daemon=True)
        self._draining.start()

    def _drain(self, stream: Any) -> None:
        """Keep the end of what it says; never shown or logged, since a library may print content."""
        with contextlib.suppress(OSError, ValueError), stream:
            while part := stream.read(1024):
                self._errors.append(part)

    def stderr_tail(self) -> bytes:
        self._draining.join(timeout=1.0)
        return b"".join(self._errors)[-_TAIL_BYTES:]

    def readable(self) -> bool:
        return bool(select.select([self._replies], [], [], 0)[0])

    def wait(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        poll.poll(int(seconds * 1000))

    def write(self, frame: bytes, time_s: float) -> bool:
        """Send `frame`, taking in what comes meanwhile; False when the process does not take it in time.
        Raises: BrokenFrames when the process ended."""
        view = memoryview(frame)
        deadline = time.monotonic() + time_s
        poll = select.poll()
        poll.register(self._requests, select.POLLOUT)
        poll.register(self._replies, select.POLLIN)
        while view:
            try:
                view = view[os.write(self._requests, view) :]
                continue
            except BlockingIOError:
                pass
            except OSError as cause:
                raise frames.BrokenFrames("ended") from cause
            if time.monotonic() >= deadline:
                return False
            poll.poll(int(_WATCH_S * 1000))
            self._take_in()
        return True

    def next_frame(self) -> tuple[str, int, dict[str, Any]] | None:
        """The next whole frame, None while it has not come. Raises: BrokenFrames when the process ended."""
        frame = self._take()
        while frame is None and self._take_in():
            frame = self._take()
        return frame

    def _take_in(self) -> bool:
        """Move what has come into the buffer; False when nothing has. Raises: BrokenFrames at the end."""
        try:
            part = os.read(self._replies, 1 << 20)
        except BlockingIOError:
            return False
        except OSError as cause:
            raise frames.BrokenFrames("closed") from cause
        if not part:
            raise frames.BrokenFrames("ended")
        self._buffer += part
        return True

    def _take(self) -> tuple[str, int, dict[str, Any]] | None:
        if len(self._buffer) < 8:
            return None
        n_head, n_payload = frames.lengths(bytes(self._buffer[:8]))
        end = 8 + n_head + n_payload
        if len(self._buffer) < end:
            return None
        frame = frames.unpack(bytes(self._buffer[8 : 8 + n_head]), bytes(self._buffer[8 + n_head : end]))
        del self._buffer[:end]
        return frame

    def resident_bytes(self) -> int:
        """Resident memory of the process; 0 when it cannot be read (ended, or no /proc here)."""
        try:
            with open(f"/proc/{self.process.pid}/statm", "rb") as statm:
                now = int(statm.read().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError, ValueError):
            return 0
        self.peak_bytes = max(self.peak_bytes, now)
        return now

    def ended(self) -> int:
        """The exit code of a process whose pipe broke."""
        try:
            return self.process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.wait()

    def kill(self) -> None:
        """End the process; its pipes stay ours, so another thread may still be reading them."""
        self.process.kill()

    def dispose(self) -> None:
        """End the process and give everything back. Only in the worker's turn."""
        self.kill()
        self.process.wait()
        os.close(self._hold)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _environment(threads: int, env: Mapping[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    kept |= {name: str(threads) for name in _THREADS}
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    kept["PYTHONUTF8"] = "1"
    return kept | dict(env)


def _rebuilt(said: Mapping[str, Any]) -> HaganeError | None:
    """The house's own error as the child raised it."""
    kind = getattr(errors, said.get("class", ""), None)
    if "message" not in said or not (isinstance(kind, type) and issubclass(kind, HaganeError)):
        return None
    if issubclass(kind, SourceError):
        return kind(said["message"], reason=said.get("word") or "damaged", hint=said.get("hint"))
    return kind(said["message"], hint=said.get("hint"))


def _error(target: str, failed: _Failed) -> HaganeError:
    own = _rebuilt(failed.said)
    if own is not None:
        return own
    why = f"{failed.failure.reason} ({failed.failure.detail})"
    return ModelError(f"the worker {target} failed: {why}", hint="the next request starts a fresh one")


def _start_error(target: str, failed: _Failed) -> HaganeError:
    own = _rebuilt(failed.said)
    if own is not None:
        return own
    return StateError(f"the worker {target} did not start: {failed.failure.reason} ({failed.failure.detail})")
