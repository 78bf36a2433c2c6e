"""The drain experiment on a cluster in memory: it rolls only when answers are in flight, and hears what they say."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.cluster.profile import Profile
from helpers.errors import WaitRejected
from helpers.labs.lab02_inference import drain, witness
from helpers.stack import serving

SUBSTRATE = serving.REPOSITORY / "manifests" / "labs" / "02" / "start" / "substrate.yaml"
WHOLE = "asking small four times at once\n" + "".join(f"answer {n}: whole\n" for n in (2, 1, 4, 3))


@pytest.fixture
def cluster() -> FakeCluster:
    made = FakeCluster(
        SUBSTRATE.read_text(), profile=Profile(name="embedded", images={"toolbox": "toolbox:1"})
    )
    made.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "vllm", "namespace": "llm-system"},
                "spec": {"selector": {"app": "vllm"}, "ports": [{"port": 8000}]}})  # fmt: skip
    made.serve(
        "llm-system", "vllm", 8000, lambda method, path, body: (200, "vllm:num_requests_running 4.0\n")
    )
    return made


def _end(cluster: FakeCluster, kind: str, log: str) -> None:
    """What the Job's controller and its pod leave behind."""
    cluster.set_status("Job", drain.JOB, {"conditions": [{"type": kind, "status": "True"}]}, witness.APPS)
    cluster.add_pod("witness-1", witness.APPS, labels={"app": drain.JOB}, phase="Succeeded")
    cluster.set_log(witness.APPS, "witness-1", log)


def test_it_rolls_while_answers_are_in_flight_and_hears_the_witness(cluster: FakeCluster) -> None:
    rolled: list[bool] = []

    def roll() -> None:
        rolled.append(cluster.view().find("Job", drain.JOB, witness.APPS) is not None)
        _end(cluster, "Complete", WHOLE)

    heard = drain.run(cluster, roll)
    assert rolled == [True]
    assert (heard.whole, heard.broken, heard.ok) == (4, 0, True)


def test_an_answer_that_was_broken_off_is_not_ok(cluster: FakeCluster) -> None:
    heard = drain.run(cluster, lambda: _end(cluster, "Failed", WHOLE.replace("4: whole", "4: broken off")))
    assert (heard.whole, heard.broken, heard.ok) == (3, 1, False)


def test_a_witness_that_ends_before_its_answers_are_seen_ends_the_wait(cluster: FakeCluster) -> None:
    def handler(method: str, path: str, body: Any) -> tuple[int, str]:
        if cluster.view().find("Job", drain.JOB, witness.APPS):
            _end(cluster, "Failed", "")
        return 503, "no"

    cluster.serve("llm-system", "vllm", 8000, handler)
    with pytest.raises(WaitRejected, match="before its requests were seen"):
        drain.run(cluster, lambda: None)


def test_the_witness_runs_the_clusters_own_toolbox() -> None:
    container = witness.manifest(drain.JOB, "toolbox:1")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "toolbox:1"
    assert "$service/v1/completions" in container["command"][-1]


def test_a_roll_out_that_changes_nothing_replaces_the_pods_all_the_same(cluster: FakeCluster) -> None:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "vllm", "namespace": "llm-system"},
        "spec": {
            "selector": {"matchLabels": {"app": "vllm"}},
            "template": {
                "metadata": {"labels": {"app": "vllm"}},
                "spec": {"containers": [{"name": "vllm", "image": "v"}]},
            },
        },
    }

    def generation() -> int:
        return int(cluster.view().deployment("vllm").path("metadata.generation"))

    serving.roll_out(cluster, deployment)  # type: ignore[arg-type]
    first = generation()
    serving.roll_out(cluster, deployment)  # type: ignore[arg-type]
    assert generation() == first + 1
    annotations = cluster.view().deployment("vllm").path("spec.template.metadata.annotations")
    assert "kubectl.kubernetes.io/restartedAt" in annotations
