"""Blocks to chunks: structure first, then Japanese sentence ends, within a budget.

A chunk is a run of consecutive blocks of one section. Its `headings` are the section's heading path;
headings below that path (small sections that share a chunk) stand among its blocks. Every kept block
is in some chunk, whole or in pieces, or is a heading on some chunk's path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from pydantic import Field, model_validator

from hagane.core.config import Config
from hagane.core.text import one_line, sentences, squeeze
from hagane.core.types import Block, Document

from .cut import cut_spans, narrow

CountTokens = Callable[[str], int]
_N_HEADING_CHARS = 120  # a longer "heading" is a paragraph that a layout made look like one


class ChunkConfig(Config):
    """How large a chunk is. Sizes are in Japanese characters; a Latin one counts half."""

    target: int = Field(
        450, ge=50, description="Size that a chunk is filled up to, in characters (a Latin one counts half)"
    )
    max: int = Field(700, ge=80, description="Size that no chunk exceeds, but for a table row that does not fit")
    min: int = Field(
        150, ge=0, description="Sections below this size share a chunk with their neighbours, in characters"
    )
    overlap_sentences: int = Field(
        0, ge=0, le=1, description="Sentences repeated from the end of the chunk before, 0 or 1"
    )
    max_tokens: int = Field(
        480, ge=32, description="Tokens that no chunk exceeds, where the embedder's tokenizer is at hand"
    )

    @model_validator(mode="after")
    def _ordered(self) -> ChunkConfig:
        if not self.min <= self.target <= self.max:
            raise ValueError("min, target and max must rise")
        return self


@dataclass(frozen=True, slots=True)
class ChunkDraft:
    """A chunk without its id and label. `ordinal` counts from 0 within the document."""

    ordinal: int
    headings: tuple[str, ...]
    blocks: tuple[Block, ...]


@dataclass(slots=True)
class _Section:
    """A heading and what stands under it, up to the next heading."""

    path: tuple[str, ...]
    heading: Block | None
    units: list[list[Block]] = field(default_factory=list)  # blocks that should stay together


@dataclass(frozen=True, slots=True)
class _Draft:
    """A chunk in the making. `opens` names the headings of its blocks' sections."""

    paths: tuple[tuple[str, ...], ...]
    headings: tuple[Block | None, ...]
    bodies: tuple[tuple[Block, ...], ...]
    size: int


def chunk(
    document: Document, blocks: Sequence[Block], config: ChunkConfig, *, count_tokens: CountTokens | None = None
) -> list[ChunkDraft]:
    """The chunks of `blocks` (those kept for search), in order.

    With `count_tokens`, a text of more than `config.max_tokens` tokens also counts as too large.
    """
    measure = _measure(config, count_tokens)
    drafts: list[_Draft] = []
    for section in _sections(document, blocks):
        drafts.extend(_pack(section, config, measure))
    return [_finish(ordinal, draft) for ordinal, draft in enumerate(_merge(drafts, config, measure))]


