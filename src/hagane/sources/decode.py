"""Bytes to text: strict decoding with every candidate, then the most Japanese result wins.

A declared encoding is believed only when the bytes decode with it strictly, and valid UTF-8 is
believed before it: pages that declare Latin-1 and are UTF-8 are far more common than the reverse.
"""

from __future__ import annotations

import codecs
import re

from ..core.errors import SourceError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What a name means in the wild: Shift_JIS is CP932 (NEC and IBM characters), Latin-1 is Windows-1252.
_MEANT = {
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "ms_kanji": "cp932",
    "windows-31j": "cp932",
    "iso-8859-1": "cp1252",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "iso-2022-jp": "iso2022_jp_ext",
    "cp50220": "iso2022_jp_ext",
    "cp50221": "iso2022_jp_ext",
    "unicode": "utf-16-le",
    "utf-16": "utf-16-le",
    "utf-32": "utf-32-le",
}
_JIS = "iso-2022-jp-ms"  # ours: with the NEC and IBM characters (①, ㈱, 髙) that Windows mails hold
_ESCAPES = (b"\x1b$", b"\x1b(J", b"\x1b(I")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # tab, line ends, form feed and ESC may stand in text
_PREFERRED = {"cp932": 0.02, "euc_jis_2004": -0.01}  # between equals: the commoner one
_LEAST_WIDE = 0.3  # below it, bytes with nulls are no text
_SAMPLE = 200_000  # bytes that candidates are compared on


def decode(data: bytes, *, declared: str | None = None) -> tuple[str, str]:
    """The text without its BOM, line ends as \\n, and the codec that read it.

    `declared` is what a header or tag claims. Raises: SourceError unsupported when it is not text.
    """
    for bom, codec in _BOMS:
        if data.startswith(bom):
            return _lines(data[len(bom) :].decode(codec, "replace")), codec
    for codec in _candidates(data, declared):
        text = _strict(data, codec)
        if text is not None and is_text(text):
            return _lines(text), codec
    raise SourceError("it is not text in an encoding we know", reason="unsupported")


def _candidates(data: bytes, declared: str | None) -> list[str]:
    claimed = _claimed(declared)
    if b"\0" in data[:_SAMPLE]:
        wide = sorted(_wide(data), key=lambda codec: _wide_score(_lenient(data, codec)), reverse=True)
        wide = [codec for codec in wide if _wide_score(_lenient(data, codec)) > _LEAST_WIDE]
        return ([claimed] if claimed in wide else []) + wide
    if any(escape in data for escape in _ESCAPES):
        return ["iso2022_jp_ext", _JIS, "iso2022_jp_3", "utf-8", "cp932"]
    rest = sorted(("cp932", "euc_jp", "euc_jis_2004", "cp1252"), key=lambda codec: _rank(data, codec), reverse=True)
    if claimed and claimed not in ("cp1252", "utf-8"):
        rest = [claimed, *rest]
    return ["utf-8", *rest, "latin-1"]


def _claimed(declared: str | None) -> str | None:
    name = (declared or "").strip().strip("\"'").lower().replace(" ", "")
    name = _MEANT.get(name, name)
    try:
        return _MEANT.get(codecs.lookup(name).name, name) if name else None
    except LookupError:
        return None


