"""Lab 09's witnesses of staging and versions: what is measured in a pod, what is asked, and who is told what."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.cluster.backend import ExecResult
from helpers.cluster.fake import FakeCluster
from helpers.errors import ObjectMissing, ProbeInconclusive, StepMissing
from helpers.grading.changes import edited, one, stored
from helpers.labs.lab09_models import measure_program, proof_staging, witness_staging, witness_staging_program
from helpers.labs.lab09_models.ground import NAMESPACE, WAYS
from helpers.labs.witness_base import Answer
from helpers.stack import models


@pytest.fixture
def cluster() -> FakeCluster:
    found = FakeCluster()
    proof_staging.start(found)
    proof_staging.solution(found)
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder, as small as it can be."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"w" * 9000)
    listed = hashlib.sha256(b"w" * 9000).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{listed}  model.safetensors\n")
    return folder


# What is measured in a pod


def test_a_whole_model_is_known_by_its_list_and_says_whether_one_may_write(model: Path) -> None:
    seen = measure_program.main(str(model), [str(model)])
    assert (seen["broken"], seen["link"], seen["uid"]) == ([], "", os.getuid())
    assert seen["bytes"] == seen["own"] and int(str(seen["own"])) >= 9000
    assert seen["write"] == "written" and seen["owner"] is None
    assert sorted(path.name for path in model.iterdir()) == ["SHA256SUMS", "model.safetensors"]


def test_a_file_that_is_cut_short_is_named(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"w" * 4000)
    assert measure_program.main(str(model), [])["broken"] == ["model.safetensors"]


def test_a_folder_without_the_model_says_what_is_missing(tmp_path: Path) -> None:
    seen = measure_program.main(str(tmp_path), [])
    assert str(seen["missing"]).endswith("SHA256SUMS: No such file or directory")


def test_a_link_into_another_process_is_told_with_its_owner(model: Path, tmp_path: Path) -> None:
    link = tmp_path / "mnt"
    link.symlink_to(f"/proc/{os.getpid()}/root{model}")
    seen = measure_program.main(str(link), [])
    assert seen["link"] == f"/proc/{os.getpid()}/root{model}"
    assert (seen["owner"], seen["broken"], seen["own"]) == (os.getuid(), [], 0)


def test_only_the_mount_that_a_path_lies_in_says_whether_it_is_read_only() -> None:
    assert measure_program._mounted_read_only("/proc") is False


# What the pod asks


class Told:
    """Whoever started the witness, and the servers that it asks."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]) -> None:
        self.asked: list[str] = []
        self._said, self._prompts = said, {"one": 31, "two": 28}
        self.serving, self._turn = ["one"], itertools.count()
        monkeypatch.setattr(witness_staging_program, "asked", self.ask)
        monkeypatch.setattr(witness_staging_program, "call", self.call)
        monkeypatch.setattr(sys, "argv", ["program", "versions"])

    def ask(self, word: str, about: str) -> dict[str, Any]:
        self.asked.append(f"{word} {about}")
        if about == "model-v2":
            self.serving = ["one", "two"] if word == "up" else ["one"]
        return json.loads(json.dumps(self._said.get(f"{word} {about}", {"pods": [], "problem": ""})))

    def call(self, url: str, body: Any = None, **_: Any) -> Answer:
        if url.endswith("/v1/models"):
            return Answer(200, json.dumps({"data": [{"root": "/mnt/models"}]}), {}, 0.1)
        host = url.split("/")[2].partition(":")[0]
        serving = self.serving
        who = serving[next(self._turn) % len(serving)] if host == "model" else host
        said = {
            "choices": [{"message": {"content": f"I am {who}\n"}}],
            "usage": {"prompt_tokens": self._prompts[who]},
        }
        return Answer(200, json.dumps(said), {}, 0.1)


