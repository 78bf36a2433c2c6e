"""The witnesses of the controller: InferenceServices are made, their children deleted and edited, and watched.

What serves in them is a small stand-in (agnhost), so that a witness takes seconds and no memory; the learner's own
InferenceService, with vLLM in it, is left alone. All names are new each time. A record is bound to the functions in
the ConfigMap and to the controller's pods.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.apps.isvc.decisions import GROUP
from helpers.cluster.manifests import load, load_one
from helpers.errors import EnvironmentFault, LabError, ObjectMissing, StepMissing
from helpers.kubeyaml import filled
from helpers.labs import witnessing
from helpers.labs.witnessing import Book, Witness
from helpers.settings import REPOSITORY
from helpers.stack import isvc, models
from helpers.stack.orchestrator import short_hash

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.resource import Pod, Resource
    from helpers.labs.witnessing import Record
    from helpers.progress import Progress

FOLDER = REPOSITORY / "manifests" / "labs" / "09"
MANIFEST, OBJECTS = FOLDER / "witness-controller.yaml", FOLDER / "witness-objects.yaml"
PROGRAM = Path(__file__).with_name("witness_controller_program.py")
NAMESPACE = isvc.NAMESPACE
LABEL = isvc.WITNESS_LABEL
POLL_S = 0.4
# The controller looks at the latest every ten seconds: several times that is long enough for anybody.
SOON_S, GONE_S, READY_S = 45.0, 60.0, 120.0
SETTLED_S, CALM_S, BROKEN_S, SETTLES_S = 13.0, 12.0, 8.0, 2.0
SLOW_S = 4
PORT = 8099
NOBODY = "nobody"
# What the Deployment controller writes onto it by itself.
ROLLED = "deployment.kubernetes.io/revision"
Manifest = dict[str, Any]

WITNESSES: dict[str, Witness] = {
    item.name: item
    for item in (
        Witness("children", "what is made of a model in an image and of one on a claim", NAMESPACE, 25),
        Witness(
            "conditions",
            "what the status says while nothing serves yet, and when a change fails",
            NAMESPACE,
            50,
        ),
        Witness("refusals", "what cannot be served, and a name that is taken", NAMESPACE, 45),
        Witness(
            "repair",
            "children deleted and edited, also while the controller is away",
            NAMESPACE,
            70,
            alone=True,
        ),
        Witness(
            "endings", "another name, and an end while the controller is away", NAMESPACE, 40, alone=True
        ),
    )
}


def make(view: ClusterView, name: str) -> Manifest:
    """The Job of this witness as it would be started now.

    Raises:
        ObjectMissing: there is no controller of the course's.
    """
    template = view.get("Deployment", isvc.CONTROLLER, NAMESPACE).path("spec.template")
    pod, annotations = template["spec"], (template.get("metadata") or {}).get("annotations") or {}
    image = view.profile.images.get(isvc.CONTROLLER) or str(pod["containers"][0].get("image", ""))
    # What the pods have read is what the ConfigMap was when they began.
    rests: list[Any] = [isvc.delivered(view), pod, annotations.get(isvc.CHECKSUM)]
    said = short_hash(json.dumps(rests, sort_keys=True))
    job: Manifest = json.loads(_text(name, image, said))
    return job


@cache
def _text(name: str, image: str, said: str) -> str:
    names = {"NAME": name, "PYTHON": image, "REVISION": said}
    job = load_one(filled(MANIFEST.read_text(), names))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["command"] = witnessing.command(PROGRAM, name)
    return json.dumps(job)


BOOK = Book("09", WITNESSES, make)


def run(
    cluster: Cluster,
    name: str,
    *,
    on_progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Run one of these witnesses to its end; its record.

    Raises:
        EnvironmentFault: KServe runs here, and no functions of the learner's.
        StepMissing: no functions were delivered yet.
        WaitTimeout, Stopped: as `witnessing.run`.
    """
    if isvc.kserve_runs(cluster.view()):
        raise EnvironmentFault(
            "KServe itself runs on this cluster: your functions are asked on a cluster without it."
        )
    if not isvc.delivered(cluster.view()):
        raise StepMissing(
            "The controller has no functions yet: deliver them first.", next_command="course open 09"
        )
    isvc.roll_out(cluster)
    isvc.awake(cluster)
    isvc.wait_ready(cluster, on_progress)
    runner = Runner(cluster, name, on_progress, should_stop)
    try:
        return witnessing.run(
            BOOK, cluster, name, on_progress=on_progress, should_stop=should_stop, asked=runner.asked
        )
    finally:
        runner.clean()


