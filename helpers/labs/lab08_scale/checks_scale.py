"""Checks of parts 4 and 5: what Prometheus knows of pool and workers, and who scales them by it.

Targets and rules are asked of Prometheus itself, by the API server's proxy. What scalers do is seen by witnesses, whose
records count for as long as the ScaledObject is the one that they saw.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any

from helpers.cluster.selectors import matches
from helpers.errors import EnvironmentFault, Forbidden, InvalidManifest, ObjectMissing
from helpers.grading import Verdict, all_of, expect_true, falls_short, not_attempted
from helpers.labs import witnessing
from helpers.labs.lab08_scale import witness_scale
from helpers.labs.lab08_scale.lab import lab
from helpers.labs.witnessing import several
from helpers.stack import prometheus, scaling
from helpers.stack.load import KV_USAGE, WAITING

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.cluster.resource import Resource
    from helpers.grading.declare import CheckFunction
    from helpers.stack.scaling import Scaler, Trigger

BATCH, APPS, POOL, WORKER = scaling.BATCH, scaling.APPS, scaling.POOL, scaling.WORKER
MONITORING = prometheus.MONITORING
FRONT = witness_scale.FRONT
PAGES = {BATCH: "inference", APPS: "queue"}
MOST_UPS, MOST_DOWNS = 2, 1
ON_RESOURCES = ("cpu", "memory")
# A worker takes four jobs at once: with more than ten times that behind it, one more is wanted by anybody.
MOST_LAG = 40
# KEDA's own defaults are ten failures, thirty seconds apart.
LONGEST_BLIND_S = 300.0
# What KEDA makes of a fallback that keeps at least what is there.
KEEPS = ("currentReplicas", "currentReplicasIfHigher")


def _objects(view: ClusterView, kind: str) -> list[Resource]:
    """The objects of this kind beside pool and workers, and beside Prometheus where one may look; none without the kind."""
    try:
        found = [item for namespace in (BATCH, APPS) for item in view.list(kind, namespace)]
    except InvalidManifest:
        return []
    with suppress(Forbidden):  # in a class it is the instructor's
        found += view.list(kind, MONITORING)
    return found


# 4. What Prometheus knows


@lab.check("metrics.targets", points=4, task="metrics", timeout_s=20)
def prometheus_asks_pool_and_workers(cluster: ClusterView) -> Verdict:
    """Prometheus asks every model server of the pool, the front of the jobs and the workers, and gets their figures.

    Why: A monitor that selects nothing is accepted without a word. Dashboards stay empty, alerts stay green, and scalers read zero.
    Hint: Two labels decide: the one by which Prometheus selects monitors, and the one by which the monitor selects its Service or pods. A port is named as they name it.
    Next: kubectl get prometheus -n llm-monitoring -o yaml | grep -A4 MonitorSelector
    """
    monitors = [item for kind in ("ServiceMonitor", "PodMonitor") for item in _objects(cluster, kind)]
    if not monitors:
        return not_attempted(f"monitors in {BATCH}, {APPS} or {MONITORING}", "there is none")
    targets = prometheus.targets(cluster)
    pool, front, workers = (
        _of(cluster, targets, where, name) for where, name in ((BATCH, POOL), (APPS, FRONT), (APPS, WORKER))
    )
    serving = {pod.name for pod in scaling.live_pods(cluster, scaling.POOL_LABELS, BATCH) if pod.is_ready}
    missing = sorted(serving - {item.pod for item in pool})
    working, fronts = (
        {pod.name for pod in scaling.live_pods(cluster, f"app={name}", APPS) if pod.is_ready}
        for name in (WORKER, FRONT)
    )
    # A pod that has just ended is a target for a moment more.
    alive = serving | working | fronts
    down = [item for item in (*pool, *front, *workers) if item.health == "down" and item.pod in alive]
    front_seen = _is_seen(cluster, FRONT, fronts, front, monitors)
    workers_seen = _is_seen(cluster, WORKER, working, workers, monitors)
    if working:
        unseen = f"it asks none of the workers that are there ({', '.join(sorted(working))})"
    else:
        unseen = (
            f"it has asked no worker in {APPS} within the hour, and no monitor of those it knows selects them"
        )
    return several(
        (bool(serving), "model servers serve", f"no pod of the pool is ready in {BATCH}"),
        (not missing, "Prometheus asks each model server", f"it asks nothing of {', '.join(missing)}"),
        (
            not down,
            "and all answer",
            f"{down[0].pod} does not answer it: {down[0].error}" if down else "",
        ),
        (workers_seen, "and the workers, when there are any", unseen),
        (
            front_seen,
            "and the front",
            f"it asks nothing of {FRONT}, which knows of the queue when no worker is there",
        ),
    ).about(monitors[0])


def _of(
    view: ClusterView, targets: Sequence[prometheus.Target], namespace: str, deployment: str
) -> list[prometheus.Target]:
    real = view.scope.namespace(namespace)
    return [item for item in targets if item.namespace == real and item.pod.startswith(f"{deployment}-")]


def _is_seen(
    view: ClusterView,
    deployment: str,
    ready: Collection[str],
    asked: Sequence[prometheus.Target],
    monitors: Sequence[Resource],
) -> bool:
    """Whether pods of this Deployment in `llm-apps` are asked: now where some are ready, else when there were any."""
    if any(item.pod in ready for item in asked) or _would_be_seen(view, deployment, monitors):
        return True
    return not ready and _was_seen(view, deployment)


def _was_seen(view: ClusterView, deployment: str) -> bool:
    """Workers that have nothing to do are not there: the last hour counts."""
    namespace = view.scope.namespace(APPS)
    found = prometheus.query(
        view, f'max(max_over_time(up{{namespace="{namespace}",pod=~"{deployment}-.+"}}[1h]))'
    )
    return any(item.value == 1 for item in found)


def _would_be_seen(view: ClusterView, deployment: str, monitors: Sequence[Resource]) -> bool:
    """Prometheus has loaded a monitor that selects the Deployment's pods, and names a port of theirs.

    So it is with pods that are not there, whose target goes with them, and with those that came a moment ago.
    """
    found = view.find("Deployment", deployment, APPS)
    if found is None:
        return False
    loaded = prometheus.scrape_pools(view)
    labels = found.path("spec.template.metadata.labels", {})
    containers = found.path("spec.template.spec.containers", [])
    ports = [port for item in containers for port in item.get("ports") or []]
    return any(
        matches(item.path("spec.selector", {}), labels)
        and _looks_into(item, view.scope.namespace(APPS))
        and any(_has_port(end, ports) for end in item.path("spec.podMetricsEndpoints", []))
        for item in monitors
        if item.kind == "PodMonitor"
        and any(pool.startswith(f"podMonitor/{item.namespace}/{item.name}/") for pool in loaded)
    )


def _looks_into(monitor: Resource, namespace: str) -> bool:
    """Whether a monitor selects in this namespace: in its own, unless it names others."""
    chosen = monitor.path("spec.namespaceSelector", {}) or {}
    return bool(chosen.get("any")) or namespace in (chosen.get("matchNames") or [monitor.namespace])


def _has_port(endpoint: Mapping[str, Any], ports: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an endpoint of a PodMonitor names a port of the containers, by name or number."""
    wanted = [endpoint[key] for key in ("port", "portNumber", "targetPort") if endpoint.get(key) is not None]
    if endpoint.get("port") is not None:  # the Operator takes the name where there is one
        wanted = [endpoint["port"]]
    return any(port.get("name") in wanted or port.get("containerPort") in wanted for port in ports)


