"""Checkpoints: a folder per step, written aside, synced, renamed. Safetensors per rank and one JSON index; no pickle.

  step-000000120/rank-00000.safetensors   weights, optimiser state, random state: what this rank keeps
  step-000000120/index.json               where each tensor's pieces lie, sizes and sha256 of the files, facts

The index is written last and the folder gets its name after that, so a kill leaves either all or nothing. A folder
that was damaged later (cut short, a bit flipped) is found by its hashes and the one before is used. Any number of
ranks can read what any number wrote. torch's own distributed checkpoint keeps its metadata in a pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hagane.core.errors import HaganeError, StorageError

from .ranks import Ranks
from .tensor_file import Tensors, read_tensors, write_tensors

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that was read whole and found sound. `step`: how many steps are done. `damaged`: newer folders
    that were passed over."""

    folder: Path
    step: int
    facts: Mapping[str, Any]
    tensors: Tensors  # whole tensors, on the CPU
    damaged: tuple[str, ...] = ()


def name_of(step: int) -> str:
    return f"step-{step:09d}"


def save(
    root: Path,
    step: int,
    tensors: Iterable[tuple[str, torch.Tensor]],
    *,
    facts: Mapping[str, Any],
    ranks: Ranks,
    keep: int,
) -> Path:
    """Write what every rank has after `step` steps; the last `keep` stay. All ranks call it together.

    Sharded tensors are written by each rank in its part; others by the first, except names ending in "@RANK", which
    are each rank's own. Raises: StorageError (disk full): then the checkpoints before are untouched.
    """
    final, aside = root / name_of(step), root / f".writing-{name_of(step)}"
    with _together(ranks, step):
        if ranks.rank == 0:
            _make_empty(aside)
    with _together(ranks, step):
        mine, table = _pieces(tensors, ranks)
        file = aside / f"rank-{ranks.rank:05d}.safetensors"
        write_tensors(file, mine)
        _write_json(file.with_suffix(".json"), {"file": file.name, "tensors": table, **_seal_of(file)})
    with _together(ranks, step):
        if ranks.rank == 0:
            _name(root, aside, final, facts={"format": FORMAT, "step": step, "world": ranks.world, **facts})
            _forget_old(root, keep)
    return final


@contextmanager
def _together(ranks: Ranks, step: int) -> Iterator[None]:
    """What one rank cannot write, none has written: all of them say so, none waits for ever."""
    failed: OSError | StorageError | None = None
    try:
        yield
    except (OSError, StorageError) as cause:
        failed = cause
    if int(ranks.add(torch.tensor(int(failed is not None)))):
        raise StorageError(
            f"the checkpoint of step {step} could not be written",
            hint="free space on the disk and start again: the run goes on from the checkpoint before",
        ) from failed


def _pieces(tensors: Iterable[tuple[str, torch.Tensor]], ranks: Ranks) -> tuple[Tensors, dict[str, Any]]:
    """What this rank writes, and where each piece belongs."""
    mine: Tensors = {}
    table: dict[str, Any] = {}
    for name, tensor in tensors:
        if hasattr(tensor, "to_local"):
            if tensor.to_local().numel():
                mine[name] = tensor.to_local()
                table[name] = {"shape": list(tensor.shape), "at": _first_row(tensor, ranks)}
        elif ranks.rank == 0 or "@" in name:
            mine[name] = tensor
            table[name] = {"shape": list(tensor.shape), "at": 0}
    return mine, table


def _name(root: Path, aside: Path, final: Path, *, facts: Mapping[str, Any]) -> None:
    """The index last, then the name."""
    parts = sorted(aside.glob("rank-*.json"))
    _write_json(aside / "index.json", {**facts, "files": [json.loads(part.read_text("utf-8")) for part in parts]})
    for part in parts:
        part.unlink()
    _sync(aside)
    if final.exists():  # a damaged one of the same step
        shutil.rmtree(final)
    aside.rename(final)
    _sync(root)


def latest(root: Path) -> Saved | None:
    """The newest sound checkpoint, None where there is none at all. Raises: StorageError when there are some and not
    one can be read: starting over in silence would throw work away."""
    damaged: list[str] = []
    for folder in sorted(root.glob("step-*"), reverse=True):
        try:
            return _read(folder, tuple(damaged))
        except (HaganeError, OSError, ValueError, KeyError, TypeError):
            damaged.append(folder.name)
    if damaged:
        raise StorageError(
            f"none of the {len(damaged)} checkpoints of {root.name} can be read",
            hint="restore the folder from a backup, or give the run another folder to start over",
        )
    return None


def _read(folder: Path, damaged: tuple[str, ...]) -> Saved:
    said = json.loads((folder / "index.json").read_text("utf-8"))
    if said["format"] != FORMAT or len(said["files"]) != said["world"]:
        raise ValueError("another format")
    whole: Tensors = {}
    for part in said["files"]:
        path = folder / Path(part["file"]).name
        if _seal_of(path) != {"size": part["size"], "sha256": part["sha256"]}:
            raise ValueError("the file is not the one that was written")
        for name, piece in read_tensors(path).items():
            row = part["tensors"][name]
            if list(piece.shape) == row["shape"]:
                whole[name] = piece
                continue
            if name not in whole:
                whole[name] = torch.empty(row["shape"], dtype=piece.dtype)
            whole[name][row["at"] : row["at"] + piece.shape[0]] = piece
    facts = {key: value for key, value in said.items() if key != "files"}
    return Saved(folder, int(said["step"]), facts, whole, damaged)


def _first_row(tensor: Any, ranks: Ranks) -> int:
    """Where this rank's rows begin: FSDP2 cuts the first dimension like torch.chunk, in equal parts rounded up."""
    return min(ranks.rank * -(-tensor.shape[0] // ranks.world), tensor.shape[0])


def _forget_old(root: Path, keep: int) -> None:
    for folder in sorted(root.glob("step-*"))[: -max(1, keep)]:
        shutil.rmtree(folder, ignore_errors=True)


def _make_empty(folder: Path) -> None:
    for left in folder.parent.glob(".writing-*"):  # by a run that was killed
        shutil.rmtree(left)
    folder.mkdir(parents=True)


def _seal_of(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _write_json(path: Path, said: Mapping[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(said, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
