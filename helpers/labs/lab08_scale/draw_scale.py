"""What lab 08 draws of load and of scalers: the knee, targets and rules, two views of one load, and one clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import marimo as mo
from markupsafe import Markup

from helpers.cluster.quantity import quantity
from helpers.errors import LabError
from helpers.labs.draw_witness import beside_the_page
from helpers.labs.lab08_scale import draw_pictures
from helpers.labs.lab08_scale.draw import seen_by
from helpers.labs.lab08_scale.draw_pictures import Level, Line, Row
from helpers.notebook.html import card, code, course, inline, note, table, with_outcome, word
from helpers.notebook.panel import applied, apply_button
from helpers.notebook.session import LabSession, needs_cluster, waiting_card
from helpers.stack import prometheus, scaling
from helpers.stack.inference import InferenceClient
from helpers.stack.load import WAITING, QueueSampler, closed_loop

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.progress import Progress

# 2. The knee

LEVELS = (1, 2, 4, 8, 16)
EACH, TOKENS = 2, 32


def knee_panel(lab: LabSession, buttons: Any) -> Any:
    """Closed loops of growing size against the pool, and where more at once brings no more tokens."""
    measured: list[Level] = []

    def work(cluster: Cluster, say: Progress, should_stop: Callable[[], bool]) -> object:
        with _pool(cluster) as client:
            for at_once in LEVELS:
                if should_stop():
                    break
                say(f"{at_once} at once, {EACH} questions each")
                measured.append(_level(client, at_once))
        return measured

    def outcome() -> Any:
        if not measured:
            return note("It asks one model server of the pool, through the page, for about a minute.")
        charts = draw_pictures.knee_charts(measured)
        return mo.vstack([*charts, course(inline(draw_pictures.knee_words(measured)), live=True)], gap=0)

    return beside_the_page(lab, buttons, work, outcome, failed="Nothing was measured.")


def _level(client: InferenceClient, at_once: int) -> Level:
    with QueueSampler(client, period_s=0.25) as sampler:
        result = closed_loop(client, clients=at_once, requests_each=EACH, max_tokens=TOKENS)
    if result.failed:
        raise LabError(
            f"{len(result.failed)} of {len(result.outcomes)} questions failed: {result.failed[0].fault}",
            next_command=f"kubectl get pods -n {scaling.BATCH} -l {scaling.POOL_LABELS}",
        )
    waiting = max((sample.waiting for sample in sampler.samples), default=0.0)
    return Level(at_once, result.tokens_per_s, result.ttft_s(0.5) or 0.0, waiting)


class _pool:
    """A client of one model server of the pool, over a port-forward, for as long as the block lasts."""

    def __init__(self, cluster: Cluster) -> None:
        self._forward = cluster.port_forward(scaling.BATCH, f"service/{scaling.POOL}", scaling.PORT)
        self._client: InferenceClient | None = None

    def __enter__(self) -> InferenceClient:
        self._client = InferenceClient(self._forward.__enter__().url, timeout_s=120)
        return self._client

    def __exit__(self, *trace: Any) -> None:
        if self._client:
            self._client.close()
        self._forward.__exit__(*trace)


# 4. What Prometheus asks, and what it makes of it


@needs_cluster
def targets_table(lab: LabSession) -> mo.Html:
    """Whom Prometheus asks, as it says itself, and when that last worked."""
    assert lab.cluster is not None
    found = prometheus.targets(lab.cluster.view())
    if not found:
        return note("Prometheus asks nobody: no monitor that it selects leads to a pod.", live=True)
    rows = [
        (
            code(item.namespace),
            code(item.pod or item.address),
            code(item.job),
            word("PASS", "up") if item.is_up else word("FAIL", "down"),
            item.error,
        )
        for item in found
    ]
    return card(table(("namespace", "pod", "job", "", "what went wrong"), rows), live=True)


@needs_cluster
def rules_table(lab: LabSession) -> mo.Html:
    """The rules that Prometheus has loaded, with what each one says now."""
    assert lab.cluster is not None
    found = prometheus.rules(lab.cluster.view())
    if not found:
        return note("Prometheus has loaded no rule: no PrometheusRule that it selects.", live=True)
    rows = [
        (
            code(item.name),
            item.kind,
            code(item.layer) if item.layer else "",
            _health(item.health, item.state),
            item.error,
        )
        for item in found
    ]
    return card(table(("rule", "kind", "layer", "", "what went wrong"), rows), live=True)


def _health(health: str, state: str) -> Markup:
    if health not in ("ok", "unknown"):
        return word("FAIL", health)
    return word("open" if state in ("firing", "pending") else "PASS", state or "evaluated")


# 5. Two views of one load

CPU_HPA = "vllm-cpu"
PHASES = ((15.0, 0), (30.0, 1), (45.0, 16))
CPU_TARGET, WAITING_TARGET = 70.0, 4.0
_PERIOD_S = 2.0


@dataclass(frozen=True)
class View:
    """One moment of a load: who asks, and what each scaler reads of it.

    Args:
        cpu: per cent of what the pods request, as metrics-server has it; None where it has nothing yet.
    """

    at_s: float
    callers: int
    waiting: float
    cpu: float | None
    replicas: int


def views_panel(lab: LabSession, buttons: Any) -> Any:
    """One load on one model server, as an HPA on CPU sees it and as KEDA does, drawn while it goes on."""
    seen: list[View] = []

    def work(cluster: Cluster, say: Progress, should_stop: Callable[[], bool]) -> object:
        with _pool(cluster) as client:
            began = time.monotonic()
            for seconds, callers in PHASES:
                until = time.monotonic() + seconds
                with _Callers(client, callers):
                    while time.monotonic() < until and not should_stop():
                        at_s = time.monotonic() - began
                        seen.append(_view(cluster.view(), client, at_s, callers))
                        say(f"{at_s:.0f} s: {callers} at once, {seen[-1].waiting:.0f} waiting")
                        time.sleep(_PERIOD_S)
        return seen

    def outcome() -> Any:
        if not seen:
            text = "It needs no scaler: what each would ask for is worked out by the HPA's own formula."
            return note(text)
        return mo.vstack(views_charts(seen), gap=0)

    return beside_the_page(lab, buttons, work, outcome, failed="The load was not seen to its end.")


def _view(view: ClusterView, client: InferenceClient, at_s: float, callers: int) -> View:
    waiting = client.metrics().value(WAITING) or 0.0
    deployment = view.get("Deployment", scaling.POOL, scaling.BATCH)
    cpu = _cpu_per_cent(view)
    return View(at_s, callers, waiting, cpu, int(deployment.path("spec.replicas", 1)))


def _cpu_per_cent(view: ClusterView) -> float | None:
    """What the pool's pods use of what they request, as an HPA counts it; None where nobody has measured it yet."""
    pods = {pod.name: pod for pod in scaling.live_pods(view, scaling.POOL_LABELS, scaling.BATCH)}
    used, asked = 0.0, 0.0
    for item in view.list("PodMetrics", scaling.BATCH):
        if item.name not in pods:
            continue
        used += sum(
            float(quantity((part.get("usage") or {}).get("cpu", 0)))
            for part in item.raw.get("containers") or []
        )
        for part in pods[item.name].path("spec.containers", []) or []:
            requests = (part.get("resources") or {}).get("requests") or {}
            asked += float(quantity(requests.get("cpu", 0)))
    return 100 * used / asked if used and asked else None


