"""JaQuAD to families: some passages, and questions about them that share reading them.

Of the questions of a family most are answered by one of its passages. The others come from other paragraphs of the
same article (the hardest kind of silence: right subject, no answer) and are to be met with `reading.SILENT`. A
question is only taken for unanswerable when its answer's text stands in none of the passages.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hagane.core.text import sentences

CHARS = 1800  # of all passages of a family: about 1,100 tokens of Gemma
TOGETHER = (1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 5)  # passages of a family: one of these
SILENT_SHARE = 0.25  # of a family's questions
BARE_SHARE = 0.3  # families whose passages stand without their title
CUT_SHARE = 0.5  # passages of which only some sentences are shown


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a paragraph and its answer, which stands in the paragraph at `start`."""

    question: str
    answer: str
    start: int


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph of an article."""

    article: str
    text: str
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """`passages`: (title, text). `questions`: (question, answer, number of the passage or None)."""

    passages: tuple[tuple[str, str], ...]
    questions: tuple[tuple[str, str, int | None], ...]


def articles(folder: Path) -> list[list[Paragraph]]:
    """Every article of the set in `folder`, a list of paragraphs each."""
    found = []
    for path in sorted(folder.glob("*.json")):
        for article in json.loads(path.read_text("utf-8"))["data"]:
            found.append([_paragraph(article["title"], one) for one in article["paragraphs"]])
    return found


def _paragraph(title: str, given: dict) -> Paragraph:
    asked = [
        Asked(one["question"], one["answers"][0]["text"], one["answers"][0]["answer_start"]) for one in given["qas"]
    ]
    return Paragraph(title, given["context"], tuple(asked))


def families(set_: list[list[Paragraph]], *, seed: int) -> Iterator[Family]:
    """Every paragraph once, in an order drawn by `seed`, alone or with up to four neighbours."""
    draw = random.Random(seed)
    bunches: list[tuple[list[Paragraph], list[Paragraph]]] = []
    for article in set_:
        rest = list(article)
        draw.shuffle(rest)
        while rest:
            wanted = draw.choice(TOGETHER)
            bunch: list[Paragraph] = []
            while rest and len(bunch) < wanted and (not bunch or sum(len(p.text) for p in [*bunch, rest[-1]]) <= CHARS):
                bunch.append(rest.pop())
            bunches.append((bunch, article))
    draw.shuffle(bunches)
    strangers = [one for article in set_ for one in article]
    for bunch, article in bunches:
        yield _family(bunch, article, draw.choice(strangers), draw)


def _family(bunch: list[Paragraph], article: list[Paragraph], stranger: Paragraph, draw: random.Random) -> Family:
    bare = draw.random() < BARE_SHARE
    shown, questions = [], []
    for n, paragraph in enumerate(bunch, start=1):
        text, answerable = _cut(paragraph, draw)
        shown.append(("" if bare else paragraph.article, text))
        questions += [(one.question, one.answer, n) for one in answerable]
    all_text = "".join(text for _, text in shown)
    others = [one for paragraph in article if paragraph not in bunch for one in paragraph.asked]
    others += [one for paragraph in bunch for one in paragraph.asked]  # whose sentences were cut away
    draw.shuffle(others)
    others += list(stranger.asked)[:1] if draw.random() < 0.1 else []
    unsaid = [one for one in others if one.answer not in all_text]
    n_silent = round(len(questions) * SILENT_SHARE / (1 - SILENT_SHARE) + draw.random() - 0.5)
    questions += [(one.question, "", None) for one in unsaid[: max(n_silent, 0 if questions else 2)]]
    draw.shuffle(questions)
    return Family(tuple(shown), tuple(questions))


def _cut(paragraph: Paragraph, draw: random.Random) -> tuple[str, list[Asked]]:
    """The paragraph, or some sentences of it in a row, and the questions that these answer."""
    spans = list(sentences(paragraph.text))
    if len(spans) < 4 or draw.random() >= CUT_SHARE:
        return paragraph.text, list(paragraph.asked)
    n = draw.randint(2, max(2, len(spans) * 2 // 3))
    first = draw.randint(0, len(spans) - n)
    start, end = spans[first][0], spans[first + n - 1][1]
    kept = [one for one in paragraph.asked if start <= one.start and one.start + len(one.answer) <= end]
    return paragraph.text[start:end], kept
