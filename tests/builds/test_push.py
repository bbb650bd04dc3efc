"""Pushing to a loopback hub: only what its ceiling allows, only what is published, and the key in one header only."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import tiny_gguf

from hagane.builds.push import push
from hagane.core.errors import ModelError, RefusedError, StateError, UsageError
from hagane.core.labels import PUBLIC, Clearance, Label

KEY = "hf_himitsu"
INTERNAL = Label.parse("internal")


class Hub:
    """What was asked, and what lies there once a commit was made."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.stored: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.settings: dict = {}
        self.chunk = 0
        self.refuses = 0


def handler(hub: Hub):
    class Handler(BaseHTTPRequestHandler):
        def _say(self, value, status=200, **headers):
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, said in headers.items():
                self.send_header(name, said)
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self):
            hub.asked.append(("PUT", self.path, self.headers.get("Authorization")))
            sha256, _, part = self.path.removeprefix("/store/").partition("?")
            data = self.rfile.read(int(self.headers["Content-Length"]))
            hub.stored[sha256] = hub.stored.get(sha256, b"") + data if part else data
            self._say({}, ETag=f"tag{part}")

        def do_POST(self):
            hub.asked.append(("POST", self.path, self.headers.get("Authorization")))
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if hub.refuses:
                self._say({}, hub.refuses)
            elif self.path == "/api/repos/create":
                hub.settings = json.loads(data)
                self._say({})
            elif self.path.endswith("/preupload/main"):
                rows = json.loads(data)["files"]
                large = (".gguf", ".safetensors")
                self._say(
                    {
                        "files": [
                            {"path": row["path"], "uploadMode": "lfs" if row["path"].endswith(large) else "regular"}
                            for row in rows
                        ]
                    }
                )
            elif self.path.endswith("/info/lfs/objects/batch"):
                (row,) = json.loads(data)["objects"]
                where = f"{hub.address}/store/{row['oid']}"
                header = {}
                if hub.chunk:
                    n_parts = -(-row["size"] // hub.chunk)
                    header = {"chunk_size": str(hub.chunk)} | {str(n): f"{where}?{n}" for n in range(1, n_parts + 1)}
                actions = {"upload": {"href": f"{hub.address}/done" if hub.chunk else where, "header": header}}
                self._say({"objects": [row | {"actions": actions}]})
            elif self.path.endswith("/commit/main"):
                for line in map(json.loads, data.splitlines()):
                    said = line["value"]
                    if line["key"] == "file":
                        hub.files[said["path"]] = base64.b64decode(said["content"])
                    elif line["key"] == "lfsFile":
                        assert hashlib.sha256(hub.stored[said["oid"]]).hexdigest() == said["oid"]
                        hub.files[said["path"]] = hub.stored[said["oid"]]
                self._say({"commitOid": "abc123"})
            else:
                self._say({})

        def log_message(self, *_):
            pass

    return Handler


@pytest.fixture
def hub():
    made = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(made))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.address = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(tmp_path):
    """A published model's folder, as an export leaves it; nothing of it is told what its data was called."""
    folder = tmp_path / "kaisha"
    (folder / "hf").mkdir(parents=True)
    tiny_gguf.write(folder / "kaisha-Q8_0.gguf", label="public")
    for name, text in (("config.json", "{}"), ("hagane.json", '{"n_texts": 7}'), ("model.safetensors", "重み")):
        (folder / "hf" / name).write_text(text, "utf-8")
    check = {"side": "Q8_0", "claim": "next", "got": 99, "of": 100, "needed": 0.99, "passed": True}
    report = {
        "name": "kaisha", "state": "published", "label": "public", "n_params": 123456, "context": 512,
        "files": [{"path": "kaisha-Q8_0.gguf", "role": "gguf", "numbers": "Q8_0"}],
        "reports": {"parity": {"checks": {"Q8_0": [check]}}, "memory": {"passed": True, "rows": ["秘密の規程.docx"]}},
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps(report), "utf-8")
    return folder


