"""What lab 07 stands on, what it puts there, and how it goes away again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import yaml

from helpers.cluster.patches import merge
from helpers.errors import Forbidden
from helpers.labs.lab06_orchestration import ground as ground_of_lab_06
from helpers.labs.lab07_gates import sets
from helpers.progress import Progress
from helpers.settings import REPOSITORY
from helpers.stack import assistant, evals, gateway, releases, rollouts
from helpers.stack.serving import config_checksum

if TYPE_CHECKING:
    from helpers.cluster import Cluster

APPS, GATEWAY, OBSERVABILITY = assistant.NAMESPACE, gateway.NAMESPACE, assistant.OBSERVABILITY
MANIFESTS = REPOSITORY / "manifests" / "labs" / "07"
COLLECTOR_MANIFESTS = REPOSITORY / "manifests" / "stack" / "otel-collector"
ROLLOUT_S = 240.0
CHECKSUM = "checksum/config"
Manifest = dict[str, Any]

# The same rows by another tool: a learner applies it by hand.
PROMPTFOO = "llm-promptfoo"
# What the lab's parts make, in the order in which it goes away.
LAB_OBJECTS = (
    ("AnalysisTemplate", assistant.TEMPLATE, APPS),
    ("ConfigMap", assistant.GATE, APPS),
    ("ConfigMap", assistant.BASELINE, APPS),
    ("ConfigMap", assistant.PRICES, APPS),
    ("ConfigMap", assistant.DECISIONS, APPS),
    ("Job", evals.JOB, APPS),
    ("Job", PROMPTFOO, APPS),
    ("ConfigMap", PROMPTFOO, APPS),
)


def prepare(cluster: Cluster, progress: Progress) -> list[str]:
    """What lab 06 leaves where it is missing, the controller, Phoenix, the Collector, and the stable assistant, Ready."""
    from helpers.stack import bring_up

    done = ground_of_lab_06.prepare(cluster, progress)
    done += _gateway(cluster, progress)
    done += bring_up.ensure_rollouts(cluster, progress)
    done += bring_up.ensure_observability(cluster, progress)
    done += releases.ensure_collections(cluster, progress)
    if not assistant.data_in(cluster.view(), assistant.SETS):
        assistant.put_data(cluster, assistant.SETS, sets.given_sets())
        done.append(f"created ConfigMap {assistant.SETS}")
    if cluster.view().find("Rollout", assistant.ROLLOUT, APPS) is None:
        progress("applying llm-assistant")
        done += _said(cluster.apply(objects(cluster)))
    progress("llm-assistant: waiting until its pods are ready")
    wait_for_assistant(cluster)
    return done


def clear(cluster: Cluster, progress: Progress, jobs: Iterable[tuple[str, str]]) -> list[str]:
    """What the lab made goes; sets, settings, strategy and Collector are the start's; a second time finds nothing to do."""
    done = []
    witnesses = [("Job", name, namespace) for name, namespace in jobs]
    glass = [
        ("ConfigMap", found.name, APPS)
        for found in cluster.view().list("ConfigMap", APPS)
        if found.name.startswith(f"{rollouts.BREAK_GLASS}-")
    ]
    for kind, name, namespace in (*witnesses, *glass, *LAB_OBJECTS):
        try:
            gone = cluster.delete(kind, name, namespace, grace_s=1)
        except Forbidden:  # in a class a record of break-glass is there for the instructor
            continue
        if gone:
            progress(f"{kind} {name} deleted")
            done.append(f"{kind} {name} deleted")
    if not sets.is_given(assistant.data_in(cluster.view(), assistant.SETS)):
        assistant.put_data(cluster, assistant.SETS, _replacing(cluster, assistant.SETS, sets.given_sets()))
        done.append(f"ConfigMap {assistant.SETS} as the start has it")
    return [*done, *_first_assistant(cluster), *_first_collector(cluster)]


def _replacing(
    cluster: Cluster, name: str, wanted: Mapping[str, str], namespace: str = APPS
) -> dict[str, str | None]:
    """Data that also takes out what is not wanted."""
    there = assistant.data_in(cluster.view(), name, namespace)
    return {**dict.fromkeys(there, None), **wanted}


