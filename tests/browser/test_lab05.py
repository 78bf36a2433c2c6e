"""Lab 05 in a browser: an experiment drawn while it runs, and a retry function judged wrong, then right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_page import REPOSITORY, LabPage, open_page, serve, solved
from playwright.sync_api import expect

from helpers.chaos.gameday import draw
from helpers.chaos.undo import pending
from helpers.cluster import Cluster
from helpers.grading.lifecycle import reset, start
from helpers.labs.registry import load_lab

pytestmark = [pytest.mark.browser, pytest.mark.live, pytest.mark.gpu_engine]

NOTEBOOK = REPOSITORY / "labs" / "05_chaos.py"
FAST = "400, 401 and 404 are not retried"


@pytest.fixture(scope="module")
def lab(cluster: Cluster, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabPage]:
    """One page for all tests, beside both backends: an experiment begins in a steady state, or not at all."""
    start(load_lab("05"), cluster, lambda text: None)
    folder = tmp_path_factory.mktemp("lab05")
    with (
        serve(NOTEBOOK, folder, COURSE_KUBECONFIG=str(kubeconfig)) as url,
        open_page(url) as page,
    ):
        yield LabPage(page)
    reset(load_lab("05"), cluster, lambda text: None)


def test_a_retry_function_is_judged_by_a_real_restart(lab: LabPage, cluster: Cluster) -> None:
    lab.sees(FAST, "NOT ATTEMPTED")
    before = cluster.view().pod("qdrant-0", "llm-system").uid

    lab.press("Judge my function")
    judged = lab.cell("Judge my function")
    # While it runs: what each client meets at this moment. The progress line beside it may change too fast to be read.
    expect(judged).to_contain_text("client of qdrant (retrieval)")
    expect(judged).to_contain_text("done and undone")
    lab.sees(FAST, "FAIL", "bad-request: 5 attempts")
    assert cluster.view().pod("qdrant-0", "llm-system").uid != before
    lab.picture("lab05-judged", at=judged)

    lab.edit("call_with_backoff", lambda text: solved("05_chaos.py", "call_with_backoff"))
    expect(judged).not_to_contain_text("done and undone")
    lab.press("Judge my function")
    lab.sees(FAST, "PASS")
    lab.sees("ends in BackendUnavailable with its cause", "PASS")
    lab.sees("Pauses grow from attempt to attempt", "PASS")
    expect(judged).to_contain_text("done and undone")
    lab.picture("lab05-judged-again", at=judged)


def test_giving_up_in_the_middle_undoes_and_the_page_says_so(lab: LabPage, cluster: Cluster) -> None:
    seed = next(seed for seed in range(999) if draw(seed, cluster.profile()).name == "service-qdrant")
    before = cluster.view().service("qdrant", "llm-system").selector
    lab.sees("On the game day, layer and cause", "NOT ATTEMPTED")
    lab.edit("seed", lambda text: f"seed = {seed}")
    day = lab.cell("Start the game day")
    lab.press("Start the game day")
    expect(day).to_contain_text("retrieval (qdrant) fails: ")
    assert cluster.view().service("qdrant", "llm-system").selector != before

    lab.press("Delete Qdrant's pod")
    expect(lab.cell("Delete Qdrant's pod")).to_contain_text("game-day is still running on this page")
    lab.press("Give up and undo")
    expect(day).to_contain_text("what was broken is undone; nothing of it is graded")
    lab.picture("lab05-given-up", at=day)
    assert pending(cluster.identity().uid) == []
    assert cluster.view().service("qdrant", "llm-system").selector == before
