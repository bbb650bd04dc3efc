"""Files that come through the page: durable once kept, under their label, gone when taken away, never anywhere else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_company import Folder

from hagane.core.errors import (
    AuditError,
    HaganeError,
    LabelError,
    NotFoundError,
    RefusedError,
    StateError,
    TooLargeError,
    UsageError,
)
from hagane.ledger.master import create_file
from hagane.project import documents, work
from hagane.project.uploads import path_of, remove_upload, unread, upload, uploads
from hagane.project.wire import Project

TEXT = "# 慶弔見舞金\n\n結婚祝金は3万円とする。申請は総務部に行う。\n".encode()
SECOND = "# 慶弔見舞金\n\n結婚祝金は5万円とする。申請は人事部に行う。\n".encode()
PATH = "uploads/owner/慶弔見舞金.md"
QUESTION = "結婚祝金はいくら"


def put(company: Folder, name: str = "慶弔見舞金.md", data: bytes = TEXT, **named: Any) -> dict[str, Any]:
    return company.run(upload, name, [data[:7], data[7:]], **named)


def blobs(company: Folder) -> set[str]:
    return {file.name for file in (company.path / ".hagane/blobs").rglob("*") if file.is_file()}


def left_over(company: Folder) -> list[str]:
    return sorted(os.listdir(company.path / ".hagane/incoming"))


def records(company: Folder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (company.path / ".hagane/audit/log.jsonl").read_text(encoding="utf-8").splitlines()]


def encrypt(company: Folder) -> None:
    """Before anything is in the project."""
    create_file(company.path.parent / "project.key")
    text = (company.path / "hagane.yaml").read_text(encoding="utf-8")
    company.write("hagane.yaml", text + "encryption: {key: file:../project.key}\n")


def test_upload_becomes_a_document_that_is_found_and_cited(company: Folder) -> None:
    got = put(company)
    assert (got["path"], got["sha256"], got["size"], got["state"]) == (PATH, hashlib.sha256(TEXT).hexdigest(), len(TEXT), "")
    assert left_over(company) == []
    company.sync()
    row = company.docs()[PATH]
    assert (row["source"], row["state"], row["label"]) == ("@uploads", "in", "internal")
    assert PATH in company.found(QUESTION, by="staff")
    [listed] = company.run(uploads)
    assert (listed["document"], listed["state"]) == (row["id"], "in")


def test_label_of_an_upload_is_its_documents_own_mark(company: Folder) -> None:
    """Not the source's: each upload has its own. Those below see neither the upload nor the document."""
    put(company, label="confidential:hr")
    put(company, "公開.md", SECOND, label="public")
    assert [u["path"] for u in company.run(uploads, by="staff")] == ["uploads/owner/公開.md"]
    company.sync()
    assert company.docs()[PATH]["label"] == "confidential:hr"
    assert company.docs()["uploads/owner/公開.md"]["label"] == "public"
    assert PATH not in company.docs(by="staff")
    assert PATH not in company.found(QUESTION, by="staff")
    with Project.open(company.path) as project:
        [record] = [r for r in project.ledger.documents.every_unfiltered(source="@uploads") if r.path == PATH]
        assert (str(record.mark), str(record.source_label)) == ("confidential:hr", "public")


def test_parts_of_an_uploaded_container_carry_its_label(company: Folder, tmp_path: Path) -> None:
    import io
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("中/慶弔.md", TEXT)
    put(company, "資料.zip", packed.getvalue(), label="confidential:hr")
    company.sync()
    assert company.docs()["uploads/owner/資料.zip!/中/慶弔.md"]["label"] == "confidential:hr"
    assert not any(path.startswith("uploads") for path in company.docs(by="staff"))


@pytest.mark.parametrize(
    "name",
    ["../規程.md", "a/../../規程.md", "/etc/passwd", "a//b.md", ".", "..", "", "a/", "規程\n.md", "規程\x00.md", "規程\u202egpj.md",
     "\ud800.md", "..\\..\\規程.md", "長" * 81, "a/" * 17 + "b", "a!/b.md", " / "],
)  # fmt: skip
def test_a_name_leads_nowhere_else(company: Folder, name: str) -> None:
    with pytest.raises(UsageError):
        put(company, name)
    assert company.run(uploads) == []


