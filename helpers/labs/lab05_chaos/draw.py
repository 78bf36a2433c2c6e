"""Experiments on a page: run in the background, their time line drawn while they run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import marimo as mo
import pandas as pd
from markupsafe import Markup

from helpers import kubeyaml
from helpers.errors import LabError, StepMissing
from helpers.notebook.charts import GREEN, INK, ONE_MARGIN_PX, RED, look, words_beside
from helpers.notebook.html import card, code, course, inline, note, problem_card, table, word
from helpers.notebook.panel import apply_button, preview
from helpers.notebook.reset import NOTHING_TO_DELETE, reset_button
from helpers.notebook.session import LabSession, needs_cluster, waiting_card

if TYPE_CHECKING:
    from helpers.chaos.backoff import Trial
    from helpers.chaos.experiment import Finished
    from helpers.chaos.journal import Record
    from helpers.cluster import Cluster

Work = Callable[..., "Finished"]
# Mid-tones that stand out on white and on near-black.
_COLOURS = {
    "served": "#2f9e63",
    "failed": "#d64545",
    "ready": "#3b82c4",
    "not ready": "#d99a2b",
    "terminating": "#8b6fc0",
    "ending, serves on": "#4fb3bf",
    "no endpoint": "#7d8895",
}
_LEGEND = (
    "**failed**: a call that this client made got no good answer. **no endpoint**: the Service has no ready address, "
    "so a new call goes nowhere. **ending, serves on**: no address is ready, but a pod that is ending still serves; "
    "kube-proxy sends calls there as long as it does, and the client's lane can stay green."
)
_REDRAW_S = 1.0
_THREAD = "experiment: "


def experiment_panel(
    lab: LabSession,
    names: tuple[str, ...],
    buttons: Mapping[str, Any],
    work: dict[str, Work],
) -> Any:
    """A button that runs experiments one after the other, and their time lines.

    Args:
        names: the journals to draw.
        buttons: `run` and `stop`; pressing `stop`, or running the cell again, cancels and undoes.
        work: what to run for each name: called with the cluster, on_progress and should_stop.
    """
    if lab.cluster is None:
        return waiting_card(lab)
    back = reset_button(
        lab, lambda: without_journals(lab, names), tooltip="Deletes this part's journals from the cluster."
    )
    row = mo.hstack([*buttons.values(), back], justify="start")
    run, stop = (lab.asked(buttons[name], by_hand=True) for name in ("run", "stop"))
    if lab.pressed:
        for name in names:
            work[name](lab.cluster)
    elif run:
        others = [thread for thread in running() if thread.name != _thread_name(names)]
        if others:
            said = (
                f"{others[0].name.removeprefix(_THREAD)} is still running on this page: one fault at a time."
            )
            return mo.vstack([row, problem_card(said, title="Not started.")])
        background = mo.Thread(target=_in_background, args=(lab.cluster, names, row, work))
        background.name = _thread_name(names)
        background.start()
        return mo.vstack([row, course(word("open", "starting") + " the steady state comes first")])
    elif stop and any(thread.name == _thread_name(names) for thread in running()):
        said = "what was broken is being undone; that lasts until the backend is Ready again"
        return mo.vstack([row, course(word("open", "stopping") + f" {said}", live=True)])
    return mo.vstack([row, *(timeline(lab, name) for name in names)])


def without_journals(lab: LabSession, names: tuple[str, ...]) -> str:
    """The way back of a part: the cluster without its journals, while nothing is running."""
    from helpers.chaos.journal import NAMESPACE

    assert lab.cluster is not None
    if others := running():
        raise StepMissing(f"{others[0].name.removeprefix(_THREAD)} is running on this page: stop it first.")
    journals = [f"journal-{name}" for name in names]
    gone = [name for name in journals if lab.cluster.delete("ConfigMap", name, NAMESPACE)]
    return f"Deleted: {', '.join(gone)}." if gone else NOTHING_TO_DELETE


def run_or_stop(run: str, *, stop: str = "Stop and undo") -> Any:
    """The two buttons of an experiment, for `experiment_panel`."""
    return mo.ui.dictionary(
        {"run": apply_button(run, kind="danger"), "stop": apply_button(stop, kind="neutral")}
    )


def running() -> list[threading.Thread]:
    """The experiments of this page that are not at their end, those being undone included."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(_THREAD)]


