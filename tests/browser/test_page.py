"""The page in a real browser: sign in, ask, open a source, switch language, give feedback; nothing serious for axe-core.

Screenshots go to HAGANE_SHOTS, else to a temporary folder. Needs Chromium (Debian's, or CHROMIUM=path).
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server.site import PASSWORD, serving

from hagane.project import documents, people
from hagane.project.wire import Project

pytestmark = pytest.mark.long
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (dependency group dev)")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "company"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZES = {"desktop": (1360, 860), "phone": (390, 844)}
ANSWERED = "[data-thread] > :last-child .tools"
PEOPLE = {"田中": ("admin", "restricted:*"), "佐藤": ("reader", "internal"), "監査": ("officer", "restricted:*")}
QUESTION = "接待交際費（会食）の上限額はいくらですか？"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server over the demo's documents, searched by words."""
    if not CHROMIUM:
        pytest.skip("needs chromium; set CHROMIUM to its path")
    folder = tmp_path_factory.mktemp("page") / "company"
    shutil.copytree(EXAMPLES, folder)
    file = folder / "hagane.yaml"
    file.write_text(file.read_text(encoding="utf-8") + "\nembedder: {name: none}\n", encoding="utf-8")
    with Project.open(folder) as project:
        owner = project.principal("owner")
        documents.sync(project, by=owner, emit=lambda event: None)
        for name, (role, clearance) in PEOPLE.items():
            people.create_user(project, name, role=role, clearance=clearance, password=PASSWORD, by=owner)
    with serving(folder) as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("HAGANE_SHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Reader:
    """Someone at the page. What the browser complains of is kept, and must be nothing."""

    def __init__(self, browser: Any, url: str, *, size: str = "desktop", theme: str = "light", locale: str = "ja-JP", **more: Any) -> None:
        width, height = SIZES[size]
        self.url = url
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme, locale=locale, **more)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self.complaints.append(request.url) if not request.url.startswith((url, "data:", "blob:")) else None)

    def sign_in(self, name: str) -> None:
        self.page.goto(self.url + "/sign-in")
        self.page.fill("[name=name]", name)
        self.page.fill("[name=password]", PASSWORD)
        self.page.click("form button[type=submit]")
        self.page.wait_for_selector("[data-composer]")

    def ask(self, question: str) -> None:
        n = self.page.locator("[data-thread] > .turn").count()
        self.page.fill("#question", question)
        self.page.press("#question", "Enter")
        self.page.wait_for_selector(f"[data-thread] > .turn:nth-child({n + 1}) .tools")

    def open_source(self) -> None:
        self.page.locator("[data-thread] > :last-child .source-link").first.click()
        self.page.wait_for_selector("#viewer-body [data-viewer-title]")
        self.page.wait_for_load_state("networkidle")

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []


def yellow_share(png: bytes) -> float:
    """How much of a picture is the colour of a highlighter: much red and green, little blue."""
    from PIL import Image

    raw = Image.open(io.BytesIO(png)).convert("RGB").tobytes()
    pixels = list(zip(raw[::3], raw[1::3], raw[2::3], strict=True))
    return sum(red > 200 and green > 170 and blue < 190 and red - blue > 50 for red, green, blue in pixels) / len(pixels)


def test_asking_opening_a_source_switching_the_language_and_giving_feedback(browser: Any, address: str, shots: Path):
    reader = Reader(browser, address)
    page = reader.page
    reader.sign_in("佐藤")
    page.wait_for_selector("[data-suggestion]")
    assert page.locator("[data-suggestion]").count() >= 2
    page.screenshot(path=shots / "1-start.png")
    reader.ask(QUESTION)
    answer = page.locator("[data-answer]").last.inner_text()
    assert "12,000円" in answer
    page.screenshot(path=shots / "2-answer.png")
    page.locator("[data-answer] .mark").first.click()
    page.wait_for_selector("#viewer-body rect[data-mark]")
    page.wait_for_load_state("networkidle")
    place = page.locator("#viewer-body rect[data-mark]").first.bounding_box()
    assert place is not None
    assert place["width"] > 50
    assert place["y"] + place["height"] < SIZES["desktop"][1]
    assert yellow_share(page.screenshot(clip=place)) > 0.5  # the highlight is seen
    assert "rules/経費規程.pdf" in page.locator("#viewer-body").inner_text()
    page.screenshot(path=shots / "3-source.png")
    page.keyboard.press("Escape")
    assert page.locator("#viewer").is_hidden()
    up = page.locator("[data-opinion=up]").last
    up.click()
    page.wait_for_selector("[data-opinion=up][aria-pressed=true]")
    page.get_by_role("link", name="English").click()
    page.wait_for_selector("html[lang=en]")
    assert "Sources: 1" in page.locator("[data-thread]").inner_text()
    assert page.locator("[data-opinion=up][aria-pressed=true]").count() == 1
    page.screenshot(path=shots / "4-english.png")
    reader.close()


