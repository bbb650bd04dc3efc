"""What the tests of this room share."""

from __future__ import annotations

import pytest

from hagane.index.words import Sudachi


@pytest.fixture(scope="session")
def analyzer() -> Sudachi:
    return Sudachi()
