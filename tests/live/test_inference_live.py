"""Lab 02 on a live cluster: a real vLLM, asked, starved of its model, and cut off."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import pytest

from helpers.cluster import Cluster
from helpers.errors import LabError
from helpers.labs.registry import lab_ids
from helpers.stack import inference, serving
from helpers.stack.inference import InferenceClient, InferenceFault
from tests.live.openai_features import FEATURES, answer_of

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.solved(*lab_ids(), shared=True)]
ASKER = "asker"


@pytest.fixture
def client(cluster: Cluster) -> Any:
    cluster.wait_ready("Deployment", serving.DEPLOYMENT, serving.NAMESPACE, timeout_s=240)
    with (
        cluster.port_forward(serving.NAMESPACE, f"service/{serving.SERVICE}", serving.PORT) as forward,
        InferenceClient(forward.url, timeout_s=120) as made,
    ):
        yield made


def test_a_pod_of_the_applications_gets_a_chat_completion(cluster: Cluster) -> None:
    body = json.dumps({"model": cluster.profile().served_model_name, "max_tokens": 4,
                       "messages": [{"role": "user", "content": "Say yes."}]})  # fmt: skip
    url = f"http://vllm.{serving.NAMESPACE}.svc.cluster.local:8000/v1/chat/completions"
    curl = ["curl", "-sS", "--max-time", "60", "-H", "Content-Type: application/json", url, "-d", body]
    container = {
        "name": "main",
        "image": cluster.profile().images["toolbox"],
        "command": curl,
        "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
    }
    cluster.delete("Pod", ASKER, "llm-apps", wait_s=30, grace_s=0)
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": ASKER, "namespace": "llm-apps"},
            "spec": {"restartPolicy": "Never", "containers": [container]},
        }
    )
    cluster.wait_until(
        "the asker ended",
        lambda view: view.pod(ASKER, "llm-apps").phase in ("Succeeded", "Failed"),
        timeout_s=90,
    )
    answer = json.loads(cluster.logs("llm-apps", ASKER))
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"]
    cluster.delete("Pod", ASKER, "llm-apps", grace_s=0)


def test_the_client_reads_a_real_server(client: InferenceClient) -> None:
    (model,) = client.models()
    assert model.max_model_len == 4096
    counted = client.count_tokens([{"role": "user", "content": "How many tokens?"}])
    stream = client.stream("How many tokens?", max_tokens=8, ignore_eos=True)
    assert (stream.prompt_tokens, stream.completion_tokens) == (counted.count, 8)
    assert stream.ttft_s is not None and len(stream.itl_s) >= 4
    seen = client.metrics()
    assert (seen.value("vllm:generation_tokens_total") or 0) >= 8
    assert seen.histogram("vllm:time_to_first_token_seconds").count >= 1


@pytest.mark.parametrize(
    ("ask", "fault"),
    [
        (lambda client: client.chat("Hi", model="no-such-model"), inference.ModelNotFound),
        (lambda client: client.chat("word " * 5000), inference.ContextTooLong),
        (lambda client: client.chat("Hi", max_tokens=100_000), inference.ContextTooLong),
        (lambda client: client.stream("Hi", model="no-such-model"), inference.ModelNotFound),
    ],
)
def test_a_wrong_request_is_refused_for_its_reason(client: InferenceClient, ask: Any, fault: type) -> None:
    with pytest.raises(fault):
        ask(client)


def test_every_sampling_feature_is_answered_and_the_engine_lives_on(cluster: Cluster) -> None:
    """One server answers all of them: what ends its engine would fail every feature after it."""
    model, wrong = cluster.profile().served_model_name, {}
    before = _restarts(cluster)
    with (
        cluster.port_forward(serving.NAMESPACE, f"service/{serving.SERVICE}", serving.PORT) as forward,
        httpx.Client(base_url=forward.url, timeout=120, trust_env=False) as client,
    ):
        for feature in FEATURES:
            answer = client.post(feature.path, json=feature.request(model))
            if feature.refused:
                fits = 400 <= answer.status_code < 500
            else:
                fits = answer.status_code == 200 and bool(feature.shows(answer_of(answer.text)))
            alive = client.get("/health").status_code == 200
            if not (fits and alive):
                wrong[feature.name] = (answer.status_code, alive, answer.text[:300])
    assert wrong == {} and _restarts(cluster) == before


def _restarts(cluster: Cluster) -> dict[str, int]:
    """Of each container of vLLM; on a copy of a cluster they began anew with the node."""
    (pod,) = cluster.view().pods(serving.NAMESPACE, labels=serving.LABELS)
    return {f"{pod.uid} {state.name}": state.restarts for state in pod.container_states}


def test_a_truncated_model_is_copied_anew_and_a_killed_stream_is_noticed(
    cluster: Cluster, client: InferenceClient
) -> None:
    """One restart for two faults: the model file is cut short, then the pod is killed under an answer."""
    (pod,) = cluster.view().pods(serving.NAMESPACE, labels=serving.LABELS)
    model = cluster.view().config_map(serving.CONFIG_MAP).data["MODEL_ID"]
    file = f"{model}/model.safetensors"
    # A running process keeps the file it has mapped: it is replaced, not cut under it.
    cut = f"head -c 1000 {file} > /tmp/short && rm -f {file} && cp /tmp/short {file}"
    assert cluster.exec(serving.NAMESPACE, pod.name, ["sh", "-c", cut], container=serving.CONTAINER).ok
    faults: list[InferenceFault | None] = []
    speaking = threading.Event()

    def listen() -> None:
        try:
            client.stream(
                "Tell me a long story.",
                max_tokens=400,
                ignore_eos=True,
                on_text=lambda text: speaking.set(),
            )
            faults.append(None)
        except InferenceFault as fault:
            faults.append(fault)

    listener = threading.Thread(target=listen)
    listener.start()
    assert speaking.wait(60)
    cluster.delete("Pod", pod.name, serving.NAMESPACE, grace_s=0)
    listener.join(60)
    assert isinstance(faults[0], inference.ConnectionFailed | inference.NotReady)
    cluster.wait_until("another pod", lambda view: _other(view, pod.name), timeout_s=60)
    cluster.wait_ready("Deployment", serving.DEPLOYMENT, serving.NAMESPACE, timeout_s=240)
    name = _other(cluster.view(), pod.name)
    log = cluster.logs(serving.NAMESPACE, name or "", container=serving.CACHE_CONTAINER)
    assert "cache miss" in log and "model.safetensors: OK" in log


def _other(view: Any, name: str) -> str | None:
    found = [pod.name for pod in view.pods(serving.NAMESPACE, labels=serving.LABELS) if pod.name != name]
    return found[0] if found else None


def test_an_image_that_is_missing_ends_the_wait_early_and_says_so(cluster: Cluster, namespace: str) -> None:
    spec = {"containers": [{"name": "main", "image": "course.local/no-such-image:1"}]}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "lost", "namespace": namespace},
            "spec": spec,
        }
    )
    with pytest.raises(LabError, match=r"ImagePullBackOff|ErrImagePull"):
        cluster.wait_ready("Pod", "lost", namespace, timeout_s=60)


@pytest.mark.parametrize("overlay", ["embedded", "gpu", "mig", "time-slicing"])
def test_each_overlay_is_valid_to_the_api_server(cluster: Cluster, overlay: str) -> None:
    """Under names of their own: what exists already could refuse a change for reasons of its own."""
    for item in cluster.kustomize(serving.MANIFESTS / "overlays" / overlay):
        item["metadata"]["name"] += "-asked"
        answer = cluster.view().dry_run(item)
        assert answer.allowed, f"{item['kind']}: {answer.reason}"
