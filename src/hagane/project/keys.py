"""Verbs about encryption at rest: a project's keys made, looked at, rotated; encryption turned on and off.

Every conversion can be killed anywhere and is ended by the same command. The ledger is converted in one transaction;
files one after the other, each known by its header; while that lasts the keys' state says so, and plain files are
read beside sealed ones. Once it is done, a plain file is refused.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hagane.core.config import read_yaml, write_yaml
from hagane.core.errors import ConfigError, NotFoundError, RefusedError, StateError, StorageError, UsageError
from hagane.core.types import Principal
from hagane.core.whole_file import private_folder
from hagane.ledger.lock import Writer
from hagane.ledger.master import create_file, key_file, read_master

from .config import FILE

if TYPE_CHECKING:
    from .wire import Project

FOLDER = "keys"  # in .hagane
Emit = Callable[[Mapping[str, Any]], None]


def open_keys(project: Project) -> Any | None:
    """The keys that hagane.yaml names, made when the project is new; None when it names none.
    Raises: ConfigError for a wrong or missing key; StateError for a project that was not encrypted from the start."""
    where = project.config.encryption.key
    if where is None:
        return None
    from hagane.ledger.keys import Keys

    master = _master(project, where)
    folder = project.state / FOLDER
    if not Keys.exist(folder):
        _require_no_lost_keys(project)
        if (project.state / "ledger.db").exists():
            raise StateError("this project is not encrypted yet", hint="hagane keys on encrypts what is there")
        return Keys.create(folder, master)
    return Keys.open(folder, master)


def create(file: Path) -> Path:
    """Write a new random key into `file`, for its owner only. Raises: ConfigError when it exists."""
    create_file(file)
    return file


def status(project: Project, *, by: Principal) -> dict[str, Any]:
    """{"encrypted", "state", "key", "documents", "originals", "blind_index"}; never anything of a key.
    Raises: ConfigError, StorageError when the keys do not open."""
    keys = project.keys
    wanted = project.config.encryption
    if keys is None:
        return {"encrypted": False, "state": "off", "key": None, "documents": 0, "originals": 0, "blind_index": bool(wanted.blind_index)}
    _ = project.ledger  # does it open?
    return {
        "encrypted": True, "state": keys.state, "key": wanted.key, "documents": len(keys.names("d_")),
        "originals": len(keys.names("blob:")), "blind_index": wanted.blind_index is not False,
    }  # fmt: skip


def turn_on(project: Project, key: str, *, by: Principal, emit: Emit) -> None:
    """Encrypt an existing project under the master key `key`, and write it into hagane.yaml.
    Raises: UsageError when it is encrypted; ConfigError for a wrong key; Busy while another command writes."""
    from hagane.ledger.checkpoint import keep_seed, kept_seed
    from hagane.ledger.keys import ON, TURNING_ON, Keys

    _may(by)
    master = _master(project, key)
    folder = project.state / FOLDER
    with Writer(project.state / "lock").alone("keys"):
        if not Keys.exist(folder):
            _require_no_lost_keys(project)
            Keys.create(folder, master, state=TURNING_ON).close()
        keys = Keys.open(folder, master)
        if keys.state == ON:
            raise UsageError("this project is encrypted already", hint="hagane keys status")
        _take_index_away(project)
        keys.set_state(TURNING_ON)
        if seed := kept_seed(project.state / "audit"):
            keys.take_signing_seed(seed)
        keys.close()
        _write_key(project, key)
        ledger = _reopen(project)
        ledger.audit.record("keys.on", principal=by.name)
        ledger.reseal(on=True)
        ledger = _reopen(project)
        _convert(project, emit)
        keep_seed(project.state / "audit", None)
        ledger.keys.set_state(ON)
        ledger.audit.record("keys.done", principal=by.name, state=ON)
        _rebuild(project, emit)


def turn_off(project: Project, *, by: Principal, emit: Emit) -> None:
    """Decrypt a project, take the key out of hagane.yaml and delete `.hagane/keys`.
    Raises: UsageError when it is not encrypted; Busy while another command writes."""
    from hagane.ledger.checkpoint import keep_seed
    from hagane.ledger.keys import TURNING_OFF

    _may(by)
    folder = project.state / FOLDER
    with Writer(project.state / "lock").alone("keys"):
        ledger = project.ledger
        if ledger.keys is None:
            if not folder.exists():
                raise UsageError("this project is not encrypted", hint="hagane keys status")
        else:
            ledger.audit.record("keys.off", principal=by.name)
            _take_index_away(project)
            ledger.keys.set_state(TURNING_OFF)
            keep_seed(project.state / "audit", ledger.keys.signing_seed())
            ledger = _reopen(project)
            _convert(project, emit)
            ledger.reseal(on=False)
            _write_key(project, None)
        shutil.rmtree(folder)
        ledger = _reopen(project)
        ledger.audit.record("keys.done", principal=by.name, state="off")
        ledger.purge()
        _rebuild(project, emit)


def rotate(project: Project, to: str | None, *, by: Principal, deep: bool = False) -> None:
    """Let the master key `to` open the project instead of today's, and write it into hagane.yaml. `deep`: a new
    project key, too, and new keys for the ledger's columns; documents' keys are wrapped anew, not replaced.
    Raises: UsageError when it is not encrypted or there is nothing to do; ConfigError for a wrong key; Busy."""
    _may(by)
    if to is None and not deep:
        raise UsageError("nothing to rotate to", hint="hagane keys rotate --to file:NEW, or --deep")
    new = _master(project, to) if to is not None else None
    ledger = project.ledger
    if ledger.keys is None:
        raise UsageError("this project is not encrypted", hint="hagane keys on encrypts it")
    if not ledger.keys.strict:
        raise StateError("a conversion was interrupted", hint="end it first: hagane keys on, or hagane keys off")
    with ledger.only_writer("keys"):
        ledger.audit.record("keys.rotate", principal=by.name, deep=deep, master=to is not None)
        if deep:
            ledger.keys.rotate_project_key()
            ledger.renew_columns()
            ledger.purge()
        if new is not None and to is not None:
            ledger.keys.add_master(new)  # both open it, until hagane.yaml says the new one
            _write_key(project, to)
            ledger.keys.only_master(new)


def _require_no_lost_keys(project: Project) -> None:
    """Raises: StorageError when the ledger is encrypted, but its keys are not there: new ones would open nothing."""
    from hagane.ledger.db import lies_sealed

    if lies_sealed(project.state / "ledger.db"):
        raise StorageError(f"{project.state / FOLDER} is missing", hint="restore .hagane/keys from a backup; without it nothing can be read")


def _may(by: Principal) -> None:
    if "administer" not in by.roles:
        raise RefusedError(f"{by.name} may not change the keys", hint="it takes the permission administer")


def _master(project: Project, where: str) -> bytes:
    """The master key at `where`. Raises: ConfigError; also for a file that lies in .hagane, where copies of the
    data would carry it, or in a source, where it would become a document."""
    master = read_master(where, base=project.folder)
    kind, _, name = where.partition(":")
    if kind == "file":
        file = key_file(name, base=project.folder).resolve()
        if file.is_relative_to(project.state.resolve()):
            raise ConfigError(f"encryption.key: {file} lies in .hagane", hint="keep the key apart from what it opens")
        for source in project.config.sources:
            if file.is_relative_to(project.source_root(source.path).resolve()):
                raise ConfigError(f"encryption.key: {file} lies in the source {source.name!r}", hint="it would become a document: keep it elsewhere")
    return master


def written_key(where: str, *, folder: Path, here: Path) -> str:
    """`where` as typed in folder `here`, as hagane.yaml in `folder` names it: relative inside the project, else absolute."""
    kind, _, name = where.partition(":")
    if kind != "file" or not name:
        return where
    file = Path(os.path.normpath(here / Path(name).expanduser()))
    folder = folder.resolve()
    return f"file:{file.relative_to(folder) if file.is_relative_to(folder) else file}"


def _write_key(project: Project, key: str | None) -> None:
    """Put `key` into hagane.yaml (comments kept), or take it out."""
    file = project.folder / FILE
    tree = read_yaml(file)
    if key is None:
        if isinstance(tree.get("encryption"), dict):
            tree["encryption"].pop("key", None)
            if not tree["encryption"]:
                del tree["encryption"]
    elif isinstance(tree.get("encryption"), dict):
        tree["encryption"]["key"] = key
    else:
        tree["encryption"] = {"key": key}
    write_yaml(tree, file)
    project.reload()


def _reopen(project: Project) -> Any:
    """The ledger as hagane.yaml and the keys' state say now. The writer lock is the operating system's: it stays."""
    if "ledger" in project.__dict__:
        project.ledger.close()
    for name in ("ledger", "keys", "index"):
        project.__dict__.pop(name, None)
    return project.ledger


def _convert(project: Project, emit: Emit) -> None:
    """All files of the stores; then no byte of what they were is left where it can be overwritten."""
    from .trained import convert as convert_models
    from .training_places import convert as convert_runs

    _take_index_away(project)
    project.ledger.uploads.sweep()
    project.ledger.remember(syncing=True)
    for done in project.ledger.convert_files():
        emit({"event": "convert", "done": done})
    convert_models(project)
    convert_runs(project)
    if (project.state / "datasets").is_dir():  # made anew when they are needed
        from .datasets import take_away

        take_away(project)
    project.ledger.documents.sweep()
    if project.ledger.keys.sealing:
        project.ledger.purge()


def _take_index_away(project: Project) -> None:
    """The index is made anew from what is parsed. At once, so that a kill leaves it whole or not there; a project without
    one is mended by the next sync."""
    room = project.state / "temporary"
    project.__dict__.pop("index", None)
    try:
        private_folder(room)
        if (project.state / "index").exists():
            os.rename(project.state / "index", room / f"index-{secrets.token_hex(4)}")
        shutil.rmtree(room)
    except OSError as cause:
        raise StorageError(f"{project.state}: {cause.strerror}", hint="check space and rights of .hagane") from cause


def _rebuild(project: Project, emit: Emit) -> None:
    """The index from what is parsed."""
    from .documents import rebuild

    try:
        rebuild(project, emit=emit)
    except NotFoundError as cause:  # an embedder that is not there: words and vectors come with the next sync
        raise StateError("the project is converted, but its index is not built yet", hint="hagane sync builds it") from cause
