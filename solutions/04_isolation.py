import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="04 · Isolation, solved",
    css_file="../helpers/notebook/course.css",
)

with app.setup(hide_code=True):
    import marimo as mo

    from helpers import notebook as nb
    from helpers.labs.lab04_isolation import draw


@app.cell(hide_code=True)
def title():
    mo.md(r"""
    # 04 · Isolation

    A NetworkPolicy proves nothing. A refused packet does. In this lab you find out who can connect to what in your
    cluster, close what should be closed, and keep the stack working while you do it.

    *90 minutes. What is graded is the matrix of real connections: whether you press the buttons on this page or use
    `kubectl` in a terminal makes no difference.*
    """)
    return


@app.cell(hide_code=True)
def solved_note():
    mo.md(r"""
    *The same page with every exercise solved, and why. `course solve 04` runs it with its buttons pressed.*
    """)
    return


@app.cell(hide_code=True)
def cluster_card(lab, reconnect):
    mo.vstack([lab.card(), reconnect])
    return


@app.cell(hide_code=True)
def who_calls_whom():
    mo.md(r"""
    ## Who calls whom

    Small probe pods stand in the places from which somebody could call: they were put there by `course start 04`, belong
    to the grader, and ask every target at once. If they are not there yet, put them there now (on a fresh cluster this
    also brings up vLLM and Qdrant, which takes a minute or two).
    """)
    return


@app.cell(hide_code=True)
def probes_panel(lab, place, pressed):
    nb.start_panel(lab, place, pressed=pressed)
    return


@app.cell(hide_code=True)
def the_callers():
    mo.md(r"""
    | caller | stands for |
    | --- | --- |
    | **app** | the application, in `llm-apps`, which carries `kubedojo.dev/role: llm-apps` |
    | **outsider** | any pod in a namespace without that label |
    | **impostor** | a pod in a namespace that gave *itself* the label |
    | **prometheus** | Prometheus, in `llm-monitoring` |
    | **neighbour** | any other pod in `llm-system`, as caller and as target |
    | **node** | the node, from which the kubelet's probes come: policy never stops it, so it tells *denied* from *dead* |
    """)
    return


@app.cell(hide_code=True)
def is_anything_enforced_here_at_all():
    mo.md(r"""
    ## 1 · Is anything enforced here at all?

    The API server stores every NetworkPolicy. Whether a packet is ever stopped is the network plugin's business, and some
    plugins do not know what a policy is. So before you debug a policy: one pod in this cluster is sealed by a policy
    against everybody. If anybody reaches it, no policy of yours will matter.
    """)
    return


@app.cell(hide_code=True)
def enforcement_card(lab, live):
    draw.enforcement_card(lab, live)
    return


@app.cell(hide_code=True)
def board_isolation(live):
    nb.board(live, "isolation")
    return


@app.cell(hide_code=True)
def what_the_first_policy_forgot():
    mo.md(r"""
    ## 2 · What the first policy forgot

    One policy comes with vLLM's manifests, and `course start 04` put it in place: `vllm-ingress-from-llm-apps` selects
    vLLM's pods and lets in, on TCP 8000, whoever comes from a namespace labelled `kubedojo.dev/role: llm-apps`.
    """)
    return


@app.cell(hide_code=True)
def guess_forgot():
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
def guess_forgot_answer(guess_forgot):
    nb.reveal(
        guess_forgot.value,
        truth="qdrant",
        because="A policy isolates **the pods that it selects**, in the directions that it names, and no others. Qdrant is selected "
        "by nobody: your documents are open to every pod of the cluster. And vLLM is closed to Prometheus too: nobody thought of it.",
        instead={
            "closed": "Policies have no namespace-wide effect of their own. What decides is the `podSelector`.",
            "none": "There are no deny rules. Selecting a pod for ingress *is* the denial, and rules are the exceptions.",
        },
    )
    return


@app.cell(hide_code=True)
def how_to_read_the_matrix():
    mo.md(r"""
    Now look. Each cell is a real connection, tried a moment ago; hold the pointer over a cell for the policy that decides it.
    """)
    return


@app.cell(hide_code=True)
def allowlist_matrix(guess_forgot, lab, live, pressed):
    mo.stop(
        guess_forgot.value is None and not pressed,
        nb.course("<small>The matrix appears once your prediction is committed.</small>"),
    )
    draw.observed_matrix(lab, live)
    return


@app.cell(hide_code=True)
def board_allowlist(live):
    nb.board(live, "allowlist")
    return


