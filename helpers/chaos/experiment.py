"""Running an experiment: steady, undo on disk, break, watch, always undo, steady again, journal.

The order is the point. Chaos Toolkit skips its rollbacks on failure unless told otherwise, and
takes "all pods healthy" as true of an empty namespace: here the undo always runs, the steady state
is checked before and after, and nothing selected is never steady.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.chaos.clients import NAMESPACE, POD, Clients
from helpers.chaos.evidence import in_words
from helpers.chaos.faults import BACKENDS, Backend, Fault, pods_of
from helpers.chaos.journal import JournalWriter, experiments_dir, journal_key, publish
from helpers.chaos.steps import FaultNotAllowed, Plan, Step, carry_out
from helpers.chaos.undo import Undo, pending, undo, write_undo
from helpers.chaos.watch import Watch, sample
from helpers.errors import ClusterUnreachable, Forbidden, LabError, ObjectMissing
from helpers.progress import Progress
from helpers.stack import scaling
from helpers.stack.bring_up import load_images
from helpers.stack.images import missing

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

BEFORE_S = 3.0
AFTER_S = 2.0
HEAL_TIMEOUT_S = 240.0
CLIENTS_TIMEOUT_S = 15.0


class NotSteady(LabError):
    """The system is not in its steady state: an experiment now would prove nothing."""


class Cancelled(LabError):
    """The experiment was cancelled; what it had injected has been undone."""


@dataclass(frozen=True)
class Finished:
    """What an experiment left: its journal on disk, and whether all is as before."""

    path: Path
    steady_after: bool
    seconds: float


def steady_state(view: ClusterView, hit: Backend | None = None) -> dict[str, Any]:
    """The hypothesis: both backends, and what is hit, have a ready endpoint and every pod of theirs is Ready.

    Raises:
        NotSteady: naming what is missing; an empty selection is not steady.
    """
    seen = sample(view, hit)
    watched = BACKENDS if hit is None else {**BACKENDS, hit.name: hit}
    for name, backend in watched.items():
        lab, where = "05" if name in BACKENDS else "06", backend.namespace
        try:
            pods_of(view, backend)
        except ObjectMissing as error:
            raise NotSteady(
                f"{name}: {error}", next_command=f"course start {lab}; kubectl get pods -n {where}"
            ) from error
        unready = [pod["name"] for pod in seen["pods"] if pod["backend"] == name and not pod["ready"]]
        if unready:
            raise NotSteady(
                f"{', '.join(unready)} is not Ready",
                next_command=f"kubectl describe pod -n {where} {unready[0]}",
            )
        if not seen["endpoints"][name]["ready"]:
            raise NotSteady(
                f"the Service {name} has no ready endpoint",
                next_command=f"kubectl get endpointslices -n {where} -l kubernetes.io/service-name={name}",
            )
    return seen


def allowed(cluster: Cluster, fault: Fault) -> None:
    """Refuse on clusters that did not agree to be broken.

    Raises:
        FaultNotAllowed: with what would have to be true.
    """
    profile = cluster.profile()
    if not profile.allows_faults:
        raise FaultNotAllowed(
            f"the cluster's profile ({profile.name}) does not allow faults: set allows_faults in ConfigMap kube-public/course-profile",
            next_command="course use embedded",
        )
    if fault.needs_simulated_gpu and profile.gpu != "simulated":
        raise FaultNotAllowed("a GPU can be declared unhealthy only where it is simulated")


def no_leftovers(cluster_uid: str) -> None:
    """Refuse while another experiment's fault is in the cluster, or its undo was never carried out."""
    left = pending(cluster_uid)
    if left and left[0].is_running:
        raise NotSteady(
            f"the experiment {left[0].experiment} is still running", next_command="course recover --list"
        )
    if left:
        raise NotSteady(
            "an interrupted experiment left its fault in the cluster", next_command="course recover"
        )


