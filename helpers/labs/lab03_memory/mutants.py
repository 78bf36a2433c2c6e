"""The wrong memories that lab 03's checks must notice, on a fake cluster with the real server in it.

The Kubernetes objects are put in as their controllers would; behind the Service answers the embedded
Qdrant server itself, in this process, so that what a collection holds is the engine's own word.
"""

from __future__ import annotations

import base64
import gzip
import json
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from helpers.grading.author import Mutant, Proofs
from helpers.grading.changes import (
    Change,
    Edit,
    Manifest,
    applied,
    at,
    edited,
    endpoints,
    manifest,
    one,
    rolled_out,
    served,
    solved,
    steps,
    without,
)
from helpers.grading.declare import quiet
from helpers.grading.verdict import Status
from helpers.labs.backends import qdrant_objects
from helpers.labs.lab03_memory.checks import STORAGE_PATH, STORAGE_VARIABLE, start
from helpers.settings import REPOSITORY
from helpers.stack import helm, memory
from helpers.stack.embeddings import DIMENSIONS, Embedder, Vector
from helpers.stack.memory import COLLECTION, FILTER_FIELD, HEADLESS, NAMESPACE, PORT, SERVICE, STATEFUL_SET

if TYPE_CHECKING:
    from helpers.cluster.fake import FakeCluster

SERVER = REPOSITORY / "helpers" / "embedded" / "images" / "qdrant"
POD, CLAIM = f"{STATEFUL_SET}-0", f"qdrant-storage-{STATEFUL_SET}-0"
ONE = f"/collections/{COLLECTION}"


# The server behind the Service


class Server:
    """The embedded Qdrant server on a folder of its own, asked without a network."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="qdrant-")
        self._answers: dict[str, tuple[int, str]] | None = None
        self._open()

    def freeze(self) -> None:
        """Nothing will be written any more: the same question has the same answer."""
        self._answers = {}

    def __call__(self, method: str, path: str, body: Any) -> tuple[int, str]:
        if self._answers is None:
            return self._ask(method, path, body)
        question = f"{method} {path} {json.dumps(body)}"
        if question not in self._answers:
            self._answers[question] = self._ask(method, path, body)
        return self._answers[question]

    def _ask(self, method: str, path: str, body: Any) -> tuple[int, str]:
        target = path if path.startswith("/") else f"/{path}"
        answer = self._client.request(method, target, json=body)
        return answer.status_code, answer.text

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """A request that must succeed."""
        status, text = self(method, path, body)
        assert status == 200, f"{method} {path}: {status} {text}"
        return yaml.safe_load(text)["result"]

    def upload(self, snapshot: str) -> None:
        """Bring one of its own snapshots back, as it comes from the outside."""
        (archive,) = Path(self._folder.name).rglob(snapshot)
        answer = self._client.post(f"{ONE}/snapshots/upload", files={"snapshot": archive.read_bytes()})
        assert answer.status_code == 200, answer.text

    def restart(self) -> None:
        """Another process on the same volume: its data is there, its counters are at zero."""
        self._app.state.server.storage.close()
        self._open()

    def _open(self) -> None:
        if str(SERVER) not in sys.path:
            sys.path.insert(0, str(SERVER))
        from starlette.testclient import TestClient

        create_app = import_module("qdrant_server.app").create_app
        settings = import_module("qdrant_server.settings").Settings
        folder = Path(self._folder.name)
        self._app = create_app(settings(folder / "storage", folder / "snapshots"))
        self._app.state.server.storage.load()
        self._client = TestClient(self._app)


@cache
def vectors() -> tuple[Vector, ...]:
    """The corpus's vectors, made once a process."""
    return tuple(Embedder().embed([passage.embedded_text for passage in memory.corpus()]))


def corpus_points() -> list[dict[str, Any]]:
    return [memory.as_point(*pair) for pair in zip(memory.corpus(), vectors(), strict=True)]


