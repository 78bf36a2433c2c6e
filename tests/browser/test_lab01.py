"""Lab 01 in a browser: open, edit, preview, apply, and see the verdict change.

One page for the whole lab, as a learner has it: each test goes on where the one before it left the page
and the cluster, and does what it needs of the earlier parts again, so that it runs alone too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_page import REPOSITORY, LabPage, open_page, serve
from playwright.sync_api import expect

from helpers.cluster import Cluster
from helpers.grading.lifecycle import reset
from helpers.labs.registry import load_lab
from helpers.stack import gpu

pytestmark = [pytest.mark.browser, pytest.mark.live]

NOTEBOOK = REPOSITORY / "labs" / "01_substrate.py"
NAMESPACES = """namespaces_yaml = \"\"\"
apiVersion: v1
kind: Namespace
metadata:
  name: llm-system
---
apiVersion: v1
kind: Namespace
metadata:
  name: llm-apps
  labels: {kubedojo.dev/role: llm-apps}
---
apiVersion: v1
kind: Namespace
metadata:
  name: llm-workshop
\"\"\""""


@pytest.fixture(scope="module")
def lab(cluster: Cluster, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabPage]:
    """The lab's page, opened on a cluster in its start state."""
    reset(load_lab("01"), cluster, lambda text: None)
    folder = tmp_path_factory.mktemp("lab01")
    with (
        serve(NOTEBOOK, folder, COURSE_KUBECONFIG=str(kubeconfig)) as url,
        open_page(url) as page,
    ):
        yield LabPage(page)
    reset(load_lab("01"), cluster, lambda text: None)


def test_unreadable_yaml_is_explained_and_nothing_is_applied(lab: LabPage, cluster: Cluster) -> None:
    lab.edit("namespaces_yaml", lambda before: before.replace("kind: Namespace", "kind Namespace"))
    expect(lab.preview("Apply namespaces")).to_contain_text("this is not YAML: line")
    lab.press("Apply namespaces")
    expect(lab.cell("Apply namespaces")).to_contain_text("The API server was not asked.")
    assert cluster.view().find("Namespace", "llm-system") is None


def test_an_edit_is_previewed_then_applied_and_the_verdict_changes(lab: LabPage, cluster: Cluster) -> None:
    lab.sees("llm-apps and llm-workshop exist", "NOT ATTEMPTED")

    lab.edit("namespaces_yaml", lambda before: NAMESPACES)
    expect(lab.preview("Apply namespaces")).to_contain_text("llm-workshop")
    assert cluster.view().find("Namespace", "llm-system") is None, "a preview changed the cluster"

    lab.press("Apply namespaces")
    lab.sees("llm-apps and llm-workshop exist", "PASS")
    lab.sees("finds the namespace of the applications", "PASS")
    assert cluster.view().find("Namespace", "llm-workshop") is not None

    # The quota as it was handed out: applied, judged, and understood.
    lab.predict("A colleague wrote the quota below", "Both run")
    expect(lab.cell("not as predicted")).to_contain_text("Whichever starts second")
    expect(lab.page.locator(".quota").first).to_contain_text("14 of 12: 2 too many")
    lab.press("Apply the quota")
    lab.sees("admits one GPU and refuses the second", "PASS")
    lab.sees("as planned, are admitted together", "FAIL", "limits.cpu: 14 of 12: 2 too many")
    lab.picture("quota-as-handed-out", at=lab.cell("Apply the quota"))

    lab.edit("quota_yaml", lambda before: before.replace('limits.cpu: "12"', 'limits.cpu: "24"'))
    expect(lab.preview("Apply the quota")).to_contain_text("would change")
    lab.press("Apply the quota")
    lab.sees("as planned, are admitted together", "PASS")
    lab.sees("so that the plan and one more model server do not fit", "PARTIAL", "limits.cpu: 24 admitted")

    lab.edit("quota_yaml", lambda before: before.replace('limits.cpu: "24"', 'limits.cpu: "14"'))
    expect(lab.page.locator(".quota").first).to_contain_text("14 of 14")
    lab.press("Apply the quota")
    lab.sees("so that the plan and one more model server do not fit", "PASS")
    lab.picture("quota-solved", at=lab.page.locator(".quota").first)


SHARED, UNSHARED = "nvidia.com/gpu.sharing-strategy: time-slicing", "nvidia.com/gpu.sharing-strategy: none"