def test_files_card_and_licence_arrive_and_what_counts_documents_stays(hub, model):
    got = push(
        model, "hf:kaisha/moderu", label=PUBLIC, key=KEY, licence="Apache-2.0", base="org/base", endpoint=hub.address
    )
    assert sorted(hub.files) == ["README.md", "config.json", "kaisha-Q8_0.gguf", "model.safetensors"]
    assert hub.files["kaisha-Q8_0.gguf"] == (model / "kaisha-Q8_0.gguf").read_bytes()
    card = hub.files["README.md"].decode()
    assert (
        "Licence: Apache-2.0" in card
        and 'base_model: "org/base"' in card
        and "99 of 100" in card
        and "秘密" not in card
    )
    assert hub.settings == {"name": "moderu", "organization": "kaisha", "type": "model", "private": True}
    assert (got.commit, got.n_files, got.repository) == ("abc123", 4, "kaisha/moderu")


def test_large_files_go_in_pieces_when_the_hub_says_so(hub, model):
    hub.chunk = 10_000
    push(model, "hf:kaisha/moderu", label=PUBLIC, key=KEY, licence="Apache-2.0", endpoint=hub.address)
    assert hub.files["kaisha-Q8_0.gguf"] == (model / "kaisha-Q8_0.gguf").read_bytes()
    assert sum(method == "PUT" for method, *_ in hub.asked) > 3


def test_the_storage_never_sees_the_key(hub, model):
    push(model, "hf:kaisha/moderu", label=PUBLIC, key=KEY, licence="Apache-2.0", endpoint=hub.address)
    assert {key for method, _, key in hub.asked if method == "PUT"} == {None}
    assert {key for method, _, key in hub.asked if method == "POST"} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("where", ["now", "report", "file"])
def test_a_label_above_the_ceiling_does_not_leave(where: str, hub, model):
    """Any of the three is enough: the label of today, of the report, of the file itself."""
    label = INTERNAL if where == "now" else PUBLIC
    if where == "report":
        said = json.loads((model / "report.json").read_text("utf-8"))
        (model / "report.json").write_text(json.dumps(said | {"label": "internal"}), "utf-8")
    if where == "file":
        tiny_gguf.write(model / "kaisha-Q8_0.gguf", label="internal")
    with pytest.raises(RefusedError, match="may not flow"):
        push(model, "hf:kaisha/moderu", label=label, key=KEY, licence="Apache-2.0", endpoint=hub.address)
    assert hub.asked == []
    ceiling = Clearance.parse("internal")
    assert push(
        model, "hf:kaisha/moderu", label=label, key=KEY, licence="Apache-2.0", endpoint=hub.address, ceiling=ceiling
    ).commit


def test_what_is_blocked_or_has_no_licence_or_key_stays(hub, model):
    said = {"to": "hf:kaisha/moderu", "label": PUBLIC, "key": KEY, "licence": "Apache-2.0", "endpoint": hub.address}
    for change in ({"licence": " "}, {"key": ""}, {"to": "hf:kaisha"}, {"to": "https://kaisha.example/x"}):
        with pytest.raises(UsageError):
            push(model, **(said | change))
    report = json.loads((model / "report.json").read_text("utf-8")) | {"state": "blocked"}
    (model / "report.json").write_text(json.dumps(report), "utf-8")
    with pytest.raises(StateError, match="not published"):
        push(model, **said)
    assert hub.asked == []


@pytest.mark.parametrize(("status", "kind"), [(403, RefusedError), (500, ModelError)])
def test_a_hub_that_refuses_is_said_without_the_key(status: int, kind, hub, model):
    hub.refuses = status
    with pytest.raises(kind) as caught:
        push(model, "hf:kaisha/moderu", label=PUBLIC, key=KEY, licence="Apache-2.0", endpoint=hub.address)
    assert KEY not in f"{caught.value} {caught.value.hint}"
    assert hub.files == {}
