"""An answer as HTML: text with its marks as links; what a model wrote as Markdown, made harmless.

Nothing of a document or a model becomes markup: HTML is escaped, pictures are not loaded, and a link is its text with
its address behind it, not to be clicked. Marks are put in by their recorded places, so a "[1]" in a document is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup, escape

_OPEN, _CLOSE = "\ue000", "\ue001"  # private-use signs around a mark's number; in the text itself they are replaced
_MARK = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_QUOTED = ("extract", "")  # what these say are the document's own words: plain text


def _bare_links(state: StateCore) -> None:
    """Links become their text and their address, both as text."""
    for block in state.tokens:
        if block.children is None:
            continue
        kept: list[Token] = []
        addresses: list[str] = []
        for token in block.children:
            if token.type == "link_open":
                addresses.append(str(token.attrGet("href") or ""))
            elif token.type == "link_close":
                kept.append(Token("text", "", 0, content=f" ({addresses.pop()})"))
            else:
                kept.append(token)
        block.children = kept


def _markdown() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")
    made.disable(["image", "autolink", "html_block", "html_inline"])
    made.core.ruler.push("bare_links", _bare_links)
    return made


_MARKDOWN = _markdown()


def said(answer: Mapping[str, Any], mark: Callable[[int], str]) -> Markup:
    """The answer's text; `mark(n)` gives the link of a citation, already escaped."""
    text = answer["answer"].replace(_OPEN, "\ufffd").replace(_CLOSE, "\ufffd")
    known = {citation["n"] for citation in answer["citations"]}
    for start, end, n in sorted(answer.get("marks", ()), reverse=True):
        if n in known and text[start:end] == f"[{n}]":
            text = f"{text[:start]}{_OPEN}{n}{_CLOSE}{text[end:]}"
    plain = answer["model"] in _QUOTED or answer["why"] in ("quoted", "stopped")
    html = _paragraphs(text) if plain else _MARKDOWN.render(text)
    return Markup(_MARK.sub(lambda found: str(mark(int(found[1]))), html))


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in text.split("\n") if line.strip())


def source_path(citation: Mapping[str, Any]) -> str:
    """Where a citation opens in the source viewer."""
    place = citation["place"]
    given = {"version": citation["version"]}
    given |= {key: place[key] for key in ("page", "cell", "start", "end") if place.get(key) is not None}
    if place.get("box") and place.get("start") is None:
        given["box"] = ",".join(f"{value:g}" for value in place["box"])
    return f"/sources/{citation['document']}?{urlencode(given)}"


def sure(confidence: float) -> str:
    """Confidence as a word: high, fair or low. Round numbers: below 0.18 there is no answer (answer.threshold)."""
    return "high" if confidence >= 0.65 else "fair" if confidence >= 0.35 else "low"