@lab.check("metrics.rules", points=3, task="metrics", timeout_s=20)
def rules_say_where_to_look(cluster: ClusterView) -> Verdict:
    """Prometheus records what waits at the pool, and each alert says in a label in which layer to look.

    Why: Who is woken at night reads one line. `layer: queue` or `layer: inference` is the difference between looking and searching.
    Hint: A rule is selected by a label, as monitors are. The recording rule reads `vllm:num_requests_waiting`; one alert at least has `layer: inference`, and one `layer: queue`.
    Next: kubectl get prometheusrules -n llm-batch -o yaml
    """
    written = _objects(cluster, "PrometheusRule")
    if not written:
        return not_attempted(f"a PrometheusRule in {BATCH}, {APPS} or {MONITORING}", "there is none")
    rules = prometheus.rules(cluster)
    recorded = [rule for rule in rules if not rule.is_alert and WAITING in rule.query]
    known = [rule for rule in recorded if prometheus.query(cluster, rule.name)]
    alerts = [rule for rule in rules if rule.is_alert]
    failing = [rule for rule in rules if rule.health == "err"]
    silent = [rule.name for rule in alerts if not rule.layer]
    layers = {rule.layer for rule in alerts}
    wanted = set(PAGES.values())
    return several(
        (bool(rules), "Prometheus has loaded rules", f"it has loaded none ({written[0].name} is there)"),
        (not failing, "and can evaluate them", f"{failing[0].name}: {failing[0].error}" if failing else ""),
        (bool(recorded), f"one records {WAITING}", f"none records {WAITING}"),
        (bool(known), "and has a value", f"{recorded[0].name if recorded else 'it'} has no value"),
        (
            bool(alerts) and not silent,
            "each alert names a layer",
            f"without a layer: {', '.join(silent) or 'no alert'}",
        ),
        (
            wanted <= layers,
            " and ".join(sorted(wanted)),
            f"the alerts' layers: {', '.join(sorted(layers)) or 'none'}",
        ),
    ).about(written[0])


