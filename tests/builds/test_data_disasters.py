"""Killed at any row, out of disk, damaged: preparing again ends with the same bytes, or says what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_data import ENCODER, INTERNAL, articles, lines, nothing, spec_of

from hagane.builds.data import Prepared, prepare
from hagane.core.errors import StorageError

CHILD = """
import os, resource, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from small_data import ENCODER, INTERNAL, nothing, spec_of
from hagane.builds.data import prepare
from hagane.core.errors import StorageError
from hagane.train.dataset import Encoder
import hagane.train.whole as whole

at, folder = int(sys.argv[1]), Path(sys.argv[2])
seen = 0

def count():
    global seen
    seen += 1
    if seen == at:
        os.kill(os.getpid(), signal.SIGKILL)

def encode(row):
    count()
    return ENCODER.encode(row)

real = whole.sync_folder
whole.sync_folder = lambda place: (count(), real(place))  # between two files, too
if at < 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (-at, -at))  # as full as a disk gets in a test
spec = spec_of("pretrain", [{{"file": "規程.jsonl"}}], split={{"dev": 0.2}})
try:
    prepare(spec, "pretrain", documents=nothing, folder=folder / "datasets", encoder=Encoder("文字", 0x110000, encode), root=folder, default=INTERNAL)
except StorageError as error:
    print(error, error.hint)
    sys.exit(7)
print(seen)
"""


def run(at: int, folder: Path) -> subprocess.CompletedProcess[str]:
    code = CHILD.format(here=str(Path(__file__).parent.parent))
    return subprocess.run([sys.executable, "-c", code, str(at), str(folder)], capture_output=True, text=True, check=False)


def whole(folder: Path) -> Prepared:
    spec = spec_of("pretrain", [{"file": "規程.jsonl"}], split={"dev": 0.2})
    return prepare(spec, "pretrain", documents=nothing, folder=folder / "datasets", encoder=ENCODER, root=folder, default=INTERNAL)


def bytes_of(made: Prepared) -> dict[str, bytes]:
    return {str(file.relative_to(made.folder)): file.read_bytes() for file in made.folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("at", [1, 2, 17, 36, 41, 44, 49, 52])
def test_killed_at_any_row_or_file_it_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, at: int):
    for name in ("cut", "undisturbed"):
        (tmp_path / name).mkdir()
        lines(tmp_path / name / "規程.jsonl", articles(40))
    killed = run(at, tmp_path / "cut")
    assert killed.returncode == -9, killed.stderr
    one, other = whole(tmp_path / "cut"), whole(tmp_path / "undisturbed")
    assert bytes_of(one) == bytes_of(other)
    assert (one.mark, one.told) == (other.mark, other.told)


def test_a_full_disk_is_said_and_the_next_run_ends_well(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", articles(40))
    full = run(-3000, tmp_path)
    assert (full.returncode, "free space" in full.stdout) == (7, True), full.stderr
    assert whole(tmp_path).n_documents > 20


def test_a_damaged_shard_is_an_error_with_a_way_out(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", articles(40))
    made = whole(tmp_path)
    shard = made.folder / "train" / "00000.bin"
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(StorageError, match=r"00000\.bin has") as caught:
        whole(tmp_path)
    assert caught.value.hint


def test_a_damaged_card_makes_the_set_anew(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", articles(40))
    made = whole(tmp_path)
    before = bytes_of(made)
    (made.folder / "dataset.json").write_bytes(b"{")
    assert bytes_of(whole(tmp_path)) == before
