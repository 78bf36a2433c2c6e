"""What lab 03 draws: sizes against a claim, ingestion with progress, answers, a time line of a restart."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import marimo as mo

from helpers.atomic_file import write_atomically
from helpers.errors import Forbidden, InvalidInput, LabError, StepMissing
from helpers.labs.lab03_memory import learner_input, sizing
from helpers.notebook.charts import AMBER, BLUE, GREEN, GREY, RED, WIDTH, look
from helpers.notebook.html import course, cut, esc, inline, problem_card, table, word
from helpers.notebook.session import LabSession, needs_cluster, waiting_card
from helpers.settings import REPOSITORY, home_dir
from helpers.stack import dcgm, helm, memory
from helpers.stack.embeddings import embedder
from helpers.stack.metrics import Metrics

if TYPE_CHECKING:
    from helpers.labs.lab03_memory.learner_input import ToPoint
    from helpers.stack.memory import Hit, Ingested, Moment, Passage

READY_TIMEOUT_S = 180
# Less than this is no claim but a number whose unit was forgotten.
SMALLEST_CLAIM = 1024**2
MOST_STEPS = 12
LAST_S = 0.4
MOST_SAID = 400
Say = Callable[[str], None]


def act(lab: LabSession, button: Any, work: Callable[[Say], str], *, title: str) -> Any:
    """A button, and what pressing it did: `work` says lines while it runs and returns the last one.

    Stop it with marimo's own stop button; what was done stays, and pressing again goes on from there.
    """
    if lab.cluster is None:
        return waiting_card()
    if not lab.asked(button):
        return button
    return mo.vstack([button, _acted(lab, work, title)], gap=0.5)


@needs_cluster
def _acted(lab: LabSession, work: Callable[[Say], str], title: str) -> mo.Html:
    with mo.status.spinner(title=title) as spinner:
        said = work(lambda line: spinner.update(subtitle=line))
    return course(f"{word('PASS', 'done')} {inline(said)}", live=True)


@needs_cluster
def helm_command(lab: LabSession, values: object) -> mo.Html:
    """The values of the cell above in a file, and the command that makes a release of them on this cluster."""
    assert lab.cluster is not None
    text = learner_input.values_of(values)
    file = home_dir() / "qdrant-values.yaml"
    write_atomically(file, text)
    embedded = lab.cluster.profile().overlay == "embedded"
    chart = shlex.quote(_from_here(REPOSITORY / helm.CHART)) if embedded else helm.OFFICIAL
    namespace = lab.cluster.scope.namespace(memory.NAMESPACE)
    command = (
        f"helm upgrade --install {helm.RELEASE} {chart} -n {namespace} \\\n"
        f"  -f {shlex.quote(str(file))} --wait --timeout 1m"
    )
    whose = "the course's chart, for the embedded image" if embedded else "the official chart"
    return course(
        f'<div class="card"><small>The values are in a file now. In a terminal ({whose}):</small>'
        f"<pre>{esc(command)}</pre></div>"
    )


def _from_here(path: Path) -> str:
    """A path as it is typed in the page's terminal, which starts where the page was opened."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@needs_cluster
def releases(lab: LabSession) -> mo.Html:
    """What Helm remembers of the release, and the way back from a revision that is not deployed."""
    assert lab.cluster is not None
    history = helm.revisions(lab.cluster.view())
    if not history:
        return course(f"<small>Helm has no release named {helm.RELEASE} here.</small>", live=True)
    tones = {"deployed": "PASS", "superseded": "none", "failed": "FAIL"}
    rows = [
        (str(item.number), word(tones.get(item.status, "open"), item.status), esc(cut(item.said, MOST_SAID)))
        for item in history
    ]
    shown = table(("revision", "status", "Helm's last word on it"), rows)
    if history[-1].is_deployed:
        return course(shown, live=True)
    way = _way_on(history, lab.cluster.scope.namespace(memory.NAMESPACE))
    return course(f"{shown}<div>{inline(way)}</div>", live=True)


def _way_on(history: list[helm.Revision], namespace: str) -> str:
    """What to do after a newest revision that is not deployed."""
    back = helm.way_back(history, namespace)
    if history[-1].is_pending:
        return f"Helm is at work. If it was interrupted, it takes no other command until you type `{back}`."
    return f"Correct the values and run the same command again{f', or go back: `{back}`' if back else ''}."


