"""The learner's report in a browser without a network: readable in light and dark, on a screen and a phone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from lab_page import open_page
from playwright.sync_api import Page

from helpers.grading.pages.study import study_page
from helpers.grading.progress import LabProgress
from helpers.labs.registry import load_lab
from tests.unit import export_data as data

pytestmark = pytest.mark.browser

# WCAG 2.2, 1.4.3: normal text needs 4.5 : 1 against what is behind it.
CONTRAST = """selector => {
  const light = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(Number)
      .map(value => value / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  return Math.min(...[...document.querySelectorAll(selector)].map(element => {
    const style = getComputedStyle(element);
    const ink = light(element.closest('svg') ? style.fill : style.color);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  }));
}"""


@pytest.fixture
def report(tmp_path: Path) -> str:
    passed = {f"c{number}": f"2026-01-01T09:{number:02d}:00+00:00" for number in range(14)}
    begun, done = "2026-01-01T09:00:00+00:00", "2026-01-01T10:10:00+00:00"
    labs = {"01": LabProgress("01", begun, 10, 10, done, "uid", "simulated", passed)}
    page = tmp_path / "report.html"
    known = [load_lab("01"), load_lab("02")]
    page.write_text(
        study_page(labs, {"01": data.PENDING, "02": data.HALF}, known, datetime(2026, 1, 5, tzinfo=UTC))
    )
    return page.as_uri()


def overflow(page: Page) -> int:
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


@pytest.mark.parametrize("dark", [False, True])
def test_the_report_reads_well_and_fetches_nothing(report: str, dark: bool) -> None:
    with open_page(report, dark=dark, shows="h1") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: asked.append(message.text))
        page.reload()
        assert asked == [report]
        assert page.locator("figure svg").count() == 3
        assert page.evaluate(CONTRAST, "p, td, th, small, figcaption, .word, summary") >= 4.5
        assert page.evaluate(CONTRAST, "svg .role-axis-label text, svg .role-legend-label text") >= 4.5
        page.locator("summary").first.click()
        assert page.get_by_text("resourceVersion 7").first.is_visible()
        page.set_viewport_size({"width": 390, "height": 800})
        assert overflow(page) == 0
