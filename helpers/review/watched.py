"""Criteria about what is watched: targets, alerts, traces; and what stands before a release."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from helpers.review import prometheus
from helpers.review.answers import Answer, Gap, answer
from helpers.review.bounds import scaled_works
from helpers.review.prometheus import NoPrometheus
from helpers.review.stack import Stack
from helpers.stack.traces import PORT as PHOENIX_PORT

if TYPE_CHECKING:
    from helpers.cluster.resource import Resource

DEAD = re.compile(r"dead")
_SPANS = re.compile(
    r"^(otelcol_(?:receiver_accepted|exporter_sent|exporter_send_failed)_spans)(?:_total)?(?:\{.*\})? (\S+)$"
)
ACCEPTED, SENT, FAILED = (
    f"otelcol_{name}_spans" for name in ("receiver_accepted", "exporter_sent", "exporter_send_failed")
)


def _no_prometheus(stack: Stack, error: NoPrometheus) -> Answer:
    return answer((), [Gap("", str(error))], met="", nothing="", next_command=error.next_command)


# Targets


def targets(stack: Stack) -> Answer:
    """Every model server, every worker and whatever else is scaled is a target of Prometheus that is up."""
    works = {work.name: work for work in (*stack.model_servers, *stack.workers, *scaled_works(stack))}
    ready = {name: [pod for pod in work.pods if pod.is_ready] for name, work in works.items()}
    try:
        found = prometheus.targets(stack)
    except NoPrometheus as error:
        return _no_prometheus(stack, error)
    asked = {(item.namespace, item.pod) for item in found}
    gaps = []
    for name, pods in ready.items():
        unasked = [pod for pod in pods if (pod.namespace, pod.name) not in asked]
        # Of workers that come and go one is enough: the newest was perhaps not listed yet.
        if pods and len(unasked) == len(pods):
            gaps.append(Gap(name, "is asked for its metrics by nobody"))
        elif works[name].is_model_server:
            gaps += [Gap(f"Pod {pod.namespace}/{pod.name}", "is asked by nobody") for pod in unasked]
    of_the_stack = {stack.real(name) for name in stack.places.stack}
    alive = {pod.name for work in stack.works() for pod in work.pods if pod.is_ready}
    gaps += [
        Gap(
            f"target {item.namespace}/{item.pod or item.job}",
            f"is down: {item.error or 'it does not answer'}",
        )
        for item in found
        # A pod that has ended stays a target until the next list: that is no failure.
        if item.is_down and item.namespace in of_the_stack and (item.pod in alive or not item.pod)
    ]
    return answer(
        (name for name, pods in ready.items() if pods),
        gaps,
        met=f"{sum(map(len, ready.values()))} pods of model servers and workers are targets, and none of the stack's is down",
        nothing="no model server and no worker runs",
        next_command="kubectl get servicemonitors,podmonitors -A --show-labels",
    )


# Alerts


def alerts(stack: Stack) -> Answer:
    """Alerts name the layer, read metrics that exist, and one of them watches the dead letters."""
    try:
        found = prometheus.alerts(stack)
        known = prometheus.metric_names(stack) if found else set()
        recorded = prometheus.recorded(stack) if found else {}
    except NoPrometheus as error:
        return _no_prometheus(stack, error)
    gaps = [Gap(f"alert {item.name}", what) for item in found for what in _alert_gaps(item, known)]
    layers = sorted({item.layer for item in found if item.layer})
    if found and len(layers) < 2:
        gaps.append(
            Gap("", f"all alerts are of {layers[0] if layers else 'no layer'}: the others wake nobody")
        )
    if found and not any(DEAD.search(prometheus.written_out(item.expression, recorded)) for item in found):
        gaps.append(Gap("", "no alert watches the dead letters: a job that nobody can do is seen by nobody"))
    return answer(
        (f"alert {item.name}" for item in found),
        gaps,
        met=f"{len(found)} alerts name {len(layers)} layers ({', '.join(layers)}), and dead letters have one",
        nothing="Prometheus has loaded no alert",
        next_command="kubectl get prometheusrules -A --show-labels",
    )


def _alert_gaps(item: prometheus.Alert, known: set[str]) -> Iterator[str]:
    if item.health == "err":
        yield f"cannot be evaluated: {item.error}"
    if not item.layer:
        yield "names no layer"
    if not any(item.annotations.get(name) for name in ("summary", "description", "message")):
        yield "says nothing to whom it wakes"
    unknown = sorted(prometheus.metrics_in(item.expression) - known)
    if unknown:
        yield f"reads {', '.join(unknown)}, which nobody reports: it can never ring"


# The gate


def gate(stack: Stack) -> Answer:
    """A release is judged before all users have it: each Rollout has an analysis on its way to the whole."""
    rollouts = [item for name in stack.places.apps for item in stack.objects("Rollout", name)]
    gaps = [
        Gap(f"Rollout {item.namespace}/{item.name}", what)
        for item in rollouts
        for what in _gate_gaps(stack, item)
    ]
    return answer(
        (f"Rollout {item.namespace}/{item.name}" for item in rollouts),
        gaps,
        met=f"{', '.join(item.name for item in rollouts)}: judged by an analysis before all users have it",
        nothing="no Rollout: a release reaches all users as soon as its pods are ready",
        next_command=stack.command(f"kubectl get rollouts,analysistemplates -n {stack.places.apps[0]}"),
    )


def _gate_gaps(stack: Stack, rollout: Resource) -> Iterator[str]:
    names = [*_analyses(rollout.path("spec.strategy", {}) or {})]
    if not names:
        yield "goes by the clock: no analysis stands between the first users and all of them"
        return
    namespace = next(name for name in stack.places.apps if stack.real(name) == rollout.namespace)
    there = {item.name: item for item in stack.objects("AnalysisTemplate", namespace)}
    maps = {item.name for item in stack.objects("ConfigMap", namespace)}
    for name in names:
        if name not in there:
            yield f"is judged by the AnalysisTemplate {name}, which is not there"
            continue
        metrics = there[name].path("spec.metrics", []) or []
        if not metrics:
            yield f"is judged by {name}, which measures nothing"
        for metric in metrics:
            if (
                int(
                    metric.get("failureLimit", 0)
                    if str(metric.get("failureLimit", 0)).lstrip("-").isdigit()
                    else 0
                )
                < 0
            ):
                yield f"is judged by {name}, whose metric {metric.get('name')} may fail for ever"
            for needed in sorted(_maps_of(metric) - maps):
                yield f"is judged by {name}, which needs the ConfigMap {needed}, and it is not there"


def _analyses(strategy: Mapping[str, Any]) -> Iterator[str]:
    """The templates that judge a release before everybody has it."""
    canary, blue_green = strategy.get("canary") or {}, strategy.get("blueGreen") or {}
    background = canary.get("analysis") or {}
    asked = [blue_green.get("prePromotionAnalysis") or {}, background]
    for step in canary.get("steps") or []:
        if step.get("setWeight") == 100:
            break
        asked.append(step.get("analysis") or {})
    for analysis in asked:
        yield from (str(item.get("templateName", "")) for item in analysis.get("templates") or [])


def _maps_of(metric: Mapping[str, Any]) -> set[str]:
    """The ConfigMaps without which an analysis's Job does not start."""
    spec = (((metric.get("provider") or {}).get("job") or {}).get("spec") or {}).get("template", {}).get(
        "spec"
    ) or {}
    sources = [item.get("configMap") or {} for item in spec.get("volumes") or []]
    return {str(item["name"]) for item in sources if item.get("name") and not item.get("optional")}


