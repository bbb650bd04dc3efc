"""safetensors headers: sound ones are read, hostile ones are refused."""

from __future__ import annotations

import json
import struct

import pytest

from hagane.core.errors import ModelError
from hagane.core.safetensors_header import read_header

SOUND = {
    "__metadata__": {"作者": "試験"},
    "重み.a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "重み.b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
}


def write(path, table, *, data=b"\0" * 32, said=None):
    text = table if isinstance(table, bytes) else json.dumps(table, ensure_ascii=False).encode()
    path.write_bytes(struct.pack("<Q", len(text) if said is None else said) + text + data)
    return path


def test_a_sound_header_is_read(tmp_path):
    parts = read_header(write(tmp_path / "a.safetensors", SOUND))
    assert [(part.name, part.shape, part.start, part.end) for part in parts] == [
        ("重み.a", (2, 3), 0, 24),
        ("重み.b", (4,), 24, 32),
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 25]},
        {"dtype": "F32", "shape": [2, -3], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 24]},
        {"dtype": "OBJECT", "shape": [2, 3], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]},
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [24, 0]},
        {"dtype": "F32", "shape": [True, 6], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [2, 3]},
        {"dtype": "F32", "shape": "二三", "data_offsets": [0, 24]},
        [],
    ],
)
def test_a_lie_about_a_tensor_is_refused(tmp_path, row):
    with pytest.raises(ModelError, match="safetensors header"):
        read_header(write(tmp_path / "a.safetensors", SOUND | {"重み.a": row}))


@pytest.mark.parametrize("said", [2**63, 10**9, 1])
def test_a_wrong_length_is_refused(tmp_path, said):
    with pytest.raises(ModelError, match="safetensors header"):
        read_header(write(tmp_path / "a.safetensors", SOUND, said=said))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b'{"a": 1',
        b"\xff\xfe",
        b"{" * 100,
        b'{"a":{"dtype":"U8","shape":[32],"data_offsets":[0,32]},"a":{}}',
    ],
)
def test_what_is_not_one_object_is_refused(tmp_path, text):
    with pytest.raises(ModelError, match="safetensors header"):
        read_header(write(tmp_path / "a.safetensors", text))


@pytest.mark.parametrize("data", [b"", b"\0" * 31, b"\0" * 40])
def test_data_of_another_length_is_refused(tmp_path, data):
    with pytest.raises(ModelError, match="safetensors header"):
        read_header(write(tmp_path / "a.safetensors", SOUND, data=data))
