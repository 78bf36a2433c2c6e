"""A game day: a fault drawn from a seed, a learner who does not know which, and a clock.

The fault stays until the learner has repaired it (both backends ready, both clients served for five
seconds) and committed a diagnosis, or until the time is over; then whatever is left is undone. The
diagnosis is a ConfigMap in the cluster, read into the sealed journal at the moment of the repair, so
that it cannot be written after the fault was revealed.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helpers.chaos.clients import Attempt, Clients
from helpers.chaos.evidence import in_words
from helpers.chaos.experiment import (
    Cancelled,
    Finished,
    NotSteady,
    Progress,
    allowed,
    no_leftovers,
    steady_state,
    wait_for_clients,
)
from helpers.chaos.faults import FAULTS, SYSTEM, Fault, fault, not_on_the_list
from helpers.chaos.journal import JournalWriter, experiments_dir, journal_key, publish
from helpers.chaos.steps import Step, carry_out
from helpers.chaos.undo import Undo, undo, write_undo
from helpers.chaos.watch import Watch

if TYPE_CHECKING:
    from helpers.cluster import Cluster, Profile

NAME = "game-day"
ANSWER = "game-day-answer"
ANSWER_NAMESPACE = "llm-apps"
TIMEOUT_S = 900.0
SERVED_FOR_S = 5.0
BEFORE_S = 3.0
LOOK_EVERY_S = 0.5
# What heals by itself, or cannot be told by clients that only ask whether they are served.
NOT_FOR_A_GAME_DAY = ("delete-vllm", "delete-qdrant", "slow-qdrant")


def draw(seed: int, profile: Profile) -> Fault:
    """The fault that belongs to a seed on a cluster of this profile."""
    names = sorted(
        name
        for name, item in FAULTS.items()
        if name not in NOT_FOR_A_GAME_DAY and (profile.gpu == "simulated" or not item.needs_simulated_gpu)
    )
    return fault(random.Random(seed).choice(names))


def game_day(
    cluster: Cluster,
    seed: int,
    *,
    timeout_s: float = TIMEOUT_S,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Finished:
    """Run a game day to its end; the same contract as `experiment.run`.

    Raises:
        Cancelled: stopped by the learner; everything was undone, nothing is graded.
    """
    return _GameDay(cluster, seed, timeout_s, on_progress or (lambda line: None), should_stop).run()


class _GameDay:
    def __init__(
        self, cluster: Cluster, seed: int, timeout_s: float, say: Progress, should_stop: Callable[[], bool]
    ) -> None:
        self._cluster, self._seed, self._timeout_s = cluster, seed, timeout_s
        self._say, self._should_stop = say, should_stop
        self._fault = draw(seed, cluster.profile())
        allowed(cluster, self._fault)
        self._uid = cluster.identity().uid
        no_leftovers(self._uid)
        steady_state(cluster.view())
        self._plan = self._fault.plan(cluster.view())
        # An answer from an earlier game day is not an answer to this one.
        cluster.delete("ConfigMap", ANSWER, ANSWER_NAMESPACE)

    def run(self) -> Finished:
        began = time.monotonic()
        run = uuid.uuid4().hex[:8]
        folder = experiments_dir(self._uid) / f"{time.strftime('%Y%m%dT%H%M%S')}-{run}-{NAME}"
        header = {"experiment": NAME, "cluster": self._uid, "run": run, "seed": self._seed, "t": time.time()}
        journal = JournalWriter(folder / "journal.jsonl", journal_key(self._cluster), header)
        clients = Clients(self._cluster, run)
        entry = write_undo(folder, NAME, self._plan.undo, secret=True)
        try:
            clients.start()
            with Watch(self._cluster, journal, clients) as watch:
                try:
                    wait_for_clients(watch, time.sleep)
                    self._inject(journal)
                    self._until_repaired(journal, watch)
                finally:
                    steady = self._clean_up(entry, journal)
                    clients.stop()
            # Revealed only now: a journal that is being read must not name the fault.
            journal.add(
                "reveal",
                t=time.time(),
                fault=self._fault.name,
                backend=self._fault.backend.name,
                layer=self._fault.layer,
                cause=self._fault.cause,
            )
            journal.add("end", t=time.time(), steady=steady)
        finally:
            journal.close()
        publish(self._cluster, journal.path.read_text(), NAME)
        return Finished(journal.path, steady, time.monotonic() - began)

    def _inject(self, journal: JournalWriter) -> None:
        time.sleep(BEFORE_S)
        for step in self._plan.inject:
            carry_out(self._cluster, step)
        journal.add("inject", t=time.time(), step="a fault drawn from the seed")
        self._say("a fault is in the cluster: find its layer and its cause, repair it, commit your answer")

    def _until_repaired(self, journal: JournalWriter, watch: Watch) -> None:
        began = time.monotonic()
        while time.monotonic() - began < self._timeout_s:
            if self._should_stop():
                raise Cancelled("the game day was cancelled")
            time.sleep(LOOK_EVERY_S)
            answer = self._answer()
            served = self._is_served(watch.recent, time.time())
            waited = time.monotonic() - began
            wrong = not_on_the_list(answer or {})
            is_whole = bool(answer and answer.get("layer") and answer.get("cause") and not wrong)
            state = "; ".join(wrong) or ("answer committed" if is_whole else "no answer yet")
            self._say(f"{waited:3.0f} s: {in_words(watch.recent)}; {state}")
            if served and is_whole and watch.failed_once:
                journal.add("repaired", t=time.time(), answer=answer, after_s=round(waited, 1))
                return
        journal.add("time-over", t=time.time(), answer=self._answer())

    def _answer(self) -> dict[str, Any] | None:
        found = self._cluster.view().find("ConfigMap", ANSWER, ANSWER_NAMESPACE)
        return dict(found.path("data", {})) if found else None

    def _is_served(self, recent: list[Attempt], now: float) -> bool:
        """Both clients had nothing but success for five seconds, and both backends are ready."""
        window = [item for item in recent if item.t > now - SERVED_FOR_S]
        clients = {item.client for item in window if item.ok}
        if len(clients) < 2 or not all(item.ok for item in window):
            return False
        # The window must be full: attempts arrive about a second late.
        if min(item.t for item in window) > now - 0.7 * SERVED_FOR_S:
            return False
        try:
            steady_state(self._cluster.view())
        except NotSteady:
            return False
        return True

    def _clean_up(self, entry: Undo, journal: JournalWriter) -> bool:
        """Undo what is left; a pod that the learner brought back is not restarted for it."""
        journal.add("undo", t=time.time())
        ready = {pod.name for pod in self._cluster.view().pods(SYSTEM) if pod.is_ready}
        kept = tuple(step for step in entry.steps if not _restarts(step, ready))
        undo(self._cluster, Undo(entry.folder, entry.experiment, kept, entry.owner, entry.secret))
        try:
            steady_state(self._cluster.view())
        except NotSteady:
            return False
        return True


def _restarts(step: Step, ready: set[str]) -> bool:
    return step.verb == "delete" and step.kind == "Pod" and step.name in ready


def answer_manifest(seed: int, layer: str, cause: str) -> dict[str, Any]:
    """The learner's diagnosis as an object."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": ANSWER, "namespace": ANSWER_NAMESPACE},
        "data": {"seed": str(seed), "layer": layer, "cause": cause},
    }