def run(
    cluster: Cluster,
    fault: Fault,
    *,
    name: str = "",
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    during: Callable[[], Any] | None = None,
    after: Callable[[], Any] | None = None,
) -> Finished:
    """Run one experiment to its end.

    Args:
        fault: what to break; its plan is made from the cluster as it is now.
        name: the journal's name; the fault's own unless given.
        on_progress: called with one line at a time.
        should_stop: asked while waiting; True cancels and undoes.
        during: runs in this thread while the fault is in place; what it returns goes into the journal.
        after: the same, once the backend serves again and the clients are still calling.

    Raises:
        FaultNotAllowed, NotSteady: nothing was injected.
        Cancelled: everything was undone.
        ClusterUnreachable: the API server was lost; the undo is on disk for `course recover`.
    """
    say = on_progress or (lambda line: None)
    allowed(cluster, fault)
    uid = cluster.identity().uid
    no_leftovers(uid)
    _bring_in(cluster, fault, say)
    say("steady state: both backends ready?")
    steady_state(cluster.view(), fault.backend)
    plan = fault.plan(cluster.view())
    experiment = _Experiment(cluster, fault, plan, name or fault.name, uid, say, should_stop)
    return experiment.run(during, after)


def _bring_in(cluster: Cluster, fault: Fault, say: Progress) -> None:
    """The images that the fault itself needs, where this machine makes them."""
    lacking = missing(cluster, fault.images)
    if lacking:
        say(f"bringing in {', '.join(lacking)}")
        load_images(*lacking)


def wait_for_clients(watch: Watch, pause: Callable[[float], None]) -> None:
    """Both clients must be served before anything is broken: one that never was proves nothing later.

    Raises:
        NotSteady: naming what they saw instead.
    """
    until = time.monotonic() + CLIENTS_TIMEOUT_S
    while not watch.both_served():
        if time.monotonic() > until:
            last = {item.client: item.outcome for item in watch.recent}
            raise NotSteady(
                f"the clients in llm-apps are not served before the fault: {last or 'no attempt was seen'}",
                next_command="course start 05",
            )
        pause(0.25)


