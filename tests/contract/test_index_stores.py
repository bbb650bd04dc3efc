"""Both stores pass the shipped contracts of Index and Searcher."""

from __future__ import annotations

import pytest

from hagane.contracts.index import IndexContract
from hagane.contracts.searcher import SearcherContract
from hagane.core.registry import load
from hagane.index import STORES

CONTRACT = {"STORES": ("lance", "memory")}


@pytest.mark.parametrize("name", CONTRACT["STORES"])
class TestStores(IndexContract, SearcherContract):
    @pytest.fixture
    def store(self, name, tmp_path):
        made = load(STORES, name, what="store")
        return made() if name == "memory" else made(tmp_path / "index")
