"""Lab 08's cluster as fakes keep it: the start, and the solution but for the witnesses' records.

`mutants_queue`, `mutants_scale` and `mutants_review` begin here and leave the records of their own witnesses
(`records(cluster)`). Objects come from the manifests and from the solution's cells, so that both are proved
with the checks. What services answer is in `proof_scale` and `proof_review`.
"""

from __future__ import annotations

import ast
import json
from functools import cache
from typing import Any

import yaml

from helpers.cluster.fake import FakeCluster
from helpers.grading.changes import Manifest, applied, manifest, rolled_out, solved, yaml_cells
from helpers.labs.front_backends import redis_holds
from helpers.labs.lab06_orchestration.mutants import DURABLE, redis_objects
from helpers.labs.lab07_gates.proof_state import start as start_of_lab_07
from helpers.labs.lab08_scale import proof_review, proof_scale
from helpers.settings import REPOSITORY
from helpers.stack import assistant, jobs, orchestrator, scaling, state

APPS, BATCH, MONITORING = scaling.APPS, scaling.BATCH, scaling.MONITORING
KEDA = "keda"
SOLVED = REPOSITORY / "solutions" / "08_scale.py"
QUOTA = "llm-system-quota"
LEFT_BY_LAB_01 = REPOSITORY / "manifests" / "labs" / "02" / "start" / "substrate.yaml"
# Which functions of the page stand in which file of the ConfigMap.
FUNCTIONS = {
    "delivery.py": ("order", "after_failure"),
    "cache.py": ("key", "ttl_s", "may_share"),
    "flight.py": ("lease_s", "while_another_works"),
}
# The kinds that the operators bring: kind, group, version, plural.
KINDS = (
    ("ServiceMonitor", "monitoring.coreos.com", "v1", "servicemonitors"),
    ("PodMonitor", "monitoring.coreos.com", "v1", "podmonitors"),
    ("PrometheusRule", "monitoring.coreos.com", "v1", "prometheusrules"),
    ("Prometheus", "monitoring.coreos.com", "v1", "prometheuses"),
    ("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects"),
    ("TriggerAuthentication", "keda.sh", "v1alpha1", "triggerauthentications"),
)
# What stands in the cluster from the start on, in this order.
PARTS = {"pool": scaling.manifests, "queue": jobs.queue_manifests, "jobs": jobs.manifests}


def start(cluster: Any) -> None:
    """What `course start 08` leaves; what another lab, or a learner, has put there stays as it is."""
    if cluster.view().find("ConfigMap", assistant.SETS, APPS) is None:
        start_of_lab_07(cluster)
    serves_operators(cluster)
    _durable_redis(cluster)
    _bounded(cluster)
    applied(*(manifest("Namespace", name) for name in (BATCH, MONITORING, KEDA)))(cluster)
    view = cluster.view()
    for part in PARTS:
        found = objects(part)
        workload = next(item for item in found if item["kind"] in ("Deployment", "StatefulSet"))
        metadata = workload["metadata"]
        if view.find(workload["kind"], metadata["name"], metadata["namespace"]) is None:
            rolled_out(*found)(cluster)
    if not view.list("ServiceMonitor", orchestrator.SYSTEM):
        applied(*solved("03", "monitor_yaml"))(cluster)
    proof_scale.start(cluster)
    proof_review.start(cluster)


def solution(cluster: Any) -> None:
    """All parts as the page's solution leaves them, without any witness's record."""
    applied(manifest("ConfigMap", jobs.DECISIONS, APPS, data=decision_files()))(cluster)
    settings(yaml.safe_load(yaml_cells("08")["queue_settings"]))(cluster)
    jobs.roll_out(cluster)
    applied(*solved("08", "monitors_yaml", "rules_yaml"))(cluster)
    applied(*solved("08", "scaled_pool_yaml", "scaled_workers_yaml"))(cluster)
    applied(*solved("08", "deny_yaml"))(cluster)
    proof_scale.solved(cluster)
    proof_review.solved(cluster)


# Objects


def serves_operators(cluster: Any) -> None:
    """The kinds of the Prometheus Operator and of KEDA, as their CustomResourceDefinitions bring them."""
    for kind, group, version, plural in KINDS:
        cluster.serve_kind(kind, group, version, plural)


def _durable_redis(cluster: Any) -> None:
    """Lab 06's Redis with a claim of its own, where it is a prototype's."""
    found = cluster.view().find("StatefulSet", orchestrator.REDIS, orchestrator.SYSTEM)
    if found is None or not found.path("spec.volumeClaimTemplates"):
        rolled_out(*redis_objects())(cluster)
        redis_holds(state.Store(settings=DURABLE))(cluster)


def _bounded(cluster: Any) -> None:
    """The quota that lab 01 leaves in llm-system, where it is missing."""
    if cluster.view().find("ResourceQuota", QUOTA, orchestrator.SYSTEM) is None:
        found = yaml.safe_load_all(LEFT_BY_LAB_01.read_text())
        applied(*(item for item in found if item["kind"] == "ResourceQuota"))(cluster)


def objects(part: str) -> list[Manifest]:
    """One part's objects for an embedded cluster: `pool`, `queue` or `jobs`."""
    found: list[Manifest] = json.loads(_objects(part))
    return found


@cache
def _objects(part: str) -> str:
    return json.dumps([item for item in PARTS[part](FakeCluster()) if item["kind"] != "Namespace"])


def settings(wanted: dict[str, str]) -> Any:
    """These settings over those that the jobs have."""

    def change(cluster: Any) -> None:
        data = {**jobs.settings_in(cluster.view()), **wanted}
        applied(manifest("ConfigMap", jobs.CONFIG, APPS, data=data))(cluster)

    return change


# What the page's cells write


def functions_text(file: str) -> str:
    """`delivery.py`, `cache.py` or `flight.py` as the page delivers the solution's functions."""
    tree = ast.parse(SOLVED.read_text())
    named = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    texts = [
        ast.unparse(ast.FunctionDef(**{**vars(named[name]), "decorator_list": []}))
        for name in FUNCTIONS[file]
    ]
    return jobs.HEAD + "\n\n\n".join(texts) + "\n"


@cache
def _decision_files() -> str:
    return json.dumps({file: functions_text(file) for file in FUNCTIONS})


def decision_files() -> dict[str, str]:
    """The three files of ConfigMap `llm-jobs-decisions`, as solved."""
    found: dict[str, str] = json.loads(_decision_files())
    return found
