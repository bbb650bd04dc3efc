"""Chat models and embedders pass the shipped contracts: fakes, the real engines on tiny models, a loopback server."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import tiny_gguf
import tiny_onnx
from loopback_openai import Endpoint

from hagane.contracts.chat_model import ChatModelContract
from hagane.contracts.embedder import EmbedderContract
from hagane.core.registry import load
from hagane.jobs.local import Worker
from hagane.models import CHAT_MODELS, EMBEDDERS
from hagane.models.fake import HashEmbedder

CONTRACT = {
    "hagane.models:CHAT_MODELS": ("fake", "llama-cpp", "openai"),
    "hagane.models:EMBEDDERS": ("e5-small", "fake", "hf", "openai"),
}


@pytest.fixture(scope="module", params=["fake", "llama-cpp", "openai"])
def chat_model(request, tmp_path_factory):
    make = load(CHAT_MODELS, request.param, what="chat_model")
    if request.param == "fake":
        yield make("年次有給休暇は一年につき20日です。")
        return
    if request.param == "openai":
        with Endpoint() as endpoint:
            yield make(address=endpoint.address, model="模型")
        return
    file = tiny_gguf.write(tmp_path_factory.mktemp("model") / "tiny.gguf")
    with make(file, spawn=Worker, threads=1, context=512) as model:
        yield model


class TestShippedChatModels(ChatModelContract):
    @pytest.fixture
    def model(self, chat_model):
        return chat_model


class _Endpoint(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that shuffles its rows, as the reference allows."""

    def do_POST(self):
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        rows = 3 * HashEmbedder(32).embed(texts, kind="query")
        data = [{"index": n, "embedding": row.tolist()} for n, row in enumerate(rows)][::-1]
        body = json.dumps({"object": "list", "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module", params=["e5-small", "fake", "hf", "openai"])
def shipped(request, endpoint, tmp_path_factory):
    given = {}
    if request.param == "openai":
        given = {"address": endpoint, "model": "埋め込み", "batch": 3}
    elif request.param == "hf":
        given = {"folder": tiny_onnx.write(tmp_path_factory.mktemp("模型")), "threads": 1}
    return load(EMBEDDERS, request.param, what="embedder")(**given)


class TestShippedEmbedders(EmbedderContract):
    @pytest.fixture
    def embedder(self, shipped):
        return shipped
