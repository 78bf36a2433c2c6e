"""Lab 04 in a browser: a policy that admits everybody is forecast, applied and seen; then the right one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_page import REPOSITORY, LabPage, open_page, serve, solved
from playwright.sync_api import expect

from helpers.cluster import Cluster
from helpers.grading.lifecycle import start
from helpers.labs.registry import load_lab
from helpers.stack.probes import place_probes

pytestmark = [pytest.mark.browser, pytest.mark.live]

NOTEBOOK = REPOSITORY / "labs" / "04_isolation.py"
QDRANT = "The application reaches Qdrant on 6333"


@pytest.fixture
def lab(cluster: Cluster, kubeconfig: Path, tmp_path: Path) -> Iterator[LabPage]:
    """The lab's page beside Qdrant and the grader's probes; what is walked here needs no vLLM."""
    start(load_lab("03"), cluster, lambda text: None)
    role = {"name": "llm-apps", "labels": {"kubedojo.dev/role": "llm-apps"}}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": role})
    folder = REPOSITORY / "manifests" / "stack" / "qdrant" / "overlays" / cluster.profile().overlay
    cluster.apply(cluster.kustomize(folder))
    cluster.wait_ready("StatefulSet", "qdrant", "llm-system", timeout_s=180)
    assert not place_probes(cluster).missing
    with (
        serve(NOTEBOOK, tmp_path, COURSE_KUBECONFIG=str(kubeconfig)) as url,
        open_page(url) as page,
    ):
        yield LabPage(page)
    for policy in cluster.view().network_policies("llm-system"):
        cluster.delete("NetworkPolicy", policy.name, "llm-system")


def test_policies_are_forecast_applied_and_seen(lab: LabPage, cluster: Cluster) -> None:
    expect(lab.cell("callers were stopped at a pod")).to_contain_text("enforced")
    lab.predict("That policy is in force", "Nobody but the application")
    matrix = lab.page.locator(".card", has_text="judged pairs are as they should be").first
    expect(matrix).to_contain_text("should be closed")

    # 2: the colleague's policy admits everybody: the forecast sees no change, and the cluster none either.
    expect(lab.cell("this text would change")).to_contain_text("0 cells")
    assert not cluster.view().network_policies("llm-system"), "a forecast changed the cluster"
    lab.press("Apply the allow-list")
    expect(lab.cell("Apply the allow-list")).to_contain_text("NetworkPolicy qdrant-ingress created")
    lab.sees(QDRANT, "PARTIAL", "outsider to qdrant: HTTP 200")
    lab.edit("qdrant_yaml", lambda before: solved("04_isolation.py", "qdrant_yaml"))
    expect(lab.cell("this text would change")).to_contain_text("open → closed")
    expect(lab.preview("Apply the allow-list")).to_contain_text("would change")
    lab.press("Apply the allow-list")
    lab.sees(QDRANT, "PASS")
    lab.picture("lab04-matrix", at=matrix)

    # The matrix at the page's end asked again: real connections, and none that the text does not explain.
    row = lab.page.locator(".reach tr", has_text="outsider").last
    expect(row.locator("td").nth(1)).to_contain_text("closed")
    expect(lab.page.locator(".card", has_text="judged pairs are as they should be").last).to_contain_text(
        "The cluster does what the policies' text says."
    )
