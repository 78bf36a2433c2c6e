"""The pictures and panels of lab 02: a start as a time line, a crash in its own words, a queue as curves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import altair as alt
import marimo as mo
import pandas as pd
from markupsafe import Markup

from helpers import kubeyaml
from helpers.cluster import shapes
from helpers.cluster.manifests import load, parse
from helpers.cluster.patches import merge
from helpers.errors import InvalidManifest, LabError
from helpers.labs.lab02_inference import drain, queue_witness, witness
from helpers.notebook.charts import AMBER, BLUE, GREEN, GREY, LEAST_WIDTH, ONE_MARGIN_PX, RED, TEAL, look
from helpers.notebook.html import (
    card,
    code,
    course,
    cut,
    inline,
    note,
    problem_card,
    spinner,
    table,
    with_outcome,
    word,
)
from helpers.notebook.panel import applied, preview
from helpers.notebook.reset import NOTHING_TO_DELETE, reset_button, reset_part
from helpers.notebook.session import LabSession, needs_cluster, waiting_card
from helpers.stack import serving
from helpers.stack.inference import InferenceClient, InferenceFault
from helpers.stack.load import LoadResult, QueueSample, QueueSampler, closed_loop
from helpers.stack.serving import SMOLLM2_135M, Moment

if TYPE_CHECKING:
    from helpers.cluster import Cluster
    from helpers.cluster.resource import Pod

Manifest = dict[str, Any]
START_TIMEOUT_S = 240.0
REDRAW_S, SETTLE_S = 1.0, 4.0
LETTER_PX = 6.3
LANES = ("phase", "container", "traffic")
EMBEDDED_CACHE_BYTES = 805306368
LEVELS = (1, 4, 12)


def serving_session(lab: LabSession) -> LabSession:
    """The session with more names for manifests: `$STORAGE_CLASS`, `$MODEL_ID`, `$SERVED_MODEL`, `$CONFIG_CHECKSUM`.

    The checksum is the one of the ConfigMap in the cluster now.
    """
    if lab.cluster is None or lab.profile is None:
        return lab
    try:
        found = lab.cluster.view().find("ConfigMap", serving.CONFIG_MAP, serving.NAMESPACE)
    except LabError:
        found = None
    data = (found.raw.get("data") or {}) if found else {}
    names = {
        "storage_class": lab.profile.storage_class,
        "model_id": lab.profile.model,
        "served_model": lab.profile.served_model_name,
        "config_checksum": serving.config_checksum(data),
    }
    return replace(lab, images={**lab.images, **names})


def vllm_objects(lab: LabSession) -> list[Manifest]:
    """vLLM's manifests for this cluster; empty without one."""
    if lab.cluster is None:
        return []
    try:
        return serving.manifests(lab.cluster)
    except LabError:
        return []


# Manifests with a fragment of the learner's


def with_fragment(lab: LabSession, objects: Sequence[Manifest], *fragments: str) -> str:
    """The Deployment with YAML fragments laid over it, as text for a panel.

    Raises:
        InvalidManifest: a fragment is not YAML, or not a mapping.
    """
    lab = serving_session(lab)  # the checksum of the ConfigMap as it is now
    deployment = serving.only(list(objects), "Deployment")
    for fragment in fragments:
        trees = parse(lab.render(fragment))
        if len(trees) != 1 or not isinstance(trees[0], Mapping):
            raise InvalidManifest("the fragment is not a mapping: it begins with `spec:`")
        deployment = merge(deepcopy(deployment), trees[0], keyed=True)
    shapes.check(deployment, shapes.DEPLOYMENT)
    return kubeyaml.dump(deployment)


@needs_cluster
def deployment_preview(lab: LabSession, objects: Sequence[Manifest], fragments: Sequence[str]) -> mo.Html:
    """What Apply would change in the Deployment with these fragments."""
    return preview(lab, with_fragment(lab, objects, *fragments)) if objects else waiting_card(lab)


