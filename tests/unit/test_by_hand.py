"""What learners do by hand: every command names what is there, and works where its page says that it is typed.

The commands are read from the pages as a shell would: its words, then what kubectl runs in the pod, then the
address that curl asks. Each is held to the manifests, to the image's tools, and to the servers' own routes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from starlette.testclient import TestClient

from helpers import notebook as nb
from helpers.cluster import COURSE_NAMESPACES, Scope
from helpers.cluster.fake import FakeCluster, default_profile
from helpers.embedded.images.toolbox import PACKAGES
from helpers.grading.changes import manifest, yaml_cells
from helpers.grading.solution import notebook_of
from helpers.labs.backends import qdrant_objects, vllm_objects
from helpers.labs.lab02_inference.checks import LAB_OBJECTS
from helpers.labs.lab02_inference.draw import serving_session
from helpers.labs.lab06_orchestration.mutants import orchestrator_objects
from helpers.labs.lab07_gates import proof_state, sets
from helpers.labs.lab08_scale import proof_state as state_of_lab_08
from helpers.settings import REPOSITORY
from helpers.stack import assistant, memory
from helpers.stack.probes import probe_pods
from helpers.terminal import _KUBECTL
from tests.typed_commands import Typed, typed

sys.path.insert(0, str(REPOSITORY / "helpers" / "embedded" / "images" / "qdrant"))

from qdrant_server.app import create_app
from qdrant_server.settings import Settings

LABS = ("01", "02", "03", "04", "05", "06", "07", "08")
Manifest = dict[str, Any]
# What a package of the toolbox puts on its PATH; busybox lists its own tools, and these are the ones of them in use.
TOOLS = {
    "curl": {"curl"},
    "busybox-static": {"ps", "env", "sleep", "sh"},
    "bash": {"bash"},
    "ca-certificates": set(),
}
# Objects that Kubernetes makes of the manifests' own, by the label that leads to them.
MADE = {"endpointslices": ("Service", "kubernetes.io/service-name")}
KINDS = {
    **{"pod": "Pod", "pods": "Pod", "service": "Service", "deployment": "Deployment"},
    **{"configmap": "ConfigMap", "rollout": "Rollout"},
}
# The flags in use, and whether a word follows.
KUBECTL = {
    "-n": True,
    "-l": True,
    "--for": True,
    "--timeout": True,
    "-w": False,
    "-o": True,
    "--show-labels": False,
}
CURL = {"-d": True, "-H": True, "-m": True, "-w": True}
CURL_SWITCHES = set("fsSk")


@dataclass(frozen=True)
class Kubectl:
    """What a kubectl command says."""

    verb: str
    names: tuple[str, ...]
    namespace: str
    labels: dict[str, str]
    inside: tuple[str, ...]


ALL = [command for lab in LABS for command in typed(lab)]


def kubectl(command: Typed) -> Kubectl:
    """Take a command line apart; a flag that is not in use here is refused."""
    program, verb, *rest = command.words
    assert program == "kubectl", f"{program} is not on the PATH of the page's terminal for sure"
    ours, inside = (rest[: rest.index("--")], rest[rest.index("--") + 1 :]) if "--" in rest else (rest, [])
    names, flags = [], dict[str, str]()
    words = iter(ours)
    for word in words:
        flag, equals, value = word.partition("=")
        if not word.startswith("-"):
            names.append(word)
        elif KUBECTL[flag]:
            flags[flag] = value if equals and flag.startswith("--") else next(words)
    labels = dict(pair.split("=") for pair in flags.get("-l", "").split(",") if pair)
    return Kubectl(verb, tuple(names), flags.get("-n", ""), labels, tuple(inside))


def named_by(said: Kubectl) -> Iterator[tuple[str, str]]:
    """Kind and name of what a command is about; an empty name where labels choose."""
    if said.verb == "exec":
        yield "Pod", said.names[0]
    elif "/" in said.names[0]:
        for word in said.names:
            kind, _, name = word.partition("/")
            yield KINDS[kind], name
    else:
        kind = said.names[0]
        yield from ((KINDS.get(kind, kind), name) for name in said.names[1:] or ("",))


def objects(lab: str) -> list[Manifest]:
    """What is in the cluster when the page's commands are typed: its own manifests, and what its start puts there."""
    profile = default_profile()
    images = {name.upper().replace("-", "_"): image for name, image in profile.images.items()}
    own = (Template(text).safe_substitute(images) for text in (*yaml_cells(lab).values(), nb.client_yaml()))
    pages = [
        item
        for text in own
        if "kind:" in text
        for item in yaml.safe_load_all(text)
        if item and "kind" in item
    ]
    started = probe_pods(profile.images["toolbox"]) if lab in ("04", "05", "06", "07", "08") else []
    backends = [*vllm_objects(), *qdrant_objects()]
    front = {"06": orchestrator_objects, "07": _of_lab_07, "08": _of_lab_08}.get(lab, list)()
    return [*pages, *started, *(backends if lab != "01" else []), *front]


