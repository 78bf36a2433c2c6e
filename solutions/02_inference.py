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

    A model server needs seconds or minutes before it can answer, holds the most expensive device you have, and works on
    each answer for seconds. Kubernetes knows none of this until you tell it.
    In this lab you run a real vLLM in `llm-system`, keep it alive while it loads, send it valid and invalid requests,
    fill its queue, and replace it **without losing an answer**.

    *90 minutes. You change a live cluster; what the cluster and the service do is graded. `kubectl` is in the page's
    terminal, which `Ctrl`+`` ` `` opens.*
    """)
    return


@app.cell(hide_code=True)
def bar(PARTS, lab):
    lab.live(nb.bar, PARTS)
    return


@app.cell(hide_code=True)
def cluster_card(cluster_answers, lab, reconnect):
    nb.connection_card(lab, reconnect, cluster_answers)
    return


@app.cell(hide_code=True)
def place_panel(lab, place):
    mo.vstack(
        [
            mo.md(
                "Lab 01 leaves two namespaces and a quota. If they or the images are missing, this button brings them; what is there stays as it is."
            ),
            nb.start_panel(lab, place),
        ]
    )
    return


@app.cell(hide_code=True)
def layer_picture():
    nb.layer_picture(focus="inference")
    return


@app.cell(hide_code=True)
def serving_policy():
    mo.md(r"""
    ## 1 · Serving policy

    Some settings are promises to callers: the name they ask for, how long a conversation may be, how many are answered
    at once. These change more often than the pod does. They belong in a ConfigMap, where a reviewer sees each change.

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
def preview_policy_yaml(lab, policy_yaml):
    lab.live(nb.preview, policy_yaml)
    return


@app.cell(hide_code=True)
def apply_policy_yaml(apply_policy, lab, policy_yaml):
    nb.apply_panel(lab, policy_yaml, apply_policy)
    return


@app.cell(hide_code=True)
def why_policy_yaml():
    mo.md(r"""
    **Why so.** 3,000 tokens of prompt and 500 of answer need 3,500, and the chat template some thirty more; 4,096 is the
    next power of two. The cache holds 17,408 tokens, 17,408 / 4,096 = 4.25, so four sequences can grow to their full
    length together. `SERVED_MODEL_NAME` is the name that applications use for the model, not the folder that holds it.
    """)
    return


@app.cell(hide_code=True)
def board_policy(lab):
    lab.live(nb.board, "policy")
    return


@app.cell(hide_code=True)
def hints_policy(lab):
    lab.live(
        nb.task_hints,
        "policy",
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
    from `manifests/stack/vllm`; the fragment below is merged into it. Its author only ever ran web servers. It has
    two faults; fixing the first reveals the second.
    """)
    return


@app.cell(hide_code=True)
def guess_start():
    guess_start = nb.predict(
        "You apply it unchanged. The Service `vllm` of part 1 exists already. What happens to the first container?",
        {
            "ready": "It is slow, but in the end it is Ready",
            "killed": "The kubelet kills it before the model is loaded, again and again",
            "exits": "It ends by itself within seconds, before any probe matters",
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
def start_preview(COLLEAGUE, lab, objects, start_yaml):
    lab.live(draw.deployment_preview, objects, [COLLEAGUE, start_yaml])
    return


@app.cell(hide_code=True)
def start_panel(COLLEAGUE, apply_start, lab, objects, start_yaml):
    draw.deployment_panel(lab, objects, [COLLEAGUE, start_yaml], apply_start)
    return


@app.cell(hide_code=True)
def start_timeline(apply_start, lab):
    draw.start_timeline(lab, apply_start)
    return


@app.cell(hide_code=True)
def crash_panel(lab):
    lab.live(draw.crash_panel)
    return


@app.cell(hide_code=True)
def guess_start_answer(guess_start):
    nb.reveal(
        guess_start.value,
        truth="exits",
        because="The Service is named `vllm`, so the kubelet puts `VLLM_PORT=tcp://10.…:8000` into every container of the "
        "namespace, and `VLLM_PORT` is a setting of vLLM itself. It exits with an error that says so, is started again, and "
        "exits again, with longer and longer pauses. Nobody else ended it: that first exit code is vLLM's own. (Later exits may differ; the panel shows the latest.)",
        instead={
            "ready": "Look at the restarts. Waiting does not help here.",
            "killed": "The kubelet kills a container that fails its liveness probe, but this fragment has no such probe. Look at the exit code.",
        },
    )
    return


