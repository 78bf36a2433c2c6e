"""vLLM as Kubernetes runs it: its manifests for this cluster, its budgets, and what its start looks like.

Everything the labs ask about a Deployment of vLLM is arithmetic on its manifest or an observation of
its pods, kept here so that the notebook, the checks and the tests use the same words and figures.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.settings import REPOSITORY
from helpers.stack.container_env import expanded, variables

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView, Profile

NAMESPACE = "llm-system"
DEPLOYMENT = SERVICE = CONTAINER = "vllm"
PORT = 8000
CONFIG_MAP = "vllm-model-config"
CLAIM = "vllm-model-cache"
CACHE_CONTAINER = "fill-model-cache"
LABELS = "app=vllm"
CHECKSUM = "checksum/config"
MANIFESTS = REPOSITORY / "manifests" / "stack" / "vllm"

# Kubernetes' defaults for what a probe leaves out.
# https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
PROBE_DEFAULTS = {"initialDelaySeconds": 0, "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3}
DEFAULT_GRACE_S = 30.0

Manifest = dict[str, Any]


def overlay(profile: Profile) -> Path:
    """The kustomize overlay for a cluster of this profile."""
    return MANIFESTS / "overlays" / profile.overlay


def manifests(cluster: Cluster) -> list[Manifest]:
    """vLLM's objects for this cluster: its overlay, with the cluster's own storage class, image and model."""
    profile = cluster.profile()
    return [adapted(item, profile) for item in cluster.kustomize(overlay(profile))]


def adapted(manifest: Manifest, profile: Profile) -> Manifest:
    """One manifest with what the profile says of its cluster."""
    item = deepcopy(manifest)
    if item["kind"] == "PersistentVolumeClaim" and profile.storage_class:
        item["spec"]["storageClassName"] = profile.storage_class
    if profile.overlay == "embedded":
        return item  # the overlay names the embedded cluster's own image and model
    if item["kind"] == "ConfigMap":
        item["data"] |= {"MODEL_ID": profile.model, "SERVED_MODEL_NAME": profile.served_model_name}
    if item["kind"] == "Deployment":
        container_of(item)["image"] = profile.images.get("vllm") or container_of(item)["image"]
    return item


def only(items: list[Manifest], kind: str) -> Manifest:
    """The one manifest of a kind."""
    (found,) = [item for item in items if item["kind"] == kind]
    return found


def container_of(manifest: Mapping[str, Any], name: str = CONTAINER) -> dict[str, Any]:
    """A container of a Deployment's pod template; KeyError when there is none of that name."""
    for container in manifest["spec"]["template"]["spec"]["containers"]:
        if container["name"] == name:
            return dict_of(container)
    raise KeyError(name)


def dict_of(value: Any) -> dict[str, Any]:
    """The value as the dictionary it is; TypeError otherwise."""
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not a mapping")
    return value


