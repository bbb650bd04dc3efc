"""`hagane WORDS` in this process: what it said, and its exit code."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from hagane.cli.main import main


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """run(*words, stdin=None); without stdin, the test's own."""

    def run(*words: str, stdin: str | None = None) -> Said:
        monkeypatch.setattr("sys.argv", ["hagane", *words])
        if stdin is not None:
            monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        got = capsys.readouterr()
        return Said(code, got.out, got.err)

    return run
