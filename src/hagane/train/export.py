"""A Hugging Face folder as one GGUF file: weights, tokenizer, chat template and label, tensor by tensor.

F32, F16, BF16 and Q8_0, and K-quants where llama.cpp's own quantisation is handed in; vectors and norms stay F32, as
llama.cpp wants them. Rows that cannot be cut into blocks of 32 numbers stay F16. The file appears only when it is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelError, StorageError, UsageError
from ..core.labels import Label
from ..core.safetensors_header import read_header
from .fingerprint import COMPUTED
from .gguf_architecture import Floats, Plan, plan_of
from .gguf_vocab import add_vocabulary, read_vocabulary
from .k_quants import MIXTURES, kinds_of
from .model_folder import check_folder, read_json
from .tensor_file import read_tensors

Numbers = Literal["F32", "F16", "BF16", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K"]
KINDS: tuple[str, ...] = ("F32", "F16", "BF16", "Q8_0")
Quantise = Callable[[Floats, str], NDArray[np.uint8]]  # numbers and their kind to the rows' bytes
BLOCK = 32  # numbers in a block of Q8_0
LABEL = "hagane.label"


@dataclass(frozen=True, slots=True)
class Exported:
    """A GGUF file. `kept`: names of tensors that stayed in F16 since no block holds their rows."""

    file: Path
    numbers: str
    n_params: int
    n_bytes: int
    eos: int | None
    label: Label
    kept: tuple[str, ...]


def to_gguf(
    folder: Path, file: Path, *, numbers: str, label: Label, name: str | None = None, quantise: Quantise | None = None
) -> Exported:
    """Writes `folder` as `file`. `quantise`: what K-quants need (models/ggml_quantise.py). Raises: UsageError for a family or kind that is not written here; RefusedError for a
    tokenizer or setting that GGUF would change; ModelError for a damaged folder; StorageError when the disk is full."""
    import gguf

    if numbers not in (*KINDS, *(MIXTURES if quantise else ())):
        raise UsageError(
            f"{numbers!r} is not one of {', '.join(KINDS)}", hint="K-quants need llama.cpp (the extra models)"
        )
    config, weights = check_folder(folder)
    plan = plan_of(config)
    names = gguf.get_tensor_name_map(architecture_of(plan), plan.n_blocks)
    tensors = _places(weights, names, tied=bool(config.get("tie_word_embeddings")))
    vocabulary = read_vocabulary(
        folder,
        config | _optional(folder / "generation_config.json"),
        n_rows=_rows(tensors),
        settings=_optional(folder / "tokenizer_config.json"),
    )
    part = file.with_name(file.name + ".part")
    writer = gguf.GGUFWriter(part, plan.architecture)
    writer.add_name(name or folder.name)
    writer.add_file_type(getattr(gguf.LlamaFileType, "ALL_F32" if numbers == "F32" else f"MOSTLY_{numbers}"))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_string(LABEL, str(label))
    add_values(writer, plan)
    add_vocabulary(writer, vocabulary)
    shapes = {new: shape for new, (_, _, shape) in tensors.items()}
    if numbers in MIXTURES:
        kinds = kinds_of(shapes, numbers, architecture=plan.architecture)
    else:
        kinds = {new: _kind(shape, numbers) for new, shape in shapes.items()}
    try:
        _write(writer, plan, tensors, kinds, quantise)
        part.replace(file)
    except OSError as cause:
        raise StorageError(
            f"{file.name} cannot be written: {type(cause).__name__}", hint="free space on the disk"
        ) from cause
    finally:
        part.unlink(missing_ok=True)
    kept = tuple(new for new, kind in kinds.items() if numbers != kind == "F16")
    n_params = sum(int(np.prod(shape)) for _, _, shape in tensors.values())
    return Exported(file, numbers, n_params, file.stat().st_size, vocabulary.eos, label, kept)


def add_values(writer: Any, plan: Plan) -> None:
    """The family's metadata, each in the type that llama.cpp reads."""
    for key, value in plan.values.items():
        full = f"{plan.architecture}.{key}"
        if isinstance(value, str):
            writer.add_string(full, value)
        elif isinstance(value, float):
            writer.add_float32(full, value)
        else:
            writer.add_uint32(full, value)


Places = dict[str, tuple[Path, str, tuple[int, ...]]]  # GGUF's name: (file, the name in it, shape)


def _places(weights: tuple[Path, ...], names: Any, *, tied: bool) -> Places:
    found: Places = {}
    for path in weights:
        for part in read_header(path):
            if part.name.endswith(COMPUTED) or (tied and part.name == "lm_head.weight"):
                continue
            new = names.get_name(part.name, try_suffixes=(".weight", ".bias"))
            if new is None:
                raise ModelError(f"llama.cpp's model has no place for the tensor {part.name}")
            found[new] = (path, part.name, part.shape)
    return found


def _write(writer: Any, plan: Plan, tensors: Places, kinds: Mapping[str, str], quantise: Quantise | None) -> None:
    """Two passes: names and sizes, then the numbers, one tensor in memory at a time."""
    import gguf

    for new, (_, _, shape) in tensors.items():
        kind = gguf.GGMLQuantizationType[kinds[new]]
        per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        n_bytes = int(np.prod(shape)) // per_block * block_bytes
        writer.add_tensor_info(new, list(shape), np.dtype(np.float32), n_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    try:
        for new, array in _arrays(plan, tensors):
            kind = kinds[new]
            data = quantise(array, kind) if quantise and kind not in KINDS else _plain(array, kind)
            writer.write_tensor_data(np.ascontiguousarray(data))
    finally:
        writer.close()


def _plain(array: Floats, kind: str) -> NDArray[Any]:
    import gguf

    found: NDArray[Any] = gguf.quants.quantize(array, gguf.GGMLQuantizationType[kind])
    return found


def _arrays(plan: Plan, tensors: Places) -> Iterator[tuple[str, Floats]]:
    for new, (path, old, shape) in tensors.items():
        array = read_tensors(path, names=frozenset((old,)))[old].float().numpy()
        changed = np.ascontiguousarray(plan.change(old, array), dtype=np.float32)
        if changed.shape != shape or not np.isfinite(changed).all():
            raise ModelError(f"the tensor {old} holds numbers that are not finite", hint="take an earlier checkpoint")
        yield new, changed


def _kind(shape: tuple[int, ...], numbers: str) -> str:
    if len(shape) < 2:
        return "F32"
    return "F16" if numbers == "Q8_0" and shape[-1] % BLOCK else numbers


def _rows(tensors: Places) -> int:
    if "token_embd.weight" not in tensors:
        raise ModelError("the model has no embeddings", hint="fetch the folder again")
    return tensors["token_embd.weight"][2][0]


def architecture_of(plan: Plan) -> Any:
    import gguf

    return next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == plan.architecture)


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