def _of_lab_07() -> list[Manifest]:
    """The assistant, what its start gives it, and where its traces go."""
    given = manifest("ConfigMap", assistant.SETS, assistant.NAMESPACE, data=sets.given_sets())
    return [
        *proof_state.assistant_objects(),
        proof_state.rollout(),
        *proof_state.observability_objects(),
        given,
    ]


def _of_lab_08() -> list[Manifest]:
    """The pool, the queue, and who takes and does the jobs."""
    return [item for part in state_of_lab_08.PARTS for item in state_of_lab_08.objects(part)]


def pods_of(item: Manifest) -> Manifest:
    """The pod that an object is, or makes."""
    return item if item["kind"] == "Pod" else item["spec"].get("template", {}) if "spec" in item else {}


def find(lab: str, kind: str, name: str, namespace: str) -> Manifest:
    found = [
        item
        for item in objects(lab)
        if (item["kind"], item["metadata"]["name"], item["metadata"].get("namespace", ""))
        == (kind, name, namespace)
    ]
    assert found, f"lab {lab} has no {kind} {name} in {namespace}"
    return found[-1]


def requests(command: Typed) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each address that curl is sent to, with what goes there."""
    inside = kubectl(command).inside
    if not inside or inside[0] != "curl":
        return
    words, sent = iter(inside[1:]), dict[str, Any]()
    urls = []
    for word in words:
        if word in CURL:
            sent[word] = next(words)
        elif word.startswith("-"):
            assert set(word[1:]) <= CURL_SWITCHES, word
        else:
            urls.append(word)
    assert len(urls) == 1, command.line
    yield urls[0], sent


@pytest.mark.parametrize("lab", LABS)
def test_each_page_has_commands_to_type_by_hand_the_same_as_its_solution(lab: str) -> None:
    assert typed(lab)
    assert typed(lab, "labs") == typed(lab)


@pytest.mark.parametrize("lab", LABS)
def test_a_page_says_at_its_top_how_its_terminal_is_opened(lab: str) -> None:
    first = notebook_of(lab, "labs").read_text().partition("nb.connection_card")[0]
    assert "terminal" in first and "`Ctrl`+`` ` ``" in first


@pytest.mark.parametrize("lab", LABS)
def test_a_command_of_a_page_that_changes_or_enters_an_object_says_its_namespace(lab: str) -> None:
    """Typed as it is printed, one without would look in the namespace `default`."""
    page = notebook_of(lab, "labs").read_text()
    commands = re.findall(r"`(kubectl (?:delete|scale|logs|exec|port-forward|rollout|patch) [^`\n]*)`", page)
    assert [command for command in commands if " -n " not in command] == []


def test_every_lab_asks_a_pod_from_inside_and_all_but_the_first_by_curl() -> None:
    for lab in LABS:
        inside = [kubectl(command).inside for command in typed(lab)]
        assert any(inside), lab
        assert lab == "01" or any(words[:1] == ("curl",) for words in inside), lab


@pytest.mark.parametrize("command", ALL, ids=lambda command: f"{command.lab}: {command.line[:60]}")
def test_a_command_names_what_is_there(command: Typed) -> None:
    said = kubectl(command)
    assert said.verb in _KUBECTL.split("|")
    assert said.namespace in COURSE_NAMESPACES, "every command says its namespace"
    for kind, name in named_by(said):
        if kind in MADE:
            owner, label = MADE[kind]
            assert list(said.labels) == [label]
            find(command.lab, owner, said.labels[label], said.namespace)
        elif name:
            find(command.lab, kind, name, said.namespace)
        else:
            assert kind == "Pod" and any(
                said.labels.items() <= (pods_of(item).get("metadata", {}).get("labels") or {}).items()
                for item in objects(command.lab)
                if item["metadata"].get("namespace") == said.namespace
            ), command.line


@pytest.mark.parametrize(
    "command",
    [item for item in ALL if kubectl(item).inside],
    ids=lambda command: f"{command.lab}: {command.line[:60]}",
)
def test_what_runs_in_a_pod_is_in_its_image(command: Typed) -> None:
    said = kubectl(command)
    (pod,) = named_by(said)
    (container,) = find(command.lab, *pod, said.namespace)["spec"]["containers"]
    assert container["image"] == default_profile().images["toolbox"]
    tools = set(chain.from_iterable(TOOLS[package] for package in PACKAGES))
    assert said.inside[0] in tools


@pytest.mark.parametrize(
    "command",
    [item for item in ALL if list(requests(item))],
    ids=lambda command: f"{command.lab}: {command.line[:60]}",
)
def test_curl_asks_a_service_that_is_there(command: Typed) -> None:
    ((url, sent),) = requests(command)
    address = urlsplit(url)
    if address.hostname == "vllm":
        assert command.lab == "06", "a bare name is what that page shows to be found nowhere"
        return
    name, namespace, *domain = str(address.hostname).split(".")
    assert domain == ["svc", "cluster", "local"]
    if namespace == "default":
        assert (name, address.scheme, address.port) == ("kubernetes", "https", None)
        return
    ports = [port["port"] for port in find(command.lab, "Service", name, namespace)["spec"]["ports"]]
    assert address.scheme == "http" and address.port in ports
    if "-d" in sent:
        assert sent["-H"] == "Content-Type: application/json"
        json.loads(sent["-d"])


def test_a_service_without_the_object_or_the_tool_is_noticed() -> None:
    with pytest.raises(AssertionError, match="no Pod curl-clients"):
        test_a_command_names_what_is_there(
            Typed("02", "kubectl exec -n llm-apps curl-clients -- curl -sS http://x")
        )
    with pytest.raises(AssertionError, match="says its namespace"):
        test_a_command_names_what_is_there(Typed("01", "kubectl get pod next-in-line"))
    with pytest.raises(AssertionError):
        test_what_runs_in_a_pod_is_in_its_image(Typed("04", "kubectl exec -n llm-apps probe-app -- python3"))
    with pytest.raises(AssertionError, match="no Service redis"):
        wrong = "kubectl exec -n llm-apps probe-app -- curl http://redis.llm-system.svc.cluster.local:6379/"
        test_curl_asks_a_service_that_is_there(Typed("04", wrong))
    with pytest.raises(KeyError):
        kubectl(Typed("01", "kubectl get pods -n llm-system --no-such-flag"))


def to(lab: str, service: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The paths that one lab's commands ask of a service, with what is sent."""
    for url, sent in chain.from_iterable(map(requests, typed(lab))):
        address = urlsplit(url)
        if str(address.hostname).startswith(f"{service}."):
            yield address.path, sent


