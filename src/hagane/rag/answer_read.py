"""The answerer with a reader model: it reads whole passages and writes a few words and the number of their passage.

What people get is the short answer with its mark, and behind the mark the sentence in which it stands, verbatim. The
answer's own letters decide which sentence that is, not the number alone. An answer that stands nowhere in what was
read is dropped, and the supporting sentences are quoted instead (as `extract` does). A reader that says that the
passages are silent is believed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from hagane.core.errors import UsageError
from hagane.core.labels import Label
from hagane.core.seams import Analyzer, ChatModel, Embedder
from hagane.core.types import AnswerPart, ChatRequest, Message, Passage, Usage

from . import reading
from .answer import AnswerConfig
from .answer_check import check
from .answer_choose import Scored, score_units
from .answer_cite import Citer
from .answer_evidence import Evidence, harmless
from .answer_extract import quoted
from .answer_passages import Shown, pick
from .answer_support import Asked, Unit, units

N_TOKENS = 96  # of an answer; readers were taught answers of a few words
NOT_SAID = "not_said"
_CHOICE = re.compile(r"どちら|どっち|いずれ|どの|それとも|または|もしくは|あるいは|\bor\b|\bwhich\b", re.IGNORECASE)
_PARTED = "\u200b"  # the engine puts it into what reads like a mark of the model's


class Read:
    """Answerer of one question through a reader model. `usage` is known when the iterator has ended.

    `quoted` is True when what the model wrote stands nowhere; `why` is a word for silence, when the model was silent.
    """

    reads_all = True  # an answer carries the labels of everything that the model was given

    def __init__(
        self,
        known: Asked,
        model: ChatModel,
        *,
        analyzer: Analyzer,
        config: AnswerConfig,
        label: Label,
        embedder: Embedder | None = None,
    ) -> None:
        self.name = model.name
        self.usage = Usage()
        self.quoted = False
        self.why = ""
        self._known, self._model, self._analyzer = known, model, analyzer
        self._config, self._label, self._embedder = config, label, embedder

    def answer(self, asked: str, passages: Sequence[Passage]) -> Iterator[AnswerPart]:
        found = units(passages, self._analyzer)
        scored = score_units(self._known, passages, found, analyzer=self._analyzer, embedder=self._embedder)
        shown = pick(scored, passages, n_chars=self._config.evidence)
        if not shown:
            return
        text, number = reading.read(self._written(asked, shown))
        text = text.replace(_PARTED, "")
        if not text and number is None:
            self.why = NOT_SAID
            return
        citer = Citer(passages)
        place = self._place(asked, text, number, shown, scored)
        if place is not None:
            citation, _ = citer.cite(*place)
            yield AnswerPart(f"{text}[{citation.n}]", (citation,))
            return
        self.quoted = True
        yield from quoted(scored, passages, n=self._config.sentences, citer=citer)

    def _written(self, asked: str, shown: Sequence[Shown]) -> str:
        """The line that the model writes, greedily, to the end of the line or of its answer."""
        text = reading.shown([(one.heading, one.text) for one in shown]) + reading.asked(harmless(asked))
        request = ChatRequest(
            messages=(Message.of("user", text),),
            label=self._label,
            max_tokens=min(N_TOKENS, self._config.max_tokens),
            stop=("\n",),
            raw=True,
        )
        written = ""
        for delta in self._model.chat(request):
            written += delta.text
            self.usage = delta.usage or self.usage
        return written

    def _place(
        self, asked: str, text: str, number: int | None, shown: Sequence[Shown], scored: Sequence[Scored]
    ) -> tuple[int, int, int, int] | None:
        """(passage, block, start, end) of the sentence that holds the answer; None when none supports it.

        The passage that the model named comes first, then the others as they were shown. Of several sentences with
        the answer's letters the one that holds most of the question is taken."""
        key = _key(text)
        if not any(letter.isalnum() for letter in key) or (key in _key(asked) and not _CHOICE.search(asked)):
            return None  # it says nothing, or nothing but the question's own words
        named = shown[number - 1].passage if number is not None and 0 < number <= len(shown) else -1
        order = sorted((one.passage for one in shown), key=lambda passage: passage != named)
        score = {one.unit: one.score for one in scored}
        for passage in order:
            here = [one.unit for one in scored if one.unit.passage == passage]
            holding = [unit for unit in here if holds(key, unit.text)]
            if holding:
                best = max(holding, key=lambda unit: score[unit])
                return passage, best.block, best.start, best.end
            if (run := _run(here, key)) is not None:
                return passage, *run
        evidence = [_evidence(n, unit) for n, unit in enumerate((one.unit for one in scored if one.unit.passage in order), 1)]
        verdict = check(text, evidence, question=asked, analyzer=self._analyzer, support=self._config.support)
        by = verdict.by
        return (by.passage, by.block, by.start, by.end) if by is not None else None


def _run(units_: Sequence[Unit], key: str) -> tuple[int, int, int] | None:
    """(block, start, end) of neighbouring sentences of one block that hold `key` together."""
    for at, unit in enumerate(units_):
        text = unit.text
        for other in units_[at + 1 : at + 4]:
            if other.block != unit.block:
                break
            text += other.text
            if holds(key, text):
                return unit.block, unit.start, other.end
    return None


_BETWEEN_DIGITS = re.compile(r"(?<=[0-9])\s*,\s*(?=[0-9]{3})")
_DIGITS, _KANJI_DIGITS = "0-9.", "〇一二三四五六七八九十百千万億兆"


def _key(text: str) -> str:
    """What is compared of a text: without white space, punctuation and thousands separators, whatever the width."""
    text = _BETWEEN_DIGITS.sub("", unicodedata.normalize("NFKC", text).lower())
    is_point = [c == "." and text[at - 1 : at].isdigit() and text[at + 1 : at + 2].isdigit() for at, c in enumerate(text)]
    return "".join(
        c
        for c, keep in zip(text, is_point, strict=True)
        if keep or not (c.isspace() or unicodedata.category(c)[0] == "P")
    )


def holds(key: str, text: str) -> bool:
    """True when the letters `key` stand in `text`; a number only as a whole: 15日 does not hold 5日."""
    pattern = re.escape(key)
    for digits in (_DIGITS, _KANJI_DIGITS):
        pattern = f"(?<![{digits}])" * (key[:1] in _all(digits)) + pattern + f"(?![{digits}])" * (key[-1:] in _all(digits))
    return bool(key) and re.search(pattern, _key(text)) is not None


def _all(digits: str) -> str:
    return digits.replace("0-9.", "0123456789")


def _evidence(number: int, unit: Unit) -> Evidence:
    return Evidence(number, unit.passage, unit.block, unit.start, unit.end, unit.text, unit.text, unit.terms)


def build(
    known: Asked,
    *,
    analyzer: Analyzer,
    embedder: Embedder | None,
    model: ChatModel | None,
    config: AnswerConfig,
    label: Label,
) -> Read:
    """What the table ANSWERERS calls. Raises: UsageError without a model."""
    if model is None:
        raise UsageError("the answerer read needs a model", hint="set answer.reader, or use extract")
    return Read(known, model, analyzer=analyzer, config=config, label=label, embedder=embedder)