def _wide(data: bytes) -> list[str]:
    quarter = data[: _SAMPLE // 4 * 4]
    if len(data) % 4 == 0 and quarter.count(0) * 2 >= len(quarter):
        return ["utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"]
    return ["utf-16-le", "utf-16-be"] if len(data) % 2 == 0 else []


def _strict(data: bytes, codec: str) -> str | None:
    try:
        if codec == _JIS:
            return _from_jis(data).decode("cp932")
        return data.decode(codec)
    except (UnicodeError, LookupError, ValueError):
        return None


def _from_jis(data: bytes) -> bytes:
    """ISO-2022-JP to Shift_JIS bytes, row by row. Source: JIS X 0208, annex 1 (shift coding)."""
    first, *rest = data.split(b"\x1b")
    made = bytearray(first)
    for piece in rest:
        mark, body = piece[:2], piece[2:]
        if mark == b"(I":
            made += bytes(byte | 0x80 for byte in body)
        elif mark in (b"$B", b"$@"):
            for row, cell in zip(body[::2], body[1::2], strict=False):
                made.append((row - 0x21) // 2 + (0x81 if row < 0x5F else 0xC1))
                made.append(cell + 0x7E if row % 2 == 0 else cell + (0x1F if cell < 0x60 else 0x20))
        elif mark in (b"(B", b"(J"):
            made += body
        else:
            raise ValueError("another escape sequence")
    return bytes(made)


def _lenient(data: bytes, codec: str) -> str:
    return data[: _SAMPLE // 4 * 4].decode(codec, "replace")


def _rank(data: bytes, codec: str) -> float:
    """How likely `codec` is; below every score when the sample does not decode."""
    sample = data[:_SAMPLE]
    text = _strict(sample, codec)
    if text is None and len(data) > _SAMPLE:  # the cut may fall into a character
        text = next((t for n in (1, 2) if (t := _strict(sample[:-n], codec)) is not None), None)
    if text is None:
        return -9.0
    return _score(text) + _PREFERRED.get(codec, 0.0)


def _weight(char: str, before: str, after: str) -> float:
    """How readily a Japanese (or western) writer uses this character; -2 to 1."""
    if "ぁ" <= char <= "ん" or "ァ" <= char <= "ー":
        return 1.0
    if char in "、。「」・，．（）：！？　々〇ヶ～％／【】『』":
        return 0.9
    if "一" <= char <= "鿿":
        return 0.7 if _is_level_one(char) else 0.1
    if "！" <= char <= "｠":
        return 0.8
    if "ｦ" <= char <= "ﾟ":
        return 0.6 if "ｦ" <= before <= "ﾟ" or "ｦ" <= after <= "ﾟ" else 0.0
    if "｡" <= char <= "･":
        return -0.3
    if char in "\ufffd" or "\ue000" <= char <= "\uf8ff" or "\x80" <= char <= "\x9f":
        return -2.0
    if "À" <= char <= "ÿ" and char not in "×÷":
        return 0.65 if before.isascii() and after.isascii() and (before + after).strip() else -0.2
    if char in "‘’“”–—…€©®£°·•™½ ":
        return 0.4
    return 0.2


def _wide_score(text: str) -> float:
    """Mean weight of all characters; in the wrong byte order ASCII turns into rare signs."""
    sample = text[:4_000]
    return sum(1.0 if "\t" <= c <= "~" else _weight(c, " ", " ") for c in sample) / max(1, len(sample))


def _is_level_one(char: str) -> bool:
    try:
        return char.encode("cp932") < b"\x98\x73"
    except UnicodeError:
        return False


def _score(text: str) -> float:
    """Mean weight of what is not ASCII, a double-byte character counting twice; 0 for plain ASCII."""
    total, n_bytes = 0.0, 0
    for match in re.finditer(r"[^\x00-\x7f]", text[:20_000]):
        char, at = match[0], match.start()
        size = 1 if char <= "ÿ" or "｡" <= char <= "ﾟ" or char in "‘’“”–—…€•™" else 2
        total += size * _weight(char, text[at - 1 : at] or " ", text[at + 1 : at + 2] or " ")
        n_bytes += size
    return total / n_bytes if n_bytes else 0.0


def is_text(text: str) -> bool:
    """True unless control characters show that these bytes never were text."""
    sample = text[:_SAMPLE]
    n_bad = len(_CONTROL.findall(sample)) + sum(sample.count(c) for c in "\x81\x8d\x8f\x90\x9d\ufffd\uffff")
    return n_bad * 200 <= len(sample) if len(sample) > 200 else n_bad == 0


def _lines(text: str) -> str:
    text = text.removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
