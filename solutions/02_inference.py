import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="02 · The inference backend, solved",
    css_file="../helpers/notebook/course.css",
)

with app.setup(hide_code=True):
    import marimo as mo

    from helpers import notebook as nb
    from helpers.labs.lab02_inference import draw


@app.cell(hide_code=True)
def title():
    mo.md(r"""
    # 02 · The inference backend

    A model server is a process that needs seconds or minutes before it can say a word, holds the most expensive device you
    have, and answers for seconds at a time. Kubernetes knows nothing of this until you tell it.
    In this lab you bring a real vLLM into `llm-system`, keep it alive while it loads, ask it right and wrong questions,
    fill its queue, and replace it **without losing an answer**.

    *90 minutes. You change a live cluster, and what the cluster and the service do is what is graded.*
    """)
    return


@app.cell(hide_code=True)
def cluster_card(lab, reconnect):
    mo.vstack([lab.card(), reconnect])
    return


@app.cell(hide_code=True)
def layer_picture():
    nb.layer_picture(focus="inference")
    return


@app.cell(hide_code=True)
def serving_policy():
    mo.md(r"""
    ## 1 · Serving policy

    What a model promises its callers changes more often than its pod: the name they ask for, how long a conversation
    may be, how many are answered at once. It belongs in a ConfigMap, where a reviewer sees it change.

    The applications of the later labs ask for the model **`smollm2-135m-instruct`** (elsewhere: the name your cluster's
    profile shows). They send prompts of **up to 3,000 tokens** and want **up to 500** back.

    **Your turn.** A colleague's draft gets two of these promises wrong. The claim keeps the model's files, so that a
    restart does not fetch them again; the Service is the name that applications know. Both are fine as they are.
    """)
    return


@app.cell
def policy_yaml():
    policy_yaml = """
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: vllm-model-config, namespace: llm-system}
    data:
      MODEL_ID: $MODEL_ID
      SERVED_MODEL_NAME: $SERVED_MODEL
      MAX_MODEL_LEN: "4096"
      MAX_NUM_SEQS: "4"
      GPU_MEMORY_UTILIZATION: "0.88"
    ---
    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {name: vllm-model-cache, namespace: llm-system}
    spec:
      accessModes: [ReadWriteOnce]
      storageClassName: $STORAGE_CLASS
      resources: {requests: {storage: 2Gi}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: vllm, namespace: llm-system, labels: {app: vllm}}
    spec:
      selector: {app: vllm}
      ports:
      - {name: http, port: 8000, targetPort: http}
    """
    return (policy_yaml,)


@app.cell(hide_code=True)
def preview_policy_yaml(lab, live, policy_yaml):
    nb.preview(lab, policy_yaml, live)
    return


@app.cell(hide_code=True)
def apply_policy_yaml(apply_policy, lab, policy_yaml, pressed):
    nb.apply_panel(lab, policy_yaml, apply_policy, pressed=pressed)
    return


@app.cell(hide_code=True)
def why_policy_yaml():
    mo.md(r"""
    **Why so.** 3,000 tokens of prompt and 500 of answer need 3,500, and the chat template some thirty more; 4,096 is the
    next power of two. The cache holds 17,408 tokens, 17,408 / 4,096 = 4.25, so four sequences can grow to their full
    length together. `SERVED_MODEL_NAME` is the applications' word for the model, not the folder it lies in.
    """)
    return


@app.cell(hide_code=True)
def board_policy(live):
    nb.board(live, "policy")
    return


@app.cell(hide_code=True)
def hints_policy():
    nb.hints(
        "Prompt and answer share one context. Add them up, and leave a little for the chat template.",
        "`MAX_MODEL_LEN` is a string in a ConfigMap: keep the quotes. A power of two is customary, not needed.",
        "`SERVED_MODEL_NAME` is what callers write into their requests, letter by letter.",
    )
    return