@needs_cluster
def deployment_panel(
    lab: LabSession,
    objects: Sequence[Manifest],
    fragments: Sequence[str],
    button: Any,
    *,
    first: Sequence[str] = (),
) -> Any:
    """Apply button of the Deployment with its fragments, the way back, and what became of it.

    Args:
        first: the fragments of the part before: the way back puts them back; without any it deletes the Deployment.
    """
    if not objects:
        return waiting_card(lab)
    text = with_fragment(lab, objects, *fragments)
    whole = mo.accordion({"The whole Deployment": mo.md(f"```yaml\n{text}\n```")})
    said = [applied(lab, text)] if lab.asked(button) else []
    before = with_fragment(lab, objects, *first) if first else ""
    row = mo.hstack([button, reset_part(lab, text, first=before)], justify="start")
    return mo.vstack([row, *said, whole], gap=0.5)


# The start as a time line


def start_timeline(lab: LabSession, button: Any, *, by_hand: bool = False) -> Any:
    """What pod phase, container and Service say from now on, drawn while it happens.

    In a page it runs beside the other cells and ends by itself; where a solution runs it waits, unless `by_hand`.
    """
    if lab.cluster is None:
        return waiting_card(lab)
    if not lab.asked(button, by_hand=by_hand):
        return note("The time line begins when you apply.")
    if lab.pressed:
        return _waited_timeline(lab)
    mo.Thread(target=_draw_timeline, args=(lab,)).start()
    return note("Watching…")


def _waited_timeline(lab: LabSession) -> Any:
    assert lab.cluster is not None
    view = lab.cluster.view()
    seen = serving.watch(
        lab.cluster,
        timeout_s=START_TIMEOUT_S,
        until=lambda now: serving.is_serving(now) and serving.is_rolled_out(view),
    )
    return timeline_chart(seen)


def _draw_timeline(lab: LabSession) -> None:
    assert lab.cluster is not None
    seen: list[Moment] = []
    drawn_s = settled_s = None

    def draw(now: list[Moment]) -> bool:
        nonlocal drawn_s
        seen.extend(now)
        at_s = now[0].at_s if now else None
        if at_s is None or drawn_s is None or at_s - drawn_s >= REDRAW_S:
            mo.output.replace(mo.vstack([timeline_chart(seen), _timeline_words(now)]))
            drawn_s = at_s
        return not mo.current_thread().should_exit

    def settled(now: list[Moment]) -> bool:
        # The pod of before may still answer for a moment: a start is one that was seen not ready. A few seconds
        # more are drawn, so that the traffic is seen to come.
        nonlocal settled_s
        if not (serving.is_serving(now) and any(not item.in_endpoints for item in seen)):
            return False
        settled_s = now[0].at_s if settled_s is None else settled_s
        return now[0].at_s - settled_s >= SETTLE_S

    try:
        serving.watch(lab.cluster, timeout_s=START_TIMEOUT_S, until=settled, on_moment=draw)
    except LabError as problem:
        mo.output.replace(problem_card(str(problem), problem.next_command))
        return
    if settled_s is None and not mo.current_thread().should_exit:
        end = f"Watched for {START_TIMEOUT_S:.0f} s: nothing is served yet. Apply again to keep watching."
        mo.output.replace(mo.vstack([timeline_chart(seen), note(end, live=True)]))


def _timeline_words(now: list[Moment]) -> mo.Html:
    line = Markup(
        "<code>{item.pod}</code> is <b>{item.phase}</b> ({item.state}, restarts: {item.restarts}), "
        "and the Service {sends}."
    )
    said = [
        line.format(item=item, sends="sends it traffic" if item.in_endpoints else "sends it nothing")
        for item in now
    ]
    return course(Markup("<br>").join(said) or "no pod yet", live=True)


@dataclass(frozen=True)
class Segment:
    """A stretch of time in which one lane said the same."""

    lane: str
    said: str
    begin_s: float
    end_s: float


def segments(moments: Iterable[Moment]) -> list[Segment]:
    """Moments joined to stretches: phase, container and endpoint of each pod."""
    open_ones: dict[str, Segment] = {}
    done: list[Segment] = []
    for moment in moments:
        short = moment.pod.rpartition("-")[2]
        again = f", restart {moment.restarts}" if moment.restarts else ""
        said_by = (
            moment.phase,
            f"{moment.state}{again}",
            "gets traffic" if moment.in_endpoints else "no traffic",
        )
        lanes = {f"{short} · {lane}": said for lane, said in zip(LANES, said_by, strict=True)}
        for lane, said in lanes.items():
            before = open_ones.get(lane)
            if before is not None and before.said == said:
                open_ones[lane] = replace(before, end_s=moment.at_s)
                continue
            if before is not None:
                done.append(replace(before, end_s=moment.at_s))
            open_ones[lane] = Segment(lane, said, moment.at_s, moment.at_s)
    return [*done, *open_ones.values()]