@app.cell(hide_code=True)
def task_the_first_fault():
    mo.md(r"""
    **Your turn: the first fault.** Nobody needs the variables of service links, because DNS finds Services by name: switch
    them off in the fragment above. Your colleague also wants to notice a process that hangs, and gives you this probe.
    Put it in place of `livenessProbe: null`:

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
        "Service links are off, and the probe is in. You apply it. What happens to the container now?",
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
        because="The liveness probe asks every second. After three failures the kubelet kills a process that was loading "
        "as it should. The next one starts from nothing and gets no further. "
        "**Look for `Killing` in the events to tell the two faults apart: with it, the kubelet killed the process; without it, the process exited by itself.**",
        instead={
            "ready": "It never gets that far: it has only three seconds.",
            "unready": "That is what a *readiness* probe does. A failed liveness probe always restarts the container.",
        },
    )
    return


@app.cell(hide_code=True)
def task_the_second_fault():
    mo.md(r"""
    **Your turn: the second fault.** Allow **at least two minutes** for loading, but notice a process that hangs within
    five. One probe cannot do both. Edit the fragment and apply it, as often as you need, until the model is served. Watch
    the time line: **Running** only means that a process runs; traffic comes when the pod is **Ready**.
    """)
    return


@app.cell(hide_code=True)
def board_start(lab):
    lab.live(nb.board, "start")
    return


@app.cell(hide_code=True)
def hints_start(lab):
    lab.live(
        nb.task_hints,
        "start",
        "`enableServiceLinks` belongs in the pod's spec, beside `containers`.",
        "A `startupProbe` has the same form as the others. Until it has passed once, the other two do not run.",
        "Its budget is `periodSeconds` × `failureThreshold`. A short period notices a quick start at once; "
        "a high threshold allows a slow one.",
        "`null` in a fragment removes a key. Put your startup probe in its place, with `httpGet` on `/health`.",
    )
    return


@app.cell(hide_code=True)
def cache_panel(lab):
    lab.live(
        nb.titled,
        "**The model cache.** An init container fills the claim from an image that carries the model's files "
        "(where a model hub can be reached, vLLM downloads them instead). Only the first pod has to do so. What did this one find?",
        draw.cache_panel,
    )
    return


@app.cell(hide_code=True)
def what_it_serves_and_what_it():
    mo.md(r"""
    ## 3 · What it serves, and what it refuses

    vLLM speaks the OpenAI protocol. A client must tell two kinds of failure apart: those that may pass when it tries
    again, and those that never will.
    """)
    return


@app.cell(hide_code=True)
def guess_retry():
    guess_retry = nb.predict(
        "An application asks for a misspelled model name, and retries four times with exponential back-off. "
        "What does it gain?",
        {
            "later": "Time: the model may be loaded by then",
            "nothing": "Nothing: the answer stays the same, and users only wait longer for it",
            "other": "Another pod may serve that name",
        },
    )
    guess_retry
    return (guess_retry,)


@app.cell(hide_code=True)
def ask_panel(ask, lab):
    draw.ask_panel(lab, ask)
    return


@app.cell(hide_code=True)
def guess_retry_answer(guess_retry):
    nb.reveal(
        guess_retry.value,
        truth="nothing",
        because="404 says that this model is not served; 400 says what is wrong with the request. Both answers will be "
        "the same in a minute. Refused connections, time-outs and 503 mean that *nothing* answered: a pod is starting, "
        "ending, or gone. Those may pass, and in lab 05 you retry them.",
        instead={
            "later": "While a model is loading, connections are refused: nothing is there yet that could answer 404.",
            "other": "A Service sends requests to every pod that its selector finds. Those can differ, as in a canary; here there is one template.",
        },
    )
    return


@app.cell(hide_code=True)
def ask_by_hand():
    mo.md(r"""
    **By hand.** This page reaches vLLM through the API server, as `kubectl port-forward` does: no network policy stops it.
    An application asks from a pod, by the Service's name. Put a pod with curl into `llm-apps`, and do the same: ask
    what is served (`id` and `max_model_len`), and then a question of two words.
    """)
    return


@app.cell(hide_code=True)
def preview_client(lab):
    lab.live(nb.preview, nb.client_yaml())
    return


@app.cell(hide_code=True)
def apply_the_client(apply_client, lab):
    nb.apply_panel(lab, nb.client_yaml(), apply_client)
    return


@app.cell(hide_code=True)
def guess_tokens():
    guess_tokens = nb.predict(
        "“Say hello.” is two words and a full stop. What does `usage.prompt_tokens` in the answer say?",
        {
            "three": "3: what you wrote, and nothing else",
            "template": "Some thirty: the server puts something around it",
            "whole": "As much as `max_model_len`: a request reserves the whole context",
        },
    )
    guess_tokens
    return (guess_tokens,)


@app.cell(hide_code=True)
def by_hand_serving(lab):
    nb.by_hand(
        lab,
        r"""
        kubectl wait -n llm-apps pod/curl-client --for=condition=Ready --timeout=90s
        kubectl exec -n llm-apps curl-client -- curl -sS http://vllm.llm-system.svc.cluster.local:8000/v1/models
        kubectl exec -n llm-apps curl-client -- curl -sS http://vllm.llm-system.svc.cluster.local:8000/v1/chat/completions -H 'Content-Type: application/json' -d '{"model": "$SERVED_MODEL", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}'
        """,
    )
    return


@app.cell(hide_code=True)
def guess_tokens_answer(guess_tokens):
    nb.reveal(
        guess_tokens.value,
        truth="template",
        because="The chat template puts a system prompt, roles and marks around each message. The model reads all of it, and all "
        "of it counts against `MAX_MODEL_LEN`: this is the little room that part 1 asks for. Look at `finish_reason` too: "
        "`length` means that `max_tokens` broke the answer off, `stop` that the model ended it.",
        instead={
            "three": "That is what a completion of plain text would count. A chat is put into a template first.",
            "whole": "Only what is read and written takes places in the cache. The context is the limit of both together.",
        },
    )
    return


@app.cell(hide_code=True)
def the_context_is_a_budget():
    mo.md(r"""
    **The context is a budget.** Prompt, chat template and answer share it. The server counts with its own tokenizer
    (`POST /tokenize`); a request that needs more is refused with 400, before anything is computed.
    """)
    return


@app.cell(hide_code=True)
def context_panel(answer_tokens, ask, lab, prompt):
    mo.vstack([prompt, answer_tokens, draw.context_panel(lab, prompt.value, answer_tokens.value, ask.value)])
    return


@app.cell(hide_code=True)
def the_kv_cache():
    mo.md(r"""
    **The KV cache is the other budget.** Every token of every conversation that is being answered takes a place in it.
    The figures below are those of *your* ConfigMap in part 1. If the worst case is larger than the cache, vLLM still
    admits the requests, but under load it removes some from the cache and computes them again.

    **Your turn.** Go back to part 1 and lower `MAX_NUM_SEQS`, until the worst case fits. Apply it.
    """)
    return


@app.cell(hide_code=True)
def kv_picture(lab, policy_yaml):
    lab.live(draw.kv_picture, policy_yaml)
    return


@app.cell(hide_code=True)
def board_serving(lab):
    lab.live(nb.board, "serving")
    return


@app.cell(hide_code=True)
def guess_config():
    guess_config = nb.predict(
        "The ConfigMap in the cluster has changed since the pod started. What does the running server do?",
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
        because="Environment variables are set once, when the container starts. Neither the kubelet nor the Deployment watches "
        "them. The ConfigMap and the process now disagree, without any message, until something else replaces the pod, "
        "for example a node failure.",
        instead={
            "reload": "That holds for ConfigMaps mounted as files, and only if the process reads them again.",
            "restart": "A Deployment replaces pods when its *pod template* changes. A ConfigMap is not part of it.",
        },
    )
    return


@app.cell(hide_code=True)
def hints_serving(lab):
    lab.live(
        nb.task_hints,
        "serving",
        "The product must not exceed what the cache holds. At least four callers come at once.",
        "If `vllm.model` falls short, the *process* has another name or context than the ConfigMap. "
        "Part 4 shows how the change gets there.",
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
            "stuck": "The new pod cannot be created while the old one runs, and the old one waits for the new one",
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
def rollout_preview(COLLEAGUE, lab, objects, rollout_yaml, start_yaml):
    lab.live(draw.deployment_preview, objects, [COLLEAGUE, start_yaml, rollout_yaml])
    return


@app.cell(hide_code=True)
def rollout_panel(
    COLLEAGUE,
    apply_rollout,
    lab,
    objects,
    rollout_yaml,
    start_yaml,
):
    draw.deployment_panel(
        lab, objects, [COLLEAGUE, start_yaml, rollout_yaml], apply_rollout, first=[COLLEAGUE, start_yaml]
    )
    return


@app.cell(hide_code=True)
def rollout_timeline(apply_rollout, lab):
    draw.start_timeline(lab, apply_rollout)
    return


@app.cell(hide_code=True)
def event_table(lab):
    lab.live(
        nb.event_table, ("llm-system",), reasons=("FailedCreate", "ScalingReplicaSet", "Killing"), last=5
    )
    return


@app.cell(hide_code=True)
def guess_roll_answer(guess_roll):
    nb.reveal(
        guess_roll.value,
        truth="stuck",
        because="The quota admits one GPU and the old pod has it: `FailedCreate … exceeded quota`. (Without a quota: "
        "`Pending`, Insufficient nvidia.com/gpu.) The old pod goes on serving, so callers notice nothing; after 600 s the Deployment reports `ProgressDeadlineExceeded`, and goes on trying. "
        "With one GPU there are two ways out: `Recreate`, or a rolling update that does not surge.",
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

    1. the old pod frees its GPU before the new pod asks for one;
    2. a change of the ConfigMap *is* a change of the pod template: annotation `checksum/config`, with the value
       `$CONFIG_CHECKSUM` (this page fills in the checksum of the ConfigMap in the cluster; in a terminal:
       `kubectl get configmap vllm-model-config -n llm-system -o jsonpath='{.data}' | sha256sum`);
    3. no answer in flight is lost. A pod ends in three steps. First its **preStop** hook runs, while its address
       is removed from the endpoints. Then comes SIGTERM: vLLM takes no new requests but finishes the old ones, for up to
       its `--shutdown-timeout` (here the variable `SHUTDOWN_TIMEOUT_S`). When the **grace period** is over, SIGKILL.

    Apply it with the button above. A pod ends by the settings **it was started with**: this first rollout still ends a
    pod without your new settings, and would lose answers in flight.

    Then prove point 3. The button below starts a **witness** in `llm-apps`: a Job that asks for four answers of some ten
    seconds each. As soon as all four are in flight, the pod is replaced.
    """)
    return


