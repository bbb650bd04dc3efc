"""Turning encryption on and off and rotating keys: nothing changes for who may read, and any kill can be mended."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canaries import find
from encrypted_company import QUESTION, QUIET, SPOKEN, account, company, live
from small_company import TEXTS, Folder

from hagane.core.errors import (
    RefusedError,
    UsageError,
)
from hagane.ledger.keys import ON, Keys
from hagane.ledger.master import create_file
from hagane.project import audit, chat, documents, keys, uploads
from hagane.project.questions import search
from hagane.project.wire import Project


def test_turning_on_and_off_changes_nothing_that_is_seen(tmp_path: Path) -> None:
    folder = company(tmp_path, encrypted=False)
    live(folder)

    def seen() -> Any:
        found = [folder.run(search, QUESTION, by=who)["passages"] for who in (None, "staff")]
        with Project.open(folder.path) as project:
            told = [chat.conversation(project, account(), one["id"]) for one in chat.conversations(project, account())]
        return folder.state(), found, told, folder.run(documents.requests), folder.run(uploads.uploads)

    before = seen()
    words = [*SPOKEN.values(), "年次有給休暇", "月額基本給"]
    folder.run(keys.turn_on, "file:../project.key", emit=QUIET)
    assert folder.run(keys.status)["state"] == ON
    assert seen() == before
    assert not any(find(folder.path / ".hagane", words).values())
    assert folder.sync().unchanged
    with pytest.raises(UsageError, match="already"):
        folder.run(keys.turn_on, "file:../project.key", emit=QUIET)
    folder.run(keys.turn_off, emit=QUIET)
    assert folder.run(keys.status)["encrypted"] is False and not (folder.path / ".hagane/keys").exists()
    assert seen() == before
    assert all(find(folder.path / ".hagane", words).values())
    with pytest.raises(UsageError, match="not encrypted"):
        folder.run(keys.turn_off, emit=QUIET)


def test_rotation_keeps_everything_readable_and_shuts_the_old_key_out(tmp_path: Path) -> None:
    folder = company(tmp_path, encrypted=True)
    folder.sync()
    before = folder.state()
    create_file(tmp_path / "new.key")
    old = (folder.path / ".hagane/keys/project.json").read_bytes()
    folder.run(keys.rotate, "file:../new.key")
    assert (
        "file:../new.key" in (folder.path / "hagane.yaml").read_text()
        and "# 会社の規程" in (folder.path / "hagane.yaml").read_text()
    )
    (tmp_path / "project.key").unlink()
    assert folder.state() == before and folder.found(QUESTION)[0] == "rules/有給休暇.md"
    folder.run(keys.rotate, None, deep=True)
    assert folder.state() == before and folder.found(QUESTION)[0] == "rules/有給休暇.md"
    assert folder.sync().unchanged
    assert (folder.path / ".hagane/keys/project.json").read_bytes() != old
    with pytest.raises(UsageError):
        folder.run(keys.rotate, None)


def test_who_may_not_administer_changes_no_key(tmp_path: Path) -> None:
    folder = company(tmp_path, encrypted=False)
    folder.sync()
    for act in (lambda: folder.run(keys.turn_on, "file:../project.key", emit=QUIET, by="staff"), lambda: folder.run(keys.turn_off, emit=QUIET, by="hr"),
                lambda: folder.run(keys.rotate, None, deep=True, by="staff")):  # fmt: skip
        with pytest.raises(RefusedError):
            act()
    assert folder.run(keys.status)["encrypted"] is False


CONVERT = """
import os, sys
from pathlib import Path
from hagane.project import keys
from hagane.project.wire import Project
left = int(sys.argv[2])
def counted(event, given):
    global left
    if event in ("os.rename", "os.remove", "sqlite3.connect", "os.mkdir", "shutil.rmtree") or (event == "open" and given[1] and "w" in str(given[1])):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
with Project.open(Path(sys.argv[1])) as project:
    by = project.principal()
    sys.addaudithook(counted)
    if sys.argv[3] == "on":
        keys.turn_on(project, "file:../project.key", by=by, emit=lambda event: None)
    elif sys.argv[3] == "off":
        keys.turn_off(project, by=by, emit=lambda event: None)
    else:
        keys.rotate(project, "file:../new.key", by=by, deep=True)
"""


def killed(folder: Path, at: int, what: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, str(folder), str(at), what], capture_output=True, timeout=120, text=True
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def steps(n: int) -> Iterator[int]:
    """Places to die at: close together first, where most of the order matters."""
    at = 0
    while True:
        yield at
        at += max(1, at // n)


@pytest.mark.long
@pytest.mark.parametrize("what", ["on", "off", "rotate"])
def test_a_conversion_killed_anywhere_leaves_a_readable_project_and_is_ended_by_the_same_command(
    tmp_path: Path, what: str
) -> None:
    first = company(tmp_path / "first", encrypted=what != "on")
    create_file(tmp_path / "first/new.key")
    first.sync()
    before, answer = first.state(), first.found(QUESTION)
    deaths = 0
    for at in steps(4):
        place = tmp_path / f"{what}{at}"
        shutil.copytree(tmp_path / "first", place)
        folder = Folder(place / "company")
        if not killed(folder.path, at, what):
            break
        deaths += 1
        for _ in range(2):  # readable as it lies, before and after a sync mended the index
            assert [row["path"] for row in folder.run(documents.docs)] == [
                row["path"] for row in first.run(documents.docs)
            ]
            assert folder.run(documents.show, "有給休暇.md").document.text == TEXTS["rules/有給休暇.md"]
            folder.sync()
            assert folder.found(QUESTION) == answer
        yaml = (folder.path / "hagane.yaml").read_text()
        try:
            if what == "on":
                folder.run(keys.turn_on, "file:../project.key", emit=QUIET)
            elif what == "off":
                folder.run(keys.turn_off, emit=QUIET)
            else:
                folder.run(keys.rotate, "file:../new.key", deep=True)
        except UsageError:
            assert folder.run(keys.status)["encrypted"] is (what == "on"), yaml
        assert (folder.state()["documents"], folder.found(QUESTION)) == (before["documents"], answer)
        found = find(folder.path / ".hagane", ["年次有給休暇", "給与レンジ"])
        assert any(found.values()) == (what == "off"), found
        assert Keys.exist(folder.path / ".hagane/keys") == (what != "off")
        shutil.rmtree(place)
    assert deaths >= 8


def test_checkpoints_of_the_audit_log_stay_good_when_encryption_is_switched(tmp_path: Path) -> None:
    """One signing key before, between and after; in an encrypted project it does not lie on the disk."""
    folder = company(tmp_path, encrypted=False)
    folder.sync()
    public = set()
    for switch in (None, "on", "off"):
        if switch == "on":
            folder.run(keys.turn_on, "file:../project.key", emit=QUIET)
        elif switch == "off":
            folder.run(keys.turn_off, emit=QUIET)
        assert (folder.path / ".hagane/audit/signing.key").exists() == (switch == "off") or switch is None
        with Project.open(folder.path) as project:
            public.add(audit.checkpoint(project)["public_key"])
            report = audit.verify(project)
        assert report["ok"], report
    assert len(public) == 1