@app.cell(hide_code=True)
def a_model_needs_time():
    mo.md(r"""
    ## 2 · A model needs time

    vLLM needs ten seconds or more here, minutes for a large model, before its port answers at all. The Deployment comes
    from `manifests/stack/vllm`; the fragment below is laid over it. A colleague wrote it who had only ever run web servers.
    It fails, and once that is cured it fails in another way: you will meet the two one after the other.
    """)
    return


@app.cell(hide_code=True)
def guess_start():
    guess_start = nb.predict(
        "You apply it as it stands. The Service `vllm` of part 1 exists already. What becomes of the first container?",
        {
            "ready": "It is slow, but in the end it is Ready",
            "killed": "The kubelet kills it before the model is loaded, again and again",
            "exits": "It ends by itself within seconds, before any probe has a say",
        },
    )
    guess_start
    return (guess_start,)


@app.cell
def start_yaml():
    start_yaml = """
    spec:
      template:
        spec:
          enableServiceLinks: false
          containers:
          - name: vllm
            startupProbe:
              httpGet: {path: /health, port: http}
              periodSeconds: 1
              timeoutSeconds: 2
              failureThreshold: 360
            livenessProbe:
              httpGet: {path: /health, port: http}
              periodSeconds: 30
              timeoutSeconds: 5
              failureThreshold: 3
            readinessProbe:
              httpGet: {path: /health, port: http}
              periodSeconds: 2
    """
    return (start_yaml,)


@app.cell(hide_code=True)
def start_panel(COLLEAGUE, apply_start, lab, objects, pressed, start_yaml):
    draw.deployment_panel(lab, objects, [COLLEAGUE, start_yaml], apply_start, pressed=pressed)
    return


@app.cell(hide_code=True)
def start_timeline(apply_start, lab, pressed):
    draw.start_timeline(lab, asked=apply_start.value, pressed=pressed)
    return


@app.cell(hide_code=True)
def crash_panel(lab, live):
    draw.crash_panel(lab, live)
    return


@app.cell(hide_code=True)
def guess_start_answer(guess_start):
    nb.reveal(
        guess_start.value,
        truth="exits",
        because="The Service is named `vllm`, so the kubelet puts `VLLM_PORT=tcp://10.…:8000` into every container of the "
        "namespace, and `VLLM_PORT` is a setting of vLLM itself. It ends with an error that says so, is started again, and "
        "ends again, with longer and longer pauses. The exit code of that first end is its own. (Later ends may look otherwise: the panel shows the latest.)",
        instead={
            "ready": "Look at the restarts. This does not heal with time.",
            "killed": "A kubelet kills what fails its liveness probe, and this fragment has none. Look at the exit code.",
        },
    )
    return


@app.cell(hide_code=True)
def task_the_first_fault():
    mo.md(r"""
    **Your turn: the first fault.** Nobody needs the variables of service links, since names are found by DNS: switch
    them off in the fragment above. A process that hangs must not go unnoticed either, says your colleague, and brings
    this probe. Put it where `livenessProbe: null` stands:

    ```yaml
            livenessProbe:
              httpGet: {path: /health, port: http}
              periodSeconds: 1
              failureThreshold: 3
    ```
    """)
    return


@app.cell(hide_code=True)
def guess_liveness():
    guess_liveness = nb.predict(
        "Service links are off, and the probe is in. You apply it. What becomes of the container now?",
        {
            "ready": "It is Ready, as soon as the model is loaded",
            "killed": "The kubelet kills it before the model is loaded, again and again",
            "unready": "It loads; the failed probes only keep traffic away meanwhile",
        },
    )
    guess_liveness
    return (guess_liveness,)


@app.cell(hide_code=True)
def guess_liveness_answer(guess_liveness):
    nb.reveal(
        guess_liveness.value,
        truth="killed",
        because="Liveness asks every second, hears nothing three times, and gives up: the kubelet ends a "
        "process that was loading quite properly. The next one begins from nothing and gets no further. "
        "**An exit code that the process chose, or `Killing` in the events: that tells the two faults apart.**",
        instead={
            "ready": "It never gets that far: three seconds are all it is given.",
            "unready": "That is what a *readiness* probe does. A liveness probe knows one remedy only.",
        },
    )
    return


