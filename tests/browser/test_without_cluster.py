"""A page without a cluster: readable, and it names the next command."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_page import REPOSITORY, LabPage, open_page, serve
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def test_lab_01_is_readable_without_a_cluster(tmp_path: Path) -> None:
    notebook = REPOSITORY / "labs" / "01_substrate.py"
    home = {"COURSE_HOME": str(tmp_path / "home"), "COURSE_CLUSTER": "none"}
    with serve(notebook, tmp_path / "page", **home) as url, open_page(url, dark=True) as page:
        lab = LabPage(page)
        expect(lab.cell("not connected")).to_contain_text("course up")
        expect(page.locator(".layer")).to_have_count(4)
        lab.predict("Which layer do you look at first?", "GPU substrate: something")
        expect(lab.cell("as you predicted")).to_be_visible()
        expect(page.get_by_text("Traceback")).to_have_count(0)
        lab.picture("without-a-cluster")
