"""A lab's life cycle: `start` prepares, `reset` goes back; `solution.py` solves.

What a lab starts from is `manifests/labs/NN/start/*.yaml` (`$TOOLBOX`, `$VLLM` … stand for this
cluster's images); a lab without that folder starts from nothing. A lab may declare functions of its
own that replace or add to this:

    @lab.prerequisites (view) -> verdicts          what must hold before the lab makes sense; each must PASS
    @lab.start (cluster, progress) -> lines        instead of applying the start manifests
    @lab.reset (cluster, progress) -> lines        instead of pruning back to them

The images that a lab declares are brought in first, where the cluster lacks them.

`start` only adds: work that is there stays. `reset` removes what the start state does not hold, and
puts back what was changed; where nothing differs it writes nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from helpers.cluster.deadline import Deadline
from helpers.cluster.leftovers import DELETE_TIMEOUT_S, leftovers
from helpers.errors import EnvironmentFault, InvalidManifest
from helpers.grading.declare import Lab
from helpers.grading.journal import journal_for
from helpers.grading.verdict import Status
from helpers.progress import Progress
from helpers.settings import REPOSITORY
from helpers.stack.bring_up import load_images
from helpers.stack.images import missing

if TYPE_CHECKING:
    from helpers.cluster import Cluster, Resource

READ_TIMEOUT_S = 15.0
# Field managers that act for the cluster: they do not count as somebody's edit.
_SYSTEM_MANAGERS = re.compile(r"kube(?!ctl).*|.*-controller(-manager)?|.*-provisioner|.*-operator|course")


class PrerequisiteMissing(EnvironmentFault):
    """The cluster lacks what the lab needs before it can be started."""


def start(lab: Lab, cluster: Cluster, progress: Progress) -> list[str]:
    """Put the cluster in the lab's start state; what was done, a line each, empty when all was there.

    Raises:
        PrerequisiteMissing: the first prerequisite that does not hold, with the next command.
    """
    check_prerequisites(lab, cluster)
    brought = _bring_in(lab, cluster, progress)
    if lab.start_with:
        return [*brought, *lab.start_with(cluster, progress)]
    return brought + _apply(cluster, start_manifests(lab, cluster), progress)


def _bring_in(lab: Lab, cluster: Cluster, progress: Progress) -> list[str]:
    """The lab's images, where the cluster's nodes lack them."""
    wanted = missing(cluster, lab.images)
    if wanted:
        progress(f"loading the images of {', '.join(wanted)}")
        load_images(*wanted)
    return [f"image {name} brought in" for name in wanted]


def check_prerequisites(lab: Lab, cluster: Cluster) -> None:
    """Ask for all that the lab says must hold first."""
    view = cluster.view(Deadline(READ_TIMEOUT_S))
    for verdict in lab.asks_first(view) if lab.asks_first else ():
        if verdict.status is not Status.PASS:
            message = f"lab {lab.id} needs {verdict.expected}; the cluster has {verdict.observed}"
            raise PrerequisiteMissing(message, next_command=verdict.next_command or "course doctor")


def reset(lab: Lab, cluster: Cluster, progress: Progress, *, journals: Path | None = None) -> list[str]:
    """Bring the lab's namespaces back to its start state; what was done, a line each.

    A second reset finds nothing to do and writes nothing.
    """
    check_prerequisites(lab, cluster)
    done = list(lab.reset_with(cluster, progress)) if lab.reset_with else _prune(lab, cluster, progress)
    uid = cluster.identity().uid
    if journal_for(lab.id, uid, suffix=cluster.scope.suffix, home=journals).forget():
        done.append("forgot what was seen once (the journal)")
    return done


def start_manifests(lab: Lab, cluster: Cluster) -> list[dict[str, Any]]:
    """The objects of `manifests/labs/NN/start`, with this cluster's images; empty without the folder."""
    from helpers.cluster.manifests import load

    folder = REPOSITORY / "manifests" / "labs" / lab.id / "start"
    names = {name.upper(): reference for name, reference in cluster.profile().images.items()}
    objects: list[dict[str, Any]] = []
    for file in sorted(folder.glob("*.yaml")):
        try:
            objects += load(Template(file.read_text()).safe_substitute(names))
        except InvalidManifest as problem:
            raise InvalidManifest(f"{file.relative_to(REPOSITORY)}: {problem}") from problem
    return objects


def _apply(cluster: Cluster, manifests: list[dict[str, Any]], progress: Progress) -> list[str]:
    if not manifests:
        return []
    progress(f"applying {len(manifests)} objects")
    applied = cluster.apply(manifests)
    return [f"{item.action} {item.kind} {item.name}" for item in applied if item.action != "unchanged"]


def _prune(lab: Lab, cluster: Cluster, progress: Progress) -> list[str]:
    manifests = start_manifests(lab, cluster)
    kept = {_key(item) for item in manifests}
    done: list[str] = []
    for namespace in lab.namespaces:
        if ("Namespace", namespace, None) not in kept:
            progress(f"deleting the namespace {namespace} and waiting until it is gone")
            if cluster.delete_namespace(namespace, DELETE_TIMEOUT_S):
                done.append(f"deleted Namespace {namespace}")
            continue
        for found in leftovers(cluster, namespace):
            if (found.kind, found.name, namespace) in kept and not edited_by_hand(found):
                continue
            progress(f"deleting {found.kind} {found.name}")
            if cluster.delete(found.kind, found.name, namespace, wait_s=DELETE_TIMEOUT_S):
                done.append(f"deleted {found.kind} {found.name}")
    return done + _put_back(cluster, manifests, progress)


def _key(manifest: dict[str, Any]) -> tuple[str, str, str | None]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("name", ""), metadata.get("namespace")


def edited_by_hand(found: Resource) -> bool:
    """Whether someone other than the course and the cluster's controllers wrote to the object.

    Server-side apply cannot take away a field that another manager added: such an object is made anew.
    """
    return any(
        not _SYSTEM_MANAGERS.fullmatch(entry.get("manager", ""))
        for entry in found.metadata.get("managedFields") or ()
        if not entry.get("subresource")
    )


def _put_back(cluster: Cluster, manifests: list[dict[str, Any]], progress: Progress) -> list[str]:
    if not manifests or all(change.action == "none" for change in cluster.diff(manifests)):
        return []
    return _apply(cluster, manifests, progress)
