"""A file that was known keeps its label, under whatever source it is found next: lowering needs an approval."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from small_company import Folder

from hagane.project import documents
from hagane.rag.ingest import Ingest

HR = '  - {name: hr, path: hr/, label: "confidential:hr", exclude: ["drafts/**"]}\n'
RENAMED = '  - {name: 人事, path: hr/, label: internal, exclude: ["drafts/**"]}\n'
SECRET = "hr/給与レンジ.md"
QUESTION = "査定Sの昇給率"


def edit(company: Folder, before: str, after: str) -> None:
    file = company.path / "hagane.yaml"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def test_source_under_another_name_lowers_nothing(company: Folder) -> None:
    """The old documents leave, the new ones carry the label; someone else's approval lowers it."""
    company.sync()
    old = company.docs()[SECRET]["id"]
    edit(company, HR, RENAMED)
    report = company.sync()
    assert report.added == [SECRET]
    assert report.kept == 1
    row = company.docs()[SECRET]
    assert (row["source"], row["label"], row["id"] == old) == ("人事", "confidential:hr", False)
    assert SECRET not in company.found(QUESTION, by="staff")
    assert SECRET in company.found(QUESTION, by="hr")
    company.sync()
    assert company.docs()[SECRET]["label"] == "confidential:hr"
    wish = company.run(documents.relabel, SECRET, "internal", reason="公開してよい")
    company.run(documents.approve, wish["request"], by="hr")
    assert SECRET in company.found(QUESTION, by="staff")


def test_second_source_over_a_known_folder_lowers_nothing(company: Folder) -> None:
    """Both sources have the file; neither shows it to staff, also when the first one leaves later."""
    company.sync()
    edit(company, HR, HR + RENAMED)
    company.sync()
    assert SECRET not in company.found(QUESTION, by="staff")
    edit(company, HR, "")
    company.sync()
    assert company.docs()[SECRET]["source"] == "人事"
    assert SECRET not in company.found(QUESTION, by="staff")


def test_file_excluded_here_and_taken_there_lowers_nothing(company: Folder) -> None:
    """Moving a file between overlapping sources by their patterns."""
    edit(company, "path: rules/,", 'path: ".", exclude: ["hr/**"],')
    company.sync()
    edit(company, 'path: ".", exclude: ["hr/**"],', 'path: ".",')
    edit(company, 'exclude: ["drafts/**"]', 'exclude: ["**"]')
    company.sync()
    assert company.docs()[SECRET]["source"] == "rules"
    assert SECRET not in company.found(QUESTION, by="staff")
    assert "rules/経費.txt" in company.found("領収書を紛失", by="staff")


def test_own_marks_survive_a_renamed_source_also_in_archives(company: Folder) -> None:
    """A document that a person raised, and a part of an archive."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("棚卸.md", "# 棚卸の手順\n\n棚卸は9月末に実施する。責任者は倉庫課長である。\n")
        archive.writestr("清掃.md", "# 清掃の手順\n\n清掃は毎週金曜日に行う。当番は総務が決める。\n")
    company.write("rules/資料.zip", data.getvalue())
    company.sync()
    for doc in ("経費.txt", "棚卸.md"):
        company.run(documents.relabel, doc, "confidential:hr", reason="人事の情報")
    edit(company, "{name: rules,", "{name: 規程,")
    company.sync()
    labels = {path: row["label"] for path, row in company.docs().items()}
    assert labels["rules/経費.txt"] == labels["rules/資料.zip!/棚卸.md"] == "confidential:hr"
    assert labels["rules/資料.zip!/清掃.md"] == labels["rules/在宅勤務.md"] == "internal"


def test_label_is_kept_when_the_sync_dies_between_removing_and_adding(
    company: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old rows are gone then; the ledger remembers what the new ones must carry, and forgets it afterwards."""
    company.sync()
    edit(company, HR, RENAMED)

    def die(self: Ingest, *given: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(Ingest, "_prepare", die)
        with pytest.raises(RuntimeError):
            company.sync()
    assert SECRET not in company.docs()
    company.sync()
    assert company.docs()[SECRET]["label"] == "confidential:hr"
    assert SECRET not in company.found(QUESTION, by="staff")
    assert company.run(lambda project, by: project.ledger.fact("floors")) == {}


def test_what_was_kept_is_in_the_audit_log_as_a_number(company: Folder) -> None:
    company.sync()
    edit(company, HR, RENAMED)
    company.sync()
    lines = (company.path / ".hagane/audit/log.jsonl").read_text().splitlines()
    kept = [line for line in lines if "label.keep" in line]
    assert len(kept) == 1 and "給与" not in kept[0]
    assert "人事" in json.dumps(json.loads(kept[0]), ensure_ascii=False)


def test_higher_label_of_a_renamed_source_counts_at_once(company: Folder) -> None:
    company.sync()
    edit(company, "{name: rules, path: rules/, label: internal}", '{name: 規程, path: rules/, label: "confidential:hr"}')
    assert company.sync().kept == 0
    assert company.docs()["rules/経費.txt"]["label"] == "confidential:hr"
