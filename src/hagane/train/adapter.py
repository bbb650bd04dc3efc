"""LoRA adapters: merged into their base in fp32, or written as a GGUF adapter beside the base's file.

An adapter is a pair of small matrices per weight: the weight becomes W + alpha / rank · B A. It belongs to one base:
every pair is held against the base's shapes before anything is written.
Legend: R rows (what comes out), C columns (what goes in), K rank.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.errors import ModelError, RefusedError, StorageError, UsageError
from ..core.labels import Label
from ..core.safetensors_header import read_header
from .export import LABEL, architecture_of
from .gguf_architecture import Floats, plan_of
from .model_folder import check_folder, read_json
from .tensor_file import read_tensors

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_FRONT = "base_model.model."
SMALL_FILES = ("*.json", "*.jinja", "tokenizer.model")


@dataclass(frozen=True, slots=True)
class Adapter:
    """`pairs`: the base's weight to (A_KC, B_RK); `scale` multiplies B A; `rank` is the usual one."""

    rank: int
    scale: float
    pairs: Mapping[str, tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True)
class Merged:
    """A folder with the adapter in its weights. `largest_difference`: between the logits of the base with its adapter
    beside it and of the merged model, over the probe; `spread`: standard deviation of those logits."""

    folder: Path
    n_weights: int
    largest_difference: float
    spread: float


def read_adapter(folder: Path, base: Path) -> Adapter:
    """The adapter in `folder`, held against its base. Raises: NotFoundError and ModelError for a damaged folder,
    RefusedError for a kind that cannot be kept exactly or an adapter of another base."""
    config = read_json(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        raise RefusedError(f"{folder.name} holds no {WEIGHTS}", hint="adapters in pickles are never read")
    for key, right in (("peft_type", "LORA"), ("bias", "none")):
        if config.get(key, right) != right:
            raise RefusedError(f"an adapter whose {key} is {config[key]!r} cannot be kept", hint=f"{right!r} can")
    for key in ("use_dora", "modules_to_save", "alpha_pattern", "fan_in_fan_out", "trainable_token_indices"):
        if config.get(key):
            raise RefusedError(f"an adapter with {key} cannot be kept exactly", hint="train it without")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, (int, float)):
        raise ModelError(f"{CONFIG} names no rank or no alpha", hint="fetch the adapter again")
    read_header(folder / WEIGHTS)
    tensors = read_tensors(folder / WEIGHTS)
    pairs: dict[str, tuple[Floats, Floats]] = {}
    for name in sorted(tensors):
        if name.endswith(".lora_A.weight"):
            other = name.replace(".lora_A.", ".lora_B.")
            if other not in tensors:
                raise ModelError("a matrix of the adapter has no partner", hint="fetch it again")
            weight = name.removeprefix(_FRONT).removesuffix(".lora_A.weight") + ".weight"
            pairs[weight] = tensors[name].float().numpy(), tensors[other].float().numpy()
    if not pairs or len(tensors) != 2 * len(pairs):
        raise RefusedError("the adapter holds other things than pairs of matrices", hint="train plain LoRA")
    _check_shapes(pairs, base, folder.name)
    ranks = {a_KC.shape[0] for a_KC, _ in pairs.values()}
    if len(ranks) > 1 and config.get("use_rslora"):
        raise RefusedError("rank-stabilised LoRA with several ranks cannot be kept in GGUF")
    return Adapter(rank, alpha / (rank**0.5 if config.get("use_rslora") else rank), pairs)


def _check_shapes(pairs: Mapping[str, tuple[Floats, Floats]], base: Path, name: str) -> None:
    shapes = {part.name: part.shape for path in check_folder(base)[1] for part in read_header(path)}
    for weight, (a_KC, b_RK) in pairs.items():
        if shapes.get(weight) != (b_RK.shape[0], a_KC.shape[1]):
            raise RefusedError(
                f"{name} is an adapter of another base: {base.name} has no {weight} of "
                f"{b_RK.shape[0]} × {a_KC.shape[1]}",
                hint="its adapter_config.json names the base it was trained on",
            )
        if not (np.isfinite(a_KC).all() and np.isfinite(b_RK).all()):
            raise ModelError(f"the adapter's numbers for {weight} are not finite", hint="take an earlier checkpoint")


def adapter_to_gguf(folder: Path, base: Path, file: Path, *, label: Label) -> Path:
    """The adapter as a GGUF file that llama.cpp puts beside the base's. Raises: as `read_adapter`; StorageError."""
    import gguf

    found = read_adapter(folder, base)
    plan = plan_of(read_json(base / "config.json"))
    names = gguf.get_tensor_name_map(architecture_of(plan), plan.n_blocks)
    part = file.with_name(file.name + ".part")
    writer = gguf.GGUFWriter(part, plan.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, found.scale * found.rank)  # llama.cpp divides by each B's rank
    writer.add_name(folder.name)
    writer.add_string(LABEL, str(label))
    for weight, (a_KC, b_RK) in found.pairs.items():
        place = names.get_name(weight, try_suffixes=(".weight",))
        if place is None:
            raise ModelError(f"llama.cpp's model has no place for {weight}")
        writer.add_tensor(f"{place}.lora_a", np.ascontiguousarray(a_KC))
        writer.add_tensor(f"{place}.lora_b", np.ascontiguousarray(plan.rows(weight, b_RK)))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        part.replace(file)
    except OSError as cause:
        raise StorageError(f"{file.name} cannot be written: {type(cause).__name__}", hint="free space") from cause
    finally:
        part.unlink(missing_ok=True)
    return file


@torch.inference_mode()
def merge(base: Path, adapter: Path, folder: Path, *, probe: Sequence[Sequence[int]]) -> Merged:
    """`base` with `adapter` in its weights, in fp32, as a folder of its own. `probe`: rows of token ids on which the
    logits are compared. Raises: as `read_adapter`; UsageError for an empty probe or a folder that is there."""
    import peft
    import transformers

    if not probe or not all(probe):
        raise UsageError("merging needs rows of tokens to compare logits on", hint="a few prompts are enough")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", hint="name a new folder")
    found = read_adapter(adapter, base)
    plain: Any = transformers.AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    model = peft.PeftModel.from_pretrained(plain, adapter).eval()
    before = _logits(model, probe)
    whole = model.merge_and_unload().eval()
    after = _logits(whole, probe)
    whole.save_pretrained(folder)
    for pattern in SMALL_FILES:
        for path in sorted(base.glob(pattern)):
            if not (folder / path.name).exists() and not path.name.endswith(".index.json"):
                shutil.copyfile(path, folder / path.name)
    largest = max(float((one - other).abs().max()) for one, other in zip(before, after, strict=True))
    spread = float(torch.cat([row.flatten() for row in before]).std())
    return Merged(folder, len(found.pairs), largest, spread)


def _logits(model: Any, probe: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    return [model(torch.tensor([list(ids)]), use_cache=False).logits[0].clone() for ids in probe]
