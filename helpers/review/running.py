"""Criteria about what runs: resources, probes, images, state, and how a pod ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from helpers.review.answers import Answer, Gap, answer
from helpers.review.stack import Stack, Work, settings

if TYPE_CHECKING:
    from helpers.cluster.resource import Resource

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
# Programs that keep data, by the last part of their image's name: one of these in a Deployment is looked at as well.
_STORES = re.compile(
    r"redis|valkey|falkordb|qdrant|milvus|weaviate|chroma|postgres|mysql|mariadb|mongo|clickhouse|minio|phoenix|kafka|etcd"
)
_REDIS = re.compile(r"redis|valkey|falkordb")
# What a program gives itself to finish its work, by the names of such settings, in seconds.
_DRAIN = re.compile(r"(DRAIN|SHUTDOWN|GRACE)[A-Z_]*_S(ECONDS)?$")
USUAL_GRACE_S = 30


# Resources


def resources(stack: Stack) -> Answer:
    """Each container of each workload says what it needs, and what memory it may not exceed."""
    gaps, count = [], 0
    works = stack.works()
    for work in works:
        for container in work.containers:
            count += 1
            lacking = [*_lacking(container.get("resources") or {})]
            if lacking:
                gaps.append(Gap(work.name, f"says no {', no '.join(lacking)}{_which(work, container)}"))
    return answer(
        (work.name for work in works),
        gaps,
        met=f"{count} containers of {len(works)} workloads say what they need and what memory they may not exceed",
        nothing="no workload runs in the stack's namespaces",
        next_command=_get_pods(stack, works),
    )


def _lacking(said: Mapping[str, Any]) -> Iterator[str]:
    requests, limits = said.get("requests") or {}, said.get("limits") or {}
    for name in ("cpu", "memory"):
        if name not in requests and name not in limits:
            yield f"request of {name}"
    if "memory" not in limits:
        yield "limit of memory"


def _which(work: Work, container: Mapping[str, Any]) -> str:
    return f" (container {container['name']})" if len(work.containers) > 1 else ""


def _get_pods(stack: Stack, works: list[Work]) -> str:
    namespace = works[0].namespace if works else stack.places.backends[0]
    return stack.command(f"kubectl describe pods -n {namespace}")


# Probes


def probes(stack: Stack) -> Answer:
    """Who gets traffic says when; who hangs is noticed; and no probe asks for somebody else's health."""
    works = [work for work in stack.works() if work.resource.kind != "DaemonSet"]
    gaps = [Gap(work.name, what) for work in works for what in _probe_gaps(stack, work)]
    return answer(
        (work.name for work in works),
        gaps,
        met=f"{len(works)} workloads are asked whether they may get traffic, or whether they hang; none for a backend",
        nothing="no workload runs in the stack's namespaces",
        next_command=stack.command(
            f"kubectl get pods -n {(works[0].namespace if works else 'default')} -o yaml"
        ),
    )


def _probe_gaps(stack: Stack, work: Work) -> Iterator[str]:
    def has(kind: str) -> list[Mapping[str, Any]]:
        return [item[kind] for item in work.containers if item.get(kind)]

    if work.services and not has("readinessProbe"):
        yield "has a Service and no readiness probe: traffic comes before it can answer"
    if not work.services and not has("livenessProbe"):
        yield "has no Service and no liveness probe: nobody notices when it hangs"
    if work.is_model_server and not has("startupProbe") and not has("readinessProbe"):
        yield "loads a model without a startup probe"
    if work.is_model_server and has("livenessProbe") and not has("startupProbe"):
        slow = [int(probe.get("initialDelaySeconds", 0)) for probe in has("livenessProbe")]
        if max(slow) < 60:
            yield "has no startup probe: its liveness probe kills it while it loads the model"
    for probe in has("livenessProbe"):
        whom = _asks_others(stack, work, probe)
        if whom:
            yield f"has a liveness probe that {whom}: it is restarted for somebody else's failure"


