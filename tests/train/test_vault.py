"""Sealed data sets: the same numbers as in the open, nothing readable at rest, and every change is noticed."""

from __future__ import annotations

import secrets
from pathlib import Path

import canaries
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenised import documents, header, made, source

from hagane.core.errors import StorageError
from hagane.core.labels import Label
from hagane.train.feed import ShardFeed
from hagane.train.loader import Loader
from hagane.train.pack import RowPlan, plan_rows
from hagane.train.shard_set import ShardSet, verify
from hagane.train.shards import Header, Tokenised, write_shards
from hagane.train.vault import BLOCK, MAGIC, MORE, OPEN, Vault


class Gcm:
    """A `core.seams.Sealer` with one key for each name."""

    form = "test"

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def _key(self, document: str):
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._keys.setdefault(document, secrets.token_bytes(32)))

    def seal(self, document: str, data: bytes, *, bound: bytes) -> bytes:
        nonce = secrets.token_bytes(12)
        return nonce + self._key(document).encrypt(nonce, data, bound)

    def open(self, document: str, sealed: bytes, *, bound: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            return bytes(self._key(document).decrypt(sealed[:12], sealed[12:], bound))
        except (InvalidTag, ValueError) as cause:
            raise StorageError("damaged") from cause

    def term(self, term: str) -> str:
        return term


@pytest.fixture
def vault() -> Vault:
    return Vault(Gcm(), "ds_規程")


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 3 * BLOCK + 5), st.lists(st.tuples(st.integers(0, 3 * BLOCK), st.integers(0, 3 * BLOCK)), max_size=5))
def test_any_part_of_any_file_is_what_was_written(tmp_path_factory, size: int, parts: list[tuple[int, int]]):
    vault, path = Vault(Gcm(), "a"), tmp_path_factory.mktemp("v") / "数.bin"
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    with vault.whole(path) as out:
        for at in range(0, size, 50_000):
            out.write(data[at : at + 50_000].tobytes())
    assert vault.read(path) == data.tobytes()
    assert vault.n_bytes(path) == size
    OPEN.write(path.with_name("plain"), data.tobytes())
    assert vault.sha256(path) == out.sha256 == OPEN.sha256(path.with_name("plain"))
    array = vault.array(path, np.dtype(np.uint8))
    for start, end in parts:
        assert (array[start:end] == data[start:end]).all() and len(array[start:end]) == len(data[start:end])


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_blocks_end_where_they_should(tmp_path: Path, vault: Vault, size: int):
    vault.write(tmp_path / "x", b"a" * size)
    assert vault.read(tmp_path / "x") == b"a" * size
    assert (tmp_path / "x").stat().st_size == len(MAGIC) + size + MORE * max(1, -(-size // BLOCK))


def test_sealed_shards_and_plans_give_the_same_batches_as_open_ones(tmp_path: Path, vault: Vault):
    lengths = [7, 30, 2, 9, 4, 11, 5, 1, 1, 16]
    given_ = documents(lengths, masked=True)
    write_shards(tmp_path / "sealed", source(given_), header=header(sum(lengths), masked=True), vault=vault)
    sealed, plain = ShardSet(tmp_path / "sealed", vault=vault), made(tmp_path / "plain", lengths, masked=True)
    assert list(sealed.problems()) == []
    assert sealed.mark == plain.mark
    feeds = [
        ShardFeed(Loader(shards, plan_rows(shards, tmp_path / f"rows{n}", T=8, seed=1, vault=one), batch=2), seed=3)
        for n, (shards, one) in enumerate(((sealed, vault), (plain, OPEN)))
    ]
    for step in range(2 * feeds[0].n_steps):
        one, other = (feed.batch(step) for feed in feeds)
        assert all((getattr(one, name) == getattr(other, name)).all() for name in ("ids_BT", "targets_BT", "documents_BT"))
        assert one.label == other.label and feeds[0].documents(step, 0) == feeds[1].documents(step, 0)
    assert feeds[0].steps_of("規程1.jsonl") == feeds[1].steps_of("規程1.jsonl") != []
    assert RowPlan(tmp_path / "rows0", vault=vault).problems() == []


def test_nothing_of_a_sealed_set_can_be_read_on_the_disk(tmp_path: Path, vault: Vault):
    """Token ids here are the letters themselves, so that an open shard holds the text and the search can find it."""
    ids = [ord(letter) for letter in "麒麟号の秘密は十個とする。" * 40]
    rows = [Tokenised(ids, Label.parse("confidential:hr"), "麒麟号の規程.md", 1)]
    for folder, one in (("sealed", vault), ("plain", OPEN)):
        write_shards(tmp_path / folder / "s", lambda first: iter(rows[first:]), header=Header("文字", 1 << 16, "試験"), vault=one)
        plan_rows(ShardSet(tmp_path / folder / "s", vault=one), tmp_path / folder / "r", T=64, seed=1, vault=one)
    words = ["麒麟号の秘密", "麒麟号の規程", "confidential"]
    assert all(canaries.find(tmp_path / "plain", words).values()), "the search finds what is there"
    assert canaries.find(tmp_path / "sealed", words) == {word: [] for word in words}


def written(folder: Path, vault: Vault) -> Path:
    given_ = documents([40_000, 40_000])
    write_shards(folder, source(given_), header=header(80_000, shard_tokens=1 << 20), vault=vault)
    return folder / "00000.bin"


@pytest.mark.parametrize("damage", ["bit", "cut", "block dropped", "blocks swapped", "plain", "gone"])
def test_every_change_is_an_error_never_other_tokens(tmp_path: Path, damage: str):
    sealer = Gcm()
    path = written(tmp_path / "s", Vault(sealer, "a"))
    data, head, block = path.read_bytes(), len(MAGIC), BLOCK + MORE
    first, second, rest = data[head : head + block], data[head + block : head + 2 * block], data[head + 2 * block :]
    changed = {
        "bit": data[: head + 99] + bytes([data[head + 99] ^ 1]) + data[head + 100 :], "cut": data[: head + 2 * block],
        "block dropped": MAGIC + second + rest, "blocks swapped": MAGIC + second + first + rest, "plain": b"x" * len(data),
    }  # fmt: skip
    path.unlink()
    if damage != "gone":
        path.write_bytes(changed[damage])
    assert verify(tmp_path / "s", vault=Vault(sealer, "a"))
    with pytest.raises(StorageError):
        ShardSet(tmp_path / "s", vault=Vault(sealer, "a")).ids(0)


def test_a_set_opens_neither_with_another_key_nor_without_one(tmp_path: Path):
    sealer = Gcm()
    written(tmp_path / "s", Vault(sealer, "a"))
    for other in (Vault(sealer, "b"), Vault(Gcm(), "a"), OPEN):
        with pytest.raises(StorageError):
            ShardSet(tmp_path / "s", vault=other)
    assert ShardSet(tmp_path / "s", vault=Vault(sealer, "a")).n_documents == 2


def test_a_file_moved_to_another_place_does_not_open(tmp_path: Path):
    """Train and dev of one set have one key: their files are bound to their names."""
    vault = Vault(Gcm(), "a")
    vault.write(tmp_path / "manifest.json", b"{}")
    (tmp_path / "dev").mkdir()
    (tmp_path / "manifest.json").rename(tmp_path / "dev" / "manifest.json")
    with pytest.raises(StorageError):
        Vault(vault._sealer, "a").read(tmp_path / "dev" / "manifest.json")


def test_a_sealed_set_that_was_cut_short_goes_on(tmp_path: Path):
    sealer, given_ = Gcm(), documents([30] * 20)

    def cut(first: int):
        yield from given_[first:7]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "s", cut, header=header(600), vault=Vault(sealer, "a"))
    assert (tmp_path / "s" / "00000.json").exists()
    write_shards(tmp_path / "s", source(given_), header=header(600), vault=Vault(sealer, "a"))
    assert ShardSet(tmp_path / "s", vault=Vault(sealer, "a")).mark == made(tmp_path / "w", [30] * 20).mark
