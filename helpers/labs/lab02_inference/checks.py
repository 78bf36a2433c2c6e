"""Lab 02, the inference layer: a model that gets time to load, serves what it promises and ends without losing answers.

The service is asked wherever it can be: what it serves, how much it holds, how long requests waited.
Manifests are read for what can only be seen in a crash or a rollout, and then as arithmetic on their
figures, so that any way of writing them that behaves is right.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from helpers.cluster.past_events import events_are_gone
from helpers.evidence import Evidence
from helpers.grading import Lab, Verdict, all_of, expect, expect_true, falls_short, not_attempted
from helpers.grading.declare import Progress, quiet
from helpers.labs.lab02_inference import witness
from helpers.settings import REPOSITORY
from helpers.stack import serving
from helpers.stack.bring_up import APPS, CLIENT
from helpers.stack.container_env import variables_of
from helpers.stack.serving import CLAIM, CONFIG_MAP, CONTAINER, DEPLOYMENT, LABELS, NAMESPACE, PORT, SERVICE

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.backend import HttpAnswer
    from helpers.cluster.resource import Pod, Resource, Workload
    from helpers.stack.metrics import Metrics

WITNESS, QUEUE_WITNESS = "drain-witness", "queue-witness"
# What the applications of later labs send and expect: the context must hold both.
LONGEST_PROMPT, LONGEST_ANSWER = 3000, 500
# What the chat templates of the course's models add: a system prompt, roles and their marks.
TEMPLATE = 40
CLIENTS_AT_ONCE = 4
# A modest model loads in 30 to 60 s, and a cold cache or a busy disk doubles that.
LOAD_BUDGET_S, NOTICE_BUDGET_S = 120, 300
SPARE_S = 5
LONGEST_ANSWER_S = 20
WAITED_S, WAITED_REQUESTS = 0.3, 6
# A pod that was stopped while the witness ran is replaced within its grace period.
REPLACED_WITHIN = timedelta(seconds=60)

lab = Lab("02", "Inference", namespaces=(NAMESPACE, APPS), images=("vllm", "model"))


# Life cycle: what lab 01 leaves is there, the images too; only what this lab makes is reset.

LAB_OBJECTS = (
    ("Deployment", DEPLOYMENT, NAMESPACE),
    ("Service", SERVICE, NAMESPACE),
    ("NetworkPolicy", "vllm-ingress-from-llm-apps", NAMESPACE),
    ("ConfigMap", CONFIG_MAP, NAMESPACE),
    ("PersistentVolumeClaim", CLAIM, NAMESPACE),
    ("Job", WITNESS, APPS),
    ("Job", QUEUE_WITNESS, APPS),
    ("Pod", CLIENT, APPS),
)


@lab.start
def start(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """Namespaces and quota where lab 01 left none."""
    from helpers.cluster.manifests import load

    view, done = cluster.view(), []
    text = (REPOSITORY / "manifests" / "labs" / "02" / "start" / "substrate.yaml").read_text()
    for item in load(text):
        metadata = item["metadata"]
        if view.find(item["kind"], metadata["name"], metadata.get("namespace")) is None:
            cluster.apply(item)
            done.append(f"{item['kind']} {metadata['name']} created")
    return done


@lab.reset
def reset(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """Remove vLLM with its claim, and the witness; a second reset changes nothing."""
    done = []
    for kind, name, namespace in LAB_OBJECTS:
        if kind == "PersistentVolumeClaim":
            _end_pods(cluster)  # they hold the claim, and a loading model would take its whole grace period
        if cluster.delete(kind, name, namespace, wait_s=90 if kind == "PersistentVolumeClaim" else 0):
            progress(f"{kind} {name} deleted")
            done.append(f"{kind} {name} deleted")
    return done


def _end_pods(cluster: Cluster) -> None:
    for pod in cluster.view().pods(NAMESPACE, labels=LABELS):
        cluster.delete("Pod", pod.name, NAMESPACE, grace_s=1)


# What the checks ask with


def _container(workload: Workload) -> dict[str, Any]:
    """vLLM's container in the Deployment; an empty one where it has another name."""
    try:
        return serving.container_of(workload.raw)
    except KeyError:
        return {}


