"""Any embedding model of a Hugging Face folder: vectors as numpy computes them, and nothing of the folder is run."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import tiny_onnx
from tiny_onnx import PLACE_TABLE, TABLE, ids, unit

from hagane.core.errors import ConfigError, ModelError
from hagane.models import hf_embed
from hagane.models.hf_embed import HfEmbedder

TEXTS = ["出張の日当は一日2,500円とする。", "有給休暇", "", "就業規則 第1条", "𠮷野家 😀"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HAGANE_CACHE", str(folder))
    return folder


def words(text: str) -> np.ndarray:
    """The graph's words' vectors, (n_tokens, width)."""
    found = ids(text)
    return TABLE[found] + PLACE_TABLE[: len(found)]


def made(folder, **options) -> HfEmbedder:
    return HfEmbedder(folder, threads=1, **options)


POOLED = {"mean": lambda x: x.mean(axis=0), "cls": lambda x: x[0], "last": lambda x: x[-1]}


@pytest.mark.parametrize("pooling", sorted(POOLED))
def test_vectors_are_those_of_the_words_pooled_without_padding(tmp_path, pooling):
    """Texts of different length in one run, and a tokenizer.json that pads by itself."""
    found = made(tiny_onnx.write(tmp_path), pooling=pooling).embed(TEXTS, kind="passage")
    expected = [unit(POOLED[pooling](words(text))) for text in TEXTS]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("files", "pooling"),
    [
        ({}, "mean"),
        ({"1_Pooling__config": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}}, "cls"),
        ({"1_Pooling__config": {"pooling_mode_lasttoken": True}}, "last"),
        ({"1_Pooling__config": {"pooling_mode": "cls"}}, "cls"),
        (
            {
                "modules": [{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "9_集約"}],
                "9_集約__config": {"pooling_mode_cls_token": True},
            },
            "cls",
        ),
    ],
)
def test_pooling_is_what_the_folder_says(tmp_path, files, pooling):
    found = made(tiny_onnx.write(tmp_path, **files)).embed(["有給休暇"], kind="query")[0]
    np.testing.assert_allclose(found, unit(POOLED[pooling](words("有給休暇"))), atol=1e-5)


@pytest.mark.parametrize(
    ("said", "pooling"), [({"pooling_mode_max_tokens": True}, "max_tokens"),
                          ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls")],
)  # fmt: skip
def test_a_pooling_we_do_not_have_is_refused_by_name(tmp_path, said, pooling):
    folder = tiny_onnx.write(tmp_path, **{"1_Pooling__config": said})
    with pytest.raises(ConfigError, match=pooling):
        made(folder).embed(["有給休暇"], kind="query")
    assert made(folder, pooling="mean").embed(["有給休暇"], kind="query").shape == (1, 48)


def test_the_graphs_own_sentence_vector_comes_first_and_is_not_disturbed_by_neighbours(tmp_path):
    """This graph takes no mask: texts of unlike length must not be padded together."""
    folder = tiny_onnx.write(
        tmp_path, graph=tiny_onnx.sentence_graph(), **{"1_Pooling__config": {"pooling_mode_cls_token": True}}
    )
    found = made(folder).embed(TEXTS, kind="passage")
    np.testing.assert_allclose(found, [unit(TABLE[ids(text)].mean(axis=0)) for text in TEXTS], atol=1e-5)
    by_first = made(folder, pooling="cls").embed(TEXTS, kind="passage")
    np.testing.assert_allclose(by_first, [unit(TABLE[ids(text)[0]]) for text in TEXTS], atol=1e-5)


def test_a_dynamically_quantised_graph_gives_the_same_vector_in_any_company(tmp_path):
    """One scale for all texts of a run: a small text beside a loud one would lose its digits."""
    model = made(tiny_onnx.write(tmp_path, graph=tiny_onnx.quantised_graph()))
    together = model.embed(TEXTS, kind="passage")
    alone = np.concatenate([model.embed([text], kind="passage") for text in TEXTS])
    np.testing.assert_array_equal(together, alone)


def test_a_step_behind_pooling_that_the_graph_lacks_is_not_passed_over(tmp_path):
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Dense")]
    with pytest.raises(ConfigError, match="Dense"):
        made(tiny_onnx.write(tmp_path, modules=modules)).embed(["規程"], kind="query")


def test_prompts_of_the_folder_stand_in_front_unless_the_options_say_otherwise(tmp_path):
    prompts = {"prompts": {"query": "問:", "document": "本文:"}}
    folder = tiny_onnx.write(tmp_path, config_sentence_transformers=prompts)

    def vector(kind, **options):
        return made(folder, **options).embed(["有給"], kind=kind)[0]

    for kind, options, text in [
        ("query", {}, "問:有給"),
        ("passage", {}, "本文:有給"),
        ("query", {"query_prefix": ""}, "有給"),
        ("passage", {"passage_prefix": "前文:"}, "前文:有給"),
    ]:
        np.testing.assert_allclose(vector(kind, **options), unit(words(text).mean(axis=0)), atol=1e-5)


@pytest.mark.parametrize(
    ("files", "options", "n_tokens"),
    [
        ({}, {}, 64),
        ({}, {"max_tokens": 20}, 20),
        ({"sentence_bert_config": {"max_seq_length": 12}}, {}, 12),
        ({"config": {"model_type": "xlm-roberta", "max_position_embeddings": 34, "pad_token_id": 1}}, {}, 32),
    ],
)
def test_long_texts_are_cut_where_the_model_ends(tmp_path, files, options, n_tokens):
    """Marks included; RoBERTa's places begin behind the padding."""
    found = made(tiny_onnx.write(tmp_path, **files), **options).embed(["就業規則" * 5_000], kind="passage")[0]
    np.testing.assert_allclose(found, unit(words(("就業規則" * 16)[: n_tokens - 2]).mean(axis=0)), atol=1e-5)


