"""A writing command beside a server is done by the server, beside another command it waits; same output, same codes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_company import TEXTS, YAML, Folder

from hagane.cli.main import main
from hagane.core.errors import StoppedError
from hagane.project import documents, handover
from hagane.project.running import Running
from hagane.project.wire import Project

CLI = "import sys; from hagane.cli.main import main; sys.argv[0] = 'hagane'; main()"


def hagane(folder: Folder, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command; in this process, for a new one takes seconds."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["hagane", *words, "--project", str(folder.path)])
        patch.chdir(folder.path)
        with pytest.raises(SystemExit) as end:
            main()
    return end.value.code or 0, out.getvalue(), err.getvalue()


def started(folder: Folder, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLI, *words, "--project", str(folder.path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(true: Callable[[], Any]) -> Any:
    for _ in range(3000):
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to that")


@pytest.fixture
def served(company: Folder) -> Iterator[Project]:
    """The project of a running server."""
    with Project.open(company.path) as project, Running(project):
        yield project


def untimed(out: str) -> Any:
    return {name: value for name, value in json.loads(out).items() if name != "seconds"}


def test_commands_say_the_same_with_and_without_a_server(company: Folder, tmp_path: Path) -> None:
    """sync, add, label in both directions, approve, wrong use, what is missing: byte for byte but for times and ids."""
    alone = Folder(tmp_path / "alone")
    for folder in (alone, company):
        folder.write("hagane.yaml", YAML.replace("principals:\n", "principals:\n  officer: {clearance: 'restricted:*'}\n"))
        for name, text in TEXTS.items():
            folder.write(name, text)
        folder.write("more/追加.txt", "追加の規程。出張の日当は3,000円とする。\n")

    def talk(folder: Folder) -> list[Any]:
        said: list[Any] = []
        code, out, err = hagane(folder, "sync", "--json", "--progress", "json")
        events = [json.loads(line) for line in err.splitlines()]
        said.append((code, untimed(out), sorted(json.dumps(e, ensure_ascii=False) for e in events if e["event"] != "words"),
                     sum(e["event"] == "words" for e in events)))
        code, out, _ = hagane(folder, "add", "more", "--label", "confidential", "--json")
        said.append((code, untimed(out)))
        said.append(hagane(folder, "label", "経費.txt", "restricted", "--reason", "社外秘"))
        said.append(hagane(folder, "label", "経費.txt", "internal", "--reason", "戻す", "--json")[0])
        with Project.open(folder.path) as project:
            [waiting] = documents.requests(project, by=project.principal())
        said.append(hagane(folder, "label", "approve", waiting["id"]))
        said.append(hagane(folder, "label", "approve", waiting["id"], "--as", "officer"))
        said.append(hagane(folder, "label", "無い.txt", "internal", "--reason", "x"))
        said.append(hagane(folder, "label", "経費.txt", "秘密", "--reason", "x"))
        said.append(hagane(folder, "add", "無い"))
        said.append(hagane(folder, "sync", "--as", "nobody"))
        return [json.loads(json.dumps(one).replace(str(folder.path), "HERE").replace(waiting["id"], "ID")) for one in said]

    first = talk(alone)
    with Project.open(company.path) as project, Running(project):
        assert talk(company) == first
    assert [one if isinstance(one, int) else one[0] for one in first] == [0, 0, 0, 0, 1, 0, 1, 1, 1, 1], first


def test_the_server_did_it(served: Project, company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    did = threading.Event()
    real = documents.sync
    monkeypatch.setattr(documents, "sync", lambda *a, **k: (did.set(), real(*a, **k))[1])
    code, _, _ = hagane(company, "sync")
    assert code == 0 and did.is_set()
    assert company.found("通信費")[0] == "rules/在宅勤務.md"


def test_a_command_waits_for_another_and_says_for_which(company: Folder) -> None:
    with Project.open(company.path) as project:
        with project.ledger.only_writer("sync"):
            waits = started(company, "sync")
            line = waits.stderr.readline()
            assert line == f"waiting for hagane sync (pid {os.getpid()})\n"
            assert waits.poll() is None
            code, _, err = hagane(company, "sync", "--no-wait")
            assert code == 1 and f"another sync is running (pid {os.getpid()})" in err
        assert waits.wait(60) == 0
        waits.communicate()


def test_a_command_that_waits_is_handed_to_a_server_that_comes(company: Folder) -> None:
    with Project.open(company.path) as project:
        with project.ledger.only_writer("sync"):
            waits = started(company, "sync")
            assert waits.stderr.readline().startswith("waiting for")
        with Running(project):
            assert waits.wait(60) == 0
            waits.communicate()
    assert company.found("通信費")[0] == "rules/在宅勤務.md"


def stuck(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Syncs that go on until they are stopped: set when one runs, set when it was stopped."""
    runs, stopped = threading.Event(), threading.Event()

    def sync(project: Project, *, stop: Any, **_: Any) -> None:
        with project.ledger.only_writer():
            runs.set()
            while not stop():
                time.sleep(0.01)
            stopped.set()
            raise StoppedError("stopped")

    monkeypatch.setattr(documents, "sync", sync)
    return runs, stopped


