"""Grading a class inside its cluster: an Indexed Job, a pod for each share of the learners.

The grader has a namespace of its own, which no learner can see into, and a service account that lives
no longer than the run. Its pods put what they saw into ConfigMaps there; this machine collects them,
signs them and keeps them, as it does with what it saw itself. The signing key never leaves it.

A client that dies loses nothing: the Job goes on, and `course class grade --resume --in-cluster`
collects what it left. A pod that dies is started again and leaves out whoever has a result.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.classroom.marking.marking import LabsOf, Marked, Marker, Progress, mark
from helpers.classroom.marking.scheduler import Seen
from helpers.classroom.marking.shard import (
    LEARNER_LABEL,
    PLAN,
    PLAN_KEY,
    REPORT_KEY,
    RUN_LABEL,
    TOGETHER,
    Plan,
    journals_of,
    sources_digest,
    unpacked,
)
from helpers.errors import ClusterUnreachable, EnvironmentFault, LabError
from helpers.grading.engine import RUN_TIMEOUT_S
from helpers.grading.journal import Journal
from helpers.grading.report import Report, course_version

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.classroom.marking.runs import Run
    from helpers.cluster import Cluster, Resource

IMAGE = "grader"
ACCOUNT = "grader"
POLL_S = 1.0
START_S = 120.0
CLEAN_UP_S = 60.0
LARGEST_PLAN = 900_000  # bytes: etcd takes an object of 1.5 MiB, a ConfigMap of 1 MiB
_NEVER = (
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
)


class JobFailed(EnvironmentFault):
    """The Job in the cluster cannot do its work."""


def mark_in_cluster(
    folder: ClassFolder,
    run: Run,
    members: Sequence[Member],
    labs_of: LabsOf,
    *,
    shards: int,
    deadline_s: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Iterator[Marked]:
    """Grade the members of the shared cluster in a Job there, the others from here; each once."""
    inside = [member for member in members if member.kubeconfig is None and member.suffix]
    outside = [member for member in members if member not in inside]
    marker = Marker(folder, run, labs_of)
    done = 0
    if inside:
        cluster = folder.shared_cluster()
        plan = plan_of(folder, run, inside, labs_of, shards=shards, deadline_s=deadline_s)
        start(cluster, plan, _hidden(run))
        for seen in collect(cluster, plan, folder, inside):
            done += 1
            marked = marker.take(seen)
            if on_progress:
                on_progress(Progress(done, len(members), len(inside) - done))
            yield marked
        clean_up(cluster, plan.namespace)
    yield from mark(folder, run, outside, labs_of, deadline_s=deadline_s)


def namespace_of(class_name: str) -> str:
    """The grader's own namespace. Not the class's: its service accounts are the learners'."""
    return f"course-marking-{class_name}"


def plan_of(
    folder: ClassFolder,
    run: Run,
    members: Sequence[Member],
    labs_of: LabsOf,
    *,
    shards: int,
    deadline_s: float | None,
) -> Plan:
    """What the Job is told."""
    windows_s = sum(check.window_s for lab in labs_of(members[0]) for check in lab.checks)
    return Plan(
        run=run.path.stem.lower(),
        class_name=folder.name,
        cluster_uid=folder.cluster_uid,
        namespace=namespace_of(folder.name),
        labs=run.labs,
        shards=min(shards, len(members)),
        deadline_s=deadline_s or RUN_TIMEOUT_S + windows_s,
        sources=sources_digest(),
        course=asdict(course_version()),
        learners=tuple(
            {**asdict(item.learner), "suffix": item.suffix, "nonce": item.nonce} for item in members
        ),
        journals={item.key: journals_of(folder.journals_dir(item)) for item in members},
        hidden=bool(run.options.get("hidden")),
    )


def _hidden(run: Run) -> Path | None:
    return Path(run.options["hidden"]) if run.options.get("hidden") else None


def start(cluster: Cluster, plan: Plan, hidden: Path | None) -> None:
    """Put the Job into the cluster, unless this run's Job is there already.

    Raises:
        JobFailed: no image here runs the course, or the plan is larger than a ConfigMap.
    """
    data = plan.to_bytes()
    if len(data) > LARGEST_PLAN:
        raise JobFailed(
            f"the plan for {len(plan.learners)} learners is larger than a ConfigMap",
            next_command="course class grade --labs 01 --in-cluster --learner ID …",
        )
    name = job_name(plan.run)
    if cluster.view().find("Namespace", plan.namespace):
        if cluster.view().find("Job", name, plan.namespace):
            return
        clean_up(cluster, plan.namespace)  # what an earlier run left
    image = _image(cluster)
    cluster.apply(_namespace(plan.namespace))
    cluster.apply([*_account(plan.namespace), _plan_map(plan, data), *_hidden_secret(plan, hidden)])
    cluster.apply(_job(plan, image))


