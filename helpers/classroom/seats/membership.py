"""Building and taking down a class on its shared cluster: the same command again continues or mends.

The class's file is written before the cluster is touched, so that an interrupted run is continued by
the next one with the same nonces. Everything is applied server-side under a field manager of its own:
where nothing differs, nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from helpers.atomic_file import write_atomically
from helpers.classroom.folder import ClassFolder, Member, name_option
from helpers.classroom.roster import Learner
from helpers.classroom.seats import rights
from helpers.classroom.seats.handout import DEFAULT_DAYS, hand_out
from helpers.cluster.faults import Asked
from helpers.cluster.kubeconfig import absolute
from helpers.cluster.leftovers import CUSTOM_KINDS, KINDS
from helpers.cluster.manifests import in_order
from helpers.errors import EnvironmentFault, Forbidden, InvalidManifest, LabError
from helpers.progress import Progress

if TYPE_CHECKING:
    from helpers.cluster import Cluster
    from helpers.cluster.connection import Connection
    from helpers.cluster.resource import Resource
    from helpers.cluster.view import ClusterView

WORKERS = 8
GONE_TIMEOUT_S = 180.0
PATIENCE_S = 30.0
REMOVED_AT = "removed_at"
OWN_CLUSTERS = "own_clusters"  # by learner: the kube-system uid of each cluster that is theirs alone
# What the instructor must be allowed to do, as RBAC writes it: verb, group, resource.
NEEDED_RIGHTS = (
    ("create", "", "namespaces"),
    ("delete", "", "namespaces"),
    ("create", "", "serviceaccounts/token"),
    ("patch", "", "resourcequotas"),
    ("create", "rbac.authorization.k8s.io", "clusterroles"),
    ("escalate", "rbac.authorization.k8s.io", "clusterroles"),
    ("bind", "rbac.authorization.k8s.io", "clusterroles"),
    ("create", "rbac.authorization.k8s.io", "rolebindings"),
    ("create", "admissionregistration.k8s.io", "validatingadmissionpolicies"),
)


class SomeFailed(EnvironmentFault):
    """Some learners could not be served; the others were, and the next run continues."""


@dataclass(frozen=True)
class Plan:
    """What a roster means for a class: who comes in, who stays, and what is only reported."""

    members: tuple[Member, ...]
    added: tuple[Member, ...] = ()
    renamed: tuple[Member, ...] = ()
    gone: tuple[Member, ...] = ()
    stay_removed: tuple[Member, ...] = ()


@dataclass
class Outcome:
    """What one run changed on the cluster: objects by action, and handouts written."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    handouts: list[str] = field(default_factory=list)


# Planning


def plan(folder: ClassFolder, learners: Sequence[Learner], readmit: Iterable[str] = ()) -> Plan:
    """Hold a roster against the class. Nobody is removed by a roster, and a removed learner stays removed.

    Args:
        readmit: ids of removed learners to take in again, with the nonce that they had.
    """
    known = {member.learner.id.lower(): member for member in folder.members}
    again = {identity.lower() for identity in readmit} | (
        set(known) if REMOVED_AT in folder.settings else set()
    )
    listed = {learner.id.lower() for learner in learners}
    unknown = sorted(again - listed - set(known))
    if unknown:
        raise LabError(f"{', '.join(unknown)} is neither in the roster nor in class {folder.name}")
    added, renamed, removed, result = [], [], [], []
    for learner in learners:
        member = known.get(learner.id.lower())
        if member is None:
            added.append(Member.new(learner))
            result.append(added[-1])
            continue
        back = member.removed and learner.id.lower() in again
        fresh = replace(member, learner=learner, removed=member.removed and not back)
        result.append(fresh)
        if back:
            added.append(fresh)
        elif fresh.removed:
            removed.append(fresh)
        elif fresh != member:
            renamed.append(fresh)
    gone = tuple(member for key, member in known.items() if key not in listed and not member.removed)
    return Plan(tuple(result), tuple(added), tuple(renamed), gone, tuple(removed))


# Creating


