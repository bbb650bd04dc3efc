"""Exact ids and logits of llama.cpp: what the parity gate compares, checked against the served engine itself."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_gguf

from hagane.core.errors import ModelError, UsageError
from hagane.core.labels import PUBLIC
from hagane.core.types import ChatRequest, Message
from hagane.jobs.local import Worker
from hagane.models.llama_cpp import LlamaCpp
from hagane.models.llama_exact import ExactModel

pytest.importorskip("xllamacpp")
TARGET = "hagane.models.llama_exact:Engine"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tiny_gguf.write(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def model(file):
    with ExactModel(file, context=128) as made:
        yield made


def test_letters_and_marks_are_told_apart(model):
    table = tiny_gguf.values(template=True)
    words = table["tokenizer.ggml.tokens"]
    shown = [words[number] for number in model.tokens("<|im_start|>出張", ends=False)]
    assert shown == ["<|im_start|>", "▁", "出", "張"]
    assert "<|im_start|>" not in [words[number] for number in model.tokens("<|im_start|>", marks=False)]
    assert model.tokens("出", ends=True)[0] == table["tokenizer.ggml.bos_token_id"]
    assert model.is_end(table["tokenizer.ggml.eos_token_id"]) and not model.is_end(words.index("出"))


def test_a_row_of_logits_depends_on_what_stands_before_only(model):
    ids = model.tokens("有給休暇は二十日です。")
    whole, part = model.logits(ids), model.logits(ids[:4])
    assert whole.shape == (len(ids), model.n_vocab)
    assert np.abs(whole[:4] - part).max() < 1e-2
    assert np.array_equal(model.logits(ids), whole), "nothing is kept between two rows"


def test_the_served_engine_says_the_likeliest_tokens(model, file):
    """The oracle is the engine that answers users: greedy text, token by token."""
    ids = model.tokens("有給休暇は")
    words = tiny_gguf.values(template=True)["tokenizer.ggml.tokens"]
    said = b""
    for _ in range(8):
        row = model.logits(ids)[-1]
        assert np.sort(row)[-1] - np.sort(row)[-2] > 1e-2, "a tie would prove nothing"
        ids = [*ids, int(row.argmax())]
        word = words[ids[-1]]
        said += bytes([int(word[3:5], 16)]) if word.startswith("<0x") else word.replace("▁", " ").encode()
    with LlamaCpp(file, spawn=Worker, threads=1, context=128) as served:
        request = ChatRequest((Message.of("user", "有給休暇は"),), PUBLIC, max_tokens=8, temperature=0.0, raw=True)
        got = "".join(delta.text for delta in served.chat(request))
    assert got.strip() and got == said.decode("utf-8", "replace")


def test_the_same_in_a_process_of_its_own(model, file):
    """A crash of the library must not be ours."""
    worker = Worker(TARGET, init={"file": str(file), "context": 128}, threads=1, time_s=60.0, memory_bytes=None)
    try:
        (answer,) = worker.call({"text": "出張規程"})
        assert answer["ids"] == model.tokens("出張規程")
        rows = list(worker.call({"ids": answer["ids"]}))
        assert [row["next"] for row in rows] == model.logits(answer["ids"]).argmax(1).tolist()
        assert all(row["margin"] >= 0 for row in rows)
    finally:
        worker.close()


def test_saying_goes_on_as_rows_would(model):
    """Token by token with what is kept of the earlier ones, or each time anew: the same tokens."""
    ids = model.tokens("有給休暇は")
    said, ended = model.say(ids, 6)
    again = list(ids)
    for _ in range(len(said)):
        again.append(int(model.logits(again)[-1].argmax()))
    assert again[len(ids) :] == said
    assert ended == model.is_end(said[-1])


def test_the_loss_is_that_of_the_logits(model):
    ids = model.tokens("出張は前の日までに届け出る。")
    targets = [*ids[1:], -100]
    targets[0] = -100
    rows = model.logits(ids).astype(np.float64)
    nats = np.log(np.exp(rows).sum(axis=1)) - rows[np.arange(len(ids)), [max(0, target) for target in targets]]
    assert model.loss(ids, targets) == pytest.approx(nats[1:-1].sum(), rel=1e-5)


def test_wrong_use_is_said(model, tmp_path):
    with pytest.raises(UsageError, match="129 tokens"):
        model.logits([1] * 129)
    with pytest.raises(UsageError, match="0 tokens"):
        model.logits([])
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + "日本".encode())
    with pytest.raises(ModelError):
        ExactModel(tmp_path / "x.gguf")
