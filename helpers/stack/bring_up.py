"""What earlier labs leave, for a lab that starts where they end.

A learner who did the earlier labs has all of this, and nothing is changed then. On a fresh cluster
`course start 04` gets namespaces, vLLM and Qdrant from the same manifests, and `course start 06` the corpus
in Qdrant, the gateway's namespace and everybody's keys too. `course start 07` needs what no lab writes: the
controller of releases, and where traces go. So does `course start 08`: what scales, and whom it asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helpers.course_process import CourseCommandFailed, run_course
from helpers.errors import EnvironmentFault, InvalidManifest
from helpers.progress import Progress
from helpers.settings import REPOSITORY

if TYPE_CHECKING:
    from helpers.cluster import Cluster

MANIFESTS = REPOSITORY / "manifests" / "stack"
SYSTEM, APPS, GATEWAY = "llm-system", "llm-apps", "llm-gateway"
# Both the namespace and the Deployment; the label is upstream's, so that another installation is found too.
ROLLOUTS, ROLLOUTS_LABEL = "argo-rollouts", "app.kubernetes.io/name=argo-rollouts"
# The pod with curl that learners ask from by hand, in APPS.
CLIENT = "curl-client"
READY_TIMEOUT_S = 300.0


def bring_up(cluster: Cluster, progress: Progress) -> list[str]:
    """Namespaces, vLLM and Qdrant, Ready; what had to be done, a line each.

    Raises:
        WaitTimeout, WaitRejected: a backend does not become Ready, with its events.
    """
    done = [
        f"{item.action} {item.kind} {item.name}"
        for item in cluster.apply(_namespaces())
        if item.action != "unchanged"
    ]
    overlay = cluster.profile().overlay
    missing = [
        name
        for name, kind in (("vllm", "Deployment"), ("qdrant", "StatefulSet"))
        if not cluster.view().find(kind, name, SYSTEM)
    ]
    for name in missing:
        progress(f"applying {name}")
        for item in cluster.apply(cluster.kustomize(MANIFESTS / name / "overlays" / overlay)):
            done.append(f"{item.action} {item.kind} {item.name}")
    for kind, name in (("StatefulSet", "qdrant"), ("Deployment", "vllm")):
        cluster.wait_rollout(
            kind, name, SYSTEM, timeout_s=READY_TIMEOUT_S, on_progress=every_ten(name, progress)
        )
    return done


def bring_up_with_probes(cluster: Cluster, progress: object = None) -> list[str]:
    """Both backends with the policy of vLLM's manifests, and the grader's probe pods."""
    from helpers.stack.probes import place_probes

    say = progress if callable(progress) else lambda line: None
    done = bring_up(cluster, say)
    # A vLLM that the learner brought up in lab 02 came without the policy of vLLM's manifests.
    if cluster.view().find("NetworkPolicy", "vllm-ingress-from-llm-apps", SYSTEM) is None:
        done += [f"{item.action} {item.kind} {item.name}" for item in cluster.apply(first_policy())]
    placed = place_probes(cluster, on_progress=say)
    missing = [f"{name} is missing: {why}" for name, why in placed.missing.items()]
    return [*done, f"probe pods ready: {', '.join(placed.ready)}", *missing]


def bring_up_for_orchestration(cluster: Cluster, progress: object = None) -> list[str]:
    """What labs 01 to 05 leave, the corpus of lab 03 in Qdrant, the namespace of the gateway, and the keys.

    What a learner put there stays: a collection with other points gets those of the corpus that it lacks.
    """
    from helpers.stack.gateway import ensure_keys

    say = progress if callable(progress) else lambda line: None
    done = bring_up_with_probes(cluster, say)
    done += [
        f"{item.action} {item.kind} {item.name}"
        for item in cluster.apply([_namespace(GATEWAY, {})])
        if item.action != "unchanged"
    ]
    return [*done, *ensure_corpus(cluster, say), *ensure_keys(cluster)]


def ensure_corpus(cluster: Cluster, progress: Progress) -> list[str]:
    """The passages of the corpus in Qdrant's collection; a line where some were missing.

    Raises:
        MemoryUnavailable, MemoryRefused: Qdrant does not answer, or does not take them.
    """
    from helpers.stack import memory
    from helpers.stack.embeddings import Embedder

    passages = memory.corpus()
    with memory.connect(cluster) as qdrant:
        found = qdrant.state()
        if found is not None and found.points >= len(passages):
            return []
        qdrant.create_collection()

        def say(seen: memory.Ingested) -> None:
            progress(f"qdrant: {seen.done} of {seen.total} passages")

        count = qdrant.ingest(passages, Embedder(), on_progress=say)
    return [f"{count} passages in Qdrant's collection {memory.COLLECTION}"]


def ensure_rollouts(cluster: Cluster, progress: object = None) -> list[str]:
    """Argo Rollouts' kinds and its controller, Ready; one that somebody else installed stays as it is.

    Raises:
        EnvironmentFault: a seat of a class, whose instructor did not install it.
        WaitTimeout, WaitRejected: the controller does not become Ready, with its events.
    """
    say = progress if callable(progress) else lambda line: None
    if cluster.scope.suffix:
        return served_to_the_class(cluster, "Argo Rollouts", "rollouts", "Rollout", "argoproj.io/v1alpha1")
    done = []
    if not cluster.view().list("Deployment", labels=ROLLOUTS_LABEL, all_namespaces=True):
        say("applying Argo Rollouts")
        found = cluster.kustomize(MANIFESTS / "rollouts" / "overlays" / cluster.profile().overlay)
        done = [f"{item.action} {item.kind} {item.name}" for item in cluster.apply(found)]
        for item in found:
            if item["kind"] == "CustomResourceDefinition":
                cluster.wait_ready(item["kind"], item["metadata"]["name"])
    if cluster.view().find("Deployment", ROLLOUTS, ROLLOUTS):
        cluster.wait_rollout("Deployment", ROLLOUTS, ROLLOUTS, on_progress=every_ten(ROLLOUTS, say))
    return done


def ensure_observability(cluster: Cluster, progress: object = None) -> list[str]:
    """Phoenix and a Collector, Ready; where a Collector is missing it comes as a quick start has it.

    Raises:
        WaitTimeout, WaitRejected: one of them does not become Ready, with its events.
    """
    from helpers.stack import assistant

    say = progress if callable(progress) else lambda line: None
    done = []
    for name in (assistant.PHOENIX, assistant.COLLECTOR):
        if cluster.view().find("Deployment", name, assistant.OBSERVABILITY) is None:
            say(f"applying {name}")
            objects = cluster.kustomize(MANIFESTS / name / "overlays" / cluster.profile().overlay)
            done += [
                f"{item.action} {item.kind} {item.name}"
                for item in cluster.apply(objects)
                if item.action != "unchanged"
            ]
    for name in (assistant.PHOENIX, assistant.COLLECTOR):
        cluster.wait_rollout(
            "Deployment",
            name,
            assistant.OBSERVABILITY,
            timeout_s=READY_TIMEOUT_S,
            on_progress=every_ten(name, say),
        )
    return done


def served_to_the_class(cluster: Cluster, title: str, folder: str, kind: str, api_version: str) -> list[str]:
    """Nothing done: a seat of a class has kinds and controllers where its instructor installed them."""
    try:
        cluster.api.type_of(kind, api_version)
    except InvalidManifest as missing:
        raise EnvironmentFault(
            f"this class has no {title}: its kinds and its controller are the cluster's, and its instructor "
            "installs them",
            next_command=f"kubectl apply --server-side -k manifests/stack/{folder}/overlays/gpu",
        ) from missing
    return []


def first_policy() -> str:
    """The policy with which lab 02 left vLLM."""
    text = (MANIFESTS / "vllm" / "base" / "network-policy.yaml").read_text()
    return text.replace("metadata:\n", f"metadata:\n  namespace: {SYSTEM}\n", 1)


def every_ten(name: str, progress: Progress) -> Callable[[float, str], None]:
    """A line when what is missing changes, and every ten seconds."""
    said: list[tuple[str, int]] = []

    def say(elapsed_s: float, text: str) -> None:
        now = (text, int(elapsed_s // 10))
        if now not in said:
            said.append(now)
            progress(f"{name}: {text} ({elapsed_s:.0f} s)")

    return say


def _namespaces() -> list[dict[str, Any]]:
    return [_namespace(SYSTEM, {}), _namespace(APPS, {"kubedojo.dev/role": "llm-apps"})]


def _namespace(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def load_images(*names: str) -> None:
    """Import workload images where the embedded cluster lacks them; it is known to the command line alone.

    Raises:
        EnvironmentFault: they are not to be had, in the command's last words.
    """
    try:
        run_course("images", "load", *names)
    except CourseCommandFailed as failed:
        raise EnvironmentFault(
            f"the images of {', '.join(names)} could not be imported: {failed}",
            next_command=f"course images load {' '.join(names)}",
        ) from failed
