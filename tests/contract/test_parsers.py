"""Every parser passes the shipped contract on a small file of its kind."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_files import ASCII_SENTENCE, ENDINGS, SENTENCE, samples

from hagane.contracts.parser import ParserContract
from hagane.core.registry import load
from hagane.core.types import Aside, Document
from hagane.sources.files import PARSERS, blob_of, read
from hagane.sources.limits import Limits

CONTRACT = {
    "hagane.sources.files:PARSERS": (
        "pdf", "image", "docx", "pptx", "xlsx", "xls", "doc", "ppt", "rtf", "odt", "odp", "ods", "csv", "tsv", "html",
        "xml", "json", "jsonl", "ipynb", "markdown", "text", "eml", "msg", "epub", "zip",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return samples()


@pytest.fixture(scope="module", params=CONTRACT["hagane.sources.files:PARSERS"])
def kind(request):
    return request.param


def _inner(name: str, path: Path) -> Iterator[Document | Aside]:
    yield from read(blob_of(path, path=name))


class TestShippedParsers(ParserContract):
    @pytest.fixture
    def parser(self, kind):
        parser = load(PARSERS, kind, what="parser")
        offered = {"limits": Limits(), "inner": _inner}
        return parser(
            **{name: value for name, value in offered.items() if name in inspect.signature(parser).parameters}
        )

    @pytest.fixture
    def sample(self, kind, made, tmp_path):
        file = tmp_path / "sample"
        file.write_bytes(made[kind])
        return blob_of(file, path=f"見本.{ENDINGS.get(kind, kind)}")

    @pytest.fixture
    def words(self, kind):
        return ASCII_SENTENCE if kind in ("pdf", "image") else SENTENCE
