"""What a training may name as its base."""

from __future__ import annotations

import pytest

from hagane.builds.base import open_base
from hagane.core.errors import RefusedError


def test_an_adapter_is_no_base_by_itself():
    """The reader's file is Gemma's: opening it would silently give Gemma without the reader."""
    pytest.importorskip("torch", reason="the extra train is not installed")
    with pytest.raises(RefusedError, match="an adapter beside gemma3-270m"):
        open_base("hagane-reader-ja")
