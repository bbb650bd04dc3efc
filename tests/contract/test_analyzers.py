"""Both analyzers pass the shipped contract."""

from __future__ import annotations

import pytest

from hagane.contracts.analyzer import AnalyzerContract
from hagane.core.registry import load
from hagane.index.words import ANALYZERS

CONTRACT = {"ANALYZERS": ("ngram", "sudachi")}


@pytest.fixture(scope="module", params=CONTRACT["ANALYZERS"])
def shipped(request):
    return load(ANALYZERS, request.param, what="analyzer")()


class TestShippedAnalyzers(AnalyzerContract):
    @pytest.fixture
    def analyzer(self, shipped):
        return shipped
