"""Fetching models from loopback servers: resume, checksums, redirections, registries; nothing half is ever visible."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import tiny_gguf

from hagane.core.errors import ModelError, NotFoundError, RefusedError, StorageError, UsageError
from hagane.models import catalog
from hagane.models.pull import pull


class Shelf:
    """What a server has, how it behaves, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.linked: dict[str, str] = {}  # x-linked-etag by path
        self.cut_after: list[int] = []  # bytes after which the next answers break off
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.has_ranges = True


def handler(shelf: Shelf):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            shelf.asked.append((self.path, dict(self.headers)))
            if self.path in shelf.moved:
                self.send_response(302)
                self.send_header("Location", shelf.moved[self.path])
                if self.path in shelf.linked:
                    self.send_header("X-Linked-Etag", f'"{shelf.linked[self.path]}"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = shelf.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            tag = f'"{hashlib.md5(data).hexdigest()}"'
            start = 0
            ranged = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if ranged and shelf.has_ranges and self.headers.get("If-Range", tag) == tag:
                start = int(ranged[1])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            body = data[start:]
            if shelf.cut_after:
                body = body[: shelf.cut_after.pop(0)]
                self.close_connection = True
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


@pytest.fixture
def shelf():
    shelf = Shelf()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(shelf))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shelf.address = f"http://127.0.0.1:{server.server_port}"
    yield shelf
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> bytes:
    return tiny_gguf.write(tmp_path_factory.mktemp("model") / "tiny.gguf").read_bytes()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def left(cache) -> list[str]:
    folder = catalog.folder_of(cache)
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_url_is_fetched_and_listed(shelf, model, tmp_path):
    shelf.files["/日本語モデル.gguf".encode().decode("latin-1")] = b""
    shelf.files["/m/Small-Model.Q8.gguf"] = model
    seen = []
    got = pull(f"{shelf.address}/m/Small-Model.Q8.gguf", cache=tmp_path, progress=lambda *n: seen.append(n))
    assert got.name == "small-model.q8"
    assert got.file.read_bytes() == model
    assert got.sha256 == sha(model)
    assert seen[0] == (0, len(model))
    assert seen[-1] == (len(model), len(model))
    entry = next(e for e in catalog.available(cache=tmp_path) if e.info.name == got.name)
    assert entry.state == "ready"
    assert entry.info.is_instruct
    assert entry.info.title == "小さな模型"
    assert entry.info.licence == "apache-2.0"
    assert catalog.find(got.name, cache=tmp_path) == got.file
    assert left(tmp_path) == ["small-model.q8.gguf", "small-model.q8.json"]


def test_a_cut_connection_is_taken_up_where_it_broke(shelf, model, tmp_path):
    shelf.files["/m.gguf"] = model
    shelf.cut_after = [1000, 50_000]
    got = pull(f"{shelf.address}/m.gguf", cache=tmp_path)
    assert got.file.read_bytes() == model
    assert [headers.get("Range") for _, headers in shelf.asked] == [None, "bytes=1000-", "bytes=51000-"]


def test_what_was_broken_off_goes_on_at_the_next_call(shelf, model, tmp_path):
    """Ctrl-C or a lost network: the command again fetches only the rest."""
    shelf.files["/m.gguf"] = model

    class Interrupted(Exception): ...

    def stop(here: int, _whole: int) -> None:
        if here:
            raise Interrupted

    shelf.cut_after = [70_000]
    with pytest.raises(Interrupted):
        pull(f"{shelf.address}/m.gguf", cache=tmp_path, progress=stop)
    assert "m.gguf" not in left(tmp_path)
    here = (catalog.folder_of(tmp_path) / ".m.gguf.part").stat().st_size
    assert 0 < here <= 70_000
    shelf.cut_after = []
    pull(f"{shelf.address}/m.gguf", cache=tmp_path)
    assert shelf.asked[-1][1]["Range"] == f"bytes={here}-"
    assert catalog.find("m", cache=tmp_path).read_bytes() == model


def test_a_file_that_changed_meanwhile_is_fetched_anew(shelf, model, tmp_path):
    """The rest of another file behind the beginning of this one would be worse than none."""
    shelf.files["/m.gguf"] = b"\0" * len(model)
    shelf.cut_after = [5000] * 9
    shelf.has_ranges = False
    with pytest.raises(ModelError):
        pull(f"{shelf.address}/m.gguf", cache=tmp_path)
    shelf.files["/m.gguf"], shelf.cut_after, shelf.has_ranges = model, [], True
    assert pull(f"{shelf.address}/m.gguf", cache=tmp_path).file.read_bytes() == model


def test_a_server_without_ranges_begins_again(shelf, model, tmp_path):
    shelf.files["/m.gguf"] = model
    shelf.cut_after = [40_000]
    shelf.has_ranges = False
    assert pull(f"{shelf.address}/m.gguf", cache=tmp_path).file.read_bytes() == model


def test_a_wrong_checksum_leaves_nothing(shelf, model, tmp_path):
    shelf.files["/m.gguf"] = model
    with pytest.raises(ModelError, match="sha256"):
        pull(f"{shelf.address}/m.gguf", cache=tmp_path, sha256="0" * 64)
    assert left(tmp_path) == []


