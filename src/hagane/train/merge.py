"""A base and its LoRA adapter merged into one folder, in fp32, and by how much that moves the logits.

Legend: T tokens of a row, V vocabulary.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..core.errors import StorageError, UsageError
from .adapter import read_adapter
from .model import logits
from .model_folder import load_folder, save_folder
from .tune import load_adapter
from .tune import merge as merged_in_memory

SMALL_FILES = ("*.json", "*.jinja", "tokenizer.model")  # of the base: tokenizer, template, generation config, card
WRITTEN = ("config.json", "base.json")  # by the merge, and what is true of the base only


@dataclass(frozen=True, slots=True)
class Merged:
    """A folder with the adapter in its weights. `largest_difference`: between the logits of the base with its adapter
    beside it and of the merged model, over the probe; `spread`: standard deviation of those logits."""

    folder: Path
    n_weights: int
    largest_difference: float
    spread: float


@torch.inference_mode()
def merge(base: Path, adapter: Path, folder: Path, *, probe: Sequence[Sequence[int]]) -> Merged:
    """`base` with `adapter` in its weights, in fp32, as a folder of its own, which appears whole. `probe`: rows of token
    ids on which the logits are compared. Raises: as `read_adapter`; UsageError for an empty probe or a folder that is
    there; StorageError."""
    if not probe or not all(probe):
        raise UsageError("merging needs rows of tokens to compare logits on", hint="a few prompts are enough")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", hint="name a new folder")
    n_weights = len(read_adapter(adapter, base).pairs)
    model = load_adapter(load_folder(base), adapter).eval()
    before = _logits(model, probe)
    whole = merged_in_memory(model).eval()
    after = _logits(whole, probe)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            save_folder(whole, part)
            for pattern in SMALL_FILES:
                for path in sorted(base.glob(pattern)):
                    if path.name not in WRITTEN and not path.name.endswith(".index.json"):
                        shutil.copyfile(path, part / path.name)
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as cause:
        raise StorageError(
            f"{folder.name} cannot be written: {cause.strerror}", hint="free space on the disk, then export again"
        ) from cause
    largest = max(float((one - other).abs().max()) for one, other in zip(before, after, strict=True))
    return Merged(folder, n_weights, largest, float(torch.cat([row.flatten() for row in before]).std()))


def _logits(model: torch.nn.Module, probe: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    found = []
    for ids in probe:
        ids_BT = torch.tensor([list(ids)])
        found.append(logits(model, ids_BT, torch.arange(len(ids))[None], torch.zeros_like(ids_BT)).clone())
    return found
