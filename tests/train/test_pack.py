"""Packing keeps every token once, aims every token at its successor within its document, and can be traced both ways."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenised import documents, made

from hagane.core.errors import StateError, StorageError
from hagane.core.labels import join
from hagane.train.feed import ShardFeed
from hagane.train.loader import Loader
from hagane.train.order import State
from hagane.train.pack import BLOCK, RowPlan, best_fit, blank, packed, packed_pieces, plan_rows
from hagane.train.words import NO_DOCUMENT, NO_LOSS, Batch

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=25)


def test_best_fit_by_hand():
    """7 opens a row, 6 another; 4 goes to the fuller one that has room (6+4), 3 to 7+3, 2 opens a third."""
    assert best_fit([3, 7, 4, 2, 6], 10) == [[1, 0], [4, 2], [3]]


@settings(deadline=None)
@given(st.lists(st.integers(1, 64), max_size=200))
def test_best_fit_puts_each_piece_in_one_bin_that_holds_it(lengths: list[int]):
    bins = best_fit(lengths, 64)
    assert sorted(n for one in bins for n in one) == list(range(len(lengths)))
    assert all(0 < sum(lengths[n] for n in one) <= 64 for one in bins)
    assert sum(2 * sum(lengths[n] for n in one) <= 64 for one in bins) <= 1, "two bins that would fit in one"


def test_best_fit_wastes_little():
    """10,000 lengths between 1 and 512: rows are at least 99 % full."""
    lengths = np.random.default_rng(1).integers(1, 513, 10_000).tolist()
    assert sum(lengths) / (512 * len(best_fit(lengths, 512))) > 0.99


@pytest.mark.parametrize("length", [0, 11])
def test_a_piece_that_fits_no_row_is_an_error(length: int):
    with pytest.raises(ValueError, match=f"a piece of {length} tokens in rows of 10"):
        best_fit([length], 10)


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(2, 33), st.integers(0, 9))
def test_packing_conserves_every_token(lengths: list[int], T: int, seed: int):
    seen: Counter[tuple[int, int]] = Counter()
    for row in packed_pieces(np.array(lengths), T, seed=seed):
        assert sum(length for _, _, length in row) <= T
        assert len({document for document, _, _ in row}) == len(row), "no document meets itself in a row"
        seen.update((document, start + n) for document, start, length in row for n in range(length))
    assert seen == Counter((document, n) for document, length in enumerate(lengths) for n in range(length))


def test_blocks_conserve_tokens_too():
    lengths = np.random.default_rng(2).integers(1, 20, BLOCK + 100)
    rows = list(packed_pieces(lengths, 16, seed=1))
    assert sum(piece[2] for row in rows for piece in row) == lengths.sum()


def batches(loader: Loader, *, seed: int, epoch: int) -> list[Batch]:
    return [loader.batch_at(State(seed, epoch, step)) for step in range(loader.n_steps)]


@settings(deadline=None, max_examples=15)
@given(LENGTHS, st.integers(2, 16), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_over_an_epoch_no_token_is_lost_or_doubled_for_any_world_size(tmp_path_factory, lengths, T, batch, world, masked):
    folder = tmp_path_factory.mktemp("p")
    shards = made(folder / "s", lengths, masked=masked)
    plan = plan_rows(shards, folder / "r", T=T, seed=1)
    inputs: Counter[int] = Counter()
    learnt: Counter[int] = Counter()
    for rank in range(world):
        for one in batches(Loader(shards, plan, batch=batch, rank=rank, world=world), seed=5, epoch=2):
            real = one.documents_BT != NO_DOCUMENT
            inputs.update(one.ids_BT[real].tolist())
            aimed = one.targets_BT != NO_LOSS
            assert (one.targets_BT[aimed] == one.ids_BT[aimed] + 1).all(), "tokens are numbered through: the next one is one more"
            assert not (aimed & ~real).any()
            learnt.update(one.targets_BT[aimed].tolist())
            assert one.ids_BT.shape == (-(-batch // world), T)
    assert inputs == Counter(range(sum(lengths)))
    given_ = documents(lengths, masked=masked)
    assert learnt == Counter(t for d in given_ for n, t in enumerate(d.ids) if n and (d.learn is None or d.learn[n]))


@settings(deadline=None, max_examples=15)
@given(LENGTHS, st.integers(2, 16), st.integers(1, 5), st.integers(0, 3))
def test_batches_are_traced_to_documents_and_documents_to_batches(tmp_path_factory, lengths, T, batch, epoch):
    folder = tmp_path_factory.mktemp("p")
    shards = made(folder / "s", lengths)
    loader = Loader(shards, plan_rows(shards, folder / "r", T=T, seed=1), batch=batch)
    seen: Counter[tuple[int, int]] = Counter()
    for step, one in enumerate(batches(loader, seed=3, epoch=epoch)):
        origins = loader.documents_of(State(3, epoch, step))
        assert one.label == join(*(origin.label for row in origins for origin in row))
        seen.update((origin.document, step) for row in origins for origin in row)
        for row, ids in zip(origins, one.ids_BT, strict=False):
            firsts = [int(shards.ids(origin.document)[0]) for origin in row]
            assert all(any(first <= token < first + origin.n_tokens for token in ids) for first, origin in zip(firsts, row, strict=True))
    back = Counter((n, step) for n in range(len(lengths)) for step in loader.steps_of(n, seed=3, epoch=epoch))
    assert back == seen


def test_a_row_by_hand(tmp_path: Path):
    """Tokens 0–4 and 5–6 and padding in a row of 8: documents, positions and targets."""
    row = packed(made(tmp_path, [5, 2]), [(0, 0, 5), (1, 0, 2)], 8)
    assert row.ids_T.tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    assert row.targets_T.tolist() == [1, 2, 3, 4, NO_LOSS, 6, NO_LOSS, NO_LOSS]
    assert row.documents_T.tolist() == [0, 0, 0, 0, 0, 1, 1, NO_DOCUMENT]
    assert row.positions_T.tolist() == [0, 1, 2, 3, 4, 0, 1, 0]


def test_a_cut_document_is_learnt_across_the_cut(tmp_path: Path):
    shards = made(tmp_path, [10])
    rows = [packed(shards, row, 4) for row in packed_pieces(shards.lengths(), 4, seed=0)]
    assert [row.targets_T.tolist() for row in rows] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, NO_LOSS, NO_LOSS, NO_LOSS]]


def test_masked_tokens_are_read_but_not_learnt(tmp_path: Path):
    """The mask of document 0 is False, True, True, False, …: targets are the tokens with True."""
    row = packed(made(tmp_path, [6], masked=True), [(0, 0, 6)], 6)
    assert row.targets_T.tolist() == [1, 2, NO_LOSS, 4, 5, NO_LOSS]


def test_blank_rows_earn_nothing():
    assert (blank(4).targets_T == NO_LOSS).all() and (blank(4).documents_T == NO_DOCUMENT).all()


def test_resuming_at_any_step_gives_the_batches_of_an_uninterrupted_run(tmp_path: Path):
    """A new process has nothing but the files and three integers."""
    shards = made(tmp_path / "s", [7, 30, 2, 9, 4, 11, 5, 1, 1, 16])
    plan = plan_rows(shards, tmp_path / "r", T=8, seed=1)
    loader = Loader(shards, plan, batch=2)
    state, walked = State(9), []
    for _ in range(2 * loader.n_steps):
        walked.append((state, loader.batch_at(state)))
        state = loader.order.after(state)
    for at, batch in walked:
        again = Loader(type(shards)(tmp_path / "s"), RowPlan(tmp_path / "r"), batch=2).batch_at(at)
        assert all(np.array_equal(getattr(again, name), getattr(batch, name)) for name in ("ids_BT", "targets_BT", "documents_BT", "positions_BT"))


def test_the_feed_of_the_loop_walks_through_epochs(tmp_path: Path):
    """Together the ranks' rows are the feed's; a row is traced to file and line; an epoch has each token once."""
    shards = made(tmp_path / "s", [7, 30, 2, 9, 4, 11, 5])
    plan = plan_rows(shards, tmp_path / "r", T=8, seed=1)
    loader = Loader(shards, plan, batch=3)
    stream = ShardFeed(loader, seed=4)
    for step in (0, loader.n_steps - 1, loader.n_steps, 5 * loader.n_steps + 1):
        batch, state = stream.batch(step), stream.state(step)
        assert state == (4, *divmod(step, loader.n_steps))
        ranks = [Loader(shards, plan, batch=3, rank=rank, world=2).batch_at(State(*state)) for rank in range(2)]
        for n, ids in enumerate(batch.ids_BT):
            assert np.array_equal(ids, ranks[n % 2].ids_BT[n // 2])
            assert len(stream.documents(step, n)) == batch.documents_BT[n].max() + 1
            assert all(name.startswith("規程") and ":" in name for name in stream.documents(step, n))
        assert batch.step == step
    tokens = np.concatenate([one.ids_BT[one.documents_BT != NO_DOCUMENT] for one in stream.epoch()])
    assert sorted(tokens.tolist()) == list(range(68))


def test_a_plan_is_kept_and_belongs_to_its_shards(tmp_path: Path):
    shards, others = made(tmp_path / "s", [3, 4, 5]), made(tmp_path / "o", [5, 4, 3])
    plan = plan_rows(shards, tmp_path / "r", T=8, seed=1)
    assert plan.header == plan_rows(shards, tmp_path / "r", T=8, seed=1).header
    assert (plan.n_rows, plan.header.n_padding, plan.problems()) == (2, 4, [])
    for wrong in ({"shards": others, "T": 8, "seed": 1}, {"shards": shards, "T": 9, "seed": 1}, {"shards": shards, "T": 8, "seed": 2}):
        with pytest.raises(StateError, match="the rows of other shards, lengths or seed"):
            plan_rows(wrong["shards"], tmp_path / "r", T=wrong["T"], seed=wrong["seed"])
    with pytest.raises(StateError, match="belongs to other shards"):
        Loader(others, plan, batch=1)


@pytest.mark.parametrize("name", ["pieces.npy", "ends.npy", "of_document.npy", "plan.json"])
def test_a_damaged_plan_is_an_error_with_a_hint(tmp_path: Path, name: str):
    plan_rows(made(tmp_path / "s", [3, 4, 5]), tmp_path / "r", T=8, seed=1)
    path = tmp_path / "r" / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StorageError, match=r"plan of rows|cannot be read") as caught:
        RowPlan(tmp_path / "r")
    assert caught.value.hint
