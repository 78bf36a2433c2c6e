"""Lab 07 in a browser: tables follow each edit, a judge is measured and drawn, and a question leaves a tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_page import REPOSITORY, LabPage, open_page, serve, solved
from playwright.sync_api import expect

from helpers.cluster import Cluster
from helpers.grading.lifecycle import reset, start
from helpers.labs.lab07_gates import sets
from helpers.labs.registry import load_lab
from helpers.stack import assistant

pytestmark = [pytest.mark.browser, pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.stack]

NOTEBOOK = REPOSITORY / "labs" / "07_gates.py"
CLEAN = "Thirty golden rows"
MEASURED = "The judge was measured on forty labelled answers"


@pytest.fixture(scope="module")
def lab(cluster: Cluster, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabPage]:
    """One page for all tests, on a cluster in the lab's start state."""
    start(load_lab("07"), cluster, lambda text: None)
    reset(load_lab("07"), cluster, lambda text: None)
    folder = tmp_path_factory.mktemp("lab07")
    with (
        serve(NOTEBOOK, folder, COURSE_KUBECONFIG=str(kubeconfig)) as url,
        open_page(url) as page,
    ):
        yield LabPage(page)
    reset(load_lab("07"), cluster, lambda text: None)


def edit(lab: LabPage, name: str) -> None:
    """Put the solution's text into a cell."""
    lab.edit(name, lambda text: solved("07_gates.py", name))


def test_six_faults_are_named_and_a_review_mends_them(lab: LabPage, cluster: Cluster) -> None:
    lab.sees(CLEAN, "NOT ATTEMPTED")
    shown = lab.cell("what is wrong")
    for rule in ("duplicate", "leak", "chunk", "id", "unknown", "malformed"):
        expect(shown).to_contain_text(rule)
    lab.picture("lab07-faults", at=shown)
    assert sets.is_given(assistant.data_in(cluster.view(), assistant.SETS))

    edit(lab, "review")
    expect(lab.cell("Rows: golden")).to_contain_text("nothing is wrong with them")
    lab.press("Deliver the reviewed sets")
    lab.sees(CLEAN, "PASS")


def test_planted_answers_follow_the_functions_without_a_cluster_s_help(lab: LabPage) -> None:
    shown = lab.cell("your function says")
    expect(shown).to_contain_text("10 of 19 planted answers")
    lab.picture("lab07-metrics-given", at=shown)
    for name in ("citation", "refusal", "retrieval_precision"):
        edit(lab, name)
    expect(shown).to_contain_text(re.compile(r"(?<!\d)0 of 19 planted answers"))
    lab.press("Deliver the metrics")
    expect(lab.cell("Deliver the metrics")).to_contain_text("holds this metrics.py")


def test_a_judge_is_measured_drawn_and_decided_about(lab: LabPage) -> None:
    lab.sees(MEASURED, "NOT ATTEMPTED")
    lab.press("Let the judge label forty answers")
    lab.sees(MEASURED, "NOT ATTEMPTED", "there is none")
    picture = lab.cell("by chance")
    expect(picture.locator("marimo-vega, svg.marks, canvas").first).to_be_visible()
    lab.picture("lab07-judge", at=picture)
    edit(lab, "judgement")
    lab.press("Deliver the judgement")
    lab.sees(MEASURED, "PASS")


def test_the_pipeline_and_the_attributes_are_drawn_from_the_text(lab: LabPage) -> None:
    expect(lab.cell("Nothing stands between")).to_be_visible()
    edit(lab, "collector_yaml")
    expect(lab.cell("refuses what comes while memory is short")).to_be_visible()
    shown = lab.cell("more than once")
    lab.picture("lab07-spans-given", at=shown)
    edit(lab, "span_attributes")
    expect(lab.cell("each attribute on one span")).to_be_visible()


def test_a_question_leaves_a_tree(lab: LabPage) -> None:
    edit(lab, "otel_settings")
    lab.press("Deliver the settings")
    expect(lab.cell("Deliver the settings")).to_contain_text("holds this")
    for label in ("Deliver the attributes", "Apply the Collector"):
        lab.press(label)
        expect(lab.cell(label)).to_contain_text("holds this")
    lab.press("Ask a question and show its trace")
    tree = lab.cell("Ask a question and show its trace")
    expect(tree).to_contain_text("What stands on each span")
    expect(tree.locator("marimo-vega, svg.marks, canvas").first).to_be_visible()
    lab.picture("lab07-tree", at=tree)