@app.cell(hide_code=True)
def task_the_second_fault():
    mo.md(r"""
    **Your turn: the second fault.** Give a load **at least two minutes**, and yet notice a dead process within five. One
    probe cannot do both. Edit the fragment and apply it, as often as you need, until the model is served. Watch the time
    line: **Running** is about a process; traffic comes with **Ready**, and only then.
    """)
    return


@app.cell(hide_code=True)
def board_start(live):
    nb.board(live, "start")
    return


@app.cell(hide_code=True)
def hints_start():
    nb.hints(
        "`enableServiceLinks` stands in the pod's spec, beside `containers`.",
        "A `startupProbe` has the same form as the others. Until it has passed once, the other two are not asked.",
        "Its budget is `periodSeconds` × `failureThreshold`. A short period notices a quick start at once; "
        "a high threshold grants patience.",
        "`null` in a fragment removes a key. Put your startup probe in its place, with `httpGet` on `/health`.",
    )
    return


@app.cell(hide_code=True)
def cache_panel(lab, live):
    mo.vstack(
        [
            mo.md(
                "**The model cache.** An init container fills the claim from an image that carries the model's files "
                "(on a cluster with a hub: vLLM downloads them there). Only the first pod has to; what did this one find?"
            ),
            draw.cache_panel(lab, live),
        ]
    )
    return


@app.cell(hide_code=True)
def what_it_serves_and_what_it():
    mo.md(r"""
    ## 3 · What it serves, and what it refuses

    vLLM speaks the OpenAI protocol. A client must tell two kinds of failure apart: those that may pass, and those that
    never will.
    """)
    return


@app.cell(hide_code=True)
def guess_retry():
    guess_retry = nb.predict(
        "An application asks for a model name with a typing error, and retries four times with exponential back-off. "
        "What does it gain?",
        {
            "later": "Time: the model may be loaded by then",
            "nothing": "Nothing: the answer is final, and the users wait for it four times as long",
            "other": "Another pod may serve that name",
        },
    )
    guess_retry
    return (guess_retry,)


@app.cell(hide_code=True)
def ask_panel(ask, lab, pressed):
    draw.ask_panel(lab, ask, pressed=pressed)
    return


@app.cell(hide_code=True)
def guess_retry_answer(guess_retry):
    nb.reveal(
        guess_retry.value,
        truth="nothing",
        because="404 says what is served and what is not; 400 says what is wrong with the request. Both are answers, and "
        "they will be the same in a minute. Refused connections, time-outs and 503 are *no* answers: a pod is starting, "
        "ending, or gone. Those may pass, and lab 05 retries exactly those.",
        instead={
            "later": "A model that is still loading refuses the connection: there is nobody to say 404.",
            "other": "A selector decides who is behind a Service, and two templates can share its labels, as a canary does. Here there is one.",
        },
    )
    return


@app.cell(hide_code=True)
def the_context_is_a_budget():
    mo.md(r"""
    **The context is a budget.** Prompt, chat template and answer share it. The server counts with its own tokenizer
    (`POST /tokenize`); beyond the budget it refuses with 400, before it computes anything.
    """)
    return


@app.cell(hide_code=True)
def context_panel(answer_tokens, ask, lab, prompt):
    mo.vstack([prompt, answer_tokens, draw.context_panel(lab, prompt.value, answer_tokens.value, ask.value)])
    return


@app.cell(hide_code=True)
def the_kv_cache():
    mo.md(r"""
    **The KV cache is the other budget.** Every token of every conversation that is being answered occupies a place in
    it. Below are the figures of *your* ConfigMap, in part 1. Where the worst case overruns the cache, vLLM admits
    requests all the same, and under load it throws some out and computes them again.

    **Your turn.** Go back to part 1 and lower `MAX_NUM_SEQS`, until the worst case fits. Apply it.
    """)
    return