def fill(server: Server, points: Iterable[dict[str, Any]], **params: Any) -> None:
    """A collection with a keyword index and these points."""
    server.send("PUT", ONE, {"vectors": {"size": DIMENSIONS, "distance": "Cosine", **params}})
    server.send("PUT", f"{ONE}/index", {"field_name": FILTER_FIELD, "field_schema": "keyword"})
    listed = list(points)
    if listed:
        server.send("PUT", f"{ONE}/points", {"points": listed})


def note() -> dict[str, Any]:
    """The learner's note, as `Memory.write_note` stores it."""
    text = "the note that only the snapshot holds"
    return {"id": memory.point_id("note"), "vector": vectors()[0], "payload": memory.note_payload(text)}


# The Kubernetes side


def settled(*objects: Manifest, **state: Any) -> Change:
    """An installation, wherever it comes from, after its volume was lost and replaced."""
    return rolled_out(*objects, made=0, claimed=120, created=300, **state)


def reinstalled(edit: Edit = lambda workload: None) -> Change:
    """The solution's objects, the StatefulSet edited first, and the pod that follows from it."""

    def change(cluster: Any) -> None:
        objects = qdrant_objects()
        edit(next(item for item in objects if item["kind"] == "StatefulSet"))
        settled(*objects)(cluster)

    return change


