"""A Hugging Face folder, read without running anything of it: which graph, which tokenizer, how vectors are pooled.

Weights are taken as ONNX only. Pickles (`pytorch_model.bin`) and Python code that a folder brings are never read.
Source: https://sbert.net/docs/package_reference/sentence_transformer/models.html (modules.json, Pooling, prompts).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..core.errors import ConfigError, ModelError

USUAL = ("onnx/model.onnx", "model.onnx")
MAX_JSON_BYTES = 16 << 20
_POOLINGS = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
_STEPS = {"Transformer", "Pooling", "Normalize"}  # of modules.json, that we do ourselves
_DOCUMENT = ("passage", "document", "corpus")  # names of one thing
_SHIFTED = ("roberta", "camembert", "mpnet")  # their places are counted from pad + 1


@dataclass(frozen=True, slots=True)
class Folder:
    """What the folder says. `pooling`: None when it says nothing; `steps`: steps behind pooling that only a graph can hold."""

    graph: Path
    tokenizer: Path
    pooling: str | None
    steps: tuple[str, ...]
    query_prefix: str
    passage_prefix: str
    max_tokens: int
    pad: int
    lower: bool


def open_folder(folder: Path, file: str = "") -> Folder:
    """The model in `folder`, its graph being `file` (relative to it) when that is given.

    Raises: ConfigError when something is missing, ModelError when a file is damaged.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"embedder.options.folder: there is no folder {folder}",
            hint="name the folder of a downloaded model: hf download OWNER/NAME --local-dir FOLDER",
        )
    graph = _graph(folder, file)
    places = (folder, graph.parent)  # an export brings copies of the small files
    config = _object(places, "config.json")
    sentences = _object(places, "sentence_bert_config.json")
    query, passage = _prompts(_object(places, "config_sentence_transformers.json"))
    pooling, steps = _modules(folder)
    return Folder(
        graph=graph,
        tokenizer=_tokenizer(folder, graph),
        pooling=pooling,
        steps=steps,
        query_prefix=query,
        passage_prefix=passage,
        max_tokens=_longest(config, sentences),
        pad=_whole(config, "pad_token_id"),
        lower=sentences.get("do_lower_case") is True,
    )


def _graph(folder: Path, file: str) -> Path:
    if file:
        inner = PurePosixPath(file)
        if inner.is_absolute() or ".." in inner.parts or inner.suffix != ".onnx":
            raise ConfigError(f"embedder.options.file {file!r} is no .onnx file within the folder")
        if not (folder / inner).is_file():
            there = ", ".join(_exports(folder)) or "no .onnx file"
            raise ConfigError(f"embedder.options.file {file!r} is not in {folder}", hint=f"there is {there}")
        return folder / inner
    for usual in USUAL:
        if (folder / usual).is_file():
            return folder / usual
    exports = _exports(folder)
    if len(exports) == 1:
        return folder / exports[0]
    if exports:
        raise ConfigError(
            f"{folder} holds several graphs", hint=f"set embedder.options.file to one of {', '.join(exports)}"
        )
    raise _no_graph(folder)


def _exports(folder: Path) -> list[str]:
    return sorted(
        f"{path.relative_to(folder).as_posix()}" for path in (*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx"))
    )


def _no_graph(folder: Path) -> ConfigError:
    export = (
        f"where PyTorch is installed: optimum-cli export onnx --model {folder} --task feature-extraction {folder}/onnx"
    )
    if any(folder.glob("*.safetensors")):
        return ConfigError(f"{folder} holds safetensors weights only; an ONNX export is needed", hint=export)
    pickles = sorted(path.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(kind))
    if pickles:
        return ConfigError(
            f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code and is never read",
            hint=f"take the publisher's ONNX files, or make them on a machine you can lose, {export}",
        )
    return ConfigError(f"{folder} holds no ONNX export ({' or '.join(USUAL)})", hint=export)


def _tokenizer(folder: Path, graph: Path) -> Path:
    for place in (folder, graph.parent):
        if (place / "tokenizer.json").is_file():
            return place / "tokenizer.json"
    raise ConfigError(
        f"{folder} holds no tokenizer.json",
        hint="where transformers is installed: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER); "
        "tokenizers that are Python code (MeCab and others) have none and cannot be used",
    )


def _json(path: Path) -> Any:
    """What the file says; None when there is none."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{path.name} is larger than {MAX_JSON_BYTES >> 20} MB")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as cause:
        raise ModelError(f"{path.name} of the model folder cannot be read as JSON", hint="fetch it again") from cause


def _object(places: tuple[Path, ...], name: str) -> dict[str, Any]:
    for place in places:
        if (found := _json(place / name)) is not None:
            if not isinstance(found, dict):
                raise ModelError(f"{name} of the model folder is not a JSON object", hint="fetch it again")
            return found
    return {}


def _whole(table: dict[str, Any], key: str) -> int:
    """A whole number above zero, else 0."""
    found = table.get(key)
    return found if type(found) is int and found > 0 else 0


def _modules(folder: Path) -> tuple[str | None, tuple[str, ...]]:
    """(pooling, steps that we do not do) of modules.json and the Pooling step's config.json."""
    rows = _json(folder / "modules.json")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    kinds = [(str(row.get("type", "")).rpartition(".")[2], str(row.get("path", ""))) for row in rows]
    where = next((path for kind, path in kinds if kind == "Pooling"), "1_Pooling")
    if ".." in PurePosixPath(where).parts or PurePosixPath(where).is_absolute():
        raise ModelError("modules.json of the model folder names a place outside it")
    said = _object((folder / where,), "config.json")
    modes = [
        key.removeprefix("pooling_mode_") for key, on in said.items() if key.startswith("pooling_mode_") and on is True
    ]
    if isinstance(said.get("pooling_mode"), str):
        modes = [said["pooling_mode"]]
    pooling = "+".join(_POOLINGS.get(mode, mode) for mode in modes) or None
    return pooling, tuple(kind for kind, _ in kinds if kind not in _STEPS)


def _prompts(said: dict[str, Any]) -> tuple[str, str]:
    """(before questions, before passages), as sentence-transformers chooses them."""
    prompts = said.get("prompts")
    prompts = prompts if isinstance(prompts, dict) else {}
    usual = prompts.get(said.get("default_prompt_name"))
    query = prompts.get("query", usual)
    passage = next((prompts[name] for name in _DOCUMENT if name in prompts), usual)
    return query if isinstance(query, str) else "", passage if isinstance(passage, str) else ""


def _longest(config: dict[str, Any], sentences: dict[str, Any]) -> int:
    """Tokens that the model takes; as many as one likes when the folder does not say."""
    places = _whole(config, "max_position_embeddings")
    if places and any(family in str(config.get("model_type", "")) for family in _SHIFTED):
        places -= _whole(config, "pad_token_id") + 1
    return min(limit for limit in (places, _whole(sentences, "max_seq_length"), 1 << 30) if limit > 0)
