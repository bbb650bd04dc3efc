"""A running site over a small project: people of every role and clearance, signed in or with a token.

    site.client("reader", "internal").get("/documents")      # a session; changes carry its CSRF token
    site.program("builder", "confidential:hr").post("/v1/chat/completions", json=...)   # an API token
    site.nobody().get("/sign-in")
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from small_company import YAML, Folder, company_in
from sqlalchemy import select

from hagane.core.accounts import ROLES as GIVEN
from hagane.core.accounts import Role
from hagane.core.types import Principal
from hagane.ledger.sessions import Limits
from hagane.ledger.tables import users
from hagane.project import people
from hagane.project.wire import Project
from hagane.server.app import create_app

ROLES: tuple[Role, ...] = ("reader", "annotator", "builder", "officer", "admin")
CLEARANCES = ("public", "internal", "confidential", "confidential:hr", "restricted:*")
PASSWORD = "正しい馬の電池ホチキス42"
URL = "http://localhost"


def made(folder: Path, *, yaml: str = YAML, synced: bool = True) -> Folder:
    """The small company's folder."""
    return company_in(folder, yaml=yaml, synced=synced)


def copied(template: Path, folder: Path) -> Folder:
    """A synced company's folder again, elsewhere."""
    shutil.copytree(template, folder)
    return Folder(folder)


ADMIN = "管理者"


def staffed(folder: Path) -> None:
    """Give the company in `folder` its first administrator."""
    with Project.open(folder) as project:
        secret = people.setup_secret(project)
        assert secret is not None
        people.set_up(project, secret, name=ADMIN, password=PASSWORD)


class Site:
    """One staffed project, one application, its people. Close it when done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = Project.open(folder)
        self.app = create_app(self.project)
        self._clients: dict[str, TestClient] = {}
        self._signed: dict[str, people.SignedIn] = {}

    @property
    def by(self) -> Principal:
        """The first administrator."""
        return self.signed(ADMIN).caller.principal

    def user(self, role: str, clearance: str = "internal", *, name: str | None = None, password: str | None = None) -> str:
        """The name of someone with that role and clearance, made when first asked for. A password takes half a second
        of argon2, twice: only for tests that sign in with it."""
        name = name or f"{role}-{clearance.replace(':', '-').replace('*', 'all')}"
        if name not in {account.name for account in people.users(self.project, by=self.by)}:
            people.create_user(self.project, name, role=role, clearance=clearance, password=password, by=self.by)
        return name

    def signed(self, name: str) -> people.SignedIn:
        """A session of someone, made behind the doors: as `people.sign_in` does, without a password."""
        if name not in self._signed:
            ledger, limits = self.project.ledger, Limits()
            with ledger._db.writing() as connection:
                id = next(row.id for row in connection.execute(select(users.c.id, users.c.name)) if row.name == name)
                _, cookie = ledger.sessions.start(connection, id, how="password", limits=limits, at=ledger.sessions.clock())
            caller = people.session(self.project, cookie)
            assert caller is not None
            self._signed[name] = people.SignedIn(caller, cookie)
        return self._signed[name]

    def fresh(self, **headers: str) -> TestClient:
        """A browser that nobody signed in, with its own cookies."""
        return TestClient(self.app, base_url=URL, headers=headers, follow_redirects=False, raise_server_exceptions=True)

    def nobody(self) -> TestClient:
        return self.fresh()

    def client(self, role: str, clearance: str = "internal", *, name: str | None = None) -> TestClient:
        """Signed in at the page; the same client each time. Its CSRF token goes along with every request."""
        name = self.user(role, clearance, name=name)
        if name not in self._clients:
            signed = self.signed(name)
            client = self.fresh(**{"X-CSRF-Token": signed.caller.csrf})
            client.cookies.set("hagane_session", signed.cookie, domain="localhost.local")
            self._clients[name] = client
        return self._clients[name]

    def token(self, role: str, clearance: str = "internal", *, scopes: tuple[str, ...] | None = None, name: str | None = None) -> str:
        """A new API token's secret; scopes: all of the role unless given."""
        name = self.user(role, clearance, name=name)
        by = self.signed(name).caller.principal
        return people.create_token(self.project, name, name="検査", scopes=scopes or tuple(sorted(GIVEN[role])), by=by)[1]

    def program(self, role: str, clearance: str = "internal", *, scopes: tuple[str, ...] | None = None, name: str | None = None) -> TestClient:
        """A program with an API token."""
        return self.fresh(Authorization=f"Bearer {self.token(role, clearance, scopes=scopes, name=name)}")

    def records(self, act: str | None = None) -> list[dict[str, Any]]:
        """The audit log's records so far."""
        lines = (self.folder / ".hagane" / "audit" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return [record for record in map(json.loads, lines) if act in (None, record["act"])]

    def close(self) -> None:
        self.app.state.site.threads.close()
        self.project.close()


@contextlib.contextmanager
def serving(folder: Path, *more: str, env: dict[str, str] | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`hagane serve --port 0` over `folder` in a process of its own: its URL and the process; ended afterwards."""
    command = [sys.executable, "-c", "from hagane.cli.main import main; main()", "serve", "--port", "0", "--project", str(folder), *more]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on "), line + process.stderr.read()
            yield line.removeprefix("listening on ").strip(), process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