class _Experiment:
    """One run, with its folder on disk."""

    def __init__(
        self,
        cluster: Cluster,
        fault: Fault,
        plan: Plan,
        name: str,
        uid: str,
        say: Progress,
        should_stop: Callable[[], bool],
    ) -> None:
        self._cluster, self._fault, self._plan, self._name = cluster, fault, plan, name
        self._say, self._should_stop = say, should_stop
        self._after: Callable[[], Any] | None = None
        self._run = uuid.uuid4().hex[:8]
        self._folder = experiments_dir(uid) / f"{time.strftime('%Y%m%dT%H%M%S')}-{self._run}-{name}"
        self._key = journal_key(cluster)
        header = {
            "experiment": name,
            "fault": fault.name,
            "backend": fault.backend.name,
            "cluster": uid,
            "run": self._run,
            "t": time.time(),
            "inject": [str(step) for step in plan.inject],
        }
        self._journal = JournalWriter(self._folder / "journal.jsonl", self._key, header)
        self._clients = Clients(cluster, self._run, queries=fault.queries)

    def run(self, during: Callable[[], Any] | None, after: Callable[[], Any] | None) -> Finished:
        self._after = after
        began = time.monotonic()
        try:
            self._clients.start()
            with Watch(self._cluster, self._journal, self._clients, hit=self._fault.backend) as watch:
                steady = self._steps(watch, during)
            self._note("end", steady=steady)
        except NotSteady:
            self._clients.stop()
            raise
        finally:
            self._journal.close()
        publish(self._cluster, self._journal.path.read_text(), self._name)
        self._say("journal written")
        return Finished(self._journal.path, steady, time.monotonic() - began)

    def _steps(self, watch: Watch, during: Callable[[], Any] | None) -> bool:
        self._say("watching the steady state")
        self._pause(BEFORE_S)
        wait_for_clients(watch, self._pause)
        stop_clients = Step("stop_clients", "Pod", POD, NAMESPACE, {"run": self._run})
        entry = write_undo(self._folder, self._name, (*self._plan.undo, stop_clients))
        self._note("undo-written", steps=[str(step) for step in entry.steps])
        cancelled = False
        try:
            self._inject()
            if during:
                self._note("during", result=during())
            self._watch_fault(watch)
        except Cancelled:
            cancelled = True
        finally:
            # Also after Ctrl-C and after errors of our own: what was injected is undone first.
            steady = self._undo(entry)
        # Also one that is stopped while it is being undone: what it left unfinished proves nothing.
        if cancelled or self._should_stop():
            raise Cancelled("the experiment was cancelled and undone")
        return steady

    def _inject(self) -> None:
        for step in self._plan.inject:
            self._say(f"inject: {step}")
            self._note("inject", step=str(step))
            carry_out(self._cluster, step)
        self._note("injected")

    def _watch_fault(self, watch: Watch) -> None:
        """Until the platform has healed itself, or for as long as the fault is worth watching."""
        began = time.monotonic()
        limit_s = HEAL_TIMEOUT_S if self._fault.heals else self._fault.watch_s
        while time.monotonic() - began < limit_s:
            self._pause(0.25)
            waited = time.monotonic() - began
            state = watch.latest.get("endpoints", {}).get(self._fault.backend.name, {})
            self._say(
                f"{waited:3.0f} s into the fault: {state.get('ready', '?')} ready endpoints of {self._fault.backend.name}; "
                f"{in_words(watch.recent)}"
            )
            if self._fault.heals and waited > 1.5 and self._is_steady():
                self._note("healed")
                return

    def _undo(self, entry: Undo) -> bool:
        """Undo and wait for the steady state; what fails stays on disk for `course recover`."""
        self._say("undo")
        self._note("undo")
        try:
            undo(self._cluster, entry, before=self._before_undoing)
        except ClusterUnreachable as error:
            self._note("undo-failed", error=str(error))
            raise ClusterUnreachable(
                f"the API server was lost before the undo: {error}", next_command="course recover"
            ) from error
        steady = self._is_steady()
        self._note("steady-after", steady=steady)
        return steady

    def _before_undoing(self, step: Step) -> None:
        """The clients stop last: their first good answers after the undo belong into the journal."""
        self._note("undo-step", step=str(step))
        if step.verb == "stop_clients":
            if self._after:
                self._note("after", result=self._after())
            time.sleep(AFTER_S)

    def _is_steady(self) -> bool:
        try:
            steady_state(self._cluster.view(), self._fault.backend)
        except NotSteady:
            return False
        return True

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._should_stop():
                raise Cancelled("cancelled")
            time.sleep(min(0.1, max(0.0, until - time.monotonic())))

    def _note(self, kind: str, **data: Any) -> None:
        self._journal.add(kind, t=round(time.time(), 3), **data)


def recover(cluster: Cluster, *, on_progress: Progress | None = None, force: bool = False) -> list[str]:
    """Undo what interrupted experiments left in this cluster; the names of what was undone.

    An experiment whose process is still running is left to it, unless `force`. A Prometheus that was taken away says so
    itself: it is brought back also where this machine knows nothing of who did it.
    """
    say = on_progress or (lambda line: None)
    undone = []
    for entry in pending(cluster.identity().uid):
        shown = entry.shown
        if entry.is_running and not force:
            say(f"{shown}: still running in process {entry.owner}, left to it")
            continue
        say(f"{shown}: undoing {len(entry.steps)} steps")
        undo(cluster, entry)
        undone.append(shown)
    if not pending(cluster.identity().uid):
        with suppress(Forbidden):  # whoever may not even look did not take it away
            undone += [f"Prometheus {name} away" for name in scaling.prometheus_back(cluster)]
    return undone