@app.cell(hide_code=True)
def drain_panel(
    COLLEAGUE,
    drain_now,
    lab,
    objects,
    rollout_yaml,
    start_yaml,
    watched,
):
    # `watched` comes first, so that its time line sees the old pod go.
    draw.drain_panel(lab, objects, [COLLEAGUE, start_yaml, rollout_yaml], drain_now, watched)
    return


@app.cell(hide_code=True)
def watched(drain_now, lab):
    watched = draw.start_timeline(lab, drain_now, by_hand=True)
    watched
    return (watched,)


@app.cell(hide_code=True)
def why_rollout_yaml():
    mo.md(r"""
    **Why so.** `Recreate` ends the old pod first: the GPU, and the quota with it, are free when the new one asks. The
    checksum makes the ConfigMap's content part of the template. Five seconds of preStop are enough to remove the
    endpoint everywhere, forty are enough for the longest answer, and sixty cover both with fifteen to spare.
    """)
    return


@app.cell(hide_code=True)
def board_rollout(lab):
    lab.live(nb.board, "rollout")
    return


@app.cell(hide_code=True)
def hints_rollout(lab):
    lab.live(
        nb.task_hints,
        "rollout",
        "`strategy: {type: Recreate}` takes no `rollingUpdate` beside it.",
        "A pause before SIGTERM needs no shell: `lifecycle: {preStop: {sleep: {seconds: …}}}`.",
        "Grace period ≥ preStop + shutdown time-out + a few seconds. The longest answer takes some twenty seconds.",
        "If answers were broken off although your figures are right: was the pod that ended started with them? "
        "Run the witness once more.",
        "The witness runs once per press. `kubectl logs job/drain-witness -n llm-apps` shows what it got.",
    )
    return


