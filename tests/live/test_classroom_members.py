"""A class on a real API server: what each learner may and may not, in the server's own words."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers import cli
from helpers.classroom.folder import ClassFolder
from helpers.classroom.seats import rights
from helpers.classroom.seats.membership import can_i, leftovers
from helpers.cluster import Cluster, Scope
from helpers.cluster.faults import Asked
from helpers.errors import Forbidden, LabError, Refused

pytestmark = pytest.mark.live

NAME = "trial"
HOME = rights.prefix(NAME)
ROSTER = "id,name,email\nada,Ada,ada@example.org\nlin,Lin,\n"


@dataclass(frozen=True)
class Trial:
    """The class under test: its roster, and the instructor's and two learners' clusters."""

    roster: Path
    instructor: Cluster
    ada: Cluster
    lin: Cluster

    @property
    def folder(self) -> ClassFolder:
        return ClassFolder.open(NAME)


def course(*words: str | Path) -> int:
    return cli.run([str(word) for word in words])


@pytest.fixture(scope="module")
def trial(kubeconfig: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """A class of two, created with the command that an instructor types."""
    home = tmp_path_factory.mktemp("home")
    roster = home / "roster.csv"
    roster.write_text(ROSTER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_HOME", str(home))
        patch.setenv("COURSE_KUBECONFIG", str(kubeconfig))
        assert course("class", "create", "--roster", roster, "--name", NAME) == 0
        folder = ClassFolder.open(NAME)
        ada, lin = (Cluster.connect(kubeconfig=folder.handout(folder.member(who))) for who in ("ada", "lin"))
        yield Trial(roster, cluster, ada, lin)
        course("class", "remove", "--name", NAME, "--yes")


Row = tuple[str, str, str]  # verbs, resource with its group and subresource and name, namespace


def answers(cluster: Cluster, rows: list[Row]) -> dict[str, bool]:
    """What the API server says to each verb of each row: `get pods in llm-system-lin` and so on."""
    asked = [
        (f"{verb} {what} in {where or 'all namespaces'}", attributes(verb, what, where))
        for verbs, what, where in rows
        for verb in verbs.split()
    ]
    with ThreadPoolExecutor(8) as pool:
        said = pool.map(lambda item: can_i(cluster, item[1]), asked)
    return dict(zip((words for words, _ in asked), said, strict=True))


def attributes(verb: str, what: str, namespace: str) -> dict[str, str]:
    """`deployments.apps/scale:name` as the review's attributes."""
    what, _, name = what.partition(":")
    resource, _, subresource = what.partition("/")
    plural, _, group = resource.partition(".")
    return {
        **{"verb": verb, "group": group, "resource": plural},
        **{"subresource": subresource, "namespace": namespace, "name": name},
    }


READ, WRITE = "get list watch", "create update patch delete"
EVERY = f"{READ} {WRITE} deletecollection"
RBAC = ".rbac.authorization.k8s.io"

