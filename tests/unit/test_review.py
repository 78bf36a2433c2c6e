"""The review: another team's stack meets all twelve criteria, and each of many wrong ones is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.cluster.fake import FakeCluster
from helpers.cluster.faults import Response
from helpers.review.answers import Line, exit_code
from helpers.review.criteria import CRITERIA, review
from helpers.review.page import review_page
from helpers.review.prometheus import metrics_in, written_out
from helpers.review.stack import Places
from tests.unit import review_world as rw
from tests.unit.review_world import CARD, MONITORING, PLACES, SERVING, TRACES, WEB, World

Wrong = Callable[[World], object]


def first(raw: dict[str, Any]) -> dict[str, Any]:
    """The first container of a workload."""
    found: dict[str, Any] = raw["spec"]["template"]["spec"]["containers"][0]
    return found


def container(kind: str, name: str, namespace: str, **fields: Any) -> Wrong:
    """A workload whose container has other fields; None takes one away."""

    def change(raw: dict[str, Any]) -> None:
        for key, value in fields.items():
            if value is None:
                first(raw).pop(key, None)
            else:
                first(raw)[key] = value

    return lambda world: world.edit(kind, name, namespace, change)


def spec(kind: str, name: str, namespace: str, **fields: Any) -> Wrong:
    return lambda world: world.edit(kind, name, namespace, lambda raw: raw["spec"].update(fields))


def pod_spec(kind: str, name: str, namespace: str, **fields: Any) -> Wrong:
    def change(raw: dict[str, Any]) -> None:
        raw["spec"]["template"]["spec"].update(fields)

    return lambda world: world.edit(kind, name, namespace, change)


def put(*items: Any) -> Wrong:
    return lambda world: world.cluster.put(list(items))


def gone(kind: str, name: str, namespace: str) -> Wrong:
    return lambda world: world.cluster.delete(kind, name, namespace)


def says(**fields: Any) -> Wrong:
    def change(world: World) -> None:
        for name, value in fields.items():
            setattr(world, name, value)

    return change


def both(*changes: Wrong) -> Wrong:
    return lambda world: [change(world) for change in changes]


def hpa(name: str, target: str, **fields: Any) -> dict[str, Any]:
    wanted = {"scaleTargetRef": {"kind": "Deployment", "name": target}, "maxReplicas": 2, **fields}
    return rw.manifest("HorizontalPodAutoscaler", name, SERVING, spec=wanted)


def steps(*wanted: dict[str, Any]) -> Wrong:
    return spec("Rollout", "answers", WEB, strategy={"canary": {"steps": list(wanted)}})


def job_template(**volume: Any) -> dict[str, Any]:
    found = rw.template()
    pod = {"template": {"spec": {"volumes": [volume]}}}
    found["spec"]["metrics"] = [{"name": "quality", "provider": {"job": {"spec": pod}}}]
    return found


REDIS = {"image": "registry.example/redis:8.2.3", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
CPU = [{"type": "Resource", "resource": {"name": "cpu"}}]
WAITING, DEAD = (
    rw.alert("Waiting", "sum(engine_waiting) > 4", "inference"),
    rw.alert("GivenUp", "max(jobs_dead_letters) > 0", "queue"),
)
OPEN = rw.policy("vectors", SERVING, {"matchLabels": {"app": "vectors"}}, ["Ingress"], ingress=[{}])

WRONG: list[tuple[str, str, Wrong, str]] = [
    ("resources", "no limits", container("Deployment", "front", WEB, resources={"requests": {"cpu": "1", "memory": "1Gi"}}), "no limit of memory"),
    ("resources", "no requests of cpu", container("StatefulSet", "vectors", SERVING, resources={"limits": {"memory": "1Gi"}}), "no request of cpu"),
    ("resources", "nothing at all", container("Deployment", "worker", WEB, resources={}), "Deployment web/worker says no request of cpu"),
    ("quota", "no quota", gone("ResourceQuota", "share", SERVING), f"takes 1000 of {CARD}"),
    ("quota", "a quota of memory alone", spec("ResourceQuota", "share", SERVING, hard={"requests.memory": "8Gi"}), f"takes 1000 of {CARD}"),
    ("quota", "a quota of cards alone", spec("ResourceQuota", "share", SERVING, hard={f"requests.{CARD}": "2"}), "takes 1Pi of memory"),
    ("images", "the newest", container("Deployment", "front", WEB, image="registry.example/front:latest"), "another image tomorrow"),
    ("images", "no tag, and a registry's port", container("Deployment", "front", WEB, image="registry.example:5000/front"), "without a tag"),
    ("images", "a branch", container("Deployment", "model", SERVING, image="registry.example/engine:main"), "main is another image"),
    ("probes", "a Service and no readiness", container("Deployment", "front", WEB, readinessProbe=None), "no readiness probe"),
    ("probes", "a worker that nobody watches", container("Deployment", "worker", WEB, livenessProbe=None), "nobody notices"),
    ("probes", "a model server that is killed while it loads", container("Deployment", "model", SERVING, startupProbe=None), "while it loads the model"),
    ("probes", "liveness asks whether it may get traffic", container("Deployment", "front", WEB, livenessProbe=rw.get("/readyz")), "somebody else's failure"),
    (
        "probes",
        "liveness asks the store",
        container("Deployment", "front", WEB, livenessProbe={"exec": {"command": ["sh", "-c", "curl vectors.serving:6333"]}}),
        "asks vectors",
    ),
    ("drain", "no preStop", container("Deployment", "model", SERVING, lifecycle=None), "still handed out"),
    ("drain", "a grace shorter than its own drain", pod_spec("Deployment", "worker", WEB, terminationGracePeriodSeconds=20), "killed after 20"),
    ("drain", "a preStop as long as the grace", pod_spec("Deployment", "front", WEB, terminationGracePeriodSeconds=5), "killed after 5"),
    ("drain", "all at once", spec("Deployment", "front", WEB, replicas=2, strategy={"type": "Recreate"}), "all its pods at once"),
    ("drain", "a worker with the usual half minute", lambda world: (container("Deployment", "worker", WEB, env=[])(world), pod_spec("Deployment", "worker", WEB, terminationGracePeriodSeconds=30)(world)), "nobody has said how long"),
    ("drain", "a worker that gives itself no time", container("Deployment", "worker", WEB, env=[{"name": "DRAIN_DEADLINE_S", "value": "0"}]), "gives itself no time"),
    ("state", "emptyDir", both(
            lambda world: world.edit("StatefulSet", "vectors", SERVING, lambda raw: raw["spec"].pop("volumeClaimTemplates")),
            spec("Pod", "vectors-0", SERVING, volumes=[{"name": "data", "emptyDir": {}}]),
        ), "emptyDir data"),
    ("state", "a claim that waits", put(rw.manifest("PersistentVolumeClaim", "data-vectors-0", SERVING, spec={}, status={"phase": "Pending"})), "which is Pending"),
    ("state", "Redis in memory", lambda world: world.edit("StatefulSet", "vectors", SERVING, lambda raw: first(raw).update(REDIS)), "append-only"),
    ("state", "a store that is a Deployment without a claim", container("Deployment", "front", WEB, image="registry.example/postgres:17.2"), "has no claim"),
    ("isolation", "no default deny", gone("NetworkPolicy", "default-deny", SERVING), "no policy denies ingress by default"),
    ("isolation", "one way only", put(rw.policy("default-deny", SERVING, {}, ["Ingress"])), "no policy denies egress by default"),
    ("isolation", "a backend that admits all", put(OPEN), "answers a pod of any namespace on port 6333"),
    ("isolation", "an application without a policy", gone("NetworkPolicy", "front", WEB), "no policy of ingress selects it"),
    ("gate", "by the clock", steps({"setWeight": 25}, {"pause": {"duration": "5s"}}, {"setWeight": 100}), "goes by the clock"),
    ("gate", "judged afterwards", steps({"setWeight": 100}, {"analysis": {"templates": [{"templateName": "judge"}]}}), "goes by the clock"),
    ("gate", "a template that is not there", gone("AnalysisTemplate", "judge", WEB), "which is not there"),
    ("gate", "a Job whose rows are not there", put(job_template(name="rows", configMap={"name": "rows"})), "needs the ConfigMap rows"),
    ("gate", "nothing is released so", gone("Rollout", "answers", WEB), "as soon as its pods are ready"),
    ("traces", "nobody sends", says(spans=rw.SPANS.replace(" 120", " 0").replace(" 90", " 0")), "not received a single span"),
    ("traces", "none sent on", says(spans=rw.SPANS.replace(" 90", " 0")), "sent none on"),
    ("traces", "most are lost", says(spans=rw.SPANS.replace("} 1", "} 100")), "lost 100 spans"),
    ("traces", "no Collector", gone("Service", "collector", TRACES), "no Collector"),
    ("targets", "silence", says(targets=[]), "Deployment serving/model is asked for its metrics by nobody"),
    ("targets", "a target that is down", says(targets=[rw.target("model-1", health="down"), rw.target("worker-1", WEB)]), "is down"),
    ("targets", "workers are not asked", says(targets=[rw.target("model-1")]), "Deployment web/worker"),
    ("targets", "no Prometheus", gone("Service", "prometheus-operated", MONITORING), "no Service of a Prometheus"),
    ("alerts", "no layer", says(rules=[WAITING, {**DEAD, "labels": {}}]), "names no layer"),
    ("alerts", "no dead letters", says(rules=[WAITING, {**DEAD, "query": "up == 0"}]), "dead letters"),
    ("alerts", "a recorded name that says dead letters and is none", says(rules=[WAITING, {**DEAD, "query": "team:dead:max > 0"}, rw.recording("team:dead:max", "max(engine_waiting)")], metrics=["engine_waiting", "team:dead:max"]), "no alert watches the dead letters"),
    ("alerts", "a metric that nobody reports", says(rules=[WAITING, DEAD, rw.alert("Typo", "sum(engine_waitng) > 4", "cache")]), "engine_waitng"),
    ("alerts", "one layer for all", says(rules=[WAITING, {**DEAD, "labels": {"layer": "inference"}}]), "all alerts are of inference"),
    ("alerts", "none loaded", says(rules=[]), "loaded no alert"),
    ("scaling", "none", gone("ScaledObject", "model", SERVING), "no model server is scaled"),
    ("scaling", "by CPU", lambda world: (gone("ScaledObject", "model", SERVING)(world), put(hpa("model", "model", metrics=CPU))(world)), "which no user feels"),
    ("scaling", "a maximum above the quota", put(rw.scaler("model", maxReplicaCount=3)), "may ask for 3"),
    ("scaling", "no maximum", put({**rw.scaler("model"), "spec": {k: v for k, v in rw.scaler("model")["spec"].items() if k != "maxReplicaCount"}}), "KEDA's own is 100"),
    ("scaling", "two on one", put(hpa("by-hand", "model", metrics=[{"type": "External", "external": {"metric": {"name": "waiting"}}}])), "two scalers that undo each other"),
    ("scaling", "the application in place of the model", lambda world: (gone("ScaledObject", "model", SERVING)(world), put({**rw.scaler("front"), "metadata": {"name": "front", "namespace": WEB}})(world)), "no model server is scaled"),
]  # fmt: skip


def asked(world: World, places: Places = PLACES) -> dict[str, Line]:
    return {line.criterion.id: line for line in review(world.cluster.view(), places)}


def test_another_teams_stack_meets_all_twelve() -> None:
    lines = asked(World())
    assert [(name, line.answer.seen) for name, line in lines.items() if not line.is_met] == []
    assert len(lines) == len(CRITERIA) == 12 and exit_code([*lines.values()]) == 0


@pytest.mark.parametrize(
    ("criterion", "wrong", "said"),
    [(criterion, wrong, said) for criterion, _, wrong, said in WRONG],
    ids=[f"{criterion}: {name}" for criterion, name, *_ in WRONG],
)
def test_a_wrong_stack_is_named(criterion: str, wrong: Wrong, said: str) -> None:
    world = World()
    wrong(world)
    found = asked(world)[criterion].answer
    assert found.standing == "missing" and said in found.seen and found.next


def test_each_criterion_has_three_wrong_stacks() -> None:
    counts = {item.id: sum(item.id == name for name, *_ in WRONG) for item in CRITERIA}
    assert min(counts.values()) >= 3, counts


def test_where_nothing_runs_nothing_is_met() -> None:
    lines = review(FakeCluster().view())
    assert {line.answer.standing for line in lines} == {"missing"} and exit_code(lines) == 1
    assert all(line.answer.seen and not line.answer.objects for line in lines)


def forbidding(refused: Callable[[str, str], bool]) -> Callable[[str, str], Response | None]:
    said = {"kind": "Status", "reason": "Forbidden", "code": 403, "message": 'User "eva" cannot do that'}
    return lambda method, path: Response(403, json.dumps(said).encode()) if refused(method, path) else None


def test_who_may_only_read_is_told_of_the_quota_that_is_written() -> None:
    world = World()
    world.cluster.fail_with(forbidding(lambda method, path: method != "GET"))
    assert asked(world)["quota"].is_met
    world.cluster.fail_with(None)
    gone("ResourceQuota", "share", SERVING)(world)
    world.cluster.fail_with(forbidding(lambda method, path: method != "GET"))
    assert "no ResourceQuota" in asked(world)["quota"].answer.seen


NOTHING_SINCE = rw.SPANS.replace(" 120", " 0").replace(" 90", " 0")


def test_a_collector_that_was_restarted_is_not_one_that_nobody_sends_to() -> None:
    world = World()
    says(spans=NOTHING_SINCE, kept=[{"name": "answer"}])(world)
    line = asked(world)["traces"]
    assert line.is_met and "those of before are kept" in line.answer.seen


@pytest.mark.parametrize(("replicas", "is_met"), [(0, True), (1, False)])
def test_a_workload_of_which_admission_refuses_every_pod_hangs_nowhere(replicas: int, is_met: bool) -> None:
    world = World()
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    idle = rw.work("Deployment", "greedy", SERVING, {"image": "registry.example/greedy:1.0.0"})
    world.cluster.put({**idle, "status": {"replicas": replicas, "conditions": [refused]}})
    assert asked(world)["probes"].is_met is is_met


def test_what_may_not_be_asked_is_unknown_and_the_code_says_so() -> None:
    world = World()
    world.cluster.fail_with(forbidding(lambda method, path: path.endswith("/scaledobjects")))
    lines = asked(world)
    assert lines["scaling"].answer.standing == "unknown"
    assert exit_code([*lines.values()]) == 2


def test_a_review_changes_nothing() -> None:
    world = World()
    before = world.cluster.state()["objects"]
    asked(world)
    assert world.cluster.state()["objects"] == before


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (pod) (rate(llm_jobs_total{outcome="dead"}[5m])) > 0', {"llm_jobs_total"}),
        ("histogram_quantile(0.95, sum(rate(ttft_bucket[1m])) by (le)) > 2", {"ttft_bucket"}),
        ('absent(engine_waiting{namespace="x"})', set()),
        ("llm:waiting:sum > 4 and on (pod) up == 1", {"llm:waiting:sum", "up"}),
        ("increase(a_total[10m]) / ignoring(x) group_left b_total > bool 0.5", {"a_total", "b_total"}),
    ],
)
def test_the_metrics_of_an_expression(expression: str, names: set[str]) -> None:
    assert metrics_in(expression) == names


def test_an_alert_on_a_recorded_series_watches_what_is_recorded() -> None:
    world = World()
    said = [
        rw.recording("team:given_up:max", "max(jobs_dead_letters)"),
        rw.recording("team:bad:max", "team:given_up:max"),
    ]
    says(
        rules=[WAITING, {**DEAD, "query": "team:bad:max > 0"}, *said],
        metrics=[*world.metrics, "team:given_up:max", "team:bad:max"],
    )(world)
    assert asked(world)["alerts"].is_met


def test_what_is_recorded_of_itself_is_written_out_to_an_end() -> None:
    assert "a:b" in written_out("a:b > 0", {"a:b": "a:b + 1"})


def test_the_page_escapes_what_the_cluster_says_and_knows_the_dark() -> None:
    line = next(iter(review(World().cluster.view(), PLACES)))
    hostile = replace(line, answer=replace(line.answer, seen="<script>alert(1)</script>", objects=("<b>",)))
    text = str(review_page([hostile], cluster="embedded", at="now"))
    assert "<script>" not in text and "&lt;script&gt;" in text and "&lt;b&gt;" in text
    assert "prefers-color-scheme: dark" in text and "http://" not in text and "https://" not in text


def test_the_command_prints_a_document_and_writes_a_page(monkeypatch: Any, tmp_path: Any) -> None:
    from helpers.cli import _register_parts, app
    from helpers.cluster import Cluster

    world = World()
    monkeypatch.setattr(Cluster, "connect", staticmethod(lambda: world.cluster))
    _register_parts()
    options = [
        word
        for name, places in (
            ("backends", SERVING),
            ("apps", WEB),
            ("traces", TRACES),
            ("monitoring", MONITORING),
        )
        for word in (f"--{name}", places)
    ]
    page = tmp_path / "review.html"
    done = CliRunner().invoke(app, ["review", "--json", "--html", str(page), *options])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["schema"], document["met"], len(document["criteria"])) == ("course.review/v1", 12, 12)
    assert "May it go live?" in page.read_text()
    gone("ScaledObject", "model", SERVING)(world)
    done = CliRunner().invoke(app, ["review", *options])
    assert done.exit_code == 1 and "11 of 12 criteria met; left: scaling" in done.stdout


def test_the_start_of_lab_05_is_told_what_is_missing() -> None:
    from helpers.labs.lab05_chaos.mutants import start

    cluster = FakeCluster()
    start(cluster)
    lines = {line.criterion.id: line for line in review(cluster.view())}
    met = {name for name, line in lines.items() if line.is_met}
    assert met == {"resources", "images", "probes", "drain", "state"}
    assert "Namespace llm-system" in lines["isolation"].answer.seen
    assert exit_code([*lines.values()]) == 1


def test_the_solved_stack_of_lab_08_meets_all_twelve() -> None:
    from helpers.labs.lab08_scale import proof_state

    cluster = FakeCluster()
    proof_state.start(cluster)
    before = {line.criterion.id for line in review(cluster.view()) if not line.is_met}
    assert before == {"drain", "isolation", "gate", "traces", "targets", "alerts", "scaling"}
    proof_state.solution(cluster)
    lines = review(cluster.view())
    assert [(line.criterion.id, line.answer.seen) for line in lines if not line.is_met] == []