@app.cell(hide_code=True)
def task_close_qdrant():
    mo.md(r"""
    **Your turn.** Close Qdrant to everybody but the application (TCP 6333), and let Prometheus, which lives in the
    namespace `llm-monitoring` with the label `app.kubernetes.io/name: prometheus`, read the metrics of both. The text
    below is a colleague's first attempt: read the forecast under it before you apply anything.
    """)
    return


@app.cell
def qdrant_yaml():
    qdrant_yaml = """
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
            matchLabels: {kubedojo.dev/role: llm-apps}
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
      - from:
        - namespaceSelector:
            matchLabels: {kubernetes.io/metadata.name: llm-monitoring}
          podSelector:
            matchLabels: {app.kubernetes.io/name: prometheus}
        ports:
        - {protocol: TCP, port: 8000}
    """
    return (qdrant_yaml,)


@app.cell(hide_code=True)
def forecast_matrix(lab, qdrant_yaml):
    draw.forecast_matrix(lab, qdrant_yaml)
    return


@app.cell(hide_code=True)
def preview_qdrant_yaml(lab, live, qdrant_yaml):
    nb.preview(lab, qdrant_yaml, live)
    return


@app.cell(hide_code=True)
def apply_qdrant_yaml(apply_qdrant, lab, pressed, qdrant_yaml):
    nb.apply_panel(lab, qdrant_yaml, apply_qdrant, pressed=pressed)
    return


@app.cell(hide_code=True)
def why_qdrant_yaml():
    mo.md(r"""
    **Why.** The colleague's selector, `app: qdrant`, is no label of the chart: a policy that selects nothing is valid, and
    does nothing. Rules without `from` admit everybody. Prometheus is found by namespace *and* pod label in **one** peer;
    as two peers, either would be enough. The scrape of vLLM needs a second rule in vLLM's own policy.
    """)
    return


@app.cell(hide_code=True)
def board_forgotten(live):
    nb.board(live, "forgotten")
    return


@app.cell(hide_code=True)
def hints_forgotten():
    nb.hints(
        "`kubectl get pods -n llm-system --show-labels`: which labels do Qdrant's pods really carry?",
        "`from` is a list of peers, and a rule without it means everybody. A peer with `namespaceSelector` *and* `podSelector` means both at once.",
        "Every namespace carries the label `kubernetes.io/metadata.name` with its own name, written by the API server.",
        "Prometheus needs a rule in each policy: one for Qdrant's 6333 here, one for vLLM's 8000 in `vllm-ingress-from-llm-apps`. "
        "Write both policies into the cell, separated by `---`.",
    )
    return


@app.cell(hide_code=True)
def names_for_ports():
    mo.md(r"""
    ## 3 · Names for ports

    Ports in a policy may be numbers, ranges (`port` with `endPort`), or names. vLLM's container calls its port 8000
    `http`; Qdrant's calls its port 6333 `http` too.
    """)
    return


@app.cell(hide_code=True)
def guess_named():
    guess_named = nb.predict(
        "One policy selects *all* pods of `llm-system` and allows `ports: [{port: http}]`. What is open?",
        {
            "8000": "8000 on every pod: the first pod's meaning counts",
            "each": "8000 on vLLM and 6333 on Qdrant",
            "80": "80 on every pod: http is a well-known name",
            "error": "Nothing: the API server refuses a name that means two ports",
        },
    )
    guess_named
    return (guess_named,)


@app.cell(hide_code=True)
def guess_named_answer(guess_named):
    nb.reveal(
        guess_named.value,
        truth="each",
        because="A name is looked up in **each destination pod**, at the moment the rule is compiled. That is its use (the port may move "
        "without touching the policy) and its trap: a pod that renames its port falls out of the rule, and a pod without that name is closed.",
        instead={
            "8000": "There is no first pod. The same text becomes another rule for every pod.",
            "80": "Service names of /etc/services play no role: the names are those of the container's own `ports`.",
            "error": "The API server stores the policy as it is: it never looks at pods while doing so.",
        },
    )
    return


@app.cell(hide_code=True)
def deny_by_default():
    mo.md(r"""
    ## 4 · Deny by default

    A list of exceptions to nothing protects nothing that is added tomorrow. Turn it round: deny everything in
    `llm-system`, in both directions, and then open what the stack needs.
    """)
    return


