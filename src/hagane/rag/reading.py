"""What a reader model is shown: numbered passages, a question, and where its answer begins.

The same text in training (recipes/starter_reader) and in answering: another space would be another model. The passages
come first, so that many questions about the same passages can share them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

SILENT = "文書には書かれていません"  # all that a reader writes when the passages do not say
_MARK = re.compile(r"\s*\[(\d{1,2})\]\s*$")


def shown(passages: Sequence[tuple[str, str]]) -> str:
    """(heading, text) of each passage, numbered from 1; a heading may be empty. Every passage ends its line."""
    lines = []
    for n, (heading, text) in enumerate(passages, start=1):
        front = f"{squeezed(heading)}\n" if heading.strip() else ""
        lines.append(f"[{n}] {front}{squeezed(text)}\n")
    return "資料:\n" + "".join(lines)


def asked(question: str) -> str:
    """The question behind the passages; the model goes on with its answer."""
    return f"質問: {squeezed(question)}\n答え:"


def answered(answer: str, passage: int | None) -> str:
    """What the model should write: the answer and the number of its passage, or that there is none."""
    return SILENT if passage is None else f"{squeezed(answer)}[{passage}]"


def read(written: str) -> tuple[str, int | None]:
    """(answer, number of its passage) of what a model wrote; ("", None) when the passages do not say."""
    line = written.strip().split("\n", 1)[0]
    if line.startswith(SILENT) or not line:
        return "", None
    found = _MARK.search(line)
    return (line[: found.start()].strip(), int(found[1])) if found else (line, None)


def squeezed(text: str) -> str:
    """One line: runs of white space are one space."""
    return " ".join(text.split())