def test_lower_case_models_get_lower_case(tmp_path):
    folder = tiny_onnx.write(tmp_path, sentence_bert_config={"do_lower_case": True})
    model = made(folder)
    seen = []
    encode = model._tokenizer.encode
    model.__dict__["_tokenizer"] = type(
        "Ear", (), {"encode": staticmethod(lambda text: seen.append(text) or encode(text))}
    )
    model.embed(["ＰＴＯ Policy"], kind="query")
    assert seen == ["ｐｔｏ policy"]


# ---- fingerprint ----
def test_the_fingerprint_changes_with_what_changes_vectors_and_with_nothing_else(tmp_path):
    folder = tiny_onnx.write(tmp_path / "模型")
    first = made(folder).fingerprint
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert made(moved).fingerprint == first
    assert HfEmbedder(moved, threads=2).fingerprint == first
    others = [{"pooling": "cls"}, {"query_prefix": "query: "}, {"passage_prefix": "文: "}, {"max_tokens": 32}]
    found = {made(folder, **options).fingerprint for options in others}
    for name in ("onnx/model.onnx", "tokenizer.json"):
        changed = shutil.copytree(folder, tmp_path / f"changed-{name.replace('/', '-')}")
        text = (changed / name).read_bytes()
        (changed / name).write_bytes(text.replace(b"tiny", b"TINY").replace(b'"[UNK]": 1', b'"[UNK]": 3'))
        found.add(made(changed).fingerprint)
    assert len(found | {first}) == 7


def test_weights_beside_the_graph_belong_to_the_fingerprint(tmp_path):
    folder = tiny_onnx.write(tmp_path, graph=tiny_onnx.outside_graph("重み.bin"))
    weights = folder / "onnx" / "重み.bin"
    weights.write_bytes(TABLE.tobytes())
    model = made(folder)
    first = model.fingerprint
    np.testing.assert_allclose(model.embed(["有給"], kind="query")[0], unit(TABLE[ids("有給")].mean(axis=0)), atol=1e-5)
    weights.write_bytes((-TABLE).tobytes())
    os.utime(weights, ns=(1, 1))
    assert made(folder).fingerprint != first


def test_large_files_are_read_for_their_checksum_once(tmp_path, monkeypatch, cache):
    folder = tiny_onnx.write(tmp_path)
    first = made(folder).fingerprint

    def never(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(hf_embed.hashlib, "file_digest", never)
    assert made(folder).fingerprint == first
    for kept in cache.rglob("*.json"):
        kept.write_text("[壊れた")
    with pytest.raises(AssertionError, match="read again"):
        _ = made(folder).fingerprint


# ---- what is refused, and the hint ----
def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match="無い") as caught:
        made(tmp_path / "無い")
    assert "--local-dir" in caught.value.hint


