"""Looks at originals through worker processes: bytes in, a picture or cells out. Pictures are kept in memory only.

What is kept is found by version and page; whether someone may see it is asked before, at each request.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from hagane.core.errors import NotFoundError, SourceError
from hagane.jobs.local import Failure, Worker

TARGET = "hagane.sources.render:handle"
TIME_S = 20.0
MEMORY_BYTES = 1_000_000_000
KEPT_BYTES = 48_000_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A page as PNG; width and height in the unit of the document's boxes (points, or pixels of the file)."""

    png: bytes
    width: float
    height: float


class Renderer:
    """Two workers, started when first needed. Safe for several threads. Close it when done."""

    def __init__(self) -> None:
        self._workers = [Worker(TARGET, time_s=TIME_S, memory_bytes=MEMORY_BYTES, nice=5) for _ in range(2)]
        self._next = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int], Picture] = OrderedDict()
        self._kept_bytes = 0

    def known(self, version: str, page: int, dpi: int) -> Picture | None:
        """The picture of a page that was made before."""
        with self._lock:
            found = self._kept.get((version, page, dpi))
            if found is not None:
                self._kept.move_to_end((version, page, dpi))
            return found

    def page(self, version: str, data: bytes, *, path: str, part: str, page: int, dpi: int) -> Picture:
        """A page as a picture. Raises: SourceError, NotFoundError for a page that is not there."""
        made = self._ask(op="page", data=data, path=path, part=part, page=page, dpi=dpi)
        picture = Picture(made["png"], made["width"], made["height"])
        with self._lock:
            before = self._kept.pop((version, page, dpi), None)
            self._kept_bytes += len(picture.png) - (len(before.png) if before else 0)
            self._kept[version, page, dpi] = picture
            while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._kept_bytes -= len(old.png)
        return picture

    def sheet(self, data: bytes, *, path: str, part: str, page: int, row: int) -> dict[str, Any]:
        """Rows of a worksheet. Raises: as `page`."""
        return self._ask(op="sheet", data=data, path=path, part=part, page=page, row=row)

    def part(self, data: bytes, *, path: str, part: str) -> bytes:
        """The bytes of a part of a container. Raises: as `page`."""
        return self._ask(op="bytes", data=data, path=path, part=part)["data"]

    def _ask(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            self._next = (self._next + 1) % len(self._workers)
            worker = self._workers[self._next]
        outcome = worker.ask(request)
        if isinstance(outcome, Failure):
            if outcome.detail == "ValueError":
                raise NotFoundError("there is no such page")
            raise SourceError("this original cannot be shown", reason=outcome.word or outcome.reason, hint="its text can be")
        return outcome

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.close()
