"""Every detector passes the contract of its seam."""

from __future__ import annotations

import pytest

from hagane.contracts.detector import DetectorContract
from hagane.core.registry import load
from hagane.core.seams import Detector
from hagane.privacy import DETECTORS

CONTRACT = {"DETECTORS": ("my_number", "company_number", "card", "email", "phone")}
KNOWN = {
    "my_number": ["621498320257", "6214-9832-0257", "6214 9832 0257"],
    "company_number": ["7000012050002", "1-1803-0101-8771"],
    "card": ["4242424242424242", "3782-822463-10005", "5555 5555 5555 4444"],
    "email": ["taro.yamada@example.co.jp", "hana+news@mail.example.com"],
    "phone": ["03-1234-5678", "090-1234-5678", "0120-123-456", "+81-3-1234-5678", "0312345678"],
}


@pytest.mark.parametrize("name", CONTRACT["DETECTORS"])
class TestDetectors(DetectorContract):
    @pytest.fixture
    def detector(self, name: str) -> Detector:
        return load(DETECTORS, name, what="detectors")()

    @pytest.fixture
    def known(self, name: str) -> list[str]:
        return KNOWN[name]
