"""The way back of a part: it stands wherever a page applies something, and leads to where the part began."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import marimo as mo
import pytest
import yaml
from starlette.testclient import TestClient

from helpers import notebook as nb
from helpers.cluster.fake import FakeCluster
from helpers.cluster.manifests import load
from helpers.errors import StepMissing
from helpers.labs.lab02_inference import draw as draw_inference
from helpers.labs.lab02_inference import witness
from helpers.labs.lab03_memory import draw as draw_memory
from helpers.labs.lab04_isolation import draw as draw_isolation
from helpers.labs.lab05_chaos import draw as draw_chaos
from helpers.notebook.panel import applied
from helpers.notebook.reset import undone
from helpers.settings import REPOSITORY
from helpers.stack import memory
from helpers.stack.bring_up import first_policy

sys.path.insert(0, str(REPOSITORY / "helpers" / "embedded" / "images" / "qdrant"))

from qdrant_server.app import create_app
from qdrant_server.settings import Settings

IDLE = nb.apply_button()
NOTHING = "There was nothing to delete for this part."
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: vllm, namespace: llm-system}
spec:
  selector: {matchLabels: {app: vllm}}
  template: {metadata: {labels: {app: vllm}}, spec: {containers: [{name: vllm, image: v}]}}
"""
ROLLOUT = "spec: {strategy: {type: Recreate}}"


def namespaced(*names: str) -> FakeCluster:
    return FakeCluster(
        [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names]
    )


def session(lab: str, cluster: FakeCluster) -> nb.LabSession:
    return nb.LabSession(lab, cluster, cluster.identity(), cluster.profile())


def panels(lab: nb.LabSession) -> Iterator[Any]:
    """Every panel of the labs that puts something into the cluster."""
    objects = load(DEPLOYMENT)
    yield nb.apply_panel(lab, DEPLOYMENT, IDLE)
    yield draw_inference.deployment_panel(lab, objects, [ROLLOUT], IDLE)
    yield draw_inference.drain_panel(lab, objects, [ROLLOUT], IDLE)
    yield draw_inference.load_panel(lab, IDLE)
    yield draw_memory.act(lab, IDLE, lambda say: "", title="x", undo=lambda: "")
    yield draw_chaos.experiment_panel(lab, ("delete-vllm",), draw_chaos.run_or_stop("Delete"), {})


def test_the_way_back_stands_at_every_panel_that_applies_something() -> None:
    for panel in panels(session("02", namespaced("llm-system"))):
        assert "Reset this part" in str(panel.text)


def test_no_panel_of_buttons_holds_a_preview_that_would_grow_old_beside_the_board() -> None:
    lab = session("02", namespaced("llm-system"))
    assert not [panel for panel in panels(lab) if "dry run" in str(panel.text)]
    fresh = str(draw_inference.deployment_preview(lab, load(DEPLOYMENT), [ROLLOUT]).text)
    assert "dry run" in fresh and "would be created" in fresh
    (solution,) = (REPOSITORY / "solutions").glob("02_*.py")
    assert solution.read_text().count("lab.live(draw.deployment_preview, objects, ") == 2


def test_the_way_back_lives_as_long_as_the_page_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Any]] = []

    def button(**options: Any) -> Any:
        element = real(**options)
        made.append(weakref.ref(element))
        return element

    real = mo.ui.button
    monkeypatch.setattr(mo.ui, "button", button)
    lab = session("02", namespaced("llm-system"))
    shown = [str(panel.text) for panel in panels(lab)]
    gc.collect()
    # marimo itself keeps no element that has no name: pressing a forgotten one does nothing, without a word.
    assert len(made) == len(shown) and all(ref() is not None for ref in made)
    del lab
    gc.collect()
    assert all(ref() is None for ref in made)


def test_a_rollout_is_taken_back_to_the_deployment_of_the_part_before() -> None:
    cluster = namespaced("llm-system")
    lab = session("02", cluster)
    before, after = DEPLOYMENT, DEPLOYMENT.replace("spec:\n", "spec:\n  strategy: {type: Recreate}\n", 1)
    applied(lab, after)
    assert undone(lab, after, first=before) == "Put back: Deployment vllm."
    assert not cluster.view().deployment("vllm", "llm-system").path("spec.strategy")
    assert undone(lab, before) == "Deleted: Deployment vllm."


def test_the_policy_that_a_lab_started_with_is_put_back_and_the_others_go() -> None:
    cluster = namespaced("llm-system")
    lab = session("04", cluster)
    (first,) = load(first_policy())
    ours = {**first, "spec": {**first["spec"], "ingress": []}}
    other = {**ours, "metadata": {"name": "qdrant-ingress", "namespace": "llm-system"}}
    text = yaml.safe_dump_all([ours, other])
    applied(lab, text)
    said = undone(lab, text, first=first_policy())
    assert (
        said == "Deleted: NetworkPolicy qdrant-ingress. Put back: NetworkPolicy vllm-ingress-from-llm-apps."
    )
    (left,) = cluster.view().network_policies("llm-system")
    assert left.path("spec.ingress") == first["spec"]["ingress"]


