"""What in the passages speaks for an answer: sentences and rows, and how much of the question each holds.

Weights are inverse document frequencies within the asker's clearance; words that make a question a
question (question_words_ja.txt) weigh nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

from hagane.core.seams import Analyzer
from hagane.core.text import for_search, sentences
from hagane.core.types import Block, Passage, Statistics
from hagane.index.bm25 import idf
from hagane.prepare.cut import narrow

_NOT_READ = frozenset({"title", "heading", "header", "footer", "navigation", "meta"})
_BULLET = re.compile(
    r"\s*(?:[・\-*+●○■□◆◇▼▶※•]|[0-9０-９]{1,3}[.)．）]|[(（][0-9０-９一二三四五六七八九十]{1,3}[)）]|[①-⑳]|第[0-9０-９一二三四五六七八九十]+[条項])"
)
_N_SHORT_LINE = 16  # characters; a shorter line is a line of its own, not one that was wrapped


@dataclass(frozen=True, slots=True)
class Unit:
    """One sentence, list item or row that may stand in an answer. `start` and `end` count in
    `blocks[block].text` of passage `passage`; `place` is its order within the passage."""

    passage: int
    block: int
    start: int
    end: int
    place: int
    text: str  # as read: without mark-up, rows with their headers
    terms: frozenset[str]
    is_row: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the answerers see it: its own words with their weights (nats), and its type."""

    text: str
    weights: Mapping[str, float]
    kind: str  # a name of answer_types_ja.toml, or ""
    unit: str = ""  # 何年 -> 年, 何県 -> 県; "" when the question asks for none
    rarest: float = 1.0  # the weight of a word that no chunk holds

    @property
    def total(self) -> float:
        return sum(self.weights.values())

    def favouring(self, own: Collection[str]) -> Asked:
        """The same question with all words but `own` at half their weight."""
        return replace(self, weights={t: w if t in own else w / 2 for t, w in self.weights.items()})

    def share(self, terms: Collection[str]) -> float:
        """How much of the question's weight `terms` hold, 0..1."""
        total = self.total
        return sum(w for t, w in self.weights.items() if t in terms) / total if total else 0.0


@lru_cache(maxsize=4)
def _empty_words(analyzer: Analyzer) -> frozenset[str]:
    lines = files("hagane.rag").joinpath("question_words_ja.txt").read_text(encoding="utf-8").splitlines()
    words = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return frozenset(term for word in words if len(terms := analyzer.tokens(word)) == 1 for term in terms)


@lru_cache(maxsize=1)
def _types() -> tuple[tuple[str, re.Pattern[str], re.Pattern[str]], ...]:
    table = tomllib.loads(files("hagane.rag").joinpath("answer_types_ja.toml").read_text(encoding="utf-8"))
    return tuple((row["name"], re.compile(row["asks"]), re.compile(row["holds"])) for row in table["type"])


def kind_of(question: str) -> str:
    """What `question` asks for: a type of answer_types_ja.toml, or "" when it shows none."""
    text = for_search(question)
    return next((name for name, asks, _ in _types() if asks.search(text)), "")


def holds(kind: str, text: str) -> bool:
    """True when `text` has what an answer of this kind needs; kind "": always."""
    key = for_search(text)
    return all(pattern.search(key) for name, _, pattern in _types() if name == kind)


_WHAT = re.compile(r"何\s*([ァ-ヶー一-龠a-z%]{1,6})")
_NO_UNIT = frozenset({"故", "者", "物", "事", "時", "処", "方", "等"})


def unit_of(question: str) -> str:
    """What is counted or named with 何: 何年 -> 年, 何キロ -> キロ; "" for none."""
    found = _WHAT.search(for_search(question))
    return found[1] if found and found[1] not in _NO_UNIT else ""


