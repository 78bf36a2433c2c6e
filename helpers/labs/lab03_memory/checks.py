"""Lab 03, the memory layer: Qdrant with a volume of its own, a right collection, and a way back from loss.

Kubernetes is read for what only it knows (claims, probes, identity); everything else is asked of the
service itself, through its Service: whether it answers, what the collection holds, whether questions
with known answers find them. Chart and manifests are graded alike: names, labels and ports agree.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import LabError, ProbeInconclusive
from helpers.evidence import Evidence
from helpers.grading import Lab, Verdict, all_of, expect, not_attempted
from helpers.stack import memory
from helpers.stack.embeddings import DIMENSIONS
from helpers.stack.memory import COLLECTION, FILTER_FIELD, LABELS, NAMESPACE, PORT, SERVICE, STATEFUL_SET

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.resource import Pod, Resource

STORAGE_PATH = "/qdrant/storage"
READY_PATHS = ("/readyz",)
LIVE_PATHS = ("/livez", "/healthz", "/")
GOLDEN = Path(__file__).with_name("golden.json")
TOP = 3
HITS_RIGHT = 5
# A claim made together with its StatefulSet is a second younger, one made after a loss much more.
REPLACED_AFTER_S = 15
NEXT_PODS = f"kubectl get pods -n {NAMESPACE} -l {LABELS} -o wide"
NEXT_COLLECTION = f"kubectl get --raw /api/v1/namespaces/{NAMESPACE}/services/http:{SERVICE}:{PORT}/proxy/collections/{COLLECTION}"

lab = Lab("03", "Memory", module=__name__, namespaces=(NAMESPACE,), images=("qdrant",))


# Life cycle: only Qdrant is this lab's; what labs 01 and 02 made in the same namespace stays.


def start(cluster: Cluster) -> list[str]:
    """The namespace is there."""
    done = []
    for name in (NAMESPACE, "llm-apps"):
        if cluster.view().find("Namespace", name) is None:
            cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            done.append(f"namespace {name} created")
    return done


def reset(cluster: Cluster, progress: Callable[[str], None] = lambda line: None) -> list[str]:
    """Remove Qdrant with its claims; a second reset changes nothing."""
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
        who = "Qdrant" if self.is_from_service else "nobody behind the Service"
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
    return expect(False, truthy=True, that=expected, observed=answer.words(), evidence=answer)


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
    return [pod for pod in cluster.pods(NAMESPACE, labels=LABELS) if not pod.is_terminating]


def _owned_by_set(pod: Resource) -> bool:
    owners = pod.path("metadata.ownerReferences", [])
    return any(owner.get("kind") == "StatefulSet" and owner.get("name") == STATEFUL_SET for owner in owners)


def _container(pod: Pod) -> dict[str, Any]:
    """The container that serves Qdrant's port; the first if none names it."""
    for container in pod.containers:
        if any(port.get("containerPort") == PORT for port in container.get("ports") or []):
            return container
    return pod.containers[0] if pod.containers else {}


def _time(resource: Resource) -> datetime:
    return datetime.fromisoformat(str(resource.metadata.get("creationTimestamp")))


# a. Install


@lab.check(
    "memory.ready",
    task="install",
    points=3,
    why="A vector memory is state: its pod needs a name and a volume that outlive it, which a Deployment does not give.",
    hint="Look at what owns the pod, and at the pod's events if it does not become ready.",
    next=NEXT_PODS,
)
def a_stateful_set_runs_qdrant(cluster: ClusterView) -> Verdict:
    """The StatefulSet `qdrant` runs a ready pod, and what answers in it is Qdrant."""
    expected = "a ready pod of StatefulSet qdrant"
    found = cluster.find("StatefulSet", STATEFUL_SET, NAMESPACE)
    pods = _qdrant_pods(cluster)
    if found is None and not pods:
        return not_attempted(expected, "no StatefulSet qdrant and no pod of Qdrant")
    own = [pod for pod in pods if _owned_by_set(pod)]
    if not own:
        owners = {
            str(owner.get("kind")) for pod in pods for owner in pod.path("metadata.ownerReferences", [])
        }
        observed = (
            f"pods of {', '.join(sorted(owners)) or 'no owner'}, none of a StatefulSet" if pods else "0 pods"
        )
        return expect(False, truthy=True, that=expected, observed=observed, evidence=found or pods[0])
    ready = [pod for pod in own if pod.is_ready]
    shown = "; ".join(_pod_words(pod) for pod in own)
    running = expect(bool(ready), truthy=True, that=expected, observed=shown, evidence=own[0])
    return all_of(running, _is_qdrant(cluster)) if ready else running