@app.cell(hide_code=True)
def guess_deny():
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
def guess_deny_answer(guess_deny):
    nb.reveal(
        guess_deny.value,
        truth="dns",
        because="DNS is a connection that *every* pod opens, before any other. Without it each error message names the service that was "
        "called, and never the resolver that was not reached. Ask for it in both protocols: long answers come over TCP.",
        instead={
            "probes": "Traffic from the pod's own node always passes: the specification says so, for exactly this reason.",
            "answers": "Policies judge who *opens* a connection. Answers on it need no rule.",
        },
    )
    return


@app.cell(hide_code=True)
def task_deny():
    mo.md(r"""
    **Your turn.** As it stands the policy closes one direction. Close the other too, and add a policy that lets every pod
    of the namespace ask CoreDNS (namespace `kube-system`, pods labelled `k8s-app: kube-dns`, UDP and TCP 53), and nothing else.
    """)
    return


@app.cell
def deny_yaml():
    deny_yaml = """
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
    """
    return (deny_yaml,)


@app.cell(hide_code=True)
def forecast_matrix_2(deny_yaml, lab):
    draw.forecast_matrix(lab, deny_yaml)
    return


@app.cell(hide_code=True)
def preview_deny_yaml(deny_yaml, lab, live):
    nb.preview(lab, deny_yaml, live)
    return


@app.cell(hide_code=True)
def apply_deny_yaml(apply_deny, deny_yaml, lab, pressed):
    nb.apply_panel(lab, deny_yaml, apply_deny, pressed=pressed)
    return


@app.cell(hide_code=True)
def why_deny_yaml():
    mo.md(r"""
    **Why.** An empty `podSelector` selects every pod of the namespace, today's and tomorrow's. `policyTypes` names both
    directions and there is no rule: nothing is allowed. Policies add up, so the exceptions stay where they are.
    """)
    return


@app.cell(hide_code=True)
def board_deny(live):
    nb.board(live, "deny")
    return


@app.cell(hide_code=True)
def hints_deny():
    nb.hints(
        "Which directions does `policyTypes` name? A direction that no policy names is open.",
        "An egress rule has `to` and `ports`. `to` takes the same peers as `from` does.",
        "One peer with two selectors: `namespaceSelector` for kube-system by its name label, and `podSelector` for `k8s-app: kube-dns`.",
    )
    return


@app.cell(hide_code=True)
def a_label_is_a_claim():
    mo.md(r"""
    ## 5 · A label is a claim

    The rule trusts the label `kubedojo.dev/role: llm-apps`. Who may write it? Whoever may create or edit a namespace: in
    many clusters that is every team. `llm-impostor` did just that. Look at its row in the matrix.
    """)
    return


@app.cell(hide_code=True)
def guess_label():
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
def guess_label_answer(guess_label):
    nb.reveal(
        guess_label.value,
        truth="name",
        because="The API server writes `kubernetes.io/metadata.name` on every namespace and puts it back when somebody changes it. "
        "Selecting by it (alone or beside the role) names one namespace and not a claim. The other way is to guard the label itself: a "
        "`ValidatingAdmissionPolicy` that lets only the platform's group set `kubedojo.dev/role`.",
        instead={
            "role": "A prefix is a convention between people. The API server does not check who owns the domain.",
            "none": "Free text, with one exception that the API server keeps for itself.",
        },
    )
    return


@app.cell(hide_code=True)
def task_label():
    mo.md(r"""
    **Your turn.** Change the policies of vLLM and of Qdrant so that the impostor stays outside and the application stays in. Keep what Prometheus needs.
    """)
    return