def _asks_others(stack: Stack, work: Work, probe: Mapping[str, Any]) -> str:
    """How a liveness probe asks for others; empty where it asks for the process alone."""
    asked = probe.get("httpGet") or {}
    path = str(asked.get("path") or "")
    if asked.get("host") and asked["host"] not in ("localhost", "127.0.0.1"):
        return f"asks {asked['host']}"
    if re.search(r"/(readyz?|readiness|deep|dependencies)\b", path):
        return f"asks {path}, which is whether it may get traffic"
    command = " ".join((probe.get("exec") or {}).get("command") or [])
    own = {service.name for service in work.services} | {work.resource.name}
    for other in stack.places.stack:
        for service in stack.objects("Service", other):
            named = rf"(?<![\w.-]){re.escape(service.name)}(\.{re.escape(stack.real(other))}|:\d)"
            if service.name not in own and re.search(named, command):
                return f"asks {service.name}"
    return "asks another host" if re.search(r"\.svc\b", command) else ""


# Images


def images(stack: Stack) -> Answer:
    """What runs is what was tested: each image has a digest, or a tag that is a version."""
    works = stack.works()
    gaps, seen = [], set()
    for work in works:
        for container in work.containers:
            image = str(container.get("image", ""))
            seen.add(image)
            wrong = _unpinned(image)
            if wrong:
                gaps.append(Gap(work.name, f"runs {image or 'no image'}: {wrong}"))
        gaps += [Gap(work.name, f"runs two images by the name {name}") for name in _moved(work)]
    return answer(
        (work.name for work in works),
        gaps,
        met=f"{len(seen)} images, each by a digest or by the tag of one version",
        nothing="no workload runs in the stack's namespaces",
        next_command=_get_pods(stack, works),
    )


def _unpinned(image: str) -> str:
    if _DIGEST.search(image):
        return ""
    tag = image.rpartition("/")[2].partition(":")[2]
    if not tag:
        return "without a tag it is whatever is newest"
    return (
        f"{tag} is another image tomorrow"
        if re.fullmatch(r"latest|main|master|nightly|stable|edge", tag)
        else ""
    )


def _moved(work: Work) -> list[str]:
    """Images by whose one name the pods of a workload run two: the tag has moved between them."""
    ids: dict[str, set[str]] = {}
    for pod in work.pods:
        for status in pod.path("status.containerStatuses", []) or []:
            if status.get("image") and status.get("imageID"):
                ids.setdefault(status["image"], set()).add(status["imageID"])
    return [name for name, found in ids.items() if len(found) > 1]


# State


def state(stack: Stack) -> Answer:
    """What is to be kept lies on a claim that is bound, and Redis writes to it what it was told."""
    works = [work for work in stack.works() if _keeps(work)]
    gaps = [Gap(work.name, what) for work in works for what in _state_gaps(stack, work)]
    return answer(
        (work.name for work in works),
        gaps,
        met=f"{len(works)} workloads keep data, all on claims that are bound",
        nothing="no workload of the stack keeps anything",
        next_command=stack.command(f"kubectl get pvc -n {stack.places.backends[0]}"),
    )


def _keeps(work: Work) -> bool:
    return work.resource.kind == "StatefulSet" or any(
        _STORES.search(_program(item)) for item in work.containers
    )


def _program(container: Mapping[str, Any]) -> str:
    """The last part of an image's name, without its tag."""
    return str(container.get("image", "")).partition("@")[0].rpartition("/")[2].partition(":")[0]


def _state_gaps(stack: Stack, work: Work) -> Iterator[str]:
    volumes = {item["name"]: item for item in work.spec.get("volumes") or []}
    templates = {
        item["metadata"]["name"] for item in work.resource.path("spec.volumeClaimTemplates", []) or []
    }
    mounted = {
        mount["name"]
        for container in work.containers
        for mount in container.get("volumeMounts") or []
        if not mount.get("readOnly")
    }
    claims = {
        name: (volumes.get(name, {}).get("persistentVolumeClaim") or {}).get("claimName", "")
        for name in mounted
        if name in templates or "persistentVolumeClaim" in volumes.get(name, {})
    }
    if not claims:
        others = ", ".join(sorted(name for name in mounted if "emptyDir" in volumes.get(name, {})))
        yield (
            f"keeps data in emptyDir {others}: it goes with the pod"
            if others
            else "keeps data, and has no claim"
        )
        return
    bound = {
        item.name: item.path("status.phase", "Pending")
        for item in stack.objects("PersistentVolumeClaim", work.namespace)
    }
    for claim in sorted(name for name in claims.values() if name):
        if bound.get(claim) != "Bound":
            yield f"waits for the claim {claim}, which is {bound.get(claim, 'missing')}"
    for container in work.containers:
        if _REDIS.search(_program(container)) and not _appends(stack, work, container):
            yield "is a Redis without an append-only file: what it took since its last snapshot is lost with it"


