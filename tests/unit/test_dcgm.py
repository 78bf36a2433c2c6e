"""GPU metrics as lab 03 reads them: from any cluster's dcgm-exporter, real or simulated, or none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.cluster import Profile
from helpers.cluster.fake import FakeCluster
from helpers.embedded.devices.config import shape_of
from helpers.embedded.devices.holders import Holder, Usage
from helpers.embedded.devices.metrics import exposition
from helpers.errors import Forbidden
from helpers.labs.lab03_memory import draw
from helpers.notebook.session import LabSession
from helpers.stack import dcgm
from helpers.stack.metrics import Metrics

# Two lines as NVIDIA's exporter writes them for a held card and for a slice that nobody holds.
REAL = """
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",pci_bus_id="00000000:08:00.0",device="nvidia0",modelName="NVIDIA L4",Hostname="n1",DCGM_FI_DRIVER_VERSION="550",container="vllm",namespace="llm-system",pod="vllm-0"} 3
# HELP DCGM_FI_PROF_GR_ENGINE_ACTIVE Ratio of time the graphics engine is active.
# TYPE DCGM_FI_PROF_GR_ENGINE_ACTIVE gauge
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="1",UUID="GPU-2",device="nvidia1",modelName="NVIDIA A100",GPU_I_PROFILE="1g.10gb",GPU_I_ID="7",Hostname="n1"} 0.500000
"""
FULL = {"version": "v1", "course": {"gpus": 1}}


def simulated(*, cpus: float = 0.0) -> str:
    shape = shape_of(FULL, "substrate")
    holder = Holder("llm-system", "vllm-0", "vllm", shape.resources[0].device_ids)
    return exposition(shape, frozenset(), {holder: Usage(cpus, 1.0, 1 << 30)}, "substrate")


def cluster_with(
    text: str | None, *, label: str = "app.kubernetes.io/name", value: str = "dcgm-exporter"
) -> FakeCluster:
    """A cluster with an exporter somewhere that answers this; None is one without endpoints."""
    cluster = FakeCluster({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "monitoring"}})
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "exporter", "namespace": "monitoring", "labels": {label: value}},
            "spec": {"selector": {"app": "x"}, "ports": [{"name": "metrics", "port": 9401}]},
        }
    )
    if text is not None:
        cluster.serve("monitoring", "exporter", 9401, lambda _method, _path, _json: (200, text))
    return cluster


def drawn(cluster: FakeCluster, profile: Profile | None = None) -> str:
    session = LabSession("03", cluster, cluster.identity(), profile or cluster.profile(), None, {})
    shown: str = draw.gpu_table(session).text
    return shown


def test_a_real_exporters_cards_are_read_with_holder_and_what_they_lack() -> None:
    card, part = dcgm.readings(Metrics.parse(REAL))
    assert (card.holder, card.utilisation, card.used_mib, card.xid) == ("llm-system/vllm-0", 3, None, None)
    assert (part.profile, part.instance, part.utilisation, part.holder) == ("1g.10gb", "7", 50, "")
    assert not card.is_simulated
    assert dcgm.held_and_idle([card, part]) == [card]


def test_a_simulated_card_is_one_reading_of_five_series() -> None:
    (card,) = dcgm.readings(Metrics.parse(simulated(cpus=0.4)))
    assert card.is_simulated
    assert (card.utilisation, card.used_mib, card.free_mib, card.xid) == (40, 1024, 81920 - 1024, 0)
    assert dcgm.held_and_idle([card]) == []


@pytest.mark.parametrize(
    "label", [("app.kubernetes.io/name", "dcgm-exporter"), ("app", "nvidia-dcgm-exporter")]
)
def test_the_exporter_is_found_by_its_label_in_any_namespace(label: tuple[str, str]) -> None:
    found = dcgm.find_exporter(cluster_with(None, label=label[0], value=label[1]).view())
    assert found is not None and (found.namespace, dcgm.port_of(found)) == ("monitoring", 9401)


def test_the_table_says_what_stands_in_where_the_gpu_is_simulated() -> None:
    shown = drawn(cluster_with(simulated()))
    assert "llm-system/vllm-0" in shown and "held, idle" in shown and "1,024 of 81,920 MiB" in shown
    assert "Simulated GPU." in shown and "The rest is a substitute" in shown


def test_the_table_of_real_cards_claims_no_simulation() -> None:
    shown = drawn(cluster_with(REAL))
    assert "slice 7 (1g.10gb)" in shown and "nobody" in shown and "not given" in shown
    assert "imulated" not in shown


def test_a_cluster_without_an_exporter_is_told_so() -> None:
    assert "this cluster has no dcgm-exporter" in drawn(FakeCluster())


@pytest.mark.parametrize(
    ("profile", "command"),
    [("embedded", "course down; course up"), ("generic", "kubectl get pods -n monitoring")],
)
def test_an_exporter_that_is_not_ready_is_named_with_the_next_command(profile: str, command: str) -> None:
    cluster = cluster_with(None)
    shown = drawn(cluster, replace(cluster.profile(), name=profile))
    assert "Service monitoring/exporter answered 503" in shown and command in shown


def test_a_learner_of_a_class_is_told_whose_the_metrics_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_view: object) -> None:
        raise Forbidden("services is forbidden")

    monkeypatch.setattr(dcgm, "find_exporter", forbidden)
    assert "the instructor" in drawn(cluster_with(REAL))