def test_a_hostile_header_leaves_nothing(shelf, model, tmp_path):
    shelf.files["/m.gguf"] = model[:-500]
    with pytest.raises(ModelError, match="GGUF header"):
        pull(f"{shelf.address}/m.gguf", cache=tmp_path)
    shelf.files["/page.gguf"] = "<html>ログインしてください</html>".encode()
    with pytest.raises(ModelError, match="GGUF header"):
        pull(f"{shelf.address}/page.gguf", cache=tmp_path)
    assert left(tmp_path) == []


def test_hugging_face_names_become_addresses(shelf, model, tmp_path, monkeypatch):
    """The repository moves us on to its store; the checksum it names is checked; the token stays with it."""
    monkeypatch.setenv("HF_ENDPOINT", shelf.address)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    path = "/owner/Repo-GGUF/resolve/main/Model-Q4.gguf"
    shelf.moved[path] = shelf.address.replace("127.0.0.1", "localhost") + "/store/blob"
    shelf.linked[path] = sha(model)
    shelf.files["/store/blob"] = model
    got = pull("hf:owner/Repo-GGUF/Model-Q4.gguf", cache=tmp_path)
    assert got.name == "model-q4"
    assert [(where, headers.get("Authorization")) for where, headers in shelf.asked] == [
        (path, "Bearer hf_secret"),
        ("/store/blob", None),
    ]
    shelf.linked[path] = "1" * 64
    with pytest.raises(ModelError, match="sha256"):
        pull("hf:owner/Repo-GGUF/Model-Q4.gguf@main", name="other", cache=tmp_path)


def test_ollama_names_become_manifest_and_blob(shelf, model, tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_REGISTRY", shelf.address)
    licence = "利用規約 第1条\n…".encode()
    manifest = {
        "schemaVersion": 2,
        "layers": [
            {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:" + "a" * 64, "size": 3},
            {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{sha(model)}", "size": len(model)},
            {"mediaType": "application/vnd.ollama.image.license", "digest": f"sha256:{sha(licence)}", "size": 9},
        ],
    }
    shelf.files["/v2/library/small/manifests/135m"] = json.dumps(manifest).encode()
    shelf.files[f"/v2/library/small/blobs/sha256:{sha(model)}"] = model
    shelf.files[f"/v2/library/small/blobs/sha256:{sha(licence)}"] = licence
    shelf.cut_after = [10**9, 10**9, 3000]
    got = pull("ollama:small:135m", cache=tmp_path)
    assert got.name == "small-135m"
    entry = next(e for e in catalog.available(cache=tmp_path) if e.info.name == "small-135m")
    assert entry.info.licence == "利用規約 第1条"
    assert entry.info.source == "ollama:small:135m"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"layers": []}',
        "日本語",
        '{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "md5:00", "size": 1}]}',
    ],
)
def test_a_manifest_without_a_model_is_an_error(shelf, tmp_path, monkeypatch, text):
    monkeypatch.setenv("OLLAMA_REGISTRY", shelf.address)
    shelf.files["/v2/me/small/manifests/latest"] = text.encode()
    with pytest.raises(ModelError, match="manifest"):
        pull("ollama:me/small", cache=tmp_path)


def test_a_redirection_never_leaves_for_another_scheme(shelf, tmp_path):
    shelf.moved["/m.gguf"] = "file:///etc/passwd"
    with pytest.raises(RefusedError):
        pull(f"{shelf.address}/m.gguf", cache=tmp_path)
    shelf.moved["/round.gguf"] = "/round.gguf"
    with pytest.raises(ModelError, match="sends us on"):
        pull(f"{shelf.address}/round.gguf", cache=tmp_path)


def test_what_is_not_there_is_said_so(shelf, tmp_path):
    with pytest.raises(NotFoundError):
        pull(f"{shelf.address}/ない.gguf", cache=tmp_path)
    with pytest.raises(NotFoundError):
        pull(str(tmp_path / "ない.gguf"), cache=tmp_path)
    with pytest.raises(UsageError):
        pull("hf:owner/repo", cache=tmp_path)


def test_a_model_larger_than_the_disk_is_refused_before_it_is_written(shelf, model, tmp_path, monkeypatch):
    import shutil

    shelf.files["/m.gguf"] = model
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(StorageError, match="free"):
        pull(f"{shelf.address}/m.gguf", cache=tmp_path)


def test_a_local_file_is_copied_and_checked(model, tmp_path):
    path = tmp_path / "手元のモデル.gguf"
    path.write_bytes(model)
    got = pull(str(path), cache=tmp_path / "cache", name="own", sha256=sha(model))
    assert got.file.read_bytes() == model
    path.write_bytes(b"GGUF")
    with pytest.raises(ModelError):
        pull(str(path), cache=tmp_path / "cache", name="broken")
    assert left(tmp_path / "cache") == ["own.gguf", "own.json"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", "日本", "A", "." * 3, "x" * 90])
def test_names_stay_in_their_folder(model, tmp_path, name):
    path = tmp_path / "m.gguf"
    path.write_bytes(model)
    if name == "":
        assert pull(str(path), cache=tmp_path / "c", name=name).name == "m"
        return
    with pytest.raises(UsageError):
        pull(str(path), cache=tmp_path / "c", name=name)
