"""Health and settings of the page: who sees them, where the plots' bars stand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server.site import ROLES, Site

from hagane.core.accounts import ROLES as GIVEN
from hagane.server.plots import bars, lines, top_of


@pytest.mark.parametrize("role", ROLES)
def test_health_is_for_those_who_build_and_settings_for_those_who_administer(site: Site, role: str):
    client = site.client(role, "public")
    for where, need in (("/health", "build"), ("/health/now", "build"), ("/api/board", "build"), ("/settings", "administer"), ("/api/settings", "administer")):
        assert client.get(where).status_code == (200 if need in GIVEN[role] else 403), where


@pytest.mark.parametrize("language", ["ja", "en"])
def test_pages_render_in_both_languages(site: Site, language: str):
    client = site.client("admin", "restricted:*")
    for where in ("/health", "/settings", "/people"):
        page = client.get(where, headers={"Accept": "text/html", "Accept-Language": language})
        assert page.status_code == 200
        assert " style=" not in page.text, "the policy allows no inline style"


def test_no_word_of_a_document_on_the_health_page(site: Site):
    page = site.client("builder", "public").get("/health").text
    assert not any(word in page for word in ("給与", "有給休暇", "経費"))


@given(st.floats(0, 1e6))
def test_axis_ends_at_a_round_number_not_far_above(highest: float) -> None:
    assert highest <= top_of(highest) <= max(1.0, highest * 2.5)


def test_bars_stand_on_the_base_line_and_fit() -> None:
    days: list[dict[str, Any]] = [{"day": f"2026-11-{n:02}", "up": n % 3, "down": n % 2, "p50_ms": n if n % 4 else None} for n in range(1, 31)]
    drawn = bars(days, "up", "down")
    for bar in drawn["bars"]:
        assert 0 <= bar["x"] <= bar["x"] + bar["w"] <= drawn["width"]
        assert drawn["head"] - 0.1 <= bar["y"] <= bar["y"] + bar["h"] <= drawn["base"] + 0.1
    [line] = lines(days, "p50_ms")["lines"]
    assert len(line["points"]) == 23
    assert len(line["paths"]) == 8, "a day without a number interrupts the line"
