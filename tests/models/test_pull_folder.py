"""A model folder from a loopback hub: one commit, safetensors only, no code, nothing half under its name."""

from __future__ import annotations

import json
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hagane.core.errors import ModelError, NotFoundError, RefusedError, UsageError
from hagane.models.pull_folder import pull_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tensors() -> bytes:
    head = json.dumps({"重み": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, ensure_ascii=False).encode()
    return struct.pack("<Q", len(head)) + head + struct.pack("<2f", 1.0, 2.0)


@pytest.fixture
def hub(monkeypatch):
    """Files by name; what was asked; a listing that can be changed."""
    files = {
        "config.json": b'{"model_type": "llama"}', "model.safetensors": tensors(), "modeling_kaisha.py": b"print(1)",
        "README.md": "会社の模型".encode(), "pytorch_model.bin": b"pickle",
    }  # fmt: skip
    asked: list[tuple[str, str | None]] = []
    said = {"sha": COMMIT, "cardData": {"license": "apache-2.0"}, "private": False}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            if self.path == "/api/models/kaisha/moderu/revision/main":
                body = json.dumps(said | {"siblings": [{"rfilename": name} for name in files]}).encode()
            elif self.path.startswith(f"/kaisha/moderu/resolve/{COMMIT}/"):
                body = files.get(self.path.rpartition("/")[2])
            else:
                body = None
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield type("Hub", (), {"files": files, "asked": asked, "said": said})
    server.shutdown()
    server.server_close()


def test_weights_and_configuration_come_and_code_and_pickles_do_not(hub, tmp_path):
    got = pull_folder("hf:kaisha/moderu", cache=tmp_path)
    assert sorted(path.name for path in got.folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (got.commit, got.licence, got.closed) == (COMMIT, "apache-2.0", False)
    before = len(hub.asked)
    assert pull_folder("hf:kaisha/moderu", cache=tmp_path).folder == got.folder
    assert len(hub.asked) == before + 1, "only the listing is asked again"


def test_a_folder_with_pickles_only_is_refused(hub, tmp_path):
    del hub.files["model.safetensors"]
    with pytest.raises(RefusedError, match="pickles"):
        pull_folder("hf:kaisha/moderu", cache=tmp_path)
    assert not list(tmp_path.rglob("*.bin"))


def test_a_damaged_file_never_makes_a_folder_and_is_fetched_again(hub, tmp_path):
    whole = hub.files["model.safetensors"]
    hub.files["model.safetensors"] = whole[:-3]
    with pytest.raises(ModelError, match="not sound"):
        pull_folder("hf:kaisha/moderu", cache=tmp_path)
    assert not [path for path in (tmp_path / "bases").iterdir() if not path.name.startswith(".")]
    hub.files["model.safetensors"] = whole
    assert (pull_folder("hf:kaisha/moderu", cache=tmp_path).folder / "model.safetensors").read_bytes() == whole


def test_a_key_goes_along_and_a_closed_repository_is_known_as_such(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_himitsu")
    hub.said["private"] = True
    assert pull_folder("hf:kaisha/moderu", cache=tmp_path).closed
    assert {key for _, key in hub.asked} == {"Bearer hf_himitsu"}


@pytest.mark.parametrize("source", ["hf:kaisha", "hf:kaisha/moderu/file.gguf", "hf:../x", "hf:a/..", "hf:会社/模型"])
def test_other_names_are_refused(source: str, tmp_path):
    with pytest.raises(UsageError):
        pull_folder(source, cache=tmp_path)


def test_an_unknown_repository_is_not_found(hub, tmp_path):
    with pytest.raises(NotFoundError):
        pull_folder("hf:kaisha/nai", cache=tmp_path)
