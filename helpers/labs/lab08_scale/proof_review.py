"""What a fake cluster says to the review beside its objects: claims that are bound, and a Collector that counts spans."""

from __future__ import annotations

from typing import Any

from helpers.grading.changes import Change, manifest
from helpers.grading.changes import solved as cells
from helpers.labs.lab07_gates.proof_state import released
from helpers.stack import assistant, releases

COLLECTOR_PORT = 8888
PHOENIX_CLAIM = "phoenix-data"


def start(cluster: Any) -> None:
    """Phoenix has its claim, and the Collector has not seen a span."""
    cluster.put(
        manifest(
            "PersistentVolumeClaim",
            PHOENIX_CLAIM,
            assistant.OBSERVABILITY,
            spec={"resources": {"requests": {"storage": "1Gi"}}},
            status={"phase": "Bound"},
        )
    )
    spans_arrive(0, 0)(cluster)


def solved(cluster: Any) -> None:
    """Spans arrive, and releases are judged: by the page's gate, where there is none of lab 07."""
    spans_arrive(400, 380)(cluster)
    there = cluster.view().get("Rollout", assistant.ROLLOUT, assistant.NAMESPACE)
    steps = there.path("spec.strategy.canary.steps", []) or []
    if not any("analysis" in step for step in steps):
        gated()(cluster)


def gated(*wanted: dict[str, Any]) -> Change:
    """The page's gate, or these steps, in the assistant's Rollout; templates and monitors as they are on the page."""
    found = cells("08", "gate_yaml")
    (fragment,) = (item for item in found if item["kind"] == "Rollout")

    def change(cluster: Any) -> None:
        cluster.apply([item for item in found if item["kind"] != "Rollout"])
        strategy = {"spec": {"strategy": {"canary": {"steps": list(wanted)}}}} if wanted else fragment
        released(releases.STABLE, strategy=strategy)(cluster)

    return change


def spans_arrive(accepted: int, sent: int, failed: int = 0) -> Change:
    """The Collector's own counters."""
    counts = {"receiver_accepted": accepted, "exporter_sent": sent, "exporter_send_failed": failed}
    text = "".join(f'otelcol_{name}_spans_total{{x="y"}} {value}\n' for name, value in counts.items())
    return lambda cluster: cluster.serve(
        assistant.OBSERVABILITY, assistant.COLLECTOR, COLLECTOR_PORT, lambda *_: (200, text)
    )