class _Callers:
    """So many callers, each asking without a pause, for as long as the block lasts."""

    def __init__(self, client: InferenceClient, count: int) -> None:
        self._client, self._stop = client, threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=120)

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                self._client.stream("Tell me a story.", max_tokens=TOKENS, ignore_eos=True, timeout_s=120)
            except LabError:
                self._stop.wait(1.0)  # the picture shows the gap


def views_charts(seen: list[View]) -> list[Any]:
    """Who asks, what each scaler reads, and what each would ask for, on one clock."""
    cpu = tuple((item.at_s, item.cpu) for item in seen if item.cpu is not None)
    waiting = tuple((item.at_s, item.waiting) for item in seen)
    hpa = tuple((at, float(draw_pictures.asked_for(1, value, CPU_TARGET))) for at, value in cpu)
    keda = tuple((at, float(min(2, max(1, ceil(value / WAITING_TARGET))))) for at, value in waiting)
    rows = [
        Row("callers", (Line("at once", tuple((item.at_s, float(item.callers)) for item in seen)),)),
        Row(
            "CPU, per cent",
            (Line("of what is requested, as the HPA reads it", cpu),),
            is_count=False,
            bound=CPU_TARGET,
        ),
        Row("waiting", (Line("in the engine, as KEDA reads it", waiting),), bound=WAITING_TARGET),
        Row("replicas", (Line("an HPA on CPU asks for", hpa), Line("KEDA asks for", keda))),
    ]
    return draw_pictures.clock_charts(rows, seen[-1].at_s if seen else 1.0)