# 5. Who scales


@lab.check("scale.signals", points=4, task="scale", timeout_s=20)
def scaled_by_what_waits(cluster: ClusterView) -> Verdict:
    """The pool is scaled by requests that wait and by its KV cache, workers by the group's lag down to zero, each by one scaler, within the quota.

    Why: A card is busy at one request and at twenty. What users feel is what waits, and a replica that no quota admits serves nobody.
    Hint: Two ScaledObjects. Lag counts what nobody has taken; a stream's length counts everything that ever came. How many pods does the quota of llm-batch admit?
    Next: kubectl get scaledobject,hpa -A
    """
    pool, workers = (scaling.scaled_object(cluster, name, where) for name, where in scaling.SCALED.items())
    there = [item for item in (pool, workers) if item is not None]
    if not there:
        return not_attempted(f"ScaledObjects {POOL} in {BATCH} and {WORKER} in {APPS}", "there is none")
    if pool is None or workers is None:
        missing = next(name for name, item in ((POOL, pool), (WORKER, workers)) if item is None)
        return falls_short("both ScaledObjects", f"there is no ScaledObject {missing}", there[0].raw)
    return all_of(*_pool_signals(cluster, pool), *_worker_signals(cluster, workers)).summed_up(
        "what waits, the KV cache and lag, by one scaler each, within the quota"
    )


def _pool_signals(view: ClusterView, pool: Scaler) -> list[Verdict]:
    most = scaling.most_admitted(view)
    read = {
        metric: [(item, text) for item in pool.triggers if (text := _reading(view, item, metric))]
        for metric in (WAITING, KV_USAGE)
    }
    within = 1 <= pool.minimum < pool.maximum <= (most or 0)
    elsewhere = [
        (metric, name)
        for metric, found in read.items()
        for _, text in found
        for name in _elsewhere(text, (BATCH, view.scope.namespace(BATCH)))
    ]
    inert = [item.metadata.get("threshold", "") for item, text in read[KV_USAGE] if not _can_ask(item, text)]
    asked = f"{pool.minimum} to {pool.maximum} replicas, and"
    return [
        _target(pool, POOL),
        *(
            expect_true(
                bool(there), f"a trigger reads {metric}", f"no trigger of {POOL} reads {metric}", pool.raw
            )
            for metric, there in read.items()
        ),
        expect_true(
            not elsewhere,
            "of the pool's own namespace",
            f"{elsewhere[0][0]} of {elsewhere[0][1]}, and the pool is in {BATCH}" if elsewhere else "",
            pool.raw,
        ),
        expect_true(
            not inert,
            f"at a {KV_USAGE} that it can have",
            f"a threshold of {inert[0] or 'nothing'} for {KV_USAGE}, which goes from 0 to 1" if inert else "",
            pool.raw,
        ),
        *_no_resources(pool),
        expect_true(
            within,
            f"from 1 to at most {most} replicas, as the quota admits",
            f"{asked} no quota of {BATCH} counts them"
            if most is None
            else f"{asked} the quota admits {most}",
            pool.raw,
        ),
        _alone(view, POOL, BATCH),
        _in_force(pool),
    ]


