"""Proofs for lab 02: the solved cluster, and the wrong ones that learners really produce.

On a FakeCluster the controllers, the kubelet and vLLM itself are played here: `_settle` puts the pod
that a Deployment would get, and `Vllm` answers as the server does. On a real cluster only what needs
no new pod is mutated: the rest is the solution notebook's own rollout.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from helpers.grading.author import Mutant, Proofs
from helpers.labs.lab02_inference import drain, queue_witness, witness
from helpers.settings import REPOSITORY
from helpers.stack import serving
from helpers.stack.serving import CLAIM, CONFIG_MAP, NAMESPACE, PORT, SERVICE

Manifest = dict[str, Any]
ADDRESS = "10.244.0.20"
CONFIG = {
    "MODEL_ID": "/models/course-model",
    "SERVED_MODEL_NAME": "course-model",
    "MAX_MODEL_LEN": "4096",
    "MAX_NUM_SEQS": "4",
    "GPU_MEMORY_UTILIZATION": "0.88",
}
BEGAN, STOPPED, ENDED = "2026-01-01T10:00:00Z", "2026-01-01T10:00:04Z", "2026-01-01T10:00:20Z"
REPLACED = "2026-01-01T10:00:22Z"


# The parts of a right cluster


def _start(cluster: Any) -> None:
    cluster.apply((REPOSITORY / "manifests" / "labs" / "02" / "start" / "substrate.yaml").read_text())


def _config_map(**data: str) -> Manifest:
    metadata = {"name": CONFIG_MAP, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {**CONFIG, **data}}


def _claim(storage_class: str = "fast-nvme") -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": "2Gi"}},
        },
    }


def _service() -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE},
        "spec": {
            "selector": {"app": "vllm"},
            "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
        },
    }


def _probe(period_s: int, threshold: int) -> Manifest:
    return {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": period_s,
        "failureThreshold": threshold,
    }


def _deployment() -> Manifest:
    container = {
        "name": "vllm",
        "image": "docker.io/vllm/vllm-openai:v0.32.0",
        "args": ["serve", "$(MODEL_ID)", "--shutdown-timeout=$(SHUTDOWN_TIMEOUT_S)"],
        "env": [{"name": "SHUTDOWN_TIMEOUT_S", "value": "40"}],
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": _probe(1, 360),
        "livenessProbe": _probe(30, 3),
        "readinessProbe": _probe(2, 3),
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "resources": {
            "requests": {"cpu": "500m", "memory": "3Gi"},
            "limits": {"cpu": "2", "memory": "6Gi", "nvidia.com/gpu": "1"},
        },
        "volumeMounts": [{"name": "model-cache", "mountPath": "/models"}],
    }
    spec = {
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
        "volumes": [{"name": "model-cache", "persistentVolumeClaim": {"claimName": CLAIM}}],
    }
    annotations = {serving.CHECKSUM: serving.config_checksum(CONFIG)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "vllm", "namespace": NAMESPACE},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app": "vllm"}},
            "template": {"metadata": {"labels": {"app": "vllm"}, "annotations": annotations}, "spec": spec},
        },
    }


@dataclass(frozen=True)
class Vllm:
    """A vLLM as its HTTP interface shows it."""

    name: str = "course-model"
    context: int = 4096
    blocks: int = 136
    waited: int = 8
    prompt_status: int = 200
    health: int = 200
    text: str = "Yes."

    def handle(self, method: str, path: str, body: Any) -> tuple[int, str]:
        """Answer one request."""
        where = "/" + path.strip("/")
        if where == "/health":
            return self.health, ""
        if where == "/v1/models":
            return 200, json.dumps({"data": [{"id": self.name, "max_model_len": self.context}]})
        if where == "/metrics":
            return 200, self._metrics()
        if where == "/v1/chat/completions" and self.prompt_status == 200:
            return 200, json.dumps({"choices": [{"message": {"content": self.text}}]})
        return self.prompt_status, json.dumps({"error": {"message": "the engine is dead"}})

    def _metrics(self) -> str:
        total = self.waited + 4
        name = "vllm:request_queue_time_seconds"
        return (
            f'vllm:cache_config_info{{block_size="128",num_gpu_blocks="{self.blocks}"}} 1.0\n'
            f"# TYPE {name} histogram\n"
            f'{name}_bucket{{le="0.3"}} {total - self.waited}\n'
            f'{name}_bucket{{le="+Inf"}} {total}\n'
            f"{name}_count {total}\n{name}_sum 9.5\n"
        )


RIGHT_VLLM = Vllm()


def _settle(
    cluster: Any, deployment: Manifest | None = None, vllm: Vllm | None = RIGHT_VLLM, **pod: Any
) -> None:
    """What controllers and kubelet make of a Deployment: a pod, its endpoint, and a server behind it."""
    wanted = deployment or _deployment()
    cluster.apply(wanted)
    generation = cluster.view().get("Deployment", "vllm", NAMESPACE).path("metadata.generation")
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
    cluster.set_status("Deployment", "vllm", {"observedGeneration": generation, **counts}, NAMESPACE)
    _pod(cluster, wanted, **pod)
    if vllm is not None:
        cluster.serve(NAMESPACE, SERVICE, PORT, vllm.handle)


def _pod(
    cluster: Any,
    deployment: Manifest,
    *,
    ready: bool = True,
    restarts: int = 0,
    reason: str = "",
    in_endpoints: bool | None = None,
    name: str = "vllm-1",
    address: str = ADDRESS,
) -> None:
    state = {"waiting": {"reason": reason}} if reason else {"running": {"startedAt": BEGAN}}
    container = {"name": "vllm", "ready": ready, "restartCount": restarts, "state": state}
    cluster.add_pod(
        name,
        NAMESPACE,
        labels=deployment["spec"]["template"]["metadata"]["labels"],
        ready=ready,
        spec=deepcopy(deployment["spec"]["template"]["spec"]),
        status={"podIP": address, "containerStatuses": [container]},
    )
    _endpoints(cluster, [address] if (ready if in_endpoints is None else in_endpoints) else [])


def _endpoints(cluster: Any, addresses: list[str]) -> None:
    cluster.put(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "vllm-x1",
                "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": SERVICE},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [item], "conditions": {"ready": True}} for item in addresses],
            "ports": [{"name": "http", "port": PORT}],
        }
    )


@cache
def _witness() -> Manifest:
    return witness.manifest(drain.JOB, "course.local/toolbox:1")


def _testify(
    cluster: Any, *, failed: bool = False, began: str = BEGAN, ended: str | None = ENDED, **spec: Any
) -> None:
    """The witness's Job as its controller leaves it."""
    job = deepcopy(_witness())
    job["spec"]["template"]["spec"]["containers"][0] |= spec
    outcome = {"failed": 1} if failed else {"succeeded": 1, "completionTime": ended}
    cluster.put({**job, "status": {"startTime": began, **outcome}})