@app.cell(hide_code=True)
def kv_picture(lab, policy_yaml):
    draw.kv_picture(lab, policy_yaml)
    return


@app.cell(hide_code=True)
def board_serving(live):
    nb.board(live, "serving")
    return


@app.cell(hide_code=True)
def guess_config():
    guess_config = nb.predict(
        "The ConfigMap in the cluster now says something else than when the pod started. What does the running server do?",
        {
            "reload": "It reads the new values within a minute: the kubelet updates ConfigMaps",
            "restart": "Kubernetes restarts the pod",
            "keeps": "It keeps the old values, until somebody replaces the pod",
        },
    )
    guess_config
    return (guess_config,)


@app.cell(hide_code=True)
def guess_config_answer(guess_config):
    nb.reveal(
        guess_config.value,
        truth="keeps",
        because="Environment is read once, when the process starts. Nobody watches it: not the kubelet, not the Deployment. "
        "The ConfigMap and the process now disagree, silently, until the next node failure applies your change for you.",
        instead={
            "reload": "That holds for ConfigMaps mounted as files, and only if the process reads them again.",
            "restart": "A Deployment replaces pods when its *pod template* changes. A ConfigMap is not part of it.",
        },
    )
    return


@app.cell(hide_code=True)
def hints_serving():
    nb.hints(
        "The product must not exceed what the cache holds. At least four callers come at once.",
        "If `draw.model` falls short: the name or the context of the *process* differ from the ConfigMap. "
        "Part 4 is about how the change gets there.",
    )
    return


@app.cell(hide_code=True)
def rolling_out_losing_nothing():
    mo.md(r"""
    ## 4 · Rolling out, losing nothing

    Your new policy has to reach the process, so the pod must be replaced. A colleague proposes the fragment below and
    calls it a zero-downtime rollout.
    """)
    return


@app.cell(hide_code=True)
def guess_roll():
    guess_roll = nb.predict(
        "One GPU, one pod that holds it, `maxSurge: 1`, `maxUnavailable: 0`. What happens?",
        {
            "smooth": "The new pod starts beside the old one, then the old one goes",
            "stuck": "The new pod cannot come into being while the old one lives, and the old one waits for the new one",
            "swap": "The old pod goes first, the new one follows",
        },
    )
    guess_roll
    return (guess_roll,)


@app.cell
def rollout_yaml():
    rollout_yaml = """
    spec:
      strategy: {type: Recreate}
      template:
        metadata:
          annotations: {checksum/config: $CONFIG_CHECKSUM}
        spec:
          terminationGracePeriodSeconds: 60
          containers:
          - name: vllm
            lifecycle: {preStop: {sleep: {seconds: 5}}}
            env:
            - {name: SHUTDOWN_TIMEOUT_S, value: "40"}
    """
    return (rollout_yaml,)


@app.cell(hide_code=True)
def rollout_panel(
    COLLEAGUE,
    apply_rollout,
    lab,
    objects,
    pressed,
    rollout_yaml,
    start_yaml,
):
    draw.deployment_panel(lab, objects, [COLLEAGUE, start_yaml, rollout_yaml], apply_rollout, pressed=pressed)
    return


@app.cell(hide_code=True)
def rollout_timeline(apply_rollout, lab, pressed):
    draw.start_timeline(lab, asked=apply_rollout.value, pressed=pressed)
    return


@app.cell(hide_code=True)
def event_table(lab, live):
    nb.event_table(
        lab, ("llm-system",), live, reasons=("FailedCreate", "ScalingReplicaSet", "Killing"), last=5
    )
    return


