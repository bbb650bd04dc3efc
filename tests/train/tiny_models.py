"""Untrained models of a few thousand numbers, one per family, as Hugging Face folders with their tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

USUAL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 512,
}  # fmt: skip
FALCON: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", USUAL),
    "mistral": ("MistralConfig", "MistralForCausalLM", USUAL | {"sliding_window": 256}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", USUAL),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", USUAL | {"head_dim": 16}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", USUAL | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 256}),
    "falcon": ("FalconConfig", "FalconForCausalLM", FALCON),
    "falcon-new": ("FalconConfig", "FalconForCausalLM", FALCON | {"num_kv_heads": 2, "new_decoder_architecture": True}),
}  # fmt: skip


def write(kind: str, folder: Path, tokenizer: Path, *, n_rows: int, spread: float = 0.3) -> Any:
    """The model, also written to `folder`; equal numbers each time."""
    import torch
    import transformers

    torch.set_num_threads(1)
    config, name, settings = KINDS[kind]
    torch.manual_seed(20261124)
    model = getattr(transformers, name)(getattr(transformers, config)(vocab_size=n_rows, **settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(
                torch.randn_like(parameter) * spread
                if parameter.dim() > 1
                else parameter + torch.randn_like(parameter) * 0.1
            )
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    model.save_pretrained(folder)
    return model