def timeline_chart(moments: Sequence[Moment]) -> Any:
    """Three lanes a pod over time: the phase people look at, the container, and the traffic that counts."""
    stretches = segments(moments)
    if not stretches:
        return note("No pod of vLLM yet.")
    end_s = max(max(item.end_s for item in stretches), 5.0)
    frame = pd.DataFrame([_stretch(item, end_s) for item in stretches])
    pods = dict.fromkeys(moment.pod.rpartition("-")[2] for moment in moments)
    lanes = [f"{pod} · {lane}" for pod in pods for lane in LANES]
    x = alt.X("from:Q", title="seconds since you pressed the button", scale=alt.Scale(domain=[0, end_s]))
    y = alt.Y("lane:N", title=None, sort=lanes, axis=alt.Axis(labelLimit=320))
    bars = (
        alt.Chart(frame)
        .mark_bar(height=18, cornerRadius=3)
        .encode(
            x=x,
            x2="to:Q",
            y=y,
            color=alt.Color("tone:N", scale=None),
            tooltip=[
                "lane:N",
                "says:N",
                alt.Tooltip("from:Q", format=".1f"),
                alt.Tooltip("to:Q", format=".1f"),
            ],
        )
    )
    words = (
        alt.Chart(frame)
        .mark_text(align="left", dx=4, color="white", fontSize=11)
        .encode(x=x, y=y, text="shown:N")
    )
    return look((bars + words).properties(height=28 * len(lanes)))


def _stretch(item: Segment, end_s: float) -> dict[str, Any]:
    """A stretch as a row; its word is written only where it fits, and a moment still shows as a line."""
    room_px = (item.end_s - item.begin_s) / end_s * LEAST_WIDTH - 8
    return {
        "lane": item.lane,
        "says": item.said,
        "shown": item.said if len(item.said) * LETTER_PX <= room_px else "",
        "from": item.begin_s,
        "to": max(item.end_s, item.begin_s + end_s / 200),
        "tone": _tone(item.said),
    }


def _tone(said: str) -> str:
    if said in ("gets traffic", "Succeeded"):
        return GREEN
    if said.startswith(("Running", "running")):
        return BLUE
    if "Crash" in said or "Err" in said or said == "Failed":
        return RED
    return AMBER if said.startswith("Terminating") else GREY


# A crash in its own words