@app.cell
def label_yaml():
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
                matchLabels:
                  kubedojo.dev/role: llm-apps
                  kubernetes.io/metadata.name: llm-apps   # set by the API server: nobody can give it to themselves
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
    """
    return (label_yaml,)


@app.cell(hide_code=True)
def forecast_matrix_3(lab, label_yaml):
    draw.forecast_matrix(lab, label_yaml)
    return


@app.cell(hide_code=True)
def preview_label_yaml(lab, label_yaml, live):
    nb.preview(lab, label_yaml, live)
    return


@app.cell(hide_code=True)
def apply_label_yaml(apply_label, lab, label_yaml, pressed):
    nb.apply_panel(lab, label_yaml, apply_label, pressed=pressed)
    return


@app.cell(hide_code=True)
def why_label_yaml():
    mo.md(r"""
    **Why.** Two labels in **one** `matchLabels` must both hold. As two peers in the list, the role alone would still be enough.
    Keeping the role says what the rule is for; the name makes it true.
    """)
    return


@app.cell(hide_code=True)
def board_label(live):
    nb.board(live, "label")
    return


@app.cell(hide_code=True)
def hints_label():
    nb.hints(
        "Add a second line under the same `matchLabels`: both labels must then hold.",
        "Two entries in `from` are alternatives. One entry with two labels is a conjunction.",
        "Applying a policy of the same name replaces it: rules that you leave out of this cell are gone. Look at the forecast for Prometheus.",
    )
    return


@app.cell(hide_code=True)
def three_ways_to_hear_no():
    mo.md(r"""
    ## 6 · Three ways to hear no

    *Dropped*, *refused* and *forbidden* look alike in a log that says "failed". They come from three different places, and
    only the first two can be a policy: some network plugins drop, some refuse. An HTTP status, whatever its number, has
    come through.
    """)
    return


@app.cell(hide_code=True)
def three_noes(apply_label, lab):
    draw.three_noes(lab, apply_label)
    return


@app.cell(hide_code=True)
def the_whole_matrix():
    mo.md(r"""
    ## 7 · The whole matrix

    The smallest set with which the stack works: every judged cell as it should be, and no rule wider than it needs to be.
    The last check also asks about pods that are not there: a dashboard beside Prometheus, another pod of `kube-system`,
    Qdrant's peer port.
    """)
    return


@app.cell(hide_code=True)
def observed_matrix(lab, live):
    draw.observed_matrix(lab, live)
    return


@app.cell(hide_code=True)
def board_matrix(live):
    nb.board(live, "matrix")
    return


@app.cell(hide_code=True)
def whole_lab(live, tick, titles):
    mo.vstack([nb.scoreboard(live, titles), tick])
    return


@app.cell(hide_code=True)
def what_to_notice():
    mo.md(r"""
    ## What to notice

    - A policy selects pods, isolates them in the directions it names, and its rules are the only exceptions. Policies add up; none can take away what another allows.
    - Egress of the caller **and** ingress of the target must allow a connection.
    - Stored is not enforced. The forecast is what the text means; the matrix is what happens. Where they differ, ask the network plugin.
    - A dead target looks like a denied one. Only a control connection tells them apart: here, the node's own.
    - This embedded cluster enforces policy with the course's own small engine for one node, held to upstream's conformance tests for NetworkPolicy. A real cluster uses its network plugin's.
    """)
    return


@app.cell(hide_code=True)
def quiz_board(QUESTIONS, answers):
    nb.quiz_board(answers, QUESTIONS)
    return


@app.cell(hide_code=True)
def lab(reconnect):
    # Plumbing: what marimo must not create anew when a cell above is edited.
    lab = nb.open_lab("04", reconnect.value)
    return (lab,)


@app.cell(hide_code=True)
def pressed():
    pressed = False  # `course solve` runs the solution with True: as if every button had been pressed
    return (pressed,)


@app.cell(hide_code=True)
def controls():
    reconnect = mo.ui.run_button(label="Connect again")
    tick = nb.refresh("10s")
    place = nb.apply_button("Put backends and probes in place", kind="neutral")
    apply_qdrant = nb.apply_button("Apply the allow-list")
    apply_deny = nb.apply_button("Apply the default")
    apply_label = nb.apply_button("Apply both policies")
    return apply_deny, apply_label, apply_qdrant, place, reconnect, tick


@app.cell(hide_code=True)
def live_grade(apply_deny, apply_label, apply_qdrant, lab, place, tick):
    live = nb.grade_now(lab, tick, place, apply_qdrant, apply_deny, apply_label)
    return (live,)


@app.cell(hide_code=True)
def titles_and_quiz():
    titles = {
        "isolation": "Enforcement",
        "allowlist": "The allow-list",
        "forgotten": "What was forgotten",
        "deny": "Deny by default",
        "label": "A label is a claim",
        "matrix": "The whole matrix",
    }
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
                    "The target lives, the caller's network works: what is left is a rule between them.",
                    right=True,
                ),
                nb.Option(
                    "DNS",
                    "A name that does not resolve is an error of its own, and the other service was found by name.",
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
                    "An object that is stored is not yet a rule in a kernel. One sealed pod tells.",
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
                    "Peers of a list never contradict: each one only adds.",
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
                    "No: egress is open; what is missing is a role for the ServiceAccount",
                    "Any HTTP status has come through every policy on its way.",
                    right=True,
                ),
                nb.Option(
                    "It depends on the network plugin",
                    "Plugins drop or refuse packets. None of them speaks HTTP here.",
                ),
            ),
        ),
    ]
    answers = nb.quiz(QUESTIONS)
    return QUESTIONS, answers, titles


if __name__ == "__main__":
    app.run()
