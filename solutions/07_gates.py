import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="07 · Gates and traces, solved",
    css_file="../helpers/notebook/course.css",
)

with app.setup(hide_code=True):
    import json
    import re
    from typing import Any

    import marimo as mo

    from helpers import notebook as nb
    from helpers.apps.orchestrator.decisions import SpanFacts
    from helpers.labs.lab07_gates import draw, draw_decisions, draw_traces


@app.cell(hide_code=True)
def title():
    mo.md(r"""
    # 07 · Gates and traces

    *200 OK is not an answer.* A release that starts, is ready and answers every request can still answer all of them wrongly.
    First you build a gate that stops such a release before users see it. Then you make each answer leave a trace, find in it
    the failure that nobody foresaw, and turn that one into a test.

    *170 minutes. What the cluster does is graded, and what the witnesses saw there. It makes no difference whether you press
    the buttons on this page or use `kubectl` and `course witness` in its terminal, which `Ctrl`+`` ` `` opens.*
    """)
    return


@app.cell(hide_code=True)
def solved_note():
    mo.md(r"""
    *The same page with every exercise solved, and why. `course solve 07` runs it with its buttons pressed.*
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
def what_is_released():
    mo.md(r"""
    ## What is released

    `llm-assistant` is the service of lab 06, released by Argo Rollouts: a new revision first gets some of the pods, and
    becomes **stable** only after its steps. The gateway spreads the questions over all pods, so the candidate's share of the
    pods is its share of the users.

    A **release** is a line in the pod template: which prompt, whether passages are retrieved, from which collection.

    | release | what changed |
    | --- | --- |
    | `good` | the prompt, in other words |
    | `prompt-cut` | the prompt is empty |
    | `no-retrieval` | no passages are looked up |
    | `wrong-collection` | they come from another collection |
    | `no-citations` | nobody asks for the passages' numbers any more |
    | `long-winded` | right, and many more tokens |

    All six are healthy pods that answer `200`.
    """)
    return


@app.cell(hide_code=True)
def layers():
    nb.layer_picture("orchestration")
    return


@app.cell(hide_code=True)
def where_it_begins():
    mo.md(r"""
    `course start 07` puts in place what this lab begins with: what lab 06 leaves, the stable `llm-assistant`, Argo Rollouts,
    the trace store Phoenix, and a Collector as a colleague set it up in a hurry. Lab 06's own service stays as it is. In a
    class, Argo Rollouts belongs to the cluster: your instructor has installed it.
    """)
    return


@app.cell(hide_code=True)
def start_button(lab, place):
    nb.start_panel(lab, place)
    return


@app.cell(hide_code=True)
def three_data_sets():
    mo.md(r"""
    ## 1 · Three data sets

    **Golden**: questions whose answer and whose passages are known. **Regression**: each row is a failure that was seen once.
    **Adversarial**: what must not be answered. They are in ConfigMap `llm-eval-sets`, a file each, a row a line. Relevance
    is known by the passages' keys: the corpus is that of lab 03.

    A colleague added six rows in a hurry, and each has a fault. A row that is wrong takes a right release's points.
    """)
    return


@app.cell(hide_code=True)
def guess_empty():
    guess_empty = nb.predict(
        "A file was renamed, so the golden set is empty. The gate counts rows that fail. What does it say?",
        {
            "passes": "It passes: no row fails",
            "blocks": "It blocks: an empty set scores 0",
            "error": "It ends with an error",
        },
    )
    guess_empty
    return (guess_empty,)


@app.cell
def review():
    review = """
    # Rows that go; of two rows with one id, the later one.
    drop: [idle-pod-again, window-leak, quota-idle]
    # Fields that are laid over a row; null takes a field out.
    change:
      kv-cache-keeps: {expected: {chunks: [kv-cache]}}
      r-model-name: {anwser: null}
      a-poem: {expected: {behaviour: refuse}}
    """
    return (review,)


@app.cell(hide_code=True)
def preview_review(review):
    draw_decisions.review_table(review)
    return


@app.cell(hide_code=True)
def apply_review(lab, review, to_sets):
    draw.sets_panel(lab, review, to_sets)
    return


@app.cell(hide_code=True)
def why_review():
    mo.md(r"""
    **Why.** A duplicate counts one failure twice. A question that contains its reference tests nothing. A key that the corpus
    does not have can never be found, so the row fails for every release. A misspelt field is a field that nobody reads.
    """)
    return


@app.cell(hide_code=True)
def sets_by_hand():
    mo.md(r"""
    **By hand.** The sets are plain text. `kubectl edit configmap llm-eval-sets -n llm-apps` changes them as well as the button.
    """)
    return


@app.cell(hide_code=True)
def by_hand_sets(lab):
    nb.by_hand(
        lab,
        r"""
        kubectl get configmap llm-eval-sets -n llm-apps -o yaml
        kubectl get rollout llm-assistant -n llm-apps
        kubectl get pods -n llm-apps -l app=llm-assistant
        """,
    )
    return


@app.cell(hide_code=True)
def guess_empty_answer(guess_empty):
    nb.reveal(
        guess_empty.value,
        truth="passes",
        because="Nothing asked, nothing failed. An empty set must be an error of its own kind: neither a pass nor the candidate's fault.",
        instead={
            "blocks": "A mean of no rows is no number, and many programs make it pass.",
            "error": "Only if somebody has written that down. You will see to it.",
        },
    )
    return


@app.cell(hide_code=True)
def board_sets(lab):
    lab.live(nb.board, "sets")
    return


@app.cell(hide_code=True)
def hints_sets(lab):
    lab.live(
        nb.task_hints,
        "sets",
        "The table above names each row and its fault.",
        "Two ways to mend a row: `drop` its id, or `change` a field. `null` takes a field out.",
        "`expected` has `behaviour` (`answer` or `refuse`), `chunks` (keys of the corpus) and `reference`.",
    )
    return


@app.cell(hide_code=True)
def metrics_you_can_trust():
    mo.md(r"""
    ## 2 · Metrics you can trust

    Three metrics are yours to write. They are plain functions: the same answer always scores the same, in microseconds.
    The table below them holds planted answers whose score is known. A witness of part 4 has more of them.
    """)
    return


@app.function
def citation(answer: str, contexts: list[str]) -> float:
    """1.0 where the answer names passages by their numbers, as in [1], and only such as were retrieved.

    Args:
        contexts: the passages that the model was given; [1] is the first of them.
    """
    numbers = [int(number) for number in re.findall(r"\[(\d+)\]", answer)]
    return float(bool(numbers) and all(1 <= number <= len(contexts) for number in numbers))


@app.function
def refusal(answer: str) -> float:
    """1.0 where the answer says that it does not know or cannot help, else 0.0."""
    said = " ".join(answer.lower().replace("’", "'").split())
    ways = (
        r"\b(do not|don't) know",
        r"\b(cannot|can't|can not|unable to) (help|answer|say|provide|find)",
        r"\bpassages? (do|does) not (contain|mention|have|say)",
        r"\bno (passage|information|answer)\b",
    )
    return float(any(re.search(way, said) for way in ways))


@app.function
def retrieval_precision(found: list[str], expected: list[str]) -> float:
    """Which share of the passages that were found was expected; 0.0 where nothing was found.

    Args:
        found, expected: keys of the corpus.
    """
    return sum(key in expected for key in found) / len(found) if found else 0.0


@app.cell(hide_code=True)
def preview_metrics(citation, refusal, retrieval_precision):
    draw_decisions.metrics_table(citation, refusal, retrieval_precision)
    return


@app.cell(hide_code=True)
def deliver_metrics(citation, lab, refusal, retrieval_precision, to_metrics):
    draw.metrics_panel(lab, to_metrics, citation, refusal, retrieval_precision)
    return


@app.cell(hide_code=True)
def why_metrics():
    mo.md(r"""
    **Why.** `"[" in answer` is true of `[9]` with six passages, and of a list in Python. A refusal has many wordings, and "I am
    sorry that this is complicated" is none of them. Precision without a case for an empty list divides by zero just when
    retrieval is away.
    """)
    return


@app.cell(hide_code=True)
def a_judge():
    mo.md(r"""
    ### A judge, measured first

    What no rule can say, a model may judge: does the passage support the answer? Our judge is the model that vLLM serves,
    held to JSON by guided decoding. Forty answers in the repository were labelled good or bad by hand. Let the judge label
    them too.
    """)
    return


@app.cell(hide_code=True)
def guess_judge():
    guess_judge = nb.predict(
        "A judge calls all forty answers good, and 20 of them are. What is its kappa?",
        {
            "half": "0.5: it is right half of the time",
            "zero": "0: chance does as well",
            "one": "Near 1: it found all the good ones",
        },
    )
    guess_judge
    return (guess_judge,)


@app.cell(hide_code=True)
def witness_judge(lab, see_judge):
    draw.witness_panel(lab, "judge", see_judge)
    return


@app.cell(hide_code=True)
def solve_judge(lab):
    draw.run_now(lab, "judge")
    return


@app.cell(hide_code=True)
def judge_picture(lab):
    lab.live(draw.judge_picture)
    return


@app.cell
def judgement():
    judgement = """
    # May the judge stop a release? The figures above decide.
    blocks: false
    # $KAPPA, $LOW, $HIGH, $AGREEMENT and $CHANCE stand for what was measured.
    why: kappa $KAPPA, from $LOW to $HIGH, no better than chance
    """
    return (judgement,)


@app.cell(hide_code=True)
def apply_judgement(judgement, lab, to_judge):
    draw.judge_panel(lab, judgement, to_judge)
    return


@app.cell(hide_code=True)
def why_judgement():
    mo.md(r"""
    **Why.** Agreement alone flatters: who always says yes agrees half of the time with balanced labels. Kappa takes chance out,
    and its interval says how little forty labels can prove. A judge of 135 million parameters may tell, and must not stop.
    """)
    return


@app.cell(hide_code=True)
def guess_judge_answer(guess_judge):
    nb.reveal(
        guess_judge.value,
        truth="zero",
        because="Kappa is what remains of the agreement when chance is taken out: here (0.5 - 0.5) / (1 - 0.5).",
        instead={
            "half": "That is the agreement. A coin has it too.",
            "one": "It found all of them, and everything else as well.",
        },
    )
    return


@app.cell(hide_code=True)
def board_metrics(lab):
    lab.live(nb.board, "metrics")
    return


@app.cell(hide_code=True)
def hints_metrics(lab):
    lab.live(
        nb.task_hints,
        "metrics",
        "Each red row of the table is a planted answer that your function scores wrongly.",
        "`re.findall(r'\\[(\\d+)\\]', answer)` gives the numbers as texts; `contexts` says how many there were.",
        "For the judge: is 0 inside the interval of kappa? Then it may not block, and `why` says so with a figure that was measured.",
    )
    return


@app.cell(hide_code=True)
def floors_and_drops():
    mo.md(r"""
    ## 3 · Floors and drops

    A gate has two bounds for a metric. The **floor** is absolute: below it nobody ships. The **largest drop** is against the
    stable release's stored **baseline**: a release may be above the floor and still be much worse than what users have.
    The baseline is measured once and reviewed. It says which model, prompt and rows it belongs to.
    """)
    return


@app.cell(hide_code=True)
def guess_flip():
    guess_flip = nb.predict(
        "12 rows, right or wrong each, and the stable release has 0.83. The floor is 0.80. How often does the same release fail that floor by chance?",
        {
            "never": "Never: 0.83 is above 0.80",
            "often": "Often: one more wrong row is 0.75",
            "rarely": "About once in a hundred",
        },
    )
    guess_flip
    return (guess_flip,)


@app.cell
def gate_yaml():
    gate_yaml = """
    rows: {golden: tier=pr, adversarial: all, regression: all}
    metrics:
      answered: {floor: 0.9, max_drop: 0.1}
      retrieval_hit: {floor: 0.8, max_drop: 0.15}
      citation: {floor: 0.7, max_drop: 0.2}
      tokens_ratio: {ceiling: 1.6}
    # Each row of a failure that was seen once must have 1 in these: a mean would hide it.
    every: [answered, retrieval_hit]
    """
    return (gate_yaml,)


@app.cell(hide_code=True)
def preview_gate_yaml(gate_yaml, lab):
    lab.live(draw.gate_preview, gate_yaml)
    return


@app.cell(hide_code=True)
def apply_gate_yaml(gate_yaml, judgement, lab, to_gate):
    draw.gate_panel(lab, gate_yaml, judgement, to_gate)
    return


@app.cell(hide_code=True)
def why_gate_yaml():
    mo.md(r"""
    **Why.** Each bound lies below what repeated runs of the stable release show, by more than one row is worth, and above what the
    bad releases reach. The rows with `tier=pr` are enough for that and end in a minute; the others are for a gate that has
    more time. `similarity` has no bound: with this model it spreads more than good and bad releases differ.
    """)
    return


@app.cell(hide_code=True)
def measure(lab, measure_it):
    draw.baseline_panel(lab, measure_it)
    return


@app.cell(hide_code=True)
def solve_baseline(lab):
    draw.measured(lab)
    return


@app.cell(hide_code=True)
def how_bounds_fare():
    mo.md(r"""
    Below: what the stable release scores, with its spread, beside your bounds. Part 4 sends good and bad releases through
    them; what each of those scores is then shown here too, and judged below.
    """)
    return


@app.cell(hide_code=True)
def scores(gate_yaml, lab):
    lab.live(draw.scores_picture, gate_yaml)
    return


@app.cell(hide_code=True)
def guess_flip_answer(guess_flip):
    nb.reveal(
        guess_flip.value,
        truth="often",
        because="With 12 rows the score moves in steps of 0.083, and its standard error is 0.11. A bound that is nearer than that is a coin.",
        instead={
            "never": "0.83 is what one run has shown. The next one has a row more or less.",
            "rarely": "Two rows of 12 are wrong on average. Three are almost as likely.",
        },
    )
    return


@app.cell(hide_code=True)
def board_floors(lab):
    lab.live(nb.board, "floors")
    return


@app.cell(hide_code=True)
def hints_floors(lab):
    lab.live(
        nb.task_hints,
        "floors",
        "The picture shows each metric's spread beside your bounds. A bound inside the spread flips by chance.",
        "Which metric tells which bad release from the stable one? Bound that one, below the stable one's spread.",
        "`max_drop` of several rows' worth: one row of twenty is 0.05. `tokens_ratio` has a `ceiling`.",
    )
    return


@app.cell(hide_code=True)
def the_gate_in_the_rollout():
    mo.md(r"""
    ## 4 · The gate in the rollout

    The Rollout goes on by the clock: after a pause each release becomes stable. Put the gate into its way. An AnalysisTemplate
    says how a release is judged: a Job whose exit code is the verdict. It asks the candidate through its own Service, as users
    ask, and never the model past it. The one below is a colleague's.
    """)
    return


@app.cell(hide_code=True)
def guess_weight():
    guess_weight = nb.predict(
        "A bad release is at 25 per cent when its analysis fails. What do users get?",
        {
            "stable": "The stable release again, from all pods",
            "quarter": "A bad answer for every fourth question, until somebody comes",
            "half": "The next step still comes, then it stops",
        },
    )
    guess_weight
    return (guess_weight,)


@app.cell
def analysis_yaml():
    analysis_yaml = """
    apiVersion: argoproj.io/v1alpha1
    kind: AnalysisTemplate
    metadata:
      name: llm-eval-gate
      namespace: llm-apps
    spec:
      metrics:
        - name: quality
          count: 1
          failureLimit: 0
          provider:
            job:
              spec:
                # A second try of a gate that failed is a second throw of the dice.
                backoffLimit: 0
                activeDeadlineSeconds: 300
                template:
                  metadata:
                    labels: {app: llm-eval-runner}
                  spec:
                    restartPolicy: Never
                    enableServiceLinks: false
                    automountServiceAccountToken: false
                    securityContext:
                      runAsNonRoot: true
                      runAsUser: 1000
                      seccompProfile: {type: RuntimeDefault}
                    containers:
                      - name: eval-runner
                        image: $EVAL_RUNNER
                        command: [python3, -m, helpers.apps.evals]
                        args:
                          - gate
                          - --candidate=http://llm-assistant-canary:8080
                          - --stable=http://llm-assistant:8080
                          - --sets=/etc/evals/sets
                          - --gate=/etc/evals/gate
                          - --baseline=/etc/evals/baseline/main.json
                        workingDir: /tmp
                        env:
                          - name: INTERNAL_API_TOKEN
                            valueFrom:
                              secretKeyRef: {name: llm-orchestrator-secrets, key: INTERNAL_API_TOKEN}
                        resources:
                          requests: {cpu: 10m, memory: 192Mi}
                          limits: {cpu: "1", memory: 512Mi}
                        securityContext:
                          allowPrivilegeEscalation: false
                          readOnlyRootFilesystem: true
                          capabilities: {drop: [ALL]}
                        volumeMounts:
                          - {name: sets, mountPath: /etc/evals/sets, readOnly: true}
                          - {name: gate, mountPath: /etc/evals/gate, readOnly: true}
                          - {name: baseline, mountPath: /etc/evals/baseline, readOnly: true}
                          - {name: tmp, mountPath: /tmp}
                    volumes:
                      - {name: sets, configMap: {name: llm-eval-sets}}
                      - {name: gate, configMap: {name: llm-eval-gate}}
                      - {name: baseline, configMap: {name: llm-eval-baseline}}
                      - {name: tmp, emptyDir: {}}
    """
    return (analysis_yaml,)


@app.cell(hide_code=True)
def preview_analysis_yaml(analysis_yaml, lab):
    lab.live(nb.preview, analysis_yaml)
    return


@app.cell(hide_code=True)
def apply_analysis_yaml(analysis_yaml, apply_analysis, lab):
    nb.apply_panel(lab, analysis_yaml, apply_analysis)
    return


@app.cell(hide_code=True)
def why_analysis_yaml():
    mo.md(r"""
    **Why.** `backoffLimit: 0` and `failureLimit: 0`: a gate that is tried until it passes is no gate. The exit codes stay apart:
    1 is the candidate's quality, 2 is the cluster's fault, 3 is a mistake in the gate itself. All three hold the release;
    only the first is about it.
    """)
    return


@app.cell(hide_code=True)
def releases_through_the_gate():
    mo.md(r"""
    Now the gate can be tried before it stands in anybody's way: a witness sends the good release and five bad ones through it,
    breaks its rows, its baseline and its target, and keeps what your Job said of each. The pictures of parts 2 and 3 follow.
    """)
    return


@app.cell(hide_code=True)
def witness_gate(lab, see_gate):
    draw.witness_panel(lab, "gate", see_gate)
    return


@app.cell
def strategy_yaml():
    strategy_yaml = """
    spec:
      strategy:
        canary:
          stableService: llm-assistant
          canaryService: llm-assistant-canary
          maxSurge: 1
          maxUnavailable: 0
          steps:
            - setWeight: 25
            - analysis:
                templates:
                  - templateName: llm-eval-gate
            - setWeight: 100
    """
    return (strategy_yaml,)


@app.cell(hide_code=True)
def preview_strategy_yaml(lab, strategy_yaml):
    lab.live(draw.strategy_preview, strategy_yaml)
    return


@app.cell(hide_code=True)
def apply_strategy_yaml(apply_strategy, lab, strategy_yaml):
    draw.strategy_panel(lab, strategy_yaml, apply_strategy)
    return


@app.cell(hide_code=True)
def why_strategy_yaml():
    mo.md(r"""
    **Why.** The analysis is a step of its own at the smallest weight: no user beyond the first quarter sees a release before it is
    judged. A background analysis would let the weight rise meanwhile.
    """)
    return


@app.cell(hide_code=True)
def try_a_release(lab, releases):
    draw.release_panel(lab, releases)
    return


@app.cell(hide_code=True)
def weight(lab):
    lab.live(draw.weight_picture)
    return


@app.cell(hide_code=True)
def witness_release(lab, see_release):
    draw.witness_panel(lab, "release", see_release)
    return


@app.cell(hide_code=True)
def guess_weight_answer(guess_weight):
    nb.reveal(
        guess_weight.value,
        truth="stable",
        because="A failed analysis aborts the rollout: the canary's pods go, and the stable ones are scaled up again. The Rollout says Degraded, so that somebody looks.",
        instead={
            "quarter": "That is a pause without an end, and no gate.",
            "half": "The steps end with the failed analysis.",
        },
    )
    return


@app.cell(hide_code=True)
def break_the_glass():
    mo.md(r"""
    ### Break the glass

    There are nights on which a release must go out although the gate says no. Then it says who wanted it, why, and with which
    figures: in ConfigMap `llm-break-glass-…` of its revision, where an auditor finds it. Release something that the gate
    stops, then write down why it has to go out all the same.
    """)
    return


@app.cell
def glass():
    glass = """
    ticket: OPS-412
    approver: head-of-support
    why: The gate's own machine is away, and the present release tells customers a wrong telephone number.
    """
    return (glass,)


@app.cell(hide_code=True)
def apply_glass(break_it, glass, lab):
    draw.glass_panel(lab, glass, break_it)
    return


@app.cell(hide_code=True)
def why_glass():
    mo.md(r"""
    **Why.** Without such a way, people find another: they delete the template. With it, the exception costs a ticket and a name, and
    the failed figures stand beside both.
    """)
    return


@app.cell(hide_code=True)
def board_gate(lab):
    lab.live(nb.board, "gate")
    return


@app.cell(hide_code=True)
def with_another_tool():
    mo.md(r"""
    **With another tool.** promptfoo keeps its checks in YAML. `manifests/labs/07/promptfoo.yaml` asks the golden rows with it,
    as a Job; on the cluster of this machine, in the page's terminal:

    `sed 's#$PROMPTFOO#course.local/promptfoo:0.123.1#' manifests/labs/07/promptfoo.yaml | kubectl apply -f -`

    then `kubectl logs -f job/llm-promptfoo -n llm-apps`. It ends with exit code 100 when a row falls short, and also when
    nobody answers: the Job's script tells the two apart.
    """)
    return


@app.cell(hide_code=True)
def hints_gate(lab):
    lab.live(
        nb.task_hints,
        "gate",
        "`kubectl get analysisruns -n llm-apps` lists what was judged; the Job's pod says why in its log.",
        "The Job asks `http://llm-assistant-canary:8080`. If it asked `llm-assistant`, it would judge the release that is there already.",
        "`analysis: {templates: [{templateName: llm-eval-gate}]}` is a step between two weights.",
    )
    return


@app.cell(hide_code=True)
def a_trace_is_a_tree():
    mo.md(r"""
    ## 5 · A trace is a tree

    A log says what one process did. A **trace** says what became of one question: a root for the whole run, and below it a span
    for retrieval, for the prompt, for the model's call. The service makes the spans. You decide what they say, and whether
    the backends are told which trace they belong to.
    """)
    return


@app.cell(hide_code=True)
def guess_root():
    guess_root = nb.predict(
        "Token counts stand on the root span and on the model call below it. What does a sum over all spans say?",
        {
            "double": "Twice what was used",
            "right": "What was used: a backend counts each trace once",
            "root": "Only the root's",
        },
    )
    guess_root
    return (guess_root,)


@app.cell
def otel_settings():
    otel_settings = """
    OTEL_TRACES_SAMPLER: parentbased_always_on
    OTEL_PROPAGATORS: tracecontext
    OTEL_SPAN_PROCESSOR: batch
    """
    return (otel_settings,)


@app.cell(hide_code=True)
def preview_otel_settings(lab, otel_settings):
    lab.live(draw.settings_preview, otel_settings)
    return


@app.cell(hide_code=True)
def apply_otel_settings(apply_otel, lab, otel_settings):
    draw.settings_panel(lab, otel_settings, apply_otel)
    return


@app.cell(hide_code=True)
def why_otel_settings():
    mo.md(r"""
    **Why.** A sampler at the head decides before anything has happened: at 10 per cent it drops nine of ten errors. `batch` hands
    spans to a thread; `simple` sends each one while the user waits. `tracecontext` puts the header `traceparent` on each
    call, so that the next process goes on with the same trace.
    """)
    return


@app.function
def span_attributes(span: str, facts: SpanFacts) -> dict[str, Any]:
    """What stands on a span: "chat" (the root), "retrieve", "assemble", "generate" or "record".

    Args:
        facts: what the run knows when the span ends, such as `tenant`, `chunk_ids`, `model`, `input_tokens`.
    """
    if span == "chat":
        return {
            "tenant_id": facts.tenant,
            "feature": facts.feature,
            "session_id": facts.session,
            "version": facts.version,
        }
    if span == "retrieve":
        return {"retrieval.collection": facts.collection, "retrieval.ids": facts.chunk_ids}
    if span == "generate":
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "vllm",
            "gen_ai.request.model": facts.model,
            "gen_ai.request.max_tokens": facts.max_tokens,
            "gen_ai.usage.input_tokens": facts.input_tokens,
            "gen_ai.usage.output_tokens": facts.output_tokens,
            "gen_ai.response.finish_reasons": [facts.finish_reason],
        }
    return {}


@app.function
def span_events(span: str, facts: SpanFacts) -> list[tuple[str, dict[str, Any]]]:
    """What happened in a span that is worth a text of its own: (name, attributes) each.

    A row can be made of a trace only if the question and the passages stand in it.
    """
    if span != "generate":
        return []
    return [
        (
            "captured",
            {"question": facts.question, "contexts": json.dumps(facts.contexts), "answer": facts.answer},
        )
    ]


@app.cell(hide_code=True)
def preview_trace(span_attributes, span_events):
    draw_decisions.trace_table(span_attributes, span_events)
    return


@app.cell(hide_code=True)
def deliver_trace(lab, span_attributes, span_events, to_trace):
    draw.trace_panel(lab, to_trace, span_attributes, span_events)
    return


@app.cell(hide_code=True)
def why_trace():
    mo.md(r"""
    **Why.** A tenant on every span is stored five times and asked for once. Token counts belong to the call that used them. The
    ids of the passages are short, and lead to their texts. A prompt may hold anything that anybody has written: it is one
    event of one span, where it can be masked, and dropped with its trace.
    """)
    return


@app.cell(hide_code=True)
def guess_root_answer(guess_root):
    nb.reveal(
        guess_root.value,
        truth="double",
        because="Tokens belong to the call that used them, and nowhere else. Sums are made when the question is asked.",
        instead={
            "right": "Nothing knows that two numbers on two spans are the same one.",
            "root": "A sum takes what it finds.",
        },
    )
    return


@app.cell(hide_code=True)
def witness_trace(lab, see_trace):
    draw.witness_panel(lab, "trace", see_trace)
    return


@app.cell(hide_code=True)
def span_tree(lab, see_tree):
    draw_traces.tree_panel(lab, see_tree)
    return


@app.cell(hide_code=True)
def board_trace(lab):
    lab.live(nb.board, "trace")
    return


@app.cell(hide_code=True)
def hints_trace(lab):
    lab.live(
        nb.task_hints,
        "trace",
        "The tree above is what the store has. Which span is missing, and which one has no parent?",
        "Tenant, feature, session and version stand on the root, once; `gen_ai.*` on the model's call.",
        "`OTEL_PROPAGATORS: tracecontext` tells the backends; `none` leaves each with a trace of its own.",
    )
    return


@app.cell(hide_code=True)
def the_collector():
    mo.md(r"""
    ## 6 · The Collector

    Between the service and the store stands the Collector. There a trace is whole, so there can be decided what is kept: every
    error, everything of the tenants who get a bill (`docs`, `research`, `trial`, `course`), and a tenth of the rest. There also
    goes what nobody may read: an e-mail address in a question is in the span's attributes **and** in its events. And if the
    store or the Collector is away, the answer must not wait for it.

    With another Collector the witness of part 5 has to look again: what it saw may no longer be kept.
    """)
    return


@app.cell(hide_code=True)
def guess_order():
    guess_order = nb.predict(
        "Processors run in the order of the pipeline. Where does `memory_limiter` stand?",
        {
            "first": "First: what is refused costs nothing more",
            "last": "Last: just before the export",
            "any": "Anywhere: it only watches the process",
        },
    )
    guess_order
    return (guess_order,)


@app.cell
def collector_yaml():
    collector_yaml = """
    receivers:
      otlp:
        protocols:
          http: {endpoint: "0.0.0.0:4318"}
    processors:
      memory_limiter: {check_interval: 1s, limit_mib: 80, spike_limit_mib: 20}
      tail_sampling:
        decision_wait: 10s
        decision_wait_after_root_received: 2s
        num_traces: 5000
        policies:
          - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
          # Who gets a bill: a tenth of it would be guessed.
          - {name: billed, type: string_attribute, string_attribute: {key: tenant_id, values: [docs, research, trial, course]}}
          - {name: a-tenth-of-the-rest, type: probabilistic, probabilistic: {sampling_percentage: 10}}
      redaction:
        allow_all_keys: true
        redact_all_types: true
        blocked_values:
          - '[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)+'
          - '[0-9]([ -]?[0-9]){12,18}'
        summary: silent
      batch: {send_batch_size: 200, timeout: 5s}
    exporters:
      otlp_http/phoenix:
        endpoint: http://phoenix.llm-observability.svc.cluster.local:6006
      # A second store, switched off: no pipeline names it. On a cluster that has Langfuse, add it below.
      # otlp_http/langfuse:
      #   endpoint: http://langfuse-web.langfuse.svc.cluster.local:3000/api/public/otel
      #   headers: {Authorization: "Basic ${env:LANGFUSE_AUTH}"}
    service:
      pipelines:
        traces:
          receivers: [otlp]
          processors: [memory_limiter, tail_sampling, redaction, batch]
          exporters: [otlp_http/phoenix]
      telemetry:
        metrics:
          readers:
            - pull: {exporter: {prometheus: {host: 0.0.0.0, port: 8888}}}
    """
    return (collector_yaml,)


@app.cell(hide_code=True)
def preview_collector_yaml(collector_yaml):
    draw_decisions.pipeline_picture(collector_yaml)
    return


@app.cell(hide_code=True)
def apply_collector_yaml(apply_collector, collector_yaml, lab):
    draw.collector_panel(lab, collector_yaml, apply_collector)
    return


@app.cell(hide_code=True)
def why_collector_yaml():
    mo.md(r"""
    **Why.** First the limiter, which makes senders try again instead of letting the Collector die. Then the sampler, which waits
    until a trace is whole: every error, whoever gets a bill, a tenth of the rest. Then redaction of what is left, in texts and
    in lists (`redact_all_types`). Batches last: they are made of what is really sent.
    """)
    return


@app.cell(hide_code=True)
def guess_order_answer(guess_order):
    nb.reveal(
        guess_order.value,
        truth="first",
        because="What arrives while memory is short is refused at the door, before the sampler keeps it for seconds.",
        instead={
            "last": "By then the data is in memory, in every processor before it.",
            "any": "It refuses what passes it, and only that.",
        },
    )
    return


@app.cell(hide_code=True)
def witness_collector(lab, see_collector):
    draw.witness_panel(lab, "collector", see_collector)
    return


@app.cell(hide_code=True)
def collector_by_hand():
    mo.md(r"""
    **By hand.** Traces hold questions. Who may read them? A pod of `llm-apps` may not: exit code 28 is a connection that nobody
    answers.
    """)
    return


@app.cell(hide_code=True)
def by_hand_collector(lab):
    nb.by_hand(
        lab,
        r"""
        kubectl exec -n llm-apps probe-app -- curl -sS -m 3 http://phoenix.llm-observability.svc.cluster.local:6006/healthz
        kubectl get pods -n llm-observability -l app=otel-collector
        """,
    )
    return


@app.cell(hide_code=True)
def board_collector(lab):
    lab.live(nb.board, "collector")
    return


@app.cell(hide_code=True)
def hints_collector(lab):
    lab.live(
        nb.task_hints,
        "collector",
        "`kubectl logs -n llm-observability deploy/otel-collector` names the line of a configuration that it cannot read.",
        "`tail_sampling` takes a trace if one policy says so: one by `status_code`, one `probabilistic`, and for the tenants `{type: string_attribute, string_attribute: {key: tenant_id, values: […]}}`.",
        "`redaction` masks by pattern, in attributes and in events; for an answer that does not wait: `OTEL_SPAN_PROCESSOR: batch`.",
    )
    return


@app.cell(hide_code=True)
def what_did_it_cost():
    mo.md(r"""
    ## 7 · What did it cost?

    A span says which model was asked, for whom, and how many tokens went in and came out. Prices change, so they stand in
    configuration: ConfigMap `llm-prices`, in dollars for a million tokens. The gateway counts tokens too, to limit them. Two
    counts of one thing must agree. The witness of part 5 asks as two tenants, and reads both counts.
    """)
    return


@app.cell(hide_code=True)
def guess_total():
    guess_total = nb.predict(
        "Which of these is an attribute of the conventions for a model's call?",
        {
            "both": "`gen_ai.usage.input_tokens` and `gen_ai.usage.output_tokens`",
            "total": "`gen_ai.usage.total_tokens`",
            "cost": "`gen_ai.usage.cost`",
        },
    )
    guess_total
    return (guess_total,)


@app.cell
def prices():
    prices = """
    # USD for a million tokens.
    $SERVED_MODEL: {input: 0.05, output: 0.20}
    """
    return (prices,)


@app.cell(hide_code=True)
def apply_prices(lab, prices, to_prices):
    draw.prices_panel(lab, prices, to_prices)
    return


@app.cell(hide_code=True)
def why_prices():
    mo.md(r"""
    **Why.** An output token costs several times an input token, so a sum of both has no price. A model that is not in the table must
    stand out: counted as free, it is the first that gets used.
    """)
    return


@app.cell(hide_code=True)
def cost_picture(lab):
    lab.live(draw_traces.cost_picture)
    return


@app.cell(hide_code=True)
def guess_total_answer(guess_total):
    nb.reveal(
        guess_total.value,
        truth="both",
        because="Input and output are counted apart, and priced apart. A total is a sum that whoever asks can make.",
        instead={
            "total": "There is none: it could only repeat the two, or contradict them.",
            "cost": "A price of today would stand in traces of last year.",
        },
    )
    return


@app.cell(hide_code=True)
def board_cost(lab):
    lab.live(nb.board, "cost")
    return


@app.cell(hide_code=True)
def hints_cost(lab):
    lab.live(
        nb.task_hints,
        "cost",
        "Which names may stand in the table? What the spans say in `gen_ai.request.model`.",
        "`input` and `output`, each a number above 0, for every model that is served.",
        "Counts differ? More by the spans: tokens stand on two spans of one trace. Fewer: the Collector's sampler dropped traces of a tenant who gets a bill.",
    )
    return


@app.cell(hide_code=True)
def the_loop():
    mo.md(r"""
    ## 8 · The loop

    No set holds the failure that nobody foresaw. The release `lost-page` passes your gate: one page of the documents was lost on
    the way, and no row asks for it. Let it serve users, find the answers that went wrong among the traces, and make a
    regression row of one. The next time, the gate knows.
    """)
    return


@app.cell(hide_code=True)
def guess_loop():
    guess_loop = nb.predict(
        "What must a trace hold, so that a row can be made of it?",
        {
            "prompt": "The question, and which passages were found",
            "status": "Its status and its duration",
            "tokens": "The token counts",
        },
    )
    guess_loop
    return (guess_loop,)


@app.cell(hide_code=True)
def witness_users(lab, see_users):
    draw.witness_panel(lab, "users", see_users)
    return


@app.cell(hide_code=True)
def failing_traces(lab):
    lab.live(draw_traces.suspects_table)
    return


@app.cell(hide_code=True)
def solve_users(lab):
    draw.brought_to_the_pods(lab)
    draw.run_now(lab, "users")
    return


@app.cell
def row():
    row = """
    id: r-after-a-restore
    question: How much of what was written is gone after a restore from a snapshot?
    expected:
      behaviour: answer
      chunks: [recovery-point]
      reference: Everything written after the snapshot; how much of that you accept is the recovery point objective.
    tags: [tier=pr, domain=memory]
    # $TRACE stands for the newest stored trace of this question.
    source: trace:$TRACE
    """
    return (row,)


@app.cell(hide_code=True)
def preview_row(lab, row):
    lab.live(draw_traces.row_preview, row)
    return


@app.cell(hide_code=True)
def apply_row(lab, row, to_row):
    draw_traces.row_panel(lab, row, to_row)
    return


@app.cell(hide_code=True)
def why_row():
    mo.md(r"""
    **Why.** The question stands as the user asked it. The passage that a right answer needs is named by its key, whether it was
    found or not. The trace's id leads back to what happened. A regression row is judged by itself: in a mean it would be lost.
    """)
    return


@app.cell(hide_code=True)
def witness_loop(lab, see_loop):
    draw.witness_panel(lab, "loop", see_loop)
    return


@app.cell(hide_code=True)
def solve_witnesses(lab):
    draw.all_witnesses(lab)
    return


@app.cell(hide_code=True)
def guess_loop_answer(guess_loop):
    nb.reveal(
        guess_loop.value,
        truth="prompt",
        because="A wrong answer is fast, ends with 200 and costs the usual. Only what was asked and what was found tell it from a right one.",
        instead={
            "status": "The status was OK. That is the trouble with it.",
            "tokens": "They were as many as ever.",
        },
    )
    return


@app.cell(hide_code=True)
def board_loop(lab):
    lab.live(nb.board, "loop")
    return


@app.cell(hide_code=True)
def hints_loop(lab):
    lab.live(
        nb.task_hints,
        "loop",
        "Look for a question whose passages are not about it: the status is the same, the passages are others.",
        "The row asks the same question, word for word, and expects the passage that a right answer needs.",
        "Which page says what is gone after a restore? `helpers/stack/corpus.yaml` lists the keys. `source` is `trace:` and the id.",
    )
    return


@app.cell(hide_code=True)
def whole_lab(PARTS, lab):
    lab.live(nb.scoreboard, PARTS)
    return


@app.cell(hide_code=True)
def look_again():
    tick = nb.refresh("10s")
    tick
    return (tick,)


@app.cell(hide_code=True)
def what_to_notice():
    mo.md(r"""
    ## What to notice

    - A gate is as good as its rows. An empty set, a target that is away and a bad candidate are three things, with three exit codes.
    - A bound nearer than the spread is a coin. More rows buy smaller bounds.
    - A judge is an instrument: measure it before you believe it.
    - What is kept of a trace is decided when it is whole. What nobody may read goes before it is stored.
    - Telemetry never makes an answer wait.
    - A failure that was seen once is a row from then on.
    """)
    return


@app.cell(hide_code=True)
def quiz_board(QUESTIONS, answers):
    nb.quiz_board(answers, QUESTIONS)
    return


@app.cell(hide_code=True)
def lab(answered, pressed, reconnect):
    # What marimo must not create anew when a cell above is edited.
    lab, acted = nb.open_page("07", reconnect.value, answered(), pressed=pressed)
    return acted, lab


@app.cell(hide_code=True)
def pressed():
    pressed = False  # `course solve` runs the solution with True: as if every button had been pressed
    return (pressed,)


@app.cell(hide_code=True)
def buttons():
    reconnect = mo.ui.run_button(label="Connect again")
    answered, cluster_answers = mo.state(None)
    place = nb.apply_button("Put what this lab needs in place", kind="neutral")
    to_sets = nb.apply_button("Deliver the reviewed sets")
    to_metrics = nb.apply_button("Deliver the metrics")
    to_judge = nb.apply_button("Deliver the judgement")
    measure_it = draw.run_or_stop("Measure the stable release")
    to_gate = nb.apply_button("Deliver the bounds")
    apply_analysis = nb.apply_button("Apply the template")
    apply_strategy = nb.apply_button("Apply the strategy")
    break_it = nb.apply_button("Break the glass")
    apply_otel = nb.apply_button("Deliver the settings")
    to_trace = nb.apply_button("Deliver the attributes")
    apply_collector = nb.apply_button("Apply the Collector")
    to_prices = nb.apply_button("Deliver the prices")
    to_row = nb.apply_button("Add the row")
    releases = draw.release_buttons()
    see_tree = nb.apply_button("Ask a question and show its trace", kind="neutral")
    see_judge = draw.run_or_stop("Let the judge label forty answers")
    see_gate = draw.run_or_stop("Send the releases to the gate")
    see_release = draw.run_or_stop("Release a bad one and a good one")
    see_trace = draw.run_or_stop("Follow some questions")
    see_collector = draw.run_or_stop("Put the Collector into trouble")
    see_users = draw.run_or_stop("Let users ask")
    see_loop = draw.run_or_stop("Send that release to the gate again")
    return (
        answered,
        apply_analysis,
        apply_collector,
        apply_otel,
        apply_strategy,
        break_it,
        cluster_answers,
        measure_it,
        place,
        reconnect,
        releases,
        see_collector,
        see_gate,
        see_judge,
        see_loop,
        see_release,
        see_trace,
        see_tree,
        see_users,
        to_gate,
        to_judge,
        to_metrics,
        to_prices,
        to_row,
        to_sets,
        to_trace,
    )


@app.cell(hide_code=True)
def look(acted, lab, tick):
    nb.look(lab, tick, acted)
    return


@app.cell(hide_code=True)
def parts_and_quiz():
    PARTS = (
        nb.Part("1 · Three data sets", 12, ("sets",)),
        nb.Part("2 · Metrics you can trust", 20, ("metrics",)),
        nb.Part("3 · Floors and drops", 18, ("floors",)),
        nb.Part("4 · The gate in the rollout", 25, ("gate",)),
        nb.Part("5 · A trace is a tree", 22, ("trace",)),
        nb.Part("6 · The Collector", 22, ("collector",)),
        nb.Part("7 · What did it cost?", 10, ("cost",)),
        nb.Part("8 · The loop", 21, ("loop",)),
    )
    QUESTIONS = [
        nb.Question(
            "The gate's Job cannot reach the candidate and ends with exit code 2. What becomes of the release?",
            (
                nb.Option("It goes on: nothing bad was found", "Nothing was found at all."),
                nb.Option(
                    "It is held, and somebody looks at the cluster",
                    "No verdict is no pass. The code says that the prompt is not to blame.",
                    right=True,
                ),
                nb.Option(
                    "It is held, and its author is asked to mend the prompt", "The prompt was never asked."
                ),
            ),
        ),
        nb.Question(
            "Before each run a job writes the candidate's own scores into the baseline. What does the gate stop?",
            (
                nb.Option("Everything that is worse than yesterday", "There is no yesterday in it any more."),
                nb.Option(
                    "Only what is below a floor: no drop is ever seen",
                    "A candidate is compared with itself. Baselines move by a reviewed change.",
                    right=True,
                ),
                nb.Option("Nothing", "The floors still hold."),
            ),
        ),
        nb.Question(
            "The service samples 10 per cent at the head, the Collector keeps all errors. Twenty errors happen. How many are stored?",
            (
                nb.Option("Twenty", "The Collector keeps all errors that it gets."),
                nb.Option(
                    "About two",
                    "What the head drops never arrives. Decide once, where the whole trace is.",
                    right=True,
                ),
                nb.Option("None", "One in ten is sent, whatever it is."),
            ),
        ),
        nb.Question(
            "A gate asks vLLM itself with the candidate's prompt. Retrieval is broken in the candidate. What does it say?",
            (
                nb.Option(
                    "It passes",
                    "It never went the users' way: no retrieval, no trimming, no policy was part of the test.",
                    right=True,
                ),
                nb.Option("It stops it", "Nothing in the test knows of retrieval."),
                nb.Option("It ends with exit code 2", "vLLM answers well."),
            ),
        ),
    ]
    answers = nb.quiz(QUESTIONS)
    return PARTS, QUESTIONS, answers


if __name__ == "__main__":
    app.run()
