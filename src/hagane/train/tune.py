"""Adapters (LoRA): small trainable matrices beside frozen ones, saved with the mark of the base they belong to.

Recommendation: rank 16, alpha 2 x rank, every linear layer but the head (Hu et al. 2021, arXiv 2106.09685; all layers:
Dettmers et al. 2023, arXiv 2305.14314). Learning rate about 10 x that of full fine-tuning, 1e-4 to 4e-4, AdamW.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

from hagane.core.errors import RefusedError, StateError, StorageError

from .adapter import BASE, CONFIG, WEIGHTS, check_base, read_files
from .fingerprint import fingerprint as fingerprint
from .lora_linear import quicken
from .model import plain
from .quantised import dequantise
from .tensor_file import write_tensors


@dataclass(frozen=True, slots=True)
class Lora:
    """How an adapter is made. `targets`: names of layers, or "all-linear" (all but the head). `above`: blocks at the
    bottom that stay as they are; nothing flows back through them, which spares their share of the backward pass."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    above: int = 0


def add_adapter(model: torch.nn.Module, lora: Lora, *, seed: int) -> PeftModel:
    """The model with a fresh adapter (which changes nothing yet); only the adapter is trainable.

    Raises: StateError where none of the targets is in the model.
    """
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    if lora.above:
        targets = _above(model, lora)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made = get_peft_model(model, config)
        except ValueError as cause:
            linear = {
                name.rpartition(".")[2] for name, one in model.named_modules() if isinstance(one, torch.nn.Linear)
            }
            raise StateError(f"no layer is called {targets}", hint=f"there are {', '.join(sorted(linear))}") from cause
    quicken(made)
    return made


def _above(model: torch.nn.Module, lora: Lora) -> list[str]:
    """Full names of the linear layers of the blocks from `above` on that the targets name."""
    wanted = None if isinstance(lora.targets, str) else set(lora.targets)
    found = []
    for name, one in model.named_modules():
        place = re.search(r"\.(?:layers|h)\.(\d+)\.", name)
        is_there = place is not None and int(place[1]) >= lora.above and isinstance(one, torch.nn.Linear)
        if is_there and (wanted is None or name.rpartition(".")[2] in wanted):
            found.append(name)
    return found


def save_adapter(model: PeftModel, folder: Path) -> None:
    """As peft reads it anywhere (adapter_model.safetensors, adapter_config.json), and base.json. Raises: StorageError."""
    config = {
        key: sorted(value) if isinstance(value, set) else value for key, value in _config(model).to_dict().items()
    }
    config["base_model_name_or_path"] = None  # a path of this machine is nobody's business; base.json says which
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / WEIGHTS, get_peft_model_state_dict(model), notes={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(config, indent=2, default=str) + "\n", "utf-8")
        base = {"model_type": plain(model).config.model_type, "fingerprint": fingerprint(model)}
        (folder / BASE).write_text(json.dumps(base, indent=2) + "\n", "utf-8")
    except OSError as cause:
        raise StorageError(f"{folder.name} cannot be written: {type(cause).__name__}", hint="free space") from cause


def load_adapter(model: torch.nn.Module, folder: Path, *, trainable: bool = False) -> PeftModel:
    """The base with a saved adapter. Raises: what `read_files` raises; RefusedError for an adapter of another base."""
    said, tensors = read_files(folder)
    check_base(folder, fingerprint(model))
    known = LoraConfig.__dataclass_fields__
    config = LoraConfig(**{key: value for key, value in said.items() if key in known and key != "peft_type"})
    config.inference_mode = not trainable
    adapted = get_peft_model(model, config)
    try:
        report = set_peft_model_state_dict(adapted, tensors)
        odd = [key for key in report.missing_keys if "lora_" in key] + list(report.unexpected_keys)
    except RuntimeError:  # shapes differ; torch names each of them
        odd = ["its matrices have other shapes"]
    if odd:
        raise RefusedError(
            f"the adapter {folder.name} is one of another base: {odd[0]} does not fit",
            hint="load the base that its card names",
        )
    quicken(adapted)
    return adapted


def merge(model: PeftModel) -> torch.nn.Module:
    """The base with the adapter added into its weights, in fp32: a plain model, ready for `save_folder`.
    A base in 4 bits is the one that was rounded. Folders are merged by merge.py, with this."""
    dequantise(model)
    return model.float().merge_and_unload(safe_merge=True)


def _config(model: PeftModel) -> Any:
    return model.peft_config[model.active_adapter]
