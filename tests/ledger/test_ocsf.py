"""Audit records as OCSF events, held against the framework's own schema."""

from __future__ import annotations

from functools import cache

import jsonschema
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from hagane.ledger.audit import AuditLog, records
from hagane.ledger.ocsf import _table, class_of, event

FIELDS = {"user": "u_1a2b", "group": "人事部", "document": "d_12", "chunks": "v1:0 v1:1", "label": "confidential:hr"}
NAMES = {3001: "account_change", 3002: "authentication", 3006: "group_management", 6003: "api_activity"}
ACTS = sorted({*_table()["acts"], "label.approve", "whatever.new", "refused"} - {"*"})


@cache
def _schema(name: str) -> dict:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema(version=_table()["version"])).get_class_schema(name, profiles=[])


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("fields", [{}, FIELDS])
def test_every_act_becomes_a_valid_event_of_its_class(act, fields, tmp_path):
    AuditLog(tmp_path / "audit").record(act, principal="山田", **fields)
    [record] = records(tmp_path / "audit")
    made = event(record)
    jsonschema.validate(made, _schema(NAMES[class_of(act)[0]]))
    assert made["type_uid"] == made["class_uid"] * 100 + made["activity_id"]
    assert made["metadata"]["uid"] == record["hash"]
    assert made["actor"]["user"]["name"] == "山田"


def test_the_oracle_refuses_what_is_no_event():
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"class_uid": 6003}, _schema("api_activity"))


def test_nothing_of_a_record_is_lost(tmp_path):
    AuditLog(tmp_path / "audit").record("ask", principal="山田", **FIELDS)
    [record] = records(tmp_path / "audit")
    told = str(event(record))
    assert all(str(value) in told for value in FIELDS.values())
    assert record["prev"] in told


@pytest.mark.parametrize("act", ["session.refused", "refused"])
def test_a_refusal_is_a_failure(act, tmp_path):
    AuditLog(tmp_path / "audit").record(act, principal="unknown")
    [record] = records(tmp_path / "audit")
    assert event(record)["status_id"] == 2