# What is looked for


def faults_of(view: ClusterView, service: Resource) -> list[str]:
    """What is not right with the children of an InferenceService that serves a model, in words; empty for none."""
    found = _children(view, service.name)
    missing = [kind for kind, item in found.items() if item is None]
    if missing:
        return [f"there is no {' and no '.join(missing)} {isvc.predictor(service.name)}"]
    deployment, front = found["Deployment"], found["Service"]
    assert deployment is not None and front is not None
    return faults_between(service, _runtime_of(view, service), deployment, front)


def faults_between(service: Resource, runtime: Resource, deployment: Resource, front: Resource) -> list[str]:
    """The same for children at hand: every field that is compared follows from the two objects that they are made of."""
    pod = deployment.path("spec.template.spec", {}) or {}
    containers = pod.get("containers") or [{}]
    server = next((item for item in containers if item.get("name") == "kserve-container"), containers[0])
    return [
        *_of_owner(service, deployment, front),
        *_of_model(service.path("spec.predictor.model.storageUri", ""), pod, server),
        *_of_server(service, runtime, server),
        *_of_front(deployment, front, server),
    ]


def _of_owner(service: Resource, *children: Resource) -> Iterator[str]:
    for item in children:
        owners = item.metadata.get("ownerReferences") or []
        if not any(owner.get("uid") == service.uid for owner in owners):
            yield f"{item.kind} {item.name} has no owner reference to {service.name}"
        elif not any(owner.get("uid") == service.uid and owner.get("controller") for owner in owners):
            yield f"{item.kind} {item.name} names {service.name} as an owner, not as its controller"


def _of_model(uri: str, pod: Manifest, server: Manifest) -> Iterator[str]:
    scheme, _, rest = uri.partition("://")
    own = {**pod, "containers": [server]}
    mount, volume = models.mount_of(own), models.volume_of(own)
    if not mount:
        yield "nothing is mounted at /mnt/models"
        return
    claim = volume.get("persistentVolumeClaim") or {}
    where, path = (rest, "models") if scheme == "oci+native" else tuple(rest.partition("/")[::2])
    there = (volume.get("image") or {}).get("reference") if scheme == "oci+native" else claim.get("claimName")
    if there != where:
        kind = next((key for key in volume if key != "name"), "nothing")
        yield f"at /mnt/models is {there or kind}, and {uri} asks for {where}"
    if (mount.get("subPath") or "").strip("/") != path.strip("/"):
        yield f"at /mnt/models is the path {mount.get('subPath') or '/'}, not {path or '/'}"
    if not (mount.get("readOnly") or claim.get("readOnly")):
        yield "the model is not mounted read-only"


def _of_server(service: Resource, runtime: Resource, server: Manifest) -> Iterator[str]:
    model, given = service.path("spec.predictor.model", {}), runtime.path("spec.containers.0", {})
    if server.get("image") != given.get("image") or server.get("command") != given.get("command"):
        yield f"the server is not that of the runtime {runtime.name}"
    args = [item.replace("{{.Name}}", service.name) for item in given.get("args") or []]
    if (server.get("args") or []) != [*args, *(model.get("args") or [])]:
        yield "its arguments are not the runtime's, and then the InferenceService's own"
    wanted = (model.get("resources") or given.get("resources") or {}).get("limits") or {}
    has = (server.get("resources") or {}).get("limits") or {}
    if not wanted.items() <= has.items():
        said = ", ".join(f"{key}: {has.get(key)}" for key in wanted)
        yield f"its limits are {said or 'none'}, not those that were asked for"


