"""A Hugging Face folder of a few kilobytes: one table of random vectors as an ONNX graph, one token per character."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hagane.models.e5_onnx import _int, _node, _part, _tensor

INT64, FLOAT = 7, 1
WIDTH, PLACES = 48, 64
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
CHARACTERS = sorted(
    set("有給休暇は入社6か月後に10日付与する。出張の当一2,5円といくらですか第条従業員取得就業規則前文問:本")
)
VOCABULARY = {word: at for at, word in enumerate([*MARKS, *CHARACTERS])}
TABLE = np.random.default_rng(7).normal(size=(len(VOCABULARY), WIDTH)).astype(np.float32)
PLACE_TABLE = np.random.default_rng(8).normal(size=(PLACES, WIDTH)).astype(np.float32)


def ids(text: str) -> list[int]:
    """What the tokenizer must give, marks included."""
    return [VOCABULARY["[CLS]"], *(VOCABULARY.get(c, VOCABULARY["[UNK]"]) for c in text), VOCABULARY["[SEP]"]]


def unit(vector: NDArray) -> NDArray:
    return vector / np.linalg.norm(vector)


def write(folder: Path, *, graph: bytes | None = None, at: str = "onnx/model.onnx", **files: Any) -> Path:
    """The folder with graph, tokenizer and config.json; `files` are further JSON files, `__` for a slash."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors

    (folder / at).parent.mkdir(parents=True, exist_ok=True)
    (folder / at).write_bytes(words_graph() if graph is None else graph)
    tokenizer = tokenizers.Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    marks = [("[CLS]", VOCABULARY["[CLS]"]), ("[SEP]", VOCABULARY["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    tokenizer.enable_padding(length=40)  # as many published files say: it must not reach the vectors
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, said in {"config": {"model_type": "bert", "max_position_embeddings": PLACES}, **files}.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")
    return folder


def words_graph(*, result: str = "last_hidden_state") -> bytes:
    """table[input_ids] + places[position_ids] + types[token_type_ids]; the mask is asked for as every export does."""
    nodes = [
        _node("Gather", ["table", "input_ids"], ["a"], "", {}),
        _node("Gather", ["places", "position_ids"], ["b"], "", {}),
        _node("Gather", ["types", "token_type_ids"], ["c"], "", {}),
        _node("Add", ["a", "b"], ["d"], "", {}),
        _node("Add", ["d", "c"], [result], "", {}),
    ]
    types = np.stack([np.zeros(WIDTH), np.full(WIDTH, 9)]).astype(np.float32)
    constants = [_tensor("table", TABLE), _tensor("places", PLACE_TABLE), _tensor("types", types)]
    return model(nodes, constants, ["input_ids", "attention_mask", "token_type_ids", "position_ids"], {result: 3})


def table_graph(*, given: Sequence[str] = ("input_ids",)) -> bytes:
    """table[input_ids] and nothing else."""
    nodes = [_node("Gather", ["table", "input_ids"], ["last_hidden_state"], "", {})]
    return model(nodes, [_tensor("table", TABLE)], given, {"last_hidden_state": 3})


def sentence_graph() -> bytes:
    """Both outputs; the sentence is the mean over all tokens, padding included, for want of a mask."""
    nodes = [
        _node("Gather", ["table", "input_ids"], ["last_hidden_state"], "", {}),
        _node("ReduceMean", ["last_hidden_state"], ["sentence_embedding"], "", {"axes": [1], "keepdims": 0}),
    ]
    return model(nodes, [_tensor("table", TABLE)], ["input_ids"], {"last_hidden_state": 3, "sentence_embedding": 2})


def quantised_graph() -> bytes:
    """Words' vectors in 8 bits with one scale for all of a run, as dynamically quantised exports have it."""
    nodes = [
        _node("Gather", ["table", "input_ids"], ["a"], "", {}),
        _node("DynamicQuantizeLinear", ["a"], ["q", "s", "z"], "", {}),
        _node("DequantizeLinear", ["q", "s", "z"], ["last_hidden_state"], "", {}),
    ]
    table = TABLE * np.geomspace(0.001, 1, len(TABLE), dtype=np.float32)[:, None]
    return model(nodes, [_tensor("table", table)], ["input_ids", "attention_mask"], {"last_hidden_state": 3})


def outside_graph(location: str) -> bytes:
    """As table_graph, the table being the file `location`."""
    entry = _part(1, "location") + _part(2, location)
    dims = b"".join(_int(1, n) for n in TABLE.shape)
    table = dims + _int(2, FLOAT) + _part(8, "table") + _part(13, entry) + _int(14, 1)
    nodes = [_node("Gather", ["table", "input_ids"], ["last_hidden_state"], "", {})]
    return model(nodes, [table], ["input_ids"], {"last_hidden_state": 3})


def model(nodes: Sequence[bytes], constants: Sequence[bytes], given: Sequence[str], results: dict[str, int]) -> bytes:
    """A ModelProto; `results`: name to rank."""
    shapes = {2: ("B", WIDTH), 3: ("B", "T", WIDTH)}
    body = b"".join(_part(1, node) for node in nodes) + _part(2, "tiny")
    body += b"".join(_part(5, constant) for constant in constants)
    body += b"".join(_part(11, _port(name, INT64, ("B", "T"))) for name in given)
    body += b"".join(_part(12, _port(name, FLOAT, shapes[rank])) for name, rank in results.items())
    return _int(1, 9) + _part(7, body) + _part(8, _int(2, 17))


def _port(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_part(1, _int(1, n) if isinstance(n, int) else _part(2, n)) for n in shape)
    return _part(1, name) + _part(2, _part(1, _int(1, kind) + _part(2, dims)))