@app.cell(hide_code=True)
def guess_roll_answer(guess_roll):
    nb.reveal(
        guess_roll.value,
        truth="stuck",
        because="The quota admits one GPU and the old pod has it: `FailedCreate … exceeded quota`. (Without a quota: "
        "`Pending`, Insufficient nvidia.com/gpu.) The old pod goes on serving, so callers notice nothing; after 600 s the Deployment says `ProgressDeadlineExceeded`, and goes on trying. "
        "With one GPU something has to give: `Recreate`, or a rolling update that does not surge.",
        instead={
            "smooth": "For that the namespace would need two GPUs for a minute.",
            "swap": "That is what `Recreate` does. This strategy forbids it: `maxUnavailable` is 0.",
        },
    )
    return


@app.cell(hide_code=True)
def task_edit_the_fragment_so():
    mo.md(r"""
    **Your turn.** Edit the fragment, so that

    1. the old pod's GPU is given up before the new pod asks for one;
    2. a change of the ConfigMap *is* a change of the pod template: annotation `checksum/config`, with the value
       `$CONFIG_CHECKSUM` (this page puts in the sum of the ConfigMap in the cluster; in a terminal:
       `kubectl get configmap vllm-model-config -n llm-system -o jsonpath='{.data}' | sha256sum`);
    3. no answer in flight is lost. An ending pod is told so in three steps: its **preStop** hook runs, while endpoints
       are withdrawn; then SIGTERM, and vLLM takes no new requests but finishes the old ones, for up to its
       `--shutdown-timeout` (here the variable `SHUTDOWN_TIMEOUT_S`); when the **grace period** is over, SIGKILL.

    Apply it with the button above. An ending pod lives by the template **it was started from**: this first rollout still
    ends a pod that knows nothing of your care, and would lose what is in flight.

    Then prove the third. The button below starts a **witness** in `llm-apps`, four answers of some ten seconds, and
    replaces the pod as soon as all four are in flight.
    """)
    return


@app.cell(hide_code=True)
def drain_panel(
    COLLEAGUE,
    drain_now,
    lab,
    objects,
    pressed,
    rollout_yaml,
    start_yaml,
    watched,
):
    # `watched` comes first, so that its time line sees the old pod go.
    draw.drain_panel(lab, objects, [COLLEAGUE, start_yaml, rollout_yaml], drain_now, watched, pressed=pressed)
    return


@app.cell(hide_code=True)
def watched(drain_now, lab):
    watched = draw.start_timeline(lab, asked=drain_now.value)
    watched
    return (watched,)


@app.cell(hide_code=True)
def why_rollout_yaml():
    mo.md(r"""
    **Why so.** `Recreate` ends the old pod first: the GPU, and the quota with it, are free when the new one asks. The
    checksum makes the ConfigMap's content part of the template. Five seconds of preStop are plenty for endpoints to be
    withdrawn everywhere, forty for the longest answer, and sixty contain both with fifteen to spare.
    """)
    return


@app.cell(hide_code=True)
def board_rollout(live):
    nb.board(live, "rollout")
    return


@app.cell(hide_code=True)
def hints_rollout():
    nb.hints(
        "`strategy: {type: Recreate}` takes no `rollingUpdate` beside it.",
        "A pause before SIGTERM needs no shell: `lifecycle: {preStop: {sleep: {seconds: …}}}`.",
        "Grace period ≥ preStop + shutdown time-out + a few seconds. The longest answer takes some twenty seconds.",
        "If answers were broken off although your figures are right: was the pod that ended started with them? "
        "Run the witness once more.",
        "The witness runs once per press. `kubectl logs job/drain-witness -n llm-apps` is its testimony.",
    )
    return


@app.cell(hide_code=True)
def notice_rolling_out_losing_nothing():
    mo.md(r"""
    **What to notice.** Nothing was lost, and yet there was a gap: between the old pod's last answer and the new pod's
    first, the Service had no endpoint, and callers were refused. With one GPU that gap is the price; a client that
    retries refused connections hides it, and one that retries 404 makes it worse.

    ## 5 · The queue nobody sees

    `MAX_NUM_SEQS` callers are answered together; whoever comes beyond that waits.
    """)
    return


