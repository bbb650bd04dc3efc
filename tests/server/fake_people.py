"""A stand-in for project/people.py until it stands: in memory, same verbs."""

from __future__ import annotations

import secrets
from types import SimpleNamespace
from typing import Any

from hagane.core.accounts import ROLES, Account, Caller
from hagane.core.labels import Clearance
from hagane.core.types import Principal

_STATE: dict[int, Any] = {}


def _of(project: Any) -> Any:
    return _STATE.setdefault(id(project), SimpleNamespace(users={}, sessions={}, tokens={}))


def setup_secret(project: Any) -> str | None:
    return None if _of(project).users else "geheim"


def create_user(project: Any, name: str, *, role: str, clearance: str, password: str | None = None, by: Any = None) -> Account:
    own = Clearance.parse(clearance)
    account = Account("u_" + name, name, name, role, own, Principal(name, own))
    _of(project).users[name] = (account, password)
    return account


def set_up(project: Any, secret: str, *, name: str, password: str) -> Any:
    create_user(project, name, role="admin", clearance="restricted:*", password=password)
    return sign_in(project, name, password)


def sign_in(project: Any, name: str, password: str, *, code: str | None = None, address: str = "") -> Any:
    account, _ = _of(project).users[name]
    cookie = secrets.token_urlsafe(32)
    caller = Caller(account, ROLES[account.role], csrf=secrets.token_urlsafe(16), session=cookie[:8])
    _of(project).sessions[cookie] = caller
    return SimpleNamespace(caller=caller, cookie=cookie)


def session(project: Any, cookie: str) -> Caller | None:
    return _of(project).sessions.get(cookie)


def create_token(project: Any, user: str, *, name: str, scopes: Any, days: Any = None, by: Any = None) -> tuple[str, str]:
    secret = "hgn_" + secrets.token_urlsafe(32)
    account, _ = _of(project).users[user]
    _of(project).tokens[secret] = Caller(account, ROLES[account.role] & frozenset(scopes), token="t_1")
    return "t_1", secret


def bearer(project: Any, secret: str) -> Caller | None:
    return _of(project).tokens.get(secret)