def wait_for_qdrant(lab: LabSession, say: Say) -> None:
    """Wait until the StatefulSet's pod is ready; ends early where it never will be.

    Raises:
        ObjectMissing: there is no such StatefulSet, so nothing to wait for.
        WaitRejected: its image cannot be pulled, or admission refuses the pod.
    """
    assert lab.cluster is not None
    lab.cluster.view().stateful_set(memory.STATEFUL_SET, memory.NAMESPACE)
    lab.cluster.wait_ready(
        "StatefulSet",
        memory.STATEFUL_SET,
        memory.NAMESPACE,
        timeout_s=READY_TIMEOUT_S,
        on_progress=lambda elapsed_s, seen: say(f"{elapsed_s:.0f} s: {seen}"),
    )


def ingest_panel(
    lab: LabSession,
    button: Any,
    passages: Sequence[Passage],
    to_point: object,
) -> Any:
    """A button that embeds and upserts, with a progress bar; beside it, one point as it would be sent.

    `to_point` is the learner's: whatever it raises or returns is told in a sentence, and not sent.
    """
    make = learner_input.checked(to_point)
    sample = _sample(passages[0], make)
    if lab.cluster is None:
        return mo.vstack([sample, waiting_card()])
    parts = [sample, button]
    if lab.asked(button):
        parts.append(_ingest(lab, passages, make))
    return mo.vstack(parts, gap=0.5)


def _sample(passage: Passage, to_point: ToPoint) -> mo.Html:
    try:
        first, second = (to_point(passage, [0.1, 0.2]) for _ in range(2))
    except InvalidInput as problem:
        return problem_card(str(problem), title="No point yet.")
    payload = first.get("payload") or {}
    rows = [("id", f"<code>{esc(first['id'])}</code>")]
    rows += [(f"payload.{esc(key)}", esc(cut(str(value), 90))) for key, value in payload.items()]
    same = first["id"] == second["id"]
    note = (
        "the same id each time: ingesting again overwrites"
        if same
        else "another id each time: ingesting again adds"
    )
    head = f"<small>The first passage as a point; {note}.</small>"
    return course(f'<div class="card">{head}{table(("field", "value"), rows)}</div>', live=True)


@needs_cluster
def _ingest(lab: LabSession, passages: Sequence[Passage], to_point: ToPoint) -> mo.Html:
    assert lab.cluster is not None
    with mo.status.progress_bar(
        total=len(passages), title="Embedding and storing", remove_on_exit=True
    ) as bar:
        seen = 0

        def advance(state: Ingested) -> None:
            nonlocal seen
            bar.update(increment=state.done - seen, subtitle=f"{state.done / state.elapsed_s:.0f} passages/s")
            seen = state.done

        with memory.connect(lab.cluster) as qdrant:
            done = qdrant.ingest(passages, embedder(), to_point=to_point, on_progress=advance)
            state = qdrant.state()
    total = state.points if state else 0
    return course(
        f"{word('PASS', 'done')} {done} passages sent; the collection holds <b>{total}</b> points.", live=True
    )


def sizing_picture(plan: sizing.Collection, claim: str) -> Any:
    """What the volume must hold, part by part, against the claim; follows each edit of the plan."""
    import altair as alt
    import pandas as pd

    try:
        result, claimed_gib = sizing.size(plan), _claimed_gib(claim)
    except ValueError as problem:
        return problem_card(str(problem), title="The picture needs numbers it can add up.")
    rows = [{"part": part, "GiB": gib, "order": n} for n, (part, gib) in enumerate(result.disk_parts.items())]
    bars = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar(height=34)
        .encode(
            x=alt.X("sum(GiB):Q", title="GiB on the volume"),
            color=alt.Color(
                "part:N",
                sort=list(result.disk_parts),
                title=None,
                legend=alt.Legend(orient="bottom", columns=3),
            ),
            order="order:Q",
            tooltip=["part:N", alt.Tooltip("GiB:Q", format=".2f")],
        )
    )
    line = (
        alt.Chart(pd.DataFrame([{"GiB": claimed_gib}]))
        .mark_rule(size=3, strokeDash=[5, 3], color=RED)
        .encode(x="GiB:Q")
    )
    chart = look((bars + line).properties(height=70, width=WIDTH))
    return mo.vstack([chart, _sizing_words(result, claim, claimed_gib)], gap=0.3)


def _claimed_gib(claim: str) -> float:
    """What a claim asks for; ValueError where it is no size that a volume could have."""
    from helpers.cluster.quantity import quantity

    asked = float(quantity(claim))
    if asked <= 0:
        raise ValueError(f"a claim of {claim} asks for no space at all")
    if asked < SMALLEST_CLAIM:
        raise ValueError(f"a claim of {claim} is {asked:,.0f} bytes: a unit is missing, as in 10Gi")
    return asked / sizing.GIB