def check_cluster(folder: ClassFolder, cluster: Cluster) -> str:
    """The cluster's uid, after making sure that it is the class's and that the instructor may build there.

    Raises:
        LabError: the class lives on another cluster.
        Forbidden: the instructor lacks rights, each named.
    """
    uid = cluster.identity().uid
    if folder.cluster_uid and folder.cluster_uid != uid and folder.active:
        raise LabError(
            f"class {folder.name} was created on another cluster (uid {folder.cluster_uid[:8]}…, this one is {uid[:8]}…)",
            next_command="course use --context NAME, or course class create --name ANOTHER",
        )
    lacking = [
        f"{verb} {resource}"
        for verb, group, resource in NEEDED_RIGHTS
        if not _may(cluster, verb, group, resource)
    ]
    if lacking:
        raise Forbidden(
            f"your credentials cannot build a class on this cluster; not allowed: {', '.join(lacking)}",
            next_command="course use --context ADMIN, with rights like cluster-admin's",
        )
    return uid


def _may(cluster: Cluster, verb: str, group: str, resource: str) -> bool:
    name, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": name, "subresource": subresource, "namespace": ""}
    return can_i(cluster, attributes)


def can_i(cluster: Cluster, attributes: dict[str, str]) -> bool:
    """The API server's own answer to whether these credentials may do something."""
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = cluster.api.call("POST", path, Asked("a review of your rights"), body=body)
    return bool((answer.get("status") or {}).get("allowed"))


def build(
    folder: ClassFolder,
    cluster: Cluster,
    progress: Progress,
    *,
    days: int = DEFAULT_DAYS,
    server: str = "",
) -> Outcome:
    """Put all of the class on its shared cluster, and write the handouts.

    Raises:
        SomeFailed: with every learner's reason; the others are complete.
    """
    outcome = Outcome()
    _build_common(cluster, folder.name, outcome)
    members = [member for member in folder.active if member.kubeconfig is None and member.suffix]
    foreign = _foreign_namespaces(cluster.view(), folder.name)

    def work(member: Member) -> tuple[list[Any], bool]:
        _refuse_foreign(member, foreign)
        applied = cluster.apply(rights.member_objects(folder.name, member), field_manager=rights.MANAGER)
        return applied, hand_out(folder, member, cluster, days=days, server=server)

    failures = []
    for member, result in _each(members, work):
        if isinstance(result, LabError):
            failures.append(f"{member.learner.id}: {result}")
            continue
        _count(outcome, result[0])
        if result[1]:
            outcome.handouts.append(member.learner.id)
        progress(f"{member.learner.id} is in place")
    if failures:
        raise SomeFailed(
            "\n".join(
                [
                    f"{len(failures)} of {len(members)} learners are not complete:",
                    *(f"  {line}" for line in failures),
                ]
            ),
            next_command=f"course class create --roster ROSTER{name_option(folder.name)} continues",
        )
    return outcome


def _build_common(cluster: Cluster, class_name: str, outcome: Outcome) -> None:
    """What all learners share, where it differs from what is there.

    Applying an admission policy once more writes it anew even when nothing differs: its controller
    has applied the status meanwhile, and the API server puts our entry of the managed fields last.
    """
    objects = in_order(rights.class_objects(class_name))
    wanted = [
        item for item, change in zip(objects, cluster.diff(objects), strict=True) if change.action != "none"
    ]
    outcome.unchanged += len(objects) - len(wanted)
    if wanted:
        _count(outcome, cluster.apply(wanted, field_manager=rights.MANAGER))


def _each(members: Sequence[Member], work: Callable[[Member], Any]) -> Iterable[tuple[Member, Any]]:
    """Each learner's result or LabError, as they come in order; several at a time."""

    def guarded(member: Member) -> Any:
        try:
            return work(member)
        except LabError as error:
            return error

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        yield from zip(members, pool.map(guarded, members), strict=True)


def _count(outcome: Outcome, applied: Iterable[Any]) -> None:
    for item in applied:
        setattr(outcome, item.action, getattr(outcome, item.action) + 1)


def _foreign_namespaces(view: ClusterView, class_name: str) -> dict[str, str]:
    """Namespaces that are not this class's: by name, whose they are."""
    return {
        item.name: item.labels.get(rights.CLASS_LABEL, "")
        for item in view.list("Namespace")
        if item.labels.get(rights.CLASS_LABEL) != class_name
    }


