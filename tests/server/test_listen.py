"""`hagane serve`: where it binds, what it says, how it ends; the wire below the application."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from server.site import PASSWORD, URL, YAML, copied, serving
from small_company import Folder

from hagane.core.errors import ConfigError, StateError
from hagane.project.config_server import ServerConfig, TlsConfig
from hagane.server import wire_guard
from hagane.server.limits import SECURITY
from hagane.server.listen import Server, Where, bound, configured, where
from hagane.server.proxies import Proxied, networks


def certificate(folder: Path) -> None:
    """A self-signed certificate for this machine: cert.pem and key.pem."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*plain))


# where


def test_it_binds_to_loopback_unless_told_otherwise(tmp_path: Path):
    chosen = where(ServerConfig(), tmp_path)
    assert (chosen.host, chosen.port, chosen.scheme) == ("127.0.0.1", 8750, "http")
    assert where(ServerConfig(), tmp_path, host="localhost", port=0).port == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "llm.example.co.jp"])
def test_beyond_loopback_it_insists_on_tls_or_a_proxy(host: str, tmp_path: Path):
    with pytest.raises(ConfigError, match="in the clear") as refused:
        where(ServerConfig(), tmp_path, host=host)
    assert "server.tls" in refused.value.hint
    assert where(ServerConfig(trusted_proxies=("10.1.2.4",)), tmp_path, host=host).host == host
    certificate(tmp_path)
    secured = where(ServerConfig(tls=TlsConfig(certificate="cert.pem", key="key.pem")), tmp_path, host=host)
    assert secured.scheme == "https"


@pytest.mark.parametrize("broken", ["missing", "text", "other key"])
def test_a_certificate_that_cannot_be_used_is_said_before_anything_starts(broken: str, tmp_path: Path):
    certificate(tmp_path)
    if broken == "missing":
        (tmp_path / "key.pem").unlink()
    elif broken == "text":
        (tmp_path / "cert.pem").write_text("証明書", encoding="utf-8")
    else:
        kept = (tmp_path / "cert.pem").read_bytes()
        certificate(tmp_path)
        (tmp_path / "cert.pem").write_bytes(kept)
    with pytest.raises(ConfigError, match=r"server\.tls"):
        where(ServerConfig(tls=TlsConfig(certificate="cert.pem", key="key.pem")), tmp_path)


@pytest.mark.parametrize("given", ["*", "0.0.0.0/0", "::/0", "proxy.example.co.jp", "10.0.0.0/33", ""])
def test_a_proxy_is_an_address_and_not_everybody(given: str):
    with pytest.raises(ConfigError, match="trusted_proxies"):
        networks((given,))


def test_a_taken_port_is_said():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(StateError, match="cannot be bound"), bound(Where("127.0.0.1", other.getsockname()[1])):
            pass


def test_an_address_is_shown_as_a_browser_types_it():
    assert Where("::1", 0).url(8750) == "http://[::1]:8750"
    assert Where("127.0.0.1", 0, Path("c"), Path("k")).url(443) == "https://127.0.0.1:443"


# a process


def test_the_first_start_prints_a_link_and_the_signal_ends_it_in_order(folder: Folder):
    with serving(folder.path, env={"HAGANE_LOG": "info"}) as (url, process):
        answer = requests.get(url + "/給与?question=等級4の給与", timeout=20)
        assert answer.status_code == 404
        assert "server" not in answer.headers
        assert requests.get(url + "/sign-in", headers={"Host": "evil.example"}, timeout=20).status_code == 421
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        talk = process.stderr.read()
    link = next(line for line in talk.splitlines() if "/set-up#" in line)
    assert link.startswith(f"{url}/set-up#")
    assert "serving" in talk
    assert "給与" not in talk
    assert "question" not in talk
    assert "%E7%B5%A6" not in talk, "no access log: addresses hold what people look at"


def test_with_users_there_is_no_link_and_ctrl_c_ends_it_too(template: Path, tmp_path: Path):
    with serving(copied(template, tmp_path / "company").path) as (_, process):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert "set-up" not in process.stderr.read()