def test_a_worksheet_opens_at_the_cell_and_an_abstention_helps(browser: Any, address: str, shots: Path):
    reader = Reader(browser, address, theme="dark")
    page = reader.page
    reader.sign_in("佐藤")
    reader.ask("AL-300 の一般価格は？")
    reader.open_source()
    marked = page.locator("#viewer-body td.marked").first
    assert marked.is_visible()
    page.screenshot(path=shots / "5-sheet.png")
    page.keyboard.press("Escape")
    reader.ask("量子もつれを観測した宇宙飛行士は誰？")
    page.wait_for_selector(".abstained .tries")
    page.screenshot(path=shots / "6-abstention.png")
    reader.close()


def test_who_has_no_clearance_sees_nothing_of_hr(browser: Any, address: str):
    reader = Reader(browser, address)
    reader.sign_in("佐藤")
    reader.ask("等級ごとの月額給与の範囲は？")
    assert "hr/" not in reader.page.locator("body").inner_text()
    reader.close()


def test_a_conversation_is_renamed_and_deleted_by_keyboard(browser: Any, address: str):
    reader = Reader(browser, address)
    page = reader.page
    reader.sign_in("佐藤")
    reader.ask("在宅勤務は週何日まで？")
    rename = page.locator("[data-rename]").first
    rename.focus()
    page.keyboard.press("Enter")
    page.fill("#rename-to", "在宅の話")
    page.keyboard.press("Enter")
    page.wait_for_selector("#talks >> text=在宅の話")
    page.locator("[data-delete]").first.focus()
    page.keyboard.press("Enter")
    page.locator("[data-dialog=delete] .button-danger").click()
    page.wait_for_selector("[data-welcome]")
    assert "在宅の話" not in page.locator("#talks").inner_text()
    reader.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, address: str, shots: Path, size: str, theme: str):
    """Contrast, names, roles, order: in both looks and at both widths. (axe itself needs the policy lifted.)"""
    from axe_playwright_python.sync_playwright import Axe

    found: dict[str, list[str]] = {}
    reader = Reader(browser, address, size=size, theme=theme, bypass_csp=True)
    page = reader.page

    def look(name: str) -> None:
        page.wait_for_timeout(250)  # what fades in has arrived
        page.screenshot(path=shots / f"{size}-{theme}-{name}.png", full_page=size == "phone" and name not in ("source", "sheet", "menu"))
        for violation in Axe().run(page).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                places = [node["html"][:120] for node in violation["nodes"][:3]]
                found.setdefault(name, []).append(f"{violation['id']}: {places}")

    page.goto(address + "/sign-in")
    look("sign-in")
    reader.sign_in("田中")
    look("start")
    reader.ask(QUESTION)
    look("answer")
    reader.open_source()
    look("source")
    page.keyboard.press("Escape")
    reader.ask("AL-300 の一般価格は？")
    reader.open_source()
    look("sheet")
    page.keyboard.press("Escape")
    reader.ask("量子もつれを観測した宇宙飛行士は誰？")
    look("abstention")
    page.locator("[data-opinion=down]").last.click()
    page.wait_for_selector("[data-opinion=down][aria-pressed=true]")
    for path in ("feedback", "documents", "people", "settings", "health", "account"):
        page.goto(f"{address}/{path}")
        look(path)
    if size == "phone":
        page.goto(address)
        page.click("[data-menu]")
        look("menu")
    assert found == {}
    reader.close()
