"""A tuned adapter says the same in training's library and as it is served: a GGUF file beside the base's."""

from __future__ import annotations

import japanese_sentences
import pytest
import tiny_models

torch = pytest.importorskip("torch", reason="needs the extra train")
peft = pytest.importorskip("peft", reason="needs the extra train")
transformers = pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("xllamacpp", reason="needs llama.cpp")
from hagane.core.labels import PUBLIC  # noqa: E402
from hagane.core.types import ChatRequest, Message  # noqa: E402
from hagane.jobs.local import Worker  # noqa: E402
from hagane.models.gguf import read_header  # noqa: E402
from hagane.models.llama_cpp import LlamaCpp  # noqa: E402
from hagane.train.adapter import adapter_to_gguf  # noqa: E402
from hagane.train.export import to_gguf  # noqa: E402
from hagane.train.parity import LOST  # noqa: E402

N = 12


def served(file, prompts, adapter=()) -> list[str]:
    with LlamaCpp(file, spawn=Worker, adapter=adapter, threads=1, context=256) as model:
        asked = [ChatRequest((Message.of("user", text),), PUBLIC, max_tokens=N, raw=True) for text in prompts]
        return ["".join(delta.text for delta in model.chat(request)) for request in asked]


def test_greedy_text_of_the_tuned_model_is_served(spm, tmp_path):
    """Whole text to whole text, and the base beside it says something else."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    plain = tiny_models.write("gemma3", base, spm, n_rows=1500)
    tuned = peft.get_peft_model(plain, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.copy_((torch.randn_like(parameter) * 0.3).half().float())
    tuned.save_pretrained(adapter)
    file = to_gguf(base, tmp_path / "base.gguf", numbers="F32", label=PUBLIC).file
    lora = adapter_to_gguf(adapter, base, tmp_path / "lora.gguf", label=PUBLIC, numbers="F16")
    assert {tensor.type for tensor in read_header(lora).tensors} == {"F16"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    prompts = japanese_sentences.sentences()[100:104]
    said = []
    for text in prompts:
        ids = tokenizer(text, return_tensors="pt").input_ids
        out = tuned.generate(input_ids=ids, max_new_tokens=N, do_sample=False, eos_token_id=tokenizer.eos_token_id)
        said.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    beside = served(file, prompts, lora)
    assert [text.strip().rstrip(LOST) for text in beside] == [text.strip().rstrip(LOST) for text in said]
    assert served(file, prompts) != beside
