"""Finds what a `base` of train.yaml names, and opens it for training: a listed model, a folder, a file, the hub."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ModelError, NotFoundError, RefusedError
from ..core.labels import PUBLIC, Label
from ..models.catalog import find, folder_of, info_of
from ..models.gguf import read_header

if TYPE_CHECKING:
    from ..train.base import Base

HUB = "hf:"
CARD = "hagane.json"  # what a folder made here says of itself


def label_in(place: Path) -> Label:
    """What a folder (hagane.json) or GGUF file (hagane.label) says of itself before it is opened; public where it says
    nothing. Raises: ModelError for what cannot be read, LabelError."""
    if place.is_dir():
        card = place / CARD
        try:
            said = json.loads(card.read_text("utf-8")).get("label") if card.is_file() else None
        except (OSError, ValueError, AttributeError) as cause:
            raise ModelError(f"{card.name} of the base cannot be read", hint="copy the folder again") from cause
    else:
        said = read_header(place).values.get("hagane.label")
    return Label.parse(str(said)) if said else PUBLIC


def open_base(name_or_path: str, *, cache: Path | None = None, default: Label | None = None) -> Base:
    """The base as a checked folder of safetensors; a GGUF file is de-quantised into the cache, once.

    `name_or_path`: a name of `hagane models`, a folder with config.json (a path with a / in it), a GGUF file, or
    hf:OWNER/REPO[@REVISION], which is fetched since the user wrote it. `default`: label of a file or folder that says nothing of itself
    (internal); listed models and the hub's are public. Raises: NotFoundError, MissingExtraError, ModelError,
    RefusedError (code or pickle in it), UsageError, StorageError."""
    from ..train import base

    default = default or Label()
    if name_or_path.startswith(HUB):
        from ..models.pull_folder import pull_folder

        pulled = pull_folder(name_or_path, cache=cache)
        return base.open_folder(pulled.folder, label=default if pulled.closed else PUBLIC, licence=pulled.licence)
    folder = Path(name_or_path).expanduser()
    if os.sep in name_or_path and folder.is_dir():  # a bare name is a listed model's, whatever lies in the working directory
        if not (folder / "config.json").is_file():
            raise NotFoundError(f"{folder} holds no config.json", hint="name a Hugging Face folder or a .gguf file")
        return base.open_folder(folder, label=default)
    listed = info_of(name_or_path, cache=cache)
    if listed and listed.base:
        raise RefusedError(f"{listed.name} is an adapter beside {listed.base}", hint=f"take {listed.base} as the base")
    file = find(name_or_path, cache=cache)
    values = read_header(file).values
    return base.dequantised(
        file,
        values,
        folder_of(cache).parent / "bases",
        label=PUBLIC if listed else default,
        licence=listed.licence if listed else str(values.get("general.license") or ""),
        name=listed.name if listed else os.path.basename(file).removesuffix(".gguf"),
    )