def _is_qdrant(cluster: ClusterView) -> Verdict:
    root = _ask(cluster, "/")
    return expect(
        root.is_ok and '"title":"qdrant' in root.text.replace(" ", ""),
        truthy=True,
        that="Qdrant answers behind Service qdrant",
        observed=root.text[:120] if root.is_ok else root.words(),
        evidence=root,
    )


def _pod_words(pod: Pod) -> str:
    reasons = [state.reason for state in pod.container_states if state.reason]
    restarts = sum(state.restarts for state in pod.container_states)
    if any("ImagePull" in reason or "ImageNever" in reason for reason in reasons):
        reasons.append("`course start 03` brings the image into an embedded cluster")
    detail = ", ".join([*reasons, *([f"{restarts} restarts"] if restarts else [])])
    ready = "ready" if pod.is_ready else "not ready"
    return f"{pod.name} {pod.phase}, {ready}{f' ({detail})' if detail else ''}"


@lab.check(
    "memory.storage",
    task="install",
    points=4,
    needs=["memory.ready"],
    why="What is written outside the claim goes with the pod, and nobody notices before that pod is replaced.",
    hint="Compare the path that Qdrant writes to with the mount paths, and what each mount's volume is.",
    next=f"kubectl get pvc -n {NAMESPACE}; kubectl get pod -n {NAMESPACE} qdrant-0 -o jsonpath='{{.spec.volumes}}'",
)
def storage_is_on_a_claim(cluster: ClusterView) -> Verdict:
    """Qdrant's storage path lies on a bound claim that the StatefulSet's own template made."""
    pod = next(pod for pod in _qdrant_pods(cluster) if _owned_by_set(pod))
    mount = next(
        (m for m in _container(pod).get("volumeMounts") or [] if m.get("mountPath") == STORAGE_PATH), None
    )
    expected = f"{STORAGE_PATH} on a claim of the StatefulSet's volumeClaimTemplates"
    if mount is None:
        paths = ", ".join(m.get("mountPath", "?") for m in _container(pod).get("volumeMounts") or [])
        return expect(
            False,
            truthy=True,
            that=expected,
            observed=f"nothing is mounted there, only at {paths}",
            evidence=pod,
        )
    volume: dict[str, Any] = next(
        (v for v in pod.path("spec.volumes", []) if v.get("name") == mount["name"]), {}
    )
    claim_name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
    if not claim_name:
        kind = next((key for key in volume if key != "name"), "unknown")
        return expect(False, truthy=True, that=expected, observed=f"a volume of kind {kind}", evidence=pod)
    claim = cluster.pvc(claim_name, NAMESPACE)
    templates = cluster.stateful_set(STATEFUL_SET, NAMESPACE).path("spec.volumeClaimTemplates", [])
    from_template = any(claim_name == f"{t['metadata']['name']}-{pod.name}" for t in templates)
    return all_of(
        expect(claim.phase, equals="Bound", that=f"claim {claim_name} Bound", evidence=claim),
        expect(
            from_template,
            truthy=True,
            that=expected,
            observed=f"claim {claim_name}, {'from' if from_template else 'not from'} a claim template",
            evidence=claim,
        ),
    )


