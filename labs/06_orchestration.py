import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="06 · Orchestration",
    css_file="../helpers/notebook/course.css",
)

with app.setup(hide_code=True):
    import hashlib
    import json
    from collections.abc import Callable

    import marimo as mo

    from helpers import notebook as nb
    from helpers.apps.orchestrator.decisions import Budget, Degradation, Failure, Message, Request
    from helpers.labs.lab06_orchestration import draw, draw_decisions


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 06 · Orchestration

    Two healthy backends do not make an answer. Somebody asks both, in the right order, in time, and says the right thing when
    one of them fails. In this lab that is `llm-orchestrator`: a service that is given, with its decisions left open. You write
    them: as small functions, as settings, as YAML. Then witnesses put it into trouble and keep what became of it.

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
    ## What one answer takes

    A question goes through four steps, and each has its own way to fail. After each step the thread is written to Redis.

    | step | asks | fails by |
    | --- | --- | --- |
    | **retrieve** | Qdrant, for the nearest passages | being slow, being away, finding nothing |
    | **assemble** | the engine's tokenizer, for what fits | a conversation that is longer than the window |
    | **generate** | vLLM | being slow, being full, refusing the prompt |
    | **record** | Redis | losing what was promised |

    The code is short and meant to be read: `helpers/apps/orchestrator/`, beginning with `graph.py`. Your decisions are mounted
    into its pods from ConfigMap `llm-orchestrator-decisions`, one file each; settings come from `llm-orchestrator-config`.
    """)
    return


@app.cell(hide_code=True)
def _():
    nb.layer_picture("orchestration")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    `course start 06` puts in place what this lab begins with: both backends, the documents of lab 03, keys, and a Redis as a
    prototype has it.
    """)
    return


@app.cell(hide_code=True)
def _(lab, place):
    nb.start_panel(lab, place)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 1 · Names and the one way in

    A colleague ran this service in `llm-system`, beside both backends. It belongs in `llm-apps`. These are its addresses.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_names = nb.predict(
        "A pod in `llm-apps` opens `http://vllm:8000`. What happens?",
        {
            "works": "It works: a Service's name is known in the whole cluster",
            "nothing": "The name is not found: there is no `vllm` in `llm-apps`",
            "policy": "The connection times out: a policy stops it",
        },
    )
    guess_names
    return (guess_names,)


@app.cell
def _():
    names_settings = """
    VLLM_BASE_URL: http://vllm:8000/v1
    QDRANT_BASE_URL: http://qdrant:6333
    REDIS_URL: redis://redis:6379
    """
    return (names_settings,)


@app.cell(hide_code=True)
def _(lab, names_settings):
    lab.live(draw.settings_preview, names_settings)
    return


@app.cell(hide_code=True)
def _(apply_names, lab, names_settings):
    draw.settings_panel(lab, names_settings, apply_names)
    return