def hpa_buttons() -> Any:
    """The two buttons of `hpa_panel`."""
    return mo.ui.dictionary(
        {
            "apply": apply_button("Apply the HPA", kind="neutral"),
            "delete": apply_button("Take the HPA away", kind="neutral"),
        }
    )


def hpa_panel(lab: LabSession, manifest: str, buttons: Any) -> Any:
    """Apply a colleague's HPA, and take it away again: no solution does either."""
    if lab.cluster is None:
        return waiting_card(lab)
    row = mo.hstack(list(buttons.values()), justify="start")
    if lab.asked(buttons["apply"], by_hand=True):
        return with_outcome(row, applied(lab, manifest))
    if lab.asked(buttons["delete"], by_hand=True):
        return with_outcome(row, _without_hpa(lab))
    return row


@needs_cluster
def _without_hpa(lab: LabSession) -> mo.Html:
    assert lab.cluster is not None
    kind, name = "HorizontalPodAutoscaler", CPU_HPA
    gone = lab.cluster.delete(kind, name, scaling.BATCH, wait_s=30, grace_s=1)
    said = f"{name} is gone" if gone else f"there is no {name}"
    return course(Markup("{} {}").format(word("PASS", "done"), said), live=True)


@needs_cluster
def scalers_table(lab: LabSession) -> mo.Html:
    """The two Deployments that are scaled: by whom, within which bounds, by what, and where they are now."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    rows = [_scaled(view, name, namespace) for name, namespace in scaling.SCALED.items()]
    return card(table(("Deployment", "scaled by", "from, to", "by", "replicas", "says"), rows), live=True)


def _scaled(view: ClusterView, name: str, namespace: str) -> tuple[Any, ...]:
    by = scaling.scalers_of(view, name, namespace)
    if not by:
        return (
            code(name),
            word("open", "nobody"),
            "",
            "",
            str(scaling.standing(view, name, namespace).asked),
            "",
        )
    now, found = scaling.standing(view, name, namespace), scaling.scaled_object(view, name, namespace)
    two = word("FAIL", "two scalers pull it to and fro") if len(by) > 1 else Markup()
    replicas = f"{now.ready} of {now.asked} ready" + (
        f", {now.desired} wanted" if now.desired is not None else ""
    )
    if found is None:
        return code(name), inline(", ".join(by)), "", "", replicas, two
    reads = ", ".join(trigger.kind for trigger in found.triggers)
    says = word("PASS", "Ready") if found.is_ready else word("FAIL", "not Ready")
    fallback = Markup(" {}").format(word("open", "by its fallback")) if now.fallback else ""
    bounds = f"{found.minimum} to {found.maximum}"
    return (
        code(name),
        inline(", ".join(by)),
        bounds,
        reads,
        replicas,
        Markup("{}{}{}").format(says, fallback, two),
    )


# On one clock

_WINDOW_S, _STEP_S = 600.0, 5.0
_FIRST_TOKENS = 'vllm:time_to_first_token_seconds_bucket{namespace="llm-batch"}'
# Every pod tells lag and pending alike: one of them, never their sum.
CLOCK = {
    "lag": "max(llm_jobs_waiting)",
    "pending": "max(llm_jobs_pending)",
    "engine": 'sum(vllm:num_requests_waiting{namespace="llm-batch"})',
    "pool": 'count(vllm:num_requests_waiting{namespace="llm-batch"})',
    "workers": 'count(llm_jobs_held{pod=~"llm-worker-.+"})',
    "first_token": f"histogram_quantile(0.95, sum by (le) (rate({_FIRST_TOKENS}[30s])))",
}


@needs_cluster
def clock_picture(lab: LabSession) -> Any:
    """The last ten minutes: who waits, how many replicas there are, the first token, and what is held for it."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    series = {name: _one(view, query) for name, query in CLOCK.items()}
    if not any(series.values()):
        return note("The picture appears when Prometheus asks the pool and the workers.")
    slices = draw_pictures.held(series["pool"])
    rows = [
        Row(
            "waiting",
            (
                Line("in the queue (lag)", series["lag"]),
                Line("in work (pending)", series["pending"]),
                Line("inside the model servers", series["engine"]),
            ),
        ),
        Row("replicas", (Line("pool", series["pool"]), Line("workers", series["workers"]))),
        Row("s to first token", (Line("95th percentile", series["first_token"]),), is_count=False),
        Row("slice-minutes", (Line("held by the pool so far", slices),), is_count=False),
    ]
    return mo.vstack(draw_pictures.clock_charts(rows, _WINDOW_S), gap=0)