@needs_cluster
def crash_panel(lab: LabSession) -> mo.Html:
    """The newest pod of vLLM: how its container ended last, what the kubelet did, and the last words of the log."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    pods = view.pods(serving.NAMESPACE, labels=serving.LABELS)
    if not pods:
        return note("No pod of vLLM yet.")
    pod = max(pods, key=lambda item: str(item.metadata.get("creationTimestamp")))
    state = next((item for item in pod.container_states if item.name == serving.CONTAINER), None)
    events = view.events(serving.NAMESPACE, involved=("Pod", pod.name))
    killed = [event for event in events if event.reason == "Killing"]
    if state is None or state.newest_exit_code is None:
        if killed:
            being = word("refused", "being ended")
            return card(Markup("{} {}: {}.").format(being, code(pod.name), inline(killed[-1].message)))
        none = word("none", "no crash")
        return card(Markup("{} The container of {} has not ended yet.").format(none, code(pod.name)))
    by = inline(
        f"was killed by the kubelet: {killed[-1].message}"
        if killed
        else "ended by itself: the kubelet did not kill it"
    )
    log = (
        "\n".join(_last_words(lab, pod, previous=not state.is_down))
        or "(empty: it ended before it wrote its first line)"
    )
    return card(
        Markup(
            '<div class="row">{ended}<span><code>{pod.name}</code> {by}. '
            "Exit code <b>{state.newest_exit_code}</b>, restarts: {state.restarts}.</span></div>"
            "<details open><summary>The end of its log</summary><pre>{log}</pre></details>"
        ).format(ended=word("refused", "ended"), pod=pod, by=by, state=state, log=log)
    )


def _last_words(lab: LabSession, pod: Pod, *, previous: bool, most: int = 8) -> list[str]:
    assert lab.cluster is not None
    try:
        log = lab.cluster.logs(
            serving.NAMESPACE, pod.name, container=serving.CONTAINER, previous=previous, tail_lines=120
        )
    except LabError as problem:
        return [str(problem)]
    lines = [line for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if "VLLM_PORT" in line or "Error" in line]
    return [cut(line, 220) for line in (telling or lines)[-most:]]


# Serving policy as arithmetic


def kv_picture(lab: LabSession, config_yaml: str) -> Any:
    """The worst case that a serving policy admits, against the tokens the KV cache holds."""
    try:
        (found,) = (item for item in load(lab.render(config_yaml)) if item["kind"] == "ConfigMap")
        shapes.check(found, shapes.CONFIG_MAP)
        length, seqs = (int((found.get("data") or {})[name]) for name in ("MAX_MODEL_LEN", "MAX_NUM_SEQS"))
        if length < 1 or seqs < 1:
            raise ValueError("a length and a number of sequences are 1 or more")
    except InvalidManifest as problem:
        return problem_card(str(problem), title="The picture waits for readable YAML.")
    except (KeyError, ValueError):
        return note("The picture needs MAX_MODEL_LEN and MAX_NUM_SEQS as numbers.")
    held = kv_tokens(lab)
    wanted = length * seqs
    pill = word("fits", "fits") if wanted <= held else word("refused", "too large")
    frame = pd.DataFrame(
        [
            {"what": "admitted at worst", "tokens": wanted, "tone": BLUE if wanted <= held else RED},
            {"what": "KV cache holds", "tokens": held, "tone": TEAL},
        ]
    )
    bars = (
        alt.Chart(frame)
        .mark_bar(height=18, cornerRadius=3)
        .encode(
            x=alt.X("tokens:Q", title="tokens", axis=alt.Axis(tickCount=6)),
            y=alt.Y("what:N", title=None, sort=None, axis=alt.Axis(labelLimit=320)),
            color=alt.Color("tone:N", scale=None),
            tooltip=["what:N", alt.Tooltip("tokens:Q", format=",")],
        )
    )
    words = Markup(
        "{pill} {length:,} tokens × {seqs} sequences = <b>{wanted:,}</b> at worst; the cache holds <b>{held:,}</b>. "
        "<small>One token of SmolLM2-135M costs {model.bytes_per_token:,} bytes of cache: "
        "a key and a value in each of 30 layers for 3 KV heads of 64 numbers.</small>"
    ).format(pill=pill, length=length, seqs=seqs, wanted=wanted, held=held, model=SMOLLM2_135M)
    return mo.vstack([look(bars.properties(height=64)), course(words, live=True)])


def kv_tokens(lab: LabSession) -> int:
    """What the running server says its cache holds; before it runs, what its flag amounts to."""
    from helpers.stack.metrics import Metrics

    if lab.cluster is not None:
        try:
            answer = lab.cluster.view().http(serving.NAMESPACE, serving.SERVICE, serving.PORT, "/metrics")
            info = Metrics.parse(answer.body).select("vllm:cache_config_info") if answer.ok else []
            if info:
                return int(info[0].labels["num_gpu_blocks"]) * int(info[0].labels["block_size"])
        except (LabError, KeyError, ValueError):
            pass  # not serving yet: the arithmetic below says the same
    return SMOLLM2_135M.tokens(EMBEDDED_CACHE_BYTES)


# Requests


@dataclass(frozen=True)
class Asked:
    """One request of the panel and what came of it."""

    what: str
    said: str
    retryable: bool | None


def _with_button(lab: LabSession, button: Any, part: Callable[[], Any], *, job: str = "") -> Any:
    """The button, and below it what pressing it did; it stays where that ends in a card.

    A witness's `job` is what the part leaves in the cluster: the way back deletes it.
    """
    if lab.cluster is None:
        return waiting_card(lab)
    row = mo.hstack([button, _forget(lab, lab.cluster, job)], justify="start") if job else button
    return with_outcome(row, part() if lab.asked(button) else None)


def _forget(lab: LabSession, cluster: Cluster, job: str) -> Any:
    return reset_button(
        lab, lambda: forgotten(cluster, job), tooltip=f"Deletes the Job {job} with what it saw."
    )


def forgotten(cluster: Cluster, job: str) -> str:
    """The way back of a witness's part: the cluster without its Job."""
    was_there = cluster.delete("Job", job, witness.APPS, wait_s=30, grace_s=1)
    return f"Deleted: Job {job}." if was_there else NOTHING_TO_DELETE