def _refuse_foreign(member: Member, foreign: dict[str, str]) -> None:
    taken = [name for name in rights.namespaces_of(member) if name in foreign]
    if taken:
        owner = foreign[taken[0]]
        whose = f"belongs to class {owner}" if owner else "was not made by a class"
        raise LabError(f"namespace {taken[0]} is there already and {whose}")


# Probe pods


def place_probes(
    folder: ClassFolder, members: Sequence[Member], progress: Progress, *, take: bool = False
) -> Iterable[tuple[Member, str]]:
    """Each learner's probe pods, placed or taken away with the instructor's credentials; what came of it."""
    from helpers.stack import probes

    def work(member: Member) -> str:
        cluster = folder.instructor_cluster(member)
        if take:
            return f"{len(probes.remove_probe_pods(cluster))} probe pods deleted"
        placed = probes.place_probes(cluster)
        missing = "".join(f"; {pod} is missing: {why}" for pod, why in placed.missing.items())
        return f"{len(placed.ready)} probe pods ready{missing}"

    for member, result in _each(members, work):
        progress(member.learner.id)
        yield member, str(result)


# A cluster of one's own


def add_cluster(folder: ClassFolder, member: Member, kubeconfig: Path, context: str | None) -> ClassFolder:
    """Take a learner's own cluster into the class: the instructor's way in is copied, the seat written.

    Raises:
        LabError: the same cluster is somebody else's.
        Forbidden, ClusterUnreachable: the kubeconfig does not lead to a cluster that can be graded.
    """
    from helpers.cluster import Cluster, Scope
    from helpers.cluster.connection import standalone

    tree = standalone(kubeconfig, context)
    cluster = Cluster.connect(kubeconfig=kubeconfig, context=context, scope=Scope())
    uid = cluster.identity().uid
    _refuse_taken(folder, member, uid)
    if not can_i(cluster, {"verb": "*", "group": "*", "resource": "*"}):
        raise Forbidden(
            f"{kubeconfig} does not give an administrator's rights: grading asks by dry run, in pods and nodes",
            next_command="kubectl auth can-i '*' '*'",
        )
    fresh = replace(member, suffix="", kubeconfig=folder.own_cluster(member), removed=False)
    write_atomically(folder.own_cluster(member), yaml.safe_dump(tree, sort_keys=False))
    apps = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": rights.APPS}}
    cluster.apply([apps, rights.seat(folder.name, fresh)], field_manager=rights.MANAGER)
    uids = {**folder.settings.get(OWN_CLUSTERS, {}), member.key: uid}
    return replace(folder, settings={**folder.settings, OWN_CLUSTERS: uids}).with_members([fresh])


def _refuse_taken(folder: ClassFolder, member: Member, uid: str) -> None:
    """One cluster, one learner: what two share, neither could be graded for."""
    if uid == folder.cluster_uid:
        raise LabError(
            f"this is the class's shared cluster: {member.learner.id} has, or can have, a place there"
        )
    uids = folder.settings.get(OWN_CLUSTERS, {})
    for other in folder.active:
        if other.kubeconfig is not None and other.key != member.key and uids.get(other.key) == uid:
            raise LabError(f"this is the cluster of {other.learner.id} (kube-system {uid[:8]}…)")


# Removing


def remove_member(folder: ClassFolder, member: Member, cluster: Cluster, progress: Progress) -> list[str]:
    """Take one learner off the shared cluster: first the key, then all that they had there."""
    done = _end_access(folder, member, cluster)
    selector = f"{rights.CLASS_LABEL}={folder.name},{rights.LEARNER_LABEL}={member.suffix}"
    done += delete_namespaces(cluster, selector, progress)
    folder.handout(member).unlink(missing_ok=True)
    return done


def leave_own_cluster(folder: ClassFolder, member: Member) -> list[str]:
    """Take the seat off a learner's own cluster, if it answers, and forget the way in."""
    done = []
    try:
        if folder.instructor_cluster(member).delete("ConfigMap", rights.SEAT, rights.APPS):
            done.append(f"deleted the seat of {member.learner.id}")
    except EnvironmentFault as fault:
        done.append(f"the seat stays on the cluster of {member.learner.id}, which cannot be reached: {fault}")
    folder.own_cluster(member).unlink(missing_ok=True)
    return done


