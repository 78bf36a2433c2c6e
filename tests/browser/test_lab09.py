"""Lab 09 in a browser: a copy and a controller are found wrong, then right; three faults in words; what a way costs, drawn."""

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

NOTEBOOK = REPOSITORY / "labs" / "09_models.py"
NAMESPACE = "llm-models"
COPY = "by-copy: an init container copies the model"
IMAGE = "by-image: the server reads the model straight from an image"
READERS = "reader-a, reader-b and reader-c are Ready"
CHILDREN = "A model in an image and one on a claim are mounted read-only"
SERVED = "InferenceService smollm names a version of the model by its digest"
CHART = "marimo-vega, svg.marks, canvas"
TABLES = {
    "find_runtime": "the model asks for",
    "model_volume": "s3://bucket/model",
    "children": "a model on a claim",
    "step": "of the same name, without an owner",
    "wakes": "an event is lost",
    "status": "its Service selects nobody",
}
Objects = dict[tuple[str, str], tuple[str | None, int | None]]


def objects(cluster: Cluster) -> Objects:
    """What is in the lab's namespace: each object's uid, and how often its specification was changed."""
    view = cluster.view()
    kinds = (
        *("ConfigMap", "Deployment", "Job", "Service", "PersistentVolumeClaim"),
        *("InferenceService", "ServingRuntime"),
    )
    return {
        (kind, item.name): (item.uid, item.metadata.get("generation"))
        for kind in kinds
        for item in view.list(kind, NAMESPACE)
    }


@pytest.fixture(scope="module")
def begun(cluster: Cluster) -> Iterator[Objects]:
    """The lab's start state, before its page is opened."""
    start(load_lab("09"), cluster, lambda text: None)
    reset(load_lab("09"), cluster, lambda text: None)
    yield objects(cluster)
    reset(load_lab("09"), cluster, lambda text: None)


@pytest.fixture(scope="module")
def lab(begun: Objects, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabPage]:
    """One page for all tests, on a cluster in the lab's start state."""
    folder = tmp_path_factory.mktemp("lab09")
    with (
        serve(NOTEBOOK, folder, COURSE_KUBECONFIG=str(kubeconfig)) as url,
        open_page(url) as page,
    ):
        yield LabPage(page)


def edit(lab: LabPage, name: str) -> None:
    """Put the solution's text into a cell."""
    lab.edit(name, lambda text: solved("09_models.py", name))


def falls_short(lab: LabPage, criterion: str, observed: str) -> None:
    """Wait until a verdict is on what was done, and says what is wrong with it."""
    verdict = lab.verdict(criterion)
    expect(verdict.locator(".word").first).to_have_text(re.compile("FAIL|PARTIAL"))
    expect(verdict).to_contain_text(observed)


def test_opening_the_page_changes_nothing(lab: LabPage, begun: Objects, cluster: Cluster) -> None:
    for criterion in (COPY, IMAGE, READERS, CHILDREN, SERVED):
        lab.sees(criterion, "NOT ATTEMPTED")
    assert objects(cluster) == begun


def test_the_list_of_versions_names_digests(lab: LabPage) -> None:
    listed = lab.cell("in a text of this page")
    expect(listed).to_contain_text("@sha256:")
    lab.picture("lab09-versions", at=listed)


def test_a_copy_that_the_server_does_not_find_is_told_and_then_mended(lab: LabPage) -> None:
    lab.press("Apply the copy")
    lab.press("Look at the copy")
    falls_short(lab, COPY, "server ended")
    lab.picture("lab09-copy-given", at=lab.verdict(COPY))
    edit(lab, "copy_yaml")
    lab.press("Apply the copy")
    lab.sees(COPY, "NOT ATTEMPTED")
    lab.press("Look at the copy")
    lab.sees(COPY, "PASS")


def test_the_words_for_three_faults_stand_side_by_side(lab: LabPage) -> None:
    lab.press("Apply the readers")
    words = lab.cell("its newest warning says")
    expect(words).to_contain_text("image subpath")
    falls_short(lab, READERS, "smollm2-135m-instruct:3")
    lab.picture("lab09-words", at=words)
    edit(lab, "readers_yaml")
    lab.press("Apply the readers")
    lab.sees(READERS, "PASS")


def test_a_way_is_looked_at_and_its_costs_are_drawn(lab: LabPage) -> None:
    edit(lab, "image_yaml")
    lab.press("Apply the image volume")
    lab.press("Look at the image volume")
    lab.sees(IMAGE, "PASS")
    measured = lab.cell("MiB of each pod's own")
    expect(measured).to_contain_text("an image volume")
    expect(measured).to_contain_text("a volume of the pod's own")
    lab.picture("lab09-measured", at=measured)
    expect(lab.cell("MiB beside the image store").or_(lab.page.locator(CHART)).first).to_be_visible()


def test_a_draft_of_the_functions_is_found_wrong_by_a_witness(lab: LabPage) -> None:
    for shown in TABLES.values():
        expect(lab.cell(shown).locator(".is-FAIL").first).to_be_visible()
    lab.picture("lab09-functions-given", at=lab.cell(TABLES["status"]))
    lab.press("Deliver the functions")
    expect(lab.cell("Deliver the functions")).to_contain_text("holds these functions")
    lab.press("Look at what is made")
    falls_short(lab, CHILDREN, "there is no Deployment")


def test_tables_turn_with_the_functions_and_the_same_witness_finds_them_right(lab: LabPage) -> None:
    for name in (*TABLES, "serves"):
        edit(lab, name)
    for shown in TABLES.values():
        expect(lab.cell(shown).locator(".is-FAIL")).to_have_count(0)
    lab.picture("lab09-functions", at=lab.cell(TABLES["status"]))
    expect(lab.cell("Deliver the functions")).to_contain_text("holds other functions")
    lab.press("Deliver the functions")
    lab.sees(CHILDREN, "NOT ATTEMPTED")
    lab.press("Look at what is made")
    lab.sees(CHILDREN, "PASS")


def test_a_model_is_refused_by_its_tag_and_served_by_its_digest(lab: LabPage) -> None:
    lab.press("Apply the InferenceService")
    falls_short(lab, SERVED, "there is no Deployment")
    edit(lab, "isvc_yaml")
    lab.press("Apply the InferenceService")
    lab.sees(SERVED, "PASS")
    lab.picture("lab09-served", at=lab.verdict(SERVED))
