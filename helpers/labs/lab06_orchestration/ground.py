"""What lab 06 stands on, what it puts there, and how it goes away again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from string import Template
from typing import TYPE_CHECKING, Any

import yaml

from helpers.cluster.manifests import load
from helpers.cluster.patches import merge
from helpers.errors import InvalidManifest
from helpers.labs.lab06_orchestration import roads
from helpers.progress import Progress
from helpers.settings import REPOSITORY
from helpers.stack import gateway, orchestrator

if TYPE_CHECKING:
    from helpers.cluster import Cluster

APPS, SYSTEM, GATEWAY = orchestrator.NAMESPACE, orchestrator.SYSTEM, gateway.NAMESPACE
MANIFESTS = REPOSITORY / "manifests" / "labs" / "06"
CLAIM_S = 60.0
Manifest = dict[str, Any]

LAB_OBJECTS = (
    ("Deployment", gateway.NAME, GATEWAY),
    ("Deployment", gateway.RATELIMIT, GATEWAY),
    ("Service", gateway.NAME, GATEWAY),
    ("Service", gateway.RATELIMIT, GATEWAY),
    ("ConfigMap", gateway.CONFIG, GATEWAY),
    ("ConfigMap", gateway.TOKENS, GATEWAY),
    ("NetworkPolicy", gateway.NAME, GATEWAY),
    ("NetworkPolicy", gateway.RATELIMIT, GATEWAY),
    ("Deployment", orchestrator.DEPLOYMENT, APPS),
    ("Service", orchestrator.SERVICE, APPS),
    ("NetworkPolicy", orchestrator.DEPLOYMENT, APPS),
    ("ConfigMap", orchestrator.CONFIG, APPS),
    ("ConfigMap", orchestrator.DECISIONS, APPS),
    ("ServiceAccount", orchestrator.DEPLOYMENT, APPS),
)


def prepare(cluster: Cluster, progress: Progress) -> list[str]:
    """Backends with the documents of lab 03, keys, and Redis as a prototype has it, Ready."""
    from helpers.stack.bring_up import bring_up_for_orchestration

    done = list(bring_up_for_orchestration(cluster, progress))
    if cluster.view().find("StatefulSet", orchestrator.REDIS, SYSTEM) is None:
        progress("applying redis")
        done += [f"{item.action} {item.kind} {item.name}" for item in cluster.apply(prototype_redis(cluster))]
    cluster.wait_rollout("StatefulSet", orchestrator.REDIS, SYSTEM)
    return done


def clear(cluster: Cluster, progress: Progress, jobs: Iterable[tuple[str, str]]) -> list[str]:
    """What the lab made goes, and Redis is the prototype's again; a second time finds nothing to do."""
    done = []
    for kind, name, namespace in (*LAB_OBJECTS, *(("Job", name, namespace) for name, namespace in jobs)):
        if cluster.delete(kind, name, namespace, grace_s=1):
            progress(f"{kind} {name} deleted")
            done.append(f"{kind} {name} deleted")
    found = cluster.view().find("StatefulSet", orchestrator.REDIS, SYSTEM)
    if found is not None and found.path("spec.volumeClaimTemplates"):
        cluster.delete("StatefulSet", orchestrator.REDIS, SYSTEM, wait_s=CLAIM_S)
        cluster.delete("Pod", f"{orchestrator.REDIS}-0", SYSTEM, wait_s=CLAIM_S, grace_s=1)
        done.append(f"StatefulSet {orchestrator.REDIS} deleted")
    for claim in cluster.view().pvcs(SYSTEM, labels="app=redis"):
        cluster.delete("PersistentVolumeClaim", claim.name, SYSTEM, wait_s=CLAIM_S)
        done.append(f"PersistentVolumeClaim {claim.name} deleted")
    changed = [item for item in cluster.apply(prototype_redis(cluster)) if item.action != "unchanged"]
    return done + [f"{item.action} {item.kind} {item.name}" for item in changed]


