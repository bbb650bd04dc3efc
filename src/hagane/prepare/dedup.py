"""Copies of a document: exact ones by hash, near ones by MinHash; each points straight to the one kept.

A copy is merged only into a document whose label flows to its own (whoever may see the copy may see the
kept one). A near copy also holds the same headings, numbers, Latin words, bounds and negations: an old and
a new version of a rule, or two forms of one template, differ in one of them, and both must stay.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hagane.core.config import Config
from hagane.core.labels import Label
from hagane.core.text import squeeze
from hagane.core.types import Block, Document

N_PERMUTATIONS = 128
_N_SHINGLE = 5  # characters
_SEED = 20261124


class DedupConfig(Config):
    """Which copies are searched once only."""

    exact: bool = Field(True, description="Merge documents of the same text, white space and character widths aside")
    near: bool = Field(
        True, description="Merge near-duplicates of the same headings, numbers, Latin words and negations"
    )
    threshold: float = Field(
        0.95, gt=0.3, le=1, description="Least share of common 5-character pieces of a near-duplicate, 0 to 1"
    )


@dataclass(frozen=True, slots=True)
class Item:
    """A document as `cluster` sees it. `order` breaks ties between equal labels, usually the path."""

    id: str
    content: str  # content_key of its text
    label: Label
    order: str
    signature: bytes  # signature of its text
    numbers: str  # numbers_key of its text


@dataclass(frozen=True, slots=True)
class Merged:
    """A copy and the document that stands for it."""

    kept: str
    reason: Literal["exact", "near"]
    similarity: float  # estimated share of common pieces, 1.0 for exact copies


def cluster(items: Iterable[Item], config: DedupConfig) -> dict[str, Merged]:
    """Copy's id -> the kept document. Ids that are not in it are kept themselves.

    The result does not depend on the order of `items`: the lowest label comes first, then `order`.
    """
    bands = _bands(config.threshold)
    by_content: dict[str, list[Item]] = defaultdict(list)
    by_band: dict[tuple[int, bytes], list[Item]] = defaultdict(list)
    merged: dict[str, Merged] = {}
    for item in sorted(items, key=_canonical):
        found = _exact(item, by_content) if config.exact else None
        if found is None and config.near:
            found = _near(item, by_band, bands, config.threshold)
        if found is not None:
            merged[item.id] = found
            continue
        by_content[item.content].append(item)
        for key in _band_keys(item.signature, bands):
            by_band[key].append(item)
    return merged


def _canonical(item: Item) -> tuple[int, int, list[str], str, str]:
    """An order in which a label comes before every label that it flows to."""
    names = sorted(item.label.compartments)
    return (item.label.level, len(names), names, item.order, item.id)


def _exact(item: Item, by_content: dict[str, list[Item]]) -> Merged | None:
    if not item.signature:  # nothing but white space
        return None
    twins = (twin for twin in by_content.get(item.content, ()) if twin.label.flows_to(item.label))
    first = next(twins, None)
    return Merged(first.id, "exact", 1.0) if first else None


def _near(item: Item, by_band: dict[tuple[int, bytes], list[Item]], bands: int, threshold: float) -> Merged | None:
    candidates = {twin.id: twin for key in _band_keys(item.signature, bands) for twin in by_band.get(key, ())}
    best: tuple[float, Item] | None = None
    for twin in sorted(candidates.values(), key=_canonical):
        if twin.numbers != item.numbers or not twin.label.flows_to(item.label):
            continue
        likeness = similarity(twin.signature, item.signature)
        if likeness >= threshold and (best is None or likeness > best[0]):
            best = (likeness, twin)
    return Merged(best[1].id, "near", best[0]) if best else None


# --- keys ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Keys:
    """What `cluster` compares of a document."""

    content: str
    signature: bytes
    numbers: str


def keys(document: Document, blocks: Sequence[Block]) -> Keys:
    """The keys of a document by its searched blocks, its declared title and its headings."""
    declared = document.meta.get("title", "")
    text = "\n".join([declared, *(block.spoken for block in blocks)])
    codes = _folded(text)
    names = [declared, *(block.spoken for block in blocks if block.kind in ("title", "heading"))]
    solid = codes[codes != _BLANK]
    return Keys(_hash(solid), _signature(solid), _facts(codes, names))


def content_key(text: str) -> str:
    """Equal for texts that differ only in white space, case and character widths."""
    codes = _folded(text)
    return _hash(codes[codes != _BLANK])


def numbers_key(text: str) -> str:
    """A hash of the numbers, Latin words, bounds and negations of a text, with their counts."""
    return _facts(_folded(text), ())


_BLANK = 0x20
_KANJI_NUMBER = re.compile("[〇一二三四五六七八九十百千万億兆]+")
_LATIN = re.compile(r"[0-9a-z]+(?:[.,:/'][0-9a-z]+)*")


@cache
def _fold_table() -> NDArray[np.uint32]:
    """NFKC and lower case for the characters of the basic plane that stay one character; blanks to one blank."""
    table = np.arange(0x10000, dtype=np.uint32)
    for code in range(0x10000):
        folded = unicodedata.normalize("NFKC", chr(code)).lower()
        if chr(code).isspace() or folded.isspace():
            table[code] = _BLANK
        elif len(folded) == 1:
            table[code] = ord(folded)
    return table


def _folded(text: str) -> NDArray[np.uint32]:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return np.where(codes < 0x10000, _fold_table()[np.minimum(codes, 0xFFFF)], codes).astype(np.uint32)


def _hash(codes: NDArray[np.uint32]) -> str:
    return hashlib.sha256(codes.astype("<u4").tobytes()).hexdigest()


@cache
def _bounds() -> tuple[str, ...]:
    table = files("hagane.prepare").joinpath("bounds.txt").read_text(encoding="utf-8")
    return tuple(line for line in table.splitlines() if line and not line.startswith("#"))


def _facts(codes: NDArray[np.uint32], names: Sequence[str]) -> str:
    text = codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    found = Counter(_LATIN.findall(text))
    found.update(_KANJI_NUMBER.findall(text))
    found.update({word: n for word in _bounds() if (n := text.count(word))})
    found.update(f"#{squeeze(name)}" for name in names)
    listed = "\n".join(f"{fact}\t{n}" for fact, n in sorted(found.items()))
    return hashlib.sha256(listed.encode("utf-8", "surrogatepass")).hexdigest()


# --- MinHash ------------------------------------------------------------------------------------


@cache
def _permutations() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    random = np.random.default_rng(_SEED)
    factors = random.integers(0, 2**32, (N_PERMUTATIONS, 1), dtype=np.uint32) | np.uint32(1)
    return factors, random.integers(0, 2**32, (N_PERMUTATIONS, 1), dtype=np.uint32)


def signature(text: str) -> bytes:
    """128 least hashes (uint32, little-endian) of the text's 5-character pieces; b"" for no text.

    Source: Broder, On the resemblance and containment of documents, 1997.
    """
    codes = _folded(text)
    return _signature(codes[codes != _BLANK])


def _signature(codes: NDArray[np.uint32]) -> bytes:
    if not len(codes):
        return b""
    pieces = _shingles(codes)
    factors, shifts = _permutations()
    least = np.full(N_PERMUTATIONS, 0xFFFFFFFF, dtype=np.uint32)
    for start in range(0, len(pieces), 1024):  # 128 x 1024 x 4 bytes stay in the cache
        hashed = pieces[None, start : start + 1024] * factors
        hashed += shifts
        np.minimum(least, hashed.min(axis=1), out=least)
    return least.astype("<u4").tobytes()


def _shingles(codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A mixed hash of every run of 5 characters; of a shorter text, of the whole."""
    codes = codes.astype(np.uint64)
    width = min(_N_SHINGLE, len(codes))
    n = len(codes) - width + 1
    hashed = np.zeros(n, dtype=np.uint64)
    for offset in range(width):
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + codes[offset : offset + n]
    # The finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
    hashed = (hashed ^ (hashed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashed = (hashed ^ (hashed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (hashed >> np.uint64(32)).astype(np.uint32)


def similarity(one: bytes, other: bytes) -> float:
    """Estimated share of common pieces of two signatures, 0 to 1; standard error about 0.02 at 0.95."""
    if not one or not other:
        return 0.0
    return float(np.mean(np.frombuffer(one, "<u4") == np.frombuffer(other, "<u4")))


def _bands(threshold: float) -> int:
    """The fewest bands that still miss at most one pair in a thousand at the threshold."""
    for bands in (4, 8, 16, 32, 64):
        if (1 - threshold ** (N_PERMUTATIONS // bands)) ** bands <= 1e-3:
            return bands
    return N_PERMUTATIONS


def _band_keys(minima: bytes, bands: int) -> Iterator[tuple[int, bytes]]:
    width = 4 * N_PERMUTATIONS // bands
    for start in range(0, len(minima), width):
        yield start, minima[start : start + width]
