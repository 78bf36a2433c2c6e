"""The witnesses of scaling: a square wave on the pool, Prometheus gone under load, and one job for workers at zero.

The load comes from a pod; what the scalers make of it is watched from here, and told to the pod, whose record it
stands in. A record is bound to the ScaledObject that was there when it was made, and where it says what became of
answers or jobs, to what the scaled pods are made from.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from helpers.chaos.journal import experiments_dir
from helpers.chaos.steps import Step
from helpers.chaos.undo import Undo, undo, write_undo
from helpers.cluster.manifests import load_one
from helpers.errors import EnvironmentFault, LabError, ObjectMissing, StepMissing
from helpers.labs import witnessing
from helpers.labs.witnessing import Book, Witness
from helpers.settings import REPOSITORY
from helpers.stack import prometheus, scaling
from helpers.stack.orchestrator import short_hash

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.resource import Pod
    from helpers.labs.witnessing import Record
    from helpers.progress import Progress

MANIFEST = REPOSITORY / "manifests" / "labs" / "08" / "witness-scale.yaml"
PROGRAM = Path(__file__).with_name("witness_scale_program.py")
FRONT = "llm-jobs"
# Which ScaledObject each of them is about.
ABOUT = {"wave": scaling.POOL, "blind": scaling.POOL, "zero": scaling.WORKER}
# Those that say how the scaled pods themselves ended or began: an answer that is cut, a job that is done.
ABOUT_PODS = ("wave", "zero")
POLL_S = 0.5
# DOWN_S: two minutes for which what was wanted counts, and the scalers' own periods.
REST_S, ASKED_S, SERVES_S, DOWN_S, GONE_S, ASLEEP_S = 240.0, 90.0, 180.0, 180.0, 60.0, 360.0
# The HorizontalPodAutoscaler looks every 15 s: so long after KEDA fell back, what it makes of that has been seen.
AFTER_FALLBACK_S = 20.0
FALLBACK_S = 75.0
BACK_S = 120.0
WANTED_S = 30.0

WITNESSES: dict[str, Witness] = {
    item.name: item
    for item in (
        Witness(
            "wave", "a square wave on the pool, and how many replicas follow", scaling.APPS, 170, alone=True
        ),
        Witness("blind", "Prometheus gone while the pool is busy", scaling.APPS, 80, alone=True),
        Witness("zero", "one job, and no worker there", scaling.APPS, 65, alone=True),
    )
}


def make(view: ClusterView, name: str) -> dict[str, Any]:
    """The Job of this witness as it would be started now.

    Raises:
        ObjectMissing: there is no front, no ScaledObject, or nothing that it scales.
    """
    front = view.get("Deployment", FRONT, scaling.APPS)
    image = view.profile.images.get("orchestrator") or front.path("spec.template.spec.containers.0.image", "")
    about, namespace = ABOUT[name], scaling.SCALED[ABOUT[name]]
    scaler = scaling.scaled_object(view, about, namespace)
    if scaler is None or scaler.raw is None:
        raise ObjectMissing("ScaledObject", about, namespace)
    rests: Any = scaler.raw.path("spec", {})
    if name in ABOUT_PODS:
        scaled = view.get("Deployment", about, namespace)
        rests = [rests, scaled.path("spec.template.spec"), scaled.path("spec.strategy")]
    job: dict[str, Any] = json.loads(_text(name, image, revision(rests)))
    return job


@cache
def _text(name: str, image: str, revision: str) -> str:
    names = {"NAME": name, "ORCHESTRATOR": image, "REVISION": revision}
    job = load_one(Template(MANIFEST.read_text()).safe_substitute(names))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["command"] = witnessing.command(PROGRAM, name)
    return json.dumps(job)


def revision(rests: Any) -> str:
    """What a record rests on as one short hash."""
    return short_hash(json.dumps(rests, sort_keys=True))


BOOK = Book("08", WITNESSES, make)


def run(
    cluster: Cluster,
    name: str,
    *,
    on_progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Run one of these witnesses to its end; its record.

    Raises:
        StepMissing: there is nothing yet that it could watch.
        EnvironmentFault: the Prometheus that should go away is the whole class's.
        WaitTimeout, Stopped: as `witnessing.run`.
    """
    scaled, namespace = ABOUT[name], scaling.SCALED[ABOUT[name]]
    if scaling.scaled_object(cluster.view(), scaled, namespace) is None:
        raise StepMissing(f"There is no ScaledObject {scaled} in {namespace} yet.")
    if name == "blind" and cluster.scope.suffix:
        raise EnvironmentFault("Prometheus is the whole class's: only its instructor may take it away.")
    scaling.prometheus_back(cluster)
    runner = Runner(cluster, name, on_progress, should_stop)
    with runner.watch:
        return witnessing.run(
            BOOK, cluster, name, on_progress=on_progress, should_stop=should_stop, asked=runner.asked
        )


