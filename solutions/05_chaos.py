import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="05 · Chaos, solved",
    css_file="../helpers/notebook/course.css",
)

with app.setup(hide_code=True):
    import random
    import threading
    import time

    import httpx
    import marimo as mo

    from helpers import notebook as nb
    from helpers.chaos.backoff import judge
    from helpers.chaos.experiment import run
    from helpers.chaos.faults import CAUSES, LAYERS, fault
    from helpers.chaos.gameday import answer_manifest, game_day
    from helpers.chaos.herd import herd
    from helpers.chaos.steps import Step, carry_out
    from helpers.labs.lab05_chaos import draw
    from helpers.settings import REPOSITORY
    from helpers.stack.backoff import BackendUnavailable


@app.cell(hide_code=True)
def title():
    mo.md(r"""
    # 05 · Chaos

    Something broke. Users saw errors, a dashboard turned red, somebody restarted everything, and afterwards nobody knows
    the cause. In this lab you break your stack on purpose, one thing at a time, and write down what each side saw: the
    client, the Service, the pod, the cluster. Then you write the code that survives it.

    *100 minutes. The experiments leave journals in the cluster, and these are graded. Each entry is sealed, so that an
    edited journal is noticed. It makes no difference whether you start an experiment here or with `course experiment` in
    the page's terminal, which `Ctrl`+`` ` `` opens.*
    """)
    return


