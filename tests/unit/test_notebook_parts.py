"""The parts of a lab's page: nothing is applied unasked, nothing is shown too early, all is escaped."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from helpers import notebook as nb
from helpers.cluster.fake import FakeCluster
from helpers.errors import ClusterUnreachable
from helpers.labs.lab01_substrate import draw_gpu, draw_quota
from helpers.notebook.html import inline
from helpers.notebook.looks import Looks
from helpers.notebook.reset import undone

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: llm-system}\n"
JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: probe, namespace: llm-system}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: run, image: $TOOLBOX}]}}}
"""
PRESSED, IDLE = SimpleNamespace(value=True), nb.apply_button()


def session(cluster: FakeCluster | None) -> nb.LabSession:
    if cluster is None:
        return nb.LabSession("01")
    return nb.LabSession(
        "01", cluster, cluster.identity(), cluster.profile(), None, {"toolbox": "course/toolbox:1"}
    )


def text(part: Any) -> str:
    return str(part.text)


def test_a_preview_says_what_would_change_and_changes_nothing(fake_cluster: FakeCluster) -> None:
    shown = text(nb.preview(session(fake_cluster), NAMESPACE))
    assert "would be created" in shown
    nb.apply_panel(session(fake_cluster), NAMESPACE, IDLE)
    assert fake_cluster.view().find("Namespace", "llm-system") is None


def test_a_pressed_button_applies_and_the_preview_then_agrees(fake_cluster: FakeCluster) -> None:
    panel = nb.applied(session(fake_cluster), NAMESPACE)
    assert "created" in text(panel)
    assert "as it is" in text(nb.preview(session(fake_cluster), NAMESPACE))


def test_a_missing_namespace_is_not_a_refusal(fake_cluster: FakeCluster) -> None:
    assert "not yet" in text(nb.preview(session(fake_cluster), JOB))


def test_one_text_goes_into_several_namespaces(fake_cluster: FakeCluster) -> None:
    fake_cluster.apply(
        [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("a", "b")]
    )
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: same}\n"
    nb.applied(session(fake_cluster), manifest, namespaces=("a", "b"))
    assert all(fake_cluster.view().find("ConfigMap", "same", name) for name in ("a", "b"))


def test_images_are_this_clusters(fake_cluster: FakeCluster) -> None:
    assert "course/toolbox:1" in session(fake_cluster).render(JOB)
    assert session(fake_cluster).render("echo $HOME costs $5") == "echo $HOME costs $5"


@pytest.mark.parametrize("manifest", ["kind Namespace", "kind: Namespace\n bad: [", "{}", ""])
def test_unreadable_text_is_explained_without_a_traceback(fake_cluster: FakeCluster, manifest: str) -> None:
    assert "The API server was not asked." in text(nb.preview(session(fake_cluster), manifest))


def test_without_a_cluster_every_part_says_what_to_do() -> None:
    lab = session(None)
    assert "course up" in text(lab.card())
    assert "needs a cluster" in text(nb.apply_panel(lab, NAMESPACE, PRESSED))
    assert "needs a cluster" in text(nb.board(lab, "quota"))
    assert "needs a cluster" in text(nb.pod_table(lab, ("llm-system",)))


def test_a_cluster_that_stops_answering_becomes_a_card(fake_cluster: FakeCluster) -> None:
    lab = session(fake_cluster)
    fake_cluster.go_down()
    assert "The cluster does not answer." in text(nb.preview(lab, NAMESPACE))
    assert "The cluster does not answer." in text(draw_gpu.gpu_picture(lab, ("llm-system",)))


def test_open_lab_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ClusterUnreachable("nobody there", next_command="course status")

    monkeypatch.setattr("helpers.cluster.Cluster.connect", refuse)
    lab = nb.open_lab("01")
    assert lab.cluster is None and "course status" in text(lab.card())


def test_the_truth_waits_for_the_prediction() -> None:
    told = {"truth": "b", "because": "REASON", "instead": {"a": "DOUBT"}}
    assert "REASON" not in text(nb.reveal(None, **told))
    assert "as you predicted" in text(nb.reveal("b", **told))
    wrong = text(nb.reveal("a", **told))
    assert "not as predicted" in wrong and "DOUBT" in wrong and "REASON" in wrong


