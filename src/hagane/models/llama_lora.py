"""LoRA adapters as GGUF files beside a base's file: read, held against the base, before a native loader sees them.

An adapter holds two small matrices for some of the base's weights, and is of use on that base only. On another one of
the same family the loader would stop the process, or talk nonsense: so names and shapes are compared here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import ModelError, NotFoundError, UsageError
from .gguf import Header, read_header

LORA_A, LORA_B = ".lora_a", ".lora_b"
MAX_SCALE = 100.0
NUMBERS = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter's file, and how strongly it counts: 1 as it was trained, 0 not at all."""

    file: Path
    scale: float = 1.0


def checked(lora: Lora, base: Header) -> Header:
    """The header of an adapter that fits `base`. Raises: NotFoundError; UsageError for a scale that is none;
    ModelError for a header that is not sound, a file that is no adapter, or an adapter of another base."""
    if not lora.file.is_file():
        raise NotFoundError(f"there is no adapter file {lora.file}", hint="hagane models")
    if not -MAX_SCALE <= lora.scale <= MAX_SCALE:  # NaN is refused, too
        raise UsageError(f"an adapter's scale of {lora.scale} is not between {-MAX_SCALE} and {MAX_SCALE}", hint="1 is usual")
    header, name = read_header(lora.file), lora.file.name
    kind = header.values.get("adapter.type") if header.values.get("general.type") == "adapter" else None
    if kind != "lora":
        raise ModelError(f"{name} is no LoRA adapter", hint="name it as a model, not beside one")
    if header.architecture != base.architecture:
        raise _other_base(name, f"it is for {header.architecture or 'nothing known'}, this is {base.architecture}")
    shapes = {tensor.name: tensor.shape for tensor in base.tensors}
    found = {tensor.name: tensor for tensor in header.tensors}
    weights = {one.removesuffix(LORA_A).removesuffix(LORA_B) for one in found}
    if not weights or len(found) != 2 * len(weights):
        raise ModelError(f"{name} holds other things than pairs of matrices", hint="only plain LoRA is served")
    for weight in sorted(weights):
        one, other = found.get(weight + LORA_A), found.get(weight + LORA_B)
        if one is None or other is None:
            raise ModelError(f"a matrix of {name} has no partner", hint="export the adapter again")
        if one.type not in NUMBERS or other.type not in NUMBERS:
            raise ModelError(f"{name} keeps numbers as {one.type}, not as one of {', '.join(NUMBERS)}")
        if weight not in shapes:
            raise _other_base(name, f"the base has no {weight}")
        if (len(one.shape), len(other.shape)) != (2, 2) or one.shape[1] != other.shape[0]:
            raise ModelError(f"the matrices of {name} for {weight} do not belong together", hint="export the adapter again")
        if (one.shape[0], other.shape[1]) != shapes[weight]:
            raise _other_base(name, f"{weight} is {_shown(shapes[weight])} in the base, {_shown((one.shape[0], other.shape[1]))} here")
    return header


def _shown(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _other_base(name: str, why: str) -> ModelError:
    return ModelError(f"{name} is an adapter of another base: {why}", hint="its card names the base that it was trained on")


def template_of(headers: Iterable[Header]) -> str:
    """The chat template that the last adapter with one was tuned with; "" when none brings its own: the base's counts."""
    found = [str(header.values["tokenizer.chat_template"]) for header in headers if header.has_template]
    return found[-1] if found else ""