def _pod_spec(workload: Workload) -> dict[str, Any]:
    return workload.path("spec.template.spec", {}) or {}


def _ask(cluster: ClusterView, path: str, body: Any = None) -> HttpAnswer:
    method = "GET" if body is None else "POST"
    return cluster.http(NAMESPACE, SERVICE, PORT, path, method=method, json=body, timeout_s=8)


def _said(path: str, answer: HttpAnswer) -> Evidence:
    observation = f"{path} answered {answer.status}: {answer.body[:160]}"
    return Evidence(kind="Service", name=SERVICE, namespace=NAMESPACE, observation=observation)


def _refusal(path: str, answer: HttpAnswer, expected: str) -> Verdict:
    """An answer that is not the expected one: who gave it, and in which words."""
    who = "vLLM" if answer.from_service else "not vLLM but the API server"
    observed = f"{who} answered {path} with {answer.status}: {' '.join(answer.body.split())[:120]}"
    return falls_short(expected, observed, _said(path, answer))


def _metrics(cluster: ClusterView) -> tuple[Metrics | None, HttpAnswer]:
    from helpers.stack.metrics import Metrics

    answer = _ask(cluster, "/metrics")
    return (Metrics.parse(answer.body) if answer.ok else None), answer


def _figure(data: dict[str, str], name: str) -> int | None:
    text = data.get(name, "")
    return int(text) if text.isdigit() else None


# 1. Serving policy


@lab.check(
    "vllm.config",
    points=2,
    task="policy",
    hint=f"Later labs send prompts of up to {LONGEST_PROMPT} tokens and want up to {LONGEST_ANSWER} back: the context holds both, and the chat template around them.",
)
def serving_policy(cluster: ClusterView) -> Verdict:
    """ConfigMap `vllm-model-config` names the model that applications ask for, with room for their prompts and answers.

    Why: The model's name and its context are promises to callers: they belong where a reviewer sees them change.
    Next: kubectl get configmap vllm-model-config -n llm-system -o yaml
    """
    config = cluster.config_map(CONFIG_MAP, NAMESPACE)
    data, needed = config.data, LONGEST_PROMPT + LONGEST_ANSWER + TEMPLATE
    name, length, seqs = (
        data.get("SERVED_MODEL_NAME"),
        _figure(data, "MAX_MODEL_LEN"),
        _figure(data, "MAX_NUM_SEQS"),
    )
    wanted = cluster.profile.served_model_name
    return all_of(
        expect(name, f"SERVED_MODEL_NAME {wanted}", f"SERVED_MODEL_NAME {name or 'missing'}", equals=wanted),
        expect_true(data.get("MODEL_ID"), "a MODEL_ID", f"MODEL_ID {data.get('MODEL_ID') or 'missing'}"),
        expect(
            length,
            f"MAX_MODEL_LEN at least {needed}",
            f"MAX_MODEL_LEN {length if length is not None else 'missing or no number'}",
            at_least=needed,
        ),
        expect(
            seqs,
            f"MAX_NUM_SEQS at least {CLIENTS_AT_ONCE}",
            f"MAX_NUM_SEQS {seqs if seqs is not None else 'missing or no number'}",
            at_least=CLIENTS_AT_ONCE,
        ),
    ).about(config)


@lab.check("vllm.cache", task="policy")
def model_cache(cluster: ClusterView) -> Verdict:
    """The claim `vllm-model-cache` has the cluster's fast storage class, and the Deployment `vllm`, once it exists, mounts it.

    Why: Without a claim every replacement fetches the weights again: a restart of seconds becomes an outage.
    Hint: Name the storage class in the claim: an unexpected default may put the model on a slow disk.
    Next: kubectl describe pvc vllm-model-cache -n llm-system
    """
    claim = cluster.pvc(CLAIM, NAMESPACE)
    wanted = cluster.profile.storage_class
    parts = [
        expect(
            claim.storage_class,
            f"storage class {wanted}",
            f"storage class {claim.storage_class or 'not named'}",
            claim,
            equals=wanted,
        )
    ]
    deployment = cluster.find("Deployment", DEPLOYMENT, NAMESPACE)
    if deployment is not None:
        parts.append(_mounts_claim(deployment))
    return all_of(*parts)


