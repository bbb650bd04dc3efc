"""What every Parser must do. Subclass and give the fixtures `parser`, `sample` (a Blob it reads) and `words`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from ..core.errors import SourceError
from ..core.seams import Parser
from ..core.text import squeeze
from ..core.types import Aside, Blob, BlockKind, Document

REASONS = frozenset(
    [
        "damaged",
        "encrypted",
        "too_large",
        "empty",
        "unsupported",
        "hostile",
        "timeout",
        "memory",
        "crashed",
        "unreadable",
        "needs_ocr",
    ]
)


def check_document(document: Document) -> None:
    """What must hold of any document, whoever parsed it."""
    assert document.title.strip()
    assert document.media.count("/") == 1
    assert document.blocks
    assert document.pages >= 1
    assert all(isinstance(value, str) for pair in document.meta.items() for value in pair)
    reached = 0
    for block in document.blocks:
        place = block.place
        assert place.start is not None
        assert place.end is not None
        assert block.text == document.text[place.start : place.end]
        assert block.text == block.text.strip() != ""
        assert place.start >= reached, "blocks stand in the order of the text and do not overlap"
        reached = place.end
        assert block.kind in get_args(BlockKind)
        assert 0 <= block.level <= 9
        assert place.page is None or 1 <= place.page <= document.pages
        assert (place.cell is None) or "!" in place.cell


class ParserContract:
    @pytest.fixture
    def parser(self) -> Parser:
        raise NotImplementedError("give the parser under test")

    @pytest.fixture
    def sample(self) -> Blob:
        raise NotImplementedError("give a file that it reads")

    @pytest.fixture
    def words(self) -> str:
        raise NotImplementedError("give words that stand in the sample")

    def test_it_finds_the_words(self, parser: Parser, sample: Blob, words: str) -> None:
        found = [item for item in parser.read(sample) if isinstance(item, Document)]
        assert any(squeeze(words) in squeeze(document.text) for document in found)
        assert any(squeeze(words) in squeeze(block.spoken) for document in found for block in document.blocks)

    def test_blocks_are_slices_of_the_text(self, parser: Parser, sample: Blob) -> None:
        for item in parser.read(sample):
            assert isinstance(item, Document | Aside)
            if isinstance(item, Document):
                check_document(item)
            else:
                assert item.reason in REASONS

    def test_reading_again_gives_the_same(self, parser: Parser, sample: Blob) -> None:
        assert list(parser.read(sample)) == list(parser.read(sample))

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
    def test_a_truncated_file_is_read_in_part_or_refused_with_a_reason(
        self, parser: Parser, sample: Blob, tmp_path: Path, share: float
    ) -> None:
        data = Path(sample.file).read_bytes()
        self._survives(parser, sample, tmp_path, data[: int(len(data) * share)])

    def test_garbage_is_refused_with_a_reason(self, parser: Parser, sample: Blob, tmp_path: Path) -> None:
        self._survives(parser, sample, tmp_path, bytes((n * n + 7 * n) % 251 for n in range(5_000)))

    def test_nothing_is_refused_as_such(self, parser: Parser, sample: Blob, tmp_path: Path) -> None:
        self._survives(parser, sample, tmp_path, b"")

    def _survives(self, parser: Parser, sample: Blob, tmp_path: Path, data: bytes) -> None:
        file = tmp_path / "part"
        file.write_bytes(data)
        for item in _read_or_refused(parser, replace(sample, file=str(file), size=len(data))):
            if isinstance(item, Document):
                check_document(item)


def _read_or_refused(parser: Parser, blob: Blob) -> list[Document | Aside]:
    try:
        return list(parser.read(blob))
    except SourceError as problem:
        refused = Aside("", problem.reason)
    assert refused.reason in REASONS
    return [refused]