class Watch:
    """Every change of how many replicas a Deployment is asked to have, with its time in seconds, from a thread."""

    def __init__(
        self, cluster: Cluster, deployment: str, namespace: str, *, period_s: float = POLL_S
    ) -> None:
        self._cluster, self._deployment, self._namespace = cluster, deployment, namespace
        self._period_s = period_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._changes: list[tuple[float, int, int]] = []
        self._now: scaling.Standing | None = None
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._loop, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def begin(self) -> None:
        """Forget what was: time and changes count from now."""
        with self._lock:
            self._began, self._changes = time.monotonic(), []

    @property
    def changes(self) -> list[tuple[float, int, int]]:
        """(seconds, from, to) since `begin`."""
        with self._lock:
            return list(self._changes)

    @property
    def now(self) -> scaling.Standing | None:
        """What was seen last; None before the first time."""
        with self._lock:
            return self._now

    def _loop(self) -> None:
        while not self._stop.is_set():
            with suppress(LabError):  # the next look may succeed; a Deployment that is gone has no replicas
                self.see(scaling.standing(self._cluster.view(), self._deployment, self._namespace))
            self._stop.wait(self._period_s)

    def see(self, seen: scaling.Standing) -> None:
        """Keep what is there now."""
        with self._lock:
            before, self._now = self._now, seen
            if before is not None and before.asked != seen.asked:
                at = round(time.monotonic() - self._began, 1)
                self._changes.append((at, before.asked, seen.asked))