@pytest.mark.parametrize(
    ("weights", "message"),
    [("pytorch_model.bin", "pickle"), ("model.safetensors", "safetensors"), ("README.md", "no ONNX")],
)
def test_a_folder_without_onnx_says_how_to_export(tmp_path, weights, message):
    tiny_onnx.write(tmp_path)
    shutil.rmtree(tmp_path / "onnx")
    (tmp_path / weights).write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    with pytest.raises(ConfigError, match=message) as caught:
        made(tmp_path)
    assert "optimum-cli export onnx" in caught.value.hint


def test_a_folder_without_a_tokenizer_file_says_so(tmp_path):
    (tiny_onnx.write(tmp_path) / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        made(tmp_path)


def test_a_quantised_sibling_is_taken_by_name_only(tmp_path):
    folder = tiny_onnx.write(tmp_path, at="onnx/model_qint8.onnx", graph=tiny_onnx.quantised_graph())
    (folder / "onnx" / "model_fp16.onnx").write_bytes(tiny_onnx.words_graph())
    with pytest.raises(ConfigError, match="several") as caught:
        made(folder)
    assert "onnx/model_qint8.onnx" in caught.value.hint
    model = made(folder, file="onnx/model_qint8.onnx")
    assert model.embed(["有給"], kind="query").shape == (1, model.dim)
    with pytest.raises(ConfigError, match="int4") as caught:
        made(folder, file="onnx/model_int4.onnx")
    assert "onnx/model_fp16.onnx" in caught.value.hint


@pytest.mark.parametrize("file", ["../model.onnx", "/etc/model.onnx", "onnx/../../m.onnx", "pytorch_model.bin"])
def test_the_graph_lies_within_the_folder(tmp_path, file):
    with pytest.raises(ConfigError, match=r"options\.file"):
        made(tiny_onnx.write(tmp_path), file=file)


@pytest.mark.parametrize("options", [{"pooling": "最大"}, {"max_tokens": 3}])
def test_options_out_of_range_are_refused(tmp_path, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        made(tiny_onnx.write(tmp_path), **options)


@pytest.mark.parametrize("name", ["../重み.bin", "/etc/passwd", "onnx/../../x", "*/_ORT_MEM_ADDR_/*", "missing.bin"])
def test_weights_outside_the_folder_or_in_memory_are_refused(tmp_path, name):
    folder = tiny_onnx.write(tmp_path, graph=tiny_onnx.outside_graph(name))
    (tmp_path / "重み.bin").write_bytes(TABLE.tobytes())
    for use in (lambda: made(folder).fingerprint, lambda: made(folder).embed(["規程"], kind="query")):
        with pytest.raises(ModelError, match=r"outside its folder|missing"):
            use()


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-9], lambda data: b"version https://git-lfs", lambda data: b"\xff" * 99],
)
def test_a_damaged_graph_is_an_error_of_ours(tmp_path, damage):
    folder = tiny_onnx.write(tmp_path, graph=damage(tiny_onnx.words_graph()))
    with pytest.raises(ModelError, match="ONNX"):
        made(folder).embed(["規程"], kind="query")


def test_a_graph_that_wants_more_than_text_is_refused(tmp_path):
    folder = tiny_onnx.write(tmp_path, graph=tiny_onnx.table_graph(given=["input_ids", "pixel_values"]))
    with pytest.raises(ConfigError, match="pixel_values"):
        made(folder).embed(["規程"], kind="query")


@pytest.mark.parametrize("name", ["config", "sentence_bert_config", "config_sentence_transformers", "1_Pooling/config"])
def test_damaged_small_files_are_named(tmp_path, name):
    folder = tiny_onnx.write(tmp_path)
    (folder / f"{name}.json").parent.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text("{「壊れた」")
    with pytest.raises(ModelError, match="JSON"):
        made(folder)


def test_code_that_a_folder_brings_is_not_run(tmp_path):
    """transformers would import modeling_x.py when told to trust it; we know no such word."""
    said = {"auto_map": {"AutoModel": "modeling_x.X"}, "custom_pipelines": {}}
    folder = tiny_onnx.write(tmp_path, config=said)
    (folder / "modeling_x.py").write_text(f"open({str(tmp_path / '走った')!r}, 'w')\nclass X: pass\n")
    assert made(folder).embed(["規程"], kind="query").shape == (1, 48)
    assert not (tmp_path / "走った").exists()
