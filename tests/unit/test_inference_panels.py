"""The pictures of lab 02: moments become stretches, fragments become manifests, a policy becomes bars."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from helpers.cluster.fake import FakeCluster
from helpers.errors import InvalidManifest
from helpers.labs.lab02_inference import draw
from helpers.notebook.session import LabSession
from helpers.stack.inference import InferenceClient
from helpers.stack.serving import Moment
from tests.unit.openai_server import running

CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: vllm-model-config}\n"
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "vllm", "namespace": "llm-system"},
    "spec": {"template": {"spec": {"containers": [{"name": "vllm", "image": "v"}]}}},
}


def _moment(at_s: float, phase: str, state: str, *, in_endpoints: bool = False) -> Moment:
    return Moment(at_s, "vllm-abc-x1", phase, state, in_endpoints, in_endpoints, 0)


def test_equal_moments_join_to_stretches_without_gaps() -> None:
    found = draw.segments(
        [
            _moment(0, "Pending", "ContainerCreating"),
            _moment(1, "Running", "running"),
            _moment(2, "Running", "running"),
            _moment(3, "Running", "running", in_endpoints=True),
        ]
    )
    phases = [(item.said, item.begin_s, item.end_s) for item in found if item.lane == "x1 · phase"]
    assert phases == [("Pending", 0, 1), ("Running", 1, 3)]
    traffic = [(item.said, item.begin_s, item.end_s) for item in found if item.lane == "x1 · traffic"]
    assert traffic == [("no traffic", 0, 3), ("gets traffic", 3, 3)]


def test_a_time_line_of_nothing_says_so() -> None:
    assert "No pod" in draw.timeline_chart([]).text


def _session(**images: str) -> LabSession:
    cluster = FakeCluster()
    return LabSession("02", cluster, cluster.identity(), cluster.profile(), None, images)


def test_fragments_are_laid_over_the_deployment() -> None:
    text = draw.with_fragment(
        _session(),
        [DEPLOYMENT],
        "spec: {template: {spec: {enableServiceLinks: false}}}",
        "spec: {template: {metadata: {annotations: {sum: $CONFIG_CHECKSUM}}}}",
    )
    template = yaml.safe_load(text)["spec"]["template"]
    assert template["spec"] == {"containers": [{"name": "vllm", "image": "v"}], "enableServiceLinks": False}
    assert len(template["metadata"]["annotations"]["sum"]) == 64


@pytest.mark.parametrize("fragment", ["spec: [", "- a list", "just words"])
def test_a_fragment_that_is_none_is_said_so(fragment: str) -> None:
    with pytest.raises(InvalidManifest):
        draw.with_fragment(_session(), [DEPLOYMENT], fragment)


def test_five_requests_tell_answers_from_faults() -> None:
    with running() as server, InferenceClient(server.url) as client:
        asked = draw.five_requests(client)
    assert len(asked) == 5
    assert asked[0].said == "200" and asked[0].retryable is None
    assert asked[-1].retryable is True and "ConnectionFailed" in asked[-1].said


@pytest.mark.parametrize("text", ["", "kind: ConfigMap", "data: {MAX_MODEL_LEN: many}", "{ not yaml"])
def test_a_policy_that_is_no_manifest_is_said_so(text: str) -> None:
    assert "waits for readable YAML" in draw.kv_picture(_session(), text).text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{MAX_MODEL_LEN: many, MAX_NUM_SEQS: '1'}", "needs MAX_MODEL_LEN"),
        ("{MAX_MODEL_LEN: '4096'}", "needs MAX_MODEL_LEN"),
        ("{MAX_MODEL_LEN: 4096, MAX_NUM_SEQS: '1'}", "it is a text, so write it in quotes"),
        ("[MAX_MODEL_LEN]", "data is"),
    ],
)
def test_a_policy_that_cannot_be_drawn_is_said_so(data: str, said: str) -> None:
    assert said in draw.kv_picture(_session(), f"{CONFIG_MAP}data: {data}").text


def test_a_policy_is_held_against_the_cache() -> None:
    def drawn(seqs: int) -> Any:
        data = f'{{MAX_MODEL_LEN: "4096", MAX_NUM_SEQS: "{seqs}"}}'
        return draw.kv_picture(_session(), f"{CONFIG_MAP}data: {data}").text

    assert "fits" in drawn(4) and "16,384" in drawn(4)
    assert "too large" in drawn(16) and "65,536" in drawn(16)


def _crashed(last: dict[str, Any], now: dict[str, Any], *, restarts: int) -> LabSession:
    lab = _session()
    assert isinstance(lab.cluster, FakeCluster)
    lab.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-system"}})
    state = {"name": "vllm", "restartCount": restarts, "lastState": last, "state": now, "ready": False}
    lab.cluster.add_pod("vllm-0", "llm-system", labels={"app": "vllm"}, status={"containerStatuses": [state]})
    return lab


ENDED = {"terminated": {"exitCode": 1, "reason": "Error"}}


def test_a_container_that_is_down_shows_its_own_log_and_not_the_one_before() -> None:
    lab = _crashed({"terminated": {"exitCode": 137, "reason": "Error"}}, ENDED, restarts=1)
    assert isinstance(lab.cluster, FakeCluster)
    lab.cluster.set_log("llm-system", "vllm-0", "Error: this time", container="vllm")
    lab.cluster.set_log("llm-system", "vllm-0", "Error: the time before", container="vllm", previous=True)
    text = draw.crash_panel(lab).text
    assert "Exit code <b>1</b>" in text and "this time" in text and "the time before" not in text


def test_the_first_end_is_told_before_the_container_starts_again() -> None:
    text = draw.crash_panel(_crashed({}, ENDED, restarts=0)).text
    assert "Exit code <b>1</b>" in text and "has not ended yet" not in text


def test_a_log_that_went_with_its_container_is_told_in_words() -> None:
    lab = _crashed(ENDED, {"running": {}}, restarts=2)
    assert isinstance(lab.cluster, FakeCluster)
    gone = "unable to retrieve container logs for containerd://7daa58"
    lab.cluster.set_log("llm-system", "vllm-0", gone, container="vllm", previous=True)
    text = draw.crash_panel(lab).text
    assert "containerd" not in text and "went with its container" in text