def ask_panel(lab: LabSession, button: Any) -> Any:
    """Five requests to the live service: what it answers, and whether trying again could help."""
    return _with_button(lab, button, lambda: _asked(lab))


@needs_cluster
def _asked(lab: LabSession) -> mo.Html:
    if not _served(lab):
        return _nobody_serves()
    with (
        spinner("Five requests", "the answers take some seconds"),
        _client(lab) as client,
    ):
        rows = [_row(item) for item in five_requests(client)]
    return card(table(("request", "what came back", "try again?"), rows))


def five_requests(client: InferenceClient) -> list[Asked]:
    """A health check, a smoke test, and three requests that are wrong in three ways."""
    model = client.models()[0]
    too_long = "word " * (model.max_model_len or 4096)
    return [
        _try("GET /health", lambda: f"{client.health().status}"),
        _try(
            "smoke test: a chat of 12 tokens",
            lambda: f"200: “{client.chat('Say hello.', max_tokens=12).text}”",
        ),
        _try(f"model `{model.id}-large`", lambda: client.chat("Hi", model=f"{model.id}-large").text),
        _try("a prompt longer than the context", lambda: client.chat(too_long).text),
        _try(
            "a port nobody listens on",
            lambda: InferenceClient("http://127.0.0.1:9", model="x").chat("Hi").text,
        ),
    ]


def _try(what: str, call: Callable[[], str]) -> Asked:
    try:
        return Asked(what, call(), None)
    except InferenceFault as fault:
        return Asked(what, cut(f"`{type(fault).__name__}` {fault}", 240), fault.retryable)


def _row(item: Asked) -> tuple[str, str, str]:
    if item.retryable is None:
        return inline(item.what), inline(item.said), ""
    pill = word("open", "yes, it may pass") if item.retryable else word("refused", "never")
    return inline(item.what), inline(item.said), pill


@needs_cluster
def context_panel(lab: LabSession, prompt: str, answer_tokens: int, *_triggers: object) -> Any:
    """How a prompt and its answer share the context, counted by the server's own tokenizer."""
    if not _served(lab):
        return _nobody_serves()
    with _client(lab) as client:
        counted = client.count_tokens([{"role": "user", "content": prompt}])
    room = counted.room(answer_tokens)
    parts = {"prompt": counted.count, "answer": answer_tokens, "free": max(0, room)}
    frame = pd.DataFrame(
        [{"part": part, "tokens": size, "n": n} for n, (part, size) in enumerate(parts.items())]
    )
    bar = (
        alt.Chart(frame)
        .mark_bar(height=22)
        .encode(
            x=alt.X(
                "tokens:Q",
                title="tokens",
                stack="zero",
                axis=alt.Axis(tickCount=8),
                scale=alt.Scale(nice=False),
            ),
            color=alt.Color(
                "part:N",
                title=None,
                scale=alt.Scale(domain=list(parts), range=[BLUE, AMBER, GREY]),
                legend=alt.Legend(orient="top"),
            ),
            order="n:Q",
            tooltip=["part:N", "tokens:Q"],
        )
    )
    limit = pd.DataFrame([{"tokens": counted.max_model_len}])
    rule = alt.Chart(limit).mark_rule(size=3, color=RED, strokeDash=[5, 3]).encode(x="tokens:Q")
    verdict = word("fits", "fits") if room >= 0 else word("refused", "400")
    over = f"{-room} tokens too many" if room < 0 else f"{room} left"
    said = Markup(
        "{} prompt {} (with the chat template) + answer {} of a context of {} (dashed line): <b>{}</b>"
    ).format(verdict, counted.count, answer_tokens, counted.max_model_len, over)
    return mo.vstack([look((bar + rule).properties(height=30)), course(said, live=True)])


def _served(lab: LabSession) -> bool:
    """Whether the Service has anybody to send a request to."""
    assert lab.cluster is not None
    return any(item.ready for item in lab.cluster.view().endpoints(serving.SERVICE, serving.NAMESPACE))


