"""Audit records as events of the Open Cybersecurity Schema Framework, for a SIEM: one JSON object per record.

Every event carries the record's own hash (`metadata.uid`), number and act, so that it can be held against the chain.
Source: schema.ocsf.io, version 1.6.0; which act is which class and activity stands in ocsf.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

_AUTHENTICATION, _ACCOUNT, _GROUP = 3002, 3001, 3006
_INFORMATIONAL, _LOW = 1, 2
_SUCCESS, _FAILURE = 1, 2
_OWN = ("seq", "time", "act", "principal", "prev", "hash")


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(files(__package__).joinpath("ocsf.toml").read_text(encoding="utf-8"))


def class_of(act: str) -> tuple[int, int]:
    """(class uid, activity id) of an act."""
    acts = _table()["acts"]
    found = acts.get(act) or acts.get(act.partition(".")[0]) or acts["*"]
    return found[0], found[1]


def event(record: Mapping[str, Any]) -> dict[str, Any]:
    """`record` as an OCSF event. Fields without a home there stand in `unmapped` under their own names."""
    act, who = record["act"], {"name": record["principal"]}
    kind, activity = class_of(act)
    refused = act in _table()["refused"]["acts"]
    rest = {name: value for name, value in record.items() if name not in _OWN}
    made: dict[str, Any] = {
        "class_uid": kind,
        "category_uid": kind // 1000,
        "activity_id": activity,
        "type_uid": kind * 100 + activity,
        "time": int(datetime.fromisoformat(record["time"]).timestamp() * 1000),
        "severity_id": _LOW if refused else _INFORMATIONAL,
        "status_id": _FAILURE if refused else _SUCCESS,
        "metadata": {
            "version": _table()["version"],
            "product": {"name": "Hagane", "vendor_name": "Hagane", "version": version("hagane")},
            "uid": record["hash"],
            "event_code": act,
            "sequence": record["seq"],
            "original_time": record["time"],
        },
        "actor": {"user": who},
    }
    if kind in (_AUTHENTICATION, _ACCOUNT):
        made["user"] = {"uid": rest.pop("user")} if rest.get("user") else who
        if kind == _AUTHENTICATION:
            made["service"] = {"name": "hagane"}
    elif kind == _GROUP:
        made["group"] = {"name": rest.pop("group", "") or "unnamed"}
        if rest.get("user"):
            made["user"] = {"uid": rest.pop("user")}
    else:
        made["api"] = {"operation": act, "service": {"name": "hagane"}}
        made["src_endpoint"] = {"svc_name": "hagane"}
        if rest.get("document"):
            made["resources"] = [{"uid": rest.pop("document"), "type": "document"}]
    return made | {"unmapped": rest | {"prev": record["prev"]}}