def test_names_are_folded_and_stay_in_the_folder_of_their_user() -> None:
    assert path_of("規程\\か\u3099いよう.md", "田中") == "uploads/田中/規程/がいよう.md"
    assert path_of(" 議事録 .md", "a/../../b") == "uploads/a-..-..-b/議事録 .md"


def test_quotas_hold_while_the_bytes_come(company: Folder) -> None:
    """A sender that says nothing of the size is stopped in mid-stream, and nothing stays."""
    drawn = 0

    def endless() -> Iterator[bytes]:
        nonlocal drawn
        while True:
            drawn += 1
            yield b"x" * 100_000

    company.write("hagane.yaml", (company.path / "hagane.yaml").read_text() + "server: {upload_mb: 1, upload_total_gb: 0.0015}\n")
    with pytest.raises(TooLargeError):
        company.run(upload, "無限.txt", endless())
    assert drawn == 11
    with pytest.raises(TooLargeError):
        company.run(upload, "大.txt", endless(), size=1_000_001)
    assert drawn == 11, "an announced size is refused before a byte is read"
    put(company, "一.txt", b"a" * 900_000)
    with pytest.raises(TooLargeError, match="no room"):
        put(company, "二.txt", b"b" * 900_000)
    assert len(company.run(uploads)) == 1
    assert left_over(company) == []
    assert blobs(company) == {hashlib.sha256(b"a" * 900_000).hexdigest()}


