"""Running a witness of lab 06: what it asks to have broken is broken.

Only `survive` breaks something of the learner's own: a pod while it generates, Redis for twenty seconds,
and every pod by a rollout. How Redis comes back is on disk before it goes: `course recover` reads it too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from helpers.chaos.journal import experiments_dir
from helpers.chaos.steps import Step, carry_out
from helpers.chaos.undo import undo, write_undo
from helpers.errors import StepMissing
from helpers.labs import witnessing
from helpers.labs.lab06_orchestration.witness import BOOK, WITNESSES
from helpers.progress import Progress
from helpers.stack import orchestrator
from helpers.stack.metrics import Metrics

if TYPE_CHECKING:
    from helpers.cluster import Cluster
    from helpers.cluster.resource import Pod
    from helpers.labs.witnessing import Record

REDIS_AWAY_S = 20.0
ROLLOUT_S = 120.0


def run_all(cluster: Cluster, names: Sequence[str], *, on_progress: Progress) -> None:
    """These witnesses, a few at once; the one that breaks what the others ask comes last, alone."""
    witnessing.run_all(BOOK, names, lambda name: run(cluster, name, on_progress=on_progress))


def run(
    cluster: Cluster,
    name: str,
    *,
    on_progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Run one witness to its end; its record.

    Raises:
        StepMissing: the service is not there.
        WaitTimeout, Stopped: as `witnessing.run`.
    """
    if cluster.view().find("Deployment", orchestrator.DEPLOYMENT, orchestrator.NAMESPACE) is None:
        raise StepMissing("The orchestrator is not there yet: put it in place in part 1.")
    if WITNESSES[name].of_service:
        on_progress(f"{name}: waiting until the rollout is over")
        cluster.wait_rollout("Deployment", orchestrator.DEPLOYMENT, orchestrator.NAMESPACE, ROLLOUT_S)
    breaking = _Breaking(cluster, on_progress)
    asked: dict[str, witnessing.Asked] = {
        "generating": breaking.kill,
        "redis": breaking.redis,
        "rollout": breaking.rollout,
    }
    return witnessing.run(
        BOOK,
        cluster,
        name,
        on_progress=on_progress,
        should_stop=should_stop,
        asked=asked if WITNESSES[name].alone else None,
    )


@dataclass(frozen=True)
class _Breaking:
    """What `survive` asks to have broken."""

    cluster: Cluster
    say: Progress

    def kill(self, pod: Pod, thread: str) -> None:
        """The pod that generates now, with a second to go."""
        busy = busy_pod(self.cluster)
        self.say(f"survive: deleting {busy or 'no pod: none is generating'}")
        if busy:
            self.cluster.delete("Pod", busy, orchestrator.NAMESPACE, grace_s=1)
            witnessing.answer(self.cluster, pod, f"killed-{thread}")

    def redis(self, pod: Pod, _: str) -> None:
        before, about = _restarts(self.cluster), ("StatefulSet", orchestrator.REDIS, orchestrator.SYSTEM)
        self.say(f"survive: Redis away for {REDIS_AWAY_S:.0f} s")
        folder = experiments_dir(self.cluster.identity().uid) / f"{time.strftime('%Y%m%dT%H%M%S')}-{pod.uid}"
        back = write_undo(folder, "witness survive", [Step("scale", *about, {"replicas": 1})])
        try:
            carry_out(self.cluster, Step("scale", *about, {"replicas": 0}))
            time.sleep(REDIS_AWAY_S)
        finally:
            undo(self.cluster, back)
        self.cluster.wait_rollout("StatefulSet", orchestrator.REDIS, orchestrator.SYSTEM, ROLLOUT_S)
        self.cluster.wait_rollout("Deployment", orchestrator.DEPLOYMENT, orchestrator.NAMESPACE, ROLLOUT_S)
        witnessing.answer(self.cluster, pod, "redis-back", str(_restarts(self.cluster) - before))

    def rollout(self, pod: Pod, _: str) -> None:
        self.say("survive: replacing every pod")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        restarted = {"kubectl.kubernetes.io/restartedAt": now}
        template: dict[str, Any] = {"spec": {"template": {"metadata": {"annotations": restarted}}}}
        self.cluster.patch("Deployment", orchestrator.DEPLOYMENT, template, orchestrator.NAMESPACE)
        self.cluster.wait_rollout("Deployment", orchestrator.DEPLOYMENT, orchestrator.NAMESPACE, ROLLOUT_S)
        witnessing.answer(self.cluster, pod, "rolled-out")


def _restarts(cluster: Cluster) -> int:
    pods = cluster.view().pods(orchestrator.NAMESPACE, labels=orchestrator.LABELS)
    return sum(state.restarts for pod in pods for state in pod.container_states)


def busy_pod(cluster: Cluster) -> str:
    """The pod that answers a request of class background now, by its own metrics; empty where none does."""
    import httpx

    for pod in cluster.view().pods(orchestrator.NAMESPACE, labels=orchestrator.LABELS):
        if not pod.is_ready:
            continue
        with cluster.port_forward(
            orchestrator.NAMESPACE, f"pod/{pod.name}", orchestrator.METRICS_PORT
        ) as way:
            seen = Metrics.parse(httpx.get(f"{way.url}/metrics", timeout=5).text)
        if seen.value("llm_orchestrator_inflight_requests", **{"class": "background"}):
            return pod.name
    return ""