def _end_access(folder: ClassFolder, member: Member, cluster: Cluster) -> list[str]:
    home, done = rights.prefix(folder.name), []
    for kind, name in (("Secret", rights.handout_secret(member)), ("ServiceAccount", member.suffix)):
        if cluster.delete(kind, name, home):
            done.append(f"deleted {kind} {name}")
    return done


def remove_class(folder: ClassFolder, cluster: Cluster, progress: Progress) -> list[str]:
    """Take the whole class off the shared cluster, by its label: also what no file here remembers."""
    name = folder.name
    done = []
    if cluster.delete("Namespace", rights.prefix(name)):  # all keys end with it
        done.append(f"deleted Namespace {rights.prefix(name)}")
    done += delete_namespaces(cluster, f"{rights.CLASS_LABEL}={name}", progress)
    for kind, found, namespace in leftovers(cluster, name):
        progress(f"deleting {kind} {found}")
        if cluster.delete(kind, found, namespace):
            done.append(f"deleted {kind} {found}")
    for member in folder.members:
        folder.handout(member).unlink(missing_ok=True)
    return done


def leftovers(cluster: Cluster, class_name: str) -> list[tuple[str, str, str | None]]:
    """What the class still has on the cluster, in the order to delete it in: kind, name, namespace."""
    view, selector = cluster.view(), f"{rights.CLASS_LABEL}={class_name}"
    kinds = (
        *("ClusterRoleBinding", "RoleBinding", "ClusterRole", "Role"),
        *("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy", "Namespace"),
    )
    return [
        (kind, item.name, item.namespace)
        for kind in kinds
        for item in view.list(kind, labels=selector, all_namespaces=True)
        if not (kind == "Namespace" and item.is_terminating)
    ]


def delete_namespaces(cluster: Cluster, selector: str, progress: Progress) -> list[str]:
    """Delete the namespaces that carry these labels, all at once, and wait until they are gone."""
    from helpers.cluster import NotYet

    names = [item.name for item in cluster.view().list("Namespace", labels=selector)]
    done = [f"deleted Namespace {name}" for name in names if cluster.delete("Namespace", name)]
    if not names:
        return done
    started, stripped = datetime.now(UTC), False

    def gone(view: ClusterView) -> bool:
        nonlocal stripped
        left = [item.name for item in view.list("Namespace", labels=selector)]
        if not left:
            return True
        if not stripped and (datetime.now(UTC) - started).total_seconds() > PATIENCE_S:
            stripped = True
            done.extend(strip_finalizers(cluster, left))
        progress(f"{len(left)} of {len(names)} namespaces are still ending")
        raise NotYet(f"{', '.join(left[:5])} still there")

    cluster.wait_until("the class's namespaces gone", gone, timeout_s=GONE_TIMEOUT_S)
    return done


def strip_finalizers(cluster: Cluster, namespaces: Iterable[str]) -> list[str]:
    """Take away finalizers that nobody will act on: a learner may have written them on an object."""
    done, view = [], cluster.view()
    for namespace in namespaces:
        for kind in (*CUSTOM_KINDS, *KINDS, "Lease"):
            for item in _all_of(view, kind, namespace):
                ours = [
                    name for name in item.metadata.get("finalizers") or [] if "kubernetes.io/" not in name
                ]
                if ours:
                    cluster.patch(kind, item.name, {"metadata": {"finalizers": None}}, namespace)
                    done.append(f"took finalizer {', '.join(ours)} off {kind} {item.name} in {namespace}")
    return done


def _all_of(view: ClusterView, kind: str, namespace: str) -> list[Resource]:
    """The namespace's objects of a kind; none where the cluster does not know it."""
    try:
        return view.list(kind, namespace)
    except InvalidManifest:
        return []


# The class's file


def with_cluster(folder: ClassFolder, uid: str, connection: Connection) -> ClassFolder:
    """The class on this cluster, reached as now."""
    settings = {key: value for key, value in folder.settings.items() if key != REMOVED_AT}
    kubeconfig = absolute(connection.kubeconfig) if connection.kubeconfig else None
    return replace(
        folder, cluster_uid=uid, kubeconfig=kubeconfig, context=connection.context, settings=settings
    )
