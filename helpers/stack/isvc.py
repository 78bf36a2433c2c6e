"""KServe's InferenceService on this cluster: whose kinds they are, who reconciles them, and what it is told.

Where KServe itself runs, nothing of the course's is installed: the same objects are applied to it. Elsewhere the
course brings KServe's kinds (from the models of its SDK) and a controller of its own, whose reconcile functions are
the learner's. They reach it in two steps, as the orchestrator's decisions do: the ConfigMap changes, and the pod
template gets its checksum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from helpers.errors import Forbidden, InvalidManifest, ObjectMissing
from helpers.progress import Progress
from helpers.settings import REPOSITORY
from helpers.stack.assistant import data_in, put_data
from helpers.stack.bring_up import every_ten, served_to_the_class
from helpers.stack.orchestrator import decision_text, short_hash
from helpers.stack.serving import config_checksum

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.resource import Pod

API_MANIFESTS = REPOSITORY / "manifests" / "stack" / "kserve-api"
MANIFESTS = REPOSITORY / "manifests" / "stack" / "isvc"
NAMESPACE = "llm-models"
GROUP, FILE = "serving.kserve.io", "reconcile.py"
CONTROLLER, DECISIONS = "isvc-controller", "isvc-controller-decisions"
RUNTIME = "vllm"
SERVICE, ISVC_VERSION = "InferenceService", f"{GROUP}/v1beta1"
CHECKSUM = "checksum/decisions"
PART_OF, OURS = "app.kubernetes.io/part-of", "course-kserve-api"
# KServe's own manager, as its manifests and its chart label it.
KSERVE_LABELS = (
    "control-plane=kserve-controller-manager",
    "app.kubernetes.io/name=kserve-controller-manager",
)
# On what the lab's witnesses make.
WITNESS_LABEL = "course.llm-stack/witness"
DEFINITION = f"inferenceservices.{GROUP}"
READY_S = 120.0
# What the page's functions may use stands at the head of their file, too.
HEAD = """\
from __future__ import annotations

from typing import Any

from helpers.apps.isvc.decisions import APPLY, LEAVE, REFUSE, InvalidSpec, Problem, Seen


"""
Manifest = dict[str, Any]


def predictor(name: str) -> str:
    """The name of an InferenceService's Deployment and Service, KServe's and ours."""
    return f"{name}-predictor"


# Whose it is


def kserve_runs(view: ClusterView) -> bool:
    """Whether somebody else's KServe serves this cluster: its kinds are not the course's, or its manager is there."""
    try:
        found = view.find("CustomResourceDefinition", DEFINITION)
        if found is not None and found.labels.get(PART_OF) != OURS:
            return True
        return any(view.list("Deployment", labels=label, all_namespaces=True) for label in KSERVE_LABELS)
    except Forbidden:  # of a class only its instructor sees definitions; what is served everybody may ask
        return _is_served(view, "ClusterServingRuntime")


def _is_served(view: ClusterView, kind: str) -> bool:
    """Whether the cluster serves a kind of KServe's that the course does not bring.

    Raises:
        Forbidden: these credentials may not even ask that.
    """
    try:
        return f'"{kind}"' in view.raw(f"/apis/{GROUP}/v1alpha1")
    except (InvalidManifest, ObjectMissing):  # nothing of the group
        return False


def ensure_controller(cluster: Cluster, progress: object = None) -> list[str]:
    """KServe's kinds, the course's controller and the runtime, Ready; where KServe runs, the runtime alone.

    Raises:
        EnvironmentFault: a seat of a class, whose instructor did not install the kinds.
        WaitTimeout, WaitRejected: the controller does not become Ready, with its events.
    """
    say: Progress = progress if callable(progress) else lambda line: None
    if cluster.scope.suffix:
        served_to_the_class(cluster, "KServe API", "kserve-api", SERVICE, ISVC_VERSION)
    is_kserve = kserve_runs(cluster.view())
    done = []
    if not is_kserve and not cluster.scope.suffix:
        done += _definitions(cluster, say)
    done += _said(cluster.apply(_missing(cluster, is_kserve)))
    if not is_kserve:
        say(f"{CONTROLLER}: waiting until it is ready")
        awake(cluster)
        wait_ready(cluster, say)
    return done


def _definitions(cluster: Cluster, say: Progress) -> list[str]:
    say("applying the kinds of KServe's API")
    found = cluster.kustomize(API_MANIFESTS / "overlays" / cluster.profile().overlay)
    done = _said(cluster.apply(found))
    for item in found:
        cluster.wait_ready(item["kind"], item["metadata"]["name"])
    return done


def manifests(cluster: Cluster) -> list[Manifest]:
    """The controller and its runtime, for this cluster; images are those that its profile names."""
    profile = cluster.profile()
    found = cluster.kustomize(MANIFESTS / "overlays" / profile.overlay)
    for item in found:
        if item["kind"] == "Deployment":
            container, name = item["spec"]["template"]["spec"]["containers"][0], CONTROLLER
        elif item["kind"] == "ServingRuntime":
            container, name = item["spec"]["containers"][0], "vllm"
        else:
            continue
        container["image"] = profile.images.get(name) or container["image"]
    return found


def _missing(cluster: Cluster, is_kserve: bool) -> list[Manifest]:
    """What the start applies: the runtime always as it is given, the controller where none is there yet."""
    found, view = manifests(cluster), cluster.view()
    chosen = [item for item in found if item["kind"] == "ServingRuntime"]
    if is_kserve:
        return chosen
    mine = () if cluster.scope.suffix else ("ServiceAccount", "Role", "RoleBinding")
    chosen += [item for item in found if item["kind"] in mine]
    if view.find("Deployment", CONTROLLER, NAMESPACE) is None:
        chosen += [item for item in found if item["kind"] == "Deployment"]
    return chosen


def _said(applied: Iterable[Any]) -> list[str]:
    return [f"{item.action} {item.kind} {item.name}" for item in applied if item.action != "unchanged"]


def clear(cluster: Cluster, progress: Progress = lambda line: None) -> list[str]:
    """Every InferenceService goes, with what was made of it, and so do the learner's functions."""
    view, done = cluster.view(), []
    try:
        services = view.list(SERVICE, NAMESPACE)
    except InvalidManifest:  # no such kind is served here
        return []
    for item in view.list("ServingRuntime", NAMESPACE, labels=WITNESS_LABEL):  # of one that was killed
        cluster.delete("ServingRuntime", item.name, NAMESPACE)
    for item in services:
        progress(f"{SERVICE} {item.name}")
        cluster.delete(SERVICE, item.name, NAMESPACE, wait_s=30)
        done.append(f"{SERVICE} {item.name} deleted")
    if cluster.delete("ConfigMap", DECISIONS, NAMESPACE):
        done.append(f"ConfigMap {DECISIONS} deleted")
    wanted = {(item["kind"], item["metadata"]["name"]): item for item in manifests(cluster)}
    if view.find("Deployment", CONTROLLER, NAMESPACE) is not None:
        kinds = ("Deployment", "ServingRuntime")
        done += _said(cluster.apply([item for (kind, _), item in wanted.items() if kind in kinds]))
    return done


