"""Wrong clusters for what Prometheus knows and for who scales: a change to the solved one each."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from helpers.grading.author import Mutant
from helpers.grading.changes import Change, Edit, Manifest, edited, manifest, steps, without
from helpers.grading.verdict import Status
from helpers.labs import witnessed_fakes
from helpers.labs.lab08_scale import witness_scale
from helpers.labs.lab08_scale.proof_scale import prometheus_answers, taken
from helpers.labs.lab08_scale.witness_scale import BOOK
from helpers.labs.witnessed_fakes import forged
from helpers.stack import scaling

APPS, BATCH, POOL, WORKER = scaling.APPS, scaling.BATCH, scaling.POOL, scaling.WORKER
MONITORING = scaling.MONITORING
TARGETS, RULES, SIGNALS = "metrics.targets", "metrics.rules", "scale.signals"
REACTS, BLIND, ZERO = "scale.reacts", "scale.blind", "scale.zero"
NOT_YET = Status.NOT_ATTEMPTED
CHANGED = "the service was changed since it was seen"
# What the witnesses see where all is well.
SEEN: dict[str, Manifest] = {
    "wave": {
        "rest": 1,
        "asked_s": 13.2,
        "ready_s": 41.0,
        "desired": 2,
        "down_s": 71.5,
        "changes": [[13.1, 1, 2], [170.0, 2, 1]],
        "ups": 1,
        "downs": 1,
        "asked": 240,
        "answered": 240,
        "lost": 0,
        "how": [],
    },
    "blind": {
        "asked_s": 12.0,
        "ready_s": None,
        "desired": 2,
        "before": 2,
        "least": 2,
        "fallback": True,
        "fallback_s": 24.0,
        "asked": 120,
        "answered": 120,
        "lost": 0,
        "how": [],
    },
    "zero": {
        "replicas": 0,
        "first": {"status": "done", "attempts": 1, "s": 11.4},
        "second": {"status": "done", "attempts": 1, "s": 1.2},
        "changes": [[4.0, 0, 1]],
        "ups": 1,
        "downs": 0,
    },
}


def records(cluster: Any) -> None:
    """All three have looked, and saw what is right."""
    for name in SEEN:
        witnessed(name)(cluster)


def witnessed(name: str, **seen: Any) -> Change:
    """A record of this witness on the cluster as it is; `seen` is laid over what is right. `error=` stands alone."""
    error = seen.pop("error", "")
    said = {"error": error} if error else {"seen": {**deepcopy(SEEN[name]), **seen}}
    return lambda cluster: witnessed_fakes.leave(cluster, BOOK, name, said)


def by_hand(name: str, edit: Callable[[Manifest], object]) -> Change:
    """A record of a Job that is not the course's own."""
    return lambda cluster: witnessed_fakes.leave(cluster, BOOK, name, {"seen": SEEN[name]}, job=edit)


def no_workers(cluster: Any) -> None:
    """They are asleep: nobody to be asked."""
    for found in cluster.view().pods(APPS, labels=scaling.WORKER_LABELS):
        cluster.delete("Pod", found.name, APPS)


def monitor(edit: Edit) -> Change:
    return edited("ServiceMonitor", "vllm", edit, BATCH)


def pods_monitor(**spec: Any) -> Change:
    """Another monitor of the pods in llm-apps."""
    return edited("PodMonitor", "llm-jobs", lambda found: found["spec"].update(spec), APPS)


def pods_of(app: str) -> Change:
    return pods_monitor(selector={"matchLabels": {"app": app}})


def moved(kind: str, name: str, namespace: str, **spec: Any) -> Change:
    """An object in Prometheus' own namespace, with some of its spec laid over."""

    def change(cluster: Any) -> None:
        raw = deepcopy(cluster.view().get(kind, name, namespace).raw)
        cluster.delete(kind, name, namespace)
        raw["metadata"] = {"name": name, "namespace": MONITORING, "labels": raw["metadata"].get("labels", {})}
        raw["spec"] |= spec
        cluster.put(raw)

    return change


