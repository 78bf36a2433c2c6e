"""The vector memory of the stack: Qdrant, its corpus, and what can be asked of it.

    with connect(cluster) as memory:                  # a port-forward for as long as the block lasts
        memory.create_collection()
        memory.ingest(corpus(), Embedder(), on_progress=print)
        memory.search("why is my pod Pending?", layer="substrate")

Everything has a deadline and a typed result; what goes wrong is one of the errors below, by cause.
Official images and the embedded server are asked the same way, through `qdrant-client`.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from helpers.errors import EnvironmentFault, LabError
from helpers.stack.call_limit import CallLimit
from helpers.stack.embeddings import DIMENSIONS, Embedder, Vector

if TYPE_CHECKING:
    import httpx
    from qdrant_client import QdrantClient

    from helpers.cluster import Cluster, ClusterView

T = TypeVar("T")
NAMESPACE = "llm-system"
SERVICE = "qdrant"
HEADLESS = "qdrant-headless"
STATEFUL_SET = "qdrant"
PORT = 6333
COLLECTION = "course_docs"
DISTANCE = "Cosine"
FILTER_FIELD = "layer"
LABELS = "app.kubernetes.io/name=qdrant"
TIMEOUT_S = 10
BATCH = 16
CORPUS_FILE = Path(__file__).with_name("corpus.yaml")
# Ids derived from this namespace are the same on every machine, so ingesting twice changes nothing.
_ID_SPACE = uuid.UUID("6f3c2f0e-6c2b-5d6a-9a55-3f0f3a1b6c55")


class MemoryUnavailable(EnvironmentFault):
    """Qdrant did not answer: no ready pod, a connection cut, or a time-out."""


class MemoryNotReady(LabError):
    """Qdrant answers but is still loading: its readiness probe says so."""


class MemoryRefused(LabError):
    """Qdrant refused the request: it would refuse it again, so it is not retried."""

    next_step = f"kubectl logs -n {NAMESPACE} {STATEFUL_SET}-0 --tail=20"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, next_command=self.next_step)
        self.status = status


class MemoryUnauthorized(MemoryRefused):
    """Qdrant asks for an API key, or for another one than it was given."""

    next_step = f"kubectl get statefulset {STATEFUL_SET} -n {NAMESPACE} -o yaml | grep -A4 API_KEY"


class MemoryMalformed(MemoryRefused):
    """What answered is not Qdrant: the port-forward or the Service leads elsewhere."""

    next_step = f"kubectl get endpointslices -n {NAMESPACE} -l kubernetes.io/service-name={SERVICE}"


class MemoryFull(MemoryRefused):
    """Qdrant's volume is full: it takes no more points, and still answers and deletes."""

    next_step = f"kubectl exec -n {NAMESPACE} {STATEFUL_SET}-0 -- df -h /qdrant/storage"


@dataclass(frozen=True)
class Passage:
    """One passage of the corpus: its text and the layer of the stack it is about."""

    key: str
    layer: str
    title: str
    text: str

    @property
    def id(self) -> str:
        return point_id(self.key)

    @property
    def embedded_text(self) -> str:
        """What the vector is made from: the title carries half of the meaning."""
        return f"{self.title}. {self.text}"

    def payload(self) -> dict[str, str]:
        return {
            "key": self.key,
            "kind": "passage",
            "layer": self.layer,
            "title": self.title,
            "text": self.text,
        }


@dataclass(frozen=True)
class Hit:
    """One answer to a query, best first."""

    key: str
    layer: str
    title: str
    text: str
    score: float


@dataclass(frozen=True)
class CollectionState:
    """A collection as the server describes it."""

    name: str
    points: int
    dimensions: int | None
    distance: str | None
    indexes: Mapping[str, str]
    status: str


@dataclass(frozen=True)
class Snapshot:
    """A snapshot as the server lists it; `checksum` is a sha256."""

    name: str
    size: int
    checksum: str | None
    created_at: str


@dataclass(frozen=True)
class Ingested:
    """How far an ingestion has come."""

    done: int
    total: int
    elapsed_s: float