def _mounts_claim(deployment: Resource) -> Verdict:
    volumes = deployment.path("spec.template.spec.volumes", []) or []
    claimed = {
        item["name"]
        for item in volumes
        if (item.get("persistentVolumeClaim") or {}).get("claimName") == CLAIM
    }
    containers = deployment.path("spec.template.spec.containers", []) or []
    mounted = [
        mount["mountPath"]
        for item in containers
        for mount in item.get("volumeMounts") or []
        if mount.get("name") in claimed
    ]
    return expect_true(
        mounted,
        f"vLLM mounts {CLAIM}",
        f"mounted at {', '.join(mounted)}" if mounted else f"the Deployment does not mount {CLAIM}",
        deployment,
    )


@lab.check("vllm.service", task="policy")
def stable_name(cluster: ClusterView) -> Verdict:
    """Service `vllm` offers port 8000 inside the cluster and selects vLLM's pods.

    Why: Applications know one name, not pods: the Service finds them by label, and only while they are ready.
    Hint: `kubectl get service vllm -n llm-system -o wide` shows its selector; compare it with the pods' labels.
    Next: kubectl describe service vllm -n llm-system
    """
    service = cluster.service(SERVICE, NAMESPACE)
    ports = [item.get("port") for item in service.ports]
    kind = service.path("spec.type", "ClusterIP")
    parts = [
        expect_true(PORT in ports, "port 8000", f"ports {ports}", service),
        expect(kind, "type ClusterIP", f"type {kind}", service, equals="ClusterIP"),
    ]
    deployment = cluster.find("Deployment", DEPLOYMENT, NAMESPACE)
    if deployment is not None:
        labels = deployment.path("spec.template.metadata.labels", {}) or {}
        selected = bool(service.selector) and service.selector.items() <= labels.items()
        parts.append(
            expect_true(
                selected,
                "a selector that finds vLLM's pods",
                f"selector {service.selector or 'empty'}, pods labelled {labels}",
                service,
            )
        )
    return all_of(*parts)


# 2. Starting


@lab.check("vllm.links", points=2, task="start")
def no_service_links(cluster: ClusterView) -> Verdict:
    """No container of vLLM is given `VLLM_PORT` by a Service.

    Why: A Service named vllm makes the kubelet inject VLLM_PORT=tcp://…, and vLLM reads VLLM_PORT as its own setting.
    Hint: `kubectl logs` with `--previous` shows the log of the container that ended. Its last error only refers to an earlier one: which variable does the first error name?
    Next: kubectl logs -n llm-system deployment/vllm -c vllm --previous | grep Error:
    """
    deployment = cluster.deployment(DEPLOYMENT, NAMESPACE)
    links = _pod_spec(deployment).get("enableServiceLinks", True)
    own = next(
        (item for item in _container(deployment).get("env") or [] if item["name"] == "VLLM_PORT"), None
    )
    port = (own or {}).get("value", "")
    met = links is False or port.isdigit()
    observed = (
        "service links off"
        if links is False
        else f"service links on, VLLM_PORT {port or 'left to the Service'}"
    )
    return expect_true(met, "service links off", observed, deployment)


@lab.check("vllm.budget", points=3, task="start")
def patient_start(cluster: ClusterView) -> Verdict:
    """A model may take two minutes to load; afterwards a process that hangs is restarted within five minutes, and one that is not ready gets no traffic.

    Why: A liveness probe with its defaults kills a loading model after 30 s, every time. A startup probe gives it time to load.
    Hint: periodSeconds × failureThreshold of the startup probe is the time a load may take. The others wait until it has passed.
    Next: kubectl get events -n llm-system --field-selector reason=Killing
    """
    deployment = cluster.deployment(DEPLOYMENT, NAMESPACE)
    container = _container(deployment)
    load_s = serving.load_budget_s(container)
    liveness = serving.ProbeBudget.of(container.get("livenessProbe"))
    notice_s = liveness.period_s * liveness.threshold if liveness else None
    readiness = container.get("readinessProbe") or {}
    path = (readiness.get("httpGet") or {}).get("path")
    return all_of(
        expect(
            load_s,
            f"at least {LOAD_BUDGET_S} s to load",
            f"a load may last {load_s:g} s",
            at_least=LOAD_BUDGET_S,
        ),
        expect(
            notice_s,
            f"a liveness probe that acts within {NOTICE_BUDGET_S} s",
            "no liveness probe" if notice_s is None else f"liveness acts after {notice_s:g} s",
            at_most=NOTICE_BUDGET_S,
        ),
        expect(path, "readiness asks /health", f"readiness asks {path or 'nothing'}", equals="/health"),
    ).about(deployment)


