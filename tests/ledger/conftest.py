"""A ledger in a temporary folder, and short ways to fill it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hagane.core.labels import Clearance, Label
from hagane.core.types import Principal
from hagane.ledger.keys import Keys
from hagane.ledger.ledger import Ledger
from hagane.ledger.records import Draft, version_id


def label(text: str) -> Label:
    return Label.parse(text)


def principal(name: str, clearance: str) -> Principal:
    return Principal(name, Clearance.parse(clearance))


OWNER = principal("owner", "restricted:*")
SECOND = principal("部長", "restricted:*")
STAFF = principal("staff", "internal")


class Filler:
    """Writes documents as ingestion would."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def draft(
        self, path: str, text: str = "本文", *, source: str = "rules", label: str = "internal", **more: Any
    ) -> Draft:
        known = self.ledger.documents.every_by_path(source).get(path)
        id = known.id if known else self.ledger.documents.new_ids(source, [path])[path]
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        given = {
            "id": id,
            "source": source,
            "path": path,
            "source_label": Label.parse(label),
            "title": path.rpartition("/")[2],
            "sha256": sha256,
            "version": version_id(id, sha256, "f1"),
        }
        return Draft(**given | more)

    def put(self, path: str, text: str = "本文", *, keep: int = 3, **more: Any) -> str:
        """Store bytes, parsed bytes and the row; the document's id."""
        draft = self.draft(path, text, **more)
        self.ledger.blobs.put(text.encode())
        if draft.version:
            self.ledger.parsed.put(draft.version, text.encode())
        self.ledger.documents.put([draft], keep=keep)
        return draft.id


@pytest.fixture(params=["plain", "encrypted"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    keys = Keys.create(tmp_path / ".hagane/keys", os.urandom(32)) if request.param == "encrypted" else None
    with Ledger.open(tmp_path, keys=keys) as opened:
        yield opened


@pytest.fixture
def fill(ledger: Ledger) -> Filler:
    return Filler(ledger)