def _image(cluster: Cluster) -> str:
    """The image with the course's checks; on an embedded cluster it is made and brought in here."""
    profile = cluster.profile()
    image = profile.images.get(IMAGE)
    if not image:
        raise JobFailed(
            "this cluster's profile names no image that runs the course (images: grader)",
            next_command="course class grade --resume",
        )
    if profile.name == "embedded":
        from helpers.stack.bring_up import load_images

        load_images(IMAGE)
    return image


def job_name(run: str) -> str:
    """The Job of a run."""
    return f"marking-{run}"


def _object(api: str, kind: str, name: str, namespace: str | None = None, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"course.llm-stack/grader": "true"}}
    metadata |= {"namespace": namespace} if namespace else {}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **more}


def _namespace(name: str) -> dict[str, Any]:
    made = _object("v1", "Namespace", name)
    made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
    return made


def _account(namespace: str) -> list[dict[str, Any]]:
    """What the grader may: read everything, ask by dry run, look from inside probe pods, keep results.

    RBAC cannot tell a dry run from the real thing, so this is nearly an administrator: it is bound for
    the length of one run, in a namespace where nobody else may start a pod.
    """
    group = "rbac.authorization.k8s.io"
    asked = ["pods", "persistentvolumeclaims", "services", "configmaps", "namespaces"]
    rules = [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": asked, "verbs": ["create", "patch"]},
        {"apiGroups": ["apps", "batch", "networking.k8s.io", "policy"], "resources": ["*"], "verbs": ["create", "patch"]},
        {"apiGroups": [""], "resources": ["pods/exec", "pods/portforward", "services/proxy", "pods/proxy"], "verbs": ["get", "create"]},
        {"nonResourceURLs": ["*"], "verbs": ["get"]},
    ]  # fmt: skip
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    return [
        _object("v1", "ServiceAccount", ACCOUNT, namespace),
        _object(f"{group}/v1", "ClusterRole", namespace, rules=rules),
        _object(
            f"{group}/v1",
            "ClusterRoleBinding",
            namespace,
            roleRef={"apiGroup": group, "kind": "ClusterRole", "name": namespace},
            subjects=[subject],
        ),
    ]


def _plan_map(plan: Plan, data: bytes) -> dict[str, Any]:
    content = {PLAN_KEY: base64.b64encode(data).decode()}
    return _object("v1", "ConfigMap", "plan", plan.namespace, binaryData=content)


def _hidden_secret(plan: Plan, hidden: Path | None) -> list[dict[str, Any]]:
    """The instructor's hidden checks, for the length of the run."""
    if hidden is None:
        return []
    files = [hidden] if hidden.is_file() else sorted(hidden.glob("*.py"))
    data = {path.name: base64.b64encode(path.read_bytes()).decode() for path in files}
    return [_object("v1", "Secret", "hidden", plan.namespace, data=data)]