def _sizing_words(result: sizing.Sizing, claim: str, claimed_gib: float) -> mo.Html:
    disk = result.disk / sizing.GIB
    fits = claimed_gib >= disk
    verdict = word("fits", "fits") if fits else word("refused", "too small")
    return course(
        f"{verdict} At most, <b>{disk:,.1f} GiB</b> are on the volume at once; the claim (dashed line) asks for "
        f"<b>{esc(claim)}</b>. Memory for vectors and index: <b>{result.memory / sizing.GIB:,.1f} GiB</b>; "
        "the pod's limit must be above that.",
        live=True,
    )


@needs_cluster
def collection_preview(lab: LabSession, wanted: object) -> mo.Html:
    """What making the collection anew would replace: its parameters now and then, and the points that go."""
    asked = learner_input.collection_of(wanted)
    state = _collection_state(lab)
    if isinstance(state, str):
        return course(f"<small>Preview: {esc(state)}</small>", live=True)
    now = ("no collection",) * 3
    if state:
        now = (str(state.dimensions), state.distance or "several", ", ".join(state.indexes) or "none")
    then = (str(asked["size"]), asked["distance"], asked["index"] or "none")
    names = ("dimensions", "distance", "payload index")
    rows = [
        (name, f"<code>{esc(a)}</code>", f"<code>{esc(b)}</code>")
        for name, a, b in zip(names, now, then, strict=True)
    ]
    lost = f"<b>{state.points} points would be dropped.</b>" if state and state.points else ""
    head = "<small>Preview: read from Qdrant. Nothing has been changed.</small>"
    return course(
        f'<div class="card">{head}{table(("", "now", "then"), rows, kind="diff")}{lost}</div>', live=True
    )


def _collection_state(lab: LabSession) -> memory.CollectionState | str | None:
    """The course's collection, None where there is none yet, or in words why it cannot be read."""
    import json

    assert lab.cluster is not None
    path = f"/collections/{memory.COLLECTION}"
    try:
        answer = lab.cluster.view().http(memory.NAMESPACE, memory.SERVICE, memory.PORT, path)
    except LabError as problem:
        return str(problem)
    if answer.from_service and answer.status == 200:
        return memory.state_of(memory.COLLECTION, json.loads(answer.body)["result"])
    return (
        None
        if answer.from_service and answer.status == 404
        else f"{answer.status}: {answer.body.strip()[:140]}"
    )


@needs_cluster
def answers(lab: LabSession, question: object, layer: object, *_triggers: object) -> mo.Html:
    """The nearest passages to a question, live from the cluster; reading changes nothing."""
    assert lab.cluster is not None
    asked, within = learner_input.text_of("question", question), learner_input.layer_of(layer)
    with memory.connect(lab.cluster) as qdrant:
        hits = qdrant.search(asked, embedder(), layer=within)
    if not hits:
        return course(f"{word('none', '0 hits')} {_no_hits(within)}", live=True)
    return course(table(("score", "layer", "passage"), [_hit(hit) for hit in hits]), live=True)


def _no_hits(layer: str | None) -> str:
    known = sorted({passage.layer for passage in memory.corpus()})
    if layer is None:
        return "The collection is empty."
    if layer in known:
        return f"No point of the collection has <code>{esc(layer)}</code> in its field <code>layer</code>."
    return f"There is no layer <code>{esc(layer)}</code>; the corpus has {esc(', '.join(known))}."


def _hit(hit: Hit) -> tuple[str, str, str]:
    return (
        f"{hit.score:.2f}",
        f'<span style="white-space:nowrap">{esc(hit.layer or "none")}</span>',
        f"<b>{esc(hit.title)}</b><br>{esc(hit.text)}",
    )