@app.cell(hide_code=True)
def notice_rolling_out_losing_nothing():
    mo.md(r"""
    **What to notice.** Nothing was lost, and yet there was a gap: between the old pod's last answer and the new pod's
    first, the Service had no endpoint, and callers were refused. With one GPU you cannot avoid that gap. A client
    that retries refused connections hides it.

    ## 5 · The queue nobody sees

    `MAX_NUM_SEQS` requests are answered together; all others wait.
    """)
    return


@app.cell(hide_code=True)
def guess_queue():
    guess_queue = nb.predict(
        "Twelve clients ask at once; four sequences are admitted. What changes most, compared with a single client?",
        {
            "tokens": "Tokens per second of all together: they fall, because the clients share one engine",
            "first": "The time to the first token: most of it is waiting",
            "errors": "Errors: eight clients are refused",
        },
    )
    guess_queue
    return (guess_queue,)


@app.cell(hide_code=True)
def load_panel(lab, measure):
    draw.load_panel(lab, measure)
    return


@app.cell(hide_code=True)
def guess_queue_answer(guess_queue):
    nb.reveal(
        guess_queue.value,
        truth="first",
        because="Batching makes all together *faster*: one pass through the weights serves every sequence in the batch. "
        "Requests beyond the batch are not refused. They wait, and only the time to first token and "
        "`vllm:num_requests_waiting` show it. CPU and GPU look equally busy with four clients and with forty: "
        "that is why an autoscaler for model servers should follow the queue.",
        instead={
            "tokens": "Look at the left chart: one client alone leaves most of the engine idle.",
            "errors": "vLLM's queue has no limit of its own. Only the clients' time-outs end the wait.",
        },
    )
    return


