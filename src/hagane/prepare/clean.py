"""What of a document is worth searching: running heads, page numbers, navigation and boilerplate go.

Nothing is changed and nothing vanishes: each left-out block is named with its reason, and the
document keeps its text, so it can still be opened and cited.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import Field

from hagane.core.config import Config
from hagane.core.text import squeeze
from hagane.core.types import Block, Document

_MAILS = ("message/", "application/vnd.ms-outlook")

Reason = Literal[
    "header", "footer", "page_number", "navigation", "boilerplate", "shortcode", "comment", "meta", "empty"
]


class CleanConfig(Config):
    """What is left out of search. The original always stays."""

    headers: bool = Field(True, description="Leave out running heads: marked by the parser, or repeated over pages")
    footers: bool = Field(True, description="Leave out running feet and page numbers")
    navigation: bool = Field(True, description="Leave out menus, breadcrumbs and link lists around a page")
    meta: bool = Field(True, description="Leave out front matter and file properties (a mail's sender and date stay)")
    boilerplate: bool = Field(True, description="Leave out cookie banners, back-to-top links, template commands")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A block that is not searched. `index` counts `document.blocks` from 0."""

    index: int
    reason: Reason


def clean(document: Document, config: CleanConfig) -> tuple[list[Block], list[Dropped]]:
    """The blocks to search, in order, and the others with their reason."""
    running = _running(document, config)
    kept: list[Block] = []
    dropped: list[Dropped] = []
    for index, block in enumerate(document.blocks):
        reason = running.get(index) or _reason(block, document.media, config)
        if reason is None:
            kept.append(block)
        else:
            dropped.append(Dropped(index, reason))
    if not kept and any(drop.reason in ("header", "footer") for drop in dropped):
        # A page of nothing but heads (a slide printed to PDF): they are the text.
        spared = [drop for drop in dropped if drop.reason in ("header", "footer")]
        return [document.blocks[drop.index] for drop in spared], [drop for drop in dropped if drop not in spared]
    return kept, dropped


def _reason(block: Block, media: str, config: CleanConfig) -> Reason | None:
    if not _HAS_WORD.search(block.text) and (block.reading is None or not _HAS_WORD.search(block.reading)):
        return "empty"
    if block.kind == "header" and config.headers:
        return "header"
    if block.kind == "footer" and config.footers:
        return "footer"
    if block.kind == "navigation" and config.navigation:
        return "navigation"
    if block.kind == "meta" and config.meta and not media.startswith(_MAILS):
        return "meta"
    return _boilerplate(block, media) if config.boilerplate else None


# --- boilerplate --------------------------------------------------------------------------------

_HAS_WORD = re.compile(r"[^\W_]")
_SHORTCODES = re.compile(r"\s*(?:\{\{[<%].*?[%>]\}\}\s*)+", re.DOTALL)
_ARGUMENT = re.compile(r'"[^"]*"')
_COMMENT = re.compile(r"\s*(?:<!--.*?-->\s*)+", re.DOTALL)


def _boilerplate(block: Block, media: str) -> Reason | None:
    text = block.text
    if "{{" in text and _SHORTCODES.fullmatch(text) and not _says_something(text):
        return "shortcode"
    if "<!--" in text and _COMMENT.fullmatch(text):
        return "comment"
    if len(text) > (300 if media == "text/html" else 40) or block.kind in ("row", "table", "code", "meta"):
        return None
    key = squeeze(unicodedata.normalize("NFKC", text)).lower().strip("▲△↑▴^<>«»‹›→←[]()|・*")
    phrases, banner_words, banner_acts = _lists()
    if key in phrases:
        return "boilerplate"
    # Only web pages have banners; a cookie policy in another format is content.
    is_banner = media == "text/html" and any(w in key for w in banner_words) and any(a in key for a in banner_acts)
    return "boilerplate" if is_banner else None


def _says_something(shortcodes: str) -> bool:
    """True when an argument holds words for people (a title, a name), not only ids and addresses."""
    return any(" " in a or not a.isascii() for a in _ARGUMENT.findall(shortcodes))