def _nobody_serves() -> mo.Html:
    said = "No pod is Ready, so the Service `vllm` has no pod to send a request to: do part 2 first."
    return course(Markup("{} {}").format(word("none", "not served"), inline(said)), live=True)


class _client:
    """A client over a port-forward to the Service, for as long as the block lasts."""

    def __init__(self, lab: LabSession) -> None:
        assert lab.cluster is not None
        self._forward = lab.cluster.port_forward(
            serving.NAMESPACE, f"service/{serving.SERVICE}", serving.PORT
        )
        self._client: InferenceClient | None = None

    def __enter__(self) -> InferenceClient:
        self._client = InferenceClient(self._forward.__enter__().url, timeout_s=120)
        return self._client

    def __exit__(self, *trace: Any) -> None:
        if self._client:
            self._client.close()
        self._forward.__exit__(*trace)


# A rollout under load


def drain_panel(
    lab: LabSession,
    objects: Sequence[Manifest],
    fragments: Sequence[str],
    button: Any,
    *_first: object,
) -> Any:
    """Start the witness, roll out the Deployment while its answers are in flight, and hear what it got.

    Further arguments only make marimo run other cells first. Where a solution runs it waits for the new pod.
    """
    part = _with_button(lab, button, lambda: _drained(lab, objects, fragments), job=drain.JOB)
    return mo.vstack([part, _waited_timeline(lab)]) if lab.pressed and lab.cluster else part


@needs_cluster
def _drained(lab: LabSession, objects: Sequence[Manifest], fragments: Sequence[str]) -> mo.Html:
    cluster = lab.cluster
    assert cluster is not None
    if not _served(lab):
        return _nobody_serves()
    manifest = with_fragment(lab, objects, *fragments)
    with spinner("The witness") as say:
        heard = drain.run(
            cluster,
            lambda: serving.roll_out(cluster, manifest),
            progress=say,
        )
    pill = (
        word("PASS", "none lost")
        if heard.ok
        else word("FAIL", f"{heard.broken} of {drain.ANSWERS} broken off")
    )
    return card(Markup("{} The witness says:<pre>{}</pre>").format(pill, heard.log))


@needs_cluster
def cache_panel(lab: LabSession) -> mo.Html:
    """What the newest pod's init container found in the model cache."""
    assert lab.cluster is not None
    pods = lab.cluster.view().pods(serving.NAMESPACE, labels=serving.LABELS)
    newest = max(pods, key=lambda item: str(item.metadata.get("creationTimestamp")), default=None)
    names = [item["name"] for item in newest.path("spec.initContainers", [])] if newest else []
    if newest is None or serving.CACHE_CONTAINER not in names:
        return note("No pod that fills the cache yet.")
    try:
        log = lab.cluster.logs(
            serving.NAMESPACE, newest.name, container=serving.CACHE_CONTAINER, tail_lines=12
        )
    except LabError as problem:
        return note(str(problem))
    first = next((line for line in log.splitlines() if line.startswith("cache ")), log.strip()[:160])
    pill = word("fits", "hit") if "cache hit" in first else word("open", "miss")
    return card(Markup("{} {}: {}").format(pill, code(newest.name), first))


# Load, measured


@dataclass(frozen=True)
class Level:
    """One level of concurrency as it was measured."""

    clients: int
    result: LoadResult
    samples: tuple[QueueSample, ...]


def load_panel(
    lab: LabSession,
    button: Any,
    *,
    levels: Sequence[int] = LEVELS,
    max_tokens: int = 32,
) -> Any:
    """Run closed loops of growing size against the service and draw what was measured."""
    return _with_button(lab, button, lambda: _loaded(lab, levels, max_tokens), job=queue_witness.JOB)


@needs_cluster
def _loaded(lab: LabSession, levels: Sequence[int], max_tokens: int) -> Any:
    if not _served(lab):
        return _nobody_serves()
    measured = measure(lab, levels, max_tokens)
    return mo.vstack([level_charts(measured), queue_chart(measured[-1]), queue_testimony(lab)])


