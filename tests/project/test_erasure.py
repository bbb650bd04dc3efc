"""What was deleted is gone from every byte: each file is opened with its own reader, before and after."""

from __future__ import annotations

import io
import json
import sqlite3
import zipfile
from pathlib import Path

import pytest
import zstandard
from small_company import Folder

from hagane.core.errors import NotFoundError
from hagane.index.erased import traces
from hagane.project import documents
from hagane.project.questions import ask, search

SECRET = {
    "text": "特別功労金はザンジバル基金から支出する",
    "title": "瑠璃色計画",
    "name": "孔雀文書",
    "term": "ザンジバル",
}
DELETED = f"# {SECRET['title']}\n\n{SECRET['text']}。決裁は社長が行い、記録は三年間保存する。\n"


def holders(state: Path, word: str) -> list[str]:
    """Every place below `state` that holds `word`, by the reader of each file's own format."""
    found = [f"index: {trace}" for trace in traces(state / "index", word)]
    data = word.encode()
    for file in sorted(file for file in state.rglob("*") if file.is_file()):
        name = str(file.relative_to(state))
        raw = file.read_bytes()
        found += [f"bytes: {name}"] if _holds(raw, word) else []
        if file.suffix == ".zst":
            found += [f"unpacked: {name}"] if _holds(zstandard.ZstdDecompressor().decompress(raw), word) else []
        if raw[:4] == b"PK\3\4":
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                found += [f"member of {name}" for member in archive.infolist() if data in archive.read(member) or word in member.filename]
        if raw[:15] == b"SQLite format 3":
            found += _rows(file, word)
    return found


def _holds(raw: bytes, word: str) -> bool:
    """As UTF-8, as JSON spells it, and in the encodings of old files."""
    spelled = [word.encode(), json.dumps(word)[1:-1].encode(), word.encode("utf-16-le")]
    spelled += [word.encode("cp932", "ignore")] if len(word.encode("cp932", "ignore")) > 4 else []
    return any(one in raw for one in spelled)


def _rows(file: Path, word: str) -> list[str]:
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = ((table, row) for table in tables for row in connection.execute(f'SELECT * FROM "{table}"'))
        return [f"row of {table}" for table, row in rows if any(word in str(value) for value in row)]


def everywhere(folder: Folder) -> dict[str, list[str]]:
    return {what: holders(folder.path / ".hagane", word) for what, word in SECRET.items()}


def use(folder: Folder) -> None:
    """What leaves traces besides ingestion: questions, a shown document, a label."""
    for question in ("特別功労金はどこから支出しますか", SECRET["text"]):
        folder.run(search, question)
        folder.run(ask, question)


def test_deleted_file_is_gone_from_every_byte(company: Folder) -> None:
    """Text, title, file name and search term: found before the deletion, nowhere after it."""
    company.write(f"rules/{SECRET['name']}.md", DELETED)
    company.sync()
    use(company)
    company.run(documents.relabel, f"{SECRET['name']}.md", "confidential:hr", reason=SECRET["title"])
    use(company)
    before = everywhere(company)
    for what in ("text", "title", "name"):
        assert any("index" in place for place in before[what]), what
        assert any(place.startswith(("unpacked", "bytes: blobs")) for place in before[what]) or what == "name"
    assert any("ledger.db" in place or "documents" in place for place in before["name"])
    (company.path / f"rules/{SECRET['name']}.md").unlink()
    company.sync()
    assert {what: places for what, places in everywhere(company).items() if places} == {}
    assert len(company.docs()) == 4
    assert company.found("領収書を紛失")[0] == "rules/経費.txt"


def test_deleted_copy_part_and_renamed_file_are_gone_too(company: Folder) -> None:
    """A copy that was never searched, a part of an archive that is packed anew, and a file that had another name."""
    copy = f"rules/写し{SECRET['name']}.md"
    company.write(f"rules/{SECRET['name']}.md", DELETED)
    company.write(copy, DELETED)
    _pack(company, {"手順.md": "# 棚卸の手順\n\n棚卸は9月末に実施する。\n", f"{SECRET['name']}.md": DELETED + "\n以上、甲。\n"})
    company.sync()
    (company.path / copy).rename(company.path / "rules/別名.md")
    company.sync()
    (company.path / "rules/別名.md").unlink()
    (company.path / f"rules/{SECRET['name']}.md").unlink()
    company.write("hagane.yaml", (company.path / "hagane.yaml").read_text() + "versions: {keep: 0}\n")
    _pack(company, {"手順.md": "# 棚卸の手順\n\n棚卸は9月末に実施する。\n"})
    company.sync()
    assert {what: places for what, places in everywhere(company).items() if places} == {}
    assert "rules/資料.zip!/手順.md" in company.found("棚卸の手順")


def _pack(company: Folder, members: dict[str, str]) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    company.write("rules/資料.zip", data.getvalue())


def test_old_version_that_is_no_longer_kept_is_gone_too(company: Folder) -> None:
    """With versions.keep 1 the second change takes the first text with it; until then it can be opened."""
    company.write("hagane.yaml", (company.path / "hagane.yaml").read_text() + "versions: {keep: 1}\n")
    company.write("rules/規程.md", DELETED)
    company.sync()
    first = company.docs()["rules/規程.md"]["version"]
    company.write("rules/規程.md", "# 功労金\n\n功労金の制度は見直し中である。\n")
    company.sync()
    assert SECRET["text"] in company.run(documents.show, "規程.md", version=first).document.text
    company.write("rules/規程.md", "# 功労金\n\n功労金の制度は廃止した。\n")
    company.sync()
    places = everywhere(company)
    assert {what: places[what] for what in ("text", "title", "term") if places[what]} == {}
    with pytest.raises(NotFoundError):
        company.run(documents.show, "規程.md", version=first)


def test_erasure_interrupted_before_its_end_is_finished_by_the_next_sync(company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended between the deletion and the purge."""
    from hagane.ledger.ledger import Ledger

    class Killed(BaseException):
        pass

    def killed(self: Ledger) -> None:
        raise Killed

    company.write(f"rules/{SECRET['name']}.md", DELETED)
    company.sync()
    (company.path / f"rules/{SECRET['name']}.md").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "purge", killed)
        with pytest.raises(Killed):
            company.sync()
    company.sync()
    assert {what: places for what, places in everywhere(company).items() if places} == {}