@lab.check(
    "memory.identity",
    task="install",
    points=2,
    needs=["memory.ready"],
    why="The headless Service gives qdrant-0 a DNS name that survives replacement; the other gives clients one address.",
    hint="A StatefulSet names its governing Service in serviceName, and nobody checks that this Service exists.",
    next=f"kubectl get service,endpointslices -n {NAMESPACE} -l {LABELS}",
)
def name_and_address(cluster: ClusterView) -> Verdict:
    """`serviceName` names an existing headless Service, and Service `qdrant` leads to the ready pod on 6333."""
    name = cluster.stateful_set(STATEFUL_SET, NAMESPACE).path("spec.serviceName", "")
    governing = cluster.find("Service", name, NAMESPACE) if name else None
    headless = governing is not None and governing.path("spec.clusterIP") == "None"
    said = "headless" if headless else ("no such Service" if governing is None else "not headless")
    addresses = cluster.endpoint_slices(SERVICE, NAMESPACE)
    service = cluster.service(SERVICE, NAMESPACE)
    answer = _ask(cluster, "/healthz")
    names = {endpoint.pod for endpoint in cluster.endpoints(name, NAMESPACE)} if headless else set()
    pods = {pod.name for pod in _qdrant_pods(cluster) if _owned_by_set(pod)}
    return all_of(
        expect(
            headless,
            truthy=True,
            that="serviceName names a headless Service",
            observed=f"serviceName {name or 'empty'}: {said}",
            evidence=governing or service,
        ),
        expect(
            bool(pods & {n for n in names if n}),
            truthy=True,
            that="the headless Service selects the pod",
            observed=f"it leads to {', '.join(sorted(n for n in names if n)) or 'no pod'}",
            evidence=governing or service,
        ),
        expect(
            answer.is_ok,
            truthy=True,
            that=f"Service qdrant answers on {PORT}",
            observed=f"{len(addresses)} ready addresses; {answer.words()}",
            evidence=answer,
        ),
    )


@lab.check(
    "memory.probes",
    task="install",
    points=3,
    needs=["memory.ready"],
    why="Readiness keeps queries away while segments load; liveness on the same path would kill the pod for loading.",
    hint="Qdrant has three health paths. Ask which of them turns red while collections are loading.",
    next=f"kubectl get statefulset -n {NAMESPACE} qdrant -o jsonpath='{{.spec.template.spec.containers[0].readinessProbe}}'",
)
def probes_ask_the_right_paths(cluster: ClusterView) -> Verdict:
    """Readiness asks the path that is red while loading, liveness one that is not."""
    pod = next(pod for pod in _qdrant_pods(cluster) if _owned_by_set(pod))
    container = _container(pod)
    readiness, liveness = _probe_path(container, "readinessProbe"), _probe_path(container, "livenessProbe")
    return all_of(
        expect(
            readiness in READY_PATHS,
            truthy=True,
            that="readiness asks the path that knows of loading",
            observed=f"readiness asks {readiness or 'nothing'}",
            evidence=pod,
        ),
        expect(
            liveness in LIVE_PATHS,
            truthy=True,
            that="liveness asks whether the process answers",
            observed=f"liveness asks {liveness or 'nothing'}",
            evidence=pod,
        ),
    )


def _probe_path(container: dict[str, Any], name: str) -> str:
    request = (container.get(name) or {}).get("httpGet") or {}
    return str(request.get("path") or ("/" if request else ""))


# b. Collection


@lab.check(
    "memory.schema",
    task="collection",
    points=2,
    needs=["memory.ready"],
    why="Size and distance are fixed when a collection is created; another size is refused, and another distance changes every score that a threshold was chosen for.",
    hint="The embedding model decides both. Its vectors have length one.",
    next=NEXT_COLLECTION,
)
def made_for_the_model(cluster: ClusterView) -> Verdict:
    """The collection `course_docs` takes vectors of the embedding model's size and distance."""
    expected = f"{DIMENSIONS} dimensions, {memory.DISTANCE}"
    state, answer = _collection(cluster)
    if state is None:
        return _no_collection(answer, expected)
    return expect(
        (state.dimensions, state.distance),
        equals=(DIMENSIONS, memory.DISTANCE),
        that=expected,
        observed=f"{state.dimensions} dimensions, {state.distance}",
        evidence=answer,
    )