@app.cell(hide_code=True)
def solved_note():
    mo.md(r"""
    *The same page with every exercise solved, and why. `course solve 05` runs it with its buttons pressed.*
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
def the_shape_of_an_experiment():
    mo.md(r"""
    ## The shape of an experiment

    1. **Steady state.** Both backends have a ready endpoint, every pod is Ready. If that is not so, the experiment does not start.
    2. **The undo is written to disk.** Nothing is broken before that.
    3. **The fault**, while two clients in `llm-apps` keep calling four times a second, one for inference, one for retrieval.
    4. **The undo, always**: also after Ctrl-C. After a `kill -9` or a lost API server, `course recover` does it.
    5. **Steady state again**, and a journal: clients, endpoints, pods, events.

    Experiments change only the lab's own namespaces; some faults of a game day also cordon the node, or mark its simulated
    GPU as unhealthy. On a fresh cluster, put the backends in place first.
    """)
    return


@app.cell(hide_code=True)
def probes_panel(lab, place):
    nb.start_panel(lab, place)
    return


@app.cell(hide_code=True)
def the_model_server_goes_away():
    mo.md(r"""
    ## 1 · The model server goes away
    """)
    return


@app.cell(hide_code=True)
def guess_vllm():
    guess_vllm = nb.predict(
        "vLLM's only pod is deleted. A new one is *Running* three seconds later. When do clients get answers again?",
        {
            "running": "As soon as the pod is Running",
            "ready": "When the model is loaded and the readiness probe has passed: much later",
            "never": "Not before somebody restarts the clients: their connections point at the old pod",
        },
    )
    guess_vllm
    return (guess_vllm,)


@app.cell(hide_code=True)
def done_vllm(lab, vllm):
    done_vllm = draw.experiment_panel(
        lab,
        ("delete-vllm",),
        vllm,
        {"delete-vllm": lambda cluster, **options: run(cluster, fault("delete-vllm"), **options)},
    )
    done_vllm
    return (done_vllm,)


@app.cell(hide_code=True)
def guess_vllm_answer(guess_vllm):
    nb.reveal(
        guess_vllm.value,
        truth="ready",
        because="Running means that a process exists. The Service sends traffic only when the pod is **Ready**, and the endpoints' lane shows the "
        "difference: while the model loads, no traffic goes there. Meanwhile retrieval is served without a gap: it is another layer.",
        instead={
            "running": "Compare the pod's lane with the endpoints' lane: the pod is there long before it is ready.",
            "never": "Clients call the Service, not the pod. It sends them to whichever pod is ready.",
        },
    )
    return


@app.cell(hide_code=True)
def board_inference(lab):
    lab.live(nb.board, "inference")
    return


@app.cell(hide_code=True)
def watch_by_hand():
    mo.md(r"""
    **By hand.** The experiment looked for you. When it has ended, do it yourself: delete vLLM's pod, and ask both sides,
    Kubernetes and a client. The first command returns when the old pod is gone. If the second lists no address yet, type
    it again. Type the others while the model loads. The last one asks the layer that nobody touched.
    """)
    return


@app.cell(hide_code=True)
def guess_slice():
    guess_slice = nb.predict(
        "vLLM's new pod runs, and is loading its model. What does `kubectl get endpointslices` list for the Service?",
        {
            "nothing": "No address: the pod is not Ready",
            "listed": "The new pod's address",
            "old": "The old pod's address, until the new one is Ready",
        },
    )
    guess_slice
    return (guess_slice,)


@app.cell(hide_code=True)
def by_hand_inference(lab):
    nb.by_hand(
        lab,
        r"""
        kubectl delete pod -n llm-system -l app=vllm
        kubectl get endpointslices -n llm-system -l kubernetes.io/service-name=vllm
        kubectl describe endpointslices -n llm-system -l kubernetes.io/service-name=vllm
        kubectl exec -n llm-apps probe-app -- curl -sS -m 3 http://vllm.llm-system.svc.cluster.local:8000/health
        kubectl exec -n llm-apps probe-app -- curl -sS -m 3 http://qdrant.llm-system.svc.cluster.local:6333/readyz
        """,
    )
    return


@app.cell(hide_code=True)
def guess_slice_answer(guess_slice):
    nb.reveal(
        guess_slice.value,
        truth="listed",
        because="An EndpointSlice lists every pod that the selector finds, with conditions beside each address, and `kubectl get` "
        "leaves these out. `describe` shows `Ready: false`: no traffic goes there, and the client is refused. So an address "
        "in this list does not mean that somebody is served.",
        instead={
            "nothing": "That is what the older `kubectl get endpoints` shows: only addresses that are ready.",
            "old": "The old pod's address leaves the list with the pod.",
        },
    )
    return


@app.cell(hide_code=True)
def the_memory_goes_away():
    mo.md(r"""
    ## 2 · The memory goes away
    """)
    return


@app.cell(hide_code=True)
def guess_qdrant():
    guess_qdrant = nb.predict(
        "Now Qdrant's pod is deleted. What does a client see that asks **vLLM directly**, without retrieval?",
        {
            "fails": "Errors too: the stack is one system",
            "slower": "Slower answers: vLLM waits for the documents",
            "same": "The same as before",
        },
    )
    guess_qdrant
    return (guess_qdrant,)


@app.cell(hide_code=True)
def done_qdrant(done_vllm, lab, qdrant):
    mo.stop(lab.pressed and done_vllm is None)
    done_qdrant = draw.experiment_panel(
        lab,
        ("delete-qdrant",),
        qdrant,
        {"delete-qdrant": lambda cluster, **options: run(cluster, fault("delete-qdrant"), **options)},
    )
    done_qdrant
    return (done_qdrant,)


@app.cell(hide_code=True)
def guess_qdrant_answer(guess_qdrant):
    nb.reveal(
        guess_qdrant.value,
        truth="same",
        because="vLLM does not know of Qdrant. The *application* asks first one and then the other, so a user may see an error, but the layer "
        "that failed is memory: restarting vLLM would stop a layer that works, for ten seconds "
        "or more here and for minutes with a large model.",
        instead={
            "fails": "The inference client's lane has no red.",
            "slower": "The two never talk to each other. The application puts documents into a prompt.",
        },
    )
    return


@app.cell(hide_code=True)
def board_memory(lab):
    lab.live(nb.board, "memory")
    return


@app.cell(hide_code=True)
def name_the_layer():
    mo.md(r"""
    ## 3 · Name the layer

    Write down the findings of both experiments, as in an incident report: the **layer** that failed (`substrate`,
    `inference`, `memory` or `network`), the **symptom** in the client's own word (hold the pointer over a red bar), and the
    layer that was **unaffected**.
    """)
    return


@app.cell
def findings_yaml(done_qdrant, done_vllm, lab):
    findings_yaml = draw.findings(
        lab,
        {
            "delete-vllm": {"layer": "inference", "unaffected": "memory"},
            "delete-qdrant": {"layer": "memory", "unaffected": "inference"},
        },
        done_vllm,
        done_qdrant,
    )
    mo.ui.code_editor(findings_yaml, language="yaml", disabled=True)
    return (findings_yaml,)


@app.cell(hide_code=True)
def preview_findings_yaml(findings_yaml, lab):
    lab.live(draw.diagnosis_preview, findings_yaml)
    return


@app.cell(hide_code=True)
def apply_findings_yaml(apply_findings, findings_yaml, lab):
    nb.apply_panel(lab, findings_yaml, apply_findings)
    return


@app.cell(hide_code=True)
def why_findings_yaml():
    mo.md(r"""
    **Why.** The symptom is what the client reported. With no ready endpoint kube-proxy rejects the connection, so *refused* is the
    usual word; some attempts time out instead. The solution takes it from the journal, as you take it from the picture.
    """)
    return


@app.cell(hide_code=True)
def board_attribution(lab):
    lab.live(nb.board, "attribution")
    return


@app.cell(hide_code=True)
def hints_attribution(lab):
    lab.live(
        nb.task_hints,
        "attribution",
        "The client's word is one of: refused, timeout, reset, dns, or `HTTP` with a number. Any word that is in the journal is right.",
        "The layer is named after the backend that was replaced; unaffected is the layer of the lane without red.",
    )
    return


@app.cell(hide_code=True)
def the_caller_s_side():
    mo.md(r"""
    ## 4 · The caller's side

    Seconds of errors are normal: pods are replaced every week. The caller decides whether a user sees them. Write
    `call_with_backoff`:

    - a refused or reset connection, a time-out, a 503: wait and try again, with longer pauses each time, and with other
      pauses than other clients;
    - 400, 401, 404: waiting does not help; raise them unchanged, at once;
    - when the budget is used up: `BackendUnavailable`, with the last error as its cause.

    The version below shows how it is often written.
    """)
    return


@app.function
def call_with_backoff(operation, call, *, budget_s):
    """Call until it succeeds; BackendUnavailable when it does not within `budget_s` seconds."""
    deadline, delay_s = time.monotonic() + budget_s, 0.4
    while True:
        try:
            return call()
        except httpx.HTTPStatusError as error:
            # Only answers that say "not now" are worth another attempt.
            if error.response.status_code not in (429, 502, 503, 504):
                raise
            seen = error
        except httpx.TransportError as error:
            # Refused, reset, cut off or no answer: a pod is ending or starting.
            seen = error
        pause_s = random.uniform(0.5, 1.5) * delay_s
        if time.monotonic() + pause_s > deadline:
            raise BackendUnavailable(f"{operation}: not back within {budget_s:g} s") from seen
        time.sleep(pause_s)
        delay_s = min(4.0, 2 * delay_s)


@app.cell(hide_code=True)
def done_backoff(done_qdrant, judging, lab):
    mo.stop(lab.pressed and done_qdrant is None)
    done_backoff = draw.experiment_panel(
        lab,
        ("backoff",),
        judging,
        {"backoff": lambda cluster, **options: judge(cluster, call_with_backoff, **options)},
    )
    done_backoff
    return (done_backoff,)


@app.cell(hide_code=True)
def the_judge():
    mo.md(r"""
    The judge gives your function calls that go through a recording proxy, deletes Qdrant's pod meanwhile, and counts
    the **attempts that it really makes**; your code is not read. The proxy lets calls through to Qdrant once the new pod
    is Ready and your function has failed at least twice, so the speed of the node does not matter.
    """)
    return


@app.cell(hide_code=True)
def trials_table(lab):
    lab.live(draw.trials_table)
    return


@app.cell(hide_code=True)
def board_backoff(lab):
    lab.live(nb.board, "backoff")
    return


@app.cell(hide_code=True)
def hints_backoff(lab):
    lab.live(
        nb.task_hints,
        "backoff",
        "`httpx.TransportError` is the base class of all errors below HTTP. `httpx.HTTPStatusError` has `error.response.status_code`.",
        "Keep the last error in a name, and `raise BackendUnavailable(...) from last`.",
        "Before each pause, compare the clock at its end with the budget: `time.monotonic()` never jumps.",
        "Multiply a doubling delay with `random.uniform(0.5, 1.5)`, and cap it.",
    )
    return


@app.cell(hide_code=True)
def the_herd():
    mo.md(r"""
    ## 5 · The herd

    One caller that retries does little harm. Here twenty-four callers lose the same backend at the same moment, and all of
    them double their pauses: 1, 2, 4 seconds. After four seconds the backend is back. In the chart, the line is vLLM's
    own queue, and each tick below it is a client that came back.
    """)
    return


@app.cell(hide_code=True)
def guess_herd():
    guess_herd = nb.predict(
        "Without jitter: what does vLLM's own queue look like when the backend is back?",
        {
            "spread": "Slightly raised for a while: everybody comes back when they can",
            "wall": "Empty for three seconds, then all twenty-four at once",
            "refused": "vLLM refuses most of them with 429",
        },
    )
    guess_herd
    return (guess_herd,)


@app.cell(hide_code=True)
def done_herd(done_backoff, herds, lab):
    mo.stop(lab.pressed and done_backoff is None)
    done_herd = draw.experiment_panel(
        lab,
        ("herd-none", "herd-full"),
        herds,
        {
            "herd-none": lambda cluster, **options: herd(cluster, "none", **options),
            "herd-full": lambda cluster, **options: herd(cluster, "full", **options),
        },
    )
    done_herd
    return (done_herd,)


@app.cell(hide_code=True)
def herd_chart(lab):
    lab.live(draw.herd_chart)
    return


@app.cell(hide_code=True)
def guess_herd_answer(guess_herd):
    nb.reveal(
        guess_herd.value,
        truth="wall",
        because="They failed together, so they wait together: every client computes the same pauses. vLLM queues what it cannot "
        "run (`vllm:num_requests_waiting`), and the last in the queue may time out and try again. Jitter costs nothing and spreads them out.",
        instead={
            "spread": "Nothing spreads them: all clocks started with the same failure.",
            "refused": "vLLM has no limit on its queue by default. It accepts everything, and everybody waits.",
        },
    )
    return


@app.cell(hide_code=True)
def board_herd(lab):
    lab.live(nb.board, "herd")
    return


@app.cell(hide_code=True)
def game_day():
    mo.md(r"""
    ## 6 · Game day

    A seed picks a fault, and you are not told which. Clients keep calling. Find the **layer** and the **cause** in the
    cluster, commit your diagnosis (apply the ConfigMap below), and repair the fault, with `kubectl` in the page's
    terminal (`Ctrl`+`` ` ``) or in a cell of your own. The game day ends when both clients have been served for five seconds, or after fifteen minutes; then whatever is
    left of the fault is undone. The objective: the backend that was *not* hit keeps 97 % of its requests. Restarting everything is not a repair.
    """)
    return


@app.cell(hide_code=True)
def notice_the_herd():
    mo.vstack(
        [
            nb.course("Layers: " + nb.code(*LAYERS)),
            nb.card(
                nb.table(
                    ("cause", "what it means"),
                    [(nb.code(name), said) for name, said in CAUSES.items()],
                )
            ),
        ]
    )
    return


@app.cell
def seed():
    seed = 6
    return (seed,)


@app.cell(hide_code=True)
def done_game_day(day, done_herd, lab, seed):
    mo.stop(lab.pressed and done_herd is None)
    draw.experiment_panel(
        lab,
        ("game-day",),
        day,
        {"game-day": lambda cluster, **options: solved_game_day(cluster, seed, **options)},
    )
    return


@app.function
def diagnose(cluster):
    """Walk from the client's side down; the first thing that is wrong: (layer, cause, steps of the repair)."""
    view = cluster.view()
    for policy in view.network_policies("llm-apps"):
        return "network", "policy-cut", [Step("delete", "NetworkPolicy", policy.name, "llm-apps")]
    for node in view.nodes():
        if node.path("spec.unschedulable"):
            return "substrate", "node-drained", [Step("uncordon", "Node", node.name)]
        resource = cluster.profile().gpu_resource
        if node.allocatable(resource) < int(node.path(f"status.capacity[{resource}]", 0)):
            return "substrate", "gpu-unhealthy", [Step("gpu", "Node", node.name, None, {"unhealthy": False})]
    return solved_backend(cluster, "vllm", "Deployment", "inference") or solved_backend(
        cluster, "qdrant", "StatefulSet", "memory"
    )


@app.function
def solved_backend(cluster, name, kind, layer):
    """One backend: its Service, its controller, its pods; None when all is well."""
    view = cluster.view()
    wanted = {
        item["kind"]: item
        for item in cluster.kustomize(
            REPOSITORY / "manifests" / "stack" / name / "overlays" / cluster.profile().overlay
        )
    }
    labels = wanted[kind]["spec"]["selector"]["matchLabels"]
    pods = view.pods("llm-system", labels=",".join(f"{key}={value}" for key, value in labels.items()))
    selector = view.service(name).selector
    if pods and not selector.items() <= pods[0].labels.items():
        put = [{"op": "replace", "path": "/spec/selector", "value": labels}]
        return "network", "service-selector", [Step("patch", "Service", name, "llm-system", put)]
    if view.get(kind, name, "llm-system").path("spec.replicas") == 0:
        return layer, "scaled-to-zero", [Step("scale", kind, name, "llm-system", {"replicas": 1})]
    if not pods and view.find("ResourceQuota", "pod-budget", "llm-system"):
        # Scaling down and up makes the controller look again now, and not after its next pause.
        steps = [Step("delete", "ResourceQuota", "pod-budget", "llm-system")]
        return (
            "substrate",
            "quota-full",
            steps + [Step("scale", kind, name, "llm-system", {"replicas": count}) for count in (0, 1)],
        )
    container = wanted[kind]["spec"]["template"]["spec"]["containers"][0]
    path = "/spec/template/spec/containers/0"
    back = [
        {"op": "add", "path": f"{path}/{field}", "value": container[field]}
        for field in ("readinessProbe", "resources")
    ]
    repair = [Step("patch", kind, name, "llm-system", back)]
    if kind == "StatefulSet":
        # A StatefulSet does not replace a pod that never became Ready: that is left to us.
        repair.append(Step("delete", "Pod", f"{name}-0", "llm-system"))
    reasons = {
        reason
        for pod in pods
        for state in pod.container_states
        for reason in (state.reason, state.last_reason)
    }
    if "OOMKilled" in reasons:
        return layer, "memory-limit", repair
    probed = view.get(kind, name, "llm-system").path(
        "spec.template.spec.containers.0.readinessProbe.httpGet.path"
    )
    if probed != container["readinessProbe"]["httpGet"]["path"]:
        return layer, "failing-probe", repair
    return None


@app.function(hide_code=True)
def solved_game_day(cluster, seed, **options):
    """Start the game day, diagnose what the cluster shows, commit the answer, repair."""
    day = threading.Thread(target=game_day, args=(cluster, seed), kwargs={"timeout_s": 300, **options})
    day.start()
    found = None
    while day.is_alive() and found is None:
        time.sleep(1.0)
        found = diagnose(cluster)
    if found:
        layer, cause, repair = found
        time.sleep(2.0)
        cluster.apply([answer_manifest(seed, layer, cause)])
        for step in repair:
            carry_out(cluster, step)
    day.join()


@app.cell(hide_code=True)
def why_the_walk():
    mo.md(r"""
    **Why.** The order is always the same: do policies on the client's side stop it, is the node healthy, does the Service have endpoints, is
    there a pod, why is it not Ready? Each step rules out a layer. The repair changes the one thing that is wrong.
    """)
    return


@app.cell(hide_code=True)
def board_gameday(lab):
    lab.live(nb.board, "gameday")
    return


@app.cell(hide_code=True)
def hints_gameday(lab):
    lab.live(
        nb.task_hints,
        "gameday",
        "Start at the client: is it refused at once (no endpoint), or does it time out (no answer, or dropped packets)?",
        "`kubectl get endpointslices,pods,events -n llm-system`, then `kubectl describe` the object that looks wrong. There can be policies in `llm-apps` too.",
        "A pod is missing: look at its controller (`kubectl describe replicaset` or `statefulset`). A pod is Pending: look at the scheduler's event.",
    )
    return


@app.cell(hide_code=True)
def whole_lab(PARTS, lab):
    lab.live(nb.scoreboard, PARTS)
    return


@app.cell(hide_code=True)
def look_again():
    tick = nb.refresh("3s")
    tick
    return (tick,)


@app.cell(hide_code=True)
def what_to_notice():
    mo.md(r"""
    ## What to notice

    - *Running* means that a process exists, *Ready* that it can serve. The client must bridge the seconds between.
    - Name the layer before you change anything: one client's lane is red, the other's is not.
    - Retry only what can pass by itself; stop when the budget is used up; use jitter.
    - Without an undo on disk, an interrupted experiment is an outage.
    """)
    return


@app.cell(hide_code=True)
def quiz_board(QUESTIONS, answers):
    nb.quiz_board(answers, QUESTIONS)
    return


@app.cell(hide_code=True)
def lab(answered, pressed, reconnect):
    # What marimo must not create anew when a cell above is edited.
    lab, acted = nb.open_page("05", reconnect.value, answered(), pressed=pressed)
    return acted, lab


@app.cell(hide_code=True)
def pressed():
    pressed = False  # `course solve` runs the solution with True: as if every button had been pressed
    return (pressed,)


@app.cell(hide_code=True)
def buttons():
    reconnect = mo.ui.run_button(label="Connect again")
    answered, cluster_answers = mo.state(None)
    place = nb.apply_button("Put backends and probes in place", kind="neutral")
    apply_findings = nb.apply_button("Apply the findings")
    apply_answer = nb.apply_button("Commit the diagnosis")
    vllm = draw.run_or_stop("Delete vLLM's pod")
    qdrant = draw.run_or_stop("Delete Qdrant's pod")
    judging = draw.run_or_stop("Judge my function")
    herds = draw.run_or_stop("Let both herds go")
    day = draw.run_or_stop("Start the game day", stop="Give up and undo")
    return (
        answered,
        apply_findings,
        cluster_answers,
        day,
        herds,
        judging,
        place,
        qdrant,
        reconnect,
        vllm,
    )


@app.cell(hide_code=True)
def look(acted, lab, tick):
    nb.look(lab, tick, acted)
    return


@app.cell(hide_code=True)
def parts_and_quiz():
    PARTS = (
        nb.Part("1 · The model server goes away", 10, ("inference",)),
        nb.Part("2 · The memory goes away", 10, ("memory",)),
        nb.Part("3 · Name the layer", 12, ("attribution",)),
        nb.Part("4 · The caller's side", 20, ("backoff",)),
        nb.Part("5 · The herd", 10, ("herd",)),
        nb.Part("6 · Game day", 25, ("gameday",)),
    )
    QUESTIONS = [
        nb.Question(
            "Inference is refused, retrieval is served. `kubectl get pods` shows vLLM Running, 0/1. What do you do?",
            (
                nb.Option("Delete the pod", "It is loading. Deleting it starts the loading again."),
                nb.Option(
                    "Look at the startup probe and wait as long as it allows",
                    "A pod that loads is Running and not Ready; the probe's budget says how long that is normal.",
                    right=True,
                ),
                nb.Option("Restart Qdrant", "Retrieval is served. That layer works."),
            ),
        ),
        nb.Question(
            "A client retries every error up to ten times. Which error makes that harmful?",
            (
                nb.Option(
                    "404 for a model that is not served",
                    "It will be 404 for all ten, and the user waits for all of them.",
                    right=True,
                ),
                nb.Option(
                    "A reset connection",
                    "It happens when a pod is replaced: the next attempt may well succeed.",
                ),
                nb.Option("503", "The server says: not now. Trying later may help."),
            ),
        ),
        nb.Question(
            "Both clients fail with *refused*. Both backends' pods are Ready. Where do you look?",
            (
                nb.Option(
                    "In vLLM's log",
                    "Two healthy backends do not fail in the same second, each for its own reason.",
                ),
                nb.Option(
                    "Between clients and pods: Services, endpoints, policies",
                    "The pods are Ready, but no traffic is sent to them.",
                    right=True,
                ),
                nb.Option("At the GPU", "Qdrant has none, and fails too."),
            ),
        ),
        nb.Question(
            "An experiment's process is killed with `kill -9` while its fault is in the cluster. What brings the stack back?",
            (
                nb.Option(
                    "Nothing: it must be repaired by hand",
                    "The undo was on disk before the fault was in the cluster.",
                ),
                nb.Option(
                    "`course recover`",
                    "It finds the undo and carries it out; running it twice does no harm.",
                    right=True,
                ),
                nb.Option(
                    "The process's own clean-up", "kill -9 leaves a process no time to clean up anything."
                ),
            ),
        ),
    ]
    answers = nb.quiz(QUESTIONS)
    return PARTS, QUESTIONS, answers


if __name__ == "__main__":
    app.run()