def test_qdrant_answers_what_lab_03_asks_and_a_misspelled_field_is_no_error(tmp_path: Path) -> None:
    app = create_app(Settings(tmp_path / "storage", tmp_path / "snapshots"))
    app.state.server.storage.load()
    qdrant = TestClient(app)
    qdrant.put(f"/collections/{memory.COLLECTION}", json={"vectors": {"size": 1, "distance": "Cosine"}})
    points = [
        {"id": n, "vector": [1.0], "payload": {"layer": layer}} for n, layer in enumerate(("memory", "chaos"))
    ]
    qdrant.put(f"/collections/{memory.COLLECTION}/points?wait=true", json={"points": points})
    counts = []
    for path, sent in to("03", "qdrant"):
        json_ = (
            {"content": sent["-d"], "headers": {"content-type": "application/json"}} if "-d" in sent else None
        )
        answer = qdrant.post(path, **json_) if json_ else qdrant.get(path)
        assert answer.status_code == 200, answer.text
        counts += [answer.json()["result"]["count"]] if json_ else []
    app.state.server.storage.close()
    assert counts == [1, 0]
    assert [path for path, _ in to("05", "qdrant")] == ["/readyz"]


def test_vllm_is_asked_where_the_course_asks_it_too() -> None:
    asked = {path for lab in ("02", "04", "05") for path, _ in to(lab, "vllm")}
    assert asked == {"/health", "/v1/models", "/v1/chat/completions"}
    ((_, sent),) = [(path, sent) for path, sent in to("02", "vllm") if "-d" in sent]
    chat = json.loads(sent["-d"])
    assert chat["model"] == "$SERVED_MODEL" and chat["messages"][0]["role"] == "user"


def session(lab: str, cluster: FakeCluster) -> nb.LabSession:
    return nb.LabSession(
        lab, cluster, cluster.identity(), cluster.profile(), None, dict(cluster.profile().images)
    )


def shown(part: Any) -> str:
    return str(part.text)


def test_a_card_shows_this_clusters_names_and_the_class_members_own_namespaces() -> None:
    cluster = FakeCluster()
    lines = "\n".join(command.line for command in ALL)
    alone = shown(nb.by_hand(serving_session(session("02", cluster)), lines))
    assert f'"model": &#34;{cluster.profile().served_model_name}'.replace('"', "&#34;") in alone
    assert "$SERVED_MODEL" not in alone and "-n llm-system " in alone
    assert alone.count("<pre>") == len(ALL)
    cluster.scope = Scope("ada")
    in_class = shown(nb.by_hand(session("02", cluster), lines))
    for name in COURSE_NAMESPACES:
        assert len(re.findall(rf"{name}(?!-ada)", in_class)) == 0, name
    assert "vllm.llm-system-ada.svc.cluster.local:8000" in in_class and "-n llm-outside-ada" in in_class


def test_without_a_cluster_a_card_waits() -> None:
    assert "needs a cluster" in shown(nb.by_hand(nb.LabSession("02"), "kubectl get pods"))


def test_the_pod_with_curl_is_applied_by_its_button_and_taken_away_with_the_lab() -> None:
    cluster = FakeCluster()
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-apps"}})
    lab = session("02", cluster)
    assert "created" in shown(nb.applied(lab, nb.client_yaml()))
    assert "as it is" in shown(nb.preview(replace(lab, id="03"), nb.client_yaml()))
    pod = cluster.view().pod("curl-client", "llm-apps")
    assert pod.path("spec.restartPolicy", "Always") == "Always", "a pod that is over would have to be deleted"
    assert (pod.kind, pod.name, pod.namespace) in LAB_OBJECTS
