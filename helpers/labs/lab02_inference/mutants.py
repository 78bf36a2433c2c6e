"""Proofs for lab 02: the solved cluster, and the wrong ones that learners really produce.

The objects are the solution's own, laid over the course's manifests; the controllers and the kubelet
are played by the words of `changes`, and vLLM by `Vllm`, which answers as the server does. On a real
cluster only what needs no new pod is mutated: the rest is the solution notebook's own rollout.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from helpers.grading.author import Mutant, Proofs
from helpers.grading.changes import (
    Change,
    Manifest,
    applied,
    at,
    edited,
    endpoints,
    event,
    manifest,
    one,
    pod,
    rolled_out,
    served,
    steps,
    stored,
    without,
)
from helpers.grading.declare import quiet
from helpers.labs.backends import vllm_objects
from helpers.labs.lab02_inference import drain, queue_witness, witness
from helpers.labs.lab02_inference.checks import start
from helpers.stack import serving
from helpers.stack.serving import CLAIM, DEPLOYMENT, PORT, SERVICE

BEGAN, STOPPED, ENDED, REPLACED, LATER = 0, 4, 20, 22, 3600
POD = f"{DEPLOYMENT}-1"


# The parts of a right cluster


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


def _rolled_out(
    edit: Callable[[Manifest], object] = lambda deployment: None, vllm: Vllm | None = RIGHT_VLLM, **state: Any
) -> Change:
    """The solution's objects after their rollout, the Deployment edited first; `state` is how its pod fares."""
    objects = vllm_objects()
    edit(objects[-1])
    return steps(rolled_out(*objects, **state), *([served(SERVICE, PORT, vllm.handle)] if vllm else []))


@cache
def _job(name: str) -> Manifest:
    return witness.manifest(name, "course.local/toolbox:1")


def _testified(name: str = drain.JOB, status: Manifest | None = None, **container: Any) -> Change:
    """A witness's Job as its controller leaves it; `container` is what differs in the container."""
    job = deepcopy(_job(name))
    job["spec"]["template"]["spec"]["containers"][0] |= container
    ended = {"succeeded": 1, "completionTime": at(ENDED)} if status is None else status
    return stored({**job, "status": {"startTime": at(BEGAN), **ended}})


def _queue_job(status: Manifest | None = None, **container: Any) -> Change:
    """The queue's witness as its Job ended, in a cluster whose present process saw nobody wait."""
    return steps(_served(waited=0), _testified(queue_witness.JOB, status, **container))


def _stopped(when: float, message: str = "Stopping container vllm", rolled: float | None = -1) -> Change:
    """A pod that ended at that moment; `rolled` is when its ReplicaSet's successor was made, None for no successor."""
    made = when if rolled == -1 else rolled
    successor = manifest("ReplicaSet", POD, labels={"app": "vllm"}, created=made, spec={"replicas": 1})
    left = [stored(successor)] if made is not None else []
    return steps(without("ReplicaSet", POD), event("vllm-0", "Killing", message, when=when), *left)


_SOLUTION = steps(_rolled_out(), _testified(), _stopped(STOPPED, rolled=REPLACED))


# Wrong clusters


def _config(**data: str) -> Change:
    config = one(vllm_objects(), "ConfigMap")
    return applied({**config, "data": {**config["data"], **data}})


def _with(edit: Callable[[Manifest, Manifest], object], **settled: Any) -> Change:
    """A Deployment edited by a function of the pod spec and of vLLM's container."""

    def both(deployment: Manifest) -> None:
        edit(deployment["spec"]["template"]["spec"], serving.container_of(deployment))

    return _rolled_out(both, **settled)


def _served(**differences: Any) -> Change:
    return served(SERVICE, PORT, replace(RIGHT_VLLM, **differences).handle)


def _refused(message: str, **status: Any) -> Change:
    """What the Deployment says of pods that it cannot create."""
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    return edited("Deployment", DEPLOYMENT, lambda raw: raw["status"].update(conditions=[failure], **status))


def _strategy(strategy: Manifest) -> Change:
    return _rolled_out(lambda deployment: deployment["spec"].update(strategy=strategy))


def _annotated(checksum: str | None) -> Change:
    annotations = {serving.CHECKSUM: checksum} if checksum else {}
    return _rolled_out(
        lambda deployment: deployment["spec"]["template"]["metadata"].update(annotations=annotations)
    )


def _service(**spec: Any) -> Change:
    return edited("Service", SERVICE, lambda raw: raw["spec"].update(spec))


def _reason(reason: str, **more: Any) -> Change:
    return _rolled_out(ready=False, reason=reason, vllm=None, **more)


