"""Purged text is in no file. The second reader (pylance's file reader) shares no code with ours."""

from __future__ import annotations

import pytest
import zstandard

from hagane.contracts.index import HR, chunk, fill, words
from hagane.index.lance import LanceIndex


@pytest.fixture
def index(tmp_path):
    """120 chunks in two commits, folded in between, so that deleted rows share files with living ones."""
    index = LanceIndex(tmp_path / "index")
    chunks = [chunk(f"d{i // 5}#{i}", f"門外不出{i}号 計画 第{i}条") for i in range(120)]
    fill(index, chunks[:60])
    index.optimize()
    fill(index, chunks[60:])
    index.optimize()
    return index


SECRETS = ["門外不出37号", "d7#37"]


def test_before_the_purge_it_is_found_and_behind_it_nowhere(index):
    for secret in SECRETS:
        assert index.verify_erased(secret)
    index.relabel("d7", HR)  # leaves a second copy of the rows
    index.delete(["d7"], purge=False)
    for secret in SECRETS:
        assert index.verify_erased(secret), "a delete without purge leaves the bytes"
    index.compact()
    for secret in SECRETS:
        assert index.verify_erased(secret) == []
    assert index.count() == (115, 115)
    assert len(words(index, "計画", n=500)) == 115


def test_a_purge_that_was_interrupted_is_finished_by_the_next_run(index, monkeypatch):
    def killed(*_args, **_more):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(LanceIndex, "compact", killed)
        with pytest.raises(KeyboardInterrupt):
            index.delete(["d7"], purge=True)
    later = LanceIndex(index.folder)
    assert later.remains()
    later.optimize()
    assert not later.remains()
    assert later.verify_erased(SECRETS[0]) == []


def test_a_second_reader_finds_it_in_the_files_before_and_not_behind(index):
    lance_file = pytest.importorskip("lance.file", reason="needs the package pylance (dev)")

    def holding(secret: str) -> list[str]:
        found = []
        for path in sorted(index.folder.rglob("*")):
            if path.is_file() and secret.encode() in path.read_bytes():
                found.append(path.name)
            if path.suffix == ".lance" and path.is_file():
                table = lance_file.LanceFileReader(str(path)).read_all().to_table()
                found += [path.name for name in table.schema.names for v in table[name].to_pylist() if held(v, secret)]
        return found

    def held(value, secret: str) -> bool:
        if isinstance(value, list):
            return any(held(v, secret) for v in value)
        if isinstance(value, bytes) and value[:4] == b"\x28\xb5\x2f\xfd":
            value = zstandard.decompress(value)
        return secret.encode() in (value if isinstance(value, bytes) else str(value).encode())

    assert all(map(holding, SECRETS))
    index.delete(["d7"], purge=True)
    assert [holding(secret) for secret in SECRETS] == [[], []]