@lab.check(
    "memory.corpus",
    task="collection",
    points=4,
    needs=["memory.schema"],
    why="Three green health checks stand over an empty collection as well: only counting shows what is there.",
    hint="Count all points, then those of the corpus. Ids that are random come again with every ingestion.",
    next=NEXT_COLLECTION,
)
def holds_the_corpus_once(cluster: ClusterView) -> Verdict:
    """Every passage of the corpus is there, once, with the field that queries filter by."""
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
        expect(
            len(payloads),
            equals=len(passages),
            that=f"all {len(passages)} passages",
            observed=shown,
            evidence=stored,
        ),
        expect(
            len(right),
            equals=len(passages),
            that=f"each with its {FILTER_FIELD}",
            observed=shown,
            evidence=stored,
        ),
        expect(
            known.result["count"] == len(passages) and notes <= 1,
            truthy=True,
            that="nothing twice: the passages, and at most a note of yours",
            observed=shown,
            evidence=total,
        ),
    )


@lab.check(
    "memory.index",
    task="collection",
    points=2,
    needs=["memory.schema"],
    why="A filter without an index reads the payload of every candidate, and the search graph cannot use it.",
    hint="`payload_schema` of the collection lists its indexes; exact words are not full text.",
    next=NEXT_COLLECTION,
)
def filters_by_layer(cluster: ClusterView) -> Verdict:
    """The field `layer` has a keyword index, and a filtered query returns that layer and nothing else."""
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
            equals="keyword",
            that=f"a keyword index on {FILTER_FIELD}",
            observed=f"indexes: {', '.join(f'{k} ({v})' for k, v in state.indexes.items()) or 'none'}",
            evidence=answer,
        ),
        expect(
            len(hits) == 10 and layers == ["memory"],
            truthy=True,
            that="10 hits, all of the layer memory",
            observed=f"{len(hits)} hits of {', '.join(layers) or 'no layer'}"
            if query.is_ok
            else query.words(),
            evidence=query,
        ),
    )


@lab.check(
    "memory.golden",
    task="collection",
    points=4,
    needs=["memory.schema"],
    why="Counts cannot tell right vectors from wrong ones: a known question that finds its passage can.",
    hint="What made the vectors of the passages, and what made those of the questions?",
    next=NEXT_COLLECTION,
)
def known_questions_find_their_passages(cluster: ClusterView) -> Verdict:
    """Questions with a known answer find it among the first three."""
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
        at_least=HITS_RIGHT,
        that=f"at least {HITS_RIGHT} of {len(queries)} questions find their passage",
        observed=f"{sum(right)} of {len(queries)} found{f', not: {missed}' if missed else ''}",
        evidence=answer,
    )


# c. Restart


@lab.check(
    "memory.restart",
    task="restart",
    points=3,
    needs=["memory.corpus"],
    why="A server that answers from points it was never sent has read them from its volume: that is persistence, seen.",
    hint="What replaces a pod of a StatefulSet when you delete it, and what does the new one find? Each write starts anew.",
    next=f"kubectl delete pod -n {NAMESPACE} qdrant-0",
)
def points_survive_the_process(cluster: ClusterView) -> Verdict:
    """The running process serves the corpus and has received no point since it started."""
    answer = _ask(cluster, "/metrics")
    expected = "points served, none received by this process"
    if not answer.is_ok:
        return expect(False, truthy=True, that=expected, observed=answer.words(), evidence=answer)
    state, _ = _collection(cluster)
    received = _received(memory.parse_metrics(answer.text))
    points = state.points if state else 0
    if points and received and not _was_replaced(cluster):
        return not_attempted(expected, f"{points} points, and this process received them itself")
    return expect(
        bool(points) and received == 0,
        truthy=True,
        that=expected,
        observed=f"{points} points; {received:.0f} writes received since the process started",
        evidence=answer,
    )