class Runner:
    """Answers what a witness asks for while it runs."""

    def __init__(
        self, cluster: Cluster, name: str, say: Progress, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._cluster, self._name, self._say, self._should_stop = cluster, name, say, should_stop
        self.watch = Watch(cluster, ABOUT[name], scaling.SCALED[ABOUT[name]])
        self.asked: dict[str, witnessing.Asked] = {
            word: self._answering(word, answer)
            for word, answer in (
                ("rest", self.rest),
                ("second", self.second),
                ("down", self.down),
                ("changes", self.changes),
                ("gone", self.gone),
                ("asleep", self.asleep),
                ("awake", self.changes),
            )
        }

    def _answering(self, word: str, answer: Callable[[str], dict[str, Any]]) -> witnessing.Asked:
        def act(pod: Pod, about: str) -> None:
            try:
                said = answer(about)
            except LabError as failed:
                said = {"error": f"{type(failed).__name__}: {failed}"[:400]}
            witnessing.answer(self._cluster, pod, word, json.dumps(said))

        return act

    # What it may ask for

    def rest(self, _: str) -> dict[str, Any]:
        """Until one replica is there, serves, and no other one ends; how many are asked for then."""
        if self._minimum() <= 1:  # a scaler that keeps more will not come to one
            self._until("one replica, at rest", REST_S, self._is_at_rest)
        self.watch.begin()
        return {"replicas": self._standing().asked}

    def second(self, about: str) -> dict[str, Any]:
        """Until a second replica is asked for and, unless it is about `asked` alone, serves: after how many seconds."""
        began = time.monotonic()
        asked = self._until("a second replica asked for", ASKED_S, lambda now: now.asked >= 2)
        found: dict[str, Any] = {"asked_s": _since(began) if asked else None, "ready_s": None}
        if asked:  # the autoscaler writes down what it wants after it has asked for it
            self._until("the scaler wants two", WANTED_S, lambda now: (now.desired or 0) >= 2)
        found["desired"] = self._standing().desired
        if asked and about != "asked":
            serves = self._until("the second replica serves", SERVES_S, lambda now: now.ready >= 2)
            found["ready_s"] = _since(began) if serves else None
        return found

    def down(self, _: str) -> dict[str, Any]:
        """Until one replica is asked for, and the other one has ended."""
        began = time.monotonic()
        down = self._until("one replica again", DOWN_S, lambda now: now.asked <= 1)
        found = {"down_s": _since(began) if down else None}
        if down:
            self._until("the other one has ended", SERVES_S, self._is_at_rest)
        return found

    def changes(self, _: str) -> dict[str, Any]:
        """Every change of the number of replicas since the witness began."""
        changes = self.watch.changes
        ups = sum(after > before for _, before, after in changes)
        return {"changes": [list(item) for item in changes[:20]], "ups": ups, "downs": len(changes) - ups}

    def gone(self, _: str) -> dict[str, Any]:
        """Take Prometheus away, see what the scaler makes of it, and bring it back; `course recover` knows how, too."""
        before = self._standing()
        back = self._way_back()
        least, began = before.asked, time.monotonic()
        seen: float | None = None
        try:
            scaling.prometheus_away(self._cluster)
            self._until("Prometheus is gone", GONE_S, lambda _: not _answers(self._cluster))
            gone = time.monotonic()
            while (now := time.monotonic()) - gone < FALLBACK_S and not self._should_stop():
                standing = self._standing()
                least = min(least, standing.asked)
                if not scaling.prometheus_is_away(self._cluster.view()):
                    raise EnvironmentFault("somebody brought Prometheus back while the witness looked: again")
                if standing.fallback and seen is None:
                    seen = now
                if seen is not None and now - seen > AFTER_FALLBACK_S:
                    break
                self._say(f"{self._name}: Prometheus is gone, {standing.asked} replicas, {now - gone:.0f} s")
                time.sleep(POLL_S)
        finally:
            undo(self._cluster, back)
        found = {
            "before": before.asked,
            "least": least,
            "fallback": seen is not None,
            "fallback_s": round(seen - began, 1) if seen is not None else None,
        }
        self._until("Prometheus is back", BACK_S, lambda _: _answers(self._cluster))
        self._until("the scaler reads it again", BACK_S, lambda now: not now.fallback)
        return found

    def _way_back(self) -> Undo:
        """How every Prometheus comes back, on disk before it goes."""
        found = scaling.prometheuses(self._cluster.view())
        if not found:
            raise EnvironmentFault("there is no Prometheus object in llm-monitoring")
        steps = [
            Step("patch", "Prometheus", item.name, prometheus.MONITORING, scaling.way_back(item))
            for item in found
        ]
        name = f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:8]}-witness-blind"
        return write_undo(experiments_dir(self._cluster.identity().uid) / name, "witness blind", steps)

    def asleep(self, _: str) -> dict[str, Any]:
        """Until no worker is asked for and none is there; how many are asked for then."""
        if self._minimum() == 0:
            self._until("no worker there", ASLEEP_S, lambda now: now.asked == 0 and not self._pods())
        self.watch.begin()
        return {"replicas": self._standing().asked}

    # Looking

    def _standing(self) -> scaling.Standing:
        return scaling.standing(self._cluster.view(), ABOUT[self._name], scaling.SCALED[ABOUT[self._name]])

    def _minimum(self) -> int:
        scaler = scaling.scaled_object(
            self._cluster.view(), ABOUT[self._name], scaling.SCALED[ABOUT[self._name]]
        )
        return scaler.minimum if scaler else 0

    def _pods(self) -> list[Pod]:
        name = ABOUT[self._name]
        pods = self._cluster.view().pods(scaling.SCALED[name], labels=f"app={name}")
        return [pod for pod in pods if pod.phase not in ("Succeeded", "Failed")]

    def _is_at_rest(self, now: scaling.Standing) -> bool:
        return now.asked == now.ready == 1 and len(self._pods()) == 1

    def _until(self, what: str, limit_s: float, is_so: Callable[[scaling.Standing], bool]) -> bool:
        """Whether it came to that in time; what the API server does not answer is asked again."""
        until = time.monotonic() + limit_s
        while True:
            with suppress(LabError):
                now = self._standing()
                if is_so(now):
                    return True
                self._say(f"{self._name}: {what}: {now.asked} asked for, {now.ready} ready")
            if time.monotonic() > until or self._should_stop():
                return False
            time.sleep(POLL_S)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


def _answers(cluster: Cluster) -> bool:
    try:
        return prometheus.value(cluster.view(), "vector(1)") == 1
    except LabError:
        return False