@app.cell(hide_code=True)
def guess_queue():
    guess_queue = nb.predict(
        "Twelve clients at once, four sequences admitted. Against a single client, what changes most?",
        {
            "tokens": "Tokens per second of all together: they fall, since the clients share one engine",
            "first": "The time to the first token: most of it is waiting",
            "errors": "Errors: eight clients are refused",
        },
    )
    guess_queue
    return (guess_queue,)


@app.cell(hide_code=True)
def load_panel(lab, measure, pressed):
    draw.load_panel(lab, measure, pressed=pressed)
    return


@app.cell(hide_code=True)
def guess_queue_answer(guess_queue):
    nb.reveal(
        guess_queue.value,
        truth="first",
        because="Batching makes all together *faster*: one pass through the weights serves every sequence in the batch. "
        "Beyond the batch nobody is refused and nobody is told; requests wait, and only the time to first token and "
        "`vllm:num_requests_waiting` show it. CPU and GPU look equally busy with four clients and with forty: "
        "that is why an autoscaler of model servers follows the queue.",
        instead={
            "tokens": "Look at the left chart: one client alone leaves most of the engine idle.",
            "errors": "vLLM's queue has no end of its own. The clients' time-outs are its limit.",
        },
    )
    return


@app.cell(hide_code=True)
def board_queue(live):
    nb.board(live, "queue")
    return


@app.cell(hide_code=True)
def what_a_smoke_test_proves():
    mo.md(r"""
    ## 6 · What a smoke test proves

    Everything above proves that the service *works*: the right name, a context that holds, no lost answers. It does not
    prove that an answer is true. A model of 135 million parameters will tell you fluent nonsense, and every check here
    stays green. Whether answers are good enough is a **quality gate**: other questions, with known answers, judged by
    other means. Keep the two apart, and never let one stand in for the other.
    """)
    return


@app.cell(hide_code=True)
def whole_lab(live, tick, titles):
    mo.vstack([mo.md("### The whole lab"), nb.scoreboard(live, titles), tick])
    return


@app.cell(hide_code=True)
def quiz_board(QUESTIONS, answers):
    mo.vstack([mo.md("### Quiz"), nb.quiz_board(answers, QUESTIONS)])
    return


@app.cell(hide_code=True)
def what_you_take_along():
    mo.md(r"""
    ### What you take along

    - **Running is not Ready.** Endpoints decide who gets traffic; phases are for people.
    - A startup probe buys the time a model needs; liveness stays strict, and begins afterwards.
    - A ConfigMap changes nothing by itself. The checksum in the template makes a change of policy a rollout.
    - With one GPU a rollout has a gap. What can be kept is every answer that was begun: preStop, shutdown time-out, grace.
    - 4xx is an answer; no connection is none. Retry the second, and of the first only 429 and 408, after a pause.
    - The queue is invisible except in its own metrics.

    **Next:** `course open 03`, the memory.
    """)
    return


@app.cell(hide_code=True)
def lab(reconnect):
    # Plumbing: what marimo must not create anew when a cell above is edited.
    lab = draw.serving_session(nb.open_lab("02", reconnect.value))
    objects = draw.vllm_objects(lab)
    return lab, objects


@app.cell(hide_code=True)
def COLLEAGUE():
    # What the colleague left out of the Deployment of manifests/stack/vllm: everything about an orderly end.
    COLLEAGUE = """
    spec:
      template:
        metadata: {annotations: {checksum/config: null}}
        spec:
          terminationGracePeriodSeconds: 30
          containers:
          - {name: vllm, lifecycle: null, env: [{name: SHUTDOWN_TIMEOUT_S, value: "0"}]}
    """
    return (COLLEAGUE,)


@app.cell(hide_code=True)
def pressed():
    pressed = False  # `course solve` runs the solution with True: as if every button had been pressed
    return (pressed,)


