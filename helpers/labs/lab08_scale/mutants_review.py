"""Wrong clusters for parts 6 and 7: incidents that were not named, and stacks that do not pass their review."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helpers.chaos.incident import NAME
from helpers.chaos.incident_figures import FIGURES
from helpers.chaos.journal import KEY_SECRET, NAMESPACE, publish, read_key, sealed_text
from helpers.grading.author import Mutant
from helpers.grading.changes import BEGUN, Change, applied, edited, manifest, steps, stored, without
from helpers.grading.verdict import Status
from helpers.labs.lab08_scale import proof_review
from helpers.stack import scaling
from helpers.stack.scaling import APPS, BATCH

SYSTEM = "llm-system"
WORKER, FRONT, POOL = "llm-worker", "llm-jobs", "vllm"
_KEY = b"a key that only this fake cluster has"
_T = BEGUN.timestamp()
_CAUSE, _FIGURE = "retriever-slow", "retrieval"
Entry = dict[str, Any]


# The incident


def records(cluster: Any) -> None:
    """An incident that was diagnosed rightly, as the engine leaves it."""
    journal()(cluster)


def journal(
    *,
    answer: Mapping[str, str] | None = None,
    committed: bool = True,
    late: bool = False,
    happened: bool = True,
    samples: int = 8,
    steady: bool = True,
    told: Sequence[int] = (),
    edit: Callable[[str], str] = lambda text: text,
) -> Change:
    """The journal of an incident: a slow retriever, unless something else is said.

    Args:
        late: the diagnosis came after the name.
        told: seeds whose names had been told before.
        edit: what was done to its text by hand.
    """
    said = {"cause": _CAUSE, "figure": _FIGURE} if answer is None else dict(answer)
    entries: list[Entry] = [_sample(number, 0.1) for number in range(6)]
    if happened:
        entries.append({"kind": "inject", "t": _T + 40, "step": "an incident drawn from the seed"})
    entries += [_sample(42 + 3 * number, 3.0) for number in range(samples)]
    diagnosis = {"kind": "diagnosis", "t": _T + 70, "answer": said, "after_s": 30.0}
    named = {"kind": "reveal", "t": _T + 80, "cause": _CAUSE, "layer": "memory"}
    over = {"kind": "time-over", "t": _T + 70, "answer": {}}
    undone = {"kind": "undo", "t": _T + 71}
    if late:
        entries += [undone, named, diagnosis]
    else:
        entries += [diagnosis if committed else over, undone, named]

    def change(cluster: Any) -> None:
        if read_key(cluster.view()) is None:
            key = {"key": base64.b64encode(_KEY).decode()}
            applied(manifest("Namespace", NAMESPACE), manifest("Secret", KEY_SECRET, NAMESPACE, data=key))(
                cluster
            )
        system = cluster.view().get("Namespace", "kube-system")
        head = {"kind": "start", "experiment": NAME, "cluster": system.uid, "seed": 8, "t": _T}
        head["told"] = [{"seed": seed, "cause": _CAUSE, "t": _T - 900} for seed in told]
        whole = [head, *entries, {"kind": "end", "t": _T + 90, "steady": steady}]
        publish(cluster, edit(sealed_text(read_key(cluster.view()) or _KEY, whole)), NAME, "08")

    return change


def _sample(at_s: float, retrieval_s: float) -> Entry:
    figures = {item.name: 1.0 for item in FIGURES} | {"retrieval": retrieval_s}
    return {"kind": "sample", "t": _T + at_s, "figures": figures}


def _incidents() -> list[Mutant]:
    def wrong(name: str, change: Change, said: str) -> Mutant:
        return Mutant(f"incident: {name}", change, {"incident.named": said})

    return [
        wrong(
            "another cause",
            journal(answer={"cause": "cache-cold", "figure": _FIGURE}),
            "the diagnosis is cache-cold, and it was retriever-slow",
        ),
        wrong(
            "the right cause by a figure that every incident changes",
            journal(answer={"cause": _CAUSE, "figure": "done"}),
            "the figure is done",
        ),
        wrong(
            "no diagnosis before the time was over", journal(committed=False), "none was committed in time"
        ),
        wrong("a diagnosis after the name was told", journal(late=True), "it came after the name"),
        wrong(
            "the same seed once more, when its name was told",
            journal(told=[3, 8]),
            "the name of seed 8 had been told before",
        ),
        wrong("nothing had happened", journal(happened=False), "nothing had happened"),
        wrong("a diagnosis without a look at the figures", journal(samples=0), "0"),
        wrong(
            "a journal edited by hand",
            journal(
                answer={"cause": "cache-cold", "figure": _FIGURE},
                edit=lambda text: text.replace("cache-cold", _CAUSE),
            ),
            "does not carry the seal",
        ),
        wrong("what was broken stayed broken", journal(steady=False), "not everything served again"),
        Mutant(
            "incident: none was run",
            without("ConfigMap", f"journal-{NAME}", NAMESPACE),
            {"incident.named": "no incident was run"},
            Status.NOT_ATTEMPTED,
        ),
    ]


# The review


def _container(kind: str, name: str, namespace: str, **fields: Any) -> Change:
    """A workload, and its pods, whose first container has other fields; None takes one away."""

    def put(container: dict[str, Any]) -> None:
        for key, value in fields.items():
            container.pop(key, None) if value is None else container.update({key: value})

    def change(cluster: Any) -> None:
        edited(kind, name, lambda raw: put(raw["spec"]["template"]["spec"]["containers"][0]), namespace)(
            cluster
        )
        workload = cluster.view().get(kind, name, namespace)
        labels = workload.path("spec.template.metadata.labels")
        for pod in cluster.view().pods(namespace):
            if labels.items() <= pod.labels.items():
                edited("Pod", pod.name, lambda raw: put(raw["spec"]["containers"][0]), namespace)(cluster)

    return change


def _hpa() -> dict[str, Any]:
    """A second scaler for the pool, by hand."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": POOL}
    external = {"type": "External", "external": {"metric": {"name": "waiting"}}}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2, "metrics": [external]}
    return manifest("HorizontalPodAutoscaler", "by-hand", BATCH, spec=spec)


