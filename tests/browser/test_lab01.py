"""Lab 01 in a browser: open, edit, preview, apply, and see the verdict change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_page import REPOSITORY, LabPage, open_page, serve
from playwright.sync_api import expect

from helpers.checks import load_lab
from helpers.cluster import Cluster
from helpers.grading.lifecycle import reset

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


@pytest.fixture
def lab(cluster: Cluster, kubeconfig: Path, tmp_path: Path) -> Iterator[LabPage]:
    """The lab's page on a cluster in its start state."""
    reset(load_lab("01"), cluster, lambda text: None)
    with (
        serve(NOTEBOOK, tmp_path, COURSE_KUBECONFIG=str(kubeconfig)) as url,
        open_page(url) as page,
    ):
        yield LabPage(page)
    reset(load_lab("01"), cluster, lambda text: None)


def test_an_edit_is_previewed_then_applied_and_the_verdict_changes(lab: LabPage, cluster: Cluster) -> None:
    lab.sees("llm-apps and llm-workshop exist", "NOT ATTEMPTED")

    lab.edit("namespaces_yaml", lambda before: NAMESPACES)
    expect(lab.cell("Apply namespaces")).to_contain_text("llm-workshop")
    assert cluster.view().find("Namespace", "llm-system") is None, "a preview changed the cluster"

    lab.press("Apply namespaces")
    lab.sees("llm-apps and llm-workshop exist", "PASS")
    lab.sees("finds the namespace of the applications", "PASS")
    assert cluster.view().find("Namespace", "llm-workshop") is not None

    # The quota as it was handed out: applied, judged, and understood.
    lab.predict("A colleague wrote the quota below", "Both run")
    expect(lab.cell("not as predicted")).to_contain_text("Whoever comes second")
    expect(lab.page.locator(".quota").first).to_contain_text("14 of 12: 2 too many")
    lab.picture("quota-as-handed-out")
    lab.press("Apply the quota")
    lab.sees("admits one GPU and refuses the second", "PASS")
    lab.sees("as planned, are admitted together", "PARTIAL", "limits.cpu: 14 of 12: 2 too many")

    lab.edit("quota_yaml", lambda before: before.replace('limits.cpu: "12"', 'limits.cpu: "24"'))
    expect(lab.cell("Apply the quota")).to_contain_text("would change")
    lab.press("Apply the quota")
    lab.sees("as planned, are admitted together", "PASS")
    lab.sees("so that the plan and one more model server do not fit", "PARTIAL", "limits.cpu: 24 admitted")

    lab.edit("quota_yaml", lambda before: before.replace('limits.cpu: "24"', 'limits.cpu: "14"'))
    expect(lab.page.locator(".quota").first).to_contain_text("14 of 14")
    lab.press("Apply the quota")
    lab.sees("so that the plan and one more model server do not fit", "PASS")
    lab.picture("quota-solved")


def test_unreadable_yaml_is_explained_and_nothing_is_applied(lab: LabPage, cluster: Cluster) -> None:
    lab.edit("namespaces_yaml", lambda before: before.replace("kind: Namespace", "kind Namespace"))
    expect(lab.cell("Apply namespaces")).to_contain_text("this is not YAML: line")
    lab.press("Apply namespaces")
    expect(lab.cell("Apply namespaces")).to_contain_text("The API server was not asked.")
    assert cluster.view().find("Namespace", "llm-system") is None