ALLOWED: list[Row] = [
    (f"{READ} {WRITE}", "pods", "llm-system-ada"),
    (f"{READ} {WRITE}", "deployments.apps", "llm-system-ada"),
    (f"{READ} {WRITE}", "statefulsets.apps", "llm-system-ada"),
    (f"{READ} {WRITE}", "jobs.batch", "llm-workshop-ada"),
    (f"{READ} {WRITE}", "secrets", "llm-system-ada"),
    (f"{READ} {WRITE}", "configmaps", "llm-system-ada"),
    (f"{READ} {WRITE}", "persistentvolumeclaims", "llm-system-ada"),
    (f"{READ} {WRITE}", "networkpolicies.networking.k8s.io", "llm-system-ada"),
    (f"{READ} {WRITE}", "leases.coordination.k8s.io", "llm-apps-ada"),
    ("get update patch", "deployments.apps/scale", "llm-system-ada"),
    ("get create", "pods/exec", "llm-apps-ada"),
    ("get create", "pods/portforward", "llm-system-ada"),
    ("get", "pods/log", "llm-system-ada"),
    ("create", "pods/eviction", "llm-system-ada"),
    ("get create", "services/proxy", "llm-system-ada"),
    (f"{READ} create", "resourcequotas", "llm-system-ada"),
    ("update patch delete", f"resourcequotas:{rights.LAB_QUOTA}", "llm-system-ada"),
    (READ, "events", "llm-workshop-ada"),
    ("get patch", "namespaces:llm-apps-ada", "llm-apps-ada"),
    ("get", f"configmaps:{rights.SEAT}", "llm-apps-ada"),
    ("create", "configmaps", "llm-apps-ada"),
    ("patch delete", "configmaps:game-day-answer", "llm-apps-ada"),
    (f"{READ} {WRITE}", "pods", "llm-outside-ada"),
    ("create", "pods/exec", "llm-outside-ada"),
    (READ, "pods", "llm-probes-ada"),
    (READ, "nodes", ""),
    (READ, "storageclasses.storage.k8s.io", ""),
    ("get", "namespaces:kube-system", "kube-system"),
    ("get", "configmaps:course-profile", "kube-public"),
    ("get", f"configmaps:{rights.QUEUE}", HOME),
]

NEIGHBOURS_WORK = [
    "pods pods/exec pods/log pods/portforward pods/attach pods/ephemeralcontainers services services/proxy",
    "secrets configmaps persistentvolumeclaims serviceaccounts serviceaccounts/token resourcequotas",
    "deployments.apps statefulsets.apps jobs.batch networkpolicies.networking.k8s.io events",
    f"leases.coordination.k8s.io roles{RBAC} rolebindings{RBAC}",
]

DENIED: list[Row] = [
    # the neighbour's
    *(
        (EVERY, resource, namespace)
        for namespace in ("llm-system-lin", "llm-apps-lin", "llm-workshop-lin", "llm-probes-lin")
        for line in NEIGHBOURS_WORK
        for resource in line.split()
    ),
    ("get patch update delete", "namespaces:llm-system-lin", "llm-system-lin"),
    # everybody's
    ("list watch create delete deletecollection", "namespaces", ""),
    (EVERY, "secrets", ""),
    (EVERY, "pods", ""),
    ("create update patch delete deletecollection", "nodes", ""),
    (f"{READ} create", "nodes/proxy", ""),
    ("update patch", "nodes/status", ""),
    (EVERY, "secrets", "kube-system"),
    ("create update patch delete", "pods", "kube-system"),
    ("get create", "pods/exec", "kube-system"),
    (EVERY, "persistentvolumes", ""),
    ("create update patch delete", "storageclasses.storage.k8s.io", ""),
    ("create update patch delete", "priorityclasses.scheduling.k8s.io", ""),
    ("create update patch delete", "customresourcedefinitions.apiextensions.k8s.io", ""),
    ("create", "certificatesigningrequests.certificates.k8s.io", ""),
    ("update", "certificatesigningrequests.certificates.k8s.io/approval", ""),
    # becoming somebody else
    ("impersonate", "users", ""),
    ("impersonate", "groups", ""),
    ("impersonate", "serviceaccounts", ""),
    ("impersonate", "serviceaccounts:lin", HOME),
    *(
        (f"{WRITE} escalate bind", f"{kind}{RBAC}", namespace)
        for kind, namespace in (
            ("clusterroles", ""),
            ("clusterrolebindings", ""),
            ("roles", "llm-system-ada"),
            ("rolebindings", "llm-system-ada"),
        )
    ),
    (EVERY, "serviceaccounts", HOME),
    ("create", "serviceaccounts/token:ada", HOME),
    ("create", "serviceaccounts/token", "llm-system-ada"),
    # the instructor's and the grader's
    (EVERY, "secrets", HOME),
    ("list watch create update patch delete", "configmaps", HOME),
    ("patch", f"configmaps:{rights.QUEUE}", HOME),
    *(
        ("update patch delete", f"resourcequotas:{quota}", f"llm-{space}-ada")
        for quota in (rights.LIMITS, rights.TURN)
        for space in ("system", "apps", "workshop", "outside", "probes")
    ),
    ("deletecollection", "resourcequotas", "llm-system-ada"),
    ("create update patch delete deletecollection", "limitranges", "llm-workshop-ada"),
    ("update patch delete", f"configmaps:{rights.SEAT}", "llm-apps-ada"),
    ("deletecollection", "configmaps", "llm-apps-ada"),
    ("create update patch delete deletecollection", "pods", "llm-probes-ada"),
    ("get create", "pods/exec", "llm-probes-ada"),
    ("create update patch delete", "networkpolicies.networking.k8s.io", "llm-probes-ada"),
    ("delete", "namespaces:llm-system-ada", "llm-system-ada"),
    (
        "create update patch delete",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "",
    ),
    ("create update patch delete", "validatingwebhookconfigurations.admissionregistration.k8s.io", ""),
    ("create update patch delete", "mutatingwebhookconfigurations.admissionregistration.k8s.io", ""),
]


