"""`hagane serve`: bind, say where, serve until told to end, and end in order.

Beyond loopback it insists on TLS or a trusted proxy. No access log: addresses would hold what people look at; events
of our own instead (core/log). SIGTERM and SIGINT let answers under way finish for 10 s; a second SIGINT does not wait.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from hagane.core.errors import ConfigError, StateError
from hagane.core.log import get
from hagane.project import people
from hagane.project.config_server import ServerConfig
from hagane.project.running import Running
from hagane.project.warm import warm_soon
from hagane.project.wire import Project

from .app import create_app
from .limits import is_loopback
from .proxies import Proxied, networks
from .wire_guard import GuardedProtocol

log = get("server.listen")

CONNECTIONS = 1_000  # more are told to come again (503)
BACKLOG = 512
KEEP_ALIVE_S = 30
FINISH_S = 10  # answers under way may take this long after the signal
STRAGGLERS_S = 3.0  # and threads this long after that
OPEN_FILES = 16_384
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class Where:
    """What to listen on."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.certificate else "http"

    def url(self, port: int) -> str:
        """As a browser on this machine types it."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{shown}:{port}"


def where(config: ServerConfig, folder: Path, *, host: str | None = None, port: int | None = None) -> Where:
    """Host and port as given or as in hagane.yaml. Raises: ConfigError for an address that others reach in the clear,
    or a certificate that is not there."""
    host = host or config.host
    networks(config.trusted_proxies)
    if config.tls is None:
        if not is_loopback(host) and not config.trusted_proxies:
            raise ConfigError(
                f"{host} is reachable from other machines, and passwords would cross the network in the clear",
                hint="set server.tls (certificate, key) or server.trusted_proxies in hagane.yaml, or bind to 127.0.0.1",
            )
        return Where(host, config.port if port is None else port)
    files = [(folder / Path(given).expanduser()) for given in (config.tls.certificate, config.tls.key)]
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
    except (OSError, ssl.SSLError) as cause:
        raise ConfigError(
            f"server.tls: certificate and key cannot be used ({type(cause).__name__})", hint="two PEM files that belong together"
        ) from cause
    return Where(host, config.port if port is None else port, *files)


def serve(
    folder: Path, *, host: str | None = None, port: int | None = None, say: Callable[[str], None], ready: Callable[[str], None]
) -> None:
    """Serve the project in `folder` until SIGTERM or SIGINT. `say` talks to whoever started it; `ready` gets the URL
    once requests are taken. Raises: ConfigError, StateError (port taken, another server runs), StorageError."""
    with Project.open(folder) as project:
        chosen = where(project.config.server, project.folder, host=host, port=port)
        with bound(chosen) as door, Running(project):
            app = create_app(project, host=chosen.host)
            url = chosen.url(door.getsockname()[1])
            secret = people.setup_secret(project)
            if secret is not None:
                say("nobody can sign in yet. Make the first administrator (the link works once, for 24 hours):")
                say(f"{(project.config.server.url or url).rstrip('/')}/set-up#{secret}")
            _quiet()
            gc.collect()
            gc.freeze()  # what is loaded now stays: looking through it again and again stops every answer for 0.1 s

            def open_doors() -> None:
                ready(url)
                warm_soon(project)

            server = Server(configured(app, chosen, project.config.server), ready=open_doors)
            log.info("serving", url=url, pid=os.getpid())
            server.run(sockets=[door])
            log.info("ending", pid=os.getpid())
            app.state.site.threads.close()
            if app.state.traces is not None:
                app.state.traces.close()
    _leave()


@contextlib.contextmanager
def bound(chosen: Where) -> Generator[socket.socket, None, None]:
    """A bound socket that does not listen yet. Raises: StateError when the port is taken or the address not ours."""
    family = socket.AF_INET6 if ":" in chosen.host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((chosen.host, chosen.port))
    except (OSError, OverflowError) as cause:
        door.close()
        raise StateError(
            f"{chosen.host}:{chosen.port} cannot be bound to: {getattr(cause, 'strerror', None) or cause}",
            hint="another server may run there; --port 0 takes any free port",
        ) from cause
    with door:
        yield door


def configured(app: Any, chosen: Where, config: ServerConfig) -> uvicorn.Config:
    """uvicorn around `app`: no access log, no Server header, no WebSocket, our own guard of the wire."""
    proxied: Any = app
    if config.trusted_proxies:
        proxied = Proxied(app, trusted=config.trusted_proxies, alone=not chosen.certificate and not is_loopback(chosen.host))
    return uvicorn.Config(
        proxied,
        host=chosen.host,
        port=chosen.port,
        loop="uvloop" if sys.platform != "win32" else "auto",
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=FINISH_S,
        ssl_certfile=chosen.certificate,
        ssl_keyfile=chosen.key,
        ssl_ciphers=CIPHERS,
    )


class Server(uvicorn.Server):
    """Tells when it is ready, and ends with the caller, not with the signal."""

    def __init__(self, config: uvicorn.Config, *, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn's, but the signal is not raised again afterwards: what follows is an orderly end with exit code 0."""
        if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        log.info("signal", number=sig)
        super().handle_exit(sig, frame)


def _quiet() -> None:
    """uvicorn's own log would hold tracebacks with values in them. And more files than the usual 1,024 may be open."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [logging.NullHandler()], False
        logger.setLevel(logging.CRITICAL)
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _leave() -> None:
    """A thread that waits for a model would keep the process; everything durable is closed, so it may go."""
    end = time.monotonic() + STRAGGLERS_S
    own = threading.main_thread()
    while any(not thread.daemon and thread is not own for thread in threading.enumerate()):
        if time.monotonic() > end:
            log.warning("stragglers", n=threading.active_count() - 1)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
        time.sleep(0.02)
