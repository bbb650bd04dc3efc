"""A token is remembered only while nothing was written: every change counts at the next request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_company import YAML, Folder

from hagane.ledger.ledger import Ledger
from hagane.ledger.watermark import Watermark
from hagane.project import people
from hagane.project.wire import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    folder = Folder(tmp_path / "会社")
    folder.write("hagane.yaml", YAML)
    with Project.open(folder.path) as opened:
        people.create_user(opened, "花子", role="builder", clearance="confidential:hr", by=opened.principal())
        yield opened


def token(project: Project) -> tuple[str, str]:
    return people.create_token(project, "花子", name="検査", scopes=("ask", "build"), by=project.principal())


def test_it_changes_with_a_commit_of_another_process_and_with_nothing_else(project: Project) -> None:
    mark = Watermark(project.state / "ledger.db")
    before = mark.now()
    assert before is not None
    assert mark.now() == before
    with Ledger.open(project.folder) as other:
        other.remember(印="あ")
    assert mark.now() != before
    mark.close()
    assert mark.now() is None


def test_a_token_is_known_only_once_it_was_read(project: Project) -> None:
    _, secret = token(project)
    assert people.bearer_known(project, secret) is None
    read = people.bearer(project, secret)
    read = people.bearer(project, secret)  # the first one noted that it was used
    assert read is not None
    assert people.bearer_known(project, secret) == read
    assert people.bearer_known(project, "hg_" + "x" * 43) is None
    assert people.bearer_known(project, "") is None


def test_each_change_counts_at_once(project: Project) -> None:
    """By another process, too: a lower clearance, another role, disabling, revocation."""
    id, secret = token(project)
    admin = project.principal()

    def known() -> None:
        people.bearer(project, secret)
        people.bearer(project, secret)
        assert people.bearer_known(project, secret) is not None

    changes = (
        lambda p: people.change_user(p, "花子", clearance="internal", by=admin),
        lambda p: people.change_user(p, "花子", role="reader", by=admin),
        lambda p: people.revoke_token(p, id, by=admin),
    )
    for change in changes:
        known()
        with Project.open(project.folder) as other:
            change(other)
        assert people.bearer_known(project, secret) is None
    assert people.bearer(project, secret) is None


def test_it_is_forgotten_after_a_moment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that an expiry, which nobody writes, counts within half a second."""
    from hagane.ledger import tokens

    _, secret = token(project)
    people.bearer(project, secret)
    people.bearer(project, secret)
    assert people.bearer_known(project, secret) is not None
    now = project.ledger.sessions.clock()
    monkeypatch.setattr(project.ledger.sessions, "clock", lambda: now + tokens.FRESH)
    assert people.bearer_known(project, secret) is None