def test_a_learner_may_do_what_the_labs_need(trial: Trial) -> None:
    said = answers(trial.ada, ALLOWED)
    assert len(said) > 90
    assert [question for question, allowed in said.items() if not allowed] == []


def test_a_learner_may_do_nothing_to_others_to_the_cluster_or_to_the_grader(trial: Trial) -> None:
    said = answers(trial.ada, DENIED)
    assert len(said) > 700
    assert [question for question, allowed in said.items() if allowed] == []


def test_in_a_neighbours_namespaces_a_learner_has_no_more_rights_than_anywhere(trial: Trial) -> None:
    anywhere = rules(trial.ada, "no-such-namespace")
    lin = trial.folder.member("lin")
    for namespace in rights.namespaces_of(lin):
        assert rules(trial.ada, namespace) == anywhere
    assert rules(trial.ada, "llm-system-ada") != anywhere


def rules(cluster: Cluster, namespace: str) -> list[Any]:
    """Everything that these credentials may do there, as the API server lists it."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    answer = cluster.api.call("POST", path, Asked("a review of rules"), body=body)
    return sorted(answer["status"]["resourceRules"], key=str)


def test_the_instructor_sees_and_the_neighbour_does_not(trial: Trial) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "huggingface-token", "namespace": "llm-system"},
        "stringData": {"token": "ada's"},
    }
    trial.ada.apply(secret)
    ada = trial.folder.instructor_cluster(trial.folder.member("ada"))
    assert ada.view().secret_keys("huggingface-token") == ("token",)
    stranger = Cluster(trial.lin.backend, scope=Scope("ada"))
    with pytest.raises(Forbidden):
        stranger.view().secret_keys("huggingface-token")
    with pytest.raises(Forbidden):
        stranger.delete("Secret", "huggingface-token", "llm-system")


def test_a_learner_can_label_their_namespace_but_not_touch_its_guards(trial: Trial) -> None:
    def label(key: str, value: str | None) -> None:
        trial.ada.patch("Namespace", "llm-apps", {"metadata": {"labels": {key: value}}})

    label("team", "blue")
    enforce = "pod-security.kubernetes.io/enforce"
    # A new admission policy takes the API server a moment.
    trial.instructor.wait_until(
        "the policy in force", lambda _: refused(lambda: label(enforce, "privileged")), timeout_s=30
    )
    for key, value in ((enforce, None), (rights.CLASS_LABEL, None), (rights.LEARNER_LABEL, "lin")):
        assert refused(lambda key=key, value=value: label(key, value)), key
    assert refused(lambda: trial.ada.patch("Namespace", "llm-apps", {"metadata": {"finalizers": ["a.b/c"]}}))


def refused(change: Callable[[], object]) -> str:
    """The API server's refusal; empty when it let the change through."""
    try:
        change()
    except Refused as refusal:
        return str(refusal)
    return ""