def _queue_job(**change: Any) -> Callable[[Any], None]:
    """The queue's witness as its Job ended, in a cluster whose present process saw nobody wait."""

    def apply(cluster: Any) -> None:
        job = deepcopy(witness.manifest(queue_witness.JOB, "course.local/toolbox:1"))
        status = {"succeeded": 1, "startTime": BEGAN, "completionTime": ENDED}
        if "status" in change:
            status = change["status"]
        job["spec"]["template"]["spec"]["containers"][0] |= change.get("container", {})
        _served(waited=0)(cluster)
        cluster.put({**job, "status": status})

    return apply


def _stop(cluster: Any, when: str = STOPPED, message: str = "Stopping container vllm") -> None:
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "vllm-0.stop", "namespace": NAMESPACE},
            "involvedObject": {"kind": "Pod", "name": "vllm-0", "namespace": NAMESPACE},
            "reason": "Killing",
            "message": message,
            "type": "Normal",
            "firstTimestamp": when,
            "lastTimestamp": when,
            "count": 1,
        }
    )


def _rolled(cluster: Any, when: str | None) -> None:
    """What a rollout leaves for good: the ReplicaSet of the new pods; None for a cluster without one."""
    cluster.delete("ReplicaSet", "vllm-1", NAMESPACE)
    metadata = {
        "name": "vllm-1",
        "namespace": NAMESPACE,
        "labels": {"app": "vllm"},
        "creationTimestamp": when,
    }
    if when:
        cluster.put(
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": {"replicas": 1}}
        )


def _solution(cluster: Any) -> None:
    cluster.apply([_config_map(), _claim(), _service()])
    _settle(cluster)
    _testify(cluster)
    _stop(cluster)
    _rolled(cluster, REPLACED)


# Wrong clusters