STATEFUL = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: qdrant, namespace: llm-system}
spec:
  replicas: 1
  serviceName: qdrant
  selector: {matchLabels: {app: qdrant}}
  template: {metadata: {labels: {app: qdrant}}, spec: {containers: [{name: qdrant, image: q}]}}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], storageClassName: misspelled, resources: {requests: {storage: 1Gi}}}
"""
CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data-qdrant-0, namespace: llm-system}
spec: {accessModes: [ReadWriteOnce], storageClassName: misspelled, resources: {requests: {storage: 1Gi}}}
"""


def test_a_claim_that_a_template_made_goes_with_it_so_that_its_class_can_be_mended() -> None:
    cluster = namespaced("llm-system")
    lab = session("03", cluster)
    applied(lab, STATEFUL)
    cluster.put(CLAIM)
    cluster.add_pod("qdrant-0", "llm-system", phase="Pending")
    said = undone(lab, STATEFUL)
    assert said == "Deleted: StatefulSet qdrant, PersistentVolumeClaim data-qdrant-0 with all that was on it."
    assert cluster.view().find("PersistentVolumeClaim", "data-qdrant-0", "llm-system") is None
    assert undone(lab, STATEFUL) == NOTHING


def test_a_claim_that_a_pod_still_uses_is_said_to_stay_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = namespaced("llm-system")
    cluster.put(CLAIM.replace("metadata: {", "metadata: {deletionTimestamp: '2026-01-01T00:00:00Z', "))
    # The finalizer's part: the object is marked, and stays.
    monkeypatch.setattr(cluster, "delete", lambda *_, **__: True)
    said = undone(session("02", cluster), CLAIM)
    assert "PersistentVolumeClaim data-qdrant-0 goes when no pod uses it any more." in said


def test_what_a_witness_saw_is_deleted_with_its_job() -> None:
    cluster = namespaced("llm-system", "llm-apps")
    cluster.apply(witness.manifest("drain-witness", "toolbox:1"))
    assert draw_inference.forgotten(cluster, "drain-witness") == "Deleted: Job drain-witness."
    assert draw_inference.forgotten(cluster, "drain-witness") == NOTHING


def test_a_part_of_experiments_forgets_its_journals_unless_one_is_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = namespaced("llm-probes")
    for name in ("journal-herd-none", "journal-backoff"):
        cluster.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "llm-probes"}}
        )
    lab = session("05", cluster)
    herds = ("herd-none", "herd-full")
    with monkeypatch.context() as patched:
        patched.setattr(draw_chaos, "running", lambda: [SimpleNamespace(name="experiment: game-day")])
        with pytest.raises(StepMissing, match="game-day is running"):
            draw_chaos.without_journals(lab, herds)
    assert draw_chaos.without_journals(lab, herds) == "Deleted: journal-herd-none."
    assert draw_chaos.without_journals(lab, herds) == NOTHING
    assert cluster.view().find("ConfigMap", "journal-backoff", "llm-probes")


def test_a_collection_and_a_note_are_taken_away_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(Settings(tmp_path / "storage", tmp_path / "snapshots"))
    app.state.server.storage.load()
    qdrant = memory.Memory("http://testserver")
    qdrant._http = TestClient(app)

    @contextmanager
    def connect(cluster: Any) -> Iterator[memory.Memory]:
        yield qdrant

    monkeypatch.setattr(memory, "connect", connect)
    lab = session("03", FakeCluster())
    assert draw_memory.without_note(lab) == NOTHING
    qdrant.recreate_collection(size=2, distance="Cosine", index=None)
    point = {"id": memory.point_id("note"), "vector": [1.0, 0.0], "payload": memory.note_payload("a note")}
    qdrant._request("PUT", f"/collections/{memory.COLLECTION}/points?wait=true", json={"points": [point]})
    assert draw_memory.without_note(lab).startswith("Deleted: the note.")
    state = qdrant.state()
    assert state is not None and state.points == 0
    assert draw_memory.without_collection(lab).startswith("Deleted: collection course_docs")
    assert draw_memory.without_collection(lab) == NOTHING
    app.state.server.storage.close()


POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: %s, namespace: llm-system}
spec: {podSelector: {}}
"""


def test_a_policy_that_was_renamed_is_named_and_goes_by_a_button() -> None:
    cluster = namespaced("llm-system")
    cluster.apply(first_policy())
    lab = session("04", cluster)
    for name in ("too-wide", "mine"):
        applied(lab, POLICY % name)
    other = str(draw_isolation.other_policies(lab, POLICY % "mine").text)
    assert "<code>too-wide</code>" in other and "<code>mine</code>" not in other
    draw_isolation.delete_other_policies(lab, IDLE, POLICY % "mine")
    assert len(cluster.view().network_policies("llm-system")) == 3, "not without the button"
    pressed = SimpleNamespace(value=True)
    draw_isolation._deleted(lab, ["kind: ["])
    assert len(cluster.view().network_policies("llm-system")) == 3, "nor while a text cannot be read"
    draw_isolation.delete_other_policies(lab, pressed, POLICY % "mine")
    left = {policy.name for policy in cluster.view().network_policies("llm-system")}
    assert left == {"mine", "vllm-ingress-from-llm-apps"}
    assert "Every policy" in str(draw_isolation.other_policies(lab, POLICY % "mine").text)
