"""A small company, fresh for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from people_house import OIDC, House, cheap_argon2
from small_company import YAML, Folder, company_in

from hagane.project.wire import Project


@pytest.fixture
def company(tmp_path: Path) -> Folder:
    """A company with two sources, not synced yet."""
    return company_in(tmp_path / "company")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A project with single sign-on, nobody in it yet, and cheap argon2."""
    cheap_argon2(monkeypatch)
    Folder(tmp_path).write("hagane.yaml", YAML + OIDC)
    with Project.open(tmp_path) as project:
        yield House(project)
