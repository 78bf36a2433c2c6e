"""The witnesses of the traces: the real assistant's trees and their cost, and a copy that loses its Collector.

A record is bound to what spans are made with and go through: `trace.py`, the OTEL settings, and the
Collector's configuration.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from helpers.cluster.manifests import load_one
from helpers.errors import StepMissing
from helpers.labs import witnessing
from helpers.labs.lab07_gates import ground
from helpers.labs.witnessing import Book, Witness
from helpers.settings import REPOSITORY
from helpers.stack import assistant, gateway, rollouts
from helpers.stack.orchestrator import short_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.cluster import Cluster, ClusterView
    from helpers.labs.witnessing import Record
    from helpers.progress import Progress

MANIFESTS = REPOSITORY / "manifests" / "labs" / "07"
PROGRAM = Path(__file__).with_name("witness_traces_program.py")
TRACE_FILE = "trace.py"
SETTINGS = "OTEL_"
ROLLOUT_S = 240.0

WITNESSES: dict[str, Witness] = {
    item.name: item
    for item in (
        Witness(
            "trace",
            "four questions of two tenants, their spans and their cost",
            gateway.NAMESPACE,
            seconds=25,
        ),
        Witness(
            "collector",
            "two hundred questions of which twenty fail, and a thousand without a Collector",
            assistant.NAMESPACE,
            seconds=90,
        ),
    )
}


def make(view: ClusterView, name: str) -> dict[str, Any]:
    """The Job of this witness as it would be started now.

    Raises:
        ObjectMissing: there is no Rollout yet.
    """
    rollout = view.get("Rollout", assistant.ROLLOUT, assistant.NAMESPACE)
    image = view.profile.images.get("orchestrator") or rollout.path(
        "spec.template.spec.containers.0.image", ""
    )
    job: dict[str, Any] = json.loads(_text(name, image, bound_to(view)))
    return job


@cache
def _text(name: str, image: str, revision: str) -> str:
    text = (MANIFESTS / f"witness-{name}.yaml").read_text()
    names = {"NAME": name, "ORCHESTRATOR": image, "REVISION": revision}
    job = load_one(Template(text).safe_substitute(names))
    for container in job["spec"]["template"]["spec"]["containers"]:
        container["command"] = witnessing.command(PROGRAM, name)
    return json.dumps(job)


def settings(view: ClusterView) -> dict[str, str]:
    """How the assistant makes and sends spans, as its settings say."""
    data = assistant.data_in(view, assistant.CONFIG)
    return {key: value for key, value in data.items() if key.startswith(SETTINGS)}


def bound_to(view: ClusterView) -> str:
    """What a record rests on, as one short hash."""
    made_with = [
        assistant.data_in(view, assistant.DECISIONS).get(TRACE_FILE, ""),
        settings(view),
        assistant.data_in(view, assistant.COLLECTOR_CONFIG, assistant.OBSERVABILITY),
    ]
    return short_hash(json.dumps(made_with, sort_keys=True))


BOOK = Book("07", WITNESSES, make)


def run(
    cluster: Cluster,
    name: str,
    *,
    on_progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Run one of these witnesses to its end; its record.

    Raises:
        StepMissing: there is no assistant yet.
        WaitTimeout, Stopped: as `witnessing.run`; also where the Collector does not come up with its configuration.
    """
    if cluster.view().find("Rollout", assistant.ROLLOUT, assistant.NAMESPACE) is None:
        raise StepMissing("There is no assistant yet.", next_command="course start 07")
    # What was changed by hand in a ConfigMap is not yet what the pods have.
    ground.follow_collector(cluster)
    if name == "trace" and rollouts.roll_out(cluster):
        on_progress(f"{name}: waiting until no pod with other settings answers any more")
        ground.wait_for_assistant(cluster)
    on_progress(f"{name}: waiting for the Collector")
    cluster.wait_rollout("Deployment", assistant.COLLECTOR, assistant.OBSERVABILITY, ROLLOUT_S)
    return witnessing.run(BOOK, cluster, name, on_progress=on_progress, should_stop=should_stop)
