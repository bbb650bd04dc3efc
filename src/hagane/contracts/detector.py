"""What every Detector must do. Subclass and give the fixtures `detector` and `known` (texts that are personal)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from ..core.seams import Detector

PLAIN = "第12条 従業員は、年次有給休暇を20日まで取得できる。2024年4月1日から施行し、上限は１，０００円とする。"


def wide(text: str) -> str:
    """ASCII in full width, as Japanese forms are filled in."""
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


class DetectorContract:
    @pytest.fixture
    def detector(self) -> Detector:
        raise NotImplementedError("give the detector under test")

    @pytest.fixture
    def known(self) -> list[str]:
        raise NotImplementedError("give texts of its kind")

    def test_it_has_a_name(self, detector: Detector) -> None:
        assert detector.name
        assert isinstance(detector, Detector)

    @pytest.mark.parametrize("text", ["", " \n\u3000", PLAIN, "😀𠮷野家\x00"])
    def test_what_is_not_personal_is_left_alone(self, detector: Detector, text: str) -> None:
        assert detector.find(text) == []

    def test_offsets_are_characters_of_the_text_that_was_given(self, detector: Detector, known: list[str]) -> None:
        """Behind characters beyond the first plane, in Japanese text without blanks, at either end."""
        for one in known:
            for before, after in (("", ""), ("𠮷野家の連絡先は「", "」です。"), ("担当者:", "\n以上")):
                text = before + one + after
                assert [(text[s.start : s.end], s.kind) for s in detector.find(text)] == [(one, detector.name)]

    def test_full_width_is_the_same(self, detector: Detector, known: list[str]) -> None:
        for one in known:
            text = f"記入欄「{wide(one)}」"
            assert [text[s.start : s.end] for s in detector.find(text)] == [wide(one)]

    def test_several_are_found_in_order_without_overlap(self, detector: Detector, known: list[str]) -> None:
        text = "、".join(known * 3)
        found = detector.find(text)
        assert [text[s.start : s.end] for s in found] == known * 3
        assert all(a.end <= b.start for a, b in pairwise(found))

    def test_long_texts_are_read_to_the_end(self, detector: Detector, known: list[str]) -> None:
        text = PLAIN * 5_000 + "0" * 50_000 + "-" * 50_000 + "a" * 50_000 + "、" + known[0]
        assert [text[s.start : s.end] for s in detector.find(text)] == [known[0]]

    def test_threads_do_not_disturb_each_other(self, detector: Detector, known: list[str]) -> None:
        texts = [f"{n}人目: {known[n % len(known)]}" for n in range(64)]
        expected = [detector.find(text) for text in texts]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(detector.find, texts)) == expected
