"""A full disk is a clear error, nothing is lost, and with room again the next sync completes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import crowd
import pytest
from small_company import Folder

from hagane.core.errors import StorageError
from hagane.sources.files import read
from hagane.sources.limits import room_on_disk

ROOM = 3_000_000  # bytes of the small disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of few bytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("mounting a small tmpfs needs root on Linux")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this system lets nobody mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def cli(folder: Folder, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-c", "from hagane.cli.main import main; main()", *words, "--project", str(folder.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_full_disk_is_a_clear_error_and_nothing_is_lost(small_disk: Path, tmp_path: Path) -> None:
    """At several degrees of fullness: exit 1 with a hint, old documents found, the next sync equals a calm one."""
    calm = Folder(tmp_path / "calm")
    folder = Folder(tmp_path / "full")
    for one in (calm, folder):
        crowd.build(one, 12)
    (folder.path / ".hagane").symlink_to(small_disk / "state")
    (small_disk / "state").mkdir()
    folder.sync()
    calm.sync()
    before = folder.state()
    for one in (calm, folder):
        for number in range(12):
            one.write(f"rules/追加/追加{number:02}.md", f"# 追加 {number}\n\n第{number}倉庫の棚卸は{number + 1}月に行う。責任者は倉庫課長である。\n" * 4)
    filler = small_disk / "filler"
    failed = 0
    for spare in (0, 60_000, 150_000, 250_000):
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        filler.write_bytes(b"\1" * max(free - spare, 0))
        code, said = cli(folder, "sync")
        filler.unlink()
        assert "Traceback" not in said, said
        if code:
            failed += 1
            assert code == 1
            assert "error:" in said
            assert "hint:" in said
        documents = {row[0]: row for row in folder.state()["documents"]}
        assert all(row[0] in documents for row in before["documents"])
    assert failed >= 2
    assert folder.sync().complete
    calm.sync()
    have, want = folder.state(), calm.state()
    assert [row for row in have["documents"] if row not in want["documents"]] == []
    assert have == want
    assert set(folder.found("倉庫の棚卸", by="staff")) == set(calm.found("倉庫の棚卸", by="staff"))


def test_full_disk_while_unpacking_sets_nothing_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that finds no room is our trouble, not the archive's."""
    from hagane.core.types import Blob

    file = tmp_path / "資料.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("手順.md", "# 棚卸の手順\n\n棚卸は9月末に行う。\n")

    class Full(io.FileIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", lambda handle, mode: Full(handle, mode))
    with pytest.raises(StorageError) as full:
        list(read(Blob(str(file), "資料.zip", file.stat().st_size, "0" * 64)))
    assert full.value.hint


def test_other_troubles_of_a_file_stay_its_own() -> None:
    """Only a full disk is a StorageError."""
    with pytest.raises(PermissionError), room_on_disk():
        raise PermissionError(13, "not allowed")
