"""Judging a retry function by what it does: against a real restart, and against scripted trouble.

The learner's `call_with_backoff(operation, call, *, budget_s)` is given calls that go through a
recording proxy. What counts is the attempts that the proxy saw and the exception that came out.
"""

from __future__ import annotations

import importlib.util
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from helpers.chaos.experiment import HEAL_TIMEOUT_S, Finished, Progress, run
from helpers.chaos.faults import QDRANT, SYSTEM, fault
from helpers.chaos.proxy import FORWARD, HANG, RESET, RecordingProxy, Script
from helpers.cluster.deadline import Deadline
from helpers.errors import LabError, ObjectMissing

if TYPE_CHECKING:
    from helpers.cluster import Cluster

CallWithBackoff = Callable[..., Any]
NAME = "backoff"
CALL_TIMEOUT_S = 1.0
# As long as an experiment waits for the platform to heal: how long a restart takes is the node's affair.
RESTART_BUDGET_S = HEAL_TIMEOUT_S
RESTART_CALL_TIMEOUT_S = 10.0
# The first attempts of the restart's trial, which fall into the outage however short it is.
HELD_ATTEMPTS = 2
LOOK_EVERY_S = 0.2
DOWN_BUDGET_S = 5.0
# After its budget a function may finish the attempt it is in, and no more.
GRACE_S = CALL_TIMEOUT_S + 1.0
JUDGED_CLIENTS = 4


class NoSuchFunction(LabError):
    """The file does not define call_with_backoff."""


class _OutOfTime(BaseException):
    """Ends a function that would never stop; not an Exception, so that no retry loop catches it."""


@dataclass(frozen=True)
class Trial:
    """One scenario: when attempts were made (seconds from its start), and what came out.

    `ended` is "returned", "returned nothing" (no attempt was answered), the exception's class name, or
    "never stopped". `outage_s`: how long the backend was away, where it was a real one.
    """

    scenario: str
    attempts: tuple[float, ...]
    outcomes: tuple[str, ...]
    ended: str
    cause: str
    elapsed_s: float
    budget_s: float
    outage_s: float | None = None

    @property
    def gaps(self) -> list[float]:
        """Seconds between attempts."""
        return [later - earlier for earlier, later in pairwise(self.attempts)]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        return cls(**{**data, "attempts": tuple(data["attempts"]), "outcomes": tuple(data["outcomes"])})


