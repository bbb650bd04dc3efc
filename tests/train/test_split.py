"""The split keeps groups whole, does not move when documents come, and refuses what cannot be split."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hagane.core.errors import StateError
from hagane.train.split import PARTS, Shares, part_of, place, split

GOLDEN = ["train", "train", "train", "test", "train", "train", "dev", "test", "test", "train"]
GROUPS = st.lists(st.text(max_size=3), min_size=1, max_size=60)


@settings(deadline=None)
@given(GROUPS.filter(lambda groups: len(set(groups)) > 2), st.integers(0, 99))
def test_every_document_has_one_part_and_copies_never_straddle(groups: list[str], seed: int):
    parts = split(groups, Shares(dev=0.2, test=0.2), seed=seed)
    assert sorted(n for part in PARTS for n in parts[part]) == list(range(len(groups)))
    held = [{groups[n] for n in parts[part]} for part in PARTS]
    assert all(held)
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])


@given(st.text(max_size=8), st.integers(0, 99))
def test_a_place_is_a_pure_function_between_0_and_1(group: str, seed: int):
    assert 0 <= place(group, seed=seed) < 1
    assert place(group, seed=seed) == place(group, seed=seed)


def test_the_place_is_written_down_and_never_changes():
    """A dev document must stay one in the next version of the data."""
    assert [part_of(f"規程{n}", Shares(0.2, 0.2), seed=1) for n in range(10)] == GOLDEN


def test_adding_documents_moves_none():
    before = [f"規程{n}" for n in range(400)]
    after = [f"通達{n}" for n in range(400)] + before
    shares = Shares(dev=0.1, test=0.1)
    one, two = split(before, shares, seed=7), split(after, shares, seed=7)
    for part in PARTS:
        assert {before[n] for n in one[part]} <= {after[n] for n in two[part]}


def test_shares_are_kept_and_seeds_differ():
    """4,000 groups, 10 %: 400 to within 5 standard deviations (19)."""
    groups = [f"文書{n}" for n in range(4000)]
    parts = split(groups, Shares(dev=0.1), seed=1)
    assert abs(len(parts["dev"]) - 400) < 95
    assert parts["test"] == []
    assert parts["dev"] != split(groups, Shares(dev=0.1), seed=2)["dev"]


@pytest.mark.parametrize("groups", [["同じ"], ["同じ"] * 9])
def test_one_document_or_copies_of_one_cannot_be_split(groups: list[str]):
    with pytest.raises(StateError, match=f"{len(groups)} documents in 1 groups") as caught:
        split(groups, Shares(dev=0.05), seed=1)
    assert "add documents" in str(caught.value.hint)
    assert split(groups, Shares(dev=0), seed=1)["train"] == list(range(len(groups)))


@pytest.mark.parametrize("shares", [(-0.1, 0), (0.5, 0.5), (0, 1.2)])
def test_shares_that_leave_nothing_to_train_on_are_errors(shares: tuple[float, float]):
    with pytest.raises(ValueError, match="leave nothing"):
        Shares(*shares)
