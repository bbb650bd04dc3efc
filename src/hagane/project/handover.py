"""Writing commands beside a server: handed to it through a socket in .hagane, with the same output and exit code.

JSON lines. The command asks {"verb", "args", "as"}; the server tells {"event": ...} as it goes on, and last
{"done": ...} or {"error": ...}. Whoever may read and write the project's folder may ask: the socket is for its
owner only, and the kernel says who is at the other end. When the command goes away (Ctrl-C), its work is stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hagane.core import errors
from hagane.core.errors import HaganeError, StateError, StorageError, UsageError
from hagane.core.log import get
from hagane.core.types import Principal
from hagane.ledger.lock import Busy, Holder
from hagane.rag.ingest import Emit

from . import documents
from .backup import backup
from .wire import Project

SOCKET = "server.sock"
LONGEST_PATH = 100  # bytes; the kernel takes 107
LONGEST = 4_000_000  # bytes of a line
SILENT_S = 10.0  # a command says what it wants, and takes what it is told, within this time
AT_ONCE = 16
AGAIN_S = 0.2
ROOT = 0

log = get("project.handover")

Verb = Callable[..., Mapping[str, Any]]


def _sync(project: Project, args: Mapping[str, Any], *, by: Principal, emit: Emit, stop: Callable[[], bool]) -> Mapping[str, Any]:
    report = documents.sync(project, by=by, yes=args["yes"], words_only=args["words_only"], emit=emit, stop=stop)
    return documents.report_shown(report)


def _add(project: Project, args: Mapping[str, Any], *, by: Principal, emit: Emit, stop: Callable[[], bool]) -> Mapping[str, Any]:
    turn = project.ledger.only_writer() if project.ledger.writer.is_kept else contextlib.nullcontext()
    with turn:  # two that add at once would lose one's lines of hagane.yaml
        documents.add(project, [Path(path) for path in args["paths"]], label=args["label"], name=args["name"])
        return _sync(project, args, by=by, emit=emit, stop=stop)


def _label(project: Project, args: Mapping[str, Any], *, by: Principal, emit: Emit, stop: Callable[[], bool]) -> Mapping[str, Any]:
    return documents.relabel(project, args["doc"], args["to"], by=by, reason=args["reason"])


def _approve(project: Project, args: Mapping[str, Any], *, by: Principal, emit: Emit, stop: Callable[[], bool]) -> Mapping[str, Any]:
    return documents.approve(project, args["request"], by=by)


def _backup(project: Project, args: Mapping[str, Any], *, by: Principal, emit: Emit, stop: Callable[[], bool]) -> Mapping[str, Any]:
    return backup(project, Path(args["to"]), by=by, index=args["index"], emit=emit)


VERBS: Mapping[str, tuple[Verb, bool]] = {  # verb -> what does it, and whether doing it twice is doing it once
    "sync": (_sync, True),
    "add": (_add, True),
    "label": (_label, False),
    "approve": (_approve, False),
    "backup": (_backup, True),
}


# --- the command


def carry_out(
    project: Project, verb: str, args: Mapping[str, Any], *, as_: str | None, emit: Emit,
    waiting: Callable[[Holder], None] | None,
) -> Mapping[str, Any]:  # fmt: skip
    """Do a writing verb here, or by the server that runs on this project; the same result. While another command
    writes: `waiting` is told once who, then it is waited for; None: Busy is raised instead.
    Raises: what the verb raises."""
    do, idempotent = VERBS[verb]
    if not idempotent:
        project.require_synced()
    writer = project.ledger.writer
    told: set[int] = set()

    def wait(holder: Holder) -> None:
        if holder.socket:
            raise Busy(holder)  # a server has come: ask it
        if holder.pid not in told and waiting is not None:
            told.add(holder.pid)
            waiting(holder)

    writer.waits = wait if waiting is not None else None
    try:
        while True:
            holder = writer.holder()
            try:
                if holder is not None and holder.socket:
                    return _ask(project, holder, {"verb": verb, "args": dict(args), "as": as_}, emit=emit)
                return do(project, args, by=project.principal(as_), emit=emit, stop=lambda: False)
            except Busy as busy:
                if not busy.holder.socket:
                    raise
            except _Ended as ended:  # the server ended meanwhile, or is only starting
                if ended.begun and not idempotent:
                    raise StateError("the server ended before it answered", hint="look whether it was done: hagane docs, hagane label list") from ended
            time.sleep(AGAIN_S)
    finally:
        writer.waits = None


class _Ended(Exception):
    """The server is gone. `begun`: it may have done something."""

    def __init__(self, *, begun: bool) -> None:
        self.begun = begun


def _ask(project: Project, holder: Holder, wanted: Mapping[str, Any], *, emit: Emit) -> Mapping[str, Any]:
    """What the server says that it did. Raises: the verb's error; _Ended."""
    with _plug() as plug:
        try:
            with _reachable(project.state) as path:
                plug.connect(path)
            plug.sendall(json.dumps(wanted).encode() + b"\n")
        except OSError as cause:
            if isinstance(cause, PermissionError):
                raise StateError(f"the server ({holder}) does not let you in", hint="run the command as the user that runs the server") from cause
            raise _Ended(begun=False) from cause
        for said in _lines(plug):
            if "event" in said:
                emit(said["event"])
            elif "error" in said:
                if said["error"]["code"] == "stopped":
                    raise _Ended(begun=True)
                raise _error(said["error"])
            else:
                return said["done"]
    raise _Ended(begun=True)


