"""A stage in a child process of its own, so that server and command line stay responsive, and no crash takes them along.

A stop (Ctrl-C, cancel, the server ends) is asked for behind the next event; the child keeps a checkpoint and ends.
When the parent is killed, the child goes with it: the next start goes on from the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hagane.core.errors import MissingExtraError, ModelError, StateError, StoppedError, StorageError
from hagane.jobs.local import Failure, Worker

from .run import bunches

TARGET = "hagane.builds.run:worker"
START_S = 300.0
SILENT_S = 6 * 3600.0  # the child's main thread says that it lives twice a second; a library may hold it for long
REST_S = 3600.0  # a step and a checkpoint of a large model
NEEDED = ("torch", "transformers", "tokenizers", "safetensors", "sentencepiece", "peft", "gguf")


def require_extra() -> None:
    """Raises: MissingExtraError when the packages of training are not installed."""
    from importlib.util import find_spec

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"training needs {', '.join(missing)}, which is not installed", hint="pip install 'hagane[train]'"
        )


def launch(
    job: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], *, emit: Callable[[Mapping[str, Any]], None],
    stop: Callable[[], bool], keys: Mapping[str, Any] | None = None, spawn: Callable[..., Worker] = Worker,
) -> dict[str, Any]:  # fmt: skip
    """What the stage made. `keys`: of an encrypted project, sent over the pipe. `rows`: {"source": DOCUMENT@VERSION, "line", "label", "text"} of the documents that it learns from.

    Raises: StoppedError once `stop()` was true and the work is kept; StateError when the child died; what the stage raises.
    """
    require_extra()
    worker = spawn(TARGET, init={"keys": keys}, time_s=SILENT_S, threads=max(1, job["threads"]), start_s=START_S)
    with worker:
        for bunch in bunches(rows):
            outcome = worker.ask({"do": "rows", "rows": list(bunch)})
            if isinstance(outcome, Failure):
                raise StateError(f"training could not take the documents: {outcome.reason}", hint="run the same command again")
        made = _told(worker, job, emit=emit, stop=stop)
        if made is None:
            outcome = worker.ask({"do": "rest"}, time_s=REST_S)
            made = None if isinstance(outcome, Failure) else outcome.get("made")
        if made is None:
            raise StoppedError("training was stopped; what was learnt is kept", hint="the same command goes on")
        return made


def _told(worker: Worker, job: Mapping[str, Any], *, emit: Callable[[Mapping[str, Any]], None], stop: Callable[[], bool]) -> dict[str, Any] | None:
    """Events passed on until the stage is done; None when it was asked to stop."""
    events = worker.call({"do": "stage", "job": dict(job)})
    try:
        for event in events:
            if event["event"] == "made":
                return dict(event["made"])
            if event["event"] != "alive":
                emit(event)
            if stop():
                return None
    except ModelError as cause:
        if worker.pid is not None or not str(cause).startswith("the worker "):
            raise
        raise StateError(
            f"the process that trained ended: {str(cause).rpartition('failed: ')[2]}",
            hint="run the same command again: it goes on from the last checkpoint; when memory was short, set training.micro_rows to 1",
        ) from cause
    finally:
        events.close()  # type: ignore[attr-defined]
    raise StorageError("training ended without a result", hint="run the same command again")
