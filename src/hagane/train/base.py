"""What training starts from: a model folder, or a GGUF file de-quantised into one, once; with template and end of turn.

A folder made from a file carries base.json with the sha256 of that file: another file makes another folder. It appears
under its name only when it is whole. Who fetches and finds models: builds/base.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ModelError, RefusedError, StorageError, UsageError
from ..core.labels import Label
from ..core.whole_file import write_whole
from .fingerprint import fingerprint_of
from .gguf_tokenizer import write_tokenizer
from .model import family as architecture_named
from .model_folder import check_folder, read_json
from .template import BY_ARCHITECTURE, families, family, source, unmarked
from .tensor_file import write_tensors
from .tokenizer import CARD
from .tokenizer_kind import read_tokenizer

MARK = "base.json"


@dataclass(frozen=True, slots=True)
class Base:
    """A checked model folder. `family`: the chat template that fits its vocabulary; `fingerprint`: what adapters of it
    carry; `file`: the GGUF file that it was made from, None for a folder."""

    folder: Path
    label: Label
    licence: str
    family: str
    fingerprint: str
    architecture: str
    file: Path | None = None


def open_folder(folder: Path, *, label: Label, licence: str = "", file: Path | None = None) -> Base:
    """A Hugging Face folder as a base. `label`: of what it does not say itself (hagane.json). Raises: NotFoundError,
    ModelError, RefusedError (code, pickle) and UsageError for an architecture that is not trained here."""
    config, _ = check_folder(folder)
    kind = str(config.get("model_type"))
    architecture_named(kind)
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
    own = Label.parse(str(card["label"])) if "label" in card else label
    licence = licence or str(card.get("licence") or "") or _licence(folder)
    return Base(folder, own, licence, family_of(folder), fingerprint_of(folder), kind, file)


def dequantised(
    file: Path, values: Mapping[str, Any], root: Path, *, label: Label, licence: str = "", name: str = ""
) -> Base:
    """The GGUF file as a folder of fp32 safetensors under `root`, made once. `values`: of its checked header.

    Raises: UsageError for an architecture that is not trained here, RefusedError for a vocabulary that would be cut
    otherwise, ModelError, StorageError (four bytes a parameter are written)."""
    sha256 = _sha256(file)
    folder = root / f"{name or file.stem}-{sha256[:12]}"
    said = read_json(folder / MARK) if (folder / MARK).is_file() else {}
    if said.get("sha256") != sha256:
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=root))
        except OSError as cause:
            raise StorageError(f"{root} cannot be written: {cause.strerror}", hint="set HAGANE_CACHE") from cause
        try:
            _write(file, values, part)
            own = str(values.get("hagane.label") or label)
            mark = {"sha256": sha256, "file": file.name, "label": own, "licence": licence, "template": family_of(part)}
            write_whole(part / CARD, _json(mark))
            write_whole(part / MARK, _json(mark))
            _take_place(part, folder)
        except OSError as cause:
            hint = "free space (four bytes a parameter), then do it again"
            raise StorageError(f"{folder.name} cannot be written: {cause.strerror}", hint=hint) from cause
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return open_folder(folder, label=label, licence=licence, file=file)


def _take_place(part: Path, folder: Path) -> None:
    """`part` under the name; what lies there without its mark was cut short. Another process may have been faster."""
    if folder.exists() and not (folder / MARK).is_file():
        shutil.rmtree(folder)
    try:
        os.replace(part, folder)
    except OSError:
        if not (folder / MARK).is_file():
            raise


def _write(file: Path, values: Mapping[str, Any], folder: Path) -> None:
    import torch
    import transformers

    write_tokenizer(values, folder)  # first: what cannot be served again is refused before minutes are spent
    with torch.no_grad():
        try:
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, local_files_only=True
            )
        except (ValueError, KeyError, NotImplementedError) as cause:
            what = f"{file.name} ({values.get('general.architecture')}) cannot be de-quantised here"
            raise ModelError(what, hint="take the model's safetensors folder") from cause
    said = {name: value for name, value in loaded.config.to_dict().items() if name != "quantization_config"}
    kind = architecture_named(str(said["model_type"]))
    if said["model_type"] == "gemma3_text":  # transformers assumes 256; llama.cpp takes the width of a head
        said["query_pre_attn_scalar"] = values["gemma3.attention.key_length"]
    config = getattr(transformers, kind.config)(**said)
    config.architectures, config.dtype = [kind.model], "float32"
    config.save_pretrained(folder)
    tensors = dict(loaded.state_dict())
    if config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    write_tensors(folder / "model.safetensors", tensors, notes={"format": "pt"})
    if values.get("tokenizer.chat_template"):
        _keep_ends(folder, [values.get("tokenizer.ggml.eos_token_id"), values.get("tokenizer.ggml.eot_token_id")])
    else:
        settle(folder, family_of(folder))


def family_of(folder: Path) -> str:
    """The chat template of a folder: the one that it names, else the first whose marks are all in its vocabulary,
    its architecture's own before the others. Raises: UsageError when none fits."""
    if (folder / CARD).is_file() and (said := read_json(folder / CARD).get("template")):
        return family(str(said)).name
    there = _ids(folder)
    own = BY_ARCHITECTURE.get(str(read_json(folder / "config.json").get("model_type")), "llama")
    for name in (own, *(name for name in families() if name != own)):
        if all(mark in there for mark in _needed(name)):
            return name
    raise UsageError(
        f"{folder.name}'s vocabulary has the marks of no chat template", hint=f"there are {', '.join(families())}"
    )


