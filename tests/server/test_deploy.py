"""deploy/: the systemd units and the container file say what the server really does."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from hagane.cli.main import app as commands
from hagane.project.running import ENDS_S
from hagane.server import listen
from hagane.server.access import OPEN
from hagane.server.operation_routes import router

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted(path.name for path in DEPLOY.glob("hagane*.*"))


def unit(name: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment]
    parsed.read(DEPLOY / name, encoding="utf-8")
    return parsed


def container() -> list[tuple[str, str]]:
    """(instruction, rest) of the container file, of the last stage."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Containerfile").read_text(encoding="utf-8"))
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    last = max(n for n, line in enumerate(lines) if line[0] == "FROM")
    return [(word, rest.strip()) for word, rest in lines[last:]]


def options(command: str) -> set[str]:
    import typer

    found = typer.main.get_command(commands).commands[command]  # type: ignore[attr-defined]
    return {option for parameter in found.params for option in parameter.opts}


@pytest.mark.parametrize("words", [unit("hagane.service")["Service"]["ExecStart"], unit("hagane-backup.service")["Service"]["ExecStart"]])
def test_units_call_commands_and_options_that_there_are(words: str) -> None:
    _, command, *rest = shlex.split(words)
    assert {word for word in rest if word.startswith("--")} <= options(command)


def test_the_unit_waits_as_long_as_an_orderly_end_takes() -> None:
    service = unit("hagane.service")["Service"]
    assert int(service["TimeoutStopSec"]) > listen.FINISH_S + ENDS_S + listen.STRAGGLERS_S
    assert int(service["LimitNOFILE"]) >= listen.OPEN_FILES
    assert service["KillMode"] == "mixed"  # the server ends its workers itself


def test_the_unit_gives_away_nothing_that_is_not_needed() -> None:
    service = unit("hagane.service")["Service"]
    assert service["User"] != "root" and service["UMask"] == "0077"
    assert service["ProtectSystem"] == "strict" and service["ReadWritePaths"] == "/srv/hagane"
    assert service["NoNewPrivileges"] == "yes" and service["CapabilityBoundingSet"] == ""


@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_the_units(name: str, tmp_path: Path) -> None:
    """With an existing program and user in place of ours."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    for other in UNITS:
        text = (DEPLOY / other).read_text(encoding="utf-8").replace("/opt/hagane/bin/hagane", "/bin/true")
        (tmp_path / other).write_text(text.replace("User=hagane", "User=daemon").replace("Group=hagane", "Group=daemon"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, timeout=60)
    said = [line for line in (done.stdout + done.stderr).splitlines() if name in line]
    assert said == [], said


def test_the_container_runs_as_nobody_special_on_one_volume() -> None:
    lines = container()
    words = [word for word, _ in lines]
    user = next(rest for word, rest in lines if word == "USER")
    assert user.isdigit() and int(user) >= 1000
    assert words.index("USER") > max(n for n, word in enumerate(words) if word == "RUN"), "nothing runs as root behind it"
    assert [rest for word, rest in lines if word == "VOLUME"] == ["/project"]
    assert "ADD" not in words and not any("latest" in rest for word, rest in lines if word == "FROM")


def test_the_container_starts_the_server_and_asks_a_probe_that_there_is() -> None:
    lines = dict(container())
    assert json.loads(lines["ENTRYPOINT"]) == ["hagane"]
    command, *rest = json.loads(lines["CMD"])
    assert command == "serve" and {word for word in rest if word.startswith("--")} <= options("serve")
    path = re.search(r"127\.0\.0\.1:8750(/\w+)", lines["HEALTHCHECK"])[1]
    route = next(route for route in router.routes if route.path == path)
    assert any(getattr(d.call, "need", None) == OPEN for d in route.dependant.dependencies)
