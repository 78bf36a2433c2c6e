"""Lab 08 in a browser: tables follow each edit, a knee is measured and drawn, and Prometheus' targets appear."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_page import REPOSITORY, LabPage, open_page, serve, solved
from playwright.sync_api import expect

from helpers.cluster import Cluster
from helpers.grading.lifecycle import reset, start
from helpers.labs.registry import load_lab

pytestmark = [pytest.mark.browser, pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.stack]

NOTEBOOK = REPOSITORY / "labs" / "08_scale.py"
ASKED = "Prometheus asks every model server"
CHART = "marimo-vega, svg.marks, canvas"


@pytest.fixture(scope="module")
def lab(cluster: Cluster, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabPage]:
    """One page for all tests, on a cluster in the lab's start state."""
    start(load_lab("08"), cluster, lambda text: None)
    reset(load_lab("08"), cluster, lambda text: None)
    folder = tmp_path_factory.mktemp("lab08")
    with (
        serve(NOTEBOOK, folder, COURSE_KUBECONFIG=str(kubeconfig)) as url,
        open_page(url) as page,
    ):
        yield LabPage(page)
    reset(load_lab("08"), cluster, lambda text: None)


def edit(lab: LabPage, name: str) -> None:
    """Put the solution's text into a cell."""
    lab.edit(name, lambda text: solved("08_scale.py", name))


def test_a_job_that_is_lost_shows_before_anything_is_delivered(lab: LabPage) -> None:
    shown = lab.cell("lost: nobody gets it again")
    expect(shown).to_contain_text("8 times by now")
    lab.picture("lab08-delivery-given", at=shown)
    for name in ("order", "after_failure"):
        edit(lab, name)
    expect(lab.cell("finished, once")).not_to_contain_text("lost: nobody")
    lab.press("Deliver the delivery")
    expect(lab.cell("Deliver the delivery")).to_contain_text("holds this delivery.py")


def test_the_cache_s_tables_follow_the_functions(lab: LabPage) -> None:
    shown = lab.cell("another version of the prompt")
    expect(shown).to_contain_text("the first ends 0 s before the last")
    lab.picture("lab08-cache-given", at=shown)
    for name in ("key", "ttl_s", "may_share"):
        edit(lab, name)
    expect(lab.cell("before the last")).to_contain_text("the first ends 240 s")
    lab.press("Deliver the cache")
    expect(lab.cell("Deliver the cache")).to_contain_text("holds this cache.py")
    expect(lab.cell("somebody who is gone").or_(lab.cell("up to 50 generations")).first).to_be_visible()
    for name in ("lease_s", "while_another_works"):
        edit(lab, name)
    expect(lab.cell("one takes the lease over")).to_be_visible()


def test_a_knee_is_measured_and_drawn(lab: LabPage) -> None:
    lab.press("Ask with 1, 2, 4, 8, 16 at once")
    shown = lab.cell("Ask with 1, 2, 4, 8, 16 at once")
    expect(shown).to_contain_text(re.compile("The knee is at|the knee lies further out"))
    expect(shown.locator(CHART).first).to_be_visible()
    lab.picture("lab08-knee", at=shown)


def test_targets_appear_when_the_monitors_are_right(lab: LabPage) -> None:
    expect(lab.cell("Prometheus asks nobody")).to_be_visible()
    edit(lab, "monitors_yaml")
    lab.press("Apply the monitors")
    lab.sees(ASKED, "PASS")
    targets = lab.cell("what went wrong")
    expect(targets).to_contain_text("llm-worker-")
    lab.picture("lab08-targets", at=targets)


def test_two_views_of_one_load_stand_on_one_clock(lab: LabPage) -> None:
    lab.press("Watch both for a minute and a half")
    shown = lab.cell("Watch both for a minute and a half")
    expect(shown.locator(CHART).nth(3)).to_be_visible()
    lab.picture("lab08-views", at=shown)
    clock = lab.cell("The last ten minutes")
    lab.picture("lab08-clock", at=clock)
