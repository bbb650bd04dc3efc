"""Labels change: up at once, down only by two, and never by themselves."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hagane.core.errors import AuditError, NotFoundError, RefusedError, StateError, UsageError
from hagane.core.labels import Clearance, Label, Level, join
from hagane.ledger.audit import verify
from hagane.ledger.ledger import Ledger

from .conftest import OWNER, SECOND, STAFF, Filler, label


def _label(ledger, id) -> str:
    return str(ledger.documents.every_of([id])[id].label)


def test_a_document_carries_the_join_of_source_and_mark(ledger, fill):
    id = fill.put("規程.md", label="internal:hr")
    assert _label(ledger, id) == "internal:hr"
    change = ledger.marks.label(id, label("confidential:board+hr"), by=OWNER, reason="役員向け")
    assert (change.request, change.documents) == (None, (id,))
    assert _label(ledger, id) == "confidential:board+hr"


def test_raising_hides_the_document_and_its_old_versions_at_once(ledger, fill):
    for text in ("旧", "新"):
        id = fill.put("規程.md", text)
    assert len(ledger.documents.versions(id, clearance=STAFF.clearance)) == 2
    ledger.marks.label(id, label("confidential"), by=OWNER, reason="誤って公開")
    assert ledger.documents.versions(id, clearance=STAFF.clearance) == []
    assert ledger.marks.unsettled() == [(id, label("confidential"))]


def test_lowering_waits_for_a_second_principal(ledger, fill):
    id = fill.put("規程.md", label="confidential")
    change = ledger.marks.label(id, label("internal"), by=OWNER, reason="個人名を消した")
    assert _label(ledger, id) == "confidential"
    assert [r.id for r in ledger.marks.open_requests(by=SECOND)] == [change.request.id]
    with pytest.raises(RefusedError, match="cannot approve"):
        ledger.marks.approve(change.request.id, by=OWNER)
    assert _label(ledger, id) == "confidential"
    assert ledger.marks.approve(change.request.id, by=SECOND).documents == (id,)
    record = ledger.documents.find(id, clearance=STAFF.clearance)
    assert (str(record.label), record.lowered, str(record.source_label)) == ("internal", True, "confidential")
    with pytest.raises(StateError, match="approved already"):
        ledger.marks.approve(change.request.id, by=SECOND)


def test_who_may_not_read_the_document_cannot_ask_see_or_approve(ledger, fill):
    id = fill.put("規程.md", label="confidential:hr")
    request = ledger.marks.request_lowering(id, label("public"), by=OWNER, reason="公開資料")
    for act in (
        lambda: ledger.marks.label(id, label("public"), by=STAFF, reason="x"),
        lambda: ledger.marks.request_lowering(id, label("public"), by=STAFF, reason="x"),
        lambda: ledger.marks.approve(request.id, by=STAFF),
        lambda: ledger.marks.approve("r_0000000000", by=STAFF),
    ):
        with pytest.raises(NotFoundError):
            act()
    assert ledger.marks.open_requests(by=STAFF) == []


def test_a_lowering_survives_sync_and_ends_when_the_content_changes(ledger, fill):
    id = fill.put("規程.md", "名前を消した", label="confidential")
    request = ledger.marks.request_lowering(id, label("public"), by=OWNER, reason="公開")
    ledger.marks.approve(request.id, by=SECOND)
    old = ledger.documents.every_of([id])[id].version
    fill.put("規程.md", "名前を消した", label="confidential", title="新しい題")
    assert _label(ledger, id) == "public"
    fill.put("規程.md", "名前が戻った", label="confidential")
    assert _label(ledger, id) == "confidential"
    assert str(ledger.documents.version(old, clearance=OWNER.clearance).label) == "public"
    fill.put("規程.md", "名前を消した", label="confidential")
    assert _label(ledger, id) == "confidential"  # the lowering ended; it does not come back


def test_a_request_for_other_content_cannot_be_approved(ledger, fill):
    id = fill.put("規程.md", "無害", label="confidential")
    request = ledger.marks.request_lowering(id, label("public"), by=OWNER, reason="公開")
    fill.put("規程.md", "有害", label="confidential")
    with pytest.raises(StateError, match="changed since"):
        ledger.marks.approve(request.id, by=SECOND)
    assert _label(ledger, id) == "confidential"


def test_raising_withdraws_what_was_asked_before(ledger, fill):
    id = fill.put("規程.md", label="confidential")
    request = ledger.marks.request_lowering(id, label("public"), by=OWNER, reason="公開")
    ledger.marks.label(id, label("restricted"), by=OWNER, reason="やはり極秘")
    with pytest.raises(StateError, match="withdrawn"):
        ledger.marks.approve(request.id, by=SECOND)


def test_another_compartment_is_a_lowering(ledger, fill):
    """Those of board could not read it before."""
    id = fill.put("規程.md", label="confidential:hr")
    assert ledger.marks.label(id, label("confidential:board"), by=OWNER, reason="移管").request is not None


def test_a_change_needs_a_reason_and_a_lowering_must_lower(ledger, fill):
    id = fill.put("規程.md", label="confidential")
    with pytest.raises(UsageError, match="reason"):
        ledger.marks.label(id, label("restricted"), by=OWNER, reason="  ")
    with pytest.raises(UsageError, match="does not lower"):
        ledger.marks.request_lowering(id, label("restricted"), by=OWNER, reason="逆")


def test_a_source_rises_at_once_and_falls_by_two(ledger, fill):
    id = fill.put("規程.md")
    other = fill.put("別.md", source="hr", label="public")
    assert str(ledger.marks.source("rules", label("confidential"))) == "confidential"
    assert (_label(ledger, id), _label(ledger, other)) == ("confidential", "public")
    assert str(ledger.marks.source("rules", label("public"))) == "confidential"
    assert fill.put("規程.md", label="public") == id
    new = fill.put("新規.md", label="public")
    assert (_label(ledger, id), _label(ledger, new)) == ("confidential", "confidential")
    request = ledger.marks.request_source_lowering("rules", label("internal"), by=OWNER, reason="見直し")
    with pytest.raises(RefusedError):
        ledger.marks.approve(request.id, by=OWNER)
    ledger.marks.approve(request.id, by=SECOND)
    assert (_label(ledger, id), _label(ledger, new)) == ("internal", "internal")
    assert str(ledger.marks.source("rules", label("internal"))) == "internal"


def test_a_source_without_documents_may_be_labelled_anew(ledger, fill):
    id = fill.put("規程.md", label="restricted")
    ledger.documents.delete([id])
    assert str(ledger.marks.source("rules", label("public"))) == "public"


def test_a_rising_source_ends_a_lowering(ledger, fill):
    id = fill.put("規程.md", label="internal")
    request = ledger.marks.request_lowering(id, label("public"), by=OWNER, reason="公開")
    ledger.marks.approve(request.id, by=SECOND)
    ledger.marks.source("rules", label("internal:hr"))
    assert _label(ledger, id) == "internal:hr"


def test_parts_carry_what_their_container_carries(ledger, fill):
    zip_id = fill.put("束.zip")
    inner = fill.put("束.zip!/中.eml", parent=zip_id)
    part = fill.put("束.zip!/中.eml!/添付.md", parent=inner)
    assert set(ledger.marks.label(zip_id, label("restricted:board"), by=OWNER, reason="取締役会").documents) == {
        zip_id, inner, part,
    }  # fmt: skip
    late = fill.put("束.zip!/後.md", parent=zip_id)
    assert {_label(ledger, id) for id in (zip_id, inner, part, late)} == {"restricted:board"}


def test_the_index_is_told_each_label_until_it_says_so(ledger, fill):
    id = fill.put("規程.md")
    ledger.marks.settled(ledger.marks.unsettled())
    assert ledger.marks.unsettled() == []
    ledger.marks.label(id, label("confidential"), by=OWNER, reason="秘")
    assert ledger.marks.unsettled() == [(id, label("confidential"))]
    ledger.marks.settled([(id, label("internal"))])
    assert ledger.marks.unsettled() == [(id, label("confidential"))]


def test_every_change_is_audited_without_words(ledger, fill, tmp_path):
    id = fill.put("規程.md", label="confidential")
    ledger.marks.label(id, label("restricted"), by=OWNER, reason="極秘の理由")
    request = ledger.marks.request_lowering(id, label("internal"), by=OWNER, reason="公開の理由")
    ledger.marks.approve(request.id, by=SECOND)
    ledger.marks.source("rules", label("restricted"))
    log = (tmp_path / ".hagane" / "audit" / "log.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in log.splitlines()]
    assert [r["act"] for r in records] == ["label.raise", "label.request", "label.approve", "label.source"]
    assert (records[2]["principal"], records[2]["requester"], records[2]["after"]) == ("部長", "owner", "internal")
    assert "理由" not in log
    assert "規程" not in log
    assert verify(tmp_path / ".hagane" / "audit").ok


def test_no_audit_record_no_change(ledger, fill, tmp_path):
    id = fill.put("規程.md", label="confidential")
    request = ledger.marks.request_lowering(id, label("public"), by=OWNER, reason="公開")
    (tmp_path / ".hagane" / "audit" / "head.json").write_text("{}")
    for act in (
        lambda: ledger.marks.approve(request.id, by=SECOND),
        lambda: ledger.marks.label(id, label("restricted"), by=OWNER, reason="極秘"),
        lambda: ledger.marks.source("rules", label("restricted")),
    ):
        with pytest.raises(AuditError):
            act()
        assert _label(ledger, id) == "confidential"


LABELS = st.builds(Label, st.sampled_from(Level), st.frozensets(st.sampled_from(["hr", "board"]), max_size=2))
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["put", "change", "raise_source", "label", "approve", "delete", "purge"]),
        st.integers(0, 3),
        LABELS,
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=ACTS, clearance=LABELS)
def test_whatever_happens_nothing_above_a_clearance_is_read(acts, clearance):
    """Random documents, labels and acts against a model that only knows the law: a label is the join of
    source and mark, raised by one, lowered by two, and a lowering ends with the content."""
    folder = Path(tempfile.mkdtemp())
    try:
        with Ledger.open(folder) as ledger:
            _play(ledger, acts, Clearance(clearance.level, clearance.compartments))
    finally:
        shutil.rmtree(folder)


def _play(ledger: Ledger, acts, clearance: Clearance) -> None:
    fill = Filler(ledger)
    expected: dict[str, Label] = {}  # document -> label that counts
    floor: dict[str, Label] = {}  # document -> join of source and marks
    source = Label.parse("public")
    asked: list[tuple[str, str, Label]] = []
    n = 0
    for act, which, wanted in acts:
        path = f"規程{which}.md"
        id = next((r.id for r in ledger.documents.every_unfiltered() if r.path == path), None)
        if act in ("put", "change"):
            n += 1
            text = f"本文{n}" if act == "change" or id is None else None
            if text is not None:
                id = fill.put(path, text, label=str(source))
                floor[id] = floor.get(id, source).join(source)
                expected[id] = floor[id]
                asked = [a for a in asked if a[1] != id]
        elif act == "raise_source":
            source = ledger.marks.source("rules", join(source, wanted))
            for d, record in ledger.documents.every_of(list(floor)).items():
                floor[d] = floor[d].join(source)
                if not record.lowered:
                    expected[d] = floor[d]
        elif act == "label" and id:
            change = ledger.marks.label(id, wanted, by=OWNER, reason="試験")
            if change.request:
                asked.append((change.request.id, id, wanted))
            else:
                floor[id] = floor[id].join(wanted)
                expected[id] = floor[id]
                asked = [a for a in asked if a[1] != id]
        elif act == "approve" and asked:
            request, id, wanted = asked.pop()
            try:
                ledger.marks.approve(request, by=SECOND)
            except StateError:
                continue
            expected[id] = wanted
        elif act == "delete" and id:
            ledger.documents.delete([id])
            expected.pop(id), floor.pop(id)
            asked = [a for a in asked if a[1] != id]
        elif act == "purge":
            ledger.purge()
        _check(ledger, expected, clearance)


def _check(ledger: Ledger, expected: dict[str, Label], clearance: Clearance) -> None:
    assert {r.id: r.label for r in ledger.documents.every_unfiltered()} == expected
    visible = {id for id, its in expected.items() if its.flows_to(clearance)}
    assert {r.id for r in ledger.documents.list(clearance=clearance)} == visible
    for id in expected:
        for version in ledger.documents.versions(id, clearance=clearance):
            assert version.label.flows_to(clearance)
            if version.current:
                assert id in visible