def _worker_signals(view: ClusterView, workers: Scaler) -> list[Verdict]:
    streams = [item for item in workers.triggers if item.kind == "redis-streams"]
    lag = [item for item in streams if _number(item, "lagCount") > 0 and item.metadata.get("consumerGroup")]
    right = [
        item
        for item in lag
        if (item.metadata.get("stream"), item.metadata["consumerGroup"]) == (scaling.STREAM, scaling.GROUP)
    ]
    read = ", ".join(
        sorted(
            {
                key
                for item in streams
                for key in ("streamLength", "pendingEntriesCount", "lagCount")
                if key in item.metadata
            }
        )
    )
    front = scaling.scalers_of(view, FRONT, APPS)
    return [
        _target(workers, WORKER),
        expect_true(
            bool(lag),
            "a trigger reads the group's lag",
            f"the stream is read by {read or 'nothing'}",
            workers.raw,
        ),
        expect_true(
            bool(right) or not lag,
            f"the lag of {scaling.GROUP} on {scaling.STREAM}",
            "the lag of another group or stream",
            workers.raw,
        ),
        expect_true(
            not lag or any(_number(item, "lagCount") <= MOST_LAG for item in lag),
            f"a worker for each {MOST_LAG} jobs that wait, or fewer",
            f"a worker for each {_number(lag[0], 'lagCount')} jobs that wait" if lag else "",
            workers.raw,
        ),
        *_no_resources(workers),
        expect_true(
            workers.minimum == 0 < workers.maximum,
            "from no worker upwards",
            f"{workers.minimum} to {workers.maximum} workers",
            workers.raw,
        ),
        expect_true(not front, "nothing scales the front", f"{', '.join(front)} scales {FRONT}", workers.raw),
        _alone(view, WORKER, APPS),
        _in_force(workers),
    ]


def _number(trigger: Trigger, key: str) -> int:
    text = trigger.metadata.get(key, "0")
    return int(text) if text.isdigit() else 0


def _reading(view: ClusterView, trigger: Trigger, metric: str) -> str:
    """The query with which a trigger reads a metric, its own or that of a series that Prometheus records; else nothing."""
    if trigger.kind != "prometheus":
        return ""
    if metric in trigger.query:
        return trigger.query
    try:
        rules = prometheus.rules(view)
    except (ObjectMissing, EnvironmentFault):  # what is recorded cannot be known: the query's own words count
        return ""
    recorded = (rule for rule in rules if not rule.is_alert and metric in rule.query)
    return next((f"{trigger.query} # {rule.query}" for rule in recorded if rule.name in trigger.query), "")


_NAMESPACE = re.compile(r'\bnamespace\s*(=~|!~|!=|=)\s*"([^"]*)"')
_TIMES = re.compile(r"\*\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*\*")


def _elsewhere(query: str, mine: Sequence[str]) -> Iterator[str]:
    """The namespaces that a query names and that are none of mine."""
    for how, name in _NAMESPACE.findall(query):
        named = [item == name if how in ("=", "!=") else bool(_fullmatch(name, item)) for item in mine]
        if any(named) == how.startswith("!"):
            yield name


def _fullmatch(pattern: str, text: str) -> bool:
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        return False


