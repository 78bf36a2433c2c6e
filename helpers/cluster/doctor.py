"""What a cluster lacks for which labs, and how to get it: found by asking it and by experiment.

Whether network policies are enforced cannot be read anywhere: every API server stores them, and
only some networks act on them. So two pods are started, a connection is made, a policy is applied,
and the connection is tried again. The same pods show whether volumes are provisioned.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from helpers.cluster.cluster import Cluster
from helpers.cluster.deadline import Deadline
from helpers.cluster.faults import Asked
from helpers.cluster.profile import PROFILE_NAME, PROFILE_NAMESPACE, Profile
from helpers.cluster.temporary import sweep, temporary_namespace
from helpers.cluster.view import ClusterView
from helpers.cluster.waits import NotYet
from helpers.errors import EnvironmentFault, LabError, ProbeInconclusive, WaitTimeout
from helpers.progress import Progress

OLDEST = (1, 35)
ALL_LABS = "all labs"
_METRICS = (
    "kubectl apply -f "
    "https://github.com/kubernetes-sigs/metrics-server/releases/latest/download/components.yaml"
)
# Name in the profile, folder of its Containerfile, and who needs it.
_OWN_IMAGES = (
    ("orchestrator", "orchestrator", "lab 06, orchestration"),
    ("eval-runner", "evals", "lab 07, gates"),
)
# What scales, and what brings it figures: title, one of its kinds, their group.
_SCALING = (
    ("KEDA", "ScaledObject", "keda.sh"),
    ("Prometheus Operator", "ServiceMonitor", "monitoring.coreos.com"),
)
_PORT = 8080
_PODS_S, _ENFORCE_S = 120, 15
# The course's toolbox has agnhost in its path, upstream's image has it at the root.
_AGNHOST = "$(command -v agnhost || echo /agnhost)"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `labs` are those that cannot be done without it."""

    fine: bool
    text: str
    next_command: str = ""
    labs: str = ""


def diagnose(
    cluster: Cluster, *, experiment: bool = True, on_progress: Progress | None = None
) -> list[Finding]:
    """Everything that can be found out; stops after the first finding when the cluster is away.

    `experiment` starts two small pods in a namespace of its own, for some ten seconds, and removes them.
    """
    tell = on_progress or (lambda text: None)
    tell(f"asking {cluster.address}")
    sweep(cluster)
    try:
        identity = cluster.identity()
        findings = [_version(identity.server_version), *_rights(cluster), *_offers(cluster)]
    except EnvironmentFault as fault:
        return [Finding(False, str(fault), fault.next_command or "course use --help", ALL_LABS)]
    if cluster.scope.suffix:
        # In a class no learner makes namespaces: what an experiment would show is asked by the instructor.
        return [
            *findings,
            Finding(True, "a seat in a class: only the instructor can test volumes and policies"),
        ]
    if experiment and all(finding.fine for finding in findings if finding.labs == ALL_LABS):
        findings += _experiments(cluster, tell)
    return findings


def _version(text: str) -> Finding:
    numbers = text.lstrip("v").split(".")
    try:
        found = int(numbers[0]), int("".join(filter(str.isdigit, numbers[1])))
    except (ValueError, IndexError):
        return Finding(False, f"the version {text!r} is not one of Kubernetes", labs=ALL_LABS)
    if found < OLDEST:
        least = ".".join(map(str, OLDEST))
        return Finding(False, f"Kubernetes {text} is older than {least}", "upgrade the cluster", ALL_LABS)
    return Finding(True, f"Kubernetes {text}")


# What one may do

_NEEDED = (
    ("create", "", "namespaces"),
    ("patch", "", "resourcequotas:llm-system-quota"),
    ("patch", "", "pods"),
    ("create", "", "pods/exec"),
    ("patch", "apps", "deployments"),
    ("patch", "networking.k8s.io", "networkpolicies"),
)


def _rights(cluster: Cluster) -> Iterator[Finding]:
    # The namespaces of a seat in a class are there already.
    needed = _NEEDED[1:] if cluster.scope.suffix else _NEEDED
    refused = [
        f"{verb} {resource.partition(':')[0]}"
        for verb, group, resource in needed
        if not _may(cluster, verb, group, resource)
    ]
    if refused:
        text = f"these credentials may not: {', '.join(refused)}"
        yield Finding(False, text, "kubectl auth can-i --list", ALL_LABS)
    else:
        yield Finding(True, "the credentials allow what the labs do")


