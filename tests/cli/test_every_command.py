"""Every command of `hagane --help`: what a script may rely on."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from hagane.cli.main import app, main

NO_JSON = {"serve", "audit export", "feedback export"}  # a server; and what is JSON anyway
MAKES = {"init", "restore"}  # make the project


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for word, part in command.commands.items():
            yield from commands(part, f"{name} {word}".strip())
    else:
        yield name, command


ALL = dict(commands(get_command(app)))


def code_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["hagane", *words])
    monkeypatch.setattr("sys.stdin", io.StringIO("長い合言葉です 42\n"))
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def test_every_command_says_it_as_json() -> None:
    options = {name: {word for part in command.params for word in part.opts} for name, command in ALL.items()}
    assert {name for name, words in options.items() if "--json" not in words} == NO_JSON
    assert len(ALL) > 30


@pytest.mark.parametrize("name", ALL)
def test_help_is_0_and_an_unknown_option_2(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of([*name.split(), "--help"], monkeypatch) == 0
    assert code_of([*name.split(), "--存在しない"], monkeypatch) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, command in ALL.items() if name not in MAKES and any("--project" in part.opts for part in command.params)])
def test_outside_a_project_it_fails_with_1_and_a_hint(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing stands on stdout: a script reads no half answer."""
    monkeypatch.chdir(tmp_path)
    given = []
    for part in ALL[name].params:
        if part.required:
            word = "reader" if "--role" in part.opts else "file:鍵"
            given += [word] if part.param_type_name == "argument" else [part.opts[0], word]
    if "--password-stdin" in [word for part in ALL[name].params for word in part.opts]:
        given.append("--password-stdin")
    if name == "user change":
        given += ["--display", "山田"]
    code = code_of([*name.split(), *given, "--project", str(tmp_path)], monkeypatch)
    said = capsys.readouterr()
    assert (code, said.out) == (1, ""), said
    assert "error:" in said.err or "hint:" in said.err


def test_keys_say_what_they_did_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "会社").mkdir()
    project = ["--project", "会社", "--json"]

    def hagane(*words: str) -> Any:
        assert code_of([*words], monkeypatch) == 0
        return json.loads(capsys.readouterr().out)

    assert code_of(["init", "会社"], monkeypatch) == 0
    capsys.readouterr()
    assert hagane("keys", "create", "一.key", "--json") == {"created": "一.key"}
    hagane("keys", "create", "二.key", "--json")
    on = hagane("keys", "on", "file:一.key", *project)
    assert (on["encrypted"], on["state"]) == (True, "on")
    assert on == hagane("keys", "status", *project)
    rotated = hagane("keys", "rotate", "--to", "file:二.key", *project)
    assert rotated["key"] != on["key"] and rotated["key"].endswith("二.key")
    assert hagane("keys", "off", *project)["encrypted"] is False
    assert code_of(["keys", "create", "一.key", "--json"], monkeypatch) == 1, "it exists"
