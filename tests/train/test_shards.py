"""Token shards keep every token with its origin and label, go on where they were cut short, and show what was changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenised import LABELS, documents, header, made, source

from hagane.core.errors import SourceError, StateError, StorageError
from hagane.core.labels import Label, join
from hagane.train.shard_set import ShardSet, verify
from hagane.train.shards import Header, Tokenised, write_shards

LENGTHS = [5, 60, 1, 3, 200, 7, 7, 64, 2]


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.booleans(), st.integers(1, 60))
def test_every_document_comes_back_with_origin_mask_and_label(tmp_path_factory, lengths: list[int], masked: bool, shard_tokens: int):
    shards = made(tmp_path_factory.mktemp("s"), lengths, masked=masked, shard_tokens=shard_tokens)
    assert shards.lengths().tolist() == lengths
    for n, document in enumerate(documents(lengths, masked=masked)):
        origin = shards.origin(n)
        assert shards.ids(n).tolist() == list(document.ids)
        assert shards.learn(n).tolist() == (document.learn or [True] * lengths[n])
        assert (origin.source, origin.line, origin.label, origin.n_tokens) == (document.source, n + 1, document.label, lengths[n])
    assert shards.label == join(*LABELS[: len(lengths)])
    assert (shards.n_documents, shards.n_tokens) == (len(lengths), sum(lengths))
    assert list(shards.problems()) == []


def test_small_vocabularies_take_two_bytes_and_large_ones_four(tmp_path: Path):
    for vocab, size in ((65_536, 2), (65_537, 4)):
        folder = tmp_path / str(vocab)
        write_shards(folder, source([Tokenised([0, vocab - 1], Label(), "語.jsonl", 1)]), header=Header("t", vocab, "m"))
        assert ShardSet(folder).ids(0).tolist() == [0, vocab - 1]
        assert (folder / "00000.bin").stat().st_size == 2 * size


@pytest.mark.parametrize("stop", range(len(LENGTHS)))
@pytest.mark.parametrize("masked", [False, True])
def test_writing_that_was_cut_short_goes_on_and_ends_the_same(tmp_path: Path, stop: int, masked: bool):
    """Whole shards stay; the documents of the unfinished one are asked for again."""
    every = documents(LENGTHS, masked=masked)
    one = header(sum(LENGTHS), masked=masked)

    def cut(first: int):
        yield from every[first:stop]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "cut", cut, header=one)
    assert not list((tmp_path / "cut").glob("*.part"))
    with pytest.raises(StateError, match="no finished token shards"):
        ShardSet(tmp_path / "cut")
    asked: list[int] = []
    write_shards(tmp_path / "cut", lambda first: asked.append(first) or iter(every[first:]), header=one)
    write_shards(tmp_path / "whole", source(every), header=one)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "cut").iterdir())
    assert all((tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)
    assert asked == [max(n for n in (0, 1, 4, 5, 7) if n <= max(stop - 1, 0))], "the first document behind the last whole shard"


def test_a_finished_set_is_not_written_again(tmp_path: Path):
    manifest = write_shards(tmp_path, source(documents(LENGTHS)), header=header(sum(LENGTHS)))
    assert write_shards(tmp_path, lambda _: pytest.fail("asked again"), header=header(sum(LENGTHS))) == manifest


@pytest.mark.parametrize("finished", [True, False])
def test_shards_of_another_tokenizer_or_input_are_not_continued(tmp_path: Path, finished: bool):
    made(tmp_path, LENGTHS)
    if not finished:
        (tmp_path / "manifest.json").rename(tmp_path / "writing.json")
    other = Header("別の語彙", sum(LENGTHS), "別", False, 64)
    with pytest.raises(StateError, match="shards of another made_from, tokenizer"):
        write_shards(tmp_path, source(documents(LENGTHS)), header=other)


@pytest.mark.parametrize("name", ["00000.bin", "00002.idx", "00001.mask"])
def test_a_changed_byte_is_found_and_a_missing_one_at_once(tmp_path: Path, name: str):
    made(tmp_path, LENGTHS, masked=True)
    assert verify(tmp_path) == []
    data = bytearray((tmp_path / name).read_bytes())
    data[0] ^= 1
    (tmp_path / name).write_bytes(data)
    assert verify(tmp_path) == [f"{name} is not what was written (sha256)"]
    (tmp_path / name).write_bytes(data[:-1])
    with pytest.raises(StorageError, match=rf"{name} has {len(data) - 1:,} bytes, not {len(data):,}"):
        ShardSet(tmp_path)
    (tmp_path / name).unlink()
    assert "is missing" in verify(tmp_path)[0]


def test_a_label_lowered_in_the_manifest_is_found(tmp_path: Path):
    made(tmp_path, LENGTHS)
    tree = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert tree["label"] == "confidential:hr+sales"
    (tmp_path / "manifest.json").write_text(json.dumps(tree | {"label": "public"}), "utf-8")
    assert verify(tmp_path) == ["the manifest's sums or label are not those of its shards"]
    tree["shards"][1]["label"] = "public"
    (tmp_path / "manifest.json").write_text(json.dumps(tree), "utf-8")
    assert any("00001.json is not what the manifest says" in problem for problem in verify(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 2}'])
def test_a_damaged_manifest_is_an_error_with_a_hint(tmp_path: Path, content: bytes):
    made(tmp_path, LENGTHS)
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(StorageError) as caught:
        ShardSet(tmp_path)
    assert caught.value.hint


def test_a_full_disk_is_said_and_leaves_no_half_shard(tmp_path: Path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hagane.train.whole.os.fsync", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        write_shards(tmp_path, source(documents(LENGTHS)), header=header(sum(LENGTHS)))
    assert "disk" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_documents_that_no_set_can_hold_are_refused(tmp_path: Path):
    with pytest.raises(SourceError, match=r"空.jsonl:7: no token came of it"):
        write_shards(tmp_path / "a", source([Tokenised([], Label(), "空.jsonl", 7)]), header=header(9))
    with pytest.raises(ValueError, match="outside the vocabulary of 9"):
        write_shards(tmp_path / "b", source([Tokenised([9], Label(), "x", 1)]), header=header(9))
    with pytest.raises(ValueError, match="a mask of 1 for 2 tokens"):
        write_shards(tmp_path / "c", source([Tokenised([1, 2], Label(), "x", 1, [True])]), header=header(9, masked=True))
    with pytest.raises(SourceError, match="no document to write"):
        write_shards(tmp_path / "d", source([]), header=header(9))


def test_numpy_ids_are_written_as_they_are(tmp_path: Path):
    write_shards(tmp_path, source([Tokenised(np.array([3, 1], np.uint16), Label(), "x", 1)]), header=header(9))
    assert ShardSet(tmp_path).ids(0).tolist() == [3, 1]