def rules(edit: Callable[[list[Manifest]], object]) -> Change:
    """Other rules, in place or as what the edit returns."""

    def change(found: Manifest) -> None:
        (group,) = found["spec"]["groups"]
        other = edit(group["rules"])
        if isinstance(other, list):
            group["rules"] = other

    return edited("PrometheusRule", "llm-rules", change, BATCH)


def scaled(name: str, edit: Callable[[Manifest], object], *, seen: bool = True) -> Change:
    """A ScaledObject with other settings; its witnesses have looked again, unless not `seen`."""
    change = edited("ScaledObject", name, lambda found: edit(found["spec"]), scaling.SCALED[name])
    about = [witness for witness, scaled in witness_scale.ABOUT.items() if scaled == name]
    return steps(change, *(witnessed(item) for item in about if seen))


def metadata(name: str, trigger: int, **changes: str | None) -> Change:
    """Other settings of one trigger; None takes one out."""

    def edit(spec: Manifest) -> None:
        found = spec["triggers"][trigger]["metadata"]
        for key, value in changes.items():
            found.pop(key, None)
            if value is not None:
                found[key] = value

    return scaled(name, edit)


def _second_scaler(cluster: Any) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": POOL}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2}
    cluster.put(manifest("HorizontalPodAutoscaler", "vllm-cpu", BATCH, spec=spec))


def _front_scaler(cluster: Any) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": witness_scale.FRONT}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 5}
    cluster.put(manifest("HorizontalPodAutoscaler", "llm-jobs", APPS, spec=spec))


def _cpu_too(spec: Manifest) -> None:
    spec["triggers"].append({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}})


def _unlabelled(found: list[Manifest]) -> None:
    for rule in found:
        rule.get("labels", {}).pop("layer", None)


def _one_layer(found: list[Manifest]) -> None:
    for rule in found:
        if "alert" in rule:
            rule["labels"]["layer"] = "application"


def renamed(name: str, other: str) -> Change:
    """A ScaledObject by another name than its Deployment's."""

    def change(cluster: Any) -> None:
        raw = deepcopy(cluster.view().get("ScaledObject", name, scaling.SCALED[name]).raw)
        cluster.delete("ScaledObject", name, scaling.SCALED[name])
        raw["metadata"] = {"name": other, "namespace": scaling.SCALED[name]}
        cluster.put(raw)

    return change


def scaled_cpu(name: str) -> Change:
    return edited("ScaledObject", name, lambda found: _cpu_too(found["spec"]), BATCH)


def fallback(**changes: Any) -> Change:
    """Another fallback of the pool; None takes a field out."""

    def edit(spec: Manifest) -> None:
        spec["fallback"] = {
            key: value for key, value in (spec["fallback"] | changes).items() if value is not None
        }

    return scaled(POOL, edit)


_NOBODY = steps(without("ScaledObject", POOL, BATCH), without("ScaledObject", WORKER, APPS))