def test_each_pod_of_a_way_is_asked_and_its_deployment_goes_down_again(
    tmp_path: Path, monkeypatch: Any
) -> None:
    up = {"pods": [{"ip": "one", "own": 5}], "problem": ""}
    told = Told(tmp_path, monkeypatch, {"up by-copy": up})
    seen = witness_staging_program.stage("by-copy")
    assert seen["pods"] == [
        {"own": 5, "status": 200, "answer": "I am one", "prompt": 31, "root": "/mnt/models"}
    ]
    assert told.asked == ["up by-copy", "down by-copy"]


def test_versions_are_counted_before_beside_and_after(tmp_path: Path, monkeypatch: Any) -> None:
    said = {
        f"up model-v{number}": {"pods": [{"ip": name, "uid": name}], "problem": ""}
        for number, name in ((1, "one"), (2, "two"))
    }
    told = Told(tmp_path, monkeypatch, said)
    seen = witness_staging_program.versions()
    assert (set(seen["before"]), set(seen["during"]), set(seen["after"])) == ({"31"}, {"31", "28"}, {"31"})
    assert seen["callers"]["lost"] == 0 and seen["callers"]["answered"] > 0
    assert told.asked == ["up model-v1", "up model-v2", "down model-v2", "look model-v1"]
    assert len(json.dumps(seen)) < 4096


def test_without_version_1_nothing_else_is_tried(tmp_path: Path, monkeypatch: Any) -> None:
    told = Told(tmp_path, monkeypatch, {"up model-v1": {"pods": [], "problem": "server: ErrImagePull"}})
    assert witness_staging_program.versions()["problem"] == "server: ErrImagePull"
    assert told.asked == ["up model-v1"]


