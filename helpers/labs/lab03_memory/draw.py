"""What lab 03 draws: sizes against a claim, ingestion with progress, answers, a time line of a restart."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import marimo as mo
from markupsafe import Markup

from helpers.atomic_file import write_atomically
from helpers.errors import Forbidden, InvalidInput, LabError, StepMissing
from helpers.labs.lab03_memory import learner_input, sizing
from helpers.notebook.charts import AMBER, BLUE, GREEN, GREY, RED, look
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
from helpers.notebook.reset import NOTHING_TO_DELETE, reset_button
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
ASSUMED, ON_THE_CLAIM, ON_THE_NODE = (
    "the plan: all on the claim",
    "part 2: on the claim",
    "part 2: on the node's disk",
)
_PLACES = (ASSUMED, ON_THE_CLAIM, ON_THE_NODE)
MOST_SAID = 400
Say = Callable[[str], None]


def act(
    lab: LabSession,
    button: Any,
    work: Callable[[Say], str],
    *,
    title: str,
    undo: Callable[[], str] | None = None,
) -> Any:
    """A button, and what pressing it did: `work` says lines while it runs and returns the last one.

    Stop it with marimo's own stop button; what was done stays, and pressing again goes on from there.
    `undo` is the way back of the whole part, and says what it did.
    """
    if lab.cluster is None:
        return waiting_card(lab)
    back = reset_button(lab, undo, tooltip="Takes away what this part keeps in Qdrant.") if undo else None
    row = mo.hstack([button, back], justify="start") if back else button
    return with_outcome(row, _acted(lab, work, title) if lab.asked(button) else None)


def without_collection(lab: LabSession) -> str:
    """The way back of the collection's part: Qdrant without it."""
    assert lab.cluster is not None
    with memory.connect(lab.cluster) as qdrant:
        was_there = qdrant.delete_collection()
    return f"Deleted: collection {memory.COLLECTION} with its points." if was_there else NOTHING_TO_DELETE


def without_note(lab: LabSession) -> str:
    """The way back of the note's part: the collection without it; copies on this machine stay."""
    assert lab.cluster is not None
    with memory.connect(lab.cluster) as qdrant:
        was_there = qdrant.delete_note()
    return "Deleted: the note. Copies of snapshots on this machine stay." if was_there else NOTHING_TO_DELETE


@needs_cluster
def _acted(lab: LabSession, work: Callable[[Say], str], title: str) -> mo.Html:
    with spinner(title) as say:
        said = work(say)
    return course(Markup("{} {}").format(word("PASS", "done"), inline(said)), live=True)


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
    return card(
        Markup("<small>The values are in a file now. In a terminal ({}):</small><pre>{}</pre>").format(
            whose, command
        )
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
        return note(f"Helm has no release named {helm.RELEASE} here.", live=True)
    tones = {"deployed": "PASS", "superseded": "none", "failed": "FAIL"}
    rows = [
        (str(item.number), word(tones.get(item.status, "open"), item.status), cut(item.said, MOST_SAID))
        for item in history
    ]
    shown = table(("revision", "status", "Helm's last word on it"), rows)
    if history[-1].is_deployed:
        return course(shown, live=True)
    way = _way_on(history, lab.cluster.scope.namespace(memory.NAMESPACE))
    return course(shown + Markup("<div>{}</div>").format(inline(way)), live=True)


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
        return mo.vstack([sample, waiting_card(lab)])
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
    rows: list[tuple[str, str]] = [("id", code(first["id"]))]
    rows += [(f"payload.{key}", cut(str(value), 90)) for key, value in payload.items()]
    same = first["id"] == second["id"]
    again = (
        "the same id each time: ingesting again overwrites"
        if same
        else "another id each time: ingesting again adds"
    )
    head = Markup("<small>The first passage as a point; {}.</small>").format(again)
    return card(head + table(("field", "value"), rows), live=True)


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
    said = Markup("{} {} passages sent; the collection holds <b>{}</b> points.")
    return course(said.format(word("PASS", "done"), done, total), live=True)


def sizing_picture(plan: sizing.Collection, claim: str) -> Any:
    """What the volume must hold, part by part, against the claim; follows each edit of the plan."""
    import altair as alt
    import pandas as pd

    try:
        result, claimed_gib = sizing.size(plan), _claimed_gib(claim)
    except ValueError as problem:
        return problem_card(str(problem), title="The picture needs numbers it can add up.")
    rows = _where(result)
    bars = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar(height=26)
        .encode(
            x=alt.X("sum(GiB):Q", title="GiB"),
            y=alt.Y("where:N", sort=list(_PLACES), title=None, axis=alt.Axis(labelLimit=260)),
            color=alt.Color(
                "part:N",
                sort=list(result.disk_parts),
                title=None,
                legend=alt.Legend(orient="bottom", columns=3),
            ),
            order="order:Q",
            tooltip=["where:N", "part:N", alt.Tooltip("GiB:Q", format=".2f")],
        )
    )
    lines = pd.DataFrame([{"GiB": claimed_gib, "where": place} for place in _PLACES if place != ON_THE_NODE])
    line = (
        alt.Chart(lines)
        .mark_tick(thickness=3, size=36, color=RED)
        .encode(x="GiB:Q", y=alt.Y("where:N", sort=list(_PLACES)))
    )
    chart = look((bars + line).properties(height=40 * len(_PLACES)))
    return mo.vstack([chart, _sizing_words(result, claim, claimed_gib)], gap=0.3)