def test_beyond_loopback_the_command_says_what_to_do(folder: Folder):
    command = [sys.executable, "-c", "from hagane.cli.main import main; main()", "serve", "--host", "0.0.0.0", "--project", str(folder.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 1
    assert done.stdout == ""
    assert "hint: set server.tls" in done.stderr


def test_over_tls_the_cookie_is_secure(folder: Folder):
    certificate(folder.path)
    folder.write("hagane.yaml", YAML + "server: {tls: {certificate: cert.pem, key: key.pem}}\n")
    with serving(folder.path) as (url, process):
        assert url.startswith("https://127.0.0.1:")
        process.stderr.readline()
        secret = process.stderr.readline().strip().partition("#")[2]
        form = {"secret": secret, "name": "総務 花子", "password": PASSWORD, "again": PASSWORD}
        answer = requests.post(url + "/set-up", data=form, verify=str(folder.path / "cert.pem"), allow_redirects=False, timeout=30)
        assert answer.status_code == 303
        assert "; Secure" in answer.headers["set-cookie"]
        assert answer.headers["strict-transport-security"]


# the wire


@contextlib.contextmanager
def running(app: Any, config: ServerConfig | None = None) -> Iterator[tuple[int, Server, threading.Thread]]:
    """`app` behind our own configuration of the wire, in a thread: its port, server and thread."""
    chosen = Where("127.0.0.1", 0)
    with bound(chosen) as door:
        ready = threading.Event()
        server = Server(configured(app, chosen, config or ServerConfig()), ready=ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        assert ready.wait(20)
        yield door.getsockname()[1], server, thread
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": "こんにちは".encode()})


def said(port: int, data: bytes) -> bytes:
    """Everything that the server answers to `data`, to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plug:
        with contextlib.suppress(OSError):
            plug.sendall(data)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := plug.recv(65_536):
                found += piece
        return found


def shaped(answer: bytes) -> tuple[int, str]:
    """(status, code) of an error in our shape, with the security headers."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert all(f"{name}: ".encode() in head for name in SECURITY)
    return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 60_000, (431, "headers_too_large")),
        (b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 200, (431, "headers_too_large")),
        (b"GET /" + b"a" * 60_000, (431, "headers_too_large")),
        ("こんにちは\r\n\r\n".encode(), (400, "http")),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", (400, "http")),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", (400, "http")),
    ],
)
def test_what_is_no_request_is_answered_in_our_shape(data: bytes, expected: tuple[int, str]):
    with running(hello) as (port, _, _):
        assert shaped(said(port, data)) == expected
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=20).status_code == 200


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_arrive_ends_the_connection(data: bytes, monkeypatch):
    """Else a few thousand silent clients would hold all connections."""
    monkeypatch.setattr(wire_guard, "HEAD_S", 0.2)
    with running(hello) as (port, _, _):
        assert shaped(said(port, data)) == (408, "head_too_slow")


def test_a_reader_that_does_not_read_is_let_go(monkeypatch):
    monkeypatch.setattr(wire_guard, "READ_S", 0.2)
    gone = threading.Event()

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(1_000):
                await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
                if (await _peek(receive)) == "http.disconnect":
                    break
        finally:
            gone.set()

    with running(flood) as (port, _, _), socket.create_connection(("127.0.0.1", port)) as plug:
        plug.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert gone.wait(20)


async def _peek(receive: Any) -> str | None:
    import asyncio

    try:
        async with asyncio.timeout(0.001):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return message["type"]
    except TimeoutError:
        return None


def test_a_websocket_is_not_spoken_here():
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
    with running(hello) as (port, _, _), socket.create_connection(("127.0.0.1", port), timeout=20) as plug:
        plug.sendall(upgrade)
        assert b" 101 " not in plug.recv(65_536)


def test_an_answer_under_way_is_finished_and_nobody_new_comes_in():
    begun = threading.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        import asyncio

        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in ("有給", "休暇", "は", "20日"):
            await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
            begun.set()
            await asyncio.sleep(0.2)
        await send({"type": "http.response.body", "body": "。".encode()})

    got: list[str] = []
    with running(slow) as (port, server, thread):
        asking = threading.Thread(target=lambda: got.append(requests.get(f"http://127.0.0.1:{port}/", timeout=20).content.decode()))
        asking.start()
        assert begun.wait(20)
        server.should_exit = True
        end = time.monotonic() + 10
        refused = False
        while not refused and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                refused = True
        assert refused
        asking.join(20)
        thread.join(20)
    assert got == ["有給休暇は20日。"]


# proxies


def through(peer: str, headers: dict[str, str], *, trusted: tuple[str, ...] = ("10.0.0.0/24",), alone: bool = True) -> tuple[int, dict]:
    """(status, what the application saw) of a request that came from `peer`."""
    import asyncio

    seen: dict = {}
    sent: list = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scheme=scope["scheme"], client=scope["client"][0])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: dict) -> None:
        sent.append(message)

    given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http", "client": (peer, 1), "headers": given}
    asyncio.run(Proxied(app, trusted=trusted, alone=alone)(scope, None, send))
    return sent[0]["status"], seen


FORWARDED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


def test_a_trusted_proxy_says_who_asks_and_how():
    assert through("10.0.0.5", FORWARDED) == (200, {"scheme": "https", "client": "203.0.113.9"})


def test_what_a_client_puts_in_front_does_not_count():
    """The proxy appends: the last address that is not a proxy's own is the client's."""
    chain = {**FORWARDED, "X-Forwarded-For": "127.0.0.1, 203.0.113.9, 10.0.0.7"}
    assert through("10.0.0.5", chain)[1]["client"] == "203.0.113.9"


@pytest.mark.parametrize("peer", ["10.0.1.5", "192.0.2.1", "::ffff:192.0.2.1", "知らない"])
def test_nobody_else_gets_through_without_tls(peer: str):
    assert through(peer, FORWARDED) == (403, {})


def test_forwarded_headers_of_others_are_nothing():
    assert through("192.0.2.1", FORWARDED, alone=False) == (200, {"scheme": "http", "client": "192.0.2.1"})
    assert through("127.0.0.1", FORWARDED) == (200, {"scheme": "http", "client": "127.0.0.1"})


def test_an_ipv4_proxy_on_an_ipv6_socket_is_the_same_proxy():
    assert through("::ffff:10.0.0.5", {})[0] == 200


def test_the_fixture_speaks_of_loopback():
    assert URL == "http://localhost"
