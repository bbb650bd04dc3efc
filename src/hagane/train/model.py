"""Decoders from configs, initialised from scratch: Llama, Mistral, Falcon, Gemma and Qwen, as transformers builds them.

`hidden` runs a model over packed rows so that documents stay apart; the head is applied by the objectives, only where
there are labels. Loading an existing folder: `model_folder.py`.

Legend: B rows, T tokens of a row, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from hagane.core.errors import UsageError, nearest

from . import attention
from .scaling import Shape


@dataclass(frozen=True, slots=True)
class Family:
    """How one architecture is called, and which of its settings the shape decides."""

    config: str  # class names in transformers
    model: str
    settings: Callable[[Shape], Mapping[str, Any]]
    own_attention: bool = False  # does not go through the attention interface: gets a 4-D mask


def _usual(shape: Shape) -> dict[str, Any]:
    return {
        "vocab_size": shape.vocab,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.ffn,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": True,
    }


def _with_head_width(shape: Shape) -> dict[str, Any]:
    return {**_usual(shape), "head_dim": shape.width // shape.heads}


def _mistral(shape: Shape) -> dict[str, Any]:
    return {**_usual(shape), "sliding_window": shape.context}


def _gemma(shape: Shape) -> dict[str, Any]:
    return {
        **_with_head_width(shape),
        "query_pre_attn_scalar": shape.width // shape.heads,
        "sliding_window": min(512, shape.context),
    }


def _falcon(shape: Shape) -> dict[str, Any]:
    return {
        "vocab_size": shape.vocab,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "ffn_hidden_size": 4 * shape.width,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": True,
        "multi_query": True,
        "parallel_attn": True,
        "alibi": False,
        "bias": False,
    }


FAMILIES: Mapping[str, Family] = {
    "llama": Family("LlamaConfig", "LlamaForCausalLM", _usual),
    "mistral": Family("MistralConfig", "MistralForCausalLM", _mistral),
    "falcon": Family("FalconConfig", "FalconForCausalLM", _falcon, own_attention=True),
    "gemma": Family("GemmaConfig", "GemmaForCausalLM", _with_head_width),
    "gemma3_text": Family("Gemma3TextConfig", "Gemma3ForCausalLM", _gemma),
    "qwen2": Family("Qwen2Config", "Qwen2ForCausalLM", _usual),
    "qwen3": Family("Qwen3Config", "Qwen3ForCausalLM", _with_head_width),
}  # the keys are what `model_type` of a config.json says


def family(name: str) -> Family:
    """Raises: UsageError naming the nearest known family."""
    if name not in FAMILIES:
        close = nearest(name, FAMILIES)
        hint = f"did you mean {close!r}?" if close else "another architecture can be used, not trained, here"
        raise UsageError(f"model type {name!r} is not one of {', '.join(FAMILIES)}", hint=hint)
    return FAMILIES[name]


def attention_of(name: str) -> str:
    """The attention that `hidden` can keep inside documents."""
    return "sdpa" if family(name).own_attention else attention.NAME


def from_scratch(
    name: str, shape: Shape, *, seed: int, ends: Mapping[str, int] | None = None, **changes: Any
) -> torch.nn.Module:
    """A new model in fp32. Equal seeds give equal weights. `ends`: bos_token_id, eos_token_id, pad_token_id of the
    tokenizer (none by default). `changes`: settings of the configuration. Raises: UsageError."""
    kind = family(name)
    tokens = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None, **(ends or {})}
    settings = {**kind.settings(shape), **tokens, "use_cache": False, **changes}
    config = getattr(transformers, kind.config)(**settings)
    config._attn_implementation = attention_of(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, kind.model)(config).train()


def plain(model: torch.nn.Module) -> torch.nn.Module:
    """The transformers model itself, without the wrapping of an adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def hidden(
    model: torch.nn.Module, ids_BT: torch.Tensor, positions_BT: torch.Tensor, documents_BT: torch.Tensor
) -> torch.Tensor:
    """(B, T, D): what the head reads. No token sees another document of its row.

    Raises: UsageError for a model that was not made by this room, and for one with ALiBi (its positions are counted
    over the row, not the document).
    """
    model = plain(model)
    config = model.config
    decoder = getattr(model, model.base_model_prefix)
    if config._attn_implementation != attention_of(config.model_type):
        raise UsageError("this model was built with another attention", hint="build or load it with hagane.train")
    if getattr(config, "alibi", False):
        raise UsageError("models with ALiBi cannot be trained on packed rows", hint="take one with rotary positions")
    given: dict[str, Any] = {"input_ids": ids_BT, "position_ids": positions_BT, "use_cache": False}
    if family(config.model_type).own_attention:
        given["attention_mask"] = attention.mask_of(documents_BT)
    else:
        given["pieces"] = attention.layout_of(documents_BT)
    return decoder(**given).last_hidden_state


def compile_layers(model: torch.nn.Module) -> None:
    """Let torch.compile make one graph of the layers; attention over several documents a row stays outside of it,
    since their borders differ from step to step. Names and weights stay."""
    bare = plain(model)
    getattr(bare, bare.base_model_prefix).compile(dynamic=False)


def head(model: torch.nn.Module) -> torch.nn.Module:
    """The layer from hidden states to logits."""
    return plain(model).get_output_embeddings()


def logits(
    model: torch.nn.Module, ids_BT: torch.Tensor, positions_BT: torch.Tensor, documents_BT: torch.Tensor
) -> torch.Tensor:
    """(B, T, V): for tests and for looking; training never builds this tensor."""
    return head(model)(hidden(model, ids_BT, positions_BT, documents_BT))


def n_parameters(model: torch.nn.Module) -> int:
    """Each shared tensor once."""
    return sum(one.numel() for one in model.parameters())