def _appends(stack: Stack, work: Work, container: Mapping[str, Any]) -> bool:
    """Whether a Redis writes an append-only file, by its arguments or by a file of them in a ConfigMap."""
    words = [str(word) for word in (*(container.get("command") or []), *(container.get("args") or []))]
    line = " ".join(words)
    if re.search(r"--appendonly[= ]yes\b", line):
        return True
    if re.search(r"--appendonly[= ]no\b", line) or not re.search(r"\.conf\b", line):
        return False
    files = (item.path("data", {}) or {} for item in stack.objects("ConfigMap", work.namespace))
    return any(re.search(r"(?m)^\s*appendonly\s+yes\b", text) for data in files for text in data.values())


# The end


def drain(stack: Stack) -> Answer:
    """Who answers users stops taking questions before it ends, and has time for those that it has; workers as well."""
    fronts, workers = stack.fronts, [work for work in stack.workers if work.resource.kind != "DaemonSet"]
    gaps = [Gap(work.name, what) for work in fronts for what in _front_gaps(stack, work)]
    gaps += [Gap(work.name, what) for work in workers for what in _worker_gaps(stack, work)]
    works = [*fronts, *workers]
    return answer(
        (work.name for work in works),
        gaps,
        met=f"{len(fronts)} that answer users are out of the Service before they end, {len(workers)} workers have time to finish",
        nothing="nobody answers users in the stack's namespaces",
        next_command=_get_pods(stack, works),
    )


def _grace(work: Work) -> int:
    return int(work.spec.get("terminationGracePeriodSeconds", USUAL_GRACE_S))


def _own_drain_s(stack: Stack, work: Work) -> float | None:
    """How long the program itself wants to drain, as its settings say; None where they say nothing."""
    found = [value for name, value in settings(stack, work).items() if _DRAIN.search(name)]
    return max((float(value) for value in found if re.fullmatch(r"\d+(\.\d+)?", value)), default=None)


def _front_gaps(stack: Stack, work: Work) -> Iterator[str]:
    hooks = [(item.get("lifecycle") or {}).get("preStop") for item in work.containers]
    if not any(hooks):
        yield "has no preStop: it ends while its address is still handed out"
        return
    sleeps = [int(((hook or {}).get("sleep") or {}).get("seconds", 0)) for hook in hooks]
    needed, grace = max(sleeps) + (_own_drain_s(stack, work) or 0.0), _grace(work)
    if needed > grace or max(sleeps) >= grace:
        yield f"needs {needed:g} s to end and is killed after {grace}"
    if int(work.resource.path("spec.replicas", 1)) > 1 and _ends_all(work.resource):
        yield "ends all its pods at once when it is rolled out"


def _ends_all(resource: Resource) -> bool:
    rolling = resource.path("spec.strategy.rollingUpdate", {}) or {}
    return resource.path("spec.strategy.type") == "Recreate" or str(rolling.get("maxUnavailable")) == "100%"


def _worker_gaps(stack: Stack, work: Work) -> Iterator[str]:
    grace, own = _grace(work), _own_drain_s(stack, work)
    if own == 0:
        yield "gives itself no time: what it holds is dropped when it ends"
    elif own is not None and own >= grace:
        yield f"gives itself {own:g} s for the jobs that it has, and is killed after {grace}"
    elif own is None and grace <= USUAL_GRACE_S:
        yield f"is killed {grace} s after it is told to end: nobody has said how long a job takes"
