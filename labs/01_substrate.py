import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="01 · The GPU substrate",
    css_file="../helpers/notebook/course.css",
)

with app.setup(hide_code=True):
    import marimo as mo

    from helpers import notebook as nb
    from helpers.labs.lab01_substrate import draw_gpu, draw_quota
    from helpers.stack import gpu


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 01 · The GPU substrate

    A pod that should serve a model does not exist. Is the cause the model, the image, the network, the quota or
    the node? In this lab you build what the whole stack runs on, and you learn to tell **who said no**: admission,
    or the scheduler.

    *90 minutes. You change a live cluster, and that cluster's state is graded. It makes no difference whether you
    press the buttons on this page or use `kubectl` in its terminal, which `Ctrl`+`` ` `` opens.*
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
    ## Four layers, and which failures belong to each

    Every layer answers one question. When something breaks, first find the layer that caused it: restarting a
    model server does not change a quota, and more retries do not create a GPU.
    """)
    return


@app.cell(hide_code=True)
def _():
    nb.layer_picture(focus="substrate")
    return


@app.cell(hide_code=True)
def _():
    guess_layer = nb.predict(
        "The Deployment `vllm` exists and wants one replica. `kubectl get pods` lists **no pod at all**. "
        "Which layer do you look at first?",
        {
            "inference": "Inference: the model failed to load",
            "orchestration": "Orchestration: the application does not reach the model",
            "substrate": "GPU substrate: something refused to create the pod, or could not place it",
        },
    )
    guess_layer
    return (guess_layer,)


@app.cell(hide_code=True)
def _(guess_layer):
    nb.reveal(
        guess_layer.value,
        truth="substrate",
        because="A model can only fail in a container, and a container needs a pod. No pod means that the API server "
        "refused to create it: that is admission, in the substrate. You will cause exactly this below.",
        instead={
            "inference": "A model that fails to load leaves a pod behind, with a log and a restart count.",
            "orchestration": "An application that cannot connect does not make the other side's pods disappear.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 1 · Three namespaces

    Quota, policy and clean-up work by namespace, so things that need different rules get their own namespace:

    - `llm-system` holds the backends: vLLM and Qdrant, under a quota.
    - `llm-apps` holds applications. It has the label `kubedojo.dev/role: llm-apps`; the network policy of
      lab 04 will let in every namespace with this label.
    - `llm-workshop` holds the experiments of this lab. It has no quota, and no later lab needs what is in it.

    **Your turn.** The first namespace is written for you. Add the other two (separate documents with `---`) and the
    label, then run the cell (Ctrl+Enter), read the preview, and apply.
    """)
    return


@app.cell
def _():
    namespaces_yaml = """
    apiVersion: v1
    kind: Namespace
    metadata:
      name: llm-system
    """
    return (namespaces_yaml,)


@app.cell(hide_code=True)
def _(lab, namespaces_yaml):
    lab.live(nb.preview, namespaces_yaml)
    return


@app.cell(hide_code=True)
def _(apply_namespaces, lab, namespaces_yaml):
    nb.apply_panel(lab, namespaces_yaml, apply_namespaces)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "namespaces")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "namespaces",
        "`kubectl create namespace llm-apps --dry-run=client -o yaml` prints the YAML of a namespace.",
        "A label goes under `metadata.labels`, beside `metadata.name`. Only `llm-apps` gets it.",
        "The label's key contains a slash and is written as it is: `kubedojo.dev/role: llm-apps`.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 2 · A quota that adds up

    A ResourceQuota is checked **when a pod is created**. What is in the namespace and what the new pod takes are
    added up, and the pod is refused if the sum is too large in even **one** dimension. Eight dimensions matter here.
    GPUs are counted by request (`requests.nvidia.com/gpu`): an extended resource is never overcommitted, so its limit
    *is* its request.

    This is what the next two labs will run in `llm-system`:
    """)
    return


@app.cell(hide_code=True)
def _():
    draw_quota.workload_table()
    return


@app.cell(hide_code=True)
def _():
    guess_quota = nb.predict(
        "A colleague wrote the quota below for these two. You apply it, start vLLM, then Qdrant. "
        "What happens?",
        {
            "both": "Both run: 4 CPUs requested are allowed, and together they request 3",
            "first": "vLLM is refused: it is the larger one",
            "second": "vLLM runs, Qdrant is refused",
            "neither": "Both are refused, because together they do not fit",
        },
    )
    guess_quota
    return (guess_quota,)


@app.cell(hide_code=True)
def _(guess_quota):
    nb.reveal(
        guess_quota.value,
        truth="second",
        because="Whichever starts second is not created. vLLM alone fits in every dimension. Qdrant then needs more than is "
        "left in one of them. Start them the other way round, and vLLM is refused instead.",
        instead={
            "both": "You compared one dimension. Look at every line of the picture below.",
            "first": "A quota does not ask who is larger: alone in the namespace, vLLM fits in every dimension.",
            "neither": "A quota is checked for one pod at a time, together with what is there already. For the first pod, the namespace is empty.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **Your turn.** Edit the quota until both workloads fit in every dimension, but *no more than these*: a second model
    server beside them must still be refused. The picture follows every run of the cell; only **Apply** changes the
    cluster.
    """)
    return


@app.cell
def _():
    quota_yaml = """
    apiVersion: v1
    kind: ResourceQuota
    metadata:
      name: llm-system-quota
      namespace: llm-system
    spec:
      hard:
        requests.nvidia.com/gpu: "1"
        requests.cpu: "4"
        limits.cpu: "12"
        requests.memory: 32Gi
        limits.memory: 96Gi
        requests.storage: 400Gi
        persistentvolumeclaims: "4"
        pods: "8"
    """
    return (quota_yaml,)


@app.cell(hide_code=True)
def _(guess_quota, lab, quota_yaml):
    mo.stop(
        guess_quota.value is None and not lab.pressed,
        nb.note("The picture of this quota appears after you commit your prediction above."),
    )
    lab.live(draw_quota.quota_picture, quota_yaml)
    return


@app.cell(hide_code=True)
def _(lab, quota_yaml):
    lab.live(nb.preview, quota_yaml)
    return


@app.cell(hide_code=True)
def _(apply_quota, lab, quota_yaml):
    nb.apply_panel(lab, quota_yaml, apply_quota)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "quota")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "quota",
        "Add the two columns of the table, line by line, and compare each sum with the quota. One sum is too large.",
        "There are two ways to close a gap: raise the quota, or lower what a workload takes. Here the workloads stay as they are.",
        "Raise only the line whose sum is too large, and only to that sum: anything more is room for a mistake.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 3 · Who said no?

    You will let the Deployment `greedy` ask for sixteen GPUs, and apply it twice: in `llm-system`, where your quota
    admits one GPU, and in `llm-workshop`, which has no quota.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_refusal = nb.predict(
        "What do you see after `kubectl apply -n llm-system -f greedy.yaml`?",
        {
            "error": "An error from kubectl: exceeded quota. Nothing is created",
            "pending": "“deployment.apps/greedy created”, and a pod that stays Pending",
            "silent": "“deployment.apps/greedy created”, and no pod ever appears",
        },
    )
    guess_refusal
    return (guess_refusal,)


@app.cell(hide_code=True)
def _(guess_refusal):
    nb.reveal(
        guess_refusal.value,
        truth="silent",
        because="Quota counts pods, not Deployments. The Deployment is fine and is created; its ReplicaSet then tries "
        "to create a pod, and **admission** refuses that, again and again. The message is in the ReplicaSet's events, "
        "with reason `FailedCreate`. `kubectl apply` does not report it, so a pipeline that only looks at its exit code misses it.",
        instead={
            "error": "That is what a bare Pod would get. kubectl sent a Deployment, and nothing is wrong with that object.",
            "pending": "A Pending pod exists. Here the API server refuses to create one.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    mo.md(rf"""
    **Your turn.** The YAML asks for one GPU. Make it ask for sixteen, and apply it: the panel sends it to both
    namespaces. Look at the preview: the API server accepts both *Deployments*. For use in a terminal, the same YAML
    is in `manifests/stack/substrate`; `$TOOLBOX` stands for this cluster's image with a shell in it (`{lab.images.get("toolbox", "course.local/toolbox:1")}`).
    """)
    return


@app.cell
def _():
    greedy_yaml = """
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: greedy
    spec:
      strategy: {type: Recreate}
      selector:
        matchLabels: {app: greedy}
      template:
        metadata:
          labels: {app: greedy}
        spec:
          terminationGracePeriodSeconds: 1
          containers:
          - name: greedy
            image: $TOOLBOX
            command: [sleep, "3600"]
            resources:
              requests: {cpu: 10m, memory: 16Mi}
              limits: {cpu: 100m, memory: 64Mi, nvidia.com/gpu: 1}
    """
    return (greedy_yaml,)


@app.cell(hide_code=True)
def _(greedy_yaml, lab):
    lab.live(nb.preview, greedy_yaml, namespaces=("llm-system", "llm-workshop"))
    return


@app.cell(hide_code=True)
def _(apply_greedy, greedy_yaml, lab):
    nb.apply_panel(lab, greedy_yaml, apply_greedy, namespaces=("llm-system", "llm-workshop"))
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.titled,
        "**What the cluster says**, latest first, in both namespaces:",
        nb.event_table,
        ("llm-system", "llm-workshop"),
        reasons=("FailedCreate", "FailedScheduling"),
        about="greedy",
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "refusal")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.once_passed,
        "refusal",
        r"""
    **What to notice.** The same request, refused in two ways:

    | | admission (quota) | scheduler |
    | --- | --- | --- |
    | is there a pod? | no | yes, `Pending` |
    | which object has the event? | the ReplicaSet (or the Job) | the Pod |
    | reason | `FailedCreate` | `FailedScheduling` |
    | message | `exceeded quota: …, requested: …, used: …, limited: …` | `0/1 nodes are available: 1 Insufficient nvidia.com/gpu` |
    | who can help | the owner of the quota, or a smaller request | whoever owns nodes, or holds the GPUs |

    A quota can also refuse for another reason: if it limits CPU or memory, a pod that does not *state* them is refused
    with `must specify limits.cpu …`. Try it: remove `cpu` from `requests` and `limits`.
    """,
        until_then="What to notice: appears once both refusals above are seen.",
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "refusal",
        "The number is under `limits`, as `nvidia.com/gpu: 1`. An extended resource needs no request beside it.",
        "If a pod of `greedy` runs, it asks for too little: compare with what your node offers (picture in part 4).",
        "In a terminal: `kubectl describe replicaset -n llm-system`, then `kubectl describe pod -n llm-workshop`. "
        "The last lines are the events.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 4 · One card, three shapes

    A node offers what its device plugin advertises, and an administrator decides what that is:

    | shape | a pod asks for | isolation | what it costs you |
    | --- | --- | --- | --- |
    | **full GPU** | `nvidia.com/gpu: 1` | the whole card is yours | a small model leaves most of its memory idle |
    | **MIG slice** | `nvidia.com/mig-1g.10gb: 1` | own memory and compute, in hardware | the model must fit the slice; another resource name |
    | **time-slicing** | `nvidia.com/gpu: 1` | none: memory, time and faults are shared | latency depends on your neighbours |

    Take care: full and time-sliced cards have **the same resource name**. Only labels tell them apart. GPU feature
    discovery puts them on the node; one of them is `nvidia.com/gpu.sharing-strategy` (`none` or `time-slicing`).
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_gpu.gpu_picture, ("llm-system", "llm-workshop"))
    return


@app.cell(hide_code=True)
def _():
    guess_shape = nb.predict(
        "The node offers one full GPU, and it is free. A pod asks for `nvidia.com/mig-1g.10gb: 1`, "
        "a seventh of such a card. What does the scheduler do?",
        {
            "runs": "It places the pod: a whole card is more than a seventh",
            "refused": "The API server refuses the pod: no node knows that resource",
            "pending": "The pod stays Pending until a node advertises that very name",
        },
    )
    guess_shape
    return (guess_shape,)


@app.cell(hide_code=True)
def _(guess_shape):
    nb.reveal(
        guess_shape.value,
        truth="pending",
        because="For the scheduler a resource is a name and a number: `nvidia.com/mig-1g.10gb` has nothing to do with "
        "`nvidia.com/gpu`. The same is true for quota: your limit of one `requests.nvidia.com/gpu` does not stop "
        "anybody from taking seven slices. When the node starts to advertise the name, the waiting pod is placed "
        "at once, without any change to it.",
        instead={
            "runs": "The scheduler does not know what a slice is a slice of.",
            "refused": "Any well-formed name is accepted: a node that offers it may join in a minute.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **Two ways to advertise slices.** The administrator also chooses MIG's *strategy*: under which name the device plugin
    advertises them. The card below is cut into seven slices of 10 GB both times.
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_gpu.mig_strategies)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **Your turn.** Three situations, three Jobs, and you choose the shape for each. So far all three ask for the same
    thing. Edit `limits` and `nodeSelector` so that each gets what it needs, *and cannot run on a card that is wrong for
    it*:

    1. `one-learner` debugs latency, and must not share the card with anybody.
    2. `twenty-learners`: a workshop, twenty short experiments; waiting in line is worse than noisy neighbours.
    3. `two-tenants`: two companies at the same time, and neither may read or crash the other's memory.
    """)
    return


@app.cell
def _():
    one_learner_yaml = """
    apiVersion: batch/v1
    kind: Job
    metadata: {name: one-learner, namespace: llm-workshop}
    spec:
      template:
        spec:
          restartPolicy: Never
          nodeSelector: {}
          containers:
          - name: run
            image: $TOOLBOX
            command: [sleep, "3"]
            resources:
              limits: {nvidia.com/gpu: 1}
    """
    return (one_learner_yaml,)


@app.cell
def _():
    twenty_learners_yaml = """
    apiVersion: batch/v1
    kind: Job
    metadata: {name: twenty-learners, namespace: llm-workshop}
    spec:
      completions: 20
      parallelism: 20
      template:
        spec:
          restartPolicy: Never
          nodeSelector: {}
          containers:
          - name: run
            image: $TOOLBOX
            command: [sleep, "5"]
            resources:
              limits: {nvidia.com/gpu: 1}
    """
    return (twenty_learners_yaml,)


@app.cell
def _():
    two_tenants_yaml = """
    apiVersion: batch/v1
    kind: Job
    metadata: {name: two-tenants, namespace: llm-workshop}
    spec:
      completions: 2
      parallelism: 2
      template:
        spec:
          restartPolicy: Never
          nodeSelector: {}
          containers:
          - name: run
            image: $TOOLBOX
            command: [sleep, "8"]
            resources:
              limits: {nvidia.com/gpu: 1}
    """
    return (two_tenants_yaml,)


@app.cell(hide_code=True)
def _(lab, one_learner_yaml, twenty_learners_yaml, two_tenants_yaml):
    lab.live(nb.preview, "---".join([one_learner_yaml, twenty_learners_yaml, two_tenants_yaml]))
    return


@app.cell(hide_code=True)
def _(
    apply_jobs,
    lab,
    one_learner_yaml,
    twenty_learners_yaml,
    two_tenants_yaml,
):
    nb.apply_panel(
        lab,
        "---".join([one_learner_yaml, twenty_learners_yaml, two_tenants_yaml]),
        apply_jobs,
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **Now be the administrator.** A Job waits until the node offers its shape. Change what the node advertises, and
    watch the picture above: waiting pods are placed without any change to them. (In a terminal:
    `course gpu --shape mig`.)
    """)
    return


@app.cell(hide_code=True)
def _(lab, shapes):
    nb.shape_panel(lab, shapes)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.job_table, "llm-workshop")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "shapes")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "shapes",
        "Which row of the table gives each of several pods its own memory? Only one does.",
        "A slice has its own resource name, so it needs no selector. The other two shapes have one name: only "
        "`nodeSelector` can tell them apart.",
        "`kubectl get nodes --show-labels` shows the label and its value while the node offers each shape.",
        "Write the selector as `nodeSelector: {nvidia.com/gpu.sharing-strategy: …}`, with the value that suits the situation.",
        "Have you done lab 02 already? Then vLLM holds the card, and every Job here waits. In the page's terminal "
        "(`Ctrl`+`` ` ``), `kubectl scale deployment vllm -n llm-system --replicas=0` frees it; `--replicas=1` brings vLLM "
        "back when you have finished.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 5 · Guarding the GPU

    A GPU node has CPUs and memory as well, and any pod may be placed there. When pods without a GPU fill the node, the
    card stays idle, because the pod that needs it gets no CPU or memory. A **taint** keeps out every pod that has no
    matching **toleration**. This page calls the taint `nvidia.com/gpu=present:NoSchedule` **the guard**.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_taint = nb.predict(
        "This cluster has one node. You taint it with `nvidia.com/gpu=present:NoSchedule`. "
        "What happens to cluster DNS, which runs on it and does not tolerate this taint?",
        {
            "evicted": "It is evicted at once, and names stop resolving",
            "later": "Nothing now; but when its pod is replaced, the new one stays Pending",
            "never": "Nothing, ever: system pods are exempt from taints",
        },
    )
    guess_taint
    return (guess_taint,)


