"""Lab 09 in a browser: the kubelet's words for three faults, a way that is looked at, and what it costs, drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_page import REPOSITORY, LabPage, open_page, serve, solved
from playwright.sync_api import expect

from helpers.cluster import Cluster
from helpers.grading.lifecycle import reset, start
from helpers.labs.registry import load_lab

pytestmark = [pytest.mark.browser, pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.stack]

NOTEBOOK = REPOSITORY / "labs" / "09_models.py"
READERS = "reader-a, reader-b and reader-c are Ready"
CHART = "marimo-vega, svg.marks, canvas"


@pytest.fixture(scope="module")
def lab(cluster: Cluster, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabPage]:
    """One page for all tests, on a cluster in the lab's start state."""
    start(load_lab("09"), cluster, lambda text: None)
    reset(load_lab("09"), cluster, lambda text: None)
    folder = tmp_path_factory.mktemp("lab09")
    with (
        serve(NOTEBOOK, folder, COURSE_KUBECONFIG=str(kubeconfig)) as url,
        open_page(url) as page,
    ):
        yield LabPage(page)
    reset(load_lab("09"), cluster, lambda text: None)


def edit(lab: LabPage, name: str) -> None:
    """Put the solution's text into a cell."""
    lab.edit(name, lambda text: solved("09_models.py", name))


def test_the_words_for_three_faults_stand_side_by_side(lab: LabPage) -> None:
    lab.press("Apply the readers")
    words = lab.cell("its newest warning says")
    expect(words).to_contain_text("image subpath")
    lab.picture("lab09-words", at=words)
    edit(lab, "readers_yaml")
    lab.press("Apply the readers")
    lab.sees(READERS, "PASS")


def test_a_way_is_looked_at_and_its_costs_are_drawn(lab: LabPage) -> None:
    edit(lab, "image_yaml")
    lab.press("Apply the image volume")
    lab.press("Look at the image volume")
    lab.sees("by-image: the server reads the model straight from an image", "PASS")
    measured = lab.cell("MiB of each pod's own")
    expect(measured).to_contain_text("an image volume")
    lab.picture("lab09-measured", at=measured)
    expect(lab.cell("MiB beside the image store").or_(lab.page.locator(CHART)).first).to_be_visible()


def test_the_list_of_versions_names_digests(lab: LabPage) -> None:
    listed = lab.cell("in a text of this page")
    expect(listed).to_contain_text("@sha256:")
    lab.picture("lab09-versions", at=listed)
