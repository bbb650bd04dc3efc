"""What training starts from: a checked folder, or a GGUF file de-quantised once, with its template and end of turn."""

from __future__ import annotations

import json
import shutil

import pytest
import tiny_models

from hagane.core.errors import ModelError, NotFoundError, RefusedError, UsageError
from hagane.core.labels import Label
from hagane.models.gguf import read_header

torch = pytest.importorskip("torch", reason="needs the extra train")
transformers = pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("gguf", reason="needs the extra train")
from hagane.builds.base import open_base  # noqa: E402
from hagane.train.base import MARK, dequantised, family_of, open_folder, settle  # noqa: E402
from hagane.train.export import to_gguf  # noqa: E402
from hagane.train.fingerprint import fingerprint, fingerprint_of  # noqa: E402
from hagane.train.model_folder import load_folder  # noqa: E402

SECRET = Label.parse("confidential:hr")


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def file(request, spm, tmp_path_factory):
    """A GGUF file under a label, with the chat template of its family."""
    folder = tmp_path_factory.mktemp(request.param)
    tiny_models.write(request.param, folder, spm, n_rows=1500)
    return to_gguf(folder, folder / "会社.gguf", numbers="F32", label=SECRET).file


def opened(file, root):
    return dequantised(
        file, read_header(file).values, root, label=Label.parse("public"), licence="社内限り", name="kaisha"
    )


def test_a_file_becomes_the_folder_that_it_was_made_from(file, tmp_path):
    """Weights, tokens, template, end of turn, label: nothing is lost on the way there and back."""
    base = opened(file, tmp_path)
    before = transformers.AutoModelForCausalLM.from_pretrained(file.parent)
    after = transformers.AutoModelForCausalLM.from_pretrained(base.folder)
    texts = ["有給休暇は二十日です。", "<|eot_id|>\n出張旅費"]
    one, other = (transformers.AutoTokenizer.from_pretrained(folder) for folder in (file.parent, base.folder))
    assert [one(text).input_ids for text in texts] == [other(text).input_ids for text in texts]
    with torch.no_grad():
        ids = torch.tensor([one(texts[0]).input_ids])
        assert torch.allclose(before(ids).logits, after(ids).logits, atol=1e-4)
    assert (base.label, base.licence, base.family, base.file) == (SECRET, "社内限り", "llama", file)
    assert other.chat_template == one.chat_template
    assert one.convert_tokens_to_ids("<|eot_id|>") in after.generation_config.eos_token_id


def test_it_is_made_once_and_again_when_it_was_cut_short(file, tmp_path):
    base = opened(file, tmp_path)
    weights = base.folder / "model.safetensors"
    made_at = weights.stat().st_mtime_ns
    assert opened(file, tmp_path) == base and weights.stat().st_mtime_ns == made_at
    (base.folder / MARK).unlink()
    weights.write_bytes(weights.read_bytes()[:-9])
    assert opened(file, tmp_path) == base and len(list(tmp_path.iterdir())) == 1


def test_a_fingerprint_is_the_same_in_memory_and_on_disk(file, tmp_path):
    base = opened(file, tmp_path)
    assert fingerprint(load_folder(base.folder)) == fingerprint_of(base.folder) == base.fingerprint


def test_code_pickles_and_damage_are_refused(file, tmp_path):
    folder = shutil.copytree(opened(file, tmp_path / "root").folder, tmp_path / "a")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-5])
    with pytest.raises(ModelError, match="not sound"):
        open_base(str(folder))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(RefusedError, match="pickle"):
        open_base(str(folder))
    (folder / "model.safetensors").write_bytes(whole)
    said = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(said | {"auto_map": {"AutoModel": "x.Y"}}), "utf-8")
    with pytest.raises(RefusedError, match="auto_map"):
        open_base(str(folder))
    (folder / "config.json").write_text(json.dumps(said | {"model_type": "会社"}), "utf-8")
    with pytest.raises(UsageError, match="not one of"):
        open_base(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(NotFoundError, match=r"config\.json"):
        open_base(str(folder))


def test_a_template_is_settled_with_its_end_of_turn_or_refused(file, tmp_path):
    folder = shutil.copytree(opened(file, tmp_path / "root").folder, tmp_path / "a")
    for name in ("chat_template.jinja", "generation_config.json", "hagane.json"):
        (folder / name).unlink()
    assert family_of(folder) == "llama"
    settle(folder, "llama")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ends = json.loads((folder / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    assert tokenizer.eos_token == "<|eot_id|>" and ends[0] == tokenizer.eos_token_id and len(ends) == 2
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "鍵は?"}], tokenize=False, add_generation_prompt=True
    )
    assert "鍵は?<|eot_id|>" in text
    with pytest.raises(RefusedError, match="could not end its turn"):
        settle(folder, "qwen")


def test_a_folder_that_says_nothing_gets_the_label_it_is_given(file, tmp_path):
    folder = shutil.copytree(opened(file, tmp_path / "root").folder, tmp_path / "a")
    assert open_folder(folder, label=Label.parse("internal")).label == SECRET
    (folder / "hagane.json").unlink()
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n会社の模型", "utf-8")
    base = open_base(str(folder))
    assert (base.label, base.licence) == (Label.parse("internal"), "apache-2.0")
