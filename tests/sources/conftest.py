"""Bytes in, documents out: how every test of this room asks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hagane.core.types import Aside, Document
from hagane.sources.files import blob_of, read
from hagane.sources.limits import Limits


@pytest.fixture
def everything(tmp_path) -> Callable[..., list[Document | Aside]]:
    """All that `files.read` makes of some bytes under a name."""

    def ask(name: str, data: bytes, **limits: int) -> list[Document | Aside]:
        file = tmp_path / "blob"
        file.write_bytes(data)
        return list(read(blob_of(file, path=name), limits=Limits(**limits)))

    return ask


@pytest.fixture
def one(everything) -> Callable[..., Document]:
    """The single document that some bytes make."""

    def ask(name: str, data: bytes, **limits: int) -> Document:
        found = everything(name, data, **limits)
        assert len(found) == 1, found
        assert isinstance(found[0], Document), found[0]
        return found[0]

    return ask