def _alert(edit: Callable[[dict[str, Any]], object]) -> Change:
    """The page's rules with another last alert on the queue."""

    def change(raw: dict[str, Any]) -> None:
        rules = [rule for group in raw["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
        edit(rules[-1])

    return edited("PrometheusRule", "llm-rules", change, BATCH)


def _dead_letters(raw: dict[str, Any]) -> None:
    for group in raw["spec"]["groups"]:
        group["rules"] = [rule for rule in group["rules"] if "dead" not in rule["expr"]]


def _dead_by_name(raw: dict[str, Any]) -> None:
    _dead_letters(raw)
    layer = {"labels": {"layer": "queue"}, "annotations": {"summary": "Jobs were given up."}}
    raw["spec"]["groups"][0]["rules"] += [
        {"record": "llm:jobs_dead:max", "expr": "max(llm_jobs_waiting)"},
        {"alert": "JobsGivenUp", "expr": "llm:jobs_dead:max > 0", **layer},
    ]


def _triggers(raw: dict[str, Any]) -> None:
    raw["spec"]["triggers"] = [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}]


def _review() -> list[Mutant]:
    def wrong(name: str, change: Change, said: str, **options: Any) -> Mutant:
        return Mutant(f"review: {name}", change, {"review.met": said}, **options)

    deny_one_way = manifest(
        "NetworkPolicy", "default-deny", BATCH, spec={"podSelector": {}, "policyTypes": ["Ingress"]}
    )
    return [
        wrong("a worker without limits", _container("Deployment", WORKER, APPS, resources={}), "resources: "),
        wrong(
            "no quota for the pool", without("ResourceQuota", scaling.QUOTA, BATCH), "quota: ", in_class={}
        ),
        wrong(
            "the newest image",
            _container("Deployment", FRONT, APPS, image="llm-jobs:latest"),
            "another image tomorrow",
        ),
        wrong(
            "a front that is restarted when Redis is away",
            _container(
                "Deployment", FRONT, APPS, livenessProbe={"httpGet": {"path": "/readyz", "port": "http"}}
            ),
            "somebody else's failure",
        ),
        wrong(
            "a worker that nobody watches",
            _container("Deployment", WORKER, APPS, livenessProbe=None),
            "nobody notices",
        ),
        wrong(
            "a pool without preStop",
            _container("Deployment", POOL, BATCH, lifecycle=None),
            "still handed out",
        ),
        wrong(
            "default deny one way only",
            steps(stored(deny_one_way), without("NetworkPolicy", "allow-dns", BATCH)),
            "denies egress by default",
        ),
        wrong(
            "no default deny beside the pool", without("NetworkPolicy", "default-deny", BATCH), "isolation: "
        ),
        wrong(
            "releases by the clock",
            proof_review.gated({"setWeight": 25}, {"setWeight": 100}),
            "goes by the clock",
        ),
        wrong("no spans", proof_review.spans_arrive(0, 0), "not received a single span"),
        wrong("spans that are lost", proof_review.spans_arrive(10, 1, 9), "lost 9 spans"),
        wrong(
            "no dead letters watched",
            edited("PrometheusRule", "llm-rules", _dead_letters, BATCH),
            "dead letters",
        ),
        wrong(
            "an alert on what is called dead letters and is what waits",
            edited("PrometheusRule", "llm-rules", _dead_by_name, BATCH),
            "no alert watches the dead letters",
        ),
        wrong(
            "an alert without a layer",
            _alert(lambda rule: rule.update(labels={"severity": "warning"})),
            "names no layer",
        ),
        wrong(
            "an alert with a misspelled metric",
            _alert(lambda rule: rule.update(expr="max(llm_job_waiting) > 1")),
            "llm_job_waiting, which nobody reports",
        ),
        wrong("two scalers on the pool", stored(_hpa()), "two scalers that undo each other"),
        wrong("the pool by CPU", edited("ScaledObject", POOL, _triggers, BATCH), "which no user feels"),
        wrong(
            "more replicas than cards",
            edited("ScaledObject", POOL, lambda raw: raw["spec"].update(maxReplicaCount=5), BATCH),
            "may ask for 5",
        ),
        wrong(
            "a monitor with another label",
            edited(
                "PodMonitor",
                "llm-jobs",
                lambda raw: raw["metadata"].update(labels={"release": "other"}),
                APPS,
            ),
            "Deployment llm-apps/llm-worker",
            in_class={"review.met": "is asked for its metrics by nobody"},
        ),
        Mutant(
            "review: nothing of this lab yet",
            steps(
                without("ScaledObject", POOL, BATCH),
                without("PrometheusRule", "llm-rules", BATCH),
                without("ServiceMonitor", "vllm", BATCH),
            ),
            {"review.met": "none of the three"},
            Status.NOT_ATTEMPTED,
        ),
    ]


MUTANTS: list[Mutant] = [*_incidents(), *_review()]
