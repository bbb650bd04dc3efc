"""A model folder in the shape of Hugging Face, from disk and to disk: safetensors only, never its code, never a pickle.

Every header is checked against its file's size before a native reader sees it. The class comes from our own table, by
`model_type`; what the folder says about classes is refused.
"""

from __future__ import annotations

import json
import tomllib
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import transformers

from hagane.core.errors import ModelError, RefusedError, StorageError
from hagane.core.safetensors_header import read_header

from .model import attention_of, family

MAX_JSON_BYTES = 50_000_000
_REFUSED = tomllib.loads(files(__package__).joinpath("refused.toml").read_text("utf-8"))


def check_folder(folder: Path) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """(config, weight files), after every check. Raises: ModelError for a broken folder, RefusedError for one that
    wants its own code run or has its weights in pickles only."""
    config = read_json(folder / "config.json")
    for name in ("config.json", "tokenizer_config.json"):
        said = read_json(folder / name) if (folder / name).is_file() else {}
        for key in _REFUSED["code_keys"]:
            if key in said:
                raise RefusedError(
                    f"{folder.name}/{name} has {key}: the model wants its own code run",
                    hint="take a model whose architecture transformers brings",
                )
    weights = _weights(folder)
    for path in weights:
        read_header(path)
    return config, weights


def _weights(folder: Path) -> tuple[Path, ...]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        table = read_json(index).get("weight_map")
        names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
        for name in names:
            if len(PurePosixPath(name).parts) != 1 or not name.endswith(".safetensors"):
                raise RefusedError(f"{index.name} names {name!r}, which is no safetensors file of the folder")
            if not (folder / name).is_file():
                raise ModelError(f"{folder.name} lacks {name}", hint="fetch the folder again")
        if names:
            return tuple(folder / name for name in names)
    if (folder / "model.safetensors").is_file():
        return (folder / "model.safetensors",)
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _REFUSED["pickles"])
    if pickles:
        raise RefusedError(
            f"{folder.name} holds its weights as a pickle ({pickles[0]}), which can run code and is never read",
            hint="take the publisher's safetensors",
        )
    raise ModelError(f"{folder.name} holds no model.safetensors", hint="fetch the folder again")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder. Raises: ModelError."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{path.name} is larger than {MAX_JSON_BYTES >> 20} MB")
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as cause:
        raise ModelError(f"the model folder has no {path.name}", hint="fetch it again") from cause
    except (OSError, ValueError, RecursionError) as cause:
        raise ModelError(f"{path.name} of the model folder is not JSON", hint="fetch it again") from cause
    if not isinstance(found, dict):
        raise ModelError(f"{path.name} of the model folder is not a JSON object", hint="fetch it again")
    return found


def load_folder(folder: Path, *, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """The model with its weights, ready for `hidden`. Raises: what `check_folder` raises, UsageError for another
    architecture, ModelError for weights that do not fit the configuration."""
    config, _ = check_folder(folder)
    name = str(config.get("model_type"))
    kind = family(name)
    settings = getattr(transformers, kind.config).from_pretrained(folder, local_files_only=True)
    model, report = getattr(transformers, kind.model).from_pretrained(
        folder,
        config=settings,
        dtype=dtype,
        attn_implementation=attention_of(name),
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    lost = sorted({*report["missing_keys"], *(str(key) for key in report.get("mismatched_keys", ()))})
    if lost:
        raise ModelError(
            f"{folder.name}: {len(lost)} tensors are missing or of another shape, the first is {lost[0]}",
            hint="the weights do not belong to this config.json; fetch the folder again",
        )
    model.config.use_cache = False
    return model.train()


def save_folder(model: torch.nn.Module, folder: Path) -> None:
    """Weights and config as transformers reads them anywhere; the attention of this room is not written down.

    Raises: StorageError when the disk is full."""
    try:
        model.save_pretrained(folder, max_shard_size="5GB")
        path = folder / "config.json"
        said = json.loads(path.read_text("utf-8"))
        said["use_cache"] = True
        path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", "utf-8")
    except OSError as cause:
        raise StorageError(f"{folder.name} cannot be written: {type(cause).__name__}", hint="free space") from cause
