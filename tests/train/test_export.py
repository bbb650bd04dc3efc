"""Hugging Face folder to GGUF: the same tokens of the same text, the same model, the label kept."""

from __future__ import annotations

import json
from pathlib import Path

import japanese_sentences
import numpy as np
import pytest
import tiny_models

from hagane.core.errors import ModelError, RefusedError, UsageError
from hagane.core.labels import Label
from hagane.models.gguf import read_header
from hagane.models.llama_exact import ExactModel

torch = pytest.importorskip("torch", reason="needs the extra train")
transformers = pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("gguf", reason="needs the extra train")
pytest.importorskip("xllamacpp", reason="needs llama.cpp")
from hagane.train.export import KINDS, LABEL, to_gguf  # noqa: E402  heavy: after the skips
from hagane.train.template import source, unmarked  # noqa: E402

SECRET = Label.parse("confidential:hr")
N_ROWS = 1504  # more rows than tokens, as padded models have
# Largest difference of a logit whose spread is 1.7: llama.cpp keeps keys and values as F16 whatever the weights are,
# BF16 rounds what goes into a product, too. Measured 2026-11-24, rounded up.
CLOSE = {"F32": 0.08, "F16": 0.15, "BF16": 0.6, "Q8_0": 1.5}


@pytest.fixture(scope="module")
def made(spm, byte_bpe, tmp_path_factory):
    """Families to (folder, model): Qwen with byte-level BPE, the others with SentencePiece."""
    found = {}
    for kind in tiny_models.KINDS:
        folder = tmp_path_factory.mktemp(kind)
        found[kind] = (
            folder,
            tiny_models.write(kind, folder, byte_bpe if kind.startswith("qwen") else spm, n_rows=N_ROWS),
        )
    return found


def expected(model, ids) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].numpy()


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_300_japanese_sentences_are_the_same_tokens(kind: str, made, tmp_path):
    folder, _ = made[kind]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    done = to_gguf(folder, tmp_path / "m.gguf", numbers="F16", label=SECRET)
    texts = japanese_sentences.sentences()
    with ExactModel(done.file) as model:
        differing = [text for text in texts if tokenizer(text).input_ids != model.tokens(text)]
        marks = tokenizer.eos_token + "規程\n" + tokenizer.pad_token + "  終"
        assert tokenizer(marks).input_ids == model.tokens(marks)
        assert model.is_end(tokenizer.eos_token_id)
    assert (len(texts), differing) == (300, [])


@pytest.mark.parametrize("numbers", KINDS)
@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_it_is_the_same_model(kind: str, numbers: str, made, tmp_path):
    folder, reference = made[kind]
    done = to_gguf(folder, tmp_path / "m.gguf", numbers=numbers, label=SECRET)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("".join(japanese_sentences.sentences()[100:106])).input_ids[:150]
    want = expected(reference, ids)
    with ExactModel(done.file) as model:
        got = model.logits(ids)
    assert np.abs(got - want).max() < CLOSE[numbers]
    agree = (got.argmax(1) == want.argmax(1)).mean()
    assert agree >= {"F32": 0.98, "F16": 0.98, "BF16": 0.93, "Q8_0": 0.85}[numbers]