@app.cell(hide_code=True)
def _(guess_names):
    nb.reveal(
        guess_names.value,
        truth="nothing",
        because="A bare name is completed with the caller's **own** namespace. In `llm-apps` that is `vllm.llm-apps.svc.cluster.local`, which nobody has made. No packet is sent.",
        instead={
            "works": "Names are looked up by namespace; another one must be named.",
            "policy": "No connection is opened: it ends in DNS, before any policy.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **By hand.** Ask as the application would: the bare name, then the full one. The exit code 6 means that the name was not found.
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    nb.by_hand(
        lab,
        r"""
        kubectl exec -n llm-apps probe-app -- curl -sS -m 3 http://vllm:8000/health
        kubectl exec -n llm-apps probe-app -- curl -sS -m 3 -w '%{http_code}\n' http://vllm.llm-system.svc.cluster.local:8000/health
        kubectl get pods -n llm-apps -l app=llm-orchestrator
        """,
    )
    return


@app.cell(hide_code=True)
def _(ask_it, lab):
    draw.ask_panel(lab, ask_it)
    return


@app.cell(hide_code=True)
def _(lab, see_answer):
    draw.witness_panel(lab, "answer", see_answer)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "entry")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "entry",
        "Which namespaces do the backends run in? `kubectl get services -A`.",
        "`NAME.NAMESPACE.svc.cluster.local`, in all three addresses; ports and paths stay as they are.",
        "The pods run another decision than the ConfigMap holds? Delivering replaces them; `kubectl rollout status deployment llm-orchestrator -n llm-apps` shows how far it is.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 2 · A budget is arithmetic

    A class says how long a whole answer may take: `fast` 12 s, `standard` 35 s, `background` 180 s. Before each step the
    service asks you how much of it this step may have. `left_ms` is what is left of the request. The function below gives
    each step all of it.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_budget = nb.predict(
        "Qdrant accepts the connection and then says nothing. Each hop may take all that is left. What does a caller of class `fast` get?",
        {
            "general": "After a moment an answer without documents",
            "late": "After 12 s an error: nothing was left for the model",
            "fine": "An answer: Qdrant is not needed for one",
        },
    )
    guess_budget
    return (guess_budget,)


@app.function
def hop_deadline_ms(budget: Budget, hop: str, left_ms: int) -> int:
    """How long this hop may take: "load", "retrieve", "assemble", "generate" or "record".

    Args:
        left_ms: what is left of the whole request's `budget.deadline_ms`.
    """
    return left_ms


@app.cell(hide_code=True)
def _():
    draw_decisions.budget_picture(hop_deadline_ms)
    return


@app.cell(hide_code=True)
def _(lab, to_budget):
    draw.decision_panel(lab, "budget", to_budget, hop_deadline_ms)
    return


@app.cell(hide_code=True)
def _(lab, see_budget):
    draw.witness_panel(lab, "budget", see_budget)
    return


@app.cell(hide_code=True)
def _(guess_budget):
    nb.reveal(
        guess_budget.value,
        truth="late",
        because="A backend that hangs is worse than one that is down: the refused connection costs nothing, the silent one costs all that you let it have.",
        instead={
            "general": "Only if somebody stops waiting in time. Nobody does.",
            "fine": "What to do without it is decided after the hop has ended. It has not.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "budget")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "budget",
        "The bars above are your function: whatever is red leaves too little for the hop after it.",
        "`generate` needs most of the time, `retrieve` a second or so.",
        "Fixed shares for the small hops; for `generate`, `left_ms` less what `record` still needs.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 3 · State that survives

    Redis as it runs now has neither a claim nor a log: its pod takes every thread along. Give it a claim of 1 GiB, a log that is
    written each second, and a bound on memory at which it refuses writes instead of forgetting threads.
    """)
    return


@app.cell
def _():
    redis_yaml = """
    apiVersion: apps/v1
    kind: StatefulSet
    metadata:
      name: redis
      namespace: llm-system
      labels: {app: redis}
    spec:
      replicas: 1
      serviceName: redis
      selector:
        matchLabels: {app: redis}
      template:
        metadata:
          labels: {app: redis}
        spec:
          enableServiceLinks: false
          automountServiceAccountToken: false
          terminationGracePeriodSeconds: 10
          securityContext:
            runAsNonRoot: true
            runAsUser: 999
            runAsGroup: 999
            fsGroup: 999
            seccompProfile: {type: RuntimeDefault}
          containers:
            - name: redis
              image: $REDIS
              args: [--dir, /data, --protected-mode, "no"]
              ports:
                - {name: redis, containerPort: 6379}
              readinessProbe:
                tcpSocket: {port: redis}
                periodSeconds: 2
              resources:
                requests: {cpu: 50m, memory: 64Mi}
                limits: {cpu: 500m, memory: 320Mi}
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities: {drop: [ALL]}
              volumeMounts:
                - {name: redis-data, mountPath: /data}
          volumes:
            - name: redis-data
              emptyDir: {}
    """
    return (redis_yaml,)


@app.cell(hide_code=True)
def _(lab, redis_yaml):
    lab.live(draw.redis_preview, redis_yaml)
    return


@app.cell(hide_code=True)
def _(apply_redis, lab, redis_yaml):
    draw.redis_panel(lab, redis_yaml, apply_redis)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Two settings decide what is in there: `DURABILITY` (when a step is written) and `THREAD_TTL_MINUTES` (when a thread ends; 0 means never).
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_durability = nb.predict(
        "`DURABILITY: exit`, and the pod dies in the middle of generation. What does the next pod find?",
        {
            "all": "The thread, with the documents that were retrieved: it goes on at generate",
            "question": "The question only: it retrieves again",
            "nothing": "Nothing: there is no such thread",
        },
    )
    guess_durability
    return (guess_durability,)


@app.cell
def _():
    state_settings = """
    DURABILITY: exit
    THREAD_TTL_MINUTES: "0"
    """
    return (state_settings,)


@app.cell(hide_code=True)
def _(lab, state_settings):
    lab.live(draw.settings_preview, state_settings)
    return


@app.cell(hide_code=True)
def _(apply_state, lab, state_settings):
    draw.settings_panel(lab, state_settings, apply_state)
    return


@app.cell(hide_code=True)
def _(guess_durability):
    nb.reveal(
        guess_durability.value,
        truth="nothing",
        because="`exit` writes once, when the graph has ended. It is fast, and what it saves is what would have been needed.",
        instead={
            "all": "That is `sync`.",
            "question": "Not even the question is there: nothing was written before the end.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw.threads)
    return


@app.cell(hide_code=True)
def _(lab, see_state):
    draw.witness_panel(lab, "state", see_state)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    The hard proof, a pod that dies while it generates and a Redis that goes away, is in part 9: it needs the right probes too.
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "state")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "state",
        "`state.store` asks Redis itself what it was started with: compare with `args`.",
        "The claim belongs in `volumeClaimTemplates`, with the name that `volumeMounts` uses; the `emptyDir` of that name goes.",
        "`sync`, and some minutes that are more than 0.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 4 · The same question twice

    A gateway gives up after 30 s and asks again. The first answer was ready after 32. Callers send an `Idempotency-Key`; you
    say what makes two requests the same one.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_twice = nb.predict(
        "Five equal requests arrive at once, with the same key. How many generations should there be?",
        {
            "five": "Five: each caller waits for an answer of their own",
            "one": "One: four of them wait for the first",
            "refuse": "One: the other four are refused",
        },
    )
    guess_twice
    return (guess_twice,)


@app.function
def idempotency_key(request: Request) -> str:
    """What two requests have in common when they are the same one.

    A request has `tenant`, `thread_id`, `key` (the caller's own), `question` and `request_id`.
    """
    return request.key + request.request_id


@app.cell(hide_code=True)
def _():
    draw_decisions.key_table(idempotency_key)
    return


@app.cell(hide_code=True)
def _(lab, to_idempotency):
    draw.decision_panel(lab, "idempotency", to_idempotency, idempotency_key)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    While one pod answers, it holds the key for `IDEMPOTENCY_LEASE_S` and renews that. When it dies, nobody renews.
    """)
    return


@app.cell
def _():
    lease_settings = """
    IDEMPOTENCY_LEASE_S: "86400"
    """
    return (lease_settings,)


@app.cell(hide_code=True)
def _(lab, lease_settings):
    lab.live(draw.settings_preview, lease_settings)
    return


@app.cell(hide_code=True)
def _(apply_lease, lab, lease_settings):
    draw.settings_panel(lab, lease_settings, apply_lease)
    return


@app.cell(hide_code=True)
def _(lab, see_again):
    draw.witness_panel(lab, "again", see_again)
    return


@app.cell(hide_code=True)
def _(guess_twice):
    nb.reveal(
        guess_twice.value,
        truth="one",
        because="The others wait for it, and all five get the same answer. Who comes later gets the stored one, without a generation.",
        instead={
            "five": "That is what happens below as it stands, and the engine works five times.",
            "refuse": "They did nothing wrong: the answer is on its way.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "again")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "again",
        "Which of the five fields differs between two tries of the same caller?",
        "Tenant, thread, key and question, in a form that keeps them apart.",
        "A lease is renewed while its owner lives: it only has to outlast a pause of the process, some seconds.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 5 · A window is finite

    A conversation grows, the model's window does not. `room` is what the prompt may have in tokens; `count` asks the engine
    itself how many a list of messages has. The passages of the documents were cut already; now it is the turns' turn.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_window = nb.predict(
        "A token is about four letters of English. How many tokens are the 11 characters `90210 45133`?",
        {
            "three": "About 3",
            "ten": "About 10: digits are nearly a token each",
            "one": "1 or 2: numbers are short",
        },
    )
    guess_window
    return (guess_window,)


@app.function
def trim(messages: list[Message], room: int, count: Callable[[list[Message]], int]) -> list[Message]:
    """The messages that go to the model, in their order; the first is the system's, the last is the question.

    A message is {"role": …, "content": …}.
    """
    kept, letters = [], 0
    for message in messages:
        letters += len(message["content"])
        if letters / 4 > room:  # about four letters are a token
            break
        kept.append(message)
    return kept


@app.cell(hide_code=True)
def _():
    draw_decisions.trim_picture(trim)
    return


@app.cell(hide_code=True)
def _(lab, to_window):
    draw.decision_panel(lab, "window", to_window, trim)
    return


@app.cell(hide_code=True)
def _(lab, see_window):
    draw.witness_panel(lab, "window", see_window)
    return


@app.cell(hide_code=True)
def _(guess_window):
    nb.reveal(
        guess_window.value,
        truth="ten",
        because="SmolLM2, like many models, takes digits one by one. Who counts letters sends a prompt that is refused with 400.",
        instead={
            "three": "For words. Try `count` of both.",
            "one": "Numbers look short, and are long.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "window")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "window",
        "The picture shows which messages your function keeps, of a conversation that is too long.",
        "`messages[:1]` is the system message, `messages[-1]` the question. Which of the others goes first?",
        "Take away the oldest turn until `count` says that the rest fits.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 6 · Who may be asked again

    The graph asks a backend again if you say so, up to twice in class `standard`. The client library below it retries too,
    unless it is told not to.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_retry = nb.predict(
        "The client asks up to three times (2 retries, its default), the graph up to twice. vLLM answers 503 to everything. How many requests does one question cost?",
        {
            "three": "3: the client's limit",
            "five": "5: three and two",
            "six": "6: three times two",
        },
    )
    guess_retry
    return (guess_retry,)


@app.function
def worth_a_retry(failure: Failure) -> bool:
    """Whether to ask the same backend once more.

    A failure has `kind` (unreachable, timed_out, overloaded, failed, context_exceeded, unsupported, model_missing, …),
    `backend`, `status` (None where there was no answer) and `attempt`, from 1.
    """
    return True


@app.cell(hide_code=True)
def _():
    draw_decisions.retry_table(worth_a_retry)
    return


@app.cell(hide_code=True)
def _(lab, to_retry):
    draw.decision_panel(lab, "retry", to_retry, worth_a_retry)
    return


@app.cell
def _():
    client_settings = """
    CLIENT_MAX_RETRIES: "2"
    """
    return (client_settings,)


@app.cell(hide_code=True)
def _(client_settings, lab):
    lab.live(draw.settings_preview, client_settings)
    return


@app.cell(hide_code=True)
def _(apply_client, client_settings, lab):
    draw.settings_panel(lab, client_settings, apply_client)
    return


@app.cell(hide_code=True)
def _(lab, see_retry):
    draw.witness_panel(lab, "retry", see_retry)
    return


@app.cell(hide_code=True)
def _(guess_retry):
    nb.reveal(
        guess_retry.value,
        truth="six",
        because="Each attempt of the graph is a call of the client, and the client makes three of each. The overloaded engine gets six times the load; with a third attempt it would be nine. One layer retries: here the graph, which knows the budget.",
        instead={
            "three": "The client makes three of each call of the graph's.",
            "five": "They multiply.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "retry")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "retry",
        "What would have to change for the same request to succeed? If only you can change it, do not ask again.",
        "4xx other than 429 says that the request is wrong.",
        "`CLIENT_MAX_RETRIES` is for the layer that knows nothing of your budget.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 7 · Degrade in the product's words

    Qdrant is away. A documentation assistant may answer from general knowledge if it says so; a compliance assistant may not
    answer at all; brainstorming may go on. One failure, three right answers.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_degrade = nb.predict(
        "Why does the answer carry the label in its metadata, and not in its text?",
        {
            "short": "The text would be too long",
            "program": "A program that shows, stores or counts answers can tell them apart",
            "model": "The model cannot write it",
        },
    )
    guess_degrade
    return (guess_degrade,)


@app.function
def degrade(failure: Failure, product: str) -> Degradation:
    """What to do without this backend: Degradation(kind, label).

    Args:
        product: "documentation", "compliance" or "brainstorming".

    Kinds: "refuse", "general_answer", "stored_answer", "continue". A label becomes the answer's `degraded.label`.
    """
    return Degradation("continue")


@app.cell(hide_code=True)
def _():
    draw_decisions.degrade_table(degrade)
    return


@app.cell(hide_code=True)
def _(lab, to_degrade):
    draw.decision_panel(lab, "degrade", to_degrade, degrade)
    return


@app.cell(hide_code=True)
def _(lab, see_degrade):
    draw.witness_panel(lab, "degrade", see_degrade)
    return


@app.cell(hide_code=True)
def _(guess_degrade):
    nb.reveal(
        guess_degrade.value,
        truth="program",
        because="Pages show a notice, caches leave it out, dashboards count it. A sentence in the text is lost at the first summary.",
        instead={
            "short": "A sentence would fit.",
            "model": "It often does, and nobody can rely on it.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "degrade")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "degrade",
        "The table shows your answer for each product and failure.",
        "Every kind but `refuse` needs a label: without one the answer looks like any other.",
        "`failure.backend` tells a missing Qdrant from a missing vLLM.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 8 · Break the circuit, shed the load

    A backend that fails five times in a row will fail the sixth time: leave it alone for some seconds, then let one request
    try. `circuit_of` says which calls share a breaker, `opens` when it opens.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_circuit = nb.predict(
        "Both backends share one breaker. Qdrant fails. What do callers of the brainstorming product get?",
        {
            "goes": "Answers without documents, as before",
            "stops": "Nothing: vLLM is not asked any more either",
            "slow": "Slower answers",
        },
    )
    guess_circuit
    return (guess_circuit,)


@app.function
def circuit_of(backend: str) -> str:
    """The name of the circuit that guards calls to this backend: "vllm" or "qdrant"."""
    return "backends"


@app.function
def opens(outcomes: list[bool]) -> bool:
    """Whether the circuit opens after these outcomes of its latest calls, the newest last; True is a success."""
    return outcomes.count(False) >= 5


@app.cell(hide_code=True)
def _():
    draw_decisions.circuit_picture(circuit_of, opens)
    return


@app.cell(hide_code=True)
def _(lab, to_circuit):
    draw.decision_panel(lab, "circuit", to_circuit, circuit_of, opens)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Behind the generation slots there is a queue. `admit` is asked for each request that would have to wait: `waiting` is how
    many of each tenant do so already, `limit` how many there may be in all.
    """)
    return


@app.function
def admit(tenant: str, waiting: dict[str, int], limit: int) -> bool:
    """Whether one more request of this tenant may wait; who may not hears 429 with Retry-After."""
    return True


@app.cell(hide_code=True)
def _():
    draw_decisions.admission_picture(admit)
    return


@app.cell(hide_code=True)
def _(lab, to_admission):
    draw.decision_panel(lab, "admission", to_admission, admit)
    return


@app.cell(hide_code=True)
def _(lab, see_pressure):
    draw.witness_panel(lab, "pressure", see_pressure)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw.pressure_chart)
    return


@app.cell(hide_code=True)
def _(guess_circuit):
    nb.reveal(
        guess_circuit.value,
        truth="stops",
        because="The breaker counts Qdrant's failures and stops calls to vLLM. Each backend needs its own.",
        instead={
            "goes": "They would, with a circuit for each backend.",
            "slow": "An open circuit answers at once: with an error.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "pressure")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "pressure",
        "Two names or one: what does `circuit_of` give for `vllm` and for `qdrant`?",
        "`outcomes[-5:]` are the five latest; `any` of them true means that the backend still answers now and then.",
        "A tenant's own share of `limit`, beside the limit for all.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 9 · Probes and the end

    The prototype's probes are the wrong way round, and its pods end too fast: the Service still sends requests to a pod that
    has begun to end. The service itself drains for up to 30 s (`DRAIN_DEADLINE_S`), if it is given that time.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_probes = nb.predict(
        "Liveness asks `/readyz`, which needs Redis. Redis is away for twenty seconds. What happens to the pods?",
        {
            "wait": "They wait, and are ready again when Redis is",
            "restart": "All of them are restarted, again and again",
            "nothing": "Nothing: liveness is about the process",
        },
    )
    guess_probes
    return (guess_probes,)


@app.cell
def _():
    rollout_yaml = """
    spec:
      strategy:
        rollingUpdate: {maxUnavailable: 1, maxSurge: 0}
      template:
        spec:
          terminationGracePeriodSeconds: 3
          containers:
            - name: llm-orchestrator
              readinessProbe:
                httpGet: {path: /livez, port: http}
                periodSeconds: 5
              livenessProbe:
                httpGet: {path: /readyz, port: http}
                periodSeconds: 5
                timeoutSeconds: 2
                failureThreshold: 2
              lifecycle: null
    """
    return (rollout_yaml,)


@app.cell(hide_code=True)
def _(lab, rollout_yaml):
    lab.live(draw.deployment_preview, rollout_yaml)
    return


@app.cell(hide_code=True)
def _(apply_rollout, lab, rollout_yaml):
    draw.deployment_panel(lab, rollout_yaml, apply_rollout)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Now the hard proof, for part 3 too. The witness asks without a pause while every pod is replaced; then it asks ten questions
    at once, and a pod is deleted in the middle; then Redis is away for twenty seconds. It takes two minutes.
    """)
    return


@app.cell(hide_code=True)
def _(lab, see_survive):
    draw.witness_panel(lab, "survive", see_survive)
    return


@app.cell(hide_code=True)
def _(guess_probes):
    nb.reveal(
        guess_probes.value,
        truth="restart",
        because="Ten seconds without Redis, and the kubelet kills every pod at the same time. When Redis is back, nobody is there to use it.",
        instead={
            "wait": "That is what readiness does.",
            "nothing": "It would be, if it asked about the process.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "end")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "end",
        "Two paths: `/livez` is about the process, `/readyz` about what it needs.",
        "A preStop `sleep` of some seconds keeps the process answering until no traffic comes any more.",
        "`maxUnavailable: 0` starts the new pod first; the grace period must outlast the preStop pause and 30 s of draining.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 10 · The gateway

    Callers come through Envoy. It knows API keys and makes a tenant of each (`docs`, `research`, `trial`), and it asks a
    counter what is left of the tenant's tokens. Its configuration below is a colleague's: it limits requests for each address,
    and lets everybody in when the counter does not answer in time.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_tokens = nb.predict(
        "A limit of 100 requests an hour. One caller asks for a word each time, another for a page. Who is limited?",
        {
            "both": "Both alike, though one costs a hundred times as much",
            "page": "The one who asks for pages",
            "none": "Nobody: 100 is enough",
        },
    )
    guess_tokens
    return (guess_tokens,)


@app.cell
def _():
    limits_yaml = """
    filter:
      timeout: 0.02s
      failure_mode_deny: false
    rate_limits:
      - actions: [{remote_address: {}}]
    """
    return (limits_yaml,)


@app.cell(hide_code=True)
def _(lab, limits_yaml):
    lab.live(draw.gateway_preview, limits_yaml)
    return


@app.cell(hide_code=True)
def _(apply_limits, lab, limits_yaml):
    draw.gateway_panel(lab, limits_yaml, apply_limits)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    A gateway guards nothing while there is a way round it. Write the policies of both ends: who reaches the orchestrator and
    Redis, and what the orchestrator itself may reach.
    """)
    return


@app.cell
def _():
    policies_yaml = """
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata:
      name: llm-orchestrator
      namespace: llm-apps
    spec:
      podSelector:
        matchLabels: {app: llm-orchestrator}
      policyTypes: [Ingress]
      ingress:
        - from:
            - namespaceSelector: {}
          ports:
            - {protocol: TCP, port: 8080}
    """
    return (policies_yaml,)


@app.cell(hide_code=True)
def _(lab, policies_yaml):
    lab.live(nb.preview, policies_yaml)
    return


@app.cell(hide_code=True)
def _(apply_policies, lab, policies_yaml):
    nb.apply_panel(lab, policies_yaml, apply_policies)
    return


@app.cell(hide_code=True)
def _(lab, see_gateway):
    draw.witness_panel(lab, "gateway", see_gateway)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw.tokens_chart)
    return


@app.cell(hide_code=True)
def _(guess_tokens):
    nb.reveal(
        guess_tokens.value,
        truth="both",
        because="A request is not what is scarce. The budget counts what an answer used, and a stream says it in its last event.",
        instead={
            "page": "The counter sees one request each time.",
            "none": "It is enough for both, and says nothing of their cost.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "gateway")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "gateway",
        "`remote_address` is who is connected: for all callers behind one proxy the same. Which header tells keys apart?",
        "Two limits: one before the answer that adds nothing, one on stream end that adds `%DYNAMIC_METADATA(llm:total_tokens)%`.",
        "Egress: DNS (UDP and TCP 53), vLLM 8000, Qdrant 6333, Redis 6379. Ingress of Redis: the orchestrator, the witnesses (`app: orchestrator-witness`) and the counter.",
    )
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

    - The deadline is made once, at the door, and handed inwards. No hop gets all of it.
    - What must survive is written before it is promised, and has an end.
    - One layer retries, only what time heals; what keeps failing is left alone.
    - A degraded answer says so where programs can read it. What it may say is the product's decision.
    - More orchestrator pods do not make more tokens: the queue belongs in front of what is scarce.
    """)
    return


@app.cell(hide_code=True)
def _(QUESTIONS, answers):
    nb.quiz_board(answers, QUESTIONS)
    return


@app.cell(hide_code=True)
def _(answered, pressed, reconnect):
    # What marimo must not create anew when a cell above is edited.
    lab, acted = nb.open_page("06", reconnect.value, answered(), pressed=pressed)
    return acted, lab


@app.cell(hide_code=True)
def _():
    pressed = False  # `course solve` runs the solution with True: as if every button had been pressed
    return (pressed,)


@app.cell(hide_code=True)
def _():
    reconnect = mo.ui.run_button(label="Connect again")
    answered, cluster_answers = mo.state(None)
    place = nb.apply_button("Put what this lab needs in place", kind="neutral")
    apply_names = nb.apply_button("Deliver the addresses")
    ask_it = nb.apply_button("Ask a question", kind="neutral")
    to_budget = nb.apply_button("Deliver the budget")
    apply_redis = nb.apply_button("Apply Redis")
    apply_state = nb.apply_button("Deliver both settings")
    to_idempotency = nb.apply_button("Deliver the key")
    apply_lease = nb.apply_button("Deliver the lease")
    to_window = nb.apply_button("Deliver the window")
    to_retry = nb.apply_button("Deliver the retries")
    apply_client = nb.apply_button("Deliver the client's setting")
    to_degrade = nb.apply_button("Deliver the degradation")
    to_circuit = nb.apply_button("Deliver the circuits")
    to_admission = nb.apply_button("Deliver the admission")
    apply_rollout = nb.apply_button("Apply probes and ending")
    apply_limits = nb.apply_button("Apply the gateway")
    apply_policies = nb.apply_button("Apply the policies of both ends")
    see_answer = draw.run_or_stop("Let a witness ask")
    see_budget = draw.run_or_stop("Let Qdrant be silent")
    see_state = draw.run_or_stop("Look into Redis")
    see_again = draw.run_or_stop("Ask five times at once")
    see_window = draw.run_or_stop("Talk too long")
    see_retry = draw.run_or_stop("Let vLLM fail")
    see_degrade = draw.run_or_stop("Take Qdrant away")
    see_pressure = draw.run_or_stop("Put it under pressure")
    see_survive = draw.run_or_stop("Survive all three")
    see_gateway = draw.run_or_stop("Spend a key's tokens")
    return (
        answered,
        apply_client,
        apply_lease,
        apply_limits,
        apply_names,
        apply_policies,
        apply_redis,
        apply_rollout,
        apply_state,
        ask_it,
        cluster_answers,
        place,
        reconnect,
        see_again,
        see_answer,
        see_budget,
        see_degrade,
        see_gateway,
        see_pressure,
        see_retry,
        see_state,
        see_survive,
        see_window,
        to_admission,
        to_budget,
        to_circuit,
        to_degrade,
        to_idempotency,
        to_retry,
        to_window,
    )


@app.cell(hide_code=True)
def _(acted, lab, tick):
    nb.look(lab, tick, acted)
    return


@app.cell(hide_code=True)
def _():
    PARTS = (
        nb.Part("1 · Names and the one way in", 12, ("entry",)),
        nb.Part("2 · A budget is arithmetic", 15, ("budget",)),
        nb.Part("3 · State that survives", 18, ("state",)),
        nb.Part("4 · The same question twice", 14, ("again",)),
        nb.Part("5 · A window is finite", 12, ("window",)),
        nb.Part("6 · Who may be asked again", 14, ("retry",)),
        nb.Part("7 · Degrade in the product's words", 12, ("degrade",)),
        nb.Part("8 · Break the circuit, shed the load", 18, ("pressure",)),
        nb.Part("9 · Probes and the end", 15, ("end",)),
        nb.Part("10 · The gateway", 20, ("gateway",)),
    )
    QUESTIONS = [
        nb.Question(
            "vLLM is saturated: answers take a minute. A colleague scales the orchestrator from 2 to 8 pods. What changes?",
            (
                nb.Option("Answers come faster", "The engine makes as many tokens as before."),
                nb.Option(
                    "More requests wait inside vLLM, and more of them run out of time",
                    "The limit belongs to the engine. Each new pod brings a semaphore of its own, and they add up.",
                    right=True,
                ),
                nb.Option("Nothing", "Eight pods let four times as many requests through to the engine."),
            ),
        ),
        nb.Question(
            "An answer is `200`, has no documents, and `degraded` is null. Qdrant was away. What is wrong?",
            (
                nb.Option(
                    "The status: it must be 503",
                    "A labelled general answer with 200 is right for some products.",
                ),
                nb.Option(
                    "The label: nobody can tell it from a grounded answer",
                    "Pages, caches and evaluations read the metadata, and not between the lines.",
                    right=True,
                ),
                nb.Option(
                    "Nothing: the user got an answer", "They got one that they believe more than they should."
                ),
            ),
        ),
        nb.Question(
            "A pod dies with a lease of 24 hours on a question. The caller tries again. What do they get?",
            (
                nb.Option("The answer: another pod takes over at once", "Only when the lease has lapsed."),
                nb.Option(
                    "“In progress”, for a day",
                    "A lock that outlives its owner is an outage for its key. Short leases that are renewed end with their owner.",
                    right=True,
                ),
                nb.Option(
                    "A second generation beside the first",
                    "The lease forbids that, long after there is no first one.",
                ),
            ),
        ),
        nb.Question(
            "Readiness asks vLLM and Qdrant with a real question. vLLM is slow for a minute. What do callers see?",
            (
                nb.Option("Slower answers", "No pod is ready, so nothing is answered at all."),
                nb.Option(
                    "Connection refused: every pod has left the Service",
                    "All pods ask the same backend and fail together. A queue and a deadline would have carried the minute.",
                    right=True,
                ),
                nb.Option("Nothing: the other pods take over", "They all ask the same vLLM."),
            ),
        ),
    ]
    answers = nb.quiz(QUESTIONS)
    return PARTS, QUESTIONS, answers


if __name__ == "__main__":
    app.run()