@app.cell(hide_code=True)
def board_queue(lab):
    lab.live(nb.board, "queue")
    return


@app.cell(hide_code=True)
def what_a_smoke_test_proves():
    mo.md(r"""
    ## 6 · What a smoke test proves

    Everything above proves that the service *works*: the right name, a context that is long enough, no lost answers. It
    does not prove that an answer is true. A model of 135 million parameters writes fluent nonsense, and every check here
    stays green. A **quality gate** tests whether answers are good enough: with other questions, known answers and other
    measures. Keep the two apart; neither replaces the other.
    """)
    return


@app.cell(hide_code=True)
def whole_lab(PARTS, lab):
    lab.live(nb.titled, "### The whole lab", nb.scoreboard, PARTS)
    return


@app.cell(hide_code=True)
def look_again():
    tick = nb.refresh("10s")
    tick
    return (tick,)


@app.cell(hide_code=True)
def quiz_board(QUESTIONS, answers):
    mo.vstack([mo.md("### Quiz"), nb.quiz_board(answers, QUESTIONS)])
    return


@app.cell(hide_code=True)
def what_you_take_along():
    mo.md(r"""
    ### What you take along

    - **Running is not Ready.** Endpoints decide which pod gets traffic; its phase does not.
    - A startup probe gives a model time to load; liveness stays strict, and begins afterwards.
    - A changed ConfigMap restarts no pod. The checksum in the template turns the change into a rollout.
    - With one GPU a rollout has a gap. But every answer that was begun can be finished: preStop, shutdown time-out, grace.
    - Retry refused connections, time-outs and 503. Of the 4xx answers retry only 408 and 429, after a pause.
    - Only its own metrics show the queue.

    **Next:** `course open 03`, the memory.
    """)
    return


