"""What GGUF wants to know of each model family, and how its weights lie there otherwise than in Hugging Face folders.

Source: the graphs of llama.cpp (src/models/) and its converter; each difference is said where it is made.
Legend: D width, H heads, K heads of keys and values, R rows of a matrix (what comes out), N numbers in a head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import RefusedError, UsageError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Plan:
    """`values`: metadata without the architecture's prefix; `change(name, array)`: a weight as llama.cpp wants it;
    `rows`: the same for the rows only, which is all that an adapter's B matrix has of it."""

    architecture: str
    n_blocks: int
    values: Mapping[str, Any]
    change: Callable[[str, Floats], Floats] = field(repr=False)
    rows: Callable[[str, Floats], Floats] = field(repr=False)


def plan_of(config: Mapping[str, Any]) -> Plan:
    """How the model of a config.json is written. Raises: UsageError for another family, RefusedError for a setting
    that llama.cpp would ignore."""
    kind = str(config.get("model_type"))
    if kind not in _FAMILIES:
        raise UsageError(f"{kind} cannot be written as GGUF here", hint=f"there are {', '.join(sorted(_FAMILIES))}")
    return _FAMILIES[kind](config)


def _same(_: str, array: Floats) -> Floats:
    return array


def _usual(config: Mapping[str, Any]) -> dict[str, Any]:
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    context = config["max_position_embeddings"]
    return {
        "context_length": context,
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads") or heads,
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.dimension_count": width,
        **_rope(config),
    }


def _rope(config: Mapping[str, Any], part: str | None = None) -> dict[str, Any]:
    """Both ways in which transformers writes it: rope_theta with rope_scaling, and rope_parameters."""
    said = config.get("rope_parameters") or {}
    said = said.get(part, said) if part else said
    scaling = config.get("rope_scaling") or {}
    kind = said.get("rope_type") or scaling.get("rope_type") or scaling.get("type") or "default"
    found: dict[str, Any] = {"rope.freq_base": float(said.get("rope_theta") or config.get("rope_theta") or 10_000.0)}
    if kind == "linear":
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": float((said or scaling)["factor"])}
    elif kind != "default":
        raise RefusedError(f"positions of the kind {kind!r} are not written here", hint="default and linear are")
    return found


def _turned(array: Floats, n_heads: int) -> Floats:
    """transformers turns the two halves of a head against each other, llama.cpp neighbours: rows change places."""
    shape = array.shape
    return array.reshape(n_heads, 2, shape[0] // n_heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def _llama(config: Mapping[str, Any]) -> Plan:
    values = _usual(config)
    window = config.get("sliding_window")
    if window:  # llama.cpp's graph of this family looks at everything: beyond the window it would say something else
        values["context_length"] = min(values["context_length"], window)
    n_heads, n_kv = values["attention.head_count"], values["attention.head_count_kv"]

    def turn(name: str, array: Floats) -> Floats:
        if "q_proj" in name:
            return _turned(array, n_heads)
        return _turned(array, n_kv) if "k_proj" in name else array

    return Plan("llama", config["num_hidden_layers"], values | {"vocab_size": config["vocab_size"]}, turn, turn)


def _qwen(config: Mapping[str, Any]) -> Plan:
    if config.get("use_sliding_window"):
        raise RefusedError("Qwen with a sliding window is another model in llama.cpp", hint="use_sliding_window: false")
    return Plan(str(config["model_type"]), config["num_hidden_layers"], _usual(config), _same, _same)


def _gemma(config: Mapping[str, Any]) -> Plan:
    values = _usual({key: said for key, said in config.items() if key != "rope_parameters"})
    values |= _rope(config, "full_attention") | {"attention.sliding_window": config["sliding_window"]}
    width, depth = values["attention.key_length"], config["num_hidden_layers"]
    kinds = config.get("layer_types") or []
    wanted = ["sliding_attention" if (number + 1) % 6 else "full_attention" for number in range(depth)]
    if list(kinds) not in ([], wanted):
        raise RefusedError("llama.cpp knows Gemma 3 with every sixth layer seeing everything, and no other order")
    if config.get("query_pre_attn_scalar", 256) != width:
        raise RefusedError(
            "llama.cpp scales Gemma's attention by the width of a head: query_pre_attn_scalar must be it"
        )
    local = (config.get("rope_parameters") or {}).get("sliding_attention", {}).get("rope_theta")
    if float(local or config.get("rope_local_base_freq") or 10_000.0) != 10_000.0:
        raise RefusedError("llama.cpp turns Gemma's sliding layers with 10,000, and nothing else")
    if config.get("final_logit_softcapping") or config.get("attn_logit_softcapping"):
        raise RefusedError("llama.cpp's Gemma 3 knows no soft capping")

    def one_more(name: str, array: Floats) -> Floats:
        return array + 1 if name.endswith("norm.weight") else array  # transformers multiplies with 1 + weight

    return Plan("gemma3", depth, values, one_more, _same)


def _falcon(config: Mapping[str, Any]) -> Plan:
    if config.get("alibi") or config.get("bias") or not config.get("parallel_attn", True):
        raise RefusedError("llama.cpp knows Falcon with turned positions, parallel attention and without bias")
    n_heads, width_D = config["num_attention_heads"], config["hidden_size"]
    n_kv = config.get("num_kv_heads") or n_heads
    if not config.get("new_decoder_architecture"):
        if not config.get("multi_query", True):
            raise RefusedError("llama.cpp knows Falcon with one head of keys, or the new decoder")
        n_kv = 1
    width_N = width_D // n_heads
    values = {
        "context_length": config.get("max_position_embeddings", 2048),
        "tensor_data_layout": "jploski",
        "embedding_length": width_D,
        "feed_forward_length": config.get("ffn_hidden_size") or 4 * width_D,
        "block_count": config["num_hidden_layers"],
        "attention.head_count": n_heads,
        "attention.head_count_kv": n_kv,
        "attention.layer_norm_epsilon": float(config["layer_norm_epsilon"]),
        **_rope(config),
    }

    def apart(name: str, array: Floats) -> Floats:
        """Queries, keys and values lie beside each other per group of heads; llama.cpp wants one behind the other."""
        if "query_key_value" not in name:
            return array
        grouped = array.reshape(n_kv, n_heads // n_kv + 2, width_N, -1)
        parts = (grouped[:, :-2], grouped[:, -2:-1], grouped[:, -1:])
        return np.concatenate([part.reshape(-1, array.shape[-1]) for part in parts])

    return Plan("falcon", config["num_hidden_layers"], values, apart, apart)


_FAMILIES: dict[str, Callable[[Mapping[str, Any]], Plan]] = {
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _qwen,
    "qwen3": _qwen,
    "gemma3_text": _gemma,
    "falcon": _falcon,
}
