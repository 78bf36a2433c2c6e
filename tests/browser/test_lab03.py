"""Lab 03 in a browser: a memory without a volume, a collection of the wrong size, and both put right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_page import REPOSITORY, LabPage, open_page, serve, solved
from playwright.sync_api import expect

from helpers.cluster import Cluster
from helpers.grading.lifecycle import reset, start
from helpers.labs.registry import load_lab

pytestmark = [pytest.mark.browser, pytest.mark.live]

NOTEBOOK = REPOSITORY / "labs" / "03_memory.py"


@pytest.fixture
def lab(cluster: Cluster, kubeconfig: Path, tmp_path: Path) -> Iterator[LabPage]:
    """The lab's page on a cluster in its start state."""
    start(load_lab("03"), cluster, lambda text: None)
    with (
        serve(NOTEBOOK, tmp_path, COURSE_KUBECONFIG=str(kubeconfig)) as url,
        open_page(url) as page,
    ):
        yield LabPage(page)
    reset(load_lab("03"), cluster, lambda text: None)


def test_a_memory_goes_wrong_first_and_then_right(lab: LabPage, cluster: Cluster) -> None:
    # 1: the calculator follows an edit.
    expect(lab.cell("At most")).to_contain_text("too small")
    lab.edit("claim", lambda before: before.replace("10Gi", "16Gi"))
    expect(lab.cell("At most")).to_contain_text("fits")
    lab.picture("lab03-sizing", at=lab.cell("At most"))

    # 2: as it was handed out: it runs, on a volume that dies with its pod.
    lab.press("Apply Qdrant")
    lab.sees("runs a ready pod", "PASS")
    lab.sees("storage path is on a bound claim", "FAIL", "a volume of kind emptyDir")
    lab.edit("memory_yaml", lambda before: solved("03_memory.py", "memory_yaml"))
    expect(lab.preview("Apply Qdrant")).to_contain_text("would be replaced")
    lab.press("Apply Qdrant")
    lab.sees("storage path is on a bound claim", "PASS")
    lab.sees("The readiness probe asks the path that fails while collections load", "PASS")

    # 3: vectors of another model are refused; then the right collection, asked within a layer.
    lab.press("Make the collection")
    lab.sees("takes vectors of the embedding model", "FAIL", "768 dimensions")
    lab.press("Ingest the corpus")
    expect(lab.cell("Ingest the corpus")).to_contain_text("expected dim: 768, got 384")
    lab.edit("collection", lambda before: solved("03_memory.py", "collection"))
    expect(lab.cell("Preview: read from Qdrant")).to_contain_text("384")
    lab.press("Make the collection")
    lab.sees("takes vectors of the embedding model", "PASS")
    lab.edit("to_point", lambda before: solved("03_memory.py", "to_point"))
    expect(lab.cell("the same id each time")).to_be_visible()
    lab.press("Ingest the corpus")
    lab.sees("Every passage of the corpus is there, once", "PASS")
    lab.sees("Questions with a known answer", "PASS")
    lab.edit("question", lambda before: before.replace("None", '"memory"'))
    expect(lab.cell("score")).to_contain_text("memory")
    lab.picture("lab03-answers", at=lab.cell("score"))

    # 4: three green lights over three broken memories.
    lab.press("Show me three broken memories")
    broken = lab.cell("the memory is")
    expect(broken).to_contain_text("200")
    lab.picture("lab03-health", at=broken)

    # 7: the card as Prometheus is told of it, and what stands in for what.
    cards = lab.cell("last XID error")
    expect(cards).to_contain_text("NVIDIA-A100-SXM4-80GB-SIMULATED")
    expect(cards).to_contain_text("The rest is a substitute")
    lab.picture("lab03-gpu", at=cards)
    assert cluster.view().get("StatefulSet", "qdrant", "llm-system").path("status.readyReplicas") == 1