def _may(cluster: Cluster, verb: str, group: str, resource: str) -> bool:
    resource, _, one = resource.partition(":")
    name, _, sub = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": name, "subresource": sub, "name": one}
    if name != "namespaces":
        attributes["namespace"] = cluster.scope.namespace("llm-system")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = cluster.api.call("POST", path, Asked(f"may I {verb} {resource}"), body=review)
    return bool((answer.get("status") or {}).get("allowed"))


# What it offers


def _offers(cluster: Cluster) -> Iterator[Finding]:
    profile, view = cluster.profile(refresh=True), cluster.view(Deadline(30))
    if profile.gpu == "none":
        yield Finding(
            False,
            "no node offers a GPU resource (nvidia.com/gpu or a MIG slice of it)",
            "helm install gpu-operator nvidia/gpu-operator -n gpu-operator --create-namespace",
            "lab 01 and those that run vLLM on a GPU",
        )
    else:
        amount = sum(node.allocatable(profile.gpu_resource) for node in view.nodes())
        shape = "" if profile.gpu_shape == "full" else f", {profile.gpu_shape}"
        yield Finding(True, f"{amount} {profile.gpu_resource} ({profile.gpu}{shape})")
    yield _metrics(view)
    yield from _own_images(profile, view)
    yield _gateway_api(cluster)
    yield _rollouts(cluster)
    yield from _scaling(cluster)


def _own_images(profile: Profile, view: ClusterView) -> Iterator[Finding]:
    """The images of the course's own: a cluster that is not embedded pulls them from where somebody put them."""
    for name, folder, labs in _OWN_IMAGES:
        what = name.replace("-", " ")
        if name in profile.images:
            yield Finding(True, f"the {what}'s image: {profile.images[name]}")
            continue
        yield Finding(
            False,
            f"the cluster is told of no image of the {what}: build helpers/apps/{folder}/Containerfile, push it, and "
            "say where it is",
            _told(view, name),
            labs,
        )


def _told(view: ClusterView, name: str) -> str:
    """The command that tells a cluster of one more image; what it was told before stays."""
    first = _OWN_IMAGES[0][0]
    images = {first: f"REGISTRY/llm-{first}:1"}
    if name == first:
        text = json.dumps({"images": images})
        return (
            f"kubectl create configmap {PROFILE_NAME} -n {PROFILE_NAMESPACE} --from-literal=profile='{text}'"
        )
    # The orchestrator's is told first: by then the ConfigMap is there.
    said = view.find("ConfigMap", PROFILE_NAME, PROFILE_NAMESPACE)
    tree = json.loads((said.raw.get("data") or {}).get("profile", "{}")) if said else {}
    images |= {**tree.get("images", {}), name: f"REGISTRY/llm-{name}:1"}
    patch = json.dumps({"data": {"profile": json.dumps({**tree, "images": images})}})
    return f"kubectl patch configmap {PROFILE_NAME} -n {PROFILE_NAMESPACE} --type merge -p '{patch}'"


def _rollouts(cluster: Cluster) -> Finding:
    served = {(kind.kind, kind.group) for kind in cluster.api.discover(Deadline(10))}
    if ("Rollout", "argoproj.io") in served:
        return Finding(True, "Argo Rollouts is served: lab 07 uses it as it is")
    return Finding(True, "no Argo Rollouts: `course start 07` installs it, an administrator's rights needed")


def _scaling(cluster: Cluster) -> Iterator[Finding]:
    """What lab 08 installs where it is missing; each serves a whole cluster, so one that is there is used."""
    served = {(kind.kind, kind.group) for kind in cluster.api.discover(Deadline(10))}
    for title, kind, group in _SCALING:
        if (kind, group) in served:
            yield Finding(True, f"{title} is served: lab 08 uses it as it is")
        else:
            yield Finding(
                True, f"no {title}: `course start 08` installs it, an administrator's rights needed"
            )


def _gateway_api(cluster: Cluster) -> Finding:
    served = {(kind.kind, kind.group) for kind in cluster.api.discover(Deadline(10))}
    if ("HTTPRoute", "gateway.networking.k8s.io") in served:
        return Finding(
            True, "the Gateway API is served: manifests/stack/gateway/overlays/gateway-api may be used"
        )
    return Finding(True, "no Gateway API: lab 06 runs an Envoy of its own, no lab needs more")


