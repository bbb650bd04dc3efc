"""The doors in a real browser: the fragment's secret, the second factor without typing twice, sign-out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from server.site import PASSWORD, serving
from small_company import Folder

pytestmark = pytest.mark.long
PHONE = {"width": 375, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


def shot(page: Any, name: str) -> None:
    """Where HAGANE_SHOTS says, for a person to look at."""
    folder = os.environ.get("HAGANE_SHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def test_from_the_set_up_link_to_a_second_factor(folder: Folder, browser: Any):
    """One walk, because each step needs the one before."""
    with serving(folder.path) as (url, process):
        process.stderr.readline()
        link = process.stderr.readline().strip()
        context = browser.new_context(locale="ja-JP", viewport={"width": 1200, "height": 800})
        page = context.new_page()
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(link)
        secret = link.partition("#")[2]
        assert page.url == f"{url}/set-up", "the secret has left the address bar"
        assert page.input_value("#f-secret") == secret
        shot(page, "set_up")
        page.fill("#f-name", "総務 花子")
        page.fill("#f-password", PASSWORD)
        page.fill("#f-again", PASSWORD)
        page.click("button[type=submit]:has-text('管理者を作って')")
        page.wait_for_url(url + "/")

        page.goto(url + "/account")
        page.click("text=二段階認証を設定")
        key = page.inner_text("section[aria-labelledby=second] code")
        shot(page, "account_totp")
        assert page.evaluate("document.querySelector('.qr').naturalWidth") > 100, "the policy lets the picture through"
        page.fill("#f-code", pyotp.TOTP(key).now())
        page.click("text=有効にする")
        page.wait_for_url(url + "/account?done=second_on")
        shot(page, "account")
        page.click("form[action='/sign-out'] button")
        page.wait_for_url(url + "/sign-in")

        page.set_viewport_size(PHONE)
        shot(page, "sign_in_phone")
        page.fill("#f-name", "総務 花子")
        page.fill("#f-password", PASSWORD)
        page.click("form[data-door] button")
        page.wait_for_selector("#f-code", state="visible")
        assert page.input_value("#f-password") == PASSWORD, "it is not typed twice"
        assert "6桁" in page.inner_text("[data-problem]")
        shot(page, "sign_in_code")
        page.fill("#f-code", "000000")
        page.click("form[data-door] button")
        page.wait_for_selector("[data-problem]:has-text('違う')")
        assert page.input_value("#f-code") == ""

        assert not [address for address in asked if secret in address]
        assert {address.split("/")[2] for address in asked if address.startswith("http")} == {url.split("/")[2]}
        assert [text for text in wrong if "401" not in text] == []
        context.close()
