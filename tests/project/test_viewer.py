"""The source viewer's parts: marks in texts, cells of worksheets, windows of long texts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_company import TEXTS, YAML, Folder

from hagane.core.errors import NotFoundError, SourceError
from hagane.core.types import Block, Place
from hagane.project import viewer
from hagane.project.rendering import Renderer
from hagane.project.wire import Project

SAYS = "休暇はabc、<b>10日</b>とする。\n"


@pytest.fixture
def project(tmp_path: Path) -> Any:
    folder = Folder(tmp_path / "company")
    folder.write("hagane.yaml", YAML)
    for name, text in TEXTS.items():
        folder.write(name, text)
    folder.write("rules/長い規程.md", "# 長い規程\n\n" + "\n\n".join(f"第{n}項は、届出を{n}日以内に行うと定める。" for n in range(1, 1001)))
    folder.sync()
    with Project.open(folder.path) as opened:
        yield opened


def document(project: Project, path: str) -> str:
    return next(r.id for r in project.ledger.documents.every_unfiltered() if r.path == path)


@given(start=st.integers(0, 60), end=st.integers(0, 60), at=st.integers(0, 20))
def test_a_mark_cuts_a_text_and_loses_nothing(start: int, end: int, at: int):
    block = Block("paragraph", SAYS, Place(start=at, end=at + len(SAYS)))
    parts = viewer._parts(block, viewer.Spot(start=start, end=end))
    assert "".join(part.text for part in parts) == SAYS
    marked = "".join(part.text for part in parts if part.marked)
    assert marked == SAYS[max(0, start - at) : max(0, end - at)] if start < end else marked == ""


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("標準価格!D8", (8, 4, 8, 4)),
        ("A!B!C3:AA12", (3, 3, 12, 27)),
        ("B2:C3", (2, 2, 3, 3)),
        ("標準価格", None),
        ("", None),
        (None, None),
        ("S!d8", None),
        ("S!A0123456789", None),
    ],
)
def test_a_cells_name_is_read_or_is_none(cell: str | None, found: Any):
    assert viewer._range_of(cell) == found


def test_merged_cells_cover_their_places_once():
    given = {"name": "表", "first": 1, "end": 2, "last": 2, "cells": [[1, 1, 2, 1, "品名", True, False], [1, 2, 1, 2, "価格", True, False], [2, 2, 1, 1, "100", False, True]]}
    view = viewer._laid_out(given, (2, 2, 2, 2))
    assert view.columns == ("A", "B", "C")
    assert [[cell.text for cell in cells] for _, cells in view.rows] == [["品名", "価格"], ["100", ""]]
    assert [cell.text for _, cells in view.rows for cell in cells if cell.marked] == ["100"]


def test_a_long_text_opens_where_the_mark_is_and_goes_on_both_ways(project: Project):
    id, by = document(project, "rules/長い規程.md"), project.principal("staff")
    text = viewer.view(project, id, by=by)
    assert (text.before, text.after) == (None, viewer.N_BLOCKS)
    start = (project.folder / "rules" / "長い規程.md").read_text(encoding="utf-8").index("第900項")
    spot = viewer.Spot(start=start, end=start + 5)
    there = viewer.view(project, id, by=by, spot=spot)
    assert [part.text for item in there.items for part in item.parts if part.marked] == ["第900項"]
    assert there.before is not None
    back = viewer.view(project, id, by=by, spot=viewer.Spot(at=there.before))
    assert back.items[0].parts[0].text != there.items[0].parts[0].text


def test_anothers_version_is_not_shown_under_a_documents_name(project: Project):
    by = project.principal("staff")
    other = project.ledger.documents.get([document(project, "rules/経費.txt")], clearance=by.clearance)
    [record] = other.values()
    for verb in (viewer.view, viewer.original):
        with pytest.raises(NotFoundError):
            verb(project, document(project, "rules/有給休暇.md"), by=by, version=record.version)


def test_a_page_that_no_worker_can_make_is_an_error_and_the_next_one_works(tmp_path: Path):
    """A damaged file ends in a SourceError of one word; the worker lives, or a fresh one does."""
    renderer = Renderer()
    try:
        with pytest.raises(SourceError) as caught:
            renderer.page("v", b"%PDF-1.7\nbroken", path="壊れた.pdf", part="", page=1, dpi=72)
        assert caught.value.reason == "damaged"
        good = Path("examples/company/rules/経費規程.pdf")
        data = (Path(__file__).parent.parent.parent / good).read_bytes()
        made = renderer.page("v", data, path="経費規程.pdf", part="", page=1, dpi=40)
        assert (round(made.width), round(made.height)) == (595, 842)
        assert renderer.known("v", 1, 40) is made
        assert renderer.known("v", 2, 40) is None
        with pytest.raises(NotFoundError):
            renderer.page("v", data, path="経費規程.pdf", part="", page=9, dpi=40)
    finally:
        renderer.close()


def test_pictures_are_forgotten_oldest_first_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hagane.project.rendering.KEPT_BYTES", 25)
    renderer = Renderer()
    monkeypatch.setattr(renderer, "_ask", lambda **request: {"png": bytes(10), "width": 1.0, "height": 1.0})
    for page in (1, 2, 3):
        renderer.page("版", b"", path="", part="", page=page, dpi=72)
    assert [renderer.known("版", page, 72) is not None for page in (1, 2, 3)] == [False, True, True]


def test_no_place_of_the_project_reaches_the_worker(project: Project, monkeypatch: pytest.MonkeyPatch):
    """Bytes and a name only: what is opened there came from outside, and may be encrypted here."""
    seen: list[dict[str, Any]] = []

    def ask(**request: Any) -> dict[str, Any]:
        seen.append(request)
        return {"data": b""}

    monkeypatch.setattr(project.renderer, "_ask", ask)
    shutil.copy(Path(__file__).parent.parent.parent / "examples" / "company" / "minutes" / "棚卸資料.zip", project.folder / "rules")
    from hagane.project import documents

    documents.sync(project, by=project.principal("owner"), emit=lambda event: None)
    part = next(r for r in project.ledger.documents.every_unfiltered() if r.parent)
    viewer.original(project, part.id, by=project.principal("staff"))
    [request] = seen
    assert str(project.folder) not in repr({k: v for k, v in request.items() if k != "data"})
    assert request["data"].startswith(b"PK")