def load_function(path: Path) -> CallWithBackoff:
    """`call_with_backoff` from a notebook or any Python file.

    Raises:
        NoSuchFunction: the file cannot be imported or does not define it.
    """
    spec = importlib.util.spec_from_file_location(f"learner_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise NoSuchFunction(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise NoSuchFunction(f"{path} cannot be imported: {error}") from error
    found = getattr(module, "call_with_backoff", None)
    if not callable(found):
        raise NoSuchFunction(f"{path} defines no function call_with_backoff")
    return found


def try_out(
    function: CallWithBackoff,
    scenario: str,
    answers: Sequence[int | str],
    *,
    budget_s: float,
    upstream: Callable[[], tuple[str, int]] | None = None,
    path: str = "/collections",
    call_timeout_s: float = CALL_TIMEOUT_S,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trial:
    """One scenario: a call through a proxy of its own, retried by the function under judgement."""
    # Plain HTTP on loopback: eleven trials that each read the system's certificates keep one another waiting.
    client = httpx.Client(timeout=call_timeout_s, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    with RecordingProxy(Script(answers), upstream) as proxy, client:
        began = time.monotonic()
        give_up = began + budget_s + GRACE_S + 2

        def call() -> Any:
            if time.monotonic() > give_up or should_stop():
                raise _OutOfTime
            response = client.get(proxy.url + path)
            response.raise_for_status()
            return response.json()

        ended, cause = _outcome(
            function, call, scenario, budget_s, lambda: time.monotonic() > give_up + 1 or should_stop()
        )
        elapsed_s = time.monotonic() - began
        seen = sorted(proxy.attempts, key=lambda attempt: attempt.t)
    return Trial(
        scenario,
        tuple(round(attempt.t - began, 3) for attempt in seen),
        tuple(attempt.outcome for attempt in seen),
        ended,
        cause,
        round(elapsed_s, 3),
        budget_s,
    )


def _outcome(
    function: CallWithBackoff,
    call: Callable[[], Any],
    scenario: str,
    budget_s: float,
    is_over: Callable[[], bool],
) -> tuple[str, str]:
    """Run it in a thread of its own: a function that never stops must not stop the judge."""
    result: list[tuple[str, str]] = []
    answers: list[Any] = []

    def answered() -> Any:
        answers.append(call())
        return answers[-1]

    def work() -> None:
        try:
            function(scenario, answered, budget_s=budget_s)
            result.append(("returned" if answers else "returned nothing", ""))
        except _OutOfTime:
            result.append(("never stopped", ""))
        except Exception as error:  # noqa: BLE001 - whatever the learner's function raises is the answer
            cause = type(error.__cause__).__name__ if error.__cause__ else ""
            result.append((type(error).__name__, cause))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive() and not is_over():
        thread.join(timeout=0.1)
    return result[0] if result else ("never stopped", "")


class Outage:
    """The restart as the function under judgement meets it: over when another pod is Ready, and not before.

    The old pod may answer for a while after it was deleted, and on a quick node the new one may be there
    before the function is called. So the way to the backend is closed until a pod with another UID is
    Ready and the first attempts were made. A context manager; `upstream` is for the proxy, `back` is set
    when the other pod is Ready.
    """

    def __init__(self, cluster: Cluster, way: Callable[[], tuple[str, int]]) -> None:
        self._cluster, self._way = cluster, way
        self._old = {pod.uid for pod in cluster.view().pods(SYSTEM, labels=QDRANT.labels)}
        self._attempts = 0
        self._stop, self.back = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._began = 0.0
        self.seconds: float | None = None

    def __enter__(self) -> Outage:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def upstream(self) -> tuple[str, int]:
        """Where the backend is; ObjectMissing while it is away."""
        self._attempts += 1
        if self._attempts <= HELD_ATTEMPTS or not self.back.is_set():
            raise ObjectMissing("ready pod", QDRANT.name, SYSTEM)
        return self._way()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            # What cannot be read now is looked at again.
            with suppress(LabError):
                pods = self._cluster.view(Deadline(5, self._cluster.clock)).pods(SYSTEM, labels=QDRANT.labels)
                if any(pod.is_ready and pod.uid not in self._old for pod in pods):
                    self.seconds = round(time.monotonic() - self._began, 3)
                    self.back.set()
                    return


def scripted_trials(
    function: CallWithBackoff, should_stop: Callable[[], bool] = lambda: False
) -> list[Trial]:
    """Everything that needs no restart, at the same time: about as long as the longest budget."""
    plans: list[tuple[str, list[int | str], float]] = [
        ("bad-request", [400], 6),
        ("unauthorized", [401], 6),
        ("not-found", [404], 6),
        ("not-ready", [503, 503, 200], 15),
        ("reset", [RESET, RESET, 200], 15),
        ("timeout", [HANG, 200], 15),
    ]
    plans += [(f"down-{number}", [RESET], DOWN_BUDGET_S) for number in range(JUDGED_CLIENTS)]
    with ThreadPoolExecutor(max_workers=len(plans)) as pool:
        return list(
            pool.map(
                lambda plan: try_out(function, plan[0], plan[1], budget_s=plan[2], should_stop=should_stop),
                plans,
            )
        )


def judge(
    cluster: Cluster,
    function: CallWithBackoff,
    *,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Finished:
    """Delete Qdrant's pod while the function is calling it, and try the scripted trouble beside it.

    The trials go into the experiment's journal, under the name "backoff".
    """
    with cluster.port_forward("llm-system", "service/qdrant", 6333) as forward:
        outage = Outage(cluster, lambda: (forward.host, forward.port))

        def restart() -> Trial:
            with outage:
                trial = try_out(
                    function,
                    "restart",
                    [FORWARD],
                    budget_s=RESTART_BUDGET_S,
                    upstream=outage.upstream,
                    call_timeout_s=RESTART_CALL_TIMEOUT_S,
                    should_stop=should_stop,
                )
            return replace(trial, outage_s=outage.seconds)

        def trials() -> list[dict[str, Any]]:
            with ThreadPoolExecutor(max_workers=2) as pool:
                first, scripted = pool.submit(restart), pool.submit(scripted_trials, function, should_stop)
                return [trial.to_json() for trial in (first.result(), *scripted.result())]

        return run(
            cluster,
            fault("delete-qdrant"),
            name=NAME,
            on_progress=on_progress,
            should_stop=should_stop,
            during=trials,
        )
