"""Lab 06 in a browser: a decision's picture follows each edit; a witness finds it wrong, then right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_page import REPOSITORY, LabPage, open_page, serve, solved
from playwright.sync_api import expect

from helpers.cluster import Cluster
from helpers.grading.lifecycle import reset, start
from helpers.labs.registry import load_lab
from helpers.stack import orchestrator

pytestmark = [pytest.mark.browser, pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.stack]

NOTEBOOK = REPOSITORY / "labs" / "06_orchestration.py"
NAMES = "The settings name vLLM, Qdrant and Redis"
ONCE = "Five equal requests at once"


@pytest.fixture(scope="module")
def lab(cluster: Cluster, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabPage]:
    """One page for all tests, on a cluster in the lab's start state."""
    start(load_lab("06"), cluster, lambda text: None)
    reset(load_lab("06"), cluster, lambda text: None)
    folder = tmp_path_factory.mktemp("lab06")
    with (
        serve(NOTEBOOK, folder, COURSE_KUBECONFIG=str(kubeconfig)) as url,
        open_page(url) as page,
    ):
        yield LabPage(page)
    reset(load_lab("06"), cluster, lambda text: None)


def test_bare_names_are_wrong_and_full_ones_put_the_service_there(lab: LabPage, cluster: Cluster) -> None:
    lab.sees(NAMES, "NOT ATTEMPTED")
    assert cluster.view().find("Deployment", orchestrator.DEPLOYMENT, orchestrator.NAMESPACE) is None

    lab.press("Deliver the addresses")
    lab.sees(NAMES, "FAIL", "vllm resolves to nothing")
    lab.picture("lab06-names", at=lab.cell("Deliver the addresses"))

    lab.edit("names_settings", lambda text: solved("06_orchestration.py", "names_settings"))
    lab.press("Deliver the addresses")
    lab.sees(NAMES, "PASS")
    lab.sees("All pods of llm-orchestrator are ready", "PASS")
    lab.press("Ask a question")
    asked = lab.cell("Ask a question")
    expect(asked).to_contain_text("answered")
    expect(asked.locator("marimo-vega, svg.marks, canvas").first).to_be_visible()
    lab.picture("lab06-answer", at=asked)


def test_a_picture_follows_the_edit_without_a_cluster_s_help(lab: LabPage) -> None:
    shown = lab.cell("class fast, 12 s")
    expect(shown).to_contain_text("nothing is left to say so")
    lab.picture("lab06-budget-given", at=shown)
    lab.edit("hop_deadline_ms", lambda text: solved("06_orchestration.py", "hop_deadline_ms"))
    expect(shown).not_to_contain_text("nothing is left to say so")
    lab.picture("lab06-budget", at=shown)


def test_a_key_is_found_wrong_by_five_requests_and_then_right(lab: LabPage) -> None:
    lab.sees(ONCE, "NOT ATTEMPTED")
    lab.press("Deliver the key")
    expect(lab.cell("Deliver the key")).to_contain_text("holds this idempotency.py")
    lab.press("Ask five times at once")
    lab.sees(ONCE, "PARTIAL", "5 generations for five requests")

    lab.edit("idempotency_key", lambda text: solved("06_orchestration.py", "idempotency_key"))
    expect(lab.cell("Deliver the key")).to_contain_text("holds another idempotency.py")
    lab.press("Deliver the key")
    lab.sees(ONCE, "NOT ATTEMPTED", "idempotency.py was changed")
    lab.press("Ask five times at once")
    lab.sees(ONCE, "PASS")
    lab.picture("lab06-again", at=lab.cell("Ask five times at once"))
