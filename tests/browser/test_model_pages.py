"""The pages about models in a real browser: list, one model, a run that goes on, a plan before it starts; light, dark, phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_model
import pytest
from browser.test_page import CHROMIUM, EXAMPLES, PEOPLE, Reader, browser, shots  # noqa: F401 (fixtures)
from server.site import PASSWORD, serving
from server.test_model_routes import put_run

from hagane.project import documents, people
from hagane.project.wire import Project

pytestmark = pytest.mark.long
GATES = {
    "parity": {"passed": True, "checks": 6, "ties": 1}, "memory": {"passed": True, "longest_copy": 23, "share": 0.0}, "dev": {"loss": 2.314, "bits_per_byte": 1.42},
    "measured": {"seconds": 5400, "tokens": 1_240_000, "flops": 3.1e15, "kwh": 0.0451, "predicted": {"predicted_s": 5100, "measured_s": 5400, "seconds_ratio": 1.06}},
}  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over the demo's documents with three made models and three runs."""
    if not CHROMIUM:
        pytest.skip("needs chromium; set CHROMIUM to its path")
    folder = tmp_path_factory.mktemp("models") / "company"
    shutil.copytree(EXAMPLES, folder)
    file = folder / "hagane.yaml"
    file.write_text(file.read_text(encoding="utf-8") + "\nembedder: {name: none}\n", encoding="utf-8")
    with Project.open(folder) as project:
        owner = project.principal("owner")
        documents.sync(project, by=owner, emit=lambda event: None)
        for name, (role, clearance) in PEOPLE.items():
            people.create_user(project, name, role=role, clearance=clearance, password=PASSWORD, by=owner)
        ids = [row.id for row in project.ledger.documents.list(clearance=owner.clearance)]
        made_model.put(project, "kisoku-270m", parents=[*ids, "d_" + "0" * 16, "d_" + "1" * 16], reports=GATES, n_params=268_000_000, context=2048)
        made_model.put(project, "jinji-reader", "confidential", reports=GATES | {"memory": {"passed": False, "longest_copy": 131, "share": 0.2}}, state="blocked",
                       why="memory: 41 of 200 probed rows came back longer than 50 characters", n_params=3_800_000, context=2048)  # fmt: skip
        made_model.put(project, "small-scratch", "public", state="trained", base=made_model.Base(), reports={"dev": {"loss": 3.9}}, stage="pretrain")
        put_run(project, "kisoku-270m", "internal", text="年次有給休暇は、入社から6か月後に10日が付与されます", state="done", n=400)
        put_run(project, "jinji-reader", "confidential", text="文書には書かれていません", n=260)
        (folder / "jinji-reader.train.yaml").write_text("name: jinji-reader\npretrain: {params: 1M, data: [{documents: []}]}\n", encoding="utf-8")
    with serving(folder) as (url, _):
        yield url


def quiet(page: Any) -> None:
    """No side-ways scrolling on any page."""
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize(("size", "theme", "locale"), [("desktop", "light", "ja-JP"), ("desktop", "dark", "en-US"), ("phone", "light", "ja-JP")])
def test_models_and_runs_are_seen_in_every_look(browser: Any, address: str, shots: Path, size: str, theme: str, locale: str) -> None:  # noqa: F811
    reader = Reader(browser, address, size=size, theme=theme, locale=locale)
    reader.sign_in("田中")
    page = reader.page
    for where, name, what in (("/models", "models", "kisoku-270m"), ("/models/jinji-reader", "model", "131"), ("/models/kisoku-270m", "gone", "268,000,000"), ("/runs/kisoku-270m", "run", "10日が付与")):
        page.goto(address + where)
        assert what in page.locator("main").inner_text() or page.locator("main", has_text=what).count()
        quiet(page)
        page.screenshot(path=shots / f"{name}-{size}-{theme}.png", full_page=True)
    reader.close()


def test_a_train_yaml_is_planned_and_a_mistake_is_explained(browser: Any, address: str, shots: Path) -> None:  # noqa: F811
    reader = Reader(browser, address)
    reader.sign_in("田中")
    page = reader.page
    page.goto(address + "/models")
    assert page.locator("[data-go]").is_disabled(), "nothing starts unchecked"
    page.fill("#t-text", "name: new-llm\npretrain: {parms: 1M, data: [{documents: []}]}\n")
    page.click("[data-plan]")
    page.wait_for_selector("[data-train] [data-said]:not([hidden])")
    assert "params" in page.locator("[data-train] [data-said]").inner_text()
    reader.complaints = [said for said in reader.complaints if "400" not in said]
    page.fill("#t-text", "name: new-llm\npretrain: {params: 1M, data: [{documents: []}]}\n")
    page.click("[data-plan]")
    page.wait_for_selector("[data-planned]:not([hidden])", timeout=120_000)
    assert page.locator("[data-stages] tbody tr").count() >= 2
    quiet(page)
    page.screenshot(path=shots / "planned.png", full_page=True)
    assert page.locator("[data-go]").is_enabled()
    page.fill("#t-text", "name: another\n")
    assert page.locator("[data-go]").is_disabled(), "another text was not checked"
    reader.close()