def _can_ask(trigger: Trigger, query: str) -> bool:
    """Whether a share of the KV cache, 0 to 1 unless the query multiplies it, can reach the trigger's threshold."""
    if WAITING in query:  # of both together: what waits may come to anything
        return True
    times = _TIMES.search(query)
    most = float(times[1] or times[2]) if times else 1.0
    try:
        return 0 < float(trigger.metadata.get("threshold", "")) <= most
    except ValueError:
        return False


def _target(scaler: Scaler, deployment: str) -> Verdict:
    right = (scaler.target_kind, scaler.target) == ("Deployment", deployment)
    return expect_true(
        right,
        f"ScaledObject {scaler.name} scales Deployment {deployment}",
        f"ScaledObject {scaler.name} scales {scaler.target_kind} {scaler.target}",
        scaler.raw,
    )


def _no_resources(scaler: Scaler) -> list[Verdict]:
    found = [item.kind for item in scaler.triggers if item.kind in ON_RESOURCES]
    return [
        expect_true(
            not found,
            f"{scaler.name} not by cpu or memory",
            f"ScaledObject {scaler.name} goes by {', '.join(found)} too",
            scaler.raw,
        )
    ]


def _alone(view: ClusterView, deployment: str, namespace: str) -> Verdict:
    found = scaling.scalers_of(view, deployment, namespace)
    return expect_true(
        len(found) == 1,
        f"one scaler for {deployment}",
        f"{', '.join(found) or 'nothing'} scales {deployment}",
    )


def _in_force(scaler: Scaler) -> Verdict:
    ready = scaler.conditions.get("Ready", "missing")
    said = "is paused" if scaler.paused else f"has Ready: {ready}"
    return expect_true(
        scaler.is_ready and not scaler.paused,
        f"KEDA has taken {scaler.name}",
        f"ScaledObject {scaler.name} {said}",
        scaler.raw,
    )


def witnessed(name: str) -> Callable[[Callable[..., Verdict]], CheckFunction]:
    """A check that gets what a witness of scaling saw, if its record counts."""
    scaled = witness_scale.ABOUT[name]
    namespace = scaling.SCALED[scaled]

    def wrap(check: Callable[..., Verdict]) -> CheckFunction:
        @wraps(check)
        def judged(cluster: ClusterView) -> Verdict:
            if scaling.scaled_object(cluster, scaled, namespace) is None:
                return not_attempted(f"ScaledObject {scaled} in {namespace}", "there is none")
            return witnessing.verdict_on(witness_scale.BOOK, cluster, name, check)

        return judged

    return wrap


