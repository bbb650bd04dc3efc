"""Rows that belong together are one group, whatever their order; rows that only sound alike are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hagane.builds.near import NearCopies
from hagane.core.labels import Label
from hagane.train.words import Message, Row

DRAW = np.random.default_rng(7)


def text(n: int) -> str:
    return "".join(chr(0x4E00 + int(c)) for c in DRAW.integers(0, 3000, n))


RULES = [text(150) for _ in range(12)]


def grouped(texts: list[str], **given_: int) -> list[str]:
    near = NearCopies(**given_)  # type: ignore[arg-type]
    for n, one in enumerate(texts):
        near.add(Row(Label(), "規程.jsonl", n + 1, text=one))
    return near.groups()


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(36)))
def test_versions_of_a_rule_are_one_group_in_any_order(order: list[int]):
    groups = grouped([f"{RULES[n // 3]}第{n % 3}版" for n in order])
    by_rule: dict[int, set[str]] = {}
    for n, group in zip(order, groups, strict=True):
        by_rule.setdefault(n // 3, set()).add(group)
    assert all(len(found) == 1 for found in by_rule.values())
    assert len(set.union(*by_rule.values())) == 12


def test_a_chain_of_small_changes_is_one_group():
    """Each version keeps nine tenths of the one before; the first and the last have nothing in common."""
    whole = text(400)
    versions = [whole[at : at + 150] for at in range(0, 250, 10)]
    assert not set(versions[0]) & set(versions[-1]) or versions[0] != versions[-1]
    assert len(set(grouped(versions))) == 1


def test_copies_in_other_widths_and_with_other_spaces_are_one_group():
    assert len(set(grouped(["ＡＢＣ 規程　第１条", "ABC規程 第1条\n"]))) == 1


def test_beyond_the_bound_only_copies_are_grouped_and_it_is_said():
    near = NearCopies(most=2)
    for n, one in enumerate(["甲" + RULES[0], "乙" + RULES[0], "丙" + RULES[0], "丙" + RULES[0]]):
        near.add(Row(Label(), "規程", n, text=one))
    first, second, third, copy = near.groups()
    assert first == second and third == copy != first
    assert not near.whole


@pytest.mark.parametrize("row", [Row(Label(), "会話", 1, messages=(Message("user", "　"), Message("assistant", " "))), Row(Label(), "文", 1, text="短")])
def test_short_and_blank_rows_have_a_group(row: Row):
    near = NearCopies()
    near.add(row)
    assert len(near.groups()) == 1
