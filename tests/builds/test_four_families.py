"""Llama, Mistral, Falcon, Gemma: tuned, merged, exported, through the gate, served and stopped; 300 sentences cut alike.

SmolLM2-135M and Gemma 3 270M come from their packages, Mistral and Falcon are made from scratch: the claim is about the
line, not about what a small model knows.
"""

from __future__ import annotations

import japanese_sentences
import pytest
import taught_models

from hagane.builds.base import open_base
from hagane.builds.gate import questions
from hagane.builds.publish import export
from hagane.builds.spec import ExportConfig
from hagane.core.errors import HaganeError
from hagane.core.labels import Label
from hagane.core.types import ChatRequest, Message
from hagane.jobs.local import Worker
from hagane.models.llama_cpp import LlamaCpp

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("peft", reason="needs the extra train")
pytest.importorskip("gguf", reason="needs the extra train")
pytest.importorskip("xllamacpp", reason="needs llama.cpp")
pytestmark = pytest.mark.long  # minutes: two of them have 135 and 270 million parameters
SALES = Label.parse("internal:sales")
SMALL = {"steps": 60, "rate": 0.01}
KINDS = {
    "mistral": (SMALL, ("F16", "Q8_0"), 20, 64),
    "falcon": (SMALL, ("F16", "Q8_0"), 20, 64),
    "smollm2-135m": ({"steps": 16, "rate": 5e-4}, ("F16", "Q8_0"), 6, 24),
    "gemma3-270m": ({"steps": 24, "rate": 1e-3}, ("Q8_0",), 3, 24),
}  # base: (tuning, kinds of numbers, prompts, tokens of an answer)


def opened(kind: str, folder):
    """(folder, family, GGUF file or None) of the base."""
    if kind in taught_models.FAMILIES:
        return taught_models.from_scratch(folder, kind), taught_models.FAMILIES[kind], None
    try:
        base = open_base(kind)
    except HaganeError as why:
        pytest.skip(f"needs the package of {kind}: {why}")
    return base.folder, base.family, base.file


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_tuned_merged_exported_gated_served_and_stopped(kind: str, tmp_path):
    tuning, numbers, n_prompts, n_tokens = KINDS[kind]
    base, family, base_file = opened(kind, tmp_path / "base")
    asked = questions(n_prompts)
    adapter = taught_models.adapted(base, family, tmp_path / "adapter", asked, **tuning)
    sentences = japanese_sentences.sentences()
    assert len(sentences) == 300
    report = export(
        adapter, tmp_path / "model", ExportConfig(numbers=numbers, prompts=n_prompts), name="kaisha", label=SALES, base=base,
        base_file=base_file, family=family, texts=sentences, n_tokens=n_tokens, dev=taught_models.rows(base, family, asked[:2]),
    )  # fmt: skip
    parity = report.reports["parity"]
    lines = [
        f"{one['side']} {one['claim']} {one['got']}/{one['of']}" for found in parity["checks"].values() for one in found
    ]
    print(f"\n{kind}: {'; '.join(lines)}; ties {parity['ties']}; loss {parity['dev_loss']}")
    print(
        f"{kind}: merge, largest logit difference {report.reports['merge']['largest_difference']:.2g}, spread {report.reports['merge']['spread']:.3g}"
    )
    assert report.passed and report.why == ()
    assert all(f"{one} tokens {300 + n_prompts}/{300 + n_prompts}" in lines for one in numbers)
    assert "adapter.gguf" in [one.path for one in report.files]
    assert report.reports["merge"]["largest_difference"] < 1e-3 * max(1.0, report.reports["merge"]["spread"])
    _serve(tmp_path / "model" / report.served, tmp_path / "model" / "hf", sentences, asked)


def _serve(file, folder, sentences, asked):
    """The engine of the API counts the reference's tokens for every sentence, and the answer to a question ends."""
    from hagane.train.reference import reference_of, rendered

    reference = reference_of(folder)
    prompts = rendered(folder, sentences, chat=True)
    equal = 0
    with LlamaCpp(file, spawn=Worker, threads=1, context=512) as served:
        for sentence, prompt in zip(sentences, prompts, strict=True):
            request = ChatRequest((Message.of("user", sentence),), SALES, max_tokens=1, temperature=0.0)
            last = list(served.chat(request))[-1]
            equal += last.usage.input_tokens == len(reference.tokens(prompt))
        request = ChatRequest((Message.of("user", asked[0]),), SALES, max_tokens=64, temperature=0.0)
        deltas = list(served.chat(request))
    assert equal == 300
    assert deltas[-1].finish == "stop" and "".join(delta.text for delta in deltas).strip()