def _received(metrics: dict[str, float]) -> float:
    """How many requests brought points to this process: upserts, batches and restores."""
    bringing = ('/points"', '/points/batch"', '/snapshots/recover"', '/snapshots/upload"')
    return sum(
        value
        for series, value in metrics.items()
        if series.startswith("rest_responses_total{")
        and 'status="200"' in series
        and any(path in series for path in bringing)
        and not ('/points"' in series and 'method="PUT"' not in series)
    )


def _was_replaced(cluster: ClusterView) -> bool:
    """Whether the pod is younger than its claim by more than a first start takes."""
    pods = [pod for pod in _qdrant_pods(cluster) if _owned_by_set(pod)]
    claims = cluster.pvcs(NAMESPACE, labels="app=qdrant")
    return bool(pods and claims) and (_time(pods[0]) - _time(claims[0])).total_seconds() > REPLACED_AFTER_S


# d. Restore


@lab.check(
    "memory.restore",
    task="restore",
    points=5,
    needs=["memory.schema"],
    why="A backup that was never restored is a hope. Your note is in no corpus: only the snapshot can bring it back.",
    hint="Write the note, take the snapshot, copy it off the cluster; only then delete the claim, and the pod that holds it.",
    next=f"kubectl get statefulset,pvc -n {NAMESPACE} -o custom-columns=KIND:.kind,NAME:.metadata.name,CREATED:.metadata.creationTimestamp",
)
def back_from_the_loss_of_the_volume(cluster: ClusterView) -> Verdict:
    """The volume was lost and replaced, and the memory is complete again, with the note that only the snapshot held."""
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
        expect(
            has_note,
            truthy=True,
            that="your note is back",
            observed="the note is there" if has_note else "no note in the collection",
            evidence=note,
        ),
        expect(
            count,
            equals=len(memory.corpus()),
            that=f"all {len(memory.corpus())} passages are back",
            observed=f"{count} passages on a volume {age_s:.0f} s younger than the StatefulSet",
            evidence=claims[0],
        ),
    )


# e. Metrics


@lab.check(
    "memory.metrics",
    task="metrics",
    points=3,
    needs=["memory.schema"],
    why="A collection that shrinks, or is empty, shows in collection_points long before anybody reads an answer.",
    hint="A ServiceMonitor selects Services by label and a port by name; without its operator there is no such kind.",
    next=f"kubectl get --raw /api/v1/namespaces/{NAMESPACE}/services/http:{SERVICE}:{PORT}/proxy/metrics",
)
def prometheus_would_see_it(cluster: ClusterView) -> Verdict:
    """Metrics report the collection's points, and the Services carry what a ServiceMonitor selects."""
    answer = _ask(cluster, "/metrics")
    state, _ = _collection(cluster)
    if not answer.is_ok:
        return expect(False, truthy=True, that="/metrics answers", observed=answer.words(), evidence=answer)
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
            equals=float(state.points) if state else None,
            that=f"{series} {state.points if state else '?'}",
            observed=f"{series} {reported:g}" if reported is not None else f"no series {series}",
            evidence=answer,
        ),
        expect(
            len(named),
            equals=1,
            that="one Service with the labels of the ServiceMonitor and a port named http",
            observed=shown or "no Service with the component cluster-discovery",
            evidence=named[0] if named else answer,
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
        expect(
            bool(selecting),
            truthy=True,
            that="a ServiceMonitor selects the Service",
            observed=f"ServiceMonitors: {names}, selecting it: {len(selecting)}",
            evidence=selecting[0] if selecting else None,
        )
    ]
