"""HTML pages: templates, languages, themes, static files by content hash.

    return site.pages.render(request, "audit.html", caller=caller, records=records)

Everything that a template prints is escaped; a name that it lacks is an error. Texts come from web/text_ja.toml and
web/text_en.toml by `t("part.name", value=...)`.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hagane import __version__
from hagane.core.accounts import Caller, Permission
from hagane.core.labels import Label

from .answer_html import said, source_path, sure

WEB = Path(__file__).parent / "web"
Language = Literal["ja", "en"]
Theme = Literal["auto", "light", "dark"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
THEMES: tuple[Theme, ...] = get_args(Theme)
LANGUAGE_COOKIE = "hagane_language"
THEME_COOKIE = "hagane_theme"
MEDIA = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the navigation; shown to those with the permission."""

    key: str  # of its text, and of the page that is current
    path: str
    icon: str
    need: Permission


NAVIGATION = (
    Entry("chat", "/", "chat", "ask"),
    Entry("documents", "/documents", "files", "ask"),
    Entry("feedback", "/feedback", "feedback", "build"),
    Entry("models", "/models", "models", "build"),
    Entry("people", "/people", "people", "administer"),
    Entry("audit", "/audit", "audit", "govern"),
    Entry("settings", "/settings", "settings", "administer"),
    Entry("health", "/health", "health", "build"),
)


@dataclass(frozen=True, slots=True)
class Static:
    """A static file, read once: bytes, media type, and the hash that stands in its address."""

    data: bytes
    media: str
    mark: str


class Texts:
    """The page's words in one language."""

    def __init__(self, language: Language) -> None:
        self.language = language
        found: dict[str, str] = {}
        for file in sorted(WEB.glob(f"text*_{language}.toml")):
            found |= _flat(tomllib.loads(file.read_text(encoding="utf-8")))
        self.words: Mapping[str, str] = found

    def __call__(self, key: str, **values: Any) -> str:
        """The text called `key`. Raises: KeyError for one that is not there."""
        said = self.words[key]
        return said.format_map(values) if values else said


def _flat(tree: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in tree.items():
        found += _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else [(above + name, value)]
    return found


class Pages:
    """Renders templates for a request. One per application."""

    def __init__(self) -> None:
        self.texts = {language: Texts(language) for language in LANGUAGES}
        self._environment = Environment(
            loader=FileSystemLoader(WEB / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"label": as_label, "day": day, "moment": moment, "size": size, "json": as_json}
        self._environment.filters |= {"said": said, "source_path": source_path, "sure": sure, "combined": combined, "asked": asked}
        self._environment.globals |= {"static": self.address, "version": __version__}

    def render(self, request: Request, name: str, *, caller: Caller | None, status: int = 200, **values: Any) -> HTMLResponse:
        """The page `name` for `caller` in the request's language."""
        return HTMLResponse(self.html(request, name, caller=caller, **values), status_code=status, headers=PRIVATE)

    def html(self, request: Request, name: str, *, caller: Caller | None, **values: Any) -> str:
        """The text of the page or part `name`."""
        language = language_of(request)
        given = {
            "t": self.texts[language],
            "language": language,
            "theme": theme_of(request),
            "caller": caller,
            "csrf": (caller.csrf if caller else None) or "",
            "navigation": [entry for entry in NAVIGATION if caller and entry.need in caller.permissions],
            "here": _here(request),
            "faults": {status: self.texts[language](f"fault.s{status}_text") for status in FAULTS},
            "current": "",
            "may": lambda need: caller is not None and need in caller.permissions,
        }
        return self._environment.get_template(name).render(given | values)

    def text(self, request: Request) -> Texts:
        """The words for a request, for routes that answer with JSON."""
        return self.texts[language_of(request)]

    @cached_property
    def statics(self) -> Mapping[str, Static]:
        """All static files by name."""
        found = {}
        for file in sorted((WEB / "static").iterdir()):
            data = file.read_bytes()
            found[file.name] = Static(data, MEDIA[file.suffix], hashlib.sha256(data).hexdigest()[:16])
        return found

    def address(self, name: str) -> str:
        """Where the static file `name` is served, with its content's hash. Raises: KeyError."""
        return f"/static/{self.statics[name].mark}/{name}"


FAULTS = (400, 403, 404, 409, 413, 500, 507)  # statuses that the page's script explains
PRIVATE = {"Cache-Control": "no-store"}  # a page holds what its reader may see: no cache keeps it


def language_of(request: Request) -> Language:
    """The cookie's language, else the first of Accept-Language that we speak, else Japanese."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return chosen
    wanted = []
    for part in request.headers.get("accept-language", "")[:500].split(","):
        tag, _, quality = part.strip().partition(";q=")
        try:
            wanted.append((-float(quality or 1), tag[:2].lower()))
        except ValueError:
            continue
    known = [tag for weight, tag in sorted(wanted, key=lambda one: one[0]) if tag in LANGUAGES and weight < 0]
    return known[0] if known else "ja"  # type: ignore[return-value]


def theme_of(request: Request) -> Theme:
    """The cookie's theme, else the one of the reader's system."""
    chosen = request.cookies.get(THEME_COOKIE)
    return chosen if chosen in THEMES else "auto"


def local_path(path: str | None) -> str:
    """`path` if it stays on this site, else the start page: where a switch or sign-in goes back to."""
    good = path is not None and re.fullmatch(r"/(?![/\\])[^\s\\\x00-\x1f]*", path) is not None
    return path if good else "/"  # type: ignore[return-value]


def _here(request: Request) -> str:
    query = urlencode(request.query_params.multi_items())
    return local_path(request.url.path + ("?" + query if query else ""))


def as_label(value: Label | str) -> dict[str, Any]:
    """A label for its badge: level word, Japanese word, compartments."""
    label = value if isinstance(value, Label) else Label.parse(value)
    return {"level": label.level.word, "japanese": label.level.japanese, "compartments": sorted(label.compartments)}


def _local(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()


def day(text: str | None) -> str:
    """A ledger's time as a date on this machine's clock; "" for none."""
    return _local(text).strftime("%Y-%m-%d") if text else ""


def moment(text: str | None) -> str:
    """A ledger's time as date and time on this machine's clock; "" for none."""
    return _local(text).strftime("%Y-%m-%d %H:%M") if text else ""


def size(n_bytes: int) -> str:
    """Bytes in the unit that a person reads."""
    amount = float(n_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError("unreachable")


def combined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both as one, the second's values winning; without what is None."""
    return {key: value for key, value in {**one, **other}.items() if value is not None}


def asked(spot: Any) -> dict[str, Any]:
    """A place as the source viewer's address carries it."""
    box = ",".join(f"{value:g}" for value in spot.box) if spot.box else None
    return {"page": spot.page, "start": spot.start, "end": spot.end, "cell": spot.cell, "box": box, "at": spot.at}


def as_json(value: Any) -> str:
    """A value for a data attribute; escaped by the template as any text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