@cache
def _lists() -> tuple[frozenset[str], tuple[str, ...], tuple[str, ...]]:
    table = tomllib.loads(files("hagane.prepare").joinpath("boilerplate.toml").read_text(encoding="utf-8"))
    return frozenset(table["phrases"]), tuple(table["banner"]["words"]), tuple(table["banner"]["acts"])


# --- running heads and feet ---------------------------------------------------------------------

_N_EDGE = 2  # a running head or foot is among the first or last two blocks of its page
_N_RUNNING_CHARS = 80
_PRINTED = ("application/pdf", "image/")
_PAGE_NUMBER = re.compile(
    r"[-–—―‐~・|(\[<\s]*(?:p\.?|page|pg\.?|ページ|頁)?\s*(\d{1,4})\s*(?:(?:/|of|中)\s*\d{1,4})?\s*(?:ページ|頁|page)?[-–—―‐~・|)\]>\s]*",
    re.IGNORECASE,
)
_FOLIO = re.compile(
    r"(?:p\.?|page|頁)\s*(\d{1,4})|(\d{1,4})\s*/\s*\d{1,4}\b|(\d{1,4})\s*(?:ページ|頁)|[-–—]\s*(\d{1,4})\s*[-–—]|\s(\d{1,4})\s*$|^\s*(\d{1,4})\s",
    re.IGNORECASE,
)


def _running(document: Document, config: CleanConfig) -> dict[int, Reason]:
    """Index -> reason of blocks that repeat at the edges of pages. The first of equal ones stays,
    unless it is only a page number. Slides and worksheets repeat titles that mean something: only
    printed pages are looked at."""
    if document.pages < 2 or not document.media.startswith(_PRINTED) or not (config.headers or config.footers):
        return {}
    edges = _edges(document.blocks)
    found: dict[int, Reason] = {}
    if config.footers:
        found.update(dict.fromkeys(_page_numbers(document.blocks, [*edges["header"], *edges["footer"]]), "page_number"))
    for side, wanted in (("header", config.headers), ("footer", config.footers)):
        if wanted:
            repeated = _repeated(document, [i for i in edges[side] if i not in found])
            found.update((index, side) for index in repeated if index not in found)
    return found


def _edges(blocks: Sequence[Block]) -> dict[Literal["header", "footer"], list[int]]:
    """Indexes of the first and last blocks of each page; rows and tables never run."""
    pages: dict[int, list[int]] = defaultdict(list)
    for index, block in enumerate(blocks):
        if block.place.page is not None:
            pages[block.place.page].append(index)
    usable = {
        i
        for i, b in enumerate(blocks)
        if b.kind not in ("row", "table", "meta", "code") and len(b.text) <= _N_RUNNING_CHARS
    }
    return {
        "header": [i for page in pages.values() for i in page[:_N_EDGE] if i in usable],
        "footer": [i for page in pages.values() for i in page[-_N_EDGE:] if i in usable],
    }


def _page_numbers(blocks: Sequence[Block], indexes: Iterable[int]) -> set[int]:
    """Blocks that are only a number which counts with the pages."""
    by_offset: dict[int, set[int]] = defaultdict(set)
    for index in set(indexes):
        block = blocks[index]
        match = _PAGE_NUMBER.fullmatch(unicodedata.normalize("NFKC", block.text))
        if match:
            by_offset[int(match[1]) - (block.place.page or 0)].add(index)
    return {i for offset, group in by_offset.items() if offset == 0 or len(group) > 1 for i in group}


def _repeated(document: Document, indexes: Iterable[int]) -> set[int]:
    """Blocks whose text stands at the same edge of at least 3 pages and of half of them."""
    least = max(3, (document.pages + 1) // 2)
    groups: dict[str, list[int]] = defaultdict(list)
    for index in indexes:
        groups[_running_key(document.blocks[index])].append(index)
    found: set[int] = set()
    for group in groups.values():
        if len({document.blocks[i].place.page for i in group}) >= least:
            found.update(sorted(group)[1:])
    return found


def _running_key(block: Block) -> str:
    """The text without the page's own number where it stands as one ("就業規則 12/40"; not 第12条)."""
    text = unicodedata.normalize("NFKC", block.text)
    if block.kind not in ("heading", "title"):
        page = str(block.place.page)
        text = _FOLIO.sub(lambda match: "#" if page in match.groups() else match[0], text)
    return squeeze(text).lower()