@lab.check("vllm.ready", points=3, task="start")
def ready_and_reachable(cluster: ClusterView) -> Verdict:
    """One ready pod of vLLM holds a GPU, is the Service's only endpoint, and answers.

    Why: Running means that a process runs, Ready that it answers: only a ready pod is among the Service's endpoints.
    Hint: `kubectl describe pod` names the probe that fails; `kubectl describe endpointslices` shows which address is ready.
    Next: kubectl describe endpointslices -n llm-system -l kubernetes.io/service-name=vllm
    """
    deployment = cluster.deployment(DEPLOYMENT, NAMESPACE)
    pods = [pod for pod in cluster.pods(NAMESPACE, labels=LABELS) if pod.is_live]
    if not pods:
        return expect(0, "one pod of vLLM", _no_pod(deployment), deployment, at_least=1)
    pod = pods[0]
    endpoints = cluster.endpoint_slices(SERVICE, NAMESPACE)
    verdict = all_of(
        expect(len(pods), "one pod", f"{len(pods)} pods", equals=1),
        expect_true(pod.is_ready, "the pod Ready", _state(pod)),
        expect(
            endpoints,
            f"the Service's only endpoint is the pod, {pod.ip}",
            f"endpoints {', '.join(endpoints) or 'none'}",
            equals=[pod.ip],
        ),
        _holds_gpu(pod, cluster.profile.gpu_resource),
    ).about(pod)
    return verdict.and_(_answers(cluster)) if endpoints else verdict


def _no_pod(deployment: Workload) -> str:
    """That there is no pod, and who refused it where somebody did: a quota, mostly."""
    failure = deployment.conditions("ReplicaFailure")
    refusal = f": {failure.message}" if failure and failure.is_true else ""
    return f"the Deployment has no pod{refusal}"


def _state(pod: Pod) -> str:
    waiting = next((item for item in pod.container_states if not item.ready), None)
    reason = waiting.reason if waiting and waiting.reason else "not ready"
    restarts = _restarts(pod)
    return (
        "Ready"
        if pod.is_ready
        else f"{pod.phase}, {reason}" + (f", restarted {restarts} times" if restarts else "")
    )


def _restarts(pod: Pod) -> int:
    statuses = pod.path("status.containerStatuses", []) or []
    return sum(int(item.get("restartCount", 0)) for item in statuses)


def _holds_gpu(pod: Pod, resource: str) -> Verdict:
    held = sum(
        int((item.get("resources", {}).get("limits") or {}).get(resource, 0)) for item in pod.containers
    )
    return expect(held, f"{resource}: 1", f"{resource}: {held}", pod, equals=1)


def _answers(cluster: ClusterView) -> Verdict:
    answer = _ask(cluster, "/health")
    if not answer.ok:
        return _refusal("/health", answer, "/health answers 200")
    return expect(answer.status, "/health answers 200", equals=200, evidence=_said("/health", answer))


# 3. Serving


@lab.check("vllm.model", points=3, needs=ready_and_reachable, task="serving")
def serves_what_it_promises(cluster: ClusterView) -> Verdict:
    """`/v1/models` lists the promised name and context, and a chat completion comes back.

    Why: What the process serves counts, not what the ConfigMap says: environment variables are set once, at the start.
    Hint: If ConfigMap and service disagree, the pod is older than the change. What makes a Deployment replace its pods?
    Next: kubectl get --raw /api/v1/namespaces/llm-system/services/http:vllm:8000/proxy/v1/models
    """
    config = cluster.config_map(CONFIG_MAP, NAMESPACE)
    answer = _ask(cluster, "/v1/models")
    if not answer.ok:
        return _refusal("/v1/models", answer, "a list of models")
    model = answer.json()["data"][0]
    promised = (config.data.get("SERVED_MODEL_NAME"), _figure(config.data, "MAX_MODEL_LEN"))
    served = (model["id"], model.get("max_model_len"))
    match = expect(
        served,
        f"{promised[0]} with a context of {promised[1]}, as the ConfigMap says",
        f"{served[0]} with a context of {served[1]}",
        _said("/v1/models", answer),
        equals=promised,
    )
    return match.and_(_chats(cluster, model["id"]))


