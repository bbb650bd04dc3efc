"""Law 7: no outbound socket in the whole journey: init, add, search, ask, eval."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import loopback_only
import pytest
from source_tree import HOUSE

APART = (["unshare", "-n"], ["unshare", "-rn"])  # a network namespace: as root, else with a user namespace


def namespace() -> list[str]:
    """The command in front of the journey, [] where the machine allows no namespace (weaker: Python's ear only)."""
    for command in APART:
        try:
            if subprocess.run([*command, "true"], capture_output=True, timeout=20).returncode == 0:
                return command
        except OSError:
            continue
    return []


@pytest.fixture(scope="module")
def travelled(cli, tmp_path_factory) -> dict:
    """What the journey said, made once."""
    folder, front = tmp_path_factory.mktemp("journey"), namespace()
    done = subprocess.run(
        [*front, sys.executable, str(HOUSE / "journey.py"), str(folder), *(["--namespace"] if front else [])],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {"apart": bool(front), **json.loads(done.stdout.splitlines()[-1])}


def step(travelled: dict, *words: str) -> dict:
    found = next(step for step in travelled["steps"] if step["words"][: len(words)] == list(words))
    return json.loads(found["stdout"])


def test_the_journey_ends_well_without_a_network(travelled):
    failed = [step for step in travelled["steps"] if step["rc"]]
    assert failed == []
    assert len(travelled["steps"]) == 6


def test_nothing_reached_out(travelled):
    assert travelled["attempts"] == []
    assert travelled["lost"] == 0


def test_both_watchers_see_an_attempt(travelled):
    """After the journey, one attempt on purpose from either side: the kernel's counter and Python's ear."""
    assert travelled["heard"] >= 1
    assert not travelled["apart"] or travelled["seen"] >= 1


def test_the_journey_was_a_real_one(travelled):
    assert "20日" in json.dumps(step(travelled, "search"), ensure_ascii=False)
    asked = step(travelled, "ask")
    assert asked["abstained"] is False
    assert "2,500円" in asked["answer"]
    assert [Path(citation["path"]).name for citation in asked["citations"]][:1] == ["経費規程.txt"]
    assert asked["index"] == {"words": 1.0, "vectors": 1.0}
    assert step(travelled, "eval", "retrieval")["metrics"]["recall@5"]["value"] == 1.0
    assert step(travelled, "eval", "answers")["metrics"]["must_contain"]["value"] > 0


@pytest.mark.parametrize(
    ("address", "local"),
    [
        (("127.0.0.1", 80), True),
        (("127.8.9.10", 80), True),
        (("::1", 80, 0, 0), True),
        ("/tmp/錠.sock", True),
        (b"\0abstract", True),
        (("localhost",), True),
        (("10.0.0.1", 80), False),
        (("例え.jp", 443), False),
        (("2001:db8::1", 443, 0, 0), False),
        (("fe80::1%eth0", 443, 0, 2), False),
    ],
)
def test_what_counts_as_this_machine(address, local: bool):
    assert loopback_only.is_local(address) is local


def test_a_test_that_reaches_out_is_refused(refused):
    """The guard of conftest.py is awake, for sockets and for names."""
    with socket.socket() as door, pytest.raises(loopback_only.OutboundSocket):
        door.connect_ex(("192.0.2.1", 443))
    with pytest.raises(loopback_only.OutboundSocket):
        socket.getaddrinfo("hagane.example", 443)
    assert len(refused) == 2
    refused.clear()