def _needed(name: str) -> tuple[str, ...]:
    kind = family(name)
    return tuple(mark for mark in kind.specials if not mark.endswith("SYSTEM_PROMPT]"))  # Mistral v0.3 has none


def settle(folder: Path, name: str) -> None:
    """Writes the family's chat template, its end of turn and a generation config into `folder`: what is trained is what
    is served. Raises: RefusedError when a mark is no single token of the vocabulary."""
    kind, there = family(name), _ids(folder)
    lacking = [mark for mark in _needed(name) if mark not in there]
    if lacking:
        raise RefusedError(
            f"the vocabulary has no token {lacking[0]!r}, so a model with the template {name} could not end its turn",
            hint=f"its own template is {family_of(folder)}",
        )
    template = unmarked(source(name))
    path = folder / "tokenizer_config.json"
    settings = (read_json(path) if path.is_file() else {}) | {"eos_token": kind.end_of_turn, "chat_template": template}
    settings.setdefault("pad_token", kind.eos)
    if kind.bos:
        settings["bos_token"] = kind.bos
    write_whole(path, _json(settings))
    write_whole(folder / "chat_template.jinja", template.encode())
    _keep_ends(folder, [there[kind.end_of_turn], there[kind.eos]])


def _keep_ends(folder: Path, ends: list[Any]) -> None:
    path = folder / "generation_config.json"
    said = read_json(path) if path.is_file() else {}
    found = list(dict.fromkeys(number for number in ends if isinstance(number, int)))
    write_whole(path, _json(said | {"eos_token_id": found, "do_sample": False}))


def _ids(folder: Path) -> dict[str, int]:
    table = read_tokenizer(folder)
    added = {str(row["content"]): int(row["id"]) for row in table.get("added_tokens") or []}
    vocabulary = table["model"].get("vocab") or {}
    return (dict(vocabulary) if isinstance(vocabulary, dict) else {}) | added


def _licence(folder: Path) -> str:
    """`license:` of the model card's head; "" when there is none."""
    card = folder / "README.md"
    if not card.is_file():
        return ""
    lines = card.read_text(encoding="utf-8", errors="replace")[:20_000].splitlines()
    found = next((line.partition(":")[2].strip() for line in lines[:200] if line.startswith("license:")), "")
    return found[:200]


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as cause:
        raise ModelError(f"{file.name} cannot be read: {type(cause).__name__}") from cause


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()