def _chats(cluster: ClusterView, model: str) -> Verdict:
    path = "/v1/chat/completions"
    messages = [{"role": "user", "content": "Say yes."}]
    answer = _ask(cluster, path, {"model": model, "messages": messages, "max_tokens": 2, "temperature": 0})
    if not answer.ok:
        return _refusal(path, answer, "a chat completion")
    choices = answer.json().get("choices") or []
    text = (choices[0].get("message") or {}).get("content") if choices else None
    return expect_true(text, "a chat completion with text", f"text {text!r}", _said(path, answer))


@lab.check("vllm.kv", points=2, needs=ready_and_reachable, task="serving")
def kv_cache_holds_the_worst_case(cluster: ClusterView) -> Verdict:
    """The KV cache holds all admitted sequences at full length.

    Why: Every token of every request takes space in the KV cache. All sequences may grow to the full context; if the cache cannot hold them, some are removed and computed again.
    Hint: The metric `vllm:cache_config_info` gives the number of blocks and their size. MAX_MODEL_LEN × MAX_NUM_SEQS must not exceed their product.
    Next: kubectl get --raw /api/v1/namespaces/llm-system/services/http:vllm:8000/proxy/metrics | grep cache_config_info
    """
    config = cluster.config_map(CONFIG_MAP, NAMESPACE)
    metrics, answer = _metrics(cluster)
    if metrics is None:
        return _refusal("/metrics", answer, "metrics")
    info = metrics.select("vllm:cache_config_info")
    if not info:
        return expect_true(None, "vllm:cache_config_info", "no such metric", _said("/metrics", answer))
    held = int(info[0].labels["num_gpu_blocks"]) * int(info[0].labels["block_size"])
    length, seqs = _figure(config.data, "MAX_MODEL_LEN") or 0, _figure(config.data, "MAX_NUM_SEQS") or 0
    return expect(
        length * seqs,
        f"MAX_MODEL_LEN × MAX_NUM_SEQS at most {held:,} tokens of KV cache",
        f"{length:,} × {seqs} = {length * seqs:,} tokens",
        _said("/metrics", answer),
        at_most=held,
    )


@lab.check("vllm.queue", points=2, needs=ready_and_reachable, task="queue", mode="edge")
def queue_was_seen(cluster: ClusterView) -> Verdict:
    """Requests had to wait for a place: the server's own metrics show it, or the Job that saw them.

    Why: Beyond MAX_NUM_SEQS requests wait, and CPU or GPU use does not show it: the queue's own metric is the signal to scale on.
    Hint: Send more requests at once than MAX_NUM_SEQS admits, and look at `vllm:num_requests_waiting` meanwhile. A new pod starts with empty metrics; the Job in `manifests/labs/02/queue-witness.yaml` keeps what it saw.
    Next: kubectl get --raw /api/v1/namespaces/llm-system/services/http:vllm:8000/proxy/metrics | grep request_queue_time_seconds
    """
    if seen := _queue_seen_by_job(cluster):
        return seen
    metrics, answer = _metrics(cluster)
    if metrics is None:
        return _refusal("/metrics", answer, "metrics")
    queue = metrics.histogram("vllm:request_queue_time_seconds")
    at_once = max((count for bound, count in queue.buckets if bound <= WAITED_S), default=0.0)
    waited = int(queue.count - at_once)
    if queue.count == 0:
        return not_attempted(f"{WAITED_REQUESTS} requests that waited", "no request yet")
    return expect(
        waited,
        f"at least {WAITED_REQUESTS} requests that waited over {WAITED_S:g} s",
        f"{waited} of {int(queue.count)} requests waited over {WAITED_S:g} s",
        _said("/metrics", answer),
        at_least=WAITED_REQUESTS,
    )


