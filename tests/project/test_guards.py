"""What a folder may hold that is no ordinary file, and when sync refuses to delete."""

from __future__ import annotations

import os
import shutil
import socket
import unicodedata
from pathlib import Path

import pytest
from small_company import TEXTS, Folder

from hagane.project import documents
from hagane.project.shown import shown_text
from hagane.rag.scan import scan

as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def aside(folder: Folder) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in folder.sync().aside}


def test_pipes_sockets_and_circles_are_set_aside_without_waiting(tmp_path: Path) -> None:
    """A named pipe would block whoever opens it; links in a circle lead nowhere."""
    os.mkfifo(tmp_path / "管.txt")
    (tmp_path / "輪1").symlink_to(tmp_path / "輪2")
    (tmp_path / "輪2").symlink_to(tmp_path / "輪1")
    (tmp_path / "自分").symlink_to(tmp_path)
    (tmp_path / "切れた.txt").symlink_to(tmp_path / "無い.txt")
    (tmp_path / "規程.txt").write_text("規程", encoding="utf-8")
    (tmp_path / "別名.txt").symlink_to(tmp_path / "規程.txt")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's address is short
        try:
            server.bind("s")
        finally:
            os.chdir(here)
        found = scan(tmp_path, base=tmp_path)
    assert sorted(file.path for file in found.files) == ["別名.txt", "規程.txt"]
    reasons = {path: reason for path, reason, _ in found.asides}
    assert reasons == {
        "管.txt": "unsupported", "輪1": "unreadable", "輪2": "unreadable", "自分": "hostile", "切れた.txt": "unreadable", "s": "unsupported",
    }  # fmt: skip


def test_two_spellings_of_one_name_are_one_document_and_an_aside(company: Folder) -> None:
    """Unicode's composed and decomposed forms: the first is read, the other named, at every sync the same."""
    names = [unicodedata.normalize(form, "rules/ガイド.md") for form in ("NFC", "NFD")]
    for number, name in enumerate(names):
        company.write(name, f"# ガイド\n\n受付は{number + 1}階にある。\n")
    first = company.sync()
    assert [(row["path"], row["reason"]) for row in first.aside] == [("rules/ガイド.md [2]", "unreadable")]
    before = company.state()
    again = company.sync()
    assert (again.added, again.changed, again.removed, again.aside) == ([], [], [], [])
    assert company.state() == before
    assert company.docs()["rules/ガイド.md"]["state"] == "in"


def test_names_that_are_no_utf8_are_read_and_kept_apart(company: Folder) -> None:
    """A name in CP932 reads as what it says; one in no known encoding gets escapes."""
    root = os.fsencode(company.path / "rules")
    for name in ("議事録.txt".encode("cp932"), b"\xff\xfe\x80.txt"):
        with open(root + b"/" + name, "wb") as file:
            file.write("棚卸は九月末に実施する。責任者は倉庫課長である。\n".encode() + name.hex().encode())
    report = company.sync()
    assert {"rules/議事録.txt", "rules/%FF%FE%80.txt"} <= set(report.added)
    assert "rules/議事録.txt" in company.docs()
    assert company.sync().unchanged == 6


def test_file_that_becomes_a_pipe_leaves_search(company: Folder) -> None:
    company.sync()
    (company.path / "rules/経費.txt").unlink()
    os.mkfifo(company.path / "rules/経費.txt")
    assert aside(company) == {"rules/経費.txt": "unsupported"}
    assert "rules/経費.txt" not in company.found("領収書を紛失")
    (company.path / "rules/経費.txt").unlink()
    company.write("rules/経費.txt", TEXTS["rules/経費.txt"])
    company.sync()
    assert "rules/経費.txt" in company.found("領収書を紛失")


def test_source_taken_out_of_the_file_loses_its_documents_few_at_once_many_with_yes(company: Folder) -> None:
    company.sync()
    file = company.path / "hagane.yaml"
    whole = file.read_text(encoding="utf-8")
    file.write_text("".join(line for line in whole.splitlines(True) if "name: hr" not in line), encoding="utf-8")
    assert company.sync().removed == ["hr/給与レンジ.md"]
    for number in range(21):
        company.write(f"rules/通達/{number:02}.txt", f"通達第{number}号\n\n第{number}会議室は{number + 1}階にある。担当は総務{number}係である。\n")
    company.sync()
    file.write_text(
        "".join(line for line in whole.splitlines(True) if "name: " not in line or "fake" in line).replace("sources:\n", "sources: []\n"),
        encoding="utf-8",
    )
    report = company.sync()
    assert (report.removed, len(report.refused[0]["paths"])) == ([], 24)
    assert len(company.docs()) == 24
    assert len(company.sync(yes=True).removed) == 24


@as_root
def test_unreadable_folder_loses_nothing_and_unreadable_file_is_named(company: Folder) -> None:
    company.write("rules/下位/旅費.txt", "旅費の精算は出張後7日以内に行う。\n")
    company.sync()
    folder, file = company.path / "rules/下位", company.path / "rules/経費.txt"
    folder.chmod(0)
    file.chmod(0)
    report = company.sync()
    folder.chmod(0o755)
    assert report.refused[0]["paths"] == ["rules/下位"]
    assert report.aside == [{"path": "rules/経費.txt", "reason": "unreadable", "detail": "PermissionError"}]
    assert "rules/下位/旅費.txt" in company.docs()
    file.chmod(0o644)
    assert company.sync().changed == ["rules/経費.txt"]


def test_file_that_changes_while_it_is_read_is_read_again(company: Folder) -> None:
    """Its stamp is of before the reading: the next sync sees another one."""
    file = company.path / "rules/経費.txt"

    def change(event: dict[str, object]) -> None:
        if event["event"] == "words":
            file.write_text("経費の精算\n\n立替経費は45日以内に申請する。\n", encoding="utf-8")

    company.run(documents.sync, emit=change)
    company.sync()
    shown = company.run(documents.show, "経費.txt")
    assert "45日" in shown.document.text


