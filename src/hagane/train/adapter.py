"""LoRA adapters read from their folder, held against their base, and written as a GGUF adapter beside the base's file.

An adapter is a pair of small matrices per weight: the weight becomes W + alpha / rank · B A. It belongs to one base:
its fingerprint and every pair's shape are checked before anything is written. Made in memory: tune.py; merged: merge.py.
Legend: R rows (what comes out), C columns (what goes in), K rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..core.errors import ModelError, RefusedError, StorageError
from ..core.labels import Label
from ..core.safetensors_header import read_header
from .export import LABEL, architecture_of
from .fingerprint import fingerprint_of
from .gguf_architecture import Floats, plan_of
from .model_folder import check_folder, read_json
from .tensor_file import Tensors, read_tensors

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
BASE = "base.json"  # which base it belongs to: `fingerprint`
_FRONT = "base_model.model."


@dataclass(frozen=True, slots=True)
class Adapter:
    """`pairs`: the base's weight to (A_KC, B_RK); `scale` multiplies B A; `rank` is the usual one."""

    rank: int
    scale: float
    pairs: Mapping[str, tuple[Floats, Floats]]


def read_files(folder: Path) -> tuple[dict[str, Any], Tensors]:
    """(adapter_config.json, the matrices) of a kind that can be kept exactly. The one door for adapters, merged, trained
    on or written as GGUF. Raises: ModelError for a damaged folder; RefusedError for another kind, or a pickle."""
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
    return config, read_tensors(folder / WEIGHTS)


def check_base(folder: Path, fingerprint: str) -> None:
    """Raises: RefusedError when the adapter says that it belongs to a base with another fingerprint."""
    said = read_json(folder / BASE) if (folder / BASE).is_file() else {}
    if said and said.get("fingerprint") != fingerprint:
        raise RefusedError(
            f"{folder.name} is an adapter of another base, a {said.get('model_type')}",
            hint="load the base that its card names",
        )


def read_adapter(folder: Path, base: Path) -> Adapter:
    """The adapter in `folder`, held against its base: its fingerprint where it names one, and every shape. Raises: as
    `read_files`; RefusedError for an adapter of another base."""
    config, tensors = read_files(folder)
    check_base(folder, fingerprint_of(base))
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
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


def adapter_to_gguf(
    folder: Path, base: Path, file: Path, *, label: Label, numbers: Literal["F32", "F16"] = "F32", template: str = ""
) -> Path:
    """The adapter as a GGUF file that llama.cpp puts beside the base's. `template`: the chat template that it was tuned
    with and is served with, whatever the base's file has. Raises: as `read_adapter`; StorageError."""
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
    if template:
        writer.add_chat_template(template)
    kept = np.dtype({"F32": "float32", "F16": "float16"}[numbers])
    for weight, (a_KC, b_RK) in found.pairs.items():
        place = names.get_name(weight, try_suffixes=(".weight",))
        if place is None:
            raise ModelError(f"llama.cpp's model has no place for {weight}")
        writer.add_tensor(f"{place}.lora_a", np.ascontiguousarray(a_KC, kept))
        writer.add_tensor(f"{place}.lora_b", np.ascontiguousarray(plan.rows(weight, b_RK), kept))
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
