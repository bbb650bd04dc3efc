"""Documents: written in groups, read within a clearance, versions kept, deletions complete."""

from __future__ import annotations

import unicodedata

import pytest

from hagane.core.errors import NotFoundError
from hagane.core.labels import Clearance
from hagane.ledger.records import document_id, version_id

from .conftest import OWNER, STAFF, label

INTERNAL = Clearance.parse("internal")


def test_what_was_put_is_found_by_id_path_and_ending(ledger, fill):
    id = fill.put("人事/就業規則.md", title="就業規則", meta={"author": "総務部"}, quality={"letters": 0.98}, pages=3)
    for name in (id, "人事/就業規則.md", "就業規則.md", "規則.md"):
        assert ledger.documents.find(name, clearance=INTERNAL).id == id
    found = ledger.documents.find(id, clearance=INTERNAL)
    assert (found.title, dict(found.meta), found.pages) == ("就業規則", {"author": "総務部"}, 3)
    assert found.quality == {"letters": 0.98}


def test_paths_are_found_however_the_kana_are_composed(ledger, fill):
    """macOS gives decomposed names; が and か+゛ are the same document."""
    id = fill.put(unicodedata.normalize("NFD", "規程/がいよう.md"))
    assert ledger.documents.find(unicodedata.normalize("NFD", "がいよう.md"), clearance=INTERNAL).id == id
    assert ledger.documents.find(id, clearance=INTERNAL).path == unicodedata.normalize("NFC", "規程/がいよう.md")


def test_several_fitting_paths_are_listed(ledger, fill):
    fill.put("a/規程.md")
    fill.put("b/規程.md")
    with pytest.raises(NotFoundError, match="fits 2 documents") as caught:
        ledger.documents.find("規程.md", clearance=INTERNAL)
    assert "a/規程.md" in str(caught.value)
    assert "b/規程.md" in str(caught.value)


def test_an_exact_path_wins_over_endings(ledger, fill):
    id = fill.put("規程.md")
    fill.put("b/規程.md")
    assert ledger.documents.find("規程.md", clearance=INTERNAL).id == id


def test_signs_of_sql_patterns_in_names_mean_themselves(ledger, fill):
    fill.put("売上100%_案.md")
    fill.put("売上1000_案.md")
    assert ledger.documents.find("100%_案.md", clearance=INTERNAL).path == "売上100%_案.md"
    with pytest.raises(NotFoundError):
        ledger.documents.find("%", clearance=INTERNAL.__class__.parse("public"))


def test_a_document_above_the_clearance_does_not_exist(ledger, fill):
    """Neither by name, nor in lists, counts, versions or error messages."""
    id = fill.put("給与/役員報酬.md", label="confidential:hr", source="hr")
    version = ledger.documents.get([id], clearance=OWNER.clearance)[id].version
    seen = ledger.documents
    with pytest.raises(NotFoundError) as hidden:
        seen.find("役員報酬.md", clearance=INTERNAL)
    with pytest.raises(NotFoundError) as missing:
        seen.find("存在しない.md", clearance=INTERNAL)
    assert str(hidden.value).replace("役員報酬", "") == str(missing.value).replace("存在しない", "")
    assert seen.list(clearance=INTERNAL) == []
    assert seen.get([id], clearance=INTERNAL) == {}
    assert seen.versions(id, clearance=INTERNAL) == []
    assert seen.counts(clearance=INTERNAL)["in"] == 0
    with pytest.raises(NotFoundError):
        seen.version(version, clearance=INTERNAL)
    assert seen.version(version, clearance=OWNER.clearance).document == id


def test_a_hidden_twin_does_not_make_a_path_ambiguous(ledger, fill):
    open_one = fill.put("規程.md")
    fill.put("規程.md", source="hr", label="restricted:board")
    assert ledger.documents.find("規程.md", clearance=STAFF.clearance).id == open_one


def test_ids_are_a_function_of_source_and_first_path(ledger, fill):
    assert fill.put("a.md") == document_id("rules", "a.md", 0)
    assert fill.put("a.md", source="hr") == document_id("hr", "a.md", 0)
    assert version_id("d", "s", "f") == version_id("d", "s", "f") != version_id("d", "s", "g")


def test_a_renamed_document_keeps_its_id_and_its_place_gets_a_new_one(ledger, fill):
    id = fill.put("a.md")
    ledger.documents.put(
        [fill.draft("a.md", id=id).__class__(**{**_fields(fill.draft("a.md")), "path": "b.md"})], keep=3
    )
    assert ledger.documents.find("b.md", clearance=INTERNAL).id == id
    again = fill.put("a.md")
    assert again == document_id("rules", "a.md", 1) != id


def test_two_documents_may_swap_their_paths(ledger, fill):
    a, b = fill.put("a.md", "甲"), fill.put("b.md", "乙")
    first, second = fill.draft("a.md", "甲"), fill.draft("b.md", "乙")
    swapped = [type(d)(**{**_fields(d), "path": p}) for d, p in ((first, "b.md"), (second, "a.md"))]
    ledger.documents.put(swapped, keep=3)
    assert ledger.documents.find("b.md", clearance=INTERNAL).id == a
    assert ledger.documents.find("a.md", clearance=INTERNAL).id == b


