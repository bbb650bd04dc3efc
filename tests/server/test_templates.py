"""Templates, languages, static files."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from starlette.requests import Request

from hagane.core.accounts import ROLES, Account, Caller
from hagane.core.labels import Clearance
from hagane.core.types import Principal
from hagane.server.pages import LANGUAGES, WEB, Pages, Texts, language_of, local_path

PAGES = Pages()
TEMPLATES = sorted((WEB / "templates").glob("*.html"))


def request(path: str = "/", *, cookie: str = "", accept: str = "") -> Request:
    headers = [(b"cookie", cookie.encode()), (b"accept-language", accept.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    return Request({**scope, "scheme": "http", "server": ("127.0.0.1", 80)})


def caller(name: str = "田中") -> Caller:
    clearance = Clearance.parse("internal")
    account = Account("u_1", "tanaka", name, "reader", clearance, Principal("tanaka", clearance))
    return Caller(account, ROLES["reader"], csrf="token-of-the-session")


def values(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_both_languages_hold_the_same_texts_with_the_same_values():
    """A key or a value that one language lacks would be an error in front of half of the users."""
    words = {language: Texts(language).words for language in LANGUAGES}
    assert words["ja"].keys() == words["en"].keys()
    assert {key: values(text) for key, text in words["ja"].items()} == {key: values(text) for key, text in words["en"].items()}
    assert all(text.strip() for one in words.values() for text in one.values())


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
def test_every_text_that_a_template_names_exists(file: Path):
    known = Texts("ja").words
    named = re.findall(r"""\bt\(\s*["']([^"']+)["']\s*[,)]""", file.read_text(encoding="utf-8"))
    assert [key for key in named if key not in known] == []


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
def test_no_template_has_an_inline_script_style_or_handler_or_marks_something_as_safe(file: Path):
    """The content security policy would block it; and what is marked safe is not escaped."""
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|hx-on|javascript:|\|\s*safe|autoescape|<script(?! src=)|https?://(?!www\.w3\.org)", text)


@pytest.mark.parametrize(
    ("cookie", "accept", "language"),
    [
        ("", "", "ja"),
        ("", "en-US,en;q=0.9,ja;q=0.8", "en"),
        ("", "fr-FR,ja;q=0.3,en;q=0.2", "ja"),
        ("", "en;q=0,fr", "ja"),
        ("", "en;q=x", "ja"),
        ("hagane_language=ja", "en", "ja"),
        ("hagane_language=<script>", "en", "en"),
    ],
)
def test_the_language_is_the_chosen_one_else_the_browsers(cookie: str, accept: str, language: str):
    assert language_of(request(cookie=cookie, accept=accept)) == language


def test_a_name_with_markup_is_text_on_the_page():
    html = PAGES.html(request(), "base.html", caller=caller("<img src=x onerror=alert(1)>田中"))
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;田中" in html


def test_a_value_that_a_page_lacks_is_an_error():
    template = PAGES._environment.from_string("{{ 社員番号 }}")
    with pytest.raises(UndefinedError):
        template.render()


def test_navigation_shows_what_the_caller_may_do():
    html = PAGES.html(request(), "base.html", caller=caller())
    assert 'href="/documents"' in html
    assert 'href="/people"' not in html
    assert "文書" in html


@pytest.mark.parametrize("path", ["https://悪.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "", None, "/a\nb", "/\t/evil"])
def test_a_switch_leads_back_to_this_site_only(path: str | None):
    assert local_path(path) == "/"


def test_a_page_of_this_site_is_kept_as_the_way_back():
    assert local_path("/sources/d_1?page=2&q=有給") == "/sources/d_1?page=2&q=有給"


def test_a_static_file_has_its_contents_hash_in_the_address():
    import hashlib

    data = (WEB / "static" / "page.js").read_bytes()
    assert PAGES.address("page.js") == f"/static/{hashlib.sha256(data).hexdigest()[:16]}/page.js"


def test_static_files_name_no_other_host():
    """No remote asset: what the page needs comes from this server."""
    for name, file in PAGES.statics.items():
        if name.endswith((".css", ".js")) and not name.startswith("htmx"):
            assert not re.search(rb"https?://|//[a-z]+\.", file.data), name
