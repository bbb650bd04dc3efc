"""A published model to a Hugging Face hub, on the user's word: only what the destination's ceiling lets flow there.

The hub's plain HTTP API is spoken here: no other host is met than the one that the user named, and the storage that it
names for large files. The key comes from the caller (env:NAME), stands in one header, and in no message. A model card
says what it is made from and how its gates ended; names of documents and data sets stay at home.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import urllib3

from ..core.errors import ModelError, NotFoundError, RefusedError, StateError, UsageError
from ..core.labels import PUBLIC, Ceiling, Clearance, Label
from ..models.pull import HUGGING_FACE
from .publish import REPORT

TO = re.compile(r"hf:([A-Za-z0-9][\w.-]{0,95})/([A-Za-z0-9][\w.-]{0,95})")
PUBLIC_ONLY = Clearance(PUBLIC.level)
KEPT_HOME = ("hagane.json", "base.json", "report.json", "model.json")  # they count and name what it learnt from
LFS = {"Accept": "application/vnd.git-lfs+json", "Content-Type": "application/vnd.git-lfs+json"}
SAMPLE_BYTES = 512
SMALL_BYTES = 10 << 20


@dataclass(frozen=True, slots=True)
class Pushed:
    """What lies at the hub now. `commit`: the state that was made, "" when the hub does not name it."""

    repository: str
    address: str
    commit: str
    n_files: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    file: Path | None
    data: bytes = b""

    @property
    def size(self) -> int:
        return self.file.stat().st_size if self.file else len(self.data)

    def start(self) -> bytes:
        if self.file is None:
            return self.data[:SAMPLE_BYTES]
        with self.file.open("rb") as stream:
            return stream.read(SAMPLE_BYTES)

    def whole(self) -> bytes:
        return self.file.read_bytes() if self.file else self.data

    def sha256(self) -> str:
        if self.file is None:
            return hashlib.sha256(self.data).hexdigest()
        with self.file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def push(
    folder: Path,
    to: str,
    *,
    label: Label,
    key: str,
    licence: str,
    base: str = "",
    ceiling: Ceiling = PUBLIC_ONLY,
    private: bool = True,
    endpoint: str | None = None,
    emit: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> Pushed:
    """Uploads the published model in `folder` to hf:OWNER/REPO, which is made when it is not there, closed unless
    `private` is False. `label`: what it is today, joined with what its files say. `ceiling`: of the destination, public
    unless the user says otherwise. `key`: the hub's token. `base`: name of what it was tuned from.

    Raises: RefusedError when the label may not flow there; StateError for what is not published; UsageError without a
    licence or for another address; ModelError when the hub refuses or cannot be reached (nothing is visible then)."""
    found = TO.fullmatch(to)
    if found is None or ".." in to:
        raise UsageError(f"{to!r} is not hf:OWNER/REPO")
    if not licence.strip():
        raise UsageError("a model that is given away needs a licence", hint="name it: that of its base, and yours")
    if not key:
        raise UsageError("the hub wants a key", hint="export HF_TOKEN=… and name it as env:HF_TOKEN")
    report = _report(folder)
    label = label.join(*_own_labels(folder, report))
    if not label.flows_to(ceiling):
        raise RefusedError(
            f"a model under the label {label} may not flow to {to}, whose ceiling is {ceiling}",
            hint="have its data relabelled by an officer, or state the destination's ceiling",
        )
    files = list(_files(folder, report, card(report, licence=licence, base=base)))
    hub = _Hub(endpoint or os.environ.get("HF_ENDPOINT", HUGGING_FACE), f"{found[1]}/{found[2]}", key)
    with hub.pool:
        hub.create(private=private)
        emit({"event": "push", "doing": "compare", "total": len(files)})
        large = hub.large(files)
        stored: dict[str, str] = {}
        for number, one in enumerate(files):
            if one.path in large:
                emit({"event": "push", "doing": "upload", "file": one.path, "done": number, "total": len(files)})
                stored[one.path] = hub.upload(one)
        commit = hub.commit(files, stored, summary=f"Publish {report['name']}")
    return Pushed(
        hub.repository, f"{hub.endpoint}/{hub.repository}", commit, len(files), sum(one.size for one in files)
    )


def card(report: Mapping[str, Any], *, licence: str, base: str) -> str:
    """README.md: what the model is, where it comes from, how it may be used, how its gates ended."""
    parity = report["reports"].get("parity", {})
    lines = [
        "---",
        f"license: other\nlicense_name: {json.dumps(licence, ensure_ascii=False)}",
        "library_name: transformers",
    ]
    lines += [f"base_model: {json.dumps(base)}"] if re.fullmatch(r"[\w.-]+/[\w.-]+", base) else []
    lines += [
        "---",
        "",
        f"# {report['name']}",
        "",
        f"{report['n_params']:,} parameters, context {report['context']:,} tokens.",
    ]
    lines += [f"Tuned from {base}."] if base else ["Trained from scratch."]
    lines += [
        "",
        f"Licence: {licence}",
        "",
        "Made with Hagane.",
        "",
        "## Gates",
        "",
    ]
    lines += ["| file | claim | held | needed |", "|---|---|---|---|"]
    for checks in parity.get("checks", {}).values():
        lines += [
            f"| {one['side']} | {one['claim']} | {one['got']} of {one['of']} | {one['needed']:g} |" for one in checks
        ]
    if memory := report["reports"].get("memory"):
        lines += ["", f"Memorisation gate: {'passed' if memory.get('passed') else 'not passed'}."]
    return "\n".join(lines) + "\n"


def _report(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise NotFoundError(f"{folder.name} has no sound {REPORT}", hint="hagane export") from cause
    if not isinstance(found, dict) or found.get("state") != "published":
        raise StateError(
            f"{folder.name} is not published", hint="only what passed its gates leaves the house: hagane export"
        )
    return found


def _own_labels(folder: Path, report: Mapping[str, Any]) -> Iterator[Label]:
    from ..models.gguf import read_header

    yield Label.parse(str(report["label"]))
    for row in report["files"]:
        if row["path"].endswith(".gguf"):
            said = read_header(folder / row["path"]).values.get("hagane.label")
            yield Label.parse(str(said)) if said else Label()


def _files(folder: Path, report: Mapping[str, Any], text: str) -> Iterator[_File]:
    yield _File("README.md", None, text.encode())
    for row in report["files"]:
        yield _File(row["path"], folder / row["path"])
    for path in sorted((folder / "hf").iterdir()):
        if (
            path.is_file()
            and path.name not in KEPT_HOME
            and path.suffix in (".json", ".safetensors", ".jinja", ".model")
        ):
            yield _File(path.name, path)


class _Hub:
    """One repository at one hub."""

    def __init__(self, endpoint: str, repository: str, key: str) -> None:
        self.endpoint, self.repository = endpoint.rstrip("/"), repository
        if urlsplit(self.endpoint).scheme not in ("https", "http"):
            raise UsageError("the hub's address begins with https://")
        self._key = key
        self.pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=20, read=300), retries=False)

    def _ask(
        self, method: str, url: str, *, body: bytes | IO[bytes], headers: Mapping[str, str], own: bool = True
    ) -> Any:
        """`own`: the hub itself; storage elsewhere never sees the key."""
        given = dict(headers) | ({"Authorization": f"Bearer {self._key}"} if own else {})
        try:
            answer = self.pool.request(method, url, body=body, headers=given, redirect=False)
        except urllib3.exceptions.HTTPError as cause:
            what = f"{urlsplit(url).hostname} does not answer: {type(cause).__name__}"
            raise ModelError(what, hint="push again: nothing is visible yet") from cause
        return answer

    def _json(
        self,
        path: str,
        value: Mapping[str, Any],
        *,
        fine: tuple[int, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        body = json.dumps(value).encode()
        answer = self._ask(
            "POST", f"{self.endpoint}{path}", body=body, headers=headers or {"Content-Type": "application/json"}
        )
        return self._checked(answer, fine)

    def _checked(self, answer: Any, fine: tuple[int, ...] = ()) -> Any:
        if answer.status in (401, 403):
            raise RefusedError(f"the hub refuses: {answer.status}", hint="does the key have the right to write there?")
        if answer.status not in (200, 201, *fine):
            raise ModelError(f"the hub answers {answer.status}", hint="push again: nothing is visible yet")
        try:
            return json.loads(answer.data or b"{}")
        except ValueError:
            return {}

    def create(self, *, private: bool) -> None:
        owner, _, name = self.repository.partition("/")
        value = {"name": name, "organization": owner, "type": "model", "private": private}
        self._json("/api/repos/create", value, fine=(409,))  # 409: it is there

    def large(self, files: list[_File]) -> frozenset[str]:
        """Paths that the hub wants in its storage for large files."""
        rows = [{"path": one.path, "size": one.size, "sample": base64.b64encode(one.start()).decode()} for one in files]
        said = self._json(f"/api/models/{self.repository}/preupload/main", {"files": rows})
        modes = {row["path"]: row["uploadMode"] for row in said.get("files", ()) if isinstance(row, dict)}
        return frozenset(one.path for one in files if modes.get(one.path, "lfs") == "lfs" or one.size > SMALL_BYTES)

    def upload(self, one: _File) -> str:
        """Into the storage for large files; its sha256."""
        sha256 = one.sha256()
        value = {"operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256",
                 "objects": [{"oid": sha256, "size": one.size}]}  # fmt: skip
        said = self._json(f"/{self.repository}.git/info/lfs/objects/batch", value, headers=LFS)
        row = (said.get("objects") or [{}])[0]
        if "error" in row:
            raise ModelError(f"the hub takes no {one.path}", hint="is there room in the account?")
        actions = row.get("actions") or {}
        if "upload" not in actions:
            return sha256  # it is there already
        todo = actions["upload"]
        header = todo.get("header") or {}
        if "chunk_size" in header:
            self._pieces(one, sha256, todo["href"], header)
        else:
            with one.file.open("rb") if one.file else io.BytesIO(one.data) as stream:
                self._put(todo["href"], stream, {**header, "Content-Length": one.size})
        if "verify" in actions:
            body = json.dumps({"oid": sha256, "size": one.size}).encode()
            own = urlsplit(actions["verify"]["href"]).netloc == urlsplit(self.endpoint).netloc
            self._checked(self._ask("POST", actions["verify"]["href"], body=body, headers=LFS, own=own))
        return sha256

    def _put(self, url: str, data: bytes | IO[bytes], header: Mapping[str, Any]) -> str:
        answer = self._ask("PUT", url, body=data, headers={name: str(said) for name, said in header.items()}, own=False)
        if answer.status not in (200, 201):
            raise ModelError(f"the hub's storage answers {answer.status}", hint="push again: nothing is visible yet")
        return str(answer.headers.get("ETag", ""))

    def _pieces(self, one: _File, sha256: str, done: str, header: Mapping[str, Any]) -> None:
        size, parts = int(header["chunk_size"]), []
        assert one.file is not None
        with one.file.open("rb") as stream:
            for number in sorted((name for name in header if name.isdigit()), key=int):
                tag = self._put(header[number], stream.read(size), {})
                parts.append({"partNumber": int(number), "etag": tag})
        body = json.dumps({"oid": sha256, "parts": parts}).encode()
        self._checked(self._ask("POST", done, body=body, headers=LFS, own=False))

    def commit(self, files: list[_File], stored: Mapping[str, str], *, summary: str) -> str:
        lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": summary, "description": ""}}]
        for one in files:
            if one.path in stored:
                value = {"path": one.path, "algo": "sha256", "oid": stored[one.path], "size": one.size}
                lines.append({"key": "lfsFile", "value": value})
            else:
                content = base64.b64encode(one.whole()).decode()
                lines.append({"key": "file", "value": {"path": one.path, "content": content, "encoding": "base64"}})
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        url = f"{self.endpoint}/api/models/{self.repository}/commit/main"
        said = self._checked(self._ask("POST", url, body=body, headers={"Content-Type": "application/x-ndjson"}))
        return str(said.get("commitOid", "")) if isinstance(said, dict) else ""