# Traces


def traces(stack: Stack) -> Answer:
    """Spans arrive at the Collector, and leave it for where they are kept."""
    collectors, gaps, told = [], [], []
    for namespace in stack.places.traces:
        for service in stack.objects("Service", namespace):
            counts = _spans(stack, namespace, service)
            if counts is None:
                continue
            name = f"Service {service.namespace}/{service.name}"
            collectors.append(name)
            if not counts[ACCEPTED] and _are_kept(stack, namespace):
                # Its counters begin with its process: after a restart they say nothing of who sends.
                told.append(f"{service.name} took no span since it began; those of before are kept")
                continue
            told.append(f"{service.name} took {counts[ACCEPTED]:.0f} spans and sent {counts[SENT]:.0f}")
            gaps += [Gap(name, what) for what in _span_gaps(counts)]
    where = ", ".join(map(stack.real, stack.places.traces))
    return answer(
        collectors,
        gaps,
        met="; ".join(told),
        nothing=f"no Collector in {where} says what it has received",
        next_command=stack.command(f"kubectl get pods,services -n {stack.places.traces[0]}"),
    )


def _spans(stack: Stack, namespace: str, service: Resource) -> dict[str, float] | None:
    """A Collector's own counters, of the pod that answers; None where this Service is none."""
    for port in service.path("spec.ports", []) or []:
        number = port.get("port")
        if number and (port.get("name") == "metrics" or number == 8888):
            answer_ = stack.view.http(namespace, service.name, int(number), "/metrics", timeout_s=5)
            if answer_.ok and "otelcol_" in answer_.body:
                return _summed(answer_.body)
    return None


def _are_kept(stack: Stack, namespace: str) -> bool:
    """Whether a Phoenix in this namespace has a span; of another store nothing is known."""
    for service in stack.objects("Service", namespace):
        for port in service.path("spec.ports", []) or []:
            if port.get("port") != PHOENIX_PORT:
                continue
            projects = _phoenix(stack, namespace, service, "/v1/projects")
            spans = (f"/v1/projects/{quote(item['name'])}/spans?limit=1" for item in projects)
            if any(_phoenix(stack, namespace, service, path) for path in spans):
                return True
    return False


def _phoenix(stack: Stack, namespace: str, service: Resource, path: str) -> list[dict[str, Any]]:
    said = stack.view.http(namespace, service.name, PHOENIX_PORT, path, timeout_s=5)
    found: list[dict[str, Any]] = (said.json().get("data") or []) if said.ok else []
    return found


def _summed(text: str) -> dict[str, float]:
    found = dict.fromkeys((ACCEPTED, SENT, FAILED), 0.0)
    for line in text.splitlines():
        counter = _SPANS.match(line)
        if counter:
            found[counter[1]] += float(counter[2])
    return found


def _span_gaps(counts: Mapping[str, float]) -> Iterator[str]:
    if not counts[ACCEPTED]:
        yield "has not received a single span since it began: nobody sends traces"
    elif not counts[SENT]:
        yield f"took {counts[ACCEPTED]:.0f} spans and sent none on"
    if counts[FAILED] > counts[SENT]:
        yield f"lost {counts[FAILED]:.0f} spans on the way and sent {counts[SENT]:.0f}"