def at_once(company: Folder, sent: list[tuple[str, bytes]], **named: Any) -> list[str]:
    """Upload all from threads, held back until every body is in: what became of each, "kept" or the error's name."""
    together = threading.Barrier(len(sent), timeout=30)

    def pieces(data: bytes) -> Iterator[bytes]:
        yield data
        together.wait()

    with Project.open(company.path) as project:
        by, said = project.principal(), [""] * len(sent)

        def one(n: int, name: str, data: bytes) -> None:
            try:
                upload(project, name, pieces(data), by=by, **named)
                said[n] = "kept"
            except HaganeError as error:
                said[n] = type(error).__name__

        threads = [threading.Thread(target=one, args=(n, *each)) for n, each in enumerate(sent)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sorted(said)


def test_many_at_once_do_not_pass_the_total(company: Folder) -> None:
    """Each saw room for itself when it began; the total is looked at again where the file is kept."""
    company.write("hagane.yaml", (company.path / "hagane.yaml").read_text() + "server: {upload_mb: 1, upload_total_gb: 0.0012}\n")
    company.sync()
    before = blobs(company)
    said = at_once(company, [(f"規程{n}.txt", bytes([65 + n]) * 450_000) for n in range(6)])
    assert said == ["TooLargeError"] * 4 + ["kept"] * 2
    kept = {row["sha256"] for row in company.run(uploads)}
    assert sum(row["size"] for row in company.run(uploads)) == 900_000
    assert blobs(company) - before == kept, "what was refused left its bytes"
    assert left_over(company) == []
    [row, _] = company.run(uploads)
    put(company, row["path"].removeprefix("uploads/owner/"), b"z" * 700_000, replace=True)
    assert sum(row["size"] for row in company.run(uploads)) == 1_150_000, "what is replaced makes room"


def test_of_many_with_one_name_one_is_kept_and_the_others_are_told(company: Folder) -> None:
    said = at_once(company, [("規程.md", f"# 版{n}\n内容 {n}".encode()) for n in range(6)])
    assert said == ["StateError"] * 5 + ["kept"]
    [row] = company.run(uploads)
    assert blobs(company) == {row["sha256"]}
    assert left_over(company) == []
    assert at_once(company, [("規程.md", f"# 新版{n}".encode()) for n in range(3)], replace=True) == ["kept"] * 3


def test_label_above_the_uploader_or_unknown_is_refused(company: Folder) -> None:
    with pytest.raises(RefusedError):
        put(company, label="confidential:hr", by="staff")
    with pytest.raises(LabelError):
        put(company, label="internal:営業")
    assert company.run(uploads) == []


def test_same_name_again_wants_replace_and_makes_a_version(company: Folder) -> None:
    put(company)
    with pytest.raises(StateError):
        put(company, data=SECOND)
    company.sync()
    before = company.docs()[PATH]
    put(company, data=SECOND, replace=True)
    company.sync()
    after = company.docs()[PATH]
    assert (after["id"] == before["id"], after["version"] == before["version"]) == (True, False)
    shown = company.run(documents.show, PATH)
    assert len(shown.versions) == 2
    assert "5万円" in shown.document.text
    company.run(documents.show, PATH, version=before["version"])
    assert len(blobs(company) & {hashlib.sha256(data).hexdigest() for data in (TEXT, SECOND)}) == 2


def test_replacing_never_lowers_and_raises_at_once(company: Folder) -> None:
    """Before any sync: the document of the old file may not be found by those whom the new label shuts out."""
    put(company)
    company.sync()
    assert PATH in company.found(QUESTION, by="staff")
    assert put(company, data=SECOND, replace=True, label="confidential:hr")["label"] == "confidential:hr"
    assert PATH not in company.found(QUESTION, by="staff")
    assert company.run(uploads, by="staff") == []
    assert put(company, data=TEXT, replace=True, label="public")["label"] == "confidential:hr"
    company.sync()
    assert company.docs()[PATH]["label"] == "confidential:hr"
    assert PATH not in company.found(QUESTION, by="staff")


def test_label_of_an_upload_follows_what_is_done_to_its_document(company: Folder) -> None:
    put(company)
    company.sync()
    company.run(documents.relabel, PATH, "confidential:hr", reason="人事の内容")
    assert company.run(uploads, by="staff") == []
    wish = company.run(documents.relabel, PATH, "internal", reason="誤り")
    company.run(documents.approve, wish["request"], by="hr")
    assert [u["label"] for u in company.run(uploads, by="staff")] == ["internal"]
    put(company, data=SECOND, replace=True)
    assert company.run(uploads, by="staff") == [], "what was lowered was the old file"


def test_a_hidden_file_of_that_name_is_not_told_from_a_free_name(company: Folder) -> None:
    put(company, by="staff")
    company.sync()
    path = "uploads/staff/慶弔見舞金.md"
    company.run(documents.relabel, path, "confidential:hr", reason="人事の内容")
    assert put(company, data=SECOND, by="staff")["path"] == path
    assert put(company, "別.md", by="staff")["path"] == "uploads/staff/別.md"
    assert put(company, by="hr")["path"] == "uploads/hr/慶弔見舞金.md", "another person's names are another folder"


def test_taking_away_leaves_no_byte(company: Folder) -> None:
    put(company)
    company.sync()
    company.run(remove_upload, PATH)
    with pytest.raises(NotFoundError):
        company.run(remove_upload, PATH)
    company.sync()
    assert PATH not in company.docs()
    assert hashlib.sha256(TEXT).hexdigest() not in blobs(company)
    for file in (company.path / ".hagane").rglob("*"):
        assert not file.is_file() or "慶弔見舞金".encode() not in file.read_bytes(), file.name


def test_taking_away_before_it_was_read_removes_the_bytes_at_once(company: Folder) -> None:
    company.sync()
    put(company)
    company.run(remove_upload, PATH)
    assert hashlib.sha256(TEXT).hexdigest() not in blobs(company)
    with pytest.raises(NotFoundError):
        company.run(remove_upload, PATH, by="hr")


def test_what_one_may_not_see_one_cannot_take_away(company: Folder) -> None:
    put(company, label="confidential:hr")
    with pytest.raises(NotFoundError):
        company.run(remove_upload, PATH, by="staff")
    assert len(company.run(uploads)) == 1


def test_only_who_uploaded_it_or_an_administrator_takes_a_file_away(company: Folder) -> None:
    """Seeing it is not enough, whatever else one may do with documents."""
    put(company, by="staff")
    path = "uploads/staff/慶弔見舞金.md"
    with Project.open(company.path) as project:
        hr = project.principal("hr")
        for roles in (hr.roles, ("annotate", "ask", "build", "govern")):
            with pytest.raises(RefusedError, match="another person's"):
                remove_upload(project, path, by=replace(hr, roles=roles))
        assert [row["path"] for row in uploads(project, by=hr)] == [path]
        assert not [r for r in records(company) if r["act"] == "upload.remove"]
        remove_upload(project, path, by=replace(hr, roles=("administer", "ask")))
        assert uploads(project, by=hr) == []
    put(company, by="staff")
    company.run(remove_upload, path, by="staff")
    assert company.run(uploads) == []


def test_many_uploads_leave_without_asking(company: Folder) -> None:
    """Mass deletion is guarded in folders, where it may be an accident; here each was taken away by hand."""
    for n in range(25):
        put(company, f"文書{n}.txt", f"第{n}号の文書である。内容は{n * 7}番の手続きを定める。".encode())
    company.sync()
    for n in range(25):
        company.run(remove_upload, f"uploads/owner/文書{n}.txt")
    report = company.sync()
    assert report.refused == []
    assert not any(path.startswith("uploads/") for path in company.docs())


def test_same_bytes_in_a_source_and_an_upload_share_a_blob_that_stays(company: Folder) -> None:
    company.write("rules/慶弔.md", TEXT)
    put(company)
    company.sync()
    (company.path / "rules/慶弔.md").unlink()
    company.sync()
    assert hashlib.sha256(TEXT).hexdigest() in blobs(company)
    assert PATH in company.found(QUESTION)
    with Project.open(company.path) as project:
        project.ledger.documents.sweep()
        assert project.ledger.blobs.open(hashlib.sha256(TEXT).hexdigest(), verify=True) == TEXT


def test_sweep_beside_an_upload_never_takes_its_bytes(company: Folder) -> None:
    """What erasure deletes, and what is coming in, look at the rows under one lock."""
    company.sync()
    stop = threading.Event()
    with Project.open(company.path) as project:
        by = project.principal()

        def sweep() -> None:
            while not stop.is_set():
                project.ledger.documents.sweep()
                project.ledger.uploads.sweep()

        sweeping = threading.Thread(target=sweep)
        sweeping.start()
        try:
            for n in range(40):
                data = f"第{n}号".encode()
                upload(project, f"{n}.txt", [data], by=by)
                assert project.ledger.blobs.open(hashlib.sha256(data).hexdigest()) == data
        finally:
            stop.set()
            sweeping.join()
        rows = uploads(project, by=by)
        assert len(rows) == 40
        assert all(project.ledger.blobs.has(row["sha256"]) for row in rows)


def test_a_server_that_was_killed_before_it_queued_a_sync_catches_up(company: Folder) -> None:
    company.sync()
    put(company)
    with Project.open(company.path) as project:
        id = work.catch_up(project)
        assert id is not None
        assert work.catch_up(project) == id, "the sync that waits is the same one"
        assert work.job(project, id, by=project.principal())["kind"] == "sync"
    company.sync()
    with Project.open(company.path) as project:
        assert unread(project) == []
        remove_upload(project, PATH, by=project.principal())
        assert unread(project) == ["owner"]
    company.sync()
    with Project.open(company.path) as project:
        assert work.catch_up(project) is None


KILLED = """
import os, signal, sys
from pathlib import Path
from hagane.project.uploads import upload
from hagane.project.wire import Project
from hagane.ledger import uploads
project = Project.open(Path(sys.argv[1]))
where = sys.argv[2]
def die(*given, **named):
    os.kill(os.getpid(), signal.SIGKILL)
def pieces():
    yield "途中まで".encode() * 1000
    if where == "piece":
        die()
if where == "blob":
    project.ledger.uploads._auditor.record = die
if where == "audit":
    uploads._raise_document = die
upload(project, "消える.txt", pieces(), by=project.principal())
print("kept", flush=True)
die()
"""


@pytest.mark.parametrize("where", ["piece", "blob", "audit", "after"])
def test_killed_upload_is_whole_or_nothing(company: Folder, where: str) -> None:
    """kill -9 before the answer: nothing of it stays after the next sync. After the answer: it is there."""
    company.sync()
    before = blobs(company)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(company.path), where], capture_output=True, env=env, check=False)
    assert done.returncode == -9, done.stderr.decode()[-500:]
    data = "途中まで".encode() * 1000
    kept = b"kept" in done.stdout
    assert kept == (where == "after")
    if where in ("blob", "audit"):
        assert hashlib.sha256(data).hexdigest() in blobs(company), "the kill came too early to show anything"
    company.sync()
    assert [row["sha256"] for row in company.run(uploads)] == ([hashlib.sha256(data).hexdigest()] if kept else [])
    assert (hashlib.sha256(data).hexdigest() in blobs(company)) == kept
    assert left_over(company) == []
    assert before <= blobs(company)
    assert company.path.joinpath(".hagane/audit/log.jsonl").exists()