@app.cell(hide_code=True)
def _(guess_taint):
    nb.reveal(
        guess_taint.value,
        truth="later",
        because="`NoSchedule` is checked when a pod is *placed*; only `NoExecute` evicts. So the harm comes later, when "
        "somebody restarts DNS and nobody remembers the taint. Taint a GPU node only if other nodes remain for all "
        "other pods. Here you set the taint for a minute, and remove it again.",
        instead={
            "evicted": "That is the effect `NoExecute`. This taint has the effect `NoSchedule`.",
            "never": "System pods are exempt only if they carry tolerations, and DNS carries none for this key.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **Your turn.** Raise the guard, then apply the two pods. `guest` must be kept out; `model-server` must be placed,
    and something is still missing for that. When you have seen both, take the guard down: `guest` is then placed
    without any change to it.
    """)
    return


@app.cell(hide_code=True)
def _(guard, lab):
    nb.guard_panel(lab, guard)
    return


@app.cell
def _():
    guard_yaml = """
    apiVersion: v1
    kind: Pod
    metadata: {name: guest, namespace: llm-workshop}
    spec:
      restartPolicy: Never
      containers:
      - {name: run, image: $TOOLBOX, command: [sleep, "1"]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: model-server, namespace: llm-workshop}
    spec:
      restartPolicy: Never
      tolerations: []
      containers:
      - name: run
        image: $TOOLBOX
        command: [sleep, "5"]
        resources:
          limits: {nvidia.com/gpu: 1}
    """
    return (guard_yaml,)


@app.cell(hide_code=True)
def _(guard_yaml, lab):
    lab.live(nb.preview, guard_yaml)
    return


@app.cell(hide_code=True)
def _(apply_guard, guard_yaml, lab):
    nb.apply_panel(lab, guard_yaml, apply_guard)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.pod_table, ("llm-workshop",), names=("guest", "model-server"))
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "guard")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "guard",
        "A toleration names the taint it tolerates: `key`, `operator`, `value` and `effect`.",
        "Replace `[]` with a list of one entry: `- key: nvidia.com/gpu`, then `operator: Exists` and the taint's effect.",
        "If `guest` ran at once, the guard was not up when it was created. Raise it, and apply again: pods are replaced.",
        "A toleration only *permits*. What brings a model server to a GPU node is its request; what brings it to a "
        "certain kind of GPU is a node selector.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 6 · The price of doing nothing

    A GPU is held from the moment a pod is placed until it ends, whether requests come or not. No other pod gets it,
    and you pay the same. Measure it: `idle-holder` takes the card and sleeps, `next-in-line` waits for it.

    **Your turn.** When `model-server` of part 5 has ended and the card is free, apply both, wait until `next-in-line` has
    waited for at least ten seconds, and then end the holder, by hand or with the button below.
    """)
    return


@app.cell
def _():
    idle_yaml = """
    apiVersion: v1
    kind: Pod
    metadata: {name: idle-holder, namespace: llm-workshop}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: run
        image: $TOOLBOX
        command: [sleep, "3600"]
        resources: {limits: {nvidia.com/gpu: 1}}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: next-in-line, namespace: llm-workshop}
    spec:
      restartPolicy: Never
      containers:
      - name: run
        image: $TOOLBOX
        command: [sleep, "1"]
        resources: {limits: {nvidia.com/gpu: 1}}
    """
    return (idle_yaml,)


@app.cell(hide_code=True)
def _(idle_yaml, lab):
    lab.live(nb.preview, idle_yaml)
    return


@app.cell(hide_code=True)
def _(apply_idle, idle_yaml, lab):
    nb.apply_panel(lab, idle_yaml, apply_idle)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **By hand.** While `next-in-line` waits, look into the pod that holds the card: what runs in it (`ps`), and what was it
    given (`NVIDIA_VISIBLE_DEVICES` in `env`)? The last lines of `describe` say what the other one waits for. Then end the
    holder with the fourth command. The last one shows that `next-in-line` is placed: nobody had to apply it again.
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    nb.by_hand(
        lab,
        r"""
        kubectl exec -n llm-workshop idle-holder -- ps
        kubectl exec -n llm-workshop idle-holder -- env
        kubectl describe pod next-in-line -n llm-workshop
        kubectl delete pod idle-holder -n llm-workshop
        kubectl get pod next-in-line -n llm-workshop
        """,
    )
    return


@app.cell(hide_code=True)
def _(lab, price):
    lab.live(draw_gpu.waiting_meter, "llm-workshop", "next-in-line", price.value)
    return


@app.cell(hide_code=True)
def _(lab, release):
    nb.delete_panel(lab, "Pod", "idle-holder", "llm-workshop", release)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "idle")
    return