def pod(namespace: str = "llm-system", **spec: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1m", "memory": "1Mi"}}
    container = {"name": "main", "image": "question", "resources": resources, **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "question", "namespace": namespace},
        "spec": {"containers": [container], **spec},
    }


def service(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "question", "namespace": "llm-system"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"ports": [{"port": 80}], **spec},
    }


@pytest.mark.parametrize(
    ("question", "word"),
    [
        (pod(hostNetwork=True), "PodSecurity"),
        (pod(container={"securityContext": {"privileged": True}}), "PodSecurity"),
        (pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), "PodSecurity"),
        (pod("llm-outside", container={"securityContext": {"runAsUser": 0}}), "PodSecurity"),
        (pod(priorityClassName="system-node-critical"), "system priorities"),
        (service(externalIPs=["192.0.2.1"]), "addresses of others"),
        (service(type="NodePort"), "exceeded quota: course-limits"),
    ],
    ids=["host network", "privileged", "host path", "root beside the probes", "priority", "address", "port"],
)
def test_the_cluster_refuses_what_would_reach_beyond_a_seat(
    trial: Trial, question: dict[str, Any], word: str
) -> None:
    def answer(_: object) -> str | None:
        said = trial.ada.view().dry_run(question)
        return said.reason if not said.allowed else None

    # A new admission policy takes the API server a moment; the other refusals come at once.
    assert word in trial.instructor.wait_until("a refusal", answer, timeout_s=30)


def test_a_seat_is_read_by_its_learner_and_says_who_and_what(trial: Trial) -> None:
    member = trial.folder.member("ada")
    data = trial.ada.view().config_map(rights.SEAT, "llm-apps").data
    assert (data["learner"], data["class"], data["nonce"]) == ("ada", NAME, member.nonce)
    with pytest.raises(Forbidden):
        trial.ada.patch("ConfigMap", rights.SEAT, {"data": {"learner": "lin"}}, "llm-apps")
    with pytest.raises(Forbidden):
        trial.ada.delete("ConfigMap", rights.SEAT, "llm-apps")


def test_the_handout_is_private_and_knows_its_scope(trial: Trial) -> None:
    member = trial.folder.member("lin")
    path = trial.folder.handout(member)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Cluster.connect(kubeconfig=path).scope == Scope("lin")


def test_a_quota_of_the_lab_stands_beside_the_instructors(trial: Trial) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": rights.LAB_QUOTA, "namespace": "llm-system"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "1"}},
    }
    trial.ada.apply(quota)
    names = {item.name for item in trial.ada.view().list("ResourceQuota", "llm-system")}
    assert names == {rights.LAB_QUOTA, rights.LIMITS}
    assert trial.ada.delete("ResourceQuota", rights.LAB_QUOTA, "llm-system")
    with pytest.raises(Forbidden):
        trial.ada.delete("ResourceQuota", rights.LIMITS, "llm-system")


