"""Sync: what lies in the sources is searchable, and nothing else."""

from __future__ import annotations

import io
import os
import shutil
import zipfile

import pytest
from small_company import TEXTS, Folder

from hagane.core.errors import ConfigError, NotFoundError, RefusedError, StateError
from hagane.project import documents
from hagane.project.wire import Project


def test_first_sync_takes_everything_but_what_is_excluded(company: Folder) -> None:
    """Drafts are excluded; labels come from the sources."""
    report = company.sync()
    assert sorted(report.added) == sorted(name for name in TEXTS if "drafts" not in name)
    assert report.complete and report.vectors == report.chunks > 0
    rows = company.docs()
    assert rows["hr/給与レンジ.md"]["label"] == "confidential:hr"
    assert rows["rules/経費.txt"]["state"] == "in"


def test_staff_never_sees_the_hr_document(company: Folder) -> None:
    """Neither in search, nor in the list, nor by id."""
    company.sync()
    assert "hr/給与レンジ.md" in company.found("査定Sの昇給率", by="hr")
    assert "hr/給与レンジ.md" not in company.found("査定Sの昇給率", by="staff")
    assert "hr/給与レンジ.md" not in company.docs(by="staff")
    id = company.docs()["hr/給与レンジ.md"]["id"]
    with pytest.raises(NotFoundError):
        company.run(documents.show, id, by="staff")


def test_second_sync_does_nothing(company: Folder) -> None:
    company.sync()
    before = company.state()
    report = company.sync()
    assert (report.added, report.changed, report.removed, report.unchanged) == ([], [], [], 4)
    assert company.state() == before


def test_changed_file_replaces_and_its_old_version_stays_openable(company: Folder) -> None:
    """The old text leaves search at once; the old citation still opens, under the label."""
    company.sync()
    old = company.docs()["rules/在宅勤務.md"]["version"]
    company.write("rules/在宅勤務.md", "# 在宅勤務\n\n在宅勤務は週2日までとする。通信費として月額4,000円を支給する。\n")
    report = company.sync()
    assert report.changed == ["rules/在宅勤務.md"]
    passages = company.run(lambda project, by: project.retriever.retrieve("通信費", clearance=by.clearance).passages)
    texts = "".join(passage.chunk.text for passage in passages)
    assert "4,000円" in texts
    assert "5,000円" not in texts
    assert "5,000円" in company.run(documents.show, "在宅勤務.md", version=old).document.text


def test_old_versions_beyond_keep_are_gone(company: Folder) -> None:
    company.write("hagane.yaml", (company.path / "hagane.yaml").read_text() + "versions: {keep: 1}\n")
    company.sync()
    first = company.docs()["rules/経費.txt"]["version"]
    for days in (40, 50):
        company.write("rules/経費.txt", f"経費の精算\n\n立替経費は{days}日以内に申請する。\n")
        company.sync()
    with pytest.raises(NotFoundError):
        company.run(documents.show, "経費.txt", version=first)


def test_renamed_file_keeps_id_version_and_vectors(company: Folder) -> None:
    """Recognised by content: not parsed and not embedded again."""
    company.sync()
    before = company.docs()["rules/経費.txt"]
    (company.path / "rules/経費.txt").rename(company.path / "rules/経費精算規程.txt")
    report = company.sync()
    after = company.docs()["rules/経費精算規程.txt"]
    assert (report.renamed, report.added, report.removed) == ([("rules/経費.txt", "rules/経費精算規程.txt")], [], [])
    assert (after["id"], after["version"]) == (before["id"], before["version"])
    assert company.found("領収書を紛失")[0] == "rules/経費精算規程.txt"
    company.write("rules/経費.txt", "新しい経費の規程。別の文書である。\n")
    company.sync()
    assert company.docs()["rules/経費.txt"]["id"] != before["id"]


def test_missing_source_deletes_nothing_without_yes(company: Folder) -> None:
    """An unmounted share must not empty the index."""
    company.sync()
    (company.path / "hr").rename(company.path / "hr-moved")
    report = company.sync()
    assert report.refused[0]["source"] == "hr"
    assert "hr/給与レンジ.md" in company.docs()
    company.sync(yes=True)
    assert "hr/給与レンジ.md" not in company.docs()


def test_losing_many_documents_needs_yes(company: Folder) -> None:
    """More than 20 documents and 30 % of them."""
    for number in range(30):
        company.write(f"rules/通達/{number:02}.txt", f"通達第{number}号\n\n第{number}会議室の利用時間を変更する。担当は{number}課である。\n")
    company.sync()
    for file in (company.path / "rules/通達").iterdir():
        file.unlink()
    report = company.sync()
    assert len(report.refused[0]["paths"]) == 30
    assert len(company.docs()) == 34
    assert len(company.sync(yes=True).removed) == 30