def _thread_name(names: tuple[str, ...]) -> str:
    return _THREAD + ", ".join(names)


def _in_background(cluster: Cluster, names: tuple[str, ...], buttons: Any, work: dict[str, Work]) -> None:
    """Run and redraw; an exit of the thread (cell run again, stop pressed) cancels and undoes."""
    from helpers.chaos.experiment import Cancelled

    thread = mo.current_thread()
    for other in running():
        if other is not thread:
            # Pressed again: the run before this one was told to stop, and undoes first.
            other.join()
    uid = cluster.identity().uid
    try:
        for name in names:
            _drawn_while_it_runs(cluster, name, buttons, work[name])
    except Cancelled:
        said = "what was broken is undone; nothing of it is graded"
        mo.output.replace(mo.vstack([buttons, course(word("open", "stopped") + f" {said}", live=True)]))
        return
    except LabError as problem:
        failed = problem_card(str(problem), problem.next_command, title=f"{name} did not finish.")
        mo.output.replace(mo.vstack([buttons, failed]))
        return
    done = [_chart_on_disk(uid, name, words=True) for name in names]
    mo.output.replace(mo.vstack([buttons, course(word("PASS", "done and undone"), live=True), *done]))


def _drawn_while_it_runs(cluster: Cluster, name: str, buttons: Any, work: Work) -> None:
    """One experiment in a thread beside this one, which draws: both clients' lanes move whatever it waits for."""
    thread, uid, said = mo.current_thread(), cluster.identity().uid, [""]
    began = time.time()
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(
            work, cluster, on_progress=said.append, should_stop=lambda: bool(thread.should_exit)
        )
        while not wait([outcome], timeout=_REDRAW_S).done:
            if thread.should_exit:
                continue
            state = Markup("{} <b>{}</b> {}").format(word("open", "running"), name, inline(said[-1]))
            chart = _chart_on_disk(uid, name, since=began)
            mo.output.replace(mo.vstack([buttons, course(state, live=True), chart]))
    outcome.result()


def _chart_on_disk(uid: str, name: str, *, words: bool = False, since: float = 0.0) -> Any:
    """The picture of the newest journal on this machine, while it is written and after; none older than `since`."""
    from helpers.chaos.journal import JournalBroken, latest, parse

    path: Path | None = latest(uid, name)
    if path is None or path.stat().st_mtime < since:
        return mo.md("")
    try:
        record = parse(path.read_text())
    except JournalBroken:
        return mo.md("")
    return mo.vstack([chart(record), _reading(record)] if words else [_clients_now(record), chart(record)])


def _clients_now(record: Record) -> mo.Html:
    """Which client is served at this moment, and which fails, by name."""
    from helpers.chaos import evidence
    from helpers.chaos.faults import CLIENT_OF

    seen = evidence.clients_now(evidence.attempts(record))
    status = {evidence.SERVED: "PASS", evidence.NO_ATTEMPT: "none"}
    said = [
        Markup("<span>client of {} ({}) {}</span>").format(
            backend, client, word(status.get(seen[client], "FAIL"), seen[client])
        )
        for backend, client in CLIENT_OF.items()
    ]
    return course(Markup('<div class="row">{}</div>').format(Markup("").join(said)), live=True)


