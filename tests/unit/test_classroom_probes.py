"""Probe pods in a class: a learner may start them, and is believed only when they are the grader's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helpers.cluster import Scope
from helpers.cluster.fake import FakeCluster
from helpers.errors import ProbeInconclusive
from helpers.stack.probes import probe_pods, tampered
from helpers.stack.stage import read_stage

IMAGE = "course.local/toolbox:1"


def genuine(name: str = "probe-app") -> dict[str, Any]:
    return next(pod for pod in probe_pods(IMAGE) if pod["metadata"]["name"] == name)


@pytest.mark.parametrize("pod", probe_pods(IMAGE), ids=lambda pod: pod["metadata"]["name"])
def test_the_graders_own_pods_are_genuine(pod: dict[str, Any]) -> None:
    assert tampered(pod, IMAGE) == ""


def container(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["containers"][0]
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pod: container(pod).update(image="mine:1"), "its image"),
        (lambda pod: container(pod).update(command=["sleep", "9"]), "its command"),
        (lambda pod: container(pod).update(env=[{"name": "PATH", "value": "/mine"}]), "its env"),
        (
            lambda pod: container(pod).update(volumeMounts=[{"name": "v", "mountPath": "/usr/bin"}]),
            "its volumeMounts",
        ),
        (lambda pod: container(pod).update(lifecycle={"postStart": {}}), "its lifecycle"),
        (lambda pod: pod["spec"].update(volumes=[{"name": "v"}]), "volumes"),
        (lambda pod: pod["spec"].update(initContainers=[{"name": "i"}]), "initContainers"),
        (lambda pod: pod["spec"].update(ephemeralContainers=[{"name": "e"}]), "ephemeralContainers"),
        (lambda pod: pod["spec"]["containers"].append({"name": "beside"}), "containers"),
        (lambda pod: pod["spec"].update(hostAliases=[{"ip": "192.0.2.1"}]), "its hostAliases"),
        (lambda pod: pod["spec"].update(dnsConfig={"nameservers": ["192.0.2.1"]}), "its dnsConfig"),
        (lambda pod: pod["spec"].update(securityContext={"runAsUser": 0}), "its securityContext"),
        (lambda pod: pod["metadata"].update(name="probe-mine"), "no pod of that name"),
    ],
)
def test_whatever_could_answer_in_the_graders_place_is_seen(
    change: Callable[[dict[str, Any]], None], words: str
) -> None:
    pod = genuine()
    change(pod)
    assert words in tampered(pod, IMAGE)


def test_in_a_class_a_false_probe_proves_nothing_and_says_so() -> None:
    cluster = FakeCluster(scope=Scope("ada"))
    names = ("llm-apps", "llm-outside", "llm-impostor", "llm-monitoring", "llm-system", "llm-probes")
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names])
    labels = genuine()["metadata"]["labels"]
    spec = {"containers": [{"name": "probe", "image": "mine:1", "command": ["fake"]}]}
    cluster.add_pod("probe-app", "llm-apps", labels=labels, spec=spec)
    with pytest.raises(
        ProbeInconclusive, match="probe-app is not the grader's own probe pod: its image"
    ) as said:
        read_stage(cluster.view())
    assert said.value.next_command == "kubectl delete pod probe-app -n llm-apps-ada; course start 04"
