"""Principals, and one writer at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from hagane.core.errors import LabelError, NotFoundError, RefusedError, StateError
from hagane.core.labels import Clearance
from hagane.ledger.access import Access, can_read, explain, require

from .conftest import STAFF, label

ACCESS = Access.of({"owner": "restricted:*", "staff": "internal", "人事": "秘:hr"})


def test_without_a_name_it_is_the_owner():
    assert ACCESS.principal().name == "owner"
    assert ACCESS.principal("人事").clearance == Clearance.parse("confidential:hr")
    assert ACCESS.names() == ["owner", "staff", "人事"]


def test_an_unknown_name_is_told_what_is_near():
    with pytest.raises(NotFoundError, match="no principal 'staf'") as caught:
        ACCESS.principal("staf")
    assert caught.value.hint == "did you mean 'staff'?"


def test_where_there_are_no_principals_the_hint_says_so():
    with pytest.raises(NotFoundError) as caught:
        Access({}).principal("田中")
    assert caught.value.hint == "hagane.yaml has no principals; hagane user list shows the users"


def test_a_clearance_that_is_none_is_refused():
    with pytest.raises(LabelError):
        Access.of({"x": "大秘密"})


@pytest.mark.parametrize(("its", "limit", "why"), [
    ("internal", "internal", "flows to"),
    ("confidential", "internal", "level confidential is above internal"),
    ("internal:hr", "internal", "compartment hr is not granted"),
    ("restricted:board+hr", "confidential:hr", "above confidential; compartment board"),
    ("restricted:board+hr", "restricted:*", "flows to"),
])  # fmt: skip
def test_it_says_why(its, limit, why):
    assert why in explain(label(its), Clearance.parse(limit))


def test_reading_needs_the_label_to_flow_to_the_clearance():
    assert can_read(label("internal"), STAFF)
    assert not can_read(label("internal:hr"), STAFF)
    require(label("public"), STAFF, what="the report")
    with pytest.raises(RefusedError, match="staff may not read the report"):
        require(label("秘"), STAFF, what="the report")


_HOLDER = """
import sys, time
from pathlib import Path
from hagane.ledger.lock import Writer
with Writer(Path(sys.argv[1])).alone():
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_writer_is_told_who_writes_and_a_killed_one_is_forgotten(ledger):
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(ledger.state / "lock")], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match=f"another sync is running \\(pid {holder.pid}\\)"), ledger.only_writer():
            pass
    finally:
        holder.kill()
        holder.wait()
    with ledger.only_writer():
        held = json.loads((ledger.state / "lock").read_text())
        assert (held["pid"], held["command"], held["socket"]) == (os.getpid(), "sync", None)


def test_the_lock_holds_between_threads_of_one_process_too(ledger):
    refused = []

    def second():
        try:
            with ledger.only_writer():
                pass
        except StateError as error:
            refused.append(error)

    with ledger.only_writer():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(refused) == 1
