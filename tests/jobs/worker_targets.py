"""What the tests' worker processes do."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from hagane.core.errors import MissingExtraError, SourceError

Request = dict[str, Any]


def echo(request: Request) -> Request:
    return {**request, "pid": os.getpid()}


def act(request: Request) -> Request:
    """One bad deed per word."""
    match request.get("do"):
        case "hang":
            time.sleep(600)
        case "hang_in_native":
            ctypes.PyDLL(None).sleep(600)  # holds the interpreter
        case "eat":
            kept = []
            while True:
                kept.append(bytearray(8 << 20))
        case "eat_slowly":
            kept = []
            while True:
                kept.append(bytearray(1 << 20))
                time.sleep(0.002)
        case "abort":
            os.abort()
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(3)
        case "raise":
            raise ValueError("極秘の本文がここに")
        case "refuse":
            raise SourceError("damaged", reason="damaged")
        case "shout":
            print("標準出力への雑音" * 2000)
            os.write(1, b"\x00\x00\x00\x08raw noise")
            sys.stderr.write("stderr " * 50_000)
        case "environment":
            return {"env": dict(os.environ), "stdin": sys.stdin.read()}
    return {"did": request.get("do"), "pid": os.getpid()}


def count(request: Request) -> Iterator[Request]:
    """n items; says on disk that it was closed."""
    try:
        for i in range(request["n"]):
            time.sleep(request.get("pause", 0))
            if request.get("die_at") == i:
                os.abort()
            if request.get("raise_at") == i:
                raise SourceError("壊れている", reason="damaged", hint="直してください")
            yield {"i": i, "text": f"{i}番目の語"}
    finally:
        if request.get("mark"):
            with open(request["mark"], "w") as mark:
                mark.write("closed")


def factory(init: Request) -> Callable[[Request], Request]:
    return lambda request: {"word": init["word"], **request}


class Counter:
    """State that lives as long as the process."""

    def __init__(self, init: Request) -> None:
        self.n = init["from"]

    def handle(self, request: Request) -> Request:
        self.n += 1
        return {"n": self.n}


def broken_factory(init: Request) -> None:
    raise MissingExtraError("engine 'x' needs the package 'y'", hint="pip install 'hagane[z]'")


_KEPT: list[bytearray] = []


def keep(request: Request) -> Request:
    """Leaks."""
    _KEPT.append(bytearray(os.urandom(1)) * request["bytes"])
    return {"pid": os.getpid()}
