"""A stage of train.yaml from rows to a model on disk, and the child process that does it.

    made = run_stage(job, documents=rows, emit=print, stop=lambda: False)

Nothing here knows the project: `job` (JSON) names folders, `documents` are rows that the parent sent. What is killed at
any instant and started again with the same job goes on, and ends with the same bits on the CPU.
"""

from __future__ import annotations

import io
import json
import queue
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from hagane.core.seams import Sealer
from hagane.core.whole_file import private_folder

from .cleaned import as_row
from .place import Log, Place
from .spec import Stage, TrainFile

Emit = Callable[[Mapping[str, Any]], None]
Stop = Callable[[], bool]
Documents = Callable[[], Iterable[Any]]  # rows (train.words.Row), the same ones each time
BEAT_S = 0.5  # a sign of life at least this often: the parent can say stop behind each


def run_stage(
    job: Mapping[str, Any], *, documents: Documents, emit: Emit, stop: Stop, sealer: Sealer | None = None
) -> dict[str, Any]:
    """Do one stage, or export what one made; the result as JSON ("made" of state.json). `sealer`: of an encrypted project.

    `job`: file (a TrainFile as JSON), stage, run (folder of this stage), runs (folder of all stages), root (that files
    are relative to), labels (of files), base, datasets, threads, flops_per_s, samples. Of an export: see stage_export.
    Raises: what the workshops raise; StoppedError once `stop()` is true and the last step is kept.
    """
    if job["stage"] == "export":
        from .stage_export import export

        return export(job, emit=emit, stop=stop, sealer=sealer)
    spec, stage = TrainFile.model_validate(job["file"]), job["stage"]
    _possible(spec, stage)
    place = Place(Path(job["run"]))
    private_folder(place.folder)
    log = Log(place.events, bare=not job["samples"])
    if stage == "tokenizer":
        from .stage_tokenizer import make

        return make(spec, job, documents=documents, place=place, emit=_both(log, emit))
    from .stage_model import Training

    return Training(spec, stage, job, place=place, log=log, emit=emit, stop=stop, sealer=sealer).go(documents)


def _both(log: Log, emit: Emit) -> Emit:
    def tell(event: Mapping[str, Any]) -> None:
        log.write(event)
        emit(event)

    return tell


def _possible(spec: TrainFile, stage: Stage) -> None:
    """Raises: ConfigError for a switch that is not built yet: it is said, not ignored."""
    told = spec.training_of(stage)
    if told.numbers == "fp8":
        from hagane.train.fp8 import check_here

        check_here()


class StageWorker:
    """The child: takes the rows of documents, then does the stage and tells of it as it goes on."""

    def __init__(self, keys: Mapping[str, Any] | None = None) -> None:
        """`keys`: of an encrypted project (`Keys.for_workers`): then no text touches the disk in the open."""
        self._sealer: Sealer | None = None
        self._rows: IO[bytes] = io.BytesIO()
        if keys is not None:
            from .data_seal import DataSealer

            self._sealer = DataSealer.of_worker(keys)
        else:
            self._rows = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - lives as long as the process; has no name on disk
        self._made: dict[str, Any] | None = None

    def handle(self, request: dict[str, Any]) -> Any:
        """{"do": "rows", "rows"}; {"do": "stage", "job"} gives events as they come; {"do": "rest"} waits for its end."""
        if request["do"] == "rows":
            for row in request["rows"]:
                self._rows.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
            return {}
        if request["do"] == "rest":
            return {"made": self._made}
        return self._stage(request["job"])

    def _documents(self) -> Iterator[Any]:
        self._rows.flush()
        at = 0
        while True:
            self._rows.seek(at)
            line = self._rows.readline()
            if not line:
                return
            at += len(line)
            yield as_row(json.loads(line))

    def _stage(self, job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Events of the work, which goes on in a thread; closing this asks it to stop and waits for its checkpoint."""
        told: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()
        ending = threading.Event()

        def work() -> None:
            try:
                self._made = run_stage(
                    job, documents=self._documents, emit=lambda event: told.put(dict(event)), stop=ending.is_set, sealer=self._sealer
                )
                told.put({"event": "made", "made": self._made})
            except BaseException as error:
                told.put(error)
            else:
                told.put(None)

        thread = threading.Thread(target=work, name="hagane-train")
        thread.start()
        try:
            while True:
                try:
                    item = told.get(timeout=BEAT_S)
                except queue.Empty:
                    yield {"event": "alive"}
                    continue
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            ending.set()
            thread.join()


def worker(init: Mapping[str, Any]) -> StageWorker:
    """The factory that the child calls (see jobs/process.py). `init`: {"keys"} or nothing."""
    return StageWorker(init.get("keys"))


def bunches(rows: Iterable[Mapping[str, Any]], *, characters: int = 1_000_000) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Rows in frames of about so many characters."""
    bunch: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        bunch.append(row)
        size += len(row["text"])
        if size >= characters:
            yield bunch
            bunch, size = [], 0
    if bunch:
        yield bunch