def _first_assistant(cluster: Cluster) -> list[str]:
    """The assistant as the start has it, in a cluster that has one."""
    if cluster.view().find("Rollout", assistant.ROLLOUT, APPS) is None:
        return []
    # The controller has narrowed the selectors of two Services: applied again they would lead to every pod.
    wanted = [item for item in objects(cluster) if item["kind"] != "Service"]
    changed = [item for item in cluster.apply(wanted) if item.action != "unchanged"]
    if any(item.kind in ("Rollout", "ConfigMap") for item in changed):
        rollouts.roll_out(cluster)
    return _said(changed)


def _first_collector(cluster: Cluster) -> list[str]:
    """The naive configuration, in a cluster that has a Collector."""
    there = assistant.data_in(cluster.view(), assistant.COLLECTOR_CONFIG, OBSERVABILITY)
    wanted = {assistant.COLLECTOR_FILE: first_collector()}
    if not there or there == assistant.scoped(cluster, wanted):
        return []
    data = _replacing(cluster, assistant.COLLECTOR_CONFIG, wanted, OBSERVABILITY)
    assistant.put_data(cluster, assistant.COLLECTOR_CONFIG, data, OBSERVABILITY)
    roll_collector(cluster)
    return [f"ConfigMap {assistant.COLLECTOR_CONFIG} as the start has it"]


def _said(applied: Any) -> list[str]:
    return [f"{item.action} {item.kind} {item.name}" for item in applied if item.action != "unchanged"]


# The assistant


def objects(cluster: Cluster) -> list[Manifest]:
    """The assistant's manifests for this cluster, as the start has them."""
    found = cluster.kustomize(assistant.MANIFESTS / "overlays" / cluster.profile().overlay)
    data = {item["metadata"]["name"]: item.get("data") or {} for item in found if item["kind"] == "ConfigMap"}
    for item in found:
        if item["kind"] == "Rollout":
            releases.with_release(item["spec"]["template"], releases.STABLE, assistant.CONTAINER)
            metadata = item["spec"]["template"].setdefault("metadata", {})
            sums = {key: config_checksum(data.get(name, {})) for name, key in assistant.CHECKSUMS.items()}
            metadata["annotations"] = {**(metadata.get("annotations") or {}), **sums}
    return found


def first_settings() -> dict[str, str]:
    """What the assistant's settings are in the start."""
    found: dict[str, str] = yaml.safe_load((assistant.MANIFESTS / "base" / "config.yaml").read_text())["data"]
    return found


def first_strategy() -> Manifest:
    """The strategy of the start, which goes by the clock, as a fragment of the Rollout."""
    rollout = yaml.safe_load((assistant.MANIFESTS / "base" / "rollout.yaml").read_text())
    return {"spec": {"strategy": rollout["spec"]["strategy"]}}


def with_strategy(cluster: Cluster, fragment: Mapping[str, Any]) -> Manifest:
    """The Rollout as it is now, with another strategy: what it releases does not change.

    Raises:
        ObjectMissing: there is no Rollout yet.
    """
    found = cluster.view().get("Rollout", assistant.ROLLOUT, APPS)
    spec = {key: deepcopy(value) for key, value in found.path("spec").items() if key != "strategy"}
    (first,) = (item for item in objects(cluster) if item["kind"] == "Rollout")
    base = {
        "canary": {key: value for key, value in first["spec"]["strategy"]["canary"].items() if key != "steps"}
    }
    strategy = merge({"strategy": base}, deepcopy(dict(fragment["spec"])), keyed=False)
    metadata = {
        "name": assistant.ROLLOUT,
        "namespace": APPS,
        "labels": dict(first["metadata"].get("labels") or {}),
    }
    return {**first, "metadata": metadata, "spec": {**spec, **strategy}}


def wait_for_assistant(cluster: Cluster, timeout_s: float = ROLLOUT_S) -> None:
    """Until all pods of the revision that users have are available, no other one is on its way, and none still ends.

    A pod that ends answers for some seconds more, with the settings that it was made with.

    Raises:
        WaitTimeout: it does not get there.
    """

    def settled(view: Any) -> bool:
        found = view.find("Rollout", assistant.ROLLOUT, APPS)
        if found is None:
            return False
        status, wanted = found.path("status", {}) or {}, found.path("spec.replicas", 1)
        now = rollouts.standing(view)
        available = (status.get("availableReplicas") or 0) >= wanted
        ending = any(pod.is_terminating for pod in view.pods(APPS, labels=assistant.LABELS))
        return available and now.is_decided and not ending

    cluster.wait_until("llm-assistant is at rest and available", settled, timeout_s=timeout_s)