def _fields(draft):
    return {name: getattr(draft, name) for name in draft.__dataclass_fields__}


def test_old_versions_stay_until_more_than_keep(ledger, fill):
    texts = [f"第{i}版" for i in range(6)]
    for text in texts:
        id = fill.put("規程.md", text, keep=3)
    kept = ledger.documents.versions(id, clearance=INTERNAL)
    assert [v.seq for v in kept] == [6, 5, 4, 3]
    assert [v.current for v in kept] == [True, False, False, False]
    assert [ledger.parsed.get(v.id).decode() for v in kept] == texts[:1:-1]
    assert len(list(ledger.parsed.list())) == len(list(ledger.blobs.list())) == 4


def test_returning_to_old_content_makes_that_version_the_current_one(ledger, fill):
    for text in ("甲", "乙", "甲"):
        id = fill.put("規程.md", text)
    kept = ledger.documents.versions(id, clearance=INTERNAL)
    assert [(v.seq, v.current) for v in kept] == [(3, True), (2, False)]
    assert ledger.blobs.open(kept[0].sha256).decode() == "甲"


def test_a_document_set_aside_has_no_current_version(ledger, fill):
    id = fill.put("規程.md", "読める")
    fill.put("規程.md", "壊れた", state="aside", version="", reason="damaged")
    record = ledger.documents.find(id, clearance=INTERNAL)
    assert (record.state, record.reason, record.version) == ("aside", "damaged", "")
    assert [v.current for v in ledger.documents.versions(id, clearance=INTERNAL)] == [False]


def test_deleting_takes_versions_parts_and_bytes_but_not_shared_bytes(ledger, fill):
    zip_id = fill.put("束.zip", "PK")
    part = fill.put("束.zip!/b.md", "中身", parent=zip_id)
    fill.put("束.zip!/b.md", "新しい中身", parent=zip_id)
    other = fill.put("同じ.md", "中身")
    gone = ledger.documents.delete([zip_id])
    assert set(gone.documents) == {zip_id, part}
    assert len(gone.versions) == 3
    assert [r.id for r in ledger.documents.list(clearance=INTERNAL)] == [other]
    assert [ledger.blobs.open(s).decode() for s in ledger.blobs.list()] == ["中身"]
    assert len(list(ledger.parsed.list())) == 1
    assert ledger.documents.versions(part, clearance=INTERNAL) == []


def test_deleting_names_the_duplicates_that_lost_their_twin(ledger, fill):
    kept = fill.put("a.md", "同じ")
    twin = fill.put("b.md", "同じ", state="duplicate", duplicate_of=kept)
    assert ledger.documents.delete([kept]).widowed == (twin,)


def test_deleting_takes_the_steps_made_of_it_alone_and_names_the_others(ledger, fill):
    a, b = fill.put("a.md", "甲"), fill.put("b.md", "乙", label="confidential:hr", source="hr")
    versions = {id: ledger.documents.versions(id, clearance=OWNER.clearance)[0].id for id in (a, b)}
    ledger.steps.run("parse", 1, {}, [versions[b]], lambda: {"text": "乙の本文" * 5000})
    ledger.steps.run("dataset", 1, {}, list(versions.values()), lambda: {"rows": 2})
    gone = ledger.documents.delete([b])
    assert len(gone.steps) == 1
    assert len(gone.touched) == 1
    assert ledger.steps.output(gone.touched[0]) == {"rows": 2}
    assert ledger.lineage.label_of(gone.touched[0]) == label("confidential:hr")
    assert not list((ledger.state / "steps").rglob("*.zst"))


def test_sweep_deletes_only_what_no_row_knows(ledger, fill):
    fill.put("a.md", "残る")
    ledger.blobs.put("行のない原本".encode())
    ledger.parsed.put("0123456789ab", "行のない本文".encode())
    (ledger.state / "blobs" / "00").mkdir(parents=True, exist_ok=True)
    (ledger.state / "blobs" / "00" / ".new-x").write_text("途中")
    assert ledger.documents.sweep() == 3
    assert [ledger.blobs.open(s).decode() for s in ledger.blobs.list()] == ["残る"]
    assert ledger.documents.sweep() == 0


def test_everything_unfiltered_is_reached_only_by_names_that_say_so(ledger, fill):
    """A method of Documents that reads takes a clearance or is called every_...."""
    import inspect

    for name, method in inspect.getmembers(ledger.documents, inspect.ismethod):
        if name.startswith("_") or name in ("put", "touch", "delete", "sweep", "new_ids"):
            continue
        takes = "clearance" in inspect.signature(method).parameters
        assert takes != name.startswith("every_"), name


def test_touch_changes_size_and_time_only(ledger, fill):
    id = fill.put("a.md")
    ledger.documents.touch({id: (12, 34)})
    record = ledger.documents.find(id, clearance=INTERNAL)
    assert (record.size, record.mtime_ns, record.title) == (12, 34, "a.md")