@app.cell(hide_code=True)
def _(cards, price):
    mo.vstack(
        [
            mo.md("**The same, over a week.** Set the price of your cards and how many are held:"),
            mo.hstack([price, cards], justify="start", gap=2),
            draw_gpu.idle_cost_chart(price.value, cards.value),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **What to notice.** A quota does not free a card. It only limits how many can be held: one GPU in `llm-system`.
    Habits free cards: scaling down at night, a lifetime for experiments (`activeDeadlineSeconds`,
    `ttlSecondsAfterFinished`), a list of who holds what.
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "idle",
        "If `next-in-line` ran at once, nobody held the card, or the node offers several: part 4's picture shows it.",
        "The holder must be placed first. Apply again: both pods are replaced. If both of them wait, another pod holds the card: "
        "part 4's picture names it.",
        "`kubectl delete pod idle-holder -n llm-workshop` ends the holder, as does the button.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 7 · Hand over

    Lab 02 starts a model server in `llm-system`. It needs what you have built: the quota that admits it, and a
    whole card that no other pod holds. The experiments may stay in `llm-workshop`; finished and refused pods hold no
    GPU.
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "handover")
    return


@app.cell(hide_code=True)
def _(PARTS, lab):
    lab.live(nb.titled, "### The whole lab", nb.scoreboard, PARTS)
    return


@app.cell(hide_code=True)
def _():
    tick = nb.refresh()
    tick
    return (tick,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### Quiz: three events, and two decisions
    """)
    return


@app.cell(hide_code=True)
def _(QUESTIONS, answers):
    nb.quiz_board(answers, QUESTIONS)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### What you take along

    - **No pod at all**: admission. Look at the ReplicaSet. **Pending**: the scheduler. Look at the Pod.
    - A quota stops you at its tightest dimension, and ignores every resource name that it does not list.
    - Full GPU to explain latency, time-slicing to let many try, MIG when tenants must not harm each other.
    - Taint GPU nodes only if other nodes remain for all other pods.
    - An idle GPU costs as much as a busy one.

    **Next:** `course open 02`, where you run a model server.
    """)
    return


@app.cell(hide_code=True)
def _(answered, pressed, reconnect):
    # What marimo must not create anew when a cell above is edited.
    lab, acted = nb.open_page("01", reconnect.value, answered(), pressed=pressed)
    return acted, lab


@app.cell(hide_code=True)
def _():
    pressed = False  # `course solve` runs the solution with True: as if every button had been pressed
    return (pressed,)


@app.cell(hide_code=True)
def _():
    reconnect = mo.ui.run_button(label="Connect again")
    answered, cluster_answers = mo.state(None)
    apply_namespaces = nb.apply_button("Apply namespaces")
    apply_quota = nb.apply_button("Apply the quota")
    apply_greedy = nb.apply_button("Apply in both namespaces")
    apply_jobs = nb.apply_button("Apply the three Jobs")
    shapes = mo.ui.dictionary(
        {
            key: nb.apply_button(gpu.SHAPES[key].title, kind="neutral")
            for key in ("full", "mig", "time-slicing")
        }
    )
    guard = mo.ui.dictionary(
        {
            "up": nb.apply_button("Raise the guard", kind="warn"),
            "down": nb.apply_button("Take it down", kind="neutral"),
        }
    )
    apply_guard = nb.apply_button("Apply guest and model-server")
    apply_idle = nb.apply_button("Apply holder and next in line")
    release = nb.apply_button("End idle-holder", kind="danger")
    price = mo.ui.slider(0.5, 12, 0.5, value=2.5, label="price of a card, $ an hour", show_value=True)
    cards = mo.ui.slider(1, 8, 1, value=1, label="cards held", show_value=True)
    return (
        answered,
        apply_greedy,
        apply_guard,
        apply_idle,
        apply_jobs,
        apply_namespaces,
        apply_quota,
        cards,
        cluster_answers,
        guard,
        price,
        reconnect,
        release,
        shapes,
    )


@app.cell(hide_code=True)
def _(acted, lab, tick):
    nb.look(lab, tick, acted)
    return


@app.cell(hide_code=True)
def _():
    PARTS = (
        nb.Part("1 · Three namespaces", 8, ("namespaces",)),
        nb.Part("2 · A quota that adds up", 14, ("quota",)),
        nb.Part("3 · Who said no?", 12, ("refusal",)),
        nb.Part("4 · One card, three shapes", 22, ("shapes",)),
        nb.Part("5 · Guarding the GPU", 12, ("guard",)),
        nb.Part("6 · The price of doing nothing", 10, ("idle",)),
        nb.Part("7 · Hand over", 3, ("handover",)),
    )
    QUESTIONS = [
        nb.Question(
            '`Warning FailedCreate replicaset/vllm-5d9c: pods "vllm-5d9c-" is forbidden: exceeded quota: llm-system-quota, '
            "requested: limits.cpu=10, used: limits.cpu=4, limited: limits.cpu=12`",
            (
                nb.Option("Free a GPU", "The message names one dimension, and it is not the GPU."),
                nb.Option(
                    "Add a node",
                    "Admission does not look at nodes: the pod was never offered to the scheduler.",
                ),
                nb.Option(
                    "Make room in limits.cpu: raise the quota or lower a limit",
                    "4 in use and 10 requested make 14; the quota allows 12. Only this dimension is named, so no other one was exceeded.",
                    right=True,
                ),
            ),
        ),
        nb.Question(
            "`Warning FailedScheduling pod/vllm-5d9c-x7k: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu`. "
            "Somebody proposes a larger quota.",
            (
                nb.Option(
                    "It will not help: the quota has admitted the pod already",
                    "The pod exists, so admission said yes. What is missing is a free device on a node.",
                    right=True,
                ),
                nb.Option(
                    "It will help: a larger quota brings more GPUs",
                    "A quota is an upper limit; it does not add GPUs.",
                ),
                nb.Option(
                    "It will help, after the pod is deleted",
                    "A new pod would be admitted again, and would wait again.",
                ),
            ),
        ),
        nb.Question(
            "`Warning FailedScheduling pod/batch-1: 0/1 nodes are available: 1 node(s) had untolerated taint(s)`. The pod asks for no GPU.",
            (
                nb.Option(
                    "Add a toleration, so that it runs",
                    "It would run, and fill the node that the taint keeps for GPU work.",
                ),
                nb.Option(
                    "Keep the taint, and give the pod a node without one",
                    "The taint does what it is for. A node for all other pods is missing.",
                    right=True,
                ),
                nb.Option("Remove the GPU from the node", "The taint is the reason, not the GPU."),
            ),
        ),
        nb.Question(
            "A cluster switches to time-slicing with four replicas. The quota of `llm-system` stays at "
            "`requests.nvidia.com/gpu: 1`. What may the namespace hold now?",
            (
                nb.Option(
                    "A whole card, as before", "The node now advertises four of that name for one card."
                ),
                nb.Option(
                    "A share of one card, without memory of its own",
                    "The number is the same, but now means one of four replicas, and no part of the memory is reserved for it.",
                    right=True,
                ),
                nb.Option(
                    "Four shares of a card", "The quota counts what is advertised: one is one replica."
                ),
            ),
        ),
        nb.Question(
            "One card, twenty learners, one afternoon of short experiments, no confidential data. Which shape first?",
            (
                nb.Option("Full GPU", "One would run, and nineteen would wait."),
                nb.Option(
                    "MIG, seven slices",
                    "Thirteen would wait, and these experiments do not need isolation in hardware.",
                ),
                nb.Option(
                    "Time-slicing",
                    "Nobody waits long. Tell them beforehand that latency will vary, and that one crash may hit others.",
                    right=True,
                ),
            ),
        ),
    ]
    answers = nb.quiz(QUESTIONS)
    return PARTS, QUESTIONS, answers


if __name__ == "__main__":
    app.run()