def plan_in_words(plan: sizing.Collection, claim: str) -> str:
    """What the learner's own figures come to, where they do not fit; empty where they do, or are none."""
    try:
        result, claimed_gib = sizing.size(plan), _claimed_gib(claim)
    except ValueError:
        return ""
    missing = result.disk / sizing.GIB - claimed_gib
    part, gib = max(result.disk_parts.items(), key=lambda item: item[1])
    if missing <= 0:
        return ""
    return f"Yours: `{claim}` is {missing:,.1f} GiB too small for this plan; its largest part is {gib:,.1f} GiB: {part}."


def _where(result: sizing.Sizing) -> list[dict[str, Any]]:
    """Each part in GiB where it lies: as the plan assumes, and as the manifest of part 2 has it."""
    rows = []
    for n, (part, gib) in enumerate(result.disk_parts.items()):
        for place in (ASSUMED, ON_THE_NODE if part == "snapshots" else ON_THE_CLAIM):
            rows.append({"part": part, "GiB": gib, "order": n, "where": place})
    return rows


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
        Markup(
            "{verdict} At most, <b>{disk:,.1f} GiB</b> are on the volume at once; the claim (red mark) asks for "
            "<b>{claim}</b>. Memory for vectors and index: <b>{memory:,.1f} GiB</b>; "
            "the pod's limit must be above that."
            "<br><small>Assumed: the snapshots lie on the claim. In the manifest of part 2, as with the chart's defaults, "
            "they lie in an <code>emptyDir</code> beside it. Then the claim holds at most "
            "<b>{beside:,.1f} GiB</b>, and <b>{snapshots:,.1f} GiB</b> "
            "of snapshots are on the node's own disk: what runs full then is the node (<code>DiskPressure</code>), "
            "the kubelet evicts pods from it, and the snapshots go with their pod.</small>"
        ).format(
            verdict=verdict,
            disk=disk,
            claim=claim,
            memory=result.memory / sizing.GIB,
            beside=result.claim_beside_snapshots / sizing.GIB,
            snapshots=result.snapshots / sizing.GIB,
        ),
        live=True,
    )


@needs_cluster
def collection_preview(lab: LabSession, wanted: object, to_point: object = memory.as_point) -> mo.Html:
    """What making the collection anew would replace: its parameters now and then, and the points that go.

    `to_point` is the learner's: an index is on a field that it writes.
    """
    asked = learner_input.collection_of(wanted, to_point)
    useless = learner_input.index_of_little_use(asked["index"], to_point)
    doubt = (
        Markup("<div>{} {}.</div>").format(word("open", "index"), inline(useless)) if useless else Markup()
    )
    state = _collection_state(lab)
    if isinstance(state, str):
        return course(Markup("<small>Preview: {}</small>{}").format(state, doubt), live=True)
    now = ("no collection",) * 3
    if state:
        now = (str(state.dimensions), state.distance or "several", ", ".join(state.indexes) or "none")
    then = (str(asked["size"]), asked["distance"], asked["index"] or "none")
    names = ("dimensions", "distance", "payload index")
    rows = [(name, code(a), code(b)) for name, a, b in zip(names, now, then, strict=True)]
    gone = state.points if state else 0
    lost = Markup("<b>{} points would be dropped.</b>").format(gone) if gone else ""
    head = Markup("<small>Preview: read from Qdrant. Nothing has been changed.</small>")
    return card(head + table(("", "now", "then"), rows, kind="diff") + doubt + lost, live=True)


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
        return course(Markup("{} {}").format(word("none", "0 hits"), _no_hits(within)), live=True)
    return course(table(("score", "layer", "passage"), [_hit(hit) for hit in hits]), live=True)


def _no_hits(layer: str | None) -> Markup:
    known = sorted({passage.layer for passage in memory.corpus()})
    if layer is None:
        return Markup("The collection is empty.")
    if layer in known:
        found_none = Markup("No point of the collection has {} in its field <code>layer</code>.")
        return found_none.format(code(layer))
    return Markup("There is no layer {}; the corpus has {}.").format(code(layer), ", ".join(known))