def test_the_file_says_what_it_is(made, tmp_path):
    """Our own careful reader accepts it; the label and what ends a turn stand in it."""
    folder, reference = made["llama"]
    done = to_gguf(folder, tmp_path / "m.gguf", numbers="Q8_0", label=SECRET, name="小さな模型")
    header = read_header(done.file)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert header.architecture == "llama" and header.has_template and header.values["general.name"] == "小さな模型"
    assert header.values[LABEL] == "confidential:hr" and done.label == SECRET
    assert header.values["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id == done.eos
    assert header.values["tokenizer.ggml.eot_token_id"] == tokenizer.eos_token_id
    assert done.n_params == header.n_params == sum(p.numel() for p in reference.parameters())
    assert header.values["tokenizer.chat_template"] == unmarked(source("llama"))
    assert {t.type for t in header.tensors} == {"F32", "Q8_0"} and done.kept == ()


def test_rows_that_blocks_cannot_hold_stay_f16(spm, tmp_path):
    folder = tmp_path / "m"
    settings = tiny_models.USUAL | {"intermediate_size": 72}
    config, name, _ = tiny_models.KINDS["llama"]
    transformers_model = getattr(transformers, name)(getattr(transformers, config)(vocab_size=N_ROWS, **settings))
    transformers_model.save_pretrained(folder)
    for file in spm.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    done = to_gguf(folder, tmp_path / "m.gguf", numbers="Q8_0", label=SECRET)
    assert done.kept == ("blk.0.ffn_down.weight", "blk.1.ffn_down.weight")
    with ExactModel(done.file) as model:
        assert np.isfinite(model.logits([1, 2, 3])).all()


def test_equal_folders_give_equal_files(made, tmp_path):
    for name in ("一.gguf", "二.gguf"):
        to_gguf(made["llama"][0], tmp_path / name, numbers="BF16", label=SECRET)
    assert (tmp_path / "一.gguf").read_bytes() == (tmp_path / "二.gguf").read_bytes()


def change(folder: Path, target: Path, name: str, **values) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    table = json.loads((target / name).read_text("utf-8"))
    (target / name).write_text(json.dumps(table | values), "utf-8")
    return target


@pytest.mark.parametrize(
    ("kind", "values", "error", "why"),
    [
        ("llama", {"model_type": "gpt_neox"}, UsageError, "gpt_neox"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, RefusedError, "yarn"),
        ("gemma3", {"query_pre_attn_scalar": 99}, RefusedError, "query_pre_attn_scalar"),
        ("gemma3", {"layer_types": ["full_attention", "sliding_attention"]}, RefusedError, "every sixth"),
        ("falcon", {"alibi": True}, RefusedError, "Falcon"),
        ("qwen2", {"use_sliding_window": True}, RefusedError, "sliding window"),
    ],
)
def test_what_llama_cpp_would_ignore_is_refused(kind, values, error, why, made, tmp_path):
    folder = change(made[kind][0], tmp_path / "x", "config.json", **values)
    with pytest.raises(error, match=why):
        to_gguf(folder, tmp_path / "m.gguf", numbers="F16", label=SECRET)
    assert not list(tmp_path.glob("m.gguf*"))


def test_a_qwen2_folder_with_another_tokenizer_is_refused(spm, tmp_path):
    """transformers ignores what the folder says and cuts the text its own way: 290 of 300 sentences differed."""
    tiny_models.write("qwen2", tmp_path / "x", spm, n_rows=N_ROWS)
    with pytest.raises(RefusedError, match="Qwen"):
        to_gguf(tmp_path / "x", tmp_path / "m.gguf", numbers="F16", label=SECRET)


def test_a_tokenizer_larger_than_the_model_is_said(spm, tmp_path):
    tiny_models.write("llama", tmp_path / "x", spm, n_rows=1000)
    with pytest.raises(ModelError, match="1000 rows"):
        to_gguf(tmp_path / "x", tmp_path / "m.gguf", numbers="F16", label=SECRET)


def test_numbers_that_are_not_finite_are_never_published(made, spm, tmp_path):
    model = tiny_models.write("llama", tmp_path / "x", spm, n_rows=N_ROWS)
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    model.save_pretrained(tmp_path / "x")
    with pytest.raises(ModelError, match="not finite"):
        to_gguf(tmp_path / "x", tmp_path / "m.gguf", numbers="F16", label=SECRET)
    assert not list(tmp_path.glob("m.gguf*"))


def test_a_kind_that_is_not_written_here_is_said(made, tmp_path):
    with pytest.raises(UsageError, match="Q4_K_M"):
        to_gguf(made["llama"][0], tmp_path / "m.gguf", numbers="Q4_K_M", label=SECRET)