def test_equal_files_are_searched_once_and_come_back_when_the_kept_one_leaves(company: Folder) -> None:
    """A copy is recorded as one, with its twin; it is searched again once the twin is gone."""
    company.write("rules/写し/在宅勤務.md", TEXTS["rules/在宅勤務.md"])
    company.sync()
    rows = company.docs()
    states = {path: row["state"] for path, row in rows.items() if "在宅勤務" in path}
    assert sorted(states.values()) == ["duplicate", "in"]
    kept = next(path for path, state in states.items() if state == "in")
    (company.path / kept).unlink()
    company.sync()
    other = next(path for path in states if path != kept)
    assert company.docs()[other]["state"] == "in"
    assert other in company.found("在宅勤務の通信費")


def test_copy_of_a_secret_document_is_never_hidden_behind_it(company: Folder) -> None:
    """A public copy stays searchable for staff though an hr document has the same text."""
    company.write("rules/給与レンジ.md", TEXTS["hr/給与レンジ.md"])
    company.sync()
    assert "rules/給与レンジ.md" in company.found("査定Sの昇給率", by="staff")


def test_members_of_a_zip_are_documents(company: Folder) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("手順/棚卸.md", "# 棚卸の手順\n\n棚卸は9月末に実施する。責任者は倉庫課長である。\n")
        archive.writestr("../外.txt", "外に出るファイル")
    company.write("rules/資料.zip", data.getvalue())
    report = company.sync()
    assert "rules/資料.zip!/手順/棚卸.md" in company.found("棚卸の責任者")
    assert [aside["reason"] for aside in report.aside] == ["hostile"]
    (company.path / "rules/資料.zip").unlink()
    company.sync()
    assert not [path for path in company.docs() if "資料.zip" in path]


def test_bad_files_are_set_aside_with_their_reason(company: Folder) -> None:
    company.write("rules/空.txt", "")
    company.write("rules/壊れた.pdf", b"%PDF-1.7\n" + os.urandom(500))
    company.write("rules/乱数.bin", bytes(range(256)) * 20)
    reasons = {aside["path"]: aside["reason"] for aside in company.sync().aside}
    assert reasons["rules/空.txt"] == "empty"
    assert reasons["rules/壊れた.pdf"] == "damaged"
    assert reasons["rules/乱数.bin"] == "unsupported"
    assert company.docs()["rules/空.txt"]["state"] == "aside"
    assert company.sync().aside == []  # said once; hagane docs keeps it


def test_link_out_of_the_source_is_set_aside(company: Folder) -> None:
    company.write("secret.txt", "外の秘密")
    (company.path / "rules/link.txt").symlink_to(company.path / "secret.txt")
    assert company.sync().aside == [
        {"path": "rules/link.txt", "reason": "hostile", "detail": "a link that leads out of the source"}
    ]
    assert company.sync().aside == []


def test_raising_a_label_works_at_once_lowering_waits_for_another_principal(company: Folder) -> None:
    company.sync()
    company.run(documents.relabel, "経費.txt", "confidential:hr", by="owner", reason="人事の情報が入った")
    assert "rules/経費.txt" not in company.found("領収書を紛失", by="staff")
    wish = company.run(documents.relabel, "経費.txt", "internal", by="owner", reason="情報を除いた")
    assert wish["request"] and "rules/経費.txt" not in company.found("領収書を紛失", by="staff")
    with pytest.raises(RefusedError):
        company.run(documents.approve, wish["request"], by="owner")
    company.run(documents.approve, wish["request"], by="hr")
    assert "rules/経費.txt" in company.found("領収書を紛失", by="staff")
    company.sync()
    assert "rules/経費.txt" in company.found("領収書を紛失", by="staff")
    company.write("rules/経費.txt", "経費の精算\n\n立替経費は60日以内に申請する。領収書を紛失したときは相談する。\n")
    company.sync()
    assert "rules/経費.txt" not in company.found("領収書を紛失", by="staff")


def test_lower_label_of_a_source_in_the_file_lowers_nothing_by_itself(company: Folder) -> None:
    company.sync()
    file = company.path / "hagane.yaml"
    file.write_text(file.read_text().replace("confidential:hr\", exclude", "internal\", exclude"))
    report = company.sync()
    assert report.requests[0]["from"] == "confidential:hr"
    assert "hr/給与レンジ.md" not in company.found("査定Sの昇給率", by="staff")
    company.run(documents.approve, report.requests[0]["id"], by="hr")
    assert "hr/給与レンジ.md" in company.found("査定Sの昇給率", by="staff")


def test_one_sync_at_a_time(company: Folder) -> None:
    with Project.open(company.path) as project, project.ledger.only_writer(), pytest.raises(StateError):
        company.sync()