def _queue_seen_by_job(cluster: ClusterView) -> Verdict | None:
    """What the Job `queue-witness` saw: it outlives the process whose metrics it read. None if it did not."""
    job = cluster.find("Job", QUEUE_WITNESS, APPS)
    if job is None or not int(job.path("status.succeeded", 0) or 0):
        return None
    if _script(job.raw) != _script(_manifest(cluster, QUEUE_WITNESS)):
        return None
    ended = _time(job.path("status.completionTime"))
    words = f"Job {QUEUE_WITNESS} saw requests wait" + (
        f", at {ended:%Y-%m-%d %H:%M:%S} UTC" if ended else ""
    )
    return expect_true(True, "requests that waited", words, job)


# 4. Rolling


@lab.check("vllm.strategy", points=2, task="rollout")
def rollout_frees_the_gpu_first(cluster: ClusterView) -> Verdict:
    """A rollout frees the old pod's GPU before the new pod asks for one, and no rollout is stuck now.

    Why: A surge pod needs a second GPU. With one, the new pod cannot start while the old one runs, and the rollout never completes.
    Hint: Two ways out: end the old pod first, or do not surge. Both cost downtime; with one GPU that cannot be avoided.
    Next: kubectl get events -n llm-system --field-selector reason=FailedCreate
    """
    deployment = cluster.deployment(DEPLOYMENT, NAMESPACE)
    kind = deployment.path("spec.strategy.type", "RollingUpdate")
    rolling = deployment.path("spec.strategy.rollingUpdate", {}) or {}
    surge, unavailable = str(rolling.get("maxSurge", "25%")), str(rolling.get("maxUnavailable", "25%"))
    frees_first = kind == "Recreate" or (surge in ("0", "0%") and unavailable not in ("0", "0%"))
    words = kind if kind == "Recreate" else f"{kind}, maxSurge {surge}, maxUnavailable {unavailable}"
    gap = _stuck(deployment)
    return all_of(
        expect_true(frees_first, "a strategy that frees the GPU first", words),
        expect(gap, "no rollout under way", gap or "none under way", equals=""),
    ).about(deployment)


def _stuck(deployment: Workload) -> str:
    """A rollout that waits for pods it cannot create, in the controller's own words."""
    failure = deployment.conditions("ReplicaFailure")
    gap = deployment.rollout_gap()
    return f"{gap}: {failure.message}" if gap and failure and failure.is_true else ""


@lab.check("vllm.checksum", points=2, task="rollout")
def config_reaches_the_pods(cluster: ClusterView) -> Verdict:
    """The pod template carries the checksum of the ConfigMap as it is now.

    Why: Pods get a ConfigMap's values once, at the start. Only a change of the pod template replaces pods: the checksum turns a change of the ConfigMap into one.
    Hint: Annotation `checksum/config` in the pod template: `kubectl get configmap vllm-model-config -n llm-system -o jsonpath='{.data}' | sha256sum`.
    Next: kubectl get configmap vllm-model-config -n llm-system -o jsonpath='{.data}' | sha256sum
    """
    deployment = cluster.deployment(DEPLOYMENT, NAMESPACE)
    config = cluster.config_map(CONFIG_MAP, NAMESPACE)
    wanted = serving.config_checksum(config.data)
    annotations = deployment.path("spec.template.metadata.annotations", {}) or {}
    found = annotations.get(serving.CHECKSUM, "")
    return expect(
        found,
        f"{serving.CHECKSUM}: {wanted[:12]}…",
        f"{serving.CHECKSUM}: {found[:12]}…" if found else f"no annotation {serving.CHECKSUM}",
        deployment,
        equals=wanted,
    )


