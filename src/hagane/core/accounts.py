"""Who may do what: roles, permissions, and an account as the doors see it.

A permission says which acts are open to someone; a clearance says which things. Both are needed: a reader with
a high clearance changes nothing, an admin with a low one sees little.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from .labels import Clearance
from .types import Principal

Permission = Literal["ask", "annotate", "build", "govern", "administer"]
Role = Literal["reader", "annotator", "builder", "officer", "admin"]

PERMISSIONS: tuple[Permission, ...] = get_args(Permission)
ROLES: Mapping[Role, frozenset[Permission]] = {
    "reader": frozenset({"ask"}),  # asks, searches, opens sources, gives feedback
    "annotator": frozenset({"ask", "annotate"}),  # ... and says what the right answer is
    "builder": frozenset({"ask", "annotate", "build"}),  # ... and brings documents in, syncs, asks for labels
    "officer": frozenset({"ask", "annotate", "govern"}),  # ... and reads the audit, approves lower labels
    "admin": frozenset({"ask", "annotate", "build", "administer"}),  # ... and keeps people, settings, keys
}


def permissions_of(words: Collection[str]) -> frozenset[Permission]:
    """What a principal of hagane.yaml may do whose `roles` are `words`: those of the roles among them; else `ask`."""
    return frozenset({"ask"}).union(*(permissions for role, permissions in ROLES.items() if role in words))


@dataclass(frozen=True, slots=True)
class Account:
    """Someone who can sign in. `principal` carries the effective clearance (own joined with the groups')."""

    id: str
    name: str
    display: str
    role: Role
    own: Clearance
    principal: Principal
    groups: tuple[str, ...] = ()
    state: Literal["active", "disabled"] = "active"
    totp: bool = False
    must_change: bool = False
    created_at: str = ""
    seen_at: str | None = None

    @property
    def permissions(self) -> frozenset[Permission]:
        return ROLES[self.role]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, and how: by a session of the page or by an API token. `permissions` are the role's,
    narrowed to the token's scopes (a scope is the name of a permission)."""

    account: Account
    permissions: frozenset[Permission]
    csrf: str | None = None  # sessions only: what a changing request must carry
    session: str | None = None  # its hash
    token: str | None = None  # its id
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def principal(self) -> Principal:
        return self.account.principal