def test_label_that_the_index_does_not_know_yet_already_counts(company: Folder) -> None:
    """Killed between the ledger's commit and the index's: the stricter label wins."""
    company.sync()
    with Project.open(company.path) as project:
        record = project.ledger.documents.find("経費.txt", clearance=project.principal().clearance)
        project.ledger.marks.label(record.id, project.label("restricted"), by=project.principal(), reason="至急")
    assert "rules/経費.txt" not in company.found("領収書を紛失", by="staff")


def test_hidden_files_are_taken_only_where_the_source_says_so(company: Folder) -> None:
    """A forgotten .env must not become searchable by itself."""
    company.write("rules/.env/設定.txt", "夜間の連絡先は内線5555である。\n")
    company.sync()
    assert not [path for path in company.docs() if ".env" in path]
    file = company.path / "hagane.yaml"
    file.write_text(file.read_text().replace("path: rules/,", "path: rules/, hidden: true,"))
    assert company.sync().added == ["rules/.env/設定.txt"]


def test_lost_index_is_said_and_built_anew(company: Folder) -> None:
    """Whoever deletes .hagane/index gets it back by the next sync, the same as before."""
    company.sync()
    before = company.state()
    shutil.rmtree(company.path / ".hagane/index")
    with Project.open(company.path) as project:
        assert project.share_complete() == {"words": 0.0, "vectors": 0.0}
    report = company.sync()
    assert report.complete and report.chunks == len(before["chunks"]) > 0
    assert company.state() == before
    assert company.found("領収書を紛失")[0] == "rules/経費.txt"
    with Project.open(company.path) as project:
        assert project.share_complete() == {"words": 1.0, "vectors": 1.0}


def test_index_that_lost_one_document_is_mended(company: Folder) -> None:
    """A part of it counts as much as the whole."""
    company.sync()
    before = company.state()
    with Project.open(company.path) as project:
        project.index.delete([company.docs()["rules/経費.txt"]["id"]], purge=True)
        assert 0 < project.share_complete()["words"] < 1
    company.sync()
    assert company.state() == before


def test_project_without_an_embedder_is_complete_by_words(company: Folder) -> None:
    """embedder: none is a choice, not something that is missing."""
    file = company.path / "hagane.yaml"
    file.write_text(file.read_text().replace("embedder: {name: fake}", "embedder: {name: none}"))
    report = company.sync()
    assert report.complete and report.vectors == 0 < report.chunks
    with Project.open(company.path) as project:
        assert project.share_complete() == {"words": 1.0, "vectors": 1.0}
    assert company.found("領収書を紛失")[0] == "rules/経費.txt"


def test_vectors_of_another_embedder_do_not_count(company: Folder) -> None:
    """They are not searched, so search is not complete until sync made them anew."""
    company.sync()
    file = company.path / "hagane.yaml"
    file.write_text(file.read_text().replace("embedder: {name: fake}", "embedder: {name: fake, options: {dim: 8}}"))
    with Project.open(company.path) as project:
        assert project.share_complete() == {"words": 1.0, "vectors": 0.0}
    company.sync()
    with Project.open(company.path) as project:
        assert project.share_complete() == {"words": 1.0, "vectors": 1.0}


def test_unknown_option_of_an_embedder_is_said_with_its_file(company: Folder) -> None:
    file = company.path / "hagane.yaml"
    file.write_text(file.read_text().replace("{name: fake}", "{name: fake, options: {modell: 日本語}}"))
    with pytest.raises(ConfigError, match="modell"):
        company.sync()


def test_passage_whose_label_rises_while_it_is_searched_is_not_shown(company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The raise reaches ledger and index between the search and the answer."""
    from hagane.project import questions
    from hagane.rag.retrieve import Retriever

    company.sync()
    plain = Retriever.retrieve
    with Project.open(company.path) as project:

        def raised_meanwhile(self: Retriever, question: str, **named: object) -> object:
            found = plain(self, question, **named)
            documents.relabel(project, "経費.txt", "restricted", by=project.principal(), reason="至急")
            return found

        monkeypatch.setattr(Retriever, "retrieve", raised_meanwhile)
        found = questions.retrieve(project, "領収書を紛失", by=project.principal("staff"))
    assert "rules/経費.txt" not in [passage.chunk.path for passage in found.passages]


def test_name_with_a_line_break_is_taken(company: Folder) -> None:
    company.write("rules/改行\n名.txt", "改行を含む名前のファイルである。内線は7777。\n")
    assert "rules/改行\n名.txt" in company.sync().added


def test_raise_after_a_lowering_says_the_label_that_counts(company: Folder) -> None:
    """The older mark counts again: the result and the record must not say less."""
    company.sync()
    company.run(documents.relabel, "経費.txt", "confidential", by="owner", reason="見直し")
    wish = company.run(documents.relabel, "経費.txt", "public", by="owner", reason="公開")
    company.run(documents.approve, wish["request"], by="hr")
    done = company.run(documents.relabel, "経費.txt", "internal", by="owner", reason="社内に戻す")
    assert done["after"] == company.docs()["rules/経費.txt"]["label"] == "confidential"
