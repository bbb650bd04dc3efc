"""EPUB: the chapters in the order of the spine.

Source: EPUB 3.3, 4 (container) and 5 (package document).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from urllib.parse import unquote

from ..core.errors import SourceError
from ..core.types import Aside, Blob, Document
from .archive import Package
from .build import Builder, fold
from .detect import MEDIA
from .html import decode_page, page_blocks
from .limits import Budget, Limits
from .xmltree import Element, child, local, parse

_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
# Fonts are scrambled by rule of the standard; that hides no text.
_HARMLESS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_META = {"title": "title", "creator": "author", "date": "date", "language": "lang", "publisher": "publisher"}


class EpubParser:
    """One document; headings mark the chapters."""

    def __init__(self, *, limits: Limits, budget: Budget | None = None) -> None:
        self._limits = limits
        self._budget = budget

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError damaged, encrypted, empty, hostile, too_large."""
        made = Builder()
        with Package(blob.file, limits=self._limits, budget=self._budget) as package:
            _check_rights(package)
            path = _package_path(package)
            tree = parse(package.read(path))
            meta = _meta(child(tree, "metadata"))
            for name in _chapters(tree, path):
                if name not in package:
                    continue
                for block in page_blocks(decode_page(package.read(name))):
                    made.add(block.kind, block.text, level=block.level, reading=block.reading)
        title = meta.pop("title", "")
        yield made.document(blob, media=MEDIA["epub"], limits=self._limits, title=title, meta=meta)


def _check_rights(package: Package) -> None:
    if "META-INF/rights.xml" in package:
        raise SourceError("it is locked by rights management", reason="encrypted")
    if "META-INF/encryption.xml" not in package:
        return
    for element in parse(package.read("META-INF/encryption.xml")).iter():
        if local(element) == "EncryptionMethod" and element.get("Algorithm") not in _HARMLESS:
            raise SourceError("it is locked by rights management", reason="encrypted")


def _package_path(package: Package) -> str:
    if "META-INF/container.xml" in package:
        for element in parse(package.read("META-INF/container.xml")).iter():
            if local(element) == "rootfile" and element.get("full-path") in package:
                return element.get("full-path", "")
    found = next((name for name in package.members if name.endswith(".opf")), None)
    if found is None:
        raise SourceError("it has no package document", reason="damaged")
    return found


def _meta(element: Element | None) -> dict[str, str]:
    meta: dict[str, str] = {}
    for part in element if element is not None else ():
        key = _META.get(local(part))
        if key and (value := fold(part.text or "")):
            meta.setdefault(key, value)
    return meta


def _chapters(tree: Element, path: str) -> Iterator[str]:
    manifest, spine = child(tree, "manifest"), child(tree, "spine")
    items = {item.get("id"): item for item in manifest if local(item) == "item"} if manifest is not None else {}
    for reference in spine if spine is not None else ():
        item = items.get(reference.get("idref"))
        if item is not None and item.get("media-type") in _PAGES:
            href = unquote(item.get("href", "").partition("#")[0])
            yield posixpath.normpath(posixpath.join(posixpath.dirname(path), href))
