"""Lab 02 in a browser: a promise that is wrong, a container that ends itself, and a model that is served at last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_page import REPOSITORY, LabPage, open_page, serve
from playwright.sync_api import expect

from helpers.cluster import Cluster
from helpers.grading.lifecycle import reset, start
from helpers.labs.registry import load_lab

pytestmark = [pytest.mark.browser, pytest.mark.live, pytest.mark.gpu_engine]

NOTEBOOK = REPOSITORY / "labs" / "02_inference.py"
PATIENT = """startupProbe:
          httpGet: {path: /health, port: http}
          periodSeconds: 1
          failureThreshold: 360"""
WATCHFUL = """livenessProbe:
          httpGet: {path: /health, port: http}
          periodSeconds: 30
          failureThreshold: 3"""


@pytest.fixture
def lab(cluster: Cluster, kubeconfig: Path, tmp_path: Path) -> Iterator[LabPage]:
    """The lab's page on a cluster in its start state."""
    start(load_lab("02"), cluster, lambda text: None)
    with (
        serve(NOTEBOOK, tmp_path, COURSE_KUBECONFIG=str(kubeconfig)) as url,
        open_page(url) as page,
    ):
        yield LabPage(page)
    reset(load_lab("02"), cluster, lambda text: None)


def test_a_wrong_promise_and_a_wrong_start_are_seen_and_mended(lab: LabPage, cluster: Cluster) -> None:
    lab.sees("names the model that applications ask for", "NOT ATTEMPTED")
    assert cluster.view().find("ConfigMap", "vllm-model-config", "llm-system") is None

    # 1: as it was handed out, and then as the applications need it.
    lab.press("Apply the policy")
    lab.sees("names the model that applications ask for", "PARTIAL", "SERVED_MODEL_NAME smollm2")
    name = cluster.profile().served_model_name
    lab.edit(
        "policy_yaml",
        lambda before: (
            before.replace("NAME: smollm2", f"NAME: {name}")
            .replace('"2048"', '"4096"')
            .replace('SEQS: "16"', 'SEQS: "4"')
        ),
    )
    expect(lab.preview("Apply the policy")).to_contain_text("would change")
    lab.press("Apply the policy")
    lab.sees("names the model that applications ask for", "PASS")

    # 2: the container ends itself; nobody killed it.
    lab.predict("You apply it unchanged", "in the end it is Ready")
    lab.press("Apply the Deployment")
    crash = lab.cell("The end of its log")
    expect(crash).to_contain_text("VLLM_PORT")
    expect(crash).to_contain_text("the kubelet did not kill it")
    lab.sees("is given VLLM_PORT by a Service", "FAIL", "service links on")
    lab.picture("lab02-crash", at=crash)

    lab.edit(
        "start_yaml",
        lambda before: (
            before.replace("enableServiceLinks: true", "enableServiceLinks: false")
            .replace("startupProbe: null", PATIENT)
            .replace("livenessProbe: null", WATCHFUL)
        ),
    )
    expect(lab.preview("Apply the Deployment")).to_contain_text("would change")
    lab.press("Apply the Deployment")
    lab.sees("is given VLLM_PORT by a Service", "PASS")
    lab.sees("A model may take two minutes to load", "PASS")
    lab.sees("One ready pod of vLLM holds a GPU", "PASS")
    expect(lab.cell("the Service sends it traffic")).to_be_visible()
    lab.picture("lab02-time-line", at=lab.cell("the Service sends it traffic"))

    # 3: the served name answers, a wrong one is told so, and never again.
    lab.press("Ask")
    asked = lab.cell("a port nobody listens on")
    expect(asked).to_contain_text("ModelNotFound")
    expect(asked).to_contain_text("never")
    lab.sees("lists the promised name and context", "PASS")
    lab.picture("lab02-asked", at=asked)
