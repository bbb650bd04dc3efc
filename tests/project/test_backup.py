"""Backups: whole or refused, made beside a running server, ciphertext only where the project is encrypted."""

from __future__ import annotations

import base64
import io
import os
import shutil
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from small_company import TEXTS, YAML, Folder

from hagane.core.errors import (
    AuditError,
    ConfigError,
    HaganeError,
    NotFoundError,
    RefusedError,
    StateError,
    StorageError,
)
from hagane.ledger.lock import Busy
from hagane.project import backup as backups
from hagane.project import chat, documents, handover, people
from hagane.project.audit import verify
from hagane.project.questions import search
from hagane.project.running import Running
from hagane.project.wire import Project

PASSWORD = "正しい馬の電池ホチキス42"


def quiet(event: Any) -> None:
    """Progress that nobody looks at."""


def backed_up(folder: Folder, to: Path, **named: Any) -> dict[str, Any]:
    return folder.run(backups.backup, to, emit=quiet, **named)


def brought(source: Path, folder: Path, **named: Any) -> dict[str, Any]:
    return backups.restore(source, folder, by="owner", emit=quiet, **named)


@pytest.fixture
def synced(company: Folder) -> Folder:
    company.sync()
    return company


@pytest.fixture
def sealed(company: Folder, tmp_path: Path) -> Folder:
    """An encrypted company, whose key lies beside it."""
    key = tmp_path / "master.key"
    key.write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
    key.chmod(0o600)
    company.write("hagane.yaml", YAML + f"encryption: {{key: 'file:{key}'}}\n")
    company.sync()
    return company


def twin(folder: Folder, at: Path) -> Folder:
    """A folder with the same sources and hagane.yaml, and no state."""
    made = Folder(at)
    for name in ("hagane.yaml", *TEXTS):
        if (folder.path / name).exists():
            made.write(name, (folder.path / name).read_bytes())
    return made


def test_a_backup_brings_back_everything(synced: Folder, tmp_path: Path) -> None:
    synced.run(documents.relabel, "経費.txt", "confidential", reason="社外秘")
    done = backed_up(synced, tmp_path / "to")
    new = tmp_path / "new"
    assert brought(Path(done["archive"]), new)["kept_yaml"] is False
    again = Folder(new)
    assert again.state() == synced.state()
    assert again.found("月額基本給", by="hr") == synced.found("月額基本給", by="hr") != []
    with Project.open(new) as project:
        report = verify(project, expect=None)
        assert report["ok"] and report["count"] >= done["records"] + 1


def test_a_restored_project_syncs_without_doing_anything_twice(synced: Folder, tmp_path: Path) -> None:
    backed_up(synced, tmp_path / "to")
    again = twin(synced, tmp_path / "new")
    brought(tmp_path / "to", again.path)
    report = again.sync()
    assert (report.added, report.changed, report.removed, report.unchanged) == ([], [], [], 4)


def test_without_the_index_the_next_sync_makes_it(synced: Folder, tmp_path: Path) -> None:
    backed_up(synced, tmp_path / "to", index=False)
    again = twin(synced, tmp_path / "new")
    assert brought(tmp_path / "to", again.path)["index"] is False
    again.sync()
    assert again.state() == synced.state()


def test_a_server_goes_on_while_it_is_backed_up(synced: Folder, tmp_path: Path) -> None:
    """Questions all the while; what the backup holds is of one moment, and its audit is whole."""
    failed: list[BaseException] = []
    with Project.open(synced.path) as project, Running(project):
        over = threading.Event()

        def asks() -> None:
            while not over.is_set():
                try:
                    search(project, "領収書", by=project.principal("staff"))
                except BaseException as error:
                    failed.append(error)

        threads = [threading.Thread(target=asks) for _ in range(3)]
        for thread in threads:
            thread.start()
        with Project.open(synced.path) as command:
            wanted = {"to": str(tmp_path / "to"), "index": True}
            for _ in range(3):
                shutil.rmtree(tmp_path / "to", ignore_errors=True)
                handover.carry_out(command, "backup", wanted, as_=None, emit=quiet, waiting=None)
        over.set()
        for thread in threads:
            thread.join()
    assert failed == []
    brought(tmp_path / "to", tmp_path / "new")
    with Project.open(tmp_path / "new") as project:
        assert verify(project, expect=None)["ok"]
    assert Folder(tmp_path / "new").state() == synced.state()


