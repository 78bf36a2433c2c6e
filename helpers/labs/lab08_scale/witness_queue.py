"""The witnesses of queue and cache: two ask the learner's own front, two run copies of the worker in their own pod.

Only `faults` breaks something: all workers by a rollout, workers while they hold work, and Redis's pod. A record is
bound to the files and settings that it rests on, and where it asks the real pods, to what those are made from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from helpers.cluster.manifests import load_one
from helpers.errors import LabError, StepMissing
from helpers.labs import witnessing
from helpers.labs.witnessing import Book, Witness
from helpers.settings import REPOSITORY
from helpers.stack import jobs, kafka
from helpers.stack.assistant import hashes_in
from helpers.stack.orchestrator import short_hash

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.resource import Pod
    from helpers.labs.witnessing import Record
    from helpers.progress import Progress

MANIFEST = REPOSITORY / "manifests" / "labs" / "08" / "witness-queue.yaml"
HERE = Path(__file__).parent
# What each program imports of this lab, in this order.
ASKING, COPIES, KEY_CASES = (
    HERE / f"{name}.py" for name in ("witness_asking", "witness_copies", "key_cases")
)
MODULES = {
    "jobs": (ASKING,),
    "faults": (ASKING,),
    "delivery": (ASKING, COPIES),
    "storm": (ASKING, COPIES, KEY_CASES),
}
ROLLOUT_S = 180.0
QUEUES = {jobs.QUEUE: "Redis", kafka.KAFKA: "Kafka"}
MEMORY = {"jobs": "32Mi", "faults": "32Mi", "delivery": "160Mi", "storm": "480Mi"}

WITNESSES: dict[str, Witness] = {
    item.name: item
    for item in (
        Witness("jobs", "what the front says, also to one tenant that asks without an end", jobs.APPS, 40),
        Witness(
            "faults",
            "a rollout of the workers, workers killed at work, and Redis gone",
            jobs.APPS,
            120,
            alone=True,
        ),
        Witness(
            "delivery", "workers that end at each step, poison, and a model server that fails", jobs.APPS, 60
        ),
        Witness("storm", "fifty askers of one question, and whose answer is whose", jobs.APPS, 60),
    )
}


@dataclass(frozen=True)
class Rests:
    """What a record rests on: decisions, settings, and whether on the pods of front and workers."""

    files: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()


RESTS: Mapping[str, Rests] = {
    "jobs": Rests((), ("TENANTS", "QUEUE_LIMIT", "TENANT_LIMIT", "JOB_TTL_S"), (jobs.FRONT,)),
    "faults": Rests(
        ("delivery",), ("CLAIM_IDLE_MS", "DRAIN_DEADLINE_S", "WORKER_CONCURRENCY"), (jobs.WORKER,)
    ),
    "delivery": Rests(("delivery",)),
    "storm": Rests(("cache", "flight"), ("CACHE_TTL_S", "CACHE_FLOOR")),
}


def make(view: ClusterView, name: str) -> dict[str, Any]:
    """The Job of this witness as it would be started now.

    Raises:
        ObjectMissing: front or workers are not there.
    """
    front = view.get("Deployment", jobs.FRONT, jobs.APPS)
    image = view.profile.images.get("orchestrator") or front.path("spec.template.spec.containers.0.image", "")
    job: dict[str, Any] = json.loads(_text(name, image, revision(view, name)))
    return job


@cache
def _text(name: str, image: str, revision: str) -> str:
    names = {"NAME": name, "ORCHESTRATOR": image, "REVISION": revision, "MEMORY": MEMORY[name]}
    job = load_one(Template(MANIFEST.read_text()).safe_substitute(names))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["command"] = witnessing.command(HERE / f"witness_{name}_program.py", name, *MODULES[name])
    return json.dumps(job)


def revision(view: ClusterView, name: str) -> str:
    """What a record of this witness rests on, as one short hash.

    Raises:
        ObjectMissing: front or workers are not there.
    """
    rests, said = RESTS[name], jobs.settings_in(view)
    there = hashes_in(view, jobs.DECISIONS, jobs.APPS)
    found = [view.get("Deployment", workload, jobs.APPS) for workload in rests.workloads]
    made_from = [
        [there.get(f"{file}.py") for file in rests.files],
        [said.get(setting) for setting in rests.settings],
        [[item.path("spec.template.spec"), item.path("spec.strategy")] for item in found],
    ]
    # What was seen over one stream says nothing of the other.
    made_from += [[kafka.KAFKA]] if kafka.is_on(view) else []
    return short_hash(json.dumps(made_from, sort_keys=True))


BOOK = Book("08", WITNESSES, make)


# Running


def run(
    cluster: Cluster,
    name: str,
    *,
    on_progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Run one of these witnesses to its end; its record.

    Raises:
        StepMissing: front or workers are not there yet.
        WaitTimeout, Stopped: as `witnessing.run`.
    """
    if cluster.view().find("Deployment", jobs.FRONT, jobs.APPS) is None:
        raise StepMissing(f"{jobs.FRONT} is not there yet.", next_command="course start 08")
    if RESTS[name].workloads:
        on_progress(f"{name}: waiting until the rollout is over")
        jobs.wait_ready(cluster)
    asked: dict[str, witnessing.Asked] = {}
    if name == "faults":
        breaking = Breaking(cluster, on_progress)
        asked = {"rollout": breaking.rollout, "kill": breaking.kill, "redis": breaking.redis}
    return witnessing.run(BOOK, cluster, name, on_progress=on_progress, should_stop=should_stop, asked=asked)


