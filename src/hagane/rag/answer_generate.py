"""The answerer with a language model: numbered pieces as data in a prompt, each sentence checked before it is shown.

What no piece supports is dropped. If nothing is left, the supporting sentences are quoted instead (as `extract`
does): the passages were judged to hold the answer, and a quotation is never wrong about them.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise

from hagane.core.errors import UsageError
from hagane.core.labels import Label
from hagane.core.seams import Analyzer, ChatModel, Embedder
from hagane.core.text import sentences
from hagane.core.types import AnswerPart, ChatRequest, Message, Passage, Usage

from .answer import AnswerConfig
from .answer_check import check
from .answer_choose import score_units
from .answer_cite import Citer
from .answer_evidence import Evidence, gather, shown
from .answer_extract import quoted
from .answer_support import Asked, units

LEAST_EVIDENCE = 100  # characters of passages, however short a model's context is
_IN_VAIN = 3  # dropped or repeated sentences in a row after which a model is stopped: it has lost its way
SILENT = {"ja": "資料には書かれていません。", "en": "The sources do not say."}


@lru_cache(maxsize=8)
def prompt(name: str) -> str:
    """A template of this room, without its last line break."""
    return files("hagane.rag").joinpath(f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")


class Generate:
    """Answerer of one question through a ChatModel. `usage` is known when the iterator has ended.

    `quoted` is True when nothing that the model wrote was supported.
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
        self.dropped: list[str] = []  # why, one word per dropped sentence
        self._known, self._model, self._analyzer = known, model, analyzer
        self._config, self._label, self._embedder = config, label, embedder

    def answer(self, asked: str, passages: Sequence[Passage]) -> Iterator[AnswerPart]:
        found = units(passages, self._analyzer)
        scored = score_units(self._known, passages, found, analyzer=self._analyzer, embedder=self._embedder)
        evidence = gather(scored, passages, analyzer=self._analyzer, n_chars=self._room(asked))
        if not evidence:
            return
        citer = Citer(passages)
        seen: set[str] = set()
        is_silent, in_vain = False, 0
        with closing(self._sentences(asked, evidence)) as written:
            for sentence in written:
                if sentence.strip() in SILENT.values():
                    is_silent = True
                    break
                verdict = check(
                    sentence, evidence, question=asked, analyzer=self._analyzer, support=self._config.support
                )
                if verdict.by is None or verdict.text in seen:
                    self.dropped.append(verdict.why or "repeated")
                    in_vain += 1
                    if in_vain == _IN_VAIN:
                        break
                    continue
                in_vain = 0
                yield _part(verdict.text, verdict.by, citer, is_first=not seen)
                seen.add(verdict.text)
        if not seen and not is_silent:
            self.quoted = True
            yield from quoted(scored, passages, n=self._config.sentences, citer=citer)

    def _room(self, asked: str) -> int:
        """Characters of the passages: `evidence`, or what the model's context leaves, taking a token for a character."""
        context = getattr(self._model, "context", None)
        if not isinstance(context, int):
            return self._config.evidence
        taken = self._config.max_tokens + len(self._template(asked)) + len(asked)
        return max(LEAST_EVIDENCE, min(self._config.evidence, (context - taken) * 4 // 5))  # the rest: numbers and line ends

    def _sentences(self, asked: str, evidence: Sequence[Evidence]) -> Generator[str, None, None]:
        """What the model writes, sentence by sentence with its marks, as soon as each is whole."""
        held = ""
        deltas = self._model.chat(self._request(asked, evidence))
        try:
            for delta in deltas:
                held += delta.text
                self.usage = delta.usage or self.usage
                *whole, held = _split(held)
                yield from whole
        finally:
            close = getattr(deltas, "close", None)
            if close is not None:
                close()
        if held.strip():
            yield held

    @property
    def _is_base(self) -> bool:
        return not getattr(self._model, "is_instruct", True)

    def _language(self, asked: str) -> str:
        if self._config.language != "auto":
            return self._config.language
        return "ja" if any("\u3040" <= c <= "\u9fff" for c in asked) else "en"

    def _template(self, asked: str) -> str:
        return prompt(f"answer_prompt_{'base_' if self._is_base else ''}{self._language(asked)}")

    def _request(self, asked: str, evidence: Sequence[Evidence]) -> ChatRequest:
        question = " ".join(asked.split())
        values = {"evidence": shown(evidence), "question": question, "silent": SILENT[self._language(asked)]}
        is_base = self._is_base
        return ChatRequest(
            messages=(Message.of("user", _filled(self._template(asked), values)),),
            label=self._label,
            max_tokens=self._config.max_tokens,
            stop=("\n",) if is_base else (),
            raw=is_base,
        )


def _filled(template: str, values: dict[str, str]) -> str:
    """The template with its {names}; braces inside the values stay as they are."""
    parts = []
    for piece in template.split("{"):
        name, closed, rest = piece.partition("}")
        parts.append(values[name] + rest if closed and name in values else ("{" if parts else "") + piece)
    return "".join(parts)


_MARK = re.compile(r"[\[［]\s*[0-9０-９]{1,3}\s*[\]］]")


def _split(text: str) -> list[str]:
    """Whole sentences with the marks behind them, and last what is not whole yet: more marks may still be coming,
    so a sentence is whole when the next one has begun."""
    masked = _MARK.sub(lambda m: "」" * len(m[0]), text)  # closing signs belong to the sentence in front of them
    starts = [start for start, _ in sentences(masked)]
    return [text[a:b] for a, b in pairwise([0, *starts[1:], len(text)])]


def _part(text: str, by: Evidence, citer: Citer, *, is_first: bool) -> AnswerPart:
    citation, is_new = citer.cite(by.passage, by.block, by.start, by.end)
    gap = "" if is_first or text[:1] > "\u2e80" else " "
    return AnswerPart(f"{gap}{text}[{citation.n}]", (citation,) if is_new else ())


def build(
    known: Asked,
    *,
    analyzer: Analyzer,
    embedder: Embedder | None,
    model: ChatModel | None,
    config: AnswerConfig,
    label: Label,
) -> Generate:
    """What the table ANSWERERS calls. Raises: UsageError without a model."""
    if model is None:
        raise UsageError("the answerer generate needs a model", hint="set answer.model, or use extract")
    return Generate(known, model, analyzer=analyzer, config=config, label=label, embedder=embedder)