@pytest.mark.embedded
def test_the_experiments_go_wrong_first_and_then_right(lab: LabPage, cluster: Cluster) -> None:
    """Parts 3 and 4 as a beginner walks them."""
    lab.edit("namespaces_yaml", lambda before: NAMESPACES)
    expect(lab.preview("Apply namespaces")).to_contain_text("llm-workshop")
    lab.press("Apply namespaces")
    lab.sees("finds the namespace of the applications", "PASS")
    lab.edit("quota_yaml", lambda before: before.replace('limits.cpu: "12"', 'limits.cpu: "14"'))
    lab.press("Apply the quota")
    lab.sees("so that the plan and one more model server do not fit", "PASS")

    # 3: within the quota first, so that it runs; then too much.
    lab.press("Apply in both namespaces")
    lab.sees("a ReplicaSet has no pod", "FAIL", "was admitted")
    lab.edit("greedy_yaml", lambda before: before.replace("nvidia.com/gpu: 1}", "nvidia.com/gpu: 16}"))
    lab.press("Apply in both namespaces")
    lab.sees("a ReplicaSet has no pod", "PASS", "exceeded quota")
    lab.sees("stays Pending, because no node has enough GPUs", "PASS", "Insufficient nvidia.com/gpu")
    lab.picture("who-said-no", at=lab.cell("What the cluster says"))

    # 4: all three alike, as handed out; then each its own.
    lab.press("Apply the three Jobs")
    lab.sees("one-learner ran on a card", "PARTIAL", "accepts a shared card too")
    expect(lab.verdict("two pods ran at the same time")).to_contain_text(
        "each pod asks for nvidia.com/gpu: 1"
    )
    lab.edit("one_learner_yaml", lambda before: before.replace("{}", f"{{{UNSHARED}}}"))
    lab.edit("twenty_learners_yaml", lambda before: before.replace("{}", f"{{{SHARED}}}"))
    lab.edit(
        "two_tenants_yaml", lambda before: before.replace("nvidia.com/gpu: 1", "nvidia.com/mig-1g.10gb: 1")
    )
    expect(lab.preview("Apply the three Jobs")).to_contain_text("would be replaced")
    lab.press("Apply the three Jobs")
    lab.sees("one-learner ran on a card", "PASS")
    lab.press("MIG slices")
    lab.sees("two pods ran at the same time", "PASS")
    lab.press("Time-slicing")
    lab.sees("twenty pods finished", "PASS")
    lab.picture("shapes", at=lab.cell("offers"))
    # A page that is closed takes a press that nobody waited for with it.
    lab.press("Full GPU")
    cluster.wait_until(
        "the node offers a whole card",
        lambda view: {offer.shape for offer in gpu.offers(view.nodes())} == {"full"},
        timeout_s=120,
    )


@pytest.mark.embedded
def test_the_guard_and_the_idle_card_go_wrong_first_and_then_right(lab: LabPage, cluster: Cluster) -> None:
    """Parts 5 to 7 as a beginner walks them."""
    lab.edit("namespaces_yaml", lambda before: NAMESPACES)
    expect(lab.preview("Apply namespaces")).to_contain_text("llm-workshop")
    lab.press("Apply namespaces")
    lab.sees("llm-apps and llm-workshop exist", "PASS")

    # 5: without a toleration first.
    lab.press("Raise the guard")
    expect(lab.cell("In a terminal: kubectl taint")).to_contain_text("guard up")
    guarded = lab.cell("llm-workshop/model-server")
    lab.press("Apply guest and model-server")
    lab.sees("guest was kept out by the taint", "PARTIAL", "untolerated taint")
    toleration = "- {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}"
    lab.edit("guard_yaml", lambda before: before.replace("tolerations: []", f"tolerations:\n  {toleration}"))
    expect(lab.preview("Apply guest and model-server")).to_contain_text("would change")
    lab.press("Apply guest and model-server")
    lab.sees("guest was kept out by the taint", "PASS")
    lab.picture("guard", at=guarded)
    lab.sees("A pod without tolerations", "FAIL", "nvidia.com/gpu:NoSchedule")
    lab.press("Take it down")
    lab.sees("A pod without tolerations", "PASS")

    # 6 and 7: held, measured, released, handed over. A card still held would go to whoever asks first.
    cluster.wait_until(
        "model-server has ended",
        lambda view: view.pod("model-server", "llm-workshop").path("status.phase") == "Succeeded",
        timeout_s=120,
    )
    lab.press("Apply holder and next in line")
    lab.sees("waited for a GPU that an idle pod held", "PARTIAL", "still waits")
    lab.page.wait_for_timeout(11_000)
    lab.press("End idle-holder")
    lab.sees("waited for a GPU that an idle pod held", "PASS")
    lab.sees("No experiment holds a GPU any more", "PASS", "no experiment holds a GPU")
    lab.picture("whole-lab", at=lab.cell("The whole lab"))