def test_restored_file_after_an_interrupted_deletion_is_read_again(company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended after the documents left and before the file's row did; then the file came back."""
    from hagane.ledger.files import Files

    class Killed(BaseException):
        pass

    def killed(self: Files, source: str, paths: list[str]) -> None:
        raise Killed

    company.sync()
    kept = company.path / "kept.txt"
    shutil.move(company.path / "rules/経費.txt", kept)
    with monkeypatch.context() as patch:
        patch.setattr(Files, "forget", killed)
        with pytest.raises(Killed):
            company.sync()
    shutil.move(kept, company.path / "rules/経費.txt")
    company.sync()
    assert "rules/経費.txt" in company.found("領収書を紛失")


def test_copy_comes_back_when_the_kept_twin_gets_a_stricter_label(company: Folder) -> None:
    """Whoever may see the copy must find one of the two."""
    company.write("rules/写し/在宅勤務.md", TEXTS["rules/在宅勤務.md"])
    company.sync()
    kept = next(path for path, row in company.docs().items() if "在宅勤務" in path and row["state"] == "in")
    id = company.docs()[kept]["id"]
    company.run(documents.relabel, id, "confidential:hr", reason="人事の情報が入った")
    found = company.found("在宅勤務の通信費", by="staff")  # at once, before the next sync
    assert [path for path in found if "在宅勤務" in path]
    assert kept not in found
    assert id not in f"{company.docs(by='staff')}"
    before = company.state()["documents"]
    company.sync()
    assert company.state()["documents"] == before


def test_copy_does_not_name_a_twin_above_the_clearance(company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the index has not learned of the label yet."""
    company.write("rules/写し/在宅勤務.md", TEXTS["rules/在宅勤務.md"])
    company.sync()
    rows = {row["state"]: row for path, row in company.docs().items() if "在宅勤務" in path}
    kept, copy = rows["in"]["id"], rows["duplicate"]["id"]
    monkeypatch.setattr(documents, "settle", lambda project: None)
    company.run(documents.relabel, kept, "confidential:hr", reason="人事の情報が入った")
    row = next(row for row in company.docs(by="staff").values() if row["id"] == copy)
    assert (row["duplicate_of"], row["detail"]) == (None, "")
    assert kept not in shown_text(company.run(documents.show, copy, by="staff"), page=None)
    assert kept in shown_text(company.run(documents.show, copy, by="hr"), page=None)


def test_sync_tells_nobody_paths_above_the_clearance(company: Folder) -> None:
    """Whoever runs it, everything is brought up to date; what is told stays within the clearance."""
    company.write("hr/壊れた.pdf", b"%PDF-1.7\nnothing")
    told: list[dict[str, object]] = []
    report = company.run(documents.sync, by="staff", emit=told.append)
    assert len(company.docs()) == 5
    assert "hr/" not in f"{report} {told}"
    assert len(report.added) == 3
    (company.path / "hr/給与レンジ.md").unlink()
    assert company.run(documents.sync, by="staff", emit=told.append).removed == []
    shutil.rmtree(company.path / "hr")
    report = company.run(documents.sync, by="staff", emit=told.append)
    assert report.refused == []
    assert "hr/" not in f"{report} {told}"
    assert company.sync().refused[0]["source"] == "hr"
    assert not [event for event in told if event.keys() - {"event"}]


def test_sync_tells_nobody_numbers_above_the_clearance(company: Folder) -> None:
    """The same report and the same events, whether or not there are documents in hr."""
    for number in range(3):
        company.write(f"hr/辞令/{number}.txt", f"辞令第{number}号\n\n第{number}課長を{number + 4}月1日付で部長とする。\n")
    company.write("hr/写し.md", TEXTS["hr/給与レンジ.md"])
    told: list[dict[str, object]] = []
    first = company.run(documents.sync, by="staff", emit=told.append)
    assert [event["event"] for event in told] == ["scan", "words", "vectors", "done"]
    second = company.run(documents.sync, by="staff", emit=told.append)
    whole = company.sync()
    seen = sum(row["chunks"] for row in company.docs(by="staff").values())
    assert (whole.unchanged, whole.chunks > seen) == (8, True)
    assert [row["path"] for row in company.docs().values() if row["state"] == "duplicate"]  # in hr: not counted
    for report, unchanged in ((first, 0), (second, 3)):
        assert (report.unchanged, report.duplicates, report.kept, report.relabelled) == (unchanged, 0, 0, 0)
        assert (report.chunks, report.vectors, report.complete) == (seen, seen, True)


def test_folder_that_nobody_can_read_any_more_leaves_with_yes(company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, sync says which folder; with it, what lay there is deleted like anything that is gone."""
    company.write("rules/下位/旅費.txt", "旅費の精算は出張後7日以内に行う。\n")
    company.sync()
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if str(folder).endswith("下位"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert company.sync().refused[0]["paths"] == ["rules/下位"]
    report = company.sync(yes=True)
    assert (report.removed, report.refused) == (["rules/下位/旅費.txt"], [])


def test_source_of_one_file_that_is_gone_leaves_with_yes(company: Folder) -> None:
    file = company.write("通達.txt", "通達\n\n社員食堂の営業は14時までとする。\n")
    company.run(lambda project, by: documents.add(project, [file]))
    company.sync()
    file.unlink()
    report = company.sync()
    assert (report.removed, report.refused[0]["paths"]) == ([], ["通達.txt"])
    report = company.sync(yes=True)
    assert (report.removed, report.refused) == (["通達.txt"], [])