@lab.check("vllm.drain", points=2, task="rollout")
def time_to_finish(cluster: ClusterView) -> Verdict:
    """When a pod ends, there is time to remove it from the Service's endpoints, and time for its requests to finish.

    Why: preStop keeps answering while endpoints are withdrawn, --shutdown-timeout lets answers finish, and the grace period must outlast both: then comes SIGKILL.
    Hint: terminationGracePeriodSeconds > preStop + --shutdown-timeout. Set each of the three.
    Next: kubectl get deployment vllm -n llm-system -o yaml
    """
    deployment = cluster.deployment(DEPLOYMENT, NAMESPACE)
    container = _container(deployment)
    if not container:
        return not_attempted(f"a container named {CONTAINER}", "none of that name")
    known = variables_of(cluster, container, NAMESPACE)
    budget = serving.DrainBudget.of(_pod_spec(deployment), known)
    return all_of(
        expect(
            budget.pre_stop_s,
            "a preStop pause of 2 s or more",
            f"preStop {budget.pre_stop_s:g} s",
            at_least=2,
        ),
        expect(
            budget.shutdown_s,
            f"--shutdown-timeout of {LONGEST_ANSWER_S} s or more",
            f"--shutdown-timeout {budget.shutdown_s:g} s",
            at_least=LONGEST_ANSWER_S,
        ),
        expect(
            budget.spare_s,
            f"{SPARE_S} s of the grace period to spare",
            f"grace {budget.grace_s:g} s, {budget.spare_s:g} s to spare",
            at_least=SPARE_S,
        ),
    ).about(deployment)


@lab.check("vllm.witness", points=4, needs=time_to_finish, task="rollout", mode="edge")
def no_answer_was_lost(cluster: ClusterView) -> Verdict:
    """Job `drain-witness` got all its answers whole, and meanwhile a pod of vLLM was replaced.

    Why: Only load proves a drain: the witness had answers in flight while the pod that gave them was replaced.
    Hint: Start the Job, wait until its requests run, and only then roll out a change. `kubectl logs job/drain-witness -n llm-apps` shows what it got.
    Next: kubectl describe job drain-witness -n llm-apps
    """
    job = cluster.get("Job", WITNESS, APPS)
    began, ended = _time(job.path("status.startTime")), _time(job.path("status.completionTime"))
    failed = int(job.path("status.failed", 0) or 0)
    if failed:
        return expect(0, "every answer whole", "an answer was broken off", job, equals=1)
    if began is None or ended is None:
        return not_attempted("a finished witness", "the Job has not finished")
    stops = _replacements(cluster, began, ended)
    return all_of(
        expect(
            _script(job.raw),
            "the course's witness",
            "the course's witness"
            if _script(job.raw) == _script(_manifest(cluster, WITNESS))
            else "a witness that asks something else",
            equals=_script(_manifest(cluster, WITNESS)),
        ),
        expect(
            len(stops),
            "a pod of vLLM stopped while answers were in flight",
            f"{len(stops)} pods stopped between {began:%H:%M:%S} and {ended:%H:%M:%S}",
            at_least=1,
        ),
    ).about(job)


def _replacements(cluster: ClusterView, began: datetime, ended: datetime) -> list[datetime]:
    """When pods of vLLM were replaced while the witness ran.

    Events tell to the second when a container was stopped, and are gone after an hour. Whoever grades
    later finds what the replacement left for good: the new ReplicaSet, or the pod that still runs.
    """
    stops = [when for when in _stops(cluster) if began <= when <= ended]
    if stops or not events_are_gone(ended):
        return stops
    left = [*cluster.list("ReplicaSet", NAMESPACE, labels=LABELS), *cluster.pods(NAMESPACE, labels=LABELS)]
    came = (_time(item.metadata.get("creationTimestamp")) for item in left)
    return [when for when in came if when and began <= when <= ended + REPLACED_WITHIN]


def _stops(cluster: ClusterView) -> list[datetime]:
    """When vLLM's containers were told to stop for good; a restart by a probe is worded otherwise."""
    events = cluster.events(NAMESPACE, reason="Killing")
    times = [
        _time(event.path("firstTimestamp") or event.path("eventTime") or event.last_seen)
        for event in events
        if event.involved[1].startswith(f"{DEPLOYMENT}-") and event.message.startswith("Stopping container")
    ]
    return [when for when in times if when is not None]


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC) if text else None


@cache
def _manifest(cluster: ClusterView, job: str) -> dict[str, Any]:
    """A witness as this learner's scope writes it: in a class it asks the vLLM of their own namespace."""
    return cluster.scope.manifest(witness.manifest(job, toolbox=""))


def _script(job: dict[str, Any]) -> str:
    """What the witness runs, however its YAML was written."""
    containers = job["spec"]["template"]["spec"]["containers"]
    return json.dumps([[*(item.get("command") or []), *(item.get("args") or [])] for item in containers])