@app.cell(hide_code=True)
def lab(answered, pressed, reconnect):
    # What marimo must not create anew when a cell above is edited.
    _lab, acted = nb.open_page("02", reconnect.value, answered(), pressed=pressed)
    lab = draw.serving_session(_lab)
    objects = draw.vllm_objects(lab)
    return acted, lab, objects


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
def buttons():
    reconnect = mo.ui.run_button(label="Connect again")
    answered, cluster_answers = mo.state(None)
    place = nb.apply_button("Put what this lab needs in place", kind="neutral")
    apply_policy = nb.apply_button("Apply the policy")
    apply_start = nb.apply_button("Apply the Deployment")
    apply_rollout = nb.apply_button("Apply the rollout")
    drain_now = nb.apply_button("Start the witness, then replace the pod")
    ask = nb.apply_button("Ask", kind="neutral")
    measure = nb.apply_button("Measure 1, 4 and 12 clients", kind="neutral")
    apply_client = nb.apply_button("Apply curl-client", kind="neutral")
    prompt = mo.ui.text_area("What does a Kubernetes Service do?", label="prompt", full_width=True)
    answer_tokens = mo.ui.slider(16, 4096, 16, value=512, label="tokens for the answer", show_value=True)
    return (
        answer_tokens,
        answered,
        apply_client,
        apply_policy,
        apply_rollout,
        apply_start,
        ask,
        cluster_answers,
        drain_now,
        measure,
        place,
        prompt,
        reconnect,
    )


@app.cell(hide_code=True)
def look(acted, lab, tick):
    nb.look(lab, tick, acted)
    return


@app.cell(hide_code=True)
def parts_and_quiz():
    PARTS = (
        nb.Part("1 · Serving policy", 10, ("policy",)),
        nb.Part("2 · A model needs time", 22, ("start",)),
        nb.Part("3 · What it serves, and what it refuses", 12, ("serving",)),
        nb.Part("4 · Rolling out, losing nothing", 22, ("rollout",)),
        nb.Part("5 · The queue nobody sees", 12, ("queue",)),
        nb.Part("6 · What a smoke test proves", 4),
    )
    QUESTIONS = [
        nb.Question(
            "The pod of vLLM has been Running for ten minutes; requests are refused. `kubectl describe endpointslices` shows its address with `Ready: false`. "
            "Where do you look first?",
            (
                nb.Option("At the prompt: it may be too long", "Then there would be an answer: 400."),
                nb.Option(
                    "At the readiness probe and the pod's events",
                    "An address that is not ready gets no traffic, and the events name the probe that fails and what it got.",
                    right=True,
                ),
                nb.Option("At the Service's type", "A Service of any type sends its traffic to ready pods."),
            ),
        ),
        nb.Question(
            "Every 31 seconds: `Killing … failed liveness probe, will be restarted`. The log ends in the middle of loading weights.",
            (
                nb.Option(
                    "More memory",
                    "Without enough memory the reason would be OOMKilled; here the kubelet's probe killed it.",
                ),
                nb.Option(
                    "A longer liveness period",
                    "The model would load, but a process that hangs later would go unnoticed just as long.",
                ),
                nb.Option(
                    "A startup probe that allows the time a load needs",
                    "The other probes wait until it has passed once; after that it does not run any more.",
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
            "Latency has doubled. GPU use has not changed. Which figure tells whether you need another replica?",
            (
                nb.Option("GPU use", "A batch of two keeps a GPU as busy as a batch of sixteen."),
                nb.Option(
                    "`vllm:num_requests_waiting`, with the KV cache's use",
                    "Another replica would take the requests that wait.",
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
    return PARTS, QUESTIONS, answers


if __name__ == "__main__":
    app.run()
