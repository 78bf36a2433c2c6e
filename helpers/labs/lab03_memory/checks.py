"""Lab 03, the memory layer: Qdrant with a volume of its own, a right collection, and a way back from loss.

Kubernetes is read for what only it knows (claims, probes, identity); everything else is asked of the
service itself, through its Service: whether it answers, what the collection holds, whether questions
with known answers find them. Chart and manifests are graded alike: names, labels and ports agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING, Any

from helpers.errors import LabError, ProbeInconclusive
from helpers.evidence import Evidence
from helpers.grading import Lab, Verdict, all_of, expect, expect_true, falls_short, not_attempted
from helpers.grading.declare import Progress, quiet
from helpers.stack import helm, memory
from helpers.stack.bring_up import APPS, CLIENT
from helpers.stack.container_env import variables_of
from helpers.stack.embeddings import DIMENSIONS
from helpers.stack.memory import COLLECTION, FILTER_FIELD, LABELS, NAMESPACE, PORT, SERVICE, STATEFUL_SET

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.resource import Pod, Resource

STORAGE_PATH = "/qdrant/storage"
STORAGE_VARIABLE = "QDRANT__STORAGE__STORAGE_PATH"
WORKING_FOLDER = "/qdrant"
READY_PATHS = ("/readyz",)
LIVE_PATHS = ("/livez", "/healthz", "/")
GOLDEN = Path(__file__).with_name("golden.json")
TOP = 3
HITS_RIGHT = 5
# A claim made together with its StatefulSet is a second younger, one made after a loss much more.
REPLACED_AFTER_S = 15

# Its events say what the API server says of its pods.
OWN_WORDS = f"kubectl describe statefulset {STATEFUL_SET} -n {NAMESPACE}"

lab = Lab("03", "Memory", namespaces=(NAMESPACE,), images=("qdrant",))


# Life cycle: only Qdrant is this lab's; what labs 01 and 02 made in the same namespace stays.


@lab.start
def start(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """The namespace is there."""
    done = []
    for name in (NAMESPACE, "llm-apps"):
        if cluster.view().find("Namespace", name) is None:
            cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            done.append(f"namespace {name} created")
    return done


@lab.reset
def reset(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """Remove Qdrant with its claims, and the pod that asks it; a second reset changes nothing."""
    done = []
    for kind, name in (("StatefulSet", STATEFUL_SET), ("Service", SERVICE), ("Service", memory.HEADLESS)):
        if cluster.delete(kind, name, NAMESPACE, wait_s=60):
            done.append(f"{kind} {name} deleted")
    view = cluster.view()
    for pod in view.pods(NAMESPACE, labels=LABELS):
        cluster.delete("Pod", pod.name, NAMESPACE, wait_s=60)
    for claim in view.pvcs(NAMESPACE, labels="app=qdrant"):
        progress(f"deleting claim {claim.name}")
        cluster.delete("PersistentVolumeClaim", claim.name, NAMESPACE, wait_s=60)
        done.append(f"PersistentVolumeClaim {claim.name} deleted")
    if cluster.delete("Pod", CLIENT, APPS, grace_s=1):
        done.append(f"Pod {CLIENT} deleted")
    # Helm's own memory of the release: without it, the next install is a first one again.
    for revision in helm.revisions(view):
        cluster.delete("Secret", revision.record.name, NAMESPACE, wait_s=60)
        done.append(f"Helm's record of revision {revision.number} deleted")
    return done


# What the checks ask with


@dataclass(frozen=True)
class _Answer:
    """What the service said to one request, as a check needs it."""

    status: int
    text: str
    is_from_service: bool
    path: str

    @property
    def is_ok(self) -> bool:
        return self.is_from_service and self.status == 200

    @property
    def result(self) -> Any:
        return json.loads(self.text)["result"]

    def evidence(self) -> Evidence:
        return Evidence(
            kind="Service",
            name=SERVICE,
            namespace=NAMESPACE,
            observation=f"{self.path} answered {self.status}: {self.text[:160]}",
        )

    def words(self) -> str:
        """What went wrong, in the server's own words where it has some."""
        try:
            said = json.loads(self.text)["status"]["error"]
        except (ValueError, KeyError, TypeError):
            said = self.text.strip()[:160]
        who = "Qdrant" if self.is_from_service else "not Qdrant but the API server"
        return f"{who} answered {self.path} with {self.status}: {said}"


