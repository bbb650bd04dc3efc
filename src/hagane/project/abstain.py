"""An abstention as a sentence for a person, in the language of the question."""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from importlib.resources import files

from hagane.core.types import Answer

_JAPANESE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uff66-\uff9f]")


@lru_cache(maxsize=1)
def _sentences() -> dict[str, list[str]]:
    return tomllib.loads(files("hagane.project").joinpath("abstain.toml").read_text(encoding="utf-8"))


def abstention(question: str, answer: Answer) -> str:
    """Why there is no answer; ends with a colon when the nearest passages are to follow."""
    language = 0 if _JAPANESE.search(question) else 1
    known = _sentences()
    said = known.get(answer.why, known["other"])[language]
    return said + (known["nearest"][language] if answer.nearest else "")
