"""A site over a synced small company, made once per file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from server.site import Site, copied, made, staffed
from small_company import Folder


@pytest.fixture(scope="session")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synced company that is copied for each site: syncing takes seconds, copying milliseconds."""
    return made(tmp_path_factory.mktemp("synced") / "company").path


@pytest.fixture(scope="session")
def template(synced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a first administrator."""
    company = copied(synced, tmp_path_factory.mktemp("template") / "company")
    staffed(company.path)
    return company.path


@pytest.fixture(scope="module")
def site(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For tests that change nothing that others of the file look at."""
    opened = Site(copied(template, tmp_path_factory.mktemp("site") / "company").path)
    yield opened
    opened.close()


@pytest.fixture
def own_site(template: Path, tmp_path: Path) -> Iterator[Site]:
    """For one test alone."""
    opened = Site(copied(template, tmp_path / "company").path)
    yield opened
    opened.close()


@pytest.fixture
def folder(synced: Path, tmp_path: Path) -> Folder:
    """A synced company without users and without a server."""
    return copied(synced, tmp_path / "company")
