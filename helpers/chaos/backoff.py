"""Judging a retry function by what it does: against a real restart, and against scripted trouble.

The learner's `call_with_backoff(operation, call, *, budget_s)` is given calls that go through a
recording proxy. What counts is the attempts that the proxy saw and the exception that came out.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from helpers.chaos.experiment import Finished, Progress, run
from helpers.chaos.faults import fault
from helpers.chaos.proxy import FORWARD, HANG, RESET, RecordingProxy, Script
from helpers.errors import LabError

if TYPE_CHECKING:
    from helpers.cluster import Cluster

CallWithBackoff = Callable[..., Any]
NAME = "backoff"
CALL_TIMEOUT_S = 1.0
RESTART_BUDGET_S = 60.0
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

    `ended` is "returned", the exception's class name, or "never stopped".
    """

    scenario: str
    attempts: tuple[float, ...]
    outcomes: tuple[str, ...]
    ended: str
    cause: str
    elapsed_s: float
    budget_s: float

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
) -> Trial:
    """One scenario: a call through a proxy of its own, retried by the function under judgement."""
    with RecordingProxy(Script(answers), upstream) as proxy, httpx.Client(timeout=CALL_TIMEOUT_S) as client:
        began = time.monotonic()
        give_up = began + budget_s + GRACE_S + 2

        def call() -> Any:
            if time.monotonic() > give_up:
                raise _OutOfTime
            response = client.get(proxy.url + path)
            response.raise_for_status()
            return response.json()

        ended, cause = _outcome(function, call, scenario, budget_s, give_up)
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
    function: CallWithBackoff, call: Callable[[], Any], scenario: str, budget_s: float, give_up: float
) -> tuple[str, str]:
    """Run it in a thread of its own: a function that never stops must not stop the judge."""
    result: list[tuple[str, str]] = []

    def work() -> None:
        try:
            function(scenario, call, budget_s=budget_s)
            result.append(("returned", ""))
        except _OutOfTime:
            result.append(("never stopped", ""))
        except Exception as error:  # noqa: BLE001 - whatever the learner's function raises is the answer
            cause = type(error.__cause__).__name__ if error.__cause__ else ""
            result.append((type(error).__name__, cause))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout=max(0.0, give_up - time.monotonic()) + 1)
    return result[0] if result else ("never stopped", "")


def scripted_trials(function: CallWithBackoff) -> list[Trial]:
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
        return list(pool.map(lambda plan: try_out(function, plan[0], plan[1], budget_s=plan[2]), plans))


def judge(
    cluster: Cluster, function: CallWithBackoff, *, on_progress: Progress | None = None, **options: Any
) -> Finished:
    """Delete Qdrant's pod while the function is calling it, and try the scripted trouble beside it.

    The trials go into the experiment's journal, under the name "backoff".
    """
    with cluster.port_forward("llm-system", "service/qdrant", 6333) as forward:

        def trials() -> list[dict[str, Any]]:
            with ThreadPoolExecutor(max_workers=2) as pool:
                restart = pool.submit(
                    try_out,
                    function,
                    "restart",
                    [FORWARD],
                    budget_s=RESTART_BUDGET_S,
                    upstream=lambda: (forward.host, forward.port),
                )
                scripted = pool.submit(scripted_trials, function)
                return [trial.to_json() for trial in (restart.result(), *scripted.result())]

        return run(
            cluster, fault("delete-qdrant"), name=NAME, on_progress=on_progress, during=trials, **options
        )