def _lines(plug: socket.socket) -> Iterator[dict[str, Any]]:
    with plug.makefile("rb") as stream, contextlib.suppress(OSError):
        while line := stream.readline(LONGEST):
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)


def _error(said: Mapping[str, Any]) -> HaganeError:
    """The server's error, with its exit code."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HaganeError)]
    made = HaganeError(said["message"], hint=said["hint"])
    found = next((kind for kind in kinds if kind.code == said["code"]), HaganeError)
    made.exit_code, made.http_status, made.code = found.exit_code, found.http_status, found.code  # type: ignore[misc]
    return made


# --- the server


class Listener:
    """Takes commands at the project's socket until it is closed. Its process keeps the writer lock."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._ending = threading.Event()
        self._free = threading.BoundedSemaphore(AT_ONCE)
        self._plug = _plug()
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, name="hagane-handover", daemon=True)

    def start(self) -> None:
        """Raises: StorageError when the socket cannot be made."""
        try:
            (self._project.state / SOCKET).unlink(missing_ok=True)  # ours is the lock, so a dead server left it
            with _reachable(self._project.state) as path:
                self._plug.bind(path)
            (self._project.state / SOCKET).chmod(0o600)
            self._plug.listen(AT_ONCE)
        except OSError as cause:
            raise StorageError(f"{self._project.state / SOCKET}: {cause.strerror}", hint="check space and rights of .hagane") from cause
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Take no more commands, ask those under way to end and wait for them."""
        self._ending.set()
        with contextlib.suppress(OSError):
            self._plug.shutdown(socket.SHUT_RDWR)
        self._plug.close()
        end = time.monotonic() + timeout
        for thread in [self._thread, *self._threads]:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))
        with contextlib.suppress(OSError):
            (self._project.state / SOCKET).unlink(missing_ok=True)

    def _accept(self) -> None:
        while not self._ending.is_set():
            self._free.acquire()
            try:
                plug, _ = self._plug.accept()
            except OSError:
                return  # closed
            thread = threading.Thread(target=self._serve, args=(plug,), name="hagane-handed", daemon=True)
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            thread.start()

    def _serve(self, plug: socket.socket) -> None:
        try:
            with plug:
                plug.settimeout(SILENT_S)
                with contextlib.suppress(OSError):
                    self._answer(plug)
        finally:
            self._free.release()

    def _answer(self, plug: socket.socket) -> None:
        if not _is_ours(plug):
            return
        try:
            _tell(plug, {"done": self._do(plug, next(_lines(plug), {}))})
        except HaganeError as error:
            _tell(plug, {"error": {"code": error.code, "message": str(error), "hint": error.hint}})
        except OSError:
            raise
        except Exception as mistake:  # ours: its message may hold content, so only its kind is said
            log.warning("handed", error=type(mistake).__name__)
            _tell(plug, {"error": {"code": "error", "message": f"hagane made a mistake ({type(mistake).__name__})",
                                   "hint": "see the server's log"}})  # fmt: skip

    def _do(self, plug: socket.socket, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        verb = wanted.get("verb")
        if verb not in VERBS:
            raise UsageError(f"this server has no verb {verb!r}", hint="command and server are of different versions")
        self._project.reload()  # hagane.yaml may have been changed since
        by = self._project.principal(wanted["as"])
        gone = _Gone(plug)

        def emit(event: Mapping[str, Any]) -> None:
            try:
                _tell(plug, {"event": dict(event)})
            except OSError:
                gone.noticed = True

        return VERBS[verb][0](self._project, wanted["args"], by=by, emit=emit, stop=lambda: self._ending.is_set() or gone())


class _Gone:
    """Whether the command at the other end went away."""

    def __init__(self, plug: socket.socket) -> None:
        self._plug = plug
        self.noticed = False

    def __call__(self) -> bool:
        if not self.noticed:
            look = select.poll()  # not select(): a busy server has more than 1,024 open files
            look.register(self._plug, select.POLLIN)
            self.noticed = bool(look.poll(0))  # it says nothing more, so that can only be its end
        return self.noticed


def _tell(plug: socket.socket, said: Mapping[str, Any]) -> None:
    plug.sendall(json.dumps(said).encode() + b"\n")


def _is_ours(plug: socket.socket) -> bool:
    """Whether the same user, or root, is at the other end. Where the kernel does not say, the socket's rights count."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    _, uid, _ = struct.unpack("3i", plug.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return uid in (os.geteuid(), ROOT)


def _plug() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | getattr(socket, "SOCK_CLOEXEC", 0))


@contextlib.contextmanager
def _reachable(state: Path) -> Iterator[str]:
    """A path of the socket that is short enough for the kernel."""
    path = str(state / SOCKET)
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield path
        return
    handle = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)
