"""Building, mending and removing a class, on a cluster in memory."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.classroom.folder import ClassFolder, Member
from helpers.classroom.roster import Learner
from helpers.classroom.seats import handout, membership, rights
from helpers.cluster import Cluster, Scope
from helpers.cluster.connection import from_kubeconfig
from helpers.cluster.fake import FakeCluster
from helpers.cluster.faults import Response
from helpers.cluster.scope import COURSE_NAMESPACES
from helpers.errors import ClusterUnreachable, EnvironmentFault, Forbidden, LabError

NAME = "class"
ADA, LIN, KIM = (Learner(name, name.title(), "") for name in ("ada", "lin", "kim"))


def say(line: str) -> None:
    """Progress that nobody reads."""


class Server:
    """What the fake API server lacks: tokens, and reviews of rights."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.denied: set[str] = set()
        self.broken: set[str] = set()
        self.lifetime = timedelta(days=180)
        self.issued: list[str] = []
        request = cluster.backend.request

        def answer(method: str, path: str, **options: Any) -> Response:
            if any(name in path for name in self.broken) and method != "GET":
                raise ClusterUnreachable("the API server at fake://cluster does not answer")
            if path.endswith("/token"):
                return self.token(path.split("/")[-2], options["body"])
            if path.endswith("/selfsubjectaccessreviews"):
                attributes = options["body"]["spec"]["resourceAttributes"]
                said = f"{attributes['verb']} {attributes['resource']}"
                return reply({"status": {"allowed": said not in self.denied}})
            return request(method, path, **options)

        cluster.backend.request = answer  # type: ignore[method-assign]

    def token(self, account: str, body: dict[str, Any]) -> Response:
        self.issued.append(account)
        claims = {
            "exp": int((datetime.now(UTC) + self.lifetime).timestamp()),
            "sub": account,
            "kubernetes.io": {"secret": {"uid": body["spec"]["boundObjectRef"]["uid"]}},
            "jti": len(self.issued),
        }
        middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return reply({"status": {"token": f"head.{middle}.sign"}})