def test_ctrl_c_stops_what_was_handed_over(served: Project, company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, stopped = stuck(monkeypatch)
    command = started(company, "sync")
    assert runs.wait(60)
    command.send_signal(signal.SIGINT)
    assert command.wait(60) == 130
    assert "stopped; what was done is kept" in command.communicate()[1]
    assert stopped.wait(60)


def test_a_sync_goes_on_by_itself_when_the_server_ends(company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, stopped = stuck(monkeypatch)
    with Project.open(company.path) as project:
        with Running(project):
            command = started(company, "sync", "--json")
            assert runs.wait(60)
        assert stopped.is_set()
        assert command.wait(60) == 0
        assert len(json.loads(command.communicate()[0])["added"]) == 4


def test_labels_are_handed_over_while_the_server_syncs(served: Project, company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    company_sync = documents.sync
    company_sync(served, by=served.principal(), emit=lambda event: None)
    runs, _ = stuck(monkeypatch)
    command = started(company, "sync")
    assert runs.wait(60)
    assert hagane(company, "label", "経費.txt", "restricted", "--reason", "社外秘")[:2] == (0, "internal -> restricted\n")
    assert "rules/経費.txt" not in company.found("領収書を紛失したとき", by="staff")
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=60)


def test_one_server_for_a_project(served: Project, company: Folder) -> None:
    with Project.open(company.path) as other, pytest.raises(handover.Busy, match=rf"a server runs \(pid {os.getpid()}\)"), Running(other):
        pass


def test_the_socket_is_for_its_owner_and_does_not_outlive_the_server(company: Folder) -> None:
    with Project.open(company.path) as project:
        with Running(project):
            mode = (project.state / handover.SOCKET).stat().st_mode
            assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
        assert not (project.state / handover.SOCKET).exists()
        assert project.ledger.writer.holder() is None


def test_a_dead_servers_socket_does_not_keep_a_new_one_from_starting(company: Folder) -> None:
    with Project.open(company.path) as project:
        _ = project.ledger
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(project.state / handover.SOCKET))
        left.close()
        with Running(project):
            assert hagane(company, "sync")[0] == 0


def test_deep_folders_are_no_obstacle(tmp_path: Path) -> None:
    """The kernel takes 107 bytes of a socket's path."""
    deep = Folder(tmp_path / ("深い階層" * 8) / ("フォルダ" * 8))
    deep.write("hagane.yaml", YAML)
    for name, text in TEXTS.items():
        deep.write(name, text)
    assert len(os.fsencode(deep.path)) > 107
    with Project.open(deep.path) as project, Running(project):
        assert hagane(deep, "sync")[0] == 0
        assert (project.state / handover.SOCKET).exists()


@pytest.mark.parametrize("said", [b"", b"\n", b"{\n", b"[1]\n", b'{"verb": "rm"}\n', b'{"verb": "sync"}\n', b"\xff\xfe\n", b'{"verb": "sync", "args": 3, "as": ["x"]}\n'])
def test_nonsense_at_the_socket_is_refused_and_harms_nobody(served: Project, company: Folder, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as plug:
        plug.settimeout(30)
        plug.connect(str(served.state / handover.SOCKET))
        plug.sendall(said)
        plug.shutdown(socket.SHUT_WR)
        answer = plug.makefile("rb").read()
    assert answer == b"" or "error" in json.loads(answer)
    assert hagane(company, "sync")[0] == 0


def test_another_user_is_not_heard(served: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(handover, "ROOT", -1)
    with socket.socket(socket.AF_UNIX) as plug:
        plug.settimeout(30)
        plug.connect(str(served.state / handover.SOCKET))
        got = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the door is shut already
            plug.sendall(b'{"verb": "sync", "args": {"yes": true, "words_only": false}, "as": null}\n')
            got = plug.makefile("rb").read()
        assert got == b""
