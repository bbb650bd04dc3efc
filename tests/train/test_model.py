"""Models from one dial, folders that may be read and those that may not, adapters and their bases."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")
pytest.importorskip("peft", reason="the extra train is not installed")

import torch
from small_training import FAMILIES, Stream, batch, shape, tiny

from hagane.core.errors import ModelError, RefusedError, StateError, UsageError
from hagane.train.loop import Settings, train
from hagane.train.model import from_scratch, logits, n_parameters
from hagane.train.model_folder import load_folder, save_folder
from hagane.train.objectives import Micro, NextToken
from hagane.train.tensor_file import write_tensors
from hagane.train.tune import Lora, add_adapter, fingerprint, load_adapter, merge, save_adapter


def seen(model) -> torch.Tensor:
    micro = Micro.of(batch(0, rows=2), [0, 1])
    with torch.no_grad():
        return logits(model.eval(), micro.ids_BT, micro.positions_BT, micro.documents_BT)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_trains_saves_and_loads(name: str, tmp_path):
    """Four steps make the loss fall; the folder gives the same logits back and names no attention of ours."""
    model = tiny(name, initializer_range=0.02)
    losses = train(model, NextToken(), Stream(), Settings(steps=4, learning_rate=3e-3, warmup_steps=1)).losses
    assert losses[-1] < losses[0]
    save_folder(model, tmp_path)
    assert "hagane" not in (tmp_path / "config.json").read_text("utf-8")
    assert torch.equal(seen(load_folder(tmp_path)), seen(model))


def test_equal_seeds_give_equal_weights_and_leave_the_random_state():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, other, third = tiny(seed=1), tiny(seed=1), tiny(seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert fingerprint(one) == fingerprint(other) != fingerprint(third)


def test_counted_parameters_are_the_models():
    assert n_parameters(from_scratch("llama", shape(width=64, depth=3), seed=0)) == shape(width=64, depth=3).n_params


def test_unknown_family_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        from_scratch("lama", shape(), seed=0)
    assert "llama" in str(caught.value.hint)


# -- folders ----------------------------------------------------------------------------------------------------------


def folder(tmp_path, **config):
    save_folder(tiny(), tmp_path)
    said = json.loads((tmp_path / "config.json").read_text("utf-8")) | config
    (tmp_path / "config.json").write_text(json.dumps(said), "utf-8")
    return tmp_path


def test_a_folder_that_wants_its_code_run_is_refused(tmp_path):
    path = folder(tmp_path, auto_map={"AutoModelForCausalLM": "modeling_悪.Model"})
    (path / "modeling_悪.py").write_text("raise SystemExit('この行は決して実行されない')", "utf-8")
    with pytest.raises(RefusedError, match="wants its own code run"):
        load_folder(path)


def test_a_tokenizer_that_wants_its_code_run_is_refused(tmp_path):
    (folder(tmp_path) / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["x.T", null]}}', "utf-8")
    with pytest.raises(RefusedError, match=r"tokenizer_config\.json"):
        load_folder(tmp_path)


def test_weights_in_a_pickle_are_never_opened(tmp_path):
    """The file would create another one if anything unpickled it."""
    path = folder(tmp_path)
    (path / "model.safetensors").unlink()
    trap = tmp_path / "trap"
    (path / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR.")
    with pytest.raises(RefusedError, match="pickle"):
        load_folder(path)
    assert not trap.exists()


def test_a_pickle_beside_safetensors_is_left_alone(tmp_path):
    path = folder(tmp_path)
    (path / "pytorch_model.bin").write_bytes(b"not a pickle either")
    assert n_parameters(load_folder(path)) == n_parameters(tiny())


def test_a_cut_weight_file_is_refused_before_the_native_reader(tmp_path):
    path = folder(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match="safetensors header"):
        load_folder(tmp_path)


def test_an_index_that_points_outside_is_refused(tmp_path):
    path = folder(tmp_path)
    (path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other.safetensors"}}', "utf-8")
    with pytest.raises(RefusedError, match="no safetensors file of the folder"):
        load_folder(path)


def test_weights_that_do_not_fit_their_config_are_an_error(tmp_path):
    """transformers would draw the missing ones at random."""
    with pytest.raises(ModelError, match="missing or of another shape"):
        load_folder(folder(tmp_path, num_hidden_layers=2, layer_types=None))


# -- adapters ---------------------------------------------------------------------------------------------------------

TUNING = Settings(steps=6, learning_rate=1e-2, warmup_steps=1, optimiser="adamw")


@pytest.mark.parametrize("name", FAMILIES)
def test_adapter_learns_alone_survives_its_folder_and_merges(name: str, tmp_path):
    """A fresh adapter changes nothing; trained, the base stays as it was; saved, loaded and merged it says the same."""
    base = tiny(name)
    before, mark = seen(base), fingerprint(base)
    model = add_adapter(base, Lora(rank=4), seed=3)
    assert torch.allclose(seen(model), before, atol=1e-5)
    losses = train(model.train(), NextToken(), Stream(), TUNING).losses
    assert losses[-1] < losses[0]
    assert fingerprint(model) == mark
    after = seen(model)
    assert (after - before).abs().max() > 1e-3
    save_adapter(model, tmp_path)
    assert torch.equal(seen(load_adapter(tiny(name), tmp_path)), after)
    merged = merge(model)
    assert (seen(merged) - after).abs().max() < 1e-4 * after.abs().max()
    assert not any("lora" in key for key, _ in merged.named_parameters())


def test_an_adapter_of_another_base_is_refused(tmp_path):
    """Same shape, other weights: it would load and talk nonsense."""
    save_adapter(add_adapter(tiny(seed=0), Lora(rank=4), seed=1), tmp_path)
    with pytest.raises(RefusedError, match="another base, a llama"):
        load_adapter(tiny(seed=1), tmp_path)
    (tmp_path / "base.json").unlink()
    with pytest.raises(RefusedError, match="another base"):
        load_adapter(tiny(width=64, depth=2), tmp_path)


def test_an_adapter_in_a_pickle_is_refused(tmp_path):
    save_adapter(add_adapter(tiny(), Lora(rank=4), seed=1), tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(RefusedError, match=r"holds no adapter_model\.safetensors"):
        load_adapter(tiny(), tmp_path)


def test_an_adapters_folder_names_no_path_of_this_machine(tmp_path):
    save_folder(tiny(), tmp_path / "秘密の場所")
    model = add_adapter(load_folder(tmp_path / "秘密の場所"), Lora(rank=4), seed=1)
    save_adapter(model, tmp_path / "adapter")
    assert all("秘密の場所" not in path.read_text("utf-8", "replace") for path in (tmp_path / "adapter").iterdir())
    assert str(tmp_path) not in (tmp_path / "adapter" / "adapter_config.json").read_text("utf-8")


def test_unknown_targets_name_the_layers_there_are():
    with pytest.raises(StateError) as caught:
        add_adapter(tiny(), Lora(targets=("q_projj",)), seed=0)
    assert "q_proj" in str(caught.value.hint)


def test_tensors_that_share_memory_get_their_own(tmp_path):
    one = torch.arange(4.0)
    write_tensors(tmp_path / "共有.safetensors", {"a": one, "b": one.view(2, 2)})
    from hagane.train.tensor_file import read_tensors

    got = read_tensors(tmp_path / "共有.safetensors")
    assert torch.equal(got["a"], one) and torch.equal(got["b"], one.view(2, 2))
