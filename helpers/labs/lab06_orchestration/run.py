"""Running a witness: its Job is made anew, what it asks to have broken is broken, and it ends with a record.

Only `survive` breaks something of the learner's own: a pod while it generates, Redis for twenty seconds,
and every pod by a rollout. How Redis comes back is on disk before it goes: `course recover` reads it too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from helpers.chaos.journal import experiments_dir
from helpers.chaos.steps import Step, carry_out
from helpers.chaos.undo import undo, write_undo
from helpers.errors import LabError, StepMissing, WaitTimeout
from helpers.labs.lab06_orchestration.witness import CONTAINER, WITNESSES, Witness, manifest, record
from helpers.progress import Progress
from helpers.stack import orchestrator
from helpers.stack.metrics import Metrics

if TYPE_CHECKING:
    from helpers.cluster import Cluster
    from helpers.cluster.resource import Pod
    from helpers.labs.lab06_orchestration.witness import Record

LONGEST_S = 420.0
AT_ONCE = 4
BREAKING = "survive"
REDIS_AWAY_S = 20.0
ROLLOUT_S = 120.0
_SAID = "WITNESS "


class Stopped(LabError):
    """Whoever started the witness gave it up."""


def run_all(cluster: Cluster, names: Sequence[str], *, on_progress: Progress) -> None:
    """These witnesses, a few at once; the one that breaks what the others ask comes last, alone."""
    quiet = [name for name in names if name != BREAKING]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(run, cluster, name, on_progress=on_progress) for name in quiet]:
            done.result()
    if BREAKING in names:
        run(cluster, BREAKING, on_progress=on_progress)


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
        WaitTimeout: it does not end.
        Stopped: `should_stop` said so; the Job is gone.
    """
    witness = WITNESSES[name]
    if cluster.view().find("Deployment", orchestrator.DEPLOYMENT, orchestrator.NAMESPACE) is None:
        raise StepMissing("The orchestrator is not there yet: put it in place in part 1.")
    if witness.of_service:
        on_progress(f"{name}: waiting until the rollout is over")
        cluster.wait_rollout("Deployment", orchestrator.DEPLOYMENT, orchestrator.NAMESPACE, ROLLOUT_S)
    _start(cluster, witness)
    _Run(cluster, witness, on_progress, should_stop).until_over()
    return record(cluster.view(), name)


def _start(cluster: Cluster, witness: Witness) -> None:
    """The Job anew; what an earlier one saw is forgotten."""
    cluster.delete("Job", witness.job, witness.namespace, wait_s=30, grace_s=1)
    cluster.apply(manifest(cluster.view(), witness.name))


class _Run:
    """One Job, followed by its log."""

    def __init__(
        self, cluster: Cluster, witness: Witness, say: Progress, should_stop: Callable[[], bool]
    ) -> None:
        self._cluster, self._witness, self._say, self._should_stop = cluster, witness, say, should_stop
        self._done: set[str] = set()
        self._job = cluster.view().get("Job", witness.job, witness.namespace)

    def until_over(self) -> None:
        began = time.monotonic()
        while not self._is_over():
            elapsed_s = time.monotonic() - began
            if self._should_stop():
                self._cluster.delete("Job", self._witness.job, self._witness.namespace, grace_s=1)
                raise Stopped(f"the witness {self._witness.name} was stopped")
            if elapsed_s > LONGEST_S:
                raise WaitTimeout(
                    f"the witness {self._witness.name} did not end within {LONGEST_S:.0f} s",
                    next_command=f"kubectl describe job {self._witness.job} -n {self._witness.namespace}",
                )
            self._say(f"{self._witness.name}: {elapsed_s:.0f} s of about {self._witness.seconds}")
            self._follow()
            time.sleep(0.3)

    def _is_over(self) -> bool:
        pod = self._pod()
        states = pod.path("status.containerStatuses", []) if pod else []
        return any(
            item["name"] == CONTAINER and "terminated" in (item.get("state") or {}) for item in states or []
        )

    def _pod(self) -> Pod | None:
        labels = f"batch.kubernetes.io/job-name={self._witness.job}"
        pods = self._cluster.view().pods(self._witness.namespace, labels=labels)
        own = [
            pod
            for pod in pods
            if any(owner.get("uid") == self._job.uid for owner in pod.metadata.get("ownerReferences") or [])
        ]
        return own[0] if own else None

    def _follow(self) -> None:
        """What the witness asks for in its log, each once."""
        pod = self._pod()
        if self._witness.name != BREAKING or pod is None or pod.path("status.phase") != "Running":
            return
        log = self._cluster.logs(self._witness.namespace, pod.name)
        for line in log.splitlines():
            word, _, about = line.removeprefix(_SAID).partition(" ")
            if line.startswith(_SAID) and line not in self._done:
                self._done.add(line)
                {"generating": self._kill, "redis": self._redis, "rollout": self._rollout}[word](pod, about)

    def _answer(self, pod: Pod, word: str, text: str = "") -> None:
        command = [
            "python3",
            "-c",
            "import sys; open(sys.argv[1], 'w').write(sys.argv[2])",
            f"/tmp/{word}",
            text,
        ]
        self._cluster.exec(self._witness.namespace, pod.name, command, container=CONTAINER)

    def _kill(self, pod: Pod, thread: str) -> None:
        """The pod that generates now, with a second to go."""
        busy = busy_pod(self._cluster)
        self._say(f"survive: deleting {busy or 'no pod: none is generating'}")
        if busy:
            self._cluster.delete("Pod", busy, orchestrator.NAMESPACE, grace_s=1)
            self._answer(pod, f"killed-{thread}")

    def _redis(self, pod: Pod, _: str) -> None:
        before, about = _restarts(self._cluster), ("StatefulSet", orchestrator.REDIS, orchestrator.SYSTEM)
        self._say(f"survive: Redis away for {REDIS_AWAY_S:.0f} s")
        folder = (
            experiments_dir(self._cluster.identity().uid)
            / f"{time.strftime('%Y%m%dT%H%M%S')}-{self._job.uid}"
        )
        back = write_undo(folder, f"witness {self._witness.name}", [Step("scale", *about, {"replicas": 1})])
        try:
            carry_out(self._cluster, Step("scale", *about, {"replicas": 0}))
            time.sleep(REDIS_AWAY_S)
        finally:
            undo(self._cluster, back)
        self._cluster.wait_rollout("StatefulSet", orchestrator.REDIS, orchestrator.SYSTEM, ROLLOUT_S)
        self._cluster.wait_rollout("Deployment", orchestrator.DEPLOYMENT, orchestrator.NAMESPACE, ROLLOUT_S)
        self._answer(pod, "redis-back", str(_restarts(self._cluster) - before))

    def _rollout(self, pod: Pod, _: str) -> None:
        self._say("survive: replacing every pod")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        restarted = {"kubectl.kubernetes.io/restartedAt": now}
        template: dict[str, Any] = {"spec": {"template": {"metadata": {"annotations": restarted}}}}
        self._cluster.patch("Deployment", orchestrator.DEPLOYMENT, template, orchestrator.NAMESPACE)
        self._cluster.wait_rollout("Deployment", orchestrator.DEPLOYMENT, orchestrator.NAMESPACE, ROLLOUT_S)
        self._answer(pod, "rolled-out")


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