def config_checksum(data: Mapping[str, str]) -> str:
    """The checksum annotation's value: sha256 of the data as compact JSON with sorted keys.

    It is what `kubectl get configmap … -o jsonpath='{.data}' | sha256sum` prints.
    """
    text = json.dumps(dict(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class ProbeBudget:
    """What a probe's figures allow, in seconds: how long it may fail before the kubelet acts."""

    period_s: float
    threshold: int
    timeout_s: float
    delay_s: float

    @classmethod
    def of(cls, probe: Mapping[str, Any] | None) -> ProbeBudget | None:
        """The budget of a probe as a manifest has it; None when there is no probe."""
        if not probe:
            return None
        figures = {
            **PROBE_DEFAULTS,
            **{key: probe[key] for key in PROBE_DEFAULTS if probe.get(key) is not None},
        }
        return cls(
            float(figures["periodSeconds"]),
            int(figures["failureThreshold"]),
            float(figures["timeoutSeconds"]),
            float(figures["initialDelaySeconds"]),
        )

    @property
    def seconds(self) -> float:
        """From the container's start (or the last success) to the verdict."""
        return self.delay_s + self.period_s * self.threshold


def load_budget_s(container: Mapping[str, Any]) -> float:
    """How long a container may take to answer before the kubelet kills it; infinite without a liveness probe."""
    startup = ProbeBudget.of(container.get("startupProbe"))
    if startup:
        return startup.seconds
    liveness = ProbeBudget.of(container.get("livenessProbe"))
    return liveness.seconds if liveness else float("inf")


@dataclass(frozen=True)
class DrainBudget:
    """How long the parts of an orderly end may take, in seconds."""

    pre_stop_s: float
    shutdown_s: float
    grace_s: float

    @property
    def spare_s(self) -> float:
        """What is left of the grace period when everything took its time; negative means SIGKILL."""
        return self.grace_s - self.pre_stop_s - self.shutdown_s

    @classmethod
    def of(cls, pod_spec: Mapping[str, Any], known: Mapping[str, str] | None = None) -> DrainBudget:
        """Read a pod's preStop, vLLM's --shutdown-timeout and the grace period.

        `known` are the container's variables where more than its spec is at hand (helpers.stack.container_env).
        """
        container = next(item for item in pod_spec["containers"] if item["name"] == CONTAINER)
        known = variables(container) if known is None else known
        hook = ((container.get("lifecycle") or {}).get("preStop")) or {}
        return cls(
            _pre_stop_s(hook, known),
            _seconds(option(container, "--shutdown-timeout", known)),
            float(pod_spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)),
        )


# `sleep 5`, `/bin/sleep 5s`, `time.sleep(5)`; a shell's `$WAIT` is replaced before.
_SLEEP = re.compile(r"(?<![\w-])(?:[\w.]+\.|/\S*/)?sleep[\s(\"',]+(\d+(?:\.\d+)?|\.\d+)([smhd]?)(?![\w.])")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _pre_stop_s(hook: Mapping[str, Any], known: Mapping[str, str]) -> float:
    """The pauses of a hook, one after the other, wherever they stand in its command."""
    if "sleep" in hook:
        return float(hook["sleep"].get("seconds", 0))
    text = expanded(" ".join(map(str, (hook.get("exec") or {}).get("command") or [])), known)
    for name, value in known.items():
        text = text.replace(f"${{{name}}}", value)
        text = re.sub(rf"\${re.escape(name)}\b", value.replace("\\", r"\\"), text)
    return sum(float(number) * _UNITS[unit] for number, unit in _SLEEP.findall(text))


def option(container: Mapping[str, Any], name: str, known: Mapping[str, str] | None = None) -> str | None:
    """The value of a command-line option, written `--name=value` or `--name value`.

    A `$(NAME)` is replaced by the container's own variable, as the kubelet does.
    """
    known = variables(container) if known is None else known
    words = [str(word) for word in [*(container.get("command") or []), *(container.get("args") or [])]]
    words = [part for word in words for part in (word.split() if any(map(str.isspace, word)) else [word])]
    for number, word in enumerate(words):
        if word == name and number + 1 < len(words):
            return expanded(words[number + 1], known)
        if word.startswith(f"{name}="):
            return expanded(word.partition("=")[2], known)
    return None


def _seconds(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


@dataclass(frozen=True)
class KvShape:
    """What one token costs in the KV cache: a key and a value in each layer and each KV head.

    https://docs.vllm.ai/en/stable/design/paged_attention.html
    """

    layers: int
    kv_heads: int
    head_size: int
    bytes_per_value: int = 2

    @property
    def bytes_per_token(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_size * self.bytes_per_value

    def tokens(self, cache_bytes: int, block_size: int = 128) -> int:
        """How many tokens a cache of this size holds, in whole blocks."""
        return cache_bytes // (self.bytes_per_token * block_size) * block_size


# config.json of SmolLM2-135M: num_hidden_layers, num_key_value_heads, head_dim. The embedded cluster computes in float32:
# a CPU without bfloat16 instructions takes six times as long for a prompt in bfloat16.
SMOLLM2_135M = KvShape(layers=30, kv_heads=3, head_size=64, bytes_per_value=4)


@dataclass(frozen=True)
class Moment:
    """What Kubernetes said of a vLLM pod at one time: the phase people look at, and the endpoint that counts."""

    at_s: float
    pod: str
    phase: str
    state: str
    is_ready: bool
    in_endpoints: bool
    restarts: int


def observe(view: ClusterView, at_s: float) -> list[Moment]:
    """Every vLLM pod now, with whether the Service sends traffic to it."""
    ready = {item.address for item in view.endpoints(SERVICE, NAMESPACE) if item.ready}
    return [_moment(pod, at_s, ready) for pod in view.pods(NAMESPACE, labels=LABELS)]


def _moment(pod: Any, at_s: float, ready_addresses: set[str]) -> Moment:
    statuses = pod.path("status.containerStatuses", []) or []
    status: dict[str, Any] = next((item for item in statuses if item.get("name") == CONTAINER), {})
    state: dict[str, Any] = status.get("state") or {}
    kind = next(iter(state), "waiting")
    reason = (state.get(kind) or {}).get("reason") or kind
    if reason == "PodInitializing":
        # What an init container waits for, an image that cannot be pulled above all, says more.
        first = next(
            (item for item in pod.container_states if not item.ready and item.reason != "Completed"), None
        )
        reason = f"Init:{first.reason}" if first and first.reason not in ("", reason) else reason
    if pod.is_terminating:
        reason = "Terminating"
    return Moment(
        at_s,
        pod.name,
        pod.phase,
        reason,
        pod.is_ready,
        pod.ip in ready_addresses,
        int(status.get("restartCount", 0)),
    )


def watch(
    cluster: Cluster,
    *,
    timeout_s: float,
    until: Callable[[list[Moment]], bool],
    period_s: float = 0.5,
    on_moment: Callable[[list[Moment]], bool | None] | None = None,
) -> list[Moment]:
    """Observe vLLM's pods until a condition holds, the time is up, or `on_moment` returns False."""
    view, began, seen = cluster.view(), time.monotonic(), list[Moment]()
    while True:
        now = observe(view, time.monotonic() - began)
        seen += now
        go_on = on_moment(now) if on_moment else True
        if until(now) or go_on is False or time.monotonic() - began > timeout_s:
            return seen
        time.sleep(period_s)


def is_serving(moments: list[Moment]) -> bool:
    """Exactly one pod, ready and among the Service's endpoints."""
    return len(moments) == 1 and moments[0].is_ready and moments[0].in_endpoints


def is_rolled_out(view: ClusterView) -> bool:
    """Whether all pods are of the Deployment's newest template, and ready."""
    return view.deployment(DEPLOYMENT, NAMESPACE).rollout_gap() == ""


def roll_out(cluster: Cluster, manifest: str) -> None:
    """Apply a Deployment; where that changes nothing, replace its pods as `kubectl rollout restart` does."""
    before = cluster.view().find("Deployment", DEPLOYMENT, NAMESPACE)
    (applied,) = cluster.apply(manifest)
    generation = applied.resource.path("metadata.generation")
    if before is not None and before.path("metadata.generation") == generation:
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        annotations = {"kubectl.kubernetes.io/restartedAt": stamp}
        patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
        cluster.patch("Deployment", DEPLOYMENT, patch, NAMESPACE)