@app.cell(hide_code=True)
def controls():
    reconnect = mo.ui.run_button(label="Connect again")
    tick = nb.refresh("10s")
    apply_policy = nb.apply_button("Apply the policy")
    apply_start = nb.apply_button("Apply the Deployment")
    apply_rollout = nb.apply_button("Apply the rollout")
    drain_now = nb.apply_button("Start the witness, then replace the pod")
    ask = nb.apply_button("Ask", kind="neutral")
    measure = nb.apply_button("Measure 1, 4 and 12 clients", kind="neutral")
    prompt = mo.ui.text_area("What does a Kubernetes Service do?", label="prompt", full_width=True)
    answer_tokens = mo.ui.slider(16, 4096, 16, value=512, label="tokens for the answer", show_value=True)
    return (
        answer_tokens,
        apply_policy,
        apply_rollout,
        apply_start,
        ask,
        drain_now,
        measure,
        prompt,
        reconnect,
        tick,
    )


@app.cell(hide_code=True)
def live_grade(
    apply_policy,
    apply_rollout,
    apply_start,
    drain_now,
    lab,
    measure,
    tick,
):
    live = nb.grade_now(lab, tick, apply_policy, apply_start, apply_rollout, drain_now, measure)
    return (live,)


@app.cell(hide_code=True)
def titles_and_quiz():
    titles = {
        "policy": "1 · Serving policy",
        "start": "2 · A model needs time",
        "serving": "3 · What it serves, and what it refuses",
        "rollout": "4 · Rolling out, losing nothing",
        "queue": "5 · The queue nobody sees",
    }
    QUESTIONS = [
        nb.Question(
            "The pod of vLLM is Running for ten minutes; requests are refused. `kubectl get endpointslices` lists no address. "
            "Where do you look first?",
            (
                nb.Option("At the prompt: it may be too long", "Then there would be an answer: 400."),
                nb.Option(
                    "At the readiness probe and the pod's events",
                    "No address means not Ready, and the events name the probe that fails and what it got.",
                    right=True,
                ),
                nb.Option(
                    "At the Service's type", "A Service of any type has endpoints once a pod is ready."
                ),
            ),
        ),
        nb.Question(
            "Every 31 seconds: `Killing … failed liveness probe, will be restarted`. The log ends in the middle of loading weights.",
            (
                nb.Option(
                    "More memory", "The kernel's killer leaves reason OOMKilled; this was the kubelet."
                ),
                nb.Option(
                    "A longer liveness period",
                    "It would let the model load, and later leave a dead process alone just as long.",
                ),
                nb.Option(
                    "A startup probe with the patience a load needs",
                    "It holds the other probes back until the model has answered once, and then steps aside.",
                    right=True,
                ),
            ),
        ),
        nb.Question(
            "preStop sleeps 5 s, `--shutdown-timeout` is 40 s, `terminationGracePeriodSeconds` is 30. An answer needs 33 s more.",
            (
                nb.Option(
                    "It is lost: SIGKILL comes 30 s after the deletion",
                    "The grace period counts from the deletion and includes preStop. vLLM never gets its 40 s.",
                    right=True,
                ),
                nb.Option(
                    "It is finished: 33 is less than 40",
                    "The grace period is the outer limit, and it is shorter.",
                ),
                nb.Option("It is finished: preStop is added to the grace period", "It runs inside it."),
            ),
        ),
        nb.Question(
            "Latency has doubled. GPU use is where it always was. Which figure tells whether you need another replica?",
            (
                nb.Option("GPU use", "A batch of two keeps a GPU as busy as a batch of sixteen."),
                nb.Option(
                    "`vllm:num_requests_waiting`, with the KV cache's use",
                    "Requests that wait for a place are what another replica would take.",
                    right=True,
                ),
                nb.Option(
                    "The number of pods that are Ready",
                    "That tells how many serve, not how many callers wait.",
                ),
            ),
        ),
    ]
    answers = nb.quiz(QUESTIONS)
    return QUESTIONS, answers, titles


if __name__ == "__main__":
    app.run()
