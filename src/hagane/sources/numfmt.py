"""Spreadsheet number formats: what a cell's number is, and how a person sees it.

Source: ECMA-376 part 1, 18.8.30 (numFmts) and 18.17.4 (dates).
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache

BUILTIN = {
    0: "General", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 5: '"¥"#,##0;"¥"\\-#,##0', 6: '"¥"#,##0;"¥"\\-#,##0',
    7: '"¥"#,##0.00', 8: '"¥"#,##0.00', 9: "0%", 10: "0.00%", 11: "0.00E+00", 12: "# ?/?", 13: "# ??/??",
    14: "yyyy/m/d", 15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM", 20: "h:mm",
    21: "h:mm:ss", 22: "yyyy/m/d h:mm", 37: "#,##0;-#,##0", 38: "#,##0;-#,##0", 39: "#,##0.00", 40: "#,##0.00",
    41: "#,##0", 42: '"¥"#,##0', 43: "#,##0.00", 44: '"¥"#,##0.00', 45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss.0",
    48: "##0.0E+0", 49: "@",
}  # fmt: skip
JAPANESE_DATES = {
    27: 'yyyy"年"m"月"d"日"', 28: 'ggge"年"m"月"d"日"', 29: 'ggge"年"m"月"d"日"', 30: "m/d/yy", 31: 'yyyy"年"m"月"d"日"',
    32: 'h"時"mm"分"', 33: 'h"時"mm"分"ss"秒"', 34: 'yyyy"年"m"月"', 35: 'm"月"d"日"', 36: 'yyyy"年"m"月"d"日"',
    50: 'ggge"年"m"月"d"日"', 51: 'ggge"年"m"月"d"日"', 52: 'yyyy"年"m"月"', 53: 'm"月"d"日"', 54: 'ggge"年"m"月"d"日"',
    55: 'yyyy"年"m"月"', 56: 'm"月"d"日"', 57: 'ggge"年"m"月"d"日"', 58: 'ggge"年"m"月"d"日"',
}  # fmt: skip
_TOKEN = re.compile(
    r'"([^"]*)"|\\(.)|_.|\*.|\[(\$[^\]]*|[^\]]*)\]|([#0?][#0?,.]*)|(General)|(E[+-]0+)|(.)', re.IGNORECASE | re.DOTALL
)
_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!hh?\]|mm?\]|ss?\])[^\]]*\]')
_ELAPSED = re.compile(r"\[(?:hh?|mm?|ss?)\]", re.IGNORECASE)
_EPOCH, _EPOCH_1904 = dt.datetime(1899, 12, 30), dt.datetime(1904, 1, 1)
Moment = dt.datetime | dt.time | dt.timedelta


@lru_cache(maxsize=4_096)
def is_date(code: str) -> bool:
    """True when numbers under this format are dates or times."""
    first = _LITERAL.sub("", code.split(";")[0])
    return bool(
        re.search(r"[dmhysDMHYSgeGE]", re.sub("General", "", first, flags=re.IGNORECASE))
    ) and "0" not in re.sub(r"\.0+", "", first)


def moment(value: float, code: str, *, from_1904: bool = False) -> Moment | None:
    """The date, time or span that a serial number stands for; None when it is none."""
    if _ELAPSED.search(code):
        return dt.timedelta(days=value) if abs(value) < 1e6 else None
    day, fraction = divmod(value, 1)
    span = dt.timedelta(milliseconds=round(fraction * 86_400_000))
    if 0 <= value < 1 and span.days == 0:
        return (dt.datetime.min + span).time()
    if 0 < value < 60 and not from_1904:  # the 29 February 1900 that never was
        day += 1
    try:
        return (_EPOCH_1904 if from_1904 else _EPOCH) + dt.timedelta(days=day) + span
    except OverflowError:
        return None


def iso(value: Moment | dt.date) -> str:
    """ISO: the date alone at midnight."""
    if isinstance(value, dt.datetime):
        return value.date().isoformat() if value.time() == dt.time() else value.isoformat(sep=" ")
    return str(value)


def shown_moment(value: Moment, code: str) -> str:
    """As the format shows it where Japanese signs stand in it, else ISO."""
    if not isinstance(value, dt.datetime):
        return iso(value)
    lower = _ELAPSED.sub("", code).lower()
    plain = _LITERAL.sub("", lower)
    has_day, has_year = "d" in plain, "y" in plain or "e" in plain
    if "年" in code and has_year:
        return f"{value.year}年{value.month}月" + (f"{value.day}日" if has_day else "")
    if "月" in code and not has_year:
        return f"{value.month}月" + (f"{value.day}日" if has_day else "")
    return iso(value).removesuffix(":00") if "h" in plain else iso(value)


def number_text(value: int | float) -> str:
    """5.0 as "5", else what Python writes."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def shown_number(value: int | float, code: str) -> str:
    """150000 under #,##0"円" as "150,000円", 0.1 under 0% as "10%"; unknown formats as the number itself."""
    sections = _sections(code)
    index = 0
    if value < 0 and len(sections) > 1:
        index, value = 1, -value
    elif value == 0 and len(sections) > 2:
        index = 2
    made = _apply(value, sections[index])
    return number_text(value) if made is None else made


@lru_cache(maxsize=4_096)
def _sections(code: str) -> tuple[str, ...]:
    return tuple(re.findall(r'(?:"[^"]*"|\\.|[^;"\\])+', code)) or ("General",)


def _apply(value: int | float, section: str) -> str | None:
    before, after, digits, percent = "", "", None, False
    for quoted, escaped, bracket, number, general, exponent, other in _TOKEN.findall(section):
        literal = quoted or escaped
        if exponent or (number and digits is not None) or other in ("/", "@"):
            return None
        if number or general:
            digits = number or "General"
        elif bracket.startswith("$"):
            literal = bracket[1:].partition("-")[0]
        elif other and not bracket:
            percent |= other == "%"
            literal = other
        if digits is None:
            before += literal
        else:
            after += literal
    if digits is None:
        return (before + after).strip() or None
    if digits == "General":
        return f"{before}{number_text(value)}{after}".strip()
    sign, size = ("-" if value < 0 else ""), abs(value) * (100 if percent else 1)
    whole, _, decimals = digits.partition(".")
    scaled = len(whole) - len(whole.rstrip(","))
    size /= 1000**scaled if scaled else 1
    places = len(decimals.rstrip(","))
    grouped = "," if "," in whole.rstrip(",") else ""
    text = f"{size:{grouped}.{places}f}"
    if not grouped and whole.strip("0,") == "":  # 000: leading zeros are shown
        text = text.zfill(whole.count("0") + (places + 1 if places else 0))
    optional = len(decimals) - len(decimals.rstrip("#?"))
    if optional and "." in text:
        kept = text.rstrip("0") if optional == places else text[:-optional] + text[-optional:].rstrip("0")
        text = kept.rstrip(".")
    return f"{sign}{before}{text}{after}".strip()