def _config(**data: str) -> Callable[[Any], None]:
    def change(cluster: Any) -> None:
        cluster.apply(_config_map(**data))

    return change


def _with(edit: Callable[[Manifest, Manifest], object], **settled: Any) -> Callable[[Any], None]:
    """A Deployment edited by a function of the pod spec and of vLLM's container."""

    def change(cluster: Any) -> None:
        deployment = _deployment()
        spec = deployment["spec"]["template"]["spec"]
        edit(spec, spec["containers"][0])
        _settle(cluster, deployment, **settled)

    return change


def _served(**differences: Any) -> Callable[[Any], None]:
    def change(cluster: Any) -> None:
        cluster.serve(NAMESPACE, SERVICE, PORT, replace(RIGHT_VLLM, **differences).handle)

    return change


def _gone(kind: str, name: str, namespace: str = NAMESPACE) -> Callable[[Any], None]:
    def change(cluster: Any) -> None:
        cluster.delete(kind, name, namespace)

    return change


def _strategy(strategy: Manifest, *, refused: str = "") -> Callable[[Any], None]:
    def change(cluster: Any) -> None:
        deployment = _deployment()
        deployment["spec"]["strategy"] = strategy
        _settle(cluster, deployment)
        if refused:
            found = cluster.view().get("Deployment", "vllm", NAMESPACE)
            failure = {
                "type": "ReplicaFailure",
                "status": "True",
                "reason": "FailedCreate",
                "message": refused,
            }
            status = {**found.raw["status"], "updatedReplicas": 0, "conditions": [failure]}
            cluster.set_status("Deployment", "vllm", status, NAMESPACE)

    return change


def _refused_by_quota(cluster: Any) -> None:
    """No pod at all: what is asked for does not fit, and only the controller was told."""
    _gone("Pod", "vllm-1")(cluster)
    _endpoints(cluster, [])
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": NO_ROOM}
    found = cluster.view().get("Deployment", "vllm", NAMESPACE)
    status = {"observedGeneration": found.path("metadata.generation"), "conditions": [failure]}
    cluster.set_status("Deployment", "vllm", status, NAMESPACE)


def _annotated(value: str | None) -> Callable[[Any], None]:
    def change(cluster: Any) -> None:
        deployment = _deployment()
        annotations = {} if value is None else {serving.CHECKSUM: value}
        deployment["spec"]["template"]["metadata"]["annotations"] = annotations
        # Server-side apply merges: an annotation goes only with the object.
        cluster.delete("Deployment", "vllm", NAMESPACE)
        _settle(cluster, deployment)

    return change


def _other_claim(cluster: Any) -> None:
    cluster.delete("PersistentVolumeClaim", CLAIM, NAMESPACE)
    cluster.put(_claim("standard"))


def _service_edit(change_spec: Callable[[Manifest], object]) -> Callable[[Any], None]:
    def change(cluster: Any) -> None:
        service = _service()
        change_spec(service["spec"])
        cluster.put(service)

    return change


def _second_pod(cluster: Any) -> None:
    _pod(cluster, _deployment(), name="vllm-2", address="10.244.0.21")
    _endpoints(cluster, [ADDRESS, "10.244.0.21"])


def _reason(reason: str, **more: Any) -> Callable[[Any], None]:
    return _with(lambda spec, container: None, ready=False, reason=reason, vllm=None, **more)


def _stopped(
    when: str, message: str = "Stopping container vllm", **left: str | None
) -> Callable[[Any], None]:
    """A pod that ended at that moment; `rolled` is when its ReplicaSet's successor was made."""

    def change(cluster: Any) -> None:
        _stop(cluster, when, message)
        _rolled(cluster, left.get("rolled", when))

    return change


QUOTA_REFUSED = (
    'pods "vllm-2" is forbidden: exceeded quota: llm-system-quota, requested: requests.nvidia.com/gpu=1'
)
NO_ROOM = 'pods "vllm-1" is forbidden: exceeded quota: llm-system-quota, requested: limits.memory=128Gi, limited: 96Gi'
LATER = "2026-01-01T11:00:00Z"