def test_hints_open_one_another() -> None:
    shown = text(nb.hints("first", "second", "third"))
    assert shown.index("first") < shown.index("second") < shown.index("third")
    assert shown.count("<details>") == 3 and "</details></div></details></div></details>" in shown


def test_a_question_has_exactly_one_right_answer() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        nb.Question("?", (nb.Option("a", "why"), nb.Option("b", "why")))


def test_what_comes_from_the_cluster_is_never_read_as_html() -> None:
    assert inline("<script> `a<b` **c** *d*") == "&lt;script&gt; <code>a&lt;b</code> <b>c</b> <i>d</i>"
    assert inline("2 * 3 * 4, *.yaml") == "2 * 3 * 4, *.yaml"


def test_the_quota_picture_needs_no_cluster_and_follows_the_text() -> None:
    quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {limits.cpu: '%s'}}\n"
    assert "14 of 12: 2 too many" in text(draw_quota.quota_picture(session(None), quota % 12))
    assert "14 of 14" in text(draw_quota.quota_picture(session(None), quota % 14))
    assert "not limited" in text(draw_quota.quota_picture(session(None), quota % 14))
    assert "it is a quantity such as" in text(draw_quota.quota_picture(session(None), quota % "many"))


def test_the_quota_picture_draws_the_second_model_server_that_it_must_stop() -> None:
    wide = "kind: ResourceQuota\napiVersion: v1\nmetadata: {name: q}\nspec: {hard: {requests.nvidia.com/gpu: 2, limits.cpu: 32}}"
    shown = text(draw_quota.quota_picture(session(None), wide))
    assert "A second model server would still fit in" in shown and 'class="second"' in shown
    tight = wide.replace("gpu: 2", "gpu: 1").replace("32", "14")
    assert "would still fit" not in text(draw_quota.quota_picture(session(None), tight))


def test_the_board_says_the_verdict_in_words(fake_cluster: FakeCluster) -> None:
    lab = replace(session(fake_cluster), looks=Looks(lambda _: nb.grade_now(session(fake_cluster))))
    assert "NOT ATTEMPTED" in text(nb.board(lab, "namespaces"))
    assert "0 of" in text(nb.scoreboard(lab))


POD = """
apiVersion: v1
kind: Pod
metadata: {name: guest, namespace: llm-system}
spec: {containers: [{name: run, image: i, command: [sleep, "1"]}]}
"""


def test_a_new_objects_preview_shows_what_is_written(fake_cluster: FakeCluster) -> None:
    shown = text(nb.preview(session(fake_cluster), NAMESPACE + "---" + POD))
    assert "What is written" in shown and "spec.containers[run].command" in shown


def test_a_finished_pod_previews_as_a_replacement_and_apply_starts_it_again(
    fake_cluster: FakeCluster,
) -> None:
    lab = session(fake_cluster)
    nb.applied(lab, NAMESPACE + "---" + POD)
    fake_cluster.set_status("Pod", "guest", {"phase": "Succeeded"}, "llm-system")
    shown = text(nb.preview(lab, POD))
    assert "would be replaced" in shown and "it has ended (Succeeded)" in shown
    assert "deleted and created anew" in text(nb.applied(lab, POD))
    assert "as it was" in text(nb.applied(lab, POD)), "said as the preview says it"


def test_a_part_is_reset_without_a_terminal_and_a_full_namespace_stays(fake_cluster: FakeCluster) -> None:
    lab = session(fake_cluster)
    nb.applied(lab, NAMESPACE + "---" + POD)
    kept = undone(lab, NAMESPACE)
    assert "stays: it holds guest" in kept and fake_cluster.view().find("Namespace", "llm-system")
    assert "Deleted: Pod guest." in undone(lab, POD)
    assert fake_cluster.view().find("Pod", "guest", "llm-system") is None
    assert "Deleted: Namespace llm-system." in undone(lab, NAMESPACE)
    assert "There was nothing to delete for this part." in undone(lab, NAMESPACE)
