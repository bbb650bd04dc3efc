"""What all tests share: the optional corpora beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real corpora beside the checkout (HAGANE_SHARED, else ../shared); skips without it."""
    path = Path(os.environ.get("HAGANE_SHARED") or ROOT.parent / "shared")
    if not (path / "data").is_dir():
        pytest.skip(f"needs the real corpora in {path}; set HAGANE_SHARED")
    return path
