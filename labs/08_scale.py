import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="08 · Throughput and scale",
    css_file="../helpers/notebook/course.css",
)

with app.setup(hide_code=True):
    import hashlib
    import json

    import marimo as mo

    from helpers import notebook as nb
    from helpers.apps.jobs.decisions import Ask
    from helpers.labs.lab08_scale import draw, draw_decisions, draw_review, draw_scale


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 08 · Throughput and scale

    *CPU lies.* A model server that is as busy as it can be looks the same with one question as with thirty. In this lab a queue
    takes the questions, a cache answers what was answered before, and replicas follow what users wait for. At the end a review
    of twelve criteria says whether the stack may go live.

    *180 minutes. What the cluster does is graded, and what the witnesses saw there. It makes no difference whether you press
    the buttons on this page or use `kubectl` and `course witness` in its terminal, which `Ctrl`+`` ` `` opens.*
    """)
    return


@app.cell(hide_code=True)
def _(PARTS, lab):
    lab.live(nb.bar, PARTS)
    return


@app.cell(hide_code=True)
def _(cluster_answers, lab, reconnect):
    nb.connection_card(lab, reconnect, cluster_answers)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Who asks, who works

    Questions whose answers nobody waits for are **jobs**: summaries of the night, rows of an evaluation. They have model servers
    of their own, so that people who wait are not slowed by them.

    | object | namespace | does |
    | --- | --- | --- |
    | `llm-jobs` | `llm-apps` | takes a job and says at once: `202`, with its number |
    | `queue` | `llm-batch` | Redis: jobs wait in the **stream** `jobs`; answers and the cache lie beside it |
    | `llm-worker` | `llm-apps` | reads the stream, retrieves, asks the model, stores the answer |
    | `vllm` | `llm-batch` | the **pool**: model servers for jobs alone, with a quota for two |

    All workers read the stream as one **group**, which is called `workers`: each job goes to one of them. What the group has not
    read yet is its **lag**; what a worker has read and not yet acknowledged is **pending**.

    The code is short and meant to be read: `helpers/apps/jobs/`. Your decisions are mounted into its pods from ConfigMap
    `llm-jobs-decisions`, one file each. The second card is simulated: two halves of an A100, one for each model server.
    """)
    return


@app.cell(hide_code=True)
def _():
    nb.layer_picture("orchestration")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    `course start 08` puts in place what this lab begins with: what lab 07 leaves, the second card, the queue, one worker, one
    model server in the pool, and three that watch nothing yet: Prometheus, which keeps figures, KEDA, which scales by them, and
    metrics-server, which says how much CPU and memory pods use. The first time this takes some minutes.

    In a class, your instructor has installed what belongs to the whole cluster. There parts 4 to 7 cannot be done: they ask a
    Prometheus and use rights that a seat in a class does not have. They need a cluster of your own.
    """)
    return


@app.cell(hide_code=True)
def _(lab, place):
    nb.start_panel(lab, place)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 1 · A queue before the model

    Asked directly, a caller waits for as long as the model needs, and a caller who gives up has paid for nothing. With a queue
    the caller gets a number and comes back. But now the work is in somebody else's hands, and workers die.

    A worker does three steps for a job: it has the model **answer**, it **stores** the answer, and it **acknowledges** the job,
    which takes it off the list of those that are in work. What is not acknowledged goes to another worker after a while: every
    job is delivered *at least once*. A job that is put aside with its reason, and that nobody works on any more, is a **dead letter**.

    Two decisions are yours: the order of the three steps, and what becomes of a job that failed. Change the two functions below until
    no line of their tables is red, then deliver them. Until you do, the workers use cautious ones of the course's own, which
    earn no points.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_once = nb.predict(
        "A worker stores the answer and dies before it acknowledges. What does the caller get?",
        {
            "twice": "Two answers: the job is done a second time",
            "one": "One answer: the second worker finds it stored",
            "none": "None: the job is still open",
        },
    )
    guess_once
    return (guess_once,)


@app.function
def order() -> list[str]:
    """In which order a worker does its three steps: "acknowledge", "answer" and "store"."""
    return ["acknowledge", "answer", "store"]


@app.function
def after_failure(kind: str, deliveries: int) -> str:
    """What becomes of a job that failed: "again" gives it to a worker once more, "dead_letter" puts it aside.

    Args:
        kind: "worker_lost" (the worker that had it ended without a word), "backend_failed" (a backend that may be
            better soon) or "refused" (the model does not take such a question).
        deliveries: how often the job was given to a worker so far.
    """
    return "again"


@app.cell(hide_code=True)
def _():
    mo.vstack([draw_decisions.order_table(order), draw_decisions.failure_table(after_failure)])
    return


@app.cell(hide_code=True)
def _(lab, to_delivery):
    draw.decision_panel(lab, "delivery", to_delivery, order, after_failure)
    return


@app.cell(hide_code=True)
def _(guess_once):
    nb.reveal(
        guess_once.value,
        truth="one",
        because="The answer is stored under the job's number. The second worker finds it, changes nothing, and acknowledges.",
        instead={
            "twice": "It may be worked on twice, but there is one place for its result.",
            "none": "Open for the queue, and answered for the caller.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### Who may fill the queue, who comes back, and how a worker ends

    Three settings are yours too. The queue has room for 120 jobs that are not finished; who comes when it is full hears `429`, *too
    many requests*. `TENANT_LIMIT` is how many of the places one tenant may have; `"0"` means no limit, and then one tenant's night
    run is everybody's `429`. What is asked: nobody has more than half of the places, and ten jobs at once are still accepted.

    `JOB_TTL_S` is for how many seconds a finished job is kept. Whoever comes for the answer later hears `404`, and has asked for
    nothing. What is asked: an hour at least, and a day at most, for all of it lies in memory.

    `DRAIN_DEADLINE_S` is how many seconds a worker that is told to end goes on with what it holds. Then it hands back the rest, and
    others begin it anew; with `"0"` that is all of it, at once. 45 s after it was told to end it is killed.
    """)
    return


@app.cell
def _():
    queue_settings = """
    TENANT_LIMIT: "0"
    JOB_TTL_S: "300"
    DRAIN_DEADLINE_S: "0"
    """
    return (queue_settings,)


@app.cell(hide_code=True)
def _(lab, queue_settings):
    lab.live(draw.settings_preview, queue_settings)
    return


@app.cell(hide_code=True)
def _(lab, queue_settings, to_settings):
    draw.settings_panel(lab, queue_settings, to_settings)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### Break it

    Three witnesses. The first sends what a front has to answer well: good jobs, wrong ones, too many, twice the same. The second
    takes copies of your workers: it ends them at each step, gives them **poison** (a question that ends its process, as one that
    takes all memory does), and lets their model server fail. The third takes your real ones: a rollout under load, workers
    killed while they hold work, and then the queue itself. It counts what became of each job.
    """)
    return


@app.cell(hide_code=True)
def _(lab, see_jobs):
    draw.witness_panel(lab, "jobs", see_jobs)
    return


@app.cell(hide_code=True)
def _(lab, see_delivery):
    draw.witness_panel(lab, "delivery", see_delivery)
    return


@app.cell(hide_code=True)
def _(lab, see_faults):
    draw.witness_panel(lab, "faults", see_faults)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw.faults_picture)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **By hand.** As the pod `curl-client` of lab 02 you may reach the front, which then asks who you are (`401`), and you do not reach the
    queue behind it: exit code 28 is a connection that nobody answers. The workers have no Service: nobody calls them.
    """)
    return


@app.cell(hide_code=True)
def _(apply_client, lab):
    nb.apply_panel(lab, nb.client_yaml(), apply_client)
    return


@app.cell(hide_code=True)
def _(lab):
    nb.by_hand(
        lab,
        r"""
        kubectl exec -n llm-apps curl-client -- curl -sS -m 5 -w '\n%{http_code}\n' -H 'Content-Type: application/json' -d '{"question": "What is a quota?"}' http://llm-jobs.llm-apps.svc.cluster.local:8080/v1/jobs
        kubectl exec -n llm-apps curl-client -- curl -sS -m 3 http://queue.llm-batch.svc.cluster.local:6379/
        kubectl get pods -n llm-apps -l app=llm-worker
        """,
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "queue")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "queue",
        "The table shows what becomes of a job whose worker dies after each step. One red line is one lost job.",
        "What is stored twice under one number is stored once. What is acknowledged too early is gone.",
        "`after_failure`: `kind` says whether time can heal it, `deliveries` how often it was tried. A few times are enough; for ever is not.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 2 · Batching, and its knee

    A model server works on several requests in one step: the step costs little more, so tokens a second rise. From some number
    on they do not: then more requests at once only make each of them slower. That number is the **knee**. It decides how many
    requests a replica should have, and so how many replicas there should be. Nothing is graded here.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_knee = nb.predict(
        "You double the requests at once beyond the knee. What does each user see?",
        {
            "same": "The same: the server works harder",
            "slow": "About twice the time to the first token, for the same tokens a second in all",
            "refused": "Errors: the server refuses what is too much",
        },
    )
    guess_knee
    return (guess_knee,)


@app.cell(hide_code=True)
def _(lab, measure_knee):
    draw_scale.knee_panel(lab, measure_knee)
    return


@app.cell(hide_code=True)
def _(guess_knee):
    nb.reveal(
        guess_knee.value,
        truth="slow",
        because="What cannot run waits inside the server (`vllm:num_requests_waiting`). All tokens together stay the same, and each user gets fewer.",
        instead={
            "same": "It works as hard as before: it was full.",
            "refused": "It refuses nothing: its own queue has no end.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 3 · A cache that does not storm

    The cheapest token is the one that nobody generates. But a stored answer belongs to a model, a prompt, a collection and a
    tenant. And when the answer to a popular question is forgotten, everybody who asks meanwhile wants it generated at once.

    First three decisions about what is stored. `key`: under which name an answer lies, so that exactly the same question finds it
    again, and no other one. `ttl_s`: how long it lies there. `may_share`: whether it is also given to a question that says
    the same in other words; the cache compares embeddings, as Qdrant does, and asks you about those that are near.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_storm = nb.predict(
        "Fifty callers ask one question in the second in which its stored answer ends. How often is it generated?",
        {
            "one": "Once: the others find the new answer",
            "fifty": "Fifty times: nobody finds anything stored",
            "two": "Twice or so: the first answer is stored quickly",
        },
    )
    guess_storm
    return (guess_storm,)


@app.function
def key(ask: Ask) -> str:
    """Under which key the answer to this question is stored.

    An Ask has `tenant`, `model`, `prompt_version`, `collection` and `question`.
    """
    return hashlib.sha256(ask.question.encode()).hexdigest()


@app.function
def ttl_s(base_s: float, chance: float) -> float:
    """After how many seconds this answer is forgotten.

    Args:
        base_s: what the settings say.
        chance: from 0 to 1, another one for each answer.
    """
    return base_s


@app.function
def may_share(asker: Ask, stored: Ask, similarity: float) -> bool:
    """Whether the answer to another question may be given, because it asks the same in other words.

    Args:
        asker, stored: the question now, and the one whose answer is stored; both are an Ask.
        similarity: of the two questions' embeddings; 1 is the same text.
    """
    return similarity > 0.8


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            draw_decisions.key_table(key),
            draw_decisions.ttl_table(ttl_s),
            draw_decisions.share_table(may_share),
        ]
    )
    return


@app.cell(hide_code=True)
def _(lab, to_cache):
    draw.decision_panel(lab, "cache", to_cache, key, ttl_s, may_share)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### One flight

    Who finds nothing stored takes a **lease** and generates; the others wait for the answer. A lease has an end, for its holder
    may die. When it ends and there is no answer, one of those who still wait takes the next lease by itself: *wait* need not
    become *generate* for that.

    How long a generation may take is a setting, which another model or another cluster has another value for. The witness tries two.
    """)
    return


@app.function
def lease_s(deadline_s: float) -> float:
    """For how many seconds one asker holds the right to generate.

    Args:
        deadline_s: the longest that a generation may take.
    """
    return 24 * 60 * 60


@app.function
def while_another_works(waited_s: float, lease_s: float) -> str:
    """What an asker does while somebody else holds the lease: "wait" or "generate".

    Args:
        waited_s: for how long it has waited for the present holder.
        lease_s: how long that one's lease is.
    """
    return "generate"


@app.cell(hide_code=True)
def _():
    draw_decisions.flight_table(lease_s, while_another_works)
    return


@app.cell(hide_code=True)
def _(lab, to_flight):
    draw.decision_panel(lab, "flight", to_flight, lease_s, while_another_works)
    return


@app.cell(hide_code=True)
def _(lab, see_storm):
    draw.witness_panel(lab, "storm", see_storm)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw.storm_picture)
    return


@app.cell(hide_code=True)
def _(guess_storm):
    nb.reveal(
        guess_storm.value,
        truth="fifty",
        because="All fifty look before the first answer is there. A cache without a lease helps only those who come later.",
        instead={
            "one": "That is what the lease is for. Without it nobody knows of the others.",
            "two": "A generation takes seconds. All fifty come within one.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "cache")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "cache",
        "Each red row of the tables is a question that would get a wrong answer, or a crowd that works for nothing.",
        "The key is made of everything that changes the answer. `json.dumps` of a list keeps the parts apart.",
        "`may_share`: the four parts must be equal, and the similarity high. The lease: longer than `deadline_s`, and not by much.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 4 · Metrics that arrive

    Prometheus asks whom it is told to ask. Its Operator makes that list from ServiceMonitors and PodMonitors that carry the label
    the Prometheus object selects: `release: course`. One with another label is no error. It is silence.

    Three have figures: the model servers of the pool, the workers, and the front, which knows the queue also when there is no
    worker. A ServiceMonitor selects Services by *their* labels, a PodMonitor selects pods by theirs, and `port` is the **name** of a
    port of the Service, or of the container. It may take a minute or two until Prometheus has what was applied.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_label = nb.predict(
        "A ServiceMonitor has the label `release: prometheus`, and this Prometheus selects `release: course`. What do you see?",
        {
            "error": "An error in the ServiceMonitor's status",
            "down": "A target that is down",
            "nothing": "Nothing at all",
        },
    )
    guess_label
    return (guess_label,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **By hand.** Which labels and which names of ports there are, the objects say themselves:
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    nb.by_hand(
        lab,
        r"""
        kubectl get service vllm -n llm-batch -o yaml
        kubectl get pods -n llm-apps --show-labels
        kubectl get deployment llm-worker -n llm-apps -o jsonpath='{.spec.template.spec.containers[0].ports}'
        """,
    )
    return


@app.cell
def _():
    monitors_yaml = """
    apiVersion: monitoring.coreos.com/v1
    kind: ServiceMonitor
    metadata:
      name: vllm
      namespace: llm-batch
      labels: {release: kube-prometheus-stack}
    spec:
      selector:
        matchLabels: {app: vllm}
      endpoints:
        - {port: "8000", path: /metrics}
    ---
    apiVersion: monitoring.coreos.com/v1
    kind: PodMonitor
    metadata:
      name: llm-jobs
      namespace: llm-apps
    spec:
      selector:
        matchLabels: {app: worker}
      podMetricsEndpoints:
        - {port: metrics, path: /metrics}
    """
    return (monitors_yaml,)


@app.cell(hide_code=True)
def _(lab, monitors_yaml):
    lab.live(nb.preview, monitors_yaml)
    return


@app.cell(hide_code=True)
def _(apply_monitors, lab, monitors_yaml):
    nb.apply_panel(lab, monitors_yaml, apply_monitors)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_scale.targets_table)
    return


@app.cell(hide_code=True)
def _(guess_label):
    nb.reveal(
        guess_label.value,
        truth="nothing",
        because="The Operator leaves out what it was not told to select, as it should. Only the list of targets shows what is missing.",
        instead={
            "error": "To the Operator it belongs to another Prometheus, which may exist.",
            "down": "To be down, it would have to be a target.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### Rules that name the layer

    An alert that says *slow* wakes everybody. One that says which layer is slow wakes the right person. A **recording rule** keeps a
    figure under a name; an **alert** says which bound is broken for how long, and its label `layer` says where to look. These are
    the figures that there are:

    | metric | says | layer |
    | --- | --- | --- |
    | `vllm:num_requests_running`, `vllm:num_requests_waiting` | requests in the batch; requests that wait before it | `inference` |
    | `vllm:kv_cache_usage_perc` | share of the KV cache in use, 0 to 1 | `inference` |
    | `llm_jobs_waiting`, `llm_jobs_pending` | jobs that nobody has taken (the lag); jobs in work | `queue` |
    | `llm_jobs_dead_letters` | jobs that were put aside | `queue` |
    | `llm_retrieval_seconds`, `llm_generation_seconds` | how long each took, as histograms | `retrieval`, `inference` |

    A query in Prometheus' language, PromQL, names a metric and may choose by labels: `llm_jobs_waiting`,
    `vllm:num_requests_waiting{namespace="llm-batch"}`. That is one value for each pod: `sum(…)` adds them up, `max(…)` takes the
    largest, `max(llm_jobs_waiting) > 20` has a value only while that is so, and `absent(…)` only while there is no such metric. A
    **histogram** counts durations in buckets: `llm_retrieval_seconds_bucket` and its like, to be read by `histogram_quantile`.

    Write a rule that records what waits at the pool, and alerts for the layers `inference` and `queue` at least. One of them tells of
    dead letters. Prometheus selects rules by the label `release: course` too.
    """)
    return


@app.cell
def _():
    rules_yaml = """
    apiVersion: monitoring.coreos.com/v1
    kind: PrometheusRule
    metadata:
      name: llm-rules
      namespace: llm-batch
    spec:
      groups:
        - name: llm
          rules:
            - record: llm:requests_waiting:sum
              expr: sum(vllm:num_requests_running{namespace="llm-batch"})
            - alert: RequestsWait
              expr: llm:requests_waiting:sum > 4
              for: 30s
              labels: {severity: warning}
              annotations: {summary: Something is slow.}
    """
    return (rules_yaml,)


@app.cell(hide_code=True)
def _(lab, rules_yaml):
    lab.live(nb.preview, rules_yaml)
    return


@app.cell(hide_code=True)
def _(apply_rules, lab, rules_yaml):
    nb.apply_panel(lab, rules_yaml, apply_rules)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_scale.rules_table)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "metrics")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "metrics",
        "The table of targets is what Prometheus asks now. What is missing there was not selected, or has no such port.",
        "Compare three labels: `release` of the monitor, `selector` of the monitor, and the labels of the Service or the pods.",
        "An alert is `- alert: JobsWait`, `expr: max(llm_jobs_waiting) > 20`, `for: 1m`, `labels: {layer: queue}`, `annotations: {summary: …}`. A rule without the label `release: course` is not loaded.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 5 · CPU lies

    An HPA on CPU is what most services have. Below is a colleague's, for the pool. Put it there if you like, and watch: first
    nobody asks, then one caller, then sixteen at once.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_cpu = nb.predict(
        "One caller asks the pool without a pause; then sixteen do. What does the CPU say?",
        {
            "sixteen": "Sixteen times as much",
            "same": "About the same",
            "less": "Less: sixteen share one batch",
        },
    )
    guess_cpu
    return (guess_cpu,)


@app.cell
def _():
    hpa_yaml = """
    apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    metadata:
      name: vllm-cpu
      namespace: llm-batch
    spec:
      scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: vllm}
      minReplicas: 1
      maxReplicas: 2
      metrics:
        - type: Resource
          resource:
            name: cpu
            target: {type: Utilization, averageUtilization: 70}
    """
    return (hpa_yaml,)


@app.cell(hide_code=True)
def _(hpa_buttons, hpa_yaml, lab):
    draw_scale.hpa_panel(lab, hpa_yaml, hpa_buttons)
    return


@app.cell(hide_code=True)
def _(lab, watch_both):
    draw_scale.views_panel(lab, watch_both)
    return


@app.cell(hide_code=True)
def _(guess_cpu):
    nb.reveal(
        guess_cpu.value,
        truth="same",
        because="One caller keeps the server busy. Sixteen keep it as busy, and those that do not fit into its batch wait: twelve, where it takes four at once. How full a thing is says nothing of how many stand outside.",
        instead={
            "sixteen": "There is no CPU left to use after the first one.",
            "less": "A batch takes all there is.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### KEDA, on what waits

    KEDA asks Prometheus, or Redis, and makes an HPA of the answer. Two ScaledObjects, each with the name of the Deployment that it
    scales: the **pool** by what waits in vLLM and by its KV cache, the **workers** by the lag of their group. The pool has at most
    two replicas, for the quota has two slices, and a `fallback` for the day on which Prometheus is gone. Workers may go to zero:
    who has no jobs needs none.

    | field | says |
    | --- | --- |
    | `minReplicaCount`, `maxReplicaCount` | the bounds; 0 and 100 where nothing is written |
    | `pollingInterval` | after how many seconds KEDA asks again |
    | trigger `prometheus`: `query`, `threshold` | a figure, and how much of it each replica may have |
    | `ignoreNullValues` | `"true"`, the default: a query that brings nothing means 0. `"false"`: it is a failure |
    | `fallback: {failureThreshold: F, replicas: N, behavior: B}`, in `spec` | after F failures in a row, at least one each `pollingInterval`: N replicas. `behavior: currentReplicas` keeps those that are there |
    | `advanced. … .scaleDown.stabilizationWindowSeconds` | for how long the highest wish still counts; 300 where nothing is written |
    | `cooldownPeriod` | seconds without a job until the last replica goes too: only from one to zero; 300 where nothing is written |
    | trigger `redis-streams`: `stream`, `consumerGroup` | which stream, and the group that reads it: its lag is asked |
    | `lagCount` | how many jobs of the lag are one worker's |
    | `activationLagCount` | more than that many wake the first worker |

    What else there is says `kubectl explain scaledobject.spec.fallback`, and the same with other names. An HPA and a ScaledObject on
    one Deployment pull it to and fro: take the HPA away first.
    """)
    return


@app.cell
def _():
    scaled_pool_yaml = """
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata:
      name: vllm
      namespace: llm-batch
    spec:
      scaleTargetRef: {name: vllm}
      minReplicaCount: 2
      maxReplicaCount: 10
      advanced:
        horizontalPodAutoscalerConfig:
          behavior:
            scaleDown: {stabilizationWindowSeconds: 0}
      triggers:
        - type: prometheus
          metadata:
            serverAddress: http://prometheus.llm-monitoring:9090
            query: sum(vllm:num_requests_running{namespace="llm-batch"})
            threshold: "1"
    """
    return (scaled_pool_yaml,)


@app.cell(hide_code=True)
def _(lab, scaled_pool_yaml):
    lab.live(nb.preview, scaled_pool_yaml)
    return


@app.cell(hide_code=True)
def _(apply_pool, lab, scaled_pool_yaml):
    nb.apply_panel(lab, scaled_pool_yaml, apply_pool)
    return


@app.cell
def _():
    scaled_workers_yaml = """
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata:
      name: llm-worker
      namespace: llm-apps
    spec:
      scaleTargetRef: {name: llm-jobs}
      minReplicaCount: 1
      maxReplicaCount: 3
      triggers:
        - type: redis-streams
          metadata:
            address: queue.llm-batch.svc.cluster.local:6379
            stream: jobs
            streamLength: "4"
    """
    return (scaled_workers_yaml,)


@app.cell(hide_code=True)
def _(lab, scaled_workers_yaml):
    lab.live(nb.preview, scaled_workers_yaml)
    return


@app.cell(hide_code=True)
def _(apply_workers, lab, scaled_workers_yaml):
    nb.apply_panel(lab, scaled_workers_yaml, apply_workers)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_scale.scalers_table)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### On one clock

    The last ten minutes as Prometheus has them: what waits in the queue and in the engine, how many replicas there are, how long the
    first token takes, and what it costs: slices of a card, held for minutes.

    One of the three witnesses below takes Prometheus away, and brings it back. Should it be interrupted, `course recover` does.
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_scale.clock_picture)
    return


@app.cell(hide_code=True)
def _(lab, see_wave):
    draw.witness_panel(lab, "wave", see_wave)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_scale.wave_picture)
    return


@app.cell(hide_code=True)
def _(lab, see_blind):
    draw.witness_panel(lab, "blind", see_blind)
    return


@app.cell(hide_code=True)
def _(lab, see_zero):
    draw.witness_panel(lab, "zero", see_zero)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "scale")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "scale",
        "`kubectl get scaledobjects,hpa -A` says Ready and Active, and which HPA belongs to whom.",
        "Who is scaled must be who is full: model servers by `vllm:num_requests_waiting`, workers by the lag (`lagCount`), never by the stream's length.",
        '`maxReplicaCount` within the quota; `fallback` and `ignoreNullValues: "false"` for a Prometheus that is gone; `stabilizationWindowSeconds` of a minute or so, so that a pause of half a minute is no reason to end a replica.',
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 6 · Slow is not broken

    Users complain, and in most cases every pod is Ready. Chance draws one of six incidents: a slow retriever, a worker killed for its
    memory, a full queue, a cold cache, a cut network, a lost card. You see what you would see at night: figures, before and now.
    Say what it is and which figure tells it, and **commit** that; only then the name is told. It is undone in any case.

    Many figures change with each incident: jobs wait in most of them. The one that *tells* it changes so in no other.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_slow = nb.predict(
        "First tokens take 8 s instead of 1, nothing waits in the pool, and jobs spend most of their time before the model is asked. Where do you look?",
        {
            "pool": "At the pool: add a replica",
            "retriever": "At retrieval: it is the span that grew",
            "queue": "At the queue: its lag",
        },
    )
    guess_slow
    return (guess_slow,)


@app.cell(hide_code=True)
def _(incident_buttons, lab):
    draw_review.incident_panel(lab, incident_buttons)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_review.incident_figures)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_review.incident_traces)
    return


@app.cell(hide_code=True)
def _(diagnosis, lab):
    draw_review.diagnosis_panel(lab, diagnosis)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Pressed again, it is another one; so is `course incident` in a terminal. One whose name was told does not count a second time. Should
    one be interrupted, `course recover` undoes it.
    """)
    return


@app.cell(hide_code=True)
def _(guess_slow):
    nb.reveal(
        guess_slow.value,
        truth="retriever",
        because="Time that passes before the model is asked is not the model's. A replica more would wait as well.",
        instead={
            "pool": "Nothing waits there: a second server would be idle too.",
            "queue": "A lag shows before a worker has the job. This job has one.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "incident")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "incident",
        "Three questions, in this order: is something gone (`workers`, `pool`)? Does what is asked come back (`asked`, `answered`)? And if both are well: does more come in, or does one step take longer?",
        "Compare two figures of one moment: `arriving` with `done`, `retrieval` with `generation`. `waiting` and `generation` grow in several incidents, so they tell none.",
        "A lost card shows in `pool`, a killed worker in `workers`, a cut network in `answered` (asked for, and nothing comes back), a slow retriever in `retrieval`, a full queue in `arriving`, a cold cache in `cached`.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 7 · The readiness review

    *May it go live?* is a list, and each line of it is a question to the running stack. `course review` asks all twelve, changes
    nothing, and works on any cluster. A line that is not met names what it saw.
    """)
    return


@app.cell(hide_code=True)
def _(lab, review_it):
    draw_review.review_panel(lab, review_it)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Some lines were met by earlier labs, some by this one. Two may still be open, whatever you did. `llm-batch` is a new namespace:
    in it everything may speak to everything. And where lab 07 was not done, nothing judges a release of `llm-assistant`. The draft
    below closes `llm-batch` for what comes in, and leaves open what goes out. For `llm-system` it has the policies with which labs 04
    and 06 end, and a ServiceMonitor, so that Prometheus asks that vLLM too.
    """)
    return


@app.cell
def _():
    deny_yaml = """
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata:
      name: default-deny
      namespace: llm-batch
    spec:
      podSelector: {}
      policyTypes: [Ingress]
    ---
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata:
      name: default-deny
      namespace: llm-system
    spec:
      podSelector: {}
      policyTypes: [Ingress, Egress]
    ---
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata:
      name: allow-dns
      namespace: llm-system
    spec:
      podSelector: {}
      policyTypes: [Egress]
      egress:
      - to:
        - namespaceSelector:
            matchLabels: {kubernetes.io/metadata.name: kube-system}
          podSelector:
            matchLabels: {k8s-app: kube-dns}
        ports:
        - {protocol: UDP, port: 53}
        - {protocol: TCP, port: 53}
    ---
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata:
      name: vllm-ingress-from-llm-apps
      namespace: llm-system
      labels: {app: vllm}
    spec:
      podSelector:
        matchLabels: {app: vllm}
      policyTypes: [Ingress]
      ingress:
        - from:
            - namespaceSelector:
                matchLabels:
                  kubedojo.dev/role: llm-apps
                  kubernetes.io/metadata.name: llm-apps
          ports:
            - {protocol: TCP, port: 8000}
        - from:
            - namespaceSelector:
                matchLabels: {kubernetes.io/metadata.name: llm-monitoring}
              podSelector:
                matchLabels: {app.kubernetes.io/name: prometheus}
          ports:
            - {protocol: TCP, port: 8000}
    ---
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata:
      name: qdrant-ingress
      namespace: llm-system
    spec:
      podSelector:
        matchLabels: {app.kubernetes.io/name: qdrant}
      policyTypes: [Ingress]
      ingress:
        - from:
            - namespaceSelector:
                matchLabels:
                  kubedojo.dev/role: llm-apps
                  kubernetes.io/metadata.name: llm-apps
          ports:
            - {protocol: TCP, port: 6333}
        - from:
            - namespaceSelector:
                matchLabels: {kubernetes.io/metadata.name: llm-monitoring}
              podSelector:
                matchLabels: {app.kubernetes.io/name: prometheus}
          ports:
            - {protocol: TCP, port: 6333}
    ---
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata:
      name: redis
      namespace: llm-system
    spec:
      podSelector:
        matchLabels: {app: redis}
      policyTypes: [Ingress]
      ingress:
        - from:
            - namespaceSelector:
                matchLabels: {kubernetes.io/metadata.name: llm-apps}
              podSelector:
                matchExpressions:
                  - {key: app, operator: In, values: [llm-orchestrator, orchestrator-witness]}
            - namespaceSelector:
                matchLabels: {kubernetes.io/metadata.name: llm-gateway}
              podSelector:
                matchLabels: {app: ratelimit}
          ports:
            - {protocol: TCP, port: 6379}
    ---
    apiVersion: monitoring.coreos.com/v1
    kind: ServiceMonitor
    metadata:
      name: vllm
      namespace: llm-system
      labels: {release: course}
    spec:
      selector:
        matchLabels: {app: vllm}
      endpoints:
        - {port: http, path: /metrics}
    """
    return (deny_yaml,)


@app.cell(hide_code=True)
def _(deny_yaml, lab):
    lab.live(nb.preview, deny_yaml)
    return


@app.cell(hide_code=True)
def _(apply_deny, deny_yaml, lab):
    nb.apply_panel(lab, deny_yaml, apply_deny)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    The gate of lab 07 asks what answers are worth. This one asks only whether they come: it counts a candidate's failures in
    Prometheus for a minute. A Rollout that has a gate keeps the one it has.
    """)
    return


@app.cell
def _():
    gate_yaml = """
    apiVersion: monitoring.coreos.com/v1
    kind: PodMonitor
    metadata:
      name: llm-assistant
      namespace: llm-apps
      labels: {release: course}
    spec:
      selector:
        matchLabels: {app: llm-assistant}
      podMetricsEndpoints:
        - {port: metrics, path: /metrics}
    ---
    apiVersion: argoproj.io/v1alpha1
    kind: AnalysisTemplate
    metadata:
      name: llm-failures
      namespace: llm-apps
    spec:
      args:
        - name: revision
      metrics:
        - name: failures
          initialDelay: 30s
          interval: 15s
          count: 4
          failureLimit: 0
          # Nobody has asked: neither passed nor failed, and somebody has to decide.
          inconclusiveLimit: 0
          successCondition: len(result) > 0 && result[0] < 0.05
          failureCondition: len(result) > 0 && result[0] >= 0.05
          provider:
            prometheus:
              address: http://prometheus-operated.llm-monitoring.svc.cluster.local:9090
              query: |
                sum(rate(llm_orchestrator_requests_total{pod=~"llm-assistant-{{args.revision}}-.*",status=~"5.."}[1m]) or vector(0))
                / sum(rate(llm_orchestrator_requests_total{pod=~"llm-assistant-{{args.revision}}-.*"}[1m]))
    ---
    apiVersion: argoproj.io/v1alpha1
    kind: Rollout
    metadata:
      name: llm-assistant
      namespace: llm-apps
    spec:
      strategy:
        canary:
          steps:
            - setWeight: 25
            - analysis:
                templates:
                  - templateName: llm-failures
                args:
                  - name: revision
                    valueFrom: {podTemplateHashValue: Latest}
            - setWeight: 100
    """
    return (gate_yaml,)


@app.cell(hide_code=True)
def _(apply_gate, gate_yaml, lab):
    draw_review.gate_panel(lab, gate_yaml, apply_gate)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "review")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "review",
        "Each line that is not met says what was looked for and what was there.",
        "Most are one object: a probe, a quota, a policy, a budget. For the network: `policyTypes: [Ingress, Egress]` in `llm-batch`, and a policy that lets names be looked up, as the one of `llm-system` does.",
        "`course review --html review.html` keeps the list, to be shown to whoever decides.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### With Kafka

    *Optional, and not graded by itself: a cluster of your own, 0.5 GiB of memory, and one minute for an image.*

    The same queue on Kafka has **partitions**: within a consumer group each belongs to one worker, so there are never more workers at
    work than partitions. Instead of acknowledging each job, a worker moves an **offset**, up to the first job that is not done: when
    it dies, all behind that one come again, and the state in Redis says which are done already. When a worker comes or goes, the
    partitions are distributed anew, and everybody waits until each has let go. In return the log stays, for others to read it again.
    Take it where several readers need the same stream, or where days of it have to be kept.

    The button puts one broker into `llm-batch` and moves the stream there, in the order in which no job is lost: the front, then
    what is left in Redis's stream, then the workers. Jobs, results and cache stay in Redis. `helpers/apps/jobs/kafka_stream.py` is
    what differs. What the witnesses saw over Redis counts no more, and the checks `queue.*` ask what they see over Kafka. The
    workers' scaler asks Prometheus for the lag meanwhile; part 5 is graded on Redis. In a terminal: `course queue kafka`, and
    `course queue redis` takes all of it away.
    """)
    return


@app.cell(hide_code=True)
def _(lab, to_kafka, to_redis):
    draw.kafka_panel(lab, to_kafka, to_redis)
    return


@app.cell(hide_code=True)
def _(PARTS, lab):
    lab.live(nb.scoreboard, PARTS)
    return


@app.cell(hide_code=True)
def _():
    tick = nb.refresh("10s")
    tick
    return (tick,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What to notice

    - At least once, with one place for each result, is once. *Exactly once* on the wire is a promise that nobody keeps.
    - What goes round for ever takes the others with it: every retry has an end, and the end has a reason that can be read.
    - A cache is as right as its key. The storm comes when it forgets.
    - Silence of a metric is not zero. A scaler that cannot tell the two apart scales down in the worst minute.
    - Scale who is full, by what waits before it. Everything else is a proxy for that.
    - A replica that ends has answers in its hands.
    """)
    return


@app.cell(hide_code=True)
def _(QUESTIONS, answers):
    nb.quiz_board(answers, QUESTIONS)
    return


@app.cell(hide_code=True)
def _(answered, pressed, reconnect):
    # What marimo must not create anew when a cell above is edited.
    lab, acted = nb.open_page("08", reconnect.value, answered(), pressed=pressed)
    return acted, lab


@app.cell(hide_code=True)
def _():
    pressed = False  # `course solve` runs the solution with True: as if every button had been pressed
    return (pressed,)


@app.cell(hide_code=True)
def _():
    reconnect = mo.ui.run_button(label="Connect again")
    answered, cluster_answers = mo.state(None)
    apply_client = nb.apply_button("Apply curl-client", kind="neutral")
    apply_deny = nb.apply_button("Apply the policies")
    apply_gate = nb.apply_button("Apply the gate")
    incident_buttons = draw_review.incident_buttons()
    diagnosis = draw_review.diagnosis_form()
    review_it = nb.apply_button("Review the stack", kind="neutral")
    place = nb.apply_button("Put what this lab needs in place", kind="neutral")
    to_delivery = nb.apply_button("Deliver the delivery")
    to_settings = nb.apply_button("Deliver the settings")
    to_cache = nb.apply_button("Deliver the cache")
    to_flight = nb.apply_button("Deliver the flight")
    to_kafka = nb.apply_button("Move the queue to Kafka", kind="neutral")
    to_redis = nb.apply_button("Back to Redis", kind="neutral")
    apply_monitors = nb.apply_button("Apply the monitors")
    apply_rules = nb.apply_button("Apply the rules")
    apply_pool = nb.apply_button("Apply the pool's scaler")
    apply_workers = nb.apply_button("Apply the workers' scaler")
    measure_knee = draw.run_or_stop("Ask with 1, 2, 4, 8, 16 at once")
    watch_both = draw.run_or_stop("Watch both for a minute and a half")
    hpa_buttons = draw_scale.hpa_buttons()
    see_jobs = draw.run_or_stop("Send jobs of all kinds")
    see_faults = draw.run_or_stop("Break workers and the queue")
    see_delivery = draw.run_or_stop("End workers at each step")
    see_storm = draw.run_or_stop("Let fifty ask at once")
    see_wave = draw.run_or_stop("Send a wave")
    see_blind = draw.run_or_stop("Take Prometheus away for a while")
    see_zero = draw.run_or_stop("Wake workers from zero")
    return (
        answered,
        apply_client,
        apply_deny,
        apply_gate,
        apply_monitors,
        apply_pool,
        apply_rules,
        apply_workers,
        cluster_answers,
        diagnosis,
        hpa_buttons,
        incident_buttons,
        measure_knee,
        place,
        reconnect,
        review_it,
        see_blind,
        see_delivery,
        see_faults,
        see_jobs,
        see_storm,
        see_wave,
        see_zero,
        to_cache,
        to_delivery,
        to_flight,
        to_kafka,
        to_redis,
        to_settings,
        watch_both,
    )


@app.cell(hide_code=True)
def _(acted, lab, tick):
    nb.look(lab, tick, acted)
    return


@app.cell(hide_code=True)
def _():
    PARTS = (
        nb.Part("1 · A queue before the model", 28, ("queue",)),
        nb.Part("2 · Batching, and its knee", 12),
        nb.Part("3 · A cache that does not storm", 26, ("cache",)),
        nb.Part("4 · Metrics that arrive", 18, ("metrics",)),
        nb.Part("5 · CPU lies", 34, ("scale",)),
        nb.Part("6 · Slow is not broken", 20, ("incident",)),
        nb.Part("7 · The readiness review", 14, ("review",)),
    )
    QUESTIONS = [
        nb.Question(
            "A worker acknowledges a job when it takes it, so that nobody else takes it too. Then it dies. What becomes of the job?",
            (
                nb.Option("Another worker gets it", "What is acknowledged is on nobody's list any more."),
                nb.Option(
                    "It is gone",
                    "The queue was told that it is done. Only the caller still waits for it.",
                    right=True,
                ),
                nb.Option(
                    "It becomes a dead letter", "Somebody would have to put it there. Nobody knows of it."
                ),
            ),
        ),
        nb.Question(
            "The stream has 10 000 entries, the group's lag is 0, three are pending. How many workers are needed for what waits?",
            (
                nb.Option(
                    "Many: 10 000 wait", "The length counts what was ever put in, and not yet trimmed."
                ),
                nb.Option(
                    "No more than there are",
                    "Lag is what nobody has taken yet: none. Three are in work.",
                    right=True,
                ),
                nb.Option("Three more", "Pending jobs have their workers already."),
            ),
        ),
        nb.Question(
            "Prometheus is away. The scaler's query brings nothing, and the scaler reads that as 0. It is noon. What happens?",
            (
                nb.Option(
                    "Nothing: replicas stay as they are", "Only if somebody has written a fallback down."
                ),
                nb.Option(
                    "Replicas go, while everybody asks",
                    "No answer was taken for a small one. `ignoreNullValues: false` and a fallback tell them apart.",
                    right=True,
                ),
                nb.Option("Replicas are added, to be safe", "Zero asks for the fewest."),
            ),
        ),
        nb.Question(
            "Jobs wait in the queue, and nothing waits in vLLM. What do you scale?",
            (
                nb.Option("The model servers", "They have nothing to do: nobody brings them more."),
                nb.Option(
                    "The workers",
                    "They are who is full: what waits stands before them.",
                    right=True,
                ),
                nb.Option(
                    "The front, which takes the jobs", "It says 202 and is done. Nothing waits before it."
                ),
            ),
        ),
    ]
    answers = nb.quiz(QUESTIONS)
    return PARTS, QUESTIONS, answers


if __name__ == "__main__":
    app.run()
