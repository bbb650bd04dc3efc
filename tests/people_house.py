"""A project with people in it, and a clock that the test turns."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pyotp
import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from hagane.core.errors import SecondFactorNeeded, SignInError
from hagane.core.types import Principal
from hagane.ledger import db, passwords
from hagane.ledger.sessions import utc
from hagane.project import people
from hagane.project.wire import Project

SECRET = "春はあけぼの やうやう白く"
OTHER = "夏は夜 月のころはさらなり"
OIDC = """
server:
  oidc:
    issuer: http://127.0.0.1:9
    client_id: hagane
    groups:
      社員: {role: reader, clearance: internal}
      人事: {role: builder, clearance: "confidential:hr"}
      監査: {role: officer, clearance: "restricted:*"}
      情シス: {role: admin, clearance: internal}
"""


class House:
    """A project, its owner, and a clock that the test turns."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.owner = project.principal()
        self.ahead = timedelta()
        project.ledger.sessions.clock = lambda: utc() + self.ahead

    @property
    def now(self) -> datetime:
        return self.project.ledger.sessions.clock()

    def user(self, name: str, role: str = "reader", clearance: str = "internal", password: str | None = SECRET) -> Any:
        return people.create_user(self.project, name, role=role, clearance=clearance, password=password, by=self.owner)

    def enter(self, name: str, password: str = SECRET, **more: Any) -> people.SignedIn:
        return people.sign_in(self.project, name, password, **more)

    def refused(self, name: str, password: str = SECRET, **more: Any) -> str:
        """Sign in in vain; the reason that was recorded."""
        with pytest.raises(SignInError) as error:
            self.enter(name, password, **more)
        assert not isinstance(error.value, SecondFactorNeeded)
        return str(self.records()[-1]["reason"])

    def by(self, name: str) -> Principal:
        return self.project.principal(name)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.project.state / "audit" / "log.jsonl").read_text().splitlines()]

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row about people."""
        tables = (db.users, db.user_groups, db.members, db.tokens, db.sessions, db.links)
        with self.project.ledger.accounts._db.reading() as connection:
            return {t.name: [tuple(row) for row in connection.execute(select(t))] for t in tables}

    def enrol(self, signed: people.SignedIn) -> pyotp.TOTP:
        """Switch the second factor on; time goes on, because the code that confirmed is used up."""
        app = pyotp.parse_uri(people.enrol_totp(self.project, signed.caller))
        people.confirm_totp(self.project, signed.caller, app.at(self.now))
        self.ahead += timedelta(seconds=60)
        return app

    def arrive(self, groups: list[str], **other: str) -> people.SignedIn:
        """Come in by the identity provider of OIDC."""
        given = {"issuer": "http://127.0.0.1:9", "subject": "s-1", "name": "sato", "display": "佐藤"} | other
        return people.sign_in_oidc(self.project, groups=groups, **given)


def cheap_argon2(monkeypatch: pytest.MonkeyPatch) -> None:
    """What argon2 costs is tested in the ledger."""
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    nobodys = hasher.hash("nobody")
    monkeypatch.setattr(passwords, "_hasher", lambda: hasher)
    monkeypatch.setattr(passwords, "_nobodys", lambda: nobodys)
