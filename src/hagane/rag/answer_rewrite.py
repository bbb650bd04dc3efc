"""A follow-up question made whole from the conversation, before search. Without a model; with one if it is given.

"有給は何日もらえる?" then "じゃあパートは?" asks "パートは 有給 何日もらえる". What a question lacks is what the last questions
were about; nothing is taken from documents or answers, so their text cannot act.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from hagane.core.labels import Label, join
from hagane.core.seams import Analyzer, ChatModel
from hagane.core.text import for_search, one_line
from hagane.core.types import ChatRequest, Message

from .answer_support import own_words

_POINTS = re.compile(
    r"^(?:じゃあ|じゃ|では|それじゃ|それでは|なら|それなら|あと|ちなみに|また|そして|それで|でも|and\b|what about|how about)"
    r"|それ|その|そちら|そこ|そう(?:いう|した)|これ|この|こちら|同じ|他に|ほかに|\b(?:it|its|they|them|those|these|about (?:that|this))\b"
)
_ELLIPSIS = re.compile(r"(?:は|も|って|なら|の場合(?:は)?|だと|だったら)\s*[?。]*$")
_N_SHORT = 3  # topic words; a question with fewer may lack its topic
_N_TOPIC_CHARS = 8  # 正社員の, 国内出張の: what stands in front of the first の
_ASKS = re.compile(
    r"何|いつ|どこ|誰|だれ|どなた|いくら|幾ら|いくつ|どの|どれ|どう|なぜ|どんな|\b(?:what|when|where|who|how|why|which)\b"
)
_ASKED_TAIL = re.compile(
    r"[はがをにで、]?(?:何|いつ|どこ|誰|だれ|どなた|いくら|幾ら|いくつ|どの|どれ|どう|なぜ|どんな).*$"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One question of the conversation as it was searched, and the label of its answer."""

    question: str
    label: Label


def label_of(history: Sequence[Turn], own: Label) -> Label:
    """The label of a follow-up: that of the question joined with the whole history's."""
    return join(own, *(turn.label for turn in history))


def is_follow_up(question: str, analyzer: Analyzer) -> bool:
    """True when the question points back or has too few words to stand alone."""
    key = for_search(question).strip()
    n_words = len(own_words(question, analyzer))
    is_bare = n_words <= 1 and bool(_ASKS.search(key)) and "とは" not in key  # 誰に出せばいい?
    return is_bare or bool(_POINTS.search(key)) or (bool(_ELLIPSIS.search(key)) and n_words < _N_SHORT)


def rewrite(question: str, history: Sequence[Turn], *, analyzer: Analyzer, model: ChatModel | None = None) -> str:
    """The question as it stands alone; unchanged when it does. `history` holds earlier questions, oldest first.

    With a model, its sentence is taken only if all its topic words come from the conversation.
    """
    if not history or not is_follow_up(question, analyzer):
        return question
    carried = _carried(question, history[-1].question, analyzer)
    plain = f"{question} ({carried})" if carried else question
    return _by_model(question, history, analyzer, model) or plain if model is not None else plain


def _carried(question: str, before: str, analyzer: Analyzer) -> str:
    """What the last question was about, in its own words: "有給は何日もらえる?" -> "有給" for a question that asks
    something of its own, all of it for one that does not."""
    rest = one_line(before).rstrip("?？。 ")
    if _ELLIPSIS.search(for_search(question).strip()):
        rest = _without_topic(rest)  # "パートは?" replaces 正社員 in "正社員の有給は何日?"
    if _ASKS.search(for_search(question)):
        rest = _ASKED_TAIL.sub("", rest) or rest
    own = set(analyzer.tokens(question))
    return rest if any(word not in own for word in own_words(rest, analyzer)) else ""


def _without_topic(text: str) -> str:
    head, found, rest = text.partition("の")
    return rest if found and 0 < len(head) <= _N_TOPIC_CHARS and len(rest) > 2 else text


def _by_model(question: str, history: Sequence[Turn], analyzer: Analyzer, model: ChatModel) -> str:
    template = files("hagane.rag").joinpath("answer_rewrite_ja.txt").read_text(encoding="utf-8")
    earlier = "\n".join(f"- {one_line(turn.question)}" for turn in history[-3:])
    text = template.replace("{history}", earlier).replace("{question}", one_line(question))
    request = ChatRequest(
        (Message.of("user", text),),
        label=join(*(turn.label for turn in history)),
        max_tokens=80,
        raw=not getattr(model, "is_instruct", True),
        stop=("\n",),
    )
    said = one_line("".join(delta.text for delta in model.chat(request)).strip().strip('「」"'))
    spoken = set(analyzer.tokens(" ".join([question, *(turn.question for turn in history)])))
    new = set(own_words(said, analyzer)) if said else set()
    return said if new and new <= spoken else ""
