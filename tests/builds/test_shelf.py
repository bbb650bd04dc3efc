"""Records of made models: whole or not there, told apart from damaged ones, sealed where the project is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagane.builds import shelf
from hagane.builds.shelf import Base, Damaged, ModelFile, Record, every, read_record, write_record
from hagane.core.errors import NotFoundError, StateError, StorageError, UsageError
from hagane.core.labels import Label, Level
from hagane.core.whole_file import TEMPORARY

HR = Label.parse("confidential:hr")
RECORD = Record(
    "就業規則".encode().hex()[:8], kind="adapter", label=HR, stage="tune", state="published", base=Base("gemma3-270m", "gemma"),
    datasets=("ds_1",), parents=("d_1", "d_2"), lineage="m_1", files=(ModelFile("adapter.gguf", "0" * 64, 10, "adapter"),), served="adapter.gguf",
    chat="template", n_params=268_000_000, context=2048, reports={"dev": {"loss": 1.25, "sample": "有給休暇は10日です。"}}, created_at="2026-11-24T00:00:00.000Z",
)  # fmt: skip


class Seal:
    """Turns bytes round; opens only what was sealed for the same key and place."""

    form = "test"

    def seal(self, document: str, data: bytes, *, bound: bytes) -> bytes:
        return json.dumps([document, bound.decode()]).encode() + b"\n" + data[::-1]

    def open(self, document: str, sealed: bytes, *, bound: bytes) -> bytes:
        head, _, data = sealed.partition(b"\n")
        if json.loads(head) != [document, bound.decode()]:
            raise StorageError("sealed data is damaged")
        return data[::-1]

    def term(self, term: str) -> str:
        return term


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path, RECORD.name) == RECORD
    assert every(tmp_path) == [RECORD]
    assert (tmp_path / RECORD.name / "model.json").stat().st_mode & 0o077 == 0, "for its owner only"


labels = st.builds(Label, st.sampled_from(Level), st.frozensets(st.sampled_from(["hr", "board"])))
values = st.recursive(st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text("有給休暇ab\"\\\n", max_size=8), lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=4), v, max_size=3), max_leaves=6)  # fmt: skip


@given(label=labels, reports=st.dictionaries(st.text(max_size=5), values, max_size=4), names=st.lists(st.text(max_size=9), max_size=5))
def test_any_label_and_report_come_back(tmp_path_factory: pytest.TempPathFactory, label: Label, reports: dict[str, Any], names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("棚")
    record = replace(RECORD, label=label, reports=reports, parents=tuple(names))
    write_record(folder, record)
    assert read_record(folder, record.name) == record


def test_a_killed_write_leaves_the_record_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path, RECORD)

    def dies(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", dies)
    with pytest.raises(StorageError):
        write_record(tmp_path, replace(RECORD, state="blocked", why="写し"))
    monkeypatch.undo()
    assert read_record(tmp_path, RECORD.name) == RECORD
    assert not list((tmp_path / RECORD.name).glob(TEMPORARY + "*"))


def spoilt(change: Callable[[dict[str, Any]], Any]) -> bytes:
    tree = {"format": 1, **asdict(RECORD), "label": str(RECORD.label)}
    return json.dumps(change(tree) or tree).encode()


SPOILT: dict[str, bytes] = {
    "cut": spoilt(dict)[:200],
    "empty": b"",
    "binary": b"\xff\xfe\x00GGUF",
    "a list": b"[]",
    "no label": spoilt(lambda tree: {k: v for k, v in tree.items() if k != "label"}),
    "an unknown label": spoilt(lambda tree: tree | {"label": "とても秘密"}),
    "a label that is a number": spoilt(lambda tree: tree | {"label": 0}),
    "an unknown state": spoilt(lambda tree: tree | {"state": "servable"}),
    "another's name": spoilt(lambda tree: tree | {"name": "other"}),
    "a way out": spoilt(lambda tree: tree | {"served": "../../他社.gguf"}),
    "an absolute file": spoilt(lambda tree: tree | {"files": [{"path": "/etc/passwd", "sha256": "", "size_bytes": 1}]}),
    "a file that is a number": spoilt(lambda tree: tree | {"files": [{"path": 3, "sha256": "", "size_bytes": 1}]}),
    "an unknown label of the base": spoilt(lambda tree: tree | {"base": {"label": "?"}}),
}


@pytest.mark.parametrize("data", SPOILT.values(), ids=SPOILT.keys())
def test_a_damaged_record_is_told_and_hides_no_other(tmp_path: Path, data: bytes) -> None:
    write_record(tmp_path, replace(RECORD, name="a"))
    write_record(tmp_path, replace(RECORD, name="z"))
    (tmp_path / RECORD.name).mkdir()
    (tmp_path / RECORD.name / "model.json").write_bytes(data)
    with pytest.raises(StorageError, match="damaged") as told:
        read_record(tmp_path, RECORD.name)
    assert told.value.hint
    found = every(tmp_path)
    assert [one.name for one in found] == sorted(["a", RECORD.name, "z"])
    assert [one.name for one in found if isinstance(one, Damaged)] == [RECORD.name]


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    file = write_record(tmp_path, RECORD)
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StateError, match="format 2"):
        read_record(tmp_path, RECORD.name)


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".x", "A", "就業規則", "a" * 64, "a\0b"])
def test_what_is_no_name_is_written_nowhere_and_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        write_record(tmp_path, replace(RECORD, name=name))
    with pytest.raises(NotFoundError):
        read_record(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_folders_without_a_record_are_no_models(tmp_path: Path) -> None:
    """A run writes weights before it has a record."""
    (tmp_path / "half" / "hf").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    assert every(tmp_path) == []
    assert every(tmp_path / "nowhere") == []


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not JSON"):
        write_record(tmp_path, replace(RECORD, reports={"dev": {"loss": float("nan")}}))


def test_a_sealed_record_shows_no_word_and_opens_only_in_its_place(tmp_path: Path) -> None:
    file = write_record(tmp_path, RECORD, sealer=Seal())
    assert "有給休暇".encode() not in file.read_bytes()
    assert read_record(tmp_path, RECORD.name, sealer=Seal(), strict=True) == RECORD
    with pytest.raises(StorageError, match="encrypted"):
        read_record(tmp_path, RECORD.name)
    moved = tmp_path / "other" / "model.json"
    moved.parent.mkdir()
    moved.write_bytes(file.read_bytes())
    with pytest.raises(StorageError):
        read_record(tmp_path, "other", sealer=Seal())


def test_a_plain_record_among_sealed_ones_is_a_forgery(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path, RECORD.name, sealer=Seal()) == RECORD, "while a conversion is under way"
    with pytest.raises(StorageError, match="damaged"):
        read_record(tmp_path, RECORD.name, sealer=Seal(), strict=True)


def test_a_file_is_measured_and_hashed(tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "模型.gguf").write_bytes(b"GGUF" * 100)
    found = shelf.file_of(tmp_path, "模型.gguf", role="gguf", numbers="Q8_0")
    assert found == ModelFile("模型.gguf", hashlib.sha256(b"GGUF" * 100).hexdigest(), 400, "gguf", "Q8_0")
    with pytest.raises(NotFoundError):
        shelf.file_of(tmp_path, "無い.gguf")