MUTANTS = [
    # 4
    Mutant(
        "a monitor with another's release label",
        monitor(lambda found: found["metadata"]["labels"].update(release="kube-prometheus-stack")),
        {TARGETS: "it asks nothing of vllm-1"},
    ),
    Mutant(
        "a port number where a name belongs",
        monitor(lambda found: found["spec"]["endpoints"][0].update(port="8000")),
        {TARGETS: "it asks nothing of vllm-1"},
    ),
    Mutant(
        "a selector that fits no Service",
        monitor(lambda found: found["spec"]["selector"].update(matchLabels={"app": "llm"})),
        {TARGETS: "it asks nothing of vllm-1"},
    ),
    Mutant(
        "workers that nobody asks",
        without("PodMonitor", "llm-jobs", APPS),
        {TARGETS: "it asks none of the workers that are there (llm-worker-1)"},
    ),
    Mutant(
        "workers that were asked a while ago",
        steps(pods_of("llm-jobs"), prometheus_answers(remembers=True)),
        {TARGETS: "it asks none of the workers that are there (llm-worker-1)"},
    ),
    Mutant(
        "workers by a port that they do not have, asked a while ago",
        steps(pods_monitor(podMetricsEndpoints=[{"port": "http"}]), prometheus_answers(remembers=True)),
        {TARGETS: "it asks none of the workers that are there (llm-worker-1)"},
    ),
    Mutant(
        "a monitor of workers that fits none of them, and none is there",
        steps(pods_of("worker"), no_workers),
        {TARGETS: "no monitor of those it knows selects them"},
    ),
    Mutant(
        "workers, and not the front that knows of the queue without them",
        pods_of(WORKER),
        {TARGETS: "it asks nothing of llm-jobs"},
    ),
    Mutant(
        "a monitor beside Prometheus that selects in its own namespace",
        moved("ServiceMonitor", "vllm", BATCH),
        {TARGETS: "it asks nothing of vllm-1"},
    ),
    Mutant(
        "rules beside Prometheus, without a layer",
        steps(rules(_unlabelled), moved("PrometheusRule", "llm-rules", BATCH)),
        {RULES: "without a layer: RequestsWait"},
    ),
    Mutant(
        "a policy between Prometheus and the pool",
        prometheus_answers(down="vllm-1"),
        {TARGETS: "vllm-1 does not answer it: context deadline exceeded"},
    ),
    Mutant(
        "no monitors",
        steps(
            without("PodMonitor", "llm-jobs", APPS),
            without("ServiceMonitor", "vllm", BATCH),
            without("PodMonitor", "llm-assistant", APPS),  # of the gate of part 7
        ),
        {TARGETS: "there is none"},
        NOT_YET,
    ),
    Mutant(
        "rules that Prometheus does not select",
        edited("PrometheusRule", "llm-rules", lambda found: found["metadata"].update(labels={}), BATCH),
        {RULES: "it has loaded none (llm-rules is there)"},
    ),
    Mutant(
        "what runs recorded as what waits",
        rules(lambda found: found[0].update(expr="sum(vllm:num_requests_running)")),
        {RULES: "none records vllm:num_requests_waiting"},
    ),
    Mutant("alerts that name no layer", rules(_unlabelled), {RULES: "without a layer: RequestsWait"}),
    Mutant("one layer for everything", rules(_one_layer), {RULES: "the alerts' layers: application"}),
    Mutant(
        "no alert",
        rules(lambda found: [rule for rule in found if "record" in rule]),
        {RULES: "without a layer: no alert"},
    ),
    Mutant(
        "a rule that cannot be evaluated",
        prometheus_answers(failing="llm:requests_waiting:sum"),
        {RULES: "llm:requests_waiting:sum: found duplicate series"},
    ),
    Mutant(
        "a recorded series without a value",
        prometheus_answers(silent="llm:requests_waiting:sum"),
        {RULES: "llm:requests_waiting:sum has no value"},
    ),
    Mutant("no rules", without("PrometheusRule", "llm-rules", BATCH), {RULES: "there is none"}, NOT_YET),
    # 5
    Mutant(
        "nothing scales", _NOBODY, dict.fromkeys((SIGNALS, REACTS, BLIND, ZERO), "there is none"), NOT_YET
    ),
    Mutant(
        "workers by hand",
        without("ScaledObject", WORKER, APPS),
        {SIGNALS: "there is no ScaledObject llm-worker"},
    ),
    Mutant(
        "scaled by cpu",
        scaled(POOL, _cpu_too),
        {SIGNALS: "ScaledObject vllm goes by cpu too"},
    ),
    Mutant(
        "scaled by what runs",
        metadata(POOL, 0, query="sum(vllm:num_requests_running)"),
        {SIGNALS: "no trigger of vllm reads vllm:num_requests_waiting"},
    ),
    Mutant(
        "the cache is not looked at",
        scaled(POOL, lambda spec: spec["triggers"].pop()),
        {SIGNALS: "no trigger of vllm reads vllm:kv_cache_usage_perc"},
    ),
    Mutant(
        "the cache under its former name",
        metadata(POOL, 1, query="sum(vllm:gpu_cache_usage_perc)"),
        {SIGNALS: "no trigger of vllm reads vllm:kv_cache_usage_perc"},
    ),
    Mutant(
        "a cache that is full at eighty, of one",
        metadata(POOL, 1, threshold="80"),
        {SIGNALS: "a threshold of 80 for vllm:kv_cache_usage_perc, which goes from 0 to 1"},
    ),
    Mutant(
        "the cache of the other model server",
        metadata(POOL, 1, query='sum(vllm:kv_cache_usage_perc{namespace="llm-system"})'),
        {SIGNALS: "vllm:kv_cache_usage_perc of llm-system, and the pool is in llm-batch"},
    ),
    Mutant(
        "what waits anywhere else",
        metadata(POOL, 0, query='sum(vllm:num_requests_waiting{namespace!~"llm-batch.*"})'),
        {SIGNALS: "vllm:num_requests_waiting of llm-batch.*, and the pool"},
    ),
    Mutant(
        "one worker for a thousand jobs",
        metadata(WORKER, 0, lagCount="1000"),
        {SIGNALS: "a worker for each 1000 jobs that wait"},
    ),
    Mutant(
        "a pool without a quota",
        without("ResourceQuota", scaling.QUOTA, BATCH),
        {SIGNALS: "1 to 2 replicas, and no quota of llm-batch counts them"},
        in_class={},
    ),
    Mutant(
        "scalers by other names, of which one goes by cpu too",
        steps(renamed(POOL, "the-pool"), renamed(WORKER, "the-workers"), scaled_cpu("the-pool")),
        {SIGNALS: "ScaledObject the-pool goes by cpu too"},
    ),
    Mutant(
        "more replicas than the quota admits",
        scaled(POOL, lambda spec: spec.update(maxReplicaCount=10)),
        {SIGNALS: "1 to 10 replicas, and the quota admits 2"},
    ),
    Mutant(
        "no maximum",
        scaled(POOL, lambda spec: spec.pop("maxReplicaCount")),
        {SIGNALS: "1 to 100 replicas, and the quota admits 2"},
    ),
    Mutant(
        "as many at least as at most",
        scaled(POOL, lambda spec: spec.update(minReplicaCount=2)),
        {SIGNALS: "2 to 2 replicas"},
    ),
    Mutant(
        "two scalers for one Deployment",
        _second_scaler,
        {SIGNALS: "HorizontalPodAutoscaler vllm-cpu scales vllm"},
    ),
    Mutant(
        "the front is scaled", _front_scaler, {SIGNALS: "HorizontalPodAutoscaler llm-jobs scales llm-jobs"}
    ),
    Mutant(
        "the front in place of the workers",
        scaled(WORKER, lambda spec: spec["scaleTargetRef"].update(name=witness_scale.FRONT)),
        {SIGNALS: "ScaledObject llm-worker scales Deployment llm-jobs"},
    ),
    Mutant(
        "workers by the stream's length",
        scaled(
            WORKER,
            lambda spec: spec.update(
                triggers=[{"type": "redis-streams", "metadata": {"stream": "jobs", "streamLength": "4"}}]
            ),
        ),
        {SIGNALS: "the stream is read by streamLength"},
    ),
    Mutant(
        "workers by what is held",
        scaled(WORKER, lambda spec: spec["triggers"].pop(0)),
        {SIGNALS: "the stream is read by pendingEntriesCount"},
    ),
    Mutant(
        "the lag of another group",
        metadata(WORKER, 0, consumerGroup="w"),
        {SIGNALS: "the lag of another group or stream"},
    ),
    Mutant(
        "a worker that always waits",
        scaled(WORKER, lambda spec: spec.update(minReplicaCount=1)),
        {SIGNALS: "1 to 3 workers"},
    ),
    Mutant(
        "KEDA has not taken it",
        taken(POOL, hpa=False, Ready="False"),
        {SIGNALS: "ScaledObject vllm has Ready: False"},
    ),
    Mutant(
        "paused",
        edited(
            "ScaledObject",
            POOL,
            lambda found: found["metadata"].update(annotations={"autoscaling.keda.sh/paused": "true"}),
            BATCH,
        ),
        {SIGNALS: "ScaledObject vllm is paused"},
    ),
    Mutant(
        "too slow", witnessed("wave", asked_s=None, desired=1, ups=0, downs=0), {REACTS: "no second replica"}
    ),
    Mutant(
        "scaled by hand",
        witnessed("wave", desired=1),
        {REACTS: "somebody asked for it, the scaler wants 1"},
    ),
    Mutant(
        "up and down with every dip",
        witnessed("wave", ups=2, downs=2),
        {REACTS: "2 times up and 2 times down"},
    ),
    Mutant("two for ever", witnessed("wave", down_s=None, downs=0), {REACTS: "still two replicas"}),
    Mutant("two from the beginning", witnessed("wave", rest=2), {REACTS: "2 replicas while two callers ask"}),
    Mutant(
        "answers cut off as a replica goes",
        witnessed("wave", lost=2, how=["0 RemoteDisconnected"]),
        {REACTS: "2 of 240 answers lost (0 RemoteDisconnected)"},
    ),
    Mutant(
        "another scaler than the witness saw",
        scaled(POOL, lambda spec: spec.update(pollingInterval=30), seen=False),
        {REACTS: CHANGED},
        NOT_YET,
    ),
    Mutant(
        "a pool that cuts answers off, after the wave",
        edited(
            "Deployment",
            POOL,
            lambda found: found["spec"]["template"]["spec"].update(terminationGracePeriodSeconds=1),
            BATCH,
        ),
        {REACTS: CHANGED},
        NOT_YET,
    ),
    Mutant(
        "another worker than the one that was woken",
        edited(
            "Deployment",
            WORKER,
            lambda found: found["spec"]["template"]["spec"]["containers"][0].update(image="another:1"),
            APPS,
        ),
        {ZERO: CHANGED},
        NOT_YET,
    ),
    Mutant(
        "a wave of one's own",
        by_hand(
            "wave", lambda job: job["spec"]["template"]["spec"]["containers"][0].update(command=["true"])
        ),
        {REACTS: "command of witness is not the course's own"},
    ),
    Mutant("a record of another pod", forged(BOOK, "wave"), {REACTS: "the record is another pod's"}),
    Mutant(
        "an empty answer is zero",
        metadata(POOL, 0, ignoreNullValues=None),
        {BLIND: "1 triggers take an empty answer for zero"},
    ),
    Mutant(
        "no fallback",
        steps(
            scaled(POOL, lambda spec: spec.pop("fallback")),
            witnessed("blind", fallback=False, fallback_s=None),
        ),
        {BLIND: "the ScaledObject has no fallback"},
    ),
    Mutant(
        "KEDA never falls back",
        witnessed("blind", fallback=False, fallback_s=None),
        {BLIND: "KEDA never fell back"},
        in_class={},
    ),
    Mutant(
        "a fallback to one",
        fallback(replicas=1, behavior=None),
        {BLIND: "the fallback asks for 1 of at most 2 replicas, however many there are"},
    ),
    Mutant(
        "a fallback to none, or to what is there if that is less",
        fallback(replicas=0, behavior="currentReplicasIfLower"),
        {BLIND: "the fallback asks for 0 of at most 2 replicas"},
    ),
    Mutant(
        "a fallback after a thousand failures",
        fallback(failureThreshold=1000),
        {BLIND: "the fallback begins after 1000 failures, 5 s apart: 5000 s"},
    ),
    Mutant(
        "a replica went while nothing was seen",
        witnessed("blind", least=1),
        {BLIND: "2 replicas before, 1 while Prometheus was gone"},
        in_class={},
    ),
    Mutant(
        "one replica when it went blind",
        witnessed("blind", asked_s=None, before=0, least=0, fallback=False),
        {BLIND: "no second replica"},
        in_class={},
    ),
    Mutant(
        "a worker with nothing to do",
        witnessed("zero", replicas=1, first=None, second=None),
        {ZERO: "1 workers with nothing to do"},
    ),
    Mutant(
        "a lone job wakes nobody",
        witnessed("zero", first={"status": "waiting", "attempts": 0, "s": 240.0}),
        {ZERO: "the lone job is waiting after 240.0 s"},
    ),
    Mutant(
        "a worker that was sent home with the job",
        witnessed("zero", first={"status": "done", "attempts": 2, "s": 61.0}),
        {ZERO: "it was delivered 2 times"},
    ),
    Mutant(
        "a queue that does not answer",
        witnessed("zero", error="the job was not accepted: 503 queue_unavailable"),
        {ZERO: "the job was not accepted"},
    ),
]