@needs_cluster
def vital_signs(lab: LabSession) -> mo.Html:
    """Three health paths beside what the collection holds: both through the Service."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    rows = []
    for path in ("/", "/healthz", "/livez", "/readyz"):
        answer = view.http(memory.NAMESPACE, memory.SERVICE, memory.PORT, path)
        good = answer.from_service and answer.status == 200
        rows.append(
            (
                f"<code>{path}</code>",
                word("PASS" if good else "FAIL", str(answer.status)),
                esc(answer.body.strip()[:140]),
            )
        )
    state = _collection_state(lab)
    said = state if isinstance(state, str) else "there is none"
    if isinstance(state, memory.CollectionState):
        indexes = ", ".join(state.indexes) or "none"
        said = f"{state.points} points, {state.dimensions} dimensions, {state.distance}; indexes: {indexes}"
    rows.append((f"collection <code>{memory.COLLECTION}</code>", "", esc(said)))
    return course(table(("asked", "status", "answer"), rows), live=True)


def broken_panel(lab: LabSession, button: Any) -> Any:
    """A button that breaks a scratch collection in three ways, and shows what probes and queries say of it."""
    if lab.cluster is None:
        return waiting_card()
    return mo.vstack([button, _broken(lab)]) if lab.asked(button) else button


@needs_cluster
def _broken(lab: LabSession) -> mo.Html:
    assert lab.cluster is not None
    with mo.status.spinner(title="Three broken memories"), memory.connect(lab.cluster) as qdrant:
        return symptom_table(memory.broken_memories(qdrant, embedder()))


def newest_copy(folder: Path) -> Path:
    """The newest snapshot that was copied to this machine.

    Raises:
        StepMissing: there is none.
    """
    copies = sorted(folder.glob("*.snapshot"), key=lambda path: path.stat().st_mtime)
    if not copies:
        raise StepMissing("no copy of a snapshot is on this machine yet. Nothing was changed.")
    return copies[-1]


def symptom_table(symptoms: Sequence[memory.Symptom]) -> mo.Html:
    """Three broken memories: green probes on the left, what a query meets on the right."""
    rows = [
        (
            inline(item.broken),
            *(word("PASS", str(code)) for code in item.probes.values()),
            esc(item.query[:160]),
        )
        for item in symptoms
    ]
    return course(
        table(("the memory is", "/healthz", "/livez", "/readyz", "a filtered query"), rows), live=True
    )


def timeline(moments: Sequence[Moment]) -> Any:
    """A replacement as bands over time: the pod's phase, its readiness, the Service, the answers."""
    import altair as alt
    import pandas as pd

    rows = _joined(row for moment, following in _pairs(moments) for row in _bands(moment, following))
    tones = {"yes": GREEN, "Running": BLUE, "Pending": AMBER, "Terminating": RED}
    states = list(dict.fromkeys(row["state"] for row in rows))
    colours = [tones.get(state, GREY) for state in states]
    return look(
        alt.Chart(pd.DataFrame(rows))
        .mark_bar(height=20)
        .encode(
            x=alt.X("from:Q", title="seconds since the pod was deleted", axis=alt.Axis(tickCount=8)),
            x2="to:Q",
            y=alt.Y("what:N", title=None, sort=["pod", "Ready", "Service has an address", "/readyz is 200"]),
            color=alt.Color(
                "state:N",
                title=None,
                scale=alt.Scale(domain=states, range=colours),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[
                "what:N",
                "state:N",
                alt.Tooltip("from:Q", format=".1f"),
                alt.Tooltip("to:Q", format=".1f"),
            ],
        )
        .properties(height=130, width=WIDTH)
    )


def _joined(bands: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bands of one lane that say the same and touch each other, as one."""
    latest: dict[str, dict[str, Any]] = {}
    rows = []
    for band in bands:
        before = latest.get(band["what"])
        if before is not None and before["state"] == band["state"]:
            before["to"] = band["to"]
            continue
        latest[band["what"]] = band
        rows.append(band)
    return rows


def _pairs(moments: Sequence[Moment]) -> list[tuple[Moment, Moment]]:
    return list(zip(moments, [*moments[1:], moments[-1]], strict=True))


def _bands(moment: Moment, following: Moment) -> list[dict[str, Any]]:
    # What was seen last goes on: without a stretch of its own, the moment that was waited for would not show.
    least_s = LAST_S if following is moment else 0.05
    span = {"from": moment.at_s, "to": max(following.at_s, moment.at_s + least_s)}
    phase = f"{moment.phase}" if moment.pod != "none" else "no pod"
    states = {
        "pod": phase,
        "Ready": "yes" if moment.is_ready else "no",
        "Service has an address": "yes" if moment.endpoints else "no",
        "/readyz is 200": "yes" if moment.readyz == "200" else "no",
    }
    return [{"what": what, "state": state, **span} for what, state in states.items()]


@needs_cluster
def metrics_table(lab: LabSession) -> mo.Html:
    """The series of `/metrics` that an operator watches first."""
    assert lab.cluster is not None
    answer = lab.cluster.view().http(memory.NAMESPACE, memory.SERVICE, memory.PORT, "/metrics")
    if not answer.from_service or answer.status != 200:
        return problem_card(f"/metrics answered {answer.status}: {answer.body.strip()[:160]}")
    found = memory.parse_metrics(answer.body)
    wanted = (
        "app_info",
        "collections_total",
        "collection_points",
        "collection_running_optimizations",
        "memory_resident_bytes",
    )
    rows = [
        (f"<code>{esc(name)}</code>", f"{value:,.0f}")
        for name, value in found.items()
        if name.startswith(wanted)
    ]
    slow = sorted(
        (
            (name, value)
            for name, value in found.items()
            if name.startswith("rest_responses_max_duration_seconds")
        ),
        key=lambda item: -item[1],
    )
    rows += [(f"<code>{esc(name)}</code>", f"{value:.3f}") for name, value in slow[:2]]
    return course(table(("series", "value"), rows), live=True)


@needs_cluster
def gpu_table(lab: LabSession) -> mo.Html:
    """Every card that the cluster's dcgm-exporter knows: its holder, its use, its memory, its last error."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    try:
        service = dcgm.find_exporter(view)
    except Forbidden:
        return course(
            f"{word('none', 'not yours')} A learner of a class may not read all namespaces: "
            "here only the instructor sees GPU metrics.",
            live=True,
        )
    if service is None:
        return course(
            f"{word('none', 'no GPU metrics')} No Service in any namespace is labelled "
            f"<code>{esc(dcgm.SELECTORS[0])}</code>: this cluster has no dcgm-exporter.",
            live=True,
        )
    where = f"{service.namespace}/{service.name}"
    embedded = lab.profile is not None and lab.profile.name == "embedded"
    answer = view.http(service.namespace or "", service.name, dcgm.port_of(service), "/metrics")
    if not answer.from_service or answer.status != 200:
        return problem_card(
            f"Service {where} answered {answer.status}: {answer.body.strip()[:160]}",
            # An embedded node that was started by an older course answers after its next start.
            "course down; course up" if embedded else f"kubectl get pods -n {service.namespace}",
        )
    cards = dcgm.readings(Metrics.parse(answer.body))
    head = ("card", "held by", "utilisation", "memory used", "last XID error")
    shown = table(head, [_card_row(card) for card in cards]) if cards else "It reports no card."
    note = f"<small>Read now from Service <code>{esc(where)}</code>. {_stands_in(cards)}</small>"
    return course(f"{shown}{note}", live=True)


def _card_row(card: dcgm.CardReading) -> tuple[str, ...]:
    part = f", slice {card.instance} ({card.profile})" if card.profile else ""
    memory = "not given"
    if card.used_mib is not None and card.free_mib is not None:
        memory = f"{card.used_mib:,.0f} of {card.used_mib + card.free_mib:,.0f} MiB"
    idle = f" {word('open', 'held, idle')}" if dcgm.held_and_idle([card]) else ""
    return (
        f"GPU {esc(card.gpu)}{esc(part)} on <code>{esc(card.node)}</code><br><small>{esc(card.model)}</small>",
        f"<code>{esc(card.holder)}</code>" if card.holder else "nobody",
        ("not given" if card.utilisation is None else f"{card.utilisation:.0f} %") + idle,
        memory,
        "not given" if card.xid is None else str(card.xid),
    )


def _stands_in(cards: Sequence[dcgm.CardReading]) -> str:
    if not any(card.is_simulated for card in cards):
        return ""
    return (
        "<b>Simulated GPU.</b> The holder is real, as the kubelet reports it. The rest is a substitute: utilisation is the "
        "CPU use of the holding container, as a part of its limit; memory is that container's; the XID is 79 while "
        "the device plugin reports the card as unhealthy."
    )


def upgrade_path(now: object, wanted: object) -> mo.Html:
    """The rollouts between two versions: one minor at a time, the newest patch of each."""
    try:
        (major, first), (other, last) = learner_input.version_of(now), learner_input.version_of(wanted)
    except InvalidInput as problem:
        return problem_card(str(problem), title="The path needs two versions.")
    if (other, last) < (major, first):
        said = f"{wanted} is older than {now}: Qdrant does not read newer data."
        return problem_card(said, title="No way back.")
    if other != major:
        said = f"From {now} to {wanted} is another *major* version: its release notes say what it reads."
        return problem_card(said, title="Not by counting minors.")
    steps = [f'<span class="chip"><b>{major}.{minor}</b></span>' for minor in range(first, last + 1)]
    if len(steps) > MOST_STEPS:
        steps = [*steps[: MOST_STEPS // 2], "…", *steps[-MOST_STEPS // 2 :]]
    arrow = " <small>snapshot, roll out, golden queries</small> → "
    rollouts = last - first
    count = "no rollout" if not rollouts else "1 rollout" if rollouts == 1 else f"{rollouts} rollouts"
    return course(f'<div class="card">{arrow.join(steps)}<br><small>{count}</small></div>', live=True)
