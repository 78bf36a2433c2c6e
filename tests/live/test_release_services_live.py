"""The services of lab 07 as they run: who lets a release through, where a span goes, and how promptfoo ends."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from string import Template
from typing import Any

import httpx
import pytest

from helpers.cluster import Cluster
from helpers.cluster.manifests import load
from helpers.cluster.temporary import temporary_namespace
from helpers.cluster.view import ClusterView
from helpers.cluster.waits import NotYet
from helpers.settings import REPOSITORY
from helpers.stack.assistant import COLLECTOR, OBSERVABILITY, PHOENIX
from helpers.stack.bring_up import ensure_observability, ensure_rollouts, load_images
from helpers.stack.pages import PAGES, address

pytestmark = pytest.mark.live
MANIFESTS = REPOSITORY / "manifests" / "labs" / "07"
API = "argoproj.io/v1alpha1"
DECIDED_S = 90.0


@pytest.fixture(scope="module")
def rollouts(cluster: Cluster) -> Iterator[str]:
    """A namespace with a Rollout whose gate is a Job that ends as the release says."""
    load_images("argo-rollouts", "promptfoo", "eval-runner")
    ensure_rollouts(cluster, print)
    with temporary_namespace(cluster, "llm-releases") as namespace:
        cluster.apply(_release(namespace, "first", "0"))
        cluster.wait_until("the first release serves", _phase(namespace, "Healthy"), timeout_s=DECIDED_S)
        yield namespace


def _release(namespace: str, name: str, exit_code: str) -> list[dict[str, Any]]:
    """A Rollout of two pods and its gate; the code is the release's, as a candidate's quality is."""
    image = "course.local/busybox:1"
    metadata = {"name": "service", "namespace": namespace}
    security = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    gate = {"name": "gate", "image": image, "command": ["sh", "-c", "exit {{args.code}}"]}
    job = {
        "backoffLimit": 0,
        "template": {"spec": {"restartPolicy": "Never", "securityContext": security, "containers": [gate]}},
    }
    pods = {
        "terminationGracePeriodSeconds": 0,
        "securityContext": security,
        "containers": [
            {
                "name": "service",
                "image": image,
                "command": ["sleep", "9999"],
                "env": [{"name": "RELEASE", "value": name}],
            }
        ],
    }
    steps = [
        {"setWeight": 50},
        {
            "analysis": {
                "templates": [{"templateName": "gate"}],
                "args": [{"name": "code", "value": exit_code}],
            }
        },
    ]
    return [
        {
            "apiVersion": API,
            "kind": "AnalysisTemplate",
            "metadata": {"name": "gate", "namespace": namespace},
            "spec": {
                "args": [{"name": "code"}],
                "metrics": [{"name": "gate", "failureLimit": 0, "provider": {"job": {"spec": job}}}],
            },
        },
        {
            "apiVersion": API,
            "kind": "Rollout",
            "metadata": metadata,
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "service"}},
                "template": {"metadata": {"labels": {"app": "service"}}, "spec": pods},
                "strategy": {"canary": {"steps": steps}},
            },
        },
    ]


def _phase(namespace: str, wanted: str, revision: str = "1") -> Any:
    def reached(view: ClusterView) -> str:
        found = view.get("Rollout", "service", namespace, api_version=API)
        # Until the controller has seen the change, the status is the former release's.
        if found.path("status.observedGeneration") != str(found.path("metadata.generation")):
            raise NotYet("the controller has not seen the change")
        seen = found.annotations.get("rollout.argoproj.io/revision"), found.path("status.phase")
        if seen != (revision, wanted):
            raise NotYet(f"revision {seen[0]} is {seen[1]}")
        return str(found.path("status.stableRS"))

    return reached


def test_a_gate_s_exit_code_decides_which_release_serves(cluster: Cluster, rollouts: str) -> None:
    namespace = rollouts

    def decided(name: str, code: str, phase: str, revision: str) -> str:
        cluster.apply(_release(namespace, name, code))
        reached = _phase(namespace, phase, revision)
        return str(cluster.wait_until(f"release {name} decided", reached, timeout_s=DECIDED_S))

    good = decided("good", "0", "Healthy", "2")
    assert decided("bad", "1", "Degraded", "3") == good, (
        "a release that failed its gate became the stable one"
    )
    runs = cluster.view().list("AnalysisRun", namespace, api_version=API)
    assert sorted(str(run.path("status.phase")) for run in runs) == ["Failed", "Successful"]


@pytest.fixture(scope="module")
def observability(cluster: Cluster) -> None:
    load_images("phoenix", "otel-collector")
    ensure_observability(cluster, print)


def test_a_span_that_the_collector_takes_is_read_from_phoenix(cluster: Cluster, observability: None) -> None:
    project, trace = f"try-{secrets.token_hex(4)}", secrets.token_hex(16)
    with (
        cluster.port_forward(OBSERVABILITY, f"service/{COLLECTOR}", 4318) as collector,
        address(cluster, PAGES[PHOENIX]) as phoenix,
    ):
        httpx.post(f"{collector.url}/v1/traces", json=_span(project, trace), timeout=10).raise_for_status()

        def kept(view: ClusterView) -> dict[str, Any]:
            answer = httpx.get(f"{phoenix}/v1/projects/{project}/spans", timeout=10)
            if answer.status_code != 200 or not answer.json()["data"]:
                raise NotYet(f"Phoenix answers {answer.status_code}")
            found: dict[str, Any] = answer.json()["data"][0]
            return found

        span = cluster.wait_until("the span in Phoenix", kept, timeout_s=60)
        assert (span["context"]["trace_id"], span["attributes"]) == (trace, {"tenant_id": "docs"})
        assert "<title>Phoenix" in httpx.get(phoenix, timeout=10).text
        httpx.delete(f"{phoenix}/v1/projects/{project}", timeout=10)


def _span(project: str, trace: str) -> dict[str, Any]:
    now = time.time_ns()
    span = {
        "traceId": trace,
        "spanId": secrets.token_hex(8),
        "name": "chat",
        "startTimeUnixNano": str(now - 10**8),
        "endTimeUnixNano": str(now),
        "attributes": [{"key": "tenant_id", "value": {"stringValue": "docs"}}],
        # What a tail sampler keeps, whatever it does with the rest.
        "status": {"code": 2},
    }
    resource = {"key": "openinference.project.name", "value": {"stringValue": project}}
    return {
        "resourceSpans": [{"resource": {"attributes": [resource]}, "scopeSpans": [{"spans": [span]}]}],
    }


SERVER = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"answer": "By its requests [1]."}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
ROW = '{"id": "a", "question": "How does a quota count?", "expected": {"behaviour": "answer"}, "tags": ["tier=%s"]}'


@pytest.mark.parametrize(
    ("target", "tier", "assertion", "exit_code", "verdict"),
    [
        ("http://127.0.0.1:8080", "pr", "[", 0, "pass"),
        ("http://127.0.0.1:8080", "pr", "[nobody says this", 100, "quality"),
        ("http://127.0.0.1:9", "pr", "[", 2, "infrastructure"),
        ("http://127.0.0.1:8080", "nightly", "[", 3, "configuration"),
    ],
)
def test_promptfoo_s_job_tells_bad_answers_from_no_answers(
    cluster: Cluster, rollouts: str, target: str, tier: str, assertion: str, exit_code: int, verdict: str
) -> None:
    """The lab's own Job, beside a server that always answers the same."""
    name = f"promptfoo-{verdict}"
    text = Template((MANIFESTS / "promptfoo.yaml").read_text()).safe_substitute(
        PROMPTFOO=cluster.profile().images["promptfoo"]
    )
    config, job = load(text)
    del config["metadata"]["namespace"], job["metadata"]["namespace"]
    rules = config["data"]["promptfooconfig.yaml"]
    config["data"]["promptfooconfig.yaml"] = rules.replace(
        'value: "\\\\[\\\\d', f'value: "\\\\{assertion}\\\\d'
    )
    for item in (config, job):
        item["metadata"] |= {"name": name, "namespace": rollouts}
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    container["env"] = [{"name": "TARGET", "value": target}, {"name": "HOME", "value": "/tmp"}]
    spec["volumes"][0]["configMap"]["name"] = name
    spec["volumes"][1]["configMap"]["name"] = f"{name}-sets"
    # A sidecar: it ends when the Job's own container has.
    spec["initContainers"] = [
        {
            "name": "release",
            "restartPolicy": "Always",
            "image": cluster.profile().images["eval-runner"],
            "command": ["python3", "-c", SERVER],
            "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 60},
        }
    ]
    sets = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-sets", "namespace": rollouts},
        "data": {"golden.jsonl": ROW % tier + "\n"},
    }
    cluster.apply([config, sets, job])

    def ended(view: ClusterView) -> dict[str, Any]:
        for pod in view.pods(rollouts, labels=f"job-name={name}"):
            for status in pod.path("status.containerStatuses") or []:
                if over := (status.get("state") or {}).get("terminated"):
                    return dict(over)
        raise NotYet("the Job's container still runs")

    over = cluster.wait_until(f"Job {name} ended", ended, timeout_s=DECIDED_S)
    assert over["exitCode"] == exit_code, over
    assert verdict in over["message"]