def prototype_redis(cluster: Cluster) -> list[Manifest]:
    """Service, StatefulSet and policy of the start state, with this cluster's image."""
    text = (MANIFESTS / "start" / "redis.yaml").read_text()
    return load(Template(text).safe_substitute(REDIS=cluster.profile().images["redis"]))


def prototype_settings() -> dict[str, str]:
    """What a prototype sets."""
    found: dict[str, str] = yaml.safe_load((MANIFESTS / "prototype" / "config.yaml").read_text())
    return found


def objects(cluster: Cluster) -> list[Manifest]:
    """The orchestrator's manifests for this cluster."""
    return cluster.kustomize(orchestrator.MANIFESTS / "overlays" / cluster.profile().overlay)


def place(cluster: Cluster, settings: Mapping[str, str]) -> list[str]:
    """The settings, and where the orchestrator is not there yet the rest of it, as a prototype runs it."""
    if cluster.view().find("Deployment", orchestrator.DEPLOYMENT, APPS) is not None:
        orchestrator.deliver(cluster, orchestrator.CONFIG, settings)
        return [f"settings {', '.join(settings)} delivered"]
    fragment = yaml.safe_load((MANIFESTS / "prototype" / "deployment.yaml").read_text())
    wanted = [item for item in objects(cluster) if item["kind"] != "NetworkPolicy"]
    there = orchestrator.settings_in(cluster.view())  # a later part may have been delivered first
    for item in wanted:
        if item["kind"] == "ConfigMap":
            item["data"] |= prototype_settings() | there | dict(settings)
    done = cluster.apply([item for item in wanted if item["kind"] != "Deployment"])
    (deployment,) = (item for item in wanted if item["kind"] == "Deployment")
    done += cluster.apply(with_checksums(cluster, merge(deployment, fragment, keyed=True)))
    return [f"{item.action} {item.kind} {item.name}" for item in done]


def with_fragment(cluster: Cluster, fragment: Mapping[str, Any]) -> Manifest:
    """The Deployment with a learner's fragment laid over it, and the ConfigMaps' checksums as they are."""
    (deployment,) = (item for item in objects(cluster) if item["kind"] == "Deployment")
    return with_checksums(cluster, merge(deployment, deepcopy(dict(fragment)), keyed=True))


def with_checksums(cluster: Cluster, deployment: Manifest) -> Manifest:
    """The pod template says with which ConfigMaps its pods are made."""
    template = deployment["spec"]["template"].setdefault("metadata", {})
    template["annotations"] = {
        **(template.get("annotations") or {}),
        **orchestrator.checksums(cluster.view()),
    }
    return deployment


def gateway_objects(cluster: Cluster, limits: object) -> list[Manifest]:
    """The gateway's manifests for this cluster, with a learner's limits in Envoy's configuration.

    Raises:
        InvalidManifest: the limits are not `filter` and `rate_limits`.
    """
    found = cluster.kustomize(gateway.MANIFESTS / "overlays" / cluster.profile().overlay)
    for item in found:
        if item["kind"] == "ConfigMap" and item["metadata"]["name"] == gateway.CONFIG:
            item["data"][gateway.FILE] = with_limits(item["data"][gateway.FILE], limits)
    return gateway.with_checksums(found)


def with_limits(envoy: str, limits: object) -> str:
    """Envoy's configuration with another rate limit filter and other limits on the route.

    Raises:
        InvalidManifest: the limits are not `filter` and `rate_limits`.
    """
    if not isinstance(limits, Mapping) or set(limits) != {"filter", "rate_limits"}:
        raise InvalidManifest("the limits are a mapping with `filter` and `rate_limits`, and nothing else")
    if not isinstance(limits["filter"], Mapping) or not isinstance(limits["rate_limits"], list):
        raise InvalidManifest("`filter` is a mapping, `rate_limits` a list")
    config = yaml.safe_load(envoy)
    limiting = roads.rate_limit_filter(config)
    assert isinstance(limiting, dict)
    for name in ("timeout", "failure_mode_deny"):
        limiting.pop(name, None)
    limiting.update(limits["filter"])
    roads.route_limits(config)["rate_limits"] = limits["rate_limits"]
    return str(yaml.safe_dump(config, sort_keys=False, width=110))
