"""Killed, cut off and damaged: what was finished stays, doing it again is enough, errors say what to do."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from hagane.contracts.index import chunk, fill, words
from hagane.core.errors import StorageError
from hagane.core.labels import EVERYTHING
from hagane.index.lance import LanceIndex

BATCH, N_BATCHES = 40, 12

CHILD = f"""
import sys
from hagane.contracts.index import chunk, fill
from hagane.index.lance import LanceIndex
index = LanceIndex(sys.argv[1])
for b in range({N_BATCHES}):
    fill(index, [chunk(f"d{{b}}#{{i}}", "休暇 規程 第%d条" % i) for i in range({BATCH})])
    print(b, flush=True)
    if b % 4 == 3:
        index.optimize()
index.delete(["d0"], purge=True)
print("done", flush=True)
"""


def start(folder):
    return subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)])
def test_a_killed_writer_leaves_whole_batches_and_the_next_run_completes(tmp_path, seed):
    pick = random.Random(seed)
    folder = tmp_path / "index"
    for _ in range(3):
        child = start(folder)
        for _ in range(pick.randint(1, N_BATCHES)):
            child.stdout.readline()
        time.sleep(pick.random() * 0.1)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        index = LanceIndex(folder)
        n_words, n_vectors = index.count()
        assert n_words % BATCH == 0, "a commit is all or nothing"
        assert n_vectors <= n_words
        assert len(words(index, "休暇", n=1000)) == n_words
        assert len(index.pending_vectors()) == n_words - n_vectors
    child = start(folder)
    assert child.communicate()[0].endswith("done\n")
    index = LanceIndex(folder)
    assert index.count() == ((N_BATCHES - 1) * BATCH,) * 2
    assert index.statistics(["休暇"], clearance=EVERYTHING).frequencies["休暇"] == (N_BATCHES - 1) * BATCH
    assert index.verify_erased("d0#1") == []


def test_what_a_killed_writer_left_half_written_is_erased_too(tmp_path):
    """The store writes beside and renames; what it did not come to rename knows nothing of the rows deleted since."""
    index = LanceIndex(tmp_path / "index")
    fill(index, [chunk(f"d{n}#0", "休暇 規程") for n in range(3)])
    left = tmp_path / "index" / "words.lance" / "data" / ".tmp3wErmA"
    left.write_bytes("d0#0 休暇 規程".encode())
    index.delete(["d0"], purge=True)
    assert not left.exists()
    assert index.verify_erased("d0#0") == []


FULL = """
import resource, signal, sys
from hagane.contracts.index import chunk
from hagane.core.errors import StorageError
from hagane.index.lance import LanceIndex
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
index = LanceIndex(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
import random
pick = random.Random(0)
text = lambda: "".join(chr(pick.randint(0x4e00, 0x9fff)) for _ in range(400))
try:
    index.add([chunk(f"big#{i}", text()) for i in range(500)], [["休暇"]] * 500)
except StorageError as error:
    print(error, "|", error.hint)
"""


def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path):
    folder = tmp_path / "index"
    fill(LanceIndex(folder), [chunk("a#0", "旅費 規程")])
    done = subprocess.run([sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, check=False)
    assert "the search index could not take in chunks" in done.stdout
    assert "|" in done.stdout
    index = LanceIndex(folder)
    assert words(index, "旅費") == ["a#0"]
    fill(index, [chunk("b#0", "旅費 追加")])
    assert sorted(words(index, "旅費")) == ["a#0", "b#0"]


def test_a_damaged_table_is_a_clear_error_without_content(tmp_path):
    folder = tmp_path / "index"
    fill(LanceIndex(folder), [chunk(f"a#{i}", "門外不出 規程") for i in range(50)])
    for file in (folder / "words.lance" / "data").glob("*.lance"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StorageError) as caught:
        LanceIndex(folder).chunks(["a#1"], clearance=EVERYTHING)
    assert "門外不出" not in str(caught.value)
    assert "hagane sync" in caught.value.hint
