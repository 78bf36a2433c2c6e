"""vLLM and Qdrant on a fake cluster, as the solutions of labs 02 and 03 leave them.

For the proofs of every lab: those two labs make them wrong, later ones start with both.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import yaml

from helpers.cluster.fake import default_profile
from helpers.cluster.patches import merge
from helpers.grading.changes import (
    SYSTEM,
    Manifest,
    applied,
    endpoints,
    manifest,
    one,
    pod,
    rolled_out,
    solved,
    steps,
    stored,
)
from helpers.stack import serving
from helpers.stack.bring_up import APPS, GATEWAY, first_policy
from helpers.stack.gateway import ensure_keys
from helpers.stack.probes import FOLDER, probe_pods

NODE_ADDRESS = "198.18.0.2"


def vllm_objects() -> list[Manifest]:
    """ConfigMap, claim, Service and, last, Deployment of lab 02, for the fake cluster's profile."""
    profile = default_profile()
    names = {
        "MODEL_ID": profile.model,
        "SERVED_MODEL": profile.served_model_name,
        "STORAGE_CLASS": profile.storage_class,
    }
    policy = solved("02", "policy_yaml", **names)
    checksum = serving.config_checksum(one(policy, "ConfigMap")["data"])
    return [*policy, deepcopy(_deployment(checksum))]


@cache
def _deployment(checksum: str) -> Manifest:
    layers = [
        yaml.safe_load((serving.MANIFESTS / part / "deployment.yaml").read_text())
        for part in ("base", "overlays/embedded")
    ]
    whole: Manifest = {}
    for layer in (*layers, *solved("02", "start_yaml", "rollout_yaml", CONFIG_CHECKSUM=checksum)):
        whole = merge(whole, layer, keyed=True)
    return whole


def qdrant_objects() -> list[Manifest]:
    """Both Services and the StatefulSet of lab 03."""
    return solved("03", "memory_yaml")


def both_there(cluster: Any) -> None:
    """What `bring_up` does where the earlier labs were not done: a backend that is there stays as it is."""
    role = {"kubedojo.dev/role": APPS}
    applied(manifest("Namespace", SYSTEM), manifest("Namespace", APPS, labels=role))(cluster)
    view = cluster.view()
    if view.find("Deployment", "vllm", SYSTEM) is None:
        rolled_out(*vllm_objects())(cluster)
    if view.find("StatefulSet", "qdrant", SYSTEM) is None:
        rolled_out(*qdrant_objects())(cluster)


def both_with_probes(cluster: Any) -> None:
    """What `bring_up_with_probes` does: both backends, the policy of lab 02, and the probe pods, all running."""
    both_there(cluster)
    cluster.apply((FOLDER / "namespaces.yaml").read_text())
    dns = {"name": "dns", "image": "coredns", "ports": [{"name": "dns-tcp", "containerPort": 53}]}
    labels = {"k8s-app": "kube-dns"}
    ports = [{"name": "dns-tcp", "port": 53, "targetPort": "dns-tcp"}]
    of_the_cluster = steps(
        stored(pod("coredns-0", {"containers": [dns]}, "kube-system", labels=labels)),
        stored(manifest("Service", "kube-dns", "kube-system", spec={"selector": labels, "ports": ports})),
        endpoints("kube-dns", "coredns-0", namespace="kube-system"),
        endpoints("kubernetes", namespace="default", address=NODE_ADDRESS, port=6443),
    )
    of_the_cluster(cluster)
    for probe in probe_pods(cluster.profile().images["toolbox"]):
        about, spec = probe["metadata"], probe["spec"]
        address = NODE_ADDRESS if spec.get("hostNetwork") else ""
        stored(pod(about["name"], spec, about["namespace"], labels=about["labels"], address=address))(cluster)
    if cluster.view().find("NetworkPolicy", "vllm-ingress-from-llm-apps", SYSTEM) is None:
        cluster.apply(first_policy())


def ground_for_orchestration(cluster: Any) -> None:
    """What `bring_up_for_orchestration` does: the same, the namespace of the gateway, and the keys."""
    both_with_probes(cluster)
    applied(manifest("Namespace", GATEWAY))(cluster)
    ensure_keys(cluster)