def test_no_audit_record_no_upload(company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    company.sync()
    before = blobs(company)
    with Project.open(company.path) as project:
        def broken(*given: Any, **named: Any) -> str:
            raise AuditError("full")

        monkeypatch.setattr(project.ledger.uploads._auditor, "record", broken)
        with pytest.raises(AuditError):
            upload(project, "規程.txt", ["規程".encode()], by=project.principal())
        assert uploads(project, by=project.principal()) == []
    assert blobs(company) == before
    assert left_over(company) == []


def test_encrypted_projects_never_have_the_bytes_on_disk_in_the_open(company: Folder) -> None:
    """No plain copy on disk, not even for the time that the upload takes; and no hash by which a known file shows."""
    encrypt(company)
    sha256 = hashlib.sha256(TEXT).hexdigest()

    def plain() -> list[str]:
        files = [f for f in (company.path / ".hagane").rglob("*") if f.is_file()]
        return [str(f) for f in files if "結婚祝金".encode() in f.read_bytes() or sha256 in f.name]

    seen: list[list[str]] = []

    def pieces() -> Iterator[bytes]:
        for part in (TEXT[:60], TEXT[60:] + b"\n" * (3 << 20)):  # longer than a segment: some of it lies on disk by then
            yield part
            seen.append(plain())

    company.run(upload, "慶弔見舞金.md", pieces())
    assert seen == [[], []]
    assert left_over(company) == []
    assert plain() == []
    company.sync()
    assert PATH in company.found(QUESTION)
    assert plain() == []
    company.run(remove_upload, PATH)
    company.sync()
    assert PATH not in company.docs()


def test_encrypted_uploads_are_never_whole_in_memory(company: Folder) -> None:
    """Whatever comes, a few segments of 1 MiB are held; what was kept opens as the same bytes."""
    encrypt(company)
    size, digest = 0, hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        nonlocal size
        for n in range(400):
            piece = f"{n:04}号".encode() * 10_000  # 70 kB
            size += len(piece)
            digest.update(piece)
            yield piece

    with Project.open(company.path) as project:
        put_first = upload(project, "小.txt", [TEXT], by=project.principal())  # what is loaded once is loaded
        tracemalloc.start()
        try:
            kept = upload(project, "大.txt", pieces(), by=project.principal())
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert size > 25_000_000
        assert peak < 8_000_000
        assert (kept["size"], kept["sha256"]) == (size, digest.hexdigest())
        seen = hashlib.sha256()
        for piece in project.ledger.blobs.stream(kept["sha256"]):
            seen.update(piece)
        assert seen.hexdigest() == kept["sha256"]
        assert project.ledger.blobs.open(put_first["sha256"]) == TEXT
    assert left_over(company) == []


def test_same_bytes_again_in_an_encrypted_project_open_even_when_their_key_was_lost(company: Folder) -> None:
    """A crash may keep a sealed file without its key: then it is not there, and is written anew."""
    encrypt(company)
    put(company)
    sha256 = hashlib.sha256(TEXT).hexdigest()
    with Project.open(company.path) as project:
        name = project.ledger.keys.blob_name(sha256)
        project.ledger.keys.drop([f"blob:{name}"])
        assert not project.ledger.blobs.holds(sha256)
        upload(project, "写し.md", [TEXT], by=project.principal())
        assert project.ledger.blobs.open(sha256, verify=True) == TEXT


def test_audit_of_an_encrypted_project_holds_no_hash_by_which_a_known_file_shows(company: Folder) -> None:
    """Neither of bytes, names nor questions; in a plain project they stand there, to be held against the files."""
    from hagane.project.questions import search

    def known() -> set[str]:
        texts = [TEXT, SECOND, PATH.encode(), QUESTION.encode(), "人事の内容".encode()]
        return {hashlib.sha256(text).hexdigest() for text in texts}

    def live() -> str:
        put(company)
        put(company, data=SECOND, replace=True)
        company.sync()
        company.run(search, QUESTION)
        company.run(documents.relabel, PATH, "confidential:hr", reason="人事の内容")
        company.run(remove_upload, PATH)
        return (company.path / ".hagane/audit/log.jsonl").read_text(encoding="utf-8")

    plain = live()
    assert all(digest in plain for digest in known())
    shutil.rmtree(company.path / ".hagane")
    encrypt(company)
    sealed = live()
    assert [digest for digest in known() if digest in sealed] == []
    said = {record["act"]: record for record in records(company)}
    assert said["upload.remove"]["name"] == said["upload"]["name"], "equal names are still told to be equal"
    assert said["upload.remove"]["sha256"] == said["upload"]["sha256"] != said["upload"]["replaces"]
