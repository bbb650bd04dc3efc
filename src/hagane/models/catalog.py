"""Which models there are, which of them are on this machine, and where their files lie.

Three homes: Python packages (parts are joined into the cache folder, checksum checked), what was pulled (beside each
file a NAME.json says where from), and any GGUF file by its path.
"""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ..core.errors import MissingExtraError, ModelError, NotFoundError, nearest
from ..core.machine import cores
from .e5_cache import cache_root, derived
from .gguf import read_header

_PACKAGE = "package:"
_RUNTIME_BYTES = 700 << 20  # Python, engine, search and a context of 4,096 tokens beside the weights
_BYTES_PER_S_PER_CORE = 4e9  # memory read while decoding; a token reads all weights once
_TOKENS_PER_S = 4.0  # slower is not pleasant to read

State = Literal["ready", "packaged", "missing"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of one model. `n_params` 0: unknown. `sha256` "": not known before it is fetched. One with a `base`
    is an `adapter` (a file inside a package) beside the file of that model."""

    name: str
    title: str
    source: str
    size_bytes: int
    n_params: int
    context: int
    licence: str
    languages: tuple[str, ...]
    is_instruct: bool
    sha256: str = ""
    parts: tuple[str, ...] = ()
    install: str = ""
    base: str = ""
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """A model and what is there of it: ready (a file), packaged (a file as soon as it is used), missing."""

    info: ModelInfo
    state: State
    file: Path | None = None


@lru_cache(maxsize=1)
def known() -> tuple[ModelInfo, ...]:
    """The models of catalog.toml."""
    table = tomllib.loads(files("hagane.models").joinpath("catalog.toml").read_text(encoding="utf-8"))
    return tuple(
        ModelInfo(
            name=row["name"],
            title=row["title"],
            source=row["source"],
            size_bytes=row["size_bytes"],
            n_params=row["params"],
            context=row["context"],
            licence=row["licence"],
            languages=tuple(row["languages"]),
            is_instruct=row["instruct"],
            sha256=row.get("sha256", ""),
            parts=tuple(row.get("parts", ())),
            install=row.get("install", ""),
            base=row.get("base", ""),
            adapter=row.get("adapter", ""),
        )
        for row in table["model"]
    )


def folder_of(cache: Path | None = None) -> Path:
    """Where model files lie: `cache`, else HAGANE_CACHE, else ~/.cache/hagane; in it `models`."""
    return cache_root(cache) / "models"


def available(*, cache: Path | None = None) -> list[Listed]:
    """Every known and every pulled model with its state."""
    folder = folder_of(cache)
    found = [Listed(info, *_state(info, folder)) for info in known()]
    names = {info.name for info in known()}
    pulled = sorted(folder.glob("*.json")) if folder.is_dir() else []
    found += [listed for path in pulled if path.stem not in names and (listed := _pulled(path)) is not None]
    return found


def _state(info: ModelInfo, folder: Path) -> tuple[State, Path | None]:
    if info.base:
        base = next((one for one in known() if one.name == info.base), None)
        return _state(base, folder) if base and _part(info.adapter) else ("missing", None)
    file = folder / f"{info.name}.gguf"
    if file.is_file():
        return "ready", file
    if info.source.startswith(_PACKAGE) and all(path is not None for path in map(_part, info.parts)):
        return "packaged", None
    return "missing", None


def _pulled(path: Path) -> Listed | None:
    """A model that `pull` fetched, from its NAME.json; None for another file."""
    file = path.with_suffix(".gguf")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        info = ModelInfo(
            name=path.stem,
            title=str(said.get("title") or path.stem),
            source=str(said["source"]),
            size_bytes=file.stat().st_size,
            n_params=int(said.get("n_params", 0)),
            context=int(said.get("context", 0)),
            licence=str(said.get("licence") or "unknown: see its source"),
            languages=(),
            is_instruct=bool(said.get("is_instruct")),
            sha256=str(said.get("sha256", "")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Listed(info, "ready", file)


def _part(part: str) -> Path | None:
    """A file inside an installed package, found without running the package."""
    package, _, inner = part.partition("/")
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / inner
        if path.is_file():
            return path
    return None


def find(name: str, *, cache: Path | None = None) -> Path:
    """The file of a model: a name of `available`, or a path of a GGUF file. Joins packaged parts on first use. Of a
    model with a base it is the base's: `adapter_of` says what stands beside it.

    Raises: NotFoundError; MissingExtraError when its package is not installed; ModelError for damaged parts.
    """
    if name.endswith(".gguf") or os.sep in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise NotFoundError(f"there is no model file {path}", hint="hagane models")
        return path
    listed = {entry.info.name: entry for entry in available(cache=cache)}
    entry = listed.get(name)
    if entry is None:
        close = nearest(name, listed)
        raise NotFoundError(
            f"model {name!r} is not one of {', '.join(listed)}", hint=f"did you mean {close!r}?" if close else None
        )
    if entry.state == "missing":
        if entry.info.install:
            raise MissingExtraError(f"the package of model {name!r} is not installed", hint=entry.info.install)
        raise NotFoundError(f"model {name!r} is not on this machine", hint=f"hagane models pull {name}")
    if entry.info.base:
        return find(entry.info.base, cache=cache)
    if not entry.info.parts:
        assert entry.file is not None
        return entry.file
    return _assembled(entry.info, folder_of(cache))


def adapter_of(name: str) -> Path | None:
    """The adapter that makes a known model of its base; None for models that are one file."""
    info = next((one for one in known() if one.name == name), None)
    return _part(info.adapter) if info and info.adapter else None


def _assembled(info: ModelInfo, folder: Path) -> Path:
    parts = [_part(part) for part in info.parts]
    if len(parts) == 1 and parts[0] is not None:
        return parts[0]  # whole in its package: used where it lies

    def join(temporary: Path) -> None:
        with temporary.open("wb") as out:
            for part in parts:
                if part is None:
                    raise MissingExtraError(f"a part of model {info.name!r} is not installed", hint=info.install)
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, out, 1 << 20)
        check_sum(temporary, info.sha256)
        read_header(temporary)

    return derived(folder / f"{info.name}.gguf", join)


def check_sum(path: Path, sha256: str) -> None:
    """Raises: ModelError when the file's sha256 is another."""
    import hashlib

    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise ModelError(f"the file has sha256 {found}, not {sha256}", hint="fetch it again")


def info_of(name: str, *, cache: Path | None = None) -> ModelInfo | None:
    """What is known of a model by name; None for a path."""
    return next((entry.info for entry in available(cache=cache) if entry.info.name == name), None)


def machine() -> tuple[int, int]:
    """(bytes of memory that are free to use, processor cores that this process may use)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return free, cores()


def recommend(
    models: Iterable[ModelInfo], *, memory_bytes: int, cores: int, languages: Sequence[str] = ("ja",)
) -> ModelInfo | None:
    """The most able model that fits: weights and runtime in memory, at least 4 tokens a second, the languages known.

    Models that were taught to follow instructions come first, then larger ones; readers, which only answer from
    passages, are not among them. None when nothing fits.
    """
    fitting = [
        model
        for model in models
        if not model.base
        and model.size_bytes + _RUNTIME_BYTES <= memory_bytes
        and model.size_bytes * _TOKENS_PER_S <= cores * _BYTES_PER_S_PER_CORE
        and set(languages) <= set(model.languages)
    ]
    return max(fitting, key=lambda m: (m.is_instruct, m.n_params), default=None)


def shown(entry: Listed) -> dict[str, Any]:
    """A listed model as `hagane models --json` shows it."""
    info = entry.info
    return {
        "name": info.name,
        "title": info.title,
        "state": entry.state,
        "source": info.source,
        "size_bytes": info.size_bytes,
        "params": info.n_params,
        "context": info.context,
        "licence": info.licence,
        "languages": list(info.languages),
        "instruct": info.is_instruct,
        "file": str(entry.file) if entry.file else None,
    }
