"""A text in one width, character for character: offsets stay those of the original."""

from __future__ import annotations

_HYPHENS = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u30fc\uff70\u2500"  # ‐‑‒–—―−ーｰ─, all typed for "-"
_BLANKS = "\u00a0\u2002\u2003\u2009\u3000"
_TABLE = (
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full-width ASCII
    | {ord(char): ord("-") for char in _HYPHENS}
    | {ord(char): ord(" ") for char in _BLANKS}
)


def fold(text: str) -> str:
    """Full-width ASCII to half-width, the hyphens in use to "-", wide blanks to " "; of the same length as `text`."""
    return text.translate(_TABLE)