def _of_front(deployment: Resource, front: Resource, server: Manifest) -> Iterator[str]:
    selector, labels = (
        front.path("spec.selector", {}) or {},
        deployment.path("spec.template.metadata.labels", {}),
    )
    ports = {item.get("name"): item.get("containerPort") for item in server.get("ports") or []}
    targets = [item.get("targetPort", item.get("port")) for item in front.path("spec.ports", []) or []]
    if not selector or not selector.items() <= labels.items():
        yield f"Service {front.name} selects no pod of the Deployment"
    elif deployment.name.partition("-predictor")[0] not in " ".join(selector.values()):
        yield f"Service {front.name} selects pods of other InferenceServices too"
    if not any(target in ports.values() or target in ports for target in targets):
        yield f"Service {front.name} leads to the port {targets[0] if targets else 'none'}, which the server does not have"


def _children(view: ClusterView, name: str) -> dict[str, Resource | None]:
    return {kind: view.find(kind, isvc.predictor(name), NAMESPACE) for kind in ("Deployment", "Service")}


def _runtime_of(view: ClusterView, service: Resource) -> Resource:
    """The ServingRuntime by name; else the one that takes the format of its own accord and is not disabled."""
    model = service.path("spec.predictor.model", {}) or {}
    if model.get("runtime"):
        return view.get("ServingRuntime", model["runtime"], NAMESPACE)
    wanted = str((model.get("modelFormat") or {}).get("name", ""))
    for item in view.list("ServingRuntime", NAMESPACE):
        for format_ in item.path("spec.supportedModelFormats", []) or []:
            takes = format_.get("name") == wanted and format_.get("autoSelect")
            if takes and not item.path("spec.disabled", False):
                return item
    raise ObjectMissing("ServingRuntime", f"that takes {wanted or 'no format'} of its own accord", NAMESPACE)


def ready_of(service: Resource) -> Manifest:
    """The condition Ready of an InferenceService; empty without one."""
    conditions = service.path("status.conditions", []) or []
    return next((item for item in conditions if item.get("type") == "Ready"), {})


def is_current(service: Resource) -> bool:
    """Whether the status is about the newest specification."""
    return bool(service.path("status.observedGeneration", None) == service.metadata.get("generation"))


# Running