def _measure(config: ChunkConfig, count_tokens: CountTokens | None) -> CountTokens:
    """Size of a text in units of the budget."""

    def by_characters(text: str) -> int:
        # UTF-8 takes 1 byte for Latin letters and 3 for Japanese: (1+1)/4 = 1/2, (1+3)/4 = 1.
        return (len(text) + len(text.encode("utf-8", "surrogatepass")) + 3) // 4

    def by_tokens(text: str) -> int:
        size = by_characters(text)
        if 4 * size < config.max_tokens:  # a character is at most about 3 tokens: it fits
            return size
        return max(size, -(-count_tokens(text) * config.max // config.max_tokens))

    return by_tokens if count_tokens else by_characters


# --- sections -----------------------------------------------------------------------------------


def _sections(document: Document, blocks: Sequence[Block]) -> Iterator[_Section]:
    """Split at headings. A title that only repeats the document's title opens no path of its own."""
    stack: list[tuple[int, str]] = []
    section = _Section((), None)
    title = squeeze(document.title)
    for block in blocks:
        name = one_line(block.spoken)
        if block.kind in ("heading", "title") and len(name) <= _N_HEADING_CHARS:
            yield section
            depth = max(1, block.level) if block.kind == "heading" else 0
            stack = [entry for entry in stack if entry[0] < depth]
            if not (block.kind == "title" and squeeze(name) == title):
                stack.append((depth, name))
            section = _Section(tuple(text for _, text in stack), block)
        else:
            _add(section, block)
    yield section


def _add(section: _Section, block: Block) -> None:
    """Append to the section, glued to what it belongs to: list items and their introduction, rows and
    their caption."""
    last = section.units[-1][-1] if section.units else None
    if last is not None and _belongs(last, block):
        section.units[-1].append(block)
    else:
        section.units.append([block])


def _belongs(last: Block, block: Block) -> bool:
    if block.kind == "list_item":
        return last.kind == "list_item" or _introduces(last)
    if block.kind in ("row", "table"):
        return (last.kind == "row" and block.kind == "row") or last.kind == "caption" or _introduces(last)
    return last.kind in ("figure", "table") and block.kind == "caption"


def _introduces(block: Block) -> bool:
    return block.kind == "paragraph" and block.text.rstrip().endswith(
        (":", "：", "、", "とおり", "通り", "通り。", "とおり。", "次の", "以下")
    )


# --- packing ------------------------------------------------------------------------------------


def _pack(section: _Section, config: ChunkConfig, measure: CountTokens) -> Iterator[_Draft]:
    """Fill chunks with the units of one section. A section without body gives one draft of no size."""
    current: list[Block] = []
    size = 0

    def close() -> _Draft:
        return _Draft((section.path,), (section.heading,), (tuple(current),), size)

    for unit in section.units:
        pieces = [(piece, measure(piece.spoken)) for block in unit for piece in _split(block, config, measure)]
        whole = sum(cost for _, cost in pieces)
        for number, (piece, cost) in enumerate(pieces):
            # A unit that fits a chunk is not torn; a larger one fills up what is open.
            rest = whole if number == 0 and whole <= config.max else cost
            within_unit = number > 0 and whole <= config.max
            limit = config.max if within_unit or size < config.min else config.target
            if current and size + rest > limit:
                yield close()
                current, size = _overlap(current, config, measure, room=config.max - rest)
            current.append(piece)
            size += cost
    if current or (not section.units and section.heading is not None):
        yield close()


def _split(block: Block, config: ChunkConfig, measure: CountTokens) -> list[Block]:
    """The block, or its pieces where it is too large. A row stays whole up to three times the budget."""
    size = measure(block.spoken)
    limit = 3 * config.max if block.kind == "row" else config.max
    if size <= limit:
        return [block]
    spans = cut_spans(block, sentences(block.text), target=config.target, most=config.max, measure=measure)
    return [narrow(block, start, end) for start, end in spans]


def _overlap(
    closed: Sequence[Block], config: ChunkConfig, measure: CountTokens, *, room: int
) -> tuple[list[Block], int]:
    """What the next chunk repeats: the last sentence of running text, if there is room for it."""
    last = closed[-1]
    if not config.overlap_sentences or last.kind != "paragraph":
        return [], 0
    spans = sentences(last.text)
    if len(spans) < 2:
        return [], 0
    piece = narrow(last, *spans[-1])
    size = measure(piece.spoken)
    return ([piece], size) if size <= min(room, config.target // 3) else ([], 0)


# --- small sections -----------------------------------------------------------------------------


def _merge(drafts: Sequence[_Draft], config: ChunkConfig, measure: CountTokens) -> list[_Draft]:
    """Join neighbours of which one is small, if they are siblings or parent and child."""
    merged: list[_Draft] = []
    for draft in _without_bare_headings(drafts):
        joined = _join(merged[-1], draft, config, measure) if merged else None
        if joined is None:
            merged.append(draft)
        else:
            merged[-1] = joined
    return merged


def _without_bare_headings(drafts: Sequence[_Draft]) -> Iterator[_Draft]:
    """Leave out headings without text of their own that the next chunk names in its path."""
    for draft, after in zip_longest(drafts, drafts[1:]):
        path, following = draft.paths[0], after.paths[0] if after else None
        # Of the path () only the document's own title is the heading, and every chunk carries that.
        is_named = following is not None and following[: len(path)] == path and (following != path or not path)
        if any(draft.bodies) or not is_named:
            yield draft


def _join(one: _Draft, other: _Draft, config: ChunkConfig, measure: CountTokens) -> _Draft | None:
    if min(one.size, other.size) >= config.min:
        return None
    paths = (*one.paths, *other.paths)
    depth = len(_common(paths))
    if max(len(path) for path in paths) - depth > 1:  # neither siblings nor parent and child
        return None
    headings, bodies = (*one.headings, *other.headings), (*one.bodies, *other.bodies)
    inner = sum(
        measure(h.spoken) for path, h in zip(paths, headings, strict=True) if h is not None and len(path) > depth
    )
    size = one.size + other.size
    if size + inner > config.target:
        return None
    return _Draft(paths, headings, bodies, size)


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The longest path that all `paths` begin with."""
    first = paths[0]
    for depth in range(len(first)):
        if any(path[depth : depth + 1] != first[depth : depth + 1] for path in paths):
            return first[:depth]
    return first


def _finish(ordinal: int, draft: _Draft) -> ChunkDraft:
    """Headings on the common path are named there; the others stand among the blocks."""
    path = _common(draft.paths)
    blocks: list[Block] = []
    seen: Block | None = None
    for own, heading, body in zip(draft.paths, draft.headings, draft.bodies, strict=True):
        if heading is not None and heading is not seen and (len(own) > len(path) or not any(draft.bodies)):
            blocks.append(heading)
        seen = heading
        blocks.extend(body)
    return ChunkDraft(ordinal, path, tuple(blocks))