def reply(tree: dict[str, Any]) -> Response:
    return Response(201, json.dumps(tree).encode())


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def server(cluster: FakeCluster) -> Server:
    return Server(cluster)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClassFolder:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    (tmp_path / "ca.crt").write_text("CA")
    admin = {
        "current-context": "admin",
        "contexts": [{"name": "admin", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {"name": "c", "cluster": {"server": "https://k8s:6443", "certificate-authority": "ca.crt"}}
        ],
        "users": [{"name": "u", "user": {"token": "admin"}}],
    }
    (tmp_path / "admin.yaml").write_text(yaml.safe_dump(admin))
    base = replace(ClassFolder.at(NAME), kubeconfig=tmp_path / "admin.yaml", context="admin")
    return base.with_members(map(Member.new, (ADA, LIN))).save()


def build(folder: ClassFolder, cluster: Cluster) -> membership.Outcome:
    return membership.build(folder, cluster, say)


# Planning


def test_a_roster_adds_renames_and_reports_but_never_removes(folder: ClassFolder) -> None:
    older = folder.with_members([replace(folder.member("lin"), removed=True)])
    plan = membership.plan(older, [replace(ADA, name="Ada L."), LIN, KIM])
    assert [member.learner.id for member in plan.added] == ["kim"]
    assert [member.learner.name for member in plan.renamed] == ["Ada L."]
    assert [member.learner.id for member in plan.stay_removed] == ["lin"]
    assert plan.members[0].nonce == folder.member("ada").nonce
    plan = membership.plan(folder, [KIM])
    assert [member.learner.id for member in plan.gone] == ["ada", "lin"]
    assert [member.learner.id for member in folder.with_members(plan.members).active] == ["ada", "lin", "kim"]


def test_a_removed_learner_comes_back_only_when_told_and_with_the_same_nonce(folder: ClassFolder) -> None:
    older = folder.with_members([replace(folder.member("lin"), removed=True)])
    plan = membership.plan(older, [ADA, LIN], readmit=["LIN"])
    assert [(member.removed, member.nonce) for member in plan.added] == [(False, folder.member("lin").nonce)]
    with pytest.raises(LabError, match="eve is neither in the roster nor in class"):
        membership.plan(folder, [ADA], readmit=["eve"])


def test_after_the_whole_class_was_removed_the_roster_makes_it_again(folder: ClassFolder) -> None:
    gone = [replace(member, removed=True) for member in folder.members]
    older = replace(folder, settings={membership.REMOVED_AT: "2026-11-02"}).with_members(gone)
    plan = membership.plan(older, [ADA])
    assert [member.learner.id for member in plan.added] == ["ada"]
    assert not plan.gone


# Building


def test_every_learner_has_namespaces_bounds_rights_and_a_seat(
    folder: ClassFolder, cluster: FakeCluster, server: Server
) -> None:
    outcome = build(folder, cluster)
    assert outcome.handouts == ["ada", "lin"]
    view = cluster.view()
    for name in COURSE_NAMESPACES:
        namespace = view.namespace(f"{name}-ada")
        assert namespace.labels[rights.LEARNER_LABEL] == "ada"
        assert namespace.labels["pod-security.kubernetes.io/enforce"]
        assert view.get("RoleBinding", "course-learner", f"{name}-ada")
    assert view.namespace("llm-apps-ada").labels["kubedojo.dev/role"] == "llm-apps"
    seat = view.config_map(rights.SEAT, "llm-apps-lin").data
    assert (seat["learner"], seat["nonce"]) == ("lin", folder.member("lin").nonce)
    assert json.loads(seat["variables"])


def test_the_instructors_quota_never_answers_in_place_of_the_labs(
    folder: ClassFolder, cluster: FakeCluster, server: Server
) -> None:
    from helpers.stack.quota import PLANNED, VLLM, amounts, total_of

    build(folder, cluster)
    hard = amounts(cluster.view().resource_quota(rights.LIMITS, "llm-system-ada").path("spec.hard"))
    too_much = total_of([*PLANNED, VLLM])
    bounded = {name: amount for name, amount in too_much.items() if name in hard}
    assert len(bounded) == 7
    assert all(hard[name] > amount for name, amount in bounded.items())


def test_a_second_build_writes_nothing(folder: ClassFolder, cluster: FakeCluster, server: Server) -> None:
    build(folder, cluster)
    files = {path: path.read_bytes() for path in folder.path.rglob("*.yaml")}
    again = build(folder, cluster)
    assert (again.created, again.changed, again.handouts) == (0, 0, [])
    assert {path: path.read_bytes() for path in files} == files
    assert len(server.issued) == 2


def test_an_interrupted_build_is_continued_by_the_next(
    folder: ClassFolder, cluster: FakeCluster, server: Server
) -> None:
    server.broken = {"llm-workshop-lin"}
    with pytest.raises(membership.SomeFailed, match="1 of 2 learners are not complete") as raised:
        build(folder, cluster)
    assert "lin: the API server" in str(raised.value)
    assert folder.handout(folder.member("ada")).exists()
    server.broken = set()
    assert build(folder, cluster).handouts == ["lin"]
    assert cluster.view().namespace("llm-workshop-lin")


def test_a_namespace_that_is_somebody_elses_is_not_taken(
    folder: ClassFolder, cluster: FakeCluster, server: Server
) -> None:
    other = {"name": "llm-apps-ada", "labels": {rights.CLASS_LABEL: "spring"}}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": other})
    with pytest.raises(
        membership.SomeFailed, match="llm-apps-ada is there already and belongs to class spring"
    ):
        build(folder, cluster)
    assert cluster.view().find("Namespace", "llm-system-ada") is None


def test_missing_rights_are_named_before_anything_is_made(
    folder: ClassFolder, cluster: FakeCluster, server: Server
) -> None:
    server.denied, before = {"create namespaces", "escalate clusterroles"}, set(cluster.backend.objects)
    with pytest.raises(Forbidden, match="not allowed: create namespaces, escalate clusterroles") as raised:
        membership.check_cluster(folder, cluster)
    assert raised.value.next_command
    assert set(cluster.backend.objects) == before


def test_a_class_stays_on_its_cluster(folder: ClassFolder, cluster: FakeCluster, server: Server) -> None:
    uid = membership.check_cluster(folder, cluster)
    assert uid == cluster.view().namespace("kube-system").uid
    with pytest.raises(LabError, match="created on another cluster"):
        membership.check_cluster(replace(folder, cluster_uid="another"), cluster)


# Handouts


def test_a_handout_is_a_kubeconfig_of_its_own(
    folder: ClassFolder, cluster: FakeCluster, server: Server
) -> None:
    build(folder, cluster)
    path = folder.handout(folder.member("ada"))
    tree = yaml.safe_load(path.read_text())
    assert tree["clusters"][0]["cluster"] == {
        "server": "https://k8s:6443",
        "certificate-authority-data": base64.b64encode(b"CA").decode(),
    }
    assert "admin" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    told = tree["contexts"][0]["context"]["extensions"][0]
    assert told["name"] == "course"
    assert (told["extension"]["scope"], told["extension"]["nonce"]) == ("ada", folder.member("ada").nonce)


def test_a_handout_leads_the_labs_into_the_learners_namespaces(tmp_path: Path, folder: ClassFolder) -> None:
    entry = {"server": "http://k8s:8080"}
    tree = handout.kubeconfig(folder, folder.member("ada"), entry, "a.b.c")
    file = tmp_path / "ada.yaml"
    file.write_text(yaml.safe_dump(tree))
    connection = from_kubeconfig(file, None)
    assert (connection.scope, connection.login.authorization()) == (Scope("ada"), "Bearer a.b.c")


@pytest.mark.parametrize("damage", ["gone", "empty", "other server", "other secret", "ends soon"])
def test_a_handout_that_is_not_good_any_more_is_written_again(
    folder: ClassFolder, cluster: FakeCluster, server: Server, damage: str
) -> None:
    folder = replace(folder, members=folder.members[:1])
    server.lifetime = timedelta(days=6) if damage == "ends soon" else server.lifetime
    build(folder, cluster)
    server.lifetime = timedelta(days=180)
    path = folder.handout(folder.member("ada"))
    if damage == "gone":
        path.unlink()
    elif damage == "empty":
        path.write_text("")
    elif damage == "other server":
        path.write_text(path.read_text().replace("k8s:6443", "old:6443"))
    elif damage == "other secret":
        cluster.delete("Secret", "handout-ada", rights.prefix(NAME))
    assert "ada" in build(folder, cluster).handouts
    ends = handout.ends_at(path)
    assert ends and ends - datetime.now(UTC) > timedelta(days=100)


@pytest.mark.parametrize("token", ["", "a.b", "a.!!.c", "a.W10.c", "no token at all"])
def test_what_is_no_token_is_said_to_be_none(token: str) -> None:
    with pytest.raises(ValueError):
        handout.claims_of(token)


def test_without_a_kubeconfig_there_is_nothing_to_hand_out(folder: ClassFolder) -> None:
    with pytest.raises(EnvironmentFault, match="handouts need the address"):
        handout.cluster_entry(replace(folder, kubeconfig=None))


# Removing


def test_a_removed_learner_leaves_nothing_and_the_others_keep_everything(
    folder: ClassFolder, cluster: FakeCluster, server: Server
) -> None:
    build(folder, cluster)
    before = set(cluster.backend.objects)
    membership.remove_member(folder, folder.member("lin"), cluster, say)
    left = set(cluster.backend.objects)
    assert all("lin" in f"{key[2]} {key[3]}" for key in before - left)
    assert not [key for key in left if key[2].endswith("-lin") or key[3].endswith("lin")]
    assert not folder.handout(folder.member("lin")).exists()
    assert membership.remove_member(folder, folder.member("lin"), cluster, say) == []


def test_a_removed_class_leaves_the_cluster_as_it_was(
    folder: ClassFolder, cluster: FakeCluster, server: Server
) -> None:
    before = set(cluster.backend.objects)
    build(folder, cluster)
    membership.remove_class(folder, cluster, say)
    assert set(cluster.backend.objects) == before
    assert membership.leftovers(cluster, NAME) == []
    assert membership.remove_class(folder, cluster, say) == []


def test_one_class_goes_and_another_on_the_same_cluster_stays(
    folder: ClassFolder, cluster: FakeCluster, server: Server
) -> None:
    build(folder, cluster)
    before = set(cluster.backend.objects)
    other = replace(ClassFolder.at("spring"), kubeconfig=folder.kubeconfig, context="admin")
    other = other.with_members([Member.new(KIM)]).save()
    build(other, cluster)
    membership.remove_class(other, cluster, say)
    assert set(cluster.backend.objects) == before


def test_finalizers_that_a_learner_wrote_do_not_keep_a_namespace(cluster: FakeCluster) -> None:
    metadata = {"name": "stuck", "namespace": "default", "finalizers": ["mine.example/never"]}
    cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    (said,) = membership.strip_finalizers(cluster, ["default"])
    assert "took finalizer mine.example/never off ConfigMap stuck" in said
    assert not cluster.view().config_map("stuck", "default").metadata.get("finalizers")


# A cluster of one's own


def test_a_learner_without_a_cluster_is_never_looked_for_in_the_instructors_namespaces(
    folder: ClassFolder,
) -> None:
    apart = replace(folder.member("ada"), suffix="")
    with pytest.raises(EnvironmentFault, match="ada has no cluster yet") as raised:
        folder.with_members([apart]).instructor_cluster(apart)
    assert raised.value.next_command == "course class add-cluster ada --kubeconfig FILE"


def test_a_cluster_of_ones_own_is_taken_in_with_its_way_in(
    folder: ClassFolder, cluster: FakeCluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "connect", lambda **_: cluster)
    shared = membership.add_cluster(folder, folder.member("ada"), Path(str(folder.kubeconfig)), None)
    fresh = shared.member("ada")
    assert (fresh.suffix, fresh.kubeconfig) == ("", folder.own_cluster(fresh))
    copied = folder.own_cluster(fresh)
    assert copied.stat().st_mode & 0o777 == 0o600
    assert from_kubeconfig_server(copied) == "https://k8s:6443"
    assert cluster.view().config_map(rights.SEAT, "llm-apps").data["learner"] == "ada"
    with pytest.raises(LabError, match="is the cluster of ada"):
        membership.add_cluster(shared, folder.member("lin"), Path(str(folder.kubeconfig)), None)
    server.denied = {"* *"}
    with pytest.raises(Forbidden, match="does not give an administrator's rights"):
        membership.add_cluster(folder, folder.member("lin"), Path(str(folder.kubeconfig)), None)


def from_kubeconfig_server(path: Path) -> str:
    return str(yaml.safe_load(path.read_text())["clusters"][0]["cluster"]["server"])


def test_the_shared_cluster_cannot_be_somebodys_own(
    folder: ClassFolder, cluster: FakeCluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "connect", lambda **_: cluster)
    shared = replace(folder, cluster_uid=cluster.identity().uid)
    with pytest.raises(LabError, match="the class's shared cluster"):
        membership.add_cluster(shared, folder.member("ada"), Path(str(folder.kubeconfig)), None)
