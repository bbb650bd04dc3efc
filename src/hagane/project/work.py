"""Work in the background: jobs that the server does one after the other, and does again when it was killed.

id = submit(project, "sync", {}, by=caller.principal)
worker = Worker(project)
worker.start()
...
worker.stop(timeout=20)     # a running job ends at its next safe place and waits for the next start
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from hagane.core.errors import HaganeError, NotFoundError, RefusedError, StateError, StoppedError, UsageError
from hagane.core.labels import Label
from hagane.core.log import get
from hagane.core.types import Principal
from hagane.ledger.access import OWNER
from hagane.ledger.lock import Busy
from hagane.ledger.queue import Job
from hagane.rag.ingest import Emit

from . import documents, uploads
from .wire import Project

LOOK_S = 1.0  # how often the worker looks for jobs of other processes, and whether its own was cancelled
TELL_S = 0.5  # progress goes into the row at most this often
FIRST = 50  # of a long list in a finished job

log = get("project.work")


class Kind(Protocol):
    """What does a job: JSON in, JSON out; safe to run again; ends with StoppedError once `stop()` is true."""

    def __call__(self, project: Project, args: Mapping[str, Any], *, by: Principal, emit: Emit, stop: Callable[[], bool]) -> Mapping[str, Any]: ...


def _sync(project: Project, args: Mapping[str, Any], *, by: Principal, emit: Emit, stop: Callable[[], bool]) -> Mapping[str, Any]:
    project.reload()  # hagane.yaml may have been changed since
    report = documents.sync(project, by=by, emit=emit, stop=stop, **args)
    return {"report": {name: _short(value) for name, value in documents.report_shown(report).items()}}


def _settle(project: Project, args: Mapping[str, Any], *, by: Principal, emit: Emit, stop: Callable[[], bool]) -> Mapping[str, Any]:
    with project.ledger.only_writer():
        documents.settle(project)
    return {}


def _train(project: Project, args: Mapping[str, Any], *, by: Principal, emit: Emit, stop: Callable[[], bool]) -> Mapping[str, Any]:
    from . import training

    project.reload()
    file = training.file_in(project, args["file"], by=by)
    if (wanted := args.get("sha256")) and hashlib.sha256(file.read_bytes()).hexdigest() != wanted:
        raise StateError("the train.yaml was changed after its training was queued", hint="start it again as it is now")
    return training.train(project, file, args.get("stage", "all"), by=by, emit=emit, stop=stop, again=bool(args.get("again")))


def _export(project: Project, args: Mapping[str, Any], *, by: Principal, emit: Emit, stop: Callable[[], bool]) -> Mapping[str, Any]:
    from . import training_export

    return training_export.export(project, args["name"], by=by, emit=emit, stop=stop, numbers=tuple(args.get("numbers") or ()))


KINDS: Mapping[str, tuple[Kind, frozenset[str]]] = {  # kind -> what does it, and the arguments that it takes
    "sync": (_sync, frozenset({"yes", "words_only"})),
    "settle": (_settle, frozenset()),  # the index learns labels that changed while a sync ran
    "train": (_train, frozenset({"file", "stage", "again", "sha256"})),
    "export": (_export, frozenset({"name", "numbers"})),
}
LONG = frozenset({"train", "export"})  # hours: they have a thread of their own, so that reading goes on meanwhile


def submit(project: Project, kind: str, args: Mapping[str, Any], *, by: Principal, label: Label | None = None) -> str:
    """Put a job into the queue; its id. An equal one that waits already is the same one. `label`: of what the job
    tells (default: all that `by` may see). Raises: UsageError, AuditError."""
    if kind not in KINDS:
        raise UsageError(f"no job is called {kind!r}", hint=f"one of {', '.join(KINDS)}")
    if unknown := set(args) - KINDS[kind][1]:
        raise UsageError(f"a {kind} does not take {', '.join(sorted(unknown))}")
    project.ledger.audit.record("job.submit", principal=by.name, kind=kind)
    return project.ledger.queue.add(kind, args, user=by.name, label=all_seen_by(project, by) if label is None else label)


def jobs(project: Project, *, by: Principal, limit: int = 100) -> list[dict[str, Any]]:
    """The jobs whose label flows to `by`, newest first, as JSON."""
    return [shown(job) for job in project.ledger.queue.every(clearance=by.clearance, limit=limit)]


def job(project: Project, id: str, *, by: Principal) -> dict[str, Any]:
    """One job as JSON. Raises: NotFoundError, also above the clearance."""
    return shown(project.ledger.queue.get(id, clearance=by.clearance))


def cancel(project: Project, id: str, *, by: Principal) -> None:
    """End a job: a running one at its next safe place, and what it did is kept.
    Raises: NotFoundError; StateError when it has ended; AuditError."""
    project.ledger.queue.get(id, clearance=by.clearance)
    project.ledger.audit.record("job.cancel", principal=by.name, job=id)
    project.ledger.queue.cancel(id, clearance=by.clearance)


def shown(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    names = ("id", "kind", "state", "user", "error", "created_at", "started_at", "ended_at")
    progress = {name: value for name, value in job.progress.items() if name != "starts"}
    return {name: getattr(job, name) for name in names} | {"label": str(job.label), "args": dict(job.args), "progress": progress}


def all_seen_by(project: Project, by: Principal) -> Label:
    """The label of something that may hold whatever `by` may see."""
    clearance = by.clearance
    every = frozenset(project.config.labels.compartments) if clearance.all_compartments else clearance.compartments
    return Label(clearance.level, every)


def catch_up(project: Project) -> str | None:
    """Queue a sync for uploads that came or left without one, because the process died in between; its id."""
    names = uploads.unread(project)
    for name in [*names, *([OWNER] if names else [])]:
        with contextlib.suppress(NotFoundError, RefusedError):  # that person left meanwhile
            return submit(project, "sync", {}, by=project.principal(name))
    return None


class Worker:
    """The threads that do the jobs of a project, one after the other: one for the long kinds, one for the others. One
    worker per project: its process holds the writer lock, so a job that is marked as running when it starts was left
    behind by a process that died."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._queue = project.ledger.queue
        self._ending = threading.Event()
        ways = (("hagane-work", frozenset(KINDS) - LONG), ("hagane-long", LONG))
        self._threads = [threading.Thread(target=self._run, args=(kinds,), name=name, daemon=True) for name, kinds in ways]

    def start(self) -> None:
        """Raises: StorageError, AuditError."""
        self._queue.again()
        catch_up(self._project)
        for thread in self._threads:
            thread.start()

    def end_soon(self) -> None:
        """Take no more jobs, and ask the running one to end; it waits for the next start."""
        self._ending.set()
        self._queue.added.set()

    def stop(self, timeout: float | None = None) -> bool:
        """`end_soon`, and wait for it; whether it ended."""
        self.end_soon()
        end = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, kinds: Collection[str]) -> None:
        while not self._ending.is_set():
            self._queue.added.clear()
            try:
                found = self._queue.take(kinds)
                if found is not None:
                    self._do(found)
                    continue
            except HaganeError as error:  # the disk is full, the audit cannot be written: the job waits
                log.warning("worker", error=type(error).__name__)
            self._queue.added.wait(LOOK_S)

    def _do(self, job: Job) -> None:
        """Run one job and note how it ended."""
        starts = {"starts": job.progress.get("starts", 1)}
        told = _Told(lambda event: self._queue.tell(job.id, {**starts, **event}))
        try:
            by = self._project.principal(job.user)
            result = KINDS[job.kind][0](self._project, job.args, by=by, emit=told, stop=_Stop(self, job.id))
        except StoppedError:
            if self._ending.is_set():
                self._queue.again(job.id)
            else:
                self._queue.end(job.id, "cancelled", progress=told.last)
        except Busy:  # another process writes: wait for it
            self._queue.again(job.id)
            self._ending.wait(LOOK_S)
        except HaganeError as error:
            self._queue.end(job.id, "failed", progress=told.last, error=" ".join(filter(None, (str(error), error.hint))))
        except Exception as mistake:  # ours: its message may hold content, so only its kind is said
            log.warning("job", job=job.id, kind=job.kind, error=type(mistake).__name__)
            self._queue.end(job.id, "failed", progress=told.last, error=f"hagane made a mistake ({type(mistake).__name__})")
        else:
            self._queue.end(job.id, "done", progress=result)


class _Told:
    """Passes events on, at most one in TELL_S; `last` is the newest."""

    def __init__(self, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self._tell = tell
        self._at = 0.0
        self.last: Mapping[str, Any] = {}

    def __call__(self, event: Mapping[str, Any]) -> None:
        self.last = event
        if time.monotonic() - self._at >= TELL_S:
            self._at = time.monotonic()
            self._tell(event)


class _Stop:
    """Whether a job is to end: the worker ends, or someone cancelled the job, here or in another process."""

    def __init__(self, worker: Worker, job: str) -> None:
        self._worker = worker
        self._job = job
        self._looked = time.monotonic()
        self._cancelled = False

    def __call__(self) -> bool:
        if not self._cancelled and time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            self._cancelled = not self._worker._queue.is_running(self._job)
        return self._cancelled or self._worker._ending.is_set()


def _short(value: Any) -> Any:
    """A list as its length and its first entries."""
    return {"n": len(value), "first": value[:FIRST]} if isinstance(value, list) else value