def _job(plan: Plan, image: str) -> dict[str, Any]:
    # Every learner may take the whole deadline, and the pods may have to wait for a place.
    most_s = plan.deadline_s * (1 + len(plan.learners) // (plan.shards * TOGETHER)) + 600
    spec = {
        "completionMode": "Indexed",
        "completions": plan.shards,
        "parallelism": plan.shards,
        "backoffLimit": 6,
        "activeDeadlineSeconds": int(most_s),
        "template": {"metadata": {"labels": {RUN_LABEL: plan.run}}, "spec": _pod(plan, image)},
    }
    return _object("batch/v1", "Job", job_name(plan.run), plan.namespace, spec=spec)


def _pod(plan: Plan, image: str) -> dict[str, Any]:
    mounts = [{"name": "plan", "mountPath": str(PLAN)}, {"name": "tmp", "mountPath": "/tmp"}]
    volumes: list[dict[str, Any]] = [
        {"name": "plan", "configMap": {"name": "plan"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if plan.hidden:
        mounts.append({"name": "hidden", "mountPath": "/hidden"})
        volumes.append({"name": "hidden", "secret": {"secretName": "hidden"}})
    container = {
        "name": "grader",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return {
        "restartPolicy": "OnFailure",
        "serviceAccountName": ACCOUNT,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }


def collect(
    cluster: Cluster, plan: Plan, folder: ClassFolder, members: Sequence[Member]
) -> Iterator[Seen[Member]]:
    """Each member's result as it appears; who has none when the Job has ended was not judged.

    Raises:
        JobFailed: its pods cannot start.
        ClusterUnreachable: the API server stayed away; the Job goes on, and a later run collects.
    """
    waiting = {member.key: member for member in members}
    started = time.monotonic()
    while waiting:
        ended = _ended(cluster, plan)  # asked first: what it left is there when it has ended
        for item in _results(cluster, plan):
            member = waiting.pop(item.labels.get(LEARNER_LABEL, ""), None)
            if member is not None:
                yield Seen(member, _report_in(item, folder, member))
        if waiting and ended:
            for member in waiting.values():
                yield Seen(member, None, JobFailed(f"the Job ended without a result: {ended}"))
            return
        if waiting:
            _check_pods(cluster, plan, started)
            time.sleep(POLL_S)


def _results(cluster: Cluster, plan: Plan) -> list[Resource]:
    return _patiently(
        lambda: cluster.view().list("ConfigMap", plan.namespace, labels=f"{RUN_LABEL}={plan.run}")
    )


def _ended(cluster: Cluster, plan: Plan) -> str:
    """Why the Job is at its end; empty while it works."""
    job = _patiently(lambda: cluster.view().find("Job", job_name(plan.run), plan.namespace))
    if job is None:
        return "it was deleted"
    for kind in ("Complete", "Failed"):
        condition = job.conditions(kind)
        if condition and condition.is_true:
            return condition.message or kind.lower()
    return ""


def _check_pods(cluster: Cluster, plan: Plan, started: float) -> None:
    """A pod that can never start ends the wait; one that takes long to start does so after a while."""
    pods = _patiently(lambda: cluster.view().pods(plan.namespace, labels=f"{RUN_LABEL}={plan.run}"))
    for pod in pods:
        for status in pod.path("status.containerStatuses", []) or []:
            reason = ((status.get("state") or {}).get("waiting") or {}).get("reason", "")
            if reason in _NEVER:
                raise JobFailed(
                    f"pod {pod.name} cannot start: {reason}", next_command="course images load grader"
                )
    if not any(pod.phase != "Pending" for pod in pods) and time.monotonic() > started + START_S:
        raise JobFailed(
            f"no pod of the Job started within {START_S:g} s",
            next_command=f"kubectl describe pods -n {plan.namespace}",
        )


def _patiently(ask: Callable[[], Any], tries: int = 30) -> Any:
    """An API server that restarts is waited for: the Job does not need us meanwhile."""
    for left in reversed(range(tries)):
        try:
            return ask()
        except (ClusterUnreachable, EnvironmentFault):
            if not left:
                raise
            time.sleep(POLL_S)
    raise AssertionError("unreachable")


def _report_in(item: Resource, folder: ClassFolder, member: Member) -> Report:
    """The Report of one result; what the pod saw once is taken up into the instructor's journal."""
    from json import dumps

    tree = unpacked(base64.b64decode(item.path("binaryData", {})[REPORT_KEY]))
    home = folder.journals_dir(member)
    for name, text in tree["journals"].items():
        path = (home / name).resolve()
        if path.is_relative_to(home.resolve()):
            _merge(path, text)
    return Report.from_json(dumps(tree["report"]))


def _merge(path: Path, text: str) -> None:
    """Entries that this machine does not have yet; the first sighting stays."""
    from datetime import datetime
    from json import loads

    tree = loads(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrived = path.with_suffix(".arrived")
    arrived.write_text(text)
    journal, came = Journal(path, tree["cluster"]), Journal(arrived, tree["cluster"])
    for check in tree["entries"]:
        entry = came.entry(check)
        if entry:
            journal.record(check, entry.verdict_as_seen(), datetime.fromisoformat(entry.observed_at))
    arrived.unlink(missing_ok=True)


def clean_up(cluster: Cluster, namespace: str) -> None:
    """Take the grader off the cluster: its rights first, then its namespace with all it holds."""
    for kind in ("ClusterRoleBinding", "ClusterRole"):
        cluster.delete(kind, namespace)
    try:
        cluster.delete_namespace(namespace, wait_s=CLEAN_UP_S)
    except LabError as late:
        raise JobFailed(
            f"the grader's namespace {namespace} is not gone: {late}",
            next_command=f"kubectl get namespace {namespace} -o yaml",
        ) from late