def released(*history: tuple[str, str], edit: Edit = lambda workload: None, **state: Any) -> Change:
    """The same installation by Helm, with its record of every revision: status and last word, the oldest first."""

    def change(cluster: Any) -> None:
        objects = qdrant_objects()
        edit(next(item for item in objects if item["kind"] == "StatefulSet"))
        for item in objects:
            item["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
        settled(*objects, **state)(cluster)
        cluster.put([_record(number, *words) for number, words in enumerate(history, start=1)])

    return change


def _record(number: int, status: str, said: str) -> Manifest:
    """What Helm keeps of a revision, packed as Helm packs it."""
    packed = base64.b64encode(gzip.compress(json.dumps({"info": {"description": said}}).encode()))
    labels = {"owner": "helm", "name": helm.RELEASE, "status": status, "version": str(number)}
    name = f"sh.helm.release.v1.{helm.RELEASE}.v{number}"
    return manifest(
        "Secret", name, NAMESPACE, labels=labels, data={"release": base64.b64encode(packed).decode()}
    )


def solution(cluster: Any) -> None:
    """Installed, filled, restarted, lost and restored: the end of the lab."""
    reinstalled()(cluster)
    served(SERVICE, PORT, _solved_server())(cluster)


@cache
def _solved_server() -> Server:
    """One for all states that only read from it; who writes takes a server of its own."""
    server = _filled([*corpus_points(), note()])
    server.freeze()
    return server


def _filled(points: list[dict[str, Any]], **params: Any) -> Server:
    server = Server()
    fill(server, points, **params)
    server.restart()
    return server


def own_server(cluster: FakeCluster) -> Server:
    """A server with the solution's content that this state alone may change."""
    server = _filled([*corpus_points(), note()])
    served(SERVICE, PORT, server)(cluster)
    return server


def refill(*, points: Callable[[], list[dict[str, Any]]], with_note: bool = True, **params: Any) -> Change:
    """Another content behind the same Service, after a restart."""

    def change(cluster: Any) -> None:
        server = _filled([*points(), *([note()] if with_note else [])], **params)
        served(SERVICE, PORT, server)(cluster)

    return change


def sent(*requests: tuple[str, str, Any]) -> Change:
    """Requests to the server, as a learner's script would send them; a body may be made when it is needed."""

    def apply(cluster: Any) -> None:
        server = own_server(cluster)
        for method, path, body in requests:
            server.send(method, path, body() if callable(body) else body)

    return apply


# Edits


def _container(workload: Manifest) -> Manifest:
    container: Manifest = workload["spec"]["template"]["spec"]["containers"][0]
    return container


def _probe(name: str, path: str | None) -> Edit:
    def edit(workload: Manifest) -> None:
        if path is None:
            del _container(workload)[name]
        else:
            _container(workload)[name]["httpGet"]["path"] = path

    return edit


def _mounted_elsewhere(workload: Manifest) -> None:
    for mount in _container(workload)["volumeMounts"]:
        if mount["mountPath"] == STORAGE_PATH:
            mount["mountPath"] = "/data"


def _writes_to(path: str) -> Edit:
    """Another storage path than the claim's, by Qdrant's own variable."""

    def edit(workload: Manifest) -> None:
        variables = _container(workload).setdefault("env", [])
        variables[:] = [item for item in variables if item["name"] != STORAGE_VARIABLE]
        variables.append({"name": STORAGE_VARIABLE, "value": path})

    return edit


def _volume(**source: Any) -> Edit:
    """The storage on another volume than one of the StatefulSet's own claims."""

    def edit(workload: Manifest) -> None:
        workload["spec"]["volumeClaimTemplates"] = []
        workload["spec"]["template"]["spec"]["volumes"].append({"name": "qdrant-storage", **source})

    return edit


def _no_resources(workload: Manifest) -> None:
    _container(workload)["resources"] = {}


def _probes_of_the_chart(workload: Manifest) -> None:
    """The chart's own defaults: readiness alone."""
    for name in ("startupProbe", "livenessProbe"):
        del _container(workload)[name]


def _not_ready(pod: Manifest, reason: str = "") -> None:
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    if reason:
        pod["status"]["phase"] = "Pending"
        pod["status"]["containerStatuses"][0] |= {"ready": False, "state": {"waiting": {"reason": reason}}}


def _owned_by_replica_set(pod: Manifest) -> None:
    pod["metadata"]["ownerReferences"] = [
        {"kind": "ReplicaSet", "name": "qdrant-7d4", "apiVersion": "apps/v1"}
    ]


def _no_endpoints(cluster: Any) -> None:
    endpoints(SERVICE)(cluster)
    cluster.backend.http_handlers.clear()


def _blind_monitor(cluster: Any) -> None:
    cluster.serve_kind("ServiceMonitor", "monitoring.coreos.com", "v1", "servicemonitors")
    monitor = one(solved("03", "monitor_yaml"), "ServiceMonitor")
    monitor["spec"]["selector"]["matchLabels"] = {"app": "vllm"}
    cluster.put(monitor)


def _guarded(cluster: Any) -> None:
    """As Qdrant guards itself: everything but its root and its health needs the key."""
    server = own_server(cluster)

    def answer(method: str, path: str, body: Any) -> tuple[int, str]:
        if path.strip("/") in ("", "healthz", "livez", "readyz"):
            return server(method, path, body)
        return 401, "Must provide an API key or an Authorization bearer token"

    served(SERVICE, PORT, answer)(cluster)


def _another_collections_snapshot(cluster: Any) -> None:
    """Its vectors have the right size and distance, so Qdrant puts it in place without a word."""
    server, other = own_server(cluster), "/collections/tickets"
    server.send("PUT", other, {"vectors": {"size": DIMENSIONS, "distance": "Cosine"}})
    tickets = [
        {"id": n, "vector": vector, "payload": {"ticket": n}} for n, vector in enumerate(vectors()[:7])
    ]
    server.send("PUT", f"{other}/points", {"points": tickets})
    server.upload(server.send("POST", f"{other}/snapshots")["name"])
    server.restart()


def _just_restored(cluster: Any) -> None:
    server = own_server(cluster)
    taken = server.send("POST", f"{ONE}/snapshots")
    server.upload(taken["name"])


# Contents


def _half() -> list[dict[str, Any]]:
    return corpus_points()[: len(memory.corpus()) // 2]


def _twice() -> list[dict[str, Any]]:
    again = [{**point, "id": str(uuid.uuid5(uuid.NAMESPACE_OID, point["id"]))} for point in corpus_points()]
    return [*corpus_points(), *again]


def _without_layer() -> list[dict[str, Any]]:
    points = corpus_points()
    return [{**p, "payload": {k: v for k, v in p["payload"].items() if k != FILTER_FIELD}} for p in points]


def _one_layer() -> list[dict[str, Any]]:
    return [{**point, "payload": {**point["payload"], FILTER_FIELD: "docs"}} for point in corpus_points()]


def _shuffled() -> list[dict[str, Any]]:
    """Vectors of the right size on the wrong passages: what another model, or an off-by-one, makes."""
    turned = [*vectors()[7:], *vectors()[:7]]
    return [{**point, "vector": vector} for point, vector in zip(corpus_points(), turned, strict=True)]


def _constant() -> list[dict[str, Any]]:
    return [{**point, "vector": [1.0] * DIMENSIONS} for point in corpus_points()]


def _reversed_dimensions() -> list[dict[str, Any]]:
    return [{**point, "vector": point["vector"][::-1]} for point in corpus_points()]


def _sized(size: int) -> Change:
    """A collection for another model: the passages' vectors are cut or padded to fit."""

    def points() -> list[dict[str, Any]]:
        return [{**p, "vector": (p["vector"] + [0.0] * size)[:size]} for p in corpus_points()]

    return refill(points=points, with_note=False, size=size)


# Helm's own words, as a cluster's release kept them.
TIMED_OUT = (
    'Upgrade "qdrant" failed: resource StatefulSet/llm-system/qdrant not ready. status: InProgress, message: '
    "Replicas: 0/1\ncontext deadline exceeded"
)
FORBIDDEN = (
    'Upgrade "qdrant" failed: server-side apply failed for object llm-system/qdrant apps/v1, Kind=StatefulSet: '
    'StatefulSet.apps "qdrant" is invalid: spec: Forbidden: updates to statefulset spec for fields other than '
    "'replicas', 'template' are forbidden"
)

PROOFS = Proofs(
    start=lambda cluster: start(cluster, quiet),
    solution=solution,
    mutants=[
        # install
        Mutant(
            "a Deployment instead of a StatefulSet",
            steps(edited("Pod", POD, _owned_by_replica_set), without("StatefulSet", STATEFUL_SET)),
            {"memory.ready": "ReplicaSet"},
        ),
        Mutant("running, never ready", edited("Pod", POD, _not_ready), {"memory.ready": "not ready"}),
        Mutant(
            "the image is missing",
            edited("Pod", POD, lambda raw: _not_ready(raw, "ErrImagePull")),
            {"memory.ready": "ErrImagePull"},
        ),
        Mutant("scaled to zero", without("Pod", POD), {"memory.ready": "0 pods"}),
        Mutant(
            "something else answers",
            served(SERVICE, PORT, lambda *asked: (200, "<h1>Welcome to nginx!</h1>")),
            {"memory.ready": "nginx"},
        ),
        Mutant("no claim: emptyDir", reinstalled(_volume(emptyDir={})), {"memory.storage": "emptyDir"}),
        Mutant(
            "mounted where Qdrant does not write",
            reinstalled(_mounted_elsewhere),
            {"memory.storage": "/data"},
        ),
        Mutant(
            "Qdrant told to write beside its claim",
            reinstalled(_writes_to("/qdrant/snapshots/q")),
            {"memory.storage": "a volume of kind emptyDir"},
        ),
        Mutant(
            "Qdrant told to write where nothing is mounted",
            reinstalled(_writes_to("/var/lib/qdrant")),
            {"memory.storage": "nothing is mounted there"},
        ),
        Mutant(
            "one claim for all replicas",
            reinstalled(_volume(persistentVolumeClaim={"claimName": CLAIM})),
            {"memory.storage": "not from"},
        ),
        Mutant(
            "the claim is lost",
            edited("PersistentVolumeClaim", CLAIM, lambda raw: raw.update(status={"phase": "Lost"})),
            {"memory.storage": "Lost"},
        ),
        Mutant("no headless Service", without("Service", HEADLESS), {"memory.identity": "no such Service"}),
        Mutant(
            "the governing Service is not headless",
            edited("Service", HEADLESS, lambda raw: raw["spec"].update(clusterIP="10.96.0.77")),
            {"memory.identity": "not headless"},
        ),
        Mutant("the headless Service selects nothing", endpoints(HEADLESS), {"memory.identity": "no pod"}),
        Mutant(
            "the Service selects nothing",
            _no_endpoints,
            {"memory.ready": "not Qdrant but the API server answered"},
        ),
        Mutant(
            "readiness asks /healthz",
            reinstalled(_probe("readinessProbe", "/healthz")),
            {"memory.probes": "/healthz"},
        ),
        Mutant(
            "no readiness probe", reinstalled(_probe("readinessProbe", None)), {"memory.probes": "nothing"}
        ),
        Mutant(
            "liveness kills while loading",
            reinstalled(_probe("livenessProbe", "/readyz")),
            {"memory.probes": "liveness asks /readyz"},
        ),
        # install, by Helm
        Mutant(
            "by Helm: no resources, and a quota",
            steps(
                applied(*solved("01", "quota_yaml")),
                released(("failed", TIMED_OUT), edit=_no_resources),
                without("Pod", POD),
            ),
            {"memory.ready": "0 pods: failed quota: llm-system-quota: must specify"},
            in_class={"memory.ready": "0 pods"},
        ),
        Mutant(
            "by Helm: probes as the chart has them",
            released(("deployed", "Install complete"), edit=_probes_of_the_chart),
            {"memory.probes": "liveness asks nothing"},
        ),
        Mutant(
            "by Helm: an upgrade that the API server refused",
            released(("deployed", "Install complete"), ("failed", FORBIDDEN)),
            {
                "memory.ready": 'revision 2 of release qdrant is failed: Upgrade "qdrant" failed: server-side apply'
            },
        ),
        Mutant(
            "by Helm: an upgrade to an image that is not there",
            released(
                ("deployed", "Install complete"), ("failed", TIMED_OUT), ready=False, reason="ErrImagePull"
            ),
            {"memory.ready": "ErrImagePull"},
        ),
        Mutant(
            "by Helm: interrupted in an upgrade",
            released(("deployed", "Install complete"), ("pending-upgrade", "Preparing upgrade")),
            {"memory.ready": "revision 2 of release qdrant is pending-upgrade"},
        ),
        Mutant(
            "by Helm: rolled back too far, to a revision without probes",
            released(
                ("superseded", "Install complete"),
                ("superseded", "Upgrade complete"),
                ("deployed", "Rollback to 1"),
                edit=_probes_of_the_chart,
            ),
            {"memory.probes": "liveness asks nothing"},
        ),
        # collection
        Mutant("made for a model of 768 dimensions", _sized(768), {"memory.schema": "768"}),
        Mutant("made for a model of 256 dimensions", _sized(256), {"memory.schema": "256"}),
        Mutant(
            "Euclidean distance", refill(points=corpus_points, distance="Euclid"), {"memory.schema": "Euclid"}
        ),
        Mutant(
            "an empty collection",
            refill(points=list, with_note=False),
            {"memory.corpus": "0 points", "memory.index": "0 hits", "memory.restore": "no note"},
        ),
        Mutant(
            "half of the corpus",
            refill(points=_half),
            {
                "memory.corpus": f"{len(memory.corpus()) // 2 + 1} points",
                "memory.restore": "25 passages",
                "memory.golden": "of 6 found",
            },
        ),
        Mutant(
            "ingested twice with random ids",
            refill(points=_twice),
            {"memory.corpus": "103 points", "memory.restore": "102 passages"},
        ),
        Mutant(
            "the field layer is missing",
            refill(points=_without_layer),
            {"memory.corpus": "0 with the right layer", "memory.index": "1 hits"},
        ),
        Mutant(
            "every passage in one layer",
            refill(points=_one_layer),
            {"memory.corpus": "0 with the right layer", "memory.index": "1 hits"},
        ),
        Mutant(
            "no payload index",
            sent(("DELETE", f"{ONE}/index/{FILTER_FIELD}", None)),
            {"memory.index": "indexes: none"},
        ),
        Mutant(
            "a text index where words must match exactly",
            sent(
                ("DELETE", f"{ONE}/index/{FILTER_FIELD}", None),
                ("PUT", f"{ONE}/index", {"field_name": FILTER_FIELD, "field_schema": "text"}),
            ),
            {"memory.index": "layer (text)"},
        ),
        Mutant("vectors of other passages", refill(points=_shuffled), {"memory.golden": "0 of 6"}),
        Mutant("the same vector everywhere", refill(points=_constant), {"memory.golden": "of 6 found"}),
        Mutant(
            "vectors of another model", refill(points=_reversed_dimensions), {"memory.golden": "of 6 found"}
        ),
        Mutant(
            "guarded by a key that the grader does not have",
            _guarded,
            {"memory.schema": "asks for an API key"},
            status=Status.ENV_ERROR,
        ),
        # restart
        Mutant(
            "written to again after the restart",
            sent(("PUT", f"{ONE}/points", lambda: {"points": corpus_points()})),
            {"memory.restart": "1 writes"},
        ),
        Mutant(
            "filled again after each restart, in batches",
            sent(
                (
                    "POST",
                    f"{ONE}/points/batch",
                    lambda: {"operations": [{"upsert": {"points": corpus_points()}}]},
                )
            ),
            {"memory.restart": "1 writes"},
        ),
        Mutant(
            "filled again one by one",
            sent(*[("PUT", f"{ONE}/points", lambda n=n: {"points": [corpus_points()[n]]}) for n in range(3)]),
            {"memory.restart": "3 writes"},
        ),
        Mutant("restored, and not restarted since", _just_restored, {"memory.restart": "1 writes"}),
        # restore
        Mutant(
            "ingested anew instead of restored",
            refill(points=corpus_points, with_note=False),
            {"memory.restore": "no note"},
        ),
        Mutant(
            "the snapshot of another collection",
            _another_collections_snapshot,
            {
                "memory.corpus": "7 points, 0 of them the corpus's",
                "memory.index": "indexes: none",
                "memory.golden": "0 of 6 found",
                "memory.restore": "no note in the collection",
            },
        ),
        Mutant(
            "the volume was never lost",
            edited(
                "PersistentVolumeClaim", CLAIM, lambda raw: raw["metadata"].update(creationTimestamp=at(1))
            ),
            {"memory.restore": "first volume is still in use"},
            status=Status.NOT_ATTEMPTED,
        ),
        # metrics
        Mutant(
            "the headless Service lost the chart's component label",
            edited(
                "Service", HEADLESS, lambda raw: raw["metadata"]["labels"].pop("app.kubernetes.io/component")
            ),
            {"memory.metrics": "no Service with the component"},
        ),
        Mutant(
            "the port has another name",
            edited("Service", HEADLESS, lambda raw: raw["spec"]["ports"][0].update(name="web")),
            {"memory.metrics": "web"},
        ),
        Mutant(
            "a ServiceMonitor that selects nothing", _blind_monitor, {"memory.metrics": "selecting it: 0"}
        ),
        Mutant(
            "both Services are scraped",
            edited(
                "Service",
                SERVICE,
                lambda raw: raw["metadata"]["labels"].update(
                    {"app.kubernetes.io/component": "cluster-discovery"}
                ),
            ),
            {"memory.metrics": "qdrant: http"},
        ),
    ],
)