def point_id(key: str) -> str:
    """The id of a passage: derived from its key, so that ingesting again overwrites."""
    return str(uuid.uuid5(_ID_SPACE, key))


@cache
def corpus() -> tuple[Passage, ...]:
    """The course's own small corpus: what an operator of this stack looks up."""
    import yaml

    return tuple(Passage(**entry) for entry in yaml.safe_load(CORPUS_FILE.read_text()))


def as_point(passage: Passage, vector: Vector) -> dict[str, Any]:
    """A passage as the course stores it: its own id, and the fields that queries filter by and show."""
    return {"id": passage.id, "vector": vector, "payload": passage.payload()}


def note_payload(text: str) -> dict[str, str]:
    """The payload of the learner's own note: in no corpus, so only a restore can bring it back."""
    return {"key": "note", "kind": "note", "layer": "memory", "title": "A note of my own", "text": text}


@dataclass(frozen=True)
class Moment:
    """What Kubernetes and a client saw of the pod at one moment of a replacement."""

    at_s: float
    pod: str
    phase: str
    is_ready: bool
    endpoints: int
    readyz: str


def replace_pod(
    cluster: Cluster,
    *,
    timeout_s: float = 120,
    on_moment: Callable[[Moment], None] | None = None,
) -> list[Moment]:
    """Delete the pod of the StatefulSet and watch until its successor is ready: the time line.

    Raises:
        ObjectMissing: there is no such pod.
        WaitTimeout: no successor became ready in time.
    """
    pod = f"{STATEFUL_SET}-0"
    before = cluster.view().pod(pod, NAMESPACE).uid
    started = time.monotonic()
    moments: list[Moment] = []

    def seen(view: ClusterView) -> bool | None:
        moment = _moment(view, pod, before, time.monotonic() - started)
        moments.append(moment)
        if on_moment:
            on_moment(moment)
        return True if moment.pod == "new" and moment.is_ready and moment.endpoints else None

    moments.append(_moment(cluster.view(), pod, before, 0.0))
    cluster.delete("Pod", pod, NAMESPACE)
    cluster.wait_until(f"a successor of pod {pod} ready", seen, timeout_s=timeout_s)
    return moments


def _moment(view: ClusterView, name: str, before: str | None, at_s: float) -> Moment:
    # What follows is read first: a pod that becomes Ready between the reads shows no address before its readiness.
    answer = view.http(NAMESPACE, SERVICE, PORT, "/readyz", timeout_s=2)
    addresses = view.endpoint_slices(SERVICE, NAMESPACE)
    found = view.find("Pod", name, NAMESPACE)
    ready = found.conditions("Ready") if found else None
    which = "none" if found is None else ("old" if found.uid == before else "new")
    phase = (
        "absent"
        if found is None
        else ("Terminating" if found.is_terminating else found.path("status.phase", "?"))
    )
    return Moment(
        at_s=at_s,
        pod=which,
        phase=phase,
        is_ready=bool(ready and ready.is_true),
        endpoints=len(addresses),
        readyz=str(answer.status) if answer.from_service else "no endpoint",
    )


def lose_volume(
    cluster: Cluster, *, timeout_s: float = 120, on_progress: Callable[[str], None] = lambda line: None
) -> str:
    """Delete the claim with all its data, as a careless clean-up would; returns the new claim's uid.

    The pod is scaled away first: a claim in use is only marked for deletion.
    """
    claim = f"qdrant-storage-{STATEFUL_SET}-0"
    cluster.view().pvc(claim, NAMESPACE)
    on_progress("scaling the StatefulSet to 0")
    cluster.scale("StatefulSet", STATEFUL_SET, 0, NAMESPACE)
    try:
        _wait_gone(cluster, f"{STATEFUL_SET}-0", timeout_s)
        on_progress(f"deleting claim {claim}")
        cluster.delete("PersistentVolumeClaim", claim, NAMESPACE, wait_s=timeout_s)
    finally:
        cluster.scale("StatefulSet", STATEFUL_SET, 1, NAMESPACE)
    on_progress("waiting for a new, empty volume")
    cluster.wait_ready("StatefulSet", STATEFUL_SET, NAMESPACE, timeout_s=timeout_s)
    return cluster.view().pvc(claim, NAMESPACE).uid or ""


