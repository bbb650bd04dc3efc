"""The pages for documents, people, audit, settings and health in a real browser; nothing serious for axe-core."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser.test_page import SIZES, Reader, address, browser, shots  # noqa: F401 (fixtures)

pytestmark = pytest.mark.long
FIRST = "# 慶弔見舞金規程\n\n第1条 結婚祝金は3万円とする。申請は総務部に行う。\n"
SECOND = FIRST.replace("3万円", "5万円")
NAME = "慶弔見舞金規程.md"


@pytest.fixture
def admin(browser: Any, address: str) -> Iterator[Reader]:  # noqa: F811
    reader = Reader(browser, address)
    reader.sign_in("田中")
    yield reader
    reader.close()


def upload(page: Any, text: str, name: str = NAME) -> None:
    page.set_input_files("[data-zone] input[type=file]", {"name": name, "mimeType": "text/markdown", "buffer": text.encode()})


def wait_until_read(page: Any) -> None:
    for _ in range(300):
        state = page.evaluate("fetch('/api/sync').then(answer => answer.json())")
        if not state["under_way"] and not state["waiting"]:
            break
        page.wait_for_timeout(200)
    assert state["waiting"] == 0
    page.locator("#reading .reading-now").wait_for(state="detached")


def test_a_file_is_dropped_read_compared_relabelled_and_deleted(admin: Reader, shots: Path):  # noqa: F811
    page = admin.page
    page.goto(admin.url + "/documents")
    upload(page, FIRST)
    page.wait_for_selector(".sending .sent")
    row = page.locator("#shelf tr", has_text=NAME)
    row.locator("text=検索できます").wait_for(timeout=60_000)
    page.screenshot(path=shots / "upload.png")
    upload(page, SECOND)
    page.get_by_role("button", name="置き換える").click()
    admin.complaints = [said for said in admin.complaints if "409" not in said]  # that a file of that name is there
    page.wait_for_selector(".sending .sent >> nth=1")
    wait_until_read(page)
    page.fill("#f-text", "慶弔")
    page.wait_for_url(re.compile("text="))
    page.locator("#shelf a", has_text="慶弔見舞金規程").click()
    page.get_by_role("link", name="一つ前と比べる").click()
    assert page.locator("ins").inner_text() == "5"
    page.screenshot(path=shots / "compare.png")
    page.go_back()
    page.get_by_text("機密区分を変更").first.click()
    page.select_option("#new-level", "confidential")
    page.fill("#f-reason", "見直し中のため")
    page.locator("form[data-to*='/label'] button[type=submit]").click()
    page.wait_for_selector(".page-head .label-confidential")
    page.get_by_role("button", name="このファイルを削除").click()
    page.locator("dialog[open] button[type=submit]").click()
    page.wait_for_url(re.compile("/documents$"))
    wait_until_read(page)
    page.reload()
    assert page.locator("#shelf tr", has_text=NAME).count() == 0


def test_a_name_that_is_script_does_nothing(admin: Reader):
    page = admin.page
    page.goto(admin.url + "/documents")
    upload(page, "# 表題\n\n本文は規程のとおりとする。\n", "<img src=x onerror=window.hit=1>.md")
    page.wait_for_selector(".sending .sent")
    wait_until_read(page)
    page.reload()
    assert page.locator("#shelf tr", has_text="onerror").count() == 1
    assert page.evaluate("window.hit") is None


def test_someone_is_invited_and_gets_a_token(admin: Reader, browser: Any, shots: Path):  # noqa: F811
    page = admin.page
    page.goto(admin.url + "/people")
    page.get_by_role("button", name="利用者を追加").click()
    page.fill("#n-name", "山本")
    page.get_by_role("button", name="追加して招待リンクを作る").click()
    page.wait_for_selector("[data-result=invited]:not([hidden])")
    link = page.input_value("#invited-link")
    assert link.startswith(f"{admin.url}/welcome#")
    page.screenshot(path=shots / "invited.png")
    guest = Reader(browser, admin.url)
    guest.page.goto(link)
    assert guest.page.locator("input[type=password]").count() >= 2
    guest.close()
    page.reload()
    assert link not in page.content()
    page.get_by_role("link", name="山本").click()
    page.get_by_text("トークンを作る").first.click()
    page.fill("#t-name", "夜間の取り込み")
    page.locator("form[data-to$='/tokens'] button[type=submit]").click()
    page.wait_for_selector("[data-result=token]:not([hidden])")
    assert page.input_value("#made-token").startswith("hg_")


def test_an_officer_verifies_the_log_and_asks_who_sees_what(browser: Any, address: str, shots: Path):  # noqa: F811
    officer = Reader(browser, address)
    officer.sign_in("監査")
    page = officer.page
    page.goto(address + "/audit")
    page.locator("[hx-post='/audit/verify']").click()
    page.wait_for_selector("#state .notice-good")
    page.fill("#a-user", "佐藤")
    page.fill("#a-thing", "confidential:hr")
    page.get_by_role("button", name="確かめる", exact=True).click()
    page.wait_for_selector("[data-result=because]:not([hidden])")
    assert "cannot see" in page.locator("[data-slot=because]").inner_text()
    page.select_option("#w-act", "session")
    page.wait_for_url(re.compile("act=session"))
    page.locator("#records .act-cell", has_not_text="session").first.wait_for(state="detached")
    page.screenshot(path=shots / "audit.png", full_page=True)
    officer.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", sorted(SIZES))
def test_axe_finds_nothing_serious_on_the_other_pages(browser: Any, address: str, shots: Path, size: str, theme: str):  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = []
    for name, paths in (("田中", ("/documents", "/people", "/settings", "/health")), ("監査", ("/audit",))):
        reader = Reader(browser, address, size=size, theme=theme)
        reader.sign_in(name)
        page = reader.page
        for path in paths:
            page.goto(address + path)
            page.wait_for_load_state("networkidle")
            found += _serious(axe, page, path)
            page.screenshot(path=shots / f"{path[1:]}-{size}-{theme}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), f"{path} is wider than the window"
            if path in ("/documents", "/people"):
                page.locator("a.shelf-title").first.click()
                page.wait_for_load_state("networkidle")
                for fold in page.locator("details.more > summary").all():
                    fold.click()
                found += _serious(axe, page, path + "/one")
                page.screenshot(path=shots / f"{path[1:]}-one-{size}-{theme}.png", full_page=True)
        reader.close()
    assert found == []


def _serious(axe: Any, page: Any, where: str) -> list[str]:
    told = axe.run(page).response["violations"]
    return [f"{where}: {one['id']} {one['nodes'][0]['html'][:120]}" for one in told if one["impact"] in ("serious", "critical")]