# What it is told


def functions_text(*functions: Callable[..., Any]) -> str:
    """The file `reconcile.py` that holds these functions, as the controller reads it."""
    return decision_text(*functions, head=HEAD)


def delivered(view: ClusterView) -> str:
    """The short hash of the `reconcile.py` in the ConfigMap; empty without one."""
    text = data_in(view, DECISIONS, NAMESPACE).get(FILE)
    return short_hash(text) if text is not None else ""


def deliver(cluster: Cluster, text: str | None) -> None:
    """Put the learner's functions into the ConfigMap (None takes them out), and let a rollout bring them."""
    data: Mapping[str, str | None] = {FILE: text}
    put_data(cluster, DECISIONS, data, NAMESPACE)
    roll_out(cluster)


def roll_out(cluster: Cluster) -> None:
    """Give the controller's pod template the checksum of the ConfigMap as it is; without a Deployment nothing happens."""
    if cluster.view().find("Deployment", CONTROLLER, NAMESPACE) is None:
        return
    checksum = config_checksum(data_in(cluster.view(), DECISIONS, NAMESPACE))
    template = {"spec": {"template": {"metadata": {"annotations": {CHECKSUM: checksum}}}}}
    cluster.patch("Deployment", CONTROLLER, template, NAMESPACE)


def wait_ready(cluster: Cluster, progress: Progress = lambda line: None, timeout_s: float = READY_S) -> None:
    """Until the controller with the newest functions runs.

    Raises:
        WaitTimeout, WaitRejected: it does not, with its events.
    """
    cluster.wait_rollout(
        "Deployment", CONTROLLER, NAMESPACE, timeout_s, on_progress=every_ten(CONTROLLER, progress)
    )


def pods(view: ClusterView) -> list[Pod]:
    """The controller's pods that have not ended."""
    return [pod for pod in view.pods(NAMESPACE, labels=f"app={CONTROLLER}") if pod.is_live]


def asleep(cluster: Cluster) -> None:
    """No controller runs any more; `awake` brings it back, and so do `course start` and the next witness."""
    cluster.scale("Deployment", CONTROLLER, 0, NAMESPACE)


def awake(cluster: Cluster) -> None:
    """One controller runs, where it was taken away."""
    if cluster.view().get("Deployment", CONTROLLER, NAMESPACE).path("spec.replicas", 1) != 1:
        cluster.scale("Deployment", CONTROLLER, 1, NAMESPACE)