@needs_cluster
def timeline(lab: LabSession, name: str) -> Any:
    """The time line of an experiment as the cluster keeps it, or that it was not run yet."""
    from helpers.chaos.journal import JournalBroken, published
    from helpers.errors import ObjectMissing

    assert lab.cluster is not None
    try:
        record = published(lab.cluster.view(), name)
    except ObjectMissing:
        return note(Markup("No journal of {} yet.").format(code(name)))
    except JournalBroken as broken:
        return problem_card(f"The journal {name} does not verify: {broken}", f"course experiment {name}")
    return mo.vstack([chart(record), _reading(record)])


def chart(record: Record) -> Any:
    """Clients, endpoints and pods over seconds from the fault, as one picture."""
    rows = pd.DataFrame(list(segments(record)), columns=["lane", "start", "end", "state", "detail"])
    # Pods below, those of one backend in the order in which they appeared.
    seen = list(dict.fromkeys(rows["lane"]))
    pods = sorted((lane for lane in seen if lane not in _LANES), key=lambda lane: lane.rpartition(" ")[0])
    lanes = [lane for lane in _LANES if lane in seen] + pods
    bars = (
        alt.Chart(rows)
        .mark_bar(height=16)
        .encode(
            x=alt.X("start:Q", title="seconds from the fault", axis=alt.Axis(grid=True)),
            x2="end:Q",
            y=alt.Y("lane:N", sort=lanes, title=None, axis=alt.Axis(labelLimit=260)),
            color=alt.Color(
                "state:N",
                title=None,
                scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=["lane", "state", "detail", alt.Tooltip("start:Q", format=".2f")],
        )
    )
    marks = pd.DataFrame(list(_marks(record)), columns=["t", "what"])
    rules = alt.Chart(marks).mark_rule(strokeDash=[4, 3], color=INK).encode(x="t:Q")
    return look(alt.layer(bars, rules, *_words(marks, rows)).properties(height=34 * max(1, len(lanes))))


def _words(marks: pd.DataFrame, rows: pd.DataFrame) -> list[Any]:
    """What happened, above its line: to the right of it, or to the left where the picture would end."""
    middle = (rows["start"].min() + rows["end"].max()) / 2 if len(rows) else 0.0
    words = words_beside(marks, "t", middle, dx=4, dy=-4, baseline="bottom")
    return [layer.encode(x="t:Q", y=alt.value(0), text="what:N") for layer in words]


_LANES = ("client: inference", "client: retrieval", "endpoints: vllm", "endpoints: qdrant")
Segment = tuple[str, float, float, str, str]


def segments(record: Record) -> Iterator[Segment]:
    """The journal as bars: (lane, from, to, state, detail), in seconds from the fault."""
    from helpers.chaos import evidence
    from helpers.chaos.clients import INTERVAL_S

    zero = evidence.injected_at(record) or float(record.header.get("t", 0))
    for attempt in evidence.attempts(record):
        state = "served" if attempt.ok else "failed"
        width = max(INTERVAL_S, attempt.ms / 1000)
        began = attempt.t - zero
        detail = f"{attempt.outcome}, {attempt.ms:.0f} ms"
        yield f"client: {attempt.client}", began, began + width, state, detail
    samples = record.of("sample")
    for sample, later in pairwise(samples):
        start, end = sample["t"] - zero, later["t"] - zero
        for name, counts in sample["endpoints"].items():
            # Journals of before did not count the ending ones.
            ending = counts.get("ending", 0)
            state = "ready" if counts["ready"] else "ending, serves on" if ending else "no endpoint"
            also = f", {ending} ending and serving" if ending else ""
            yield f"endpoints: {name}", start, end, state, f"{counts['ready']} of {counts['all']} ready{also}"
        for pod in sample["pods"]:
            state = (
                "terminating" if pod["phase"] == "Terminating" else "ready" if pod["ready"] else "not ready"
            )
            detail = f"{pod['phase']}, {pod['restarts']} restarts {pod['reason']}".strip()
            yield f"pod: {pod['backend']} {pod['uid'][:6]}", start, end, state, detail


def _marks(record: Record) -> Iterator[tuple[float, str]]:
    from helpers.chaos import evidence

    zero = evidence.injected_at(record)
    if zero is None:
        return
    yield 0.0, "fault"
    # The undo begins in the same moment as the end that it follows: one word for both.
    for kind, what in (
        ("healed", "healed"),
        ("repaired", "repaired"),
        ("time-over", "time over"),
        ("undo", "undo"),
    ):
        if entry := record.first(kind):
            yield float(entry["t"]) - zero, what
            return


def _reading(record: Record) -> mo.Html:
    """The journal in one sentence for each client."""
    from helpers.chaos import evidence

    said = []
    for client in ("inference", "retrieval"):
        failed = evidence.failures(record, client)
        share = evidence.availability(evidence.attempts(record, client))
        if share is None:
            continue
        words = ", ".join(f"{number} x `{outcome}`" for outcome, number in failed.most_common(3))
        told = (
            f"interrupted for {evidence.interrupted_s(record, client):.1f} s ({words})"
            if failed
            else "served throughout"
        )
        said.append(f"**{client}** {told}, {share:.0%} of attempts succeeded")
    return course(Markup("<div>{}.</div><small>{}</small>").format(inline("; ".join(said)), inline(_LEGEND)))


_HERDS = {"herd-none": "without jitter", "herd-full": "with jitter"}


@needs_cluster
def herd_chart(lab: LabSession) -> Any:
    """vLLM's own queue over time, with and without jitter, and a tick for each client that came back."""
    from helpers.chaos.journal import JournalBroken, published
    from helpers.errors import ObjectMissing

    assert lab.cluster is not None
    queue, back = [], []
    for name, shown in _HERDS.items():
        try:
            record = published(lab.cluster.view(), name)
        except (ObjectMissing, JournalBroken):
            continue
        queue += [(shown, *row) for row in herd_queue(record)]
        back += [(shown, at) for at in herd_ticks(record)]
    if not queue and not back:
        return note("No herd yet.")
    lines = pd.DataFrame(queue, columns=["herd", "t", "running", "waiting"])
    ticks = pd.DataFrame(back, columns=["herd", "t"])
    first, last = min([*lines["t"], *ticks["t"], 0.0]), max([*lines["t"], *ticks["t"]])
    return herd_picture(lines, ticks, alt.Scale(domain=[first, last], nice=False))


def herd_queue(record: Record) -> list[tuple[float, float, float]]:
    """(seconds since the herd first called in vain, running, waiting) as vLLM told it."""
    result, zero = _herd_result(record)
    return [(t - zero, running, waiting) for t, running, waiting in result.get("queue", [])]


def herd_ticks(record: Record) -> list[float]:
    """When each client came back, in seconds since the herd first called in vain."""
    from helpers.labs.lab05_chaos.checks import returned

    _, zero = _herd_result(record)
    return [began - zero for began, _ in returned(record)]


def _herd_result(record: Record) -> tuple[dict[str, Any], float]:
    result = (record.last("after") or {}).get("result") or {}
    injected = float((record.first("inject") or {}).get("t", 0))
    return result, min((float(row[0]) for row in result.get("arrivals", [])), default=injected)


def herd_picture(lines: pd.DataFrame, ticks: pd.DataFrame, scale: alt.Scale) -> Any:
    """The queue above, the clients that came back below, over one axis."""
    shown = list(_HERDS.values())
    scale_of = alt.Scale(domain=shown, range=[RED, GREEN])
    line = (
        alt.Chart(lines)
        .mark_line(interpolate="step-after", strokeWidth=2.5)
        .encode(
            x=alt.X("t:Q", title=None, scale=scale, axis=alt.Axis(labels=False, ticks=False)),
            y=alt.Y(
                "waiting:Q",
                title="waiting inside vLLM",
                axis=alt.Axis(tickMinStep=1, minExtent=ONE_MARGIN_PX),
            ),
            color=alt.Color("herd:N", title=None, scale=scale_of, legend=alt.Legend(orient="top")),
            tooltip=["herd", alt.Tooltip("t:Q", format=".1f"), "running", "waiting"],
        )
        .properties(height=180)
    )
    tick = (
        alt.Chart(ticks)
        .mark_tick(thickness=2, size=20)
        .encode(
            x=alt.X("t:Q", title="seconds since the herd lost the backend", scale=scale),
            y=alt.Y(
                "herd:N",
                title="came back",
                sort=shown,
                axis=alt.Axis(labels=False, ticks=False, minExtent=ONE_MARGIN_PX),
            ),
            color=alt.Color("herd:N", scale=scale_of, legend=None),
            tooltip=["herd", alt.Tooltip("t:Q", format=".2f")],
        )
        .properties(height=56)
    )
    return mo.vstack([look(line), look(tick)], gap=0)


@needs_cluster
def trials_table(lab: LabSession) -> mo.Html:
    """What the judge saw of the retry function, scenario by scenario."""
    from helpers.errors import ObjectMissing
    from helpers.labs.lab05_chaos.checks import trials

    assert lab.cluster is not None
    try:
        found = trials(lab.cluster.view())
    except ObjectMissing:
        return note("Not judged yet.")
    if not isinstance(found, dict):
        return problem_card(found.observed, "course backoff labs/05_chaos.py")
    rows = [
        (
            trial.scenario + _away(trial),
            str(len(trial.attempts)),
            ", ".join(f"{gap:.2f}" for gap in trial.gaps[:6]),
            f"{trial.elapsed_s:.1f} s",
            code(trial.ended) + (f" from {trial.cause}" if trial.cause else ""),
        )
        for trial in found.values()
    ]
    return card(table(("scenario", "attempts", "pauses (s)", "in all", "ended with"), rows))


def _away(trial: Trial) -> Markup:
    """How long the backend was away, where it was a real one."""
    if trial.outage_s is None:
        return Markup()
    return Markup(" <small>({:.1f} s away)</small>").format(trial.outage_s)


@needs_cluster
def diagnosis_preview(lab: LabSession, manifest: str) -> Any:
    """What a ConfigMap of the learner's words would change, and which of them are on no list."""
    from helpers.chaos.faults import not_on_the_list
    from helpers.cluster import shapes
    from helpers.cluster.manifests import load

    wrong = []
    for item in load(lab.render(manifest)):
        if item["kind"] == "ConfigMap":
            shapes.check(item, shapes.CONFIG_MAP)
            wrong += not_on_the_list(item.get("data") or {})
    said = Markup("").join(
        Markup("<div>{} {}.</div>").format(word("open", "not on the list"), inline(line)) for line in wrong
    )
    return mo.vstack([preview(lab, manifest), *([course(said, live=True)] if said else [])], gap=0.5)


def findings(lab: LabSession, said: Mapping[str, Mapping[str, str]], *_after: object) -> str:
    """A findings manifest in which each symptom is the client's own word, read from the journal.

    Args:
        said: for each experiment, what only a person can say: `layer` and `unaffected`.
    """
    from helpers.chaos import evidence
    from helpers.chaos.journal import published
    from helpers.labs.lab05_chaos.checks import FINDINGS, FINDINGS_NAMESPACE

    data: dict[str, str] = {}
    for name, parts in said.items():
        data |= {f"{name}.{key}": value for key, value in parts.items()}
        try:
            record = published(lab.cluster.view(), name) if lab.cluster else None
        except LabError:
            record = None
        symptom = evidence.main_symptom(record, name.removeprefix("delete-")) if record else ""
        data[f"{name}.symptom"] = symptom
    metadata = {"name": FINDINGS, "namespace": FINDINGS_NAMESPACE}
    return kubeyaml.dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