def test_the_gpu_queue_opens_one_seat_and_keeps_the_others_shut(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu_pod = pod(container={"resources": {"limits": {"cpu": "1m", "memory": "1Mi", "nvidia.com/gpu": "1"}}})
    run = ("class", "gpu", "run", "--once", "--name", NAME)
    assert course(*run) == 0
    for learner in (trial.ada, trial.lin):
        assert "exceeded quota: gpu-turn" in learner.view().dry_run(gpu_pod).reason
    with monkeypatch.context() as as_ada:
        as_ada.setenv("COURSE_KUBECONFIG", str(trial.folder.handout(trial.folder.member("ada"))))
        assert course("class", "gpu", "join") == 0
    assert course(*run) == 0
    assert trial.ada.view().dry_run(gpu_pod).allowed
    assert "exceeded quota: gpu-turn" in trial.lin.view().dry_run(gpu_pod).reason
    with monkeypatch.context() as as_lin:
        as_lin.setenv("COURSE_KUBECONFIG", str(trial.folder.handout(trial.folder.member("lin"))))
        assert course("class", "gpu", "join") == 0
        assert "ada has the card" in capsys.readouterr().out
    with pytest.raises(Forbidden):
        trial.lin.delete("ResourceQuota", rights.TURN, "llm-system")
    assert trial.ada.delete("Lease", rights.TURN, "llm-apps")
    assert course(*run) == 0
    assert trial.lin.view().dry_run(gpu_pod).allowed
    assert "exceeded quota: gpu-turn" in trial.ada.view().dry_run(gpu_pod).reason
    assert course("class", "gpu", "off", "--name", NAME) == 0
    assert trial.ada.view().dry_run(gpu_pod).allowed


def test_the_same_roster_again_changes_nothing(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in trial.folder.path.rglob("*") if path.is_file()}
    assert course("class", "create", "--roster", trial.roster, "--name", NAME) == 0
    said = capsys.readouterr().out
    assert "2 learners, 0 new" in said
    assert "0 objects created, 0 changed" in said
    assert {path: path.read_bytes() for path in before} == before


def test_without_rights_a_class_is_not_begun(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COURSE_KUBECONFIG", str(trial.folder.handout(trial.folder.member("ada"))))
    assert course("class", "create", "--roster", trial.roster, "--name", "mine") == 2
    said = capsys.readouterr().err
    assert "not allowed: create namespaces" in said
    assert "course use --context ADMIN" in said
    with pytest.raises(LabError):
        ClassFolder.open("mine")


def test_what_is_missing_is_put_back_by_the_next_create(trial: Trial) -> None:
    trial.instructor.delete("RoleBinding", "course-learner", "llm-system-lin")
    trial.instructor.delete("ResourceQuota", rights.LIMITS, "llm-apps-lin")
    handout = trial.folder.handout(trial.folder.member("lin"))
    handout.unlink()
    assert course("class", "create", "--roster", trial.roster, "--name", NAME) == 0
    assert Cluster.connect(kubeconfig=handout).view().list("Pod", "llm-system") == []
    assert trial.instructor.view().get("ResourceQuota", rights.LIMITS, "llm-apps-lin")


def test_a_removed_learner_has_no_key_and_leaves_nothing(
    trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "notes", "namespace": "llm-system", "labels": {"mine": "yes"}},
    }
    trial.lin.apply(held)
    remove = ("class", "remove", "--learner", "lin", "--name", NAME, "--yes")
    assert course(*remove) == 0
    selector = f"{rights.LEARNER_LABEL}=lin"
    assert trial.instructor.view().list("Namespace", labels=selector) == []
    assert trial.instructor.view().list("ServiceAccount", HOME, labels=selector) == []
    assert not trial.folder.handout(trial.folder.member("lin")).exists()

    def locked_out(_: object) -> bool | None:
        try:
            trial.lin.view().list("Node")
        except Forbidden:
            return True
        return None

    # The API server remembers a token that it has verified for some seconds.
    trial.instructor.wait_until("the key of lin refused", locked_out, timeout_s=60)
    assert course(*remove) == 0
    assert "was removed before" in capsys.readouterr().out
    assert course("class", "create", "--roster", trial.roster, "--name", NAME) == 0
    assert "was removed before and stays removed: lin" in capsys.readouterr().out
    assert trial.ada.view().list("Pod", "llm-system") == []


def test_removing_the_class_leaves_nothing_on_the_cluster(trial: Trial) -> None:
    folder = trial.folder
    assert course("class", "remove", "--name", NAME, "--yes") == 0
    assert leftovers(trial.instructor, NAME) == []
    assert not [item for item in trial.instructor.view().list("Namespace") if NAME in item.name]
    assert list((folder.path / "kubeconfigs").iterdir()) == []
    assert course("class", "remove", "--name", NAME, "--yes") == 0
