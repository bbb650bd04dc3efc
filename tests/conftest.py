"""What all tests share: the optional corpora beside the checkout, and no socket beyond loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import loopback_only
import pytest
from hypothesis import settings

settings.register_profile("hagane", deadline=None)  # no test asserts wall-clock time
settings.load_profile("hagane")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real corpora beside the checkout (HAGANE_SHARED, else ../shared); skips without it."""
    path = Path(os.environ.get("HAGANE_SHARED") or ROOT.parent / "shared")
    if not (path / "data").is_dir():
        pytest.skip(f"needs the real corpora in {path}; set HAGANE_SHARED")
    return path


_REFUSED: list[str] = []
loopback_only.install(_REFUSED.append)


@pytest.fixture(autouse=True)
def refused() -> Iterator[list[str]]:
    """Attempts to leave this machine; each was refused where it happened, and fails the test even if swallowed."""
    _REFUSED.clear()
    yield _REFUSED
    assert _REFUSED == []
