"""Adapters beside a base's file: they change what it says, and those of another base never reach the engine."""

from __future__ import annotations

import pytest
import tiny_gguf
import tiny_lora

from hagane.contracts.chat_model import said
from hagane.core.errors import ModelError, NotFoundError, UsageError
from hagane.core.labels import Label
from hagane.core.types import ChatRequest, Message
from hagane.jobs.local import Worker
from hagane.models.gguf import read_header
from hagane.models.llama_cpp import LlamaCpp
from hagane.models.llama_lora import Lora, checked

REQUEST = ChatRequest((Message.of("user", "有給休暇は何日ですか"),), Label(), max_tokens=12, raw=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_gguf.write(tmp_path_factory.mktemp("base") / "tiny.gguf")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tiny_lora.write(tmp_path_factory.mktemp("lora") / "lora.gguf")


def speak(base, adapter=()) -> str:
    with LlamaCpp(base, spawn=Worker, adapter=adapter, threads=1, context=256) as model:
        return said(list(model.chat(REQUEST)))


def test_the_base_and_the_base_with_an_adapter_are_two_models(base, file):
    """Both over one file; without weight the adapter is not there, and its effect does not stay in the file."""
    plain = speak(base)
    assert speak(base, file) != plain
    assert speak(base, Lora(file, 0.0)) == plain
    assert speak(base) == plain


def test_several_adapters_count_with_their_scales(base, file, tmp_path):
    other = tiny_lora.write(tmp_path / "other.gguf", seed=8)
    both = speak(base, (Lora(file), Lora(other, 2.0)))
    assert both != speak(base, file)
    assert both != speak(base, Lora(other, 2.0))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"architecture": "gemma3"}, "for gemma3"),
        ({"width": 64}, "in the base"),
        ({"weights": ("blk.3.ffn_up.weight",)}, "has no blk.3"),
    ],
)
def test_an_adapter_of_another_base_is_refused_before_anything_starts(base, tmp_path, given, why):
    """llama.cpp would end the process, or load it and talk nonsense."""
    bad = tiny_lora.write(tmp_path / "よその.gguf", **given)
    with pytest.raises(ModelError, match=f"another base.*{why}"):
        LlamaCpp(base, spawn=Worker, adapter=bad)


def test_what_is_no_adapter_is_refused(base, file, tmp_path):
    head = read_header(base)
    assert checked(Lora(file), head).architecture == "llama"
    with pytest.raises(ModelError, match="no LoRA adapter"):
        checked(Lora(base), head)
    with pytest.raises(ModelError, match="no LoRA adapter"):
        checked(Lora(tiny_lora.write(tmp_path / "a.gguf", kind="model")), head)
    with pytest.raises(ModelError, match="other things"):
        checked(Lora(tiny_lora.write(tmp_path / "b.gguf", leave_out="blk.0.ffn_up.weight.lora_b")), head)
    with pytest.raises(NotFoundError):
        checked(Lora(tmp_path / "ない.gguf"), head)
    for scale in (float("nan"), float("inf"), 1e6):
        with pytest.raises(UsageError, match="scale"):
            checked(Lora(file, scale), head)


def test_a_damaged_adapter_never_reaches_the_engine(base, file, tmp_path):
    whole = file.read_bytes()
    for n_bytes in (3, 40, len(whole) - 100):
        (tmp_path / "cut.gguf").write_bytes(whole[:n_bytes])
        with pytest.raises(ModelError):
            LlamaCpp(base, spawn=Worker, adapter=tmp_path / "cut.gguf")
