import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="04 · Isolation",
    css_file="../helpers/notebook/course.css",
)

with app.setup(hide_code=True):
    import marimo as mo

    from helpers import notebook as nb
    from helpers.labs.lab04_isolation import draw
    from helpers.stack.bring_up import first_policy


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 04 · Isolation

    A stored NetworkPolicy proves nothing; a connection that fails proves it. In this lab you find out who can connect to
    what in your cluster, close what should be closed, and keep the stack working while you do it.

    *90 minutes. The matrix of real connections is graded. It makes no difference whether you press the buttons on this
    page or use `kubectl` in its terminal, which `Ctrl`+`` ` `` opens.*
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
    ## Who calls whom

    Small probe pods run in the namespaces from which somebody could call. `course start 04` creates them; they belong to
    the grader, and each one asks all targets at once. If they are not there yet, create them now (on a fresh cluster
    this also starts vLLM and Qdrant, which takes a minute or two).
    """)
    return


@app.cell(hide_code=True)
def _(lab, place):
    nb.start_panel(lab, place)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    | caller | stands for |
    | --- | --- |
    | **app** | the application, in `llm-apps`, which has the label `kubedojo.dev/role: llm-apps` |
    | **outsider** | any pod in a namespace without that label |
    | **impostor** | a pod in a namespace that gave *itself* the label |
    | **prometheus** | Prometheus, in `llm-monitoring` |
    | **neighbour** | any other pod in `llm-system`, as caller and as target |
    | **node** | the node, from which the kubelet's probes come: no policy stops it, so it shows whether a target is *denied* or *dead* |
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 1 · Is anything enforced here at all?

    The API server stores every NetworkPolicy, but only the network plugin can stop a packet, and some plugins ignore
    policies. Check this before you debug a policy: in this cluster one policy closes one pod to everybody (it is
    *sealed*). If anybody can reach that pod, your policies have no effect.
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw.enforcement_card)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "isolation")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 2 · What the first policy forgot

    One policy comes with vLLM's manifests, and `course start 04` put it in place: `vllm-ingress-from-llm-apps` selects
    vLLM's pods and allows TCP 8000 from every namespace labelled `kubedojo.dev/role: llm-apps`.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_forgot = nb.predict(
        "That policy is in force, and it is the only one in `llm-system`. Who reaches what?",
        {
            "closed": "Nobody but the application reaches anything in `llm-system`",
            "qdrant": "vLLM is closed to everybody else; Qdrant is as open as before",
            "none": "Nothing is closed: a policy without a deny rule denies nothing",
        },
    )
    guess_forgot
    return (guess_forgot,)


@app.cell(hide_code=True)
def _(guess_forgot):
    nb.reveal(
        guess_forgot.value,
        truth="qdrant",
        because="A policy isolates **the pods that it selects**, in the directions that it names, and no others. No policy "
        "selects Qdrant: your documents are open to every pod of the cluster. And vLLM is closed to Prometheus too, which nobody thought of.",
        instead={
            "closed": "A policy does not affect a whole namespace by itself. Its `podSelector` decides.",
            "none": "There are no deny rules. Selecting a pod for ingress denies everything; the rules are the exceptions.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Now look. Each cell is a real connection, tried a moment ago; hold the pointer over a cell for the policy that decides it.
    """)
    return


@app.cell(hide_code=True)
def _(guess_forgot, lab):
    mo.stop(
        guess_forgot.value is None and not lab.pressed,
        nb.note("The matrix appears after you commit your prediction."),
    )
    lab.live(draw.observed_matrix)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "allowlist")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **Your turn.** Close Qdrant to everybody but the application (TCP 6333), and let Prometheus, which runs in the
    namespace `llm-monitoring` with the label `app.kubernetes.io/name: prometheus`, read the metrics of both. The text
    below is a colleague's first attempt: read the forecast under it before you apply anything.
    """)
    return


@app.cell
def _():
    qdrant_yaml = """
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata:
      name: qdrant-ingress
      namespace: llm-system
    spec:
      podSelector:
        matchLabels: {app: qdrant}
      policyTypes: [Ingress]
      ingress:
      - ports:
        - {protocol: TCP, port: 6333}
    """
    return (qdrant_yaml,)


@app.cell(hide_code=True)
def _(lab, qdrant_yaml):
    lab.live(draw.forecast_matrix, qdrant_yaml)
    return


@app.cell(hide_code=True)
def _(lab, qdrant_yaml):
    lab.live(nb.preview, qdrant_yaml)
    return


@app.cell(hide_code=True)
def _(apply_qdrant, lab, qdrant_yaml):
    nb.apply_panel(lab, qdrant_yaml, apply_qdrant, first=first_policy())
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "forgotten")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "forgotten",
        "A rule has two halves, `from` and `ports`. Which one does the colleague's rule lack, and what does that mean? "
        "(`kubectl get pods -n llm-system --show-labels` shows which pods a selector fits.)",
        "`from` is a list of peers, and a rule without it means everybody. A peer with `namespaceSelector` *and* `podSelector` means both at once.",
        "Every namespace has the label `kubernetes.io/metadata.name` with its own name, written by the API server.",
        "Prometheus needs a rule in each policy: one for Qdrant's 6333 here, one for vLLM's 8000 in `vllm-ingress-from-llm-apps`. "
        "Write both policies into the cell, separated by `---`.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 3 · Names for ports

    Ports in a policy may be numbers, ranges (`port` with `endPort`), or names. vLLM's container calls its port 8000
    `http`; Qdrant's calls its port 6333 `http` too.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_named = nb.predict(
        "One policy selects *all* pods of `llm-system` and allows `ports: [{port: http}]`. What is open?",
        {
            "8000": "8000 on every pod: the first pod decides",
            "each": "8000 on vLLM and 6333 on Qdrant",
            "80": "80 on every pod: http is a well-known name",
            "error": "Nothing: the API server refuses a name that means two ports",
        },
    )
    guess_named
    return (guess_named,)


@app.cell(hide_code=True)
def _(guess_named):
    nb.reveal(
        guess_named.value,
        truth="each",
        because="A name is looked up in **each destination pod**. That is useful: the port number can change without a change of the "
        "policy. It is also a trap: when a pod renames its port the rule no longer fits, and a pod without that name is closed.",
        instead={
            "8000": "No pod is first. The name is looked up in every pod.",
            "80": "The names in /etc/services are not used, only those of the container's own `ports`.",
            "error": "The API server stores the policy as it is: it never looks at pods while doing so.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 4 · Deny by default

    Allow rules alone do not protect pods added tomorrow. Do it the other way round: deny everything in `llm-system`, in
    both directions, and then open what the stack needs.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_deny = nb.predict(
        "You deny all ingress and all egress for every pod of `llm-system`; the rules for vLLM and Qdrant stay. What breaks first?",
        {
            "probes": "The readiness probes: the kubelet cannot reach the pods any more",
            "answers": "The answers: vLLM may receive a request, but not send its response",
            "dns": "Names: pods of llm-system can no longer ask the cluster's DNS",
        },
    )
    guess_deny
    return (guess_deny,)


@app.cell(hide_code=True)
def _(guess_deny):
    nb.reveal(
        guess_deny.value,
        truth="dns",
        because="*Every* pod asks DNS before it opens any other connection. Without DNS each error message names the service that was "
        "called, not the resolver that was not reached. Allow both protocols: long answers come over TCP.",
        instead={
            "probes": "Traffic from the pod's own node always passes: the specification says so, for exactly this reason.",
            "answers": "Policies judge who *opens* a connection. Answers on it need no rule.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **Your turn.** So far the policy closes one direction. Close the other too, and add a policy that lets every pod
    of the namespace ask CoreDNS (namespace `kube-system`, pods labelled `k8s-app: kube-dns`, UDP and TCP 53), and nothing else.
    """)
    return


@app.cell
def _():
    deny_yaml = """
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata:
      name: default-deny
      namespace: llm-system
    spec:
      podSelector: {}
      policyTypes: [Ingress]
    """
    return (deny_yaml,)


@app.cell(hide_code=True)
def _(deny_yaml, lab):
    lab.live(draw.forecast_matrix, deny_yaml)
    return


@app.cell(hide_code=True)
def _(deny_yaml, lab):
    lab.live(nb.preview, deny_yaml)
    return


@app.cell(hide_code=True)
def _(apply_deny, deny_yaml, lab):
    nb.apply_panel(lab, deny_yaml, apply_deny)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "deny")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "deny",
        "Which directions does `policyTypes` name? A direction that no policy names is open.",
        "An egress rule has `to` and `ports`. `to` takes the same peers as `from` does.",
        "One peer with two selectors: `namespaceSelector` for kube-system by its name label, and `podSelector` for `k8s-app: kube-dns`.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 5 · A label is a claim

    The rule trusts the label `kubedojo.dev/role: llm-apps`. Who may set it? Anybody who may create or edit a namespace;
    in many clusters that is every team. `llm-impostor` is a namespace that has given itself the label. Look at its row in
    the matrix.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_label = nb.predict(
        "Which label of a namespace can its owner *not* choose?",
        {
            "role": "`kubedojo.dev/role`: the prefix belongs to a domain",
            "name": "`kubernetes.io/metadata.name`",
            "none": "There is none: labels are free text",
        },
    )
    guess_label
    return (guess_label,)


@app.cell(hide_code=True)
def _(guess_label):
    nb.reveal(
        guess_label.value,
        truth="name",
        because="The API server writes `kubernetes.io/metadata.name` on every namespace and puts it back when somebody changes it. "
        "A rule that selects by it (alone or together with the role) trusts one namespace, not a claim. Another way is to protect the label: "
        "with a `ValidatingAdmissionPolicy`, only the platform's group may set `kubedojo.dev/role`.",
        instead={
            "role": "A prefix is a convention between people. The API server does not check who owns the domain.",
            "none": "They are free text, except for one that the API server sets itself.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **Your turn.** Change the policies of vLLM and of Qdrant so that the impostor stays outside and the application stays in. Keep what Prometheus needs.
    """)
    return


@app.cell
def _():
    label_yaml = """
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
            matchLabels: {kubedojo.dev/role: llm-apps}
        ports:
        - {protocol: TCP, port: 8000}
    """
    return (label_yaml,)


@app.cell(hide_code=True)
def _(lab, label_yaml):
    lab.live(draw.forecast_matrix, label_yaml)
    return


@app.cell(hide_code=True)
def _(lab, label_yaml):
    lab.live(nb.preview, label_yaml)
    return


@app.cell(hide_code=True)
def _(apply_label, lab, label_yaml, qdrant_yaml):
    nb.apply_panel(lab, label_yaml, apply_label, first=f"{first_policy()}\n---\n{qdrant_yaml}")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "label")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "label",
        "Add a second line under the same `matchLabels`: both labels must then hold.",
        "Two entries in `from` are alternatives. In one entry with two labels, both must hold.",
        "Applying a policy of the same name replaces it: rules that you leave out of this cell are gone. Look at the forecast for Prometheus.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 6 · Dropped, refused, forbidden

    These three look alike in a log that says "failed". They come from three different places, and only the first two can
    come from a policy: some network plugins drop packets, some refuse them. If an HTTP status comes back, whatever its
    number, no policy stopped the request.
    """)
    return


@app.cell(hide_code=True)
def _(apply_label, lab):
    draw.three_noes(lab, apply_label)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **By hand.** curl says by its **exit code** how far it came, and `kubectl exec` passes the code on: 0, an answer; 6, the
    name was not found; 7, refused; 28, nothing came back in time; 22 (with `-f`), an HTTP status of 400 or more. Ask vLLM
    as the application, then as the outsider. Then ask the API server without a token.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_exit = nb.predict(
        "Your policies are in force. With which code does the outsider's curl end?",
        {
            "name": "6: its namespace does not see the name of the Service",
            "packet": "28 or 7: it gets no connection",
            "status": "22: vLLM answers that it is forbidden",
        },
    )
    guess_exit
    return (guess_exit,)


@app.cell(hide_code=True)
def _(lab):
    nb.by_hand(
        lab,
        r"""
        kubectl exec -n llm-apps probe-app -- curl -fsS -m 3 -w '%{http_code}\n' http://vllm.llm-system.svc.cluster.local:8000/health
        kubectl exec -n llm-outside probe-outsider -- curl -fsS -m 3 http://vllm.llm-system.svc.cluster.local:8000/health
        kubectl exec -n llm-apps probe-app -- curl -fsSk -m 3 https://kubernetes.default.svc.cluster.local/api/v1/nodes
        """,
    )
    return


@app.cell(hide_code=True)
def _(guess_exit):
    nb.reveal(
        guess_exit.value,
        truth="packet",
        because="The outsider may ask DNS, so it finds the address of vLLM. Its connection is then dropped (28) or, by some network "
        "plugins, refused (7). The API server's answer ends with 22: a status means that the packet arrived, and that no "
        "policy stopped it.",
        instead={
            "name": "DNS answers every namespace alike. Your policies say who may connect to vLLM, not who may ask for its address.",
            "status": "vLLM would have to read the request first. It never sees it.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 7 · The whole matrix

    The goal is the smallest set of rules with which the stack works: every judged cell as it should be, and no rule wider
    than it needs to be. The last check also asks about connections that nobody needs: from a dashboard beside Prometheus,
    to another pod of `kube-system`, to Qdrant's peer port.
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw.observed_matrix)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "matrix")
    return


@app.cell(hide_code=True)
def _(deny_yaml, lab, label_yaml, qdrant_yaml):
    lab.live(draw.other_policies, qdrant_yaml, deny_yaml, label_yaml)
    return


@app.cell(hide_code=True)
def _(delete_others, deny_yaml, lab, label_yaml, qdrant_yaml):
    draw.delete_other_policies(lab, delete_others, qdrant_yaml, deny_yaml, label_yaml)
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

    - A policy selects pods, isolates them in the directions it names, and its rules are the only exceptions. Policies add up; none can take away what another allows.
    - Egress of the caller **and** ingress of the target must allow a connection.
    - Stored is not enforced. The forecast is what the text means; the matrix is what happens. Where they differ, look at the network plugin.
    - A dead target looks like a denied one. Only a control connection tells them apart: here, the one from the node.
    - The embedded cluster enforces policies with the course's own small engine for one node, tested with upstream's conformance tests for NetworkPolicy. On another cluster the network plugin does it.
    """)
    return


@app.cell(hide_code=True)
def _(QUESTIONS, answers):
    nb.quiz_board(answers, QUESTIONS)
    return


@app.cell(hide_code=True)
def _(answered, pressed, reconnect):
    # What marimo must not create anew when a cell above is edited.
    lab, acted = nb.open_page("04", reconnect.value, answered(), pressed=pressed)
    return acted, lab


@app.cell(hide_code=True)
def _():
    pressed = False  # `course solve` runs the solution with True: as if every button had been pressed
    return (pressed,)


@app.cell(hide_code=True)
def _():
    reconnect = mo.ui.run_button(label="Connect again")
    answered, cluster_answers = mo.state(None)
    place = nb.apply_button("Put backends and probes in place", kind="neutral")
    apply_qdrant = nb.apply_button("Apply the allow-list")
    apply_deny = nb.apply_button("Apply the default")
    apply_label = nb.apply_button("Apply both policies")
    delete_others = nb.apply_button("Delete the policies that no text names", kind="danger")
    return (
        answered,
        apply_deny,
        apply_label,
        apply_qdrant,
        cluster_answers,
        delete_others,
        place,
        reconnect,
    )


@app.cell(hide_code=True)
def _(acted, lab, tick):
    nb.look(lab, tick, acted)
    return


@app.cell(hide_code=True)
def _():
    PARTS = (
        nb.Part("1 · Is anything enforced here at all?", 5, ("isolation",)),
        nb.Part("2 · What the first policy forgot", 20, ("allowlist", "forgotten")),
        nb.Part("3 · Names for ports", 5),
        nb.Part("4 · Deny by default", 18, ("deny",)),
        nb.Part("5 · A label is a claim", 18, ("label",)),
        nb.Part("6 · Dropped, refused, forbidden", 5),
        nb.Part("7 · The whole matrix", 5, ("matrix",)),
    )
    QUESTIONS = [
        nb.Question(
            "A pod times out against `qdrant:6333`. The same pod gets HTTP 200 from another service. From the node, Qdrant answers. What is it?",
            (
                nb.Option(
                    "Qdrant is overloaded",
                    "It answers its own node at once, and an overloaded server accepts connections.",
                ),
                nb.Option(
                    "A policy, of the caller's egress or of Qdrant's ingress",
                    "The target is alive and the caller's network works. Only a rule between them is left.",
                    right=True,
                ),
                nb.Option(
                    "DNS",
                    "A name that does not resolve gives another error, and the other service was found by name.",
                ),
            ),
        ),
        nb.Question(
            "`kubectl describe networkpolicy` shows exactly what you wanted, and the outsider still connects. What next?",
            (
                nb.Option(
                    "Restart vLLM", "vLLM never sees the policy. It only sees the packets that arrive."
                ),
                nb.Option(
                    "Find out whether this cluster enforces policy at all",
                    "A stored object is not yet a rule in a kernel. A pod that is closed to everybody shows whether it is.",
                    right=True,
                ),
                nb.Option("Add a deny rule", "There is no such thing in `networking.k8s.io/v1`."),
            ),
        ),
        nb.Question(
            "`from: [{namespaceSelector: {…apps…}}, {podSelector: {app: client}}]`: who gets in?",
            (
                nb.Option(
                    "Pods labelled `app: client` in the apps' namespace",
                    "That would be one peer with both selectors.",
                ),
                nb.Option(
                    "Every pod of the apps' namespace, and every `app: client` pod of the policy's own namespace",
                    "Two peers are alternatives, and a podSelector alone means the policy's own namespace.",
                    right=True,
                ),
                nb.Option(
                    "Nobody: the two contradict each other",
                    "Peers in a list cannot contradict each other: each one only adds.",
                ),
            ),
        ),
        nb.Question(
            "A call to the API server from a pod answers 403. A colleague wants to open egress for it. Right?",
            (
                nb.Option(
                    "Yes: 403 means blocked",
                    "403 is an answer of the API server: the packet arrived and was read.",
                ),
                nb.Option(
                    "No: egress is open; the ServiceAccount needs a role",
                    "Any HTTP status means that every policy on the way let the request through.",
                    right=True,
                ),
                nb.Option(
                    "It depends on the network plugin",
                    "Plugins drop or refuse packets. None of them answers with HTTP here.",
                ),
            ),
        ),
    ]
    answers = nb.quiz(QUESTIONS)
    return PARTS, QUESTIONS, answers


if __name__ == "__main__":
    app.run()