class Runner:
    """Answers what a witness asks for while it runs."""

    def __init__(
        self, cluster: Cluster, name: str, say: Progress, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._cluster, self._name, self._say, self._should_stop = cluster, name, say, should_stop
        self._tag = f"w{secrets.token_hex(3)}"
        words = (
            *("made", "begun", "deleted", "edited", "missed", "calm", "waited", "broken", "mended"),
            *("refused", "came", "renamed", "ended"),
        )
        self.asked: dict[str, witnessing.Asked] = {word: self._answering(word) for word in words}

    def _answering(self, word: str) -> witnessing.Asked:
        def act(pod: Pod, _: str) -> None:
            try:
                said = getattr(self, word)()
            except LabError as failed:
                said = {"error": f"{type(failed).__name__}: {failed}"[:400]}
            witnessing.answer(self._cluster, pod, word, json.dumps(said))

        return act

    # Words

    def made(self) -> Manifest:
        """Two InferenceServices: a model in an image, whose runtime is found by format, and one on a claim."""
        self._runtimes()
        image = self._service("image", args=["--delay-shutdown=0"], resources={"limits": {"memory": "48Mi"}})
        claim = self._service("claim", runtime=f"b-{self._tag}", storageUri=f"pvc://{self._tag}/some/model")
        seen = self._until(
            "children of both", SOON_S, lambda: all(self._has_children(name) for name in (image, claim))
        )
        if seen:
            self._until("the server in the image's pod", READY_S, lambda: self._addresses(image) > 0)
        view = self._cluster.view()
        faults = {
            about: faults_of(view, view.get(isvc.SERVICE, name, NAMESPACE))[:3]
            for about, name in (("image", image), ("claim", claim))
        }
        return {"faults": faults, "host": self._host(image)}

    def begun(self) -> Manifest:
        """One InferenceService, whose children are deleted and edited next."""
        self._runtimes()
        name = self._service("repair")
        made = self._until("its children", SOON_S, lambda: self._has_children(name))
        if made:
            self._until("its server", READY_S, lambda: self._addresses(name) > 0)
        return {"made": made, "host": self._host(name)}

    def deleted(self) -> Manifest:
        """Both children are deleted; after how many seconds each is there again."""
        return {"deleted": {kind: self._again(kind) for kind in ("Deployment", "Service")}}

    def edited(self) -> Manifest:
        """Both children are edited; after how many seconds each is as it should be again."""
        name = self._named("repair")
        self._spoil(name)
        return {"edited": self._seconds("the edited children", SOON_S, lambda: not self._faults(name))}

    def missed(self) -> Manifest:
        """The Deployment is deleted and the Service edited while no controller runs; what becomes of them then."""
        name = self._named("repair")
        with self._no_controller():
            self._cluster.delete("Deployment", isvc.predictor(name), NAMESPACE, wait_s=GONE_S, grace_s=1)
            self._spoil(name)
        return {"missed": self._seconds("what it missed", SOON_S, lambda: not self._faults(name))}

    def calm(self) -> Manifest:
        """Nothing happens any more: how often the children and the InferenceService are written nevertheless.

        A probe that is answered late on a busy node is something that happens: what is written then, and for a moment
        after it, is not counted.
        """
        name = self._named("repair")
        self._until("its server", READY_S, lambda: self._addresses(name) > 0)
        writes, quiet_since, until = 0, time.monotonic(), time.monotonic() + CALM_S
        written, happened = self._written(name), self._happened(name)
        while time.monotonic() < until and not self._should_stop():
            time.sleep(POLL_S)
            now, event = self._written(name), self._happened(name)
            if event != happened:
                quiet_since = time.monotonic()
            elif now != written and time.monotonic() - quiet_since > SETTLES_S:
                writes += 1
            written, happened = now, event
        return {"writes": writes}

    def waited(self) -> Manifest:
        """A server that needs some seconds: whether Ready was said before anybody served."""
        self._runtimes(slow_s=SLOW_S)
        name = self._service("ready")
        early, began = 0, time.monotonic()
        while (now := time.monotonic()) - began < READY_S and not self._should_stop():
            said, serving = self._ready(name), self._addresses(name)
            if said.get("status") == "True" and serving:
                break
            early += said.get("status") == "True"
            self._say(f"{self._name}: Ready is {said.get('status') or 'not said'}, {now - began:.0f} s")
            time.sleep(POLL_S)
        service = self._get(name)
        found = ready_of(service)
        return {
            "ready": found.get("status") == "True",
            "early": early,
            "serving": self._addresses(name),
            "current": is_current(service),
            "reason": str(found.get("reason") or "")[:60],
            "host": self._host(name),
        }

    def broken(self) -> Manifest:
        """A change whose pods never serve, while the old pod goes on: what the status says of it."""
        name = self._named("ready")
        self._patch(name, {"args": ["--http-port=1"]})
        seen = self._until("the status of the change", SOON_S, lambda: is_current(self._get(name)))
        said, until = 0, time.monotonic() + BROKEN_S
        while seen and time.monotonic() < until and not self._should_stop():
            service = self._get(name)
            said += is_current(service) and ready_of(service).get("status") == "True"
            self._say(f"{self._name}: a change that fails: Ready is {ready_of(service).get('status')}")
            time.sleep(POLL_S)
        return {"observed": seen, "untrue": said, "kept": self._addresses(name)}

    def mended(self) -> Manifest:
        """The change is taken back."""
        name = self._named("ready")
        self._patch(name, {"args": []})
        return {"mended": self._until("Ready again", READY_S, lambda: self._is_ready(name))}

    def refused(self) -> Manifest:
        """What cannot be served, a name that is taken, and one that is right for now."""
        self._runtimes()
        names = {
            "scheme": self._service("scheme", storageUri=f"s3://{self._tag}/model"),
            "format": self._service("format", modelFormat={"name": f"no-{self._tag}"}),
            "runtime": self._service("runtime", runtime=f"z-{self._tag}"),
        }
        later = self._service("later")
        self._until("the children of the right one", SOON_S, lambda: self._has_children(later))
        self._stranger(like=later)
        taken = self._service("taken")
        self._until("a word on each", SOON_S, lambda: all(self._ready(name) for name in names.values()))
        before = self._versions_of_children(later)
        self._patch(later, {"storageUri": f"s3://{self._tag}/model"})
        self._until("a word on the one that is wrong now", SOON_S, lambda: is_current(self._get(later)))
        time.sleep(SETTLED_S)
        return {
            "refused": {about: self._refusal(name) for about, name in names.items()},
            "taken": self._taken(taken),
            "later": {**self._refusal(later), "kept": self._versions_of_children(later) == before},
        }

    def came(self) -> Manifest:
        """The runtime that was missing comes, and the stranger goes."""
        (runtime, *_) = self._objects()
        runtime["metadata"]["name"] = f"z-{self._tag}"
        self._cluster.apply(runtime)
        self._cluster.delete("Deployment", isvc.predictor(self._named("taken")), NAMESPACE, grace_s=1)
        return {"came": {about: self._comes(about) for about in ("runtime", "taken")}}

    def _comes(self, about: str) -> float | None:
        name = self._named(about)
        return self._seconds(f"the children of {about}", SOON_S, lambda: self._has_children(name))

    def renamed(self) -> Manifest:
        """An InferenceService goes, and comes under another name."""
        self._runtimes()
        old = self._service("old")
        made = self._until("its children", SOON_S, lambda: self._has_children(old))
        self._cluster.delete(isvc.SERVICE, old, NAMESPACE, wait_s=GONE_S)
        new = self._service("new")
        gone = self._until("the old children gone", GONE_S, lambda: not self._left(old))
        return {
            "made": made,
            "gone": gone,
            "left": self._left(old),
            "new": self._until("the new children", SOON_S, lambda: self._has_children(new)),
        }

    def ended(self) -> Manifest:
        """It ends while no controller runs: whether it goes, and what is left of it."""
        new = self._named("new")
        with self._no_controller():
            self._cluster.delete(isvc.SERVICE, new, NAMESPACE)
            ended = self._until(
                "it is gone", GONE_S, lambda: self._cluster.view().find(isvc.SERVICE, new, NAMESPACE) is None
            )
            self._until("its children are gone", GONE_S, lambda: not self._left(new))
            return {"ended": ended, "orphans": self._left(new)}

    def clean(self) -> None:
        """All that this witness made goes, also what nobody owns; and a controller runs again."""
        view = self._cluster.view()
        with suppress(LabError):
            isvc.awake(self._cluster)
        for kind in (isvc.SERVICE, "ServingRuntime"):
            with suppress(LabError):
                for item in view.list(kind, NAMESPACE, labels=f"{LABEL}={self._name}"):
                    self._strip(kind, item)
                    self._cluster.delete(kind, item.name, NAMESPACE)
        for kind in ("Deployment", "Service"):
            with suppress(LabError):
                for item in view.list(kind, NAMESPACE):
                    if item.name.startswith(f"{self._tag}-"):
                        self._cluster.delete(kind, item.name, NAMESPACE, grace_s=1)

    def _strip(self, kind: str, item: Resource) -> None:
        """Take a finalizer away that nobody will take away any more."""
        if item.metadata.get("finalizers"):
            self._cluster.patch(kind, item.name, {"metadata": {"finalizers": None}}, NAMESPACE)

    # Making

    def _objects(self, slow_s: int = 0) -> list[Manifest]:
        names = {
            "RUNTIME": self._tag,
            "FORMAT": self._tag,
            "WITNESS": self._name,
            "TOOLBOX": self._cluster.profile().images["toolbox"],
            "PORT": str(PORT),
            "SLOW_S": str(slow_s),
        }
        return load(filled(OBJECTS.read_text(), names))

    def _runtimes(self, slow_s: int = 0) -> None:
        self._cluster.apply(self._objects(slow_s))

    def _named(self, about: str) -> str:
        return f"{self._tag}-{about}"

    def _service(self, about: str, **model: Any) -> str:
        """Make an InferenceService of the stand-in's format; `model` is laid over it."""
        name = self._named(about)
        uri = f"oci+native://{models.versions(self._cluster.view())['1'].image}"
        asked = {"modelFormat": {"name": self._tag}, "storageUri": uri, **model}
        metadata = {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {LABEL: self._name},
            "annotations": {f"{GROUP}/deploymentMode": "Standard"},
        }
        spec = {"predictor": {"minReplicas": 1, "model": asked}}
        self._cluster.apply(
            {"apiVersion": isvc.ISVC_VERSION, "kind": isvc.SERVICE, "metadata": metadata, "spec": spec}
        )
        return name

    def _patch(self, name: str, model: Manifest) -> None:
        self._cluster.patch(isvc.SERVICE, name, {"spec": {"predictor": {"model": model}}}, NAMESPACE)

    def _stranger(self, like: str) -> None:
        """A Deployment of somebody else's under the name that a child would have, with labels that a child has.

        It is what is left when somebody exported one and applied it again: a copy without an owner, of another server,
        which runs no pod.
        """
        view, name = self._cluster.view(), self._named("taken")
        labels = {"app": f"{self._tag}-stranger"}
        found = view.find("Deployment", isvc.predictor(like), NAMESPACE)
        if found is not None:
            text = json.dumps(found.path("spec.selector.matchLabels", {}))
            labels = json.loads(text.replace(like, name))
        container = {"name": "theirs", "image": self._cluster.profile().images["toolbox"]}
        spec = {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        }
        metadata = {"name": isvc.predictor(name), "namespace": NAMESPACE}
        self._cluster.apply(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
        )

    def _spoil(self, name: str) -> None:
        """Edit what is there of both children: other arguments, and a selector that selects nobody."""
        view, child = self._cluster.view(), isvc.predictor(name)
        deployment, front = view.find("Deployment", child, NAMESPACE), view.find("Service", child, NAMESPACE)
        if deployment is not None:
            container = deployment.path("spec.template.spec.containers.0.name")
            pod = {"containers": [{"name": container, "args": ["--http-port=1"]}]}
            self._cluster.patch(
                "Deployment", child, {"spec": {"template": {"spec": pod}}}, NAMESPACE, strategic=True
            )
        if front is not None:
            selector = dict.fromkeys(front.path("spec.selector", {}) or {"app": ""}, NOBODY)
            self._cluster.patch("Service", child, {"spec": {"selector": selector}}, NAMESPACE)

    @contextmanager
    def _no_controller(self) -> Iterator[None]:
        """No controller runs meanwhile."""
        try:
            isvc.asleep(self._cluster)
            self._until("the controller is away", GONE_S, lambda: not isvc.pods(self._cluster.view()))
            yield
        finally:
            isvc.awake(self._cluster)
            isvc.wait_ready(self._cluster, self._say)

    # Looking

    def _get(self, name: str) -> Resource:
        return self._cluster.view().get(isvc.SERVICE, name, NAMESPACE)

    def _ready(self, name: str) -> Manifest:
        return ready_of(self._get(name))

    def _is_ready(self, name: str) -> bool:
        service = self._get(name)
        return is_current(service) and ready_of(service).get("status") == "True"

    def _has_children(self, name: str) -> bool:
        return all(_children(self._cluster.view(), name).values())

    def _faults(self, name: str) -> list[str]:
        return faults_of(self._cluster.view(), self._get(name))

    def _addresses(self, name: str) -> int:
        return len(self._cluster.view().endpoint_slices(isvc.predictor(name), NAMESPACE))

    def _host(self, name: str) -> str:
        namespace = self._cluster.scope.namespace(NAMESPACE)
        return f"{isvc.predictor(name)}.{namespace}.svc.cluster.local"

    def _left(self, name: str) -> list[str]:
        return [kind for kind, item in _children(self._cluster.view(), name).items() if item is not None]

    def _written(self, name: str) -> list[Any]:
        """What a controller writes: the InferenceService's status, and of the children all but their status."""
        found: list[Any] = [self._get(name).metadata["resourceVersion"]]
        for item in _children(self._cluster.view(), name).values():
            labels = [item.labels, item.metadata.get("ownerReferences")] if item else []
            kept = {key: value for key, value in item.annotations.items() if key != ROLLED} if item else {}
            found.append([item.uid, item.raw.get("spec"), labels, kept] if item else None)
        return found

    def _happened(self, name: str) -> list[Any]:
        """What Kubernetes says of the children."""
        deployment = _children(self._cluster.view(), name)["Deployment"]
        return [deployment.path("status", {}) if deployment else None, self._addresses(name)]

    def _versions_of_children(self, name: str) -> list[Any]:
        """Uid and generation of both children: what a status that moves does not change."""
        found = _children(self._cluster.view(), name).values()
        return [
            (item.uid, item.metadata.get("generation"), item.path("spec.selector")) if item else None
            for item in found
        ]

    def _refusal(self, name: str) -> Manifest:
        """What the status says of one that cannot be served, and how many children there are."""
        service = self._get(name)
        said = ready_of(service)
        return {
            "ready": said.get("status"),
            "reason": str(said.get("reason") or "")[:40],
            "current": is_current(service),
            "children": len(self._left(name)),
        }

    def _taken(self, name: str) -> Manifest:
        """What became of somebody else's Deployment, and of the InferenceService that wanted its name."""
        view = self._cluster.view()
        theirs = view.find("Deployment", isvc.predictor(name), NAMESPACE)
        mine = theirs is not None and (
            theirs.path("spec.template.spec.containers.0.name") != "theirs"
            or len(theirs.path("spec.template.spec.containers", [])) != 1
            or theirs.path("spec.replicas", 0) != 0
            or bool(theirs.metadata.get("ownerReferences"))
        )
        return {
            "untouched": theirs is not None and not mine,
            "half": view.find("Service", isvc.predictor(name), NAMESPACE) is not None,
            "ready": self._ready(name).get("status"),
        }

    def _again(self, kind: str) -> float | None:
        """Delete a child; after how many seconds another one is there."""
        child = isvc.predictor(self._named("repair"))
        first = self._cluster.view().get(kind, child, NAMESPACE).uid
        self._cluster.delete(kind, child, NAMESPACE, grace_s=1)

        def is_back() -> bool:
            found = self._cluster.view().find(kind, child, NAMESPACE)
            return found is not None and found.uid != first

        return self._seconds(f"the {kind} that was deleted", SOON_S, is_back)

    def _seconds(self, what: str, limit_s: float, is_so: Callable[[], bool]) -> float | None:
        began = time.monotonic()
        return round(time.monotonic() - began, 1) if self._until(what, limit_s, is_so) else None

    def _until(self, what: str, limit_s: float, is_so: Callable[[], bool]) -> bool:
        """Whether it came to that in time; what the API server does not answer is asked again."""
        began = time.monotonic()
        while True:
            with suppress(LabError):
                if is_so():
                    return True
            elapsed_s = time.monotonic() - began
            if elapsed_s > limit_s or self._should_stop():
                return False
            self._say(f"{self._name}: {what}, {elapsed_s:.0f} s")
            time.sleep(POLL_S)
