"""Why someone may see a thing, or may not: one sentence for officers, because it names labels and groups."""

from __future__ import annotations

import re

from hagane.core.accounts import Account
from hagane.core.errors import LabelError, NotFoundError
from hagane.core.labels import Clearance, Label
from hagane.core.types import Principal

from .entry import principal_names
from .wire import Project

_CONVERSATION = re.compile(r"c_[0-9a-f]{8,40}")


def explain(project: Project, user: str, thing: str, *, by: Principal) -> str:
    """Why `user` (a user or a principal of hagane.yaml) may see `thing`, or not: a document (id, path or path ending), a
    conversation's id, or a label. Raises: RefusedError without `govern`; NotFoundError for a thing that is not there or
    that `by` may not see themselves."""
    ledger = project.ledger
    actor = ledger.accounts.actor(by)
    actor.needs("govern")
    what, label, owner = _thing(project, thing, actor.clearance)
    id = None
    try:
        account = ledger.accounts.find(user)
    except NotFoundError:
        if user not in project.config.principals:
            raise
        principal = project.principal(user)
        said = _sentence(user, what, label, principal.clearance, f"{user}'s clearance in hagane.yaml is {principal.clearance}")
    else:
        id = account.id
        said = _of_account(account, what, label, owner)
        if account.name in principal_names(project):
            said = f"{account.name} cannot sign in, because a principal of hagane.yaml has that name; otherwise: {said}"
    ledger.audit.record("access.explain", principal=by.name, user=id, label=str(label))
    return said


def _thing(project: Project, thing: str, limit: Clearance) -> tuple[str, Label, str | None]:
    """What it is, its label and, for a conversation, the id of its user."""
    if _CONVERSATION.fullmatch(thing):
        found = project.ledger.accounts.conversation(thing)
        if found is not None and found[1].flows_to(limit):
            return f"conversation {thing} ({found[1]})", found[1], found[0]
        raise NotFoundError(f"no conversation {thing!r}")
    try:
        label = Label.parse(thing)
        return f"what is labelled {label}", label, None
    except LabelError:
        pass
    record = project.ledger.documents.find(thing, clearance=limit)
    return f"document {record.path} ({record.label})", record.label, None


def _of_account(account: Account, what: str, label: Label, owner: str | None) -> str:
    if account.state != "active":
        return f"{account.name} cannot see {what}: the account is disabled"
    if owner is not None and owner != account.id:
        return f"{account.name} cannot see {what}: a conversation is seen by nobody but the one who had it"
    return _sentence(account.name, what, label, account.principal.clearance, _grounds(account))


def _grounds(account: Account) -> str:
    """Where the effective clearance comes from."""
    if not account.groups:
        return f"the clearance is {account.own}, and no group adds to it"
    named = "group" if len(account.groups) == 1 else "groups"
    return (
        f"the own clearance is {account.own}, and with the {named} {', '.join(account.groups)} it is {account.principal.clearance}"
    )


def _sentence(name: str, what: str, label: Label, clearance: Clearance, grounds: str) -> str:
    if label.flows_to(clearance):
        return f"{name} can see {what}: {grounds}"
    missing = []
    if label.level > clearance.level:
        missing.append(f"the level {label.level.word} is above {clearance.level.word}")
    if not clearance.all_compartments and (lacking := sorted(label.compartments - clearance.compartments)):
        missing.append(f"the compartment{'s' if len(lacking) > 1 else ''} {', '.join(lacking)} {'are' if len(lacking) > 1 else 'is'} missing")
    return f"{name} cannot see {what}: {' and '.join(missing)}; {grounds}"
