"""The child's side: `python -m hagane.jobs.worker module:function`, frames on stdin and stdout.

The first frame says how to live (limits, niceness, init); then each request calls the function. With
`init`, the target is a factory: called once with `init`, it gives an object with a method `handle`, or a
function, for the requests. What gives an iterator streams its items (between two items it sees whether the
parent wants no more, and closes the iterator); anything else gives a dict.

The process dies with its parent, however that ends: it holds the reading end of a pipe of which the parent
has the only writing end, and asked the kernel for SIGKILL when that one closes. (PR_SET_PDEATHSIG would
fire when the parent's *thread* ends that started the process.)
"""

from __future__ import annotations

import fcntl
import importlib
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from . import frames

Handler = Callable[[dict[str, Any]], Any]


def main(argv: list[str]) -> int:
    """Serve requests until stdin ends."""
    target, lifeline = argv[0], int(argv[1])
    _die_with_parent(lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's decision
    requests, replies = _take_over_standard_streams()
    try:
        _, _, how = frames.read(requests)
        _limit(how)
        try:
            handler = _load(target, how.get("init"))
        except BaseException as error:
            frames.write(replies, frames.pack("broken", 0, _described(error)))
            return 1
        frames.write(replies, frames.pack("ready", 0, {}))
        while True:
            kind, number, body = frames.read(requests)
            if kind == "ask":
                _serve(handler, number, body, requests, replies)
    except frames.BrokenFrames:
        return 0


def _take_over_standard_streams() -> tuple[int, int]:
    """Frames get file descriptors of their own; what libraries print goes to stderr, what they read is empty."""
    requests, replies = os.dup(0), os.dup(1)
    os.set_inheritable(requests, False)
    os.set_inheritable(replies, False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, replies


def _die_with_parent(lifeline: int) -> None:
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        poll = select.poll()
        poll.register(lifeline, 0)
        if poll.poll(0):  # the parent ended before we asked
            os._exit(1)
    else:  # no such signal here (macOS): a thread does it, unless native code holds the interpreter
        threading.Thread(target=lambda: (os.read(lifeline, 1), os._exit(1)), daemon=True).start()


def _limit(how: dict[str, Any]) -> None:
    if how.get("nice"):
        os.nice(how["nice"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if how.get("data_bytes"):
        resource.setrlimit(resource.RLIMIT_DATA, (how["data_bytes"], how["data_bytes"]))


def _load(target: str, init: dict[str, Any] | None) -> Handler:
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    if init is None:
        return function
    made = function(init)
    return getattr(made, "handle", made)


def _serve(handler: Handler, number: int, body: dict[str, Any], requests: int, replies: int) -> None:
    try:
        result = handler(body)
        if isinstance(result, Iterator):
            _stream(result, number, requests, replies)
            reply = frames.pack("end", number, {})
        else:
            reply = frames.pack("result", number, result)
    except frames.BrokenFrames:
        raise
    except BaseException as error:
        reply = frames.pack("error", number, _described(error))
    frames.write(replies, reply)


def _stream(items: Iterator[dict[str, Any]], number: int, requests: int, replies: int) -> None:
    try:
        for item in items:
            frames.write(replies, frames.pack("item", number, item))
            if select.select([requests], [], [], 0)[0]:
                kind, which, _ = frames.read(requests)
                if kind == "stop" and which == number:
                    return
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _described(error: BaseException) -> dict[str, Any]:
    """What may be said of an error: its class; message and hint only of the house's own errors, which
    never carry content."""
    said = {"class": type(error).__name__, "memory": isinstance(error, MemoryError)}
    if type(error).__module__ == "hagane.core.errors":
        said |= {"message": str(error), "hint": getattr(error, "hint", None), "word": getattr(error, "reason", "")}
    return said


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