def _hit(hit: Hit) -> tuple[str, str, str]:
    return (
        f"{hit.score:.2f}",
        Markup('<span style="white-space:nowrap">{}</span>').format(hit.layer or "none"),
        Markup("<b>{}</b><br>{}").format(hit.title, hit.text),
    )


@needs_cluster
def vital_signs(lab: LabSession) -> mo.Html:
    """Three health paths beside what the collection holds: both through the Service."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    rows: list[tuple[str, str, str]] = []
    for path in ("/", "/healthz", "/livez", "/readyz"):
        answer = view.http(memory.NAMESPACE, memory.SERVICE, memory.PORT, path)
        good = answer.from_service and answer.status == 200
        rows.append(
            (
                code(path),
                word("PASS" if good else "FAIL", str(answer.status)),
                answer.body.strip()[:140],
            )
        )
    state = _collection_state(lab)
    said = state if isinstance(state, str) else "there is none"
    if isinstance(state, memory.CollectionState):
        indexes = ", ".join(state.indexes) or "none"
        said = f"{state.points} points, {state.dimensions} dimensions, {state.distance}; indexes: {indexes}"
    rows.append(("collection " + code(memory.COLLECTION), "", said))
    return course(table(("asked", "status", "answer"), rows), live=True)


def broken_panel(lab: LabSession, button: Any) -> Any:
    """A button that breaks a scratch collection in three ways, and shows what probes and queries say of it."""
    if lab.cluster is None:
        return waiting_card(lab)
    return with_outcome(button, _broken(lab) if lab.asked(button) else None)


@needs_cluster
def _broken(lab: LabSession) -> mo.Html:
    assert lab.cluster is not None
    with spinner("Three broken memories"), memory.connect(lab.cluster) as qdrant:
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
            item.query[:160],
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
        .properties(height=130)
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
    rows = [(code(name), f"{value:,.0f}") for name, value in found.items() if name.startswith(wanted)]
    slow = sorted(
        (
            (name, value)
            for name, value in found.items()
            if name.startswith("rest_responses_max_duration_seconds")
        ),
        key=lambda item: -item[1],
    )
    rows += [(code(name), f"{value:.3f}") for name, value in slow[:2]]
    return course(table(("series", "value"), rows), live=True)


@needs_cluster
def gpu_table(lab: LabSession) -> mo.Html:
    """Every card that the cluster's dcgm-exporter knows: its holder, its use, its memory, its last error."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    try:
        service = dcgm.find_exporter(view)
    except Forbidden:
        said = "A learner of a class may not read all namespaces: here only the instructor sees GPU metrics."
        return course(Markup("{} {}").format(word("none", "not yours"), said), live=True)
    if service is None:
        none = Markup("{} No Service in any namespace is labelled {}: this cluster has no dcgm-exporter.")
        return course(none.format(word("none", "no GPU metrics"), code(dcgm.SELECTORS[0])), live=True)
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
    source = Markup("<small>Read now from Service {}. {}</small>").format(code(where), _stands_in(cards))
    return course(shown + source, live=True)


def _card_row(card: dcgm.CardReading) -> tuple[str, ...]:
    part = f", slice {card.instance} ({card.profile})" if card.profile else ""
    memory = "not given"
    if card.used_mib is not None and card.free_mib is not None:
        memory = f"{card.used_mib:,.0f} of {card.used_mib + card.free_mib:,.0f} MiB"
    idle = " " + word("open", "held, idle") if dcgm.held_and_idle([card]) else ""
    return (
        Markup("GPU {}{} on <code>{}</code><br><small>{}</small>").format(
            card.gpu, part, card.node, card.model
        ),
        code(card.holder) if card.holder else "nobody",
        ("not given" if card.utilisation is None else f"{card.utilisation:.0f} %") + idle,
        memory,
        "not given" if card.xid is None else str(card.xid),
    )


def _stands_in(cards: Sequence[dcgm.CardReading]) -> Markup:
    if not any(card.is_simulated for card in cards):
        return Markup()
    return Markup(
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
    chip = Markup('<span class="chip"><b>{}.{}</b></span>')
    steps: list[str] = [chip.format(major, minor) for minor in range(first, last + 1)]
    if len(steps) > MOST_STEPS:
        steps = [*steps[: MOST_STEPS // 2], "…", *steps[-MOST_STEPS // 2 :]]
    arrow = Markup(" <small>snapshot, roll out, golden queries</small> → ")
    rollouts = last - first
    count = "no rollout" if not rollouts else "1 rollout" if rollouts == 1 else f"{rollouts} rollouts"
    return card(Markup("{}<br><small>{}</small>").format(arrow.join(steps), count), live=True)