@lab.check("scale.reacts", points=5, task="scale", timeout_s=20)
@witnessed("wave")
def replicas_follow_what_waits(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A step of load brings a second replica, a dip takes none away, a calm takes one, and no answer is lost on the way.

    Why: A scaler that is too slow helps nobody, one that is too quick starts and ends model servers all day, and one that is rude cuts answers.
    Hint: How long what was wanted still counts is `scaleDown.stabilizationWindowSeconds`: longer than a dip of half a minute, and two minutes at most: three minutes after the load one replica has to be asked for again. Its default is five.
    Next: course witness wave
    """
    asked = seen["asked_s"] is not None
    by_scaler = (seen["desired"] or 0) >= 2
    calm = asked and seen.get("down_s") is not None
    ups, downs = seen["ups"], seen["downs"]
    return several(
        (seen["rest"] == 1, "one replica while few ask", f"{seen['rest']} replicas while two callers ask"),
        (asked, "a second one while many wait", "no second replica while sixteen callers asked"),
        (
            by_scaler or not asked,
            "which the scaler wanted",
            f"somebody asked for it, the scaler wants {seen['desired']}",
        ),
        (
            calm or not asked,
            "one again when it is calm",
            "still two replicas three minutes after the load",
        ),
        (
            ups <= MOST_UPS and downs <= MOST_DOWNS,
            f"up {ups}, down {downs} times",
            f"{ups} times up and {downs} times down",
        ),
        (
            seen["lost"] == 0 and seen["answered"] > 0,
            f"all {seen['asked']} answers whole",
            f"{seen['lost']} of {seen['asked']} answers lost ({'; '.join(seen['how'][:1])})",
        ),
    )


@lab.check("scale.blind", points=3, task="scale", timeout_s=20)
def nobody_goes_when_nothing_is_seen(cluster: ClusterView) -> Verdict:
    """While Prometheus is gone, or knows nothing, replicas stay as they are.

    Why: "No value" is not zero. Counted as zero, a monitoring outage at peak takes the servers away too.
    Hint: `fallback` says what counts after so many failures: a number of replicas, or by its `behavior` what is there. `ignoreNullValues` decides whether an empty answer is a failure, and its default is that it is none.
    Next: course witness blind
    """
    pool = scaling.scaled_object(cluster, POOL, BATCH)
    if pool is None:
        return not_attempted(f"ScaledObject {POOL} in {BATCH}", "there is none")
    empty = [item for item in pool.triggers if item.kind == "prometheus" and item.is_blind_at_empty]
    keeps, least, failures = (
        pool.fallback.get("behavior") in KEEPS,
        _whole(pool.fallback.get("replicas")),
        _whole(pool.fallback.get("failureThreshold")),
    )
    after_s = failures * pool.polling_s
    written = several(
        (
            bool(pool.triggers) and not empty,
            "an empty answer is no zero",
            f"{len(empty)} triggers take an empty answer for zero",
        ),
        (bool(pool.fallback), "a fallback", "the ScaledObject has no fallback"),
        (
            not pool.fallback or keeps or least >= pool.maximum,
            "which keeps what is there",
            f"the fallback asks for {least} of at most {pool.maximum} replicas, however many there are",
        ),
        (
            not pool.fallback or 0 < after_s <= LONGEST_BLIND_S,
            f"within {LONGEST_BLIND_S:.0f} s",
            f"the fallback begins after {failures} failures, {pool.polling_s:.0f} s apart: {after_s:.0f} s",
        ),
    ).about(pool.raw)
    if cluster.scope.suffix:  # the class's Prometheus stays where it is
        return written
    saw = witnessing.verdict_on(witness_scale.BOOK, cluster, "blind", _stayed)
    return all_of(written, saw).summed_up(f"{written.observed}; {saw.observed}")


def _whole(value: Any) -> int:
    return int(value) if str(value).isdigit() else 0


def _stayed(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    two = seen["asked_s"] is not None
    before, least = seen.get("before", 0), seen.get("least", 0)
    return several(
        (two, "two replicas at work", "no second replica while sixteen callers asked"),
        (
            not two or seen["fallback"],
            "KEDA fell back",
            f"KEDA never fell back within the {witness_scale.FALLBACK_S:.0f} s that Prometheus was gone "
            "(`failureThreshold` × `pollingInterval`)",
        ),
        (
            not two or least >= before,
            "and none went",
            f"{before} replicas before, {least} while Prometheus was gone",
        ),
    )


@lab.check("scale.zero", points=3, task="scale", timeout_s=20)
@witnessed("zero")
def one_job_wakes_a_worker(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """Without jobs there is no worker; one lone job brings one, and is done.

    Why: Nobody pays for workers at night, and the first job of the morning pays for all of them: it waits until one has started.
    Hint: `minReplicaCount`, and what has to be exceeded before anybody wakes: a lag of one is more than `activationLagCount`.
    Next: course witness zero
    """
    first, second = seen.get("first") or {}, seen.get("second") or {}
    asleep = seen["replicas"] == 0
    done = first.get("status") == "done"
    return several(
        (asleep, "no worker while there is nothing to do", f"{seen['replicas']} workers with nothing to do"),
        (
            not asleep or done,
            "a lone job is done",
            f"the lone job is {first.get('status')} after {first.get('s')} s",
        ),
        (
            not done or first.get("attempts") == 1,
            "at its first delivery",
            f"it was delivered {first.get('attempts')} times",
        ),
        (
            not done or second.get("status") == "done",
            f"after {first.get('s')} s, the next one after {second.get('s')} s",
            f"the next job is {second.get('status')}",
        ),
    )