def _second_pod(cluster: Any) -> None:
    template = one(vllm_objects(), "Deployment")["spec"]["template"]
    cluster.put(pod("vllm-2", template["spec"], labels=template["metadata"]["labels"]))
    endpoints(SERVICE, POD, "vllm-2")(cluster)


QUOTA_REFUSED = (
    'pods "vllm-2" is forbidden: exceeded quota: llm-system-quota, requested: requests.nvidia.com/gpu=1'
)
NO_ROOM = 'pods "vllm-1" is forbidden: exceeded quota: llm-system-quota, requested: limits.memory=128Gi, limited: 96Gi'

MUTANTS = (
    # 1. Serving policy
    Mutant("another served name", _config(SERVED_MODEL_NAME="llama"), {"vllm.config": "llama", "vllm.model": "course-model"}, live=True),
    Mutant("a context without room for the answer", _config(MAX_MODEL_LEN="2048"), {"vllm.config": "MAX_MODEL_LEN 2048"}, live=True),
    Mutant("a context without room for the chat template", _config(MAX_MODEL_LEN="3500"), {"vllm.config": "MAX_MODEL_LEN 3500"}, live=True),
    Mutant("a context in words", _config(MAX_MODEL_LEN="4k"), {"vllm.config": "missing or no number"}, live=True),
    Mutant("one caller at a time", _config(MAX_NUM_SEQS="1"), {"vllm.config": "MAX_NUM_SEQS 1"}, live=True),
    Mutant("no model named", _config(MODEL_ID=""), {"vllm.config": "MODEL_ID missing"}, live=True),
    Mutant("the claim of another class", edited("PersistentVolumeClaim", CLAIM, lambda raw: raw["spec"].update(storageClassName="standard")), {"vllm.cache": "standard"}),
    Mutant("the cache on the container's own disk", _with(lambda spec, container: spec.update(volumes=[{"name": "model-cache", "emptyDir": {}}])), {"vllm.cache": "does not mount"}),
    Mutant("the claim is there, vLLM mounts nothing", _with(lambda spec, container: container.update(volumeMounts=[{"name": "other", "mountPath": "/models"}])), {"vllm.cache": "does not mount"}),
    Mutant("the Service selects another label", _service(selector={"app": "llm"}), {"vllm.service": "'app': 'llm'"}),
    Mutant("the Service selects nothing", _service(selector={}), {"vllm.service": "empty"}),
    Mutant("the Service on port 80", _service(ports=[{"name": "http", "port": 80, "targetPort": "http"}]), {"vllm.service": "[80]"}),
    Mutant("the Service opened to the outside", _service(type="LoadBalancer"), {"vllm.service": "LoadBalancer"}),
    # 2. Starting
    Mutant("service links on", _with(lambda spec, container: spec.update(enableServiceLinks=True), ready=False, reason="CrashLoopBackOff", restarts=4), {"vllm.links": "left to the Service", "vllm.ready": "CrashLoopBackOff"}),
    Mutant("service links left to the default", _with(lambda spec, container: spec.pop("enableServiceLinks")), {"vllm.links": "left to the Service"}),
    Mutant("VLLM_PORT overridden by an address", _with(lambda spec, container: (spec.pop("enableServiceLinks"), container["env"].append({"name": "VLLM_PORT", "value": "tcp://vllm:8000"}))), {"vllm.links": "tcp://vllm:8000"}),
    Mutant("liveness that kills a loading model", _with(lambda spec, container: (container.pop("startupProbe"), container["livenessProbe"].update(periodSeconds=3)), ready=False, restarts=5), {"vllm.budget": "a load may last 9 s", "vllm.ready": "restarted 5 times"}),
    Mutant("liveness with its defaults", _with(lambda spec, container: (container.pop("startupProbe"), container.update(livenessProbe={"httpGet": {"path": "/health", "port": "http"}}))), {"vllm.budget": "a load may last 30 s"}),
    Mutant("patience given to liveness instead", _with(lambda spec, container: (container.pop("startupProbe"), container["livenessProbe"].update(periodSeconds=60, failureThreshold=10))), {"vllm.budget": "liveness acts after 600 s"}),
    Mutant("no liveness at all", _with(lambda spec, container: container.pop("livenessProbe")), {"vllm.budget": "no liveness probe"}),
    Mutant("readiness on the wrong path", _with(lambda spec, container: container.update(readinessProbe={"httpGet": {"path": "/ready", "port": "http"}}), ready=False), {"vllm.budget": "readiness asks /ready", "vllm.ready": "not ready"}),
    Mutant("Running, but never Ready", _reason(""), {"vllm.ready": "Running, not ready"}),
    Mutant("an image that is not there", _reason("ImagePullBackOff"), {"vllm.ready": "ImagePullBackOff"}),
    Mutant("requests that no quota has room for", steps(without("Pod", POD), endpoints(SERVICE), _refused(NO_ROOM, updatedReplicas=0)), {"vllm.ready": "no pod: pods \"vllm-1\" is forbidden: exceeded quota", "vllm.strategy": "exceeded quota"}),
    Mutant("a pod without a GPU", _with(lambda spec, container: container["resources"]["limits"].pop("nvidia.com/gpu")), {"vllm.ready": "nvidia.com/gpu: 0"}),
    Mutant("ready, and yet no endpoint", endpoints(SERVICE), {"vllm.ready": "endpoints none"}),
    Mutant("an old pod still among the endpoints", _second_pod, {"vllm.ready": "2 pods"}),
    Mutant("an unhealthy server", _served(health=503), {"vllm.ready": "vLLM answered /health with 503"}),
    # 3. Serving
    Mutant("the process serves another name", _served(name="/models/course-model"), {"vllm.model": "/models/course-model"}),
    Mutant("the process is older than the ConfigMap", _served(context=2048), {"vllm.model": "context of 2048"}),
    Mutant("an engine that died", _served(prompt_status=500), {"vllm.model": "with 500"}),
    Mutant("answers without text", _served(text=""), {"vllm.model": "text ''"}),
    Mutant("sixteen sequences at full length", _config(MAX_NUM_SEQS="16"), {"vllm.kv": "65,536", "vllm.checksum": "…"}, live=True),
    Mutant("a context beyond the cache", _config(MAX_MODEL_LEN="8192"), {"vllm.kv": "32,768"}, live=True),
    Mutant("a cache too small for the policy", _served(blocks=100), {"vllm.kv": "16,384"}),
    # 4. Rolling
    Mutant("a rolling update with one GPU", _strategy({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}), {"vllm.strategy": "maxSurge 1"}),
    Mutant("the default strategy", _strategy({"type": "RollingUpdate"}), {"vllm.strategy": "RollingUpdate"}),
    Mutant("a rollout that is stuck on the quota", _refused(QUOTA_REFUSED, updatedReplicas=0), {"vllm.strategy": "exceeded quota"}),
    Mutant("no checksum", _annotated(None), {"vllm.checksum": "no annotation"}),
    Mutant("a checksum of yesterday", _annotated("0" * 64), {"vllm.checksum": "000000000000"}),
    Mutant("a checksum that is a word", _annotated("changed"), {"vllm.checksum": "changed"}),
    Mutant("a ConfigMap changed after the rollout", _config(MAX_NUM_SEQS="5"), {"vllm.checksum": "checksum/config: "}, live=True),
    Mutant("no preStop", _with(lambda spec, container: container.pop("lifecycle")), {"vllm.drain": "preStop 0 s"}),
    Mutant("no time for answers", _with(lambda spec, container: container.update(env=[{"name": "SHUTDOWN_TIMEOUT_S", "value": "0"}])), {"vllm.drain": "--shutdown-timeout 0 s"}),
    Mutant("a grace period shorter than the drain", _with(lambda spec, container: spec.update(terminationGracePeriodSeconds=30)), {"vllm.drain": "-15 s to spare"}),
    Mutant("the grace period left to the default", _with(lambda spec, container: spec.pop("terminationGracePeriodSeconds")), {"vllm.drain": "grace 30 s"}),
    Mutant("an answer broken off", _testified(status={"failed": 1}), {"vllm.witness": "broken off"}),
    Mutant("a witness without a rollout", _stopped(LATER), {"vllm.witness": "0 pods stopped"}),
    Mutant("a restart by a probe is no rollout", _stopped(STOPPED, "Container vllm failed liveness probe, will be restarted", rolled=None), {"vllm.witness": "0 pods stopped"}),
    Mutant("a witness that asks nothing", _testified(command=["true"]), {"vllm.witness": "asks something else"}),
    # 5. The queue
    Mutant("a queue's witness that saw nobody wait", _queue_job({"failed": 1}), {"vllm.queue": "0 of 4"}),
    Mutant("a queue's witness that still runs", _queue_job({"active": 1}), {"vllm.queue": "0 of 4"}),
    Mutant("a queue's witness that asks nothing", _queue_job(command=["true"]), {"vllm.queue": "0 of 4"}),
    Mutant("nobody ever waited", _served(waited=0), {"vllm.queue": "0 of 4"}),
    Mutant("two waited", _served(waited=2), {"vllm.queue": "2 of 6"}),
    Mutant("almost enough waited", _served(waited=5), {"vllm.queue": "5 of 9"}),
)  # fmt: skip

PROOFS = Proofs(start=lambda cluster: start(cluster, quiet), solution=_SOLUTION, mutants=MUTANTS)