def _wait_gone(cluster: Cluster, pod: str, timeout_s: float) -> None:
    def gone(view: ClusterView) -> bool:
        return view.find("Pod", pod, NAMESPACE) is None

    cluster.wait_until(f"pod {pod} gone", gone, timeout_s=timeout_s)


@contextmanager
def connect(
    cluster: Cluster, *, api_key: str | None = None, timeout_s: float = TIMEOUT_S
) -> Iterator[Memory]:
    """Qdrant through a port-forward to its Service, from wherever the notebook runs.

    Raises:
        ObjectMissing: no Service, or no ready pod behind it.
        MemoryUnavailable: it does not answer.
    """
    with cluster.port_forward(NAMESPACE, f"service/{SERVICE}", PORT) as forward:
        memory = Memory(forward.url, api_key=api_key, timeout_s=timeout_s)
        try:
            yield memory
        finally:
            memory.close()


class Memory:
    """One Qdrant server and the collection of the course in it."""

    def __init__(
        self,
        url: str,
        *,
        collection: str = COLLECTION,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.url, self.collection = url.rstrip("/"), collection
        self._api_key, self._timeout_s = api_key, timeout_s
        self._opened: QdrantClient | None = None
        self._http: httpx.Client | None = None

    # -- connections --------------------------------------------------------------------------

    @property
    def client(self) -> QdrantClient:
        """qdrant-client on this server, for everything this class has no word for."""
        if self._opened is None:
            from qdrant_client import QdrantClient

            self._opened = QdrantClient(
                url=self.url,
                api_key=self._api_key,
                timeout=int(self._timeout_s),
                check_compatibility=False,
                trust_env=False,
            )
        return self._opened

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        for opened in (self._opened, self._http):
            if opened is not None:
                opened.close()
        self._opened = self._http = None

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        import httpx

        if self._http is None:
            headers = {"api-key": self._api_key} if self._api_key else {}
            # Proxies of the environment are for the outside, not for a port-forward. A connection for
            # each request, which its limit can end.
            limits = httpx.Limits(max_keepalive_connections=0)
            self._http = httpx.Client(base_url=self.url, headers=headers, limits=limits, trust_env=False)
        with CallLimit(options.setdefault("timeout", self._timeout_s)) as limit:
            try:
                answer = self._http.request(method, path, extensions={"trace": limit.watch}, **options)
            except httpx.HTTPError as error:
                if limit.is_over or isinstance(error, httpx.TimeoutException):
                    raise _too_late(method, path, limit) from error
                raise _unavailable(f"the connection to Qdrant broke at {method} {path}: {error}") from error
            if limit.is_over:
                raise _too_late(method, path, limit)
        return answer

    # -- health -------------------------------------------------------------------------------

    def version(self) -> str:
        """What the root path says: title and version; the embedded server names itself there."""
        answer = self._request("GET", "/")
        return _read(answer, lambda tree: f"{tree['title']} {tree['version']}")

    def probes(self) -> dict[str, int]:
        """The status codes of the three health paths, as the kubelet sees them."""
        return {path: self._request("GET", path).status_code for path in ("/healthz", "/livez", "/readyz")}

    def metrics(self) -> dict[str, float]:
        """`/metrics`, parsed: one value for each series, named as Prometheus writes it."""
        answer = self._request("GET", "/metrics")
        text = _text(answer)
        try:
            return parse_metrics(text)
        except ValueError as error:
            raise _malformed(answer) from error

    # -- the collection -----------------------------------------------------------------------

    def create_collection(self, *, dimensions: int = DIMENSIONS, distance: str = DISTANCE) -> None:
        """Create the collection with its payload index; one that is there already is left alone."""
        from qdrant_client import models

        params = models.VectorParams(size=dimensions, distance=models.Distance(distance))
        with _refusals():
            if not self.client.collection_exists(self.collection):
                self.client.create_collection(self.collection, vectors_config=params)
            self.client.create_payload_index(
                self.collection, FILTER_FIELD, models.PayloadSchemaType.KEYWORD, wait=True
            )

    def recreate_collection(self, *, size: int, distance: str, index: str | None) -> None:
        """Drop the collection with all its points and make it anew; `index` is a keyword index's field.

        Raises:
            MemoryRefused: the server does not take these parameters.
        """
        self._request("DELETE", f"/collections/{self.collection}")
        body = {"vectors": {"size": size, "distance": distance}}
        _result(self._request("PUT", f"/collections/{self.collection}", json=body), bool)
        if index:
            field = {"field_name": index, "field_schema": "keyword"}
            _result(self._request("PUT", f"/collections/{self.collection}/index?wait=true", json=field), bool)

    def state(self, collection: str | None = None) -> CollectionState | None:
        """The collection as it is, or None when there is none."""
        name = collection or self.collection
        answer = self._request("GET", f"/collections/{name}")
        return None if answer.status_code == 404 else _result(answer, partial(state_of, name))

    def delete_collection(self) -> bool:
        """Delete the collection with all its points; False when there was none."""
        return _result(self._request("DELETE", f"/collections/{self.collection}"), bool)

    def ingest(
        self,
        passages: Sequence[Passage],
        embedder: Embedder,
        *,
        to_point: Callable[[Passage, Vector], Mapping[str, Any]] | None = None,
        on_progress: Callable[[Ingested], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> int:
        """Embed and upsert passages in batches; the same passages again change nothing.

        `to_point` makes a point (id, vector, payload) of a passage, if not the usual way.
        Returns how many are in; fewer than given only when `should_stop` said so.
        """
        from qdrant_client import models

        make = to_point or as_point
        started, done = time.monotonic(), 0
        for batch in _batches(passages, BATCH):
            if should_stop and should_stop():
                break
            vectors = embedder.embed([passage.embedded_text for passage in batch])
            pairs = zip(batch, vectors, strict=True)
            points = [models.PointStruct(**make(passage, vector)) for passage, vector in pairs]
            with _refusals():
                self.client.upsert(self.collection, points=points, wait=True)
            done += len(batch)
            if on_progress:
                on_progress(Ingested(done, len(passages), time.monotonic() - started))
        return done

    def write_note(self, text: str, embedder: Embedder) -> str:
        """Keep a note of the learner's own among the passages; returns its id."""
        from qdrant_client import models

        (vector,) = embedder.embed([text])
        identifier = point_id("note")
        point = models.PointStruct(id=identifier, vector=vector, payload=note_payload(text))
        with _refusals():
            self.client.upsert(self.collection, points=[point], wait=True)
        return identifier

    def delete_note(self) -> bool:
        """Take the note away again; False when there was none."""
        path = f"/collections/{self.collection}/points"
        found = self._request("POST", path, json={"ids": [point_id("note")]})
        if found.status_code == 404 or not _result(found, list):
            return False
        _result(self._request("POST", f"{path}/delete?wait=true", json={"points": [point_id("note")]}), dict)
        return True

    def search(
        self, question: str, embedder: Embedder, *, layer: str | None = None, limit: int = 3
    ) -> list[Hit]:
        """The passages nearest to a question, of one layer only if one is given."""
        (vector,) = embedder.embed([question])
        return self.search_vector(vector, layer=layer, limit=limit)

    def search_vector(self, vector: Vector, *, layer: str | None = None, limit: int = 3) -> list[Hit]:
        """The same for a vector that is there already."""
        answer = self._request(
            "POST", f"/collections/{self.collection}/points/query", json=query_body(vector, layer, limit)
        )
        return _result(answer, hits_of)

    # -- snapshots ----------------------------------------------------------------------------

    def take_snapshot(self) -> Snapshot:
        """Snapshot the collection on the server."""
        answer = self._request("POST", f"/collections/{self.collection}/snapshots", timeout=120)
        return _result(answer, _snapshot)

    def snapshots(self) -> list[Snapshot]:
        """The snapshots that lie on the server."""
        answer = self._request("GET", f"/collections/{self.collection}/snapshots")
        return _result(answer, lambda entries: [_snapshot(entry) for entry in entries])

    def download(self, snapshot: Snapshot, folder: Path) -> Path:
        """Copy a snapshot off the cluster and compare its checksum.

        Raises:
            MemoryRefused: what arrived is not what the server has.
        """
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / snapshot.name
        partial = target.with_suffix(".partial")
        partial.write_bytes(
            _content(
                self._request("GET", f"/collections/{self.collection}/snapshots/{snapshot.name}", timeout=300)
            )
        )
        if snapshot.checksum and _sha256(partial) != snapshot.checksum:
            partial.unlink()
            raise MemoryRefused(f"the copy of {snapshot.name} does not match its checksum", 422)
        partial.replace(target)
        return target

    def restore(self, archive: Path) -> None:
        """Put the collection back from a snapshot on this machine; what is there now is replaced."""
        with archive.open("rb") as file:
            answer = self._request(
                "POST",
                f"/collections/{self.collection}/snapshots/upload",
                params={"priority": "snapshot", "checksum": _sha256(archive)},
                files={"snapshot": (archive.name, file)},
                timeout=300,
            )
        _result(answer, bool)


# -- health is not correctness ----------------------------------------------------------------------

SCRATCH = "scratch"
WRONG_SIZE = 256


@dataclass(frozen=True)
class Symptom:
    """One broken memory: what is wrong with it, what the probes say, what a query meets."""

    broken: str
    probes: Mapping[str, int]
    query: str


def broken_memories(memory: Memory, embedder: Embedder) -> list[Symptom]:
    """Break a scratch collection in three ways, and look at the probes and at a filtered query each time.

    The scratch collection is removed again; the course's own is not touched.
    """
    scratch = Memory(memory.url, collection=SCRATCH, api_key=memory._api_key, timeout_s=memory._timeout_s)
    vectors = embedder.embed([passage.embedded_text for passage in corpus()[:8]])
    points = [as_point(*pair) for pair in zip(corpus(), vectors, strict=False)]
    without = [{**p, "payload": {"text": p["payload"]["text"]}} for p in points]
    cut = [{**p, "vector": p["vector"][:WRONG_SIZE]} for p in points]
    cases = [
        ("an empty collection", DIMENSIONS, []),
        (f"made for {WRONG_SIZE} dimensions", WRONG_SIZE, cut),
        (f"points without the field `{FILTER_FIELD}`", DIMENSIONS, without),
    ]
    try:
        return [_break(scratch, vectors[0], *case) for case in cases]
    finally:
        scratch.delete_collection()
        scratch.close()


def _break(scratch: Memory, vector: Vector, what: str, size: int, points: list[dict[str, Any]]) -> Symptom:
    scratch.recreate_collection(size=size, distance=DISTANCE, index=FILTER_FIELD)
    if points:
        stored = scratch._request("PUT", f"/collections/{SCRATCH}/points?wait=true", json={"points": points})
        _result(stored, bool)
    try:
        seen = f"200, {len(scratch.search_vector(vector, layer='substrate'))} hits"
    except MemoryRefused as refusal:
        seen = str(refusal)
    return Symptom(what, scratch.probes(), seen)


# -- the wire, shared with the checks ---------------------------------------------------------------


def query_body(vector: Vector, layer: str | None, limit: int) -> dict[str, Any]:
    """The body of a (filtered) nearest-neighbour query."""
    body: dict[str, Any] = {"query": vector, "limit": limit, "with_payload": True}
    if layer:
        body["filter"] = {"must": [{"key": FILTER_FIELD, "match": {"value": layer}}]}
    return body


def hits_of(result: Mapping[str, Any]) -> list[Hit]:
    """A query's result as hits; fields that a payload lacks are empty."""
    found = []
    for point in result.get("points") or []:
        payload = point.get("payload") or {}
        texts = {name: str(payload.get(name, "")) for name in ("key", "layer", "title", "text")}
        found.append(Hit(**texts, score=float(point["score"])))
    return found


def state_of(name: str, result: Mapping[str, Any]) -> CollectionState:
    """`GET /collections/{name}` as a state; named vectors have no single dimension."""
    vectors = result["config"]["params"].get("vectors") or {}
    indexes = {key: value["data_type"] for key, value in (result.get("payload_schema") or {}).items()}
    return CollectionState(
        name=name,
        points=result.get("points_count") or 0,
        dimensions=vectors.get("size"),
        distance=vectors.get("distance"),
        indexes=indexes,
        status=result.get("status", ""),
    )


def parse_metrics(text: str) -> dict[str, float]:
    """A Prometheus exposition as a dictionary: `name{label="value"}` to value."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def writes_received(metrics: Mapping[str, float]) -> float:
    """How many requests brought points to this process: upserts, batches and restores, of any collection."""
    bringing = ('/points"', '/points/batch"', '/snapshots/recover"', '/snapshots/upload"')
    return sum(
        value
        for series, value in metrics.items()
        if series.startswith("rest_responses_total{")
        and 'status="200"' in series
        and any(path in series for path in bringing)
        and not ('/points"' in series and 'method="PUT"' not in series)
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """Map qdrant-client's errors to ours, by cause."""
    from pydantic import ValidationError
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    try:
        yield
    except UnexpectedResponse as error:
        content = (error.content or b"").decode(errors="replace")
        raise _refused(error.status_code or 0, content) from error
    except ResourceExhaustedResponse as error:
        raise MemoryRefused(f"Qdrant answered 429: {error}", 429) from error
    except ResponseHandlingException as error:
        if isinstance(error.source, ValidationError):
            raise MemoryMalformed("what answered is not Qdrant: its answer has another form", 200) from error
        raise _unavailable(f"the connection to Qdrant broke: {error}") from error
    except (ValueError, AssertionError) as error:
        # The client decodes JSON, and asserts that there is a result, without a word of its own.
        raise MemoryMalformed(f"what answered is not Qdrant: {error}", 200) from error


def _refused(status: int, content: str) -> LabError:
    import json

    try:
        message = json.loads(content)["status"]["error"]
    except (ValueError, KeyError, TypeError):
        message = content.strip()[:300]
    if status == 502:
        # A port-forward with no way through answers this itself, with the reason.
        return _unavailable(message)
    if status == 503:
        return MemoryNotReady(message, next_command=f"kubectl get pods -n {NAMESPACE} -l {LABELS} -w")
    refusal = MemoryRefused
    if status in (401, 403):
        refusal = MemoryUnauthorized
    elif "No space left on device" in message:
        refusal = MemoryFull
    return refusal(f"Qdrant answered {status}: {message}", status)


def _unavailable(message: str) -> MemoryUnavailable:
    return MemoryUnavailable(message, next_command=f"kubectl get pods -n {NAMESPACE} -l {LABELS}")


def _too_late(method: str, path: str, limit: CallLimit) -> MemoryUnavailable:
    return _unavailable(f"Qdrant did not answer {method} {path} within {limit.limit_s:g} s")


def _malformed(answer: httpx.Response) -> MemoryMalformed:
    return MemoryMalformed(f"what answered is not Qdrant: {answer.text[:120]!r}", answer.status_code)


def _read(answer: httpx.Response, read: Callable[[Any], T]) -> T:
    """What `read` makes of an answer's JSON, which may be of anything but Qdrant."""
    if not answer.is_success:
        _raise(answer)
    try:
        return read(answer.json())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _malformed(answer) from error


def _result(answer: httpx.Response, read: Callable[[Any], T]) -> T:
    return _read(answer, lambda tree: read(tree["result"]))


def _text(answer: httpx.Response) -> str:
    return answer.text if answer.is_success else _raise(answer)


def _content(answer: httpx.Response) -> bytes:
    return answer.content if answer.is_success else _raise(answer)


def _raise(answer: httpx.Response) -> Any:
    raise _refused(answer.status_code, answer.text)


def _snapshot(entry: Mapping[str, Any]) -> Snapshot:
    return Snapshot(entry["name"], entry["size"], entry.get("checksum"), entry.get("creation_time") or "")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _batches(items: Sequence[Passage], size: int) -> Iterable[Sequence[Passage]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
