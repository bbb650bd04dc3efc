"""A small company, fresh for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_company import TEXTS, YAML, Folder


@pytest.fixture
def company(tmp_path: Path) -> Folder:
    """A company with two sources, not synced yet."""
    folder = Folder(tmp_path / "company")
    folder.write("hagane.yaml", YAML)
    for name, text in TEXTS.items():
        folder.write(name, text)
    return folder