# In the worker's container: ends every process of the worker's.
_KILL = """\
import glob, os, signal
for file in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        words = open(file, "rb").read().split(b"\\0")
    except OSError:
        continue
    if b"helpers.apps.jobs" in words and b"worker" in words:
        os.kill(int(file.split("/")[2]), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Breaking:
    """What `faults` asks to have broken."""

    cluster: Cluster
    say: Progress

    def rollout(self, pod: Pod, word: str) -> None:
        self.say("faults: replacing every worker")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        restarted = {"kubectl.kubernetes.io/restartedAt": now}
        template: dict[str, Any] = {"spec": {"template": {"metadata": {"annotations": restarted}}}}
        before = {item.uid for item in self._workers()}
        self.cluster.patch("Deployment", jobs.WORKER, template, jobs.APPS)
        self.cluster.wait_rollout("Deployment", jobs.WORKER, jobs.APPS, ROLLOUT_S)
        until = time.monotonic() + ROLLOUT_S
        while before & {item.uid for item in self._workers()} and time.monotonic() < until:
            time.sleep(0.5)  # those that end are to be seen to their end
        witnessing.answer(self.cluster, pod, word, "done")

    def kill(self, pod: Pod, about: str) -> None:
        """End this worker as the kernel does; its pod goes too, so that no back-off of the kubelet's is waited for."""
        word, _, victim = about.partition(" ")
        self.say(f"faults: killing {victim}")
        with suppress(LabError):  # it is gone, or went with the process that asked
            self.cluster.exec(jobs.APPS, victim, ["python3", "-c", _KILL], container=jobs.WORKER)
        self.cluster.delete("Pod", victim, jobs.APPS, grace_s=0)
        witnessing.answer(self.cluster, pod, word, "killed")

    def redis(self, pod: Pod, word: str) -> None:
        queues = [jobs.QUEUE, *([kafka.KAFKA] if kafka.is_on(self.cluster.view()) else [])]
        self.say(f"faults: {' and '.join(QUEUES[name] for name in queues)}'s pod is deleted")
        for name in queues:
            self.cluster.delete("Pod", f"{name}-0", jobs.BATCH, grace_s=0)
        for name in queues:
            self.cluster.wait_rollout("StatefulSet", name, jobs.BATCH, ROLLOUT_S)
        witnessing.answer(self.cluster, pod, word, "back")

    def _workers(self) -> list[Any]:
        return list(self.cluster.view().pods(jobs.APPS, labels=jobs.WORKER_LABELS))