def _metrics(view: ClusterView) -> Finding:
    try:
        view.raw("/apis/metrics.k8s.io/v1beta1/nodes")
    except LabError:
        # Worth knowing and no problem: lab 08 installs it, to show what an HPA on CPU sees.
        return Finding(True, "no metrics API: `kubectl top` does not work until `course start 08`", _METRICS)
    return Finding(True, "the metrics API answers")


# What it does


def _experiments(cluster: Cluster, tell: Progress) -> list[Finding]:
    profile = cluster.profile()
    claimed = bool(profile.storage_class)
    try:
        with temporary_namespace(cluster, "llm-doctor") as namespace:
            tell(f"starting two pods in {namespace}")
            cluster.apply(_objects(namespace, profile, with_claim=claimed))
            return [_storage(cluster, namespace, profile), *_enforcement(cluster, namespace, tell)]
    except LabError as error:
        return [Finding(False, f"the test could not be run: {error}", "kubectl get events -A")]


def _storage(cluster: Cluster, namespace: str, profile: Profile) -> Finding:
    labs = "the labs that keep models and vectors (vLLM, Qdrant)"
    if not profile.storage_class:
        return Finding(False, "no default storage class", "kubectl get storageclass", labs)
    try:
        cluster.wait_ready("Pod", "keeper", namespace, timeout_s=_PODS_S)
    except LabError as error:
        text = f"the storage class {profile.storage_class} did not give a pod its volume: {error}"
        return Finding(False, text, f"kubectl describe pvc -n {namespace}", labs)
    return Finding(True, f"storage class {profile.storage_class} provisions volumes")


def _enforcement(cluster: Cluster, namespace: str, tell: Progress) -> Iterator[Finding]:
    labs = "lab 04, network isolation"
    for pod in ("server", "client"):
        cluster.wait_ready("Pod", pod, namespace, timeout_s=_PODS_S)
    address = str(cluster.view().pod("server", namespace).ip)

    def connects() -> bool:
        host = f"[{address}]" if ":" in address else address
        script = f"{_AGNHOST} connect {host}:{_PORT} --timeout=1s"
        answer = cluster.exec(namespace, "client", ["sh", "-c", script], timeout_s=10)
        if not answer.ok and not any(
            word in answer.stderr + answer.stdout for word in ("TIMEOUT", "REFUSED")
        ):
            raise ProbeInconclusive(f"agnhost connect: {answer.stderr.strip() or answer.exit_code}")
        return answer.ok

    def is_open(view: ClusterView) -> bool:
        return connects()

    def is_closed(view: ClusterView) -> bool:
        if connects():
            raise NotYet("the connection is still made")
        return True

    tell("connecting without a policy")
    # Without this baseline, a pod that answers nobody would look like an enforced policy.
    cluster.wait_until("the pods reach each other", is_open, timeout_s=_ENFORCE_S)
    tell("connecting under a policy that denies everything")
    cluster.apply(_deny_all(namespace))
    try:
        cluster.wait_until("the policy is enforced", is_closed, timeout_s=_ENFORCE_S)
    except WaitTimeout:
        text = "network policies are stored but not enforced"
        yield Finding(False, text, "install a network that enforces them, such as Calico or Cilium", labs)
    else:
        yield Finding(True, "network policies are enforced")


def _deny_all(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny-all", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }


def _objects(namespace: str, profile: Profile, *, with_claim: bool) -> list[dict[str, Any]]:
    image = profile.images["toolbox"]
    pods = [
        _pod(namespace, "server", image, f"exec {_AGNHOST} netexec --http-port={_PORT}", ready=True),
        _pod(namespace, "client", image, f"exec {_AGNHOST} pause"),
    ]
    claims = []
    if with_claim:
        claims = [_claim(namespace, profile.storage_class)]
        pods.append(
            _pod(namespace, "keeper", image, f"touch /data/kept && exec {_AGNHOST} pause", claim="kept")
        )
    return [*claims, *pods]


def _claim(namespace: str, storage_class: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "kept", "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": "16Mi"}},
        },
    }


def _pod(
    namespace: str, name: str, image: str, script: str, *, ready: bool = False, claim: str = ""
) -> dict[str, Any]:
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}}
    container: dict[str, Any] = {
        "name": "main",
        "image": image,
        "command": ["sh", "-c", script],
        "resources": resources,
    }
    spec: dict[str, Any] = {
        "containers": [container],
        "terminationGracePeriodSeconds": 0,
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
    }
    if ready:
        probe = {"tcpSocket": {"port": _PORT}, "periodSeconds": 1}
        container["readinessProbe"] = probe
    if claim:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
        spec["securityContext"] = {"fsGroup": 65534}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