def test_what_is_being_written_is_waited_for(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    file = Path("/tmp/up-unit-test-of-lab-09")
    file.write_text('{"pods": []}')
    assert witness_staging_program.asked("up", "unit-test-of-lab-09") == {"pods": []}
    assert capsys.readouterr().out == "WITNESS up-unit-test-of-lab-09 up unit-test-of-lab-09\n"
    assert not file.exists()
    monkeypatch.setattr(witness_staging_program, "WAIT_S", 0.0)
    with pytest.raises(TimeoutError, match="nobody did what was asked for"):
        witness_staging_program.asked("up", "unit-test-of-lab-09")


# Whoever started it


MEASURED = {
    "uid": 1000,
    "link": "",
    "own": 0,
    "model": "aaaaaaaaaaaa",
    "broken": [],
    "bytes": 5,
    "write": "refused",
}


def running(cluster: FakeCluster, name: str, *, ready: bool = True, **status: Any) -> None:
    """A Deployment scaled to one, with its pod."""
    spec = cluster.view().deployment(name, NAMESPACE).path("spec.template.spec")
    cluster.add_pod(f"{name}-1", NAMESPACE, labels={"app": name}, ready=ready, spec=spec, status=status)


def looking(cluster: FakeCluster) -> witness_staging.Looking:
    return witness_staging.Looking(cluster, lambda line: None)


def test_a_pod_that_is_ready_is_measured_in_its_own_container(cluster: FakeCluster) -> None:
    running(cluster, "by-image")
    cluster.exec_handler = lambda *_: ExecResult(0, json.dumps(MEASURED), "")
    seen = looking(cluster).up("by-image")
    assert seen["problem"] == ""
    (pod,) = seen["pods"]
    assert (pod["kind"], pod["ready"], pod["ip"], pod["own"]) == ("image", True, "10.244.0.10", 0)
    assert "probe" not in pod
    assert cluster.view().deployment("by-image", NAMESPACE).replicas == 1


@pytest.mark.parametrize(("exit_code", "said"), [(0, "yes"), (1, "no"), (9, "could not be tried")])
def test_a_sidecar_s_own_probe_is_tried_with_the_files_away(
    cluster: FakeCluster, exit_code: int, said: str
) -> None:
    running(cluster, "by-car")
    words: list[Any] = []

    def answer(namespace: str, pod: str, command: list[str], stdin: str | None) -> ExecResult:
        words.append(command)
        linked = json.dumps({**MEASURED, "link": "/proc/9/root/models"})
        return ExecResult(exit_code, "", "") if command[0] == "sh" else ExecResult(0, linked, "")

    cluster.exec_handler = answer
    (pod,) = looking(cluster).look("by-car")["pods"]
    assert pod["probe"] == said
    assert words[1][3:] == ["/mnt/models", "test", "-s", "/mnt/models/config.json"]
    assert words[0][2:] == [witness_staging.MEASURE.read_text(), "/mnt/models", "/mnt"]


def test_a_sidecar_may_have_the_shared_volume_in_another_place(cluster: FakeCluster) -> None:
    spec = cluster.view().deployment("by-car", NAMESPACE).path("spec.template.spec")
    (sidecar,) = spec["initContainers"]
    elsewhere = {**sidecar, "volumeMounts": [{"name": "link", "mountPath": "/shared/"}]}
    assert witness_staging._place_in(sidecar, spec) == models.PATH
    assert witness_staging._place_in(elsewhere, spec) == "/shared/models"
    assert witness_staging._place_in({}, spec) == models.PATH


def test_a_pod_that_keeps_ending_is_not_waited_for(cluster: FakeCluster) -> None:
    crashed = {"name": "server", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    running(cluster, "by-image", ready=False, containerStatuses=[crashed])
    seen = looking(cluster).up("by-image")
    assert seen["problem"] == "server ended 2 times (CrashLoopBackOff)"
    assert seen["pods"][0]["ready"] is False and "own" not in seen["pods"][0]


def test_the_kubelet_s_words_are_kept(cluster: FakeCluster, monkeypatch: Any) -> None:
    monkeypatch.setattr(witness_staging, "HOPELESS_S", -1.0)
    waits = {
        "name": "server",
        "state": {"waiting": {"reason": "ErrImagePull", "message": "failed to ensure image subpath"}},
    }
    running(cluster, "by-image", ready=False, containerStatuses=[waits])
    assert (
        looking(cluster).up("by-image")["problem"] == "server: ErrImagePull: failed to ensure image subpath"
    )


def test_what_a_claim_s_provisioner_says_is_told_where_pods_wait_for_it(
    cluster: FakeCluster, monkeypatch: Any
) -> None:
    monkeypatch.setattr(witness_staging, "UNPLACED_S", -1.0)
    claim = cluster.view().get("PersistentVolumeClaim", "models", NAMESPACE)
    cluster.put({**claim.raw, "status": {"phase": "Pending"}})
    about = ("PersistentVolumeClaim", "models")
    cluster.add_event(NAMESPACE, about, "ProvisioningFailed", "NodePath only supports ReadWriteOnce")
    spec = {**cluster.view().deployment("by-claim", NAMESPACE).path("spec.template.spec"), "nodeName": None}
    for number in (1, 2):
        cluster.add_pod(
            f"by-claim-{number}", NAMESPACE, labels={"app": "by-claim"}, phase="Pending", spec=spec
        )
    said = looking(cluster).up("by-claim")["problem"]
    assert (
        said
        == "a pod waits for its node: the claim models is not bound. NodePath only supports ReadWriteOnce"
    )


def test_what_does_not_start_stays_to_be_looked_at(cluster: FakeCluster) -> None:
    crashed = {"name": "server", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    running(cluster, "by-image", ready=False, containerStatuses=[crashed])
    found = looking(cluster)
    found.up("by-image")
    assert found.down("by-image") == {"left": 1}
    assert cluster.view().deployment("by-image", NAMESPACE).replicas == 1


def test_who_stops_a_witness_does_not_wait_for_its_pods_and_they_are_no_fault(cluster: FakeCluster) -> None:
    running(cluster, "by-image", ready=False)
    found = witness_staging.Looking(cluster, lambda line: None, lambda: True)
    assert found.up("by-image") == {"pods": [], "problem": ""}
    assert found.troubled == set(), "it is scaled down again"


def test_a_witness_of_what_is_not_there_says_what_comes_first(cluster: FakeCluster) -> None:
    cluster.delete("Deployment", "by-car", NAMESPACE)
    with pytest.raises(StepMissing, match="by-car is not there yet"):
        witness_staging.run(cluster, "by-car", on_progress=lambda line: None)
    with pytest.raises(ObjectMissing):
        witness_staging.make(cluster.view(), "by-car")


@pytest.mark.parametrize("name", WAYS)
def test_scaling_is_no_change_and_another_pod_is_one(cluster: FakeCluster, name: str) -> None:
    before = witness_staging.revision(cluster.view(), name)
    cluster.scale("Deployment", name, 3, NAMESPACE)
    assert witness_staging.revision(cluster.view(), name) == before
    edited(
        "Deployment",
        name,
        lambda found: found["spec"]["template"]["spec"].update(hostNetwork=True),
        NAMESPACE,
    )(cluster)
    assert witness_staging.revision(cluster.view(), name) != before


@pytest.mark.parametrize(
    ("volume", "kind"),
    [
        ({"emptyDir": {}}, "emptyDir"),
        ({"emptyDir": {"medium": "Memory"}}, "memory"),
        ({"persistentVolumeClaim": {"claimName": "models"}}, "claim"),
        ({"image": {"reference": "x"}}, "image"),
        ({"hostPath": {"path": "/"}}, "hostPath"),
    ],
)
def test_the_volume_behind_the_served_folder_is_found_by_its_longest_mount(volume: Any, kind: str) -> None:
    spec = {
        "containers": [
            {
                "volumeMounts": [
                    {"name": "other", "mountPath": "/"},
                    {"name": "model", "mountPath": "/mnt/"},
                    {"name": "other", "mountPath": "/mnt/models-of-others"},
                ]
            }
        ],
        "volumes": [{"name": "other", "secret": {}}, {"name": "model", **volume}],
    }
    assert witness_staging.kind_of(spec) == kind
    assert witness_staging.kind_of({"containers": [{}]}) == "container"


# The list of versions


def test_names_of_the_page_stand_for_versions_by_digest(cluster: FakeCluster) -> None:
    view = cluster.view()
    assert models.names(view) == {
        name: proof_staging.NAMES[name] for name in ("MODELS", "MODEL_V1", "MODEL_V2")
    }
    found = models.versions(view)
    assert models.version_of(found, found["2"].image) == "2"
    assert models.version_of(found, f"{proof_staging.REPOSITORY}:2") == ""
    tagged = f"{proof_staging.REPOSITORY}:stable@{proof_staging.DIGESTS['2']}"
    assert models.version_of(found, tagged) == "2", "a digest counts, whatever tag stands before it"
    assert models.names(FakeCluster().view()) == {}


@pytest.mark.parametrize("text", ["", "[]", '{"1": 5}', '{"1": {"image": "x"}}'])
def test_a_list_that_is_none_is_no_verdict_on_the_learner(cluster: FakeCluster, text: str) -> None:
    found = cluster.view().config_map(models.CATALOGUE, NAMESPACE)
    stored({**found.raw, "data": {models.VERSIONS: text}})(cluster)
    with pytest.raises(ProbeInconclusive):
        models.versions(cluster.view())


def test_every_deployment_of_the_page_is_a_witness_s(cluster: FakeCluster) -> None:
    for name in witness_staging.WITNESSES:
        job = witness_staging.make(cluster.view(), name)
        assert job["metadata"]["name"] == f"witness-{name}"
        assert job["spec"]["template"]["spec"]["containers"][0]["command"][-1] == name
    assert one(proof_staging.objects("claim_yaml"), "Job")["metadata"]["name"] == "fill-the-claim"
