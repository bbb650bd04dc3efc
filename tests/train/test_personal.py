"""Personal data is masked or its row dropped before a token exists; a policy that cannot be kept is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagane.core.errors import RefusedError
from hagane.core.labels import Label
from hagane.core.seams import Span
from hagane.train.personal import Guard, Policy
from hagane.train.words import Message, Row

LABEL = Label.parse("internal")


class Pattern:
    """A detector by regular expression; the real ones stand in the room privacy."""

    def __init__(self, name: str, pattern: str) -> None:
        self.name, self._pattern = name, pattern

    def find(self, text: str) -> list[Span]:
        return [Span(m.start(), m.end(), self.name) for m in re.finditer(self._pattern, text)]


DETECTORS = {"phone": Pattern("phone", r"[0-9-]{5,}"), "email": Pattern("email", r"[a-z]+@[a-z.0-9-]+")}


def row(text: str) -> Row:
    return Row(LABEL, "例.jsonl", 1, text=text)


def test_masking_keeps_everything_else():
    guard = Guard(Policy({"phone": "mask", "email": "mask"}), DETECTORS)
    kept = guard.applied(row("𠮷野: 03-1234-5678、taro@example.jp まで"))
    assert kept == row("𠮷野: 〔phone〕、〔email〕 まで")
    assert (dict(guard.found), guard.n_masked, guard.n_dropped) == ({"phone": 1, "email": 1}, 1, 0)


def test_overlapping_finds_leave_nothing_behind():
    guard = Guard(Policy({"phone": "mask", "email": "mask"}), DETECTORS)
    assert guard.applied(row("a@b.03-1234-5678 です")) == row("〔email〕 です")


def test_dropping_wins_over_masking():
    guard = Guard(Policy({"phone": "drop_row", "email": "mask"}), DETECTORS)
    rows = [row("taro@example.jp 03-1234-5678"), row("何もない"), row("taro@example.jp")]
    assert list(guard(rows)) == [row("何もない"), row("〔email〕")]
    assert (guard.n_dropped, guard.n_masked) == (1, 1)


def test_every_turn_is_looked_at():
    talk = Row(LABEL, "x", 1, messages=(Message("user", "番号は?"), Message("assistant", "03-1234-5678", False)))
    kept = Guard(Policy({"phone": "mask"}), DETECTORS).applied(talk)
    assert kept is not None and kept.messages[1] == Message("assistant", "〔phone〕", False)
    pair = Row(LABEL, "x", 1, messages=talk.messages[:1], chosen=(Message("assistant", "0312345678"),), rejected=(Message("assistant", "知らない"),))
    kept = Guard(Policy({"phone": "mask"}), DETECTORS).applied(pair)
    assert kept is not None and kept.chosen[0].content == "〔phone〕"


def test_a_pair_that_differed_only_in_what_was_masked_is_dropped():
    said = [(Message("assistant", f"03-1234-567{n}"),) for n in (1, 2)]
    pair = Row(LABEL, "x", 1, messages=(Message("user", "番号は?"),), chosen=said[0], rejected=said[1])
    assert Guard(Policy({"phone": "mask"}), DETECTORS).applied(pair) is None


def test_a_policy_that_needs_a_missing_detector_is_refused():
    with pytest.raises(RefusedError, match="needs the detector address, name, which is not there") as caught:
        Guard(Policy({"name": "mask", "address": "drop_row", "phone": "mask", "blood": "allow"}), DETECTORS)
    assert caught.value.hint is not None and "email, phone" in caught.value.hint


@given(st.text(st.sampled_from("0123456789-a@.休")))
def test_nothing_that_was_found_is_left(text: str):
    kept = Guard(Policy({"phone": "mask", "email": "mask"}, masked="□"), DETECTORS).applied(row(text))
    assert kept is not None and kept.text is not None
    assert not any(one.find(kept.text) for one in DETECTORS.values())
