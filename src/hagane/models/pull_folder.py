"""A model folder from a Hugging Face hub, on the user's word only: weights, configuration, tokenizer; no code, no pickle.

The revision is turned into a commit first, so all files are of one state. What was cut off goes on; the folder has its
name when it is whole.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3

from ..core.errors import ModelError, RefusedError, StorageError, UsageError
from ..core.safetensors_header import read_header
from .catalog import folder_of
from .pull import HUGGING_FACE, Progress, fetch, small

SMALL_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja", "tokenizer.model", "model.safetensors.index.json", "README.md", "LICENSE", "LICENSE.txt",
)  # fmt: skip
_WEIGHTS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\.safetensors")
_SOURCE = re.compile(r"hf:([A-Za-z0-9][\w.-]{0,95})/([A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,120}))?")


@dataclass(frozen=True, slots=True)
class PulledFolder:
    """`commit`: the state that was fetched; `closed`: only those with a key may read it there."""

    folder: Path
    commit: str
    licence: str
    closed: bool


def pull_folder(source: str, *, cache: Path | None = None, progress: Progress | None = None) -> PulledFolder:
    """Fetch hf:OWNER/REPO[@REVISION]. HF_ENDPOINT names another server; HF_TOKEN opens closed repositories.

    Raises: UsageError, NotFoundError, RefusedError (weights in pickles only), ModelError, StorageError."""
    owner, repo, revision = _parts(source)
    base = os.environ.get("HF_ENDPOINT", HUGGING_FACE).rstrip("/")
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib3.PoolManager(timeout=urllib3.Timeout(connect=20, read=60), retries=False) as pool:
        url = f"{base}/api/models/{owner}/{repo}/revision/{quote(revision or 'main', safe='')}"
        commit, names, licence, closed = _listing(small(pool, url, headers=headers), source)
        root = folder_of(cache).parent / "bases"
        folder = root / f"{owner}--{repo}-{commit[:12]}"
        if not folder.is_dir():
            part = root / f".{folder.name}.part"
            try:
                part.mkdir(parents=True, exist_ok=True, mode=0o700)
                for name in names:
                    where = f"{base}/{owner}/{repo}/resolve/{commit}/{quote(name)}"
                    fetch(pool, where, part / name, headers=dict(headers), progress=progress)
                    if name.endswith(".safetensors"):
                        _check(part / name)
                os.replace(part, folder)
            except OSError as cause:
                raise StorageError(f"cannot write {root}: {cause.strerror}", hint="is the disk full?") from cause
    return PulledFolder(folder, commit, licence, closed)


def _parts(source: str) -> tuple[str, str, str]:
    found = _SOURCE.fullmatch(source)
    if found is None or ".." in source:
        raise UsageError(f"{source!r} is not hf:OWNER/REPO[@REVISION]", hint="the folder of the model, without a file")
    return found[1], found[2], found[3] or ""


def _listing(data: bytes, source: str) -> tuple[str, list[str], str, bool]:
    """(commit, files that are taken, licence, closed)."""
    try:
        said = json.loads(data)
        commit, every = str(said["sha"]), [str(row["rfilename"]) for row in said["siblings"]]
    except (ValueError, KeyError, TypeError) as cause:
        raise ModelError(f"{source}: the hub's listing cannot be read") from cause
    if not re.fullmatch(r"[0-9a-f]{7,64}", commit):
        raise ModelError(f"{source}: the hub names no commit")
    weights = [name for name in every if _WEIGHTS.fullmatch(name)]
    if "model.safetensors.index.json" not in every:
        weights = [name for name in weights if name == "model.safetensors"]
    if not weights:
        pickled = any(name.endswith((".bin", ".pt", ".pth")) for name in every)
        what = "has its weights as pickles, which can run code" if pickled else "holds no model.safetensors"
        raise RefusedError(f"{source} {what}", hint="take a repository with safetensors")
    names = [name for name in SMALL_FILES if name in every] + sorted(weights)
    return commit, names, _licence(said), bool(said.get("private") or said.get("gated"))


def _licence(said: Mapping[str, Any]) -> str:
    card = said.get("cardData")
    return str(card.get("license") or "")[:200] if isinstance(card, dict) else ""


def _check(file: Path) -> None:
    try:
        read_header(file)
    except ModelError:
        file.unlink()  # the next call fetches it anew
        raise