def _ask(cluster: ClusterView, path: str, body: Any = None) -> _Answer:
    method = "GET" if body is None else "POST"
    answer = cluster.http(NAMESPACE, SERVICE, PORT, path, method=method, json=body)
    if answer.from_service and answer.status in (401, 403):
        raise ProbeInconclusive(
            f"Qdrant asks for an API key, and the grader asks without one: {answer.body.strip()[:120]}",
            next_command=memory.MemoryUnauthorized.next_step,
        )
    return _Answer(answer.status, answer.body, answer.from_service, path)


def _collection(cluster: ClusterView) -> tuple[memory.CollectionState | None, _Answer]:
    answer = _ask(cluster, f"/collections/{COLLECTION}")
    return (memory.state_of(COLLECTION, answer.result) if answer.is_ok else None), answer


def _no_collection(answer: _Answer, expected: str) -> Verdict:
    """Not attempted while there is no such collection; everything else that is no answer falls short."""
    if answer.is_from_service and answer.status == 404:
        return not_attempted(expected, f"no collection {COLLECTION}")
    return falls_short(expected, answer.words(), answer)


def _count(cluster: ClusterView, **equal: str) -> _Answer:
    conditions = [{"key": key, "match": {"value": value}} for key, value in equal.items()]
    body: dict[str, Any] = {"exact": True}
    if conditions:
        body["filter"] = {"must": conditions}
    return _ask(cluster, f"/collections/{COLLECTION}/points/count", body)


@cache
def golden() -> tuple[dict[str, Any], ...]:
    """Questions with a known answer, and their vectors by the course's embedding model."""
    return tuple(json.loads(GOLDEN.read_text())["queries"])


def _qdrant_pods(cluster: ClusterView) -> list[Pod]:
    return [pod for pod in cluster.pods(NAMESPACE, labels=LABELS) if pod.is_live]


def _owned_by_set(pod: Resource) -> bool:
    owners = pod.path("metadata.ownerReferences", [])
    return any(owner.get("kind") == "StatefulSet" and owner.get("name") == STATEFUL_SET for owner in owners)


def _own_pods(cluster: ClusterView) -> list[Pod]:
    """Qdrant's pods that belong to the StatefulSet."""
    return [pod for pod in _qdrant_pods(cluster) if _owned_by_set(pod)]


def _container(pod: Pod) -> dict[str, Any]:
    """The container that serves Qdrant's port; the first if none names it."""
    for container in pod.containers:
        if any(port.get("containerPort") == PORT for port in container.get("ports") or []):
            return container
    return pod.containers[0] if pod.containers else {}


def _time(resource: Resource) -> datetime:
    return datetime.fromisoformat(str(resource.metadata.get("creationTimestamp")))


# a. Install


@lab.check("memory.ready", points=3, task="install")
def a_stateful_set_runs_qdrant(cluster: ClusterView) -> Verdict:
    """The StatefulSet `qdrant` runs a ready pod, and what answers in it is Qdrant.

    Why: A vector memory is state: its pod needs a name and a volume that outlive it, which a Deployment does not give.
    Hint: Look at what owns the pod, and at the pod's events if it does not become ready.
    Next: kubectl get pods -n llm-system -l app.kubernetes.io/name=qdrant -o wide
    """
    expected = "a ready pod of StatefulSet qdrant"
    found = cluster.find("StatefulSet", STATEFUL_SET, NAMESPACE)
    pods, history = _qdrant_pods(cluster), _history(cluster, found)
    if not (found or pods or history):
        return not_attempted(expected, "no StatefulSet qdrant and no pod of Qdrant")
    own = [pod for pod in pods if _owned_by_set(pod)]
    if not own:
        about = next(item for item in (found, *pods, *(revision.record for revision in history)) if item)
        running = falls_short(expected, _why_no_pod(cluster, found, pods), about)
        running = running.next(OWN_WORDS) if found and not pods else running
    else:
        ready = [pod for pod in own if pod.is_ready]
        running = expect_true(ready, expected, "; ".join(_pod_words(pod) for pod in own), own[0])
        running = all_of(running, _is_qdrant(cluster)) if ready else running
    parts = [running, *_is_deployed(history)]
    return all_of(*(parts if found else reversed(parts)))


