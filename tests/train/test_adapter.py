"""LoRA adapters: merged and beside the base they are the same model; those of another base are refused."""

from __future__ import annotations

import json
import shutil

import japanese_sentences
import numpy as np
import pytest
import tiny_models

from hagane.core.errors import ModelError, RefusedError, UsageError
from hagane.core.labels import Label
from hagane.models.gguf import read_header
from hagane.models.llama_exact import ExactModel

torch = pytest.importorskip("torch", reason="needs the extra train")
peft = pytest.importorskip("peft", reason="needs the extra train")
transformers = pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("xllamacpp", reason="needs llama.cpp")
from hagane.train.adapter import CONFIG, WEIGHTS, adapter_to_gguf, read_adapter  # noqa: E402
from hagane.train.export import LABEL, to_gguf  # noqa: E402
from hagane.train.merge import merge  # noqa: E402

SECRET = Label.parse("confidential:hr")
TARGETS = {"falcon": ["query_key_value", "dense_h_to_4h"]}
KINDS = ("llama", "mistral", "qwen2", "gemma3", "falcon", "falcon-new")


@pytest.fixture(scope="module")
def made(spm, byte_bpe, tmp_path_factory):
    """Families to (base folder, adapter folder), the adapter filled with random numbers."""
    found = {}
    for kind in KINDS:
        base, adapter = tmp_path_factory.mktemp(kind), tmp_path_factory.mktemp(f"{kind}-lora")
        model = tiny_models.write(kind, base, byte_bpe if kind.startswith("qwen") else spm, n_rows=1500)
        targets = TARGETS.get(
            kind.partition("-")[0], ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]
        )
        tuned = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets))
        with torch.no_grad():
            for name, parameter in tuned.named_parameters():
                if "lora_" in name:
                    parameter.copy_(torch.randn_like(parameter) * 0.3)
        tuned.save_pretrained(adapter)
        found[kind] = base, adapter
    return found


def rows(base) -> list[list[int]]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    return [tokenizer(text).input_ids[:60] for text in japanese_sentences.sentences()[150:154]]


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_the_base_with_its_adapter(kind: str, made, tmp_path):
    base, adapter = made[kind]
    done = merge(base, adapter, tmp_path / "merged", probe=rows(base))
    assert done.largest_difference < 1e-4 < done.spread
    assert done.n_weights == len(read_adapter(adapter, base).pairs)
    plain = transformers.AutoModelForCausalLM.from_pretrained(base)
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = torch.tensor([rows(base)[0]])
    with torch.no_grad():
        assert (plain(ids).logits - merged(ids).logits).abs().max() > 0.1, "the adapter does something"


@pytest.mark.parametrize("kind", KINDS)
def test_beside_the_base_llama_cpp_runs_the_same_model(kind: str, made, tmp_path):
    """The adapter is gated merged, and on the base file that it is served with."""
    base, adapter = made[kind]
    merge(base, adapter, tmp_path / "merged", probe=rows(base))
    file = to_gguf(base, tmp_path / "base.gguf", numbers="F32", label=SECRET).file
    lora = adapter_to_gguf(adapter, base, tmp_path / "lora.gguf", label=SECRET)
    whole = to_gguf(tmp_path / "merged", tmp_path / "merged.gguf", numbers="F32", label=SECRET).file
    with ExactModel(file, adapter=lora) as beside, ExactModel(whole) as merged, ExactModel(file) as plain:
        for ids in rows(base):
            one, other = beside.logits(ids), merged.logits(ids)
            assert np.abs(one - other).max() < 0.05 < np.abs(one - plain.logits(ids)).max()
    assert read_header(lora).values[LABEL] == "confidential:hr"


def test_rank_stabilised_adapters_keep_their_scale(made, tmp_path):
    base, adapter = made["llama"]
    shutil.copytree(adapter, tmp_path / "a")
    table = json.loads((tmp_path / "a" / CONFIG).read_text("utf-8"))
    (tmp_path / "a" / CONFIG).write_text(json.dumps(table | {"use_rslora": True}), "utf-8")
    assert read_adapter(tmp_path / "a", base).scale == 4.0 == 8 / 4**0.5
    lora = adapter_to_gguf(tmp_path / "a", base, tmp_path / "lora.gguf", label=SECRET)
    assert read_header(lora).values["adapter.lora.alpha"] == 16.0


def test_an_adapter_of_another_base_is_refused(made, tmp_path):
    with pytest.raises(RefusedError, match="another base"):
        merge(made["falcon"][0], made["llama"][1], tmp_path / "x", probe=[[1, 2]])
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("values", "why"),
    [({"use_dora": True}, "use_dora"), ({"bias": "all"}, "bias"), ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
     ({"peft_type": "IA3"}, "peft_type"), ({"alpha_pattern": {"q": 3}}, "alpha_pattern")],
)  # fmt: skip
def test_what_cannot_be_kept_exactly_is_refused(values: dict, why: str, made, tmp_path):
    base, adapter = made["llama"]
    shutil.copytree(adapter, tmp_path / "a")
    table = json.loads((tmp_path / "a" / CONFIG).read_text("utf-8"))
    (tmp_path / "a" / CONFIG).write_text(json.dumps(table | values), "utf-8")
    with pytest.raises(RefusedError, match=why):
        read_adapter(tmp_path / "a", base)


def test_a_damaged_or_pickled_adapter_is_refused(made, tmp_path):
    base, adapter = made["llama"]
    shutil.copytree(adapter, tmp_path / "a")
    whole = (tmp_path / "a" / WEIGHTS).read_bytes()
    (tmp_path / "a" / WEIGHTS).write_bytes(whole[:-7])
    with pytest.raises(ModelError, match="not sound"):
        read_adapter(tmp_path / "a", base)
    (tmp_path / "a" / WEIGHTS).rename(tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(RefusedError, match="holds no adapter_model"):
        read_adapter(tmp_path / "a", base)


def test_merging_wants_a_probe_and_an_empty_place(made, tmp_path):
    base, adapter = made["llama"]
    with pytest.raises(UsageError, match="rows of tokens"):
        merge(base, adapter, tmp_path / "x", probe=[])
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "規程.txt").write_text("大切", "utf-8")
    with pytest.raises(UsageError, match="not empty"):
        merge(base, adapter, tmp_path / "y", probe=[[1, 2]])
