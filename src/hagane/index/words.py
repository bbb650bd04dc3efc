"""Text to search terms: Sudachi for Japanese, character bigrams where no dictionary is wanted.

Terms are made once, in our Python, and stored; every store then sees terms parted by white space, so
that ranking can be compared between stores.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

from ..core.text import for_search

ANALYZERS = {
    "sudachi": "hagane.index.words:Sudachi",
    "ngram": "hagane.index.words:Ngram",
}

# Sudachi refuses inputs above 49,149 bytes of UTF-8; a character has at most 4.
_PIECE = 12_000  # characters
_BREAKS = "\n。．！？!? 、,"

# Parts of speech that carry no topic: particles, auxiliaries, blanks. Signs (補助記号) go by what they are
# made of: a kanji that the dictionary does not know, such as 𠮷, is a sign to it.
_DROPPED = frozenset({"助詞", "助動詞", "空白"})
_WORD = re.compile(r"[^\W_]")


def pieces(text: str, *, limit: int = _PIECE) -> Iterator[str]:
    """`text` in consecutive pieces of at most `limit` characters, cut behind a line or sentence end
    where there is one in the second half of a piece."""
    start = 0
    while len(text) - start > limit:
        window = text[start : start + limit]
        cut = next((at + 1 for at in (window.rfind(c) for c in _BREAKS) if at >= limit // 2), limit)
        yield window[:cut]
        start += cut
    yield text[start:]


class Sudachi:
    """Normalised forms of Sudachi's short units (mode A), without particles, auxiliaries and signs.

    "有給休暇の取得" -> ["有給", "休暇", "取得"]. Numbers are one term ("1,000" and "千" -> "1000"), variant
    spellings become one ("サーバー", "サーバ"). Deterministic for one dictionary version. Any number of
    threads: each gets a tokenizer of its own, the dictionary is shared.
    Source: Takaoka et al., Sudachi, LREC 2018.
    """

    name = "sudachi"

    def __init__(self, *, dictionary: str = "core") -> None:
        from sudachipy import Dictionary, SplitMode

        self._dictionary: Any = Dictionary(dict=dictionary)
        self._mode = SplitMode.A
        dropped = self._dictionary.pos_matcher(lambda pos: pos[0] in _DROPPED)
        self._dropped: Any = dropped
        self._own = threading.local()

    def _tokenizer(self) -> tuple[Any, Any]:
        """This thread's tokenizer and the list of morphemes that it fills again and again."""
        found = getattr(self._own, "pair", None)
        if found is None:
            tokenizer = self._dictionary.tokenizer(mode=self._mode, fields={"pos", "normalized_form"})
            found = self._own.pair = (tokenizer, tokenizer.tokenize(""))
        return found

    def tokens(self, text: str) -> list[str]:
        tokenizer, morphemes = self._tokenizer()
        dropped = self._dropped
        found: list[str] = []
        for piece in pieces(for_search(text)):
            tokenizer.tokenize(piece, out=morphemes)
            found += [m.normalized_form() for m in morphemes if not dropped(m)]
        return [term for form in found if (term := _term(form))]


def _term(form: str) -> str:
    """A dictionary form as a term: lower case, no white space; "" when it holds no letter or digit."""
    if not _WORD.search(form):
        return ""
    return "".join(form.lower().split())


# Han, kana, half-width kana, Hangul: scripts written without blanks. Else: runs of letters and digits.
_RUNS = re.compile(
    r"(?P<number>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]))|(?P<cjk>[々〆ヵヶ〇\u3040-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    r"\U00020000-\U000323af\uac00-\ud7af]+)|(?P<word>[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af_]+)"
)


class Ngram:
    """Character bigrams of Japanese, Chinese and Korean runs, whole words of the rest. No dictionary.

    "有給休暇 PTO" -> ["有給", "給休", "休暇", "pto"]. A run of one character is that character.
    """

    name = "ngram"

    def tokens(self, text: str) -> list[str]:
        found: list[str] = []
        for run in _RUNS.finditer(for_search(text)):
            word = run[0]
            if run["cjk"] is None or len(word) == 1:
                found.append(word.replace(",", ""))
            else:
                found += [word[i : i + 2] for i in range(len(word) - 1)]
        return found