def _history(cluster: ClusterView, found: Resource | None) -> list[helm.Revision]:
    """The revisions of Helm's release, where Qdrant comes from it, or would if the first one had not failed."""
    history = helm.revisions(cluster) if found is None or helm.is_released(found) else []
    return history if history and history[-1].status != "uninstalled" else []


def _is_deployed(history: list[helm.Revision]) -> list[Verdict]:
    """What Helm says of its newest revision; nothing where Qdrant was not installed by Helm."""
    if not history:
        return []
    newest = history[-1]
    deployed = expect_true(
        newest.is_deployed, "Helm's newest revision is deployed", str(newest), newest.record
    )
    back = helm.way_back(history, NAMESPACE) or f"helm history {helm.RELEASE} -n {NAMESPACE}"
    return [deployed if newest.is_deployed else deployed.next(back)]


def _why_no_pod(cluster: ClusterView, found: Resource | None, pods: list[Pod]) -> str:
    """Whose the pods are that are not the StatefulSet's, or what the API server says of the one that it would make."""
    if pods:
        owners = {
            str(owner.get("kind")) for pod in pods for owner in pod.path("metadata.ownerReferences", [])
        }
        return f"pods of {', '.join(sorted(owners)) or 'no owner'}, none of a StatefulSet"
    if found is None or not found.path("spec.replicas", 1):
        return "0 pods"
    spec = dict(found.path("spec.template.spec", {}))
    claimed = [{"name": item["metadata"]["name"]} for item in found.path("spec.volumeClaimTemplates", [])]
    spec["volumes"] = [*spec.get("volumes", []), *claimed]
    metadata = {
        "name": f"{STATEFUL_SET}-asked",
        "namespace": NAMESPACE,
        "labels": found.path("spec.template.metadata.labels", {}),
    }
    answer = cluster.dry_run({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return "0 pods" if answer.allowed else f"0 pods: {answer.reason.split(' is forbidden: ')[-1]}"


def _is_qdrant(cluster: ClusterView) -> Verdict:
    root = _ask(cluster, "/")
    return expect_true(
        root.is_ok and '"title":"qdrant' in root.text.replace(" ", ""),
        "Qdrant answers behind Service qdrant",
        root.text[:120] if root.is_ok else root.words(),
        root,
    )


def _pod_words(pod: Pod) -> str:
    reasons = [state.reason for state in pod.container_states if state.reason]
    restarts = sum(state.restarts for state in pod.container_states)
    if any("ImagePull" in reason or "ImageNever" in reason for reason in reasons):
        reasons.append("`course start 03` brings the image into an embedded cluster")
    detail = ", ".join([*reasons, *([f"{restarts} restarts"] if restarts else [])])
    ready = "ready" if pod.is_ready else "not ready"
    return f"{pod.name} {pod.phase}, {ready}{f' ({detail})' if detail else ''}"


@lab.check("memory.storage", points=4, needs=a_stateful_set_runs_qdrant, task="install")
def storage_is_on_a_claim(cluster: ClusterView) -> Verdict:
    """Qdrant's storage path is on a bound claim that the StatefulSet's own template made.

    Why: What is written outside the claim is lost with the pod, and nobody notices until that pod is replaced.
    Hint: Compare the path that Qdrant writes to with the mount paths. Which kind of volume is mounted there?
    Next: kubectl get pvc -n llm-system; kubectl get pod -n llm-system qdrant-0 -o jsonpath='{.spec.volumes}'
    """
    pod = _own_pods(cluster)[0]
    path = _storage_path(cluster, pod)
    mount = _mount_of(_container(pod), path)
    expected = f"{path} on a claim of the StatefulSet's volumeClaimTemplates"
    if mount is None:
        paths = ", ".join(m.get("mountPath", "?") for m in _container(pod).get("volumeMounts") or [])
        return falls_short(expected, f"nothing is mounted there, only at {paths}", pod)
    volume: dict[str, Any] = next(
        (v for v in pod.path("spec.volumes", []) if v.get("name") == mount["name"]), {}
    )
    claim_name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
    if not claim_name:
        kind = next((key for key in volume if key != "name"), "unknown")
        return falls_short(expected, f"a volume of kind {kind}", pod)
    claim = cluster.pvc(claim_name, NAMESPACE)
    templates = cluster.stateful_set(STATEFUL_SET, NAMESPACE).path("spec.volumeClaimTemplates", [])
    from_template = any(claim_name == f"{t['metadata']['name']}-{pod.name}" for t in templates)
    return all_of(
        expect(claim.phase, f"claim {claim_name} Bound", equals="Bound"),
        expect_true(
            from_template,
            expected,
            f"claim {claim_name}, {'from' if from_template else 'not from'} a claim template",
        ),
    ).about(claim)


def _storage_path(cluster: ClusterView, pod: Pod) -> PurePosixPath:
    """Where Qdrant writes: as its variable says, and relative to its image's folder."""
    known = variables_of(cluster, _container(pod), NAMESPACE)
    return PurePosixPath(normpath(PurePosixPath(WORKING_FOLDER, known.get(STORAGE_VARIABLE) or STORAGE_PATH)))


def _mount_of(container: Mapping[str, Any], path: PurePosixPath) -> Mapping[str, Any] | None:
    """The mount on which a path lies: the longest that covers it; None on the container's own layer."""
    covering = [
        mount
        for mount in container.get("volumeMounts") or []
        if path.is_relative_to(normpath(mount.get("mountPath") or "/"))
    ]
    return max(covering, key=lambda mount: len(normpath(mount["mountPath"])), default=None)


@lab.check("memory.identity", points=2, needs=a_stateful_set_runs_qdrant, task="install")
def name_and_address(cluster: ClusterView) -> Verdict:
    """`serviceName` names an existing headless Service, and Service `qdrant` leads to the ready pod on 6333.

    Why: The headless Service gives qdrant-0 a DNS name that survives replacement; the other gives clients one address.
    Hint: A StatefulSet names its governing Service in serviceName, and nobody checks that this Service exists.
    Next: kubectl get service,endpointslices -n llm-system -l app.kubernetes.io/name=qdrant
    """
    name = cluster.stateful_set(STATEFUL_SET, NAMESPACE).path("spec.serviceName", "")
    governing = cluster.find("Service", name, NAMESPACE) if name else None
    headless = governing is not None and governing.path("spec.clusterIP") == "None"
    said = "headless" if headless else ("no such Service" if governing is None else "not headless")
    addresses = cluster.endpoint_slices(SERVICE, NAMESPACE)
    service = cluster.service(SERVICE, NAMESPACE)
    answer = _ask(cluster, "/healthz")
    names = {endpoint.pod for endpoint in cluster.endpoints(name, NAMESPACE)} if headless else set()
    pods = {pod.name for pod in _own_pods(cluster)}
    return all_of(
        expect_true(
            headless, "serviceName names a headless Service", f"serviceName {name or 'empty'}: {said}"
        ),
        expect_true(
            pods & {n for n in names if n},
            "the headless Service selects the pod",
            f"it leads to {', '.join(sorted(n for n in names if n)) or 'no pod'}",
        ),
        expect_true(
            answer.is_ok,
            f"Service qdrant answers on {PORT}",
            f"{len(addresses)} ready addresses; {answer.words()}",
            answer,
        ),
    ).about(governing or service)


@lab.check("memory.probes", points=3, needs=a_stateful_set_runs_qdrant, task="install")
def probes_ask_the_right_paths(cluster: ClusterView) -> Verdict:
    """The readiness probe asks the path that fails while collections load, the liveness probe one that does not.

    Why: Readiness keeps queries away while segments load; liveness on the same path would kill the pod for loading.
    Hint: Qdrant has three health paths. Which of them fails while collections load?
    Next: kubectl get statefulset -n llm-system qdrant -o jsonpath='{.spec.template.spec.containers[0].readinessProbe}'
    """
    pod = _own_pods(cluster)[0]
    container = _container(pod)
    readiness, liveness = _probe_path(container, "readinessProbe"), _probe_path(container, "livenessProbe")
    return all_of(
        expect_true(
            readiness in READY_PATHS,
            "readiness asks the path that fails while collections load",
            f"readiness asks {readiness or 'nothing'}",
        ),
        expect_true(
            liveness in LIVE_PATHS,
            "liveness asks whether the process answers",
            f"liveness asks {liveness or 'nothing'}",
        ),
    ).about(pod)


def _probe_path(container: dict[str, Any], name: str) -> str:
    request = (container.get(name) or {}).get("httpGet") or {}
    return str(request.get("path") or ("/" if request else ""))


# b. Collection


@lab.check("memory.schema", points=2, needs=a_stateful_set_runs_qdrant, task="collection")
def made_for_the_model(cluster: ClusterView) -> Verdict:
    """The collection `course_docs` takes vectors of the embedding model's size and distance.

    Why: Size and distance are fixed when a collection is created; another size is refused, and another distance changes every score that a threshold was chosen for.
    Hint: The embedding model decides both. Its vectors have length one.
    Next: kubectl get --raw /api/v1/namespaces/llm-system/services/http:qdrant:6333/proxy/collections/course_docs
    """
    expected = f"{DIMENSIONS} dimensions, {memory.DISTANCE}"
    state, answer = _collection(cluster)
    if state is None:
        return _no_collection(answer, expected)
    return expect(
        (state.dimensions, state.distance),
        expected,
        f"{state.dimensions} dimensions, {state.distance}",
        answer,
        equals=(DIMENSIONS, memory.DISTANCE),
    )


@lab.check("memory.corpus", points=4, needs=made_for_the_model, task="collection")
def holds_the_corpus_once(cluster: ClusterView) -> Verdict:
    """Every passage of the corpus is there, once, with the field that queries filter by.

    Why: All three health checks are green over an empty collection too: only counting shows what is there.
    Hint: Count all points, then those of the corpus. With random ids, every ingestion adds all points again.
    Next: kubectl get --raw /api/v1/namespaces/llm-system/services/http:qdrant:6333/proxy/collections/course_docs
    """
    passages = memory.corpus()
    total, known = _count(cluster), _count(cluster, kind="passage")
    body = {"ids": [passage.id for passage in passages], "with_payload": ["key", FILTER_FIELD]}
    stored = _ask(cluster, f"/collections/{COLLECTION}/points", body)
    if not (total.is_ok and known.is_ok and stored.is_ok):
        failed = next(answer for answer in (total, known, stored) if not answer.is_ok)
        return _no_collection(failed, f"{len(passages)} passages")
    payloads = {point["id"]: point.get("payload") or {} for point in stored.result}
    layers = {passage.id: passage.layer for passage in passages}
    right = [i for i, payload in payloads.items() if payload.get(FILTER_FIELD) == layers[i]]
    count, notes = total.result["count"], total.result["count"] - known.result["count"]
    shown = (
        f"{count} points, {len(payloads)} of them the corpus's, {len(right)} with the right {FILTER_FIELD}"
    )
    return all_of(
        expect(len(payloads), f"all {len(passages)} passages", shown, equals=len(passages)),
        expect(len(right), f"each with its {FILTER_FIELD}", shown, equals=len(passages)),
        expect_true(
            known.result["count"] == len(passages) and notes <= 1,
            "nothing twice: the passages, and at most a note of yours",
            shown,
            total,
        ),
    ).about(stored)


@lab.check("memory.index", points=2, needs=made_for_the_model, task="collection")
def filters_by_layer(cluster: ClusterView) -> Verdict:
    """The field `layer` has a keyword index, and a filtered query returns that layer and nothing else.

    Why: A filter without an index reads the payload of every candidate, and the search graph cannot use it.
    Hint: `payload_schema` of the collection lists its indexes. A full-text index is not the one for exact words.
    Next: kubectl get --raw /api/v1/namespaces/llm-system/services/http:qdrant:6333/proxy/collections/course_docs
    """
    state, answer = _collection(cluster)
    if state is None:
        return _no_collection(answer, "a keyword index on layer")
    body = memory.query_body(golden()[0]["vector"], "memory", 10)
    query = _ask(cluster, f"/collections/{COLLECTION}/points/query", body)
    hits = memory.hits_of(query.result) if query.is_ok else []
    layers = sorted({hit.layer or "none" for hit in hits})
    return all_of(
        expect(
            state.indexes.get(FILTER_FIELD),
            f"a keyword index on {FILTER_FIELD}",
            f"indexes: {', '.join(f'{k} ({v})' for k, v in state.indexes.items()) or 'none'}",
            answer,
            equals="keyword",
        ),
        expect_true(
            len(hits) == 10 and layers == ["memory"],
            "10 hits, all of the layer memory",
            f"{len(hits)} hits of {', '.join(layers) or 'no layer'}" if query.is_ok else query.words(),
            query,
        ),
    )


@lab.check("memory.golden", points=4, needs=made_for_the_model, task="collection")
def known_questions_find_their_passages(cluster: ClusterView) -> Verdict:
    """Questions with a known answer find it among the first three.

    Why: Counts cannot tell right vectors from wrong ones; questions with known answers can.
    Hint: What made the vectors of the passages, and what made those of the questions?
    Next: kubectl get --raw /api/v1/namespaces/llm-system/services/http:qdrant:6333/proxy/collections/course_docs
    """
    queries = golden()
    searches = [memory.query_body(query["vector"], None, TOP) for query in queries]
    answer = _ask(cluster, f"/collections/{COLLECTION}/points/query/batch", {"searches": searches})
    if not answer.is_ok:
        return _no_collection(answer, f"at least {HITS_RIGHT} of {len(queries)} questions answered")
    found = [{hit.key for hit in memory.hits_of(result)} for result in answer.result]
    right = [query["expected"] in keys for query, keys in zip(queries, found, strict=True)]
    if not any(found):
        return not_attempted(
            f"at least {HITS_RIGHT} of {len(queries)} questions answered", "the collection is empty"
        )
    missed = next((query["question"] for query, met in zip(queries, right, strict=True) if not met), "")
    return expect(
        sum(right),
        f"at least {HITS_RIGHT} of {len(queries)} questions find their passage",
        f"{sum(right)} of {len(queries)} found{f', not: {missed}' if missed else ''}",
        answer,
        at_least=HITS_RIGHT,
    )


# c. Restart


@lab.check("memory.restart", points=3, needs=holds_the_corpus_once, task="restart")
def points_survive_the_process(cluster: ClusterView) -> Verdict:
    """The running process serves the corpus and has received no point since it started.

    Why: A server that answers from points it was never sent has read them from its volume: that proves persistence.
    Hint: What replaces a pod of a StatefulSet when you delete it, and what does the new one find? After a write, do it again.
    Next: kubectl delete pod -n llm-system qdrant-0
    """
    answer = _ask(cluster, "/metrics")
    expected = "points served, none received by this process"
    if not answer.is_ok:
        return falls_short(expected, answer.words(), answer)
    state, _ = _collection(cluster)
    received = memory.writes_received(memory.parse_metrics(answer.text))
    points = state.points if state else 0
    if points and received and not _was_replaced(cluster):
        return not_attempted(expected, f"{points} points, and this process received them itself")
    return expect_true(
        bool(points) and received == 0,
        expected,
        f"{points} points; {received:.0f} writes received since the process started",
        answer,
    )


def _was_replaced(cluster: ClusterView) -> bool:
    """Whether the pod is younger than its claim by more than a first start takes."""
    pods = _own_pods(cluster)
    claims = cluster.pvcs(NAMESPACE, labels="app=qdrant")
    return bool(pods and claims) and (_time(pods[0]) - _time(claims[0])).total_seconds() > REPLACED_AFTER_S


# d. Restore


@lab.check("memory.restore", points=5, needs=made_for_the_model, task="restore")
def back_from_the_loss_of_the_volume(cluster: ClusterView) -> Verdict:
    """The volume was lost and replaced, and the memory is complete again, with the note that only the snapshot held.

    Why: Only a restore proves a backup. Your note is not in the corpus: only the snapshot can bring it back.
    Hint: Write the note, take the snapshot, copy it off the cluster; only then delete the claim, and the pod that holds it.
    Next: kubectl get statefulset,pvc -n llm-system -o custom-columns=KIND:.kind,NAME:.metadata.name,CREATED:.metadata.creationTimestamp
    """
    workload = cluster.stateful_set(STATEFUL_SET, NAMESPACE)
    claims = [
        c for c in cluster.pvcs(NAMESPACE, labels="app=qdrant") if c.name.endswith(f"-{STATEFUL_SET}-0")
    ]
    note = _ask(
        cluster, f"/collections/{COLLECTION}/points", {"ids": [memory.point_id("note")], "with_payload": True}
    )
    has_note = note.is_ok and any((p.get("payload") or {}).get("kind") == "note" for p in note.result)
    expected = "a claim younger than its StatefulSet, and the note back in it"
    age_s = max(((_time(claim) - _time(workload)).total_seconds() for claim in claims), default=0.0)
    if age_s <= REPLACED_AFTER_S:
        seen = "the note is there" if has_note else "no note yet"
        return not_attempted(expected, f"the first volume is still in use; {seen}")
    passages = _count(cluster, kind="passage")
    count = passages.result["count"] if passages.is_ok else 0
    return all_of(
        expect_true(
            has_note,
            "your note is back",
            "the note is there" if has_note else "no note in the collection",
            note,
        ),
        expect(
            count,
            f"all {len(memory.corpus())} passages are back",
            f"{count} passages on a volume {age_s:.0f} s younger than the StatefulSet",
            claims[0],
            equals=len(memory.corpus()),
        ),
    )


# e. Metrics


@lab.check("memory.metrics", points=3, needs=made_for_the_model, task="metrics")
def prometheus_would_see_it(cluster: ClusterView) -> Verdict:
    """Metrics report the collection's points, and the Services carry what a ServiceMonitor selects.

    Why: A collection that shrinks, or is empty, shows in collection_points long before anybody reads an answer.
    Hint: A ServiceMonitor selects Services by label and a port by name; without its operator there is no such kind.
    Next: kubectl get --raw /api/v1/namespaces/llm-system/services/http:qdrant:6333/proxy/metrics
    """
    answer = _ask(cluster, "/metrics")
    state, _ = _collection(cluster)
    if not answer.is_ok:
        return falls_short("/metrics answers", answer.words(), answer)
    series = f'collection_points{{id="{COLLECTION}"}}'
    reported = memory.parse_metrics(answer.text).get(series)
    selector = {"app.kubernetes.io/name": "qdrant", "app.kubernetes.io/component": "cluster-discovery"}
    targets = [s for s in cluster.list("Service", NAMESPACE) if selector.items() <= s.labels.items()]
    named = [s for s in targets if any(p.get("name") == "http" for p in s.path("spec.ports", []))]
    shown = ", ".join(
        f"{s.name}: {', '.join(p.get('name', 'unnamed') for p in s.path('spec.ports', []))}" for s in targets
    )
    return all_of(
        expect(
            reported,
            f"{series} {state.points if state else '?'}",
            f"{series} {reported:g}" if reported is not None else f"no series {series}",
            answer,
            equals=float(state.points) if state else None,
        ),
        expect(
            len(named),
            "one Service with the labels of the ServiceMonitor and a port named http",
            shown or "no Service with the component cluster-discovery",
            named[0] if named else answer,
            equals=1,
        ),
        *_service_monitor(cluster, named),
    )


def _service_monitor(cluster: ClusterView, services: list[Resource]) -> list[Verdict]:
    """Where the operator's kinds exist, a ServiceMonitor must select the Service; elsewhere nothing is asked."""
    try:
        monitors = cluster.list("ServiceMonitor", NAMESPACE, api_version="monitoring.coreos.com/v1")
    except LabError:
        return []
    selecting = [
        monitor
        for monitor in monitors
        for service in services
        if monitor.path("spec.selector.matchLabels", {}).items() <= service.labels.items()
    ]
    names = ", ".join(monitor.name for monitor in monitors) or "none"
    return [
        expect_true(
            selecting,
            "a ServiceMonitor selects the Service",
            f"ServiceMonitors: {names}, selecting it: {len(selecting)}",
            selecting[0] if selecting else None,
        )
    ]