MUTANTS = (
    # 1. Serving policy
    Mutant("another served name", _config(SERVED_MODEL_NAME="llama"), {"vllm.config": "llama", "vllm.model": "course-model"}),
    Mutant("a context without room for the answer", _config(MAX_MODEL_LEN="2048"), {"vllm.config": "MAX_MODEL_LEN 2048"}),
    Mutant("a context in words", _config(MAX_MODEL_LEN="4k"), {"vllm.config": "missing or no number"}),
    Mutant("one caller at a time", _config(MAX_NUM_SEQS="1"), {"vllm.config": "MAX_NUM_SEQS 1"}),
    Mutant("no model named", _config(MODEL_ID=""), {"vllm.config": "MODEL_ID missing"}),
    Mutant("the claim of another class", _other_claim, {"vllm.cache": "standard"}, live=False),
    Mutant("the cache on the container's own disk", _with(lambda spec, container: spec.update(volumes=[{"name": "model-cache", "emptyDir": {}}])), {"vllm.cache": "does not mount"}, live=False),
    Mutant("the claim is there, vLLM mounts nothing", _with(lambda spec, container: container.update(volumeMounts=[{"name": "other", "mountPath": "/models"}])), {"vllm.cache": "does not mount"}, live=False),
    Mutant("the Service selects another label", _service_edit(lambda spec: spec.update(selector={"app": "llm"})), {"vllm.service": "'app': 'llm'"}, live=False),
    Mutant("the Service selects nothing", _service_edit(lambda spec: spec.update(selector={})), {"vllm.service": "empty"}, live=False),
    Mutant("the Service on port 80", _service_edit(lambda spec: spec.update(ports=[{"name": "http", "port": 80, "targetPort": "http"}])), {"vllm.service": "[80]"}, live=False),
    Mutant("the Service opened to the outside", _service_edit(lambda spec: spec.update(type="LoadBalancer")), {"vllm.service": "LoadBalancer"}, live=False),
    # 2. Starting
    Mutant("service links on", _with(lambda spec, container: spec.update(enableServiceLinks=True), ready=False, reason="CrashLoopBackOff", restarts=4), {"vllm.links": "left to the Service", "vllm.ready": "CrashLoopBackOff"}, live=False),
    Mutant("service links left to the default", _with(lambda spec, container: spec.pop("enableServiceLinks")), {"vllm.links": "left to the Service"}, live=False),
    Mutant("VLLM_PORT overridden by an address", _with(lambda spec, container: (spec.pop("enableServiceLinks"), container["env"].append({"name": "VLLM_PORT", "value": "tcp://vllm:8000"}))), {"vllm.links": "tcp://vllm:8000"}, live=False),
    Mutant("liveness that kills a loading model", _with(lambda spec, container: (container.pop("startupProbe"), container.update(livenessProbe=_probe(3, 3))), ready=False, restarts=5), {"vllm.budget": "a load may last 9 s", "vllm.ready": "restarted 5 times"}, live=False),
    Mutant("liveness with its defaults", _with(lambda spec, container: (container.pop("startupProbe"), container.update(livenessProbe={"httpGet": {"path": "/health", "port": "http"}}))), {"vllm.budget": "a load may last 30 s"}, live=False),
    Mutant("patience given to liveness instead", _with(lambda spec, container: (container.pop("startupProbe"), container.update(livenessProbe=_probe(60, 10)))), {"vllm.budget": "liveness acts after 600 s"}, live=False),
    Mutant("no liveness at all", _with(lambda spec, container: container.pop("livenessProbe")), {"vllm.budget": "no liveness probe"}, live=False),
    Mutant("readiness on the wrong path", _with(lambda spec, container: container.update(readinessProbe={"httpGet": {"path": "/ready", "port": "http"}}), ready=False), {"vllm.budget": "readiness asks /ready", "vllm.ready": "not ready"}, live=False),
    Mutant("Running, but never Ready", _reason("", in_endpoints=False), {"vllm.ready": "Running, not ready"}, live=False),
    Mutant("an image that is not there", _reason("ImagePullBackOff"), {"vllm.ready": "ImagePullBackOff"}, live=False),
    Mutant("requests that no quota has room for", _refused_by_quota, {"vllm.ready": "no pod: pods \"vllm-1\" is forbidden: exceeded quota", "vllm.strategy": "exceeded quota"}, live=False),
    Mutant("a pod without a GPU", _with(lambda spec, container: container["resources"]["limits"].pop("nvidia.com/gpu")), {"vllm.ready": "nvidia.com/gpu: 0"}, live=False),
    Mutant("ready, and yet no endpoint", lambda cluster: _endpoints(cluster, []), {"vllm.ready": "endpoints none"}, live=False),
    Mutant("an old pod still among the endpoints", _second_pod, {"vllm.ready": "2 pods"}, live=False),
    Mutant("an unhealthy server", _served(health=503), {"vllm.ready": "vLLM answered /health with 503"}, live=False),
    # 3. Serving
    Mutant("the process serves another name", _served(name="/models/course-model"), {"vllm.model": "/models/course-model"}, live=False),
    Mutant("the process is older than the ConfigMap", _served(context=2048), {"vllm.model": "context of 2048"}, live=False),
    Mutant("an engine that died", _served(prompt_status=500), {"vllm.model": "with 500"}, live=False),
    Mutant("answers without text", _served(text=""), {"vllm.model": "text ''"}, live=False),
    Mutant("sixteen sequences at full length", _config(MAX_NUM_SEQS="16"), {"vllm.kv": "65,536", "vllm.checksum": "…"}),
    Mutant("a context beyond the cache", _config(MAX_MODEL_LEN="8192"), {"vllm.kv": "32,768"}),
    Mutant("a cache too small for the policy", _served(blocks=100), {"vllm.kv": "16,384"}, live=False),
    # 4. Rolling
    Mutant("a rolling update with one GPU", _strategy({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}), {"vllm.strategy": "maxSurge 1"}, live=False),
    Mutant("the default strategy", _strategy({"type": "RollingUpdate"}), {"vllm.strategy": "RollingUpdate"}, live=False),
    Mutant("a rollout that is stuck on the quota", _strategy({"type": "Recreate"}, refused=QUOTA_REFUSED), {"vllm.strategy": "exceeded quota"}, live=False),
    Mutant("no checksum", _annotated(None), {"vllm.checksum": "no annotation"}, live=False),
    Mutant("a checksum of yesterday", _annotated("0" * 64), {"vllm.checksum": "000000000000"}, live=False),
    Mutant("a checksum that is a word", _annotated("changed"), {"vllm.checksum": "changed"}, live=False),
    Mutant("a ConfigMap changed after the rollout", _config(MAX_NUM_SEQS="5"), {"vllm.checksum": "checksum/config: "}),
    Mutant("no preStop", _with(lambda spec, container: container.pop("lifecycle")), {"vllm.drain": "preStop 0 s"}, live=False),
    Mutant("no time for answers", _with(lambda spec, container: container.update(env=[{"name": "SHUTDOWN_TIMEOUT_S", "value": "0"}])), {"vllm.drain": "--shutdown-timeout 0 s"}, live=False),
    Mutant("a grace period shorter than the drain", _with(lambda spec, container: spec.update(terminationGracePeriodSeconds=30)), {"vllm.drain": "-15 s to spare"}, live=False),
    Mutant("the grace period left to the default", _with(lambda spec, container: spec.pop("terminationGracePeriodSeconds")), {"vllm.drain": "grace 30 s"}, live=False),
    Mutant("an answer broken off", lambda cluster: _testify(cluster, failed=True), {"vllm.witness": "broken off"}, live=False),
    Mutant("a witness without a rollout", _stopped(LATER), {"vllm.witness": "0 pods stopped"}, live=False),
    Mutant("a restart by a probe is no rollout", _stopped(STOPPED, "Container vllm failed liveness probe, will be restarted", rolled=None), {"vllm.witness": "0 pods stopped"}, live=False),
    Mutant("a witness that asks nothing", lambda cluster: _testify(cluster, command=["true"]), {"vllm.witness": "asks something else"}, live=False),
    # 5. The queue
    Mutant("a queue's witness that saw nobody wait", _queue_job(status={"failed": 1, "startTime": BEGAN}), {"vllm.queue": "0 of 4"}, live=False),
    Mutant("a queue's witness that still runs", _queue_job(status={"active": 1, "startTime": BEGAN}), {"vllm.queue": "0 of 4"}, live=False),
    Mutant("a queue's witness that asks nothing", _queue_job(container={"command": ["true"]}), {"vllm.queue": "0 of 4"}, live=False),
    Mutant("nobody ever waited", _served(waited=0), {"vllm.queue": "0 of 4"}, live=False),
    Mutant("two waited", _served(waited=2), {"vllm.queue": "2 of 6"}, live=False),
    Mutant("almost enough waited", _served(waited=5), {"vllm.queue": "5 of 9"}, live=False),
)  # fmt: skip

PROOFS = Proofs(start=_start, solution=_solution, mutants=MUTANTS)
