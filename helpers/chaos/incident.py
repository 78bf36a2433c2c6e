"""An incident: drawn from a seed, seen by its figures alone, diagnosed before it is named, undone in any case.

Users ask for half a minute; then something happens. The learner sees what Prometheus sees, writes down what it is
and which figure told it, and commits that: a ConfigMap, read into the sealed journal before the name is. Then the
incident is undone and named. The journal also says which names had been told before: the same seed counts once.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.chaos.experiment import Cancelled, Finished, NotSteady, no_leftovers
from helpers.chaos.faults import APPS, QDRANT, pods_of
from helpers.chaos.incident_faults import BATCH, FRONT, INCIDENTS, POOL, WORKER, WORKER_LABELS, Incident
from helpers.chaos.incident_figures import BY_NAME, SIGNS, Figures, can_be_read, read, told_apart, typical
from helpers.chaos.incident_load import Load
from helpers.chaos.journal import (
    JournalWriter,
    Record,
    experiments_dir,
    journal_key,
    journals,
    latest,
    parse,
    publish,
    published,
)
from helpers.chaos.steps import FaultNotAllowed, carry_out
from helpers.chaos.undo import Undo, UndoFailed, undo, write_undo
from helpers.cluster.waits import NotYet
from helpers.errors import LabError, WaitFailed
from helpers.progress import Progress
from helpers.stack.bring_up import load_images
from helpers.stack.images import missing
from helpers.stack.prometheus import MONITORING

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView, Profile

NAME, LAB = "incident", "08"
ANSWER = "incident-diagnosis"
BEFORE_S = 40.0
# A diagnosis within the first seconds would be a guess: nothing has changed yet.
LOOK_FIRST_S = 20.0
TIMEOUT_S = 600.0
SEEDS = 1000
MOST_TOLD = 100
SAMPLE_EVERY_S = 3.0
CALM_S = 240.0
KNOWN_S = 150.0
HAPPENED = "something has happened"
# By the table: the same verdict so many times in a row, and not before rates over half a minute mean something.
SURE_AFTER, SURE_AFTER_S = 5, 45.0


def draw(seed: int, profile: Profile) -> Incident:
    """The incident that belongs to a seed on a cluster of this profile."""
    names = sorted(
        name for name, item in INCIDENTS.items() if profile.gpu == "simulated" or not item.needs_simulated_gpu
    )
    return INCIDENTS[random.Random(seed).choice(names)]


def fresh_seed(cluster: Cluster) -> int:
    """A seed by chance whose name was not told yet, of another incident than the one that was named last."""
    before, profile = told(cluster), cluster.profile()
    known, last = {item["seed"] for item in before}, before[-1]["cause"] if before else ""
    others = [seed for seed in range(SEEDS) if seed not in known and draw(seed, profile).name != last]
    return random.SystemRandom().choice(others)


def told(cluster: Cluster) -> list[dict[str, Any]]:
    """The incidents whose name was told on this cluster, in that order: `seed`, `cause` and `t` of each.

    The journals of this machine say so, and the one that the cluster keeps, which says what was told before it.
    """
    records = [_parsed(path) for path in journals(cluster.identity().uid, NAME)]
    with suppress(LabError):  # none was run, or it was edited
        records.append(published(cluster.view(), NAME))
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for record in records:
        named = record.last("reveal") if record else None
        if record is None or named is None:
            continue
        mine = {"seed": record.header.get("seed"), "cause": named["cause"], "t": named["t"]}
        found |= {(item["seed"], item["t"]): item for item in (*record.header.get("told", ()), mine)}
    return sorted(found.values(), key=lambda item: float(item["t"]))


def was_told(record: Record) -> bool:
    """Whether the name of this incident's seed had been told before it was run: whoever names it then has read it."""
    return record.header.get("seed") in [item.get("seed") for item in record.header.get("told", ())]