def queue_testimony(lab: LabSession) -> Any:
    """The same once more from inside, by a Job: its word outlives the process whose metrics forget."""
    assert lab.cluster is not None
    with spinner(f"Job {queue_witness.JOB}") as say:
        most = queue_witness.run(lab.cluster, progress=say)
    return mo.md(
        f"Job `{queue_witness.JOB}` in `{witness.APPS}` asked twenty-four times at once, and saw at most "
        f"**{most if most is not None else 'nobody'}** waiting. The next pod of vLLM starts with empty metrics; "
        "the Job keeps what it saw."
    )


def measure(lab: LabSession, levels: Sequence[int], max_tokens: int) -> list[Level]:
    """Each level of concurrency, twice as many requests as clients, with the queue sampled beside it."""
    found = []
    with (
        _client(lab) as client,
        mo.status.progress_bar(total=len(levels), title="Load on the service") as bar,
    ):
        for clients in levels:
            with QueueSampler(client, period_s=0.25) as sampler:
                result = closed_loop(client, clients=clients, requests_each=2, max_tokens=max_tokens)
            found.append(Level(clients, result, tuple(sampler.samples)))
            bar.update(subtitle=f"{clients} clients: {result.tokens_per_s:.0f} tokens/s")
    return found


def level_charts(levels: Sequence[Level]) -> Any:
    """Throughput and time to first token by number of clients."""
    frame = pd.DataFrame(
        [
            {
                "clients": str(level.clients),
                "tokens/s": level.result.tokens_per_s,
                "median": level.result.ttft_s(0.5) or 0.0,
                "p95": level.result.ttft_s(0.95) or 0.0,
                "failed": len(level.result.failed),
            }
            for level in levels
        ]
    )
    x = alt.X("clients:N", sort=None, title="clients at once", axis=alt.Axis(labelAngle=0))
    tips: list[Any] = [
        "clients:N",
        alt.Tooltip("tokens/s:Q", format=".0f"),
        alt.Tooltip("p95:Q", format=".2f"),
        "failed:Q",
    ]
    throughput = (
        alt.Chart(frame)
        .mark_bar(color=TEAL, size=34)
        .encode(x=x, y=alt.Y("tokens/s:Q", title="tokens per second"), tooltip=tips)
    )
    base = alt.Chart(frame).encode(x=x, tooltip=tips)
    y = alt.Y("p95:Q", title="seconds to the first token")
    wait = base.mark_bar(color=AMBER, opacity=0.45, size=34).encode(y=y) + base.mark_tick(
        color=AMBER, thickness=4, size=34
    ).encode(y="median:Q")
    whose_wait = ["One client's wait:", "median (line), 95th percentile (bar)"]
    sides = [
        look(throughput.properties(title=["All clients", "together"], height=190)),
        look(wait.properties(title=whose_wait, height=190)),
    ]
    return mo.hstack(sides, widths="equal")


def queue_chart(level: Level) -> Any:
    """Running, waiting and KV-cache use over one run, by the server's own metrics."""
    rows = [
        {"s": sample.at_s, "requests": value, "series": name}
        for sample in level.samples
        for name, value in (("running", sample.running), ("waiting", sample.waiting))
    ]
    if not rows:
        return note("The server gave no metrics during this run.")
    colour = alt.Color(
        "series:N",
        title=None,
        scale=alt.Scale(domain=["running", "waiting"], range=[BLUE, AMBER]),
        legend=alt.Legend(orient="top"),
    )
    lines = (
        alt.Chart(pd.DataFrame(rows))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("s:Q", title="seconds"),
            y=alt.Y("requests:Q", axis=alt.Axis(minExtent=ONE_MARGIN_PX)),
            color=colour,
            tooltip=["s:Q", "series:N", "requests:Q"],
        )
        .properties(height=150, title=f"{level.clients} clients: the queue by the server's own metrics")
    )
    use = pd.DataFrame([{"s": sample.at_s, "KV cache": sample.kv_usage} for sample in level.samples])
    cache = (
        alt.Chart(use)
        .mark_area(color=TEAL, opacity=0.25, line={"color": TEAL}, interpolate="step-after")
        .encode(
            x=alt.X("s:Q", title="seconds"),
            y=alt.Y(
                "KV cache:Q",
                title="KV cache",
                axis=alt.Axis(format="%", tickCount=3, minExtent=ONE_MARGIN_PX),
            ),
        )
        .properties(height=80)
    )
    return mo.vstack([look(lines), look(cache)], gap=0)
