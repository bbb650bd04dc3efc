"""Who acts, and what they may read. Until there are accounts, names of hagane.yaml."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.errors import NotFoundError, RefusedError, nearest
from ..core.labels import Ceiling, Clearance, Label
from ..core.types import Principal

OWNER = "owner"


class Access:
    """Principals by name."""

    def __init__(self, principals: Mapping[str, Principal]) -> None:
        self._principals = dict(principals)

    @classmethod
    def of(cls, clearances: Mapping[str, str]) -> Access:
        """From {name: clearance as written}. Raises: LabelError."""
        return cls({name: Principal(name, Clearance.parse(text)) for name, text in clearances.items()})

    def principal(self, name: str | None = None) -> Principal:
        """The principal called `name`; without one, `owner`. Raises: NotFoundError."""
        wanted = name or OWNER
        found = self._principals.get(wanted)
        if found is None:
            close = nearest(wanted, self._principals)
            known = ", ".join(sorted(self._principals))
            there = f"hagane.yaml has: {known}" if known else "hagane.yaml has no principals; hagane user list shows the users"
            raise NotFoundError(f"no principal {wanted!r}", hint=f"did you mean {close!r}?" if close else there)
        return found

    def names(self) -> list[str]:
        return sorted(self._principals)


def can_read(label: Label, principal: Principal) -> bool:
    """True when `principal` may see what carries `label`."""
    return label.flows_to(principal.clearance)


def require(label: Label, principal: Principal, *, what: str) -> None:
    """Raises: RefusedError when `principal` may not see `what`. Only for things whose existence is no secret."""
    if not can_read(label, principal):
        raise RefusedError(f"{principal.name} may not read {what}", hint=explain(label, principal.clearance))


def explain(label: Label, limit: Clearance | Ceiling) -> str:
    """Why `label` flows to `limit` or not, in one sentence (for officers: it names the label)."""
    if label.flows_to(limit):
        return f"{label} flows to {limit}"
    reasons = []
    if label.level > limit.level:
        reasons.append(f"level {label.level.word} is above {limit.level.word}")
    missing = sorted(label.compartments - limit.compartments) if not limit.all_compartments else []
    if missing:
        reasons.append(f"compartment {', '.join(missing)} is not granted")
    return f"{label} does not flow to {limit}: {'; '.join(reasons)}"