def holds_unit(unit: str, text: str, question: str) -> bool:
    """True when `text` has a number or name with this unit that is not in the question."""
    asked_key = for_search(question)
    found = re.finditer(r"[0-9一-龠ァ-ヶーa-z.,]{1,12}?\s*" + re.escape(unit), for_search(text))
    return any(match[0] not in asked_key for match in found)


_ASKING = re.compile(r"何|いつ|誰|どこ|どの|どれ|どんな|いくら|幾|何処")


def own_words(question: str, analyzer: Analyzer) -> list[str]:
    """The terms of the question that say what it is about; all of them if no other is left."""
    terms = list(dict.fromkeys(analyzer.tokens(question)))
    empty = _empty_words(getattr(analyzer, "plain", analyzer))  # what a Hearing adds is no empty word
    return [t for t in terms if t not in empty and not _ASKING.match(t)] or terms


def asked(question: str, analyzer: Analyzer, statistics: Statistics) -> Asked:
    """`question` with its words weighed by `statistics`. A word that no chunk holds weighs most."""
    n = max(statistics.n_chunks, 1)
    weights = {t: idf(n, min(statistics.frequencies.get(t, 0), n)) for t in own_words(question, analyzer)}
    return Asked(question, weights, kind_of(question), unit_of(question), idf(n, 0))


def spans(block: Block) -> list[tuple[int, int]]:
    """The sentences of a block in `block.text`; a wrapped line is no sentence end, a row is one sentence."""
    text = block.text
    if block.kind == "row":
        return [(0, len(text))] if text.strip() else []
    if block.kind == "code":
        return sentences(text)
    joined = list(text)
    for match in re.finditer(r"\n", text):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()].strip()
        rest = text[match.end() :]
        is_wrapped = bool(block.lines) or len(line) > _N_SHORT_LINE  # printed lines end where the page does
        if is_wrapped and rest.strip() and rest[0] != "\n" and not _BULLET.match(rest):
            joined[match.start()] = " "
    return _joined(sentences("".join(joined)))


_N_SHORT = 10  # characters; はい。 いいえ、測れません。: an answer that needs the next sentence


def _joined(found: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """A very short sentence goes with the one behind it."""
    spans: list[tuple[int, int]] = []
    for start, end in found:
        if spans and spans[-1][1] - spans[-1][0] <= _N_SHORT and start - spans[-1][1] <= 1:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


_WIDE_BREAK = re.compile(r"(?<=[^\x00-\x7f])\s*\n\s*|\s*\n\s*(?=[^\x00-\x7f])")


def readable(block: Block, start: int, end: int) -> str:
    """The characters `start` to `end` of a block as a person reads them, on one line."""
    text = block.spoken if block.kind == "row" else narrow(block, start, end).spoken
    return " ".join(_WIDE_BREAK.sub("", text).split())


def units(passages: Sequence[Passage], analyzer: Analyzer) -> list[Unit]:
    """Everything in the passages that may stand in an answer, in order."""
    found: list[Unit] = []
    for number, passage in enumerate(passages):
        place = 0
        for at, block in enumerate(passage.chunk.blocks):
            if block.kind in _NOT_READ:
                continue
            for start, end in spans(block):
                text = readable(block, start, end)
                if not text:
                    continue
                terms = frozenset(analyzer.tokens(text))
                found.append(Unit(number, at, start, end, place, text, terms, block.kind == "row"))
                place += 1
    return found


def surroundings(passage: Passage, analyzer: Analyzer) -> frozenset[str]:
    """Terms of the title, the heading path and the headings inside a passage."""
    chunk = passage.chunk
    inner = [block.spoken for block in chunk.blocks if block.kind in ("title", "heading")]
    return frozenset(analyzer.tokens("\n".join([chunk.title, *chunk.headings, *inner])))


def merged(sets: Iterable[Collection[str]]) -> set[str]:
    """All terms of several sets."""
    found: set[str] = set()
    for terms in sets:
        found.update(terms)
    return found