def test_newer_state_is_replaced_only_when_told_so(synced: Folder, tmp_path: Path) -> None:
    done = backed_up(synced, tmp_path / "to")
    brought(Path(done["archive"]), synced.path)  # nothing happened since
    synced.run(documents.relabel, "経費.txt", "confidential", reason="社外秘")
    before = synced.state()
    with pytest.raises(StateError, match="newer"):
        brought(Path(done["archive"]), synced.path)
    assert synced.state() == before
    brought(Path(done["archive"]), synced.path, yes=True)
    assert synced.docs()["rules/経費.txt"]["label"] == "internal"


def test_another_projects_state_is_not_replaced(synced: Folder, tmp_path: Path) -> None:
    backed_up(synced, tmp_path / "to")
    other = twin(synced, tmp_path / "other")
    other.sync()
    with pytest.raises(StateError, match="another project"):
        brought(tmp_path / "to", other.path)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text", "lost", "more"])
def test_a_damaged_archive_changes_nothing(synced: Folder, tmp_path: Path, damage: str) -> None:
    archive = Path(backed_up(synced, tmp_path / "to")["archive"])
    plain = tmp_path / "plain.tar"
    with tarfile.open(archive) as old, tarfile.open(plain, "w") as new:
        for info in old:
            if damage == "lost" and info.name.endswith("ledger.db"):
                continue
            new.addfile(info, old.extractfile(info))
        if damage == "more":
            new.addfile(tarfile.TarInfo(".hagane/blobs/余計"), io.BytesIO())
    data = bytearray(plain.read_bytes())
    if damage == "flip":
        data[data.index("月額5,000円".encode())] ^= 1
    broken = {"cut": data[: len(data) // 2], "empty": b"", "text": "これは控えではない。\n".encode() * 100}.get(damage, data)
    plain.write_bytes(broken)
    before = synced.state()
    with pytest.raises(StorageError):
        brought(plain, synced.path, yes=True)
    assert synced.state() == before
    assert sorted(p.name for p in synced.path.iterdir() if "restore" in p.name) == []


@pytest.mark.parametrize("name", ["../外.txt", "/etc/外.txt", ".hagane/../../外.txt", "外.txt", ".hagane//外"])
def test_an_archive_writes_nowhere_else(synced: Folder, tmp_path: Path, name: str) -> None:
    hostile = tmp_path / "a" / "hostile.tar"
    hostile.parent.mkdir()
    with tarfile.open(hostile, "w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(StorageError):
        brought(hostile, tmp_path / "a" / "new")
    assert list(tmp_path.rglob("外.txt")) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_an_archive_of_links_and_devices_is_refused(tmp_path: Path, kind: bytes) -> None:
    hostile = tmp_path / "hostile.tar"
    with tarfile.open(hostile, "w") as tar:
        info = tarfile.TarInfo(".hagane/ledger.db")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(StorageError):
        brought(hostile, tmp_path / "new")


def test_no_restore_while_a_server_runs(synced: Folder, tmp_path: Path) -> None:
    backed_up(synced, tmp_path / "to")
    with Project.open(synced.path) as project, Running(project), pytest.raises(Busy, match="a server runs"):
        brought(tmp_path / "to", synced.path, yes=True)


def test_only_administrators_make_backups_and_each_is_on_record(synced: Folder, tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        synced.run(backups.backup, tmp_path / "to", by="staff", emit=quiet)
    assert not (tmp_path / "to").exists()
    (synced.path / ".hagane" / "audit" / "head.json").write_text("壊れた")
    with pytest.raises(AuditError):
        backed_up(synced, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_sessions_end_with_a_restore(synced: Folder, tmp_path: Path) -> None:
    """One that was ended since the backup would come back to life."""
    with Project.open(synced.path) as project:
        cookie = people.set_up(project, people.setup_secret(project), name="管理者", password=PASSWORD).cookie
        assert people.session(project, cookie) is not None
    backed_up(synced, tmp_path / "to")
    brought(tmp_path / "to", tmp_path / "new")
    with Project.open(tmp_path / "new") as project:
        assert people.session(project, cookie) is None
        assert people.sign_in(project, "管理者", PASSWORD).caller.account.role == "admin"


def test_what_is_no_backup_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        brought(tmp_path / "無い", tmp_path / "new")
    (tmp_path / "空").mkdir()
    with pytest.raises(NotFoundError):
        brought(tmp_path / "空", tmp_path / "new")


# --- encrypted


def bytes_of(folder: Path) -> bytes:
    return b"\0".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def test_the_archive_of_an_encrypted_project_holds_ciphertext_only(sealed: Folder, tmp_path: Path) -> None:
    backed_up(sealed, tmp_path / "to")
    raw = bytes_of(tmp_path / "to")
    for word in ("領収書", "査定S", "経費の精算"):
        assert word.encode() not in raw
        assert word.encode("utf-16-le") not in raw
    assert brought(tmp_path / "to", tmp_path / "new")["erased"] == 0
    assert Folder(tmp_path / "new").found("領収書を紛失したとき")[0] == "rules/経費.txt"


def test_without_the_master_key_or_the_keys_nothing_is_brought_back(sealed: Folder, tmp_path: Path) -> None:
    done = backed_up(sealed, tmp_path / "to")
    master = (tmp_path / "master.key").read_bytes()
    (tmp_path / "master.key").write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
    with pytest.raises(ConfigError, match="not the key"):
        brought(tmp_path / "to", tmp_path / "new")
    (tmp_path / "master.key").write_bytes(master)
    Path(done["keys"]).unlink()
    with pytest.raises(StateError, match="missing"):
        brought(tmp_path / "to", tmp_path / "new")
    assert not (tmp_path / "new" / ".hagane").exists() and not (tmp_path / "new" / "hagane.yaml").exists()


def test_erasure_reaches_older_archives_with_the_next_backup(sealed: Folder, tmp_path: Path) -> None:
    """Before it, the older archive can be read; behind it, never again."""
    old = Path(backed_up(sealed, tmp_path / "to")["archive"])
    old = old.rename(old.with_name("hagane-20260101T000000Z.tar"))
    (sealed.path / "hr/給与レンジ.md").unlink()
    sealed.sync(yes=True)
    brought(old, tmp_path / "before")
    assert "hr/給与レンジ.md" in Folder(tmp_path / "before").docs()
    backed_up(sealed, tmp_path / "to")
    assert brought(old, tmp_path / "after")["erased"] >= 1
    after = Folder(tmp_path / "after")
    assert set(after.docs()) == {"rules/経費.txt", "rules/有給休暇.md", "rules/在宅勤務.md"}
    assert after.found("査定Sの昇給率") == after.found("査定Sの昇給率", by="staff")
    assert after.found("領収書を紛失したとき")[0] == "rules/経費.txt"
    again = twin(sealed, tmp_path / "after")
    again.sync(yes=True)
    assert again.state()["documents"] == sealed.state()["documents"]


def test_a_conversation_that_was_deleted_stays_deleted_when_an_older_archive_comes_back(sealed: Folder, tmp_path: Path) -> None:
    with Project.open(sealed.path) as project:
        account = people.set_up(project, people.setup_secret(project), name="管理者", password=PASSWORD).caller.account
        kept, gone = ([*chat.ask(project, account, question)][-1]["conversation"] for question in ("有給休暇は何日ですか", "通信費はいくらですか"))
        old = Path(backups.backup(project, tmp_path / "to", by=project.principal(), emit=quiet)["archive"])
        old = old.rename(old.with_name("hagane-20260101T000000Z.tar"))
        chat.delete(project, account, gone)
        backups.backup(project, tmp_path / "to", by=project.principal(), emit=quiet)
    assert brought(old, tmp_path / "new")["erased"] == 1
    with Project.open(tmp_path / "new") as project:
        account = people.users(project, by=project.principal())[0]
        assert [talk["id"] for talk in chat.conversations(project, account)] == [kept]


def test_keys_of_another_project_are_not_overwritten(sealed: Folder, tmp_path: Path) -> None:
    backed_up(sealed, tmp_path / "to")
    other = twin(sealed, tmp_path / "other")
    other.sync()
    with pytest.raises(StateError, match="another project"):
        backed_up(other, tmp_path / "to")
    brought(tmp_path / "to", tmp_path / "new")


def test_errors_of_a_full_disk_leave_no_half_archive(synced: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backups.os, "fsync", full)
    with pytest.raises(HaganeError, match="No space left"):
        backed_up(synced, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []
