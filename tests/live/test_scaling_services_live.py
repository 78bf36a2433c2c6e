"""The services of lab 08 as they run: what a queue and what a rule make of a Deployment's replicas, and who is asked."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from helpers.cluster import Cluster
from helpers.cluster.temporary import temporary_namespace
from helpers.cluster.view import ClusterView
from helpers.cluster.waits import NotYet
from helpers.errors import LabError
from helpers.stack import prometheus
from helpers.stack.bring_up import load_images
from helpers.stack.images import missing
from helpers.stack.operators import MONITORING, POD_METRICS, ensure_scaling

pytestmark = pytest.mark.live
IMAGES = (
    *("keda", "keda-metrics-apiserver", "prometheus-operator", "prometheus-config-reloader"),
    *("prometheus", "metrics-server", "redis"),
)
# The kubelet brings a changed Secret or ConfigMap, which Prometheus's configuration and rules are, once a minute.
SCALED_S, READ_S = 240.0, 180.0
TRIED = f"course-try-{secrets.token_hex(3)}"
STREAM, GROUP = "asks", "workers"
SECURITY = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}


@pytest.fixture(scope="module")
def services(cluster: Cluster) -> Iterator[str]:
    """The operators, and a namespace with a Deployment of nothing and an empty queue."""
    if lacking := missing(cluster, IMAGES):
        load_images(*lacking)
    ensure_scaling(cluster, print)
    with temporary_namespace(cluster, "llm-scaling") as namespace:
        cluster.apply(_workload(namespace, cluster.profile().images["redis"]))
        cluster.wait_rollout("Deployment", "queue", namespace)
        yield namespace


def _workload(namespace: str, redis_image: str) -> list[dict[str, Any]]:
    def deployment(name: str, container: dict[str, Any], replicas: int) -> dict[str, Any]:
        pod = {
            "terminationGracePeriodSeconds": 0,
            "securityContext": SECURITY,
            "containers": [{"name": name, **container}],
        }
        template = {"metadata": {"labels": {"app": name}}, "spec": pod}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": template,
            },
        }

    asleep = {"image": "course.local/busybox:1", "command": ["sleep", "9999"]}
    served = {
        "image": redis_image,
        "args": ["--protected-mode", "no", "--save", ""],
        "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "queue", "namespace": namespace},
        "spec": {"selector": {"app": "queue"}, "ports": [{"port": 6379}]},
    }
    return [
        deployment("worker", asleep, 0),
        deployment("server", asleep, 0),
        deployment("queue", served, 1),
        service,
    ]


def _scaled(namespace: str, name: str, trigger: dict[str, Any]) -> dict[str, Any]:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"name": name},
            "minReplicaCount": 0,
            "maxReplicaCount": 3,
            "pollingInterval": 2,
            "cooldownPeriod": 5,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
            "triggers": [trigger],
        },
    }


def _asks_for(namespace: str, name: str, wanted: int) -> Callable[[ClusterView], bool]:
    def reached(view: ClusterView) -> bool:
        now = view.get("Deployment", name, namespace).path("spec.replicas")
        if now != wanted:
            said = view.get("ScaledObject", name, namespace).path("status.conditions", [])
            raise NotYet(f"{now} replicas; {said}")
        return True

    return reached


@contextmanager
def _queue(cluster: Cluster, namespace: str) -> Iterator[Any]:
    with (
        cluster.port_forward(namespace, "service/queue", 6379) as forward,
        redis.Redis.from_url(forward.url.replace("http://", "redis://")) as client,
    ):
        yield client


def test_waiting_entries_of_a_stream_scale_a_deployment_from_nothing_and_back(
    cluster: Cluster, services: str
) -> None:
    namespace = services
    with _queue(cluster, namespace) as queue:
        queue.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        trigger = {
            "type": "redis-streams",
            "metadata": {
                "address": f"queue.{namespace}:6379",
                "stream": STREAM,
                "consumerGroup": GROUP,
                "lagCount": "2",
                "activationLagCount": "0",
            },
        }
        cluster.apply(_scaled(namespace, "worker", trigger))
        cluster.wait_until("the ScaledObject is ready", _is_ready(namespace, "worker"), timeout_s=READ_S)
        assert cluster.view().get("Deployment", "worker", namespace).path("spec.replicas") == 0
        for number in range(6):
            queue.xadd(STREAM, {"number": number})
        cluster.wait_until("three workers", _asks_for(namespace, "worker", 3), timeout_s=SCALED_S)
        taken = queue.xreadgroup(GROUP, "reader", {STREAM: ">"}, count=10)
        queue.xack(STREAM, GROUP, *(entry for entry, _ in taken[0][1]))
        cluster.wait_until("no worker", _asks_for(namespace, "worker", 0), timeout_s=SCALED_S)
        assert queue.xlen(STREAM) == 6, "the stream's length says nothing of what waits"


def _is_ready(namespace: str, name: str) -> Callable[[ClusterView], bool]:
    def ready(view: ClusterView) -> bool:
        found = view.get("ScaledObject", name, namespace)
        conditions = {item["type"]: item["status"] for item in found.path("status.conditions", []) or []}
        if conditions.get("Ready") != "True":
            raise NotYet(str(found.path("status.conditions")))
        return True

    return ready


def _rule(value: int, labels: dict[str, str]) -> dict[str, Any]:
    group = {"name": "try", "rules": [{"record": "course_try_wanted", "expr": f"vector({value})"}]}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": TRIED, "namespace": MONITORING, "labels": labels},
        "spec": {"groups": [group]},
    }


@pytest.fixture
def tried(cluster: Cluster) -> Iterator[None]:
    """The objects in Prometheus's own namespace go again."""
    try:
        yield
    finally:
        for kind, name in (
            ("PrometheusRule", TRIED),
            ("ServiceMonitor", TRIED),
            ("ServiceMonitor", f"{TRIED}-unseen"),
        ):
            cluster.delete(kind, name, MONITORING)


def test_a_rule_s_value_scales_a_deployment(cluster: Cluster, services: str, tried: None) -> None:
    namespace = services
    cluster.apply(_rule(4, prometheus.RELEASE))
    trigger = {
        "type": "prometheus",
        "metadata": {
            "serverAddress": f"http://{prometheus.SERVICE}.{MONITORING}:{prometheus.PORT}",
            "query": "course_try_wanted",
            "threshold": "2",
            "ignoreNullValues": "false",
        },
    }
    cluster.wait_until("the rule has a value", _value("course_try_wanted", 4), timeout_s=READ_S)
    cluster.apply(_scaled(namespace, "server", trigger))
    cluster.wait_until("two servers", _asks_for(namespace, "server", 2), timeout_s=SCALED_S)
    cluster.apply(_rule(0, prometheus.RELEASE))
    cluster.wait_until("no server", _asks_for(namespace, "server", 0), timeout_s=SCALED_S)


def _value(query: str, wanted: float) -> Callable[[ClusterView], bool]:
    def reached(view: ClusterView) -> bool:
        found = prometheus.value(view, query)
        if found != wanted:
            raise NotYet(f"{query} is {found}")
        return True

    return reached


def _monitor(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": name, "namespace": MONITORING, "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
            "endpoints": [{"port": "web"}],
        },
    }


def test_a_monitor_is_scraped_when_it_carries_the_release_s_label(
    cluster: Cluster, services: str, tried: None
) -> None:
    """Of two that differ in the label alone; the names are new, as an earlier run's targets may still be there."""
    seen, unseen = TRIED, f"{TRIED}-unseen"
    cluster.apply([_monitor(unseen, {"release": "another"}), _monitor(seen, prometheus.RELEASE)])

    def scraped(view: ClusterView) -> set[str]:
        up = {target.pool.split("/")[2] for target in prometheus.targets(view) if target.health == "up"}
        if seen not in up:
            raise NotYet(f"scraped: {sorted(up)}")
        return up

    assert unseen not in cluster.wait_until("Prometheus scrapes itself", scraped, timeout_s=READ_S)


def test_the_api_server_tells_what_cpu_a_pod_takes(cluster: Cluster, services: str) -> None:
    def told(view: ClusterView) -> bool:
        _, _, group = POD_METRICS.partition(".")
        try:
            answer = json.loads(view.raw(f"/apis/{group}/v1beta1/namespaces/{MONITORING}/pods"))
        except LabError as error:
            raise NotYet(str(error)) from error
        usage = {
            item["metadata"]["name"]: container["usage"]["cpu"]
            for item in answer["items"]
            for container in item["containers"]
            if container["name"] == "prometheus"
        }
        if not usage:
            raise NotYet("nothing measured yet")
        return set(usage) == {"prometheus-course-0"}

    assert cluster.wait_until("Prometheus's CPU", told, timeout_s=READ_S)