# The gateway


def _gateway(cluster: Cluster, progress: Progress) -> list[str]:
    """The gateway with the way to the assistant: the whole of it, or the way alone where a learner has a gateway."""
    base = cluster.kustomize(gateway.MANIFESTS / "overlays" / cluster.profile().overlay)
    there = assistant.data_in(cluster.view(), gateway.CONFIG, GATEWAY).get(gateway.FILE)
    if there is None:
        progress("applying the gateway")
        done = _said(cluster.apply(gateway.with_checksums(base)))
    else:
        (wanted,) = (
            item["data"][gateway.FILE]
            for item in base
            if item["kind"] == "ConfigMap" and item["metadata"]["name"] == gateway.CONFIG
        )
        text = with_way(there, wanted)
        if text == there:
            return []
        cluster.patch("ConfigMap", gateway.CONFIG, {"data": {gateway.FILE: text}}, GATEWAY)
        annotation = {gateway.CHECKSUM: config_checksum({gateway.FILE: text})}
        patch = {"spec": {"template": {"metadata": {"annotations": annotation}}}}
        cluster.patch("Deployment", gateway.NAME, patch, GATEWAY)
        done = [f"changed ConfigMap {gateway.CONFIG}: the way to {assistant.ROLLOUT}"]
    for name in (gateway.RATELIMIT, gateway.NAME):
        progress(f"{name}: waiting until it is ready")
        cluster.wait_rollout("Deployment", name, GATEWAY)
    return done


def with_way(envoy: str, wanted: str) -> str:
    """Envoy's configuration with the route and the cluster of the assistant, taken from another that has them.

    Unchanged where both are there: a learner's own limits stay as they are.
    """
    config, source = yaml.safe_load(envoy), yaml.safe_load(wanted)
    clusters = config["static_resources"]["clusters"]
    if any(item["name"] == assistant.ROLLOUT for item in clusters):
        return envoy
    clusters += [item for item in source["static_resources"]["clusters"] if item["name"] == assistant.ROLLOUT]
    routes = _routes(config)
    routes[:0] = [
        item for item in _routes(source) if (item.get("route") or {}).get("cluster") == assistant.ROLLOUT
    ]
    return str(yaml.safe_dump(config, sort_keys=False, width=110))


def _routes(config: Any) -> list[Any]:
    """The routes of the listener that callers use."""
    listener = next(item for item in config["static_resources"]["listeners"] if item["name"] == "http")
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    found: list[Any] = manager["route_config"]["virtual_hosts"][0]["routes"]
    return found


# The Collector


def first_collector() -> str:
    """The Collector's configuration as a quick start has it."""
    return (COLLECTOR_MANIFESTS / "base" / assistant.COLLECTOR_FILE).read_text()


def follow_collector(cluster: Cluster) -> None:
    """Let the Collector have the configuration that its ConfigMap holds; one that it began with changes nothing."""
    found = cluster.view().find("Deployment", assistant.COLLECTOR, OBSERVABILITY)
    there = assistant.data_in(cluster.view(), assistant.COLLECTOR_CONFIG, OBSERVABILITY)
    first = assistant.scoped(cluster, {assistant.COLLECTOR_FILE: first_collector()})
    if found is None or (there == first and CHECKSUM not in _annotations(found)):
        return
    roll_collector(cluster)


def _annotations(deployment: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = deployment.path("spec.template.metadata.annotations", {}) or {}
    return found


def roll_collector(cluster: Cluster) -> None:
    """Let the Collector's pod be replaced by one with the configuration as it is."""
    if cluster.view().find("Deployment", assistant.COLLECTOR, OBSERVABILITY) is None:
        return
    data = assistant.data_in(cluster.view(), assistant.COLLECTOR_CONFIG, OBSERVABILITY)
    patch = {"spec": {"template": {"metadata": {"annotations": {CHECKSUM: config_checksum(data)}}}}}
    cluster.patch("Deployment", assistant.COLLECTOR, patch, OBSERVABILITY)