def answer_manifest(seed: int, cause: str, figure: str) -> dict[str, Any]:
    """The learner's diagnosis as an object."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": ANSWER, "namespace": APPS},
        "data": {"seed": str(seed), "cause": cause, "figure": figure},
    }


def not_on_the_list(answer: Mapping[str, Any]) -> list[str]:
    """What a diagnosis names that cannot be, a sentence each; what is still empty is none."""
    known = {"cause": tuple(INCIDENTS), "figure": tuple(BY_NAME)}
    return [
        f"`{key}` is `{answer[key]}`: it is one of {', '.join(words)}"
        for key, words in known.items()
        if answer.get(key) and answer[key] not in words
    ]


def incident(
    cluster: Cluster,
    seed: int,
    *,
    timeout_s: float = TIMEOUT_S,
    on_progress: Progress | None = None,
    on_figures: Callable[[Figures], None] = lambda figures: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Finished:
    """Run an incident to its end.

    Args:
        on_figures: told every sample.

    Raises:
        FaultNotAllowed, NotSteady: nothing was injected.
        Cancelled: stopped by the learner; everything was undone, nothing is graded.
    """
    chosen = draw(seed, cluster.profile())
    return _Incident(cluster, seed, chosen, timeout_s, on_progress, on_figures, should_stop).run()


class ByTheTable:
    """Who diagnoses by the table alone: commits what the figures show, once they have shown it for a while.

    `incident(cluster, seed, on_progress=eye.progress, on_figures=eye.figures)`
    """

    def __init__(self, cluster: Cluster, seed: int, *, say: Progress = lambda line: None) -> None:
        self._cluster, self._seed, self._say = cluster, seed, say
        self._before: list[Figures] = []
        self._under: list[Figures] = []
        self._since: float | None = None
        self._verdicts: list[str] = []
        self.committed = ""

    def progress(self, line: str) -> None:
        if self._since is None and line.startswith(HAPPENED):
            self._since = time.monotonic()
        self._say(line)

    def figures(self, seen: Figures) -> None:
        if self._since is None:
            self._before.append(seen)
            return
        self._under.append(seen)
        self._verdicts.append(told_apart(typical(_settled(self._before)), typical(self._under[-3:])))
        lately = set(self._verdicts[-SURE_AFTER:])
        waited = time.monotonic() - self._since
        if not self.committed and len(lately) == 1 and self._verdicts[-1] and waited > SURE_AFTER_S:
            self.committed = self._verdicts[-1]
            figure = SIGNS[self.committed].figure
            self._cluster.apply([answer_manifest(self._seed, self.committed, figure)])


class _Incident:
    def __init__(
        self,
        cluster: Cluster,
        seed: int,
        chosen: Incident,
        timeout_s: float,
        say: Progress | None,
        on_figures: Callable[[Figures], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._cluster, self._seed, self._chosen, self._timeout_s = cluster, seed, chosen, timeout_s
        self._say, self._on_figures, self._should_stop = say or (lambda line: None), on_figures, should_stop
        _allowed(cluster, chosen)
        self._uid = cluster.identity().uid
        no_leftovers(self._uid)
        lacking = missing(cluster, chosen.images)
        if lacking:
            self._say("bringing in what is needed")
            load_images(*lacking)
        self._until_known()
        steady(cluster.view())
        # A diagnosis of an earlier incident is none of this one.
        cluster.delete("ConfigMap", ANSWER, APPS)

    def _until_known(self) -> None:
        """Give Prometheus its time with monitors that were only just applied; without any nothing is waited for."""
        until = time.monotonic() + KNOWN_S
        while time.monotonic() < until and not self._should_stop():
            view = self._cluster.view()
            unknown = can_be_read(view)
            if not unknown or not _has_monitors(view):
                return
            self._say(f"{unknown}: a new monitor takes a minute")
            time.sleep(SAMPLE_EVERY_S)

    def run(self) -> Finished:
        began, run = time.monotonic(), uuid.uuid4().hex[:8]
        folder = experiments_dir(self._uid) / f"{time.strftime('%Y%m%dT%H%M%S')}-{run}-{NAME}"
        header = {"experiment": NAME, "cluster": self._uid, "run": run, "seed": self._seed, "t": time.time()}
        header["told"] = told(self._cluster)[-MOST_TOLD:]
        journal = JournalWriter(folder / "journal.jsonl", journal_key(self._cluster), header)
        try:
            with Load(self._cluster, seed=self._seed) as load:
                self._watch(journal, load, BEFORE_S, "users ask; nothing has happened yet")
                calm = self._break_and_mend(journal, load, folder)
            # Named only now: a journal that is being read must not tell.
            journal.add("reveal", t=time.time(), cause=self._chosen.name, layer=self._chosen.layer)
            journal.add("end", t=time.time(), steady=calm)
        finally:
            journal.close()
        publish(self._cluster, journal.path.read_text(), NAME, LAB)
        return Finished(journal.path, calm, time.monotonic() - began)

    def _break_and_mend(self, journal: JournalWriter, load: Load, folder: Path) -> bool:
        plan = self._chosen.plan(self._cluster.view())
        entry = write_undo(folder, NAME, plan.undo, secret=True)
        try:
            for step in plan.inject:
                carry_out(self._cluster, step)
            load.become(self._chosen.load)
            journal.add("inject", t=time.time(), step="an incident drawn from the seed")
            self._say(f"{HAPPENED}: look at the figures, and commit what it is")
            self._until_diagnosed(journal, load)
        finally:
            # Also after Ctrl-C and after errors of our own.
            load.become("usual")
            calm = self._undone(journal, entry)
        return calm

    def _until_diagnosed(self, journal: JournalWriter, load: Load) -> None:
        began = time.monotonic()
        while (waited := time.monotonic() - began) < self._timeout_s:
            answer = self._answer()
            wrong = not_on_the_list(answer)
            if answer.get("seed", str(self._seed)) != str(self._seed):
                wrong.append(f"`seed` is `{answer['seed']}`: this one is {self._seed}")
            whole = bool(answer.get("cause") and answer.get("figure") and not wrong)
            if whole and waited >= LOOK_FIRST_S:
                journal.add("diagnosis", t=time.time(), answer=answer, after_s=round(waited, 1))
                return
            state = "; ".join(wrong) or ("committed, looking on" if whole else "no diagnosis yet")
            self._watch(journal, load, SAMPLE_EVERY_S, state)
        journal.add("time-over", t=time.time(), answer=self._answer())

    def _watch(self, journal: JournalWriter, load: Load, seconds: float, said: str) -> None:
        """Look for so long, a sample every few seconds, each into the journal."""
        until = time.monotonic() + seconds
        while True:
            if self._should_stop():
                raise Cancelled("the incident was cancelled and undone")
            try:
                figures = read(self._cluster.view())
                journal.add("sample", t=round(time.time(), 3), figures=figures)
                self._on_figures(figures)
            except LabError as error:
                journal.add("lost", t=time.time(), error=str(error)[:300])
            self._say(f"{said} ({load.accepted} of {load.sent} jobs accepted)")
            time.sleep(max(0.0, min(SAMPLE_EVERY_S, until - time.monotonic())))
            if time.monotonic() >= until:
                return

    def _answer(self) -> dict[str, Any]:
        found = self._cluster.view().find("ConfigMap", ANSWER, APPS)
        return dict(found.path("data", {}) or {}) if found else {}

    def _undone(self, journal: JournalWriter, entry: Undo) -> bool:
        """Undo all of it, and wait until workers and pool serve again; what fails stays on disk."""
        self._say("undoing it")
        journal.add("undo", t=time.time())
        try:
            undo(self._cluster, entry)
        except UndoFailed as error:
            journal.add("undo-failed", t=time.time(), error=str(error)[:300])
            return False
        with suppress(WaitFailed):
            self._cluster.wait_until("workers and model servers serve", _is_calm, timeout_s=CALM_S)
        return not _not_calm(self._cluster.view())


def _allowed(cluster: Cluster, chosen: Incident) -> None:
    profile = cluster.profile()
    if not profile.allows_faults:
        raise FaultNotAllowed(
            f"the cluster's profile ({profile.name}) does not allow faults: set allows_faults in ConfigMap "
            "kube-public/course-profile",
            next_command="course use embedded",
        )


def steady(view: ClusterView) -> None:
    """Queue, workers, pool and retriever are there and serve, and Prometheus knows them.

    Raises:
        NotSteady: naming what is missing.
    """
    problem = _not_calm(view)
    if problem:
        raise NotSteady(problem, next_command=f"kubectl get pods -n {APPS}; kubectl get pods -n {BATCH}")
    unknown = can_be_read(view)
    if unknown:
        raise NotSteady(
            f"{unknown}: its monitors come first (part 4)",
            next_command="kubectl get servicemonitors,podmonitors -A --show-labels",
        )


def _has_monitors(view: ClusterView) -> bool:
    try:
        return any(
            view.list(kind, namespace)
            for kind in ("ServiceMonitor", "PodMonitor")
            for namespace in (APPS, BATCH, MONITORING)
        )
    except LabError:  # a cluster that has no such kind, or forbids to look
        return False


def _not_calm(view: ClusterView) -> str:
    """What does not serve, in a sentence; workers that are scaled to nothing have nothing to do."""
    for backend in (POOL, QDRANT):
        ready = [pod for pod in pods_of(view, backend) if pod.is_ready]
        if not ready:
            return f"no pod of {backend.name} in {backend.namespace} is ready"
    if not view.endpoint_slices(FRONT, APPS):
        return f"Service {FRONT} has no ready endpoint"
    view.deployment(WORKER, APPS)
    pods = [pod for pod in view.pods(APPS, labels=WORKER_LABELS) if pod.is_live]
    unready = [pod.name for pod in pods if not pod.is_ready]
    return f"{', '.join(unready)} is not ready" if unready and len(unready) == len(pods) else ""


def _is_calm(view: ClusterView) -> bool:
    problem = _not_calm(view)
    if problem:
        raise NotYet(problem)
    return True


# What a journal says


def newest(cluster_uid: str) -> Record | None:
    """The newest incident's journal on this machine, running or over."""
    path = latest(cluster_uid, NAME)
    return _parsed(path) if path else None


def _parsed(path: Path) -> Record | None:
    try:
        return parse(path.read_text())
    except (OSError, LabError):
        return None


def before_and_now(record: Record, *, last: int = 3) -> tuple[list[Figures], list[Figures]]:
    """The samples from before the incident, and the last ones under it."""
    injected, undone = record.first("inject"), record.first("undo")
    samples = record.of("sample")
    if injected is None:
        return _settled([item["figures"] for item in samples]), []
    end = undone["t"] if undone else float("inf")
    before = [item["figures"] for item in samples if item["t"] < injected["t"]]
    under = [item["figures"] for item in samples if injected["t"] <= item["t"] < end]
    return _settled(before), under[-last:]


def _settled(before: list[Figures]) -> list[Figures]:
    """The later half: a rate over half a minute is too low while users have asked for less than that."""
    return before[len(before) // 2 :]


def is_right(answer: Mapping[str, Any], cause: str) -> bool:
    """Whether a diagnosis names the incident, and the figure that tells it."""
    return bool(answer.get("cause") == cause and answer.get("figure") == SIGNS[cause].figure)
