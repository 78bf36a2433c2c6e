"""A fake cluster with both backends, their Services and the probe pod, for tests of experiments."""

from __future__ import annotations

import time
from typing import Any

from helpers.cluster.backend import ExecResult
from helpers.cluster.fake import FakeCluster


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def workload(kind: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    container = {
        "name": name,
        "image": name,
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
    }
    status = {
        "replicas": 1,
        "readyReplicas": 1,
        "updatedReplicas": 1,
        "availableReplicas": 1,
        "observedGeneration": 99,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "llm-system", "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
        "status": status,
    }


def service(name: str, selector: dict[str, str], port: int, address: str, pod: str) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "llm-system"},
            "spec": {"selector": selector, "ports": [{"name": "http", "port": port, "targetPort": port}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-abc",
                "namespace": "llm-system",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [address],
                    "conditions": {"ready": True},
                    "targetRef": {"kind": "Pod", "name": pod},
                }
            ],
        },
    ]


def served(namespace: str, pod: str, command: list[str], stdin: str | None) -> ExecResult:
    """Clients that are served, whatever happens."""
    now = time.time()
    lines = "".join(f"{now} {client} 200 0 0.060 0.001 \n" for client in ("inference", "retrieval"))
    return ExecResult(0, lines if command[0] == "tail" else f"{now}\n", "")


def stack() -> FakeCluster:
    """Both backends ready, as lab 03 leaves them."""
    cluster = FakeCluster()
    for item in ("llm-system", "llm-apps", "llm-probes"):
        cluster.apply(namespace(item))
    vllm, qdrant = {"app": "vllm"}, {"app.kubernetes.io/name": "qdrant"}
    cluster.put([workload("Deployment", "vllm", vllm), workload("StatefulSet", "qdrant", qdrant)])
    container = [
        {"name": "main", "image": "x", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}}
    ]
    cluster.add_pod("vllm-1", "llm-system", labels=vllm, spec={"containers": container})
    cluster.add_pod("qdrant-0", "llm-system", labels=qdrant, spec={"containers": container})
    cluster.add_pod("probe-app", "llm-apps", labels={"course.llm-stack/probe": "app"})
    cluster.put(service("vllm", vllm, 8000, "10.244.0.10", "vllm-1"))
    cluster.put(service("qdrant", qdrant, 6333, "10.244.0.11", "qdrant-0"))
    cluster.exec_handler = served
    return cluster