def _one(view: ClusterView, query: str) -> tuple[tuple[float, float], ...]:
    """The one series that a query brings, by seconds since the picture's beginning; empty where it brings none."""
    found = prometheus.query_range(view, query, seconds=_WINDOW_S, step_s=_STEP_S)
    return draw_pictures.gap_free(found[0].points) if found else ()


# What witnesses saw


@needs_cluster
def wave_picture(lab: LabSession) -> Any:
    """What the witness of the wave saw: how many replicas were asked for, and what became of the answers."""
    assert lab.cluster is not None
    seen = seen_by(lab.cluster, "wave")
    if not seen:
        return note("The picture appears when the witness has sent its wave.")
    line, seconds = replicas_line(seen)
    charts = draw_pictures.clock_charts([Row("replicas", (line,))], seconds)
    return mo.vstack([*charts, course(inline(wave_words(seen)), live=True)], gap=0)


def replicas_line(seen: Mapping[str, Any]) -> tuple[Line, float]:
    """The replicas that were asked for, from rest to the end, and how long that took."""
    now = float(seen.get("rest") or 1)
    points = [(0.0, now)]
    for at, _, after in seen.get("changes") or []:
        points.append((float(at), float(after)))
    seconds = points[-1][0] + 20.0
    return Line("asked for", (*points, (seconds, points[-1][1]))), seconds


def wave_words(seen: Mapping[str, Any]) -> str:
    """The wave in a sentence or two."""
    asked = seen.get("asked_s")
    if asked is None:
        first = "Sixteen asked at once, and no second replica was asked for."
    else:
        served = "" if seen.get("ready_s") is None else f", and served after {seen['ready_s']:.0f} s"
        first = f"A second replica was asked for **{asked:.0f} s** after the step{served}."
    changes = f"{seen.get('ups', 0)} up, {seen.get('downs', 0)} down."
    lost = seen.get("lost", 0)
    return f"{first} {changes} Of {seen.get('asked', 0)} answers {'none was' if not lost else f'{lost} were'} lost."
